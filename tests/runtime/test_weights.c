/* Checkpoints against what a model wants, and the evaluators' floats. */
#include "tests/runtime/files.h"
#include "tests/runtime/watch_open.h"

#include <math.h>

#include "runtime/narrow.h"
#include "runtime/weights.h"

static const PgTensor wanted[] = {
    {.name = "embed.weight", .rank = 2, .dtype = IR_BF16, .shape = {2, 3}},
    {.name = "blocks.0.D", .rank = 1, .shape = {4}},
};
enum { WANTED = sizeof wanted / sizeof *wanted };

#define EMBED "\"embed.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}"
#define D_AT(offsets) "\"blocks.0.D\":{\"dtype\":\"F16\",\"shape\":[4],\"data_offsets\":" offsets "}"

static const float embed[6] = {1, -2, 1.00390625f + 0x1p-10f, 0.5f, 1e-3f, -0.0f};
static const uint16_t d[4] = {0x3C00, 0x0001, 0x7BFF, 0x8000};

/* Both tensors one after the other. */
static void both(uint8_t data[32]) {
    memcpy(data, embed, sizeof embed);
    memcpy(data + sizeof embed, d, sizeof d);
}

static void expect_error(const char *const *paths, size_t n_paths, size_t errors, const char *words) {
    SuDiags diags = {0};
    RtCheckpoints checkpoints;
    assert_false(rt_checkpoints_open(paths, n_paths, wanted, WANTED, &checkpoints, &diags));
    assert_int_equal(diags.errors, errors);
    assert_true(says(&diags, words));
    su_diags_free(&diags);
}

static void test_tensors_may_be_spread_over_files(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *paths[] = {directory_file(&directory, "a"), directory_file(&directory, "b")};
    write_safetensors(paths[0], "{" D_AT("[0,8]") "}", d, sizeof d);
    write_safetensors(paths[1], "{" EMBED "}", embed, sizeof embed);
    SuDiags diags = {0};
    RtCheckpoints checkpoints;
    assert_true(rt_checkpoints_open(paths, 2, wanted, WANTED, &checkpoints, &diags));
    assert_string_equal(checkpoints.tensors[0].tensor->name, "embed.weight");
    float values[4];
    rt_read_elements(checkpoints.tensors[1].tensor, 1, 3, values);
    assert_true(values[0] == 0x1p-24f && values[1] == 65504 && values[2] == 0 && signbit(values[2]));
    rt_checkpoints_close(&checkpoints);
    su_diags_free(&diags);
    directory_remove(&directory);
}

/* What it is, is decided from what is open: nobody can put another file in its place in between. */
static void test_a_file_is_opened_once(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *paths[] = {directory_file(&directory, "a"), directory_file(&directory, "b")};
    write_safetensors(paths[0], "{" D_AT("[0,8]") "}", d, sizeof d);
    write_safetensors(paths[1], "{" EMBED "}", embed, sizeof embed);
    const char *index = directory_file(&directory, "model.safetensors.index.json");
    FILE *file = fopen(index, "w");
    fputs("{\"weight_map\":{\"embed.weight\":\"b\",\"blocks.0.D\":\"a\"}}", file);
    fclose(file);
    const char *const given[] = {index, directory.path}, *const all[] = {paths[0], paths[1], index};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
        for (size_t j = 0; j < sizeof all / sizeof *all; j++) {
            SuDiags diags = {0};
            RtCheckpoints checkpoints;
            times_opened = 0;
            watched = all[j];
            assert_true(rt_checkpoints_open(&given[i], 1, wanted, WANTED, &checkpoints, &diags));
            watched = NULL;
            assert_int_equal(times_opened, 1);
            rt_checkpoints_close(&checkpoints);
            su_diags_free(&diags);
        }
    }
    directory_remove(&directory);
}

