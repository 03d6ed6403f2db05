/* Both evaluators on graphs small enough to compute by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ir/vmath32.h"
#include "tests/ir/rig.h"

/* A plain generator is enough: the same numbers in every run. */
static void fill(float *x, size_t n, uint32_t seed) {
    uint32_t s = seed;
    for (size_t i = 0; i < n; i++) {
        s = s * 1664525u + 1013904223u;
        x[i] = (float)(int32_t)s * 0x1p-31f;
    }
}

static void assert_near(const double *x, const double *y, size_t n, double tolerance) {
    for (size_t i = 0; i < n; i++)
        if (!(fabs(x[i] - y[i]) <= tolerance)) fail_msg("[%zu]: %.17g and %.17g", i, x[i], y[i]);
}

static void assert_same_bits(const double *x, const double *y, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(&x[i], &y[i], sizeof *x) != 0) fail_msg("[%zu]: %.17g and %.17g", i, x[i], y[i]);
}

/* ---------------------------------------------------------------------------------------------- linear layers and norms */

/* Two segments of 256 and one of 88, each from +0, summed in order. */
static void test_a_linear_layer_sums_in_segments(void **state) {
    (void)state;
    enum { K = 600 };
    static float x[K], w[2 * K];
    fill(x, K, 1);
    fill(w, 2 * K, 2);
    Rig rig;
    rig_start(&rig);
    IrValueId weight = rig_weight(&rig, "w", w, ir_type(IR_F32, 2, (int64_t)2, (int64_t)K));
    rig_finish(&rig, ir_op1(&rig.b, IR_OP_linear, rig_rows(&rig, x, 1, K), weight, IR_NONE));
    double y[2], y64[2];
    ir_eval_free(rig_run(&rig, false, 1, 2, y));
    ir_eval_free(rig_run(&rig, true, 1, 2, y64));
    for (int o = 0; o < 2; o++) {
        float part[3] = {0};
        for (int k = 0; k < K; k++) part[k / 256] = fmaf(w[o * K + k], x[k], part[k / 256]);
        assert_true((float)y[o] == part[0] + part[1] + part[2]);
    }
    assert_near(y, y64, 2, 1e-4);
    rig_end(&rig);
}

/* ---------------------------------------------------------------------------------------------- weights in blocks */

/* Rows of weights in blocks, made of floats. */
typedef struct Blocks {
    IrBlocks view;
    void *memory[IR_PARTS];
} Blocks;

static Blocks make_blocks(IrDtype dtype, const float *w, uint64_t rows, uint64_t K) {
    Blocks b = {.view = {.dtype = dtype, .rows = rows, .K = K}};
    for (int i = 0; i < IR_PARTS; i++) {
        uint64_t bytes = ir_part_bytes(dtype, (IrPart)i, K);
        if (bytes > 0) b.view.part[i] = b.memory[i] = calloc(rows, bytes);
    }
    for (uint64_t row = 0; row < rows; row++) {
        IrRow out;
        for (int i = 0; i < IR_PARTS; i++)
            out.part[i] = b.memory[i] ? (uint8_t *)b.memory[i] + row * ir_part_bytes(dtype, (IrPart)i, K) : NULL;
        assert_true(ir_quantise(dtype, w + row * K, NULL, K, &out));
    }
    return b;
}

static void free_blocks(Blocks *b) {
    for (int i = 0; i < IR_PARTS; i++) free(b->memory[i]);
}

/* One output as docs/bits.md says it, of a checkpoint's numbers. */
static float rounded_sum(const IrBlocks *w, uint64_t row, const float *x) {
    float y = 0;
    for (uint64_t first = 0; first < w->K; first += 32) {
        uint64_t n = w->K - first < 32 ? w->K - first : 32;
        float a = 0;
        for (uint64_t i = 0; i < n; i++) a = fmaxf(a, fabsf(x[first + i]));
        IrGroup group;
        int dot = 0, sum = 0;
        ir_blocks_group(w, row, first / 32, &group);
        for (uint64_t i = 0; i < n && a >= 0x1p-100f; i++) {
            int p = (int)rintf(x[first + i] * (127 / a));
            dot += p * group.q[i];
            sum += p;
        }
        float c = group.d * (float)dot;
        if (w->dtype == IR_Q4) c = fmaf(-group.m, (float)sum, c);
        y = fmaf(a >= 0x1p-100f ? a / 127 : 0, c, y);
    }
    return y;
}

