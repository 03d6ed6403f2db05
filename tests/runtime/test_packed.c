/* Packed weights: what is written is what packing in memory gives, is used in place, and anything else is refused. */
#include "tests/runtime/damage.h"
#include "tests/runtime/watch_open.h"

#include "runtime/model.h"
#include "runtime/packed.h"

enum { ROWS = 20, COLUMNS = 7, LANES = 40 };

static const PgTensor tensors[] = {{.name = "m", .rank = 2, .dtype = IR_BF16, .shape = {ROWS, COLUMNS}},
                                   {.name = "v", .rank = 1, .shape = {LANES}}};
static const PgWeight weights[] = {
    {.tensor = 0, .pack = PG_PANELS, .dtype = IR_BF16, .planes = 1, .O = ROWS, .K = COLUMNS, .offset = 0, .bytes = 2 * 4 * 16 * 4},
    {.tensor = 1, .pack = PG_VECTOR, .planes = 1, .O = LANES, .K = 1, .offset = 512, .bytes = 48 * 4},
    {.tensor = 0,
     .pack = PG_PANELS,
     .dtype = IR_BF16,
     .planes = 1,
     .O = ROWS,
     .K = COLUMNS,
     .offset = 4096,
     .bytes = 2 * 4 * 16 * 4},
    {.tensor = 1, .pack = PG_VECTOR, .negexp = 1, .planes = 1, .O = LANES, .K = 1, .offset = 4096 + 576, .bytes = 48 * 4},
};

static const PgProgram program = {.name = "toy",
                                  .spec_hash = {1, 2, 3},
                                  .vocab_size = 4,
                                  .max_rows = 8,
                                  .out_stride = 16,
                                  .steps = {{.arena_fixed = 64}, {.arena_fixed = 64}},
                                  .tensors = tensors,
                                  .n_tensors = 2,
                                  .weights = weights,
                                  .n_weights = 4,
                                  .weight_bytes = 4096 + 576 + 192,
                                  .state_bytes = 64};

static float m[ROWS * COLUMNS], v[LANES];

static const float *lookup(void *context, const char *name) {
    (void)context;
    return strcmp(name, "m") == 0 ? m : v;
}

static MossModel *from_memory(void) {
    MossModel *model;
    assert_int_equal(
        moss_model_from_memory(&program, NULL, lookup, NULL, &(MossOptions){.size = sizeof(MossOptions), .threads = 2}, &model)
            .code,
        MOSS_OK);
    return model;
}

/* The checkpoint and the packed file. */
typedef struct Files {
    Directory directory;
    const char *checkpoint, *packed;
} Files;

static const SuDigest *identity_of(MossModel *model) {
    const SuDigest *identity;
    assert_int_equal(rt_model_identity(model, &identity).code, MOSS_OK);
    return identity;
}

static Files make_files(void) {
    Files f = {.directory = directory_make()};
    f.checkpoint = directory_file(&f.directory, "w.safetensors");
    f.packed = directory_file(&f.directory, "w.weights");
    float data[ROWS * COLUMNS + LANES];
    for (int i = 0; i < ROWS * COLUMNS; i++) data[i] = m[i] = 0.01f * (float)(i * 37 % 101) - 0.3f;
    for (int i = 0; i < LANES; i++) data[ROWS * COLUMNS + i] = v[i] = 0.1f * (float)i - 1;
    write_safetensors(f.checkpoint,
                      "{\"m\":{\"dtype\":\"F32\",\"shape\":[20,7],\"data_offsets\":[0,560]},"
                      "\"v\":{\"dtype\":\"F32\",\"shape\":[40],\"data_offsets\":[560,720]}}",
                      data, sizeof data);
    assert_int_equal(moss_weights_pack(&program, &f.checkpoint, 1, NULL, f.packed).code, MOSS_OK);
    return f;
}

static void expect_refused(MossError error, MossCode code, const char *words) {
    assert_int_equal(error.code, code);
    if (!strstr(error.text, words)) fail_msg("instead of '%s': %s", words, error.text);
}

