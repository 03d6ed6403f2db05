/* Spaces as they are read: every field, places and hints of messages, help and schema. What is refused is in wrong/. */
#include <math.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "explore/keys.h"
#include "tests/explore/helpers.h"

#define HEAD "mossc_space: 1\nname: t\nspec: s.yaml\nobjectives: [decode_ms]\n"
#define AXIS "axes: [{name: d, path: d_model, values: [1, 2]}]\n"

static void the_example_is_read(void **state) {
    (void)state;
    Parsed p = parse_good(example);
    const ExSpace *s = &p.space;
    assert_string_equal(s->name, "phone-500mb");
    assert_string_equal(s->spec, "dir/mossnet-8x200m-outputs.yaml");
    assert_int_equal(s->spec_span.line, 3);
    assert_int_equal(s->n_axes, 6);
    assert_int_equal(s->n_indices, 4 * 5 * 4 * 3 * 4 * 3);
    static const char *const names[] = {"depth", "d", "experts", "k", "n", "dtype"};
    static const size_t counts[] = {4, 5, 4, 3, 4, 3};
    for (size_t i = 0; i < 6; i++) {
        assert_string_equal(s->axes[i].name, names[i]);
        assert_int_equal(s->axes[i].n_values, counts[i]);
        assert_int_equal(s->axes[i].when != NULL, i == 3);
        assert_int_equal(s->axes[i].set != NULL, i == 2);
        assert_false(s->axes[i].opaque);
    }
    assert_int_equal(s->axes[2].n_targets, 2);
    assert_string_equal(s->axes[2].targets[1].path, "stack[0].blocks[1].mlp.experts");
    assert_int_equal(s->axes[2].targets[1].span.line, 9);
    assert_int_equal(s->axes[2].values[0].type, EX_NONE);
    assert_true(s->axes[2].values[3].type == EX_NUMBER && s->axes[2].values[3].number == 16);
    assert_string_equal(s->axes[5].values[1].word, "q8");
    assert_int_equal(s->n_derive, 1);
    assert_string_equal(s->derive[0].target.path, "stack[0].blocks[1].mlp.d_ff");
    assert_string_equal(ex_text(s->derive[0].value), "64 * ceil(8 * d / 3 / 64)");
    assert_int_equal(s->n_require, 2);
    assert_int_equal(s->n_devices, 2);
    assert_string_equal(s->devices[0], "galaxy-s24-ultra");
    assert_int_equal(s->device_spans[1].line, 17);
    assert_true(s->workload.prefill == 512 && s->workload.decode == 128 && s->workload.batch == 1 && s->workload.threads == 2);
    assert_int_equal(s->n_budgets, 2);
    assert_int_equal(s->budgets[0].metric, EX_METRIC_WEIGHT_BYTES);
    assert_true(s->budgets[0].low == -INFINITY && s->budgets[0].high == 500 * 1048576.0);
    assert_int_equal(s->n_objectives, 2);
    assert_true(s->objectives[0].metric == EX_METRIC_ACTIVE_PARAMETERS && s->objectives[0].maximise);
    assert_true(s->objectives[1].metric == EX_METRIC_DECODE_MS && !s->objectives[1].maximise);
    assert_string_equal(s->quality_command, "python -m mossc.train {spec} --tokens 2e7 --report bits_per_byte");
    assert_null(s->quality_file);
    assert_int_equal(s->seed, 1);
    free_parsed(&p);
}

static void what_is_absent_has_a_default(void **state) {
    (void)state;
    Parsed p = parse_good(HEAD AXIS);
    const ExSpace *s = &p.space;
    assert_int_equal(s->n_devices, 1);
    assert_string_equal(s->devices[0], "host");
    assert_true(s->workload.prefill == 512 && s->workload.decode == 128 && s->workload.batch == 1 && s->workload.threads == 0);
    assert_int_equal(s->seed, 0);
    assert_int_equal(s->n_budgets + s->n_derive + s->n_require, 0);
    assert_true(!s->quality_command && !s->quality_file);
    free_parsed(&p);
}

