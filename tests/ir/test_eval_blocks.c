/* Both evaluators on weights in blocks, q8 and q4. */
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
        assert_true(ir_eval_most_step(eval) > 0.25 && ir_eval_most_step(eval) < 0.5 + 1e-4);
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

/* An input that is half a step in float and a little more in double: rounded to 0 by one evaluator, to 1 by the other, unless that takes
 * the former's integer. */
static void test_rounding_is_replayed(void **state) {
    (void)state;
    enum { K = 3 };
    static const float w[K] = {127, 127, 127}, x[K] = {127, 0.5f, 0}, more[K] = {0, 0x1p-25f, 0};
    Blocks b = make_blocks(IR_Q8, w, 1, K);
    Rig rig;
    rig_start(&rig);
    IrValueId weight = rig_blocks(&rig, "w", &b.view, ir_type(IR_Q8, 2, (int64_t)1, (int64_t)K));
    IrValueId bias = rig_weight(&rig, "more", more, ir_type(IR_F32, 1, (int64_t)K)), sum = rig_rows(&rig, x, 1, K);
    for (int i = 0; i < 2; i++) sum = ir_op1(&rig.b, IR_OP_add_bias, sum, bias, IR_NONE);
    rig_finish(&rig, ir_op1_attrs(&rig.b, IR_OP_linear, sum, weight, IR_NONE, RIG_ATTRS({.i = 1})));
    for (int replays = 0; replays < 2; replays++) {
        double y, y64;
        IrEval *eval = rig_run(&rig, false, 1, 1, &y), *eval64 = ir_eval64_new(rig.b.graph, rig_lookup, &rig);
        if (replays) ir_eval_replay(eval64, eval);
        assert_true(ir_eval_token(eval64, 0, &y64, &rig.diags));
        assert_true(y == 127 * 127);
        assert_true(y64 == 127 * (replays ? 127 : 128));
        assert_true(ir_eval_most_step(eval64) == (replays ? 0.5 + 0x1p-24 : 0.5 - 0x1p-24));
        ir_eval_free(eval64);
        ir_eval_free(eval);
    }
    rig_end(&rig);
    free_blocks(&b);
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
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_linear_layer_of_rounded_inputs),
        cmocka_unit_test(test_rounded_inputs_of_experts),
        cmocka_unit_test(test_embedding_of_blocks),
        cmocka_unit_test(test_rounding_is_replayed),
        cmocka_unit_test(test_what_is_not_finite_makes_all_outputs_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
