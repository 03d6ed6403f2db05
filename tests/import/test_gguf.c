/* The reader of GGUF: what is well-formed is read exactly, and every lie is refused, with its place. */
#include "tests/runtime/files.h"

#include "gguf_build.h"

static const uint64_t four[] = {4}, shape[] = {32, 3, 2};

static bool parse(const Image *image, ImGguf *out, SuDiags *diags) {
    return im_gguf_parse(image->bytes, image->size, "test", out, diags);
}

static void expect_error(const Image *image, const char *words) {
    SuDiags diags = {0};
    ImGguf gguf;
    assert_false(parse(image, &gguf, &diags));
    assert_true(says(&diags, words));
    su_diags_free(&diags);
}

static void accept(const Image *image, ImGguf *out) {
    SuDiags diags = {0};
    if (!parse(image, out, &diags)) su_diags_print(&diags, stderr);
    assert_int_equal(diags.errors, 0);
    su_diags_free(&diags);
}

/* ---- what is read */

static void tensors_are_read_slowest_dimension_first(void **unused) {
    (void)unused;
    Image image;
    ImGguf gguf;
    put_head(&image, 3, 2, 0);
    put_tensor(&image, "b", 3, shape, 8, 32); /* Q8_0 */
    put_tensor(&image, "a", 1, four, 0, 0);
    put_data(&image, 32, 16);
    put_data(&image, 32, 6 * 34);
    accept(&image, &gguf);
    assert_int_equal(gguf.n_tensors, 2);
    const ImGgufTensor *b = im_gguf_tensor(&gguf, "b");
    assert_int_equal(b->form, IM_Q8_0);
    assert_int_equal(b->rank, 3);
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[2], 32);
    assert_int_equal(b->rows, 6);
    assert_int_equal(b->bytes, 6 * 34);
    assert_int_equal(b->data[7], 7);
    assert_ptr_equal(im_gguf_tensor(&gguf, "a")->data + 32, b->data);
    assert_null(im_gguf_tensor(&gguf, "c"));
    im_gguf_close(&gguf);
}

static void values_of_every_type_are_read(void **unused) {
    (void)unused;
    Image image;
    ImGguf gguf;
    int64_t whole;
    put_head(&image, 2, 0, 7);
    put_number(&image, "u", IM_GGUF_U16, 65535, 2);
    put_number(&image, "i", IM_GGUF_I8, 0xFE, 1);
    put_number(&image, "f", IM_GGUF_F32, 0x3FC00000, 4);
    put_number(&image, "d", IM_GGUF_F64, 0xC004000000000000, 8);
    put_number(&image, "yes", IM_GGUF_BOOL, 1, 1);
    put_key(&image, "text", IM_GGUF_STRING);
    put_text(&image, "words");
    put_number(&image, "big", IM_GGUF_U64, UINT64_MAX, 8);
    accept(&image, &gguf);
    assert_true(im_gguf_whole(im_gguf_find(&gguf, "u"), &whole) && whole == 65535);
    assert_true(im_gguf_whole(im_gguf_find(&gguf, "i"), &whole) && whole == -2);
    assert_false(im_gguf_whole(im_gguf_find(&gguf, "big"), &whole));
    assert_false(im_gguf_whole(im_gguf_find(&gguf, "yes"), &whole));
    assert_true(im_gguf_find(&gguf, "f")->as.real == 1.5);
    assert_true(im_gguf_find(&gguf, "d")->as.real == -2.5);
    assert_int_equal(im_gguf_find(&gguf, "yes")->as.natural, 1);
    assert_memory_equal(im_gguf_find(&gguf, "text")->as.string.text, "words", 5);
    assert_null(im_gguf_find(&gguf, "none"));
    im_gguf_close(&gguf);
}

/* Begins an array of two arrays of bytes, 1 and 2, 3. */
static void put_nested(Image *image) {
    put_head(image, 3, 0, 1);
    put_key(image, "nested", IM_GGUF_ARRAY);
    put(image, IM_GGUF_ARRAY, 4);
    put(image, 2, 8);
    for (uint64_t i = 1; i <= 2; i++) {
        put(image, IM_GGUF_U8, 4);
        put(image, i, 8);
        for (uint64_t j = 0; j < i; j++) put(image, i + j, 1);
    }
}

