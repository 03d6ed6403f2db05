/* Small tokenizers that use every key, held to the ids of Hugging Face's own library (make_golden.py); streams of text. */
#include "support/alloc.h"
#include "tests/tokenizer/golden.h"

#include <cjson/cJSON.h>

const char *golden_directory;

static void check_case(const RtTokenizer *t, const cJSON *item) {
    const char *text = cJSON_GetObjectItem(item, "text")->valuestring;
    const cJSON *ids = cJSON_GetObjectItem(item, "ids");
    RtTokens tokens = encode_good(t, text, strlen(text));
    bool same = tokens.count == (size_t)cJSON_GetArraySize(ids);
    size_t i = 0;
    for (const cJSON *id = ids->child; id && same; id = id->next, i++) same = tokens.ids[i] == id->valueint;
    if (!same) {
        print_message("'%s' gives", text);
        for (i = 0; i < tokens.count; i++) print_message(" %d", tokens.ids[i]);
        print_message("\n");
    }
    assert_true(same);
    SuText back = said(t, &tokens);
    assert_string_equal(back.text, cJSON_GetObjectItem(item, "said")->valuestring);
    su_text_free(&back);
    rt_tokens_free(&tokens);
}

static void check_file(const char *name) {
    char path[256];
    size_t size;
    TkBpeOptions options = NO_SPECIALS(100000);
    snprintf(path, sizeof path, "%s.json", name);
    RtTokenizer *t = open_good(golden_directory, path, &options);
    snprintf(path, sizeof path, "%s.cases.json", name);
    char *text = read_whole(golden_directory, path, &size);
    assert_non_null(text);
    cJSON *cases = cJSON_ParseWithLength(text, size);
    assert_true(cJSON_GetArraySize(cases) > 20);
    for (const cJSON *item = cases->child; item; item = item->next) check_case(t, item);
    cJSON_Delete(cases);
    su_free(text);
    rt_tokenizer_free(t);
}

#define GOLDEN(function, name)                                                                                                     \
    static void function(void **state) {                                                                                           \
        (void)state;                                                                                                               \
        check_file(name);                                                                                                          \
    }

GOLDEN(byte_level_and_nfc_are_as_gpt2_and_neox_have_them, "gpt2")
GOLDEN(added_tokens_heed_their_flags, "flags")
GOLDEN(patterns_of_the_file_and_whole_words_are_as_llama3_has_them, "llama3")
GOLDEN(every_behaviour_of_split_is_known, "splits")
GOLDEN(characters_without_a_token_become_bytes, "fallback")
GOLDEN(characters_without_a_token_become_unk, "unknown")
GOLDEN(unknown_characters_in_a_row_become_one_unk, "unknown-fused")
GOLDEN(a_sign_for_blanks_is_put_in_front_as_llama2_has_it, "llama2")
GOLDEN(blanks_are_replaced_as_gemma_has_it, "gemma")
GOLDEN(metaspace_puts_its_sign_before_every_piece, "metaspace-always")
GOLDEN(metaspace_puts_its_sign_before_the_text, "metaspace-first")
GOLDEN(metaspace_puts_no_sign, "metaspace-never")
GOLDEN(metaspace_behind_a_split_knows_the_text_s_beginning, "metaspaces")
GOLDEN(normalizers_follow_each_other, "normal")
GOLDEN(compatible_forms_and_digits_are_those_of_unicode, "forms")
GOLDEN(digits_stay_together_unless_they_are_individual, "digits")

static int32_t id_of(const RtTokenizer *t, const char *text) {
    RtTokens tokens = encode_good(t, text, strlen(text));
    assert_int_equal(tokens.count, 1);
    int32_t id = tokens.ids[0];
    rt_tokens_free(&tokens);
    return id;
}

static void bos_and_eos_are_found_by_text_or_id_and_say_nothing(void **state) {
    (void)state;
    TkBpeOptions options = {.vocab_size = 1000, .bos = -1, .eos = 65, .bos_text = "<s>"};
    RtTokenizer *t = open_good(golden_directory, "gpt2.json", &options);
    assert_int_equal(rt_tokenizer_bos(t), id_of(t, "<s>"));
    assert_int_equal(rt_tokenizer_eos(t), 65);
    RtTokens tokens = encode_good(t, "<s>the<s>A</s>", 14);
    SuText text = said(t, &tokens);
    assert_string_equal(text.text, "the</s>");
    su_text_free(&text);
    rt_tokens_free(&tokens);
    rt_tokenizer_free(t);
    options = (TkBpeOptions){.vocab_size = 1000, .bos = -1, .eos = -1, .eos_text = "Ġthe"};
    t = open_good(golden_directory, "gpt2.json", &options);
    assert_int_equal(rt_tokenizer_bos(t), -1);
    assert_int_equal(rt_tokenizer_eos(t), id_of(t, " the"));
    rt_tokenizer_free(t);
}

