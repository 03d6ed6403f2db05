/* Points: numbers, twins, exclusion, what has no value, and the edits that make a spec. */
#include "tests/explore/helpers.h"

#define HEAD "mossc_space: 1\nname: t\nspec: s.yaml\nobjectives: [decode_ms]\n"

typedef struct Counts {
    uint64_t of[EX_INVALID + 1];
} Counts;

static Counts count(const ExSpace *space) {
    Counts counts = {0};
    uint32_t choices[EX_MAX_AXES];
    ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
    const char *why;
    const ExExpr *where;
    for (uint64_t index = 0; index < space->n_indices; index++) {
        ex_choices(space, index, choices);
        assert_int_equal(ex_index(space, choices), index);
        counts.of[ex_point(space, choices, values, derived, &why, &where)]++;
    }
    return counts;
}

static void expect_counts(const char *text, uint64_t points, uint64_t twins, uint64_t excluded, uint64_t invalid) {
    Parsed p = parse_good(text);
    Counts c = count(&p.space);
    if (c.of[EX_POINT] != points || c.of[EX_TWIN] != twins || c.of[EX_EXCLUDED] != excluded || c.of[EX_INVALID] != invalid)
        fail_msg("%s: %llu points, %llu twins, %llu excluded, %llu invalid", text, (unsigned long long)c.of[EX_POINT],
                 (unsigned long long)c.of[EX_TWIN], (unsigned long long)c.of[EX_EXCLUDED], (unsigned long long)c.of[EX_INVALID]);
    free_parsed(&p);
}

static void the_first_axis_is_the_slowest(void **state) {
    (void)state;
    Parsed p = parse_good(example);
    uint32_t choices[6];
    ex_choices(&p.space, 0, choices);
    for (size_t i = 0; i < 6; i++) assert_int_equal(choices[i], 0);
    ex_choices(&p.space, 1, choices);
    assert_int_equal(choices[5], 1);
    ex_choices(&p.space, 3, choices);
    assert_true(choices[5] == 0 && choices[4] == 1);
    ex_choices(&p.space, 720, choices);
    assert_true(choices[0] == 1 && choices[1] == 0);
    ex_choices(&p.space, 2879, choices);
    static const uint32_t last[] = {3, 4, 3, 2, 3, 2};
    assert_memory_equal(choices, last, sizeof last);
    free_parsed(&p);
}

static void indices_of_the_largest_space(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, HEAD "axes:\n");
    for (int i = 0; i < 31; i++) su_text_add(&text, "  - {name: a%d, path: p%d, values: [0, 1, 2, 3]}\n", i, i);
    Parsed p = parse_good(text.text);
    uint32_t choices[31];
    assert_int_equal(p.space.n_indices, 1ull << 62);
    for (uint64_t index = 0; index < p.space.n_indices; index = index * 3 + 1) {
        ex_choices(&p.space, index, choices);
        assert_int_equal(choices[30], index % 4);
        assert_int_equal(ex_index(&p.space, choices), index);
    }
    su_text_free(&text);
    free_parsed(&p);
}

/* Of 2880: where experts is none (1 of 4), 2 of 3 k are twins: 480. k <= experts always; depth * d > 20000 for 24 with 896 and 1024:
 * 2 of 20 pairs, of the 2400 that are left: 240. */
static void the_points_of_the_example(void **state) {
    (void)state;
    expect_counts(example, 2160, 480, 240, 0);
}

static void an_axis_that_is_off_counts_once(void **state) {
    (void)state;
    /* b is on for a = 1; c is on for b = 5, which b also is where it is off */
    expect_counts(HEAD "axes:\n"
                       "  - {name: c, path: c, values: [1, 2, 3], when: b == 5}\n"
                       "  - {name: b, path: b, values: [5, 6], when: a == 1}\n"
                       "  - {name: a, path: a, values: [1, 2]}\n",
                  3 + 1 + 3, 2 + 3, 0, 0);
    expect_counts(HEAD "axes: [{name: a, path: a, values: [1, 2, 3], when: false}]\n", 1, 2, 0, 0);
}

static void rules_exclude(void **state) {
    (void)state;
#define TWO_AXES HEAD "axes:\n  - {name: a, path: a, values: [1, 2, 3]}\n  - {name: b, path: b, values: [none, 2, 3]}\n"
    expect_counts(TWO_AXES "require: [a == b]\n", 2, 0, 7, 0);
    expect_counts(TWO_AXES "require: [a <= b]\n", 5, 0, 4, 0);
    expect_counts(TWO_AXES "require: [a <= b or b == none, a > 1]\n", 5, 0, 4, 0);
    expect_counts(TWO_AXES "require: [b != none, a * b < 9]\n", 5, 0, 4, 0);
}

