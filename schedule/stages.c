/* The walk over the graph that makes phases, and the stage of each: one behind the last phase whose result it needs. Buffers are
 * written once, so only values read and states order phases. With the schedule pass off, every phase is a stage of its own. */
#include <stdlib.h>
#include <string.h>

#include "schedule/phases.h"

/* ---------------------------------------------------------------------------------------------- the walk */

static PsGroup region_nodes(const IrGraph *g, size_t first) {
    PsGroup group = {.n = 0};
    for (size_t n = first; n < g->n_nodes && g->nodes[n].region == g->nodes[first].region; n++) ps_group_add(&group, (IrNodeId)n);
    return group;
}

static void region_phase(ScBuilder *b, const PsGroup *nodes) {
    const IrGraph *g = b->g;
    IrRegionKind kind = g->regions[g->nodes[nodes->nodes[0]].region].kind;
    if (kind == IR_REGION_LINEAR) sc_phase_linear(b, nodes);
    if (kind == IR_REGION_ROUTE) sc_phase_route(b, nodes);
    for (int i = 0; i < nodes->n; i++) {
        IrOp op = g->nodes[nodes->nodes[i]].op;
        PsConv conv;
        PsScan scan;
        if (kind == IR_REGION_CONV && op == IR_OP_conv) {
            if (!ps_match_conv(g, &b->uses, nodes->nodes[i], &conv)) SU_BUG("a conv region that does not match");
            if (!b->skip_conv[g->values[conv.y].node]) sc_phase_conv(b, &conv);
        }
        if (kind == IR_REGION_SCAN && (op == IR_OP_recur || op == IR_OP_recur_routed)) {
            if (!ps_match_scan(g, &b->uses, nodes->nodes[i], &scan)) SU_BUG("a scan region that does not match");
            sc_phase_scan(b, &scan);
        }
    }
}

static void node_phase(ScBuilder *b, size_t n) {
    const IrNode *node = &b->g->nodes[n];
    PsGroup alone = {.nodes = {(IrNodeId)n}, .n = 1};
    switch (node->op) {
    case IR_OP_embed: sc_phase_embed(b, node); return;
    case IR_OP_linear:
    case IR_OP_linear_all:
    case IR_OP_linear_routed: sc_phase_linear(b, &alone); return;
    case IR_OP_rms_norm:
    case IR_OP_layer_norm:
        if (!b->inlined[n]) sc_phase_norm(b, node);
        return;
    case IR_OP_expert_sum:
    case IR_OP_expert_sum_routed:
    case IR_OP_plane_sum: sc_phase_sum(b, node); return;
    case IR_OP_conv: sc_phase_lone_conv(b, node); return;
    case IR_OP_rope: return; /* part of the attention that follows */
    case IR_OP_attend: sc_phase_attention(b, node); return;
    case IR_OP_scale:
        if (node->results[0] == b->g->logits) return; /* part of the head */
        sc_phase_op(b, node);
        return;
    case IR_OP_slice:
    case IR_OP_add_bias:
    case IR_OP_add_bias_routed:
    case IR_OP_mul_param:
    case IR_OP_mul_param_routed:
#define IR_ACTIVATION(name, NAME, flops, exps, exact) case IR_OP_##name:
#include "ir/activation.def"
    case IR_OP_add:
    case IR_OP_mul:
    case IR_OP_softmax:
    case IR_OP_select:
    case IR_OP_gates:
    case IR_OP_mix:
    case IR_OP_outer:
    case IR_OP_outer_routed:
    case IR_OP_inject:
    case IR_OP_recur:
    case IR_OP_recur_routed:
    case IR_OP_contract: sc_phase_op(b, node); return;
    case IR_OP_COUNT: return;
    }
}

