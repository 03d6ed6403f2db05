/* Draws specs from the whole language, as YAML text. */
#ifndef MOSSC_TESTS_RANDOM_DRAW_H
#define MOSSC_TESTS_RANDOM_DRAW_H

#include <stdint.h>

#include "support/str.h"

typedef enum DrawWeights {
    DRAW_FLOATS, /* f32, bf16 or f16, all alike */
    DRAW_BLOCKS  /* mostly q8 or q4, with overrides */
} DrawWeights;

/* What tests of whole specs draw: q8 and q4 for every other seed, whatever else a seed decides. */
static inline DrawWeights draw_weights_of(uint64_t seed) { return (seed * 0x9e3779b97f4a7c15u) >> 63 ? DRAW_BLOCKS : DRAW_FLOATS; }

/* A spec, into an empty text; the same seed gives the same one. Returns how many tokens to run it on. */
int64_t draw_spec(uint64_t seed, DrawWeights weights, SuText *out);

#endif