static void what_has_no_value_is_invalid(void **state) {
    (void)state;
    expect_counts(TWO_AXES "require: [a * b < 9]\n", 5, 0, 1, 3);
    expect_counts(TWO_AXES "derive: [{path: c, value: 6 / (a - 2)}]\n", 6, 0, 0, 3);
    /* excluded before it is derived */
    expect_counts(TWO_AXES "require: [a != 2]\nderive: [{path: c, value: 6 / (a - 2)}]\n", 6, 0, 3, 0);
    /* a condition without a value: the axis is off, once */
    expect_counts(HEAD
                  "axes:\n  - {name: a, path: a, values: [0, 1]}\n  - {name: b, path: b, values: [1, 2, 3], when: 1 / a == 1}\n",
                  3, 2, 0, 1);
}

static void why_and_where(void **state) {
    (void)state;
    Parsed p = parse_good(TWO_AXES "require: [a > 0, a * b < 9]\nderive: [{path: c, value: a / (a - 1)}]\n");
    uint32_t choices[2] = {0, 0};
    ExValue values[2], derived[1];
    const char *why;
    const ExExpr *where;
    assert_int_equal(ex_point(&p.space, choices, values, derived, &why, &where), EX_INVALID);
    assert_string_equal(why, "none is no number");
    assert_ptr_equal(where, p.space.require[1]);
    choices[1] = 1;
    assert_int_equal(ex_point(&p.space, choices, values, derived, &why, &where), EX_INVALID);
    assert_string_equal(why, "division by zero");
    assert_ptr_equal(where, p.space.derive[0].value);
    choices[0] = 2;
    assert_int_equal(ex_point(&p.space, choices, values, derived, &why, &where), EX_POINT);
    assert_true(values[0].number == 3 && values[1].number == 2 && derived[0].number == 1.5);
    free_parsed(&p);
}

static void a_rule_may_turn_out_to_be_no_truth_value(void **state) {
    (void)state;
    Parsed p = parse_good(HEAD "axes: [{name: a, path: a, values: [true, false, 3]}]\nrequire: [a]\n");
    Counts c = count(&p.space);
    assert_true(c.of[EX_POINT] == 1 && c.of[EX_EXCLUDED] == 1 && c.of[EX_INVALID] == 1);
    free_parsed(&p);
}

/* ---- edits */

static void print_node(const FeNode *node, SuText *out) {
    if (node->kind == FE_SCALAR) su_text_add(out, node->plain ? "%s" : "'%s'", node->text);
    if (node->kind == FE_MAPPING) su_text_add(out, "{");
    if (node->kind == FE_SEQUENCE) su_text_add(out, "[");
    for (size_t i = 0; i < node->count; i++) {
        if (i) su_text_add(out, ", ");
        if (node->kind == FE_MAPPING) su_text_add(out, "%s: ", node->pairs[i].key);
        print_node(node->kind == FE_MAPPING ? node->pairs[i].value : node->items[i], out);
    }
    if (node->kind == FE_MAPPING) su_text_add(out, "}");
    if (node->kind == FE_SEQUENCE) su_text_add(out, "]");
}

/* "PATH = VALUE\n" of each edit of a point; += where it is merged. */
static void expect_edits(const ExSpace *space, uint64_t index, bool with_off, const char *expected) {
    SuArena arena = {0};
    SuText text = {0};
    uint32_t choices[EX_MAX_AXES];
    ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
    const char *why;
    const ExExpr *where;
    size_t n_edits;
    ex_choices(space, index, choices);
    assert_int_equal(ex_point(space, choices, values, derived, &why, &where), EX_POINT);
    const FeEdit *edits = ex_edits(space, choices, derived, with_off, &arena, &n_edits);
    for (size_t i = 0; i < n_edits; i++) {
        assert_true(edits[i].span.line > 0 && edits[i].value->span.line > 0);
        su_text_add(&text, "%s %s ", edits[i].path, edits[i].merge ? "+=" : "=");
        print_node(edits[i].value, &text);
        su_text_add(&text, "\n");
    }
    if (strcmp(text.text, expected) != 0)
        fail_msg("point %llu: expected\n%sgot\n%s", (unsigned long long)index, expected, text.text);
    su_text_free(&text);
    su_arena_free(&arena);
}

