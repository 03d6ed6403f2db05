#include "explore/layout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Builder {
    const ExSpace *space;
    SuArena *arena;
    ExLayout *layout;
    const char *kinds[EX_MAX_UNITS]; /* the key or word that a unit's entry begins with; NULL: some other */
    FeEdit *once;
    size_t once_capacity;
} Builder;

/* ---------------------------------------------------------------------------------------------- the stack */

/* A count of the language; 0: something else. */
static int64_t as_count(double number) {
    return number >= 1 && number <= EX_MAX_STACK && number == floor(number) ? (int64_t)number : 0;
}

static int64_t repeat_of(const FeNode *entry) {
    const FePair *pair = fe_node_find(entry, "repeat");
    if (!pair) return 1;
    char *end = NULL;
    double number = pair->value->kind == FE_SCALAR ? strtod(pair->value->text, &end) : 0;
    return end && end != pair->value->text && *end == '\0' ? as_count(number) : 0;
}

static void stand_once(Builder *b, const char *path) {
    FeNode *one = SU_NEW(b->arena, FeNode);
    *one = (FeNode){.kind = FE_SCALAR, .text = "1", .plain = true};
    b->once = su_grow(b->arena, b->once, &b->once_capacity, b->layout->n_once + 1, sizeof *b->once);
    b->once[b->layout->n_once++] = (FeEdit){.path = path, .value = one};
}

/* The kind of block that an entry holds, by its name; NULL: not known here (a define, a parallel). */
static const char *kind_of(const FeNode *entry) {
    static const char *const kinds[] = {
#define FE_KIND(id, word, what) #word,
#include "frontend/kinds.def"
    };
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        bool is = entry->kind == FE_SCALAR ? strcmp(entry->text, kinds[k]) == 0 : fe_node_find(entry, kinds[k]) != NULL;
        if (is) return kinds[k];
    }
    return NULL;
}

/* Entries of a list at `path`. What is no list of words and maps is the front end's to report: the layout is opaque then. */
static const ExEntry *read_entries(Builder *b, const FeNode *list, const char *path, size_t *out_count) {
    ExLayout *layout = b->layout;
    *out_count = 0;
    if (!list || list->kind != FE_SEQUENCE) {
        layout->opaque = true;
        return NULL;
    }
    ExEntry *entries = SU_NEW_ARRAY(b->arena, ExEntry, list->count);
    for (size_t i = 0; i < list->count; i++) {
        const FeNode *node = list->items[i];
        const FePair *blocks = node->kind == FE_MAPPING ? fe_node_find(node, "blocks") : NULL;
        const char *at = su_printf(b->arena, "%s[%zu]", path, i);
        bool share = node->kind == FE_MAPPING && fe_node_find(node, "share");
        layout->opaque |= share || (node->kind != FE_SCALAR && node->kind != FE_MAPPING) || layout->n_units == EX_MAX_UNITS;
        if (layout->opaque) return entries;
        entries[i] = (ExEntry){.axis = -1, .derive = -1, .repeat = 1};
        if (blocks) {
            entries[i].group = true;
            entries[i].path = su_printf(b->arena, "%s.repeat", at);
            entries[i].repeat = repeat_of(node);
            stand_once(b, entries[i].path);
            entries[i].entries = read_entries(b, blocks->value, su_printf(b->arena, "%s.blocks", at), &entries[i].n_entries);
        } else {
            b->kinds[layout->n_units] = kind_of(node);
            entries[i].unit = layout->n_units++;
        }
    }
    *out_count = list->count;
    return entries;
}

/* ---------------------------------------------------------------------------------------------- what targets reach */

typedef enum Reached { OUTSIDE, UNIT, WHOLE_UNIT, REPEAT, PART_OF_STACK } Reached;

