/* The rules that hold for every graph between passes. Each check is a function below; what one has established (valid ids,
 * first of all) the later ones use, so a node that fails one is not looked at further. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "ir/internal.h"
#include "support/alloc.h"
#include "ir/names.h"
#include "support/size.h"

/* Why only certain regions may read a value: all who do make it themselves in a one-row step; its other rows are not made; the
 * convolution is computed where it is made. */
enum { BOUND_NORM = 1, BOUND_OUTPUT_NORM = 2, BOUND_CONV = 4 };

typedef struct Verify {
    const IrGraph *g;
    SuDiags *diags;
    SuArena scratch;
    bool ok;
    const IrNode **consumer; /* of each state: the node that takes it */
    uint8_t *bound;          /* of each value: BOUND_… */
} Verify;

/* ---------------------------------------------------------------------------------------------- messages */

static const char *node_name(const IrGraph *g, const IrNode *node) {
    IrValueId first = node->results[0];
    bool known = first >= 0 && (size_t)first < g->n_values && g->values[first].name != NULL;
    return known ? g->values[first].name : "?";
}

__attribute__((format(printf, 3, 4))) static bool bad_node(Verify *v, const IrNode *node, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *what = su_vprintf(&v->scratch, format, args);
    va_end(args);
    v->ok = false;
    return su_error(v->diags, node->span, NULL, "%%%s (%s): %s", node_name(v->g, node), ir_op_info(node->op)->name, what);
}

__attribute__((format(printf, 2, 3))) static bool bad_graph(Verify *v, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *what = su_vprintf(&v->scratch, format, args);
    va_end(args);
    v->ok = false;
    return su_error(v->diags, (SuSpan){0}, NULL, "graph %s: %s", v->g->name, what);
}

/* ---------------------------------------------------------------------------------------------- values */

static bool is_value(const IrGraph *g, IrValueId id) { return id >= 0 && (size_t)id < g->n_values; }

/* Rows in front at most, and a number of elements that the language allows. */
static bool type_is_sound(const IrType *type) {
    if (type->rank < 1 || type->rank > IR_MAX_RANK) return false;
    uint64_t elements = 1;
    for (int i = type->dim[0] == IR_R; i < type->rank; i++)
        if (type->dim[i] < 1 || !su_mul(elements, (uint64_t)type->dim[i], &elements)) return false;
    return elements <= (uint64_t)1 << 48;
}

static bool is_row_numbers(const IrType *type) { return type->dtype == IR_I32 && type->rank == 1 && type->dim[0] == IR_R; }

static bool check_inputs(Verify *v) {
    const IrGraph *g = v->g;
    if (!is_value(g, g->tokens) || g->values[g->tokens].kind != IR_TOKENS || !is_row_numbers(&g->values[g->tokens].type))
        return bad_graph(v, "tokens must be i32[rows]");
    if (!is_value(g, g->positions) || g->values[g->positions].kind != IR_POSITIONS ||
        !is_row_numbers(&g->values[g->positions].type))
        return bad_graph(v, "positions must be i32[rows]");
    return true;
}

/* A tensor of the checkpoint has one type, whatever is made of it. `slot` is its own among the tensors' names. */
static bool check_tensor(Verify *v, const IrValue *weight, IrNameSlot *slot, int32_t id) {
    if (slot->number == -1) slot->number = id;
    if (ir_type_equal(&v->g->values[slot->number].type, &weight->type)) return true;
    return bad_graph(v, "@%s: a weight with and without neg_exp is one tensor, of one type", weight->name);
}

