/* Patterns by PCRE2, with what Unicode says of characters. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/split.h"

#include <stdlib.h>
#include <string.h>

#include <pcre2.h>

#include "support/utf8.h"
#include "tokenizer/oniguruma.h"

const char tk_gpt2_pattern[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

enum {
    STEPS = 1000000, /* of one match, and STEPS_A_BYTE more: a run of blanks, say, may be walked back once or twice */
    STEPS_A_BYTE = 4,
    DEPTH_LIMIT = 100000,
    HEAP_KIB = 65536,
    JIT_STACK_LEAST = 32 << 10,
    JIT_STACK_MOST = 8 << 20,
    MAX_PATTERN = 16384,    /* bytes */
    MAX_COMPILED = 1 << 20, /* bytes: repeats of repeats make huge ones */
    MAX_NESTING = 32
};

struct TkPattern {
    pcre2_code *code;
};

struct TkMatcher {
    pcre2_match_data *data; /* of one pair: the whole match */
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* ---- compiling */

static pcre2_code *compile(const char *text, size_t size, bool literal, int *out_code) {
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    *out_code = PCRE2_ERROR_NOMEMORY;
    if (!context) return NULL;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(context, MAX_NESTING);
    uint32_t options = literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    size_t at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, size, options | PCRE2_UTF | PCRE2_NO_UTF_CHECK, out_code, &at, context);
    pcre2_compile_context_free(context);
    return code;
}

static pcre2_code *compile_within_limits(SuArena *arena, const char *text, size_t size, bool literal, const char **out_error) {
    int code;
    pcre2_code *compiled = compile(text, size, literal, &code);
    if (!compiled) {
        char words[256] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)words, sizeof words);
        *out_error = su_strdup(arena, words);
        return NULL;
    }
    size_t compiled_size = 0;
    pcre2_pattern_info(compiled, PCRE2_INFO_SIZE, &compiled_size);
    if (compiled_size <= MAX_COMPILED) return compiled;
    *out_error = "it is too large once compiled";
    pcre2_code_free(compiled);
    return NULL;
}

TkPattern *tk_pattern_compile(SuArena *arena, const char *text, size_t size, bool literal, const char **out_error) {
    SuText translated = {0};
    size_t at = 0;
    const char *trouble = NULL;
    su_text_append(&translated, text, literal ? size : 0);
    if (size > MAX_PATTERN) {
        *out_error = "it is too long";
    } else if (!literal && (trouble = tk_translate(text, size, &translated, &at))) {
        *out_error = su_printf(arena, "%s is not understood (byte %zu)", trouble, at);
    } else {
        pcre2_code *code = compile_within_limits(arena, translated.text, translated.size, literal, out_error);
        TkPattern *pattern = code ? malloc(sizeof *pattern) : NULL;
        if (pattern) {
            pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* where it may not make code, it interprets */
            pattern->code = code;
        } else if (code) {
            *out_error = "out of memory";
            pcre2_code_free(code);
        }
        su_text_free(&translated);
        return pattern;
    }
    su_text_free(&translated);
    return NULL;
}

void tk_pattern_free(TkPattern *pattern) {
    if (pattern) pcre2_code_free(pattern->code);
    free(pattern);
}

/* ---- matching */

TkMatcher *tk_matcher_create(void) {
    TkMatcher *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->data = pcre2_match_data_create(1, NULL);
    m->context = pcre2_match_context_create(NULL);
    m->stack = pcre2_jit_stack_create(JIT_STACK_LEAST, JIT_STACK_MOST, NULL);
    if (!m->data || !m->context) {
        tk_matcher_free(m);
        return NULL;
    }
    pcre2_set_depth_limit(m->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(m->context, HEAP_KIB);
    if (m->stack) pcre2_jit_stack_assign(m->context, NULL, m->stack); /* without one, matching uses 32 KiB of the machine's */
    return m;
}

void tk_matcher_free(TkMatcher *m) {
    if (!m) return;
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->context);
    pcre2_jit_stack_free(m->stack);
    free(m);
}

