/* What is known of one block, or of what stands outside the blocks, of a spec that was built: everything that a point's cost is summed
 * from. Internal to explore/. */
#ifndef MOSSC_EXPLORE_UNIT_H
#define MOSSC_EXPLORE_UNIT_H

#include "driver/build.h"
#include "driver/cost.h"
#include "explore/cost.h"

/* A step that the workload takes on a device. */
typedef struct ExStep {
    PgMode mode;
    PgWork work;
    int64_t threads; /* of the device */
} ExStep;

/* Step 0 is one token of one sequence. Of each device: the steps of its prompts, then the one that decodes a token of each sequence. */
typedef struct ExSteps {
    ExStep *steps; /* [n_steps] */
    uint32_t n_steps;
    uint32_t first[EX_MAX_DEVICES], end[EX_MAX_DEVICES]; /* devices that are alike have the same */
} ExSteps;

typedef struct ExUnit {
    DrCost cost;
    double packed_bytes;
    double *live; /* [n_steps] */
    MsPhaseWork **phases; /* [n_steps][n_phases] */
    uint32_t *n_phases; /* [n_steps] */
    double *weight_bytes; /* [n_phases[0]] that each phase of step 0 reads */
    PgRope *ropes; /* [n_ropes] that it reads */
    uint32_t n_ropes;
    const char *canonical; /* its piece of the canonical text */
    size_t canonical_size;
} ExUnit;

/* What stands outside the blocks: phases and text before and behind them. */
typedef struct ExFrame {
    ExUnit before, after;
    int64_t position_bound; /* max_positions of the spec */
} ExFrame;

/* Of a whole spec, all in `arena`. */
typedef struct ExParts {
    ExFrame frame;
    ExUnit *blocks; /* [n_blocks] */
    bool *bounded; /* [n_blocks] by max_positions: attention without a window */
    int64_t n_blocks, max_rows;
} ExParts;

/* Needs dr_build_program. false: in build->diags. */
bool ex_take_parts(DrBuild *build, const ExSteps *steps, SuArena *arena, ExParts *out);

#endif
