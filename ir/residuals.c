/* The residual stream of a graph, found by what its blocks read of each other: nothing else passes from one to the next. */
#include "ir/graph.h"

static int32_t count_blocks(const IrGraph *g) {
    int32_t n = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].block >= n) n = g->nodes[i].block + 1;
    return n;
}

static bool is_row(const IrGraph *g, IrValueId value) {
    const IrType *type = &g->values[value].type;
    return type->dtype == IR_F32 && type->rank == 2 && type->dim[1] == ir_model_width(g);
}

/* What `node` reads of another block becomes what its block begins with. What follows the blocks counts as one behind the last; what
 * comes before them reads of none. false: there is another such value, or one that is no row. */
static bool note_operand(const IrGraph *g, const IrNode *node, IrValueId value, int32_t n, IrValueId *begins) {
    int64_t first;
    if (g->values[value].kind != IR_RESULT || ir_weight_behind(g, value, &first) != IR_NONE) return true;
    int32_t of = g->nodes[g->values[value].node].block, block = node->block < 0 ? n : node->block;
    if (of == node->block) return true;
    if (of != block - 1 || !is_row(g, value)) return false;
    if (begins[block] == IR_NONE) begins[block] = value;
    return begins[block] == value;
}

IrValueId *ir_residuals(const IrGraph *g, SuArena *arena, int32_t *out_blocks) {
    int32_t n = count_blocks(g);
    IrValueId *begins = SU_NEW_ARRAY(arena, IrValueId, (size_t)n + 1);
    for (int32_t b = 0; b <= n; b++) begins[b] = IR_NONE;
    *out_blocks = n;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int o = 0; o < g->nodes[i].n_operands; o++)
            if (!note_operand(g, &g->nodes[i], g->nodes[i].operands[o], n, begins)) return NULL;
    for (int32_t b = 0; b <= n; b++)
        if (begins[b] == IR_NONE) return NULL;
    return begins;
}
