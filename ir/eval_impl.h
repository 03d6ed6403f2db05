/* What the two evaluators share: the walk over the graph (ir/eval.c) and the form of an operation (ir/eval_ops.inc, expanded
 * by ir/eval32.c and ir/eval64.c). Every value is held as doubles; in eval32 each of them is a float exactly. */
#ifndef MOSSC_IR_EVAL_IMPL_H
#define MOSSC_IR_EVAL_IMPL_H

#include "ir/eval.h"

/* A value for one row. One of f, d and blocks is there: weights that loading leaves alone stay floats. */
typedef struct IrArray {
    const IrType *type;
    int64_t n; /* elements */
    const float *f;
    double *d;
    const IrBlocks *blocks;
} IrArray;

/* One operation on one row. A state's new value is its old one's memory, changed in place: verified graphs take a state once. */
typedef struct IrCall {
    IrEval *eval;
    const IrNode *node;
    IrArray in[IR_MAX_OPERANDS];
    IrArray out[IR_MAX_RESULTS];
} IrCall;

typedef void (*IrEvalFn)(IrCall *call);

typedef struct IrPrecision {
    IrEvalFn ops[IR_OP_COUNT];
    double (*neg_exp)(float a_log); /* IR_NEG_EXP */
} IrPrecision;

extern const IrPrecision ir_precision32, ir_precision64;

struct IrEval {
    const IrGraph *graph;
    const IrPrecision *precision;
    SuArena arena; /* owns everything below */
    IrArray *arrays; /* of each value */
    int64_t position;
    double min_gap, most_step;
    IrRounded *rounded; /* [n_rounded]: all inputs that a token has rounded, in order */
    size_t n_rounded;
    IrRounded *input; /* in there, the groups of the last one */
    const IrEval *replayed; /* whose integers are taken, or NULL */
    SuDiags *diags; /* of the token being fed */
    bool failed;
};

/* Ends the token with an error at the node. */
void ir_eval_fail(IrCall *call, const char *what);

#endif
