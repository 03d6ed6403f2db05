/* What is wrong with a tokenizer.json is said with the file's name and the place in it; what is wrong with a text, too. */
#include "tests/tokenizer/golden.h"
#include "tokenizer/added.h"

const char *golden_directory;

/* A small file whose sections a case replaces; NULL: the good one. */
typedef struct Sections {
    const char *model, *added, *normalizer, *pre, *post, *decoder, *more;
} Sections;

#define OR(section, good) ((section) ? (section) : (good))
#define VOCAB "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}"
#define MERGES "\"merges\": [\"a b\"]"
#define MODEL(fields) "{\"type\": \"BPE\", " fields "}"
#define FLAGS "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}"
#define FUSED(step) "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, " step "]}"
#define SPLIT(pattern, more)                                                                                                       \
    "{\"type\": \"Split\", \"pattern\": " pattern ", \"behavior\": \"Isolated\", \"invert\": false" more "}"

static SuText file_of(const Sections *s) {
    SuText text = {0};
    su_text_add(&text,
                "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null, \"added_tokens\": %s, \"normalizer\": %s, "
                "\"pre_tokenizer\": %s, \"post_processor\": %s, \"decoder\": %s, \"model\": %s%s}",
                OR(s->added, "[]"), OR(s->normalizer, "null"), OR(s->pre, "null"), OR(s->post, "null"),
                OR(s->decoder, "{\"type\": \"Fuse\"}"), OR(s->model, MODEL(VOCAB ", " MERGES)), OR(s->more, ""));
    return text;
}

/* Parses and demands one error that holds `words`. */
static void refuse(const char *text, size_t size, const char *words) {
    TkBpeOptions options = NO_SPECIALS(100);
    SuDiags diags = {0};
    RtTokenizer *t = tk_bpe_parse(text, size, "some/t.json", &options, &diags);
    if (t || diags.errors != 1) print_message("wanted: %s\nin: %.*s\n", words, (int)(size < 900 ? size : 900), text);
    assert_null(t);
    assert_int_equal(diags.errors, 1);
    assert_string_equal(diags.items[0].span.source->path, "some/t.json");
    if (!strstr(diags.items[0].message, words)) print_message("wanted: %s\nsaid: %s\n", words, diags.items[0].message);
    assert_non_null(strstr(diags.items[0].message, words));
    su_diags_free(&diags);
}

