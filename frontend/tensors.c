/* The tensors of a checkpoint: the Weights table of the language, and how `mossc init` draws each (Fresh weights). */
#include <math.h>
#include <string.h>

#include "frontend/kinds.h"
#include "support/size.h"

static const uint64_t most_elements = (uint64_t)1 << 48;

/* ---- adding ---- */

FeTensor *fe_add_tensor(FeTensorList *l, const char *name, const int64_t *shape, int rank) {
    l->items = su_grow(&l->spec->arena, l->items, &l->capacity, l->count + 1, sizeof(FeTensor));
    FeTensor *t = &l->items[l->count++];
    *t = (FeTensor){.rank = rank, .block = l->index, .init_scale = 1.0, .init = FE_INIT_ZEROS};
    t->name = l->block ? su_printf(&l->spec->arena, "%s%s", l->prefix, name) : name;
    t->span = l->block ? l->block->span : l->spec->span;
    t->active = 1;
    for (int i = 0; i < rank; i++) {
        t->shape[i] = shape[i];
        if (__builtin_mul_overflow(t->active, shape[i], &t->active))
            t->active = INT64_MAX; /* far above the limit: fe_check_sizes refuses it */
    }
    return t;
}

FeTensor *fe_add_part(FeTensorList *l, const char *name, bool per_expert, int64_t rows, int64_t columns) {
    int64_t shape[3], rank = 0;
    if (per_expert) shape[rank++] = l->block->experts.count;
    if (rows > 0) shape[rank++] = rows;
    shape[rank++] = columns;
    FeTensor *t = fe_add_tensor(l, name, shape, (int)rank);
    t->per_expert = per_expert;
    if (per_expert && t->active != INT64_MAX) t->active = t->active / l->block->experts.count * l->block->experts.busy;
    return t;
}

void fe_draw_uniform(FeTensor *t, int64_t fan) {
    t->init = FE_INIT_UNIFORM_FAN;
    t->fan = fan;
}

void fe_name_weight(const FeTensorList *l, FeTensor *t, const char *map) {
    t->map = map;
    t->dtype = l->spec->weights.of[fe_find_weight(map)];
}

FeTensor *fe_add_linear(FeTensorList *l, const char *name, bool per_expert, int64_t rows, int64_t columns, bool bias) {
    SuArena *arena = &l->spec->arena;
    if (bias)  /* made first, so that the returned pointer stays valid; then swapped behind the weight */
        fe_add_part(l, su_printf(arena, "%s.bias", name), per_expert, 0, rows);
    FeTensor *weight = fe_add_part(l, su_printf(arena, "%s.weight", name), per_expert, rows, columns);
    fe_name_weight(l, weight, name);
    fe_draw_uniform(weight, columns);
    if (bias) {
        FeTensor kept = *weight;
        *weight = weight[-1];
        *--weight = kept;
    }
    return weight;
}

/* ---- blocks ---- */

void fe_add_norm(FeTensorList *l, const char *name, FeNormKind kind, int64_t width) {
    SuArena *arena = &l->spec->arena;
    fe_add_tensor(l, su_printf(arena, "%s.weight", name), &width, 1)->init = FE_INIT_ONES;
    if (kind == FE_NORM_LAYER) fe_add_tensor(l, su_printf(arena, "%s.bias", name), &width, 1)->init = FE_INIT_ZEROS;
}

void fe_add_router(FeTensorList *l, int64_t width) {
    const FeBlock *block = l->block;
    if (block->experts.count == 0) return;
    fe_add_part(l, "router.weight", false, block->experts.count, width)->init = FE_INIT_NORMAL;
    if (block->router.bias) fe_add_part(l, "router.bias", false, 0, block->experts.count)->init = FE_INIT_ZEROS;
    if (block->router.select_bias) fe_add_part(l, "router.select_bias", false, 0, block->experts.count)->init = FE_INIT_ZEROS;
}

/* A and B of the adapter of one map, whose weight is given: a pair for each of its planes. */
static void add_adapter(FeTensorList *l, const char *map, const FeTensor *weight) {
    const int64_t r = l->block->share->rank, *dim = weight->shape + weight->rank - 2; /* out, in */
    const int64_t planes = weight->rank > 2 ? weight->shape[0] : 1, busy = weight->active / dim[0] / dim[1];
    const int64_t shapes[2][3] = {{planes, r, dim[1]}, {planes, dim[0], r}};
    for (int i = 0; i < 2; i++) {
        const int lone = weight->rank == 2;
        FeTensor *t =
            fe_add_tensor(l, su_printf(&l->spec->arena, "adapters.%s.%s", map, i ? "B" : "A"), shapes[i] + lone, 3 - lone);
        t->dtype = l->spec->weights.adapters;
        t->per_expert = weight->per_expert;
        if (t->active != INT64_MAX) t->active = t->active / planes * busy;
        if (i == 0) fe_draw_uniform(t, dim[1]);
    }
}

