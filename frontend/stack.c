/* `define` and `stack`: entries, groups and words, flattened into blocks; then shares, which may name any of them. */
#include <stdlib.h>
#include <string.h>

#include "frontend/kinds.h"
#include "support/size.h"

typedef struct Define {
    const char *name;
    FeBlock block;
    bool ok;
} Define;

typedef enum Named { OF_BLOCK, OF_GROUP, OF_BRANCH } Named;

typedef struct Name {
    const char *name;
    SuSpan span;
    size_t order;
    Named what;
    size_t block;  /* OF_BLOCK */
    bool repeated; /* it stands in a group that repeats */
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
    int repeating; /* groups that repeat, around what is being read */
    bool full; /* the limit on blocks was reported: nothing more is added */
} Stack;

static bool is_kind_word(const char *word) {
    FeBlockKind kind;
    return fe_find_kind(word, &kind) || strcmp(word, "share") == 0 || strcmp(word, "parallel") == 0;
}

static const Define *find_define(const Stack *s, const char *name) {
    for (size_t i = 0; i < s->n_defines; i++)
        if (strcmp(s->defines[i].name, name) == 0) return &s->defines[i];
    return NULL;
}

/* ---- names ---- */

/* The name that an entry gives, or NULL. */
static const char *add_name(Stack *s, const FeMap *entry, Named what) {
    const FeValue *name = fe_value(entry, FE_KEY_entry_name);
    if (name->state != FE_GIVEN) return NULL;
    s->names = su_grow(s->arena, s->names, &s->name_capacity, s->n_names + 1, sizeof(Name));
    s->names[s->n_names] = (Name){name->text, name->span, s->n_names, what, s->n_blocks, s->repeating > 0};
    s->n_names++;
    return name->text;
}

static int by_name(const void *left, const void *right) {
    const Name *a = left, *b = right;
    int order = strcmp(a->name, b->name);
    return order ? order : a->order < b->order ? -1 : a->order > b->order;
}

static int name_is(const void *name, const void *item) { return strcmp(name, ((const Name *)item)->name); }

/* In sorted names. */
static const Name *find_name(const Stack *s, const char *name) {
    return s->n_names > 0 ? bsearch(name, s->names, s->n_names, sizeof(Name), name_is) : NULL;
}

/* Whether a name is free to be one; reports. */
static bool check_name(const Stack *s, const Name *name) {
    bool kind = is_kind_word(name->name);
    if (!kind && !find_define(s, name->name)) return true;
    return su_report(s->reader->diags, SU_CODE_bad_name, name->span, "choose another name", "'name': %s is already %s",
                     fe_quote(s->arena, name->name), kind ? "a kind of block" : "a define");
}