static void test_a_linear_layer_of_rounded_inputs(void **state) {
    (void)state;
    enum { K = 300, O = 3 };
    static float x[K], w[O * K];
    fill(x, K, 1);
    fill(w, O * K, 2);
    for (int k = 64; k < 96; k++) x[k] = 0x1p-110f; /* a group of zeros */
    for (IrDtype dtype = IR_Q8; dtype <= IR_Q4; dtype++) {
        Blocks b = make_blocks(dtype, w, O, K);
        Rig rig;
        rig_start(&rig);
        IrValueId weight = rig_blocks(&rig, "w", &b.view, ir_type(dtype, 2, (int64_t)O, (int64_t)K));
        IrValueId rows = rig_rows(&rig, x, 1, K);
        rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_linear, rows, weight, IR_NONE, RIG_ATTRS({.i = 1})));
        double y[O], y64[O];
        IrEval *eval = rig_run(&rig, false, 1, O, y);
        assert_true(ir_eval_min_step(eval) >= 0 && ir_eval_min_step(eval) < 0.5);
        ir_eval_free(eval);
        ir_eval_free(rig_run(&rig, true, 1, O, y64));
        for (int o = 0; o < O; o++) assert_true((float)y[o] == rounded_sum(&b.view, (uint64_t)o, x));
        assert_near(y, y64, O, 1e-4);
        rig_end(&rig);
        free_blocks(&b);
    }
}

/* Each expert's matrix, of rows and of positions; and without rounding, which is a linear layer of the floats that weights are. */
static void test_rounded_inputs_of_experts(void **state) {
    (void)state;
    enum { K = 40, O = 2, E = 3 };
    static float x[K], w[E * O * K], floats[E * O * K];
    fill(x, K, 3);
    fill(w, E * O * K, 4);
    Blocks b = make_blocks(IR_Q4, w, E * O, K);
    for (uint64_t row = 0; row < E * O; row++) ir_blocks_row(&b.view, row, floats + row * K);
    for (int64_t rounds = 0; rounds <= 1; rounds++) {
        Rig rig;
        rig_start(&rig);
        IrValueId weight = rig_blocks(&rig, "w", &b.view, ir_type(IR_Q4, 3, (int64_t)E, (int64_t)O, (int64_t)K));
        IrValueId rows = rig_rows(&rig, x, 1, K);
        IrValueId all = ir_op1_attrs(&rig.b, IR_OP_linear_all, rows, weight, IR_NONE, RIG_ATTRS({.i = rounds}));
        rig_finish(&rig, ir_op1(&rig.b, IR_OP_plane_sum, all, IR_NONE, IR_NONE));
        double y[O];
        IrEval *eval = rig_run(&rig, false, 1, O, y);
        const double *planes = ir_eval_value(eval, all);
        for (uint64_t row = 0; row < E * O; row++) {
            float sum = 0;
            for (int k = 0; k < K; k++) sum = fmaf(floats[row * K + (uint64_t)k], x[k], sum);
            assert_true((float)planes[row] == (rounds ? rounded_sum(&b.view, row, x) : sum));
        }
        ir_eval_free(eval);
        rig_end(&rig);
    }
    free_blocks(&b);
}

static void test_embedding_of_blocks(void **state) {
    (void)state;
    enum { D = 33, V = 4 };
    static float w[V * D], row[D];
    fill(w, V * D, 5);
    for (IrDtype dtype = IR_Q8; dtype <= IR_Q4; dtype++) {
        Blocks b = make_blocks(dtype, w, V, D);
        Rig rig;
        rig_start(&rig);
        IrValueId table = rig_blocks(&rig, "e", &b.view, ir_type(dtype, 2, (int64_t)V, (int64_t)D));
        rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_embed, rig.b.graph->tokens, table, IR_NONE, RIG_ATTRS({.f = 3})));
        double y[V * D];
        ir_eval_free(rig_run(&rig, false, V, D, y));
        for (uint64_t t = 0; t < V; t++) {
            ir_blocks_row(&b.view, t, row);
            for (int i = 0; i < D; i++) assert_true((float)y[t * D + (uint64_t)i] == 3 * row[i]);
        }
        rig_end(&rig);
        free_blocks(&b);
    }
}

