/* Small deterministic random numbers for tests (splitmix64, Steele et al. 2014). */
#ifndef MOSSC_TESTS_RANDOM_RNG_H
#define MOSSC_TESTS_RANDOM_RNG_H

#include <stdbool.h>
#include <stdint.h>

#include "support/random.h"

typedef struct Rng {
    uint64_t state;
} Rng;

static inline uint64_t rng_next(Rng *rng) { return su_random(&rng->state); }

/* low..high, both included. */
static inline int64_t rng_between(Rng *rng, int64_t low, int64_t high) {
    return low + (int64_t)(rng_next(rng) % (uint64_t)(high - low + 1));
}

/* True `percent` times in a hundred. */
static inline bool rng_chance(Rng *rng, int percent) { return rng_between(rng, 0, 99) < percent; }

/* [0,1). */
static inline double rng_unit(Rng *rng) { return su_unit(rng_next(rng)); }

/* About normal: mean 0, variance 1, within ±6. */
static inline double rng_normal(Rng *rng) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += rng_unit(rng);
    return sum - 6;
}

#endif
