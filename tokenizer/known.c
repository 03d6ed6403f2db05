/* Each pattern is an alternation that takes every character in one of its branches, so that a match begins wherever the last one
 * ended. The branches stand below in their order, each a function that returns where its match ends, or `at` if it has none. What
 * a backtracking matcher would try is worked out beforehand; the comments give the branches as the patterns write them. */
#include "tokenizer/known.h"

#include <stdlib.h>
#include <string.h>

#include "support/alloc.h"
#include "support/utf8.h"

const char tk_gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

#define LLAMA3(numbers)                                                                                                            \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|"         \
    "\\s+(?!\\S)|\\s+"

static const char *const texts[TK_KNOWN_COUNT] = {[TK_KNOWN_NUMBER] = "\\p{N}",
                                                  [TK_KNOWN_GPT2] = tk_gpt2_pattern,
                                                  [TK_KNOWN_LLAMA3] = LLAMA3("\\p{N}{1,3}"),
                                                  [TK_KNOWN_QWEN2] = LLAMA3("\\p{N}")};

typedef struct Known {
    TkPattern pattern; /* first */
    TkKnown known;
    const TkTables *tables;
    TkText literal;
} Known;

/* A text in work. */
typedef struct Scan {
    const TkTables *tables;
    const char *text;
    size_t size;
} Scan;

/* ---- characters */

enum { SPACE = 8, OTHER = 16, AT_END = 32 }; /* beside TK_CLASS_LETTER and TK_CLASS_NUMBER: every character is one of them */

typedef struct Char {
    uint32_t code, kind;
    size_t end;
} Char;

static Char at(const Scan *s, size_t place) {
    if (place >= s->size) return (Char){.kind = AT_END, .end = place};
    SuUtf8 c = su_utf8_at(s->text + place, s->size - place);
    uint32_t kind = tk_is_space(c.code) ? SPACE : tk_class_of(s->tables, c.code) & (TK_CLASS_LETTER | TK_CLASS_NUMBER);
    return (Char){.code = c.code, .kind = kind ? kind : OTHER, .end = place + c.size};
}

static bool is_newline(Char c) { return c.code == '\r' || c.code == '\n'; }

/* The end of a run of at most `most` characters of a kind. */
static size_t run_of(const Scan *s, size_t place, uint32_t kind, size_t most) {
    for (Char c = at(s, place); c.kind == kind && most > 0; c = at(s, place), most--) place = c.end;
    return place;
}

/* ---- branches */

/* 's 't 're 've 'm 'll 'd, in upper case too where it does not matter: then also U+017F, whose upper case is S */
static size_t contraction(const Scan *s, size_t place, bool any_case) {
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (s->text[place] != '\'') return place;
    const char *text = s->text + place + 1;
    size_t left = s->size - place - 1;
    if (any_case && left >= 2 && memcmp(text, "\xC5\xBF", 2) == 0) return place + 3;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t size = strlen(endings[i]), same = 0;
        while (same < size && same < left && (text[same] | (any_case ? 0x20 : 0)) == endings[i][same]) same++;
        if (same == size) return place + 1 + size;
    }
    return place;
}

/* " ?X+" */
static size_t spaced(const Scan *s, size_t place, uint32_t kind) {
    size_t begin = s->text[place] == ' ' ? place + 1 : place, end = run_of(s, begin, kind, SIZE_MAX);
    return end > begin ? end : place;
}

/* [^\r\n\p{L}\p{N}]?\p{L}+ */
static size_t led_letters(const Scan *s, size_t place) {
    Char first = at(s, place);
    size_t begin = first.kind == TK_CLASS_LETTER || first.kind == TK_CLASS_NUMBER || is_newline(first) ? place : first.end;
    size_t end = run_of(s, begin, TK_CLASS_LETTER, SIZE_MAX);
    return end > begin ? end : place;
}

/* " ?[^\s\p{L}\p{N}]+[\r\n]*" */
static size_t signs_and_newlines(const Scan *s, size_t place) {
    size_t end = spaced(s, place, OTHER);
    if (end == place) return place;
    for (Char c = at(s, end); c.kind != AT_END && is_newline(c); c = at(s, end)) end = c.end;
    return end;
}

