#include "measure/stats.h"

#include <stdlib.h>

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

MsStats ms_stats(double *values, size_t n) {
    qsort(values, n, sizeof values[0], compare);
    double median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
    return (MsStats){.median = median, .min = values[0], .max = values[n - 1]};
}
