/* What the table of keys promises for each of its rows: it is a part of the hash and of the printed spec, or says that it is
 * not. Arguments: a directory of specs, a file with their hashes, a directory with good specs of tests. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include <cjson/cJSON.h>

#include "frontend/lower.h"
#include "support/file.h"
#include "tests/frontend/helpers.h"
#include "tests/random/draw.h"

static const char *spec_directory, *hash_file, *good_directory;

/* ---- comparing specs by the table ---- */

static void compare_maps(const FeMap *a, const FeMap *b);

static void compare_values(FeKey key, const FeValue *a, const FeValue *b) {
    if (a->state != b->state || a->word != b->word || a->integer != b->integer || a->real != b->real || a->high != b->high ||
        a->bits != b->bits)
        fail_msg("%s differs", fe_key_row(key)->name);
    switch (fe_key_row(key)->type) {
    case FE_T_MODEL_NAME:
    case FE_T_NAME:
    case FE_T_TEXT:
    case FE_T_TOKEN:
    case FE_T_DECIMAL:
    case FE_T_TOKENS:
        assert_int_equal(a->n_tokens, b->n_tokens);
        for (int64_t i = 0; i < a->n_tokens; i++) {
            assert_int_equal(a->tokens[i].id, b->tokens[i].id);
            assert_int_equal(!a->tokens[i].text, !b->tokens[i].text);
            if (a->tokens[i].text) assert_string_equal(a->tokens[i].text, b->tokens[i].text);
        }
        assert_int_equal(!a->text, !b->text);
        if (a->text) assert_string_equal(a->text, b->text);
        break;
    case FE_T_MAP:
    case FE_T_MAP_OR_NONE:
        assert_int_equal(!a->map, !b->map);
        if (a->map) compare_maps(a->map, b->map);
        break;
    case FE_T_INT:
    case FE_T_INT_OR_WORD:
    case FE_T_REAL:
    case FE_T_REAL_OR_WORD:
    case FE_T_BOOL:
    case FE_T_WORD:
    case FE_T_WORDS:
    case FE_T_LIMITS:
    case FE_T_ENTRIES:
    case FE_T_DEFINES:
    case FE_T_RESERVED: break;
    }
}

static void compare_maps(const FeMap *a, const FeMap *b) {
    assert_int_equal(a->section, b->section);
    FeSectionRow row = fe_section_row(a->section);
    for (FeKey key = row.first; key < row.end; key++) compare_values(key, fe_value(a, key), fe_value(b, key));
}

/* The text of the naive graph, without the places of its operations (" !17:9" behind a line). */
static char *lowered(FeSpec *spec) {
    SuArena arena = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    ir_print(fe_lower(spec, &arena), out);
    fclose(out);
    su_arena_free(&arena);
    char *to = text;
    for (const char *from = text; *from; *to++ = *from++)
        if (from[0] == ' ' && from[1] == '!') from += strcspn(from, "\n");
    *to = '\0';
    return text;
}

static void compare_blocks(const FeBlock *a, const FeBlock *b) {
    assert_int_equal(a->n_branches, b->n_branches);
    for (int64_t i = 0; i < a->n_branches; i++) compare_blocks(&a->branches[i], &b->branches[i]);
    if (a->n_branches > 0) return;
    assert_int_equal(a->kind, b->kind);
    compare_maps(a->map, b->map);
    assert_int_equal(!a->share, !b->share);
    if (!a->share) return;
    compare_maps(a->share->map, b->share->map);
    assert_int_equal(a->share->of, b->share->of);
}

static void compare_specs(FeSpec *a, FeSpec *b) {
    compare_maps(a->map, b->map);
    assert_int_equal(a->n_blocks, b->n_blocks);
    for (int64_t i = 0; i < a->n_blocks; i++) compare_blocks(&a->blocks[i], &b->blocks[i]);
    assert_memory_equal(a->hash, b->hash, sizeof a->hash);
    char *left = lowered(a), *right = lowered(b);
    assert_string_equal(left, right);
    free(left);
    free(right);
}

