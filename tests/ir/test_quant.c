/* Blocks of 8- and 4-bit weights: what numbers they are, quantising, GGUF's layouts, panels, rounding of inputs. With the words
 * "dequantise q8" or "dequantise q4", the floats of the blocks of GGUF that stdin holds go to stdout (compare_gguf.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "ir/half.h"
#include "ir/quant.h"
#include "ir/quant_gguf.h"
#include "quant_vectors.h"
#include "support/random.h"

enum { MOST_K = 1024 };

/* A row with memory of its own, and the view of it. */
typedef struct Row {
    _Alignas(8) uint8_t memory[IR_PARTS][2 * MOST_K];
    IrRow row;
    IrBlocks blocks;
} Row;

static void make_row(Row *r, IrDtype dtype, uint64_t K) {
    memset(r, 0, sizeof *r);
    r->blocks = (IrBlocks){.dtype = dtype, .rows = 1, .K = K};
    for (int i = 0; i < IR_PARTS; i++) {
        r->row.part[i] = r->memory[i];
        r->blocks.part[i] = ir_part(dtype, (IrPart)i)->suffix != NULL ? r->memory[i] : NULL;
    }
}

static float normal(uint64_t *seed) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += su_unit(su_random(seed));
    return (float)sum;
}

static const int8_t *q8(const Row *r) { return (const int8_t *)r->memory[IR_PART_Q]; }
static uint16_t *halves(Row *r, IrPart part) { return (uint16_t *)(void *)r->memory[part]; }

/* ---- quantising */

static void q8_by_the_largest(void **state) {
    (void)state;
    float w[40] = {0};
    Row r;
    make_row(&r, IR_Q8, 40);
    w[0] = 127;   /* d = 1 */
    w[1] = 2.5f;  /* ties to even */
    w[2] = -3.5f;
    w[3] = 0.49f;
    w[32] = -254; /* of the shorter group: d = 2 */
    w[39] = 3;    /* 1.5 */
    assert_true(ir_quantise(IR_Q8, w, NULL, 40, &r.row));
    assert_int_equal(halves(&r, IR_PART_D)[0], ir_narrow_f16(1));
    assert_int_equal(halves(&r, IR_PART_D)[1], ir_narrow_f16(2));
    const int8_t wanted[] = {127, 2, -4, 0};
    assert_memory_equal(q8(&r), wanted, sizeof wanted);
    assert_int_equal(q8(&r)[32], -127);
    assert_int_equal(q8(&r)[39], 2);
    assert_true(ir_blocks_value(&r.blocks, 0, 32) == -254);
    assert_true(ir_blocks_value(&r.blocks, 0, 39) == 4);
}

static void zeros_stay_zeros(void **state) {
    (void)state;
    const float w[300] = {0};
    for (IrDtype dtype = IR_Q8; dtype <= IR_Q4; dtype++) {
        Row r;
        float back[300];
        make_row(&r, dtype, 300);
        assert_true(ir_quantise(dtype, w, NULL, 300, &r.row));
        ir_blocks_row(&r.blocks, 0, back);
        for (int i = 0; i < 300; i++) assert_true(back[i] == 0);
    }
}

/* d is a subnormal f16, one of few steps: q is held, never wrapped. */
static void subnormal_scales(void **state) {
    (void)state;
    const float least = 0x1p-24f;
    float w[32] = {0};
    Row r;
    make_row(&r, IR_Q8, 32);
    w[0] = 127 * least * 1.49f; /* d would be 1.49 steps */
    w[1] = -w[0];
    w[2] = least * 5;
    assert_true(ir_quantise(IR_Q8, w, NULL, 32, &r.row));
    assert_int_equal(halves(&r, IR_PART_D)[0], 1);
    assert_int_equal(q8(&r)[0], 127);
    assert_int_equal(q8(&r)[1], -127);
    assert_int_equal(q8(&r)[2], 5);
    w[0] = 127 * least * 0.5f; /* half a step: ties to even, so to zero */
    w[1] = w[2] = 0;
    assert_true(ir_quantise(IR_Q8, w, NULL, 32, &r.row));
    assert_int_equal(halves(&r, IR_PART_D)[0], 0);
    assert_int_equal(q8(&r)[0], 0);
    assert_true(ir_blocks_value(&r.blocks, 0, 0) == 0);
}

static void scales_beyond_f16(void **state) {
    (void)state;
    Row r;
    float w[64] = {[40] = -127 * 65504.0f};
    make_row(&r, IR_Q8, 64);
    assert_true(ir_quantise(IR_Q8, w, NULL, 64, &r.row));
    assert_int_equal(halves(&r, IR_PART_D)[1], 0x7BFF);
    w[40] = 127 * 65520.0f;
    assert_false(ir_quantise(IR_Q8, w, NULL, 64, &r.row));
    make_row(&r, IR_Q4, 64);
    w[40] = 1e9f;
    assert_false(ir_quantise(IR_Q4, w, NULL, 64, &r.row));
}

