/* Route fusion.
 *
 * Requires: a naive graph. Provides: routers as regions; work on chosen experts only (*_routed operations) wherever a dense
 * result over all experts is used for nothing but a sum over the chosen. Destroys: nothing.
 *
 * From each expert_sum the pass walks back over the values that have a plane per expert. If all of them are made by operations
 * that have a routed form and none is used elsewhere, the whole cone is rewritten: planes then run over the k chosen experts.
 * A state that moves for all experts (idle: update) stops the walk, and the cone stays dense: that is what it means. */
#include <stdlib.h>

#include "passes/graph_tools.h"
#include "passes/passes.h"

/* The routed form of an operation, or the operation itself where it works on planes of either kind. */
typedef struct RoutedForm {
    bool can;     /* it may stand in a cone */
    IrOp routed;  /* its form there */
    bool takes_experts;
} RoutedForm;

static bool is_per_expert(const IrGraph *g, IrValueId weight) { return ir_dim(&g->values[weight].type, IR_DIM_EXPERT) > 0; }

static RoutedForm routed_form(const IrGraph *g, const IrNode *node, IrValueId expert_indices) {
    IrOp op = node->op;
    if (op == IR_OP_linear_all) return (RoutedForm){true, IR_OP_linear_routed, true};
    if (op == IR_OP_recur)
        return (RoutedForm){node->n_operands == 4 && node->operands[3] == expert_indices, IR_OP_recur_routed, false};
    if (op == IR_OP_conv_each) {
        bool held = node->n_operands == 4 && node->operands[3] == expert_indices, past = node->n_operands > 2;
        return (RoutedForm){!past || held, held ? IR_OP_conv_each_routed : op, false};
    }
    if (op == IR_OP_add_bias)
        return is_per_expert(g, node->operands[1]) ? (RoutedForm){true, IR_OP_add_bias_routed, true}
                                                   : (RoutedForm){true, op, false};
    if (op == IR_OP_mul_param)
        return is_per_expert(g, node->operands[1]) ? (RoutedForm){true, IR_OP_mul_param_routed, true}
                                                   : (RoutedForm){true, op, false};
    if (op == IR_OP_outer)
        return is_per_expert(g, node->operands[1]) ? (RoutedForm){true, IR_OP_outer_routed, true} : (RoutedForm){true, op, false};
    return (RoutedForm){(ir_op_info(op)->traits & IR_PLANEWISE) != 0, op, false};
}

/* Whether a value that a node makes has a plane per expert. */
static bool has_planes(const IrGraph *g, IrValueId value) {
    return g->values[value].kind == IR_RESULT && ir_dim(&g->values[value].type, IR_DIM_EXPERT) > 0;
}

/* Adds the makers of all plane values behind `value` to the cone; false if one of them has no routed form. */
static bool grow_cone(const IrGraph *g, IrValueId value, IrValueId expert_indices, PsGroup *cone) {
    const IrNode *node = ps_maker(g, value);
    IrNodeId id = (IrNodeId)(node - g->nodes);
    if (ps_group_has(cone, id)) return true;
    if (cone->n == PS_MAX_GROUP || !routed_form(g, node, expert_indices).can) return false;
    ps_group_add(cone, id);
    for (int i = 0; i < node->n_operands; i++)
        if (has_planes(g, node->operands[i]) && !grow_cone(g, node->operands[i], expert_indices, cone)) return false;
    return true;
}

/* Uses of a value by the nodes of a cone, or by `sum`. */
static int uses_inside(const IrGraph *g, const PsGroup *cone, IrNodeId sum, IrValueId value) {
    int count = 0;
    for (int n = 0; n <= cone->n; n++) {
        const IrNode *node = &g->nodes[n < cone->n ? cone->nodes[n] : sum];
        for (int i = 0; i < node->n_operands; i++) count += node->operands[i] == value;
    }
    return count;
}

/* Whether every plane value of the cone is used only inside it, or by `sum`. A state's next value is no plane. */
static bool cone_is_closed(const IrGraph *g, const PsUses *uses, const PsGroup *cone, IrNodeId sum) {
    for (int n = 0; n < cone->n; n++) {
        IrValueId value = g->nodes[cone->nodes[n]].results[0];
        if (uses_inside(g, cone, sum, value) != uses->count[value]) return false;
    }
    return true;
}

