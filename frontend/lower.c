/* Lowering, literally: each function below follows one set of equations of docs/language.md, one operation per operator.
 *
 * Two choices the equations leave open are made here once, and docs/bits.md states them: a linear map whose weights are mixed
 * (combine: params) is written as the gated sum of the experts' maps, which is the same by linearity; and every expert is
 * computed densely, since choosing what not to compute is route fusion's work. */
#include "frontend/lower.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ir/program.h" /* PG_MAX_ROWS: what a windowed cache must hold beside the window */
#include "support/size.h"

typedef struct Lower {
    FeSpec *spec;
    IrBuilder b;
    const FeTensor *tensors;
    size_t n_tensors;
    size_t block_first; /* first tensor of the block being lowered */
} Lower;

/* What a router gives to the rest of its block. */
typedef struct Route {
    IrValueId experts; /* i32[R,k] */
    IrValueId gates;   /* f32[R,k] */
} Route;

/* ---------------------------------------------------------------------------------------------- shorthands */

static IrValueId op1(Lower *l, IrOp op, IrValueId x) { return ir_op1(&l->b, op, x, IR_NONE, IR_NONE); }
static IrValueId op2(Lower *l, IrOp op, IrValueId x, IrValueId y) { return ir_op1(&l->b, op, x, y, IR_NONE); }
static IrValueId op3(Lower *l, IrOp op, IrValueId x, IrValueId y, IrValueId z) { return ir_op1(&l->b, op, x, y, z); }

static const FeTensor *find_tensor(const Lower *l, const char *name) {
    for (size_t i = l->block_first; i < l->n_tensors; i++)
        if (strcmp(l->tensors[i].name, name) == 0) return &l->tensors[i];
    for (size_t i = 0; i < l->block_first; i++)
        if (strcmp(l->tensors[i].name, name) == 0) return &l->tensors[i];
    SU_BUG("no tensor named %s in the checkpoint table", name);
}

static IrDtype stored_dtype(const Lower *l, const FeTensor *tensor) {
    if (!tensor->narrow) return IR_F32;
    switch (l->spec->weights_dtype) {
    case FE_F32: return IR_F32;
    case FE_BF16: return IR_BF16;
    case FE_F16: return IR_F16;
    }
    return IR_F32;
}

/* The weight `part` ("x_proj.weight") of the block in hand, or a tensor outside the blocks by its whole name. */
static IrValueId weight_as(Lower *l, const char *part, IrTransform transform) {
    char name[160];
    if (l->b.block >= 0)
        snprintf(name, sizeof name, "blocks.%d.%s", l->b.block, part);
    else
        snprintf(name, sizeof name, "%s", part);
    const FeTensor *tensor = find_tensor(l, name);
    IrType type = {.dtype = stored_dtype(l, tensor), .rank = tensor->rank};
    for (int i = 0; i < tensor->rank; i++) type.dim[i] = tensor->shape[i];
    return ir_weight(l->b.graph, tensor->name, type, transform);
}

static IrValueId weight(Lower *l, const char *part) { return weight_as(l, part, IR_AS_IS); }

/* Weight or bias of a map: weight_of(l, "in_proj", "weight"). */
static IrValueId weight_of(Lower *l, const char *map, const char *what) {
    char part[96];
    snprintf(part, sizeof part, "%s.%s", map, what);
    return weight(l, part);
}

static IrValueId state(Lower *l, const char *what, IrType type) {
    char name[96];
    snprintf(name, sizeof name, "blocks.%d.%s", l->b.block, what);
    return ir_state(l->b.graph, name, type);
}

static IrValueId slice(Lower *l, IrValueId x, int64_t start, int64_t count) {
    return ir_op1_attrs(&l->b, IR_OP_slice, x, IR_NONE, IR_NONE,
                        (IrAttr[]){[IR_SLICE_start] = {.i = start}, [IR_SLICE_count] = {.i = count}});
}

