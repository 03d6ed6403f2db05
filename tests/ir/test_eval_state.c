/* Both evaluators on the operations of state-space blocks, and on those of experts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/vmath32.h"
#include "tests/ir/numbers.h"
#include "tests/ir/rig.h"

static void test_conv_keeps_the_last_taps(void **state) {
    (void)state;
    static const float x[] = {1, 10, 2, 20, 3, 30, 4, 40}, w[] = {100, 10, 1, /**/ 0, 0, 1};
    Rig rig;
    rig_start(&rig);
    IrValueId operands[] = {rig_rows(&rig, x, 4, 2), rig_weight(&rig, "w", w, ir_type(IR_F32, 2, (int64_t)2, (int64_t)3)),
                            ir_state(rig.b.graph, "history", ir_type(IR_F32, 2, (int64_t)2, (int64_t)2))};
    rig_finish(&rig, rig_stateful(&rig, IR_OP_conv, operands, 3, NULL));
    double y[8];
    ir_eval_free(rig_run(&rig, false, 4, 2, y));
    assert_same_bits(y, (double[]){1, 10, 12, 20, 123, 30, 234, 40}, 8);
    rig_end(&rig);
}

static void test_conv_of_one_tap_has_no_history(void **state) {
    (void)state;
    static const float x[] = {1, 10}, w[] = {2, 3};
    Rig rig;
    rig_start(&rig);
    IrValueId weight = rig_weight(&rig, "w", w, ir_type(IR_F32, 2, (int64_t)2, (int64_t)1));
    rig_finish(&rig, ir_op1(&rig.b, IR_OP_conv, rig_rows(&rig, x, 1, 2), weight, IR_NONE));
    double y[2];
    ir_eval_free(rig_run(&rig, false, 1, 2, y));
    assert_same_bits(y, (double[]){2, 30}, 2);
    rig_end(&rig);
}

/* s <- s/2 every token, from a first injection of 1: after 81 halvings it is cut to +0, in float only. */
static void test_small_states_are_cut(void **state) {
    (void)state;
    enum { T = 90 };
    static float a[T], b[T];
    for (int t = 0; t < T; t++) {
        a[t] = 0.5f;
        b[t] = t == 0;
    }
    static const float one[] = {1};
    Rig rig;
    rig_start(&rig);
    IrValueId unit = rig_weight(&rig, "one", one, ir_type(IR_F32, 2, (int64_t)1, (int64_t)1));
    IrValueId operands[] = {ir_op1(&rig.b, IR_OP_outer, rig_rows(&rig, a, T, 1), unit, IR_NONE),
                            ir_op1(&rig.b, IR_OP_outer, rig_rows(&rig, b, T, 1), unit, IR_NONE),
                            ir_state(rig.b.graph, "s", ir_type(IR_F32, 2, (int64_t)1, (int64_t)1))};
    IrValueId s = rig_stateful(&rig, IR_OP_recur, operands, 3, NULL);
    static const float ones[T] = {[0 ... T - 1] = 1};
    rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_contract, s, rig_rows(&rig, ones, T, 1), IR_NONE, RIG_ATTRS({.i = 1})));
    double y[T], y64[T];
    ir_eval_free(rig_run(&rig, false, T, 1, y));
    ir_eval_free(rig_run(&rig, true, T, 1, y64));
    assert_true(y[80] == 0x1p-80 && y[81] == 0 && !signbit(y[81]));
    assert_true(y64[81] == 0x1p-81);
    rig_end(&rig);
}