static void retype(IrGraph *g, IrNode *node) {
    IrType types[IR_MAX_RESULTS];
    const char *why = NULL;
    if (!ir_infer(g, node->op, node->operands, node->n_operands, node->attrs, types, &why))
        SU_BUG("route fusion made a wrong %s: %s", ir_op_info(node->op)->name, why);
    for (int i = 0; i < IR_MAX_RESULTS; i++)
        if (node->results[i] != IR_NONE) g->values[node->results[i]].type = types[i];
}

static int by_place(const void *a, const void *b) {
    IrNodeId x = *(const IrNodeId *)a, y = *(const IrNodeId *)b;
    return x < y ? -1 : x > y;
}

static void rewrite_cone(IrGraph *g, PsGroup *cone, IrValueId expert_indices) {
    qsort(cone->nodes, (size_t)cone->n, sizeof cone->nodes[0], by_place); /* so that operand types are new already */
    for (int n = 0; n < cone->n; n++) {
        IrNode *node = &g->nodes[cone->nodes[n]];
        RoutedForm form = routed_form(g, node, expert_indices);
        node->op = form.routed;
        if (form.takes_experts) node->operands[node->n_operands++] = expert_indices;
        retype(g, node);
    }
}

static void fuse_sum(IrGraph *g, const PsUses *uses, IrNodeId id) {
    IrNode *sum = &g->nodes[id];
    IrValueId expert_indices = sum->operands[1], combine_weights = sum->operands[2];
    PsGroup cone = {.n = 0};
    if (!has_planes(g, sum->operands[0]) || !grow_cone(g, sum->operands[0], expert_indices, &cone)) return;
    if (!cone_is_closed(g, uses, &cone, id)) return;
    rewrite_cone(g, &cone, expert_indices);
    sum->op = IR_OP_expert_sum_routed;
    sum->operands[1] = combine_weights;
    sum->n_operands = 2;
    retype(g, sum);
}

/* linear (+ bias) → softmax or sigmoid → select, gates: one region. */
static void fuse_router(IrGraph *g, IrNodeId gates_id) {
    const IrNode *combine_weights = &g->nodes[gates_id];
    const IrNode *score = ps_maker(g, combine_weights->operands[0]);
    const IrNode *select = ps_maker(g, combine_weights->operands[1]);
    const IrNode *linear = ps_maker(g, score->operands[0]);
    PsGroup group = {.n = 0};
    IrRoles roles = ir_no_roles();
    if (linear->op == IR_OP_add_bias) {
        roles.of[IR_ROLE_bias] = linear->operands[1];
        ps_group_add(&group, (IrNodeId)(linear - g->nodes));
        linear = ps_maker(g, linear->operands[0]);
    }
    if (ir_is_blocks(g->values[linear->operands[1]].type.dtype)) return; /* of a text: the kernel of routers takes floats */
    ps_group_add(&group, (IrNodeId)(linear - g->nodes));
    ps_group_add(&group, (IrNodeId)(score - g->nodes));
    ps_group_add(&group, (IrNodeId)(select - g->nodes));
    ps_group_add(&group, gates_id);
    roles.of[IR_ROLE_x] = linear->operands[0];
    roles.of[IR_ROLE_w] = linear->operands[1];
    roles.of[IR_ROLE_score] = score->results[0];
    if (select->n_operands > 1) roles.of[IR_ROLE_select_bias] = select->operands[1];
    roles.of[IR_ROLE_experts] = select->results[0];
    roles.of[IR_ROLE_gates] = combine_weights->results[0];
    ps_make_region(g, IR_REGION_ROUTER, ps_part_name(g, roles.of[IR_ROLE_w], "router"), &group, &roles);
}

void ps_route_fusion(IrGraph *g) {
    SuArena scratch = {0};
    PsUses uses = ps_uses(g, &scratch); /* of the values in cones: rewriting one adds uses of expert indices only */
    for (size_t n = 0; n < g->n_nodes; n++)
        if (g->nodes[n].op == IR_OP_expert_sum) fuse_sum(g, &uses, (IrNodeId)n);
    su_arena_free(&scratch);
    for (size_t n = 0; n < g->n_nodes; n++)
        if (g->nodes[n].op == IR_OP_gates) fuse_router(g, (IrNodeId)n);
    ps_regroup(g);
}
