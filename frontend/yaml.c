/* From libyaml's events to FeNode.
 *
 * libyaml checks the syntax and counts lines and columns; everything else is done here: it knows no duplicate keys, no
 * limit on nesting, no undefined or cyclic aliases and no merge. The event API is used because its document API is
 * quadratic in nesting and expands nothing. Recursion is bounded by FE_MAX_DEPTH. */
#include "frontend/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "frontend/invisible.h"
#include "support/utf8.h"

typedef struct Anchor {
    const char *name;
    FeNode *node; /* NULL while the value is still being read: an alias to it is a cycle */
} Anchor;

typedef struct Parser {
    yaml_parser_t yaml;
    SuArena *arena;
    const SuSource *source;
    uint32_t first_column; /* characters of line 1 before the YAML text */
    SuDiags *diags;
    Anchor *anchors;
    size_t n_anchors, anchor_capacity;
    size_t nodes, bytes; /* of the document, aliases expanded */
} Parser;

/* ---- places ---- */

static SuSpan span_between(const Parser *p, yaml_mark_t from, yaml_mark_t to) {
    uint32_t shift = from.line == 0 ? p->first_column : 0;
    size_t length = from.line == to.line && to.column > from.column ? to.column - from.column : 1;
    return (SuSpan){p->source, (uint32_t)from.line + 1, (uint32_t)from.column + 1 + shift, (uint32_t)length};
}

static SuSpan event_span(const Parser *p, const yaml_event_t *event) { return span_between(p, event->start_mark, event->end_mark); }

/* ---- the bytes before libyaml sees them ---- */

static bool is_break(uint32_t c) { return c == '\n' || c == '\r' || c == 0x85 || c == 0x2028 || c == 0x2029; }

static bool is_allowed(uint32_t c) { /* YAML 1.1, c-printable; a byte order mark is looked at apart */
    return c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c <= 0x7E) || c == 0x85 || (c >= 0xA0 && c <= 0xD7FF) ||
           (c >= 0xE000 && c <= 0xFFFD) || c >= 0x10000;
}

/* libyaml compares every %TAG directive with all before it; as tags have no meaning here, none is needed. */
static bool check_tag_directive(const Parser *p, size_t at, SuSpan span) {
    bool directive = span.column == 1 && p->source->size - at >= 4 && !memcmp(p->source->text + at, "%TAG", 4);
    return !directive || su_report(p->diags, SU_CODE_not_yaml, span, NULL, "YAML tags have no meaning in a spec");
}

/* Refuses what is not printable UTF-8, at its place: libyaml gives only a byte offset for these; and what cannot be seen where
 * no text is meant: libyaml would make it a part of a word, and then another mistake is reported. */
static bool check_bytes(const Parser *p, size_t start) {
    const unsigned char *text = (const unsigned char *)p->source->text;
    SuSpan span = {p->source, 1, 1 + p->first_column, 1};
    const size_t errors = p->diags->errors;
    FePlace place = {0};
    for (size_t at = start; at < p->source->size;) {
        SuUtf8 decoded = su_utf8_at(p->source->text + at, p->source->size - at);
        uint32_t c = decoded.code;
        if (!decoded.whole)
            return su_report(p->diags, SU_CODE_not_utf8, span, "specs must be UTF-8 text", "byte 0x%02X is not valid UTF-8",
                             text[at]);
        if (c == 0) return su_report(p->diags, SU_CODE_not_utf8, span, "specs must be UTF-8 text", "file contains a NUL byte");
        if (!is_allowed(c))
            return su_report(p->diags, SU_CODE_not_utf8, span, NULL, "the character U+%04X is not allowed in YAML", (unsigned)c);
        if (!check_tag_directive(p, at, span)) return false;
        const char *invisible = fe_invisible(&place, c);
        if (invisible) {
            su_report(p->diags, SU_CODE_invisible, span,
                      "delete it, or write a plain space; only quoted texts and comments may have it",
                      "invisible character U+%04X %s", (unsigned)c, invisible);
        }
        fe_place_take(&place, invisible ? ' ' : c);
        bool crlf = c == '\r' && at + 1 < p->source->size && text[at + 1] == '\n';
        at += decoded.size;
        if (is_break(c) && !crlf) {
            span.line++;
            span.column = 1;
        } else {
            span.column++;
        }
    }
    return p->diags->errors == errors;
}

