/* Tokens of expressions. */
#include "explore/expr_token.h"

#include <stdbool.h>
#include <string.h>

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

static bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

static size_t name_size(const char *at) {
    size_t size = 0;
    while (is_name_part(at[size])) size++;
    return size;
}

/* Digits, a point and an exponent, and letters behind them. */
static size_t number_size(const char *at) {
    size_t size = strspn(at, "0123456789.");
    size_t sign = at[size] && (at[size + 1] == '+' || at[size + 1] == '-');
    if ((at[size] == 'e' || at[size] == 'E') && is_digit(at[size + 1 + sign]))
        size += 1 + sign + strspn(at + size + 1 + sign, "0123456789");
    return size + name_size(at + size);
}

static size_t symbol_size(const char *at) {
    static const char *const pairs[] = {"==", "!=", "<=", ">=", "&&", "||", "**", "<>"};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strncmp(at, pairs[i], 2) == 0) return 2;
    size_t size = 1;
    while (((unsigned char)at[size] & 0xC0) == 0x80) size++;
    return size;
}

ExToken ex_next_token(const char *all, size_t at) {
    at += strspn(all + at, " \t\r\n");
    const char *text = all + at, *close;
    if (!*text) return (ExToken){EX_TOKEN_END, at, 0};
    if (is_digit(*text) || (*text == '.' && is_digit(text[1]))) return (ExToken){EX_TOKEN_NUMBER, at, number_size(text)};
    if (is_name_start(*text)) return (ExToken){EX_TOKEN_NAME, at, name_size(text)};
    if (*text != '\'' && *text != '"') return (ExToken){EX_TOKEN_SYMBOL, at, symbol_size(text)};
    close = strchr(text + 1, *text);
    return close ? (ExToken){EX_TOKEN_QUOTED, at, (size_t)(close - text) + 1} : (ExToken){EX_TOKEN_BROKEN, at, strlen(text)};
}
