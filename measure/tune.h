/* The search for schedules (codegen/tuning.h) of a program's linear layers on this machine.
 *
 * Steps of the program run in turns, with the default kernels and with one schedule changed in all kernels of the mode, and each
 * kernel is judged by the times of its own phases: by the median over rounds of one time over the other. What was fastest then
 * runs in turns with the defaults once more, and is accepted where it stays faster; else what was accepted before does. Every
 * measurement is stored when it is made. */
#ifndef MOSSC_MEASURE_TUNE_H
#define MOSSC_MEASURE_TUNE_H

#include "codegen/tuning.h"
#include "driver/build.h"

typedef struct MsTunePlan {
    double seconds; /* after which no further schedule is begun; one of each mode is measured in any case */
    bool again;     /* forget what was measured before */
    bool amx;       /* schedules with tiles of AMX too, after all others of their mode; an error where this process has none */
} MsTunePlan;

/* A kernel with schedules to choose from. */
typedef struct MsTunedKernel {
    uint32_t index; /* in the program */
    unsigned count; /* schedules of `space`; the first is the default, those with tiles are the last */
    CgSchedule space[CG_MOST_SCHEDULES];
    CgTuned tuned;
    CgTuned kept;   /* accepted before, and not given up since (accepted: 0 if there is none) */
    double seconds; /* of a step that its phases take with the default schedule; 0: not measured in this run */
} MsTunedKernel;

/* Of a step: seconds with the defaults, and their ratio with what was accepted; 0: not measured in this run. */
typedef struct MsTunedStep {
    int64_t rows;
    double seconds, ratio;
} MsTunedStep;

typedef struct MsTuning {
    MsTunedKernel *kernels; /* [n_kernels], in build->arena */
    size_t n_kernels;
    MsTunedStep steps[PG_MODES];
    uint32_t measured, left; /* schedules of kernels: in this run, and not yet */
    double seconds;          /* of this run */
} MsTuning;

/* Needs dr_build_program; compiles, loads (random weights where options have none), measures, stores. false: the reason is in
 * build->diags. A schedule that changed the logits is told of there, by a warning, and is not tried again. */
bool ms_tune(DrBuild *build, const DrBuildOptions *options, const MsTunePlan *plan, MsTuning *out_tuning);

#endif