/* A norm of rows whose readers are all linear layers or routers is recomputed by each of them in a one-row step: cheaper than a stage. */
static void find_inlined(ScBuilder *b) {
    const IrGraph *g = b->g;
    memset(b->inlined, 0, g->n_nodes);
    if (b->mode != PG_ROW || b->options->off[PS_ELEMENTWISE_FUSION]) return;
    for (size_t n = 0; n < g->n_nodes; n++) {
        const IrNode *x = ps_maker(g, g->nodes[n].operands[0]);
        b->inlined[n] = sc_is_norm(g->nodes[n].op) && (x == NULL || x->op != IR_OP_slice);
    }
    for (size_t n = 0; n < g->n_nodes; n++) {
        const IrNode *node = &g->nodes[n];
        bool linear = node->op == IR_OP_linear || node->op == IR_OP_linear_all || node->op == IR_OP_linear_routed;
        for (int i = 0; i < node->n_operands; i++) {
            const IrNode *maker = ps_maker(g, node->operands[i]);
            if (maker != NULL && (!linear || i > 0)) b->inlined[maker - g->nodes] = false;
        }
    }
}

void sc_make_phases(ScBuilder *b) {
    const IrGraph *g = b->g;
    find_inlined(b);
    for (size_t n = 0; n < g->n_nodes; n++) {
        if (g->nodes[n].region == IR_NONE) {
            node_phase(b, n);
        } else if (n == 0 || g->nodes[n - 1].region != g->nodes[n].region) {
            PsGroup nodes = region_nodes(g, n);
            region_phase(b, &nodes);
        }
    }
}

/* ---------------------------------------------------------------------------------------------- stages */

static uint32_t stage_after(uint32_t stage, uint32_t other) { return other + 1 > stage ? other + 1 : stage; }

static int by_stage(const void *a, const void *b) {
    const ScPhase *p = a, *q = b;
    return p->pg.stage < q->pg.stage ? -1 : p->pg.stage > q->pg.stage;
}

/* qsort is not stable: the place in graph order is kept in pg.kernel, which is not in use yet. */
static int by_stage_then_place(const void *a, const void *b) {
    const ScPhase *p = a, *q = b;
    int order = by_stage(a, b);
    return order != 0 ? order : p->pg.kernel < q->pg.kernel ? -1 : p->pg.kernel > q->pg.kernel;
}

static void set_lives(ScBuilder *b) {
    for (size_t i = 0; i < b->n_phases; i++)
        for (int r = 0; r < b->phases[i].n_reads; r++) {
            ScBuffer *buffer = &b->buffers[b->phases[i].reads[r]];
            if (b->phases[i].pg.stage > buffer->last) buffer->last = b->phases[i].pg.stage;
        }
}

void sc_assign_stages(ScBuilder *b) {
    int32_t *last_of_state = SU_NEW_ARRAY(&b->scratch, int32_t, b->g->n_values); /* phase + 1 that touched it last */
    bool apart = b->options->off[PS_SCHEDULE];
    for (size_t i = 0; i < b->n_phases; i++) {
        ScPhase *p = &b->phases[i];
        uint32_t stage = apart ? (uint32_t)i : 0;
        for (int r = 0; r < p->n_reads; r++) {
            int32_t writer = b->buffers[p->reads[r]].writer;
            if (writer >= 0) stage = stage_after(stage, b->phases[writer].pg.stage);
        }
        for (int s = 0; s < p->n_states; s++) {
            int32_t before = last_of_state[p->states[s]];
            if (before > 0) stage = stage_after(stage, b->phases[before - 1].pg.stage);
            last_of_state[p->states[s]] = (int32_t)i + 1;
        }
        p->pg.stage = stage;
        p->pg.kernel = (uint32_t)i;
    }
    for (size_t i = 0; i < b->n_buffers; i++) {
        ScBuffer *buffer = &b->buffers[i];
        buffer->first = buffer->last = buffer->writer >= 0 ? b->phases[buffer->writer].pg.stage : 0;
    }
    set_lives(b);
    qsort(b->phases, b->n_phases, sizeof *b->phases, by_stage_then_place);
}