static IrValueId activation(Lower *l, FeActivation kind, IrValueId x) {
    switch (kind) {
    case FE_SILU:
    case FE_SWIGLU: return op1(l, IR_OP_silu, x);
    case FE_GELU:
    case FE_GEGLU: return op1(l, IR_OP_gelu, x);
    case FE_GELU_TANH:
    case FE_GEGLU_TANH: return op1(l, IR_OP_gelu_tanh, x);
    case FE_RELU2: return op1(l, IR_OP_relu2, x);
    }
    SU_BUG("unknown activation %d", (int)kind);
}

static IrValueId norm(Lower *l, FeNorm kind, const char *name, IrValueId x) {
    IrAttr eps = {.f = kind.eps};
    IrValueId w = weight_of(l, name, "weight");
    if (kind.kind == FE_NORM_RMS) return ir_op1_attrs(&l->b, IR_OP_rms_norm, x, w, IR_NONE, &eps);
    return ir_op1_attrs(&l->b, IR_OP_layer_norm, x, w, weight_of(l, name, "bias"), &eps);
}

/* ---------------------------------------------------------------------------------------------- maps */

/* W x (+ b) with one matrix; x may have planes. */
static IrValueId map_one(Lower *l, const char *name, bool bias, IrValueId x) {
    IrValueId y = op2(l, IR_OP_linear, x, weight_of(l, name, "weight"));
    return bias ? op2(l, IR_OP_add_bias, y, weight_of(l, name, "bias")) : y;
}

/* W_e x (+ b_e) for every expert: [R,E,O]. */
static IrValueId map_all(Lower *l, const char *name, bool bias, IrValueId x) {
    IrValueId y = op2(l, IR_OP_linear_all, x, weight_of(l, name, "weight"));
    return bias ? op2(l, IR_OP_add_bias, y, weight_of(l, name, "bias")) : y;
}

/* A map whose weights are mixed by the gates where `mixed`, else a plain one. */
static IrValueId map_mixed(Lower *l, const char *name, bool bias, bool mixed, Route route, IrValueId x) {
    if (!mixed) return map_one(l, name, bias, x);
    return op3(l, IR_OP_expert_sum, map_all(l, name, bias, x), route.experts, route.gates);
}

/* ---------------------------------------------------------------------------------------------- router */

static Route lower_router(Lower *l, const FeRouter *router, IrValueId input) {
    IrValueId r = op2(l, IR_OP_linear, input, weight(l, "router.weight"));
    if (router->bias) r = op2(l, IR_OP_add_bias, r, weight(l, "router.bias"));
    IrValueId p = op1(l, router->score == FE_SOFTMAX ? IR_OP_softmax : IR_OP_sigmoid, r);
    IrAttr k = {.i = router->top_k};
    Route route;
    if (router->select_bias)
        route.experts = ir_op1_attrs(&l->b, IR_OP_select, p, weight(l, "router.select_bias"), IR_NONE, &k);
    else
        route.experts = ir_op1_attrs(&l->b, IR_OP_select, r, IR_NONE, IR_NONE, &k);
    route.gates =
        ir_op1_attrs(&l->b, IR_OP_gates, p, route.experts, IR_NONE,
                     (IrAttr[]){[IR_GATES_normalize] = {.i = router->normalize}, [IR_GATES_scale] = {.f = router->scale}});
    return route;
}

/* ---------------------------------------------------------------------------------------------- ssm */

/* One ssm block in the making. */
typedef struct Ssm {
    const FeBlock *block;
    const FeSsm *d;
    bool experts, params; /* params: parameters are mixed; else (with experts) outputs are summed */
    uint32_t own;         /* FeExperts.per_expert, 0 without experts */
    Route route;
} Ssm;

static bool mixes(const Ssm *s, uint32_t part) { return s->params && (s->own & part) != 0; }

