/* What `mossc explain` knows of a step: its phases in groups, what they cost, and how long they took. */
#ifndef MOSSC_MEASURE_EXPLAIN_H
#define MOSSC_MEASURE_EXPLAIN_H

#include "measure/limiter.h"
#include "measure/time_model.h"
#include "codegen/tuning.h"
#include "driver/build.h"
#include "frontend/spec.h"
#include "ir/phase_cost.h"
#include "ir/program.h"
#include "mossc/moss.h"
#include "support/arena.h"
#include "support/str.h"

/* What keeps phases from being faster. */
typedef enum MsBottleneck {
    MS_BY_READING,    /* of weights, states, keys and values */
    MS_BY_ARITHMETIC, /* multiply-adds and exp */
    MS_BY_WAITING,    /* of workers for each other, more than half of the time */
    MS_BY_SIZE        /* too little work: claiming tiles and barriers take most of the time */
} MsBottleneck;

/* Phases that are alike, or all of a part, or of the step. */
typedef struct MsLine {
    const char *name;   /* "in_proj" */
    const char *kernel; /* NULL for more than one; kernel_index: in the program */
    uint32_t kernel_index;
    uint64_t times, stages; /* phases; of them, that begin a stage */
    uint32_t phase; /* one of them, in the step */
    PgCost cost;    /* of all of them */
    /* with times: seconds of a step, of the average worker */
    double working, waiting;
    double bound; /* seconds that the limits allow at least; of several lines their sum */
    MsBottleneck bottleneck; /* of phases that are alike */
    double modelled;         /* seconds by ms_explain_model */
} MsLine;

/* Blocks that are alike, wherever they stand in the spec; or phases that belong to no block. */
typedef struct MsPart {
    MsLine sum; /* named by the kind of block */
    const char *about; /* "8 experts, top 2, outputs"; "" where there is nothing to say */
    uint64_t blocks; /* 0: of no block */
    uint32_t *spec_lines; /* [n_spec_lines] */
    size_t n_spec_lines, spec_lines_capacity;
    MsLine *lines; /* [n_lines] */
    size_t n_lines, lines_capacity;
    uint32_t first, end; /* phases of the first block */
} MsPart;

typedef struct MsExplained {
    const FeSpec *spec;
    const PgProgram *program;
    int list; /* of phases (PG_FEW) */
    PgWork work;
    MsPart *parts; /* [n_parts] */
    size_t n_parts, parts_capacity;
    MsLine total;
    const MsTimeModel *model; /* of ms_explain_model, or NULL */
    const CgSchedule *schedules; /* [n_kernels] that they are compiled with for this target, or NULL */
    const CgTarget *target;
    /* measured: */
    bool measured;
    int threads;
    MsLimits limits;
    uint64_t read_bytes; /* that the limit of reading was measured with: the model's, or past every cache */
    double step_seconds, profiled_seconds; /* of a step; the second with the clock looked at in every phase */
    double others; /* the least part of the processor that others took in a round, 0 to 1 (others.h) */
} MsExplained;

/* Groups and costs; everything lives in `arena`. */
MsExplained ms_explain_step(const FeSpec *spec, const PgProgram *program, int list, PgWork work, SuArena *arena);
/* Adds the times that a device's model gives; `model` must live as long. */
void ms_explain_model(MsExplained *explained, const MsTimeModel *model);
/* Adds times[threads][n_phases], of so many steps together, and what they say beside explained->limits. */
void ms_explain_times(MsExplained *explained, const MossPhaseTime *times, int threads, double steps);

/* "reading weights", "exp in the scan": the bottleneck of a line of phases that are alike. */
void ms_explain_words(const MsExplained *explained, const MsLine *line, SuText *out);

/* ---- step_times.c */

/* Compiles unless dr_build_code has, loads (random weights where options have none), and runs the `n` steps that were explained, `repeat` rounds each, for ms_explain_times.
 * Needs dr_build_program; compiles unless dr_build_code has. */
bool ms_measure_steps(DrBuild *build, const DrBuildOptions *options, int64_t repeat, MsExplained *explained, size_t n);

#endif
