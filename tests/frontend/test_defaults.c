/* Defaults: precedence, exclusive keys, what is dropped, what none switches off. */
#include "tests/frontend/helpers.h"

static void the_nearest_router_wins(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "defaults:\n"
                              "  router: {top_k: 3, scale: 2.0, score: sigmoid}\n"
                              "  mlp: {d_ff: 8, experts: {count: 8}, router: {top_k: 4, bias: true}}\n"
                              "stack:\n"
                              "  - mlp: {router: {top_k: 5}}\n"
                              "  - mlp\n"
                              "  - ssm: {experts: {count: 8, per_expert: [A]}}\n");
    const FeBlock *b = l.spec.blocks;
    assert_int_equal(b[0].router.top_k, 5);
    assert_int_equal(b[1].router.top_k, 4);
    assert_int_equal(b[2].router.top_k, 3);
    assert_true(b[0].router.bias && b[1].router.bias && !b[2].router.bias);
    for (int i = 0; i < 3; i++) assert_true(b[i].router.scale == 2.0 && b[i].router.score == FE_SIGMOID && b[i].router.normalize);
    unload(&l);
}

static void maps_merge_and_lists_replace(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "defaults: {ssm: {d_state: 8, d_conv: 3, experts: {count: 4, per_expert: [A, D], idle: update}}}\n"
                              "stack:\n"
                              "  - ssm\n"
                              "  - ssm: {d_conv: 2, experts: {per_expert: [x_proj]}}\n"
                              "  - ssm: {experts: }\n");
    const FeBlock *b = l.spec.blocks;
    assert_true(V(b[0], ssm, d_state)->integer == 8 && V(b[0], ssm, d_conv)->integer == 3);
    assert_true(V(b[1], ssm, d_state)->integer == 8 && V(b[1], ssm, d_conv)->integer == 2);
    assert_parts(&b[0], "A|D");
    assert_parts(&b[1], "x_proj");
    for (int i = 0; i < 3; i++) assert_true(b[i].experts.count == 4 && V(b[i], ssm_experts, idle)->integer == FE_UPDATE);
    unload(&l);
}

static void one_width_replaces_the_other(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "defaults: {ssm: {d_inner: 100}, mlp: {expand: 2}}\n"
                              "stack: [ssm, {ssm: {expand: 3}}, {ssm: {d_inner: 7}}, mlp, {mlp: {d_ff: 9}}]\n");
    assert_int_equal(V(l.spec.blocks[0], ssm, d_inner)->integer, 100);
    assert_int_equal(V(l.spec.blocks[1], ssm, d_inner)->integer, 192);
    assert_int_equal(V(l.spec.blocks[2], ssm, d_inner)->integer, 7);
    assert_int_equal(V(l.spec.blocks[3], mlp, d_ff)->integer, 128);
    assert_int_equal(V(l.spec.blocks[4], mlp, d_ff)->integer, 9);
    unload(&l);
}

static void a_default_width_that_is_replaced_is_not_checked(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "defaults: {ssm: {expand: 1.3}}\nstack: [{ssm: {d_inner: 7}}]\n");
    assert_int_equal(V(l.spec.blocks[0], ssm, d_inner)->integer, 7);
    unload(&l);
}

static void none_switches_off_a_default(void **state) {
    (void)state;
    Loaded l =
        load_good(HEAD "defaults:\n"
                       "  ssm: {dt_norm: rms, b_norm: rms, c_norm: rms, experts: {count: 4, per_expert: [A]}, router: {top_k: 3}}\n"
                       "  attention: {n_heads: 4, window: 8, rope: {theta: 5}}\n"
                       "stack:\n"
                       "  - ssm: {dt_norm: none, b_norm: none, c_norm: none, experts: none}\n"
                       "  - attention: {window: none, rope: none}\n"
                       "  - ssm\n"
                       "  - attention\n");
    const FeBlock *b = l.spec.blocks;
    assert_true(!V(b[0], ssm, dt_norm)->integer && !V(b[0], ssm, b_norm)->integer && !V(b[0], ssm, c_norm)->integer);
    assert_int_equal(b[0].experts.count, 0);
    assert_true(b[1].window == 0 && !V(b[1], attention, rope)->map);
    assert_true(V(b[2], ssm, dt_norm)->integer && V(b[2], ssm, b_norm)->integer && V(b[2], ssm, c_norm)->integer);
    assert_true(b[2].experts.count == 4 && b[2].router.top_k == 3);
    assert_true(b[3].window == 8 && V(b[3], attention, rope)->map && V(b[3], rope, theta)->real == 5.0);
    unload(&l);
}