/* The item of a list that "[index]" or "[name]" means; its number, or -1. */
static int64_t find_item(const FeNode *list, const char *inside, size_t size) {
    char *end;
    unsigned long index = strtoul(inside, &end, 10);
    if (size > 0 && end == inside + size) return index < list->count ? (int64_t)index : -1;
    for (size_t i = 0; i < list->count; i++) {
        const FePair *name = list->items[i]->kind == FE_MAPPING ? fe_node_find(list->items[i], "name") : NULL;
        if (name && name->value->kind == FE_SCALAR && strlen(name->value->text) == size &&
            strncmp(name->value->text, inside, size) == 0)
            return (int64_t)i;
    }
    return -1;
}

/* Follows a path that begins at `list` with "[…]". */
static Reached follow(const FeNode *list, const ExEntry *entries, const char *path, ExEntry **out_entry) {
    for (;;) {
        const char *close = *path == '[' ? strchr(path, ']') : NULL;
        int64_t item = close && list->kind == FE_SEQUENCE ? find_item(list, path + 1, (size_t)(close - path - 1)) : -1;
        if (item < 0) return PART_OF_STACK;
        const ExEntry *entry = &entries[item];
        path = close + 1;
        *out_entry = (ExEntry *)(uintptr_t)entry; /* made by read_entries, which is not done with it */
        if (!entry->group) return *path == '.' ? UNIT : *path == '\0' ? WHOLE_UNIT : PART_OF_STACK;
        if (strcmp(path, ".repeat") == 0) return REPEAT;
        if (strncmp(path, ".blocks[", 8) != 0) return PART_OF_STACK;
        list = fe_node_find(list->items[item], "blocks")->value;
        entries = entry->entries;
        path += 7;
    }
}

static void add_reach(ExReach *reach, int axis, int derive) {
    if (axis >= 0) reach->axes |= (uint64_t)1 << axis;
    if (derive >= 0) reach->derives |= (uint64_t)1 << derive;
}

/* Whether a path is that of this key or of something in it. */
static bool is_in(const char *path, const char *key) {
    size_t size = strlen(key);
    return strncmp(path, key, size) == 0 && (path[size] == '\0' || path[size] == '.' || path[size] == '[');
}

