#include "passes/match.h"

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

/* A parameter that is mixed by the combine weights: the weight behind it plays `role`, expert indices and combine weights are noted. */
static bool take_mix(const IrGraph *g, const PsUses *uses, IrValueId value, PsMatch *m, IrRole role) {
    const IrNode *mix = made_by(g, uses, value, IR_OP_mix);
    if (mix == NULL) return false;
    join(g, &m->group, mix);
    m->roles.of[role] = mix->operands[0];
    m->roles.of[IR_ROLE_experts] = mix->operands[1];
    m->roles.of[IR_ROLE_gates] = mix->operands[2];
    return true;
}

/* Whether the second operand is one value a row, which no fused kernel takes. */
static bool repeats(const IrGraph *g, const IrNode *node) {
    return ir_dim(&g->values[node->operands[0]].type, IR_DIM_CHANNEL) != ir_dim(&g->values[node->operands[1]].type, IR_DIM_CHANNEL);
}

/* ---------------------------------------------------------------------------------------------- convolution */

static void conv_bias(const IrGraph *g, const PsUses *uses, bool mixed, PsMatch *c) {
    IrValueId *roles = c->roles.of, y = roles[IR_ROLE_y];
    const IrNode *node = used_by(g, uses, y, mixed ? IR_OP_add : IR_OP_add_bias);
    if (node == NULL || (mixed && repeats(g, node))) return; /* no bias */
    if (mixed && !take_mix(g, uses, other_operand(node, y), c, IR_ROLE_bias)) return;
    if (!mixed) roles[IR_ROLE_bias] = node->operands[1];
    join(g, &c->group, node);
    roles[IR_ROLE_y] = node->results[0];
}

bool ps_match_conv(const IrGraph *g, const PsUses *uses, IrNodeId id, PsMatch *out) {
    const IrNode *node = &g->nodes[id];
    *out = (PsMatch){.roles = ir_no_roles()};
    IrValueId *roles = out->roles.of;
    roles[IR_ROLE_x] = node->operands[0];
    roles[IR_ROLE_w] = node->operands[1];
    roles[IR_ROLE_y] = node->results[0];
    if (node->n_operands > 2) roles[IR_ROLE_history] = node->operands[2];
    bool mixed = take_mix(g, uses, node->operands[1], out, IR_ROLE_w);
    if (!mixed && ps_weight(g, node->operands[1]) == NULL) return false;
    join(g, &out->group, node);
    conv_bias(g, uses, mixed, out);
    IrNodeId user = ps_only_user(uses, roles[IR_ROLE_y]);
    if (user == IR_NONE || ps_activation(g->nodes[user].op) == PG_NO_ACT) return true;
    ps_group_add(&out->group, user);
    roles[IR_ROLE_act] = roles[IR_ROLE_y] = g->nodes[user].results[0];
    return true;
}

/* ---------------------------------------------------------------------------------------------- scan */

/* A match in the making. */
typedef struct Scan {
    PsMatch *m;
    PgScanExperts experts;
} Scan;

static void set(Scan *s, IrRole role, IrValueId value) { s->m->roles.of[role] = value; }
static IrValueId get(const Scan *s, IrRole role) { return s->m->roles.of[role]; }

/* What is repeated over the channels of its head, or the value itself where a head is one channel. */
static IrValueId take_repeat(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId value) {
    const IrNode *repeat = made_by(g, uses, value, IR_OP_repeat);
    if (repeat == NULL || repeat->attrs[IR_REPEAT_run].i != 1) return value;
    join(g, &s->m->group, repeat);
    return repeat->operands[0];
}

/* δ, B or C, with a slice behind it that nobody else needs. */
static void take_view(const IrGraph *g, const PsUses *uses, Scan *s, IrRole role, IrValueId value) {
    const IrNode *slice = made_by(g, uses, value, IR_OP_slice);
    if (slice != NULL) join(g, &s->m->group, slice);
    set(s, role, value);
}

/* W_dt δ + b_dt, one matrix or the experts'; a scan reads no blocks. */
static bool take_delta_linear(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId value, IrOp bias_op, IrOp linear_op) {
    const IrNode *bias = made_by(g, uses, value, bias_op);
    const IrNode *linear = bias != NULL ? made_by(g, uses, bias->operands[0], linear_op) : NULL;
    if (linear == NULL || ir_is_blocks(g->values[linear->operands[1]].type.dtype)) return false;
    join(g, &s->m->group, bias);
    join(g, &s->m->group, linear);
    set(s, IR_ROLE_dt_b, bias->operands[1]);
    set(s, IR_ROLE_dt_w, linear->operands[1]);
    take_view(g, uses, s, IR_ROLE_delta, linear->operands[0]);
    return true;
}