static void test_what_does_not_fit_is_named(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "a"), *paths[] = {path, path};
    uint8_t data[64] = {0};
    both(data);
    write_safetensors(path, "{" EMBED "}", data, 24);
    expect_error(paths, 1, 1, "tensor 'blocks.0.D' is missing; expected shape [4]");
    write_safetensors(path,
                      "{" EMBED "," D_AT("[24,32]") ",\"blocks.0.E\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[32,36]}}",
                      data, 36);
    expect_error(paths, 1, 1, "tensor 'blocks.0.E' is not part of this model");
    write_safetensors(path, "{" EMBED ",\"blocks.0.D\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[24,32]}}", data, 32);
    expect_error(paths, 1, 1, "tensor 'blocks.0.D': shape: expected [4], got [2, 2]");
    write_safetensors(path, "{" EMBED ",\"blocks.0.D\":{\"dtype\":\"F64\",\"shape\":[4],\"data_offsets\":[24,56]}}", data, 56);
    expect_error(paths, 1, 1, "tensor 'blocks.0.D': dtype: expected F32, BF16 or F16, got F64");
    write_safetensors(path, "{" EMBED "," D_AT("[24,32]") "}", data, 32);
    expect_error(paths, 2, 2, "tensor 'embed.weight' is also in");
    expect_error(paths, 0, 2, "tensor 'embed.weight' is missing; expected shape [2, 3]");
    directory_remove(&directory);
}

static void test_a_misspelt_tensor_gets_a_hint(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "a");
    write_safetensors(path, "{\"embed.weights\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}," D_AT("[24,32]") "}",
                      embed, 24);
    FILE *file = fopen(path, "ab");
    fwrite(d, 1, sizeof d, file);
    fclose(file);
    SuDiags diags = {0};
    RtCheckpoints checkpoints;
    assert_false(rt_checkpoints_open(&path, 1, wanted, WANTED, &checkpoints, &diags));
    assert_int_equal(diags.errors, 2); /* unknown, and one missing */
    assert_string_equal(diags.items[0].hint, "the model has 'embed.weight'");
    su_diags_free(&diags);
    directory_remove(&directory);
}

/* ---- tensors in blocks */

/* A tensor of one row of 40 weights, q8 or q4, in parts, and float ones beside it. */
typedef struct Part {
    const char *name, *dtype;
    int64_t n;
    const void *data;
} Part;

static void give(void *context, size_t tensor, uint64_t first, uint64_t count, void *out) {
    const Part *part = (const Part *)context + tensor;
    uint64_t size = rt_dtype_bytes(part->dtype);
    memcpy(out, (const uint8_t *)part->data + first * size, count * size);
}

static void write_parts(const char *path, const Part *parts, size_t n) {
    RtWriteTensor tensors[8];
    SuDiags diags = {0};
    for (size_t i = 0; i < n; i++)
        tensors[i] = (RtWriteTensor){.name = parts[i].name, .dtype = parts[i].dtype, .rank = 2, .shape = {1, parts[i].n}};
    assert_true(rt_safetensors_write(path, tensors, n, give, (void *)(uintptr_t)parts, &diags));
}

static const int8_t q8[40] = {1, -127, [31] = 2, [32] = 5, [39] = -128};
static const uint8_t q4[32] = {0x21, [15] = 0xF0, [16] = 7}, scales[2] = {3, 63}, lows[2] = {1, 0}, wrong_scales[2] = {64, 0};
static const uint16_t halves[2] = {0x3C00, 0x4000}, infinite[2] = {0x3C00, 0x7C00}; /* 1 and 2 */
static const float floats[40] = {[3] = 254, [39] = -1};
#define Q8_PART {"w.q8", "I8", 40, q8}
#define Q4_PARTS                                                                                                                   \
    {"w.q4", "U8", 32, q4}, {"w.d", "F16", 1, halves}, {"w.m", "F16", 1, halves + 1}, { "w.s", "U8", 2, scales }

static RtSource *open_parts(const Part *parts, size_t n, IrDtype dtype, SuDiags *diags) {
    static PgTensor tensor = {.name = "w", .rank = 2, .shape = {1, 40}};
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "a");
    tensor.dtype = dtype;
    write_parts(path, parts, n);
    RtSource *source = rt_source_open(&path, 1, &tensor, 1, diags);
    directory_remove(&directory);
    return source;
}

#define N_PARTS(...) (const Part[]){__VA_ARGS__}, sizeof((const Part[]){__VA_ARGS__}) / sizeof(Part)

static void expect_parts_error(const char *words, IrDtype dtype, const Part *parts, size_t n) {
    SuDiags diags = {0};
    assert_null(open_parts(parts, n, dtype, &diags));
    if (!says(&diags, words)) fail_msg("'%s', not '%s'", diags.items[0].message, words);
    su_diags_free(&diags);
}

