/* Packed weights hold every element at its place, narrowed and transformed, for every layout and any number of workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "ir/vmath32.h"
#include "runtime/memory.h"
#include "runtime/narrow.h"
#include "runtime/weights.h"
#include "support/size.h"

/* One tensor [planes, O, K] with one packed form. */
typedef struct Form {
    int64_t planes, O, K;
    PgPack pack;
    IrDtype dtype;
    bool negexp;
} Form;

static float value_of(uint64_t index) { return (float)(index % 4099) / 64 - 20; }

static const float *make_values(uint64_t count) {
    float *values = malloc(count * sizeof *values);
    for (uint64_t i = 0; i < count; i++) values[i] = value_of(i);
    return values;
}

/* What a panel holds of (k, lane), by the definition in program.h; and a value rounded to what the dtype holds. */
static float at_f32(const uint8_t *panel, int64_t k, int64_t lane) { return ((const float *)(const void *)panel)[k * 16 + lane]; }
static float round_f32(float x) { return x; }
static uint16_t half_at(const uint8_t *panel, int64_t k, int64_t lane) {
    return ((const uint16_t *)(const void *)panel)[(k / 2 * 16 + lane) * 2 + k % 2];
}
static float at_bf16(const uint8_t *panel, int64_t k, int64_t lane) { return rt_widen_bf16(half_at(panel, k, lane)); }
static float round_bf16(float x) { return rt_widen_bf16(rt_narrow_bf16(x)); }
static float at_f16(const uint8_t *panel, int64_t k, int64_t lane) { return rt_widen_f16(half_at(panel, k, lane)); }
static float round_f16(float x) { return rt_widen_f16(rt_narrow_f16(x)); }

static const struct {
    float (*at)(const uint8_t *panel, int64_t k, int64_t lane);
    float (*round)(float x);
    int64_t group, group_bytes;
} dtypes[IR_STORED_DTYPES] = {
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most)                                         \
    [IR_##NAME] = {at_##name, round_##name, group, group_bytes},
#define IR_BLOCK_DTYPE(...) /* below */
#include "ir/dtype.def"
};

static uint64_t panel_bytes(const Form *f) {
    return su_ceil_div((uint64_t)f->K, (uint64_t)dtypes[f->dtype].group) * (uint64_t)dtypes[f->dtype].group_bytes;
}

static uint64_t bytes_of(const Form *f) { return (uint64_t)f->planes * pg_panels(f->O) * panel_bytes(f); }

static float packed_at(const Form *f, const uint8_t *blob, int64_t plane, int64_t row, int64_t k) {
    uint64_t panel = (uint64_t)plane * pg_panels(f->O) + (uint64_t)row / 16;
    return dtypes[f->dtype].at(blob + panel * panel_bytes(f), k, row % 16);
}

static float expected_at(const Form *f, int64_t plane, int64_t row, int64_t k) {
    if (row >= f->O || k >= f->K) return 0;
    float value = dtypes[f->dtype].round(value_of((uint64_t)((plane * f->O + row) * f->K + k)));
    return f->negexp ? -vm_exp(value) : value;
}

static void check_blob(const Form *f, const uint8_t *blob) {
    int64_t columns = (int64_t)su_round_up((uint64_t)f->K, (uint64_t)dtypes[f->dtype].group); /* the last group ends in zeros */
    for (int64_t plane = 0; plane < f->planes; plane++) {
        for (int64_t row = 0; row < (int64_t)pg_panels(f->O) * 16; row++) {
            for (int64_t k = 0; k < columns; k++) {
                float got = packed_at(f, blob, plane, row, k), want = expected_at(f, plane, row, k);
                if (ir_bits_of(got) != ir_bits_of(want))
                    fail_msg("plane %d row %d k %d: %g, not %g", (int)plane, (int)row, (int)k, (double)got, (double)want);
            }
        }
    }
}