/* Δ = softplus(…) in each of the forms that experts give it */
static bool take_dt(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId dt) {
    const IrNode *softplus = ps_maker(g, dt);
    if (softplus == NULL || softplus->op != IR_OP_softplus || uses->count[dt] != 2) return false;
    join(g, &s->m->group, softplus);
    IrValueId pre = softplus->operands[0];
    if (take_delta_linear(g, uses, s, pre, IR_OP_add_bias, IR_OP_linear)) return true;
    if (s->experts == PG_SCAN_HOLD) return take_delta_linear(g, uses, s, pre, IR_OP_add_bias_routed, IR_OP_linear_routed);
    if (s->experts == PG_SCAN_UPDATE) return take_delta_linear(g, uses, s, pre, IR_OP_add_bias, IR_OP_linear_all);
    const IrNode *sum = made_by(g, uses, pre, IR_OP_expert_sum_routed);
    if (sum == NULL || !take_delta_linear(g, uses, s, sum->operands[0], IR_OP_add_bias_routed, IR_OP_linear_routed)) return false;
    join(g, &s->m->group, sum);
    set(s, IR_ROLE_gates, sum->operands[1]);
    set(s, IR_ROLE_experts, ps_maker(g, ps_maker(g, sum->operands[0])->operands[0])->operands[2]); /* linear_routed's */
    s->experts = PG_SCAN_PARAMS;
    return true;
}

/* a = exp(Δ ⊗ A); gives the product's node */
static const IrNode *take_decay(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId a) {
    const IrNode *exponential = made_by(g, uses, a, IR_OP_exp);
    const IrNode *outer = exponential != NULL ? ps_maker(g, exponential->operands[0]) : NULL;
    if (outer == NULL || (outer->op != IR_OP_outer && outer->op != IR_OP_outer_routed)) return NULL;
    join(g, &s->m->group, exponential);
    join(g, &s->m->group, outer);
    if (take_mix(g, uses, outer->operands[1], s->m, IR_ROLE_A)) {
        s->experts = PG_SCAN_PARAMS;
    } else {
        if (ps_weight(g, outer->operands[1]) == NULL) return NULL;
        set(s, IR_ROLE_A, outer->operands[1]);
    }
    return outer;
}

/* zoh(v), of a v that nobody reads but it and the decay. */
static bool take_zoh(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId value, IrValueId v) {
    const IrNode *zoh = made_by(g, uses, value, IR_OP_zoh);
    if (zoh == NULL || zoh->operands[0] != v || uses->count[v] != 2) return false;
    join(g, &s->m->group, zoh);
    return true;
}

/* b = (Δ ∘ c) ⊗ B, with zero-order hold ∘ zoh(Δ ⊗ A) */
static bool take_input(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId b, const IrNode *outer) {
    const IrNode *held = made_by(g, uses, b, IR_OP_mul);
    IrValueId dt = outer->operands[0], v = outer->results[0];
    const IrNode *inject = made_by(g, uses, held != NULL ? held->operands[0] : b, IR_OP_inject);
    if (held != NULL ? !take_zoh(g, uses, s, held->operands[1], v) : uses->count[v] != 1) return false;
    const IrNode *product = inject != NULL ? made_by(g, uses, inject->operands[0], IR_OP_mul) : NULL;
    if (product == NULL || (product->operands[0] != dt && product->operands[1] != dt) || repeats(g, product)) return false;
    if (held != NULL) join(g, &s->m->group, held);
    join(g, &s->m->group, inject);
    join(g, &s->m->group, product);
    set(s, IR_ROLE_x, other_operand(product, dt));
    take_view(g, uses, s, IR_ROLE_B, inject->operands[1]);
    return true;
}

