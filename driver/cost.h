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

#endif