/* Names that are taken are left out; the others are sorted. */
static void check_names(Stack *s) {
    size_t free = 0;
    for (size_t i = 0; i < s->n_names; i++)
        if (check_name(s, &s->names[i])) s->names[free++] = s->names[i];
    s->n_names = free;
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

/* ---- blocks written as maps ---- */

/* The keys of an entry that hold a block: the kinds, parallel and share. */
static bool holds_block(FeKey key) { return key != FE_KEY_entry_name && key != FE_KEY_entry_repeat && key != FE_KEY_entry_blocks; }

/* "ssm, mlp and share" */
static const char *block_keys(SuArena *arena) {
    FeSectionRow row = fe_section_row(FE_SECTION_entry);
    const char *text = NULL;
    for (FeKey key = row.first; key < row.end; key++)
        if (holds_block(key))
            text = text ? su_printf(arena, "%s%s%s", text, key + 1 < row.end ? ", " : " and ", fe_key_row(key)->name)
                        : fe_key_row(key)->name;
    return text;
}

/* The one key that says what an entry's block is; FE_KEY_none after an error, or when the entry is a group. */
static FeKey block_key(const Stack *s, const FeMap *entry, const FeNode *node, size_t errors_before) {
    SuDiags *diags = s->reader->diags;
    FeSectionRow row = fe_section_row(FE_SECTION_entry);
    FeKey found = FE_KEY_none;
    for (FeKey key = row.first; key < row.end; key++) {
        const FeValue *value = fe_value(entry, key);
        if (!holds_block(key) || value->state == FE_ABSENT) continue;
        if (found != FE_KEY_none) {
            su_report(diags, SU_CODE_bad_entry, value->key_span, "make it an entry of its own",
                      "an entry has one block, but '%s' follows '%s'", fe_key_row(key)->name, fe_key_row(found)->name);
            return FE_KEY_none;
        }
        found = key;
    }
    if (found == FE_KEY_none && diags->errors == errors_before)
        su_report(diags, SU_CODE_bad_entry, node->span, NULL, "a block needs one of the keys %s", block_keys(s->arena));
    return found;
}

static bool build_parallel(Stack *s, const FeValue *list, const char *path, FeBlock *out);

/* What a share says by itself; the rest is known when all blocks are. */
static bool build_share(const Stack *s, const FeValue *value, FeBlock *out) {
    static const FeEnds ends = FE_ENDS(share);
    size_t errors = s->reader->diags->errors;
    fe_complete(s->reader, value->map);
    FeMap *adapters = fe_child(value->map, FE_KEY_share_adapters);
    if (adapters) fe_complete(s->reader, adapters);
    FeShare *share = SU_NEW(s->arena, FeShare);
    *share = (FeShare){.map = value->map, .rank = adapters ? fe_integer(adapters, FE_KEY_adapters_rank) : 0};
    *out = (FeBlock){.share = share, .map = value->map, .span = value->key_span};
    fe_set_ends(out, value->map, &ends);
    return s->reader->diags->errors == errors;
}

/* The block that stands under `key` of an entry, which was written at `path`. Without a map it is broken. */
static bool build_entry(Stack *s, const FeMap *entry, FeKey key, const char *path, FeBlock *out) {
    const FeValue *value = fe_value(entry, key);
    if (value->state != FE_GIVEN) return false;
    if (key == FE_KEY_entry_parallel) return build_parallel(s, value, su_printf(s->arena, "%s.parallel", path), out);
    if (key == FE_KEY_entry_share) return build_share(s, value, out);
    FeBlockKind kind = 0;
    while (fe_kind_row(kind)->entry != key) kind++;
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

static bool build_define(Stack *s, const FePair *pair, FeBlock *out) {
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
    FeKey key = block_key(s, entry, node, errors);
    const char *path = su_printf(s->arena, "define.%s", pair->key);
    return key != FE_KEY_none && build_entry(s, entry, key, path, out) && diags->errors == errors;
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

/* ---- words ---- */

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

/* The block that a word stands for; without a map where it stands for none. */
static FeBlock word_block(const Stack *s, const FeNode *node) {
    SuDiags *diags = s->reader->diags;
    FeBlockKind kind;
    const Define *define = find_define(s, node->text);
    FeBlock block = {0};
    if (fe_find_kind(node->text, &kind)) {
        fe_build_block(s->load, kind, NULL, node->span, &block);
    } else if (define) {
        block = define->block; /* a broken one was reported at its definition */
        block.span = node->span;
    } else if (is_kind_word(node->text)) {
        su_report(diags, SU_CODE_bad_entry, node->span, NULL, "'%s' is no block by itself: write it as a map", node->text);
    } else {
        const char *near = nearest_word(s, node->text);
        const char *hint = near ? su_printf(s->arena, "did you mean '%s'?", near) : NULL;
        su_report(diags, SU_CODE_unknown_block, node->span, hint, "%s is neither a kind of block (%s) nor in define",
                  fe_quote(s->arena, node->text), fe_kind_words(s->arena, ", "));
    }
    return block;
}

/* ---- parallel ---- */

static bool no_branch(const Stack *s, SuSpan span, const char *what) {
    return su_report(s->reader->diags, SU_CODE_bad_entry, span, NULL, "a branch of parallel is a single block, not %s", what);
}

/* A branch that is written as a map; false after an error. */
static bool map_branch(Stack *s, const FeNode *node, const char *path, FeBlock *out) {
    size_t errors = s->reader->diags->errors;
    const FeMap *entry = fe_read_map(s->reader, node, FE_SECTION_entry, node->span);
    const FeValue *repeat = fe_value(entry, FE_KEY_entry_repeat), *blocks = fe_value(entry, FE_KEY_entry_blocks);
    const char *name = add_name(s, entry, OF_BRANCH);
    if (repeat->node || blocks->node) return no_branch(s, repeat->node ? repeat->key_span : blocks->key_span, "a group");
    FeKey key = block_key(s, entry, node, errors);
    if (key == FE_KEY_entry_parallel) return no_branch(s, fe_value(entry, key)->key_span, "another parallel");
    if (key == FE_KEY_entry_share) return no_branch(s, fe_value(entry, key)->key_span, "a share");
    if (key == FE_KEY_none || !build_entry(s, entry, key, path, out)) return false;
    out->name = name;
    return true;
}

static bool word_branch(const Stack *s, const FeNode *node, FeBlock *out) {
    *out = word_block(s, node);
    if (out->n_branches > 0) return no_branch(s, node->span, "another parallel");
    if (out->share) return no_branch(s, node->span, "a share");
    return out->map != NULL;
}

static bool build_branch(Stack *s, const FeNode *node, const char *path, FeBlock *out) {
    bool ok = false;
    *out = (FeBlock){0};
    if (node->kind == FE_SCALAR && !fe_node_empty(node))
        ok = word_branch(s, node, out);
    else if (node->kind == FE_MAPPING)
        ok = map_branch(s, node, path, out);
    else if (node->kind != FE_POISON)
        su_report(s->reader->diags, SU_CODE_bad_entry, node->span, NULL, "expected a block or a word, got %s",
                  fe_node_what(s->arena, node));
    out->path = path;
    return ok;
}

/* What holds for all branches together. */
static void sum_up(FeBlock *out) {
    bool all = false; /* some branch looks back on all positions */
    for (int64_t i = 0; i < out->n_branches; i++) {
        const FeBlock *branch = &out->branches[i];
        out->knows_order |= branch->knows_order;
        out->looks_back |= branch->looks_back;
        all |= branch->looks_back && branch->window == 0;
        if (branch->window > out->window) out->window = branch->window;
        if (!su_add(out->state_elements, branch->state_elements, &out->state_elements)) out->state_elements = UINT64_MAX;
    }
    if (all) out->window = 0;
}

static bool build_parallel(Stack *s, const FeValue *list, const char *path, FeBlock *out) {
    const FeKeyRow *row = fe_key_row(FE_KEY_entry_parallel);
    size_t errors = s->reader->diags->errors;
    const size_t n = list->node->count;
    if ((int64_t)n < row->least || (int64_t)n > row->most) {
        return su_report(s->reader->diags, SU_CODE_wrong_value, list->node->span, NULL,
                         "'parallel' has %zu block%s: expected %lld to %lld", n, n == 1 ? "" : "s", (long long)row->least,
                         (long long)row->most);
    }
    FeBlock *branches = SU_NEW_ARRAY(s->arena, FeBlock, n);
    bool ok = true;
    for (size_t i = 0; i < n; i++)
        ok &= build_branch(s, list->node->items[i], su_printf(s->arena, "%s[%zu]", path, i), &branches[i]);
    *out = (FeBlock){.span = list->key_span, .branches = branches, .n_branches = (int64_t)n, .input_scale = 1, .output_scale = 1};
    sum_up(out);
    return ok && s->reader->diags->errors == errors;
}

/* ---- stack ---- */

static void read_word(Stack *s, const FeNode *node, const char *path) {
    FeBlock block = word_block(s, node);
    block.path = path;
    add_block(s, &block, node->span);
}

static void read_entries(Stack *s, const FeNode *list, const char *path);

/* A group's blocks are read once and then copied: repeat repeats the shape. */
static void read_group(Stack *s, const FeMap *entry, const char *path) {
    SuDiags *diags = s->reader->diags;
    const FeValue *repeat = fe_value(entry, FE_KEY_entry_repeat), *blocks = fe_value(entry, FE_KEY_entry_blocks);
    add_name(s, entry, OF_GROUP);
    FeSectionRow row = fe_section_row(FE_SECTION_entry);
    for (FeKey key = row.first; key < row.end; key++) {
        const FeValue *value = fe_value(entry, key);
        if (holds_block(key) && value->node)
            su_report(diags, SU_CODE_misplaced_key, value->key_span, "move it into the group's blocks",
                      "a group has no '%s' of its own", fe_key_row(key)->name);
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
    bool repeats = repeat->state == FE_GIVEN && repeat->integer > 1;
    s->repeating += repeats;
    read_entries(s, blocks->node, su_printf(s->arena, "%s.blocks", path));
    s->repeating -= repeats;
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
    const char *name = add_name(s, entry, OF_BLOCK);
    FeKey key = block_key(s, entry, node, errors);
    if (key != FE_KEY_none) build_entry(s, entry, key, path, &block);
    block.name = name;
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
    if (fe_value(entry, FE_KEY_entry_repeat)->state != FE_ABSENT || fe_value(entry, FE_KEY_entry_blocks)->state != FE_ABSENT)
        read_group(s, entry, path);
    else
        read_block(s, entry, node, path, errors);
}

static void read_entries(Stack *s, const FeNode *list, const char *path) {
    for (size_t i = 0; i < list->count && !s->full && s->reader->diags->errors <= SU_MAX_ERRORS; i++)
        read_entry(s, list->items[i], su_printf(s->arena, "%s[%zu]", path, i));
}

/* ---- share ---- */

static bool has_broken(const FeMap *map) {
    FeSectionRow row = fe_section_row(map->section);
    for (FeKey key = row.first; key < row.end; key++) {
        const FeMap *child = fe_child(map, key);
        if (fe_broken(map, key) || (child && has_broken(child))) return true;
    }
    return false;
}

/* Why a share cannot repeat what is named, or NULL. */
static const char *why_not(const Stack *s, const Name *name) {
    const FeBlock *block = &s->blocks[name->block];
    if (name->what == OF_GROUP) return "is a group";
    if (name->what == OF_BRANCH) return "is a branch of a parallel";
    if (name->repeated) return "stands in a group that repeats";
    return block->share ? "is a share itself" : block->n_branches > 0 ? "is a parallel" : NULL;
}

static void unknown_name(const Stack *s, const FeValue *wanted) {
    const char **names = SU_NEW_ARRAY(s->arena, const char *, s->n_names + 1);
    for (size_t i = 0; i < s->n_names; i++) names[i] = s->names[i].name;
    const char *near = su_nearest(wanted->text, names, s->n_names);
    const char *hint = near ? su_printf(s->arena, "did you mean '%s'?", near) : NULL;
    fe_report_once(s->reader, SU_CODE_unknown_block, wanted->span, hint,
                   su_printf(s->arena, "'share.block': no block has the name %s", fe_quote(s->arena, wanted->text)));
}

static void resolve_share(const Stack *s, FeBlock *block) {
    const FeValue *wanted = block->share ? fe_value(block->share->map, FE_KEY_share_block) : NULL;
    if (!wanted || wanted->state != FE_GIVEN) return;
    const Name *name = find_name(s, wanted->text);
    if (!name) {
        unknown_name(s, wanted);
        return;
    }
    const char *why = why_not(s, name);
    if (why) {
        fe_report_once(s->reader, SU_CODE_unfit_value, wanted->span, "a share repeats a single block that stands once",
                       su_printf(s->arena, "'share.block': %s %s", fe_quote(s->arena, wanted->text), why));
        return;
    }
    FeBlock *other = &s->blocks[name->block];
    if (!other->map || has_broken(other->map) || has_broken(block->share->map)) return; /* reported */
    FeShare *share = SU_NEW(s->arena, FeShare);
    *share = *block->share;
    share->name = name->name;
    share->of = (int64_t)name->block;
    block->share = share;
    other->shared = true;
    fe_fill_share(s->load, block, other);
}

/* ---- the whole ---- */

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
    for (size_t i = 0; i < s.n_blocks; i++) resolve_share(&s, &s.blocks[i]);
    load->spec->blocks = s.blocks;
    load->spec->n_blocks = (int64_t)s.n_blocks;
    FeValue *flat = fe_value(load->file, FE_KEY_file_stack);
    flat->blocks = s.blocks;
    flat->n_blocks = (int64_t)s.n_blocks;
}
