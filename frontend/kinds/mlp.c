/* mlp: feed-forward blocks (docs/language.md, "mlp"). */
#include <stdio.h>

#include "frontend/kinds.h"

/* ---- building ---- */

static void build_experts(const FeBuild *b, const FeMap *experts, const FeMap *router) {
    const FeValue *shared = fe_value(experts, KEY(mlp_experts, shared));
    const FeValue *shared_d_ff = fe_value(experts, KEY(mlp_experts, shared_d_ff));
    bool own_width = shared_d_ff->state == FE_GIVEN;
    b->out->experts = (FeExperts){
        .count = fe_integer(experts, KEY(mlp_experts, count)),
        .shared = shared->integer,
        .shared_d_ff = own_width ? shared_d_ff->integer : b->out->mlp.d_ff,
    };
    if (own_width && shared->state == FE_GIVEN && shared->integer == 0) {
        if (shared_d_ff->written) fe_misplaced(b, shared_d_ff, "'mlp.experts.shared_d_ff' has no meaning without shared experts");
        b->out->experts.shared_d_ff = b->out->mlp.d_ff;
    }
    fe_build_router(b, router, experts, KEY(mlp_experts, count), false);
}

static void build(const FeBuild *b, FeMap *map) {
    bool any = fe_value(map, KEY(mlp, d_ff))->state != FE_ABSENT || fe_value(map, KEY(mlp, expand))->state != FE_ABSENT;
    if (!any) fe_error_once(&b->load->reader, map->span, NULL, "'mlp.d_ff' or 'mlp.expand' is required");
    b->out->mlp = (FeMlp){
        .d_ff = fe_width(b, map, KEY(mlp, d_ff), KEY(mlp, expand)),
        .activation = (FeActivation)fe_integer(map, KEY(mlp, activation)),
        .bias = fe_truth(map, KEY(mlp, bias)),
    };
    const FeMap *experts = fe_block_experts(b, map, KEY(mlp, experts), KEY(mlp, router));
    if (experts) build_experts(b, experts, fe_child(map, KEY(mlp, router)));
}

/* ---- tensors ---- */

/* Shared experts are stacked like others, but every token uses all of them. */
static void add_shared(FeTensorList *l, const char *name, int64_t rows, int64_t columns, double scale) {
    SuArena *arena = &l->spec->arena;
    const int64_t shared = l->block->experts.shared;
    FeTensor *weight = fe_add_tensor(l, su_printf(arena, "shared.%s.weight", name), (int64_t[]){shared, rows, columns}, 3);
    weight->narrow = true;
    fe_draw_uniform(weight, columns);
    weight->init_scale = scale;
    if (l->block->mlp.bias) fe_add_tensor(l, su_printf(arena, "shared.%s.bias", name), (int64_t[]){shared, rows}, 2);
}

static void add_tensors(FeTensorList *l, const FeBlock *block) {
    const FeMlp *m = &block->mlp;
    const FeExperts *e = &block->experts;
    const int64_t D = l->spec->d_model;
    const bool own = e->count > 0, gated = fe_is_gated(m->activation);
    fe_add_router(l, D);
    if (gated) fe_add_linear(l, "gate_proj", own, m->d_ff, D, m->bias);
    fe_add_linear(l, "up_proj", own, m->d_ff, D, m->bias);
    fe_add_linear(l, "down_proj", own, D, m->d_ff, m->bias)->init_scale = l->deep;
    if (own && e->shared > 0) {
        if (gated) add_shared(l, "gate_proj", e->shared_d_ff, D, 1.0);
        add_shared(l, "up_proj", e->shared_d_ff, D, 1.0);
        add_shared(l, "down_proj", D, e->shared_d_ff, l->deep);
    }
}

/* ---- lowering ---- */

typedef IrValueId (*Linear)(FeLower *l, const char *name, bool bias, IrValueId x);

/* f(u) with every linear made by `linear`: one matrix, or all experts'. `prefix` is "" or "shared.". */
static IrValueId lower_ffn(FeLower *l, const FeMlp *d, Linear linear, const char *prefix, IrValueId u) {
    char gate[32], up[32], down[32];
    snprintf(gate, sizeof gate, "%sgate_proj", prefix);
    snprintf(up, sizeof up, "%sup_proj", prefix);
    snprintf(down, sizeof down, "%sdown_proj", prefix);
    IrValueId h;
    if (fe_is_gated(d->activation)) {
        IrValueId g = fe_activation(l, d->activation, linear(l, gate, d->bias, u));
        h = fe_op2(l, IR_OP_mul, g, linear(l, up, d->bias, u));
    } else {
        h = fe_activation(l, d->activation, linear(l, up, d->bias, u));
    }
    return linear(l, down, d->bias, h);
}

static IrValueId lower(FeLower *l, const FeBlock *block, IrValueId u) {
    if (block->experts.count == 0) return lower_ffn(l, &block->mlp, fe_linear, "", u);
    FeChosen chosen = fe_router(l, &block->router, u);
    IrValueId shared = IR_NONE;
    if (block->experts.shared > 0) shared = fe_op1(l, IR_OP_plane_sum, lower_ffn(l, &block->mlp, fe_linear_all, "shared.", u));
    IrValueId y = lower_ffn(l, &block->mlp, fe_linear_all, "", u);
    y = fe_op3(l, IR_OP_expert_sum, y, chosen.experts, chosen.gates);
    return shared == IR_NONE ? y : fe_op2(l, IR_OP_add, y, shared);
}

/* ---- describing ---- */

static void describe(const FeBlock *block, SuText *out) {
    if (!block->experts.count) return;
    su_text_add(out, "%lld experts, top %lld", (long long)block->experts.count, (long long)block->router.top_k);
    if (block->experts.shared) su_text_add(out, ", %lld shared", (long long)block->experts.shared);
}

const FeKind fe_kind_mlp = {build, add_tensors, lower, describe};
