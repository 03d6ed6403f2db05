/* Lowering, literally: the functions here and those of kinds/ follow the equations of docs/language.md, one operation per
 * operator.
 *
 * Two choices the equations leave open are made here once, and docs/bits.md states them: a linear map whose weights are mixed
 * (combine: params) is written as the gated sum of the experts' maps, which is the same by linearity (of q8 and q4 maps the language
 * says so, and adds the mixed bias behind the sum); and every expert is computed densely, since choosing what not to compute is route
 * fusion's work. */
#include "frontend/lower.h"

#include <stdio.h>
#include <string.h>

#include "frontend/kinds.h"

/* ---------------------------------------------------------------------------------------------- shorthands */

IrValueId fe_op1(FeLower *l, IrOp op, IrValueId x) { return ir_op1(&l->b, op, x, IR_NONE, IR_NONE); }
IrValueId fe_op2(FeLower *l, IrOp op, IrValueId x, IrValueId y) { return ir_op1(&l->b, op, x, y, IR_NONE); }
IrValueId fe_op3(FeLower *l, IrOp op, IrValueId x, IrValueId y, IrValueId z) { return ir_op1(&l->b, op, x, y, z); }

/* The checkpoint's tensors, in its order. */
static void declare_weights(FeLower *l) {
    l->tensors = fe_tensors(l->spec, &l->n_tensors);
    l->weights = SU_NEW_ARRAY(&l->spec->arena, IrValueId, l->n_tensors);
    l->firsts = SU_NEW_ARRAY(&l->spec->arena, size_t, (size_t)l->spec->n_blocks);
    for (size_t i = l->n_tensors; i-- > 0;)
        if (l->tensors[i].block >= 0) l->firsts[l->tensors[i].block] = i;
    for (size_t i = 0; i < l->n_tensors; i++) {
        const FeTensor *tensor = &l->tensors[i];
        IrType type = {.dtype = tensor->dtype, .rank = tensor->rank};
        memcpy(type.dim, tensor->shape, sizeof type.dim);
        l->weights[i] = ir_weight(l->b.graph, tensor->name, type, tensor->neg_exp ? IR_NEG_EXP : IR_AS_IS);
    }
}

/* The tensor of that name, looked for from `first` on. */
static size_t find_tensor(const FeLower *l, size_t first, const char *name) {
    for (size_t i = 0; i < l->n_tensors; i++) {
        size_t at = (first + i) % l->n_tensors;
        if (strcmp(l->tensors[at].name, name) == 0) return at;
    }
    SU_BUG("no tensor named %s in the checkpoint table", name);
}

/* The tensor `part` of the block in hand: its own, or that of the block whose weights it shares. */
static size_t part_tensor(const FeLower *l, const char *part) {
    char name[160];
    bool own = l->share == NULL || fe_share_owns(l->share, part);
    if (own)
        snprintf(name, sizeof name, "%s%s", l->prefix, part);
    else
        snprintf(name, sizeof name, "blocks.%lld.%s", (long long)l->share->of, part);
    return find_tensor(l, own ? l->first : l->firsts[l->share->of], name);
}

IrValueId fe_weight(FeLower *l, const char *part) { return l->weights[part_tensor(l, part)]; }

/* Weight or bias of a map: tensor_of(l, "in_proj", "weight"). */
static size_t tensor_of(const FeLower *l, const char *map, const char *what) {
    char part[96];
    snprintf(part, sizeof part, "%s.%s", map, what);
    return part_tensor(l, part);
}

static IrValueId weight_of(const FeLower *l, const char *map, const char *what) { return l->weights[tensor_of(l, map, what)]; }

IrValueId fe_state(FeLower *l, const char *what, IrType type) {
    char name[96];
    snprintf(name, sizeof name, "%s%s", l->prefix, what);
    return ir_state(l->b.graph, name, type);
}

IrValueId fe_slice(FeLower *l, IrValueId x, int64_t start, int64_t count) {
    return ir_op1_attrs(&l->b, IR_OP_slice, x, IR_NONE, IR_NONE,
                        (IrAttr[]){[IR_SLICE_start] = {.i = start}, [IR_SLICE_count] = {.i = count}});
}

