/* --set PATH=VALUE and edits: change the tree of the file, aliases expanded, before defaults and checks.
 *
 *   path := key ( "." key | "[" index or name "]" )*
 *
 * Missing map keys are made on the way, so that any key can be set; a list item, a word of the stack or a define must be there.
 * The value is YAML and is checked later like one in the file: its places point into the --set text. */
#include <string.h>

#include "frontend/kinds.h"

typedef struct Set {
    const FeReader *reader;
    SuArena *arena;
    const SuSource *source; /* the whole "PATH=VALUE", or the path of an edit */
    const char *at;   /* next unread byte of the path */
    const char *end;  /* behind the path */
    const char *what; /* messages begin with it: "--set" */
    const SuSpan *place; /* of every message; NULL: within the source */
} Set;

static SuSpan span_of(const Set *s, const char *at, size_t size) {
    if (s->place) return *s->place;
    uint32_t column = 1, length = 0;
    for (const char *c = s->source->text; c < at + size; c++) {
        bool lead = ((unsigned char)*c & 0xC0) != 0x80;
        column += lead && c < at;
        length += lead && c >= at;
    }
    return (SuSpan){s->source, 1, column, length ? length : 1};
}

__attribute__((format(printf, 4, 5))) static bool fail(const Set *s, const char *at, size_t size, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *message = su_vprintf(s->arena, format, args);
    va_end(args);
    return su_report(s->reader->diags, SU_CODE_bad_set, span_of(s, at, size), NULL, "%s %s: %s", s->what,
                     fe_quote(s->arena, s->source->text), message);
}

/* ---- steps ---- */

static size_t key_size(const Set *s) {
    size_t size = 0;
    while (s->at + size < s->end && !strchr(".[]", s->at[size])) size++;
    return size;
}

static bool is_last(const Set *s, const char *behind) { return behind == s->end; }

/* A scalar word in the stack that is a kind stands for that kind with an empty map. */
static void open_word(const Set *s, FeNode *node, const char *key) {
    FeBlockKind kind;
    if (node->kind == FE_SCALAR && fe_find_kind(key, &kind) && strcmp(node->text, key) == 0) {
        SuSpan span = node->span;
        FeNode *empty = fe_new_mapping(s->arena, span);
        *node = *fe_new_mapping(s->arena, span);
        fe_map_put(s->arena, node, key, span, empty);
    }
}

static bool is_none(const FeNode *node) { return node->kind == FE_SCALAR && strcmp(node->text, "none") == 0; }

static bool step_key(Set *s, FeNode **node, const FeNode *define) {
    size_t size = key_size(s);
    const char *key = su_strndup(s->arena, s->at, size);
    SuSpan span = span_of(s, s->at, size);
    if (size == 0) return fail(s, s->at, 1, "a key is missing in the path");
    if (fe_node_empty(*node)) **node = *fe_new_mapping(s->arena, (*node)->span);
    open_word(s, *node, key);
    if (define && (*node)->kind == FE_SCALAR && fe_node_find(define, (*node)->text))
        return fail(s, s->at, size, "the file has the word '%s' here: set define.%s", (*node)->text, (*node)->text);
    if ((*node)->kind != FE_MAPPING)
        return fail(s, s->at, size, "key '%s' does not exist here: the file has %s", key, fe_node_what(s->arena, *node));
    FePair *pair = fe_node_find(*node, key);
    if (!pair && *node == define && !is_last(s, s->at + size)) return fail(s, s->at, size, "define has no block named '%s'", key);
    if (!pair) {
        fe_map_put(s->arena, *node, key, span, fe_new_mapping(s->arena, span));
        pair = &(*node)->pairs[(*node)->count - 1];
    }
    *node = pair->value;
    s->at += size;
    return true;
}

static FeNode *find_item(const FeNode *list, const char *name) {
    for (size_t i = 0; i < list->count; i++) {
        const FePair *pair = fe_node_find(list->items[i], "name");
        if (pair && pair->value->kind == FE_SCALAR && strcmp(pair->value->text, name) == 0) return list->items[i];
    }
    return NULL;
}

