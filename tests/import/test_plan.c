/* Plans: orders of rows, views of tensors, blocks that repeat, and configs that say what was read of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "import/folder.h"
#include "import/plan.h"

/* ---- rows */

static void test_orders_are_inverses(void **unused) {
    (void)unused;
    const ImOrder from = {IM_FROM_PAIRS, 8}, to = {IM_TO_PAIRS, 8};
    const uint64_t halves[] = {0, 2, 4, 6, 1, 3, 5, 7};
    for (uint64_t row = 0; row < 24; row++) {
        assert_int_equal(im_order_row(&from, row), row / 8 * 8 + halves[row % 8]);
        assert_int_equal(im_order_row(&to, im_order_row(&from, row)), row);
        assert_int_equal(im_order_row(&from, im_order_row(&to, row)), row);
    }
}

static void test_a_view_turns_rows_and_takes_logarithms(void **unused) {
    (void)unused;
    float data[12], out[12];
    const int64_t shape[] = {4, 3};
    SuDiags diags = {0};
    ImSource source = {.path = "test"};
    for (int i = 0; i < 12; i++) data[i] = -expf((float)i);
    ImTensor *t = im_source_add(&source, "t", "file", NULL, IM_F32, shape, 2, (const uint8_t *)data, &diags);
    t->order = (ImOrder){IM_FROM_PAIRS, 4};
    t->minus_exp = true;
    im_read(t, 2, 9, out); /* from the end of row 0 to the middle of row 3 */
    const float expected[] = {2, 6, 7, 8, 3, 4, 5, 9, 10};
    for (int i = 0; i < 9; i++) assert_float_equal(out[i], expected[i], 1e-5f);
    assert_ptr_equal(im_row(t, 1), (const uint8_t *)data + 6 * sizeof(float));
    su_arena_free(&source.arena);
    su_diags_free(&diags);
}

static void test_what_no_tensor_can_be_is_refused(void **unused) {
    (void)unused;
    const int64_t huge[] = {1 << 30, 1 << 30}, none[] = {3, 0}, five[] = {1, 1, 1, 1, 1};
    SuDiags diags = {0};
    ImSource source = {.path = "test"};
    assert_null(im_source_add(&source, "huge", "file", NULL, IM_F32, huge, 2, NULL, &diags));
    assert_null(im_source_add(&source, "none", "file", NULL, IM_F32, none, 2, NULL, &diags));
    assert_null(im_source_add(&source, "five", "file", NULL, IM_F32, five, 5, NULL, &diags));
    const ImTensor *number = im_source_add(&source, "number", "file", NULL, IM_F32, none, 0, NULL, &diags);
    assert_int_equal(number->rows * number->K, 1);
    assert_int_equal(diags.errors, 3);
    assert_true(im_source_settle(&source, &diags));
    assert_false(im_source_all_taken(&source, &diags));
    im_source_add(&source, "number", "other", NULL, IM_F32, none, 0, NULL, &diags);
    assert_false(im_source_settle(&source, &diags));
    su_arena_free(&source.arena);
    su_diags_free(&diags);
}

/* ---- the spec */

/* The stack of blocks whose d_ff are the digits of `widths`. */
static const char *stack_of(const char *widths, SuText *out) {
    static const float norm[1] = {1};
    const int64_t shape[] = {1};
    SuDiags diags = {0};
    ImSource source = {.path = "test"};
    ImPlan plan = {.source = &source, .diags = &diags};
    for (size_t i = 0; widths[i]; i++) {
        char name[48];
        snprintf(name, sizeof name, "%zu.norm.weight", i);
        im_source_add(&source, name, "file", NULL, IM_F32, shape, 1, (const uint8_t *)norm, &diags);
    }
    assert_true(im_source_settle(&source, &diags));
    for (size_t i = 0; widths[i]; i++) {
        char from[32];
        snprintf(from, sizeof from, "%zu.", i);
        im_key(im_block(&plan, "mlp", from, "norm"), "d_ff", "%c", widths[i]);
    }
    assert_false(plan.failed);
    im_plan_print(&plan, "head", NULL, out);
    im_plan_free(&plan);
    su_arena_free(&source.arena);
    su_diags_free(&diags);
    return strstr(out->text, "stack:\n") + strlen("stack:\n");
}

