#include "measure/series.h"

#include <inttypes.h>
#include <math.h>

#include "support/clock.h"

MsMoments ms_moments(const double *values, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    const double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += (values[i] - mean) * (values[i] - mean);
    return (MsMoments){.mean = mean, .deviation = n > 1 ? sqrt(squares / (double)(n - 1)) : 0};
}

bool ms_test_fits(DrBuild *build, const MsTest *test) {
    const int64_t positions = build->program->max_positions, tokens = test->prompt + test->tokens + test->depth;
    return positions == 0 || tokens <= positions ||
           su_error(&build->diags, (SuSpan){0}, NULL,
                    "a test of %" PRId64 " tokens and a depth of %" PRId64 ": max_positions of this model is %" PRId64,
                    test->prompt + test->tokens, test->depth, positions);
}

/* A sequence that has the depth's tokens, and the one that each round makes of it. */
typedef struct Series {
    MsPlan deep_plan, plan;
    MsSteps deep, steps;
} Series;

static MossError one_round(Series *s, double *out_seconds) {
    moss_state_free(s->steps.states[0]);
    s->steps.states[0] = NULL;
    MossError error = moss_state_clone(s->deep.states[0], &s->steps.states[0]);
    const double start = su_seconds();
    if (error.code == MOSS_OK) error = ms_prompts(&s->steps);
    if (error.code == MOSS_OK) error = ms_decode(&s->steps);
    *out_seconds = su_seconds() - start;
    return error;
}

static MossError all_rounds(Series *s, double *out_seconds) {
    double warm;
    MossError error = ms_prompts(&s->deep);
    if (error.code == MOSS_OK) error = one_round(s, &warm);
    for (int64_t i = 0; i < s->plan.repeat && error.code == MOSS_OK; i++) error = one_round(s, &out_seconds[i]);
    return error;
}

bool ms_measure_test(DrBuild *build, const MsTest *test, int64_t chunk, int64_t repeat, double *out_seconds) {
    Series s = {.deep_plan = {.prefill = test->depth, .batch = 1, .chunk = chunk},
                .plan = {.prefill = test->prompt, .decode = test->tokens, .batch = 1, .chunk = chunk, .repeat = repeat}};
    MossError error = ms_steps_create(build, &s.deep_plan, &s.deep);
    if (error.code == MOSS_OK) error = ms_steps_create(build, &s.plan, &s.steps);
    if (error.code == MOSS_OK) error = all_rounds(&s, out_seconds);
    ms_steps_free(&s.steps);
    ms_steps_free(&s.deep);
    return dr_moss_ok(&build->diags, error);
}
