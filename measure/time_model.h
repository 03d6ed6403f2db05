/* How long a step takes on a device that is described, not at hand: the time of a phase from its costs and the device's rates.
 *
 * A phase takes max(bytes / bandwidth, FLOPs / rate + exps / rate) of all workers together, and a fixed part; a stage one more, for its
 * barrier. That is *modelled*. A device file may hold weights of these parts for each class of kernels, fitted to measurements: *calibrated*. */
#ifndef MOSSC_MEASURE_TIME_MODEL_H
#define MOSSC_MEASURE_TIME_MODEL_H

#include "frontend/device.h"
#include "ir/phase_cost.h"

/* Kernels whose times follow alike from their work. */
typedef struct MsClass {
    uint8_t mode, kind; /* PgMode, PgKind */
    uint8_t dtype;      /* IrDtype of the weights that it multiplies with */
    uint8_t experts;    /* PgSelect: of which experts they and the states are */
} MsClass;

enum { MS_EXPERTS = PG_CHOSEN + 1 };
const char *ms_experts_word(PgSelect experts); /* "single", "all", "chosen" */
const char *ms_step_word(PgMode mode);         /* "row", "block" */
/* The class of these words. false: one of them is none. */
bool ms_class_named(const char *kernel, const char *step, const char *weights, const char *experts, MsClass *out);

/* What a phase's work is made of: reading memory, reading caches; multiply-adds and the like, exp. */
typedef enum MsEffort { MS_MEMORY, MS_CACHE, MS_FLOPS, MS_EXPS, MS_PARTS } MsEffort;

/* How far each of them counts in a class. */
typedef struct MsWeights {
    float part[MS_PARTS]; /* times the seconds that the device's rates give; 1 where nothing was fitted */
    float overlap;        /* how much of the shorter of reading and arithmetic the longer one hides: 1 all of it, 0 nothing */
    float fixed_us;       /* of each phase */
} MsWeights;

typedef struct MsTimeModel {
    int64_t threads;
    double read_gb_s, cache_gb_s; /* memory; the last cache */
    double cache_bytes;           /* of the last cache */
    double panel_gflop_s, exp_g_s;
    double phase_us, stage_us;
    MsWeights classes[PG_MODES][PG_KIND_COUNT][IR_STORED_DTYPES][MS_EXPERTS];
    bool calibrated;
} MsTimeModel;

MsWeights *ms_weights_of(MsTimeModel *model, MsClass class);

/* Of a phase, what its time is made of: kept for many phases, so it is small. */
typedef struct MsPhaseWork {
#define MS_NUMBER(name) float name;
#include "measure/phase_numbers.def"
    MsClass class;
    bool begins_stage;
} MsPhaseWork;

/* The model of a device. threads 0: as many as its rates were measured with, its workers or cores. false: the reason is in diags. */
bool ms_time_model(const FeDevice *device, int64_t threads, MsTimeModel *out, SuDiags *diags);

/* The work of a phase, whose cost pg_phase_cost says. `before`: the phase before it in the step, or NULL. */
MsPhaseWork ms_phase_work(const PgPhase *phase, const PgKernel *kernel, const PgCost *cost, const PgWork *work, PgMode mode,
                          const PgPhase *before, int64_t threads);

/* What a byte and an operation take in a step, in seconds. */
typedef struct MsStepRates {
    double memory, cache, flop, exp;
    double every_held, chosen_held; /* the part of the bytes that the last cache still holds from a step before */
} MsStepRates;

/* kept_bytes, all_bytes: sums over the phases of the step. */
MsStepRates ms_step_rates(const MsTimeModel *model, double kept_bytes, double all_bytes);
/* The part of `bytes` that the last cache holds when they are read again and again. */
double ms_held(double cache_bytes, double bytes);
/* Seconds of each part of a phase's work by the device's rates alone. */
void ms_phase_parts(const MsStepRates *rates, const MsPhaseWork *phase, double out_parts[MS_PARTS]);
/* Seconds of these parts together as they count in a class; without what is fixed. */
double ms_parts_seconds(const MsWeights *weights, const double parts[MS_PARTS]);
/* Seconds of a phase of that step. */
double ms_phase_seconds(const MsTimeModel *model, const MsStepRates *rates, const MsPhaseWork *phase);

#endif
