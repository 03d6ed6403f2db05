/* PG_FEW: what a step of few rows joins, so that it has fewer stages. Tiles of linear layers that the back end names (ir/few.h) have all
 * rows, so
 *
 *   - a convolution is computed where its x is made: the rows before are in the same tile, or in the history;
 *   - an RMS norm is the work of two: whoever makes its x also leaves that times the norm's weight, and sums of squares; a factor a row,
 *     behind the sums of whoever reads it, does the rest. Routers have whole rows, and norm them for themselves.
 *
 * Both are decided before the phases are made. A norm stays a phase of its own if one of those who read it, or who makes its x, cannot do
 * its part: layer norms, norms in runs, linear layers in no such tiles, and those whose x is bounded (f16: 65504), while x times the
 * weight may be any number before the factor. */
#include "schedule/few.h"

#include "schedule/phases.h"

static bool rounds(const ScBuilder *b, const IrRegion *region) {
    return sc_role_node(b, region, IR_ROLE_linear)->attrs[IR_LINEAR_rounds].i != 0;
}

static IrDtype stored_dtype(const ScBuilder *b, const IrRegion *region) {
    return b->options->off[PS_WEIGHTS] ? IR_F32 : b->g->values[sc_role(region, IR_ROLE_w)].type.dtype;
}

/* Whether a tile of the linear layer has all rows. */
static bool in_tiles(const ScBuilder *b, const IrRegion *region) {
    const PgFew *few = b->options->few;
    return rounds(b, region) ? few->rounding : few->tiles[stored_dtype(b, region)];
}

static void join_convs(ScBuilder *b) {
    for (size_t r = 0; r < b->g->n_regions; r++) {
        const IrRegion *region = &b->g->regions[r];
        IrValueId conv = sc_role(region, IR_ROLE_conv);
        if (conv != IR_NONE && in_tiles(b, region)) b->fused[conv] |= SC_NO_FEW_PHASE;
    }
}

/* Whether the region can put the norm's factor to its sums, or norms rows for itself. */
static bool takes_factor(const ScBuilder *b, const IrRegion *region, IrValueId norm) {
    if (region->kind == IR_REGION_ROUTER) return true;
    return region->kind == IR_REGION_LINEAR && sc_role(region, IR_ROLE_y) != b->g->logits && !rounds(b, region) &&
           b->options->few->any_x[stored_dtype(b, region)] && !b->options->bf16_inputs && b->layouts[norm].planes == PG_ROWS &&
           b->layouts[norm].width % b->options->few->chunk == 0;
}

static bool readers_take_factor(const ScBuilder *b, IrValueId norm) {
    bool linear = false;
    for (size_t r = 0; r < b->g->n_regions; r++) {
        const IrRegion *region = &b->g->regions[r];
        if (sc_role(region, IR_ROLE_norm) != norm) continue;
        if (!takes_factor(b, region, norm)) return false;
        linear |= region->kind == IR_REGION_LINEAR;
    }
    return linear;
}

/* Whether the phase that makes x can leave it times a weight. */
static bool maker_leaves(const ScBuilder *b, IrValueId x) {
    const IrNode *maker = ps_maker(b->g, x);
    if (maker == NULL) return false;
    if (maker->region == IR_NONE) return maker->op == IR_OP_embed;
    const IrRegion *region = &b->g->regions[maker->region];
    if (region->kind != IR_REGION_LINEAR || sc_role(region, IR_ROLE_y) != x) return false;
    IrValueId norm = sc_role(region, IR_ROLE_norm); /* it comes before x: whether it is joined is known */
    bool takes = norm != IR_NONE && (b->fused[norm] & SC_NO_FEW_PHASE);
    bool combines = sc_role(region, IR_ROLE_sum) != IR_NONE;
    return combines || (in_tiles(b, region) && b->layouts[x].planes == PG_ROWS && !takes);
}

static void join_norms(ScBuilder *b) {
    for (size_t n = 0; n < b->g->n_nodes; n++) {
        const IrNode *norm = &b->g->nodes[n];
        IrValueId y = norm->results[0], x = norm->operands[0];
        if (norm->op != IR_OP_rms_norm || !(b->fused[y] & SC_NO_ROW_PHASE) || b->norm_behind[x] != IR_NONE) continue;
        if (!readers_take_factor(b, y) || !maker_leaves(b, x)) continue;
        b->fused[y] |= SC_NO_FEW_PHASE;
        b->norm_behind[x] = y;
    }
}

void sc_join_few(ScBuilder *b) {
    b->norm_behind = SU_NEW_ARRAY(&b->scratch, IrValueId, b->g->n_values);
    b->left = SU_NEW_ARRAY(&b->scratch, ScLeft, b->g->n_values);
    for (size_t v = 0; v < b->g->n_values; v++) b->norm_behind[v] = IR_NONE;
    join_convs(b);
    join_norms(b);
}

void sc_leave_norm(ScBuilder *b, ScPhaseId p, IrValueId x) {
    if (!b->few || b->norm_behind[x] == IR_NONE) return;
    IrValueId norm = b->norm_behind[x];
    PgKernel *k = &sc_phase(b, p)->kernel;
    PgNormSlots slots = pg_norm_slots(k->kind);
    k->norm_behind = true;
    uint64_t squares = pg_squares_bytes(k->O);
    sc_read_weight(b, p, slots.norm_w, ps_maker(b->g, norm)->operands[1], PG_VECTOR, 1.0);
    b->left[norm].squares = sc_write_buffer(b, p, slots.squares, (ScBytes){squares, 0}, "squares");
    b->left[norm].scaled = sc_write_buffer(b, p, slots.scaled, sc_buffer_bytes(&b->layouts[x], PG_BLOCK), b->g->values[norm].name);
}

void sc_take_factor(ScBuilder *b, ScPhaseId p, const IrNode *norm) {
    const ScLeft *left = &b->left[norm->results[0]];
    PgKernel *k = &sc_phase(b, p)->kernel;
    k->norm = PG_RMS;
    k->eps = norm->attrs[IR_RMS_NORM_eps].f;
    sc_read_buffer(b, p, PG_LINEAR_X, left->scaled);
    sc_read_buffer(b, p, PG_LINEAR_SQUARES, left->squares);
}