static void test_what_is_not_finite_makes_all_outputs_nan(void **state) {
    (void)state;
    enum { K = 70, O = 2 };
    static float x[2 * K], w[O * K];
    fill(x, 2 * K, 6);
    fill(w, O * K, 7);
    x[65] = INFINITY;
    x[K] = NAN;
    Blocks b = make_blocks(IR_Q8, w, O, K);
    Rig rig;
    rig_start(&rig);
    IrValueId weight = rig_blocks(&rig, "w", &b.view, ir_type(IR_Q8, 2, (int64_t)O, (int64_t)K));
    IrValueId rows = rig_rows(&rig, x, 2, K);
    rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_linear, rows, weight, IR_NONE, RIG_ATTRS({.i = 1})));
    double y[2 * O];
    for (int in_double = 0; in_double < 2; in_double++) {
        ir_eval_free(rig_run(&rig, in_double, 2, O, y));
        for (int i = 0; i < 2 * O; i++) assert_true(isnan(y[i]));
    }
    rig_end(&rig);
    free_blocks(&b);
}

static void test_rms_norm(void **state) {
    (void)state;
    static const float x[] = {3, 4}, w[] = {1, 10};
    Rig rig;
    rig_start(&rig);
    IrValueId rows = rig_rows(&rig, x, 1, 2), weight = rig_weight(&rig, "w", w, ir_type(IR_F32, 1, (int64_t)2));
    rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_rms_norm, rows, weight, IR_NONE, RIG_ATTRS({.f = 0.5}, {.i = 1})));
    double y[2], y64[2];
    ir_eval_free(rig_run(&rig, false, 1, 2, y));
    ir_eval_free(rig_run(&rig, true, 1, 2, y64));
    assert_near(y64, (double[]){3 / sqrt(13), 40 / sqrt(13)}, 2, 1e-15);
    float r = 1 / sqrtf(13);
    assert_same_bits(y, (double[]){3 * r, (4 * r) * 10}, 2);
    rig_end(&rig);
}

/* Two runs of two, of which each is normed by itself; with a weight for all elements, and with one for each run. */
static void test_rms_norm_in_runs(void **state) {
    (void)state;
    static const float x[] = {3, 4, 6, 8}, w[] = {1, 10, 2, 20};
    for (int64_t weights = 2; weights <= 4; weights += 2) {
        Rig rig;
        rig_start(&rig);
        IrValueId rows = rig_rows(&rig, x, 1, 4), weight = rig_weight(&rig, "w", w, ir_type(IR_F32, 1, weights));
        rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_rms_norm, rows, weight, IR_NONE, RIG_ATTRS({.f = 0.5}, {.i = 2})));
        double y[4], y64[4];
        ir_eval_free(rig_run(&rig, false, 1, 4, y));
        ir_eval_free(rig_run(&rig, true, 1, 4, y64));
        double third = weights == 4 ? 12 : 6, fourth = weights == 4 ? 160 : 80;
        assert_near(y64, (double[]){3 / sqrt(13), 40 / sqrt(13), third / sqrt(50.5), fourth / sqrt(50.5)}, 4, 1e-14);
        assert_near(y, y64, 4, 1e-5);
        rig_end(&rig);
    }
}

static void test_clamp(void **state) {
    (void)state;
    static const float x[] = {-3, 0.25f, 7, NAN};
    Rig rig;
    rig_start(&rig);
    IrValueId rows = rig_rows(&rig, x, 1, 4);
    rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_clamp, rows, IR_NONE, IR_NONE, RIG_ATTRS({.f = -1}, {.f = 2})));
    double y[4], y64[4];
    ir_eval_free(rig_run(&rig, false, 1, 4, y));
    ir_eval_free(rig_run(&rig, true, 1, 4, y64));
    assert_same_bits(y, (double[]){-1, 0.25, 2}, 3);
    assert_same_bits(y64, (double[]){-1, 0.25, 2}, 3);
    assert_true(isnan(y[3]) && isnan(y64[3]));
    rig_end(&rig);
}

