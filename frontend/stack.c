/* `define` and `stack`: entries, groups and words, flattened into blocks. */
#include <stdlib.h>
#include <string.h>

#include "frontend/kinds.h"

typedef struct Define {
    const char *name;
    FeBlock block;
    bool ok;
} Define;

typedef struct Name {
    const char *name;
    SuSpan span;
    size_t order;
} Name;

typedef struct Stack {
    FeLoad *load;
    const FeReader *reader;
    SuArena *arena;
    Define *defines;
    size_t n_defines, define_capacity;
    Name *names; /* of blocks and groups */
    size_t n_names, name_capacity;
    FeBlock *blocks;
    size_t n_blocks, block_capacity;
    bool full; /* the limit on blocks was reported: nothing more is added */
} Stack;

static bool is_kind_word(const char *word) {
    FeBlockKind kind;
    return fe_find_kind(word, &kind) || strcmp(word, "share") == 0;
}

static const Define *find_define(const Stack *s, const char *name) {
    for (size_t i = 0; i < s->n_defines; i++)
        if (strcmp(s->defines[i].name, name) == 0) return &s->defines[i];
    return NULL;
}

/* ---- blocks written as maps ---- */

/* The one kind that an entry's map gives; false after an error, or when the entry is a group. */
static bool entry_kind(const Stack *s, const FeMap *entry, const FeNode *node, size_t errors_before, FeBlockKind *out_kind) {
    SuDiags *diags = s->reader->diags;
    const FeKindRow *found = NULL;
    for (int i = 0; i < FE_N_KINDS; i++) {
        const FeKindRow *row = fe_kind_row((FeBlockKind)i);
        const FeValue *value = fe_value(entry, row->entry);
        if (value->state == FE_ABSENT) continue;
        if (found) {
            return su_report(diags, SU_CODE_bad_entry, value->key_span, "make it an entry of its own",
                             "an entry has one block, but '%s' follows '%s'", row->word, found->word);
        }
        found = row;
        *out_kind = (FeBlockKind)i;
    }
    if (!found && diags->errors == errors_before)
        su_report(diags, SU_CODE_bad_entry, node->span, NULL, "a block needs one of the keys %s", fe_kind_words(s->arena, " and "));
    return found != NULL;
}

/* Builds the block of that kind that `entry` gives. */
static bool build_entry(const Stack *s, const FeMap *entry, FeBlockKind kind, FeBlock *out) {
    const FeValue *value = fe_value(entry, fe_kind_row(kind)->entry);
    if (value->state != FE_GIVEN) return false;
    return fe_build_block(s->load, kind, value->map, value->key_span, out);
}

/* ---- define ---- */

static bool check_define_name(const Stack *s, const FePair *pair) {
    SuDiags *diags = s->reader->diags;
    const char *quoted = fe_quote(s->arena, pair->key);
    if (!fe_is_name(pair->key)) {
        return su_report(diags, SU_CODE_bad_name, pair->key_span, "a name is a-z, 0-9, '_' and '-' and begins with a letter",
                         "%s cannot name a block", quoted);
    }
    if (is_kind_word(pair->key))
        return su_report(diags, SU_CODE_bad_name, pair->key_span, NULL, "%s is a kind of block and cannot be defined", quoted);
    if (pair->key_plain && fe_is_truth_word(pair->key))
        return su_report(diags, SU_CODE_bad_name, pair->key_span, "choose another name", "YAML tools read %s as a truth value",
                         quoted);
    return true;
}

static bool build_define(const Stack *s, const FePair *pair, FeBlock *out) {
    SuDiags *diags = s->reader->diags;
    const FeNode *node = pair->value;
    if (node->kind != FE_MAPPING) {
        return node->kind != FE_POISON &&
               su_report(diags, SU_CODE_bad_entry, node->span, "write it as a map, for example {ssm: {}}",
                         "'define.%s': expected a map with one block, got %s", pair->key, fe_node_what(s->arena, node));
    }
    size_t errors = diags->errors;
    const FeMap *entry = fe_read_map(s->reader, node, FE_SECTION_entry, pair->key_span);
    const FeValue *name = fe_value(entry, FE_KEY_entry_name);
    const FeValue *repeat = fe_value(entry, FE_KEY_entry_repeat), *blocks = fe_value(entry, FE_KEY_entry_blocks);
    if (name->node)
        return su_report(diags, SU_CODE_bad_entry, name->key_span, NULL, "a defined block has its name from define already");
    if (repeat->node || blocks->node)
        return su_report(diags, SU_CODE_bad_entry, repeat->node ? repeat->key_span : blocks->key_span, NULL,
                         "define takes single blocks, not groups");
    FeBlockKind kind;
    return entry_kind(s, entry, node, errors, &kind) && build_entry(s, entry, kind, out) && diags->errors == errors;
}

