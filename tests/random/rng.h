/* Small deterministic random numbers for tests (splitmix64, Steele et al. 2014). */
#ifndef MOSSC_TESTS_RANDOM_RNG_H
#define MOSSC_TESTS_RANDOM_RNG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Rng {
    uint64_t state;
} Rng;

static inline uint64_t rng_next(Rng *rng) {
    uint64_t z = (rng->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* low..high, both included. */
static inline int64_t rng_between(Rng *rng, int64_t low, int64_t high) {
    return low + (int64_t)(rng_next(rng) % (uint64_t)(high - low + 1));
}

/* True `percent` times in a hundred. */
static inline bool rng_chance(Rng *rng, int percent) { return rng_between(rng, 0, 99) < percent; }

/* [0,1). */
static inline double rng_unit(Rng *rng) { return (double)(rng_next(rng) >> 11) * 0x1p-53; }

/* About normal: mean 0, variance 1, within ±6. */
static inline double rng_normal(Rng *rng) {
    double sum = 0;
    for (int i = 0; i < 12; i++) sum += rng_unit(rng);
    return sum - 6;
}

#endif