/* 40 elements: lanes 0 to 7 hold three of them, the others two. */
static void test_layer_norm_sums_by_lanes(void **state) {
    (void)state;
    enum { K = 40 };
    static float x[K], ones[K], zeros[K];
    fill(x, K, 1);
    for (int i = 0; i < K; i++) ones[i] = 1;
    Rig rig;
    rig_start(&rig);
    IrValueId w = rig_weight(&rig, "w", ones, ir_type(IR_F32, 1, (int64_t)K));
    IrValueId b = rig_weight(&rig, "b", zeros, ir_type(IR_F32, 1, (int64_t)K));
    rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_layer_norm, rig_rows(&rig, x, 1, K), w, b, RIG_ATTRS({.f = 1e-5})));
    float sum[16] = {0}, square[16] = {0};
    for (int i = 0; i < K; i++) sum[i % 16] += x[i];
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) sum[j] += sum[j + half];
    float mean = sum[0] / K;
    for (int i = 0; i < K; i++) square[i % 16] = fmaf(x[i] - mean, x[i] - mean, square[i % 16]);
    for (int half = 8; half > 0; half /= 2)
        for (int j = 0; j < half; j++) square[j] += square[j + half];
    float r = 1 / sqrtf(square[0] / K + 1e-5f);
    double y[K], expected[K], y64[K];
    for (int i = 0; i < K; i++) expected[i] = (x[i] - mean) * r;
    ir_eval_free(rig_run(&rig, false, 1, K, y));
    ir_eval_free(rig_run(&rig, true, 1, K, y64));
    for (int i = 0; i < K; i++) assert_true(y[i] == expected[i]);
    assert_near(y, y64, K, 1e-5);
    rig_end(&rig);
}

/* ---------------------------------------------------------------------------------------------- routing */

typedef struct Router {
    Rig rig;
    IrValueId expert_indices, combine_weights;
} Router;

/* Scores straight from the rows; logits are the combine weights. */
static void make_router(Router *r, const float *scores, int64_t V, int64_t E, int64_t k, bool sigmoid, const float *bias) {
    rig_start(&r->rig);
    IrBuilder *b = &r->rig.b;
    IrValueId raw = rig_rows(&r->rig, scores, V, E);
    IrValueId p = ir_op1(b, sigmoid ? IR_OP_sigmoid : IR_OP_softmax, raw, IR_NONE, IR_NONE);
    IrValueId by = bias ? rig_weight(&r->rig, "bias", bias, ir_type(IR_F32, 1, E)) : IR_NONE;
    r->expert_indices = ir_op1_attrs(b, IR_OP_select, bias ? p : raw, by, IR_NONE, RIG_ATTRS({.i = k}, {.i = 1}, {.i = 1}));
    r->combine_weights = ir_op1_attrs(b, IR_OP_gates, p, r->expert_indices, IR_NONE,
                                      RIG_ATTRS([IR_GATES_normalize] = {.i = 1}, [IR_GATES_scale] = {.f = 2}));
    rig_finish(&r->rig, r->combine_weights);
}

static void test_selection_prefers_lower_index_and_lists_rising(void **state) {
    (void)state;
    static const float scores[] = {1, 3, 0, 3, 3, 2, /**/ 5, 0, 0, 0, 0, 4.5f};
    Router r;
    make_router(&r, scores, 2, 6, 2, false, NULL);
    double combine_weights[4];
    IrEval *eval = rig_run(&r.rig, false, 1, 2, combine_weights);
    int32_t expert_indices[3] = {0};
    assert_int_equal(ir_eval_experts(eval, expert_indices, 3), 3);
    assert_memory_equal(expert_indices, ((int32_t[]){7, 1, 3}), sizeof expert_indices);
    assert_near(combine_weights, (double[]){1, 1}, 2, 1e-6);
    assert_true(ir_eval_min_gap(eval) == 0);
    ir_eval_free(eval);
    eval = rig_run(&r.rig, true, 2, 2, combine_weights);
    assert_int_equal(ir_eval_experts(eval, expert_indices, 2), 3);
    assert_int_equal(expert_indices[1], 0);
    assert_true(ir_eval_value(eval, r.expert_indices)[1] == 5);
    ir_eval_free(eval);
    rig_end(&r.rig);
}

