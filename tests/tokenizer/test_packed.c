/* Packed tokenizers: the same ids as the tokenizer.json they are made of, the same normal form as utf8proc, and refusals. */
#include "support/alloc.h"
#include "tests/tokenizer/golden.h"

#include <cjson/cJSON.h>

#include "tokenizer/known.h"
#include "tokenizer/model.h"
#include "tokenizer/packed.h"
#include "tokenizer/regex.h"

enum { VOCAB = 100000, LONGEST = 40 };
static int share = 1; /* of many texts and characters, one in so many is compared */

const char *golden_directory;
static const char *data_directory;

/* ---- helpers */

static SuText pack_good(const char *directory, const char *name) {
    TkBpeOptions options = NO_SPECIALS(VOCAB);
    char path[4096];
    SuText file = {0};
    SuDiags diags = {0};
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!tk_bpe_pack(path, &options, &file, &diags)) su_diags_print(&diags, stderr);
    assert_int_equal(diags.count, 0);
    su_diags_free(&diags);
    return file;
}

static RtTokenizer *parse_good(const SuText *file) {
    SuDiags diags = {0};
    RtTokenizer *t = tk_packed_parse((const uint8_t *)file->text, file->size, "t", VOCAB, &diags);
    su_diags_print(&diags, stderr);
    assert_non_null(t);
    su_diags_free(&diags);
    return t;
}

static void assert_same_ids(const RtTokenizer *a, const RtTokenizer *b, const char *text, size_t size) {
    RtTokens x = encode_good(a, text, size), y = encode_good(b, text, size);
    bool same = x.count == y.count && (!x.count || memcmp(x.ids, y.ids, x.count * sizeof *x.ids) == 0);
    if (!same) print_message("other ids for '%.*s'\n", (int)size, text);
    assert_true(same);
    SuText said_x = said(a, &x), said_y = said(b, &y);
    assert_int_equal(said_x.size, said_y.size);
    assert_memory_equal(said_x.text, said_y.text, said_x.size);
    su_text_free(&said_x);
    su_text_free(&said_y);
    rt_tokens_free(&x);
    rt_tokens_free(&y);
}

static uint32_t random_below(uint64_t *seed, uint32_t bound) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*seed >> 33) % bound);
}

static void append_code(SuText *text, uint32_t c) {
    char bytes[4] = {(char)(0xF0 | c >> 18), (char)(0x80 | (c >> 12 & 63)), (char)(0x80 | (c >> 6 & 63)), (char)(0x80 | (c & 63))};
    if (c < 0x80)
        bytes[3] = (char)c;
    else if (c < 0x800)
        bytes[2] = (char)(0xC0 | c >> 6);
    else if (c < 0x10000)
        bytes[1] = (char)(0xE0 | c >> 12);
    size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    su_text_append(text, bytes + 4 - size, size);
}

/* What patterns and normal forms tell apart, and any character at all. */
static uint32_t random_code(uint64_t *seed) {
    static const uint32_t odd[] = {'\'',   's',   'S',   't',    'r',   'e',     'L',    'l',    'D',    ' ',    ' ',
                                   '\t',   '\r',  '\n',  '1',    '9',   '!',     '.',    'a',    'Z',    0x17F,  0xA0,
                                   0x85,   0x300, 0x301, 0x327,  0x345, 0x1100,  0x1161, 0x11A8, 0xAC00, 0xAC01, 0x3000,
                                   0x2028, 0x664, 0xBD,  0x1E9B, 0x323, 0x1F600, 0x4E00, 0x958,  0x93C};
    uint32_t kind = random_below(seed, 8), code;
    if (kind < 5) return odd[random_below(seed, sizeof odd / sizeof *odd)];
    do {
        code = random_below(seed, kind == 5 ? 0x250 : kind == 6 ? 0x3100 : 0x110000);
    } while (code == 0 || (code >= 0xD800 && code < 0xE000));
    return code;
}

static SuText random_text(uint64_t *seed) {
    SuText text = {0};
    su_text_append(&text, "", 0);
    for (uint32_t left = 1 + random_below(seed, LONGEST); left > 0; left--) append_code(&text, random_code(seed));
    return text;
}

/* ---- tests */

static void check_golden(const char *name) {
    char path[256];
    size_t size;
    TkBpeOptions options = NO_SPECIALS(VOCAB);
    snprintf(path, sizeof path, "%s.json", name);
    RtTokenizer *host = open_good(golden_directory, path, &options);
    SuText file = pack_good(golden_directory, path);
    RtTokenizer *packed = parse_good(&file);
    assert_int_equal(rt_tokenizer_limit(packed), rt_tokenizer_limit(host));
    assert_int_equal(rt_tokenizer_gaps(packed), rt_tokenizer_gaps(host));
    snprintf(path, sizeof path, "%s.cases.json", name);
    char *text = read_whole(golden_directory, path, &size);
    cJSON *cases = cJSON_ParseWithLength(text, size);
    for (const cJSON *item = cases->child; item; item = item->next) {
        const char *input = cJSON_GetObjectItem(item, "text")->valuestring;
        const cJSON *id = cJSON_GetObjectItem(item, "ids")->child;
        RtTokens tokens = encode_good(packed, input, strlen(input));
        for (size_t i = 0; i < tokens.count; i++, id = id->next) assert_int_equal(tokens.ids[i], id->valueint);
        assert_null(id);
        rt_tokens_free(&tokens);
        assert_same_ids(packed, host, input, strlen(input));
    }
    cJSON_Delete(cases);
    su_free(text);
    rt_tokenizer_free(host);
    rt_tokenizer_free(packed);
    su_text_free(&file);
}

