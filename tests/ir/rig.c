#include "tests/ir/rig.h"

#include <stdlib.h>
#include <string.h>

void rig_start(Rig *rig) {
    *rig = (Rig){0};
    rig->b = (IrBuilder){.graph = ir_graph_new(&rig->arena, "test"), .block = 7};
}

void rig_end(Rig *rig) {
    su_diags_free(&rig->diags);
    su_arena_free(&rig->arena);
}

IrValueId rig_weight(Rig *rig, const char *name, const float *elements, IrType type) {
    rig->names[rig->n_weights] = name;
    rig->elements[rig->n_weights++].f = elements;
    return ir_weight(rig->b.graph, name, type, IR_AS_IS);
}

IrValueId rig_blocks(Rig *rig, const char *name, const IrBlocks *blocks, IrType type) {
    rig->names[rig->n_weights] = name;
    rig->elements[rig->n_weights++].blocks = *blocks;
    return ir_weight(rig->b.graph, name, type, IR_AS_IS);
}

IrValueId rig_rows(Rig *rig, const float *table, int64_t V, int64_t D) {
    IrValueId w = rig_weight(rig, su_printf(&rig->arena, "rows%d", rig->n_weights), table, ir_type(IR_F32, 2, V, D));
    return ir_op1_attrs(&rig->b, IR_OP_embed, rig->b.graph->tokens, w, IR_NONE, RIG_ATTRS({.f = 1}));
}

IrValueId rig_stateful(Rig *rig, IrOp op, const IrValueId *operands, int n, const IrAttr *attrs) {
    IrGraph *g = rig->b.graph;
    const IrNode *node = ir_node(&rig->b, op, operands, n, attrs);
    int result = 1;
    for (int i = 0; i < n; i++)
        if (g->values[operands[i]].kind == IR_STATE) g->values[operands[i]].next = node->results[result++];
    return node->results[0];
}

IrGraph *rig_finish(Rig *rig, IrValueId logits) {
    rig->b.graph->logits = logits;
    if (!ir_verify(rig->b.graph, &rig->diags)) {
        su_diags_print(&rig->diags, stderr);
        abort();
    }
    return rig->b.graph;
}

IrElements rig_lookup(void *context, const char *name) {
    const Rig *rig = context;
    for (int i = 0; i < rig->n_weights; i++)
        if (strcmp(rig->names[i], name) == 0) return rig->elements[i];
    return (IrElements){0};
}

IrEval *rig_run(Rig *rig, bool in_double, int64_t n, int64_t width, double *out) {
    const IrGraph *g = rig->b.graph;
    IrEval *eval = in_double ? ir_eval64_new(g, rig_lookup, rig) : ir_eval32_new(g, rig_lookup, rig);
    for (int64_t t = 0; t < n; t++)
        if (!ir_eval_token(eval, (int32_t)t, out + t * width, &rig->diags)) break;
    return eval;
}