static void arrays_are_read_item_by_item(void **unused) {
    (void)unused;
    Image image;
    ImGguf gguf;
    ImGgufValue inner, item;
    put_nested(&image);
    accept(&image, &gguf);
    ImGgufItems outer = im_gguf_find(&gguf, "nested")->as.items;
    assert_true(im_gguf_next(&outer, &inner) && inner.as.items.count == 1);
    assert_true(im_gguf_next(&outer, &inner) && inner.as.items.count == 2);
    assert_false(im_gguf_next(&outer, &inner));
    assert_true(im_gguf_next(&inner.as.items, &item) && item.as.natural == 2);
    assert_true(im_gguf_next(&inner.as.items, &item) && item.as.natural == 3);
    assert_false(im_gguf_next(&inner.as.items, &item));
    im_gguf_close(&gguf);
}

static void the_alignment_is_a_key(void **unused) {
    (void)unused;
    Image image;
    ImGguf gguf;
    put_head(&image, 3, 2, 1);
    put_number(&image, "general.alignment", IM_GGUF_U32, 8, 4);
    put_tensor(&image, "a", 1, four, 1, 0);
    put_tensor(&image, "b", 1, four, 1, 8);
    put_data(&image, 8, 16);
    accept(&image, &gguf);
    im_gguf_close(&gguf);
}

/* ---- lies about the file */

static void every_shorter_file_is_refused(void **unused) {
    (void)unused;
    Image image;
    put_nested(&image);
    image.bytes[8] = 1;
    put_tensor(&image, "b", 3, shape, 8, 0);
    put_data(&image, 32, 6 * 34);
    ImGguf gguf;
    accept(&image, &gguf);
    im_gguf_close(&gguf);
    const size_t size = image.size;
    for (image.size = 0; image.size < size; image.size++) expect_error(&image, "");
}

static void heads_that_lie(void **unused) {
    (void)unused;
    Image image;
    put_head(&image, 0x03000000, 0, 0);
    expect_error(&image, "other byte order");
    put_head(&image, 1, 0, 0);
    expect_error(&image, "byte 4: expected version 2 or 3 of GGUF, got 1");
    put_head(&image, 3, 1000000000, 0);
    expect_error(&image, "byte 8: expected at most 1048576 tensors, got 1000000000");
    put_head(&image, 3, UINT64_MAX, 0);
    expect_error(&image, "expected at most 1048576 tensors");
    put_head(&image, 3, 1000000, 0);
    expect_error(&image, "byte 24: a tensor's name: expected 8 bytes, but the file ends after 0");
    put_head(&image, 3, 0, 1000000000);
    expect_error(&image, "expected at most 65536 keys, got 1000000000");
    put_head(&image, 3, 0, 60000);
    expect_error(&image, "byte 24: a key: expected 8 bytes");
    memcpy(image.bytes, "GGML", 4);
    expect_error(&image, "not a GGUF file");
}

static void put_array(Image *image, ImGgufType type, uint64_t count) {
    put_head(image, 3, 0, 1);
    put_key(image, "k", IM_GGUF_ARRAY);
    put(image, type, 4);
    put(image, count, 8);
}

static void arrays_that_lie(void **unused) {
    (void)unused;
    Image image;
    put_array(&image, IM_GGUF_U32, UINT64_MAX / 2);
    expect_error(&image, "byte 49: k: expected 18446744073709551615 bytes, but the file ends after 0");
    put_array(&image, IM_GGUF_STRING, 1000000000);
    put_text(&image, "one");
    expect_error(&image, "byte 60: k: expected 8 bytes");
    put_array(&image, IM_GGUF_BOOL, 1);
    put(&image, 2, 1);
    expect_error(&image, "byte 49: k: a bool: expected 0 or 1, got 2");
    put_array(&image, IM_GGUF_TYPES, 0);
    expect_error(&image, "byte 37: k: expected the number of a type, 0 to 12, got 13");
    put_array(&image, IM_GGUF_ARRAY, 1);
    for (int i = 0; i < 1000; i++) {
        put(&image, IM_GGUF_ARRAY, 4);
        put(&image, 1, 8);
    }
    expect_error(&image, "k: arrays within each other, more than 4 deep");
}

