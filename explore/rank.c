#include "explore/rank.h"

#include <math.h>
#include <stdlib.h>

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median_of(double *values, size_t n) {
    qsort(values, n, sizeof *values, by_value);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* The rank of value i, the mean of those that are equal. */
static double rank_of(const double *values, size_t n, size_t i) {
    size_t below = 0, equal = 0;
    for (size_t k = 0; k < n; k++) {
        below += values[k] < values[i];
        equal += values[k] == values[i];
    }
    return (double)below + (double)(equal - 1) / 2;
}

/* Pearson's correlation of the ranks. */
static double spearman(const double *a, const double *b, size_t n) {
    double mean = (double)(n - 1) / 2, ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        double x = rank_of(a, n, i) - mean, y = rank_of(b, n, i) - mean;
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

/* Kendall's tau-b: pairs in the same order less pairs in the other, over pairs. */
static double kendall(const double *a, const double *b, size_t n) {
    double same = 0, other = 0, tied_a = 0, tied_b = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++) {
            double x = a[i] - a[k], y = b[i] - b[k];
            tied_a += x == 0 && y != 0;
            tied_b += y == 0 && x != 0;
            same += x * y > 0;
            other += x * y < 0;
        }
    }
    double pairs = sqrt((same + other + tied_a) * (same + other + tied_b));
    return pairs > 0 ? (same - other) / pairs : 0;
}

ExErrors ex_errors(const double *measured, const double *predicted, size_t n) {
    SuArena arena = {0};
    double *errors = SU_NEW_ARRAY(&arena, double, n);
    ExErrors out = {.n = n};
    for (size_t i = 0; i < n; i++) {
        errors[i] = fabs(predicted[i] / measured[i] - 1);
        out.mape += errors[i] / (double)n;
        out.within_10 += (errors[i] <= 0.1) / (double)n;
    }
    out.median = median_of(errors, n);
    out.spearman = spearman(measured, predicted, n);
    out.kendall = kendall(measured, predicted, n);
    su_arena_free(&arena);
    return out;
}