/* ---- events ---- */

static bool syntax_error(Parser *p) {
    const yaml_parser_t *y = &p->yaml;
    const char *problem = y->problem ? y->problem : "unknown error";
    SuSpan span = span_between(p, y->problem_mark, y->problem_mark);
    if (y->error == YAML_MEMORY_ERROR)
        return su_report(p->diags, SU_CODE_out_of_memory, (SuSpan){.source = p->source}, NULL, "out of memory while reading YAML");
    if (y->error == YAML_READER_ERROR) span = (SuSpan){.source = p->source};
    const char *hint = NULL;
    if (strstr(problem, "cannot start any token"))
        hint = "indent YAML with spaces, not tabs; quote text that starts with a special character";
    else if (strstr(problem, "unexpected ':'"))
        hint = "inside { } and [ ] a space or a value follows ':'";
    else if (y->context && y->context_mark.line + 1 != span.line)
        hint = su_printf(p->arena, "%s that began at line %zu", y->context, y->context_mark.line + 1);
    else if (y->context)
        hint = y->context;
    return su_report(p->diags, SU_CODE_not_yaml, span, hint, "not valid YAML: %s", problem);
}

static bool next_event(Parser *p, yaml_event_t *out_event) {
    return yaml_parser_parse(&p->yaml, out_event) ? true : syntax_error(p);
}

/* ---- nodes ---- */

static FeNode *new_node(Parser *p, FeNodeKind kind, SuSpan span) {
    FeNode *node = SU_NEW(p->arena, FeNode);
    *node = (FeNode){.kind = kind, .span = span, .text = "", .nodes = 1, .bytes = 2};
    return node;
}

static void absorb(FeNode *parent, const FeNode *child) {
    parent->nodes += child->nodes;
    parent->bytes += child->bytes;
    if (child->height >= parent->height) parent->height = (uint16_t)(child->height + 1);
    if (child->nesting > parent->nesting) parent->nesting = child->nesting;
}

FeNode *fe_node_copy(SuArena *arena, const FeNode *node) {
    FeNode *copy = SU_NEW(arena, FeNode);
    *copy = *node;
    copy->capacity = node->count;
    if (node->kind == FE_MAPPING) {
        copy->pairs = SU_NEW_ARRAY(arena, FePair, node->count);
        for (size_t i = 0; i < node->count; i++) {
            copy->pairs[i] = node->pairs[i];
            copy->pairs[i].value = fe_node_copy(arena, node->pairs[i].value);
        }
    } else if (node->kind == FE_SEQUENCE) {
        copy->items = SU_NEW_ARRAY(arena, FeNode *, node->count);
        for (size_t i = 0; i < node->count; i++) copy->items[i] = fe_node_copy(arena, node->items[i]);
    }
    return copy;
}

/* Room for one more value in the document. */
static bool take_node(Parser *p, SuSpan span) {
    return ++p->nodes <= FE_MAX_NODES ||
           su_report(p->diags, SU_CODE_too_large, span, NULL, "more than %d values in one file", FE_MAX_NODES);
}

