/* Scalars by the language's rules: integers, reals, exact products of a decimal and an integer. */
#include <stdlib.h>
#include <string.h>

#include "frontend/keys.h"

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool fe_parse_integer(const char *text, int64_t *out_value) {
    int64_t value = 0;
    if (!is_digit(text[0]) || (text[0] == '0' && text[1])) return false;
    for (const char *at = text; *at; at++) {
        if (!is_digit(*at) || value > INT64_MAX / 32) return false;
        value = value * 10 + (*at - '0');
    }
    *out_value = value;
    return true;
}

/* real := [+-] digits [. digits] [e [+-] digits], digits before or after the point, no leading zero but in "0.…" */
static bool is_real(const char *text) {
    const char *at = text + (*text == '+' || *text == '-');
    size_t before = strspn(at, "0123456789");
    if (before > 1 && at[0] == '0') return false;
    at += before;
    size_t after = 0;
    if (*at == '.') {
        after = strspn(++at, "0123456789");
        at += after;
    }
    if (before + after == 0) return false;
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        size_t digits = strspn(at, "0123456789");
        at += digits;
        return digits && !*at;
    }
    return !*at;
}

bool fe_parse_real(const char *text, double *out_value) {
    if (!is_real(text)) return false;
    *out_value = strtod(text, NULL);
    return true;
}

typedef struct Decimal {
    unsigned __int128 digits; /* without trailing zeros */
    long exponent;            /* value = digits · 10^exponent */
} Decimal;

/* False when there are more digits than fit: such a number is no whole multiple of 1/2^31 or 1/5^13 below 2^31. */
static bool parse_decimal(const char *text, Decimal *out) {
    enum { MOST_EXPONENT = 100000000 }; /* more than a file has digits to make up for */
    const unsigned __int128 limit = ~(unsigned __int128)0 / 10 - 1;
    Decimal d = {0};
    long zeros = 0; /* seen since the last other digit: they count only when one follows */
    bool point = false;
    const char *at = text + (*text == '+');
    for (; is_digit(*at) || *at == '.'; at++) {
        if (*at == '.') {
            point = true;
            continue;
        }
        d.exponent -= point;
        if (*at == '0') {
            zeros++;
            continue;
        }
        for (; d.digits && zeros > 0; zeros--) {
            if (d.digits > limit) return false;
            d.digits *= 10;
        }
        if (d.digits > limit) return false;
        d.digits = d.digits * 10 + (unsigned)(*at - '0');
        zeros = 0;
    }
    d.exponent += zeros;
    if (*at) {
        long exponent = strtol(at + 1, NULL, 10);
        exponent = exponent > MOST_EXPONENT ? MOST_EXPONENT : exponent < -MOST_EXPONENT ? -MOST_EXPONENT : exponent;
        d.exponent += exponent;
    }
    *out = d;
    return true;
}

/* Takes the factor out of one of the two; false when neither has it. */
static bool take_factor(unsigned __int128 *a, unsigned __int128 *b, unsigned factor) {
    unsigned __int128 *from = *a % factor == 0 ? a : *b % factor == 0 ? b : NULL;
    if (from) *from /= factor;
    return from != NULL;
}

bool fe_parse_scaled(const char *decimal, int64_t by, int64_t *out_value, bool *out_whole) {
    Decimal d;
    unsigned __int128 other = (unsigned __int128)by, product;
    *out_whole = false;
    if (!parse_decimal(decimal, &d)) return false;
    for (; d.exponent < 0 && d.digits != 0; d.exponent++)
        if (!take_factor(&d.digits, &other, 2) || !take_factor(&d.digits, &other, 5)) return false;
    *out_whole = true;
    if (__builtin_mul_overflow(d.digits, other, &product) || product > INT32_MAX) return false;
    for (; d.exponent > 0 && product <= INT32_MAX && product > 0; d.exponent--) product *= 10;
    *out_value = (int64_t)product;
    return product >= 1 && product <= INT32_MAX;
}

bool fe_is_truth_word(const char *text) {
    static const char *const words[] = {"true", "false", "yes", "no", "on", "off", "y", "n"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(text, words[i]) == 0) return true;
    return false;
}

bool fe_is_name(const char *text) {
    if (text[0] < 'a' || text[0] > 'z') return false;
    return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(text);
}
