/* The bytes tokenizer: bytes are ids, special ids are no bytes, and the vocabulary bounds both ways. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/tokenizer.h"

static void test_text_comes_back(void **unused) {
    (void)unused;
    RtTokenizer *t = rt_tokenizer_bytes(256, -1, -1);
    const char text[] = "na\xC3\xAFve\0\xFF";
    RtTokens tokens = {0};
    SuText back = {0};
    SuDiags diags = {0};
    assert_true(rt_tokenizer_encode(t, text, sizeof text, &tokens, &diags));
    assert_int_equal(tokens.count, sizeof text);
    assert_int_equal(tokens.ids[2], 0xC3);
    for (size_t i = 0; i < tokens.count; i++) rt_tokenizer_decode(t, tokens.ids[i], &back);
    assert_int_equal(back.size, sizeof text);
    assert_memory_equal(back.text, text, sizeof text);
    assert_int_equal(rt_tokenizer_bos(t), -1);
    assert_int_equal(rt_tokenizer_limit(t), 256);
    su_text_free(&back);
    rt_tokens_free(&tokens);
    rt_tokenizer_free(t);
}

static void test_special_ids_decode_to_nothing(void **unused) {
    (void)unused;
    RtTokenizer *t = rt_tokenizer_bytes(320, 256, 0);
    SuText back = {0};
    su_text_append(&back, "", 0);
    rt_tokenizer_decode(t, 256, &back);
    rt_tokenizer_decode(t, 0, &back);
    rt_tokenizer_decode(t, 300, &back);
    rt_tokenizer_decode(t, -1, &back);
    assert_int_equal(back.size, 0);
    assert_int_equal(rt_tokenizer_bos(t), 256);
    assert_int_equal(rt_tokenizer_eos(t), 0);
    assert_int_equal(rt_tokenizer_limit(t), 257); /* 257 … 319 are padding */
    su_text_free(&back);
    rt_tokenizer_free(t);
}

static void test_a_byte_past_the_vocabulary_is_an_error(void **unused) {
    (void)unused;
    RtTokenizer *t = rt_tokenizer_bytes(128, -1, -1);
    RtTokens tokens = {0};
    SuDiags diags = {0};
    assert_false(rt_tokenizer_encode(t, "ab\xC3", 3, &tokens, &diags));
    assert_string_equal(diags.items[0].message, "byte 2 of the text is 195, outside the vocabulary (0 to 127)");
    assert_int_equal(rt_tokenizer_limit(t), 128);
    su_diags_free(&diags);
    rt_tokens_free(&tokens);
    rt_tokenizer_free(t);
}

static void test_the_vocabulary_reaches_as_far_as_what_ends_a_text(void **unused) {
    (void)unused;
    RtTokenizer *t = rt_tokenizer_bytes(320, -1, -1);
    assert_int_equal(moss_tokenizer_set_ends(t, (const int32_t[]){3, 300}, 2).code, MOSS_OK);
    assert_int_equal(moss_tokenizer_vocabulary(t, NULL).limit, 301);
    assert_true(rt_tokenizer_add_end(t, 302));
    assert_int_equal(moss_tokenizer_vocabulary(t, NULL).limit, 303);
    assert_int_equal(moss_tokenizer_vocabulary(t, NULL).n_more_eos, 2);
    rt_tokenizer_free(t);
    t = rt_tokenizer_bytes(128, -1, 200); /* outside the vocabulary: nothing that could be picked */
    assert_int_equal(rt_tokenizer_limit(t), 128);
    rt_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_comes_back),
        cmocka_unit_test(test_special_ids_decode_to_nothing),
        cmocka_unit_test(test_a_byte_past_the_vocabulary_is_an_error),
        cmocka_unit_test(test_the_vocabulary_reaches_as_far_as_what_ends_a_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
