/* What several measurements of one thing say. */
#ifndef MOSSC_MEASURE_STATS_H
#define MOSSC_MEASURE_STATS_H

#include <stddef.h>

typedef struct MsStats {
    double median, min, max;
} MsStats;

/* Of n ≥ 1 values; sorts them in place. */
MsStats ms_stats(double *values, size_t n);

#endif