static void test_blocks_that_repeat_are_folded(void **unused) {
    (void)unused;
    static const struct {
        const char *widths, *expected;
    } cases[] = {
        {"1", "  - mlp: {d_ff: 1}\n"},
        {"11", "  - repeat: 2\n    blocks:\n      - mlp: {d_ff: 1}\n"},
        {"1212123", "  - repeat: 3\n    blocks:\n      - mlp: {d_ff: 1}\n      - mlp: {d_ff: 2}\n  - mlp: {d_ff: 3}\n"},
        {"31111", "  - mlp: {d_ff: 3}\n  - repeat: 4\n    blocks:\n      - mlp: {d_ff: 1}\n"},
        {"11121112", "  - repeat: 2\n    blocks:\n      - mlp: {d_ff: 1}\n      - mlp: {d_ff: 1}\n      - mlp: {d_ff: 1}\n      - "
                     "mlp: {d_ff: 2}\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        SuText text = {0};
        assert_string_equal(stack_of(cases[i].widths, &text), cases[i].expected);
        su_text_free(&text);
    }
}

/* ---- configs */

typedef struct Opened {
    SuJson json;
    SuArena arena;
    SuDiags diags;
    ImConfig *config;
} Opened;

static void open_config(const char *text, Opened *out) {
    *out = (Opened){0};
    char *copy = su_strdup(&out->arena, text);
    assert_true(im_json_parse(copy, strlen(copy), "config.json", &out->json, &out->diags));
    out->config = im_config(out->json.root, "config.json", &out->arena, &out->diags);
}

static void close_config(Opened *opened) {
    su_json_free(&opened->json);
    su_arena_free(&opened->arena);
    su_diags_free(&opened->diags);
}

static void test_values_in_all_spellings(void **unused) {
    (void)unused;
    Opened o;
    double pair[2];
    open_config("{\"a\": [0.0, Infinity], \"b\": {\"__float__\": \"-Infinity\"}, \"c\": -Infinity, \"d\": \"an \\\"Infinity\\\"\", "
                "\"e\": null}",
                &o);
    assert_true(im_reals(o.config, "a", 2, pair) && pair[0] == 0 && isinf(pair[1]));
    assert_true(isinf(im_real(o.config, "b")) && im_real(o.config, "b") < 0 && im_real(o.config, "c") < -1e300);
    assert_string_equal(im_text(o.config, "d"), "an \"Infinity\"");
    assert_false(im_has(o.config, "e"));
    assert_int_equal(im_int_or(o.config, "e", 7), 7);
    im_config_all_used(o.config);
    assert_false(im_config_failed(o.config));
    close_config(&o);
}

static void test_what_is_wrong_is_said_and_does_no_harm(void **unused) {
    (void)unused;
    static const char *const texts[] = {"{\"a\": 1.5}",   "{\"a\": -1}",  "{\"a\": 0}",        "{\"a\": 1e10}",
                                        "{\"a\": \"1\"}", "{\"a\": [1]}", "{\"a\": Infinity}", "{}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        Opened o;
        open_config(texts[i], &o);
        assert_int_equal(im_int(o.config, "a"), 1);
        assert_true(im_config_failed(o.config));
        assert_int_equal(o.diags.errors, 1);
        assert_int_equal(strncmp(o.diags.items[0].message, "a: ", 3), 0);
        close_config(&o);
    }
}

static void test_keys_that_nobody_read_are_errors(void **unused) {
    (void)unused;
    Opened o;
    open_config("{\"architectures\": [], \"a\": 1, \"in\": {\"b\": 2, \"architectures\": 3}, \"c\": null}", &o);
    assert_int_equal(im_int(o.config, "a"), 1);
    assert_int_equal(im_int(im_map(o.config, "in"), "b"), 2);
    assert_ptr_equal(im_map(o.config, "in"), im_map(o.config, "in"));
    im_config_all_used(o.config);
    assert_int_equal(o.diags.errors, 1); /* what is harmless at the top is not so within; null says nothing */
    close_config(&o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orders_are_inverses),
        cmocka_unit_test(test_a_view_turns_rows_and_takes_logarithms),
        cmocka_unit_test(test_what_no_tensor_can_be_is_refused),
        cmocka_unit_test(test_blocks_that_repeat_are_folded),
        cmocka_unit_test(test_values_in_all_spellings),
        cmocka_unit_test(test_what_is_wrong_is_said_and_does_no_harm),
        cmocka_unit_test(test_keys_that_nobody_read_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