IrValueId fe_inject(FeLower *l, IrValueId v, IrValueId B, int64_t groups) {
    return ir_op1_attrs(&l->b, IR_OP_inject, v, B, IR_NONE, (IrAttr[]){[IR_INJECT_groups] = {.i = groups}});
}

IrValueId fe_contract(FeLower *l, IrValueId states, IrValueId C, int64_t groups) {
    return ir_op1_attrs(&l->b, IR_OP_contract, states, C, IR_NONE, (IrAttr[]){[IR_CONTRACT_groups] = {.i = groups}});
}

IrValueId fe_repeat_runs(FeLower *l, IrValueId x, int64_t run, int64_t times) {
    if (times == 1) return x;
    return ir_op1_attrs(&l->b, IR_OP_repeat, x, IR_NONE, IR_NONE,
                        (IrAttr[]){[IR_REPEAT_times] = {.i = times}, [IR_REPEAT_run] = {.i = run}});
}

IrValueId fe_repeat(FeLower *l, IrValueId x, int64_t times) { return fe_repeat_runs(l, x, 1, times); }

IrValueId fe_take(FeLower *l, IrValueId w, int64_t dim, int64_t start, int64_t count) {
    return ir_op1_attrs(&l->b, IR_OP_take, w, IR_NONE, IR_NONE,
                        (IrAttr[]){[IR_TAKE_dim] = {.i = dim}, [IR_TAKE_start] = {.i = start}, [IR_TAKE_count] = {.i = count}});
}

IrValueId fe_activation(FeLower *l, FeActivation kind, IrValueId x) {
    static const IrOp ops[] = {
#define IR_PLAIN_WORD(word, WORD, name) [FE_##WORD] = IR_OP_##name,
#define IR_GATED_WORD(word, WORD, name) [FE_##WORD] = IR_OP_##name,
#include "ir/activation.def"
    };
    return fe_op1(l, ops[kind], x);
}

bool fe_is_gated(FeActivation kind) {
    static const bool gated[] = {
#define IR_PLAIN_WORD(word, WORD, name) [FE_##WORD] = false,
#define IR_GATED_WORD(word, WORD, name) [FE_##WORD] = true,
#include "ir/activation.def"
    };
    return gated[kind];
}

IrValueId fe_rms_norm(FeLower *l, double eps, int64_t runs, IrValueId w, IrValueId x) {
    return ir_op1_attrs(&l->b, IR_OP_rms_norm, x, w, IR_NONE,
                        (IrAttr[]){[IR_RMS_NORM_eps] = {.f = eps}, [IR_RMS_NORM_runs] = {.i = runs}});
}

IrValueId fe_scale(FeLower *l, IrValueId x, double factor) {
    IrAttr attr = {.f = factor};
    return factor == 1.0 ? x : ir_op1_attrs(&l->b, IR_OP_scale, x, IR_NONE, IR_NONE, &attr);
}

IrValueId fe_clamp(FeLower *l, double low, double high, IrValueId x) {
    return ir_op1_attrs(&l->b, IR_OP_clamp, x, IR_NONE, IR_NONE,
                        (IrAttr[]){[IR_CLAMP_low] = {.f = low}, [IR_CLAMP_high] = {.f = high}});
}

IrValueId fe_norm(FeLower *l, FeNorm kind, const char *name, IrValueId x) {
    IrValueId w = weight_of(l, name, "weight");
    if (kind.kind == FE_NORM_RMS) return fe_rms_norm(l, kind.eps, 1, w, x);
    IrAttr eps = {.f = kind.eps};
    return ir_op1_attrs(&l->b, IR_OP_layer_norm, x, w, weight_of(l, name, "bias"), &eps);
}

/* ---------------------------------------------------------------------------------------------- maps */

/* W x by one matrix, or by every expert's; the input of a q8 or q4 one is rounded where the spec says so. */
static IrValueId multiply(FeLower *l, IrOp linear, size_t tensor, IrValueId x) {
    IrAttr rounds = {.i = l->spec->weights.rounds && ir_is_blocks(l->tensors[tensor].dtype)};
    return ir_op1_attrs(&l->b, linear, x, l->weights[tensor], IR_NONE, &rounds);
}