/* c = act(conv(x)) */
static IrValueId lower_conv(Lower *l, const Ssm *s, IrValueId x) {
    const FeSsm *d = s->d;
    bool mixed = mixes(s, FE_CONV);
    IrValueId w = weight(l, "conv.weight");
    if (mixed) w = op3(l, IR_OP_mix, w, s->route.experts, s->route.gates);
    IrValueId y;
    if (d->d_conv > 1) {
        IrValueId history = state(l, "conv", ir_type(IR_F32, 2, d->d_inner, d->d_conv - 1));
        IrValueId operands[] = {x, w, history};
        IrNode *node = ir_node(&l->b, IR_OP_conv, operands, 3, NULL);
        y = node->results[0];
        l->b.graph->values[history].next = node->results[1];
    } else { /* one tap: no history */
        IrValueId operands[] = {x, w};
        y = ir_node(&l->b, IR_OP_conv, operands, 2, NULL)->results[0];
    }
    if (d->conv_bias) {
        IrValueId bias = weight(l, "conv.bias");
        if (mixed)
            y = op2(l, IR_OP_add, y, op3(l, IR_OP_mix, bias, s->route.experts, s->route.gates));
        else
            y = op2(l, IR_OP_add_bias, y, bias);
    }
    return activation(l, d->activation, y);
}

static IrValueId inner_norm(Lower *l, const Ssm *s, bool wanted, const char *name, IrValueId x) {
    if (!wanted) return x;
    return norm(l, (FeNorm){FE_NORM_RMS, s->d->inner_norm_eps}, name, x);
}

/* Δ = softplus(W_dt δ + b_dt): [R,I] or [R,E,I] */
static IrValueId lower_delta(Lower *l, const Ssm *s, IrValueId delta) {
    bool per_expert = s->experts && !s->params && (s->own & FE_DT_PROJ);
    IrValueId dt =
        per_expert ? map_all(l, "dt_proj", true, delta) : map_mixed(l, "dt_proj", true, mixes(s, FE_DT_PROJ), s->route, delta);
    return op1(l, IR_OP_softplus, dt);
}

/* s ← exp(Δ ⊗ A) ∘ s + (Δ ∘ c) ⊗ B; returns every row's s */
static IrValueId lower_recurrence(Lower *l, const Ssm *s, IrValueId dt, IrValueId c, IrValueId B) {
    const FeSsm *d = s->d;
    IrValueId A = weight_as(l, "A_log", IR_NEG_EXP);
    if (mixes(s, FE_A)) A = op3(l, IR_OP_mix, A, s->route.experts, s->route.gates);
    IrValueId a = op1(l, IR_OP_exp, op2(l, IR_OP_outer, dt, A));
    IrValueId b = op2(l, IR_OP_inject, op2(l, IR_OP_mul, dt, c), B);
    bool heads = s->experts && !s->params;
    IrType type =
        heads ? ir_type(IR_F32, 3, s->block->experts.count, d->d_inner, d->d_state) : ir_type(IR_F32, 2, d->d_inner, d->d_state);
    IrValueId held = state(l, "ssm", type);
    IrValueId operands[] = {a, b, held, s->route.experts};
    int n = heads && s->block->experts.idle == FE_HOLD ? 4 : 3;
    IrNode *node = ir_node(&l->b, IR_OP_recur, operands, n, NULL);
    l->b.graph->values[held].next = node->results[1];
    return node->results[0];
}

/* D ∘ c */
static IrValueId lower_skip(Lower *l, const Ssm *s, IrValueId c) {
    IrValueId D = weight(l, "D");
    if (mixes(s, FE_D)) return op2(l, IR_OP_mul, c, op3(l, IR_OP_mix, D, s->route.experts, s->route.gates));
    return op2(l, IR_OP_mul_param, c, D);
}

/* y = s·C + D ∘ c, summed over the chosen experts where each has a state */
static IrValueId lower_scan(Lower *l, const Ssm *s, IrValueId c) {
    const FeSsm *d = s->d;
    bool heads = s->experts && !s->params;
    IrValueId dbc = heads && (s->own & FE_X_PROJ) ? map_all(l, "x_proj", false, c)
                                                  : map_mixed(l, "x_proj", false, mixes(s, FE_X_PROJ), s->route, c);
    IrValueId delta = inner_norm(l, s, d->dt_norm, "dt_norm", slice(l, dbc, 0, d->dt_rank));
    IrValueId B = inner_norm(l, s, d->b_norm, "b_norm", slice(l, dbc, d->dt_rank, d->d_state));
    IrValueId C = inner_norm(l, s, d->c_norm, "c_norm", slice(l, dbc, d->dt_rank + d->d_state, d->d_state));
    IrValueId dt = lower_delta(l, s, delta);
    IrValueId states = lower_recurrence(l, s, dt, c, B);
    IrValueId y = op2(l, IR_OP_contract, states, C);
    y = op2(l, IR_OP_add, y, lower_skip(l, s, c));
    return heads ? op3(l, IR_OP_expert_sum, y, s->route.experts, s->route.gates) : y;
}