static void ids_are_hugging_faces(void **state) {
    (void)state;
    static const char *const names[] = {
        "gpt2",   "flags", "llama3",           "fallback",        "unknown",         "unknown-fused",
        "llama2", "gemma", "metaspace-always", "metaspace-first", "metaspace-never", "forms",
        "digits"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) check_golden(names[i]);
}

/* A vocab of single bytes shows where texts are split by nothing, so patterns are compared by their pieces. */
typedef struct Pieces {
    size_t ends[4 * LONGEST + 1], count;
    const char *text;
} Pieces;

static bool note_piece(void *context, const char *text, size_t size) {
    Pieces *p = context;
    p->ends[p->count++] = (size_t)(text - p->text) + size;
    return true;
}

static const TkTables *tables_of(const SuText *file, RtTokenizer **out_owner, TkBpe **out_bpe) {
    SuDiags diags = {0};
    *out_owner = parse_good(file);
    *out_bpe = tk_packed_read((const uint8_t *)file->text, file->size, "t", VOCAB, &diags);
    su_diags_free(&diags);
    return (const TkTables *)(*out_bpe)->unicode;
}

static void known_patterns_split_as_pcre2_does(void **state) {
    (void)state;
    static const TkKnown all[] = {TK_KNOWN_GPT2, TK_KNOWN_LLAMA3, TK_KNOWN_QWEN2, TK_KNOWN_NUMBER};
    SuText file = pack_good(golden_directory, "gpt2.json");
    RtTokenizer *owner;
    TkBpe *bpe;
    const TkTables *tables = tables_of(&file, &owner, &bpe);
    TkMatcher *matcher = tk_matcher_create();
    uint64_t seed = 3;
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        SuArena arena = {0};
        SuDiags diags = {0};
        const char *pattern = tk_known_text(all[k]), *why;
        assert_int_equal(tk_known_by_text((TkText){pattern, strlen(pattern)}, false), all[k]);
        TkPattern *known = tk_known_make(all[k], tables, (TkText){0});
        TkPattern *regex = tk_pattern_compile(&arena, pattern, strlen(pattern), false, &why);
        for (int round = 0; round < 30000 / share; round++) {
            SuText text = random_text(&seed);
            Pieces a = {.text = text.text}, b = {.text = text.text};
            assert_true(tk_split(known, NULL, TK_ISOLATED, false, text.text, text.size, note_piece, &a, &diags));
            assert_true(tk_split(regex, matcher, TK_ISOLATED, false, text.text, text.size, note_piece, &b, &diags));
            bool same = a.count == b.count && memcmp(a.ends, b.ends, a.count * sizeof *a.ends) == 0;
            if (!same) print_message("'%s' is split in another way\n", text.text);
            assert_true(same);
            su_text_free(&text);
        }
        tk_pattern_free(known);
        tk_pattern_free(regex);
        su_arena_free(&arena);
        su_diags_free(&diags);
    }
    tk_matcher_free(matcher);
    tk_model_free(bpe);
    su_free(bpe);
    rt_tokenizer_free(owner);
    su_text_free(&file);
}

static void assert_same_forms(const TkTables *tables, const SuText *text) {
    for (int form = 0; form < TK_FORMS; form++) {
        SuText a = {0}, b = {0};
        su_text_append(&a, "", 0);
        su_text_append(&b, "", 0);
        tk_normal_form(&tables->unicode, (TkForm)form, text->text, text->size, &a);
        tk_normal_form(&tk_utf8proc, (TkForm)form, text->text, text->size, &b);
        if (strcmp(a.text, b.text) != 0) print_message("'%s' has another normal form %d\n", text->text, form);
        assert_string_equal(a.text, b.text);
        su_text_free(&a);
        su_text_free(&b);
    }
}

static void tables_say_what_utf8proc_says(void **state) {
    (void)state;
    SuText file = pack_good(golden_directory, "forms.json");
    RtTokenizer *owner;
    TkBpe *bpe;
    const TkTables *tables = tables_of(&file, &owner, &bpe);
    uint64_t seed = 5;
    for (uint32_t code = 1; code < 0x110000; code++) {
        if (code >= 0xD800 && code < 0xE000) continue;
        assert_int_equal(tables->unicode.is_word(&tables->unicode, code), tk_utf8proc.is_word(&tk_utf8proc, code));
        if (code % (unsigned)share != 0 || (code >= 0x30000 && code % 64 != 0)) continue; /* nothing is made of others there */
        SuText text = {0};
        append_code(&text, code);
        append_code(&text, 0x301);
        assert_same_forms(tables, &text);
        su_text_free(&text);
    }
    for (int round = 0; round < 50000 / share; round++) {
        SuText text = random_text(&seed);
        assert_same_forms(tables, &text);
        su_text_free(&text);
    }
    tk_model_free(bpe);
    su_free(bpe);
    rt_tokenizer_free(owner);
    su_text_free(&file);
}