static void pairs_that_lie(void **unused) {
    (void)unused;
    Image image;
    put_head(&image, 3, 0, 2);
    put_number(&image, "k", IM_GGUF_BOOL, 1, 1);
    put_number(&image, "k", IM_GGUF_BOOL, 0, 1);
    expect_error(&image, "the key 'k' is there twice");
    put_head(&image, 3, 0, 1);
    put_number(&image, "k", IM_GGUF_BOOL, 2, 1);
    expect_error(&image, "k: a bool: expected 0 or 1, got 2");
    put_head(&image, 3, 0, 1);
    put_number(&image, "\xFF", IM_GGUF_BOOL, 1, 1);
    expect_error(&image, "byte 24: a key: expected UTF-8");
    put_head(&image, 3, 0, 1);
    put_number(&image, "", IM_GGUF_BOOL, 1, 1);
    expect_error(&image, "byte 24: a key: expected 1 to 1024 bytes, got 0");
    put_head(&image, 3, 0, 1);
    put_number(&image, "general.alignment", IM_GGUF_U32, 24, 4);
    expect_error(&image, "general.alignment: expected a power of two, got 24");
    put_head(&image, 3, 0, 1);
    put_number(&image, "general.alignment", IM_GGUF_U32, 0, 4);
    expect_error(&image, "general.alignment: expected a whole number from 1 to 65536");
    put_head(&image, 3, 0, 1);
    put_number(&image, "general.alignment", IM_GGUF_F32, 0, 4);
    expect_error(&image, "general.alignment: expected a whole number");
}

/* ---- lies about tensors */

static void one_tensor(Image *image, int rank, const uint64_t *dims, uint32_t form, uint64_t offset) {
    put_head(image, 3, 1, 0);
    put_tensor(image, "t", rank, dims, form, offset);
    put_data(image, 32, 64);
}

static void shapes_that_lie(void **unused) {
    (void)unused;
    static const uint64_t zero[] = {4, 0}, huge[] = {1u << 31, 1u << 31, 1u << 31, 1u << 31}, odd[] = {48},
                          many[5] = {1, 1, 1, 1, 1};
    Image image;
    one_tensor(&image, 0, four, 0, 0);
    expect_error(&image, "byte 33: tensor 't': expected 1 to 4 dimensions, got 0");
    one_tensor(&image, 5, many, 0, 0);
    expect_error(&image, "expected 1 to 4 dimensions, got 5");
    one_tensor(&image, 2, zero, 0, 0);
    expect_error(&image, "byte 45: tensor 't': a dimension is 0");
    one_tensor(&image, 4, huge, 0, 0);
    expect_error(&image, "tensor 't': expected at most 2^48 elements");
    one_tensor(&image, 1, odd, 8, 0);
    expect_error(&image, "tensor 't': expected rows of a multiple of 32 elements for Q8_0, got 48");
    one_tensor(&image, 1, four, 23, 0);
    expect_error(&image, "tensor 't' is of type IQ4_XS, which mossc does not read");
    one_tensor(&image, 1, four, 4, 0);
    expect_error(&image, "there is no type of tensors with number 4");
}

static void places_that_lie(void **unused) {
    (void)unused;
    static const uint64_t sixteen[] = {16}, seventeen[] = {17};
    Image image;
    one_tensor(&image, 1, sixteen, 0, 4);
    expect_error(&image, "byte 49: tensor 't': expected an offset that is a multiple of 32, got 4");
    one_tensor(&image, 1, seventeen, 0, 0);
    expect_error(&image, "tensor 't': expected 68 bytes at byte 0 of the data, but there are only 64 bytes of data");
    one_tensor(&image, 1, four, 0, UINT64_MAX - 31);
    expect_error(&image, "expected 16 bytes at byte 18446744073709551584 of the data");
    one_tensor(&image, 1, four, 0, 32);
    expect_error(&image, "belong to no tensor");
    one_tensor(&image, 1, four, 0, 0);
    expect_error(&image, "bytes 80 to 128 of the file belong to no tensor");
}

static void two_tensors(Image *image, const char *name, uint64_t offset) {
    static const uint64_t ten[] = {10};
    put_head(image, 3, 2, 0);
    put_tensor(image, "t", 1, ten, 0, 0);
    put_tensor(image, name, 1, ten, 0, offset);
    put_data(image, 32, 40);
    put_data(image, 32, 40);
}