/* Every define is built once, used or not, so that its mistakes are reported once. */
static void read_defines(Stack *s, const FeNode *node) {
    for (size_t i = 0; node && node->kind == FE_MAPPING && i < node->count; i++) {
        const FePair *pair = &node->pairs[i];
        if (s->n_defines == FE_MAX_DEFINES) {
            su_report(s->reader->diags, SU_CODE_too_large, pair->key_span, NULL, "more than %d named blocks", FE_MAX_DEFINES);
            return;
        }
        if (s->reader->diags->errors > SU_MAX_ERRORS) return;
        Define define = {.name = pair->key};
        bool named = check_define_name(s, pair);
        define.ok = build_define(s, pair, &define.block) && named;
        s->defines = su_grow(s->arena, s->defines, &s->define_capacity, s->n_defines + 1, sizeof(Define));
        s->defines[s->n_defines++] = define;
    }
}

/* ---- names ---- */

static void add_name(Stack *s, const FeMap *entry) {
    const FeValue *name = fe_value(entry, FE_KEY_entry_name);
    SuDiags *diags = s->reader->diags;
    if (name->state != FE_GIVEN) return;
    if (is_kind_word(name->text) || find_define(s, name->text)) {
        su_report(diags, SU_CODE_bad_name, name->span, "choose another name", "'name': %s is already %s",
                  fe_quote(s->arena, name->text), is_kind_word(name->text) ? "a kind of block" : "a define");
        return;
    }
    s->names = su_grow(s->arena, s->names, &s->name_capacity, s->n_names + 1, sizeof(Name));
    s->names[s->n_names] = (Name){name->text, name->span, s->n_names};
    s->n_names++;
}

static int by_name(const void *left, const void *right) {
    const Name *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    return order ? order : a->order < b->order ? -1 : a->order > b->order;
}

static void check_names(Stack *s) {
    if (s->n_names > 1) qsort(s->names, s->n_names, sizeof(Name), by_name);
    for (size_t i = 1; i < s->n_names; i++) {
        const Name *first = &s->names[i - 1], *second = &s->names[i];
        if (strcmp(first->name, second->name) == 0) {
            const char *hint = su_printf(s->arena, "first defined at line %u", (unsigned)first->span.line);
            su_report(s->reader->diags, SU_CODE_bad_name, second->span, hint, "duplicate name: %s",
                      fe_quote(s->arena, second->name));
        }
    }
}

/* ---- stack ---- */

static void too_many(Stack *s, SuSpan span) {
    if (!s->full) su_report(s->reader->diags, SU_CODE_too_large, span, NULL, "the stack has more than %d blocks", FE_MAX_BLOCKS);
    s->full = true;
}

static void add_block(Stack *s, const FeBlock *block, SuSpan span) {
    if (s->n_blocks == FE_MAX_BLOCKS) {
        too_many(s, span);
        return;
    }
    s->blocks = su_grow(s->arena, s->blocks, &s->block_capacity, s->n_blocks + 1, sizeof(FeBlock));
    s->blocks[s->n_blocks++] = *block;
}

static const char *nearest_word(const Stack *s, const char *word) {
    const char **words = SU_NEW_ARRAY(s->arena, const char *, FE_N_KINDS + s->n_defines);
    for (int i = 0; i < FE_N_KINDS; i++) words[i] = fe_block_kind_word((FeBlockKind)i);
    for (size_t i = 0; i < s->n_defines; i++) words[FE_N_KINDS + i] = s->defines[i].name;
    return su_nearest(word, words, FE_N_KINDS + s->n_defines);
}

static void read_word(Stack *s, const FeNode *node, const char *path) {
    SuDiags *diags = s->reader->diags;
    FeBlockKind kind;
    const Define *define = find_define(s, node->text);
    FeBlock block = {0};
    if (fe_find_kind(node->text, &kind)) {
        fe_build_block(s->load, kind, NULL, node->span, &block);
    } else if (define) {
        block = define->block; /* a broken one was reported at its definition */
        block.span = node->span;
    } else if (strcmp(node->text, "share") == 0) {
        su_report(diags, SU_CODE_not_in_version, node->span, NULL, "'share' is not supported in this version");
    } else {
        const char *near = nearest_word(s, node->text);
        const char *hint = near ? su_printf(s->arena, "did you mean '%s'?", near) : NULL;
        su_report(diags, SU_CODE_unknown_block, node->span, hint, "%s is neither a kind of block (%s) nor in define",
                  fe_quote(s->arena, node->text), fe_kind_words(s->arena, ", "));
    }
    block.path = path;
    add_block(s, &block, node->span);
}

static void read_entries(Stack *s, const FeNode *list, const char *path);

