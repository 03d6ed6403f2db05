/* Elementwise fusion.
 *
 * Requires: nothing (it does more after route and scan fusion). Provides: regions that hold one linear, or the gate and up
 * linears of a gated mlp, with the bias, activation, product, sum over experts, addends and scaling that follow. A linear whose
 * bias is all that follows carries the convolution behind it in a one-row step, and whoever reads a norm makes it again there
 * (passes/regions.c). Destroys: nothing.
 *
 * A region grows from its linear layer as long as the last value has one user which a linear layer's epilogue can do. */
#include "passes/graph_tools.h"
#include "passes/passes.h"

typedef struct Growth {
    IrGraph *g;
    const PsUses *uses;
    PsGroup group;
    IrRoles roles;
    IrValueId y; /* the last value */
} Growth;

static bool is_bias(IrOp op) { return op == IR_OP_add_bias || op == IR_OP_add_bias_routed; }

/* The only user of the last value, if it is free to join a region. */
static IrNode *free_user(const Growth *w) {
    IrNodeId user = ps_only_user(w->uses, w->y);
    return user != IR_NONE && w->g->nodes[user].region == IR_NONE ? &w->g->nodes[user] : NULL;
}

static void take(Growth *w, const IrNode *node) {
    ps_group_add(&w->group, (IrNodeId)(node - w->g->nodes));
    w->y = node->results[0];
}

static void grow_bias(Growth *w) {
    const IrNode *user = free_user(w);
    if (user == NULL || !is_bias(user->op)) return;
    w->roles.of[IR_ROLE_bias] = user->operands[1];
    take(w, user);
}

static void grow_activation(Growth *w) {
    const IrNode *user = free_user(w);
    if (user == NULL || ps_activation(user->op) == PG_NO_ACT) return;
    take(w, user);
    w->roles.of[IR_ROLE_act] = w->y;
}

/* act(gate) ∘ up, where up is a linear layer of the same kind and input: both become one region. */
static void grow_dual(Growth *w, const IrNode *gate) {
    const IrNode *product = free_user(w);
    if (product == NULL || product->op != IR_OP_mul || product->operands[0] != w->y) return;
    const IrNode *up = ps_maker(w->g, product->operands[1]), *bias = NULL;
    if (up != NULL && is_bias(up->op) && w->uses->count[up->results[0]] == 1) {
        bias = up;
        up = ps_maker(w->g, bias->operands[0]);
    }
    if (up == NULL || up->op != gate->op || up->operands[0] != gate->operands[0] || up->region != IR_NONE) return;
    if (w->uses->count[up->results[0]] != 1) return;
    if (up->attrs[IR_LINEAR_rounds].i != gate->attrs[IR_LINEAR_rounds].i) return;
    if (!ir_type_equal(&w->g->values[up->operands[1]].type, &w->g->values[gate->operands[1]].type)) return;
    take(w, up);
    w->roles.of[IR_ROLE_w2] = up->operands[1];
    if (bias != NULL) {
        take(w, bias);
        w->roles.of[IR_ROLE_bias2] = bias->operands[1];
    }
    take(w, product);
}

static bool grow_sum(Growth *w) {
    const IrNode *user = free_user(w);
    if (user == NULL || (user->op != IR_OP_expert_sum_routed && user->op != IR_OP_plane_sum)) return true;
    take(w, user);
    w->roles.of[IR_ROLE_sum] = w->y;
    if (user->op == IR_OP_expert_sum_routed) w->roles.of[IR_ROLE_gates] = user->operands[1];
    return user->op != IR_OP_plane_sum; /* shared experts are an addend of the routed ones, not the other way round */
}

static bool is_rows(const IrGraph *g, IrValueId value) {
    const IrType *type = &g->values[value].type;
    return ir_dim(type, IR_DIM_EXPERT) == 0 && ir_dim(type, IR_DIM_SLOT) == 0;
}

/* An addition of rows that are known already. */
static bool grow_add(Growth *w) {
    const IrNode *user = free_user(w);
    if (user == NULL || user->op != IR_OP_add || !is_rows(w->g, w->y)) return false;
    IrValueId other = user->operands[0] == w->y ? user->operands[1] : user->operands[0];
    const IrNode *maker = ps_maker(w->g, other);
    bool same = ir_type_equal(&w->g->values[other].type, &w->g->values[w->y].type); /* not one value a row */
    if (!same || (maker != NULL && ps_group_has(&w->group, (IrNodeId)(maker - w->g->nodes)))) return false;
    take(w, user);
    w->roles.of[IR_ROLE_addend] = w->roles.of[IR_ROLE_residual]; /* of the first of two */
    w->roles.of[IR_ROLE_residual] = other;
    return true;
}

/* A scaling; in front of the residual stream it has a role of its own. */
static bool grow_scale(Growth *w) {
    const IrNode *user = free_user(w);
    if (user == NULL || user->op != IR_OP_scale) return false;
    take(w, user);
    IrValueId scaled = w->y;
    w->roles.of[grow_add(w) ? IR_ROLE_out_scale : IR_ROLE_scale] = scaled;
    return true;
}

/* Shared experts or an adapter, a scaling, the residual stream: each if it is there. */
static void grow_tail(Growth *w) {
    bool added = grow_add(w);
    if (!grow_scale(w) && added) grow_add(w);
}

static void grow_region(IrGraph *g, const PsUses *uses, IrNodeId id) {
    const IrNode *linear = &g->nodes[id];
    Growth w = {.g = g, .uses = uses, .roles = ps_linear_roles(linear)};
    take(&w, linear);
    grow_bias(&w);
    grow_activation(&w);
    grow_dual(&w, linear);
    if (grow_sum(&w)) grow_tail(&w);
    w.roles.of[IR_ROLE_y] = w.y;
    ps_make_linear_region(g, &w.group, &w.roles);
}

void ps_elementwise_fusion(IrGraph *g) {
    SuArena scratch = {0};
    PsUses uses = ps_uses(g, &scratch);
    for (size_t n = 0; n < g->n_nodes; n++)
        if (ps_is_linear(g->nodes[n].op) && g->nodes[n].region == IR_NONE) grow_region(g, &uses, (IrNodeId)n);
    su_arena_free(&scratch);
    ps_regroup(g);
}
