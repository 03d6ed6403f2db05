#include "schedule/layout.h"

#include <string.h>

#include "passes/graph_tools.h"
#include "support/size.h"

/* Whose experts the slots of a node's result are: those that it reads, or its first operand with slots. */
static IrValueId chosen_by(const IrGraph *g, const IrNode *node, const ScLayout *layouts) {
    const char *letters = ir_op_info(node->op)->operands;
    const char *indices = strpbrk(letters, "iI");
    if (indices != NULL && indices - letters < node->n_operands) return node->operands[indices - letters];
    for (int i = 0; i < node->n_operands; i++)
        if (layouts[node->operands[i]].planes == PG_POSITIONS) return layouts[node->operands[i]].expert_indices;
    SU_BUG("%%%s has slots of nobody's choice", g->values[node->results[0]].name);
}

static ScLayout layout_of(const IrGraph *g, const IrNode *node, const ScLayout *layouts) {
    const IrType *type = &g->values[node->results[0]].type;
    int64_t slots = ir_dim(type, IR_DIM_SLOT), experts = ir_dim(type, IR_DIM_EXPERT), width = ir_dim(type, IR_DIM_CHANNEL);
    int64_t inner = ir_dim(type, IR_DIM_STATE) + ir_dim(type, IR_DIM_TAP); /* one of them at most */
    if (slots > 0 && width == 0) return (ScLayout){.indices = true, .k = slots, .N = 1, .expert_indices = IR_NONE};
    ScLayout out = {.width = width, .N = inner > 0 ? inner : 1, .expert_indices = IR_NONE};
    if (slots > 0) {
        out.planes = PG_POSITIONS;
        out.expert_indices = chosen_by(g, node, layouts);
        out.E = ps_choice(g, out.expert_indices).E;
        out.k = slots;
    } else if (experts > 0) {
        out.planes = PG_PLANES;
        out.E = experts;
    }
    return out;
}

ScLayout *sc_layouts(const IrGraph *g, SuArena *arena) {
    ScLayout *layouts = SU_NEW_ARRAY(arena, ScLayout, g->n_values);
    for (size_t n = 0; n < g->n_nodes; n++) layouts[g->nodes[n].results[0]] = layout_of(g, &g->nodes[n], layouts);
    return layouts;
}

/* With a window all rows of the largest step are stored before any of them looks back. */
int64_t sc_cache_positions(const IrGraph *g, const IrNode *attend) {
    int64_t in_sight = ir_dim(&g->values[attend->operands[4]].type, IR_DIM_POSITION);
    if (attend->attrs[IR_ATTEND_window].i > 0) in_sight += PG_MAX_ROWS;
    return (int64_t)su_round_up((uint64_t)in_sight, PG_LANES);
}

/* Of a value whose rows take so many bytes in a plane. */
static ScBytes rows_bytes(const ScLayout *layout, uint64_t row, PgMode mode) {
    switch (layout->planes) {
    case PG_ROWS: return (ScBytes){row, 0};
    case PG_PLANES: return (ScBytes){row * (uint64_t)layout->E, 0};
    case PG_POSITIONS:
        return (ScBytes){row * (uint64_t)layout->k, mode == PG_BLOCK ? row * pg_position_pad(layout->E, layout->k) : 0};
    }
    return (ScBytes){0};
}

ScBytes sc_buffer_bytes(const ScLayout *layout, PgMode mode) {
    ScBytes bytes = layout->indices
                        ? (ScBytes){su_round_up((uint64_t)layout->k * 4, 64), 0}
                        : rows_bytes(layout, pg_panels(layout->width) * PG_LANES * 4 * (uint64_t)layout->N, mode);
    if (mode == PG_ROW) bytes = (ScBytes){0, bytes.per_row + bytes.fixed};
    return bytes;
}

ScBytes sc_rounded_bytes(const ScLayout *layout, uint64_t of_row) { return rows_bytes(layout, of_row, PG_BLOCK); }

ScBytes sc_group_bytes(int64_t E, int64_t k) {
    uint64_t pad = pg_position_pad(E, k), chosen = (uint64_t)k;
    /* start[E+1], expert_of[LDP/8], row_of[LDP], pos_of[LD·k], with LDP = k·LD + pad; LD is a multiple of 8 */
    return (ScBytes){su_round_up((chosen + chosen + chosen) * 4, 64), su_round_up(((uint64_t)E + 1 + pad / 8 + pad) * 4, 64)};
}
