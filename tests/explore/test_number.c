/* Decimals are exact, and sizes have the units that they may have. */
#include <math.h>

#include "explore/number.h"
#include "tests/explore/helpers.h"

static void expect_text(const char *text, const char *expected) {
    SuArena arena = {0};
    ExDecimal d;
    if (!ex_decimal(text, &d)) {
        assert_null(expected);
        return;
    }
    assert_non_null(expected);
    assert_string_equal(ex_decimal_text(&arena, d), expected);
    su_arena_free(&arena);
}

static void texts_of_decimals(void **state) {
    (void)state;
    expect_text("0", "0");
    expect_text("-0", "0");
    expect_text("0.000", "0");
    expect_text("0e99", "0");
    expect_text("1", "1");
    expect_text("+1.50", "1.5");
    expect_text("-.5", "-0.5");
    expect_text("5.", "5");
    expect_text("1e3", "1000");
    expect_text("1.25e1", "12.5");
    expect_text("1.5e-3", "0.0015");
    expect_text("100e-2", "1");
    expect_text("-12.340E2", "-1234");
    expect_text("999999999999999999999999999999999999", "999999999999999999999999999999999999");
    expect_text("1e-36", "0.000000000000000000000000000000000001");
    expect_text("1000000000000000000000000000000000000", NULL);
    expect_text("1e-37", NULL);
    expect_text("1e36", NULL);
    expect_text("1e99999999999999999999", NULL);
    expect_text("1e-99999999999999999999", NULL);
}

static void sums_and_products_are_exact(void **state) {
    (void)state;
    SuArena arena = {0};
    ExDecimal tenth, sum = {0}, product = {.digits = 1};
    int order;
    assert_true(ex_decimal("0.1", &tenth));
    for (int i = 0; i < 3; i++) assert_true(ex_decimal_add(sum, tenth, &sum));
    assert_string_equal(ex_decimal_text(&arena, sum), "0.3");
    for (int i = 0; i < 36; i++) assert_true(ex_decimal_multiply(product, tenth, &product));
    assert_false(ex_decimal_multiply(product, tenth, &product));
    ExDecimal low = {.digits = -15, .scale = 1}, high = {.digits = -149, .scale = 2}, huge = {.digits = 1};
    assert_true(ex_decimal_compare(low, high, &order) && order < 0);
    assert_true(ex_decimal_compare(high, low, &order) && order > 0);
    assert_true(ex_decimal_compare(low, low, &order) && order == 0);
    assert_true(ex_decimal("123456789012345678901234567890123456", &huge));
    assert_false(ex_decimal_multiply(huge, huge, &sum));
    assert_false(ex_decimal_compare(huge, (ExDecimal){.digits = 1, .scale = 30}, &order));
    su_arena_free(&arena);
}

static void expect_size(const char *text, ExUnits units, double expected) {
    double got;
    bool ok = ex_parse_size(text, units, &got);
    if (ok != !isnan(expected) || (ok && got != expected))
        fail_msg("'%s': %s, %.17g", text, ok ? "taken" : "refused", ok ? got : 0);
}

static void sizes(void **state) {
    (void)state;
    expect_size("25", EX_NO_UNITS, 25);
    expect_size("1e-1", EX_NO_UNITS, 0.1);
    expect_size("2k", EX_NO_UNITS, NAN);
    expect_size("2k", EX_THOUSANDS, 2e3);
    expect_size("2.5 M", EX_THOUSANDS, 2.5e6);
    expect_size("-3G", EX_BYTES, -3e9);
    expect_size("1KiB", EX_THOUSANDS, NAN);
    expect_size("1KiB", EX_BYTES, 1024);
    expect_size("500 MiB", EX_BYTES, 500.0 * 1024 * 1024);
    expect_size("1.5  GiB", EX_BYTES, 1.5 * 1024 * 1024 * 1024);
    static const char *const wrong[] = {"",      "k",     " 5",      "5 ",  "5 kib", "5 KB",  "5 K",  "5 MiBs", "5k k", "0x5",
                                        "1_000", "1e999", "1e308 G", "nan", "inf",   "00005", "5\tk", "1e",     "1e5e"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) expect_size(wrong[i], EX_BYTES, NAN);
    char digits[100] = "";
    memset(digits, '1', 80);
    expect_size(digits, EX_BYTES, NAN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_of_decimals),
        cmocka_unit_test(sums_and_products_are_exact),
        cmocka_unit_test(sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
