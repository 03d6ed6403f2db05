#include "schedule/layout.h"

#include "passes/graph_tools.h"
#include "support/size.h"

/* Planes win over rows: a value without planes repeats over the other's. */
static ScLayout wider(ScLayout a, ScLayout b) { return a.planes == PG_ROWS ? b : a; }

static void as_positions(ScLayout *layout, const IrGraph *g, IrValueId expert_indices) {
    PsChoice choice = ps_choice(g, expert_indices);
    layout->planes = PG_POSITIONS;
    layout->E = choice.E;
    layout->k = choice.k;
    layout->expert_indices = expert_indices;
}

static void as_planes(ScLayout *layout, int64_t E) {
    layout->planes = PG_PLANES;
    layout->E = E;
}

/* Planes of a node's first result, from its operands' layouts and its own kind. */
static ScLayout node_planes(const IrGraph *g, const IrNode *node, const ScLayout *layouts) {
    ScLayout x = {.expert_indices = IR_NONE};
    const char *kinds = ir_op_info(node->op)->operands;
    for (int i = 0; i < node->n_operands; i++)
        if (kinds[i] == 'x') x = wider(x, layouts[node->operands[i]]);
    ScLayout out = {.planes = x.planes, .E = x.E, .k = x.k, .expert_indices = x.expert_indices};
    IrOp op = node->op;
    if (op == IR_OP_linear_routed || op == IR_OP_add_bias_routed || op == IR_OP_mul_param_routed || op == IR_OP_outer_routed)
        as_positions(&out, g, node->operands[2]);
    else if (op == IR_OP_recur_routed)
        as_positions(&out, g, node->operands[3]);
    else if (op == IR_OP_linear_all)
        as_planes(&out, g->values[node->operands[1]].type.dim[0]);
    else if ((op == IR_OP_mul_param && g->values[node->operands[1]].type.rank == 2) ||
             (op == IR_OP_outer && g->values[node->operands[1]].kind == IR_WEIGHT && g->values[node->operands[1]].type.rank == 3))
        as_planes(&out, g->values[node->operands[1]].type.dim[0]);
    else if (op == IR_OP_recur && g->values[node->operands[2]].type.rank == 3)
        as_planes(&out, g->values[node->operands[2]].type.dim[0]);
    else if (op == IR_OP_expert_sum || op == IR_OP_expert_sum_routed || op == IR_OP_plane_sum || op == IR_OP_mix)
        out = (ScLayout){.expert_indices = IR_NONE};
    return out;
}

/* Whether a value has a state (or tap) dimension behind its channels. */
static bool has_state_dim(const IrGraph *g, const IrNode *node) {
    if (node->op == IR_OP_exp) {
        const IrNode *maker = ps_maker(g, node->operands[0]);
        return maker != NULL && has_state_dim(g, maker);
    }
    if (node->op == IR_OP_mix) return g->values[node->results[0]].type.rank == 3;
    return (ir_op_info(node->op)->traits & IR_CHANNELWISE) != 0;
}

ScLayout *sc_layouts(const IrGraph *g, SuArena *arena) {
    ScLayout *layouts = SU_NEW_ARRAY(arena, ScLayout, g->n_values);
    for (size_t n = 0; n < g->n_nodes; n++) {
        const IrNode *node = &g->nodes[n];
        const IrType *type = &g->values[node->results[0]].type;
        ScLayout *out = &layouts[node->results[0]];
        if (node->op == IR_OP_select || node->op == IR_OP_gates) {
            *out = (ScLayout){.indices = true, .k = type->dim[1], .N = 1, .expert_indices = IR_NONE};
            continue;
        }
        *out = node_planes(g, node, layouts);
        bool state_dim = has_state_dim(g, node);
        out->N = state_dim ? type->dim[type->rank - 1] : 1;
        out->width = type->dim[type->rank - (state_dim ? 2 : 1)];
    }
    return layouts;
}

/* With a window all rows of the largest step are stored before any of them looks back. */
int64_t sc_cache_positions(const IrGraph *g, const IrNode *attend) {
    int64_t in_sight = g->values[attend->operands[4]].type.dim[0];
    if (attend->attrs[IR_ATTEND_window].i > 0) in_sight += PG_MAX_ROWS;
    return (int64_t)su_round_up((uint64_t)in_sight, PG_LANES);
}

ScBytes sc_buffer_bytes(const ScLayout *layout, PgMode mode) {
    ScBytes bytes;
    if (layout->indices) {
        bytes = (ScBytes){su_round_up((uint64_t)layout->k * 4, 64), 0};
    } else {
        uint64_t row = pg_panels(layout->width) * PG_LANES * 4 * (uint64_t)layout->N;
        if (layout->planes == PG_ROWS)
            bytes = (ScBytes){row, 0};
        else if (layout->planes == PG_PLANES)
            bytes = (ScBytes){row * (uint64_t)layout->E, 0};
        else
            bytes = (ScBytes){row * (uint64_t)layout->k, mode == PG_BLOCK ? row * pg_position_pad(layout->E, layout->k) : 0};
    }
    if (mode == PG_ROW) bytes = (ScBytes){0, bytes.per_row + bytes.fixed};
    return bytes;
}

ScBytes sc_group_bytes(int64_t E, int64_t k) {
    uint64_t pad = pg_position_pad(E, k), chosen = (uint64_t)k;
    /* start[E+1], expert_of[LDP/8], row_of[LDP], pos_of[LD·k], with LDP = k·LD + pad; LD is a multiple of 8 */
    return (ScBytes){su_round_up((chosen + chosen + chosen) * 4, 64), su_round_up(((uint64_t)E + 1 + pad / 8 + pad) * 4, 64)};
}