/* `spec` printed and read again, in both languages. */
static void check_reads_back(FeSpec *spec) {
    SuText yaml = {0}, json = {0};
    fe_print_spec(spec, &yaml);
    fe_print_spec_json(spec, &json);
    cJSON *parsed = cJSON_ParseWithOpts(json.text, NULL, true);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(parsed, "stack")), spec->n_blocks);
    cJSON_Delete(parsed);
    Loaded from_yaml = load_good(yaml.text), from_json = load_good(json.text);
    compare_specs(spec, &from_yaml.spec);
    compare_specs(spec, &from_json.spec);
    unload(&from_yaml);
    unload(&from_json);
    su_text_free(&yaml);
    su_text_free(&json);
}

/* Calls `check` for every spec of a directory whose name begins with `prefix`. */
static int each_spec(const char *directory, const char *prefix, void (*check)(const char *name, FeSpec *spec)) {
    DIR *dir = opendir(directory);
    int count = 0;
    assert_non_null(dir);
    for (const struct dirent *entry; (entry = readdir(dir));) {
        const char *end = strrchr(entry->d_name, '.');
        if (!end || strcmp(end, ".yaml") != 0 || strncmp(entry->d_name, prefix, strlen(prefix)) != 0) continue;
        char path[1024];
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        Loaded l = {0};
        if (!fe_spec_load(path, NULL, 0, &l.spec, &l.diags)) fail_msg("%s is no good spec", path);
        check(entry->d_name, &l.spec);
        unload(&l);
        count++;
    }
    closedir(dir);
    return count;
}

static void reads_back(const char *name, FeSpec *spec) {
    (void)name;
    if (spec->n_blocks < 1000) check_reads_back(spec); /* more of the same takes seconds */
}

static void shipped_specs_read_back(void **state) {
    (void)state;
    assert_true(each_spec(spec_directory, "", reads_back) > 0);
    assert_true(each_spec(good_directory, "good_", reads_back) > 0);
}

static void drawn_specs_read_back(void **state) {
    (void)state;
    enum { DRAWS = 200 };
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        SuText text = {0};
        draw_spec(seed, draw_weights_of(seed), &text);
        Loaded l = load_good(text.text);
        check_reads_back(&l.spec);
        unload(&l);
        su_text_free(&text);
    }
}

static void texts_with_rare_characters_read_back(void **state) {
    (void)state;
    Loaded l = load_good(HEAD "tokenizer: {kind: bpe, file: \"a\\\"\\\\\\t\\x7F\\x85\\u2028\\uFEFF\\u00E9\\U0001F600.json\", "
                              "bos: \"\\x01\\n\", eos: \"  \"}\nstack: [ssm]\n");
    check_reads_back(&l.spec);
    unload(&l);
}

/* ---- hashes ---- */

static char *golden; /* lines of "hash name" */

static void has_its_hash(const char *name, FeSpec *spec) {
    char line[512];
    for (int i = 0; i < 16; i++) snprintf(line + 2 * i, 3, "%02x", spec->hash[i]);
    snprintf(line + 32, sizeof line - 32, " %s\n", name);
    if (!strstr(golden, line)) fail_msg("the hash of %s is not as in the list: %s", name, line);
}

/* Packed weights and states carry the hash: what was valid keeps it for ever. */
static void hashes_stay(void **state) {
    (void)state;
    Loaded l = {0};
    size_t size;
    assert_true(su_read_file(&l.spec.arena, hash_file, 1 << 20, &golden, &size, &l.diags));
    int count = each_spec(spec_directory, "", has_its_hash) + each_spec(good_directory, "good_", has_its_hash), lines = 0;
    for (const char *at = golden; *at; at++) lines += *at == '\n';
    assert_int_equal(count, lines);
    unload(&l);
}