static FeNode *expand_alias(Parser *p, const char *name, SuSpan span, unsigned depth) {
    const Anchor *anchor = NULL;
    for (size_t i = p->n_anchors; i-- > 0 && !anchor;) anchor = strcmp(p->anchors[i].name, name) == 0 ? &p->anchors[i] : NULL;
    if (!anchor) {
        su_report(p->diags, SU_CODE_bad_alias, span, NULL, "alias *%s is not defined: no anchor &%s precedes it", name, name);
        return new_node(p, FE_POISON, span);
    }
    const FeNode *node = anchor->node;
    if (!node) {
        su_report(p->diags, SU_CODE_bad_alias, span, NULL, "alias *%s is inside its own anchor: a value cannot contain itself",
                  name);
        return NULL;
    }
    if (node->nesting >= FE_MAX_ALIAS_NESTING) {
        su_report(p->diags, SU_CODE_too_large, span, NULL, "aliases are nested deeper than %d levels", FE_MAX_ALIAS_NESTING);
        return NULL;
    }
    if (depth + node->height > FE_MAX_DEPTH) {
        su_report(p->diags, SU_CODE_too_large, span, NULL,
                  "maps and lists are nested deeper than %d levels once alias *%s is expanded", FE_MAX_DEPTH, name);
        return NULL;
    }
    p->bytes += node->bytes;
    if (p->bytes > FE_MAX_EXPANSION) {
        su_report(p->diags, SU_CODE_too_large, span, NULL, "aliases expand the file beyond %d bytes", FE_MAX_EXPANSION);
        return NULL;
    }
    p->nodes += node->nodes;
    if (p->nodes > FE_MAX_NODES) {
        su_report(p->diags, SU_CODE_too_large, span, NULL, "aliases expand the file beyond %d values", FE_MAX_NODES);
        return NULL;
    }
    FeNode *copy = fe_node_copy(p->arena, node);
    copy->nesting++;
    return copy;
}

static void check_tag(Parser *p, const yaml_char_t *tag, SuSpan span) {
    if (tag) {
        su_report(p->diags, SU_CODE_not_yaml, span, "remove it: the key determines the type of its value",
                  "YAML tags have no meaning in a spec");
    }
}

/* Remembers an anchor, still open; its index + 1, 0 without an anchor, SIZE_MAX on error. */
static size_t open_anchor(Parser *p, const yaml_char_t *name, SuSpan span) {
    if (!name) return 0;
    if (p->n_anchors == FE_MAX_ANCHORS) {
        su_report(p->diags, SU_CODE_too_large, span, NULL, "more than %d anchors in one file", FE_MAX_ANCHORS);
        return SIZE_MAX;
    }
    p->anchors = su_grow(p->arena, p->anchors, &p->anchor_capacity, p->n_anchors + 1, sizeof(Anchor));
    p->anchors[p->n_anchors++] = (Anchor){.name = su_strdup(p->arena, (const char *)name)};
    return p->n_anchors;
}

static FeNode *parse_value(Parser *p, const yaml_event_t *event, unsigned depth);

static FeNode *parse_scalar(Parser *p, const yaml_event_t *event) {
    SuSpan span = event_span(p, event);
    FeNode *node = new_node(p, FE_SCALAR, span);
    size_t length = event->data.scalar.length;
    check_tag(p, event->data.scalar.tag, span);
    if (memchr(event->data.scalar.value, 0, length)) {
        su_report(p->diags, SU_CODE_not_utf8, span, NULL, "a text with a NUL character");
        node->kind = FE_POISON;
        return node;
    }
    node->text = su_strndup(p->arena, (const char *)event->data.scalar.value, length);
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->bytes += (uint32_t)length;
    return node;
}

static FeNode *parse_sequence(Parser *p, const yaml_event_t *start, unsigned depth) {
    FeNode *list = new_node(p, FE_SEQUENCE, event_span(p, start));
    check_tag(p, start->data.sequence_start.tag, list->span);
    for (;;) {
        yaml_event_t event;
        if (!next_event(p, &event)) return NULL;
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        FeNode *item = end ? NULL : parse_value(p, &event, depth + 1);
        if (end && start->data.sequence_start.style == YAML_FLOW_SEQUENCE_STYLE)
            list->span = span_between(p, start->start_mark, event.end_mark);
        yaml_event_delete(&event);
        if (end || !item) return end ? list : NULL;
        list->items = su_grow(p->arena, list->items, &list->capacity, list->count + 1, sizeof(FeNode *));
        list->items[list->count++] = item;
        absorb(list, item);
    }
}

