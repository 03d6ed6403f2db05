/* Patterns by PCRE2, with what Unicode says of characters. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/regex.h"

#include <stdlib.h>
#include <string.h>

#include <pcre2.h>

#include "support/alloc.h"
#include "tokenizer/oniguruma.h"

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

typedef struct Regex {
    TkPattern pattern; /* first: a TkPattern of ours is a Regex */
    pcre2_code *code;
} Regex;

struct TkMatcher {
    pcre2_match_data *data; /* of one pair: the whole match */
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    char why[256];
};

/* ---- matching */

static int find(const TkPattern *pattern, TkMatcher *m, const char *text, size_t size, size_t at, size_t *out_begin,
                size_t *out_end, const char **out_why) {
    const Regex *regex = (const Regex *)pattern;
    pcre2_set_match_limit(m->context, (uint32_t)(size < INT32_MAX / STEPS_A_BYTE ? STEPS + STEPS_A_BYTE * size : UINT32_MAX));
    int rc = pcre2_match(regex->code, (PCRE2_SPTR)text, size, at, PCRE2_NO_UTF_CHECK, m->data, m->context);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    const PCRE2_SIZE *pair = pcre2_get_ovector_pointer(m->data);
    if (rc > 0 && pair[0] > pair[1]) rc = PCRE2_ERROR_INTERNAL; /* \K within a lookaround: the scan lets none through */
    if (rc < 0) {
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)m->why, sizeof m->why);
        *out_why = m->why;
        return -1;
    }
    *out_begin = pair[0];
    *out_end = pair[1];
    return 1;
}

static void free_regex(TkPattern *pattern) {
    Regex *regex = (Regex *)pattern;
    pcre2_code_free(regex->code);
    su_free(regex);
}

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
        Regex *regex = code ? su_malloc(sizeof *regex) : NULL;
        if (regex) {
            pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); /* where it may not make code, it interprets */
            *regex = (Regex){.pattern = {.find = find, .free = free_regex}, .code = code};
        } else if (code) {
            *out_error = "out of memory";
            pcre2_code_free(code);
        }
        su_text_free(&translated);
        return regex ? &regex->pattern : NULL;
    }
    su_text_free(&translated);
    return NULL;
}

/* ---- matchers */

TkMatcher *tk_matcher_create(void) {
    TkMatcher *m = su_calloc(1, sizeof *m);
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
    su_free(m);
}
