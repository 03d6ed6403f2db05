/* Which operations make up a convolution or a scan, and which value plays which part: the shapes that fuse are written down once,
 * here. Scan fusion alone asks; the region keeps the answer. */
#ifndef MOSSC_PASSES_MATCH_H
#define MOSSC_PASSES_MATCH_H

#include "ir/program.h"
#include "passes/graph_tools.h"

typedef struct PsMatch {
    PsGroup group;
    IrRoles roles;
} PsMatch;

/* c = act(conv(x) (+ bias)). `node` is a conv. false: not of a shape that fuses; the operations then stay apart. */
bool ps_match_conv(const IrGraph *g, const PsUses *uses, IrNodeId node, PsMatch *out);
/* y = (sum over experts of) (s·C + D∘c) (∘ act(z)) with everything behind it up to δ, B and C. `node` is a recur or recur_routed. */
bool ps_match_scan(const IrGraph *g, const PsUses *uses, IrNodeId node, PsMatch *out);

/* y = s·C + D∘x (∘ act(z)) of heads, with everything behind it up to the time steps, B and C. `node` is a recur whose decay is one
 * for all N. */
bool ps_match_heads(const IrGraph *g, const PsUses *uses, IrNodeId node, PsMatch *out);

/* y = s·C + D∘v of mamba3, gated and summed over the ranks where no norm stands between, with everything behind it up to a, λ', the
 * time steps, B, the B of the row before, and C. `node` is a recur. */
bool ps_match_trapezoid(const IrGraph *g, const PsUses *uses, IrNodeId node, PsMatch *out);

/* k, k of the row before and q of mamba3: B and C normed, of each head, with their biases, turned by its angles, and what moves these.
 * `node` is a delay. */
bool ps_match_turn(const IrGraph *g, const PsUses *uses, IrNodeId node, PsMatch *out);

#endif
