/* Scan fusion.
 *
 * Requires: route fusion for experts whose idle states hold (their dense form stays apart). Provides: one region for a
 * convolution with its bias and activation, one for everything from δ, B and C to the gated output, experts inside it, so that
 * neither Δ nor exp(Δ ⊗ A) nor any state but the last ever reaches memory. Destroys: nothing. */
#include "passes/graph_tools.h"
#include "passes/match.h"
#include "passes/passes.h"

void ps_scan_fusion(IrGraph *g) {
    SuArena scratch = {0};
    PsUses uses = ps_uses(g, &scratch);
    for (size_t n = 0; n < g->n_nodes; n++) {
        IrOp op = g->nodes[n].op;
        PsMatch m;
        if (op == IR_OP_conv && ps_match_conv(g, &uses, (IrNodeId)n, &m))
            ps_make_region(g, IR_REGION_CONV, "conv", &m.group, &m.roles);
        if ((op == IR_OP_recur || op == IR_OP_recur_routed) && ps_match_scan(g, &uses, (IrNodeId)n, &m))
            ps_make_region(g, IR_REGION_SCAN, "scan", &m.group, &m.roles);
    }
    su_arena_free(&scratch);
    ps_regroup(g);
}