static void test_select_bias_chooses_but_does_not_weigh(void **state) {
    (void)state;
    static const float scores[] = {2, 1, 0, -1}, bias[] = {-1, 0, 0, 1};
    Router r;
    make_router(&r, scores, 1, 4, 2, true, bias);
    double combine_weights[2];
    IrEval *eval = rig_run(&r.rig, true, 1, 2, combine_weights);
    assert_true(ir_eval_value(eval, r.expert_indices)[0] == 1 && ir_eval_value(eval, r.expert_indices)[1] == 3);
    double p1 = 1 / (1 + exp(-1)), p3 = 1 / (1 + exp(1));
    assert_near(combine_weights, (double[]){2 * p1 / (p1 + p3), 2 * p3 / (p1 + p3)}, 2, 1e-12);
    assert_near((double[]){ir_eval_min_gap(eval)}, (double[]){p1 - 0.5}, 1, 1e-12);
    ir_eval_free(eval);
    rig_end(&r.rig);
}

static void test_gates_may_keep_their_sum(void **state) {
    (void)state;
    static const float scores[] = {0, 1, -1};
    Rig rig;
    rig_start(&rig);
    IrBuilder *b = &rig.b;
    IrValueId r = rig_rows(&rig, scores, 1, 3), p = ir_op1(b, IR_OP_sigmoid, r, IR_NONE, IR_NONE);
    IrValueId i = ir_op1_attrs(b, IR_OP_select, r, IR_NONE, IR_NONE, RIG_ATTRS({.i = 2}, {.i = 1}, {.i = 1}));
    rig_finish(
        &rig, ir_op1_attrs(b, IR_OP_gates, p, i, IR_NONE, RIG_ATTRS([IR_GATES_normalize] = {.i = 0}, [IR_GATES_scale] = {.f = 4})));
    double combine_weights[2];
    ir_eval_free(rig_run(&rig, true, 1, 2, combine_weights));
    assert_near(combine_weights, (double[]){2, 4 / (1 + exp(-1))}, 2, 1e-12);
    rig_end(&rig);
}

/* Chosen of six scores in three runs of two, two of which are open. */
static void check_groups(const float *scores, int64_t k, int64_t top, const int32_t *chosen, double gap) {
    Rig rig;
    rig_start(&rig);
    IrValueId r = rig_rows(&rig, scores, 1, 6), p = ir_op1(&rig.b, IR_OP_sigmoid, r, IR_NONE, IR_NONE);
    IrValueId i = ir_op1_attrs(&rig.b, IR_OP_select, r, IR_NONE, IR_NONE, RIG_ATTRS({.i = k}, {.i = 3}, {.i = top}));
    rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_gates, p, i, IR_NONE,
                                  RIG_ATTRS([IR_GATES_normalize] = {.i = 1}, [IR_GATES_scale] = {.f = 1})));
    double combine_weights[6];
    for (int exact = 0; exact < 2; exact++) {
        IrEval *eval = rig_run(&rig, exact, 1, k, combine_weights);
        int32_t found[7];
        assert_int_equal(ir_eval_experts(eval, found, 7), 1 + k);
        assert_memory_equal(found + 1, chosen, (size_t)k * sizeof *chosen);
        assert_near((double[]){ir_eval_min_gap(eval)}, &gap, 1, 1e-6);
        ir_eval_free(eval);
    }
    rig_end(&rig);
}

static void test_only_experts_of_the_best_groups_are_chosen(void **state) {
    (void)state;
    static const float scores[] = {5, -5, 1, 2, 0.5f, 1.5f}, ties[] = {1, 0, 0, 1, 0.5f, 0.5f};
    check_groups(scores, 2, 2, (int32_t[]){3, 5}, 0.5); /* runs score 0, 3 and 2: the best expert of all is out */
    check_groups(scores, 1, 1, (int32_t[]){3}, 1);
    check_groups(scores, 3, 3, (int32_t[]){0, 3, 5}, 0.5);
    check_groups(ties, 2, 1, (int32_t[]){0, 1}, 0); /* equal runs: the lower one */
}

