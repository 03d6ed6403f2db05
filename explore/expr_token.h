/* Tokens of expressions. Between expr_token.c and expr_parse.c. */
#ifndef MOSSC_EXPLORE_EXPR_TOKEN_H
#define MOSSC_EXPLORE_EXPR_TOKEN_H

#include <stddef.h>

typedef enum ExTokenKind {
    EX_TOKEN_END,
    EX_TOKEN_NUMBER, /* begins like one; letters behind it belong to it, so that it is refused as a whole */
    EX_TOKEN_NAME,
    EX_TOKEN_QUOTED, /* with its quotes */
    EX_TOKEN_SYMBOL, /* one or two characters */
    EX_TOKEN_BROKEN  /* a quoted text without its end */
} ExTokenKind;

typedef struct ExToken {
    ExTokenKind kind;
    size_t at, size; /* bytes of the text */
} ExToken;

/* The first token of the text from byte `at` on. */
ExToken ex_next_token(const char *text, size_t at);

#endif
