/* Scan fusion.
 *
 * Requires: route fusion for experts whose idle states hold (their dense form stays apart). Provides: one region for a
 * convolution with its bias and activation, one for everything from δ, B and C to the gated output, experts inside it, so that
 * neither Δ nor exp(Δ ⊗ A) nor any state but the last ever reaches memory. Destroys: nothing. */
#include "passes/graph_tools.h"
#include "passes/match.h"
#include "passes/passes.h"

static void make(IrGraph *g, IrRegionKind kind, IrRole of, const char *what, const PsMatch *m) {
    ps_make_region(g, kind, ps_part_name(g, m->roles.of[of], what), &m->group, &m->roles);
}

void ps_scan_fusion(IrGraph *g) {
    SuArena scratch = {0};
    PsUses uses = ps_uses(g, &scratch);
    for (size_t n = 0; n < g->n_nodes; n++) {
        IrOp op = g->nodes[n].op;
        PsMatch m;
        if (op == IR_OP_conv && ps_match_conv(g, &uses, (IrNodeId)n, &m)) make(g, IR_REGION_CONV, IR_ROLE_w, "conv", &m);
        if ((op == IR_OP_recur || op == IR_OP_recur_routed) && ps_match_scan(g, &uses, (IrNodeId)n, &m))
            make(g, IR_REGION_SCAN, IR_ROLE_state, "scan", &m);
        if ((op == IR_OP_recur || op == IR_OP_recur_routed) && ps_match_heads(g, &uses, (IrNodeId)n, &m))
            make(g, IR_REGION_HEADS, IR_ROLE_state, "scan", &m);
        if (op == IR_OP_delay && ps_match_turn(g, &uses, (IrNodeId)n, &m)) make(g, IR_REGION_TURN, IR_ROLE_state, "turn", &m);
        if (op == IR_OP_recur && g->nodes[n].region == IR_NONE && ps_match_trapezoid(g, &uses, (IrNodeId)n, &m))
            make(g, IR_REGION_TRAPEZOID, IR_ROLE_state, "scan", &m);
    }
    su_arena_free(&scratch);
    ps_regroup(g);
}
