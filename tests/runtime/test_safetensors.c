/* The safetensors reader: what is well-formed is read exactly, everything else is refused with its reason. And the writer. */
#include "tests/runtime/files.h"

#include "runtime/safetensors.h"

/* A file in memory: header length, header, data_size bytes of data. */
typedef struct Image {
    uint8_t bytes[1 << 16];
    size_t size;
} Image;

static void make_image(Image *image, const char *header, size_t header_size, size_t data_size) {
    assert_true(8 + header_size + data_size <= sizeof image->bytes);
    memset(image->bytes, 0, sizeof image->bytes);
    image->bytes[0] = (uint8_t)header_size;
    image->bytes[1] = (uint8_t)(header_size >> 8);
    memcpy(image->bytes + 8, header, header_size);
    for (size_t i = 0; i < data_size; i++) image->bytes[8 + header_size + i] = (uint8_t)i;
    image->size = 8 + header_size + data_size;
}

static bool parse(const char *header, size_t data_size, RtSafetensors *out, SuDiags *diags) {
    static Image image; /* out points into it */
    make_image(&image, header, strlen(header), data_size);
    return rt_safetensors_parse(image.bytes, image.size, "test", out, diags);
}

static void expect_error(const char *header, size_t data_size, const char *words) {
    SuDiags diags = {0};
    RtSafetensors file;
    assert_false(parse(header, data_size, &file, &diags));
    assert_true(says(&diags, words));
    su_diags_free(&diags);
}

static void test_a_plain_file_is_read(void **unused) {
    (void)unused;
    RtSafetensors file;
    SuDiags diags = {0};
    assert_true(parse("{\"__metadata__\":{\"format\":\"pt\"},"
                      "\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[16,22]},"
                      "\"a\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[0,16]},"
                      "\"none\":{\"shape\":[0,4],\"dtype\":\"F16\",\"data_offsets\":[16,16]},"
                      "\"one\":{\"data_offsets\":[22,26],\"shape\":[],\"dtype\":\"F32\"}}  ",
                      26, &file, &diags));
    assert_int_equal(file.count, 4);
    const RtTensor *a = rt_safetensors_find(&file, "a"), *b = rt_safetensors_find(&file, "b");
    assert_non_null(a);
    assert_int_equal(a->rank, 2);
    assert_int_equal(a->shape[1], 2);
    assert_int_equal(a->elements, 4);
    assert_int_equal(a->data[5], 5);
    assert_int_equal(b->dtype, IR_BF16);
    assert_int_equal(b->data[0], 16);
    assert_int_equal(rt_safetensors_find(&file, "one")->elements, 1);
    assert_int_equal(rt_safetensors_find(&file, "none")->elements, 0);
    assert_null(rt_safetensors_find(&file, "c"));
    rt_safetensors_close(&file);
    assert_int_equal(diags.errors, 0);
    su_diags_free(&diags);
}

static void test_other_dtypes_and_no_tensors_are_well_formed(void **unused) {
    (void)unused;
    RtSafetensors file;
    SuDiags diags = {0};
    assert_true(parse("{\"i\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8]},"
                      "\"x\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[8,11]}}",
                      11, &file, &diags));
    assert_false(rt_safetensors_find(&file, "i")->readable);
    assert_string_equal(rt_safetensors_find(&file, "x")->dtype_name, "F6_E2M3");
    rt_safetensors_close(&file);
    assert_true(parse("{}", 0, &file, &diags));
    assert_int_equal(file.count, 0);
    assert_null(rt_safetensors_find(&file, "i"));
    rt_safetensors_close(&file);
    su_diags_free(&diags);
}

#define T(fields) "{\"t\":{" fields "}}"
#define SHAPED(shape) T("\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[0,8]")
#define PLACED(offsets) T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" offsets)
#define TWO(first, second)                                                                                                         \
    "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" first                                                              \
    "},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" second "}}"

