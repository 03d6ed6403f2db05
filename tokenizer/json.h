/* JSON from strangers: cJSON behind a gate, and maps read by a list of their fields. Errors name the file and the place in it. */
#ifndef MOSSC_TOKENIZER_JSON_H
#define MOSSC_TOKENIZER_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/arena.h"
#include "support/diag.h"
#include "support/json.h"

typedef struct TkReader {
    SuSpan span;
    SuDiags *diags;
    SuArena arena; /* of paths and what else lives while reading */
} TkReader;

/* `FILE: error: PATH: message`. Returns false. */
bool tk_fail(const TkReader *r, const char *path, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A text of the file's as messages show it: short, without control characters. */
const char *tk_shown(TkReader *r, const char *text);

/* Parses a whole text of at most TK_MAX_FILE bytes and TK_MAX_VALUES values (support/json.h). false after an error. */
bool tk_json_parse(TkReader *r, const char *text, size_t size, SuJson *out);

enum { TK_NULL = 1, TK_BOOL = 2, TK_NUMBER = 4, TK_STRING = 8, TK_LIST = 16, TK_MAP = 32, TK_REQUIRED = 64 };

typedef struct TkField {
    const char *name;
    unsigned types; /* TK_NULL | …, and TK_REQUIRED */
} TkField;

/* Finds the fields of a map: out[i] is NULL where it is missing or null. false after errors: no map, a field that is not listed,
 * is there twice, has another type or is missing. */
bool tk_fields(TkReader *r, const char *path, const cJSON *item, const TkField *fields, size_t count, const cJSON **out);
/* The map's "type"; NULL after an error. */
const char *tk_type(TkReader *r, const char *path, const cJSON *item);
/* A whole number from 0 to `most`. */
bool tk_whole(const cJSON *item, int32_t most, int32_t *out);

#endif