/* + D ∘ c */
static bool take_skip(const IrGraph *g, const PsUses *uses, Scan *s) {
    IrValueId c = get(s, IR_ROLE_x);
    const IrNode *add = used_by(g, uses, get(s, IR_ROLE_y), IR_OP_add);
    if (add == NULL || repeats(g, add)) return false;
    IrValueId value = other_operand(add, get(s, IR_ROLE_y));
    const IrNode *skip = ps_maker(g, value);
    if (skip == NULL || uses->count[value] != 1) return false;
    if (skip->op == IR_OP_mul_param || skip->op == IR_OP_mul_param_routed) {
        set(s, IR_ROLE_D, skip->operands[1]);
        if (skip->operands[0] != c) return false;
    } else if (skip->op == IR_OP_mul && (skip->operands[0] == c || skip->operands[1] == c) && !repeats(g, skip)) {
        if (!take_mix(g, uses, take_repeat(g, uses, s, other_operand(skip, c)), s->m, IR_ROLE_D)) return false;
        s->experts = PG_SCAN_PARAMS;
    } else {
        return false;
    }
    join(g, &s->m->group, skip);
    join(g, &s->m->group, add);
    set(s, IR_ROLE_y, add->results[0]);
    return true;
}

/* Whether D has a value for each channel of the state, none for several. */
static bool has_whole_skip(const IrGraph *g, const Scan *s) {
    return ir_dim(&g->values[get(s, IR_ROLE_D)].type, IR_DIM_CHANNEL) ==
           ir_dim(&g->values[get(s, IR_ROLE_state)].type, IR_DIM_CHANNEL);
}

/* The sum over the chosen experts of a block whose experts have states. */
static bool take_sum(const IrGraph *g, const PsUses *uses, Scan *s) {
    if (s->experts != PG_SCAN_HOLD && s->experts != PG_SCAN_UPDATE) return true;
    const IrNode *sum =
        used_by(g, uses, get(s, IR_ROLE_y), s->experts == PG_SCAN_HOLD ? IR_OP_expert_sum_routed : IR_OP_expert_sum);
    if (sum == NULL) return false;
    if (s->experts == PG_SCAN_UPDATE) set(s, IR_ROLE_experts, sum->operands[1]);
    set(s, IR_ROLE_gates, sum->operands[sum->n_operands - 1]);
    join(g, &s->m->group, sum);
    set(s, IR_ROLE_y, sum->results[0]);
    return true;
}

/* y ∘ act(z) */
static void take_gate(const IrGraph *g, const PsUses *uses, Scan *s) {
    const IrNode *product = used_by(g, uses, get(s, IR_ROLE_y), IR_OP_mul);
    if (product == NULL || repeats(g, product)) return;
    IrValueId gated = other_operand(product, get(s, IR_ROLE_y));
    const IrNode *act = ps_maker(g, gated);
    if (act == NULL || uses->count[gated] != 1 || act->region != product->region) return;
    if (ps_activation(act->op) == PG_NO_ACT) return;
    join(g, &s->m->group, act);
    join(g, &s->m->group, product);
    set(s, IR_ROLE_act, gated);
    set(s, IR_ROLE_z, act->operands[0]);
    set(s, IR_ROLE_y, product->results[0]);
}

/* The recurrence, and how experts enter it; false: all planes hold, which is what route fusion left. */
static bool take_recur(const IrGraph *g, Scan *s, const IrNode *recur) {
    set(s, IR_ROLE_state, recur->operands[2]);
    set(s, IR_ROLE_recur, recur->results[0]);
    join(g, &s->m->group, recur);
    if (recur->op == IR_OP_recur_routed) {
        s->experts = PG_SCAN_HOLD;
        set(s, IR_ROLE_experts, recur->operands[3]);
    } else if (ir_dim(&g->values[recur->operands[2]].type, IR_DIM_EXPERT) > 0) {
        s->experts = PG_SCAN_UPDATE;
        return recur->n_operands < 4;
    }
    return true;
}

bool ps_match_scan(const IrGraph *g, const PsUses *uses, IrNodeId id, PsMatch *out) {
    const IrNode *recur = &g->nodes[id];
    *out = (PsMatch){.roles = ir_no_roles()};
    Scan scan = {.m = out}, *s = &scan;
    if (!take_recur(g, s, recur)) return false;
    const IrNode *outer = take_decay(g, uses, s, recur->operands[0]);
    if (outer == NULL || !take_input(g, uses, s, recur->operands[1], outer) || !take_dt(g, uses, s, outer->operands[0]))
        return false;
    const IrNode *contract = used_by(g, uses, recur->results[0], IR_OP_contract);
    if (contract == NULL) return false;
    join(g, &out->group, contract);
    take_view(g, uses, s, IR_ROLE_C, contract->operands[1]);
    set(s, IR_ROLE_y, contract->results[0]);
    if (!take_skip(g, uses, s) || !has_whole_skip(g, s) || !take_sum(g, uses, s)) return false;
    take_gate(g, uses, s);
    return true;
}