static const struct {
    Sections sections;
    const char *words;
} section_cases[] = {
    {{.model = "{\"type\": \"WordPiece\", \"vocab\": {}}"}, "model.type: 'WordPiece' is not understood"},
    {{.model = "{\"type\": \"Unigram\"}"}, "model.type: 'Unigram'"},
    {{.model = "7"}, "model: expected a map"},
    {{.model = MODEL(VOCAB)}, "model.merges: is missing"},
    {{.model = MODEL(MERGES)}, "model.vocab: is missing"},
    {{.model = MODEL(VOCAB ", " MERGES ", \"shrink\": 1")}, "model.'shrink': is not understood"},
    {{.model = MODEL(VOCAB ", " MERGES ", " MERGES)}, "model.merges: is duplicated"},
    {{.model = MODEL(VOCAB ", " MERGES ", \"dropout\": 0.1")}, "model.dropout: is not understood"},
    {{.model = MODEL(VOCAB ", " MERGES ", \"continuing_subword_prefix\": \"##\"")}, "model.continuing_subword_prefix: "},
    {{.model = MODEL(VOCAB ", " MERGES ", \"end_of_word_suffix\": \"</w>\"")}, "model.end_of_word_suffix: "},
    {{.model = MODEL(VOCAB ", " MERGES ", \"fuse_unk\": 1")}, "model.fuse_unk: expected true or false"},
    {{.model = MODEL(VOCAB ", " MERGES ", \"unk_token\": \"<unk>\"")}, "model.unk_token: '<unk>' is not in the vocab"},
    {{.model = MODEL("\"vocab\": [], " MERGES)}, "model.vocab: expected a map"},
    {{.model = MODEL("\"vocab\": {\"a\": 0, \"b\": 0}, " MERGES)}, "model.vocab['b']: has the id 0, as has 'a'"},
    {{.model = MODEL("\"vocab\": {\"a\": 0, \"a\": 1}, " MERGES)}, "model.vocab['a']: is duplicated"},
    {{.model = MODEL("\"vocab\": {\"a\": -1}, " MERGES)}, "model.vocab['a']: expected an id"},
    {{.model = MODEL("\"vocab\": {\"a\": 1.5}, " MERGES)}, "model.vocab['a']: expected an id"},
    {{.model = MODEL("\"vocab\": {\"a\": 1e300}, " MERGES)}, "model.vocab['a']: expected an id"},
    {{.model = MODEL("\"vocab\": {\"a\": 16777216}, " MERGES)}, "up to 16777215"},
    {{.model = MODEL("\"vocab\": {\"a\": \"0\"}, " MERGES)}, "model.vocab['a']: expected an id"},
    {{.model = MODEL(VOCAB ", \"merges\": [\"a b\", \"a c\"]")}, "model.merges[1]: names 'c', which is not in the vocab"},
    {{.model = MODEL(VOCAB ", \"merges\": [\"c a\"]")}, "model.merges[0]: names 'c'"},
    {{.model = MODEL(VOCAB ", \"merges\": [\"b a\"]")}, "model.merges[0]: names 'ba'"},
    {{.model = MODEL(VOCAB ", \"merges\": [\"ab\"]")}, "model.merges[0]: expected"},
    {{.model = MODEL(VOCAB ", \"merges\": [\"a b \"]")}, "model.merges[0]: expected"},
    {{.model = MODEL(VOCAB ", \"merges\": [[\"a\"]]")}, "model.merges[0]: expected"},
    {{.model = MODEL(VOCAB ", \"merges\": [[\"a\", \"b\", \"a\"]]")}, "model.merges[0]: expected"},
    {{.model = MODEL(VOCAB ", \"merges\": [[\"a\", 1]]")}, "model.merges[0]: expected"},
    {{.normalizer = "{\"type\": \"Precompiled\"}"}, "normalizer.type: 'Precompiled' is not understood; known: NFC, NFD"},
    {{.normalizer = "{\"type\": \"Prepend\"}"}, "normalizer.prepend: is missing"},
    {{.normalizer = "{\"type\": \"Strip\", \"strip_left\": true}"}, "normalizer.strip_right: is missing"},
    {{.normalizer = "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\"}, \"content\": \"\"}"}, "normalizer.pattern: is empty"},
    {{.normalizer = "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"\\\\w\"}, \"content\": \"\"}"},
     "normalizer.pattern: the pattern cannot be used"},
    {{.normalizer = "{\"type\": \"NFC\", \"x\": 1}"}, "normalizer.'x': is not understood"},
    {{.normalizer = "{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"NFC\"}, {\"type\": \"Lowercase\"}]}"},
     "normalizer.normalizers[1].type: 'Lowercase'"},
    {{.normalizer = "{\"kind\": \"NFC\"}"}, "normalizer.type: expected a text"},
    {{.pre = "{\"type\": \"Metaspace\"}"}, "pre_tokenizer.replacement: is missing"},
    {{.pre = "{\"type\": \"Metaspace\", \"replacement\": \"ab\"}"}, "pre_tokenizer.replacement: expected one character, got 'ab'"},
    {{.pre = "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"last\"}"},
     "pre_tokenizer.prepend_scheme: 'last' is not understood; known: always, first, never"},
    {{.pre = "{\"type\": \"Metaspace\", \"replacement\": \"_\", \"prepend_scheme\": \"first\", \"add_prefix_space\": false}"},
     "pre_tokenizer: add_prefix_space and prepend_scheme disagree"},
    {{.pre = "{\"type\": \"Digits\", \"individual_digits\": 1}"}, "pre_tokenizer.individual_digits: expected true or false"},
    {{.pre = "{\"type\": \"Sequence\"}"}, "pre_tokenizer.pretokenizers: is missing"},
    {{.pre = "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Whitespace\"}]}"},
     "pre_tokenizer.pretokenizers[0].type: 'Whitespace'"},
    {{.pre = "{\"type\": \"ByteLevel\"}"}, "pre_tokenizer.add_prefix_space: is missing"},
    {{.pre = "{\"type\": \"ByteLevel\", \"add_prefix_space\": 1}"}, "pre_tokenizer.add_prefix_space: expected true or false"},
    {{.pre = SPLIT("\" \"", "")}, "pre_tokenizer.pattern: expected a map"},
    {{.pre = SPLIT("{}", "")}, "pre_tokenizer.pattern: expected one of"},
    {{.pre = SPLIT("{\"String\": \"\"}", "")}, "pre_tokenizer.pattern: is empty"},
    {{.pre = SPLIT("{\"Regex\": \"(a\"}", "")}, "pre_tokenizer.pattern: the pattern cannot be used: missing closing parenthesis"},
    {{.pre = SPLIT("{\"Regex\": \"\\\\w+\"}", "")}, "this escape is not understood (byte 0)"},
    {{.pre = SPLIT("{\"Regex\": \"((a{1,60000}){1,60000})\"}", "")}, "the pattern cannot be used"},
    {{.pre = SPLIT("{\"Regex\": \"a\"}", ", \"mode\": 1")}, "pre_tokenizer.'mode': is not understood"},
    {{.pre = "{\"type\": \"Split\", \"pattern\": {\"String\": \"a\"}, \"behavior\": \"Kept\", \"invert\": false}"},
     "pre_tokenizer.behavior: 'Kept' is not understood"},
    {{.post = "{\"type\": \"BertProcessing\"}"}, "post_processor.type: 'BertProcessing'"},
    {{.decoder = "null"}, "decoder: is missing"},
    {{.decoder = "{\"type\": \"WordPiece\"}"}, "decoder.type: 'WordPiece'"},
    {{.decoder = "{\"type\": \"Strip\", \"content\": \"\", \"start\": 1, \"stop\": 0}"}, "decoder.content: expected one character"},
    {{.decoder = "{\"type\": \"Strip\", \"content\": \" \", \"start\": -1, \"stop\": 0}"},
     "decoder: expected start and stop to be whole"},
    {{.decoder = FUSED("{\"type\": \"Strip\", \"content\": \" \", \"start\": 0, \"stop\": 1}")},
     "decoder.decoders[1]: is not understood behind Fuse"},
    {{.decoder = FUSED("{\"type\": \"Metaspace\", \"replacement\": \"_\"}")}, "decoder.decoders[1]: is not understood behind Fuse"},
    {{.decoder = FUSED("{\"type\": \"Replace\", \"pattern\": {\"String\": \"ab\"}, \"content\": \"\"}")},
     "decoder.decoders[1]: is not understood behind Fuse"},
    {{.decoder = "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"ByteLevel\"}, {\"type\": \"ByteFallback\"}]}"},
     "decoder.decoders[1]: is not understood behind ByteLevel"},
    {{.decoder = "{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"ByteFallback\"}, {\"type\": \"ByteLevel\"}]}"},
     "decoder: ByteLevel beside ByteFallback"},
    {{.added = "{}"}, "added_tokens: expected null or a list"},
    {{.added = "[{\"content\": \"x\", " FLAGS "]"}, "added_tokens[0].id: is missing"},
    {{.added = "[{\"id\": 3, \"content\": \"x\"}]"}, "added_tokens[0].single_word: is missing"},
    {{.added = "[{\"id\": 16777216, \"content\": \"x\", " FLAGS "]"}, "added_tokens[0].id: expected an id"},
    {{.added = "[{\"id\": 3, \"content\": \"\", " FLAGS "]"}, "added_tokens[0].content: expected a text of 1 to"},
    {{.added = "[{\"id\": 3, \"content\": \"x\", " FLAGS ", {\"id\": 3, \"content\": \"y\", " FLAGS "]"},
     "added_tokens[1].id: 3 is duplicated"},
    {{.added = "[{\"id\": 3, \"content\": \"x\", " FLAGS ", {\"id\": 4, \"content\": \"x\", " FLAGS "]"},
     "added_tokens[1].content: 'x' is duplicated"},
    {{.added = "[{\"id\": 3, \"content\": \"a\", " FLAGS "]"}, "added_tokens[0]: 'a' has the id 0 in the vocab, not 3"},
    {{.added = "[{\"id\": 2, \"content\": \"x\", " FLAGS "]"}, "added_tokens[0]: the id 2 is 'ab' in the vocab"},
    {{.more = ", \"version\": \"1.0\""}, "version: is duplicated"},
    {{.more = ", \"\\u001b[2J\": 1"}, "'\\u001b[2J': is not understood"},
};

