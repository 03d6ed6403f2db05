/* YAML as a tree of our own: libyaml's events, with places, limits, aliases expanded and `<<` merged.
 *
 * Nothing here knows the spec language. A tree owns all of its nodes (an alias is a copy), so a --set can change one place
 * without changing another. */
#ifndef MOSSC_FRONTEND_YAML_H
#define MOSSC_FRONTEND_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/diag.h"
#include "support/limits.h"

enum {
    FE_MAX_INPUT = SU_LIMIT(4 << 20, 4096), /* bytes of a spec file */
    FE_MAX_DEPTH = SU_LIMIT(64, 8), /* maps and lists inside each other, aliases expanded */
    FE_MAX_NODES = SU_LIMIT(1 << 18, 128), /* values of a document, aliases expanded */
    FE_MAX_ANCHORS = SU_LIMIT(1024, 4), /* anchors of a document */
    FE_MAX_ALIAS_NESTING = SU_LIMIT(32, 3), /* an alias to a value with aliases to values with aliases … */
    FE_MAX_EXPANSION = SU_LIMIT(1 << 20, 2048), /* bytes of a document with its aliases written out */
};

typedef enum FeNodeKind {
    FE_SCALAR,
    FE_MAPPING,
    FE_SEQUENCE,
    FE_POISON /* stands where an error was already reported; readers pass over it in silence */
} FeNodeKind;

typedef struct FeNode FeNode;

typedef struct FePair {
    const char *key;
    SuSpan key_span;
    bool key_plain; /* written without quotes */
    FeNode *value;
} FePair;

struct FeNode {
    FeNodeKind kind;
    SuSpan span;
    /* FE_SCALAR */
    const char *text; /* without NUL bytes inside */
    bool plain;       /* written without quotes */
    /* FE_MAPPING: pairs, keys unique; FE_SEQUENCE: items */
    FePair *pairs;
    FeNode **items;
    size_t count, capacity;
    /* What copying it would cost, for the limits on aliases. */
    uint32_t nodes, bytes; /* of the whole subtree */
    uint16_t height;       /* 0 for a scalar */
    uint16_t nesting;      /* aliases inside aliases */
};

/* The one document of source->text from byte `start` on. Errors that leave a usable tree (a duplicate key, a tag) are
 * reported and passed over: the result is then non-NULL although diags grew. NULL when there is no tree. */
FeNode *fe_yaml_parse(SuArena *arena, const SuSource *source, size_t start, SuDiags *diags);

/* Nothing was written where a value could stand. */
bool fe_node_empty(const FeNode *node);
/* The pair with that key, or NULL. */
FePair *fe_node_find(const FeNode *map, const char *key);
/* "a map", "a list", "nothing", or the quoted text, shortened: how messages name a value. */
const char *fe_node_what(SuArena *arena, const FeNode *node);
/* `text` in single quotes, shortened to what fits a message. */
const char *fe_quote(SuArena *arena, const char *text);

/* The whole subtree again; keys, texts and sources are shared. */
FeNode *fe_node_copy(SuArena *arena, const FeNode *node);
FeNode *fe_new_mapping(SuArena *arena, SuSpan span);
void fe_map_put(SuArena *arena, FeNode *map, const char *key, SuSpan key_span, FeNode *value);

#endif