static void test_a_file_is_what_packing_in_memory_gives(void **unused) {
    (void)unused;
    Files f = make_files();
    MossModel *memory = from_memory(), *checkpoint, *packed;
    assert_int_equal(moss_model_load(&program, NULL, &f.checkpoint, 1, NULL, &checkpoint).code, MOSS_OK);
    assert_int_equal(
        moss_model_load(&program, NULL, &f.packed, 1, &(MossOptions){.size = sizeof(MossOptions), .verify = true}, &packed).code,
        MOSS_OK);
    assert_int_equal(moss_weights_verify(&program, f.packed, NULL).code, MOSS_OK);
    assert_memory_equal(memory->weights.data, packed->weights.data, program.weight_bytes);
    assert_memory_equal(checkpoint->weights.data, packed->weights.data, program.weight_bytes);
    assert_int_equal((uintptr_t)packed->weights.data % RT_PAGE, 0);
    assert_true(su_digest_equal(identity_of(memory), identity_of(packed)));
    v[3] += 1;
    MossModel *other = from_memory();
    assert_false(su_digest_equal(identity_of(other), identity_of(packed)));
    moss_model_free(memory);
    moss_model_free(checkpoint);
    moss_model_free(packed);
    moss_model_free(other);
    directory_remove(&f.directory);
}

/* What it is, is decided from what is open. */
static void test_a_file_is_opened_once(void **unused) {
    (void)unused;
    Files f = make_files();
    MossModel *model;
    times_opened = 0;
    watched = f.packed;
    assert_int_equal(moss_model_load(&program, NULL, &f.packed, 1, NULL, &model).code, MOSS_OK);
    moss_model_free(model);
    assert_int_equal(times_opened, 1);
    assert_int_equal(moss_model_open(&program, NULL, f.packed, NULL, &model).code, MOSS_OK);
    moss_model_free(model);
    assert_int_equal(times_opened, 2);
    assert_int_equal(moss_weights_verify(&program, f.packed, NULL).code, MOSS_OK);
    assert_int_equal(times_opened, 3);
    watched = NULL;
    directory_remove(&f.directory);
}

static void must_verify_badly(void *context, const char *path, const char *what) {
    (void)context;
    MossError error = moss_weights_verify(&program, path, &(MossOptions){.size = sizeof(MossOptions), .threads = 1});
    if (error.code != MOSS_BAD_WEIGHTS && error.code != MOSS_NO_FILE) fail_msg("taken: %s", what);
    assert_true(strlen(error.text) > strlen(path));
}

static void must_not_load(void *context, const char *path, const char *what) {
    (void)context;
    MossModel *model;
    if (moss_model_load(&program, NULL, &path, 1, &(MossOptions){.size = sizeof(MossOptions), .threads = 1}, &model).code ==
        MOSS_OK)
        fail_msg("loaded: %s", what);
    assert_null(model);
}

static void test_damage_anywhere_is_refused(void **unused) {
    (void)unused;
    Files f = make_files();
    try_flips(f.packed, 600, 5, must_verify_badly, NULL);
    try_cuts(f.packed, 97, must_not_load, NULL);
    assert_int_equal(moss_weights_verify(&program, f.packed, NULL).code, MOSS_OK);
    directory_remove(&f.directory);
}

static void test_damage_before_the_tensors_is_found_without_verify(void **unused) {
    (void)unused;
    Files f = make_files();
    Bytes good = read_bytes(f.packed);
    for (size_t at = 0; at < RT_PACKED_ALIGN; at++) {
        good.data[at] ^= 0x10;
        write_bytes(f.packed, good.data, good.size);
        must_not_load(NULL, f.packed, "a byte before the tensors");
        good.data[at] ^= 0x10;
    }
    free(good.data);
    directory_remove(&f.directory);
}

/* The file with a changed header or table, whose digest is right again. */
static void rewrite(const char *path, size_t at, uint32_t value) {
    Bytes bytes = read_bytes(path);
    RtPackedHeader *header = (RtPackedHeader *)(void *)bytes.data;
    memcpy(bytes.data + at, &value, sizeof value);
    header->digest = rt_packed_header_digest(header);
    write_bytes(path, bytes.data, bytes.size);
    free(bytes.data);
}

