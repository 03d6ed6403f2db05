/* mlp: feed-forward blocks (docs/language.md, "mlp"). */
#include <stdio.h>

#include "frontend/kinds.h"

/* ---- building ---- */

static void build_experts(const FeBuild *b, FeMap *map, FeMap *experts) {
    const FeValue *shared = fe_value(experts, KEY(mlp_experts, shared));
    const FeValue *width = fe_value(experts, KEY(mlp_experts, shared_d_ff)),
                  *gate = fe_value(experts, KEY(mlp_experts, shared_gate));
    if (width->state == FE_ABSENT) fe_set_integer(experts, KEY(mlp_experts, shared_d_ff), fe_integer(map, KEY(mlp, d_ff)));
    if (shared->state == FE_GIVEN && shared->integer == 0) {
        if (width->written && width->state == FE_GIVEN)
            fe_misplaced(b, width, "'mlp.experts.shared_d_ff' has no meaning without shared experts");
        if (gate->written && gate->state == FE_GIVEN && gate->integer)
            fe_misplaced(b, gate, "'mlp.experts.shared_gate' has no meaning without shared experts");
        fe_drop(experts, KEY(mlp_experts, shared_d_ff));
        fe_drop(experts, KEY(mlp_experts, shared_gate));
    }
    b->out->experts.count = fe_integer(experts, KEY(mlp_experts, count));
    fe_build_router(b, map, KEY(mlp, router), experts, KEY(mlp_experts, count), false);
    b->out->experts.busy = b->out->router.top_k;
}

static void build(const FeBuild *b, FeMap *map) {
    bool any = fe_value(map, KEY(mlp, d_ff))->state != FE_ABSENT || fe_value(map, KEY(mlp, expand))->state != FE_ABSENT;
    if (!any) fe_report_once(&b->load->reader, SU_CODE_missing_key, map->span, NULL, "'mlp.d_ff' or 'mlp.expand' is required");
    fe_width(b, map, KEY(mlp, d_ff), KEY(mlp, expand));
    FeMap *experts = fe_block_experts(b, map, KEY(mlp, experts), KEY(mlp, router));
    if (experts) build_experts(b, map, experts);
}

/* The values of a block that is complete. */
typedef struct Mlp {
    int64_t d_ff; /* F */
    FeActivation activation;
    bool bias, experts;
    int64_t shared, shared_d_ff; /* number of shared experts, F' */
    bool shared_gate;
    int64_t latent; /* L, or 0 */
} Mlp;

static Mlp read(const FeMap *map) {
    const FeMap *experts = fe_child(map, KEY(mlp, experts));
    const FeValue *latent = experts ? fe_value(experts, KEY(mlp_experts, latent)) : NULL;
    return (Mlp){
        .d_ff = fe_integer(map, KEY(mlp, d_ff)),
        .activation = (FeActivation)fe_integer(map, KEY(mlp, activation)),
        .bias = fe_truth(map, KEY(mlp, bias)),
        .experts = experts != NULL,
        .shared = experts ? fe_integer(experts, KEY(mlp_experts, shared)) : 0,
        .shared_d_ff = experts ? fe_integer(experts, KEY(mlp_experts, shared_d_ff)) : 0,
        .shared_gate = experts && fe_truth(experts, KEY(mlp_experts, shared_gate)),
        .latent = latent && !latent->word ? latent->integer : 0,
    };
}

/* ---- tensors ---- */

/* Shared experts are stacked like others, but every token uses all of them. */
static void add_shared(FeTensorList *l, const Mlp *m, const char *name, int64_t rows, int64_t columns, double scale) {
    SuArena *arena = &l->spec->arena;
    FeTensor *weight = fe_add_tensor(l, su_printf(arena, "shared.%s.weight", name), (int64_t[]){m->shared, rows, columns}, 3);
    fe_name_weight(l, weight, su_printf(arena, "shared_%s", name));
    fe_draw_uniform(weight, columns);
    weight->init_scale = scale;
    if (m->bias) fe_add_tensor(l, su_printf(arena, "shared.%s.bias", name), (int64_t[]){m->shared, rows}, 2);
}

static void add_tensors(FeTensorList *l, const FeBlock *block) {
    const Mlp m = read(block->map);
    const int64_t D = l->spec->d_model, width = m.latent ? m.latent : D;
    const bool gated = fe_is_gated(m.activation);
    fe_add_router(l, D);
    if (m.latent) fe_add_linear(l, "latent_down_proj", false, m.latent, D, false);
    if (gated) fe_add_linear(l, "gate_proj", m.experts, m.d_ff, width, m.bias);
    fe_add_linear(l, "up_proj", m.experts, m.d_ff, width, m.bias);
    fe_add_linear(l, "down_proj", m.experts, width, m.d_ff, m.bias)->init_scale = l->deep;
    if (m.latent) fe_add_linear(l, "latent_up_proj", false, D, m.latent, false);
    if (m.shared == 0) return;
    if (gated) add_shared(l, &m, "gate_proj", m.shared_d_ff, D, 1.0);
    add_shared(l, &m, "up_proj", m.shared_d_ff, D, 1.0);
    add_shared(l, &m, "down_proj", D, m.shared_d_ff, l->deep);
    if (m.shared_gate) fe_add_tensor(l, "shared_gate.weight", (int64_t[]){1, D}, 2)->init = FE_INIT_NORMAL;
}

/* ---- lowering ---- */

typedef IrValueId (*Linear)(FeLower *l, const char *name, bool bias, IrValueId x);

/* f(u) with every linear made by `linear`: one matrix, or all experts'. `prefix` is "" or "shared.". */
static IrValueId lower_ffn(FeLower *l, const Mlp *d, Linear linear, const char *prefix, IrValueId u) {
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

/* The sum of the shared experts, times the sigmoid of w u where they have a gate. */
static IrValueId lower_shared(FeLower *l, const Mlp *m, IrValueId u) {
    IrValueId y = fe_op1(l, IR_OP_plane_sum, lower_ffn(l, m, fe_linear_all, "shared.", u));
    if (!m->shared_gate) return y;
    return fe_op2(l, IR_OP_mul, y, fe_op1(l, IR_OP_sigmoid, fe_linear(l, "shared_gate", false, u)));
}

static IrValueId lower(FeLower *l, const FeBlock *block, IrValueId u) {
    const Mlp m = read(block->map);
    if (!m.experts) return lower_ffn(l, &m, fe_linear, "", u);
    FeChosen chosen = fe_router(l, &block->router, u);
    IrValueId shared = m.shared > 0 ? lower_shared(l, &m, u) : IR_NONE;
    IrValueId v = m.latent ? fe_linear(l, "latent_down_proj", false, u) : u;
    IrValueId y = lower_ffn(l, &m, fe_linear_all, "", v);
    y = fe_op3(l, IR_OP_expert_sum, y, chosen.experts, chosen.gates);
    if (m.latent) y = fe_linear(l, "latent_up_proj", false, y);
    return shared == IR_NONE ? y : fe_op2(l, IR_OP_add, y, shared);
}

/* ---- describing ---- */

static void describe(const FeBlock *block, SuText *out) {
    if (!block->experts.count) return;
    su_text_add(out, "%lld experts, top %lld", (long long)block->experts.count, (long long)block->router.top_k);
    const int64_t shared = read(block->map).shared;
    if (shared) su_text_add(out, ", %lld shared", (long long)shared);
}

const FeKind fe_kind_mlp = {build, add_tensors, lower, describe};