/* \s*[\r\n]+ : white space up to its last newline */
static size_t through_newlines(const Scan *s, size_t place) {
    size_t end = place, found = place;
    for (Char c = at(s, end); c.kind == SPACE; c = at(s, end)) {
        end = c.end;
        if (is_newline(c)) found = end;
    }
    return found;
}

/* \s+(?!\S)|\s+ : a run of white space, less its last character when there are several and something follows */
static size_t blanks(const Scan *s, size_t place) {
    size_t end = place, last = place;
    Char c = at(s, place);
    for (; c.kind == SPACE; c = at(s, end)) {
        last = end;
        end = c.end;
    }
    return c.kind == AT_END || last == place ? end : last;
}

/* ---- patterns */

static size_t match_gpt2(const Scan *s, size_t place) {
    size_t end = contraction(s, place, false);
    if (end == place) end = spaced(s, place, TK_CLASS_LETTER);
    if (end == place) end = spaced(s, place, TK_CLASS_NUMBER);
    if (end == place) end = spaced(s, place, OTHER);
    return end == place ? blanks(s, place) : end;
}

static size_t match_llama3(const Scan *s, size_t place, size_t most_digits) {
    size_t end = contraction(s, place, true);
    if (end == place) end = led_letters(s, place);
    if (end == place) end = run_of(s, place, TK_CLASS_NUMBER, most_digits);
    if (end == place) end = signs_and_newlines(s, place);
    if (end == place) end = through_newlines(s, place);
    return end == place ? blanks(s, place) : end;
}

static int find_literal(const Known *k, const Scan *s, size_t place, size_t *out_begin, size_t *out_end) {
    for (; place + k->literal.size <= s->size; place++) {
        if (memcmp(s->text + place, k->literal.text, k->literal.size) != 0) continue;
        *out_begin = place;
        *out_end = place + k->literal.size;
        return 1;
    }
    return 0;
}

static int find_number(const Scan *s, size_t place, size_t *out_begin, size_t *out_end) {
    for (Char c = at(s, place); c.kind != AT_END; c = at(s, place)) {
        *out_begin = place;
        *out_end = place = c.end;
        if (c.kind == TK_CLASS_NUMBER) return 1;
    }
    return 0;
}

static int find(const TkPattern *pattern, TkMatcher *matcher, const char *text, size_t size, size_t place, size_t *out_begin,
                size_t *out_end, const char **out_why) {
    const Known *k = (const Known *)pattern;
    const Scan s = {.tables = k->tables, .text = text, .size = size};
    (void)matcher, (void)out_why;
    if (place >= size) return 0;
    if (k->known == TK_KNOWN_LITERAL) return find_literal(k, &s, place, out_begin, out_end);
    if (k->known == TK_KNOWN_NUMBER) return find_number(&s, place, out_begin, out_end);
    *out_begin = place;
    *out_end = k->known == TK_KNOWN_GPT2 ? match_gpt2(&s, place) : match_llama3(&s, place, k->known == TK_KNOWN_LLAMA3 ? 3 : 1);
    return 1;
}

static void free_known(TkPattern *pattern) { su_free(pattern); }

const char *tk_known_text(TkKnown known) { return texts[known]; }

TkKnown tk_known_by_text(TkText text, bool literal) {
    if (literal) return TK_KNOWN_LITERAL;
    for (int known = TK_KNOWN_GPT2; known < TK_KNOWN_LITERAL; known++)
        if (strlen(texts[known]) == text.size && memcmp(text.text, texts[known], text.size) == 0) return (TkKnown)known;
    return TK_KNOWN_NONE;
}

TkPattern *tk_known_make(TkKnown known, const TkTables *tables, TkText literal) {
    Known *k = su_malloc(sizeof *k);
    if (!k) return NULL;
    *k = (Known){.pattern = {.find = find, .free = free_known}, .known = known, .tables = tables, .literal = literal};
    return &k->pattern;
}
