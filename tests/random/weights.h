/* Random weights for a spec, in memory: as drawn, and as its dtype stores them. */
#ifndef MOSSC_TESTS_RANDOM_WEIGHTS_H
#define MOSSC_TESTS_RANDOM_WEIGHTS_H

#include "frontend/spec.h"

typedef struct Weights {
    const FeTensor *tensors; /* the spec's */
    size_t count;
    float **drawn;    /* [count] row-major, the language's shape */
    float **narrowed; /* [count] the same after narrowing to weights.dtype and widening back */
} Weights;

/* Values are scaled so that activations stay near 1 and routers disagree from token to token. */
void weights_draw(FeSpec *spec, uint64_t seed, Weights *out);
void weights_free(Weights *weights);
/* IrWeightLookup and MossTensorLookup; the context is a Weights. NULL: no such tensor. */
const float *weights_drawn(void *context, const char *name);
const float *weights_narrowed(void *context, const char *name);

#endif
