#include "passes/match.h"

PgActivation ps_activation(IrOp op) {
    static const PgActivation activations[IR_OP_COUNT] = {
#define IR_ACTIVATION(name, NAME, flops, exps, exact) [IR_OP_##name] = PG_##NAME,
#include "ir/activation.def"
    };
    return activations[op];
}

/* ---- small steps along the graph. `join` adds a node to the group. */

static void join(const IrGraph *g, PsGroup *group, const IrNode *node) { ps_group_add(group, (IrNodeId)(node - g->nodes)); }

/* The maker of `value` if it is an `op` whose only user is already known, else NULL. */
static const IrNode *made_by(const IrGraph *g, const PsUses *uses, IrValueId value, IrOp op) {
    const IrNode *node = ps_maker(g, value);
    return node != NULL && node->op == op && uses->count[value] == 1 ? node : NULL;
}

/* The only user of `value` if it is an `op`, else NULL. */
static const IrNode *used_by(const IrGraph *g, const PsUses *uses, IrValueId value, IrOp op) {
    IrNodeId user = ps_only_user(uses, value);
    return user != IR_NONE && g->nodes[user].op == op ? &g->nodes[user] : NULL;
}

static IrValueId other_operand(const IrNode *node, IrValueId value) {
    return node->operands[0] == value ? node->operands[1] : node->operands[0];
}

/* A parameter that is mixed by the combine weights: the packed weight behind it, expert indices and combine weights noted. */
static bool take_mix(const IrGraph *g, const PsUses *uses, IrValueId value, PsGroup *group, IrValueId *weight,
                     IrValueId *expert_indices, IrValueId *combine_weights) {
    const IrNode *mix = made_by(g, uses, value, IR_OP_mix);
    if (mix == NULL) return false;
    join(g, group, mix);
    *weight = mix->operands[0];
    *expert_indices = mix->operands[1];
    *combine_weights = mix->operands[2];
    return true;
}

/* ---------------------------------------------------------------------------------------------- convolution */

static bool conv_bias(const IrGraph *g, const PsUses *uses, PsConv *c) {
    const IrNode *node = used_by(g, uses, c->y, IR_OP_add_bias);
    if (node != NULL && !c->mixed) {
        c->bias = node->operands[1];
    } else {
        node = c->mixed ? used_by(g, uses, c->y, IR_OP_add) : NULL;
        if (node == NULL) return true; /* no bias */
        if (!take_mix(g, uses, other_operand(node, c->y), &c->group, &c->bias, &c->expert_indices, &c->combine_weights))
            return true;
    }
    join(g, &c->group, node);
    c->y = node->results[0];
    return true;
}

bool ps_match_conv(const IrGraph *g, const PsUses *uses, IrNodeId id, PsConv *out) {
    const IrNode *node = &g->nodes[id];
    *out = (PsConv){
        .x = node->operands[0], .w = node->operands[1], .bias = IR_NONE, .expert_indices = IR_NONE, .combine_weights = IR_NONE};
    out->history = node->n_operands > 2 ? node->operands[2] : IR_NONE;
    out->y = node->results[0];
    out->mixed = take_mix(g, uses, out->w, &out->group, &out->w, &out->expert_indices, &out->combine_weights);
    if (!out->mixed && ps_weight(g, out->w) == NULL) return false;
    join(g, &out->group, node);
    if (!conv_bias(g, uses, out)) return false;
    IrNodeId user = ps_only_user(uses, out->y);
    if (user == IR_NONE) return true;
    out->act = ps_activation(g->nodes[user].op);
    if (out->act == PG_NO_ACT) return true;
    ps_group_add(&out->group, user);
    out->y = g->nodes[user].results[0];
    return true;
}

/* ---------------------------------------------------------------------------------------------- scan */

/* δ, B or C: reads through a slice that nobody else needs. */
static PsView take_view(const IrGraph *g, const PsUses *uses, PsGroup *group, IrValueId value) {
    const IrNode *slice = made_by(g, uses, value, IR_OP_slice);
    if (slice == NULL) return (PsView){value, 0};
    join(g, group, slice);
    return (PsView){slice->operands[0], slice->attrs[IR_SLICE_start].i};
}

