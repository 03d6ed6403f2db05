/* The table of keys of a space (keys.def) as data, and maps read by it. Within explore/. */
#ifndef MOSSC_EXPLORE_KEYS_H
#define MOSSC_EXPLORE_KEYS_H

#include "frontend/keys.h"

typedef enum ExKeyType {
#define EX_TYPE(id, what, schema) EX_T_##id,
#include "explore/keys.def"
    EX_T_COUNT_OF_TYPES
} ExKeyType;

typedef enum ExSection {
#define EX_SECTION(id, path, help) EX_SECTION_##id,
#include "explore/keys.def"
    EX_SECTION_none /* also the number of sections */
} ExSection;

typedef enum ExKey {
/* A section's first key has its number; the step back keeps the count. */
#define EX_SECTION(id, path, help) EX_FIRST_KEY_##id, EX_BEFORE_KEY_##id = EX_FIRST_KEY_##id - 1,
#define EX_KEY(section, key, type, fallback, help) EX_KEY_##section##_##key,
#include "explore/keys.def"
    EX_KEY_none /* also the number of keys */
} ExKey;

typedef struct ExKeyRow {
    const char *name;
    ExSection section;
    ExKeyType type;
    const char *fallback; /* as in keys.def */
    const char *help;
} ExKeyRow;

typedef struct ExSectionRow {
    const char *id, *path, *help;
    ExKey first, end; /* its keys: first <= key < end */
} ExSectionRow;

/* Where `given` is there (EX_KEY_none: always), exactly one of the two is. */
typedef struct ExOneOf {
    ExSection section;
    ExKey given, key, other;
} ExOneOf;

/* `key` needs `other`. */
typedef struct ExWith {
    ExSection section;
    ExKey key, other;
} ExWith;

const ExKeyRow *ex_key_row(ExKey key);
ExSectionRow ex_section_row(ExSection section);
const char *ex_type_what(ExKeyType type);
const char *ex_type_schema(ExKeyType type);
bool ex_is_required(ExKey key);
/* Rules between keys; NULL behind the last. */
const ExOneOf *ex_one_of(size_t index);
const ExWith *ex_with(size_t index);
/* "axis.from": a key with the path of its map where that helps. */
const char *ex_key_name(SuArena *arena, ExKey key);

/* The pairs of a map by their keys. */
typedef struct ExMap {
    SuSpan span; /* for messages about what is missing */
    const FePair *pairs[EX_KEY_none]; /* NULL: not there */
} ExMap;

/* Checks a map against its section: keys that there are not, that are missing, that do not go together. Values are not looked at.
 * false: it is no map (reported); true: out is good, though errors may have been reported. */
bool ex_read_map(const FeReader *reader, const FeNode *node, ExSection section, ExMap *out);

/* The value of a key, NULL where it is absent or poisoned. */
const FeNode *ex_node(const ExMap *map, ExKey key);
/* "'axis.from': expected a finite number, got …", with a hint or NULL. Returns false. */
bool ex_wrong_value(const FeReader *reader, const FeNode *node, ExKey key, const char *hint);

/* Values by the type of their key; false where they are absent, or wrong and reported. */
bool ex_read_text(const FeReader *reader, const ExMap *map, ExKey key, const char **out);
bool ex_read_number(const FeReader *reader, const ExMap *map, ExKey key, const char **out_text, double *out);
bool ex_read_integer(const FeReader *reader, const ExMap *map, ExKey key, int64_t least, int64_t most, int64_t *out);
/* NULL for those; a list of least..most items. */
const FeNode *ex_read_list(const FeReader *reader, const ExMap *map, ExKey key, size_t least, size_t most);

#endif