/* Two heads of two channels, of which each has B and C of its own: a decay for a head, D for a head, and parts of weights. */
static void test_heads(void **state) {
    (void)state;
    enum { T = 2, CHANNELS = 4, STATES = 2 };
    static const float decay[] = {0.5f, 0.25f, 0.5f, 0.25f}, v[] = {1, 2, 3, 4, 0, 0, 0, 0}, B[] = {1, 2, 3, 4, 1, 1, 1, 1},
                       D[] = {9, 10, 20, 9};
    Rig rig;
    rig_start(&rig);
    IrBuilder *b = &rig.b;
    IrValueId a = ir_op1_attrs(b, IR_OP_repeat, rig_rows(&rig, decay, T, 2), IR_NONE, IR_NONE, RIG_ATTRS({.i = 2}, {.i = 1}));
    IrValueId x = rig_rows(&rig, v, T, CHANNELS), both = rig_rows(&rig, B, T, 2 * STATES);
    IrValueId in = ir_op1_attrs(b, IR_OP_inject, x, both, IR_NONE, RIG_ATTRS({.i = 2}));
    IrValueId operands[] = {a, in, ir_state(b->graph, "s", ir_type(IR_F32, 2, (int64_t)CHANNELS, (int64_t)STATES))};
    IrValueId s = rig_stateful(&rig, IR_OP_recur, operands, 3, NULL);
    IrValueId y = ir_op1_attrs(b, IR_OP_contract, s, both, IR_NONE, RIG_ATTRS({.i = 2}));
    IrValueId skip = ir_op1_attrs(b, IR_OP_take, rig_weight(&rig, "D", D, ir_type(IR_F32, 1, (int64_t)4)), IR_NONE, IR_NONE,
                                  RIG_ATTRS({.i = 0}, {.i = 1}, {.i = 2}));
    rig_finish(&rig, ir_op1(b, IR_OP_add, y, ir_op1(b, IR_OP_mul_param, x, skip, IR_NONE), IR_NONE));
    double y32[T * CHANNELS], y64[T * CHANNELS];
    ir_eval_free(rig_run(&rig, false, T, CHANNELS, y32));
    ir_eval_free(rig_run(&rig, true, T, CHANNELS, y64));
    /* row 0: s = v B, y = |B|^2 v + D v; row 1: s = decay v B, y = sum of B of row 0, times v and the decay */
    const double wanted[] = {1 * 5 + 10, 2 * 5 + 20, 3 * 25 + 60, 4 * 25 + 80, 0.5 * 3, 0.5 * 6, 0.25 * 21, 0.25 * 28};
    assert_same_bits(y32, wanted, T * CHANNELS);
    assert_same_bits(y64, wanted, T * CHANNELS);
    rig_end(&rig);
}

/* Two heads of four components, of which the first two turn: by -5/4 and 5/8 turns, which is by a quarter and by five eighths. */
static void test_angles(void **state) {
    (void)state;
    enum { T = 2, WIDTH = 8 };
    static const float w[] = {(float)M_PI, (float)M_PI}, d[] = {-2.5f, 1.25f, 0, 0},
                       v[] = {1, 0, 5, 6, 0, 2, 7, 8, 1, 0, 5, 6, 0, 2, 7, 8};
    Rig rig;
    rig_start(&rig);
    IrBuilder *b = &rig.b;
    IrValueId operands[] = {rig_rows(&rig, w, T, 1), rig_rows(&rig, d, T, 2),
                            ir_state(b->graph, "a", ir_type(IR_F32, 1, (int64_t)2))};
    IrValueId angle = rig_stateful(&rig, IR_OP_angle, operands, 3, NULL);
    IrValueId cosine = ir_op1(b, IR_OP_cos, angle, IR_NONE, IR_NONE), sine = ir_op1(b, IR_OP_sin, angle, IR_NONE, IR_NONE);
    rig_finish(&rig, ir_op1_attrs(b, IR_OP_rotate, rig_rows(&rig, v, T, WIDTH), cosine, sine, RIG_ATTRS({.i = 2})));
    double y[T * WIDTH], y64[T * WIDTH];
    ir_eval_free(rig_run(&rig, false, T, WIDTH, y));
    ir_eval_free(rig_run(&rig, true, T, WIDTH, y64));
    const double half = sqrt(2.0), row[] = {0, -1, 5, 6, half, -half, 7, 8};
    for (int t = 0; t < T; t++) { /* the second row's step is 0: it turns by the angles that the first one left */
        assert_near(y + t * WIDTH, row, WIDTH, 1e-6);
        assert_near(y64 + t * WIDTH, row, WIDTH, 1e-6); /* w is a float */
    }
    rig_end(&rig);
}

