/* fe_spec_load: text → tree → --set → values by the table of keys → blocks under defaults → sizes → hash.
 *
 * Every stage reports all the mistakes that it can tell apart and passes on what is left; only a file that is no YAML map
 * stops the rest. */
#include "frontend/spec.h"

#include <string.h>

#include "frontend/load.h"
#include "support/digest.h"
#include "support/file.h"

/* ---- words ---- */

/* ---- the top level ---- */

#define KEY(section, key) FE_KEY_##section##_##key

/* The values of a map key, complete; an empty map where it is absent or broken. */
static FeMap *part(const FeLoad *load, FeKey key) {
    FeMap *map = fe_child(load->file, key);
    if (!map) map = fe_new_map(load->reader.arena, fe_key_row(key)->child, load->spec->span);
    fe_complete(&load->reader, map);
    fe_set_map(load->file, key, map);
    return map;
}

static void read_norms(FeLoad *load) {
    FeMap *norm = part(load, KEY(file, norm)), *final = part(load, KEY(file, final_norm));
    FeSpec *spec = load->spec;
    spec->norm = (FeNorm){(FeNormKind)fe_integer(norm, KEY(norm, kind)), fe_real(norm, KEY(norm, eps))};
    if (!fe_given(final, KEY(final_norm, kind))) fe_set_integer(final, KEY(final_norm, kind), spec->norm.kind);
    if (!fe_given(final, KEY(final_norm, eps))) fe_set_real(final, KEY(final_norm, eps), spec->norm.eps);
    spec->final_norm = (FeNorm){(FeNormKind)fe_integer(final, KEY(final_norm, kind)), fe_real(final, KEY(final_norm, eps))};
}

static void check_special(const FeLoad *load, FeKey key, const FeToken *token) {
    const char *name = fe_key_name(load->reader.arena, key);
    SuDiags *diags = load->reader.diags;
    if (token->text && load->spec->tokenizer.kind == FE_TOKENIZER_BYTES) {
        su_report(diags, SU_CODE_wrong_value, token->span, NULL,
                  "'%s': with kind: bytes a token is given by its id, not by its text", name);
    } else if (!token->text && load->spec->vocab_size > 0 && token->id >= load->spec->vocab_size) {
        su_report(diags, SU_CODE_unfit_value, token->span, NULL,
                  "'%s': expected an id below vocab_size, got %lld (vocab_size %lld)", name, (long long)token->id,
                  (long long)load->spec->vocab_size);
    }
}

static void read_specials(const FeLoad *load, const FeMap *map, FeTokenizer *t) {
    const FeValue *bos = fe_value(map, KEY(tokenizer, bos)), *eos = fe_value(map, KEY(tokenizer, eos));
    t->bos.id = -1;
    if (bos->state == FE_GIVEN && !bos->word) {
        t->bos = (FeToken){.id = bos->integer, .text = bos->text, .span = bos->span};
        check_special(load, KEY(tokenizer, bos), &t->bos);
    }
    if (eos->state != FE_GIVEN || eos->word) return;
    t->eos = eos->tokens;
    t->n_eos = eos->n_tokens;
    for (int64_t i = 0; i < t->n_eos; i++) check_special(load, KEY(tokenizer, eos), &t->eos[i]);
}

static void read_tokenizer(FeLoad *load) {
    const FeMap *map = part(load, KEY(file, tokenizer));
    const FeValue *kind = fe_value(map, KEY(tokenizer, kind)), *file = fe_value(map, KEY(tokenizer, file));
    FeTokenizer *t = &load->spec->tokenizer;
    SuDiags *diags = load->reader.diags;
    if (kind->state != FE_GIVEN) return;
    t->kind = (FeTokenizerKind)kind->integer;
    if (t->kind == FE_TOKENIZER_BYTES && file->node)
        su_report(diags, SU_CODE_misplaced_key, file->key_span, NULL, "'tokenizer.file' has no meaning with kind: bytes");
    if (t->kind == FE_TOKENIZER_BPE && file->state == FE_ABSENT)
        su_report(diags, SU_CODE_missing_key, map->span, NULL, "'tokenizer.file' is required with kind: bpe");
    read_specials(load, map, t);
    if (file->state == FE_GIVEN) t->file = su_beside(load->reader.arena, load->spec->source->path, file->text);
}