static void files_are_relative_to_the_space(void **state) {
    (void)state;
    static const char text[] = HEAD AXIS "devices: [host, a.yaml, /b/c.yaml]\nquality: {file: q.csv}\n";
    Parsed p = parse_good(text);
    assert_string_equal(p.space.devices[0], "host");
    assert_string_equal(p.space.devices[1], "dir/a.yaml");
    assert_string_equal(p.space.devices[2], "/b/c.yaml");
    assert_string_equal(p.space.quality_file, "dir/q.csv");
    ex_space_free(&p.space);
    assert_true(ex_space_parse("t.yaml", text, strlen(text), &p.space, &p.diags));
    assert_string_equal(p.space.spec, "s.yaml");
    free_parsed(&p);
}

static void budgets_have_ends_and_units(void **state) {
    (void)state;
    Parsed p =
        parse_good(HEAD AXIS "quality: {file: q}\nbudgets: {flops: 3.5G, state_bytes: [1KiB, none], decode_ms: [1e-1, 2], quality: "
                             "-3, parameters: [500 k, 1 M]}\n");
    static const ExMetric metrics[] = {EX_METRIC_FLOPS, EX_METRIC_STATE_BYTES, EX_METRIC_DECODE_MS, EX_METRIC_QUALITY,
                                       EX_METRIC_PARAMETERS};
    static const double low[] = {-INFINITY, 1024, 0.1, -INFINITY, 5e5}, high[] = {3.5e9, INFINITY, 2, -3, 1e6};
    assert_int_equal(p.space.n_budgets, 5);
    for (size_t i = 0; i < 5; i++) {
        const ExBudget *b = &p.space.budgets[i];
        if (b->metric != metrics[i] || b->low != low[i] || b->high != high[i]) fail_msg("budget %zu: [%g, %g]", i, b->low, b->high);
    }
    free_parsed(&p);
}

/* The values of a row, with blanks between them. */
static void expect_row(const char *row, const char *expected) {
    SuText text = {0}, got = {0};
    su_text_add(&text, HEAD "axes: [{name: a, path: p, %s}]\n", row);
    Parsed p = parse_good(text.text);
    for (size_t i = 0; i < p.space.axes[0].n_values; i++) {
        const ExValue *value = &p.space.axes[0].values[i];
        assert_true(value->type == EX_NUMBER && value->number == strtod(p.space.axes[0].nodes[i]->text, NULL));
        su_text_add(&got, "%s%s", i ? " " : "", p.space.axes[0].nodes[i]->text);
    }
    assert_string_equal(got.text, expected);
    su_text_free(&text);
    su_text_free(&got);
    free_parsed(&p);
}

static void rows_of_numbers_are_exact(void **state) {
    (void)state;
    expect_row("from: 0.1, to: 1, step: 0.1", "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1");
    expect_row("from: 512, to: 1024, step: 128", "512 640 768 896 1024");
    expect_row("from: 1, to: 6, step: 2", "1 3 5");
    expect_row("from: -1.5, to: 1e0, step: 75e-2", "-1.5 -0.75 0 0.75");
    expect_row("from: 8, to: 64, times: 2", "8 16 32 64");
    expect_row("from: 1, to: 5, times: 1.5", "1 1.5 2.25 3.375");
    expect_row("from: 1e-4, to: 1, times: 10", "0.0001 0.001 0.01 0.1 1");
    expect_row("from: 7, to: 7, step: 1", "7");
}

static void an_axis_has_at_most_4096_values(void **state) {
    (void)state;
    Parsed p = parse_good(HEAD "axes: [{name: a, path: p, from: 1, to: 4096, step: 1}]\n");
    assert_int_equal(p.space.n_indices, EX_MAX_VALUES);
    free_parsed(&p);
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD "axes:\n  - {name: a, path: p, values: [0");
        for (int i = 1; i < EX_MAX_VALUES + more; i++) su_text_add(&text, ", %d", i);
        su_text_add(&text, "]}\n");
        p = parse_space(text.text);
        assert_int_equal(p.ok, !more);
        if (more)
            assert_string_equal(p.diags.items[0].message, "'axis.values': expected a list of 1 to 4096 values, got a list of 4097");
        free_parsed(&p);
        su_text_free(&text);
    }
}

