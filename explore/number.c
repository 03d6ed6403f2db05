/* Exact decimals, and sizes with units. */
#include "explore/number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/keys.h"

enum { MOST_DIGITS = 36 };

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool times_ten(__int128 *digits) { return !__builtin_mul_overflow(*digits, (__int128)10, digits); }

/* Without trailing zeros behind the point; false when it is too long. */
static bool settle(ExDecimal d, ExDecimal *out) {
    __int128 limit = 1;
    while (d.scale > 0 && d.digits % 10 == 0) {
        d.digits /= 10;
        d.scale--;
    }
    for (int i = 0; i < MOST_DIGITS; i++) limit *= 10;
    *out = d;
    return d.scale <= MOST_DIGITS && d.digits < limit && d.digits > -limit;
}

bool ex_decimal(const char *text, ExDecimal *out) {
    enum { MOST_EXPONENT = 1 << 20 };
    ExDecimal d = {0};
    const bool negative = *text == '-';
    bool point = false;
    text += *text == '-' || *text == '+';
    for (; is_digit(*text) || *text == '.'; text++) {
        if (*text == '.') {
            point = true;
        } else {
            if (!times_ten(&d.digits) || __builtin_add_overflow(d.digits, *text - '0', &d.digits) || d.scale > MOST_EXPONENT)
                return false;
            d.scale += point;
        }
    }
    long exponent = *text ? strtol(text + 1, NULL, 10) : 0;
    if (exponent > MOST_EXPONENT || exponent < -MOST_EXPONENT) return false;
    if (d.digits == 0) exponent = -d.scale;
    for (d.scale -= (int)exponent; d.scale < 0 && d.digits; d.scale++)
        if (!times_ten(&d.digits)) return false;
    if (d.digits == 0) d.scale = 0;
    if (negative) d.digits = -d.digits;
    return settle(d, out);
}

/* Both with the larger scale. */
static bool align(ExDecimal *a, ExDecimal *b) {
    for (; a->scale < b->scale; a->scale++)
        if (!times_ten(&a->digits)) return false;
    for (; b->scale < a->scale; b->scale++)
        if (!times_ten(&b->digits)) return false;
    return true;
}

bool ex_decimal_compare(ExDecimal a, ExDecimal b, int *out) {
    if (!align(&a, &b)) return false;
    *out = (a.digits > b.digits) - (a.digits < b.digits);
    return true;
}

bool ex_decimal_add(ExDecimal a, ExDecimal b, ExDecimal *out) {
    if (!align(&a, &b) || __builtin_add_overflow(a.digits, b.digits, &a.digits)) return false;
    return settle(a, out);
}

bool ex_decimal_multiply(ExDecimal a, ExDecimal b, ExDecimal *out) {
    if (__builtin_mul_overflow(a.digits, b.digits, &a.digits)) return false;
    a.scale += b.scale;
    return settle(a, out);
}

const char *ex_decimal_text(SuArena *arena, ExDecimal a) {
    char text[2 * MOST_DIGITS + 4];
    size_t at = sizeof text - 1;
    const bool negative = a.digits < 0;
    unsigned __int128 rest = negative ? -(unsigned __int128)a.digits : (unsigned __int128)a.digits;
    text[at] = '\0';
    for (int i = 0; rest || i <= a.scale; i++, rest /= 10) { /* at least one digit before the point */
        if (i == a.scale && i) text[--at] = '.';
        text[--at] = (char)('0' + (int)(rest % 10));
    }
    if (negative) text[--at] = '-';
    return su_strdup(arena, text + at);
}

bool ex_parse_size(const char *text, ExUnits units, double *out) {
    static const struct {
        const char *name;
        double factor;
        ExUnits units;
    } all[] = {
        {"", 1, EX_NO_UNITS},       {"k", 1e3, EX_THOUSANDS},   {"M", 1e6, EX_THOUSANDS},   {"G", 1e9, EX_THOUSANDS},
        {"KiB", 1 << 10, EX_BYTES}, {"MiB", 1 << 20, EX_BYTES}, {"GiB", 1 << 30, EX_BYTES},
    };
    char number[64];
    size_t size = strlen(text);
    while (size && ((text[size - 1] >= 'A' && text[size - 1] <= 'Z') || (text[size - 1] >= 'a' && text[size - 1] <= 'z'))) size--;
    const char *unit = text + size;
    while (*unit && size && text[size - 1] == ' ') size--;
    if (size >= sizeof number) return false;
    memcpy(number, text, size);
    number[size] = '\0';
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (strcmp(all[i].name, unit) != 0 || all[i].units > units) continue;
        if (!fe_parse_real(number, out)) return false;
        *out *= all[i].factor;
        return isfinite(*out);
    }
    return false;
}