/* Planes of a row and of the row before: v of rank 2, B of two groups, a sum that goes on from another one. */
static void test_ranks(void **state) {
    (void)state;
    enum { T = 2, CHANNELS = 2, RANKS = 2, STATES = 2 };
    static const float x[] = {1, 2, 3, 4}, w[] = {1, 10, 2, 20} /* [H=2,R=2,J=1] */,
                       B[] = {1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1}, ones[] = {1, 1, 1, 1, 1, 1, 1, 1};
    Rig rig;
    rig_start(&rig);
    IrBuilder *b = &rig.b;
    IrValueId weight = rig_weight(&rig, "w", w, ir_type(IR_F32, 3, (int64_t)2, (int64_t)RANKS, (int64_t)1));
    IrValueId v =
        ir_op1(b, IR_OP_mul_param, rig_rows(&rig, x, T, CHANNELS), ir_op1(b, IR_OP_transpose, weight, IR_NONE, IR_NONE), IR_NONE);
    IrValueId operands[] = {v, ir_state(b->graph, "v", ir_type(IR_F32, 2, (int64_t)RANKS, (int64_t)CHANNELS))};
    IrValueId before = rig_stateful(&rig, IR_OP_delay, operands, 2, NULL);
    IrValueId k =
        ir_op1_attrs(b, IR_OP_split, rig_rows(&rig, B, T, 8), IR_NONE, IR_NONE, RIG_ATTRS({.i = 0}, {.i = 4}, {.i = RANKS}));
    IrValueId s = ir_op1_attrs(b, IR_OP_inject_sum, before, k, IR_NONE, RIG_ATTRS({.i = 2}));
    s = ir_op1_attrs(b, IR_OP_inject_sum, v, k, s, RIG_ATTRS({.i = 2}));
    IrValueId of = ir_op1_attrs(b, IR_OP_repeat, rig_rows(&rig, ones, T, 2), IR_NONE, IR_NONE, RIG_ATTRS({.i = 2}, {.i = 2}));
    rig_finish(&rig, ir_op1_attrs(b, IR_OP_contract, s, of, IR_NONE, RIG_ATTRS({.i = 2})));
    double y[T * CHANNELS];
    ir_eval_free(rig_run(&rig, false, T, CHANNELS, y));
    /* row 0: channel 0 has v 1 and 10, and B (1 2), (5 6); channel 1 has v 4 and 40, and B (3 4), (7 8).
     * row 1: only B of channel 1 and rank 1 is not zero, (0 1): v is 80, and 40 before */
    assert_same_bits(y, (double[]){1 * 3 + 10 * 11, 4 * 7 + 40 * 15, 0, 80 + 40}, T * CHANNELS);
    rig_end(&rig);
}

enum { E = 4, K_CHOSEN = 2, I = 5, N = 3, TOKENS = 12 };

/* One block whose experts have a state each, densely (as lowering writes it) or on the chosen experts only. */
static void make_experts(Rig *rig, bool routed) {
    static float x[TOKENS * I], B[TOKENS * N], C[TOKENS * N], scores[TOKENS * E], w[E * I * I], bias[E * I], A[E * I * N], D[E * I];
    fill(x, TOKENS * I, 1);
    fill(scores, TOKENS * E, 2);
    fill(B, TOKENS * N, 3);
    fill(C, TOKENS * N, 4);
    fill(w, E * I * I, 5);
    fill(bias, E * I, 6);
    fill(A, E * I * N, 7);
    fill(D, E * I, 8);
    rig_start(rig);
    IrBuilder *b = &rig->b;
    b->graph->level = routed ? IR_FUSED : IR_NAIVE;
    IrValueId c = rig_rows(rig, x, TOKENS, I), r = rig_rows(rig, scores, TOKENS, E);
    IrValueId p = ir_op1(b, IR_OP_softmax, r, IR_NONE, IR_NONE);
    IrValueId i = ir_op1_attrs(b, IR_OP_select, r, IR_NONE, IR_NONE, RIG_ATTRS({.i = K_CHOSEN}, {.i = 1}, {.i = 1}));
    IrValueId g =
        ir_op1_attrs(b, IR_OP_gates, p, i, IR_NONE, RIG_ATTRS([IR_GATES_normalize] = {.i = 1}, [IR_GATES_scale] = {.f = 1}));
    IrValueId weights = rig_weight(rig, "w", w, ir_type(IR_F32, 3, (int64_t)E, (int64_t)I, (int64_t)I));
    IrValueId biases = rig_weight(rig, "bias", bias, ir_type(IR_F32, 2, (int64_t)E, (int64_t)I));
    IrValueId skips = rig_weight(rig, "D", D, ir_type(IR_F32, 2, (int64_t)E, (int64_t)I));
    IrValueId logs = ir_weight(b->graph, "A", ir_type(IR_F32, 3, (int64_t)E, (int64_t)I, (int64_t)N), IR_NEG_EXP);
    rig->names[rig->n_weights] = "A";
    rig->elements[rig->n_weights++].f = A;
    IrValueId expert_indices = routed ? i : IR_NONE;
    IrValueId dt = ir_op1(b, routed ? IR_OP_linear_routed : IR_OP_linear_all, c, weights, expert_indices);
    dt = ir_op1(b, IR_OP_softplus, ir_op1(b, routed ? IR_OP_add_bias_routed : IR_OP_add_bias, dt, biases, expert_indices), IR_NONE,
                IR_NONE);
    IrValueId a =
        ir_op1(b, IR_OP_exp, ir_op1(b, routed ? IR_OP_outer_routed : IR_OP_outer, dt, logs, expert_indices), IR_NONE, IR_NONE);
    IrValueId in = ir_op1_attrs(b, IR_OP_inject, ir_op1(b, IR_OP_mul, dt, c, IR_NONE), rig_rows(rig, B, TOKENS, N), IR_NONE,
                                RIG_ATTRS({.i = 1}));
    IrValueId operands[] = {a, in, ir_state(b->graph, "s", ir_type(IR_F32, 3, (int64_t)E, (int64_t)I, (int64_t)N)), i};
    IrValueId s = rig_stateful(rig, routed ? IR_OP_recur_routed : IR_OP_recur, operands, 4, NULL);
    IrValueId skip = ir_op1(b, routed ? IR_OP_mul_param_routed : IR_OP_mul_param, c, skips, expert_indices);
    IrValueId y = ir_op1(
        b, IR_OP_add, ir_op1_attrs(b, IR_OP_contract, s, rig_rows(rig, C, TOKENS, N), IR_NONE, RIG_ATTRS({.i = 1})), skip, IR_NONE);
    if (routed)
        rig_finish(rig, ir_op1(b, IR_OP_expert_sum_routed, y, g, IR_NONE));
    else
        rig_finish(rig, ir_op1(b, IR_OP_expert_sum, y, i, g));
}

