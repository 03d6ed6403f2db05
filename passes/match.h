/* Roles: which value plays which part in a convolution or a scan. Scan fusion asks before it makes a region, the scheduler
 * asks again to fill a kernel's description; so the shapes that fuse are written down once, here. */
#ifndef MOSSC_PASSES_MATCH_H
#define MOSSC_PASSES_MATCH_H

#include "ir/program.h"
#include "passes/graph_tools.h"

/* c = act(conv(x) (+ bias)) */
typedef struct PsConv {
    PsGroup group;
    IrValueId x, w, bias, history; /* bias, history: IR_NONE where absent */
    bool mixed;                    /* weight and bias are mixed by the combine weights */
    IrValueId expert_indices, combine_weights;       /* where mixed */
    PgActivation act;
    IrValueId y;
} PsConv;

/* A view into a value's last dimension: what a slice reads, or a whole value (start 0). */
typedef struct PsView {
    IrValueId value;
    int64_t start;
} PsView;

/* y = (sum over experts of) (s·C + D∘c) (∘ act(z)) with everything behind it up to δ, B and C */
typedef struct PsScan {
    PsGroup group;
    PgScanExperts experts;
    PsView delta, B, C;
    IrValueId c, z; /* z: IR_NONE without a gate */
    IrValueId dt_w, dt_b, A, D, state;
    bool own_dt, own_A, own_D;
    IrValueId expert_indices, combine_weights; /* IR_NONE for a plain scan */
    PgActivation act;        /* of the gate */
    IrValueId y;
} PsScan;

/* `node` is a conv. false: not of a shape that fuses; the operations then stay apart. */
bool ps_match_conv(const IrGraph *g, const PsUses *uses, IrNodeId node, PsConv *out);
/* `node` is a recur or recur_routed. */
bool ps_match_scan(const IrGraph *g, const PsUses *uses, IrNodeId node, PsScan *out);

/* The activation an operation is, PG_NO_ACT if it is none. */
PgActivation ps_activation(IrOp op);

#endif
