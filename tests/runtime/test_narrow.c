/* Narrowing: nearest even, subnormals, overflow; against definitions that are slow and plain. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "runtime/narrow.h"

/* x rounded to a multiple of 2^least_bit or to `digits` bits, nearest even, by double arithmetic, which is exact here. */
static double round_plainly(double x, int digits, int least_bit) {
    int e;
    frexp(x, &e);
    double unit = ldexp(1, e - digits > least_bit ? e - digits : least_bit);
    return rint(x / unit) * unit;
}

static void check_f16(float x) {
    double want = round_plainly((double)x, 11, -24);
    want = fabs(want) >= 65520 ? copysign(INFINITY, want) : want;
    float got = rt_widen_f16(rt_narrow_f16(x));
    if ((double)got != want || signbit(got) != signbit(x)) fail_msg("f16 of %a is %a, not %a", (double)x, (double)got, want);
}

static void check_bf16(float x) {
    double want = round_plainly((double)x, 8, -133);
    want = fabs(want) >= 0x1p128 ? copysign(INFINITY, want) : want;
    float got = rt_widen_bf16(rt_narrow_bf16(x));
    if ((double)got != want || signbit(got) != signbit(x)) fail_msg("bf16 of %a is %a, not %a", (double)x, (double)got, want);
}

static void test_every_narrow_value_comes_back(void **unused) {
    (void)unused;
    for (uint32_t i = 0; i < 0x10000; i++) {
        float half = rt_widen_f16((uint16_t)i), brain = rt_widen_bf16((uint16_t)i);
        assert_true(!rt_finite(half) || rt_narrow_f16(half) == i);
        assert_true(!rt_finite(brain) || rt_narrow_bf16(brain) == i);
    }
    assert_true(rt_widen_f16(0x0001) == 0x1p-24f && rt_widen_f16(0x03FF) == 0x3FFp-24f && rt_widen_f16(0x0400) == 0x1p-14f);
    assert_true(rt_widen_f16(0x7BFF) == 65504 && rt_widen_f16(0xFC00) == -INFINITY && isnan(rt_widen_f16(0x7E00)));
}

static void test_rounding_is_to_nearest_even(void **unused) {
    (void)unused;
    static const float edges[] = {0,           0x1p-25f,    0x1.000002p-25f, 0x1.8p-24f,   0x1.7ffffep-24f, 0x1p-24f,
                                  0x1.4p-23f,  0x1p-14f,    0x1.ffcp-15f,    0x1.ffep-15f, 0x1.fffffep-15f, 0x1.001p+0f,
                                  0x1.002p+0f, 0x1.003p+0f, 65504,           65519.996f,   65520,           65536,
                                  1e30f,       0x1.fep127f, 0x1.fffffep127f, 0x1.ffp127f,  0x1.01p0f,       0x1.03p0f,
                                  0x1p-133f,   0x1p-134f,   0x1p-149f};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        check_f16(edges[i]);
        check_f16(-edges[i]);
        check_bf16(edges[i]);
        check_bf16(-edges[i]);
    }
    uint64_t bits = 0;
    for (int i = 0; i < 400000; i++) {
        bits = bits * 6364136223846793005 + 1442695040888963407;
        float x = ir_from_bits((uint32_t)(bits >> 32));
        if (rt_finite(x)) {
            check_bf16(x);
            check_f16(x);
            check_f16(ir_from_bits((ir_bits_of(x) & 0x87FFFFFF) | 0x30000000)); /* 2^-31 … 2^-16: where f16 turns subnormal */
        }
    }
}

static void test_overflow_shows_as_infinity(void **unused) {
    (void)unused;
    assert_false(rt_finite(rt_widen_f16(rt_narrow_f16(65520))));
    assert_true(rt_finite(rt_widen_f16(rt_narrow_f16(65519.99f))));
    assert_false(rt_finite(rt_widen_bf16(rt_narrow_bf16(-0x1.fffffep127f))));
    assert_true(rt_finite(rt_widen_bf16(rt_narrow_bf16(0x1.fep127f))));
    assert_false(rt_finite(INFINITY) || rt_finite(-NAN));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_narrow_value_comes_back),
        cmocka_unit_test(test_rounding_is_to_nearest_even),
        cmocka_unit_test(test_overflow_shows_as_infinity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