static void an_empty_map_over_a_default_keeps_it(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "defaults: {attention: {rope: {theta: 500, dim: 4}}}\n"
                              "stack: [{attention: {n_heads: 4, rope: }}, {attention: {n_heads: 4, rope: {dim: 8}}}]\n");
    assert_true(V(l.spec.blocks[0], rope, theta)->real == 500.0 && V(l.spec.blocks[0], rope, dim)->integer == 4);
    assert_true(V(l.spec.blocks[1], rope, theta)->real == 500.0 && V(l.spec.blocks[1], rope, dim)->integer == 8);
    unload(&l);
}

static void a_map_over_a_default_none_stands_alone(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "defaults: {mlp: {d_ff: 8, experts: none}}\nstack: [ssm, mlp, {mlp: {experts: {count: 4}}}]\n");
    assert_int_equal(l.spec.blocks[1].experts.count, 0);
    assert_int_equal(l.spec.blocks[2].experts.count, 4);
    unload(&l);
}

static void defaults_without_a_meaning_are_dropped(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "defaults:\n"
                              "  router: {input: inner, top_k: 40}\n"
                              "  ssm: {experts: {count: 4, per_expert: [A], idle: update}, router: {top_k: 2}}\n"
                              "  mlp: {d_ff: 8, experts: {count: 4, shared_d_ff: 77}, router: {top_k: 2}}\n"
                              "stack:\n"
                              "  - ssm: {experts: {combine: params}}\n"
                              "  - mlp\n"
                              "  - mlp: {experts: {shared: 1}}\n"
                              "  - mlp: {experts: none}\n");
    const FeBlock *b = l.spec.blocks;
    assert_int_equal(V(b[0], ssm_experts, idle)->integer, FE_HOLD); /* idle has no meaning beside params */
    assert_int_equal(b[0].router.input, FE_ROUTER_INNER);
    assert_int_equal(b[1].router.input, FE_ROUTER_BLOCK); /* inner has none in an mlp */
    assert_int_equal(V(b[1], mlp_experts, shared_d_ff)->state, FE_ABSENT);
    assert_int_equal(V(b[2], mlp_experts, shared_d_ff)->integer, 77);
    assert_int_equal(b[3].experts.count, 0); /* and so top_k 40 means nothing */
    unload(&l);
}

static void defaults_apply_under_defines(void **state) {
    (void)state;
    Loaded l = load_good(
        HEAD "define: {m: {mlp: {experts: {count: 4}}}}\ndefaults: {mlp: {d_ff: 24}, router: {top_k: 3}}\nstack: [ssm, m]\n");
    assert_int_equal(V(l.spec.blocks[1], mlp, d_ff)->integer, 24);
    assert_int_equal(l.spec.blocks[1].router.top_k, 3);
    unload(&l);
}

static void a_default_that_does_not_fit_names_the_block(void **state) {
    (void)state;
    Loaded l = load_text(HEAD "defaults: {router: {top_k: 9}}\nstack:\n  - ssm\n  - mlp: {d_ff: 8, experts: {count: 4}}\n");
    assert_error(&l, "'router.top_k' is 9, but there are only 4 experts");
    assert_int_equal(l.diags.items[0].span.line, 5);
    assert_string_equal(l.diags.items[0].hint, "this default is used by the mlp block at line 8");
    unload(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_router_wins),
        cmocka_unit_test(maps_merge_and_lists_replace),
        cmocka_unit_test(one_width_replaces_the_other),
        cmocka_unit_test(a_default_width_that_is_replaced_is_not_checked),
        cmocka_unit_test(none_switches_off_a_default),
        cmocka_unit_test(an_empty_map_over_a_default_keeps_it),
        cmocka_unit_test(a_map_over_a_default_none_stands_alone),
        cmocka_unit_test(defaults_without_a_meaning_are_dropped),
        cmocka_unit_test(defaults_apply_under_defines),
        cmocka_unit_test(a_default_that_does_not_fit_names_the_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