/* A or B of a map's adapter. */
static size_t find_adapter(const FeLower *l, const char *map, const char *which) {
    char name[160];
    snprintf(name, sizeof name, "%sadapters.%s.%s", l->prefix, map, which);
    return find_tensor(l, l->first, name);
}

/* B(A x) where a share adapts the map, else IR_NONE. */
static IrValueId lower_adapter(FeLower *l, IrOp linear, const char *map, IrValueId x) {
    if (l->share == NULL || map == NULL || !fe_share_adapts(l->share, map)) return IR_NONE;
    return multiply(l, linear, find_adapter(l, map, "B"), multiply(l, linear, find_adapter(l, map, "A"), x));
}

static IrValueId lower_linear(FeLower *l, IrOp linear, const char *name, bool bias, IrValueId x) {
    size_t weight = tensor_of(l, name, "weight");
    IrValueId y = multiply(l, linear, weight, x);
    if (bias) y = fe_op2(l, IR_OP_add_bias, y, weight_of(l, name, "bias"));
    IrValueId adapter = lower_adapter(l, linear, l->tensors[weight].map, x);
    return adapter == IR_NONE ? y : fe_op2(l, IR_OP_add, y, adapter);
}

IrValueId fe_linear(FeLower *l, const char *name, bool bias, IrValueId x) { return lower_linear(l, IR_OP_linear, name, bias, x); }

IrValueId fe_linear_all(FeLower *l, const char *name, bool bias, IrValueId x) {
    return lower_linear(l, IR_OP_linear_all, name, bias, x);
}

/* Σ g_k y_k over the chosen experts, then the mixed bias, then the adapters' product mixed likewise: the language's order for q8 and
 * q4. */
static IrValueId lower_quantised_mix(FeLower *l, size_t weight, const char *name, bool bias, FeChosen chosen, IrValueId x) {
    IrValueId y = fe_op3(l, IR_OP_expert_sum, multiply(l, IR_OP_linear_all, weight, x), chosen.experts, chosen.gates);
    if (bias) y = fe_op2(l, IR_OP_add, y, fe_op3(l, IR_OP_mix, weight_of(l, name, "bias"), chosen.experts, chosen.gates));
    IrValueId adapter = lower_adapter(l, IR_OP_linear_all, l->tensors[weight].map, x);
    if (adapter == IR_NONE) return y;
    return fe_op2(l, IR_OP_add, y, fe_op3(l, IR_OP_expert_sum, adapter, chosen.experts, chosen.gates));
}

IrValueId fe_linear_mixed(FeLower *l, const char *name, bool bias, bool mixed, FeChosen chosen, IrValueId x) {
    if (!mixed) return fe_linear(l, name, bias, x);
    size_t weight = tensor_of(l, name, "weight");
    if (ir_is_blocks(l->tensors[weight].dtype)) return lower_quantised_mix(l, weight, name, bias, chosen, x);
    return fe_op3(l, IR_OP_expert_sum, fe_linear_all(l, name, bias, x), chosen.experts, chosen.gates);
}

/* ---------------------------------------------------------------------------------------------- convolution */

IrValueId fe_conv(FeLower *l, const char *history, int64_t width, int64_t taps, IrValueId w, IrValueId x) {
    if (taps == 1) { /* no history */
        IrValueId operands[] = {x, w};
        return ir_node(&l->b, IR_OP_conv, operands, 2, NULL)->results[0];
    }
    IrValueId held = fe_state(l, history, ir_type(IR_F32, 2, width, taps - 1));
    IrValueId operands[] = {x, w, held};
    IrNode *node = ir_node(&l->b, IR_OP_conv, operands, 3, NULL);
    l->b.graph->values[held].next = node->results[1];
    return node->results[0];
}

/* ---------------------------------------------------------------------------------------------- router */