/* Weights and states: sound types, every name once. */
static bool check_constants(Verify *v) {
    IrNames names = {.arena = &v->scratch}, tensors = {.arena = &v->scratch};
    for (size_t i = 0; i < v->g->n_values; i++) {
        const IrValue *value = &v->g->values[i];
        if (value->kind != IR_WEIGHT && value->kind != IR_STATE) continue;
        if (value->name == NULL) return bad_graph(v, "value %zu has no name", i);
        if (!type_is_sound(&value->type))
            return bad_graph(v, "@%s: dimensions are at least 1, and all of them together at most 2^48", value->name);
        if (value->type.dim[0] == IR_R || value->type.dtype == IR_I32)
            return bad_graph(v, "@%s: a weight or state is of floats and has no rows", value->name);
        const char *key = value->transform == IR_NEG_EXP ? su_printf(&v->scratch, "neg_exp %s", value->name) : value->name;
        IrNameSlot *slot = ir_names_at(&names, key);
        if (slot->number != -1) return bad_graph(v, "two weights or states are named @%s", value->name);
        slot->number = (int32_t)i;
        if (value->kind == IR_WEIGHT && !check_tensor(v, value, ir_names_at(&tensors, value->name), (int32_t)i)) return false;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------- nodes */

/* Is `id` the result of a node before `node`? */
static bool is_made_before(const IrGraph *g, IrValueId id, const IrNode *node) {
    const IrValue *value = &g->values[id];
    if (value->node < 0 || &g->nodes[value->node] >= node || value->result < 0 || value->result >= IR_MAX_RESULTS) return false;
    return g->nodes[value->node].results[value->result] == id;
}

/* May an operand of this letter of ops.def be this value? Mixed weights are results. */
static bool kind_fits(char letter, IrValueKind kind) {
    switch (letter) {
    case 'w':
    case 'W': return kind == IR_WEIGHT || kind == IR_RESULT;
    case 's':
    case 'S': return kind == IR_STATE;
    case 't': return kind == IR_TOKENS;
    case 'p': return kind == IR_POSITIONS;
    case 'x':
    case 'X':
    case 'i':
    case 'I':
    case 'g': return kind == IR_RESULT;
    }
    SU_BUG("no operand has the letter %c", letter);
}

static bool check_operands(Verify *v, const IrNode *node) {
    const IrGraph *g = v->g;
    const IrOpInfo *info = ir_op_info(node->op);
    if (node->n_operands < info->min_operands || node->n_operands > info->max_operands)
        return bad_node(v, node, "has %d operands", node->n_operands);
    for (int i = 0; i < node->n_operands; i++) {
        IrValueId id = node->operands[i];
        if (!is_value(g, id)) return bad_node(v, node, "operand %d is absent", i);
        if (!kind_fits(info->operands[i], g->values[id].kind)) return bad_node(v, node, "operand %d is of the wrong kind", i);
        if (g->values[id].kind == IR_RESULT && !is_made_before(g, id, node))
            return bad_node(v, node, "operand %d is not made before it", i);
        if (g->values[id].kind != IR_STATE) continue;
        if (v->consumer[id]) return bad_node(v, node, "@%s is used by two nodes", g->values[id].name);
        v->consumer[id] = node;
    }
    return true;
}

static bool check_results(Verify *v, const IrNode *node, IrNames *names) {
    const IrGraph *g = v->g;
    int n = ir_result_count(ir_op_info(node->op), node->n_operands);
    for (int i = 0; i < IR_MAX_RESULTS; i++) {
        IrValueId id = node->results[i];
        if (i >= n && id != IR_NONE) return bad_node(v, node, "has too many results");
        if (i >= n) continue;
        if (!is_value(g, id)) return bad_node(v, node, "result %d is absent", i);
        const IrValue *value = &g->values[id];
        if (value->kind != IR_RESULT || value->node != node - g->nodes || value->result != i)
            return bad_node(v, node, "result %d says that another node makes it", i);
        if (value->name == NULL) return bad_node(v, node, "result %d has no name", i);
        IrNameSlot *slot = ir_names_at(names, value->name);
        if (slot->number != -1) return bad_node(v, node, "two results are named %%%s", value->name);
        slot->number = id;
    }
    return true;
}

/* Dimensions count what the operation takes and makes. */
static bool check_dims(Verify *v, const IrNode *node, const IrType *results) {
    const IrGraph *g = v->g;
    char is[IR_TEXT], wanted[IR_TEXT];
    for (int i = 0; i < node->n_operands; i++) {
        IrType type = g->values[node->operands[i]].type;
        ir_operand_roles(g, node, i, &type);
        if (!ir_roles_agree(&type, &g->values[node->operands[i]].type))
            return bad_node(v, node, "operand %d is %s, and it takes %s", i, ir_type_text(&g->values[node->operands[i]].type, is),
                            ir_type_text(&type, wanted));
    }
    for (int i = 0; i < ir_result_count(ir_op_info(node->op), node->n_operands); i++) {
        const IrType *type = &g->values[node->results[i]].type;
        if (!ir_roles_agree(type, &results[i]))
            return bad_node(v, node, "result %d is %s, but its operands make it %s", i, ir_type_text(type, is),
                            ir_type_text(&results[i], wanted));
    }
    return true;
}

static bool check_types(Verify *v, const IrNode *node) {
    const IrGraph *g = v->g;
    IrType types[IR_MAX_RESULTS];
    const char *why;
    if (!ir_infer(g, node->op, node->operands, node->n_operands, node->attrs, types, &why)) return bad_node(v, node, "%s", why);
    for (int i = 0; i < ir_result_count(ir_op_info(node->op), node->n_operands); i++) {
        const IrType *is = &g->values[node->results[i]].type;
        char is_text[IR_TEXT], inferred[IR_TEXT];
        if (!type_is_sound(is)) return bad_node(v, node, "result %d has no sound type", i);
        if (!ir_type_equal(is, &types[i]))
            return bad_node(v, node, "result %d is %s, but its operands make it %s", i, ir_type_text(is, is_text),
                            ir_type_text(&types[i], inferred));
    }
    return check_dims(v, node, types);
}

/* The experts that a node reads by expert indices: planes of an operand, else the scores behind the rows. */
static int64_t experts_of(const IrGraph *g, const IrNode *node) {
    for (int i = 0; i < node->n_operands; i++) {
        int64_t experts = ir_dim(&g->values[node->operands[i]].type, IR_DIM_EXPERT);
        if (experts > 0) return experts;
    }
    return g->values[node->operands[0]].type.dim[1];
}

/* A part, or the planes, are of a weight, not of another part. */
static bool check_take(Verify *v, const IrNode *node) {
    return (node->op != IR_OP_take && node->op != IR_OP_transpose) || v->g->values[node->operands[0]].kind == IR_WEIGHT ||
           bad_node(v, node, "is of no weight");
}

/* Blocks are no elements: only operations that take whole rows of them read them. */
static bool check_blocks(Verify *v, const IrNode *node) {
    for (int i = 0; i < node->n_operands; i++) {
        const IrValue *w = &v->g->values[node->operands[i]];
        if (!ir_is_blocks(w->type.dtype)) continue;
        bool whole =
            node->op == IR_OP_embed || node->op == IR_OP_linear || node->op == IR_OP_linear_all || node->op == IR_OP_linear_routed;
        if (!whole) return bad_node(v, node, "operand %d is %s, which it cannot read", i, ir_dtype_word(w->type.dtype));
        if (w->transform != IR_AS_IS)
            return bad_node(v, node, "operand %d is made of a %s weight", i, ir_dtype_word(w->type.dtype));
    }
    return true;
}

/* Routes are indices, so their type does not say how far they reach: that depends on the scores they were selected from. */
static bool check_expert_indices(Verify *v, const IrNode *node) {
    const IrGraph *g = v->g;
    int i = (int)strcspn(ir_op_info(node->op)->operands, "iI");
    if (i >= node->n_operands) return true;
    const IrNode *select = &g->nodes[g->values[node->operands[i]].node];
    int64_t experts = experts_of(g, node);
    if (select->op != IR_OP_select) return bad_node(v, node, "its expert indices are not selected");
    int64_t among = g->values[select->operands[0]].type.dim[1];
    if (among == experts) return true;
    return bad_node(v, node, "its expert indices choose among %" PRId64 " experts, and it has %" PRId64, among, experts);
}

/* Whoever runs the graph refuses tokens past max_positions, so that caches without a window must hold just as many. */
static bool check_positions(Verify *v, const IrNode *node) {
    if (node->op != IR_OP_attend || node->attrs[IR_ATTEND_window].i > 0) return true;
    int64_t held = v->g->values[node->operands[4]].type.dim[0];
    if (held == v->g->max_positions) return true;
    return bad_node(v, node, "without a window its caches must hold max_positions (%" PRId64 "), not %" PRId64, v->g->max_positions,
                    held);
}

static bool check_level(Verify *v, const IrNode *node) {
    if (v->g->level != IR_NAIVE) return true;
    if (node->region != IR_NONE) return bad_node(v, node, "a naive graph has no regions");
    if (ir_op_info(node->op)->traits & IR_ROUTED) return bad_node(v, node, "a naive graph has no operation on chosen experts");
    return true;
}

static bool check_nodes(Verify *v) {
    IrNames names = {.arena = &v->scratch};
    ir_names_at(&names, v->g->values[v->g->tokens].name)->number = v->g->tokens;
    ir_names_at(&names, v->g->values[v->g->positions].name)->number = v->g->positions;
    for (size_t i = 0; i < v->g->n_nodes; i++) {
        const IrNode *node = &v->g->nodes[i];
        if ((unsigned)node->op >= IR_OP_COUNT) return bad_graph(v, "node %zu has an unknown operation", i);
        if (check_operands(v, node) && check_results(v, node, &names) && check_types(v, node) && check_take(v, node) &&
            check_blocks(v, node) && check_expert_indices(v, node) && check_positions(v, node))
            check_level(v, node);
    }
    return v->ok;
}

/* ---------------------------------------------------------------------------------------------- the whole */

/* Every state is taken by one node and set, once, to the result of that node that stands for it. */
static void check_states(Verify *v) {
    const IrGraph *g = v->g;
    for (size_t i = 0; i < g->n_values; i++) {
        const IrValue *state = &g->values[i];
        if (state->kind != IR_STATE) continue;
        const IrNode *node = v->consumer[i];
        if (!node) {
            bad_graph(v, "@%s is never used", state->name);
            continue;
        }
        const IrOpInfo *info = ir_op_info(node->op);
        int result = ir_result_count(info, node->n_operands) - info->n_states;
        for (int j = 0; node->operands[j] != (IrValueId)i; j++) result += strchr("sS", info->operands[j]) != NULL;
        if (state->next == IR_NONE)
            bad_node(v, node, "@%s is not set", state->name);
        else if (state->next != node->results[result])
            bad_node(v, node, "@%s is not set to result %d", state->name, result);
    }
}

static bool is_inside(const IrGraph *g, IrValueId value, int32_t region) {
    return g->values[value].kind == IR_RESULT && g->nodes[g->values[value].node].region == region;
}

static bool has_role(const IrRoles *roles, IrValueId value) {
    for (int i = 0; i < IR_ROLE_COUNT; i++)
        if (roles->of[i] == value) return true;
    return false;
}

/* Is `value` what a node of the region makes with one of these operations? */
static bool is_made_by(const IrGraph *g, IrValueId value, int32_t region, const IrOp *ops, int n) {
    for (int i = 0; i < n && is_inside(g, value, region); i++)
        if (g->nodes[g->values[value].node].op == ops[i]) return true;
    return false;
}

/* Roles stand for weights, states and nodes as their readers take them to. */
static bool role_fits(const IrGraph *g, int32_t r, IrRole role) {
    IrValueId value = g->regions[r].roles.of[role];
    const IrValue *v = &g->values[value];
    IrRegionKind kind = g->regions[r].kind;
    int64_t first;
    bool weight = ir_weight_behind(g, value, &first) != IR_NONE;
#define MADE_BY(...) is_made_by(g, value, r, (const IrOp[]){__VA_ARGS__}, (int)(sizeof((IrOp[]){__VA_ARGS__}) / sizeof(IrOp)))
    if (role == IR_ROLE_w || role == IR_ROLE_w2 || role == IR_ROLE_dt_w || (role == IR_ROLE_A && kind == IR_REGION_SCAN))
        return weight && v->type.rank >= 2;
    if (role == IR_ROLE_A || role == IR_ROLE_bias || role == IR_ROLE_bias2 || role == IR_ROLE_select_bias || role == IR_ROLE_dt_b ||
        role == IR_ROLE_D || role == IR_ROLE_norm_b || role == IR_ROLE_norm_c || role == IR_ROLE_mimo_x || role == IR_ROLE_mimo_z ||
        role == IR_ROLE_mimo_o)
        return weight;
    if (role == IR_ROLE_history || role == IR_ROLE_state || role == IR_ROLE_k_cache || role == IR_ROLE_v_cache)
        return v->kind == IR_STATE;
    if (v->kind != IR_RESULT) return false;
    if (role == IR_ROLE_linear) return MADE_BY(IR_OP_linear, IR_OP_linear_all, IR_OP_linear_routed);
    if (role == IR_ROLE_sum) return MADE_BY(IR_OP_expert_sum_routed, IR_OP_plane_sum);
    if (role == IR_ROLE_scale || role == IR_ROLE_out_scale) return MADE_BY(IR_OP_scale);
    if (role == IR_ROLE_score) return MADE_BY(IR_OP_softmax, IR_OP_sigmoid);
    if (role == IR_ROLE_recur) return MADE_BY(IR_OP_recur, IR_OP_recur_routed);
    if (role == IR_ROLE_rope) return MADE_BY(IR_OP_rope);
    if (kind == IR_REGION_TURN && (role == IR_ROLE_B || role == IR_ROLE_C)) return MADE_BY(IR_OP_rotate);
    if (kind == IR_REGION_TURN && role == IR_ROLE_B_last) return MADE_BY(IR_OP_delay);
    if (role == IR_ROLE_act) return is_inside(g, value, r);
    if (role == IR_ROLE_experts && kind == IR_REGION_ROUTER) return MADE_BY(IR_OP_select);
    if (role == IR_ROLE_gates && kind == IR_REGION_ROUTER) return MADE_BY(IR_OP_gates);
    if (role == IR_ROLE_experts) return g->nodes[v->node].op == IR_OP_select;
    if (role == IR_ROLE_y) return kind == IR_REGION_ATTENTION ? MADE_BY(IR_OP_attend) : is_inside(g, value, r);
    return true;
#undef MADE_BY
}

/* Every role that the kind asks for, none that it has not. */
static bool check_roles(Verify *v, int32_t r) {
    const IrGraph *g = v->g;
    const IrRegion *region = &g->regions[r];
    for (int i = 0; i < IR_ROLE_COUNT; i++) {
        const IrRoleInfo *info = ir_role_info((IrRole)i);
        char letter = info->kinds[region->kind];
        IrValueId value = region->roles.of[i];
        if (value == IR_NONE && letter == '!') return bad_graph(v, "the region \"%s\" has no %s", region->name, info->name);
        if (value == IR_NONE) continue;
        if (letter == '.') return bad_graph(v, "the region \"%s\" cannot have %s", region->name, info->name);
        if (!is_value(g, value)) return bad_graph(v, "%s of the region \"%s\" is absent", info->name, region->name);
        if (!role_fits(g, r, (IrRole)i))
            return bad_graph(v, "%s of the region \"%s\" is a value of another kind", info->name, region->name);
    }
    return true;
}

/* What a region's node reads from outside plays a role; or a slice of it does. */
static bool check_reads(Verify *v, const IrNode *node) {
    const IrGraph *g = v->g;
    const IrRoles *roles = &g->regions[node->region].roles;
    if (node->op == IR_OP_slice && has_role(roles, node->results[0])) return true;
    for (int i = 0; i < node->n_operands; i++) {
        IrValueId value = node->operands[i];
        if (value == g->positions || is_inside(g, value, node->region) || has_role(roles, value)) continue;
        return bad_node(v, node, "operand %d comes from outside the region and has no role in it", i);
    }
    return true;
}

/* Whether others may read a value that the region makes. */
static bool comes_out(const IrRegion *region, IrValueId value) {
    static const IrRole of_routers[] = {IR_ROLE_experts, IR_ROLE_gates}, of_turns[] = {IR_ROLE_B, IR_ROLE_B_last, IR_ROLE_C};
    const IrValueId *of = region->roles.of;
    for (size_t i = 0; region->kind == IR_REGION_ROUTER && i < sizeof of_routers / sizeof *of_routers; i++)
        if (of[of_routers[i]] == value) return true;
    for (size_t i = 0; region->kind == IR_REGION_TURN && i < sizeof of_turns / sizeof *of_turns; i++)
        if (of[of_turns[i]] == value) return true;
    return of[IR_ROLE_y] == value;
}

/* What a node reads of a region it does not stand in is a result of that region: one with a role. */
static bool check_outputs(Verify *v, const IrNode *node) {
    const IrGraph *g = v->g;
    for (int i = 0; i < node->n_operands; i++) {
        const IrValue *value = &g->values[node->operands[i]];
        int32_t region = value->kind == IR_RESULT ? g->nodes[value->node].region : IR_NONE;
        if (region == IR_NONE || region == node->region) continue;
        if (comes_out(&g->regions[region], node->operands[i])) continue;
        return bad_node(v, node, "operand %d stays inside the region \"%s\"", i, g->regions[region].name);
    }
    return true;
}

static bool check_bound(Verify *v, const IrNode *node) {
    const IrGraph *g = v->g;
    for (int i = 0; i < node->n_operands; i++) {
        IrValueId value = node->operands[i];
        const IrRegion *region = node->region != IR_NONE ? &g->regions[node->region] : NULL;
        bool good = v->bound[value] == 0 || (region != NULL && is_inside(g, value, node->region));
        if (region != NULL && !good) {
            good = (!(v->bound[value] & BOUND_NORM) || region->roles.of[IR_ROLE_norm] == value) &&
                   (!(v->bound[value] & BOUND_OUTPUT_NORM) || region->roles.of[IR_ROLE_output_norm] == value) &&
                   (!(v->bound[value] & BOUND_CONV) || region->kind == IR_REGION_CONV);
        }
        if (!good) return bad_node(v, node, "reads %%%s, which is fused into others", g->values[value].name);
    }
    return true;
}

/* Roles of a one-row step: norm is a norm and x, conv the y of a convolution that reads this y. */
static bool check_folded(Verify *v, const IrRegion *region) {
    const IrGraph *g = v->g;
    IrValueId norm = region->roles.of[IR_ROLE_norm], conv = region->roles.of[IR_ROLE_conv];
    const IrValueId output_norm = region->roles.of[IR_ROLE_output_norm];
    if (norm != IR_NONE) {
        IrOp op = g->values[norm].kind == IR_RESULT ? g->nodes[g->values[norm].node].op : IR_OP_COUNT;
        if ((op != IR_OP_rms_norm && op != IR_OP_layer_norm) || norm != region->roles.of[IR_ROLE_x])
            return bad_graph(v, "norm of the region \"%s\" must be its x, made by a norm", region->name);
        v->bound[norm] |= BOUND_NORM;
    }
    if (output_norm != IR_NONE) {
        if (output_norm != region->roles.of[IR_ROLE_x] || region->roles.of[IR_ROLE_y] != g->logits)
            return bad_graph(v, "output_norm of the region \"%s\" must be its x, and y the logits", region->name);
        v->bound[output_norm] |= BOUND_OUTPUT_NORM;
    }
    if (conv == IR_NONE) return true;
    int32_t behind = g->values[conv].kind == IR_RESULT ? g->nodes[g->values[conv].node].region : IR_NONE;
    const IrRegion *c = behind != IR_NONE ? &g->regions[behind] : NULL;
    if (c == NULL || c->kind != IR_REGION_CONV || c->roles.of[IR_ROLE_x] != region->roles.of[IR_ROLE_y] ||
        c->roles.of[IR_ROLE_y] != conv)
        return bad_graph(v, "conv of the region \"%s\" must be the y of the convolution that reads its y", region->name);
    v->bound[c->roles.of[IR_ROLE_x]] |= BOUND_CONV;
    return true;
}

static void check_all_roles(Verify *v) {
    const IrGraph *g = v->g;
    v->bound = SU_NEW_ARRAY(&v->scratch, uint8_t, g->n_values);
    for (size_t i = 0; i < g->n_regions; i++)
        if (!check_roles(v, (int32_t)i)) return;
    for (size_t i = 0; i < g->n_regions; i++)
        if (!check_folded(v, &g->regions[i])) return;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const IrNode *node = &g->nodes[i];
        if (node->region != IR_NONE) check_reads(v, node);
        check_outputs(v, node);
        check_bound(v, node);
    }
}

/* A region's nodes stand together, and none is empty. */
static void check_regions(Verify *v) {
    const IrGraph *g = v->g;
    bool *seen = SU_NEW_ARRAY(&v->scratch, bool, g->n_regions);
    int32_t open = IR_NONE;
    for (size_t i = 0; i < g->n_nodes; i++) {
        int32_t region = g->nodes[i].region;
        if (region != IR_NONE && (region < 0 || (size_t)region >= g->n_regions)) {
            bad_node(v, &g->nodes[i], "is in a region that does not exist");
            return;
        }
        if (region != open && region != IR_NONE) {
            if (seen[region]) bad_node(v, &g->nodes[i], "the region \"%s\" is not contiguous", g->regions[region].name);
            seen[region] = true;
        }
        open = region;
    }
    for (size_t i = 0; i < g->n_regions; i++)
        if (!seen[i]) bad_graph(v, "the region \"%s\" is empty", g->regions[i].name);
    if (v->ok) check_all_roles(v);
}

static void check_logits(Verify *v) {
    const IrGraph *g = v->g;
    if (!is_value(g, g->logits) || g->values[g->logits].kind != IR_RESULT || !is_made_before(g, g->logits, g->nodes + g->n_nodes)) {
        bad_graph(v, "the logits are missing");
        return;
    }
    const IrType *type = &g->values[g->logits].type;
    if (type->dtype != IR_F32 || type->rank != 2 || type->dim[0] != IR_R) bad_graph(v, "the logits must be f32[rows,V]");
}

static bool verify_unguarded(const IrGraph *g, SuDiags *diags) {
    Verify v = {.g = g, .diags = diags, .ok = true};
    v.consumer = SU_NEW_ARRAY(&v.scratch, const IrNode *, g->n_values);
    if (check_inputs(&v) && check_constants(&v) && check_nodes(&v)) {
        check_states(&v);
        check_regions(&v);
        check_logits(&v);
    }
    su_arena_free(&v.scratch);
    return v.ok;
}

bool ir_verify(const IrGraph *g, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "checking a graph")) return false;
    bool result = verify_unguarded(g, diags);
    su_guard_end(&guard);
    return result;
}