static void edits_of_the_example(void **state) {
    (void)state;
    Parsed p = parse_good(example);
    /* none takes the place of the map; k is off */
    expect_edits(&p.space, 0, true,
                 "stack[0].repeat = 8\n"
                 "d_model = 512\n"
                 "stack[0].blocks[0].ssm.experts = none\n"
                 "stack[0].blocks[1].mlp.experts = none\n"
                 "defaults.router.top_k = 1\n"
                 "stack[0].blocks[0].ssm.d_state = 8\n"
                 "weights.dtype = bf16\n"
                 "stack[0].blocks[1].mlp.d_ff = 1408\n");
    expect_edits(&p.space, 0, false,
                 "stack[0].repeat = 8\n"
                 "d_model = 512\n"
                 "stack[0].blocks[0].ssm.experts = none\n"
                 "stack[0].blocks[1].mlp.experts = none\n"
                 "stack[0].blocks[0].ssm.d_state = 8\n"
                 "weights.dtype = bf16\n"
                 "stack[0].blocks[1].mlp.d_ff = 1408\n");
    assert_true(ex_has_off(&p.space, (const uint32_t[EX_MAX_AXES]){0}));
    static const uint32_t choices[] = {1, 2, 2, 1, 3, 2};
    expect_edits(&p.space, ex_index(&p.space, choices), true,
                 "stack[0].repeat = 12\n"
                 "d_model = 768\n"
                 "stack[0].blocks[0].ssm.experts += {count: 8}\n"
                 "stack[0].blocks[1].mlp.experts += {count: 8}\n"
                 "defaults.router.top_k = 2\n"
                 "stack[0].blocks[0].ssm.d_state = 64\n"
                 "weights.dtype = q4\n"
                 "stack[0].blocks[1].mlp.d_ff = 2048\n");
    free_parsed(&p);
}

static void a_template_has_the_value_anywhere(void **state) {
    (void)state;
    Parsed p =
        parse_good(HEAD "axes:\n"
                        "  - {name: a, path: a, values: [1, [x, {y: 2}], none], set: {b: {c: [$, 3, '$'], d: 4}, e: $, f: [5]}}\n"
                        "  - {name: g, path: g, values: [{h: 1}, \"none\"]}\n");
    expect_edits(&p.space, 0, true, "a += {b: {c: [1, 3, '$'], d: 4}, e: 1, f: [5]}\ng = {h: 1}\n");
    expect_edits(&p.space, 3, true, "a += {b: {c: [[x, {y: 2}], 3, '$'], d: 4}, e: [x, {y: 2}], f: [5]}\ng = 'none'\n");
    expect_edits(&p.space, 4, true, "a = none\ng = {h: 1}\n");
    /* the template is as it was */
    expect_edits(&p.space, 0, true, "a += {b: {c: [1, 3, '$'], d: 4}, e: 1, f: [5]}\ng = {h: 1}\n");
    free_parsed(&p);
}

static void derived_values_as_text(void **state) {
    (void)state;
    Parsed p = parse_good(HEAD "axes: [{name: a, path: a, values: [3]}, {name: w, path: w, values: [q8]}]\n"
                               "derive:\n"
                               "  - {path: b, value: a * 1e6}\n"
                               "  - {path: c, value: a / 4}\n"
                               "  - {path: d, value: a > 2}\n"
                               "  - {path: e, value: w}\n"
                               "  - {path: f, value: none}\n"
                               "  - {path: g, value: -0 * a}\n"
                               "  - {path: h, value: 1 / a}\n"
                               "  - {path: i, value: 9007199254740991}\n");
    expect_edits(
        &p.space, 0, true,
        "a = 3\nw = q8\nb = 3000000\nc = 0.75\nd = true\ne = q8\nf = none\ng = 0\nh = 0.3333333333333333\ni = 9007199254740991\n");
    free_parsed(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_axis_is_the_slowest),
        cmocka_unit_test(indices_of_the_largest_space),
        cmocka_unit_test(the_points_of_the_example),
        cmocka_unit_test(an_axis_that_is_off_counts_once),
        cmocka_unit_test(rules_exclude),
        cmocka_unit_test(what_has_no_value_is_invalid),
        cmocka_unit_test(why_and_where),
        cmocka_unit_test(a_rule_may_turn_out_to_be_no_truth_value),
        cmocka_unit_test(edits_of_the_example),
        cmocka_unit_test(a_template_has_the_value_anywhere),
        cmocka_unit_test(derived_values_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