/* ---------------------------------------------------------------------------------------------- heads */

/* exp(v) with v = Δ·A; gives v's node. */
static const IrNode *take_head_decay(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId a) {
    const IrNode *exponential = made_by(g, uses, take_repeat(g, uses, s, a), IR_OP_exp);
    const IrNode *v = exponential != NULL ? ps_maker(g, exponential->operands[0]) : NULL;
    if (v == NULL) return NULL;
    if (v->op == IR_OP_mul) {
        if (repeats(g, v) || !take_mix(g, uses, v->operands[1], s->m, IR_ROLE_A)) return NULL;
        s->experts = PG_SCAN_PARAMS;
    } else {
        if ((v->op != IR_OP_mul_param && v->op != IR_OP_mul_param_routed) || ps_weight(g, v->operands[1]) == NULL) return NULL;
        set(s, IR_ROLE_A, v->operands[1]);
    }
    join(g, &s->m->group, exponential);
    join(g, &s->m->group, v);
    return v;
}

/* Δ, or Δ·zoh(v), of which `step` is known to be one. */
static bool take_step(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId step, const IrNode *v) {
    IrValueId dt = v->operands[0], product = v->results[0];
    if (step == dt) return uses->count[product] == 1;
    const IrNode *mul = made_by(g, uses, step, IR_OP_mul);
    if (mul == NULL || (mul->operands[0] != dt && mul->operands[1] != dt)) return false;
    if (!take_zoh(g, uses, s, other_operand(mul, dt), product)) return false;
    join(g, &s->m->group, mul);
    return true;
}

/* b = (Δ ∘ x) ⊗ B */
static bool take_head_input(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId b, const IrNode *v) {
    const IrNode *inject = made_by(g, uses, b, IR_OP_inject);
    const IrNode *product = inject != NULL ? made_by(g, uses, inject->operands[0], IR_OP_mul) : NULL;
    if (product == NULL) return false;
    join(g, &s->m->group, inject);
    join(g, &s->m->group, product);
    if (!take_step(g, uses, s, take_repeat(g, uses, s, product->operands[0]), v)) return false;
    set(s, IR_ROLE_x, product->operands[1]);
    take_view(g, uses, s, IR_ROLE_B, inject->operands[1]);
    return true;
}

/* The time steps, behind their limits. They are read by v and by the input, and by nobody else. */
static bool take_limits(const IrGraph *g, const PsUses *uses, Scan *s, IrValueId dt) {
    const IrNode *clamp = ps_maker(g, dt);
    if (uses->count[dt] != 2) return false;
    set(s, IR_ROLE_delta, dt);
    if (clamp == NULL || clamp->op != IR_OP_clamp) return true;
    join(g, &s->m->group, clamp);
    set(s, IR_ROLE_delta, clamp->operands[0]);
    return true;
}

/* Groups of channels that read a B of their own. */
static int64_t inject_groups(const IrGraph *g, const IrNode *recur) {
    return ps_maker(g, recur->operands[1])->attrs[IR_INJECT_groups].i;
}

bool ps_match_heads(const IrGraph *g, const PsUses *uses, IrNodeId id, PsMatch *out) {
    const IrNode *recur = &g->nodes[id];
    const IrType *a = &g->values[recur->operands[0]].type;
    *out = (PsMatch){.roles = ir_no_roles()};
    Scan scan = {.m = out}, *s = &scan;
    if (ir_dim(a, IR_DIM_STATE) > 0) return false;
    if (!take_recur(g, s, recur)) return false;
    const IrNode *v = take_head_decay(g, uses, s, recur->operands[0]);
    if (v == NULL || !take_head_input(g, uses, s, recur->operands[1], v) || !take_limits(g, uses, s, v->operands[0])) return false;
    const IrNode *contract = used_by(g, uses, recur->results[0], IR_OP_contract);
    if (contract == NULL || contract->attrs[IR_CONTRACT_groups].i != inject_groups(g, recur)) return false;
    join(g, &out->group, contract);
    take_view(g, uses, s, IR_ROLE_C, contract->operands[1]);
    set(s, IR_ROLE_y, contract->results[0]);
    if (!take_skip(g, uses, s) || !take_sum(g, uses, s)) return false;
    take_gate(g, uses, s);
    return true;
}
