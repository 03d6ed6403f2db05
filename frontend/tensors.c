/* The tensors of a checkpoint: the Weights table of the language, and how `mossc init` draws each (Fresh weights). */
#include <math.h>

#include "frontend/load.h"
#include "support/size.h"

static const uint64_t most_elements = (uint64_t)1 << 48;

typedef struct List {
    FeSpec *spec;
    FeTensor *items;
    size_t count, capacity;
    double deep; /* 1/sqrt(number of blocks) */
    /* The block that is being listed. */
    const FeBlock *block;
    int64_t index;
} List;

/* ---- adding ---- */

static FeTensor *add(List *l, const char *name, const int64_t *shape, int rank) {
    l->items = su_grow(&l->spec->arena, l->items, &l->capacity, l->count + 1, sizeof(FeTensor));
    FeTensor *t = &l->items[l->count++];
    *t = (FeTensor){.rank = rank, .block = l->index, .init_scale = 1.0, .init = FE_INIT_ZEROS};
    t->name = l->block ? su_printf(&l->spec->arena, "blocks.%lld.%s", (long long)l->index, name) : name;
    t->span = l->block ? l->block->span : l->spec->span;
    t->active = 1;
    for (int i = 0; i < rank; i++) {
        t->shape[i] = shape[i];
        if (__builtin_mul_overflow(t->active, shape[i], &t->active))
            t->active = INT64_MAX; /* far above the limit: fe_check_sizes refuses it */
    }
    return t;
}

/* How many of E experts a token uses. */
static int64_t busy_experts(const FeBlock *block) {
    bool update = block->kind == FE_SSM && block->experts.idle == FE_UPDATE;
    return update ? block->experts.count : block->router.top_k;
}

/* A tensor of the block; with a leading dimension E when each expert has its own. rows 0: one dimension only. */
static FeTensor *add_part(List *l, const char *name, bool per_expert, int64_t rows, int64_t columns) {
    int64_t shape[3], rank = 0;
    if (per_expert) shape[rank++] = l->block->experts.count;
    if (rows > 0) shape[rank++] = rows;
    shape[rank++] = columns;
    FeTensor *t = add(l, name, shape, (int)rank);
    t->per_expert = per_expert;
    if (per_expert && t->active != INT64_MAX) t->active = t->active / l->block->experts.count * busy_experts(l->block);
    return t;
}

static void fill(FeTensor *t, enum FeInit init) { t->init = init; }

static void uniform(FeTensor *t, int64_t fan) {
    t->init = FE_INIT_UNIFORM_FAN;
    t->fan = fan;
}

/* weight [rows, columns] of a *_proj and its bias [rows] */
static FeTensor *add_map(List *l, const char *name, bool per_expert, int64_t rows, int64_t columns, bool bias) {
    SuArena *arena = &l->spec->arena;
    if (bias)  /* made first, so that the returned pointer stays valid; then swapped behind the weight */
        add_part(l, su_printf(arena, "%s.bias", name), per_expert, 0, rows);
    FeTensor *weight = add_part(l, su_printf(arena, "%s.weight", name), per_expert, rows, columns);
    weight->narrow = true;
    uniform(weight, columns);
    if (bias) {
        FeTensor kept = *weight;
        *weight = weight[-1];
        *--weight = kept;
    }
    return weight;
}

/* ---- blocks ---- */

static void add_norm(List *l, const char *name, FeNormKind kind, int64_t width) {
    SuArena *arena = &l->spec->arena;
    fill(add(l, su_printf(arena, "%s.weight", name), &width, 1), FE_INIT_ONES);
    if (kind == FE_NORM_LAYER) fill(add(l, su_printf(arena, "%s.bias", name), &width, 1), FE_INIT_ZEROS);
}

static void add_router(List *l) {
    const FeBlock *block = l->block;
    bool inner = block->kind == FE_SSM && block->router.input == FE_ROUTER_INNER;
    int64_t width = inner ? block->ssm.d_inner : l->spec->d_model;
    if (block->experts.count == 0) return;
    fill(add_part(l, "router.weight", false, block->experts.count, width), FE_INIT_NORMAL);
    if (block->router.bias) fill(add_part(l, "router.bias", false, 0, block->experts.count), FE_INIT_ZEROS);
    if (block->router.select_bias) fill(add_part(l, "router.select_bias", false, 0, block->experts.count), FE_INIT_ZEROS);
}