static void pack_and_check(const Form *f, int threads) {
    uint64_t elements = (uint64_t)(f->planes * f->O * f->K);
    PgTensor tensor = {.name = "t", .rank = 3, .dtype = f->dtype, .shape = {f->planes, f->O, f->K}};
    PgWeight weights[2] = {{.pack = f->pack, .dtype = f->dtype, .negexp = f->negexp, .planes = f->planes, .O = f->O, .K = f->K}};
    weights[0].bytes = bytes_of(f);
    weights[1] = weights[0]; /* a tensor may have several forms */
    weights[1].offset = su_round_up(weights[0].bytes, 4096);
    PgProgram program = {.name = "test", .tensors = &tensor, .n_tensors = 1, .weights = weights, .n_weights = 2};
    program.weight_bytes = weights[1].offset + weights[1].bytes;
    const float *values = make_values(elements);
    RtTensor source = {.name = "t", .readable = true, .elements = elements, .data = (const uint8_t *)values, .bytes = elements * 4};
    const RtStored sources[] = {{.tensor = &source}};
    RtPages blob = rt_pages_alloc(program.weight_bytes);
    RtWorkers *workers = rt_workers_create(threads, true);
    SuDiags diags = {0};
    RtPacking packing = {.program = &program, .tensors = sources, .workers = workers, .blob = blob.data};
    assert_true(rt_pack(&packing, &diags));
    check_blob(f, blob.data);
    check_blob(f, blob.data + weights[1].offset);
    rt_workers_free(workers);
    rt_pages_free(&blob);
    su_diags_free(&diags);
    free((void *)(uintptr_t)values);
}

static void test_every_layout_holds_every_element(void **unused) {
    (void)unused;
    static const Form forms[] = {
        {1, 16, 1, PG_PANELS, IR_F32, false},    {1, 48, 300, PG_PANELS, IR_F32, false},  {3, 17, 257, PG_PANELS, IR_F32, false},
        {1, 32, 512, PG_PANELS, IR_BF16, false}, {2, 35, 7, PG_PANELS, IR_BF16, false},   {1, 1, 1, PG_PANELS, IR_BF16, false},
        {1, 16, 255, PG_PANELS, IR_F16, false},  {4, 100, 513, PG_PANELS, IR_F16, false}, {2, 16, 256, PG_PANELS, IR_F16, false},
        {1, 40, 1, PG_VECTOR, IR_F32, false},    {5, 13, 1, PG_VECTOR, IR_F32, false},    {1, 24, 4, PG_CHANNELS, IR_F32, false},
        {3, 33, 16, PG_CHANNELS, IR_F32, true},
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        pack_and_check(&forms[i], 1);
        pack_and_check(&forms[i], 3);
    }
}

/* ---- blocks: panels are those that ir_store_lane makes (tests/ir/test_quant.c) of the rows that ir_quantise makes */

enum { PLANES = 2, BLOCK_O = 19, BLOCK_K = 300, ROWS = PLANES * BLOCK_O };

/* A tensor [PLANES, BLOCK_O, BLOCK_K], quantised. */
typedef struct Quantised {
    uint8_t *memory[IR_PARTS];
    IrBlocks blocks;
} Quantised;

static Quantised quantise(IrDtype dtype, const float *values) {
    Quantised q = {.blocks = {.dtype = dtype, .rows = ROWS, .K = BLOCK_K}};
    for (int i = 0; i < IR_PARTS; i++) {
        uint64_t bytes = ir_part_bytes(dtype, (IrPart)i, BLOCK_K);
        if (bytes) q.blocks.part[i] = q.memory[i] = calloc(ROWS, bytes);
    }
    for (uint64_t row = 0; row < ROWS; row++) {
        IrRow out = {0};
        for (int i = 0; i < IR_PARTS; i++)
            if (q.memory[i]) out.part[i] = q.memory[i] + row * ir_part_bytes(dtype, (IrPart)i, BLOCK_K);
        assert_true(ir_quantise(dtype, values + row * BLOCK_K, NULL, BLOCK_K, &out));
    }
    return q;
}

static uint64_t block_bytes(const PgWeight *w) {
    return (uint64_t)w->planes * pg_panels(w->O) * ir_panel_bytes((IrDtype)w->dtype, w->K);
}

