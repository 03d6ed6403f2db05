/* frontend/yaml.c: the tree, its places, merges and aliases; scalars.c. */
#include "frontend/keys.h"
#include "frontend/yaml.h"
#include "tests/frontend/helpers.h"

typedef struct Tree {
    SuArena arena;
    SuSource source;
    SuDiags diags;
    FeNode *root;
} Tree;

static void parse(Tree *t, const char *text) {
    *t = (Tree){.source = {"t.yaml", text, strlen(text)}};
    t->root = fe_yaml_parse(&t->arena, &t->source, 0, &t->diags);
}

static void clear(Tree *t) {
    su_arena_free(&t->arena);
    su_diags_free(&t->diags);
}

static const char *text_at(const FeNode *map, const char *key) {
    const FePair *pair = fe_node_find(map, key);
    return pair ? pair->value->text : NULL;
}

static void assert_span(SuSpan span, unsigned line, unsigned column, unsigned length) {
    assert_int_equal(span.line, line);
    assert_int_equal(span.column, column);
    assert_int_equal(span.length, length);
}

static void places_count_characters(void **state) {
    (void)state;
    Tree t;
    parse(&t, "\xEF\xBB\xBF# c\n\"caf\xC3\xA9\": [one, 'zw\xC3\xB6lf']\nm: {a: b}\n");
    assert_non_null(t.root);
    const FePair *first = &t.root->pairs[0];
    assert_span(first->key_span, 2, 1, 6);
    assert_span(first->value->span, 2, 9, 14);
    assert_span(first->value->items[1]->span, 2, 15, 7);
    assert_false(first->value->items[1]->plain);
    assert_span(fe_node_find(t.root->pairs[1].value, "a")->value->span, 3, 8, 1);
    clear(&t);
}

static void a_byte_order_mark_is_no_column(void **state) {
    (void)state;
    Tree t;
    parse(&t, "\xEF\xBB\xBFkey: value\n");
    assert_span(t.root->pairs[0].key_span, 1, 1, 3);
    clear(&t);
}

static void merged_keys_are_weaker_than_written_ones(void **state) {
    (void)state;
    Tree t;
    parse(&t, "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nm: {z: 5, <<: [*a, *b]}\nn:\n  <<: *a\n  x: 9\n");
    assert_int_equal(t.diags.errors, 0);
    const FeNode *m = fe_node_find(t.root, "m")->value, *n = fe_node_find(t.root, "n")->value;
    assert_int_equal(m->count, 3);
    assert_string_equal(text_at(m, "x"), "1");
    assert_string_equal(text_at(m, "y"), "2"); /* the first of the list wins */
    assert_string_equal(text_at(m, "z"), "5");
    assert_int_equal(n->count, 2);
    assert_string_equal(text_at(n, "x"), "9");
    assert_string_equal(text_at(n, "y"), "2");
    clear(&t);
}

static void aliases_are_copies(void **state) {
    (void)state;
    Tree t;
    parse(&t, "a: &a {x: [1, 2]}\nb: *a\n&k key: 3\n*k : 4\n");
    assert_int_equal(t.diags.errors, 1); /* the alias of a key is that key: a duplicate */
    const FeNode *a = fe_node_find(t.root, "a")->value, *b = fe_node_find(t.root, "b")->value;
    assert_ptr_not_equal(a, b);
    assert_ptr_not_equal(fe_node_find(a, "x")->value, fe_node_find(b, "x")->value);
    assert_string_equal(fe_node_find(b, "x")->value->items[1]->text, "2");
    clear(&t);
}

static void an_anchor_may_be_used_again(void **state) {
    (void)state;
    Tree t;
    parse(&t, "a: &a 1\nb: *a\nc: &a 2\nd: *a\n");
    assert_string_equal(text_at(t.root, "b"), "1");
    assert_string_equal(text_at(t.root, "d"), "2");
    clear(&t);
}

static void only_an_unquoted_nothing_is_empty(void **state) {
    (void)state;
    Tree t;
    parse(&t, "a:\nb: ''\nc: ~\nd: |\n  \n");
    assert_true(fe_node_empty(fe_node_find(t.root, "a")->value));
    assert_false(fe_node_empty(fe_node_find(t.root, "b")->value));
    assert_false(fe_node_empty(fe_node_find(t.root, "c")->value));
    assert_false(fe_node_empty(fe_node_find(t.root, "d")->value));
    clear(&t);
}