static void add_ssm(List *l) {
    const FeSsm *s = &l->block->ssm;
    const int64_t D = l->spec->d_model, I = s->d_inner, N = s->d_state, R = s->dt_rank, W = s->d_conv;
    const uint32_t own = l->block->experts.count > 0 ? l->block->experts.per_expert : 0;
    add_map(l, "in_proj", own & FE_IN_PROJ, I, D, s->bias);
    add_map(l, "gate_proj", own & FE_GATE_PROJ, I, D, s->bias);
    uniform(add_part(l, "conv.weight", own & FE_CONV, I, W), W);
    if (s->conv_bias) uniform(add_part(l, "conv.bias", own & FE_CONV, 0, I), W);
    add_map(l, "x_proj", own & FE_X_PROJ, R + 2 * N, I, false);
    add_map(l, "dt_proj", own & FE_DT_PROJ, I, R, true)[1].init = FE_INIT_DT_BIAS;
    if (s->dt_norm) add_norm(l, "dt_norm", FE_NORM_RMS, R);
    if (s->b_norm) add_norm(l, "b_norm", FE_NORM_RMS, N);
    if (s->c_norm) add_norm(l, "c_norm", FE_NORM_RMS, N);
    fill(add_part(l, "A_log", own & FE_A, I, N), FE_INIT_A_LOG);
    fill(add_part(l, "D", own & FE_D, 0, I), FE_INIT_ONES);
    add_map(l, "out_proj", own & FE_OUT_PROJ, D, I, s->bias)->init_scale = l->deep;
}

/* Shared experts are stacked like others, but every token uses all of them. */
static void add_shared_map(List *l, const char *name, int64_t rows, int64_t columns, double scale) {
    SuArena *arena = &l->spec->arena;
    const int64_t shared = l->block->experts.shared;
    FeTensor *weight = add(l, su_printf(arena, "shared.%s.weight", name), (int64_t[]){shared, rows, columns}, 3);
    weight->narrow = true;
    uniform(weight, columns);
    weight->init_scale = scale;
    if (l->block->mlp.bias) fill(add(l, su_printf(arena, "shared.%s.bias", name), (int64_t[]){shared, rows}, 2), FE_INIT_ZEROS);
}

static bool is_gated(FeActivation activation) {
    return activation == FE_SWIGLU || activation == FE_GEGLU || activation == FE_GEGLU_TANH;
}

static void add_mlp(List *l) {
    const FeMlp *m = &l->block->mlp;
    const FeExperts *e = &l->block->experts;
    const int64_t D = l->spec->d_model;
    const bool own = e->count > 0, gated = is_gated(m->activation);
    if (gated) add_map(l, "gate_proj", own, m->d_ff, D, m->bias);
    add_map(l, "up_proj", own, m->d_ff, D, m->bias);
    add_map(l, "down_proj", own, D, m->d_ff, m->bias)->init_scale = l->deep;
    if (own && e->shared > 0) {
        if (gated) add_shared_map(l, "gate_proj", e->shared_d_ff, D, 1.0);
        add_shared_map(l, "up_proj", e->shared_d_ff, D, 1.0);
        add_shared_map(l, "down_proj", D, e->shared_d_ff, l->deep);
    }
}

static void add_attention(List *l) {
    const FeAttention *a = &l->block->attention;
    const int64_t D = l->spec->d_model, q = a->n_heads * a->head_dim, kv = a->n_kv_heads * a->head_dim;
    add_map(l, "q_proj", false, q, D, a->bias);
    add_map(l, "k_proj", false, kv, D, a->bias);
    add_map(l, "v_proj", false, kv, D, a->bias);
    add_map(l, "o_proj", false, D, q, a->bias)->init_scale = l->deep;
}