static void check_block_panels(const IrBlocks *blocks, const uint8_t *blob) {
    uint64_t bytes = ir_panel_bytes(blocks->dtype, BLOCK_K);
    uint8_t *panel = malloc(bytes);
    for (uint64_t unit = 0; unit < PLANES * pg_panels(BLOCK_O); unit++) {
        uint64_t plane = unit / pg_panels(BLOCK_O), first = unit % pg_panels(BLOCK_O) * 16;
        memset(panel, 0, bytes);
        for (unsigned lane = 0; lane < 16 && first + lane < BLOCK_O; lane++)
            ir_store_lane(blocks, plane * BLOCK_O + first + lane, lane, panel);
        assert_memory_equal(panel, blob + unit * bytes, bytes);
    }
    free(panel);
}

/* Whether the tensor stands as elements or as blocks. */
static void pack_blocks(IrDtype dtype, const float *values, const Quantised *q, bool as_blocks, int threads) {
    PgTensor tensor = {.name = "t", .rank = 3, .dtype = dtype, .shape = {PLANES, BLOCK_O, BLOCK_K}};
    PgWeight weight = {.pack = PG_PANELS, .dtype = dtype, .planes = PLANES, .O = BLOCK_O, .K = BLOCK_K};
    weight.bytes = block_bytes(&weight);
    PgProgram program = {
        .name = "test", .tensors = &tensor, .n_tensors = 1, .weights = &weight, .n_weights = 1, .weight_bytes = weight.bytes};
    RtTensor source = {.name = "t", .readable = true, .elements = ROWS * BLOCK_K, .data = (const uint8_t *)values};
    RtStored stored = {.tensor = &source};
    if (as_blocks) stored = (RtStored){.blocks = q->blocks};
    RtPages blob = rt_pages_alloc(program.weight_bytes);
    RtWorkers *workers = rt_workers_create(threads, true);
    SuDiags diags = {0};
    RtPacking packing = {.program = &program, .tensors = &stored, .workers = workers, .blob = blob.data};
    assert_true(rt_pack(&packing, &diags));
    assert_int_equal(diags.count, 0);
    check_block_panels(&q->blocks, blob.data);
    rt_workers_free(workers);
    rt_pages_free(&blob);
    su_diags_free(&diags);
}

static void test_panels_of_blocks(void **unused) {
    (void)unused;
    const float *values = make_values(ROWS * BLOCK_K);
    for (IrDtype dtype = IR_Q8; dtype <= IR_Q4; dtype++) {
        Quantised q = quantise(dtype, values);
        for (int threads = 1; threads <= 3; threads += 2) {
            pack_blocks(dtype, values, &q, false, threads);
            pack_blocks(dtype, values, &q, true, threads);
        }
        for (int i = 0; i < IR_PARTS; i++) free(q.memory[i]);
    }
    free((void *)(uintptr_t)values);
}