static void sections_that_are_not_understood_are_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof section_cases / sizeof *section_cases; i++) {
        SuText text = file_of(&section_cases[i].sections);
        refuse(text.text, text.size, section_cases[i].words);
        su_text_free(&text);
    }
}

static void the_file_they_vary_is_good(void **state) {
    (void)state;
    SuText text = file_of(&(Sections){0});
    TkBpeOptions options = NO_SPECIALS(100);
    SuDiags diags = {0};
    RtTokenizer *t = tk_bpe_parse(text.text, text.size, "t.json", &options, &diags);
    assert_non_null(t);
    rt_tokenizer_free(t);
    su_text_free(&text);
    su_diags_free(&diags);
}

static void what_is_no_file_of_this_kind_is_refused(void **state) {
    (void)state;
#define REFUSE(text, words) refuse(text, sizeof(text) - 1, words)
    REFUSE("", "file is not valid JSON");
    REFUSE("{", "file is not valid JSON");
    REFUSE("[]", "the file: expected a map");
    REFUSE("{} {}", "extra data after its JSON, at byte 3");
    REFUSE("{\"a\": \"\\ud800\"}", "file is not valid JSON");
    REFUSE("{\"a\": \"\xC3\"}", "invalid UTF-8 at byte 7");
    REFUSE("{\"a\": \"\xED\xA0\x80\"}", "invalid UTF-8");
    REFUSE("{\"a\": \"b\0c\"}", "invalid UTF-8 at byte 8");
    REFUSE("{\"a\\u0000b\": 1}", "NUL character in a string at byte 3");
    REFUSE("[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]", "JSON is nested deeper than 16 levels");
    REFUSE("{\"version\": \"2.0\", \"model\": {}}", "version: '2.0' is not understood");
    REFUSE("{\"version\": \"1.0\"}", "model: is missing");
    REFUSE("version https://git-lfs.github.com/spec/v1\n", "file is a Git LFS pointer, not the file itself");
    REFUSE("<!DOCTYPE html><html>", "file is an HTML page");
    REFUSE("{\"truncation\": 7, \"model\": {}}", "truncation: expected null or a map");
    REFUSE("{\"padding\": [], \"model\": {}}", "padding: expected null or a map");
}