/* Specs in which every key of the table has a place and a meaning. */
static const char *const base_specs[] = {
    HEAD "norm: {kind: rms, eps: 1e-5}\nfinal_norm: {kind: layer, eps: 2e-5}\nmax_positions: 64\nlogit_scale: 2\n"
         "tokenizer: {kind: bpe, file: a.json, bos: 1, eos: none}\n"
         "stack:\n"
         "  - ssm: {d_inner: 96, dt_rank: 3, inner_norm_eps: 1e-4, experts: {count: 4, per_expert: [A]}, router: {top_k: 2, "
         "groups: {count: 2, top: 2}}}\n"
         "  - ssm: {expand: 2, experts: {count: 4, per_expert: [A, D], combine: params}}\n"
         "  - mlp: {d_ff: 32, experts: {count: 4, shared: 2, shared_d_ff: 24}}\n"
         "  - mlp: {expand: 2}\n"
         "  - attention: {n_heads: 8, n_kv_heads: 2, head_dim: 8, window: 16, rope: {theta: 500, dim: 4, scaling: {kind: llama3, "
         "factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_positions: 32}}}\n"
         "  - parallel: [shortconv, {ssm: {b_norm: rms}}]\n"
         "  - {name: base, ssm: {dt_norm: rms}}\n"
         "  - share: {block: base, adapters: {rank: 4, targets: [in_proj]}, own: [A]}\n",
    HEAD "stack: [ssm, {attention: {n_heads: 4}}]\n",
    HEAD "stack: [{ssm: {kind: mamba2, head_dim: 8, n_groups: 2, norm_groups: 4}}]\n",
    HEAD "stack: [{ssm: {kind: mamba3, head_dim: 8, n_groups: 2, mimo_rank: 2, rope_fraction: 1.0, a_floor: 0.01}}]\n",
    HEAD "tie_embeddings: false\nweights: {dtype: q4, overrides: {embed: f32}}\n"
         "stack: [ssm, {ssm: {kind: mamba2}}, {ssm: {kind: mamba3}}, {attention: {n_heads: 4}}, shortconv, "
         "{mlp: {d_ff: 16, experts: {count: 2, shared: 1, latent: 16}}}]\n",
};

typedef struct Change {
    const char *text;   /* the spec */
    const char *places[FE_KEY_none * 8];
    FeKey keys[FE_KEY_none * 8];
    size_t count;
    SuArena arena;
    int changed[FE_KEY_none]; /* values of a key that were good specs of another hash */
} Change;

static void add_places(Change *c, const FeMap *map, const char *path) {
    FeSectionRow row = fe_section_row(map->section);
    for (FeKey key = row.first; key < row.end; key++) {
        const FeValue *value = fe_value(map, key);
        assert_true(c->count < sizeof c->keys / sizeof *c->keys);
        c->places[c->count] = su_printf(&c->arena, "%s%s%s", path, *path ? "." : "", fe_key_row(key)->name);
        c->keys[c->count] = key;
        if (value->state == FE_GIVEN && value->map)
            add_places(c, value->map, c->places[c->count++]);
        else
            c->count++;
    }
}

static void add_block_places(Change *c, const FeBlock *block) {
    for (int64_t i = 0; i < block->n_branches; i++) add_block_places(c, &block->branches[i]);
    if (block->n_branches > 0) return;
    const FeMap *map = block->share ? block->share->map : block->map;
    add_places(c, map, su_printf(&c->arena, "%s.%s", block->path, block->share ? "share" : fe_block_word(block)));
}

static void try_value(Change *c, const FeSpec *base, FeKey key, const char *place, const char *value) {
    const char *set = su_printf(&c->arena, "%s=%s", place, value);
    Loaded l = load_with(c->text, &set, 1);
    bool same = l.ok && memcmp(l.spec.hash, base->hash, sizeof base->hash) == 0;
    c->changed[key] += l.ok && !same;
    if (l.ok && same) { /* then the value was the same already, or means nothing here */
        SuText before = {0}, after = {0};
        fe_print_spec(base, &before);
        fe_print_spec(&l.spec, &after);
        if (strcmp(before.text, after.text) != 0) fail_msg("--set %s changes the model, but not its hash", set);
        su_text_free(&before);
        su_text_free(&after);
    }
    unload(&l);
}

