/* The parts on their own: merging against a plain form of it, long words, the normal form, patterns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "support/clock.h"
#include "tokenizer/oniguruma.h"
#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"
#include "tokenizer/word.h"

/* ---- merging */

enum { SYMBOLS = 40, RULES = 120, LETTERS = 4 };

static uint32_t random_below(uint64_t *seed, uint32_t n) {
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % n;
}

/* By the definition: again and again the leftmost pair of the lowest rank. */
static size_t merge_plainly(const TkMerges *merges, int32_t *ids, size_t n) {
    for (;;) {
        size_t best = n;
        const TkMerge *chosen = NULL;
        for (size_t i = 0; i + 1 < n; i++) {
            const TkMerge *m = tk_merges_find(merges, ids[i], ids[i + 1]);
            if (m && (!chosen || m->rank < chosen->rank)) {
                chosen = m;
                best = i;
            }
        }
        if (!chosen) return n;
        ids[best] = chosen->id;
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        n--;
    }
}

static void merging_is_that_of_the_definition(void **state) {
    (void)state;
    for (uint64_t round = 1; round <= 300; round++) {
        uint64_t seed = round;
        SuArena arena = {0};
        TkMerges merges;
        TkWord word = {0};
        RtTokens out = {0};
        int32_t ids[SYMBOLS];
        tk_merges_make(&merges, &arena, RULES);
        for (uint32_t rank = 0; rank < RULES; rank++) {
            int32_t bound = LETTERS + (int32_t)rank / 3 + 1; /* later rules join what earlier ones make; pairs may make the same */
            tk_merges_add(&merges, (int32_t)random_below(&seed, (uint32_t)bound), (int32_t)random_below(&seed, (uint32_t)bound),
                          rank, LETTERS + (int32_t)random_below(&seed, RULES / 3));
        }
        size_t n = 1 + random_below(&seed, SYMBOLS);
        for (size_t i = 0; i < n; i++) {
            ids[i] = (int32_t)random_below(&seed, LETTERS);
            tk_word_add(&word, ids[i]);
        }
        tk_word_merge(&word, &merges, &out);
        n = merge_plainly(&merges, ids, n);
        assert_int_equal(out.count, n);
        assert_memory_equal(out.ids, ids, n * sizeof *ids);
        tk_word_free(&word);
        rt_tokens_free(&out);
        su_arena_free(&arena);
    }
}

static double merge_seconds(size_t n) {
    SuArena arena = {0};
    TkMerges merges;
    TkWord word = {0};
    RtTokens out = {0};
    tk_merges_make(&merges, &arena, 20);
    for (int32_t i = 0; i < 20; i++) tk_merges_add(&merges, i, i, (uint32_t)i, i + 1); /* a aa aaaa … */
    double start = su_seconds();
    for (size_t i = 0; i < n; i++) tk_word_add(&word, 0);
    tk_word_merge(&word, &merges, &out);
    double seconds = su_seconds() - start;
    assert_int_equal(out.count, n >> 20 ? n >> 20 : 1);
    tk_word_free(&word);
    rt_tokens_free(&out);
    su_arena_free(&arena);
    return seconds;
}

/* Half a million times the work of a letter, were merging quadratic: hours. */
static void a_word_of_a_megabyte_takes_no_time(void **state) {
    (void)state;
    assert_true(merge_seconds((size_t)1 << 20) < 60);
}

/* ---- the normal form */

static void check_nfc(const char *text, const char *wanted) {
    SuText out = {0};
    tk_normal_form(&tk_utf8proc, TK_NFC, text, strlen(text), &out);
    assert_string_equal(out.text, wanted);
    su_text_free(&out);
}

static void texts_take_normal_form_c(void **state) {
    (void)state;
    check_nfc("", "");
    check_nfc("plain", "plain");
    check_nfc("e\u0301", "\u00E9");
    check_nfc("caf\u00E9", "caf\u00E9");
    check_nfc("\u0301e\u0301 e\u0301x", "\u0301\u00E9 \u00E9x");
    check_nfc("\u212B\u2126", "\u00C5\u03A9"); /* signs that are letters */
    check_nfc("\u1112\u1161\u11AB", "\uD55C"); /* Hangul */
    check_nfc("E\u0300\u0323", "\u1EB8\u0300"); /* marks in the order of their class */
    check_nfc("a\u0315\u0300\u05AE\u0300b", "\u00E0\u05AE\u0300\u0315b"); /* of NormalizationTest.txt */
    check_nfc("\u0958", "\u0915\u093C"); /* excluded from composition */
    check_nfc("\u1E9B\u0323", "\u1E9B\u0323");
    check_nfc("\U0001D15E", "\U0001D157\U0001D165");
    check_nfc("\U000E1234\uE000", "\U000E1234\uE000"); /* unassigned and private ones */
}

/* Marks whose order must be turned round, a million of them on one letter: no square of their number. */
static void many_marks_take_no_time(void **state) {
    (void)state;
    SuText text = {0}, out = {0};
    enum { MARKS = 500000 };
    su_text_append(&text, "a", 1);
    for (int i = 0; i < MARKS; i++) su_text_append(&text, "\u0315", 2);
    for (int i = 0; i < MARKS; i++) su_text_append(&text, "\u0316", 2);
    double start = su_seconds();
    tk_normal_form(&tk_utf8proc, TK_NFC, text.text, text.size, &out);
    assert_true(su_seconds() - start < 60);
    assert_int_equal(out.size, text.size);
    assert_memory_equal(out.text, "a\u0316\u0316", 5);
    su_text_free(&text);
    su_text_free(&out);
}

