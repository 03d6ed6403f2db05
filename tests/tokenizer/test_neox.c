/* GPT-NeoX's own tokenizer, which is not part of the repository: the vectors that llama.cpp's tests hold it to, and texts that
 * come back. Without the files the test is skipped. */
#include "support/alloc.h"
#include "tests/tokenizer/golden.h"

#include "tokenizer/unicode.h"

const char *golden_directory;

enum { VOCAB = 50280, VECTORS = 47, SKIPPED = 77 };

static RtTokenizer *tokenizer;

/* Ids of a line of vectors.out. */
static RtTokens ids_of(const char *line, const char *end) {
    RtTokens ids = {0};
    for (char *next; line < end; line = next) {
        long id = strtol(line, &next, 10);
        if (next == line || next > end) break;
        rt_tokens_add(&ids, (int32_t)id);
    }
    return ids;
}

static void all_vectors_pass(void **state) {
    (void)state;
    static const char mark[] = "\n__ggml_vocab_test__\n";
    size_t size, lines_size, count = 0;
    char *texts = read_whole(golden_directory, "neox/vectors.inp", &size),
         *lines = read_whole(golden_directory, "neox/vectors.out", &lines_size);
    const char *text = texts, *line = lines;
    for (const char *end; text; text = end ? end + strlen(mark) : NULL, count++) {
        end = strstr(text, mark);
        const char *line_end = strchr(line, '\n');
        if (!line_end) line_end = lines + lines_size; /* the last text is empty, and so is its line */
        RtTokens wanted = ids_of(line, line_end);
        RtTokens tokens = encode_good(tokenizer, text, end ? (size_t)(end - text) : (size_t)(texts + size - text));
        if (tokens.count != wanted.count) print_message("vector %zu\n", count);
        assert_int_equal(tokens.count, wanted.count);
        if (wanted.count) assert_memory_equal(tokens.ids, wanted.ids, wanted.count * sizeof *wanted.ids);
        rt_tokens_free(&tokens);
        rt_tokens_free(&wanted);
        line = line_end + (*line_end == '\n');
    }
    assert_int_equal(count, VECTORS);
    assert_ptr_equal(line, lines + lines_size);
    su_free(texts);
    su_free(lines);
}

/* decode(encode(x)) is the normal form of x. */
static size_t check_round_trip(const char *text, size_t size) {
    SuText normal = {0};
    tk_normal_form(&tk_utf8proc, TK_NFC, text, size, &normal);
    RtTokens tokens = encode_good(tokenizer, text, size);
    SuText back = said(tokenizer, &tokens);
    assert_int_equal(back.size, normal.size);
    assert_memory_equal(back.text, normal.text, normal.size);
    size_t count = tokens.count;
    su_text_free(&normal);
    su_text_free(&back);
    rt_tokens_free(&tokens);
    return count;
}

/* Whole, and in pieces that begin and end at any character. */
static void check_file(const char *name) {
    size_t size, count = 0;
    char *text = read_whole(golden_directory, name, &size);
    assert_non_null(text);
    count = check_round_trip(text, size);
    assert_in_range(count, size / 6, size / 2);
    uint64_t seed = 1;
    for (size_t at = 0, end; at < size; at = end) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        end = at + 1 + (size_t)(seed >> 33) % 400;
        end = end < size ? end : size;
        while (end < size && ((unsigned char)text[end] & 0xC0) == 0x80) end++;
        check_round_trip(text + at, end - at);
    }
    su_free(text);
}

static void wikipedia_comes_back(void **state) {
    (void)state;
    check_file("wikitext2/wiki.test.raw");
    check_file("wikitext2/wiki.valid.raw");
}

static void characters_of_all_kinds_come_back(void **state) {
    (void)state;
    uint64_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        SuText text = {0};
        su_text_append(&text, "", 0);
        for (int i = 0; i < 40; i++) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            uint32_t code = (uint32_t)(seed >> 33) % (i % 3 == 0 ? 0x80 : i % 3 == 1 ? 0x800 : 0x10000);
            if (code >= 0xD800 && code < 0xE000) continue;
            char c[3] = {(char)(0xE0 | code >> 12), (char)(0x80 | (code >> 6 & 0x3F)), (char)(0x80 | (code & 0x3F))};
            if (code < 0x80) c[0] = (char)code;
            if (code >= 0x80 && code < 0x800) c[1] = (char)(0xC0 | code >> 6);
            su_text_append(&text, code < 0x80 || code >= 0x800 ? c : c + 1, code < 0x80 ? 1 : code < 0x800 ? 2 : 3);
        }
        check_round_trip(text.text, text.size);
        su_text_free(&text);
    }
}

static void padding_is_known(void **state) {
    (void)state;
    assert_int_equal(rt_tokenizer_limit(tokenizer), 50277);
    assert_int_equal(rt_tokenizer_gaps(tokenizer), 0);
    assert_int_equal(rt_tokenizer_eos(tokenizer), 0);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_vectors_pass),
        cmocka_unit_test(wikipedia_comes_back),
        cmocka_unit_test(characters_of_all_kinds_come_back),
        cmocka_unit_test(padding_is_known),
    };
    if (argc != 2) return 2;
    golden_directory = argv[1];
    static const char *const needed[] = {"neox/20B_tokenizer.json", "neox/vectors.inp", "neox/vectors.out",
                                         "wikitext2/wiki.test.raw", "wikitext2/wiki.valid.raw"};
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        size_t size;
        char *text = read_whole(golden_directory, needed[i], &size);
        if (!text) {
            printf("skipped: no %s/%s\n", golden_directory, needed[i]);
            return SKIPPED;
        }
        su_free(text);
    }
    TkBpeOptions options = {.vocab_size = VOCAB, .bos = -1, .eos = -1, .eos_text = "<|endoftext|>"};
    tokenizer = open_good(golden_directory, needed[0], &options);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    rt_tokenizer_free(tokenizer);
    return failed;
}
