/* Numbers for unit tests of evaluators, and how results are compared. Included after cmocka.h. */
#ifndef MOSSC_TESTS_IR_NUMBERS_H
#define MOSSC_TESTS_IR_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A plain generator is enough: the same numbers in every run. */
static inline void fill(float *x, size_t n, uint32_t seed) {
    uint32_t s = seed;
    for (size_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)s * 0x1p-31f;
    }
}

static inline void assert_near(const double *x, const double *y, size_t n, double tolerance) {
    for (size_t i = 0; i < n; i++)
        if (!(fabs(x[i] - y[i]) <= tolerance)) fail_msg("[%zu]: %.17g and %.17g", i, x[i], y[i]);
}

static inline void assert_same_bits(const double *x, const double *y, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&x[i], &y[i], sizeof *x) != 0) fail_msg("[%zu]: %.17g and %.17g", i, x[i], y[i]);
}

#endif