static void letters_and_blanks_are_unicodes(void **state) {
    (void)state;
    static const uint32_t spaces[] = {' ', '\t', '\r', 0x85, 0xA0, 0x3000, 0x2028}, others[] = {'a', 0x180E, 0x200B, 0xFEFF};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++) assert_true(tk_is_space(spaces[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) assert_false(tk_is_space(others[i]));
    static const uint32_t words[] = {'a', '_', '7', 0xE9, 0x301, 0x4E2D, 0x2160, 0x203F, 0x200D, 0x24B6},
                          signs[] = {' ', '-', 0xBD, 0x1F642};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) assert_true(tk_utf8proc.is_word(&tk_utf8proc, words[i]));
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++) assert_false(tk_utf8proc.is_word(&tk_utf8proc, signs[i]));
}

/* ---- patterns */

static void what_engines_read_differently_is_refused(void **state) {
    (void)state;
    static const char *const good[] = {"a",
                                       "\\s+(?!\\S)|\\s+",
                                       "[^\\s\\p{L}\\p{N}]+",
                                       "(?i:'s|'t)",
                                       "\\p{Lu}{1,3}",
                                       "(?<=a)b",
                                       "(?<!a)b",
                                       "(?<n>a)",
                                       "a{2}",
                                       "[a-z&]",
                                       "\\{\\}+",
                                       "\\p{^L}",
                                       "(?>a+)",
                                       "a++",
                                       "[\\]\\[]",
                                       "\\x{41}"};
    static const char *const bad[] = {"\\w",      "\\bthe",  "\\p{Han}",    "\\p{Alpha}", "\\pL",  "\\h",    "\\R",
                                      "\\X",      "[a[b]]",  "[[:alpha:]]", "[a&&b]",     "[]a]",  "[\\S]",  "(?m:.)",
                                      "(?s).",    "(*UTF)a", "a{2}+",       "a{2}?",      "a{,2}", "(a)\\1", "(?|a)",
                                      "(?P<n>a)", "\\Qa\\E", "\\K",         "(?C1)"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        SuText out = {0};
        size_t at;
        const char *trouble = tk_translate(good[i], strlen(good[i]), &out, &at);
        if (trouble) print_message("%s: %s\n", good[i], trouble);
        assert_null(trouble);
        su_text_free(&out);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        SuText out = {0};
        size_t at;
        if (!tk_translate(bad[i], strlen(bad[i]), &out, &at)) print_message("%s is taken\n", bad[i]);
        su_text_free(&out);
        assert_non_null(tk_translate(bad[i], strlen(bad[i]), &out, &at));
        su_text_free(&out);
    }
}

static bool count_piece(void *context, const char *text, size_t size) {
    (void)text, (void)size;
    ++*(int *)context;
    return true;
}

/* Llama 3's pattern walks the whole run back before its next alternative takes it: as many steps as blanks, and no more. */
static void a_long_run_of_blanks_is_no_trouble(void **state) {
    (void)state;
    SuArena arena = {0};
    SuDiags diags = {0};
    SuText text = {0};
    const char *why = NULL, *pattern = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    for (int i = 0; i < 2000000; i++) su_text_append(&text, " ", 1);
    su_text_append(&text, "x", 1);
    TkPattern *p = tk_pattern_compile(&arena, pattern, strlen(pattern), false, &why);
    TkMatcher *m = tk_matcher_create();
    int pieces = 0;
    assert_non_null(p);
    assert_true(tk_split(p, m, TK_ISOLATED, false, text.text, text.size, count_piece, &pieces, &diags));
    assert_int_equal(pieces, 3); /* all but one, the last, x */
    tk_matcher_free(m);
    tk_pattern_free(p);
    su_text_free(&text);
    su_diags_free(&diags);
    su_arena_free(&arena);
}

static void a_pattern_that_takes_too_long_gives_up(void **state) {
    (void)state;
    SuArena arena = {0};
    SuDiags diags = {0};
    const char *why = NULL, *pattern = "(a|aa)+$|(a*)*b";
    static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac";
    TkPattern *p = tk_pattern_compile(&arena, pattern, strlen(pattern), false, &why);
    TkMatcher *m = tk_matcher_create();
    int pieces = 0;
    assert_non_null(p);
    assert_false(tk_split(p, m, TK_ISOLATED, false, text, sizeof text - 1, count_piece, &pieces, &diags));
    assert_int_equal(diags.errors, 1);
    assert_non_null(strstr(diags.items[0].message, "pattern failed on the text"));
    tk_matcher_free(m);
    tk_pattern_free(p);
    su_diags_free(&diags);
    su_arena_free(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merging_is_that_of_the_definition),  cmocka_unit_test(a_word_of_a_megabyte_takes_no_time),
        cmocka_unit_test(texts_take_normal_form_c),           cmocka_unit_test(many_marks_take_no_time),
        cmocka_unit_test(letters_and_blanks_are_unicodes),    cmocka_unit_test(what_engines_read_differently_is_refused),
        cmocka_unit_test(a_long_run_of_blanks_is_no_trouble), cmocka_unit_test(a_pattern_that_takes_too_long_gives_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
