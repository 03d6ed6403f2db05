/* The functions of ir/vmath.inc against double libm, on a million floats each, and at the ends of the range. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>

#include "ir/vmath32.h"

enum { SAMPLES = 1000000 };

typedef struct Case {
    const char *name;
    float (*ours)(float);
    double (*exact)(double);
    float low, high;
    double relative; /* error allowed relative to the exact value… */
    double floor;    /* …but never less than relative * floor * max(1, |x|) */
} Case;

static double exact_softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double exact_sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double exact_silu(double x) { return x / (1 + exp(-x)); }
static double exact_gelu(double x) { return 0.5 * x * erfc(-x * M_SQRT1_2); }
static double exact_gelu_tanh(double x) { return x / (1 + exp(-2 * sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
static double exact_relu2(double x) { return x > 0 ? x * x : 0; }
/* The series by its definition, six terms. */
static double exact_zoh(double x) {
    double term = 1, sum = 1;
    for (int i = 2; i <= 6 && x >= -0.25; i++) sum += term *= x / i;
    return x < -0.25 ? expm1(x) / x : sum;
}

static double exact_heavy_tail(double x) { return x < 0 ? 1 / (1 - x) : 1 + x; }

static float float_of(uint32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void check_point(const Case *c, float x) {
    double exact = c->exact(x), error = fabs((double)c->ours(x) - exact);
    double allowed = c->relative * fmax(fabs(exact), c->floor * fmax(1, fabs((double)x))) + 0x1p-148; /* denormals */
    if (!(error <= allowed)) fail_msg("%s(%.9g) = %.9g, exactly %.17g", c->name, (double)x, (double)c->ours(x), exact);
}

/* Half the points evenly spaced in the range, half spread over its exponents. */
static void check(const Case *c) {
    uint32_t random = 12345;
    for (int i = 0; i < SAMPLES; i++) {
        random = random * 1664525u + 1013904223u;
        double u = (double)(random >> 1) * 0x1p-31;
        check_point(c, (float)(c->low + u * (c->high - c->low)));
        float x = float_of(random);
        if (x >= c->low && x <= c->high) check_point(c, x);
    }
}

static const Case cases[] = {
    {"exp", vm_exp, exp, -4.0f, 4.0f, 2e-7, 0},
    {"exp, all", vm_exp, exp, -87.3f, 88.0f, 4.4e-7, 0},
    {"log1p", vm_log1p, log1p, 0, 1, 2e-7, 0},
    {"softplus", vm_softplus, exact_softplus, -87, 100, 6e-7, 0},
    {"sigmoid", vm_sigmoid, exact_sigmoid, -87, 100, 5e-7, 0},
    {"silu", vm_silu, exact_silu, -87, 100, 6e-7, 0},
    {"erf", vm_erf, erf, -6, 6, 3e-7, 0},
    {"gelu", vm_gelu, exact_gelu, -20, 20, 2e-7, 1},
    {"gelu_tanh", vm_gelu_tanh, exact_gelu_tanh, -20, 20, 3e-7, 1},
    {"zoh", vm_zoh, exact_zoh, -80, 4, 2e-6, 0},
    {"heavy_tail", vm_heavy_tail, exact_heavy_tail, -1e9f, 1e9f, 2e-7, 0},
    {"tanh", vm_tanh, tanh, -20, 20, 3e-7, 0},
    {"sin", vm_sin, sin, -3.14159274f, 3.14159274f, 1.5e-7, 1},
    {"cos", vm_cos, cos, -3.14159274f, 3.14159274f, 1.5e-7, 1},
    {"sin, more turns", vm_sin, sin, -100, 100, 3e-7, 1},
    {"cos, more turns", vm_cos, cos, -100, 100, 3e-7, 1},
    {"relu2", vm_relu2, exact_relu2, -10, 1e9f, 1e-7, 0},
};

static void test_accuracy(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check(&cases[i]);
}

static void test_every_activation_is_among_them(void **state) {
    (void)state;
    static float (*const functions[])(float) = {
#define IR_ACTIVATION(name, NAME, flops, exps, exact) vm_##name,
#include "ir/activation.def"
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        bool found = false;
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) found = found || cases[c].ours == functions[i];
        if (!found) fail_msg("row %zu of ir/activation.def has no line in cases", i);
    }
}

static void test_exp_clamps_to_normal_powers_of_two(void **state) {
    (void)state;
    const float ends[] = {-INFINITY, -1e30f, -100, -87.4f, -87.33655f, -87.33654f, -87.3365f};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        float y = vm_exp(ends[i]);
        assert_true(y >= 0x1p-126f && y < 0x1.001p-126f);
    }
    const float tops[] = {88.0296f, 88.0297f, 89, 1e30f, INFINITY};
    for (size_t i = 0; i < sizeof tops / sizeof *tops; i++) {
        float y = vm_exp(tops[i]);
        assert_true(y <= 0x1p127f && y > 0x1.ff0p126f);
    }
    assert_true(vm_exp(0.0f) == 1.0f && vm_exp(-0.0f) == 1.0f);
}

static void test_infinities(void **state) {
    (void)state;
    assert_true(vm_softplus(INFINITY) == INFINITY && vm_silu(INFINITY) == INFINITY);
    assert_true(vm_gelu(INFINITY) == INFINITY && vm_gelu_tanh(INFINITY) == INFINITY);
    assert_true(vm_sigmoid(INFINITY) == 1.0f && vm_erf(INFINITY) == 1.0f && vm_erf(-INFINITY) == -1.0f);
    assert_true(vm_softplus(-INFINITY) < 1e-37f && vm_sigmoid(-INFINITY) < 1e-37f);
    const float far_below[] = {-INFINITY, -3e38f, -1e20f, -200};
    for (size_t i = 0; i < sizeof far_below / sizeof *far_below; i++) {
        assert_true(fabsf(vm_silu(far_below[i])) < 1e-35f);
        assert_true(vm_gelu(far_below[i]) == 0.0f);
        assert_true(fabsf(vm_gelu_tanh(far_below[i])) < 1e-35f);
    }
}

static void test_nan_stays_nan(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!isnan(cases[i].ours(NAN))) fail_msg("%s(NaN) is a number", cases[i].name);
    assert_true(isnan(vm_cut(NAN)));
}

static void test_cut(void **state) {
    (void)state;
    assert_true(vm_cut(0x1p-80f) == 0x1p-80f && vm_cut(-0x1p-80f) == -0x1p-80f);
    float below = vm_cut(-0x1.fffffep-81f);
    assert_true(below == 0.0f && !signbit(below));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_activation_is_among_them),
        cmocka_unit_test(test_accuracy),
        cmocka_unit_test(test_exp_clamps_to_normal_powers_of_two),
        cmocka_unit_test(test_infinities),
        cmocka_unit_test(test_nan_stays_nan),
        cmocka_unit_test(test_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
