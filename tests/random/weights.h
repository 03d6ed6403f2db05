/* Random weights for a spec, in memory: as drawn, and as their dtypes store them. */
#ifndef MOSSC_TESTS_RANDOM_WEIGHTS_H
#define MOSSC_TESTS_RANDOM_WEIGHTS_H

#include "frontend/spec.h"
#include "ir/eval.h"

typedef struct Weights {
    const FeTensor *tensors; /* the spec's */
    size_t count;
    float **drawn;    /* [count] row-major, the language's shape */
    float **narrowed; /* [count] the same after narrowing to the tensor's dtype and widening back; NULL where it is q8 or q4 */
    IrBlocks *blocks; /* [count] those that are, in memory of their own */
} Weights;

/* Values are scaled so that activations stay near 1 and routers disagree from token to token. */
void weights_draw(FeSpec *spec, uint64_t seed, Weights *out);
void weights_free(Weights *weights);
/* A MossTensorLookup and an IrWeightLookup; the context is a Weights. */
const float *weights_drawn(void *context, const char *name);
IrElements weights_stored(void *context, const char *name);

#endif
