/* What a model costs, as a whole and block by block. */
#ifndef MOSSC_DRIVER_COST_H
#define MOSSC_DRIVER_COST_H

#include "driver/build.h"

/* Doubles: totals of many blocks may pass 2^63 bytes, and all below 2^53 are exact. */
typedef struct DrCost {
    double parameters, active; /* elements of the checkpoint; used by one token */
    double weight_bytes;       /* of the checkpoint: each tensor in its dtype */
    double state_bytes;        /* of one sequence, as the program lays it out */
    double flops;              /* of one token */
    double token_bytes;        /* of weights and states that one token reads and writes */
} DrCost;

typedef struct DrCosts {
    DrCost *parts; /* [1 + n_blocks], in build->arena: what stands outside the blocks, then block after block */
    DrCost total;
} DrCosts;

void dr_add_cost(DrCost *to, const DrCost *from);
/* Needs dr_build_program. position: how many tokens attention looks back on. */
bool dr_costs(DrBuild *build, int64_t position, DrCosts *out);

/* The most that the stages of a step have live, of those of this block (-1: of none) or of all (DR_ALL_BLOCKS): bytes of the arena
 * without tables of rope. Needs dr_build_program. */
enum { DR_ALL_BLOCKS = -2 };
double dr_live_bytes(const DrBuild *build, PgMode mode, int64_t rows, int64_t block);
/* The memory of a run: packed weights, `sequences` states, and what the larger of its steps has live: of one row, or of `rows`. Without
 * code, scratch of workers and padding to pages. */
double dr_peak_bytes(const DrBuild *build, int64_t rows, int64_t sequences);

#endif
