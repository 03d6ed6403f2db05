/* Checked size arithmetic. Every product of sizes that a user can choose goes through these. */
#ifndef MOSSC_SUPPORT_SIZE_H
#define MOSSC_SUPPORT_SIZE_H

#include <stdbool.h>
#include <stdint.h>

/* out = a * b, out = a + b; false on overflow (out is then unspecified). */
static inline bool su_mul(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool su_add(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }

static inline uint64_t su_ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }
/* Smallest multiple of b that is >= a; the caller knows that it fits. */
static inline uint64_t su_round_up(uint64_t a, uint64_t b) { return su_ceil_div(a, b) * b; }

#endif
