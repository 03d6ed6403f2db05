/* The table of keys (keys.def) as data, and values read by it.
 *
 * A map of the language becomes an FeMap: one FeValue per key of its section, read by the type that the key wants. Maps of
 * defaults and blocks are merged as FeMaps, so that every value is checked once, where it is written. */
#ifndef MOSSC_FRONTEND_KEYS_H
#define MOSSC_FRONTEND_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "frontend/spec.h"
#include "frontend/yaml.h"
#include "support/diag.h"

typedef enum FeKeyType {
    FE_T_INT,         /* least..most */
    FE_T_INT_OR_WORD, /* the same, or the one word */
    FE_T_REAL,        /* finite, > 0 */
    FE_T_REAL_OR_WORD, /* the same, or the one word */
    FE_T_DECIMAL,     /* a real kept as digits: multiplied exactly */
    FE_T_BOOL,
    FE_T_WORD,        /* one of words */
    FE_T_WORDS,       /* a list of words, not empty, none twice */
    FE_T_MODEL_NAME,  /* [a-z0-9._-]+ */
    FE_T_NAME,        /* [a-z][a-z0-9_-]* */
    FE_T_TEXT,        /* any text but the empty one */
    FE_T_TOKEN,       /* none, an id or a token's text */
    FE_T_TOKENS,      /* the same, or a list of ids and texts, none twice */
    FE_T_LIMITS,      /* [low, high], 0 <= low < high, high may be none; or the word none */
    FE_T_MAP,         /* a map of the child section */
    FE_T_MAP_OR_NONE, /* the same, or the word none */
    FE_T_ENTRIES,     /* a list of stack entries, read by stack.c */
    FE_T_DEFINES,     /* a map of named blocks, read by stack.c */
    FE_T_RESERVED     /* known, not in this version */
} FeKeyType;

typedef enum FeSection {
#define FE_SECTION(id, path, help) FE_SECTION_##id,
#include "frontend/keys.def"
    FE_SECTION_none /* also the number of sections */
} FeSection;

typedef enum FeKey {
/* A section's first key has its number; the step back keeps the count. */
#define FE_SECTION(id, path, help) FE_FIRST_KEY_##id, FE_BEFORE_KEY_##id = FE_FIRST_KEY_##id - 1,
#define FE_KEY(section, key, type, child, words, least, most, fallback, help) FE_KEY_##section##_##key,
#include "frontend/keys.def"
    FE_KEY_none /* also the number of keys */
} FeKey;

/* How a key stands in the canonical text, whose hash names a model (canon.c). */
typedef enum FeHashForm {
    FE_HASH_VALUE,   /* its value; a word by its index, a map as a line of its own */
    FE_HASH_WORD,    /* a word as it is spelt */
    FE_HASH_INLINE,  /* a map in the line of the map around it */
    FE_HASH_CHANGED, /* only where it differs from the default, a word as it is spelt */
    FE_HASH_NEVER    /* not a part of the model */
} FeHashForm;

typedef struct FeKeyRow {
    const char *name;
    FeSection section, child;
    FeKeyType type;
    const char *words;
    int64_t least, most;
    const char *fallback; /* as in keys.def */
    const char *help;
} FeKeyRow;

typedef struct FeSectionRow {
    const char *id, *path, *help;
    FeKey first, end; /* its keys: first <= key < end */
} FeSectionRow;

const FeKeyRow *fe_key_row(FeKey key);
FeSectionRow fe_section_row(FeSection section);
/* What a fallback says: a value could be written so / is required / is derived (then the text after "="). */
bool fe_fallback_required(const FeKeyRow *row);
const char *fe_fallback_value(const FeKeyRow *row);
const char *fe_fallback_derived(const FeKeyRow *row);
FeHashForm fe_hash_form(FeKey key);
/* Its name in the canonical text where that is not its own, or NULL. */
const char *fe_hash_name(FeKey key);
/* The key behind which it stands in the canonical text where that is not its place in the table, or FE_KEY_none. */
FeKey fe_hash_after(FeKey key);
/* Word `index` of a word list; false behind the last. *out_reserved: not in this version. */
bool fe_word_at(const char *words, int index, const char **out_word, int *out_size, bool *out_reserved);
/* The other key of an exclusive pair, or FE_KEY_none. */
FeKey fe_exclusive(FeKey key);
/* Whether a key can have but one value, so that giving it says nothing. */
bool fe_only_word(const FeKeyRow *row);

typedef enum FeState {
    FE_ABSENT,
    FE_GIVEN,
    FE_BROKEN /* given, but wrong or misspelt: reported already, nothing that depends on it is checked */
} FeState;

