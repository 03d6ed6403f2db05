/* The config of a checkpoint: a JSON object whose keys are marked when they are read, so that none is overlooked.
 *
 * A getter that fails reports, makes the config failed and returns a value that does no harm: callers ask im_config_failed once,
 * at the end. A key with null counts as missing. */
#ifndef MOSSC_IMPORT_CONFIG_H
#define MOSSC_IMPORT_CONFIG_H

#include <cjson/cJSON.h>

#include "support/diag.h"

typedef struct ImConfigState ImConfigState; /* of a config and all maps within it */

typedef struct ImConfig {
    const cJSON *map;  /* someone else's, of at most IM_MAX_KEYS keys */
    const char *path;  /* of the file, for messages */
    const char *place; /* of a map within it: "rope_scaling."; "" */
    bool *seen;        /* [keys] */
    SuArena *arena;    /* of all configs made of this one */
    SuDiags *diags;
    ImConfigState *state;
    struct ImConfig *next; /* of the state */
} ImConfig;

enum { IM_MAX_KEYS = 4096 };

/* A config of a JSON object, which must live as long. */
ImConfig *im_config(const cJSON *map, const char *path, SuArena *arena, SuDiags *diags);

bool im_config_failed(const ImConfig *c);

/* Whether the key is there and not null; does not mark it. */
bool im_has(const ImConfig *c, const char *key);
/* Whether the key is there, and null: where that is not the same as a key that is missing. */
bool im_is_null(const ImConfig *c, const char *key);
/* "config.json: key: message", printf style; the config is failed. */
void im_config_error(const ImConfig *c, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Values of keys that must be there. Integers are 1 .. 2^31 - 1; reals finite or infinite. */
int64_t im_int(const ImConfig *c, const char *key);
double im_real(const ImConfig *c, const char *key);
const char *im_text(const ImConfig *c, const char *key);
/* Values of keys that may be missing. Integers are 0 .. 2^31 - 1 here. */
int64_t im_int_or(const ImConfig *c, const char *key, int64_t value);
double im_real_or(const ImConfig *c, const char *key, double value);
bool im_bool_or(const ImConfig *c, const char *key, bool value);
const char *im_text_or(const ImConfig *c, const char *key, const char *value);
/* Whether the value is this text; marks the key if it is. */
bool im_text_is(const ImConfig *c, const char *key, const char *value);
/* The whole part of a width that was made with the key's value: an error unless it is 1 .. 2^31 - 1. */
int64_t im_floor(const ImConfig *c, const char *key, double value);
/* A map within; NULL where it is missing. Its keys must be used too. */
ImConfig *im_map(const ImConfig *c, const char *key);
/* The same, of no keys where it is missing. */
ImConfig *im_map_or_empty(const ImConfig *c, const char *key);
/* A list; *out_count 0 where it is missing. */
const cJSON *im_list(const ImConfig *c, const char *key, size_t *out_count);
/* A list of exactly n numbers. */
bool im_reals(const ImConfig *c, const char *key, size_t n, double *out);
/* A number as JSON writes it, or as {"__float__": "Infinity"}; NULL: it is none. */
bool im_json_real(const cJSON *item, double *out);

/* Marks keys that change nothing: names with spaces between them. */
void im_ignore(const ImConfig *c, const char *keys);
/* An error unless the key is missing or has this value: for what the language has not. */
void im_expect_bool(const ImConfig *c, const char *key, bool value);
void im_expect_text(const ImConfig *c, const char *key, const char *value);
void im_expect_real(const ImConfig *c, const char *key, double value);

/* An error for each key that was neither read nor is harmless in every config (harmless.def), in maps within too; null says nothing. */
void im_config_all_used(const ImConfig *c);

#endif