/* Tries several values, of which some will be good and other than what is there. */
static void try_values(Change *c, const FeSpec *base, FeKey key, const char *place) {
    const FeKeyRow *row = fe_key_row(key);
    static const char *const integers[] = {"1", "2", "3", "4", "5", "6", "8", "16", "77", "256"};
    static const char *const reals[] = {"0.5", "1.0", "1.5", "3e-6"};
    static const char *const decimals[] = {"1", "2", "3", "0.5"};
    static const char *const texts[] = {"b.json", "\"c d\""};
    static const char *const limits[] = {"none", "[0, none]", "[0.001, 0.1]", "[0.001, 0.2]"};
    static const char *const tokens[] = {"none", "0", "7", "\"7\"", "\"<s>\""};
    static const char *const lists_of_tokens[] = {"[7, 8]", "[8, 7]", "[\"<s>\", 7]", "[none, 0]", "[3, 3]"};
    const char *word;
    int size;
    bool reserved;
#define TRY(list)                                                                                                                  \
    for (size_t i = 0; i < sizeof(list) / sizeof *(list); i++) try_value(c, base, key, place, (list)[i])
    switch (row->type) {
    case FE_T_INT_OR_WORD: try_value(c, base, key, place, row->words); /* fall through */
    case FE_T_INT: TRY(integers); break;
    case FE_T_REAL_OR_WORD: try_value(c, base, key, place, row->words); /* fall through */
    case FE_T_REAL: TRY(reals); break;
    case FE_T_DECIMAL: TRY(decimals); break;
    case FE_T_BOOL:
        try_value(c, base, key, place, "true");
        try_value(c, base, key, place, "false");
        break;
    case FE_T_WORD:
    case FE_T_WORDS:
        for (int i = 0; fe_word_at(row->words, i, &word, &size, &reserved); i++)
            try_value(c, base, key, place, su_printf(&c->arena, row->type == FE_T_WORDS ? "[%.*s]" : "%.*s", size, word));
        break;
    case FE_T_TEXT: TRY(texts); break;
    case FE_T_TOKEN: TRY(tokens); break;
    case FE_T_TOKENS:
        TRY(tokens);
        TRY(lists_of_tokens);
        break;
    case FE_T_LIMITS: TRY(limits); break;
    case FE_T_MAP_OR_NONE: try_value(c, base, key, place, "none"); break;
    case FE_T_MODEL_NAME:
    case FE_T_NAME: try_value(c, base, key, place, "another"); break;
    case FE_T_MAP:
    case FE_T_ENTRIES:
    case FE_T_DEFINES:
    case FE_T_RESERVED: break;
    }
#undef TRY
}

/* A key of one value, of a map's name alone, or that the table says is no part of the model. Some kinds cannot change without
 * other keys. */
static bool cannot_change(FeKey key) {
    const FeKeyRow *row = fe_key_row(key);
    if (key == FE_KEY_tokenizer_kind || key == FE_KEY_rope_scaling_kind) return true;
    bool container = row->type == FE_T_MAP || row->type == FE_T_ENTRIES || row->type == FE_T_DEFINES || row->type == FE_T_RESERVED;
    return container || fe_hash_form(key) == FE_HASH_NEVER || fe_only_word(row) ||
           (row->type == FE_T_INT && row->least == row->most);
}

static void every_key_changes_the_hash(void **state) {
    (void)state;
    static Change c;
    for (size_t i = 0; i < sizeof base_specs / sizeof *base_specs; i++) {
        c.text = base_specs[i];
        c.count = 0;
        Loaded base = load_good(c.text);
        add_places(&c, base.spec.map, "");
        for (int64_t b = 0; b < base.spec.n_blocks; b++) {
            const FeBlock *block = &base.spec.blocks[b];
            add_block_places(&c, block);
        }
        for (size_t p = 0; p < c.count; p++)
            if (fe_hash_form(c.keys[p]) != FE_HASH_NEVER) try_values(&c, &base.spec, c.keys[p], c.places[p]);
        unload(&base);
    }
    for (FeKey key = 0; key < FE_KEY_none; key++)
        if (!cannot_change(key) && fe_key_row(key)->section != FE_SECTION_entry && c.changed[key] == 0)
            fail_msg("no value of %s changes the hash", fe_key_name(&c.arena, key));
    su_arena_free(&c.arena);
}

static bool same_hash(const char *left, const char *right) {
    Loaded a = load_good(left), b = load_good(right);
    bool same = memcmp(a.spec.hash, b.spec.hash, sizeof a.spec.hash) == 0;
    unload(&a);
    unload(&b);
    return same;
}

