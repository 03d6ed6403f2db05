/* Speeds of several tests on one model, as llama-bench has them: a prompt, tokens fed one by one, both, behind tokens that are not timed. */
#ifndef MOSSC_MEASURE_SERIES_H
#define MOSSC_MEASURE_SERIES_H

#include "measure/steps.h"

typedef struct MsTest {
    int64_t prompt, tokens; /* of a prompt, and fed one by one after it; one of them may be 0 */
    int64_t depth; /* tokens that the sequence has before */
} MsTest;

typedef struct MsMoments {
    double mean, deviation; /* deviation: of samples, over n - 1; 0 of one */
} MsMoments;

MsMoments ms_moments(const double *values, size_t n);

/* Whether the model takes so many tokens; needs dr_build_program. false: the reason is in build->diags. */
bool ms_test_fits(DrBuild *build, const MsTest *test);
/* Seconds of each of `repeat` rounds, after one that does not count. chunk: MsPlan.chunk. Needs that and build->model, on any device. false:
 * the reason is in build->diags. */
bool ms_measure_test(DrBuild *build, const MsTest *test, int64_t chunk, int64_t repeat, double *out_seconds);

#endif