static void test_blocks_are_read_as_they_are(void **unused) {
    (void)unused;
    SuDiags diags = {0};
    RtSource *source = open_parts(N_PARTS(Q8_PART, {"w.d", "F16", 2, halves}), IR_Q8, &diags);
    assert_non_null(source);
    IrBlocks w = rt_source_lookup(source, "w").blocks;
    assert_int_equal(w.rows, 1);
    assert_true(ir_blocks_value(&w, 0, 1) == -127 && ir_blocks_value(&w, 0, 32) == 10 && ir_blocks_value(&w, 0, 39) == -254);
    assert_int_equal(diags.warnings, 1);
    assert_true(says(&diags, "tensor 'w.q8' holds -128, which is read as -127"));
    su_diags_free(&diags);
    rt_source_close(source);
    diags = (SuDiags){0};
    source = open_parts(N_PARTS({"w.t", "U8", 2, lows}, Q4_PARTS), IR_Q4, &diags);
    w = rt_source_lookup(source, "w").blocks;
    assert_true(ir_blocks_value(&w, 0, 0) == 3 * 1 - 2 && ir_blocks_value(&w, 0, 1) == 3 * 2 - 2);
    assert_true(ir_blocks_value(&w, 0, 31) == 3 * 15 - 2 && ir_blocks_value(&w, 0, 32) == 63 * 7);
    rt_source_close(source);
    assert_int_equal(diags.count, 0);
    su_diags_free(&diags);
}

static void test_elements_are_quantised(void **unused) {
    (void)unused;
    SuDiags diags = {0};
    RtSource *source = open_parts(N_PARTS({"w", "F32", 40, floats}), IR_Q8, &diags);
    IrBlocks w = rt_source_lookup(source, "w").blocks;
    assert_true(ir_blocks_value(&w, 0, 3) == 254);
    assert_int_equal((int8_t)w.part[IR_PART_Q][3], 127);
    assert_int_equal((int8_t)w.part[IR_PART_Q][39], -127);
    rt_source_close(source);
    su_diags_free(&diags);
    static float bad[40];
    memcpy(bad, floats, sizeof bad);
    bad[33] = 1e7f;
    expect_parts_error("tensor 'w': row [0]: weights are too large for q8: a scale is out of range for f16", IR_Q8,
                       N_PARTS({"w", "F32", 40, bad}));
    bad[33] = -INFINITY;
    expect_parts_error("tensor 'w': element [0, 33] is infinite: expected finite weights", IR_Q4, N_PARTS({"w", "F32", 40, bad}));
}

static void test_parts_that_do_not_fit_are_named(void **unused) {
    (void)unused;
    const Part d8 = {"w.d", "F16", 2, halves};
    expect_parts_error("tensor 'w' is stored as q8, but it is q4 in the spec", IR_Q4, N_PARTS(Q8_PART, d8));
    expect_parts_error("tensor 'w' is stored as q8, but it is bf16 in the spec", IR_BF16, N_PARTS(Q8_PART, d8));
    expect_parts_error("tensor 'w' is there twice: also as 'w.q8'", IR_Q8, N_PARTS(Q8_PART, d8, {"w", "F32", 40, floats}));
    expect_parts_error("tensor 'w' is there twice: as q8 and as q4", IR_Q8, N_PARTS(Q8_PART, d8, {"w.q4", "U8", 32, q4}));
    expect_parts_error("tensor 'w.d' is missing; expected F16 [1, 2] beside 'w.q8'", IR_Q8, N_PARTS(Q8_PART));
    expect_parts_error("tensor 'w.t' is missing; expected U8 [1, 2] beside 'w.q4'", IR_Q4, N_PARTS(Q4_PARTS));
    expect_parts_error("tensor 'w.d' is without 'w.q8' or 'w.q4'", IR_Q8, N_PARTS(d8));
    expect_parts_error("tensor 'w.s' is no part of q8 weights", IR_Q8, N_PARTS(Q8_PART, d8, {"w.s", "U8", 2, scales}));
    expect_parts_error("tensor 'w.d': dtype: expected F16, got BF16", IR_Q8, N_PARTS(Q8_PART, {"w.d", "BF16", 2, halves}));
    expect_parts_error("tensor 'w.d': shape: expected [1, 2], got [1, 1]", IR_Q8, N_PARTS(Q8_PART, {"w.d", "F16", 1, halves}));
    expect_parts_error("tensor 'w.q8': dtype: expected I8, got U8", IR_Q8, N_PARTS({"w.q8", "U8", 40, q8}, d8));
    expect_parts_error("tensor 'w': row [0]: d is not finite", IR_Q8, N_PARTS(Q8_PART, {"w.d", "F16", 2, infinite}));
    expect_parts_error("tensor 'w': row [0]: s or t is above 63", IR_Q4, N_PARTS(Q4_PARTS, {"w.t", "U8", 2, wrong_scales}));
    expect_parts_error("tensor 'x.q8' is not part of this model", IR_Q8, N_PARTS({"x.q8", "I8", 40, q8}));
}

