/* The rules that hold for every graph between passes. Each check is a function below; what one has established (valid ids,
 * first of all) the later ones use, so a node that fails one is not looked at further. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "ir/internal.h"
#include "ir/names.h"
#include "support/size.h"

typedef struct Verify {
    const IrGraph *g;
    SuDiags *diags;
    SuArena scratch;
    bool ok;
    const IrNode **consumer; /* of each state: the node that takes it */
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
    default: return kind == IR_RESULT;
    }
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
    return true;
}

/* The experts that a node reads by expert indices: planes of its weight or state, else of x behind the rows. */
static int64_t experts_of(const IrGraph *g, const IrNode *node) {
    const char *letters = ir_op_info(node->op)->operands;
    int constant = (int)strcspn(letters, "ws");
    return constant < node->n_operands ? g->values[node->operands[constant]].type.dim[0] : g->values[node->operands[0]].type.dim[1];
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
        if ((unsigned)node->op >= IR_OP_COUNT) return bad_graph(v, "node %zu applies no operation", i);
        if (check_operands(v, node) && check_results(v, node, &names) && check_types(v, node) && check_expert_indices(v, node) &&
            check_positions(v, node))
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
}

static void check_logits(Verify *v) {
    const IrGraph *g = v->g;
    if (!is_value(g, g->logits) || g->values[g->logits].kind != IR_RESULT || !is_made_before(g, g->logits, g->nodes + g->n_nodes)) {
        bad_graph(v, "there are no logits");
        return;
    }
    const IrType *type = &g->values[g->logits].type;
    if (type->dtype != IR_F32 || type->rank != 2 || type->dim[0] != IR_R) bad_graph(v, "the logits must be f32[rows,V]");
}

bool ir_verify(const IrGraph *g, SuDiags *diags) {
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