/* W_dt δ + b_dt, one matrix or the experts' */
static bool take_delta_linear(const IrGraph *g, const PsUses *uses, PsScan *s, IrValueId value, IrOp bias_op, IrOp linear_op) {
    const IrNode *bias = made_by(g, uses, value, bias_op);
    const IrNode *linear = bias != NULL ? made_by(g, uses, bias->operands[0], linear_op) : NULL;
    if (linear == NULL) return false;
    join(g, &s->group, bias);
    join(g, &s->group, linear);
    s->dt_b = bias->operands[1];
    s->dt_w = linear->operands[1];
    s->delta = take_view(g, uses, &s->group, linear->operands[0]);
    return true;
}

/* Δ = softplus(…) in each of the forms that experts give it */
static bool take_dt(const IrGraph *g, const PsUses *uses, PsScan *s, IrValueId dt) {
    const IrNode *softplus = ps_maker(g, dt);
    if (softplus == NULL || softplus->op != IR_OP_softplus || uses->count[dt] != 2) return false;
    join(g, &s->group, softplus);
    IrValueId pre = softplus->operands[0];
    if (take_delta_linear(g, uses, s, pre, IR_OP_add_bias, IR_OP_linear)) return true;
    s->own_dt = true;
    if (s->experts == PG_SCAN_HOLD) return take_delta_linear(g, uses, s, pre, IR_OP_add_bias_routed, IR_OP_linear_routed);
    if (s->experts == PG_SCAN_UPDATE) return take_delta_linear(g, uses, s, pre, IR_OP_add_bias, IR_OP_linear_all);
    const IrNode *sum = made_by(g, uses, pre, IR_OP_expert_sum_routed);
    if (sum == NULL || !take_delta_linear(g, uses, s, sum->operands[0], IR_OP_add_bias_routed, IR_OP_linear_routed)) return false;
    join(g, &s->group, sum);
    s->combine_weights = sum->operands[1];
    s->expert_indices = ps_maker(g, ps_maker(g, sum->operands[0])->operands[0])->operands[2]; /* linear_routed's */
    s->experts = PG_SCAN_PARAMS;
    return true;
}

/* a = exp(Δ ⊗ A); gives Δ */
static IrValueId take_decay(const IrGraph *g, const PsUses *uses, PsScan *s, IrValueId a) {
    const IrNode *exponential = made_by(g, uses, a, IR_OP_exp);
    const IrNode *outer = exponential != NULL ? ps_maker(g, exponential->operands[0]) : NULL;
    if (outer == NULL || (outer->op != IR_OP_outer && outer->op != IR_OP_outer_routed)) return IR_NONE;
    join(g, &s->group, exponential);
    join(g, &s->group, outer);
    s->A = outer->operands[1];
    if (take_mix(g, uses, s->A, &s->group, &s->A, &s->expert_indices, &s->combine_weights)) {
        s->own_A = true;
        s->experts = PG_SCAN_PARAMS;
    } else {
        const IrValue *weight = ps_weight(g, s->A);
        if (weight == NULL) return IR_NONE;
        s->own_A = weight->type.rank == 3;
    }
    return outer->operands[0];
}

/* b = (Δ ∘ c) ⊗ B */
static bool take_input(const IrGraph *g, const PsUses *uses, PsScan *s, IrValueId b, IrValueId dt) {
    const IrNode *inject = made_by(g, uses, b, IR_OP_inject);
    const IrNode *product = inject != NULL ? made_by(g, uses, inject->operands[0], IR_OP_mul) : NULL;
    if (product == NULL || (product->operands[0] != dt && product->operands[1] != dt)) return false;
    join(g, &s->group, inject);
    join(g, &s->group, product);
    s->c = other_operand(product, dt);
    s->B = take_view(g, uses, &s->group, inject->operands[1]);
    return true;
}

