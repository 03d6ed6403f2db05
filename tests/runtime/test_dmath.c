/* su_d*: accuracy against long double, special values, and a digest of the bits that must be equal on every machine. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#include "support/dmath.h"
#include "support/random.h"

static double uniform(uint64_t *state, double low, double high) { return low + (high - low) * su_unit(su_random(state)); }

/* Error of `value` in ulps of the exact result. Where long double is not wider than double, one ulp more is allowed. */
static double ulps(double value, long double exact) {
    double nearest = (double)exact;
    double ulp = nextafter(fabs(nearest), INFINITY) - fabs(nearest);
    return (double)(fabsl((long double)value - exact) / (long double)ulp);
}

static const double allowed = sizeof(long double) > sizeof(double) ? 0.9 : 1.9;

static void test_exp_is_within_an_ulp(void **unused) {
    (void)unused;
    uint64_t seed = 1;
    double worst = 0;
    for (int i = 0; i < 200000; i++) {
        double x = i & 1 ? uniform(&seed, -745, 709.7) : uniform(&seed, -1, 1);
        worst = fmax(worst, ulps(su_dexp(x), expl((long double)x)));
    }
    print_message("exp: %.3f ulp\n", worst);
    assert_true(worst < allowed);
    assert_true(su_dexp(0) == 1 && su_dexp(-0.0) == 1);
    assert_true(su_dexp(710) == INFINITY && su_dexp(INFINITY) == INFINITY);
    assert_true(su_dexp(-746) == 0 && su_dexp(-INFINITY) == 0);
    assert_true(isnan(su_dexp(NAN)));
    assert_true(su_dexp(-745.1) == 0x1p-1074);
}

static void test_log_is_within_an_ulp(void **unused) {
    (void)unused;
    uint64_t seed = 2;
    double worst = 0;
    for (int i = 0; i < 200000; i++) {
        double x = i % 3 == 0   ? uniform(&seed, 0, 4)
                   : i % 3 == 1 ? exp2(uniform(&seed, -1070, 1023))
                                : 1 + uniform(&seed, -1e-3, 1e-3);
        worst = fmax(worst, ulps(su_dlog(x), logl((long double)x)));
    }
    print_message("log: %.3f ulp\n", worst);
    assert_true(worst < allowed);
    assert_true(su_dlog(1) == 0);
    assert_true(su_dlog(0) == -INFINITY && isnan(su_dlog(-1)) && su_dlog(INFINITY) == INFINITY && isnan(su_dlog(NAN)));
}

static void test_sin_and_cos_are_within_an_ulp_to_2_to_the_31(void **unused) {
    (void)unused;
    uint64_t seed = 3;
    double worst_sin = 0, worst_cos = 0;
    for (int i = 0; i < 300000; i++) {
        double range = i % 3 == 0 ? 2 : i % 3 == 1 ? 5000 : 0x1p31;
        double x = uniform(&seed, -range, range);
        if (i % 7 == 0)  /* close to a multiple of π/2, where the reduction cancels */
            x = rint(x / 1.5707963267948966) * 1.5707963267948966;
        if (fabs(x) > 0x1p31) continue;
        worst_sin = fmax(worst_sin, ulps(su_dsin(x), sinl((long double)x)));
        worst_cos = fmax(worst_cos, ulps(su_dcos(x), cosl((long double)x)));
    }
    print_message("sin: %.3f ulp, cos: %.3f ulp\n", worst_sin, worst_cos);
    assert_true(worst_sin < allowed && worst_cos < allowed);
    assert_true(su_dsin(0) == 0 && su_dcos(0) == 1 && signbit(su_dsin(-0.0)));
    assert_true(isnan(su_dsin(0x1p32)) && isnan(su_dcos(INFINITY)) && isnan(su_dsin(NAN)));
    assert_true(su_dsin(1e-300) == 1e-300);
}

static void test_pow_is_within_an_ulp(void **unused) {
    (void)unused;
    uint64_t seed = 4;
    double worst = 0;
    for (int i = 0; i < 200000; i++) {
        double base = i & 1 ? uniform(&seed, 1, 1e7) : exp2(uniform(&seed, -20, 20));
        double exponent = uniform(&seed, -40, 40);
        worst = fmax(worst, ulps(su_dpow(base, exponent), powl((long double)base, (long double)exponent)));
    }
    for (int i = 0; i < 64; i++) { /* what RoPE asks for */
        double exponent = -2.0 * i / 128;
        worst = fmax(worst, ulps(su_dpow(10000, exponent), powl(10000, (long double)exponent)));
    }
    print_message("pow: %.3f ulp\n", worst);
    assert_true(worst < allowed);
    assert_true(su_dpow(10000, 0) == 1 && su_dpow(1, 1e300) == 1 && su_dpow(2, 10) == 1024 && su_dpow(2, -1074) == 0x1p-1074);
    assert_true(su_dpow(2, 1e300) == INFINITY && su_dpow(2, -INFINITY) == 0 && su_dpow(0.5, -INFINITY) == INFINITY);
    assert_true(isnan(su_dpow(-1, 2)) && isnan(su_dpow(2, NAN)));
}

/* FNV-1a over the bits of many results: what every machine, compiler and C library must give. */
static void test_bits_are_the_agreed_ones(void **unused) {
    (void)unused;
    uint64_t seed = 5, digest = 0xCBF29CE484222325;
    for (int i = 0; i < 20000; i++) {
        double x = uniform(&seed, 0, 1), y = uniform(&seed, -1, 1);
        double r[5] = {su_dexp(50 * y), su_dlog(100 * x), su_dsin(1e6 * y), su_dcos(1e6 * y), su_dpow(1 + 1e6 * x, 2 * y)};
        uint64_t bits[5];
        memcpy(bits, r, sizeof bits);
        for (int j = 0; j < 5; j++) digest = (digest ^ bits[j]) * 0x100000001B3;
    }
    assert_int_equal(digest, 0xC68445BAF28A64E4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_is_within_an_ulp),
        cmocka_unit_test(test_log_is_within_an_ulp),
        cmocka_unit_test(test_sin_and_cos_are_within_an_ulp_to_2_to_the_31),
        cmocka_unit_test(test_pow_is_within_an_ulp),
        cmocka_unit_test(test_bits_are_the_agreed_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
