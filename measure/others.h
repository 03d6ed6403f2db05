/* How much of the processor others took while something was measured: other processes, and the host of a virtual machine. */
#ifndef MOSSC_MEASURE_OTHERS_H
#define MOSSC_MEASURE_OTHERS_H

/* A moment, by the clocks of the CPUs that this process may use. */
typedef struct MsMoment {
    double wall, used, own; /* seconds: since boot, used on those CPUs by anybody, used by this process */
    int cpus;               /* 0: the system does not say */
} MsMoment;

/* `root` stands before /proc: "" but in tests. */
MsMoment ms_moment(const char *root);
/* What part of the CPUs' time between two moments others took, 0 to 1; 0 where it is not known. The system counts in ticks of
 * 10 ms, so an interval of 100 ms is known to a tenth. */
double ms_others(const MsMoment *since, const MsMoment *now);

#endif
