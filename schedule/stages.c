/* The walk over the graph that makes phases, and the stage of each: one behind the last phase whose result it needs. Buffers are
 * written once, so only values read and states order phases. With the schedule pass off, every phase is a stage of its own. */
#include <stdlib.h>
#include <string.h>

#include "schedule/phases.h"
#include "support/alloc.h"

/* ---------------------------------------------------------------------------------------------- the walk */

static void region_phase(ScBuilder *b, const IrRegion *region) {
    switch (region->kind) {
    case IR_REGION_LINEAR: sc_phase_linear(b, region); return;
    case IR_REGION_ROUTER: sc_phase_route(b, region); return;
    case IR_REGION_CONV:
        if (!sc_is_folded(b, region->roles.of[IR_ROLE_y])) sc_phase_conv(b, region);
        return;
    case IR_REGION_SCAN: sc_phase_scan(b, region); return;
    case IR_REGION_ATTENTION: sc_phase_attention(b, region); return;
    case IR_REGION_HEADS: sc_phase_heads(b, region); return;
    case IR_REGION_TRAPEZOID: sc_phase_trapezoid(b, region); return;
    case IR_REGION_TURN: sc_phase_turn(b, region); return;
    }
}

/* An operation outside a region: its phase, or a bug of the passes that left it there. */
static void node_phase(ScBuilder *b, size_t n) {
    const IrNode *node = &b->g->nodes[n];
    switch (node->op) {
    case IR_OP_embed: sc_phase_embed(b, node); return;
    case IR_OP_rms_norm:
    case IR_OP_layer_norm:
        if (!sc_is_folded(b, node->results[0])) sc_phase_norm(b, node);
        return;
    case IR_OP_expert_sum:
    case IR_OP_expert_sum_routed:
    case IR_OP_plane_sum: sc_phase_sum(b, node); return;
    case IR_OP_conv: sc_phase_lone_conv(b, node); return;
#define IR_ACTIVATION(name, NAME, flops, exps, exact)                                                                              \
    case IR_OP_##name: sc_phase_elementwise(b, node, PG_EW_UNARY, PG_##NAME); return;
#include "ir/activation.def"
    case IR_OP_scale: sc_phase_elementwise(b, node, PG_EW_SCALE, PG_NO_ACT); return;
    case IR_OP_clamp: sc_phase_elementwise(b, node, PG_EW_CLAMP, PG_NO_ACT); return;
#define IR_BINARY(name, NAME, flops, value)                                                                                        \
    case IR_OP_##name: sc_phase_elementwise(b, node, PG_EW_##NAME, PG_NO_ACT); return;
#include "ir/binary.def"
    case IR_OP_add_bias:
    case IR_OP_add_bias_routed: sc_phase_elementwise(b, node, PG_EW_ADD_PARAM, PG_NO_ACT); return;
    case IR_OP_mul_param:
    case IR_OP_mul_param_routed: sc_phase_elementwise(b, node, PG_EW_MUL_PARAM, PG_NO_ACT); return;
    case IR_OP_slice:
    case IR_OP_split: sc_phase_op(b, node, PG_SLICE); return;
    case IR_OP_repeat: sc_phase_op(b, node, PG_REPEAT); return;
    case IR_OP_take:
    case IR_OP_transpose: return; /* its readers read the weight */
    case IR_OP_softmax: sc_phase_op(b, node, PG_SOFTMAX); return;
    case IR_OP_select: sc_phase_op(b, node, PG_SELECT); return;
    case IR_OP_gates: sc_phase_op(b, node, PG_GATES); return;
    case IR_OP_mix: sc_phase_op(b, node, PG_MIX); return;
    case IR_OP_outer:
    case IR_OP_outer_routed: sc_phase_op(b, node, PG_OUTER); return;
    case IR_OP_inject: sc_phase_op(b, node, PG_INJECT); return;
    case IR_OP_recur:
    case IR_OP_recur_routed: sc_phase_op(b, node, PG_RECUR); return;
    case IR_OP_contract: sc_phase_op(b, node, PG_CONTRACT); return;
    case IR_OP_conv_each:
    case IR_OP_conv_each_routed: sc_phase_op(b, node, PG_CONV_EACH); return;
    case IR_OP_inject_sum: sc_phase_op(b, node, PG_INJECT_SUM); return;
    case IR_OP_delay: sc_phase_op(b, node, PG_DELAY); return;
    case IR_OP_angle: sc_phase_op(b, node, PG_ANGLE); return;
    case IR_OP_rotate: sc_phase_op(b, node, PG_ROTATE); return;
    case IR_OP_linear:
    case IR_OP_linear_all:
    case IR_OP_linear_routed:
    case IR_OP_rope:
    case IR_OP_attend:
    case IR_OP_COUNT: break;
    }
    SU_BUG("operation %s stands outside a region", ir_op_info(node->op)->name);
}

void sc_make_phases(ScBuilder *b) {
    const IrGraph *g = b->g;
    for (size_t n = 0; n < g->n_nodes; n++) {
        int32_t region = g->nodes[n].region;
        if (region == IR_NONE)
            node_phase(b, n);
        else if (n == 0 || g->nodes[n - 1].region != region)
            region_phase(b, &g->regions[region]);
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
