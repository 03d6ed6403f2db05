/* The search for q4's numbers: exact where that is possible, never worse than the simple way, the same bytes everywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ir/quant_search.h"
#include "support/digest.h"
#include "support/random.h"

enum { MOST_K = 1024, GROUPS = MOST_K / 32, SUPERS = MOST_K / 256 };

typedef struct Row {
    uint8_t q[GROUPS * 16], s[GROUPS], t[GROUPS];
    uint16_t d[SUPERS], m[SUPERS];
} Row;

/* By the definition, with the C library's arithmetic only. */
static double half_value(uint16_t half) {
    int exponent = half >> 10 & 31;
    double fraction = half & 1023, value = exponent ? 1024 + fraction : fraction;
    for (int e = exponent ? exponent : 1; e < 25; e++) value /= 2;
    for (int e = 25; e < exponent; e++) value *= 2;
    return half & 0x8000 ? -value : value;
}

static int q_of(const Row *row, uint64_t k) { return row->q[k / 2] >> (k % 2 * 4) & 15; }

static float value_of(const Row *row, uint64_t k) {
    double step = half_value(row->d[k / 256]) * row->s[k / 32], shift = half_value(row->m[k / 256]) * row->t[k / 32];
    return (float)(step * q_of(row, k) - shift);
}

static bool search(const float *w, const float *h, uint64_t K, Row *row) {
    memset(row, 0xEE, sizeof *row);
    bool ok = ir_q4_search(w, h, K, &(IrQ4Row){.q = row->q, .s = row->s, .t = row->t, .d = row->d, .m = row->m});
    for (uint64_t g = 0; ok && g < (K + 31) / 32; g++) assert_true(row->s[g] < 64 && row->t[g] < 64);
    return ok;
}

static double error_of(const float *w, const float *h, uint64_t K, const Row *row) {
    double sum = 0;
    for (uint64_t k = 0; k < K; k++) {
        double e = (double)w[k] - (double)value_of(row, k);
        sum += (h ? (double)h[k] : 1) * e * e;
    }
    return sum;
}

/* ---- what is searched */

static double uniform(uint64_t *seed) { return su_unit(su_random(seed)); }

/* Sums of uniform numbers, whose tails a power makes heavier. */
static float drawn(uint64_t *seed, int shape) {
    double sum = 0;
    for (int i = 0; i < 8; i++) sum += uniform(seed) - 0.5;
    double value = shape == 0 ? sum : shape == 1 ? sum * sum * sum : shape == 2 ? uniform(seed) - 0.5 : uniform(seed) + 2;
    return (float)(value * 0.05);
}

static void draw(uint64_t seed, int shape, uint64_t K, float *w, float *h) {
    for (uint64_t k = 0; k < K; k++) {
        w[k] = drawn(&seed, shape);
        double size = uniform(&seed) * 4;
        h[k] = (float)(size * size * size);
    }
}

/* ---- the simple way: the least and the largest value of a group, in double, without rounding of scales */

static double simple_error(const float *w, const float *h, uint64_t K) {
    double sum = 0;
    for (uint64_t first = 0; first < K; first += 32) {
        uint64_t end = first + 32 < K ? first + 32 : K;
        double least = 0, largest = 0;
        for (uint64_t k = first; k < end; k++) {
            least = (double)w[k] < least ? (double)w[k] : least;
            largest = (double)w[k] > largest ? (double)w[k] : largest;
        }
        double step = (largest - least) / 15;
        for (uint64_t k = first; k < end; k++) {
            double q = (double)(int)(((double)w[k] - least) / step + 0.5), e = (double)w[k] - (q * step + least);
            sum += (h ? (double)h[k] : 1) * e * e;
        }
    }
    return sum;
}