/* + D ∘ c */
static bool take_skip(const IrGraph *g, const PsUses *uses, PsScan *s) {
    const IrNode *add = used_by(g, uses, s->y, IR_OP_add);
    if (add == NULL) return false;
    IrValueId value = other_operand(add, s->y);
    const IrNode *skip = ps_maker(g, value);
    if (skip == NULL || uses->count[value] != 1) return false;
    if (skip->op == IR_OP_mul_param || skip->op == IR_OP_mul_param_routed) {
        s->D = skip->operands[1];
        s->own_D = g->values[s->D].type.rank == 2;
        if (skip->operands[0] != s->c) return false;
    } else if (skip->op == IR_OP_mul && (skip->operands[0] == s->c || skip->operands[1] == s->c)) {
        if (!take_mix(g, uses, other_operand(skip, s->c), &s->group, &s->D, &s->expert_indices, &s->combine_weights)) return false;
        s->own_D = true;
        s->experts = PG_SCAN_PARAMS;
    } else {
        return false;
    }
    join(g, &s->group, skip);
    join(g, &s->group, add);
    s->y = add->results[0];
    return true;
}

/* The sum over the chosen experts of a block whose experts have states. */
static bool take_sum(const IrGraph *g, const PsUses *uses, PsScan *s) {
    if (s->experts != PG_SCAN_HOLD && s->experts != PG_SCAN_UPDATE) return true;
    const IrNode *sum = used_by(g, uses, s->y, s->experts == PG_SCAN_HOLD ? IR_OP_expert_sum_routed : IR_OP_expert_sum);
    if (sum == NULL) return false;
    if (s->experts == PG_SCAN_UPDATE) s->expert_indices = sum->operands[1];
    s->combine_weights = sum->operands[sum->n_operands - 1];
    join(g, &s->group, sum);
    s->y = sum->results[0];
    return true;
}

/* y ∘ act(z) */
static void take_gate(const IrGraph *g, const PsUses *uses, PsScan *s) {
    const IrNode *product = used_by(g, uses, s->y, IR_OP_mul);
    if (product == NULL) return;
    IrValueId gated = other_operand(product, s->y);
    const IrNode *act = ps_maker(g, gated);
    if (act == NULL || uses->count[gated] != 1 || act->region != product->region) return;
    PgActivation kind = ps_activation(act->op);
    if (kind == PG_NO_ACT) return;
    join(g, &s->group, act);
    join(g, &s->group, product);
    s->act = kind;
    s->z = act->operands[0];
    s->y = product->results[0];
}

bool ps_match_scan(const IrGraph *g, const PsUses *uses, IrNodeId id, PsScan *out) {
    const IrNode *recur = &g->nodes[id];
    PsScan *s = out;
    *s = (PsScan){.z = IR_NONE, .expert_indices = IR_NONE, .combine_weights = IR_NONE, .state = recur->operands[2]};
    bool own_states = g->values[s->state].type.rank == 3;
    if (recur->op == IR_OP_recur_routed) {
        s->experts = PG_SCAN_HOLD;
        s->expert_indices = recur->operands[3];
    } else if (own_states) {
        if (recur->n_operands == 4) return false; /* hold over all planes: what route fusion left */
        s->experts = PG_SCAN_UPDATE;
    }
    join(g, &s->group, recur);
    IrValueId dt = take_decay(g, uses, s, recur->operands[0]);
    if (dt == IR_NONE || !take_input(g, uses, s, recur->operands[1], dt) || !take_dt(g, uses, s, dt)) return false;
    const IrNode *contract = used_by(g, uses, recur->results[0], IR_OP_contract);
    if (contract == NULL) return false;
    join(g, &s->group, contract);
    s->C = take_view(g, uses, &s->group, contract->operands[1]);
    s->y = contract->results[0];
    if (!take_skip(g, uses, s) || !take_sum(g, uses, s)) return false;
    take_gate(g, uses, s);
    return true;
}