/* The other block's tensors are listed as this one's own; those that are not go again, and adapters follow. */
static void add_own(FeTensorList *l, const FeBlock *block) {
    const size_t first = l->count, skip = strlen(l->prefix);
    fe_kind_row(block->kind)->kind->tensors(l, block);
    const size_t end = l->count;
    for (size_t i = first; i < end; i++) {
        const FeTensor weight = l->items[i]; /* the list moves as it grows */
        if (weight.map && fe_share_adapts(block->share, weight.map)) add_adapter(l, weight.map, &weight);
    }
    size_t kept = first;
    for (size_t i = first; i < l->count; i++)
        if (i >= end || fe_share_owns(block->share, l->items[i].name + skip)) l->items[kept++] = l->items[i];
    l->count = kept;
}

/* What a block computes with, but for the norm before it. */
static void add_parts(FeTensorList *l, const FeBlock *block) {
    l->block = block;
    if (block->share)
        add_own(l, block);
    else
        fe_kind_row(block->kind)->kind->tensors(l, block);
    if (block->out_norm) fe_add_norm(l, "out_norm", FE_NORM_RMS, l->spec->d_model);
}

FeTensorList fe_list_parts(FeSpec *spec, const FeBlock *block) {
    FeTensorList list = {.spec = spec, .block = block, .index = -1, .prefix = "", .deep = 1};
    fe_kind_row(block->kind)->kind->tensors(&list, block);
    return list;
}

static void add_block(FeTensorList *l, int64_t index) {
    SuArena *arena = &l->spec->arena;
    const FeBlock *block = &l->spec->blocks[index];
    const char *prefix = su_printf(arena, "blocks.%lld.", (long long)index);
    l->index = index;
    l->block = block;
    l->prefix = prefix;
    fe_add_norm(l, "norm", l->spec->norm.kind, l->spec->d_model);
    if (block->n_branches == 0) add_parts(l, block);
    for (int64_t j = 0; j < block->n_branches; j++) {
        l->prefix = su_printf(arena, "%sbranches.%lld.", prefix, (long long)j);
        add_parts(l, &block->branches[j]);
    }
}

/* ---- the whole ---- */

static void add_table(FeTensorList *l, const char *name, SuSpan span, int64_t active_rows) {
    FeSpec *spec = l->spec;
    const char *weight = su_printf(&spec->arena, "%s.weight", name);
    FeTensor *t = fe_add_tensor(l, weight, (int64_t[]){spec->vocab_size, spec->d_model}, 2);
    fe_name_weight(l, t, name);
    t->span = span;
    t->active = active_rows * spec->d_model;
    t->init = FE_INIT_NORMAL;
}

FeTensorList fe_list_tensors(FeSpec *spec) {
    FeTensorList list = {.spec = spec, .index = -1, .prefix = "", .deep = 1.0 / sqrt((double)spec->n_blocks)}, *l = &list;
    add_table(l, "embed", spec->embed_span, spec->tie_embeddings ? spec->vocab_size : 1);
    fe_add_norm(l, "final_norm", spec->final_norm.kind, spec->d_model);
    for (size_t i = 1; i < l->count; i++) l->items[i].span = spec->final_norm_span;
    if (!spec->tie_embeddings) add_table(l, "head", spec->head_span, spec->vocab_size);
    for (int64_t i = 0; i < spec->n_blocks; i++) add_block(l, i);
    return list;
}

const FeTensor *fe_tensors(FeSpec *spec, size_t *out_count) {
    if (!spec->tensors) {
        FeTensorList list = fe_list_tensors(spec);
        spec->n_tensors = list.count;
        spec->tensors = list.items;
    }
    *out_count = spec->n_tensors;
    return spec->tensors;
}

static bool element_count(const FeTensor *t, uint64_t *out_count) {
    *out_count = 1;
    for (int i = 0; i < t->rank; i++)
        if (!su_mul(*out_count, (uint64_t)t->shape[i], out_count)) return false;
    return *out_count <= most_elements;
}

static bool check_states(const FeSpec *spec, SuDiags *diags) {
    for (int64_t i = 0; i < spec->n_blocks; i++) {
        const FeBlock *block = &spec->blocks[i];
        if (block->state_elements <= most_elements / 2) continue; /* room for what an engine adds: padding, the rows of a step */
        const char *hint = block->looks_back ? "reduce the window or max_positions" : NULL;
        return su_report(diags, SU_CODE_overflow, block->span, hint, "overflow: state of a sequence in %s exceeds 2^47 elements",
                         block->path);
    }
    return true;
}

bool fe_check_sizes(FeSpec *spec, SuDiags *diags) {
    if (!check_states(spec, diags)) return false;
    FeTensorList list = fe_list_tensors(spec);
    uint64_t total = 0, count;
    for (size_t i = 0; i < list.count; i++) {
        const FeTensor *t = &list.items[i];
        if (!element_count(t, &count))
            return su_report(diags, SU_CODE_overflow, t->span, NULL, "overflow: tensor %s exceeds 2^48 elements", t->name);
        total += count; /* at most 2^48 times the number of tensors, which is below 2^15 · 2^5 */
        if (total > most_elements)
            return su_report(diags, SU_CODE_overflow, t->span, NULL, "overflow: tensors up to %s exceed 2^48 elements in total",
                             t->name);
    }
    return true;
}