/* Of a group whose scales need no rounding the simple way still loses: least squares, and the window of s and t. */
static void it_is_better_than_the_simple_way(void **state) {
    (void)state;
    static float w[MOST_K], h[MOST_K];
    for (uint64_t seed = 0; seed < 24; seed++) {
        uint64_t K = seed % 3 == 0 ? MOST_K : 1 + seed * 37 % MOST_K;
        Row row;
        draw(seed, (int)(seed % 4), K, w, h);
        if (K < 32) continue;
        assert_true(search(w, NULL, K, &row));
        double flat = error_of(w, NULL, K, &row);
        assert_true(flat < 0.97 * simple_error(w, NULL, K));
        double weighted_flat = error_of(w, h, K, &row);
        assert_true(search(w, h, K, &row));
        assert_true(error_of(w, h, K, &row) < 0.9 * simple_error(w, h, K));
        assert_true(error_of(w, h, K, &row) < weighted_flat);
        assert_true(error_of(w, NULL, K, &row) > flat);
    }
}

static void what_can_be_said_exactly_is_found(void **state) {
    (void)state;
    static float w[MOST_K], h[MOST_K];
    for (uint64_t round = 0; round < 40; round++) {
        uint64_t seed = round;
        Row made, found;
        memset(&made, 0, sizeof made);
        for (int b = 0; b < SUPERS; b++) {
            made.d[b] = (uint16_t)(0x1400 + su_random(&seed) % 0x1000);
            made.m[b] = (uint16_t)((round % 4 == 3 ? 0x8000 : 0) + 0x1400 + su_random(&seed) % 0x1000);
        }
        for (int g = 0; g < GROUPS; g++) {
            made.s[g] = (uint8_t)(g % 8 == 0 ? 63 - su_random(&seed) % 32 : 1 + su_random(&seed) % 63);
            made.t[g] = (uint8_t)(g % 8 == 0 ? 63 - su_random(&seed) % 32 : su_random(&seed) % 64);
            for (int j = 0; j < 16; j++) made.q[g * 16 + j] = (uint8_t)su_random(&seed);
            made.q[g * 16 + 5] = 0xF0; /* the ends of the range are there */
        }
        for (uint64_t k = 0; k < MOST_K; k++) {
            w[k] = value_of(&made, k);
            h[k] = (float)(0.1 + uniform(&seed));
        }
        assert_true(search(w, round % 3 ? h : NULL, MOST_K, &found));
        for (uint64_t k = 0; k < MOST_K; k++) assert_true(value_of(&found, k) == w[k]);
    }
}

static void zeros_are_zeros(void **state) {
    (void)state;
    static const float w[300];
    Row row;
    assert_true(search(w, NULL, 300, &row));
    for (uint64_t k = 0; k < 300; k++) assert_true(value_of(&row, k) == 0);
    for (uint64_t i = 0; i < 160; i++) assert_int_equal(row.q[i], 0);
}

static void constants_are_near(void **state) {
    (void)state;
    static float w[MOST_K];
    const float values[] = {1, -1, 0.3f, -7e-3f, 5e4f, -4e6f, 3e7f};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        Row row;
        for (uint64_t k = 0; k < 300; k++) w[k] = values[i];
        assert_true(search(w, NULL, 300, &row));
        for (uint64_t k = 0; k < 300; k++) {
            double e = ((double)value_of(&row, k) - (double)w[k]) / (double)values[i];
            assert_true(e < 1e-3 && e > -1e-3);
        }
    }
}

/* d and m are f16: far below their least steps w' becomes 0, and a little above it s and t make up for coarse ones. */
static void small_values_use_what_f16_has(void **state) {
    (void)state;
    static float w[MOST_K], h[MOST_K];
    Row row;
    draw(7, 0, MOST_K, w, h);
    for (uint64_t k = 0; k < MOST_K; k++) w[k] *= 2e-5f; /* of size 1e-6, where d/63 of the usual way is no f16 */
    assert_true(search(w, NULL, MOST_K, &row));
    double square = 0;
    for (uint64_t k = 0; k < MOST_K; k++) square += (double)w[k] * (double)w[k];
    assert_true(error_of(w, NULL, MOST_K, &row) < 0.02 * square);
    for (uint64_t k = 0; k < MOST_K; k++) w[k] = k % 2 ? 1e-40f : -1e-40f;
    assert_true(search(w, NULL, MOST_K, &row));
    assert_true(error_of(w, NULL, MOST_K, &row) <= MOST_K * 1e-80);
}