static void test_malformed_headers_are_refused(void **unused) {
    (void)unused;
    static const struct {
        const char *header, *words;
        size_t data_size;
    } cases[] = {
        {"", "not valid JSON", 0},
        {"   ", "not valid JSON", 0},
        {"{", "not valid JSON", 0},
        {"[]", "expected a JSON object of tensors", 0},
        {"7", "expected a JSON object of tensors", 0},
        {"\"t\"", "expected a JSON object of tensors", 0},
        {"{}{}", "header has extra data after its JSON, at byte 2", 0},
        {"{} 1", "header has extra data after its JSON, at byte 3", 0},
        {"{\"t\":}", "not valid JSON", 0},
        {"{\"t\":{}", "not valid JSON", 0},
        {"{\"t\":{},}", "not valid JSON", 0},
        {"{\"t\" 1}", "not valid JSON", 0},
        {"{'t':1}", "unexpected character", 0},
        {"{\"t\":null}", "unexpected character", 0},
        {"{\"t\":true}", "unexpected character", 0},
        {"{\"t\":[[[[1]]]]}", "nested deeper", 0},
        {"{\"t\":[]}", "expected a JSON object", 0},
        {"{\"t\":\"F32\"}", "expected a JSON object", 0},
        {T(""), "'dtype' is missing", 0},
        {T("\"dtype\":\"F32\",\"shape\":[2]"), "'data_offsets' is missing", 8},
        {T("\"dtype\":\"F32\",\"data_offsets\":[0,8]"), "'shape' is missing", 8},
        {T("\"shape\":[2],\"data_offsets\":[0,8]"), "'dtype' is missing", 8},
        {T("\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]"), "duplicate key 'dtype'", 8},
        {T("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"more\":1"), "unknown key 'more'", 8},
        {T("\"dtype\":32,\"shape\":[2],\"data_offsets\":[0,8]"), "dtype: expected a string", 8},
        {SHAPED("2"), "shape: expected a list", 8},
        {SHAPED("[\"2\"]"), "expected an integer", 8},
        {SHAPED("[[2]]"), "nested deeper", 8},
        {SHAPED("[-2]"), "unexpected character '-'", 8},
        {SHAPED("[2.0]"), "unexpected character '.'", 8},
        {SHAPED("[2e0]"), "unexpected character 'e'", 8},
        {SHAPED("[9007199254740992]"), "expected an integer", 8},
        {SHAPED("[99999999999999999999999999999999999999999999999999999999999999999999999]"), "expected an integer", 8},
        {SHAPED("[1,1,1,1,1,1,1,1,2]"), "more than 8 dimensions", 8},
        {SHAPED("[16777216,16777217]"), "more than 2^48 elements", 8},
        {SHAPED("[4503599627370496,4503599627370496]"), "more than 2^48 elements", 8},
        {SHAPED("[3]"), "data_offsets: expected 12 bytes for F32 [3], got 8", 8},
        {SHAPED("[]"), "expected 4 bytes", 8},
        {T("\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,8]"), "expected 4 bytes", 8},
        {PLACED("8"), "expected a list of two", 8},
        {PLACED("[]"), "expected a list of two", 8},
        {PLACED("[8]"), "expected a list of two", 8},
        {PLACED("[0,8,8]"), "expected a list of two", 8},
        {PLACED("[\"0\",8]"), "expected a list of two", 8},
        {PLACED("{\"0\":0,\"8\":8}"), "expected a list of two", 8},
        {PLACED("[8,0]"), "is before begin", 8},
        {PLACED("[0,9]"), "end at byte 9, but the file has only 8", 8},
        {PLACED("[9007199254740000,9007199254740008]"), "but the file has only 8", 8},
        {PLACED("[4,12]"), "bytes 0 to 4 of the data belong to no tensor", 12},
        {PLACED("[0,8]"), "bytes 8 to 9 of the data belong to no tensor", 9},
        {TWO("[0,8]", "[4,12]"), "'a' and 'b' overlap", 12},
        {TWO("[0,8]", "[0,8]"), "overlap", 8},
        {TWO("[8,16]", "[17,25]"), "bytes 0 to 8", 25},
        {TWO("[0,8]", "[9,17]"), "bytes 8 to 9", 17},
        {"{\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"t\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":["
         "4,8]}}",
         "duplicate tensor 't'", 8},
        {"{\"__metadata__\":[]}", "__metadata__", 0},
        {"{\"__metadata__\":nil}", "unexpected character", 0},
        {"{\"__metadata__\":{\"a\":null}}", "unexpected character", 0},
        {"{\"__metadata__\":{\"a\":1}}", "__metadata__", 0},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", "duplicate __metadata__", 0},
        {"{\"a\\u0000b\":1}", "NUL character", 0},
        {"{\"a\\ud800b\":1}", "not valid JSON", 0},
        {"{\"a\\x\":1}", "not valid JSON", 0},
        {"{\"a\\", "not valid JSON", 0},
        {"{\"a\x80\":1}", "invalid UTF-8", 0},
        {"{\"a\xC0\xAF\":1}", "invalid UTF-8", 0},
        {"{\"a\xED\xA0\x80\":1}", "invalid UTF-8", 0},
        {"{\"a\xF4\x90\x80\x80\":1}", "invalid UTF-8", 0},
        {"{\"a\xE2\x82", "invalid UTF-8", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) expect_error(cases[i].header, cases[i].data_size, cases[i].words);
}

static void test_a_header_with_a_nul_byte_is_refused(void **unused) {
    (void)unused;
    static Image image;
    SuDiags diags = {0};
    RtSafetensors file;
    make_image(&image, "{}\0{}", 5, 0);
    assert_false(rt_safetensors_parse(image.bytes, image.size, "test", &file, &diags));
    assert_true(says(&diags, "invalid UTF-8 at byte 2"));
    su_diags_free(&diags);
}

static void test_files_that_are_too_short_are_refused(void **unused) {
    (void)unused;
    static Image image;
    const char *header = SHAPED("[2]");
    make_image(&image, header, strlen(header), 8);
    for (size_t size = 0; size < image.size; size++) { /* cut anywhere */
        SuDiags diags = {0};
        RtSafetensors file;
        assert_false(rt_safetensors_parse(image.bytes, size, "test", &file, &diags));
        assert_true(size >= 8 || says(&diags, "expected at least 8 bytes"));
        su_diags_free(&diags);
    }
}

static void test_header_lengths_that_lie_are_refused(void **unused) {
    (void)unused;
    static const struct {
        uint8_t length[8];
        const char *words;
    } cases[] = {
        {{0}, "not valid JSON"},
        {{1}, "not valid JSON"},
        {{0xFF, 0xFF}, "expected a header of 65535 bytes"},
        {{0, 0, 0, 0, 1}, "expected a header of 4294967296 bytes"},
        {{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, "expected a header of 18446744073709551615 bytes"},
    };
    static Image image;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        SuDiags diags = {0};
        RtSafetensors file;
        make_image(&image, "{}", 2, 0);
        memcpy(image.bytes, cases[i].length, 8);
        assert_false(rt_safetensors_parse(image.bytes, image.size, "test", &file, &diags));
        assert_true(says(&diags, cases[i].words));
        su_diags_free(&diags);
    }
}

static void test_several_errors_are_reported_at_once(void **unused) {
    (void)unused;
    SuDiags diags = {0};
    RtSafetensors file;
    assert_false(parse("{\"a\":{},\"b\":[],\"c\":{\"dtype\":\"F32\",\"shape\":[9],\"data_offsets\":[0,4]}}", 4, &file, &diags));
    assert_int_equal(diags.errors, 3);
    su_diags_free(&diags);
}

static void fill(void *context, size_t tensor, uint64_t first, uint64_t count, void *out) {
    size_t *calls = context;
    float *floats = out;
    uint8_t *bytes = out;
    ++*calls;
    for (uint64_t i = 0; i < count; i++)
        if (tensor < 2)
            floats[i] = (float)(tensor * 1000000 + first + i);
        else
            bytes[i] = (uint8_t)(first + i);
}

static void test_what_is_written_is_read_back(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "w.safetensors");
    const RtWriteTensor tensors[] = {{.name = "z.weight", .rank = 3, .shape = {3, 100, 1000}},
                                     {.name = "a.bias", .rank = 1, .shape = {7}},
                                     {.name = "z.q8", .dtype = "I8", .rank = 2, .shape = {3, 100001}}};
    SuDiags diags = {0};
    size_t calls = 0;
    assert_true(rt_safetensors_write(path, tensors, 3, fill, &calls, &diags));
    assert_true(calls > 2); /* in runs */
    RtSafetensors file;
    assert_true(rt_safetensors_open(path, &file, &diags));
    const RtTensor *z = rt_safetensors_find(&file, "z.weight"), *a = rt_safetensors_find(&file, "a.bias");
    assert_int_equal(z->elements, 300000);
    assert_int_equal((uintptr_t)z->data % 8, 0);
    float value;
    memcpy(&value, z->data + 4 * 299999, 4);
    assert_true(value == 299999);
    memcpy(&value, a->data + 4 * 6, 4);
    assert_true(value == 1000006);
    const RtTensor *q8 = rt_safetensors_find(&file, "z.q8");
    assert_string_equal(q8->dtype_name, "I8");
    assert_true(!q8->readable && q8->bytes == 300003 && q8->data[300002] == (uint8_t)300002);
    rt_safetensors_close(&file);
    directory_remove(&directory);
    su_diags_free(&diags);
}

static void test_a_file_that_cannot_be_written_or_opened_is_an_error(void **unused) {
    (void)unused;
    SuDiags diags = {0};
    size_t calls = 0;
    RtSafetensors file;
    assert_false(rt_safetensors_write("/nowhere/w.safetensors", NULL, 0, fill, &calls, &diags));
    assert_false(rt_safetensors_open("/nowhere/w.safetensors", &file, &diags));
    assert_int_equal(diags.errors, 2);
    su_diags_free(&diags);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_plain_file_is_read),
        cmocka_unit_test(test_other_dtypes_and_no_tensors_are_well_formed),
        cmocka_unit_test(test_malformed_headers_are_refused),
        cmocka_unit_test(test_a_header_with_a_nul_byte_is_refused),
        cmocka_unit_test(test_files_that_are_too_short_are_refused),
        cmocka_unit_test(test_header_lengths_that_lie_are_refused),
        cmocka_unit_test(test_several_errors_are_reported_at_once),
        cmocka_unit_test(test_what_is_written_is_read_back),
        cmocka_unit_test(test_a_file_that_cannot_be_written_or_opened_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