/* The error of a weight is at most half a step, and that of f16 rounding. */
static void quantised_is_near(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 31, 32, 33, 256, 257, 511, 1000};
    uint64_t seed = 3;
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
        for (IrDtype dtype = IR_Q8; dtype <= IR_Q4; dtype++) {
            static float w[MOST_K], back[MOST_K];
            uint64_t K = sizes[n];
            Row r;
            double error = 0, all = 0;
            make_row(&r, dtype, K);
            for (uint64_t i = 0; i < K; i++) w[i] = normal(&seed);
            assert_true(ir_quantise(dtype, w, NULL, K, &r.row));
            assert_int_equal(ir_blocks_check(&r.blocks, 0), IR_ROW_GOOD);
            ir_blocks_row(&r.blocks, 0, back);
            for (uint64_t i = 0; i < K; i++) {
                assert_true(back[i] == ir_blocks_value(&r.blocks, 0, i));
                error += pow(w[i] - back[i], 2);
                all += pow(w[i], 2);
            }
            if (sqrt(error / all) > (dtype == IR_Q8 ? 0.01 : 0.12)) fail_msg("K %d: %g", (int)K, sqrt(error / all));
            for (uint64_t i = ir_part_bytes(dtype, IR_PART_Q, K); i < 2 * MOST_K; i++) assert_int_equal(r.memory[IR_PART_Q][i], 0);
        }
    }
}

/* ---- from files */

static void rows_of_files_are_checked(void **state) {
    (void)state;
    Row r;
    make_row(&r, IR_Q8, 33);
    halves(&r, IR_PART_D)[1] = ir_narrow_f16(0.5f);
    assert_int_equal(ir_blocks_check(&r.blocks, 0), IR_ROW_GOOD);
    r.memory[IR_PART_Q][32] = 0x80;
    assert_int_equal(ir_blocks_check(&r.blocks, 0), IR_ROW_LOW);
    assert_true(ir_blocks_value(&r.blocks, 0, 32) == -127 * 0.5f);
    halves(&r, IR_PART_D)[1] = 0x7C00;
    assert_int_equal(ir_blocks_check(&r.blocks, 0), IR_ROW_NONFINITE);
    make_row(&r, IR_Q4, 257);
    assert_int_equal(ir_blocks_check(&r.blocks, 0), IR_ROW_GOOD);
    halves(&r, IR_PART_M)[1] = 0x7E00;
    assert_int_equal(ir_blocks_check(&r.blocks, 0), IR_ROW_NONFINITE);
    halves(&r, IR_PART_M)[1] = 0;
    r.memory[IR_PART_T][8] = 64;
    assert_int_equal(ir_blocks_check(&r.blocks, 0), IR_ROW_RANGE);
    r.memory[IR_PART_T][8] = 63;
    assert_int_equal(ir_blocks_check(&r.blocks, 0), IR_ROW_GOOD);
}

static void sizes_of_parts(void **state) {
    (void)state;
    assert_int_equal(ir_part_bytes(IR_Q8, IR_PART_Q, 33), 33);
    assert_int_equal(ir_part_bytes(IR_Q8, IR_PART_D, 33), 4);
    assert_int_equal(ir_part_bytes(IR_Q8, IR_PART_M, 33), 0);
    assert_int_equal(ir_part_bytes(IR_Q4, IR_PART_Q, 257), 9 * 16);
    assert_int_equal(ir_part_bytes(IR_Q4, IR_PART_D, 257), 4);
    assert_int_equal(ir_part_bytes(IR_Q4, IR_PART_S, 257), 9);
}

static uint32_t bits_of_value(const Row *r, uint64_t k) { return ir_bits_of(ir_blocks_value(&r->blocks, 0, k)); }

static void gguf_blocks_are_ours(void **state) {
    (void)state;
    Row r;
    uint8_t back[IR_Q4_K_BYTES];
    make_row(&r, IR_Q8, 32);
    ir_row_from_gguf(IR_Q8, q8_0, 32, &r.row);
    for (uint64_t k = 0; k < 32; k++) assert_int_equal(bits_of_value(&r, k), q8_0_values[k]);
    ir_row_to_gguf(&r.blocks, 0, back);
    assert_memory_equal(back, q8_0, sizeof q8_0);
    make_row(&r, IR_Q4, 256);
    ir_row_from_gguf(IR_Q4, q4_k, 256, &r.row);
    for (uint64_t k = 0; k < 256; k++) assert_int_equal(bits_of_value(&r, k), q4_k_values[k]);
    ir_row_to_gguf(&r.blocks, 0, back);
    assert_memory_equal(back, q4_k, sizeof q4_k);
    assert_int_equal(ir_gguf_row_bytes(IR_Q8, 33), 0);
    assert_int_equal(ir_gguf_row_bytes(IR_Q4, 128), 0);
    assert_int_equal(ir_gguf_row_bytes(IR_Q4, 512), 288);
}

/* ---- panels: by the definition in ir/dtype.def */

static float of_q8_panel(const uint8_t *panel, uint64_t k, unsigned lane) {
    const uint8_t *group = panel + k / 32 * 544;
    uint16_t d;
    memcpy(&d, group + 512 + 2 * lane, 2);
    return ir_widen_f16(d) * (float)(int8_t)group[(k % 32 / 4 * 16 + lane) * 4 + k % 4];
}

