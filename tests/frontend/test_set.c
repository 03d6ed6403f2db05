/* --set PATH=VALUE. Its wrong forms are in tests/errors/set_*.yaml. */
#include "tests/frontend/helpers.h"

static const char base[] = HEAD "x-a: &a {d_state: 4}\n"
                                "define: {moe: {mlp: {d_ff: 8, experts: {count: 4}}}}\n"
                                "stack:\n"
                                "  - repeat: 2\n"
                                "    name: group\n"
                                "    blocks: [{ssm: *a}, moe, ssm]\n"
                                "  - name: last\n"
                                "    ssm: *a\n";

static Loaded set(const char *one, const char *two) {
    const char *const sets[] = {one, two};
    return load_with(base, sets, two ? 2 : 1);
}

static void a_key_is_replaced_or_added(void **state) {
    (void)state;
    Loaded l = set("d_model=128", "norm.eps=1e-3");
    assert_true(l.ok);
    assert_int_equal(l.spec.d_model, 128);
    assert_true(l.spec.norm.eps == 1e-3);
    unload(&l);
}

static void a_define_is_reached_by_its_name(void **state) {
    (void)state;
    Loaded l = set("define.moe.mlp.experts.count=16", NULL);
    assert_true(l.ok);
    assert_int_equal(l.spec.blocks[1].experts.count, 16);
    assert_int_equal(l.spec.blocks[4].experts.count, 16);
    unload(&l);
}

static void items_are_reached_by_index_and_by_name(void **state) {
    (void)state;
    Loaded l = set("stack[group].blocks[0].ssm.d_state=7", "stack[1].ssm.d_state=9");
    assert_true(l.ok);
    assert_int_equal(V(l.spec.blocks[0], ssm, d_state)->integer, 7);
    assert_int_equal(V(l.spec.blocks[6], ssm, d_state)->integer, 9); /* an alias is a copy: the other place keeps its own */
    unload(&l);
}

static void a_path_is_read_after_aliases(void **state) {
    (void)state;
    Loaded l = set("x-a.d_state=99", "stack[last].ssm.d_conv=2");
    assert_true(l.ok);
    assert_int_equal(V(l.spec.blocks[6], ssm, d_state)->integer, 4);
    assert_int_equal(V(l.spec.blocks[6], ssm, d_conv)->integer, 2);
    unload(&l);
}

static void a_path_is_read_before_defaults(void **state) {
    (void)state;
    Loaded l = set("defaults.ssm.d_conv=3", "defaults.ssm.d_state=5");
    assert_true(l.ok);
    assert_int_equal(V(l.spec.blocks[0], ssm, d_conv)->integer, 3);
    assert_int_equal(V(l.spec.blocks[0], ssm, d_state)->integer, 4);
    assert_int_equal(V(l.spec.blocks[2], ssm, d_state)->integer, 5);
    unload(&l);
}

static void a_word_of_the_stack_opens_as_its_kind(void **state) {
    (void)state;
    Loaded l = set("stack[0].blocks[2].ssm.d_state=6", NULL);
    assert_true(l.ok);
    assert_int_equal(V(l.spec.blocks[2], ssm, d_state)->integer, 6);
    unload(&l);
}

static void a_value_is_yaml(void **state) {
    (void)state;
    Loaded l = set("stack[last].ssm={experts: {count: 2, per_expert: [A, D]}}", "stack[0].blocks=[ssm]");
    assert_true(l.ok);
    assert_int_equal(l.spec.n_blocks, 3);
    assert_parts(&l.spec.blocks[2], "A|D");
    unload(&l);
}

static void an_empty_value_is_an_empty_map(void **state) {
    (void)state;
    Loaded l = set("stack[last].ssm=", NULL);
    assert_true(l.ok);
    assert_int_equal(V(l.spec.blocks[6], ssm, d_state)->integer, 16);
    unload(&l);
}

static void the_last_set_wins(void **state) {
    (void)state;
    Loaded l = set("stack[0].repeat=3", "stack[0].repeat=1");
    assert_true(l.ok);
    assert_int_equal(l.spec.n_blocks, 4);
    unload(&l);
}

static void a_wrong_value_is_shown_in_the_set(void **state) {
    (void)state;
    Loaded l = set("stack[last].ssm.d_state=300", NULL);
    assert_error(&l, "'ssm.d_state': expected an integer from 1 to 256, got '300'");
    const SuSpan *span = &l.diags.items[0].span;
    assert_string_equal(span->source->path, "--set");
    assert_string_equal(span->source->text, "stack[last].ssm.d_state=300");
    assert_int_equal(span->line, 1);
    assert_int_equal(span->column, 25);
    unload(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_replaced_or_added),
        cmocka_unit_test(a_define_is_reached_by_its_name),
        cmocka_unit_test(items_are_reached_by_index_and_by_name),
        cmocka_unit_test(a_path_is_read_after_aliases),
        cmocka_unit_test(a_path_is_read_before_defaults),
        cmocka_unit_test(a_word_of_the_stack_opens_as_its_kind),
        cmocka_unit_test(a_value_is_yaml),
        cmocka_unit_test(an_empty_value_is_an_empty_map),
        cmocka_unit_test(the_last_set_wins),
        cmocka_unit_test(a_wrong_value_is_shown_in_the_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