static void test_routed_operations_give_the_bits_of_dense_ones(void **state) {
    (void)state;
    Rig dense, routed;
    make_experts(&dense, false);
    make_experts(&routed, true);
    double x[TOKENS * I], y[TOKENS * I], x64[TOKENS * I];
    ir_eval_free(rig_run(&dense, false, TOKENS, I, x));
    ir_eval_free(rig_run(&routed, false, TOKENS, I, y));
    assert_same_bits(x, y, TOKENS * I);
    ir_eval_free(rig_run(&dense, true, TOKENS, I, x64));
    ir_eval_free(rig_run(&routed, true, TOKENS, I, y));
    assert_same_bits(x64, y, TOKENS * I);
    assert_near(x, x64, TOKENS * I, 1e-5);
    rig_end(&dense);
    rig_end(&routed);
}

static void test_mix_and_sums(void **state) {
    (void)state;
    static const float scores[] = {0, 0, -100}, p[] = {1, 2, 3, 4, 500, 600}, x[] = {10, 20};
    Rig rig;
    rig_start(&rig);
    IrBuilder *b = &rig.b;
    IrValueId r = rig_rows(&rig, scores, 1, 3);
    IrValueId i = ir_op1_attrs(b, IR_OP_select, r, IR_NONE, IR_NONE, RIG_ATTRS({.i = 2}, {.i = 1}, {.i = 1}));
    IrValueId g = ir_op1_attrs(b, IR_OP_gates, ir_op1(b, IR_OP_softmax, r, IR_NONE, IR_NONE), i, IR_NONE,
                               RIG_ATTRS([IR_GATES_normalize] = {.i = 1}, [IR_GATES_scale] = {.f = 1}));
    IrValueId w = rig_weight(&rig, "p", p, ir_type(IR_F32, 2, (int64_t)3, (int64_t)2));
    IrValueId mixed = ir_op1(b, IR_OP_mix, w, i, g);                                            /* 2, 3 */
    IrValueId planes = ir_op1(b, IR_OP_mul_param, rig_rows(&rig, x, 1, 2), w, IR_NONE);          /* 10 40, 30 80, 5000 12000 */
    IrValueId sum = ir_op1(b, IR_OP_add, mixed, ir_op1(b, IR_OP_plane_sum, planes, IR_NONE, IR_NONE), IR_NONE);
    rig_finish(&rig, ir_op1(b, IR_OP_add, sum, ir_op1(b, IR_OP_expert_sum, planes, i, g), IR_NONE)); /* + 20, 60 */
    double y[2];
    ir_eval_free(rig_run(&rig, true, 1, 2, y));
    assert_near(y, (double[]){2 + 5040 + 20, 3 + 12120 + 60}, 2, 1e-9);
    rig_end(&rig);
}

static void test_one_value_a_row_repeats(void **state) {
    (void)state;
    static const float x[] = {1, 2, 3, 10, 20, 30}, g[] = {2, -1};
    Rig rig;
    rig_start(&rig);
    rig_finish(&rig, ir_op1(&rig.b, IR_OP_mul, rig_rows(&rig, x, 2, 3), rig_rows(&rig, g, 2, 1), IR_NONE));
    double y[6];
    ir_eval_free(rig_run(&rig, false, 2, 3, y));
    assert_same_bits(y, (double[]){2, 4, 6, -10, -20, -30}, 6);
    rig_end(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv_keeps_the_last_taps),
        cmocka_unit_test(test_conv_of_one_tap_has_no_history),
        cmocka_unit_test(test_small_states_are_cut),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_angles),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_routed_operations_give_the_bits_of_dense_ones),
        cmocka_unit_test(test_mix_and_sums),
        cmocka_unit_test(test_one_value_a_row_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