static void test_choosing_all_leaves_no_gap(void **state) {
    (void)state;
    static const float scores[] = {1, 2};
    Router r;
    make_router(&r, scores, 1, 2, 2, false, NULL);
    double combine_weights[2];
    IrEval *eval = rig_run(&r.rig, false, 1, 2, combine_weights);
    assert_true(ir_eval_min_gap(eval) == INFINITY);
    ir_eval_free(eval);
    rig_end(&r.rig);
}

/* The sigmoid of an infinite score is finite, yet the run must stop. */
static void test_a_router_that_is_not_finite_stops_the_run(void **state) {
    (void)state;
    static const float scores[] = {1, 2, 3, INFINITY, NAN, 0}, bias[] = {0, 0};
    for (int biased = 0; biased < 2; biased++) {
        Router r;
        make_router(&r, scores, 3, 2, 1, true, biased ? bias : NULL);
        double combine_weights[2];
        IrEval *eval = rig_run(&r.rig, false, 3, 1, combine_weights);
        assert_int_equal(r.rig.diags.errors, 1);
        assert_string_equal(r.rig.diags.items[0].message, "block 7, position 1: router gave a non-finite value");
        ir_eval_free(eval);
        rig_end(&r.rig);
    }
}

/* ---------------------------------------------------------------------------------------------- the state-space block */

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

/* ---------------------------------------------------------------------------------------------- attention */

enum { HEADS = 4, KV_HEADS = 2, HEAD_DIM = 6, Q = HEADS * HEAD_DIM, KV = KV_HEADS * HEAD_DIM, LENGTH = 700 };
static float queries[LENGTH * Q], keys[LENGTH * KV], values[LENGTH * KV];

static void make_attention(Rig *rig, int64_t window, int64_t cap) {
    fill(queries, LENGTH * Q, 11);
    fill(keys, LENGTH * KV, 12);
    fill(values, LENGTH * KV, 13);
    for (int i = 0; i < LENGTH * Q; i++) queries[i] *= 8;
    rig_start(rig);
    IrGraph *g = rig->b.graph;
    g->max_positions = window > 0 ? 0 : cap;
    IrValueId operands[] = {rig_rows(rig, queries, LENGTH, Q),
                            rig_rows(rig, keys, LENGTH, KV),
                            rig_rows(rig, values, LENGTH, KV),
                            g->positions,
                            ir_state(g, "k", ir_type(IR_F32, 2, cap, (int64_t)KV)),
                            ir_state(g, "v", ir_type(IR_F32, 2, cap, (int64_t)KV))};
    IrAttr attrs[] = {[IR_ATTEND_heads] = {.i = HEADS},
                      [IR_ATTEND_kv_heads] = {.i = KV_HEADS},
                      [IR_ATTEND_head_dim] = {.i = HEAD_DIM},
                      [IR_ATTEND_window] = {.i = window},
                      [IR_ATTEND_scale] = {.f = 1 / sqrt(HEAD_DIM)}};
    rig_finish(rig, rig_stateful(rig, IR_OP_attend, operands, 6, attrs));
}

/* softmax(q k / sqrt(d)) v over keys first..t in one go. */
static void attend_plainly(int t, int first, int head, double *out) {
    int kv = head * KV_HEADS / HEADS * HEAD_DIM;
    double sum = 0;
    memset(out, 0, HEAD_DIM * sizeof *out);
    for (int j = first; j <= t; j++) {
        double score = 0;
        for (int i = 0; i < HEAD_DIM; i++) score += (double)queries[t * Q + head * HEAD_DIM + i] * keys[j * KV + kv + i];
        double p = exp(score / sqrt(HEAD_DIM));
        sum += p;
        for (int i = 0; i < HEAD_DIM; i++) out[i] += p * values[j * KV + kv + i];
    }
    for (int i = 0; i < HEAD_DIM; i++) out[i] /= sum;
}