static float of_q4_panel(const uint8_t *panel, uint64_t K, uint64_t k, unsigned lane) {
    const uint8_t *group = panel + k / 32 * 288, *over = panel + (K + 31) / 32 * 288 + k / 256 * 64;
    uint64_t i = k % 16;
    uint8_t byte = group[(i / 4 * 16 + lane) * 4 + i % 4];
    uint16_t d, m;
    memcpy(&d, over + 2 * lane, 2);
    memcpy(&m, over + 32 + 2 * lane, 2);
    float scale = ir_widen_f16(d) * (float)group[256 + lane], low = ir_widen_f16(m) * (float)group[272 + lane];
    return scale * (float)(k % 32 < 16 ? byte & 15 : byte >> 4) - low;
}

static void panels_hold_each_weight(void **state) {
    (void)state;
    static const uint64_t sizes[] = {1, 32, 45, 256, 300};
    uint64_t seed = 11;
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
        for (IrDtype dtype = IR_Q8; dtype <= IR_Q4; dtype++) {
            static float w[MOST_K];
            static Row rows[16];
            static uint8_t panel[16384];
            uint64_t K = sizes[n], bytes = ir_panel_bytes(dtype, (int64_t)K);
            memset(panel, 0, sizeof panel);
            for (unsigned lane = 0; lane < 13; lane++) { /* lanes past the last output stay zero */
                make_row(&rows[lane], dtype, K);
                for (uint64_t i = 0; i < K; i++) w[i] = normal(&seed);
                assert_true(ir_quantise(dtype, w, NULL, K, &rows[lane].row));
                ir_store_lane(&rows[lane].blocks, 0, lane, panel);
            }
            for (unsigned lane = 0; lane < 16; lane++) {
                for (uint64_t k = 0; k < K; k++) {
                    float wanted = lane < 13 ? ir_blocks_value(&rows[lane].blocks, 0, k) : 0;
                    float got = dtype == IR_Q8 ? of_q8_panel(panel, k, lane) : of_q4_panel(panel, K, k, lane);
                    assert_true(got == wanted);
                }
            }
            for (uint64_t i = bytes; i < sizeof panel; i++) assert_int_equal(panel[i], 0);
        }
    }
}

/* ---- inputs */

static void inputs_are_rounded(void **state) {
    (void)state;
    IrRounded r;
    float x[32] = {254, 3, 5, -253, 1, -1};
    ir_round_group(x, 32, &r);
    assert_true(r.e == 2);
    const int8_t wanted[] = {127, 2, 2, -126, 0, 0, 0}; /* 1.5, 2.5, -126.5, ±0.5: ties to even */
    assert_memory_equal(r.p, wanted, sizeof wanted);
    assert_int_equal(r.sum, 127 + 2 + 2 - 126);
    x[0] = 0x0.ffffffp-100f;
    ir_round_group(x, 1, &r);
    assert_true(r.e == 0 && r.p[0] == 0 && r.sum == 0);
    x[0] = -0x1p-100f;
    ir_round_group(x, 1, &r);
    assert_true(r.e == 0x1p-100f / 127 && r.p[0] == -127 && r.p[1] == 0 && r.sum == -127);
    x[0] = 3.4e38f;
    ir_round_group(x, 1, &r);
    assert_true(r.p[0] == 127);
}

static void inputs_that_are_not_finite(void **state) {
    (void)state;
    const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        IrRounded r;
        float x[32] = {1, 2, 3};
        x[17] = wrong[i];
        ir_round_group(x, 32, &r);
        assert_true(isnan(r.e));
    }
}

/* ---------------------------------------------------------------------------------------------- for compare_gguf.py */

static int dequantise(IrDtype dtype) {
    const uint64_t K = dtype == IR_Q8 ? IR_GROUP : IR_SUPER;
    uint8_t block[IR_Q4_K_BYTES];
    float values[IR_SUPER];
    while (fread(block, 1, ir_gguf_row_bytes(dtype, K), stdin) == ir_gguf_row_bytes(dtype, K)) {
        Row r;
        make_row(&r, dtype, K);
        ir_row_from_gguf(dtype, block, K, &r.row);
        ir_blocks_row(&r.blocks, 0, values);
        fwrite(values, sizeof *values, K, stdout);
    }
    return ferror(stdin) || fflush(stdout) != 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(q8_by_the_largest),
        cmocka_unit_test(zeros_stay_zeros),
        cmocka_unit_test(subnormal_scales),
        cmocka_unit_test(scales_beyond_f16),
        cmocka_unit_test(quantised_is_near),
        cmocka_unit_test(rows_of_files_are_checked),
        cmocka_unit_test(sizes_of_parts),
        cmocka_unit_test(gguf_blocks_are_ours),
        cmocka_unit_test(panels_hold_each_weight),
        cmocka_unit_test(inputs_are_rounded),
        cmocka_unit_test(inputs_that_are_not_finite),
    };
    if (argc == 3 && strcmp(argv[1], "dequantise") == 0) return dequantise(strcmp(argv[2], "q8") == 0 ? IR_Q8 : IR_Q4);
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