/* One key and its value into `map`. A key that cannot be one is reported and passed over together with its value. */
static bool parse_pair(Parser *p, const yaml_event_t *key_event, FeNode *map, unsigned depth) {
    FeNode *key = parse_value(p, key_event, depth + 1);
    yaml_event_t event;
    if (!key || !next_event(p, &event)) return false;
    FeNode *value = parse_value(p, &event, depth + 1);
    yaml_event_delete(&event);
    if (!value) return false;
    absorb(map, key);
    absorb(map, value);
    if (key->kind == FE_POISON) return true;
    if (key->kind != FE_SCALAR) {
        su_report(p->diags, SU_CODE_not_yaml, key->span, NULL, "a key must be a word, not %s", fe_node_what(p->arena, key));
        return true;
    }
    if (fe_node_empty(key)) {
        su_report(p->diags, SU_CODE_not_yaml, key->span, NULL, "a key is missing before ':'");
        return true;
    }
    fe_map_put(p->arena, map, key->text, key->span, value);
    map->pairs[map->count - 1].key_plain = key->plain;
    return true;
}

/* ---- duplicate keys and merges ---- */

typedef struct Candidate {
    FePair pair;
    size_t order; /* written pairs first, then merged ones from strong to weak */
    bool merged;
} Candidate;

static int by_key(const void *left, const void *right) {
    const Candidate *a = left, *b = right;
    int order = strcmp(a->pair.key, b->pair.key);
    return order ? order : a->order < b->order ? -1 : a->order > b->order;
}

static int by_order(const void *left, const void *right) {
    const Candidate *a = left, *b = right;
    return a->order < b->order ? -1 : a->order > b->order;
}

static bool is_merge(const FePair *pair) { return pair->key_plain && strcmp(pair->key, "<<") == 0; }

typedef struct Candidates {
    Candidate *items;
    size_t count, capacity;
} Candidates;

static void add_candidate(Parser *p, Candidates *all, const FePair *pair, bool merged) {
    all->items = su_grow(p->arena, all->items, &all->capacity, all->count + 1, sizeof(Candidate));
    all->items[all->count] = (Candidate){.pair = *pair, .order = all->count, .merged = merged};
    all->count++;
}

static void add_merged(Parser *p, Candidates *all, const FeNode *from, bool in_list) {
    if (from->kind == FE_SEQUENCE && !in_list)
        for (size_t i = 0; i < from->count; i++) add_merged(p, all, from->items[i], true);
    else if (from->kind == FE_MAPPING)
        for (size_t i = 0; i < from->count; i++) add_candidate(p, all, &from->pairs[i], true);
    else if (from->kind != FE_POISON)
        su_report(p->diags, SU_CODE_bad_alias, from->span, NULL, "'<<' merges maps, not %s", fe_node_what(p->arena, from));
}

/* Keeps the strongest of each key, in order. Two written ones are an error at the second. */
static void keep_unique(Parser *p, Candidates *all, FeNode *map) {
    qsort(all->items, all->count, sizeof(Candidate), by_key);
    size_t kept = 0;
    for (size_t i = 0; i < all->count; i++) {
        const Candidate *c = &all->items[i], *first = kept ? &all->items[kept - 1] : NULL;
        if (!first || strcmp(first->pair.key, c->pair.key) != 0) {
            all->items[kept++] = *c;
        } else if (!c->merged) {
            const char *hint = su_printf(p->arena, "first defined at line %u", (unsigned)first->pair.key_span.line);
            su_report(p->diags, SU_CODE_duplicate_key, c->pair.key_span, hint, "duplicate key %s", fe_quote(p->arena, c->pair.key));
        }
    }
    qsort(all->items, kept, sizeof(Candidate), by_order);
    map->count = 0;
    for (size_t i = 0; i < kept; i++) {
        map->pairs = su_grow(p->arena, map->pairs, &map->capacity, map->count + 1, sizeof(FePair));
        map->pairs[map->count++] = all->items[i].pair;
    }
}