static SuSpan key_span(const FeLoad *load, FeKey key) {
    const FeValue *value = fe_value(load->file, key);
    return value->written ? value->key_span : load->spec->span;
}

static void read_top(FeLoad *load) {
    const FeMap *file = load->file;
    FeSpec *spec = load->spec;
    spec->name = fe_value(file, KEY(file, name))->text;
    spec->vocab_size = fe_given(file, KEY(file, vocab_size)) ? fe_value(file, KEY(file, vocab_size))->integer : 0;
    load->d_model_known = fe_given(file, KEY(file, d_model));
    spec->d_model = load->d_model_known ? fe_value(file, KEY(file, d_model))->integer : 16;
    spec->tie_embeddings = fe_value(file, KEY(file, tie_embeddings))->integer;
    spec->embedding_scale = fe_value(file, KEY(file, embedding_scale))->real;
    spec->logit_scale = fe_value(file, KEY(file, logit_scale))->real;
    spec->max_positions = fe_value(file, KEY(file, max_positions))->integer;
    fe_read_weights(spec, part(load, KEY(file, weights)));
    spec->embed_span = key_span(load, KEY(file, vocab_size));
    spec->head_span = key_span(load, KEY(file, tie_embeddings));
    spec->final_norm_span = key_span(load, KEY(file, final_norm));
}

/* ---- what holds for the whole ---- */

static void warn_positions(const FeLoad *load) {
    const FeSpec *spec = load->spec;
    for (int64_t i = 0; i < spec->n_blocks; i++)
        if (spec->blocks[i].knows_order) return;
    fe_report_once(&load->reader, SU_CODE_no_positions, fe_value(load->file, KEY(file, stack))->key_span,
                   "add an ssm block, or rope to an attention block",
                   "no block depends on positions: the order of tokens has no effect");
}

static void take_hash(FeSpec *spec) {
    SuText text = {0};
    fe_print_canonical(spec, &text);
    SuDigest digest = su_digest(text.text, text.size);
    memcpy(spec->hash, digest.bytes, sizeof spec->hash);
    su_text_free(&text);
}

static void load_tree(FeLoad *load, const FeNode *root, size_t errors) {
    SuDiags *diags = load->reader.diags;
    load->spec->span = root->count ? root->pairs[0].key_span : root->span;
    FeMap *file = fe_read_map(&load->reader, root, FE_SECTION_file, load->spec->span);
    fe_complete(&load->reader, file);
    load->file = file;
    load->defaults = fe_child(file, KEY(file, defaults));
    read_top(load);
    read_norms(load);
    read_tokenizer(load);
    fe_build_stack(load);
    fe_drop(file, KEY(file, define)); /* what they gave is in the blocks */
    fe_drop(file, KEY(file, defaults));
    load->spec->map = file;
    if (diags->errors == errors && fe_check_sizes(load->spec, diags) && fe_settle_weights(load)) {
        warn_positions(load);
        take_hash(load->spec);
    }
}

/* The tree of a source; NULL where it is no map. */
static FeNode *read_tree(SuArena *arena, const SuSource *source, SuDiags *diags) {
    FeNode *root = fe_yaml_parse(arena, source, 0, diags);
    if (!root || root->kind == FE_MAPPING) return root;
    if (root->kind != FE_POISON)
        su_report(diags, SU_CODE_not_yaml, root->span, NULL, "spec: expected a map of keys, got %s", fe_node_what(arena, root));
    return NULL;
}

static bool load_source(FeSpec *spec, const char *const *sets, size_t n_sets, SuDiags *diags) {
    FeLoad load = {.reader = {&spec->arena, diags}, .spec = spec};
    const size_t errors = diags->errors, first = diags->count;
    FeNode *root = read_tree(&spec->arena, spec->source, diags);
    if (!root) return false;
    for (size_t i = 0; i < n_sets; i++) fe_apply_set(&load.reader, root, sets[i]);
    load_tree(&load, root, errors);
    su_diags_sort(diags, first); /* they are found table by table */
    return diags->errors == errors;
}

/* ---- entry points ---- */

static SuSource *new_source(SuArena *arena, const char *path, const char *text, size_t size) {
    SuSource *source = SU_NEW(arena, SuSource);
    *source = (SuSource){su_strdup(arena, path), text, size};
    return source;
}