static void assert_refused(const uint8_t *data, size_t size, int64_t vocab, const char *words) {
    SuDiags diags = {0};
    assert_null(tk_packed_parse(data, size, "t.tokenizer", vocab, &diags));
    assert_int_equal(diags.errors, 1);
    if (!strstr(diags.items[0].message, words)) fail_msg("'%s' is not in '%s'", words, diags.items[0].message);
    su_diags_free(&diags);
}

static void damage_is_found(void **state) {
    (void)state;
    SuText file = pack_good(golden_directory, "flags.json");
    uint8_t *data = (uint8_t *)file.text;
    assert_refused(data, 50, VOCAB, "not a complete");
    assert_refused(data, file.size - 1, VOCAB, "corrupt or truncated");
    assert_refused(data, file.size, VOCAB - 1, "packed for a model with 100000 ids");
    uint64_t seed = 1;
    for (int i = 0; i < 300; i++) {
        size_t at = 12 + random_below(&seed, (uint32_t)file.size - 12);
        data[at] ^= 0x55;
        assert_refused(data, file.size, VOCAB, "corrupt");
        data[at] ^= 0x55;
    }
    su_text_free(&file);
}

static void forge_and_use(const SuText *file, uint64_t *seed) {
    uint8_t *copy = malloc(file->size);
    memcpy(copy, file->text, file->size);
    for (uint32_t n = 1 + random_below(seed, 3); n > 0; n--) {
        size_t at = 12 + random_below(seed, random_below(seed, 2) ? 170 : (uint32_t)file->size - 12);
        copy[at] = (uint8_t)random_below(seed, 256);
    }
    TkPackedHeader *header = (TkPackedHeader *)(void *)copy;
    header->digest = tk_packed_digest(copy, file->size);
    SuDiags diags = {0};
    RtTokenizer *t = tk_packed_parse(copy, file->size, "t", header->vocab_size, &diags);
    RtTokens tokens = {0};
    if (t && rt_tokenizer_encode(t, "It's <a> 12  test \xC3\xA9", 21, &tokens, &diags)) {
        SuText text = said(t, &tokens);
        su_text_free(&text);
    }
    rt_tokens_free(&tokens);
    rt_tokenizer_free(t);
    su_diags_free(&diags);
    free(copy);
}

/* With a digest that fits, whatever stands in a file may be refused or make a poor tokenizer, but nothing worse (run it under
 * AddressSanitizer). */
static void forged_files_do_no_harm(void **state) {
    (void)state;
    static const char *const names[] = {"flags.json", "llama2.json", "metaspace-first.json"};
    uint64_t seed = 9;
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        SuText file = pack_good(golden_directory, names[k]);
        for (int i = 0; i < 1500; i++) forge_and_use(&file, &seed);
        su_text_free(&file);
    }
}

static void unknown_patterns_are_refused(void **state) {
    (void)state;
    TkBpeOptions options = NO_SPECIALS(VOCAB);
    char path[4096];
    SuText file = {0};
    SuDiags diags = {0};
    snprintf(path, sizeof path, "%s/splits.json", golden_directory);
    assert_false(tk_bpe_pack(path, &options, &file, &diags));
    assert_int_equal(diags.errors, 1);
    assert_non_null(strstr(diags.items[0].message, "pattern is not supported on devices: \\s"));
    su_diags_free(&diags);
}

static void neox_and_wikipedia_give_the_same_ids(void **state) {
    (void)state;
    TkBpeOptions options = NO_SPECIALS(VOCAB);
    size_t size = 0;
    char *text = read_whole(data_directory, "neox/vectors.inp", &size);
    if (!text) skip();
    RtTokenizer *host = open_good(data_directory, "neox/20B_tokenizer.json", &options);
    SuText file = pack_good(data_directory, "neox/20B_tokenizer.json");
    assert_in_range(file.size, 100000, 2000000);
    RtTokenizer *packed = parse_good(&file);
    assert_same_ids(packed, host, text, size);
    su_free(text);
    text = share == 1 ? read_whole(data_directory, "wikitext2/wiki.test.raw", &size) : NULL;
    if (text) assert_same_ids(packed, host, text, size);
    su_free(text);
    rt_tokenizer_free(host);
    rt_tokenizer_free(packed);
    su_text_free(&file);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_are_hugging_faces),
        cmocka_unit_test(known_patterns_split_as_pcre2_does),
        cmocka_unit_test(tables_say_what_utf8proc_says),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(forged_files_do_no_harm),
        cmocka_unit_test(unknown_patterns_are_refused),
        cmocka_unit_test(neox_and_wikipedia_give_the_same_ids),
    };
    golden_directory = argc > 1 ? argv[1] : ".";
    data_directory = argc > 2 ? argv[2] : ".";
    if (argc > 3 && strcmp(argv[3], "few") == 0) share = 10;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
