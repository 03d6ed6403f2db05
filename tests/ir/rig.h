/* Small graphs for tests: their inputs are rows of an embedding table, so token t feeds row t. */
#ifndef MOSSC_TESTS_IR_RIG_H
#define MOSSC_TESTS_IR_RIG_H

#include "ir/eval.h"
#include "ir/graph.h"

enum { RIG_MAX_WEIGHTS = 24 };

typedef struct Rig {
    SuArena arena;
    IrBuilder b;
    SuDiags diags;
    const char *names[RIG_MAX_WEIGHTS];
    IrElements elements[RIG_MAX_WEIGHTS];
    int n_weights;
} Rig;

void rig_start(Rig *rig);
void rig_end(Rig *rig);
/* A weight in blocks, which stay the caller's. */
IrValueId rig_blocks(Rig *rig, const char *name, const IrBlocks *blocks, IrType type);
/* A float32 weight whose elements stay the caller's. */
IrValueId rig_weight(Rig *rig, const char *name, const float *elements, IrType type);
/* x[R,D]: row t of table[V][D] at token t. */
IrValueId rig_rows(Rig *rig, const float *table, int64_t V, int64_t D);
/* A node with state operands: sets the states' next values; returns the first result. */
IrValueId rig_stateful(Rig *rig, IrOp op, const IrValueId *operands, int n, const IrAttr *attrs);
/* The operation of this value becomes the logits; the graph must verify. */
IrGraph *rig_finish(Rig *rig, IrValueId logits);
/* An IrWeightLookup whose context is the rig. */
IrElements rig_lookup(void *context, const char *name);
/* Feeds tokens 0, 1, … n - 1 to a fresh evaluator and returns it; logits of token t go to out[t * width]. */
IrEval *rig_run(Rig *rig, bool in_double, int64_t n, int64_t width, double *out);

#define RIG_ATTRS(...) ((IrAttr[]){__VA_ARGS__})

#endif