int64_t fe_position_bound(const FeSpec *spec) {
    for (int64_t i = 0; i < spec->n_blocks; i++)
        if (spec->blocks[i].looks_back && spec->blocks[i].window == 0) return spec->max_positions;
    return 0;
}

static bool spec_load_unguarded(const char *path, const char *const *sets, size_t n_sets, FeSpec *out_spec, SuDiags *diags) {
    char *text;
    size_t size;
    *out_spec = (FeSpec){0};
    if (!su_read_file(&out_spec->arena, path, FE_MAX_INPUT, &text, &size, diags)) return false;
    out_spec->source = new_source(&out_spec->arena, path, text, size);
    return load_source(out_spec, sets, n_sets, diags);
}

bool fe_spec_load(const char *path, const char *const *sets, size_t n_sets, FeSpec *out_spec, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "reading the spec")) {
        *out_spec = (FeSpec){0}; /* what it held is freed */
        return false;
    }
    bool result = spec_load_unguarded(path, sets, n_sets, out_spec, diags);
    su_guard_end(&guard);
    return result;
}

static bool spec_parse_unguarded(const char *name, const char *text, size_t size, const char *const *sets, size_t n_sets,
                                 FeSpec *out_spec, SuDiags *diags) {
    *out_spec = (FeSpec){0};
    if (size > FE_MAX_INPUT)
        return su_report(diags, SU_CODE_too_large, su_file_span(diags, name), NULL, "spec exceeds the limit of %d bytes",
                         FE_MAX_INPUT);
    out_spec->source = new_source(&out_spec->arena, name, su_strndup(&out_spec->arena, text, size), size);
    return load_source(out_spec, sets, n_sets, diags);
}

bool fe_spec_parse(const char *name, const char *text, size_t size, const char *const *sets, size_t n_sets, FeSpec *out_spec,
                   SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "reading the spec")) {
        *out_spec = (FeSpec){0}; /* what it held is freed */
        return false;
    }
    bool result = spec_parse_unguarded(name, text, size, sets, n_sets, out_spec, diags);
    su_guard_end(&guard);
    return result;
}

static bool base_load_unguarded(const char *path, FeBase *out, SuDiags *diags) {
    char *text;
    size_t size;
    const size_t errors = diags->errors;
    *out = (FeBase){0};
    if (!su_read_file(&out->arena, path, FE_MAX_INPUT, &text, &size, diags)) return false;
    out->source = new_source(&out->arena, path, text, size);
    out->root = read_tree(&out->arena, out->source, diags);
    return out->root && diags->errors == errors;
}

bool fe_base_load(const char *path, FeBase *out, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "reading the spec")) {
        *out = (FeBase){0}; /* what it held is freed */
        return false;
    }
    bool result = base_load_unguarded(path, out, diags);
    su_guard_end(&guard);
    return result;
}

void fe_base_free(FeBase *base) {
    su_arena_free(&base->arena);
    *base = (FeBase){0};
}

static bool spec_edited_unguarded(const FeBase *base, const FeEdit *edits, size_t n_edits, FeSpec *out_spec, SuDiags *diags) {
    *out_spec = (FeSpec){0};
    out_spec->source = base->source;
    FeLoad load = {.reader = {&out_spec->arena, diags}, .spec = out_spec};
    const size_t errors = diags->errors, first = diags->count;
    FeNode *root = fe_node_copy(&out_spec->arena, base->root);
    for (size_t i = 0; i < n_edits; i++) fe_apply_edit(&load.reader, root, &edits[i]);
    load_tree(&load, root, errors);
    su_diags_sort(diags, first);
    return diags->errors == errors;
}

bool fe_spec_edited(const FeBase *base, const FeEdit *edits, size_t n_edits, FeSpec *out_spec, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "reading the spec")) {
        *out_spec = (FeSpec){0}; /* what it held is freed */
        return false;
    }
    bool result = spec_edited_unguarded(base, edits, n_edits, out_spec, diags);
    su_guard_end(&guard);
    return result;
}

void fe_spec_free(FeSpec *spec) {
    su_arena_free(&spec->arena);
    *spec = (FeSpec){0};
}
