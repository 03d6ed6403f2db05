/* Seconds of a clock that never goes back. */
#ifndef MOSSC_SUPPORT_CLOCK_H
#define MOSSC_SUPPORT_CLOCK_H

#include <time.h>

static inline double su_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