static void a_space_has_at_most_2_to_the_62_points(void **state) {
    (void)state;
    static const char axis[] = "  - {name: a%d, path: p%d, from: 1, to: %d, step: 1}\n";
    for (int more = 0; more < 2; more++) {
        SuText text = {0};
        su_text_add(&text, HEAD "axes:\n");
        for (int i = 0; i < 5; i++) su_text_add(&text, axis, i, i, 4096);
        su_text_add(&text, axis, 5, 5, 4 + more);
        Parsed p = parse_space(text.text);
        assert_int_equal(p.ok, !more);
        if (!more) assert_int_equal(p.space.n_indices, 1ull << 62);
        if (more) assert_messages(&p.diags, "11:26+4: the axes up to 'a5' have more than 2^62 points\n");
        free_parsed(&p);
        su_text_free(&text);
    }
}

static void conditions_are_asked_in_order(void **state) {
    (void)state;
    Parsed p = parse_good(HEAD "axes:\n"
                               "  - {name: a, path: a, values: [1, 2], when: b == 1 and d == 1}\n"
                               "  - {name: b, path: b, values: [1, 2], when: d == 2}\n"
                               "  - {name: c, path: c, values: [1, 2]}\n"
                               "  - {name: d, path: d, values: [1, 2], when: c == 1}\n");
    static const uint32_t order[] = {2, 3, 1, 0};
    assert_memory_equal(p.space.order, order, sizeof order);
    free_parsed(&p);
}

static void equal_words_are_one(void **state) {
    (void)state;
    Parsed p = parse_good(HEAD "axes:\n"
                               "  - {name: a, path: a, values: [q8, bf16, none]}\n"
                               "  - {name: b, path: b, values: [x, 'none', \"q8\"]}\n");
    const ExAxis *a = p.space.axes;
    assert_ptr_equal(a[0].values[0].word, a[1].values[2].word);
    assert_int_equal(a[0].values[2].type, EX_NONE);
    assert_int_equal(a[1].values[1].type, EX_WORD);
    free_parsed(&p);
}

static void lists_and_maps_are_opaque(void **state) {
    (void)state;
    Parsed p = parse_good(HEAD "axes: [{name: a, path: stack, values: [none, [ssm, mlp], {a: 1}]}]\n");
    assert_true(p.space.axes[0].opaque);
    assert_int_equal(p.space.axes[0].values[0].type, EX_NONE);
    free_parsed(&p);
}

/* Places and hints: what wrong/ does not look at. */
static void messages_have_places_and_hints(void **state) {
    (void)state;
    Parsed p = parse_space("mossc_space: 1\nname: t\nspec: s.yaml\n"
                           "axes:\n"
                           "  - {name: depth, pth: a, values: [8, '8', 8.0]}\n"
                           "  - {name: dtype, path: b, values: [q8], when: \"depht == 8\"}\n"
                           "  - {name: n, path: c, from: 1, to: 9, step: '2'}\n"
                           "  - {name: max, path: f, values: x}\n"
                           "budgets: {decodems: 3}\n"
                           "objectives: [-flop]\n"
                           "seeds: 1\n");
    assert_messages(&p.diags,
                    "5:19+3: unknown key 'pth' in axis (did you mean 'path'?)\n"
                    "5:44+3: '8.0' is there twice (its points would be the same)\n"
                    "7:46+3: 'axis.step': expected a finite number, got the quoted text '2' (a quoted number is not a number: "
                    "leave out the quotes)\n"
                    "8:12+3: 'axis.name': max is a word of expressions (choose another name)\n"
                    "8:34+1: 'axis.values': expected a list of 1 to 4096 values, got 'x' (write a list: [ ... ])\n"
                    "9:11+8: unknown metric 'decodems' (did you mean 'decode_ms'?)\n"
                    "10:14+5: unknown metric 'flop' (did you mean 'flops'?)\n"
                    "11:1+5: unknown key 'seeds' (did you mean 'seed'?)\n");
    free_parsed(&p);
    p = parse_space(HEAD
                    "axes:\n  - {name: depth, path: a, values: [8]}\n  - {name: e, path: b, values: [q8], when: \"depht == 8\"}\n"
                    "require: [depth == q8, 'e == q9', \"depth + 1 \\x3d= 9\", depth +]\n");
    assert_messages(&p.diags, "7:45+5: unknown name 'depht' (did you mean 'depth'?)\n"
                              "8:11+11: 'depth' is a number and 'q8' is a word: they are never equal\n"
                              "8:30+2: unknown name 'q9' (did you mean 'q8'?)\n"
                              "8:63+1: expected a value, but the expression ends\n");
    free_parsed(&p);
}

