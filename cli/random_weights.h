/* Random weights for measuring: of the size and kind of fresh ones, in little memory. */
#ifndef MOSSC_CLI_RANDOM_WEIGHTS_H
#define MOSSC_CLI_RANDOM_WEIGHTS_H

#include "frontend/spec.h"

/* Elements of one kind, from which every tensor of that kind takes its own from some place on: the runtime holds on to all of
 * a model's elements until they are packed, and two copies of a large model may not fit. */
typedef struct CliRandomPool CliRandomPool;

typedef struct CliRandomWeights {
    const FeTensor *tensors;
    size_t count;
    size_t next; /* where the search starts: tensors are asked for in order */
    CliRandomPool *pools;
    size_t n_pools, capacity;
    SuArena arena; /* owns the pools and their elements */
} CliRandomWeights;

/* Makes all elements. */
CliRandomWeights cli_random_weights(FeSpec *spec);
void cli_random_free(CliRandomWeights *weights);
/* A MossTensorLookup; context is a CliRandomWeights. */
const float *cli_random_lookup(void *context, const char *name);

#endif