/* The state of a split: one piece waits, since the next stretch may join it. */
typedef struct Splitter {
    const TkPattern *pattern;
    TkMatcher *matcher;
    TkBehavior behavior;
    bool invert;
    const char *text;
    size_t size;
    size_t begin, end;            /* the piece that waits */
    bool waiting, previous_match; /* a piece waits; the last stretch was a match */
    TkSplitPiece *piece;
    void *context;
} Splitter;

static bool flush(Splitter *s) {
    bool waiting = s->waiting;
    s->waiting = false;
    return !waiting || s->begin == s->end || s->piece(s->context, s->text + s->begin, s->end - s->begin);
}

/* Whether this stretch joins the piece that waits. */
static bool joins(const Splitter *s, bool is_match) {
    switch (s->behavior) {
    case TK_REMOVED:
    case TK_ISOLATED: return false;
    case TK_MERGED_WITH_PREVIOUS: return is_match && !s->previous_match;
    case TK_MERGED_WITH_NEXT: return !is_match && s->previous_match;
    case TK_CONTIGUOUS: return is_match == s->previous_match;
    }
    return false;
}

static bool stretch(Splitter *s, size_t begin, size_t end, bool matches) {
    bool is_match = matches != s->invert;
    if (s->waiting && joins(s, is_match)) {
        s->end = end;
    } else {
        if (!flush(s)) return false;
        s->begin = begin;
        s->end = end;
        s->waiting = !(is_match && s->behavior == TK_REMOVED);
    }
    s->previous_match = is_match;
    return true;
}

/* Finds the next match from *at on; like Oniguruma's callers, takes no empty one right behind the last. 1: found; 0: none; < 0:
 * PCRE2's error. */
static int next_match(const Splitter *s, size_t *at, size_t last_end, bool any, size_t *out_begin, size_t *out_end) {
    for (;;) {
        if (*at > s->size) return 0;
        int rc = pcre2_match(s->pattern->code, (PCRE2_SPTR)s->text, s->size, *at, PCRE2_NO_UTF_CHECK, s->matcher->data,
                             s->matcher->context);
        if (rc == PCRE2_ERROR_NOMATCH) return 0;
        if (rc < 0) return rc;
        const PCRE2_SIZE *pair = pcre2_get_ovector_pointer(s->matcher->data);
        *out_begin = pair[0];
        *out_end = pair[1];
        if (pair[0] > pair[1]) return PCRE2_ERROR_INTERNAL; /* \K within a lookaround: the scan lets none through */
        if (pair[0] != pair[1] || !any || pair[1] != last_end) {
            *at = pair[1];
            return 1;
        }
        *at += *at < s->size ? su_utf8_at(s->text + *at, s->size - *at).size : 1;
    }
}

bool tk_split(const TkPattern *pattern, TkMatcher *matcher, TkBehavior behavior, bool invert, const char *text, size_t size,
              TkSplitPiece *piece, void *context, SuDiags *diags) {
    Splitter s = {.pattern = pattern,
                  .matcher = matcher,
                  .behavior = behavior,
                  .invert = invert,
                  .text = text,
                  .size = size,
                  .piece = piece,
                  .context = context};
    size_t at = 0, done = 0, begin, end;
    bool any = false;
    int rc;
    pcre2_set_match_limit(matcher->context, (uint32_t)(size < INT32_MAX / STEPS_A_BYTE ? STEPS + STEPS_A_BYTE * size : UINT32_MAX));
    while ((rc = next_match(&s, &at, done, any, &begin, &end)) > 0) {
        if (done != begin && !stretch(&s, done, begin, false)) return false;
        if (!stretch(&s, begin, end, true)) return false;
        done = end;
        any = true;
    }
    if (rc < 0) {
        char words[256] = "";
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)words, sizeof words);
        return su_error(diags, (SuSpan){0}, NULL, "the tokenizer's pattern gave up on the text: %s", words);
    }
    if (done != size && !stretch(&s, done, size, false)) return false;
    return flush(&s);
}