static void settle_map(Parser *p, FeNode *map) {
    Candidates all = {0};
    const FePair *merge = NULL;
    for (size_t i = 0; i < map->count; i++) {
        const FePair *pair = &map->pairs[i];
        if (!is_merge(pair))
            add_candidate(p, &all, pair, false);
        else if (merge)
            su_report(p->diags, SU_CODE_duplicate_key, pair->key_span, "merge several maps as a list: '<<: [*a, *b]'",
                      "duplicate key '<<'");
        else
            merge = pair;
    }
    if (merge) add_merged(p, &all, merge->value, false);
    if (all.count)
        keep_unique(p, &all, map);
    else
        map->count = 0;
}

static FeNode *parse_mapping(Parser *p, const yaml_event_t *start, unsigned depth) {
    FeNode *map = new_node(p, FE_MAPPING, event_span(p, start));
    check_tag(p, start->data.mapping_start.tag, map->span);
    for (;;) {
        yaml_event_t event;
        if (!next_event(p, &event)) return NULL;
        bool end = event.type == YAML_MAPPING_END_EVENT;
        bool ok = end || parse_pair(p, &event, map, depth);
        if (end && start->data.mapping_start.style == YAML_FLOW_MAPPING_STYLE)
            map->span = span_between(p, start->start_mark, event.end_mark);
        yaml_event_delete(&event);
        if (!ok) return NULL;
        if (end) {
            settle_map(p, map);
            return map;
        }
    }
}

static const yaml_char_t *event_anchor(const yaml_event_t *event) {
    return event->type == YAML_SCALAR_EVENT           ? event->data.scalar.anchor
           : event->type == YAML_SEQUENCE_START_EVENT ? event->data.sequence_start.anchor
                                                      : event->data.mapping_start.anchor;
}

/* The value that `event` begins; depth counts the maps and lists around it. NULL after an error that ends the reading. */
static FeNode *parse_value(Parser *p, const yaml_event_t *event, unsigned depth) {
    SuSpan span = event_span(p, event);
    if (event->type == YAML_ALIAS_EVENT) return expand_alias(p, (const char *)event->data.alias.anchor, span, depth);
    if (!take_node(p, span)) return NULL;
    if (depth >= FE_MAX_DEPTH && event->type != YAML_SCALAR_EVENT) {
        su_report(p->diags, SU_CODE_too_large, span, NULL, "maps and lists are nested deeper than %d levels", FE_MAX_DEPTH);
        return NULL;
    }
    size_t anchor = open_anchor(p, event_anchor(event), span);
    if (anchor == SIZE_MAX) return NULL;
    FeNode *node = event->type == YAML_SCALAR_EVENT           ? parse_scalar(p, event)
                   : event->type == YAML_SEQUENCE_START_EVENT ? parse_sequence(p, event, depth)
                                                              : parse_mapping(p, event, depth);
    if (node && anchor) p->anchors[anchor - 1].node = node;
    return node;
}

/* ---- the document ---- */

/* Reads past stream and document start. False at the end of the stream or after an error. */
static bool begin_document(Parser *p, yaml_event_t *out_event) {
    for (;;) {
        if (!next_event(p, out_event)) return false;
        yaml_event_type_t type = out_event->type;
        if (type == YAML_STREAM_END_EVENT) {
            yaml_event_delete(out_event);
            return su_report(p->diags, SU_CODE_not_yaml, (SuSpan){p->source, 1, 1 + p->first_column, 1}, NULL, "file is empty");
        }
        if (type != YAML_STREAM_START_EVENT && type != YAML_DOCUMENT_START_EVENT) return true;
        yaml_event_delete(out_event);
    }
}

