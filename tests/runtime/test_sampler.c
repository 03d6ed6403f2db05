/* Sampling: the same ids everywhere, ties to the lower id, and probabilities that are those of the softmax. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mossc/moss.h"

enum { N = 1000, DRAWS = 200000 };

/* Logits with many values, a few ties. */
static void make_logits(float logits[N]) {
    for (int i = 0; i < N; i++) logits[i] = (float)((i * 7919) % 997) / 100;
}

static int32_t greedy(const float *logits, int64_t n, int64_t limit) {
    MossSampler sampler = {.top_p = 1};
    return moss_sample(&sampler, logits, n, limit);
}

static void test_greedy_takes_the_first_largest(void **unused) {
    (void)unused;
    assert_int_equal(greedy((const float[]){1, 3, 3, 2}, 4, 4), 1);
    assert_int_equal(greedy((const float[]){-0.0f, 0.0f}, 2, 2), 0);
    assert_int_equal(greedy((const float[]){NAN, -INFINITY, NAN}, 3, 3), 1);
    assert_int_equal(greedy((const float[]){NAN, NAN}, 2, 2), -1);
    assert_int_equal(greedy((const float[]){1, 2, 9, 9}, 4, 2), 1); /* ids from limit on are not there */
    assert_int_equal(greedy((const float[]){1}, 1, 0), -1);
}

/* The ids were checked once against a plain sort and the C library's exp. */
static void test_the_ids_are_the_agreed_ones(void **unused) {
    (void)unused;
    float logits[N];
    make_logits(logits);
    static const struct {
        MossSampler sampler;
        int32_t ids[8];
    } cases[] = {
        {{.temperature = 1, .top_p = 1, .state = 1}, {527, 719, 965, 407, 407, 736, 860, 490}},
        {{.temperature = 0.7f, .top_k = 40, .top_p = 1, .state = 2}, {420, 630, 420, 665, 210, 245, 595, 630}},
        {{.temperature = 1.3f, .top_p = 0.9f, .state = 3}, {105, 668, 580, 70, 194, 599, 123, 876}},
        {{.temperature = 0.9f, .top_k = 100, .top_p = 0.5f, .state = 4}, {280, 840, 805, 350, 263, 455, 875, 298}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        MossSampler sampler = cases[c].sampler;
        for (int i = 0; i < 8; i++) {
            int32_t id = moss_sample(&sampler, logits, N, N);
            if (id != cases[c].ids[i]) fail_msg("case %zu, draw %d: id %d", c, i, id);
        }
    }
}

/* Draws from 8 logits and holds the counts against probabilities: 5 standard deviations of a count. */
static void expect_frequencies(MossSampler sampler, const float logits[8], const double probability[8]) {
    int counts[8] = {0};
    for (int i = 0; i < DRAWS; i++) {
        int32_t id = moss_sample(&sampler, logits, 8, 8);
        assert_in_range(id, 0, 7);
        counts[id]++;
    }
    for (int i = 0; i < 8; i++) {
        double want = (double)DRAWS * probability[i], deviation = sqrt(want * (1 - probability[i]));
        if (fabs(counts[i] - want) > 5 * deviation) fail_msg("id %d: %d times instead of %.0f", i, counts[i], want);
    }
}

static void test_frequencies_are_the_softmax(void **unused) {
    (void)unused;
    const float logits[8] = {0, 1, 2, -1, 2, 0.5f, NAN, -INFINITY};
    double p[8], total = 0;
    for (int i = 0; i < 8; i++) {
        p[i] = i < 6 ? exp((double)logits[i] / 0.8) : 0;
        total += p[i];
    }
    for (int i = 0; i < 8; i++) p[i] /= total;
    expect_frequencies((MossSampler){.temperature = 0.8f, .top_p = 1, .state = 7}, logits, p);
}

static void test_top_k_keeps_the_k_largest_and_ties_with_lower_ids(void **unused) {
    (void)unused;
    const float logits[8] = {1, 2, 2, 0, 2, 1, 2, 1};
    expect_frequencies((MossSampler){.temperature = 1, .top_k = 1, .top_p = 1, .state = 8}, logits, (const double[8]){0, 1});
    expect_frequencies((MossSampler){.temperature = 1, .top_k = 3, .top_p = 1, .state = 8}, logits,
                       (const double[8]){0, 1.0 / 3, 1.0 / 3, 0, 1.0 / 3});
    double e = exp(1), total = 4 * e + 1;
    expect_frequencies((MossSampler){.temperature = 1, .top_k = 5, .top_p = 1, .state = 8}, logits,
                       (const double[8]){1 / total, e / total, e / total, 0, e / total, 0, e / total});
}

static void test_top_p_keeps_the_shortest_prefix(void **unused) {
    (void)unused;
    const float ln2 = 0.693147181f;
    const float logits[8] = {0, ln2, -200, 2 * ln2, 0, -200, -200, -200}; /* 1/8 2/8 0 4/8 1/8 */
    expect_frequencies((MossSampler){.temperature = 1, .top_p = 0.4f, .state = 9}, logits, (const double[8]){[3] = 1});
    expect_frequencies((MossSampler){.temperature = 1, .top_p = 0.6f, .state = 9}, logits,
                       (const double[8]){[1] = 1.0 / 3, [3] = 2.0 / 3});
    expect_frequencies((MossSampler){.temperature = 1, .top_p = 0.8f, .state = 9}, logits,
                       (const double[8]){[0] = 1.0 / 7, [1] = 2.0 / 7, [3] = 4.0 / 7});
    expect_frequencies((MossSampler){.temperature = 1, .top_k = 2, .top_p = 0.7f, .state = 9}, logits,
                       (const double[8]){[1] = 1.0 / 3, [3] = 2.0 / 3}); /* of what top_k leaves: 4/6, 2/6 */
    expect_frequencies((MossSampler){.temperature = 1, .top_p = 0, .state = 9}, logits, (const double[8]){[3] = 1});
}

static void test_extremes_are_certain(void **unused) {
    (void)unused;
    MossSampler sampler = {.temperature = 1, .top_p = 0.9f, .top_k = 2, .state = 1};
    assert_int_equal(moss_sample(&sampler, (const float[]){0, INFINITY, INFINITY}, 3, 3), 1);
    assert_int_equal(moss_sample(&sampler, (const float[]){NAN, -INFINITY, -INFINITY}, 3, 3), 1);
    assert_int_equal(moss_sample(&sampler, (const float[]){NAN}, 1, 1), -1);
    assert_int_equal(moss_sample(&sampler, (const float[]){-3e38f, 3e38f, 3e38f}, 1, 1), 0);
    sampler.temperature = 1e-30f;
    for (int i = 0; i < 100; i++) assert_int_equal(moss_sample(&sampler, (const float[]){0, 5, 4}, 3, 3), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy_takes_the_first_largest),
        cmocka_unit_test(test_the_ids_are_the_agreed_ones),
        cmocka_unit_test(test_frequencies_are_the_softmax),
        cmocka_unit_test(test_top_k_keeps_the_k_largest_and_ties_with_lower_ids),
        cmocka_unit_test(test_top_p_keeps_the_shortest_prefix),
        cmocka_unit_test(test_extremes_are_certain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