/* A group's blocks are read once and then copied: repeat repeats the shape. */
static void read_group(Stack *s, const FeMap *entry, const char *path) {
    SuDiags *diags = s->reader->diags;
    const FeValue *repeat = fe_value(entry, FE_KEY_entry_repeat), *blocks = fe_value(entry, FE_KEY_entry_blocks);
    for (int i = 0; i < FE_N_KINDS; i++) {
        const FeKindRow *row = fe_kind_row((FeBlockKind)i);
        const FeValue *value = fe_value(entry, row->entry);
        if (value->node)
            su_report(diags, SU_CODE_misplaced_key, value->key_span, "move it into the group's blocks",
                      "a group has no '%s' of its own", row->word);
    }
    if (repeat->state == FE_ABSENT)
        su_report(diags, SU_CODE_missing_key, blocks->key_span, NULL, "'repeat' is required with 'blocks'");
    if (blocks->state == FE_ABSENT)
        su_report(diags, SU_CODE_missing_key, repeat->key_span, NULL, "'blocks' is required with 'repeat'");
    if (blocks->state != FE_GIVEN) return;
    if (blocks->node->count == 0) {
        su_report(diags, SU_CODE_wrong_value, blocks->node->span, NULL, "'blocks' is empty: a group has at least one block");
        return;
    }
    size_t first = s->n_blocks;
    read_entries(s, blocks->node, su_printf(s->arena, "%s.blocks", path));
    size_t count = s->n_blocks - first;
    for (int64_t i = 1; repeat->state == FE_GIVEN && i < repeat->integer && count > 0 && !s->full; i++) {
        for (size_t j = 0; j < count && !s->full; j++) {
            FeBlock copy = s->blocks[first + j];
            add_block(s, &copy, repeat->span);
        }
    }
}

static void read_block(Stack *s, const FeMap *entry, const FeNode *node, const char *path, size_t errors) {
    FeBlock block = {0};
    const FeValue *name = fe_value(entry, FE_KEY_entry_name);
    FeBlockKind kind;
    if (entry_kind(s, entry, node, errors, &kind)) build_entry(s, entry, kind, &block);
    block.name = name->state == FE_GIVEN ? name->text : NULL;
    block.path = path;
    add_block(s, &block, node->span);
}

static void read_entry(Stack *s, const FeNode *node, const char *path) {
    SuDiags *diags = s->reader->diags;
    size_t errors = diags->errors;
    if (node->kind == FE_SCALAR && !fe_node_empty(node)) {
        read_word(s, node, path);
        return;
    }
    if (node->kind != FE_MAPPING) {
        if (node->kind != FE_POISON)
            su_report(diags, SU_CODE_bad_entry, node->span, NULL, "expected a block, a group or a word, got %s",
                      fe_node_what(s->arena, node));
        return;
    }
    if (node->count == 1 && !is_kind_word(node->pairs[0].key) && find_define(s, node->pairs[0].key)) {
        const char *word = node->pairs[0].key;
        su_report(diags, SU_CODE_unknown_block, node->pairs[0].key_span, "a defined block is used as it is",
                  "%s is a word of define: write '- %s'", fe_quote(s->arena, word), word);
        return;
    }
    const FeMap *entry = fe_read_map(s->reader, node, FE_SECTION_entry, node->span);
    add_name(s, entry);
    if (fe_value(entry, FE_KEY_entry_repeat)->state != FE_ABSENT || fe_value(entry, FE_KEY_entry_blocks)->state != FE_ABSENT)
        read_group(s, entry, path);
    else
        read_block(s, entry, node, path, errors);
}

static void read_entries(Stack *s, const FeNode *list, const char *path) {
    for (size_t i = 0; i < list->count && !s->full && s->reader->diags->errors <= SU_MAX_ERRORS; i++)
        read_entry(s, list->items[i], su_printf(s->arena, "%s[%zu]", path, i));
}

void fe_build_stack(FeLoad *load) {
    Stack s = {.load = load, .reader = &load->reader, .arena = load->reader.arena};
    const FeValue *define = fe_value(load->file, FE_KEY_file_define);
    const FeValue *stack = fe_value(load->file, FE_KEY_file_stack);
    read_defines(&s, define->state == FE_GIVEN ? define->node : NULL);
    if (stack->state != FE_GIVEN) return;
    if (stack->node->count == 0) {
        su_report(load->reader.diags, SU_CODE_wrong_value, stack->node->span, NULL,
                  "'stack' is empty: a model has at least one block");
        return;
    }
    read_entries(&s, stack->node, "stack");
    check_names(&s);
    load->spec->blocks = s.blocks;
    load->spec->n_blocks = (int64_t)s.n_blocks;
    FeValue *flat = fe_value(load->file, FE_KEY_file_stack);
    flat->blocks = s.blocks;
    flat->n_blocks = (int64_t)s.n_blocks;
}