static bool end_document(Parser *p) {
    for (;;) {
        yaml_event_t event;
        if (!next_event(p, &event)) return false;
        yaml_event_type_t type = event.type;
        SuSpan span = event_span(p, &event);
        yaml_event_delete(&event);
        if (type == YAML_STREAM_END_EVENT) return true;
        if (type == YAML_DOCUMENT_START_EVENT)
            return su_report(p->diags, SU_CODE_not_yaml, span, NULL, "a second YAML document begins here; a spec is one document");
    }
}

static FeNode *parse_document(Parser *p) {
    yaml_event_t event;
    if (!begin_document(p, &event)) return NULL;
    FeNode *root = parse_value(p, &event, 0);
    yaml_event_delete(&event);
    return root && end_document(p) ? root : NULL;
}

static uint32_t count_characters(const char *text, size_t size) {
    uint32_t count = 0;
    for (size_t i = 0; i < size; i++) count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

FeNode *fe_yaml_parse(SuArena *arena, const SuSource *source, size_t start, SuDiags *diags) {
    Parser p = {.arena = arena, .source = source, .diags = diags, .bytes = source->size - start};
    if (source->size > FE_MAX_INPUT) {
        su_report(diags, SU_CODE_too_large, (SuSpan){.source = source}, NULL, "spec exceeds the limit of %d bytes", FE_MAX_INPUT);
        return NULL;
    }
    if (source->size - start >= 3 && !memcmp(source->text + start, "\xEF\xBB\xBF", 3))
        start += 3; /* libyaml would count a byte order mark as a column */
    p.first_column = count_characters(source->text, start == 3 ? 0 : start);
    if (!check_bytes(&p, start)) return NULL;
    if (!yaml_parser_initialize(&p.yaml)) {
        su_report(diags, SU_CODE_out_of_memory, (SuSpan){.source = source}, NULL, "out of memory while reading YAML");
        return NULL;
    }
    yaml_parser_set_encoding(&p.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p.yaml, (const unsigned char *)source->text + start, source->size - start);
    FeNode *root = parse_document(&p);
    yaml_parser_delete(&p.yaml);
    return root;
}

/* ---- helpers for readers of the tree ---- */

bool fe_node_empty(const FeNode *node) { return node->kind == FE_SCALAR && node->plain && node->text[0] == '\0'; }

FePair *fe_node_find(const FeNode *map, const char *key) {
    for (size_t i = 0; map->kind == FE_MAPPING && i < map->count; i++)
        if (strcmp(map->pairs[i].key, key) == 0) return &map->pairs[i];
    return NULL;
}

const char *fe_quote(SuArena *arena, const char *text) {
    enum { SHOWN = 48 };
    size_t size = strlen(text);
    if (size <= SHOWN) return su_printf(arena, "'%s'", text);
    size = SHOWN;
    while (size > 0 && ((unsigned char)text[size] & 0xC0) == 0x80) size--;
    return su_printf(arena, "'%.*s...'", (int)size, text);
}

const char *fe_node_what(SuArena *arena, const FeNode *node) {
    if (node->kind == FE_MAPPING) return "a map";
    if (node->kind == FE_SEQUENCE) return "a list";
    if (node->kind == FE_POISON || fe_node_empty(node)) return "nothing";
    return su_printf(arena, "%s%s", node->plain ? "" : "the quoted text ", fe_quote(arena, node->text));
}

FeNode *fe_new_mapping(SuArena *arena, SuSpan span) {
    FeNode *map = SU_NEW(arena, FeNode);
    *map = (FeNode){.kind = FE_MAPPING, .span = span, .text = "", .nodes = 1};
    return map;
}

void fe_map_put(SuArena *arena, FeNode *map, const char *key, SuSpan key_span, FeNode *value) {
    map->pairs = su_grow(arena, map->pairs, &map->capacity, map->count + 1, sizeof(FePair));
    map->pairs[map->count++] = (FePair){.key = key, .key_span = key_span, .key_plain = true, .value = value};
}