typedef struct FeValue {
    FeState state;
    bool written; /* in the map itself, not by defaults */
    bool moot;    /* has no meaning beside the other values: hashed, but not printed */
    SuSpan key_span, span;
    bool word;            /* INT_OR_WORD, REAL_OR_WORD, MAP_OR_NONE, LIMITS, TOKEN, TOKENS: the word instead of the other thing */
    int64_t integer;      /* INT, BOOL (0 or 1), WORD (its index), TOKEN (an id, or -1 when text is set) */
    const FeToken *tokens; /* [n_tokens], TOKENS that are not none: one at least */
    int64_t n_tokens;
    double real;          /* REAL, REAL_OR_WORD; LIMITS: the lower one */
    double high;          /* LIMITS; DBL_MAX: none */
    uint32_t bits;        /* WORDS: bit i for word i */
    const char *text;     /* texts; DECIMAL: as written */
    FeMap *map;           /* maps */
    const FeBlock *blocks; /* [n_blocks], ENTRIES: what the entries are when flattened (stack.c) */
    int64_t n_blocks;
    const FeNode *node;   /* where it was read from; NULL for a built-in default */
} FeValue;

struct FeMap {
    FeSection section;
    SuSpan span;     /* of the key that the map stands under */
    FeValue *values; /* one for each key of the section, in order */
};

typedef struct FeReader {
    SuArena *arena;
    SuDiags *diags;
} FeReader;

/* The value of a key that belongs to the map's section. */
FeValue *fe_value(const FeMap *map, FeKey key);
bool fe_given(const FeMap *map, FeKey key);
bool fe_broken(const FeMap *map, FeKey key);
/* Whether a value is the one that the table gives. */
bool fe_is_default(FeKey key, const FeValue *value);
/* A map's own values, or NULL when it is absent, none or broken. */
FeMap *fe_child(const FeMap *map, FeKey key);
/* The value of a key of this map or of one inside it; NULL where there is none. */
const FeValue *fe_find_value(const FeMap *map, FeKey key);
/* Values; of a broken one anything may come back: the spec is refused anyway. */
int64_t fe_integer(const FeMap *map, FeKey key);
bool fe_truth(const FeMap *map, FeKey key);
double fe_real(const FeMap *map, FeKey key);
/* Whether a list of words has this one, which must be a word of the key. */
bool fe_has_word(const FeMap *map, FeKey key, const char *word);

/* What follows from other values takes the place of what was given; a broken value stays broken. fe_drop: it has none. */
void fe_set_integer(FeMap *map, FeKey key, int64_t integer);
void fe_set_real(FeMap *map, FeKey key, double real);
void fe_set_map(FeMap *map, FeKey key, FeMap *child);
void fe_drop(FeMap *map, FeKey key);

/* The value of the table in place of the one that was given, which has no meaning beside the others: it is not printed. */
void fe_set_moot(const FeReader *reader, FeMap *map, FeKey key);

/* An empty map of a section. */
FeMap *fe_new_map(SuArena *arena, FeSection section, SuSpan span);
/* Reads `node` as a map of `section`, which stands under a key at `span`. NULL when it is none (reported). Required keys
 * are not asked for here: they may come from defaults. */
FeMap *fe_read_map(const FeReader *reader, const FeNode *node, FeSection section, SuSpan span);
/* Reads one value by its row. */
FeValue fe_read_value(const FeReader *reader, const FeNode *node, FeKey key, SuSpan key_span);
/* `over` on `base`, either may be NULL; what comes from base counts as not written. A new map; neither is changed. */
FeMap *fe_merge(SuArena *arena, const FeMap *base, const FeMap *over, FeSection section, SuSpan span);
/* Sets what is absent and has a built-in value; reports what is required and absent. */
void fe_complete(const FeReader *reader, FeMap *map);
/* "d_state" or "experts.count": a key with the path of its map where that helps. */
const char *fe_key_name(SuArena *arena, FeKey key);

/* Reports unless the same was reported at the same place (a define used twice, defaults that fit no block). False. */
bool fe_report_once(const FeReader *reader, SuCode code, SuSpan span, const char *hint, const char *message);

/* Unknown keys: the message says the nearest key, or where the key belongs, or what mossc calls it. Returns the key of
 * this section that was probably meant, or FE_KEY_none. */
FeKey fe_report_unknown(const FeReader *reader, const FePair *pair, FeSection section);

/* scalars.c: text to values, by the language's rules and nothing else. */
bool fe_parse_integer(const char *text, int64_t *out_value); /* decimal digits, no leading zero; false also past 2^62 */
bool fe_parse_real(const char *text, double *out_value);     /* decimal; infinite when too large */
/* decimal · by, when that is whole and in 1 .. 2^31-1. *out_whole tells the two failures apart. */
bool fe_parse_scaled(const char *decimal, int64_t by, int64_t *out_value, bool *out_whole);
bool fe_is_truth_word(const char *text); /* what YAML 1.1 reads as true or false */
bool fe_is_name(const char *text);       /* [a-z][a-z0-9_-]* */

#endif