static void whole_characters_come_out(void **state) {
    (void)state;
    TkBpeOptions options = NO_SPECIALS(1000);
    RtTokenizer *t = open_good(golden_directory, "gpt2.json", &options);
    RtTextStream stream = {.tokenizer = t};
    SuText text = {0};
    static const struct {
        int32_t byte; /* in golden/gpt2.json the id of a byte is the byte */
        const char *all;
    } steps[] = {{'a', "a"},
                 {0xF0, "a"},
                 {0x9F, "a"},
                 {0x99, "a"},
                 {0x82, "a\U0001F642"},
                 {0xE4, "a\U0001F642"},
                 {0xB8, "a\U0001F642"},
                 {'b', "a\U0001F642\uFFFDb"}, /* one for the longest piece of a character */
                 {0xFF, "a\U0001F642\uFFFDb\uFFFD"},
                 {0xED, "a\U0001F642\uFFFDb\uFFFD"},
                 {0xA0, "a\U0001F642\uFFFDb\uFFFD\uFFFD\uFFFD"}, /* a surrogate's second byte belongs to nothing */
                 {0xC3, "a\U0001F642\uFFFDb\uFFFD\uFFFD\uFFFD"}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        rt_text_stream_add(&stream, steps[i].byte, &text);
        assert_string_equal(text.text, steps[i].all);
    }
    rt_text_stream_end(&stream, &text);
    assert_string_equal(text.text, "a\U0001F642\uFFFDb\uFFFD\uFFFD\uFFFD\uFFFD");
    su_text_free(&text);
    rt_tokenizer_free(t);
}

static void the_bytes_tokenizer_streams_bytes_as_they_are(void **state) {
    (void)state;
    RtTokenizer *t = rt_tokenizer_bytes(256, -1, -1);
    RtTextStream stream = {.tokenizer = t};
    SuText text = {0};
    rt_text_stream_add(&stream, 0xFF, &text);
    rt_text_stream_add(&stream, 0xC3, &text);
    assert_string_equal(text.text, "\xFF\xC3");
    rt_text_stream_end(&stream, &text);
    assert_string_equal(text.text, "\xFF\xC3");
    su_text_free(&text);
    rt_tokenizer_free(t);
}

static void ids_that_stand_for_nothing_are_known(void **state) {
    (void)state;
    static const char file[] = "{\"model\": {\"vocab\": {\"a\": 1, \"b\": 4}, \"merges\": []}, \"decoder\": {\"type\": \"Fuse\"}}";
    TkBpeOptions options = NO_SPECIALS(64);
    SuDiags diags = {0};
    RtTokenizer *t = tk_bpe_parse(file, sizeof file - 1, "t.json", &options, &diags);
    assert_non_null(t);
    assert_int_equal(rt_tokenizer_limit(t), 5); /* 5 … 63 are padding */
    assert_int_equal(rt_tokenizer_gaps(t), 3);
    static const bool gaps[] = {true, false, true, true, false};
    for (int32_t id = 0; id < 5; id++) assert_int_equal(rt_tokenizer_is_gap(t, id), gaps[id]);
    SuText text = {0};
    for (int32_t id = -1; id < 70; id++) rt_tokenizer_decode(t, id, &text);
    assert_string_equal(text.text, "ab");
    su_text_free(&text);
    rt_tokenizer_free(t);
    su_diags_free(&diags);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(byte_level_and_nfc_are_as_gpt2_and_neox_have_them),
        cmocka_unit_test(added_tokens_heed_their_flags),
        cmocka_unit_test(patterns_of_the_file_and_whole_words_are_as_llama3_has_them),
        cmocka_unit_test(every_behaviour_of_split_is_known),
        cmocka_unit_test(characters_without_a_token_become_bytes),
        cmocka_unit_test(characters_without_a_token_become_unk),
        cmocka_unit_test(unknown_characters_in_a_row_become_one_unk),
        cmocka_unit_test(a_sign_for_blanks_is_put_in_front_as_llama2_has_it),
        cmocka_unit_test(blanks_are_replaced_as_gemma_has_it),
        cmocka_unit_test(metaspace_puts_its_sign_before_every_piece),
        cmocka_unit_test(metaspace_puts_its_sign_before_the_text),
        cmocka_unit_test(metaspace_puts_no_sign),
        cmocka_unit_test(metaspace_behind_a_split_knows_the_text_s_beginning),
        cmocka_unit_test(normalizers_follow_each_other),
        cmocka_unit_test(compatible_forms_and_digits_are_those_of_unicode),
        cmocka_unit_test(digits_stay_together_unless_they_are_individual),
        cmocka_unit_test(bos_and_eos_are_found_by_text_or_id_and_say_nothing),
        cmocka_unit_test(whole_characters_come_out),
        cmocka_unit_test(the_bytes_tokenizer_streams_bytes_as_they_are),
        cmocka_unit_test(ids_that_stand_for_nothing_are_known),
    };
    if (argc != 2) return 2;
    golden_directory = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