static IrValueId lower_ssm(Lower *l, const FeBlock *block, IrValueId u) {
    const FeSsm *d = &block->ssm;
    Ssm s = {.block = block, .d = d, .experts = block->experts.count > 0};
    s.params = s.experts && block->experts.combine == FE_PARAMS;
    s.own = s.experts ? block->experts.per_expert : 0;
    s.route = (Route){IR_NONE, IR_NONE};
    bool inner = s.experts && block->router.input == FE_ROUTER_INNER;
    if (s.experts && !inner) s.route = lower_router(l, &block->router, u);
    IrValueId x = map_mixed(l, "in_proj", d->bias, mixes(&s, FE_IN_PROJ), s.route, u);
    IrValueId c = lower_conv(l, &s, x);
    if (inner) s.route = lower_router(l, &block->router, c);
    IrValueId z = map_mixed(l, "gate_proj", d->bias, mixes(&s, FE_GATE_PROJ), s.route, u);
    IrValueId y = lower_scan(l, &s, c);
    y = op2(l, IR_OP_mul, y, activation(l, d->activation, z));
    return map_mixed(l, "out_proj", d->bias, mixes(&s, FE_OUT_PROJ), s.route, y);
}

/* ---------------------------------------------------------------------------------------------- mlp */

static bool is_gated(FeActivation kind) { return kind == FE_SWIGLU || kind == FE_GEGLU || kind == FE_GEGLU_TANH; }

typedef IrValueId (*MapFn)(Lower *l, const char *name, bool bias, IrValueId x);

/* f(u) with every map made by `map`: one matrix, or all experts'. `prefix` is "" or "shared.". */
static IrValueId lower_ffn(Lower *l, const FeMlp *d, MapFn map, const char *prefix, IrValueId u) {
    char gate[32], up[32], down[32];
    snprintf(gate, sizeof gate, "%sgate_proj", prefix);
    snprintf(up, sizeof up, "%sup_proj", prefix);
    snprintf(down, sizeof down, "%sdown_proj", prefix);
    IrValueId h;
    if (is_gated(d->activation)) {
        IrValueId g = activation(l, d->activation, map(l, gate, d->bias, u));
        h = op2(l, IR_OP_mul, g, map(l, up, d->bias, u));
    } else {
        h = activation(l, d->activation, map(l, up, d->bias, u));
    }
    return map(l, down, d->bias, h);
}

static IrValueId lower_mlp(Lower *l, const FeBlock *block, IrValueId u) {
    if (block->experts.count == 0) return lower_ffn(l, &block->mlp, map_one, "", u);
    Route route = lower_router(l, &block->router, u);
    IrValueId shared = IR_NONE;
    if (block->experts.shared > 0) shared = op1(l, IR_OP_plane_sum, lower_ffn(l, &block->mlp, map_all, "shared.", u));
    IrValueId y = lower_ffn(l, &block->mlp, map_all, "", u);
    y = op3(l, IR_OP_expert_sum, y, route.experts, route.gates);
    return shared == IR_NONE ? y : op2(l, IR_OP_add, y, shared);
}

/* ---------------------------------------------------------------------------------------------- attention */

/* Positions a cache holds: all of a sequence, or the window beside the rows of the largest step. */
static int64_t cache_positions(const FeSpec *spec, const FeAttention *d) {
    int64_t positions = d->window > 0 ? d->window + PG_MAX_ROWS : spec->max_positions;
    return (int64_t)su_round_up((uint64_t)positions, PG_LANES);
}

