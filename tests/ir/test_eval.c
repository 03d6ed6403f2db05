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
#include "tests/ir/numbers.h"
#include "tests/ir/rig.h"

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