/* Every key, type and metric, in the help and in the schema. */
static void help_and_schema_list_the_keys(void **state) {
    (void)state;
    SuText keys = {0}, schema = {0};
    char text[128];
    ex_print_keys(&keys);
    assert_true(ex_print_schema(&schema));
    for (ExKey key = 0; key < EX_KEY_none; key++) {
        snprintf(text, sizeof text, "\n  %s ", ex_key_row(key)->name);
        assert_non_null(strstr(keys.text, text));
        assert_non_null(strstr(keys.text, ex_key_row(key)->help));
        snprintf(text, sizeof text, "\"%s\":", ex_key_row(key)->name);
        assert_non_null(strstr(schema.text, text));
    }
    for (ExMetric metric = 0; metric < EX_METRIC_COUNT; metric++) {
        ExMetric found;
        snprintf(text, sizeof text, "\"-%s\"", ex_metric(metric)->name);
        assert_non_null(strstr(schema.text, text));
        assert_non_null(strstr(keys.text, ex_metric(metric)->help));
        assert_true(ex_find_metric(ex_metric(metric)->name, &found) && found == metric);
    }
    su_text_free(&keys);
    su_text_free(&schema);
}

/* cJSON_Parse gives nothing for a text that is no JSON: then a key would have no type. */
static void every_type_has_a_schema(void **state) {
    (void)state;
    for (ExKeyType type = 0; type < EX_T_COUNT_OF_TYPES; type++) {
        cJSON *schema = cJSON_Parse(ex_type_schema(type));
        if (!cJSON_IsObject(schema) || !schema->child) fail_msg("%s: %s", ex_type_what(type), ex_type_schema(type));
        cJSON_Delete(schema);
    }
}

static void a_file_that_is_not_there(void **state) {
    (void)state;
    ExSpace space;
    SuDiags diags = {0};
    assert_false(ex_space_load("/nonexistent/space.yaml", &space, &diags));
    assert_non_null(strstr(diags.items[0].message, "No such file"));
    ex_space_free(&space);
    su_diags_free(&diags);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_is_read),
        cmocka_unit_test(what_is_absent_has_a_default),
        cmocka_unit_test(files_are_relative_to_the_space),
        cmocka_unit_test(budgets_have_ends_and_units),
        cmocka_unit_test(rows_of_numbers_are_exact),
        cmocka_unit_test(an_axis_has_at_most_4096_values),
        cmocka_unit_test(a_space_has_at_most_2_to_the_62_points),
        cmocka_unit_test(conditions_are_asked_in_order),
        cmocka_unit_test(equal_words_are_one),
        cmocka_unit_test(lists_and_maps_are_opaque),
        cmocka_unit_test(messages_have_places_and_hints),
        cmocka_unit_test(help_and_schema_list_the_keys),
        cmocka_unit_test(every_type_has_a_schema),
        cmocka_unit_test(a_file_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