static void check_attention(int window, int cap) {
    Rig rig;
    make_attention(&rig, window, cap);
    double *y = malloc(2 * LENGTH * Q * sizeof *y), *y64 = y + LENGTH * Q, expected[HEAD_DIM];
    ir_eval_free(rig_run(&rig, false, LENGTH, Q, y));
    ir_eval_free(rig_run(&rig, true, LENGTH, Q, y64));
    for (int t = 0; t < LENGTH; t += 37) {
        for (int h = 0; h < HEADS; h++) {
            attend_plainly(t, window > 0 && t >= window ? t - window + 1 : 0, h, expected);
            assert_near(y64 + t * Q + h * HEAD_DIM, expected, HEAD_DIM, 1e-12);
            assert_near(y + t * Q + h * HEAD_DIM, expected, HEAD_DIM, 1e-5);
        }
    }
    free(y);
    rig_end(&rig);
}

static void test_attention_sees_all_before(void **state) {
    (void)state;
    check_attention(0, LENGTH);
}

static void test_attention_sees_its_window_in_a_ring(void **state) {
    (void)state;
    check_attention(300, 300);
    check_attention(1, 1);
}

static void test_attention_past_its_cache_is_an_error(void **state) {
    (void)state;
    Rig rig;
    make_attention(&rig, 0, 16);
    double y[17 * Q];
    ir_eval_free(rig_run(&rig, false, 17, Q, y));
    assert_int_equal(rig.diags.errors, 1);
    assert_non_null(strstr(rig.diags.items[0].message, "position 16"));
    rig_end(&rig);
}

/* Two heads of 6 with 4 rotated components, whose first and second pair turn by these rates; 4 and 5 stay. */
static void check_rope(IrAttr *attrs, double first_rate, double second_rate) {
    enum { T = 50 };
    static float x[T * 12];
    fill(x, T * 12, 1);
    Rig rig;
    rig_start(&rig);
    attrs[IR_ROPE_heads].i = 2;
    attrs[IR_ROPE_head_dim].i = 6;
    attrs[IR_ROPE_dim].i = 4;
    attrs[IR_ROPE_theta].f = 100;
    rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_rope, rig_rows(&rig, x, T, 12), rig.b.graph->positions, IR_NONE, attrs));
    double y[T * 12], y64[T * 12];
    ir_eval_free(rig_run(&rig, false, T, 12, y));
    ir_eval_free(rig_run(&rig, true, T, 12, y64));
    for (int t = 0; t < T; t++) {
        for (int first = t * 12; first < t * 12 + 12; first += 6) {
            for (int i = 0; i < 2; i++) {
                bool interleaved = attrs[IR_ROPE_interleaved].i != 0;
                int near = first + (interleaved ? 2 * i : i), far = near + (interleaved ? 1 : 2);
                double angle = t * (i == 0 ? first_rate : second_rate), x0 = x[near], x1 = x[far];
                double turned[] = {x0 * cos(angle) - x1 * sin(angle), x1 * cos(angle) + x0 * sin(angle)};
                assert_near((double[]){y64[near], y64[far]}, turned, 2, 1e-12);
                assert_near((double[]){y[near], y[far]}, turned, 2, 1e-6);
            }
            assert_true(y[first + 4] == x[first + 4] && y[first + 5] == x[first + 5]);
        }
    }
    rig_end(&rig);
}

static void test_rope_of_either_pairing(void **state) {
    (void)state;
    for (int interleaved = 0; interleaved < 2; interleaved++)
        check_rope((IrAttr[IR_rope_ATTRS]){[IR_ROPE_interleaved] = {.i = interleaved}, [IR_ROPE_factor] = {.f = 1}}, 1, 0.1);
}

/* Over 100 positions the pairs turn 15.9 and 1.59 times: fast, on the ramp, slow. */
static void test_rope_that_is_scaled(void **state) {
    (void)state;
    check_rope((IrAttr[IR_rope_ATTRS]){[IR_ROPE_factor] = {.f = 8}}, 1.0 / 8, 0.1 / 8);
    IrAttr llama[IR_rope_ATTRS] = {
        [IR_ROPE_factor] = {.f = 8}, [IR_ROPE_low] = {.f = 1}, [IR_ROPE_high] = {.f = 4}, [IR_ROPE_original] = {.i = 100}};
    double kept = (100 / (2 * acos(-1) / 0.1) - 1) / (4 - 1);
    check_rope(llama, 1, 0.1 * ((1 - kept) / 8 + kept));
    llama[IR_ROPE_low].f = 2;
    llama[IR_ROPE_high].f = 15;
    check_rope(llama, 1, 0.1 / 8);
}

