/* What Unicode says of characters, as tables of a file (packed.h): no library, and none that differs from the one that packed them. */
#ifndef MOSSC_TOKENIZER_TABLES_H
#define MOSSC_TOKENIZER_TABLES_H

#include <stddef.h>
#include <stdint.h>

#include "tokenizer/unicode.h"

/* Bits of a class. */
enum { TK_CLASS_LETTER = 1, TK_CLASS_NUMBER = 2, TK_CLASS_WORD = 4 };

/* Characters from `first` on, up to the next run, have this value: first << 8 | value. Runs rise; the first begins at 0. */
typedef struct TkRuns {
    const uint32_t *items;
    size_t count;
} TkRuns;

/* The full decomposition of a character, `count` of the parts from `at` on; Hangul is left to arithmetic. */
typedef struct TkDecomposition {
    uint32_t code, at, count;
} TkDecomposition;

/* Decompositions, rising by code. */
typedef struct TkDecompositions {
    const TkDecomposition *items;
    size_t count;
} TkDecompositions;

/* What two characters become in normal form C; Hangul likewise. */
typedef struct TkComposition {
    uint32_t first, second, code;
} TkComposition;

typedef struct TkTables {
    TkUnicode unicode; /* first: `unicode` of these tables is what reads them */
    TkRuns classes, orders; /* orders: canonical combining classes */
    TkDecompositions canonical, compatible; /* compatible: all that the K forms take apart, canonical ones too */
    const uint32_t *parts;
    const TkComposition *compositions; /* rising by first, then second */
    size_t n_compositions;
    uint8_t low[128]; /* classes of ASCII */
} TkTables;

/* Makes the tables ready, once their arrays are there. */
void tk_tables_ready(TkTables *tables);

uint32_t tk_runs_value(const TkRuns *runs, uint32_t code);

static inline uint32_t tk_class_of(const TkTables *tables, uint32_t code) {
    return code < 128 ? tables->low[code] : tk_runs_value(&tables->classes, code);
}

#endif