static void sizes_are_bounded(void **state) {
    (void)state;
    SuText text = {0};
    su_text_append(&text, "[", 1);
    for (int i = 0; i < TK_MAX_VALUES; i++) su_text_append(&text, "1,", 2);
    su_text_append(&text, "1]", 2);
    refuse(text.text, text.size, "limit of 4194304 values");
    text.size = 0;
    for (int i = 0; i <= TK_MAX_FILE / 16; i++) su_text_append(&text, "                ", 16);
    refuse(text.text, text.size, "exceeds the limit of 67108864 bytes");
    text.size = 0;
    su_text_add(&text, "[{\"id\": 3, \"content\": \"%*d\", " FLAGS "]", TK_MAX_ADDED + 1, 7);
    SuText file = file_of(&(Sections){.added = text.text});
    refuse(file.text, file.size, "added_tokens[0].content: expected a text of 1 to 1024 bytes");
    su_text_free(&file);
    su_text_free(&text);
}

static void refuse_special(TkBpeOptions options, const char *words) {
    SuText text = file_of(&(Sections){.added = "[{\"id\": 5, \"content\": \"<s>\", " FLAGS "]"});
    SuDiags diags = {0};
    assert_null(tk_bpe_parse(text.text, text.size, "t.json", &options, &diags));
    assert_int_equal(diags.errors, 1);
    if (!strstr(diags.items[0].message, words)) print_message("said: %s\n", diags.items[0].message);
    assert_non_null(strstr(diags.items[0].message, words));
    su_text_free(&text);
    su_diags_free(&diags);
}

static void specials_that_do_not_exist_are_refused(void **state) {
    (void)state;
    refuse_special((TkBpeOptions){.vocab_size = 100, .bos = -1, .eos = -1, .bos_text = "<t>"},
                   "tokenizer has no token '<t>', the spec's bos");
    refuse_special((TkBpeOptions){.vocab_size = 100, .bos = -1, .eos = 4}, "tokenizer has no token 4, the spec's eos");
    refuse_special((TkBpeOptions){.vocab_size = 5, .bos = -1, .eos = -1, .eos_text = "<s>"},
                   "eos is token 5, outside the vocabulary (0 to 4)");
}

static void refuse_text(int64_t vocab_size, const char *text, size_t size, const char *words) {
    SuText file = file_of(&(Sections){0});
    TkBpeOptions options = NO_SPECIALS(vocab_size);
    SuDiags diags = {0};
    RtTokens tokens = {0};
    RtTokenizer *t = tk_bpe_parse(file.text, file.size, "t.json", &options, &diags);
    assert_non_null(t);
    assert_false(rt_tokenizer_encode(t, text, size, &tokens, &diags));
    assert_int_equal(diags.errors, 1);
    assert_non_null(strstr(diags.items[0].message, words));
    rt_tokenizer_free(t);
    rt_tokens_free(&tokens);
    su_text_free(&file);
    su_diags_free(&diags);
}

static void texts_without_ids_are_refused(void **state) {
    (void)state;
    refuse_text(100, "abc", 3, "no token for the character 'c' (U+0063) and no unk_token");
    refuse_text(100, "a\n", 2, "no token for the character '' (U+000A)");
    refuse_text(100, "a\xFFz", 3, "text: invalid UTF-8 at byte 1");
    refuse_text(2, "aab", 3, "text contains token 2, outside the vocabulary (0 to 1)");
}