/* Keys that no block knows of. */
static bool is_of_no_block(const char *path) {
    static const char *const keys[] = {"vocab_size", "tie_embeddings", "embedding_scale", "logit_scale", "final_norm", "tokenizer",
                                       "name"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        if (is_in(path, keys[k])) return true;
    return false;
}

/* Whether a path outside the stack reaches blocks of a kind (NULL: not known): defaults of other kinds do not. */
static bool reaches_kind(const char *path, const char *kind) {
    static const char defaults[] = "defaults.";
    if (is_of_no_block(path)) return false;
    if (!kind || strncmp(path, defaults, strlen(defaults)) != 0) return true;
    const char *of = path + strlen(defaults);
    return is_in(of, kind) || is_in(of, "router");
}

static void note_outside(Builder *b, const char *path, int axis, int derive) {
    add_reach(&b->layout->outside, axis, derive);
    for (uint32_t u = 0; u < b->layout->n_units; u++)
        if (reaches_kind(path, b->kinds[u])) add_reach(&b->layout->units[u], axis, derive);
}

/* Whether all values of an axis are single blocks: words, or maps that are neither groups nor shares. */
static bool are_blocks(const ExSpace *space, int axis) {
    for (size_t v = 0; v < space->axes[axis].n_values; v++) {
        const FeNode *node = space->axes[axis].nodes[v];
        bool block =
            node->kind == FE_SCALAR || (node->kind == FE_MAPPING && !fe_node_find(node, "blocks") && !fe_node_find(node, "share"));
        if (!block) return false;
    }
    return !space->axes[axis].set;
}

/* Blocks that an axis replaces have no kind that is known here. */
static void forget_kinds(Builder *b, const FeNode *stack) {
    for (size_t a = 0; a < b->space->n_axes; a++) {
        for (size_t t = 0; t < b->space->axes[a].n_targets; t++) {
            const char *path = b->space->axes[a].targets[t].path;
            ExEntry *entry;
            if (strncmp(path, "stack[", 6) == 0 && follow(stack, b->layout->entries, path + 5, &entry) == WHOLE_UNIT)
                b->kinds[entry->unit] = NULL;
        }
    }
}

/* Of an axis or of a derive; the other is -1. */
static void note_target(Builder *b, const FeNode *stack, const char *path, int axis, int derive) {
    ExLayout *layout = b->layout;
    ExEntry *entry = NULL;
    bool in_stack = strncmp(path, "stack", 5) == 0 && (path[5] == '[' || path[5] == '.' || path[5] == '\0');
    switch (in_stack ? follow(stack, layout->entries, path + 5, &entry) : OUTSIDE) {
    case OUTSIDE: note_outside(b, path, axis, derive); return;
    case UNIT: add_reach(&layout->units[entry->unit], axis, derive); return;
    case WHOLE_UNIT:
        add_reach(&layout->units[entry->unit], axis, derive);
        layout->opaque |= derive >= 0 || !are_blocks(b->space, axis);
        return;
    case REPEAT:
        if (axis >= 0) entry->axis = axis;
        if (derive >= 0) entry->axis = -1;
        entry->derive = derive;
        return;
    case PART_OF_STACK: layout->opaque = true; return;
    }
}

ExLayout *ex_layout(const ExSpace *space, const FeBase *base, SuArena *arena) {
    ExLayout *layout = SU_NEW(arena, ExLayout);
    Builder b = {.space = space, .arena = arena, .layout = layout};
    const FePair *stack = fe_node_find(base->root, "stack");
    layout->entries = read_entries(&b, stack ? stack->value : NULL, "stack", &layout->n_entries);
    layout->once = b.once;
    if (!layout->opaque) forget_kinds(&b, stack->value);
    for (size_t a = 0; a < space->n_axes && !layout->opaque; a++) {
        const ExAxis *axis = &space->axes[a];
        for (size_t t = 0; t < axis->n_targets && !layout->opaque; t++)
            note_target(&b, stack->value, axis->targets[t].path, (int)a, -1);
    }
    for (size_t d = 0; d < space->n_derive && !layout->opaque; d++)
        note_target(&b, stack->value, space->derive[d].target.path, -1, (int)d);
    return layout;
}

/* ---------------------------------------------------------------------------------------------- points */

typedef struct Expansion {
    const ExSpace *space;
    const uint32_t *choices;
    const ExValue *derived;
    uint16_t *units;
    size_t count;
} Expansion;

static int64_t repeat_at(const Expansion *x, const ExEntry *entry) {
    const ExValue *value = entry->axis >= 0     ? &x->space->axes[entry->axis].values[x->choices[entry->axis]]
                           : entry->derive >= 0 ? &x->derived[entry->derive]
                                                : NULL;
    if (!value) return entry->repeat;
    return value->type == EX_NUMBER ? as_count(value->number) : 0;
}

static bool expand(Expansion *x, const ExEntry *entries, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const ExEntry *entry = &entries[i];
        if (!entry->group) {
            if (x->count == EX_MAX_STACK) return false;
            x->units[x->count++] = (uint16_t)entry->unit;
            continue;
        }
        int64_t times = repeat_at(x, entry);
        size_t begin = x->count;
        if (times == 0 || !expand(x, entry->entries, entry->n_entries)) return false;
        size_t size = x->count - begin;
        if (size * (size_t)times > EX_MAX_STACK - begin) return false;
        for (int64_t t = 1; t < times; t++, x->count += size)
            memcpy(x->units + x->count, x->units + begin, size * sizeof *x->units);
    }
    return true;
}

size_t ex_expand(const ExLayout *layout, const ExSpace *space, const uint32_t *choices, const ExValue *derived,
                 uint16_t *out_units) {
    Expansion x = {space, choices, derived, out_units, 0};
    return expand(&x, layout->entries, layout->n_entries) ? x.count : 0;
}
