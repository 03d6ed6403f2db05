/* The two syntaxes agree on nearly all that tokenizers use. White space is spelled out: PCRE2 counts U+180E to it, Unicode since
 * 6.3 and Oniguruma do not. Where they differ otherwise, the pattern is refused rather than read in another sense:
 *   \w \b        Oniguruma counts marks among letters of words, and no fractions
 *   \p{Han} …    PCRE2 means script extensions; general categories are the same
 *   \h \R \X …   other meanings or other characters
 *   [a[b]] &&    sets of Oniguruma
 *   (?m)         its dot, not its ^ and $, which match at every line without it
 *   {2}+ {2}? {,2}   no possessive, no lazy one, and 0 to 2 */
#include "tokenizer/oniguruma.h"

#include <string.h>

#define SPACES "\\x09-\\x0D\\x20\\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

typedef struct Scan {
    const char *text;
    size_t size, at;
    SuText *out;
} Scan;

/* 0 past the end: no pattern holds a NUL. */
static char peek(const Scan *s, size_t ahead) { return s->at + ahead < s->size ? s->text[s->at + ahead] : '\0'; }

static void copy(Scan *s, size_t count) {
    su_text_append(s->out, s->text + s->at, count);
    s->at += count;
}

static bool is_in(char c, const char *set) { return c && strchr(set, c); }

/* \p{Lu}: a general category by its letters, negated or not. */
static const char *property(Scan *s) {
    size_t i = peek(s, 3) == '^' ? 4 : 3;
    bool known = peek(s, 2) == '{' && is_in(peek(s, i), "LMNPSZC");
    i++;
    if (known && is_in(peek(s, i), "abcdefiklmnopstu")) i++;
    if (!known || peek(s, i) != '}') return "a property that is not a general category";
    copy(s, i + 1);
    return NULL;
}

static const char *escape(Scan *s, bool in_class) {
    char c = peek(s, 1);
    if (c == 'p' || c == 'P') return property(s);
    if (c == 's' || (c == 'S' && !in_class)) {
        su_text_add(s->out, in_class ? "%s" : c == 's' ? "[%s]" : "[^%s]", SPACES);
        s->at += 2;
        return NULL;
    }
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (letter && !is_in(c, in_class ? "dDtnrfvaex" : "dDtnrfvaexAzZ")) return "this escape";
    if (c >= '1' && c <= '9') return "a reference to a group";
    copy(s, s->at + 1 < s->size ? 2 : 1);
    return NULL;
}

static const char *set(Scan *s) {
    copy(s, peek(s, 1) == '^' ? 2 : 1);
    if (peek(s, 0) == ']') return "']' first in a set";
    while (s->at < s->size && peek(s, 0) != ']') {
        const char *trouble = NULL;
        if (peek(s, 0) == '\\')
            trouble = escape(s, true);
        else if (peek(s, 0) == '[')
            trouble = "a set within a set";
        else if (peek(s, 0) == '&' && peek(s, 1) == '&')
            trouble = "an intersection of sets";
        else
            copy(s, 1);
        if (trouble) return trouble;
    }
    copy(s, s->at < s->size);
    return NULL;
}

static const char *group(Scan *s) {
    if (peek(s, 1) == '*') return "a verb";
    if (peek(s, 1) == '?') {
        char c = peek(s, 2);
        if (c == '#' || !is_in(c, ":=!<>i-")) return "a group of this kind";
        for (size_t i = 2; is_in(peek(s, i), "abcdefghijklmnopqrstuvwxyz-") && c != '<'; i++)
            if (!is_in(peek(s, i), "i-")) return "a flag other than i";
    }
    copy(s, 1);
    return NULL;
}

/* A repeat like {2,3}, or a brace that stands for itself. */
static const char *brace(Scan *s) {
    if (peek(s, 1) == ',') return "a repeat from nothing";
    const char *end = memchr(s->text + s->at, '}', s->size - s->at);
    size_t count = end ? (size_t)(end - (s->text + s->at)) + 1 : 1;
    if (end && is_in(peek(s, count), "+?")) return "'+' or '?' behind a repeat";
    copy(s, 1);
    return NULL;
}

const char *tk_translate(const char *text, size_t size, SuText *out, size_t *out_at) {
    Scan s = {.text = text, .size = size, .out = out};
    const char *trouble = NULL;
    while (s.at < size && !trouble) {
        *out_at = s.at;
        switch (text[s.at]) {
        case '\0': trouble = "a NUL"; break;
        case '\\': trouble = escape(&s, false); break;
        case '[': trouble = set(&s); break;
        case '(': trouble = group(&s); break;
        case '{': trouble = brace(&s); break;
        default: copy(&s, 1);
        }
    }
    if (trouble) *out_at = s.at;
    return trouble;
}
