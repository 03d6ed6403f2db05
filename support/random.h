/* splitmix64 (Steele, Lea, Flood 2014): a generator whose state is one word, any word. */
#ifndef MOSSC_SUPPORT_RANDOM_H
#define MOSSC_SUPPORT_RANDOM_H

#include <stdint.h>

static inline uint64_t su_random(uint64_t *state) {
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

/* The 53 high bits of a random word as a number in [0, 1), a multiple of 2^-53. */
static inline double su_unit(uint64_t word) { return (double)(word >> 11) * 0x1p-53; }

#endif