static void what_f16_cannot_scale_is_refused(void **state) {
    (void)state;
    static float w[64];
    Row row;
    for (int k = 0; k < 64; k++) w[k] = k % 2 ? 1.0f : -1.0f;
    w[40] = 2e8f;
    assert_false(search(w, NULL, 64, &row));
    w[40] = -3e38f;
    assert_false(search(w, NULL, 64, &row));
    w[40] = 5e7f;
    assert_true(search(w, NULL, 64, &row));
}

/* A row's length decides nothing but where it ends: padding takes no part, and rows of one value work. */
static void padding_takes_no_part(void **state) {
    (void)state;
    static float w[MOST_K], h[MOST_K];
    Row row, whole;
    for (uint64_t K = 1; K < 70; K++) {
        draw(K, (int)(K % 4), MOST_K, w, h);
        assert_true(search(w, h, K, &row));
        for (uint64_t k = K; k < (K + 31) / 32 * 32; k++) assert_int_equal(q_of(&row, k), 0);
        assert_int_equal(row.s[(K + 31) / 32], 0xEE);
        assert_int_equal(row.q[(K + 31) / 32 * 16], 0xEE);
        for (uint64_t k = K; k < MOST_K; k++) w[k] = 1e30f;
        assert_true(search(w, h, K, &whole));
        assert_memory_equal(&row, &whole, sizeof row);
    }
}

static void only_the_ratios_of_h_matter(void **state) {
    (void)state;
    static float w[MOST_K], h[MOST_K];
    Row row, scaled;
    draw(3, 0, MOST_K, w, h);
    assert_true(search(w, h, MOST_K, &row));
    for (uint64_t k = 0; k < MOST_K; k++) h[k] *= 0x1p-90f;
    assert_true(search(w, h, MOST_K, &scaled));
    assert_memory_equal(&row, &scaled, sizeof row);
    memset(h, 0, sizeof h); /* inputs that never were anything: all count the same */
    assert_true(search(w, h, MOST_K, &scaled));
    assert_true(search(w, NULL, MOST_K, &row));
    assert_memory_equal(&row, &scaled, sizeof row);
}

/* Recorded: every compiler and every CPU gives these bytes. A better search changes them. */
static void bytes_are_the_same_everywhere(void **state) {
    (void)state;
    static float w[MOST_K], h[MOST_K];
    SuDigestStream *stream = su_digest_start();
    for (uint64_t seed = 0; seed < 16; seed++) {
        Row row;
        draw(seed, (int)(seed % 4), MOST_K, w, h);
        assert_true(search(w, seed % 2 ? h : NULL, MOST_K - seed * 19, &row));
        su_digest_add(stream, &row, sizeof row);
    }
    SuDigest digest = su_digest_now(stream);
    char hex[SU_HEX];
    su_digest_end(stream);
    assert_string_equal(su_digest_hex(&digest, hex), "d64c274ebfe110ba74fb5b22e5c9f370");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_better_than_the_simple_way),
        cmocka_unit_test(what_can_be_said_exactly_is_found),
        cmocka_unit_test(zeros_are_zeros),
        cmocka_unit_test(constants_are_near),
        cmocka_unit_test(small_values_use_what_f16_has),
        cmocka_unit_test(what_f16_cannot_scale_is_refused),
        cmocka_unit_test(padding_takes_no_part),
        cmocka_unit_test(only_the_ratios_of_h_matter),
        cmocka_unit_test(bytes_are_the_same_everywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
