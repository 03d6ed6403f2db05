/* How many CPUs this process may use. */
#ifndef MOSSC_SUPPORT_CPUS_H
#define MOSSC_SUPPORT_CPUS_H

#include <stdbool.h>

/* CPUs that the calling thread may use, at least 1. */
int su_allowed_cpus(void);
/* The least CPU quota, in CPUs rounded up, of the process's control groups (version 1 and 2); 0: there is none. `root` stands before
 * /proc and /sys: "" but in tests. */
int su_cpu_quota(const char *root);
enum { SU_MOST_THREADS = 1024 };
/* Threads when nobody says how many: what MOSSC_THREADS in the environment says (1..SU_MOST_THREADS; anything else is as if it were not
 * there), else as many as CPUs, and no more than the quota pays for. */
int su_default_threads(void);
/* Whether the kernel lets this process use tiles of AMX: asks for them, for all threads and for good. */
bool su_may_use_tiles(void);

#endif
