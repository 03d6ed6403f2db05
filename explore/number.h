/* Numbers of a space: exact rows of decimals, and sizes with units. Within explore/. */
#ifndef MOSSC_EXPLORE_NUMBER_H
#define MOSSC_EXPLORE_NUMBER_H

#include "explore/space.h"

/* A decimal number as it was written: digits / 10^scale. */
typedef struct ExDecimal {
    __int128 digits;
    int scale; /* 0..36; no trailing zeros behind the point */
} ExDecimal;

/* Of a text that fe_parse_real takes. false: more than 36 digits. */
bool ex_decimal(const char *text, ExDecimal *out);
/* -1, 0, 1; sum and product. false: more than 36 digits. */
bool ex_decimal_compare(ExDecimal a, ExDecimal b, int *out);
bool ex_decimal_add(ExDecimal a, ExDecimal b, ExDecimal *out);
bool ex_decimal_multiply(ExDecimal a, ExDecimal b, ExDecimal *out);
/* "0.25", "1024", "-3" */
const char *ex_decimal_text(SuArena *arena, ExDecimal a);

/* What a number may have behind it. */
typedef enum ExUnits {
    EX_NO_UNITS,
    EX_THOUSANDS, /* k, M, G: powers of 1000 */
    EX_BYTES      /* those, and KiB, MiB, GiB: powers of 1024 */
} ExUnits;

/* "500 MiB", "500MiB", "1.5e6". false: no finite number with such a unit. */
bool ex_parse_size(const char *text, ExUnits units, double *out);

#endif