/* ---------------------------------------------------------------------------------------------- the evaluators themselves */

static void test_a_token_outside_the_table_is_an_error(void **state) {
    (void)state;
    static const float x[] = {1, 2};
    Rig rig;
    rig_start(&rig);
    IrGraph *g = rig_finish(&rig, rig_rows(&rig, x, 2, 1));
    IrEval *eval = ir_eval32_new(g, rig_lookup, &rig);
    double y;
    assert_true(ir_eval_token(eval, 1, &y, &rig.diags) && y == 2);
    assert_false(ir_eval_token(eval, 2, &y, &rig.diags));
    assert_int_equal(rig.diags.errors, 1);
    ir_eval_free(eval);
    rig_end(&rig);
}

static void test_a_missing_weight_gives_no_evaluator(void **state) {
    (void)state;
    static const float x[] = {1, 2};
    Rig rig;
    rig_start(&rig);
    IrGraph *g = rig_finish(&rig, rig_rows(&rig, x, 2, 1));
    rig.n_weights = 0;
    assert_null(ir_eval64_new(g, rig_lookup, &rig));
    rig_end(&rig);
}

static void test_only_results_have_values(void **state) {
    (void)state;
    static const float x[] = {1, 2};
    Rig rig;
    rig_start(&rig);
    IrGraph *g = rig_finish(&rig, rig_rows(&rig, x, 2, 1));
    double y;
    IrEval *eval = rig_run(&rig, true, 1, 1, &y);
    assert_true(*ir_eval_value(eval, g->logits) == 1);
    assert_null(ir_eval_value(eval, g->tokens));
    assert_null(ir_eval_value(eval, IR_NONE));
    assert_null(ir_eval_value(eval, 1000));
    ir_eval_free(eval);
    rig_end(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_linear_layer_sums_in_segments),
        cmocka_unit_test(test_a_linear_layer_of_rounded_inputs),
        cmocka_unit_test(test_rounded_inputs_of_experts),
        cmocka_unit_test(test_embedding_of_blocks),
        cmocka_unit_test(test_what_is_not_finite_makes_all_outputs_nan),
        cmocka_unit_test(test_rms_norm),
        cmocka_unit_test(test_rms_norm_in_runs),
        cmocka_unit_test(test_clamp),
        cmocka_unit_test(test_layer_norm_sums_by_lanes),
        cmocka_unit_test(test_selection_prefers_lower_index_and_lists_rising),
        cmocka_unit_test(test_select_bias_chooses_but_does_not_weigh),
        cmocka_unit_test(test_gates_may_keep_their_sum),
        cmocka_unit_test(test_only_experts_of_the_best_groups_are_chosen),
        cmocka_unit_test(test_choosing_all_leaves_no_gap),
        cmocka_unit_test(test_a_router_that_is_not_finite_stops_the_run),
        cmocka_unit_test(test_conv_keeps_the_last_taps),
        cmocka_unit_test(test_conv_of_one_tap_has_no_history),
        cmocka_unit_test(test_small_states_are_cut),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_angles),
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_routed_operations_give_the_bits_of_dense_ones),
        cmocka_unit_test(test_mix_and_sums),
        cmocka_unit_test(test_one_value_a_row_repeats),
        cmocka_unit_test(test_attention_sees_all_before),
        cmocka_unit_test(test_attention_sees_its_window_in_a_ring),
        cmocka_unit_test(test_attention_past_its_cache_is_an_error),
        cmocka_unit_test(test_rope_of_either_pairing),
        cmocka_unit_test(test_rope_that_is_scaled),
        cmocka_unit_test(test_a_token_outside_the_table_is_an_error),
        cmocka_unit_test(test_a_missing_weight_gives_no_evaluator),
        cmocka_unit_test(test_only_results_have_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
