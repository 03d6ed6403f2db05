/* Files of tests: reading one whole, a tokenizer from it, ids as text. */
#ifndef TESTS_TOKENIZER_GOLDEN_H
#define TESTS_TOKENIZER_GOLDEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tokenizer/bpe.h"

#define NO_SPECIALS(V) {.vocab_size = (V), .bos = -1, .eos = -1}

/* The test's first argument: the directory of its files. */
extern const char *golden_directory;

/* A file of `directory`, NUL behind it; su_free() it. NULL: it cannot be read. */
static inline char *read_whole(const char *directory, const char *name, size_t *out_size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    SuText text = {0};
    char chunk[4096];
    su_text_append(&text, "", 0);
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, file)) > 0;) su_text_append(&text, chunk, got);
    fclose(file);
    *out_size = text.size;
    return text.text;
}

static inline RtTokenizer *open_good(const char *directory, const char *name, const TkBpeOptions *options) {
    char path[4096];
    SuDiags diags = {0};
    snprintf(path, sizeof path, "%s/%s", directory, name);
    RtTokenizer *t = tk_bpe_open(path, options, &diags);
    su_diags_print(&diags, stderr);
    assert_non_null(t);
    assert_int_equal(diags.count, 0);
    su_diags_free(&diags);
    return t;
}

static inline RtTokens encode_good(const RtTokenizer *t, const char *text, size_t size) {
    RtTokens tokens = {0};
    SuDiags diags = {0};
    if (!rt_tokenizer_encode(t, text, size, &tokens, &diags)) su_diags_print(&diags, stderr);
    assert_int_equal(diags.count, 0);
    su_diags_free(&diags);
    return tokens;
}

/* What all ids say, as a stream gives it. */
static inline SuText said(const RtTokenizer *t, const RtTokens *tokens) {
    SuText text = {0};
    RtTextStream stream = {.tokenizer = t, .whole = true};
    su_text_append(&text, "", 0);
    for (size_t i = 0; i < tokens->count; i++) rt_text_stream_add(&stream, tokens->ids[i], &text);
    rt_text_stream_end(&stream, &text);
    return text;
}

#endif
