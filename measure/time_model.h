/* How long a step takes on a device that is described, not at hand: the time of a phase from its costs and the device's rates.
 *
 * A phase takes max(bytes / bandwidth, FLOPs / rate + exps / rate) of all workers together, and a fixed part; a stage one more, for its
 * barrier. That is *modelled*. A device file may hold corrections for each kind of kernel, fitted to measurements: *calibrated*. */
#ifndef MOSSC_MEASURE_TIME_MODEL_H
#define MOSSC_MEASURE_TIME_MODEL_H

#include "frontend/device.h"
#include "ir/phase_cost.h"

typedef struct MsTimeModel {
    int64_t threads;
    double read_gb_s, cache_gb_s; /* memory; the last cache */
    double cache_bytes;           /* of the last cache */
    double panel_gflop_s, exp_g_s;
    double phase_us, stage_us;
    double factor[PG_MODES][PG_KIND_COUNT], fixed_us[PG_MODES][PG_KIND_COUNT]; /* 1 and 0 where nothing was fitted */
    bool calibrated;
} MsTimeModel;

/* Of a phase, what its time is made of: kept for many phases, so it is small. */
typedef struct MsPhaseWork {
    float memory_bytes;     /* weights and states */
    float activation_bytes; /* read from and written to caches */
    float flops, exps;
    float longer; /* than if all workers had tiles all the time: at least 1 */
    uint8_t kind, mode;
    bool begins_stage;
} MsPhaseWork;

/* The model of a device. threads 0: as many as its rates were measured with, its workers or cores. false: the reason is in diags. */
bool ms_time_model(const FeDevice *device, int64_t threads, MsTimeModel *out, SuDiags *diags);

/* The work of a phase, whose cost pg_phase_cost says. `before`: the phase before it in the step, or NULL. */
MsPhaseWork ms_phase_work(const PgPhase *phase, const PgKernel *kernel, const PgCost *cost, const PgWork *work, PgMode mode,
                          const PgPhase *before, int64_t threads);

/* What a byte and an operation take in a step. */
typedef struct MsStepRates {
    double memory, cache, flop, exp; /* seconds */
} MsStepRates;

/* step_bytes: what the whole step reads of weights and states, which decides what is still in the last cache from one step to the next. */
MsStepRates ms_step_rates(const MsTimeModel *model, double step_bytes);
/* Seconds of a phase of that step. */
double ms_phase_seconds(const MsTimeModel *model, const MsStepRates *rates, const MsPhaseWork *phase);

#endif