FeChosen fe_router(FeLower *l, const FeRouter *router, IrValueId input) {
    IrValueId r = multiply(l, IR_OP_linear, part_tensor(l, "router.weight"), input);
    if (router->bias) r = fe_op2(l, IR_OP_add_bias, r, fe_weight(l, "router.bias"));
    IrValueId p = fe_op1(l, router->score == FE_SOFTMAX ? IR_OP_softmax : IR_OP_sigmoid, r);
    IrAttr choice[] = {[IR_SELECT_k] = {.i = router->top_k},
                       [IR_SELECT_groups] = {.i = router->groups},
                       [IR_SELECT_top] = {.i = router->top_groups}};
    FeChosen chosen;
    if (router->select_bias)
        chosen.experts = ir_op1_attrs(&l->b, IR_OP_select, p, fe_weight(l, "router.select_bias"), IR_NONE, choice);
    else
        chosen.experts = ir_op1_attrs(&l->b, IR_OP_select, r, IR_NONE, IR_NONE, choice);
    chosen.gates =
        ir_op1_attrs(&l->b, IR_OP_gates, p, chosen.experts, IR_NONE,
                     (IrAttr[]){[IR_GATES_normalize] = {.i = router->normalize}, [IR_GATES_scale] = {.f = router->scale}});
    return chosen;
}

/* ---------------------------------------------------------------------------------------------- model */

/* output_scale · out_norm(f(input_scale · u)) */
static IrValueId lower_parts(FeLower *l, const FeBlock *block, IrValueId u) {
    u = fe_scale(l, u, block->input_scale);
    l->share = block->share;
    IrValueId y = fe_kind_row(block->kind)->kind->lower(l, block, u);
    l->share = NULL;
    if (block->out_norm) y = fe_norm(l, (FeNorm){FE_NORM_RMS, l->spec->norm.eps}, "out_norm", y);
    return fe_scale(l, y, block->output_scale);
}

/* The branches' sum, in order: each sees the same u. */
static IrValueId lower_branches(FeLower *l, const FeBlock *block, IrValueId u) {
    const char *prefix = l->prefix;
    IrValueId sum = IR_NONE;
    for (int64_t j = 0; j < block->n_branches; j++) {
        l->prefix = su_printf(&l->spec->arena, "%sbranches.%lld.", prefix, (long long)j);
        l->b.span = block->branches[j].span;
        IrValueId y = lower_parts(l, &block->branches[j], u);
        sum = j == 0 ? y : fe_op2(l, IR_OP_add, sum, y);
    }
    l->b.span = block->span;
    return sum;
}

static IrValueId lower_block(FeLower *l, int64_t index, IrValueId x) {
    const FeBlock *block = &l->spec->blocks[index];
    l->b.block = (int32_t)index;
    l->b.span = block->span;
    l->prefix = su_printf(&l->spec->arena, "blocks.%lld.", (long long)index);
    l->first = l->firsts[index];
    IrValueId u = fe_norm(l, l->spec->norm, "norm", x);
    IrValueId y = block->n_branches > 0 ? lower_branches(l, block, u) : lower_parts(l, block, u);
    return fe_op2(l, IR_OP_add, x, y);
}

IrGraph *fe_lower(FeSpec *spec, SuArena *arena) {
    FeLower l = {.spec = spec, .prefix = "", .b = {.graph = ir_graph_new(arena, spec->name), .span = spec->span, .block = -1}};
    l.b.graph->max_positions = fe_position_bound(spec);
    memcpy(l.b.graph->spec_hash, spec->hash, sizeof spec->hash);
    declare_weights(&l);
    IrAttr scale = {.f = spec->embedding_scale};
    IrValueId x = ir_op1_attrs(&l.b, IR_OP_embed, l.b.graph->tokens, fe_weight(&l, "embed.weight"), IR_NONE, &scale);
    for (int64_t i = 0; i < spec->n_blocks; i++) x = lower_block(&l, i, x);
    l.b.block = -1;
    l.prefix = "";
    l.first = 0;
    l.b.span = spec->span;
    IrValueId u = fe_norm(&l, spec->final_norm, "final_norm", x);
    IrValueId logits = multiply(&l, IR_OP_linear, part_tensor(&l, spec->tie_embeddings ? "embed.weight" : "head.weight"), u);
    l.b.graph->logits = fe_scale(&l, logits, spec->logit_scale);
    return l.b.graph;
}