static IrValueId lower_attention(Lower *l, const FeBlock *block, IrValueId u) {
    const FeAttention *d = &block->attention;
    IrValueId q = map_one(l, "q_proj", d->bias, u);
    IrValueId k = map_one(l, "k_proj", d->bias, u);
    IrValueId v = map_one(l, "v_proj", d->bias, u);
    IrValueId positions = l->b.graph->positions;
    if (d->rope) {
        IrAttr attrs[] = {[IR_ROPE_heads] = {.i = d->n_heads},
                          [IR_ROPE_head_dim] = {.i = d->head_dim},
                          [IR_ROPE_dim] = {.i = d->rope_dim},
                          [IR_ROPE_theta] = {.f = d->rope_theta}};
        q = ir_op1_attrs(&l->b, IR_OP_rope, q, positions, IR_NONE, attrs);
        attrs[IR_ROPE_heads].i = d->n_kv_heads;
        k = ir_op1_attrs(&l->b, IR_OP_rope, k, positions, IR_NONE, attrs);
    }
    IrType cache = ir_type(IR_F32, 2, cache_positions(l->spec, d), d->n_kv_heads * d->head_dim);
    IrValueId k_cache = state(l, "k", cache), v_cache = state(l, "v", cache);
    IrAttr attrs[] = {[IR_ATTEND_heads] = {.i = d->n_heads},
                      [IR_ATTEND_kv_heads] = {.i = d->n_kv_heads},
                      [IR_ATTEND_head_dim] = {.i = d->head_dim},
                      [IR_ATTEND_window] = {.i = d->window}};
    IrValueId operands[] = {q, k, v, positions, k_cache, v_cache};
    IrNode *node = ir_node(&l->b, IR_OP_attend, operands, 6, attrs);
    IrValueId o = node->results[0];
    l->b.graph->values[k_cache].next = node->results[1];
    l->b.graph->values[v_cache].next = node->results[2];
    return map_one(l, "o_proj", d->bias, o);
}

/* ---------------------------------------------------------------------------------------------- model */

static IrValueId lower_block(Lower *l, int64_t index, IrValueId x) {
    const FeBlock *block = &l->spec->blocks[index];
    l->b.block = (int32_t)index;
    l->b.span = block->span;
    while (l->block_first < l->n_tensors && l->tensors[l->block_first].block < index) l->block_first++;
    IrValueId u = norm(l, l->spec->norm, "norm", x);
    IrValueId y = IR_NONE;
    switch (block->kind) {
    case FE_SSM: y = lower_ssm(l, block, u); break;
    case FE_MLP: y = lower_mlp(l, block, u); break;
    case FE_ATTENTION: y = lower_attention(l, block, u); break;
    }
    return op2(l, IR_OP_add, x, y);
}

IrGraph *fe_lower(FeSpec *spec, SuArena *arena) {
    Lower l = {.spec = spec, .b = {.graph = ir_graph_new(arena, spec->name), .span = spec->span, .block = -1}};
    l.tensors = fe_tensors(spec, &l.n_tensors);
    IrAttr scale = {.f = spec->embedding_scale};
    IrValueId x = ir_op1_attrs(&l.b, IR_OP_embed, l.b.graph->tokens, weight(&l, "embed.weight"), IR_NONE, &scale);
    for (int64_t i = 0; i < spec->n_blocks; i++) x = lower_block(&l, i, x);
    l.b.block = -1;
    l.b.span = spec->span;
    IrValueId u = norm(&l, spec->final_norm, "final_norm", x);
    IrValueId logits = op2(&l, IR_OP_linear, u, weight(&l, spec->tie_embeddings ? "embed.weight" : "head.weight"));
    if (spec->logit_scale != 1.0) {
        IrAttr factor = {.f = spec->logit_scale};
        logits = ir_op1_attrs(&l.b, IR_OP_scale, logits, IR_NONE, IR_NONE, &factor);
    }
    l.b.graph->logits = logits;
    return l.b.graph;
}