/* The keys of an entry say which blocks there are. */
static void blocks_change_the_hash(void **state) {
    (void)state;
    assert_false(same_hash(HEAD "stack: [{repeat: 2, blocks: [ssm]}]\n", HEAD "stack: [{repeat: 3, blocks: [ssm]}]\n"));
    assert_true(same_hash(HEAD "stack: [{repeat: 2, blocks: [ssm]}]\n", HEAD "stack: [{name: a, ssm: {}}, ssm]\n"));
    assert_false(same_hash(HEAD "stack: [ssm, {mlp: {d_ff: 8}}]\n", HEAD "stack: [{mlp: {d_ff: 8}}, ssm]\n"));
    assert_false(same_hash(HEAD "stack: [ssm, shortconv]\n", HEAD "stack: [{parallel: [ssm, shortconv]}]\n"));
    assert_false(same_hash(HEAD "stack: [{parallel: [shortconv, ssm]}]\n", HEAD "stack: [{parallel: [ssm, shortconv]}]\n"));
    assert_false(same_hash(HEAD "stack: [{parallel: [ssm, ssm]}, ssm, ssm]\n", HEAD "stack: [{parallel: [ssm, ssm, ssm]}, ssm]\n"));
    assert_true(same_hash(HEAD "stack: [{parallel: [{name: a, ssm: {}}, ssm]}]\n",
                          HEAD "define: {b: {parallel: [ssm, ssm]}}\nstack: [b]\n"));
    assert_false(same_hash(HEAD "stack: [{name: a, ssm: {}}, ssm]\n", HEAD "stack: [{name: a, ssm: {}}, {share: {block: a}}]\n"));
    assert_true(same_hash(HEAD "stack: [{name: a, ssm: {}}, {share: {block: a}}]\n",
                          HEAD "stack: [{name: b, ssm: {}}, {share: {block: b}}]\n"));
    assert_false(same_hash(HEAD "stack: [{name: a, ssm: {}}, ssm, {share: {block: a}}]\n",
                           HEAD "stack: [ssm, {name: a, ssm: {}}, {share: {block: a}}]\n"));
}

/* What weights.dtype says without them, and what nothing is left to be said of, is not hashed. */
static void weights_change_the_hash_where_they_have_effect(void **state) {
    (void)state;
    assert_true(same_hash(HEAD "stack: [ssm]\n", HEAD "weights: {overrides: {in_proj: f32}}\nstack: [ssm]\n"));
    assert_true(same_hash(HEAD "stack: [ssm]\n", HEAD "weights: {activations: f32}\nstack: [ssm]\n"));
    assert_false(same_hash(HEAD "stack: [ssm]\n", HEAD "weights: {overrides: {in_proj: q8}}\nstack: [ssm]\n"));
    assert_true(same_hash(HEAD "weights: {dtype: q4}\nstack: [ssm]\n",
                          HEAD "weights: {dtype: q4, overrides: {embed: q8, dt_proj: bf16, x_proj: q8}}\nstack: [ssm]\n"));
    assert_false(
        same_hash(HEAD "weights: {dtype: q8}\nstack: [ssm]\n", HEAD "weights: {dtype: q8, activations: f32}\nstack: [ssm]\n"));
    assert_true(same_hash(HEAD "tie_embeddings: false\nweights: {overrides: {embed: q8}}\nstack: [ssm]\n",
                          HEAD "tie_embeddings: false\nweights: {overrides: {embed: q8}, activations: f32}\nstack: [ssm]\n"));
    assert_false(same_hash(HEAD "weights: {overrides: {embed: q8}}\nstack: [ssm]\n",
                           HEAD "weights: {overrides: {embed: q8}, activations: f32}\nstack: [ssm]\n"));
}

/* What the table says about hashing can be done. */
static void rows_for_hashing_are_sound(void **state) {
    (void)state;
    for (FeKey key = 0; key < FE_KEY_none; key++) {
        const FeKeyRow *row = fe_key_row(key);
        FeKey after = fe_hash_after(key);
        if (after != FE_KEY_none) {
            assert_int_equal(fe_key_row(after)->section, row->section);
            assert_int_equal(fe_hash_after(after), FE_KEY_none);
        }
        if (fe_hash_form(key) == FE_HASH_CHANGED) assert_non_null(fe_fallback_value(row));
        if (fe_hash_form(key) == FE_HASH_WORD) assert_int_equal(row->type, FE_T_WORD);
        if (fe_hash_form(key) == FE_HASH_INLINE) assert_true(row->type == FE_T_MAP || row->type == FE_T_MAP_OR_NONE);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s SPECS HASHES GOOD_SPECS\n", argv[0]);
        return 2;
    }
    spec_directory = argv[1];
    hash_file = argv[2];
    good_directory = argv[3];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shipped_specs_read_back),
        cmocka_unit_test(drawn_specs_read_back),
        cmocka_unit_test(texts_with_rare_characters_read_back),
        cmocka_unit_test(hashes_stay),
        cmocka_unit_test(every_key_changes_the_hash),
        cmocka_unit_test(blocks_change_the_hash),
        cmocka_unit_test(weights_change_the_hash_where_they_have_effect),
        cmocka_unit_test(rows_for_hashing_are_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
