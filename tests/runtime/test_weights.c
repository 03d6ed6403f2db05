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
    assert_string_equal(checkpoints.tensors[0]->name, "embed.weight");
    float values[4];
    rt_read_elements(checkpoints.tensors[1], 1, 3, values);
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
        cmocka_unit_test(test_what_does_not_fit_is_named),
        cmocka_unit_test(test_a_misspelt_tensor_gets_a_hint),
        cmocka_unit_test(test_the_source_rounds_each_tensor_to_its_dtype),
        cmocka_unit_test(test_values_that_are_no_weights_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