static void tensors_that_overlap_or_are_there_twice(void **unused) {
    (void)unused;
    Image image;
    ImGguf gguf;
    two_tensors(&image, "u", 64);
    accept(&image, &gguf);
    im_gguf_close(&gguf);
    two_tensors(&image, "u", 32);
    expect_error(&image, "tensors 't' and 'u' overlap");
    two_tensors(&image, "t", 64);
    expect_error(&image, "the tensor 't' is there twice");
}

/* ---- models of several files */

static void write_split(const char *path, int64_t number, int64_t count, int64_t tensors, const char *name) {
    Image image;
    put_head(&image, 3, 1, 4);
    put_number(&image, "split.no", IM_GGUF_U16, (uint64_t)number, 2);
    put_number(&image, "split.count", IM_GGUF_U16, (uint64_t)count, 2);
    put_number(&image, "split.tensors.count", IM_GGUF_I32, (uint64_t)tensors, 4);
    put_number(&image, "which", IM_GGUF_U8, (uint64_t)number, 1);
    put_tensor(&image, name, 1, four, 0, 0);
    put_data(&image, 32, 16);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(image.bytes, image.size, 1, file), 1);
    assert_int_equal(fclose(file), 0);
}

static void files_of_a_model_are_one(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *first = directory_file(&directory, "m-00001-of-00002.gguf");
    const char *second = directory_file(&directory, "m-00002-of-00002.gguf");
    const char *const given[] = {first, second};
    write_split(first, 0, 2, 2, "a");
    write_split(second, 1, 2, 2, "b");
    for (int i = 0; i < 2; i++) {
        SuDiags diags = {0};
        ImGguf gguf;
        assert_true(im_gguf_open(given[i], &gguf, &diags));
        assert_int_equal(gguf.n_tensors, 2);
        assert_non_null(im_gguf_tensor(&gguf, "b"));
        assert_int_equal(im_gguf_find(&gguf, "which")->as.natural, 0);
        im_gguf_close(&gguf);
        su_diags_free(&diags);
    }
    directory_remove(&directory);
}

static void expect_split_error(const char *path, const char *words) {
    SuDiags diags = {0};
    ImGguf gguf;
    assert_false(im_gguf_open(path, &gguf, &diags));
    assert_true(says(&diags, words));
    su_diags_free(&diags);
}

static void files_of_a_model_that_lie(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *first = directory_file(&directory, "m-00001-of-00002.gguf");
    const char *second = directory_file(&directory, "m-00002-of-00002.gguf");
    const char *other = directory_file(&directory, "n.gguf");
    write_split(first, 0, 2, 2, "a");
    expect_split_error(first, "cannot open");
    write_split(second, 0, 2, 2, "b"); /* a circle */
    expect_split_error(first, "expected file 2 of 2 of a model, got file 1 of 2");
    write_split(second, 1, 2, 2, "a");
    expect_split_error(first, "the tensor 'a' is there twice");
    write_split(second, 1, 2, 2, "b");
    write_split(first, 0, 2, 3, "a");
    expect_split_error(first, "expected 3 tensors in all files, got 2");
    write_split(other, 0, 2, 2, "a");
    expect_split_error(other, "expected a name that ends in '-00001-of-00002.gguf'");
    write_split(other, 0, 60000, 2, "a");
    expect_split_error(other, "split.count: expected a whole number from 0 to 1000");
    directory_remove(&directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_are_read_slowest_dimension_first),
        cmocka_unit_test(values_of_every_type_are_read),
        cmocka_unit_test(arrays_are_read_item_by_item),
        cmocka_unit_test(the_alignment_is_a_key),
        cmocka_unit_test(every_shorter_file_is_refused),
        cmocka_unit_test(heads_that_lie),
        cmocka_unit_test(arrays_that_lie),
        cmocka_unit_test(pairs_that_lie),
        cmocka_unit_test(shapes_that_lie),
        cmocka_unit_test(places_that_lie),
        cmocka_unit_test(tensors_that_overlap_or_are_there_twice),
        cmocka_unit_test(files_of_a_model_are_one),
        cmocka_unit_test(files_of_a_model_that_lie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