/* Of a tensor that is packed, and of one that nothing uses. */
static void test_odd_blocks_are_named(void **unused) {
    (void)unused;
    PgTensor tensors[] = {{.name = "t", .rank = 3, .dtype = IR_Q8, .shape = {PLANES, BLOCK_O, BLOCK_K}},
                          {.name = "idle", .rank = 2, .dtype = IR_Q8, .shape = {ROWS, BLOCK_K}}};
    PgWeight weight = {.pack = PG_PANELS, .dtype = IR_Q8, .planes = PLANES, .O = BLOCK_O, .K = BLOCK_K};
    weight.bytes = block_bytes(&weight);
    PgProgram program = {
        .name = "test", .tensors = tensors, .n_tensors = 2, .weights = &weight, .n_weights = 1, .weight_bytes = weight.bytes};
    float *values = (float *)(uintptr_t)make_values(ROWS * BLOCK_K);
    RtTensor source = {.name = "idle", .readable = true, .elements = ROWS * BLOCK_K, .data = (const uint8_t *)values};
    Quantised q = quantise(IR_Q8, values);
    RtStored stored[] = {{.blocks = q.blocks}, {.tensor = &source}};
    RtPages blob = rt_pages_alloc(program.weight_bytes);
    RtWorkers *workers = rt_workers_create(2, true);
    SuDiags diags = {0};
    RtPacking packing = {.program = &program, .tensors = stored, .workers = workers, .blob = blob.data};
    q.memory[IR_PART_Q][20 * BLOCK_K + 5] = 0x80;
    assert_true(rt_pack(&packing, &diags));
    assert_int_equal(diags.warnings, 1);
    assert_string_equal(diags.items[0].message, "tensor 't.q8' holds -128, which is read as -127");
    su_diags_free(&diags);
    diags = (SuDiags){0};
    q.memory[IR_PART_D][2 * 10 * 21 + 1] = 0x7C; /* the first d of row 21 is infinite: plane 1, output 2 */
    q.memory[IR_PART_D][2 * 10 * 21] = 0;
    values[3 * BLOCK_K] = NAN;
    assert_false(rt_pack(&packing, &diags));
    assert_int_equal(diags.errors, 2);
    assert_string_equal(diags.items[0].message, "tensor 't': row [1, 2]: d is not finite");
    assert_string_equal(diags.items[1].message, "tensor 'idle': element [3, 0] is NaN: expected finite weights");
    su_diags_free(&diags);
    rt_workers_free(workers);
    rt_pages_free(&blob);
    for (int i = 0; i < IR_PARTS; i++) free(q.memory[i]);
    free(values);
}

static void told(void *context, uint64_t done, uint64_t total) {
    uint64_t *last = context;
    assert_true(done >= *last && done <= total);
    *last = done;
}

static void test_bad_values_are_named_and_progress_is_told(void **unused) {
    (void)unused;
    enum { O = 64, K = 4096 };
    static float values[O * K], unused_values[2];
    PgTensor tensors[] = {{.name = "big", .rank = 2, .dtype = IR_F16, .shape = {O, K}}, {.name = "idle", .rank = 1, .shape = {2}}};
    PgWeight weight = {.pack = PG_PANELS, .dtype = IR_F16, .planes = 1, .O = O, .K = K, .bytes = O * K * 2};
    PgProgram program = {
        .name = "test", .tensors = tensors, .n_tensors = 2, .weights = &weight, .n_weights = 1, .weight_bytes = O * K * 2};
    RtTensor sources[] = {{.name = "big", .readable = true, .elements = O * K, .data = (uint8_t *)values, .bytes = sizeof values},
                          {.name = "idle", .readable = true, .elements = 2, .data = (uint8_t *)unused_values, .bytes = 8}};
    const RtStored pointers[] = {{.tensor = &sources[0]}, {.tensor = &sources[1]}};
    RtPages blob = rt_pages_alloc(program.weight_bytes);
    RtWorkers *workers = rt_workers_create(2, true);
    uint64_t done = 0;
    RtPacking packing = {.program = &program,
                         .tensors = pointers,
                         .workers = workers,
                         .progress = told,
                         .progress_context = &done,
                         .blob = blob.data};
    SuDiags diags = {0};
    assert_true(rt_pack(&packing, &diags));
    assert_true(done > 0);
    values[40 * K + 17] = 1e6f;
    values[50 * K + 1] = NAN; /* the first one is named */
    unused_values[1] = INFINITY;
    done = 0;
    assert_false(rt_pack(&packing, &diags));
    assert_int_equal(diags.errors, 2);
    assert_string_equal(diags.items[0].message, "tensor 'big': element [40, 17] is 1e+06, out of range for f16 (at most 65504)");
    assert_string_equal(diags.items[1].message, "tensor 'idle': element [1] is infinite: expected finite weights");
    su_diags_free(&diags);
    rt_workers_free(workers);
    rt_pages_free(&blob);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_layout_holds_every_element),
        cmocka_unit_test(test_panels_of_blocks),
        cmocka_unit_test(test_odd_blocks_are_named),
        cmocka_unit_test(test_bad_values_are_named_and_progress_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
