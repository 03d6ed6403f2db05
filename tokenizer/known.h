/* The patterns that models split by, as code over a table of character classes: what a device has in place of PCRE2. */
#ifndef MOSSC_TOKENIZER_KNOWN_H
#define MOSSC_TOKENIZER_KNOWN_H

#include <stdint.h>

#include "tokenizer/split.h"
#include "tokenizer/tables.h"

/* Patterns differ in a few places only. */
typedef enum TkKnown {
    TK_KNOWN_NONE,    /* not one of these */
    TK_KNOWN_GPT2,    /* also GPT-NeoX's, and ByteLevel's own */
    TK_KNOWN_LLAMA3,  /* numbers in pieces of up to three digits */
    TK_KNOWN_QWEN2,   /* digits one by one */
    TK_KNOWN_NUMBER,  /* a digit or another number */
    TK_KNOWN_LITERAL, /* a text, not a pattern */
    TK_KNOWN_COUNT
} TkKnown;

/* GPT-2's pattern, which ByteLevel splits by. */
extern const char tk_gpt2_pattern[];

/* A pattern's text; NULL where it has none. */
const char *tk_known_text(TkKnown known);
/* Which one a pattern of a tokenizer.json is, by its text. */
TkKnown tk_known_by_text(TkText text, bool literal);

/* Free it with tk_pattern_free. The tables, and of a literal its text, must outlive it. NULL: out of memory. */
TkPattern *tk_known_make(TkKnown known, const TkTables *tables, TkText literal);

#endif