/* The source of one file with embed.weight in a dtype. */
static RtSource *open_as(const char *path, IrDtype dtype, SuDiags *diags) {
    static PgTensor tensors[WANTED]; /* the source refers to them */
    memcpy(tensors, wanted, sizeof tensors);
    tensors[0].dtype = dtype;
    return rt_source_open(&path, 1, tensors, WANTED, diags);
}

static void test_the_source_rounds_each_tensor_to_its_dtype(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "a");
    uint8_t data[32];
    both(data);
    write_safetensors(path, "{" D_AT("[24,32]") "," EMBED "}", data, sizeof data);
    SuDiags diags = {0};
    RtSource *source = open_as(path, IR_BF16, &diags);
    assert_non_null(source);
    const float *e = rt_source_lookup(source, "embed.weight").f, *dd = rt_source_lookup(source, "blocks.0.D").f;
    assert_true(e[0] == 1 && e[2] == 1.0078125f && e[4] == rt_widen_bf16(rt_narrow_bf16(1e-3f)) && signbit(e[5]));
    assert_true(dd[1] == 0x1p-24f && dd[2] == 65504); /* float32: as stored */
    assert_null(rt_source_lookup(source, "blocks.1.D").f);
    rt_source_close(source);
    source = open_as(path, IR_F32, &diags);
    assert_true(rt_source_lookup(source, "embed.weight").f[2] == embed[2]);
    rt_source_close(source);
    su_diags_free(&diags);
    directory_remove(&directory);
}

static void expect_value_error(const float values[6], IrDtype dtype, const char *words) {
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "a");
    uint8_t data[32];
    both(data);
    memcpy(data, values, 24);
    write_safetensors(path, "{" D_AT("[24,32]") "," EMBED "}", data, sizeof data);
    SuDiags diags = {0};
    RtSource *source = open_as(path, dtype, &diags);
    if (words) {
        assert_null(source);
        assert_true(says(&diags, words));
    } else {
        assert_non_null(source);
    }
    rt_source_close(source);
    su_diags_free(&diags);
    directory_remove(&directory);
}

static void test_values_that_are_no_weights_are_named(void **unused) {
    (void)unused;
    float values[6] = {0};
    values[4] = NAN;
    expect_value_error(values, IR_F32, "tensor 'embed.weight': element [1, 1] is NaN");
    values[4] = 0;
    values[5] = -INFINITY;
    expect_value_error(values, IR_BF16, "tensor 'embed.weight': element [1, 2] is infinite");
    values[5] = 0;
    values[0] = 65520;
    expect_value_error(values, IR_F16, "tensor 'embed.weight': element [0, 0] is 65520, out of range for f16 (at most 65504)");
    expect_value_error(values, IR_BF16, NULL);
    values[0] = 3.4e38f;
    expect_value_error(values, IR_BF16, "out of range for bf16");
    expect_value_error(values, IR_F32, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_may_be_spread_over_files),
        cmocka_unit_test(test_a_file_is_opened_once),
        cmocka_unit_test(test_blocks_are_read_as_they_are),
        cmocka_unit_test(test_elements_are_quantised),
        cmocka_unit_test(test_parts_that_do_not_fit_are_named),
        cmocka_unit_test(test_what_does_not_fit_is_named),
        cmocka_unit_test(test_a_misspelt_tensor_gets_a_hint),
        cmocka_unit_test(test_the_source_rounds_each_tensor_to_its_dtype),
        cmocka_unit_test(test_values_that_are_no_weights_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
