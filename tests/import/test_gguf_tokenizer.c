/* Tokenizers of GGUF files become tokenizer.json: merges out of scores, patterns, what ends a text; and what is not understood is said. */
#include "tests/runtime/files.h"

#include "gguf_build.h"
#include "import/gguf_tokenizer.h"
#include "support/json.h"

/* Items with a number or a text each. */
static void put_texts(Image *image, const char *key, const char *const *texts, size_t count) {
    put_key(image, key, IM_GGUF_ARRAY);
    put(image, IM_GGUF_STRING, 4);
    put(image, count, 8);
    for (size_t i = 0; i < count; i++) put_text(image, texts[i]);
}

static void put_kinds(Image *image, const int *kinds, size_t count) {
    put_key(image, "tokenizer.ggml.token_type", IM_GGUF_ARRAY);
    put(image, IM_GGUF_I32, 4);
    put(image, count, 8);
    for (size_t i = 0; i < count; i++) put(image, (uint64_t)kinds[i], 4);
}

static void put_scores(Image *image, const float *scores, size_t count) {
    put_key(image, "tokenizer.ggml.scores", IM_GGUF_ARRAY);
    put(image, IM_GGUF_F32, 4);
    put(image, count, 8);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &scores[i], 4);
        put(image, bits, 4);
    }
}

static void put_string(Image *image, const char *key, const char *text) {
    put_key(image, key, IM_GGUF_STRING);
    put_text(image, text);
}

static void make(const Image *image, ImGgufTokenizer *out, SuDiags *diags) {
    ImGguf gguf;
    assert_true(im_gguf_parse(image->bytes, image->size, "test", &gguf, diags));
    im_gguf_tokenizer(&gguf, out, diags);
    im_gguf_close(&gguf);
}

/* The JSON is well-formed, and has the words in it. */
static void expect_words(const ImGgufTokenizer *t, const char *words) {
    static const SuJsonRules rules = {.depth = 16, .values = 1000};
    SuDiags diags = {0};
    SuJson json;
    assert_true(su_json_parse(t->json.text, t->json.size, &rules, su_file_span(&diags, "json"), &json, &diags));
    su_json_free(&json);
    su_diags_free(&diags);
    if (strstr(t->json.text, words) == NULL) fail_msg("expected %s in %s", words, t->json.text);
}

static const char *const bytes[] = {"a", "b", "ab", "<s>", "<|im_end|>", "\"\n", "[PAD6]"};
static const int byte_kinds[] = {1, 1, 1, 3, 3, 4, 5};
static const char *const byte_merges[] = {"a b"};

/* A tokenizer over bytes; `pre` may be NULL. */
static void put_gpt2(Image *image, const char *pre, uint64_t pairs) {
    put_head(image, 3, 0, 4 + pairs + (pre != NULL));
    put_string(image, "tokenizer.ggml.model", "gpt2");
    put_texts(image, "tokenizer.ggml.tokens", bytes, 7);
    put_kinds(image, byte_kinds, 7);
    put_texts(image, "tokenizer.ggml.merges", byte_merges, 1);
    if (pre != NULL) put_string(image, "tokenizer.ggml.pre", pre);
}

static void merges_over_bytes_are_those_of_the_file(void **unused) {
    (void)unused;
    Image image;
    SuDiags diags = {0};
    ImGgufTokenizer t;
    put_gpt2(&image, "smollm", 2);
    put_number(&image, "tokenizer.ggml.bos_token_id", IM_GGUF_U32, 3, 4);
    put_number(&image, "tokenizer.ggml.add_bos_token", IM_GGUF_BOOL, 1, 1);
    make(&image, &t, &diags);
    assert_int_equal(diags.warnings, 0);
    expect_words(&t, "\"merges\":[\"a b\"]");
    expect_words(&t, "\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true},{\"type\":\"ByteLevel\"");
    expect_words(&t, "\"<s>\":3");
    expect_words(&t, "{\"id\":5,\"content\":\"\\\"\\u000a\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":"
                     "false,\"special\":false}");
    assert_null(strstr(t.json.text, "PAD"));
    assert_int_equal(t.bos, 3);
    assert_int_equal(t.n_ends, 1);
    assert_int_equal(t.ends[0], 4);
    im_gguf_tokenizer_free(&t);
    su_diags_free(&diags);
}