static void a_file_that_is_missing_is_named(void **state) {
    (void)state;
    TkBpeOptions options = NO_SPECIALS(100);
    SuDiags diags = {0};
    assert_null(tk_bpe_open("no/such/file.json", &options, &diags));
    assert_int_equal(diags.errors, 1);
    su_diags_free(&diags);
}

#define CHAIN "\"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"bc\": 4}"

/* The ids of "abc", and how many notes there were. */
static size_t ids_of_abc(const char *merges, const char *more, int32_t out_ids[3]) {
    SuText model = {0};
    su_text_add(&model, "{\"type\": \"BPE\", " CHAIN ", \"merges\": %s}", merges);
    Sections sections = {.model = model.text, .more = more};
    SuText text = file_of(&sections);
    TkBpeOptions options = NO_SPECIALS(100);
    SuDiags diags = {0};
    RtTokens ids = {0};
    RtTokenizer *t = tk_bpe_parse(text.text, text.size, "some/t.json", &options, &diags);
    assert_non_null(t);
    assert_true(rt_tokenizer_encode(t, "abc", 3, &ids, &diags));
    assert_int_equal(diags.errors, 0);
    assert_in_range(ids.count, 1, 3);
    memcpy(out_ids, ids.ids, ids.count * sizeof *ids.ids);
    size_t notes = diags.count;
    rt_tokens_free(&ids);
    rt_tokenizer_free(t);
    su_text_free(&text);
    su_text_free(&model);
    su_diags_free(&diags);
    return notes;
}

static void expect_abc(const char *merges, int32_t first, int32_t second) {
    int32_t ids[3];
    assert_int_equal(ids_of_abc(merges, "", ids), 0);
    assert_int_equal(ids[0], first);
    assert_int_equal(ids[1], second);
}

static void a_merge_listed_twice_has_its_last_rank(void **state) {
    (void)state;
    expect_abc("[\"a b\", \"b c\"]", 3, 2);
    expect_abc("[\"b c\", \"a b\"]", 0, 4);
    expect_abc("[\"a b\", \"b c\", \"a b\"]", 0, 4);
    expect_abc("[[\"b\", \"c\"], [\"a\", \"b\"], [\"b\", \"c\"]]", 3, 2);
}

static void a_version_line_among_merges_is_passed_over(void **state) {
    (void)state;
    expect_abc("[\"#version: 0.2\", \"a b\", \"b c\"]", 3, 2);
    expect_abc("[\"#version: 0.2 - Trained by `huggingface/tokenizers`\", \"b c\", \"a b\"]", 0, 4);
}

static void truncation_and_padding_are_noted_and_not_used(void **state) {
    (void)state;
    const char *text = "{\"truncation\": {\"max_length\": 1, \"strategy\": \"LongestFirst\"}, \"padding\": {\"length\": 9}, "
                       "\"model\": {\"type\": \"BPE\", " CHAIN ", \"merges\": []}, \"decoder\": {\"type\": \"Fuse\"}}";
    TkBpeOptions options = NO_SPECIALS(100);
    SuDiags diags = {0};
    RtTokens ids = {0};
    RtTokenizer *t = tk_bpe_parse(text, strlen(text), "some/t.json", &options, &diags);
    assert_non_null(t);
    assert_int_equal(diags.count, 2);
    assert_int_equal(diags.items[0].severity, SU_NOTE);
    assert_non_null(strstr(diags.items[0].message, "truncation: is not used"));
    assert_non_null(strstr(diags.items[1].message, "padding: is not used"));
    assert_true(rt_tokenizer_encode(t, "abcabc", 6, &ids, &diags));
    assert_int_equal(ids.count, 6);
    rt_tokens_free(&ids);
    rt_tokenizer_free(t);
    su_diags_free(&diags);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_merge_listed_twice_has_its_last_rank),
        cmocka_unit_test(a_version_line_among_merges_is_passed_over),
        cmocka_unit_test(truncation_and_padding_are_noted_and_not_used),
        cmocka_unit_test(the_file_they_vary_is_good),
        cmocka_unit_test(sections_that_are_not_understood_are_named),
        cmocka_unit_test(what_is_no_file_of_this_kind_is_refused),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(specials_that_do_not_exist_are_refused),
        cmocka_unit_test(texts_without_ids_are_refused),
        cmocka_unit_test(a_file_that_is_missing_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