static void integers_are_decimal_digits(void **state) {
    (void)state;
    static const char *const wrong[] = {"",    "-1",  "+1", "01", "1_0",      "0x1",
                                        "1.0", "1e3", " 1", "1 ", "\xD9\xA1", "123456789012345678901"};
    int64_t value;
    assert_true(fe_parse_integer("0", &value));
    assert_int_equal(value, 0);
    assert_true(fe_parse_integer("2147483648", &value));
    assert_int_equal(value, 2147483648);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_false(fe_parse_integer(wrong[i], &value));
}

static void reals_are_decimal(void **state) {
    (void)state;
    static const char *const wrong[] = {"",   ".",   "-",    "e5",  "1e",   "1e+", "0x1", "1_0",
                                        "01", "inf", ".inf", "nan", "1.0f", "1 ",  "1..0"};
    static const struct {
        const char *text;
        double value;
    } right[] = {{"0", 0},  {"1e-5", 1e-5},   {"1.0e-5", 1e-5}, {"1E5", 1e5},    {".5", 0.5},
                 {"5.", 5}, {"-0.25", -0.25}, {"+2", 2},        {"10000.0", 1e4}};
    double value;
    for (size_t i = 0; i < sizeof right / sizeof *right; i++) {
        assert_true(fe_parse_real(right[i].text, &value));
        assert_true(value == right[i].value);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) assert_false(fe_parse_real(wrong[i], &value));
}

static void expand_is_multiplied_exactly(void **state) {
    (void)state;
    static const struct {
        const char *expand;
        int64_t by, product;
    } whole[] = {
        {"2", 768, 1536},
        {"2.0", 768, 1536},
        {"1.5", 64, 96},
        {"0.1", 10, 1},
        {"0.3", 10, 3},
        {"2.6666666666666666666666", 3, 0},
        {"1e3", 7, 7000},
        {"0.015625", 64, 1},
        {"15.625e-2", 64, 10},
        {"9.31322574615478515625e-10", 1 << 30, 1},
        {"1.000000000931322574615478515625", 1 << 30, (1 << 30) + 1},
        {"0.00000000000000000001e20", 5, 5},
        {"100e-2", 3, 3},
        {"1.1", 64, 0},
        {"2.00000000000000000000000000000000000000000000000001", 64, 0},
        {"1e-400", 64, 0},
        {"0.01", 99, 0},
        {"1.0000000000000000000000000000000000000000000000000000", 64, 64},
    };
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        int64_t product = 0;
        bool is_whole, ok = fe_parse_scaled(whole[i].expand, whole[i].by, &product, &is_whole);
        assert_int_equal(ok, whole[i].product != 0);
        assert_int_equal(is_whole, whole[i].product != 0);
        if (ok) assert_int_equal(product, whole[i].product);
    }
}

static void expand_past_31_bits_is_told_apart(void **state) {
    (void)state;
    int64_t product;
    bool whole;
    assert_false(fe_parse_scaled("1e9", 64, &product, &whole));
    assert_true(whole);
    assert_false(fe_parse_scaled("1e99999999999999999999", 64, &product, &whole));
    assert_true(whole);
    assert_true(fe_parse_scaled("2147483647", 1, &product, &whole));
    assert_false(fe_parse_scaled("2147483648", 1, &product, &whole));
    assert_true(whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(places_count_characters),
        cmocka_unit_test(a_byte_order_mark_is_no_column),
        cmocka_unit_test(merged_keys_are_weaker_than_written_ones),
        cmocka_unit_test(aliases_are_copies),
        cmocka_unit_test(an_anchor_may_be_used_again),
        cmocka_unit_test(only_an_unquoted_nothing_is_empty),
        cmocka_unit_test(integers_are_decimal_digits),
        cmocka_unit_test(reals_are_decimal),
        cmocka_unit_test(expand_is_multiplied_exactly),
        cmocka_unit_test(expand_past_31_bits_is_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