static void what_cuts_words_is_named(void **unused) {
    (void)unused;
    Image image;
    SuDiags diags = {0};
    ImGgufTokenizer t;
    put_gpt2(&image, "llama-bpe", 2);
    put_number(&image, "tokenizer.ggml.bos_token_id", IM_GGUF_U32, 3, 4);
    put_number(&image, "tokenizer.ggml.eos_token_id", IM_GGUF_U32, 0, 4);
    make(&image, &t, &diags);
    expect_words(&t, "\\\\p{N}{1,3}");
    expect_words(&t, "\"ignore_merges\":true");
    assert_int_equal(t.bos, 3); /* is what llama-bpe has where nothing is said */
    assert_int_equal(t.ends[0], 0);
    assert_int_equal(t.ends[1], 4);
    im_gguf_tokenizer_free(&t);
    put_gpt2(&image, "qwen2", 0);
    make(&image, &t, &diags);
    expect_words(&t, "\"normalizer\":{\"type\":\"NFC\"}");
    assert_int_equal(t.bos, -1);
    im_gguf_tokenizer_free(&t);
    su_diags_free(&diags);
}

static void expect_none(const Image *image, const char *words) {
    SuDiags diags = {0};
    ImGgufTokenizer t;
    make(image, &t, &diags);
    assert_int_equal(t.json.size, 0);
    assert_int_equal(t.bos, -1);
    assert_int_equal(diags.warnings, words != NULL);
    if (words != NULL) assert_true(says(&diags, words));
    im_gguf_tokenizer_free(&t);
    su_diags_free(&diags);
}

static void what_is_not_understood_is_said(void **unused) {
    (void)unused;
    Image image;
    put_head(&image, 3, 0, 0);
    expect_none(&image, NULL);
    put_head(&image, 3, 0, 1);
    put_string(&image, "tokenizer.ggml.model", "no_vocab");
    expect_none(&image, NULL);
    put_head(&image, 3, 0, 1);
    put_string(&image, "tokenizer.ggml.model", "t5");
    expect_none(&image, "model: 't5' is not known here; known: gpt2, llama");
    put_gpt2(&image, NULL, 0);
    expect_none(&image, "pre, which says how texts are cut, is missing");
    put_gpt2(&image, "brainfuck", 0);
    expect_none(&image, "pre: 'brainfuck' is not known here");
    put_gpt2(&image, "gpt-2", 1);
    put_number(&image, "tokenizer.ggml.add_eos_token", IM_GGUF_BOOL, 1, 1);
    expect_none(&image, "add_eos_token, an end behind every text, is not understood");
}

#define S "\xE2\x96\x81"
static const char *const pieces[] = {"<unk>", "<s>", "</s>", "<0x41>", S, "a", "b", S "a", "ab", S "ab"};
static const int piece_kinds[] = {2, 3, 3, 6, 1, 1, 1, 1, 1, 1};

static void put_llama(Image *image, const float *scores, uint64_t pairs) {
    put_head(image, 3, 0, 4 + pairs);
    put_string(image, "tokenizer.ggml.model", "llama");
    put_texts(image, "tokenizer.ggml.tokens", pieces, 10);
    put_kinds(image, piece_kinds, 10);
    put_scores(image, scores, 10);
}

static void merges_are_made_of_scores(void **unused) {
    (void)unused;
    static const float scores[] = {0, 0, 0, 0, -9, -9, -9, -2, -1, -3};
    Image image;
    SuDiags diags = {0};
    ImGgufTokenizer t;
    put_llama(&image, scores, 0);
    make(&image, &t, &diags);
    assert_int_equal(diags.warnings, 0);
    /* of the two ways to the last token, that with the longer left part comes first */
    expect_words(&t, "\"merges\":[\"a b\",\"" S " a\",\"" S "a b\",\"" S " ab\"]");
    expect_words(&t, "\"byte_fallback\":true,\"unk_token\":\"<unk>\"");
    expect_words(&t, "{\"type\":\"Prepend\",\"prepend\":\"" S "\"}");
    assert_int_equal(t.bos, 1);
    assert_int_equal(t.ends[0], 2);
    im_gguf_tokenizer_free(&t);
    put_llama(&image, scores, 2);
    put_number(&image, "tokenizer.ggml.add_space_prefix", IM_GGUF_BOOL, 0, 1);
    put_number(&image, "tokenizer.ggml.add_bos_token", IM_GGUF_BOOL, 0, 1);
    make(&image, &t, &diags);
    assert_null(strstr(t.json.text, "Prepend"));
    assert_null(strstr(t.json.text, "Strip"));
    assert_int_equal(t.bos, -1);
    im_gguf_tokenizer_free(&t);
    su_diags_free(&diags);
}

static void scores_that_say_nothing_are_refused(void **unused) {
    (void)unused;
    static const float same[] = {-1000, -1000, -1000, -1000, -1000, -1000, -1000, -1000, -1000, -1000};
    Image image;
    put_llama(&image, same, 0);
    expect_none(&image, "all scores are the same, so that they do not say what is merged first");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_over_bytes_are_those_of_the_file), cmocka_unit_test(what_cuts_words_is_named),
        cmocka_unit_test(what_is_not_understood_is_said),          cmocka_unit_test(merges_are_made_of_scores),
        cmocka_unit_test(scores_that_say_nothing_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
