#include "ir/graph.h"

#include <stdarg.h>
#include <string.h>

#include "ir/internal.h"
#include "ir/names.h"

IrType ir_type(IrDtype dtype, int rank, ...) {
    IrType type = {.dtype = dtype, .rank = rank};
    if (rank < 1 || rank > IR_MAX_RANK) SU_BUG("a type of rank %d", rank);
    va_list dims;
    va_start(dims, rank);
    for (int i = 0; i < rank; i++) type.dim[i] = va_arg(dims, int64_t);
    va_end(dims);
    return type;
}

int64_t ir_dim(const IrType *type, IrDim role) {
    for (int i = 0; i < type->rank; i++)
        if (type->role[i] == role) return type->dim[i];
    return 0;
}

bool ir_roles_agree(const IrType *a, const IrType *b) {
    for (int i = 0; i < a->rank && i < b->rank; i++)
        if (a->role[i] != b->role[i] && a->role[i] != IR_DIM_UNKNOWN && b->role[i] != IR_DIM_UNKNOWN) return false;
    return true;
}

bool ir_type_equal(const IrType *a, const IrType *b) {
    if (a->dtype != b->dtype || a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

int64_t ir_elements(const IrType *type, int64_t rows) {
    int64_t n = 1;
    for (int i = 0; i < type->rank; i++) n *= type->dim[i] == IR_R ? rows : type->dim[i];
    return n;
}

IrValueId ir_append_value(IrGraph *g, IrValueKind kind, const char *name, IrType type) {
    g->values = su_grow(g->arena, g->values, &g->values_capacity, g->n_values + 1, sizeof *g->values);
    g->values[g->n_values] = (IrValue){.kind = kind, .type = type, .name = name, .node = IR_NONE, .next = IR_NONE};
    g->n_results += kind == IR_RESULT;
    return (IrValueId)g->n_values++;
}

IrGraph *ir_graph_new(SuArena *arena, const char *name) {
    IrGraph *g = SU_NEW(arena, IrGraph);
    g->arena = arena;
    g->name = su_strdup(arena, name);
    IrType rows = {.dtype = IR_I32, .rank = 1, .dim = {IR_R}, .role = {IR_DIM_ROW}};
    g->tokens = ir_append_value(g, IR_TOKENS, "tokens", rows);
    g->positions = ir_append_value(g, IR_POSITIONS, "positions", rows);
    g->logits = IR_NONE;
    g->named = SU_NEW(arena, IrNames);
    g->named->arena = arena;
    return g;
}

/* The value of a name of the text form ("@x" or "neg_exp @x"), IR_NONE with the slot to fill when it is new. */
static IrNameSlot *named(IrGraph *g, const char *name, IrTransform transform) {
    return ir_names_at(g->named, transform == IR_NEG_EXP ? su_printf(g->arena, "neg_exp %s", name) : su_strdup(g->arena, name));
}

IrValueId ir_weight(IrGraph *g, const char *tensor, IrType type, IrTransform transform) {
    IrNameSlot *slot = named(g, tensor, transform);
    if (slot->number == IR_NONE) {
        slot->number = ir_append_value(g, IR_WEIGHT, su_strdup(g->arena, tensor), type);
        g->values[slot->number].transform = transform;
    } else if (g->values[slot->number].kind != IR_WEIGHT || !ir_type_equal(&g->values[slot->number].type, &type)) {
        SU_BUG("%s is asked for with two types", tensor);
    }
    return slot->number;
}

IrValueId ir_weight_behind(const IrGraph *g, IrValueId value, int64_t *out_first) {
    *out_first = 0;
    if (value == IR_NONE) return IR_NONE;
    const IrValue *v = &g->values[value];
    if (v->kind == IR_WEIGHT) return value;
    if (v->kind != IR_RESULT) return IR_NONE;
    const IrNode *of = &g->nodes[v->node];
    if (of->op != IR_OP_take && of->op != IR_OP_transpose) return IR_NONE;
    if (of->op == IR_OP_take) *out_first = of->attrs[IR_TAKE_start].i;
    return g->values[of->operands[0]].kind == IR_WEIGHT ? of->operands[0] : IR_NONE;
}

IrValueId ir_state(IrGraph *g, const char *name, IrType type) {
    IrNameSlot *slot = named(g, name, IR_AS_IS);
    if (slot->number != IR_NONE) SU_BUG("two states or weights are named %s", name);
    slot->number = ir_append_value(g, IR_STATE, su_strdup(g->arena, name), type);
    return slot->number;
}

IrRoles ir_no_roles(void) {
    IrRoles roles;
    for (int i = 0; i < IR_ROLE_COUNT; i++) roles.of[i] = IR_NONE;
    return roles;
}

int64_t ir_vocab_size(const IrGraph *g) { return g->values[g->logits].type.dim[1]; }

int64_t ir_model_width(const IrGraph *g) {
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == IR_OP_embed) return g->values[g->nodes[i].results[0]].type.dim[1];
    return 0;
}

IrNode *ir_append_node(IrGraph *g, IrOp op, const IrValueId *operands, int n, const IrAttr *attrs) {
    g->nodes = su_grow(g->arena, g->nodes, &g->nodes_capacity, g->n_nodes + 1, sizeof *g->nodes);
    IrNode *node = &g->nodes[g->n_nodes++];
    *node = (IrNode){.op = op, .n_operands = n, .region = IR_NONE, .block = -1};
    for (int i = 0; i < IR_MAX_OPERANDS; i++) node->operands[i] = i < n ? operands[i] : IR_NONE;
    for (int i = 0; i < IR_MAX_RESULTS; i++) node->results[i] = IR_NONE;
    if (attrs) memcpy(node->attrs, attrs, (size_t)ir_op_info(op)->n_attrs * sizeof *attrs);
    return node;
}

int ir_result_count(const IrOpInfo *info, int n) {
    int absent = 0;
    for (int i = n; i < info->max_operands; i++) absent += info->operands[i] == 'S';
    return info->results - absent;
}

IrNode *ir_node(IrBuilder *b, IrOp op, const IrValueId *operands, int n, const IrAttr *attrs) {
    IrGraph *g = b->graph;
    const IrOpInfo *info = ir_op_info(op);
    while (n > 0 && operands[n - 1] == IR_NONE) n--;
    if (attrs == NULL && info->n_attrs > info->n_flags) SU_BUG("%s wants attributes", info->name);
    IrType types[IR_MAX_RESULTS];
    const char *why;
    if (!ir_infer(g, op, operands, n, attrs, types, &why)) SU_BUG("%s: %s (spec line %u)", info->name, why, b->span.line);
    IrNode *node = ir_append_node(g, op, operands, n, attrs);
    node->span = b->span;
    node->block = b->block;
    for (int i = 0; i < ir_result_count(info, n); i++) {
        IrValueId id = ir_append_value(g, IR_RESULT, su_printf(g->arena, "%zu", g->n_results), types[i]);
        g->values[id].node = (IrNodeId)(g->n_nodes - 1);
        g->values[id].result = i;
        node->results[i] = id;
    }
    ir_settle_roles(g, node);
    return node;
}

IrValueId ir_op1_attrs(IrBuilder *b, IrOp op, IrValueId x, IrValueId y, IrValueId z, const IrAttr *attrs) {
    return ir_node(b, op, (IrValueId[]){x, y, z}, 3, attrs)->results[0];
}

IrValueId ir_op1(IrBuilder *b, IrOp op, IrValueId x, IrValueId y, IrValueId z) { return ir_op1_attrs(b, op, x, y, z, NULL); }