/* "[index]" or "[name]" */
static bool step_item(Set *s, FeNode **node) {
    const char *open = s->at, *close = memchr(open, ']', (size_t)(s->end - open));
    if (!close || close == open + 1) return fail(s, open, 1, close ? "nothing between '[' and ']'" : "'[' without ']'");
    size_t size = (size_t)(close - open) + 1;
    const char *inside = su_strndup(s->arena, open + 1, size - 2);
    int64_t index;
    if ((*node)->kind != FE_SEQUENCE)
        return fail(s, open, size, "expected a list here: the file has %s", fe_node_what(s->arena, *node));
    if (fe_parse_integer(inside, &index)) {
        if ((uint64_t)index >= (*node)->count)
            return fail(s, open, size, "item [%lld] does not exist: the list has %zu", (long long)index, (*node)->count);
        *node = (*node)->items[index];
    } else {
        FeNode *item = find_item(*node, inside);
        if (!item) return fail(s, open, size, "no item of the list has name: %s", inside);
        *node = item;
    }
    s->at = close + 1;
    return true;
}

/* Walks the path to the node whose place the value takes. */
static bool walk(Set *s, FeNode *root, FeNode **out_node) {
    FeNode *node = root;
    bool first = true;
    while (first || s->at < s->end) {
        const FePair *define = fe_node_find(root, "define");
        bool key = first || *s->at == '.';
        if (!key && *s->at != '[') return fail(s, s->at, 1, "expected '.' or '[' in the path");
        s->at += !first && key;
        if (!(key ? step_key(s, &node, define ? define->value : NULL) : step_item(s, &node))) return false;
        first = false;
    }
    *out_node = node;
    return true;
}

bool fe_apply_set(const FeReader *reader, FeNode *root, const char *text) {
    SuSource *source = SU_NEW(reader->arena, SuSource);
    *source = (SuSource){"--set", su_strdup(reader->arena, text), strlen(text)};
    const char *equals = strchr(source->text, '=');
    Set s = {reader, reader->arena, source, source->text, equals, "--set", NULL};
    if (!equals) {
        s.end = source->text + source->size;
        return fail(&s, source->text, source->size, "expected PATH=VALUE");
    }
    size_t start = (size_t)(equals - source->text) + 1;
    FeNode *value = NULL, *place = NULL;
    if (start < source->size && strspn(source->text + start, " \t") < source->size - start) {
        value = fe_yaml_parse(reader->arena, source, start, reader->diags);
        if (!value) return false;
    } else { /* no value: the same as an empty one in the file */
        value = SU_NEW(reader->arena, FeNode);
        *value = (FeNode){.kind = FE_SCALAR, .text = "", .plain = true, .span = span_of(&s, source->text, start - 1)};
    }
    if (!walk(&s, root, &place)) return false;
    *place = *value;
    return true;
}

/* ---- edits ---- */

/* Keys of `value` beside those of *place; each replaces the one of its name. */
static bool merge_into(const Set *s, FeNode *place, FeNode *value) {
    if (is_none(place) || fe_node_empty(place)) *place = *fe_new_mapping(s->arena, place->span);
    if (place->kind != FE_MAPPING) return fail(s, s->end, 1, "expected a map here: the file has %s", fe_node_what(s->arena, place));
    for (size_t i = 0; i < value->count; i++) {
        FePair *pair = &value->pairs[i], *old = fe_node_find(place, pair->key);
        if (old)
            old->value = pair->value;
        else
            fe_map_put(s->arena, place, pair->key, pair->key_span, pair->value);
    }
    return true;
}

bool fe_apply_edit(const FeReader *reader, FeNode *root, const FeEdit *edit) {
    SuSource *source = SU_NEW(reader->arena, SuSource);
    *source = (SuSource){"path", edit->path, strlen(edit->path)};
    Set s = {reader, reader->arena, source, edit->path, edit->path + source->size, "path", &edit->span};
    FeNode *place = NULL, *value = fe_node_copy(reader->arena, edit->value);
    if (source->size == 0) return fail(&s, edit->path, 0, "a key is missing in the path");
    if (!walk(&s, root, &place)) return false;
    if (edit->merge) return merge_into(&s, place, value);
    *place = *value;
    return true;
}