static void add_block(List *l, int64_t index) {
    l->index = index;
    l->block = &l->spec->blocks[index];
    add_norm(l, "norm", l->spec->norm.kind, l->spec->d_model);
    add_router(l);
    switch (l->block->kind) {
    case FE_SSM: add_ssm(l); return;
    case FE_MLP: add_mlp(l); return;
    case FE_ATTENTION: add_attention(l); return;
    }
}

/* ---- the whole ---- */

static void add_table(List *l, const char *name, SuSpan span, int64_t active_rows) {
    const FeSpec *spec = l->spec;
    FeTensor *t = add(l, name, (int64_t[]){spec->vocab_size, spec->d_model}, 2);
    t->narrow = true;
    t->span = span;
    t->active = active_rows * spec->d_model;
    fill(t, FE_INIT_NORMAL);
}

static void list_all(List *l, FeSpec *spec) {
    *l = (List){.spec = spec, .index = -1, .deep = 1.0 / sqrt((double)spec->n_blocks)};
    add_table(l, "embed.weight", spec->embed_span, spec->tie_embeddings ? spec->vocab_size : 1);
    add_norm(l, "final_norm", spec->final_norm.kind, spec->d_model);
    for (size_t i = 1; i < l->count; i++) l->items[i].span = spec->final_norm_span;
    if (!spec->tie_embeddings) add_table(l, "head.weight", spec->head_span, spec->vocab_size);
    for (int64_t i = 0; i < spec->n_blocks; i++) add_block(l, i);
}

const FeTensor *fe_tensors(FeSpec *spec, size_t *out_count) {
    List list;
    list_all(&list, spec);
    *out_count = list.count;
    return list.items;
}

static bool element_count(const FeTensor *t, uint64_t *out_count) {
    *out_count = 1;
    for (int i = 0; i < t->rank; i++)
        if (!su_mul(*out_count, (uint64_t)t->shape[i], out_count)) return false;
    return *out_count <= most_elements;
}

/* The largest state of a block: caches of all positions it may see, or a recurrence of every expert. */
static bool state_count(const FeSpec *spec, const FeBlock *block, uint64_t *out_count) {
    const FeAttention *a = &block->attention;
    bool heads = block->experts.count > 0 && block->experts.combine == FE_OUTPUTS;
    *out_count = 0;
    switch (block->kind) {
    case FE_MLP: return true;
    case FE_SSM:
        *out_count = (uint64_t)block->ssm.d_inner * (uint64_t)block->ssm.d_state; /* d_inner < 2^31, d_state <= 256 */
        if (heads && !su_mul(*out_count, (uint64_t)block->experts.count, out_count)) return false;
        break;
    case FE_ATTENTION:
        *out_count = (uint64_t)(a->window > 0 ? a->window : spec->max_positions) * (uint64_t)a->n_kv_heads; /* both < 2^31 */
        if (!su_mul(*out_count, (uint64_t)a->head_dim, out_count)) return false;
        break;
    }
    return *out_count <= most_elements / 2; /* room for what an engine adds: padding, the rows of a step */
}

static bool check_states(const FeSpec *spec, SuDiags *diags) {
    uint64_t count;
    for (int64_t i = 0; i < spec->n_blocks; i++) {
        const FeBlock *block = &spec->blocks[i];
        if (state_count(spec, block, &count)) continue;
        const char *hint = block->kind == FE_ATTENTION ? "a smaller window or max_positions needs less" : NULL;
        return su_error(diags, block->span, hint, "overflow: the state of a sequence in %s has more than 2^47 elements",
                        block->path);
    }
    return true;
}

bool fe_check_sizes(FeSpec *spec, SuDiags *diags) {
    if (!check_states(spec, diags)) return false;
    List list;
    uint64_t total = 0, count;
    list_all(&list, spec);
    for (size_t i = 0; i < list.count; i++) {
        const FeTensor *t = &list.items[i];
        if (!element_count(t, &count))
            return su_error(diags, t->span, NULL, "overflow: tensor %s has more than 2^48 elements", t->name);
        total += count; /* at most 2^48 times the number of tensors, which is below 2^15 · 2^5 */
        if (total > most_elements)
            return su_error(diags, t->span, NULL, "overflow: the tensors up to %s have more than 2^48 elements in all", t->name);
    }
    return true;
}