static void expect_after_rewrite(size_t at, uint32_t value, const char *words) {
    Files f = make_files();
    MossModel *model;
    rewrite(f.packed, at, value);
    expect_refused(moss_model_load(&program, NULL, &f.packed, 1, NULL, &model), MOSS_BAD_WEIGHTS, words);
    directory_remove(&f.directory);
}

static void test_what_does_not_fit_is_refused_with_the_reason(void **unused) {
    (void)unused;
    size_t table = sizeof(RtPackedHeader);
    expect_after_rewrite(offsetof(RtPackedHeader, format), 3, "unsupported format: expected version 2, got 3");
    expect_after_rewrite(offsetof(RtPackedHeader, numerics), 99, "version of the numerics: expected 2, got 99");
    expect_after_rewrite(offsetof(RtPackedHeader, spec_hash), 0, "another spec: 'toy'");
    expect_after_rewrite(offsetof(RtPackedHeader, dtype), IR_F16, "different weights or passes");
    expect_after_rewrite(offsetof(RtPackedHeader, data_offset), 8192, "different weights or passes");
    expect_after_rewrite(table + offsetof(RtPackedTensor, offset), 64, "tensor 'm' has another layout or offset");
    expect_after_rewrite(table + 72 + offsetof(RtPackedTensor, O), 1u << 31, "tensor 'v' has another layout or offset");
    expect_after_rewrite(table + 4 * 72, 'x' << 16 | 'x', "tensors with other names");
    Files f = make_files();
    MossModel *model;
    PgProgram other = program;
    other.spec_hash[15] = 1;
    expect_refused(moss_model_load(&other, NULL, &f.packed, 1, NULL, &model), MOSS_BAD_WEIGHTS,
                   "file was packed for another spec: 'toy'");
    const char *both[] = {f.packed, f.checkpoint};
    expect_refused(moss_model_load(&program, NULL, both, 2, NULL, &model), MOSS_BAD_WEIGHTS,
                   "file has packed weights: it cannot be combined with other files");
    expect_refused(moss_weights_pack(&program, &f.packed, 1, NULL, f.packed), MOSS_BAD_WEIGHTS, "packed again");
    directory_remove(&f.directory);
}

static void test_the_old_file_stays_when_packing_fails(void **unused) {
    (void)unused;
    Files f = make_files();
    Bytes before = read_bytes(f.packed);
    const char *nan = directory_file(&f.directory, "nan.safetensors");
    float data[ROWS * COLUMNS + LANES] = {0};
    memset(&data[5], 0xFF, 4);
    write_safetensors(nan,
                      "{\"m\":{\"dtype\":\"F32\",\"shape\":[20,7],\"data_offsets\":[0,560]},"
                      "\"v\":{\"dtype\":\"F32\",\"shape\":[40],\"data_offsets\":[560,720]}}",
                      data, sizeof data);
    expect_refused(moss_weights_pack(&program, &nan, 1, NULL, f.packed), MOSS_BAD_WEIGHTS, "is NaN");
    expect_refused(moss_weights_pack(&program, &f.checkpoint, 1, NULL, "/nowhere/w.weights"), MOSS_BAD_WEIGHTS, "cannot create");
    Bytes after = read_bytes(f.packed);
    assert_int_equal(before.size, after.size);
    assert_memory_equal(before.data, after.data, before.size);
    free(before.data);
    free(after.data);
    directory_remove(&f.directory); /* fails if a temporary is left */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_is_what_packing_in_memory_gives),
        cmocka_unit_test(test_a_file_is_opened_once),
        cmocka_unit_test(test_damage_anywhere_is_refused),
        cmocka_unit_test(test_damage_before_the_tensors_is_found_without_verify),
        cmocka_unit_test(test_what_does_not_fit_is_refused_with_the_reason),
        cmocka_unit_test(test_the_old_file_stays_when_packing_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
