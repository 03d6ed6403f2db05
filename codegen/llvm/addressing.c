/* Addresses of rows, planes and positions; the chosen experts of a row. */
#include "codegen/llvm/addressing.h"

CgPlace cg_place(CgEmit *e, CgValue base, PgLayout layout, CgValue plane, CgValue index, int64_t elements) {
    CgPlace place;
    if (layout == PG_PLANES && plane) base = cg_at(e, base, cg_imul(e, plane, cg_plane_bytes(e, elements)));
    place.base = cg_at(e, base, cg_imul_n(e, index, CG_VEC_BYTES));
    place.panel_bytes = cg_imul_n(e, cg_stride(e, layout), CG_VEC_BYTES);
    return place;
}

CgValue cg_place_panel(CgEmit *e, const CgPlace *place, CgValue panel) {
    return cg_at(e, place->base, cg_imul(e, panel, place->panel_bytes));
}

CgValue cg_place_element(CgEmit *e, const CgPlace *place, CgValue block, int64_t i) {
    CgValue panel = cg_i64(e, (uint64_t)(i / PG_LANES));
    if (block) panel = cg_iadd(e, block, panel);
    return cg_at_n(e, cg_place_panel(e, place, panel), (uint64_t)(i % PG_LANES) * 4);
}

CgValue cg_place_element_at(CgEmit *e, const CgPlace *place, CgValue i) {
    CgValue panel = cg_place_panel(e, place, cg_udiv_n(e, i, PG_LANES));
    return cg_at(e, panel, cg_imul_n(e, cg_urem_n(e, i, PG_LANES), 4));
}

CgValue cg_scalar(CgEmit *e, CgScalars *s, int64_t i) {
    int64_t few = e->target->broadcast_lanes;
    while (s->limit && few > 1 && i - i % few + few > s->limit) few /= 2;
    int64_t first = i - i % few;
    if (few == 1) return cg_load_splat(e, cg_place_element(e, &s->place, NULL, i));
    if (!s->held || s->first != first) s->held = cg_load_few(e, cg_place_element(e, &s->place, NULL, first), (unsigned)few);
    s->first = first;
    return cg_splat_lane(e, s->held, (unsigned)(i % few));
}

CgChosen cg_chosen(CgEmit *e, unsigned experts_slot, unsigned combine_slot, CgValue row) {
    CgChosen chosen = {.k = e->kernel->k};
    CgValue bytes = cg_imul_n(e, row, (uint64_t)chosen.k * 4);
    chosen.expert_indices = cg_at(e, cg_operand(e, experts_slot), bytes);
    chosen.combine_weights = cg_at(e, cg_operand(e, combine_slot), bytes);
    if (chosen.k > CG_FEW_CHOSEN) return chosen;
    for (int64_t j = 0; j < chosen.k; j++) {
        chosen.expert[j] = cg_chosen_expert(e, &chosen, cg_i64(e, (uint64_t)j));
        chosen.weight[j] = cg_chosen_weight(e, &chosen, cg_i64(e, (uint64_t)j));
    }
    return chosen;
}

CgValue cg_chosen_expert(CgEmit *e, const CgChosen *chosen, CgValue j) {
    return cg_wide(e, cg_load_i32(e, cg_at(e, chosen->expert_indices, cg_imul_n(e, j, 4))));
}

CgValue cg_chosen_weight(CgEmit *e, const CgChosen *chosen, CgValue j) {
    return cg_load_splat(e, cg_at(e, chosen->combine_weights, cg_imul_n(e, j, 4)));
}

CgValue cg_position_of(CgEmit *e, unsigned groups_slot, CgValue row, CgValue j) {
    if (e->kernel->mode == PG_ROW) return j;
    CgValue pair = cg_iadd(e, cg_imul_n(e, row, (uint64_t)e->kernel->k), j);
    CgValue pos_of = cg_group_pos_of(e, cg_operand(e, groups_slot));
    return cg_wide(e, cg_load_i32(e, cg_at(e, pos_of, cg_imul_n(e, pair, 4))));
}

CgValue cg_mixed_vec(CgEmit *e, const CgChosen *chosen, CgValue base, uint64_t expert_bytes) {
    CgValue sum = cg_zero(e);
    if (chosen->k <= CG_FEW_CHOSEN) {
        for (int64_t j = 0; j < chosen->k; j++) {
            CgValue p = cg_load_vec(e, cg_at(e, base, cg_imul_n(e, chosen->expert[j], expert_bytes)));
            sum = cg_fma(e, chosen->weight[j], p, sum);
        }
        return sum;
    }
    CgLoop loop = cg_for_n(e, (uint64_t)chosen->k);
    CgValue carried = cg_carry(e, &loop, sum);
    CgValue expert = cg_chosen_expert(e, chosen, loop.index);
    CgValue p = cg_load_vec(e, cg_at(e, base, cg_imul_n(e, expert, expert_bytes)));
    cg_next(&loop, carried, cg_fma(e, cg_chosen_weight(e, chosen, loop.index), p, carried));
    cg_end_for(e, &loop);
    return cg_after(&loop, carried);
}

void cg_segment_and_panel(CgEmit *e, CgValue tile, int64_t channels, CgSegment *out_segment, CgValue *out_panel) {
    if (e->kernel->mode == PG_ROW) {
        *out_segment = cg_segment(e, cg_i64(e, 0));
        *out_panel = tile;
        return;
    }
    uint64_t panels = pg_panels(channels);
    *out_segment = cg_segment(e, cg_udiv_n(e, tile, panels));
    *out_panel = cg_urem_n(e, tile, panels);
}

/* ---------------------------------------------------------------------------------------------- unfused operations */

/* Eight rows, for all planes. */
static void row_places(CgEmit *e, CgValue tile, PgLayout layout, CgPlaceBody body, void *context) {
    bool one = e->kernel->mode == PG_ROW;
    CgValue first = one ? cg_i64(e, 0) : cg_imul_n(e, tile, PG_ROW_BLOCK);
    CgValue end = one ? cg_i64(e, 1) : cg_umin(e, cg_iadd_n(e, first, PG_ROW_BLOCK), cg_rows(e));
    CgLoop planes = cg_for_n(e, layout == PG_PLANES ? (uint64_t)e->kernel->E : 1);
    CgLoop rows = cg_for(e, first, end, 1);
    CgIndex at = {.row = rows.index, .expert = layout == PG_PLANES ? planes.index : NULL};
    body(e, context, &at);
    cg_end_for(e, &rows);
    cg_end_for(e, &planes);
}

/* The k positions of the only row. */
static void slot_places(CgEmit *e, CgPlaceBody body, void *context) {
    CgLoop slots = cg_for_n(e, (uint64_t)e->kernel->k);
    CgValue route = cg_at(e, cg_operand(e, PG_OP_EXPERTS), cg_imul_n(e, slots.index, 4));
    CgIndex at = {.row = cg_i64(e, 0), .position = slots.index, .expert = cg_wide(e, cg_load_i32(e, route))};
    body(e, context, &at);
    cg_end_for(e, &slots);
}

/* Eight positions of one expert; none if the tile is past the positions in use. */
static void position_places(CgEmit *e, CgValue tile, CgPlaceBody body, void *context) {
    CgValue table = cg_operand(e, PG_OP_GROUPS), start = cg_group_start(e, table);
    CgValue used = cg_wide(e, cg_load_i32(e, cg_at_n(e, start, (uint64_t)e->kernel->E * 4)));
    CgValue first = cg_imul_n(e, tile, PG_ROW_BLOCK), row_of = cg_group_row_of(e, table);
    CgIf in_use = cg_if(e, cg_icmp(e, LLVMIntULT, first, used));
    CgValue expert = cg_load_i32(e, cg_at(e, cg_group_expert_of(e, table), cg_imul_n(e, tile, 4)));
    CgLoop positions = cg_for(e, first, cg_iadd_n(e, first, PG_ROW_BLOCK), 1);
    CgValue row = cg_load_i32(e, cg_at(e, row_of, cg_imul_n(e, positions.index, 4)));
    CgIndex at = {.row = cg_wide(e, row), .position = positions.index, .expert = cg_wide(e, expert)};
    body(e, context, &at);
    cg_end_for(e, &positions);
    cg_end_if(e, &in_use);
}

void cg_each_place(CgEmit *e, PgLayout layout, CgPlaceBody body, void *context) {
    CgLoop tiles = cg_for_tiles(e);
    if (layout != PG_POSITIONS)
        row_places(e, tiles.index, layout, body, context);
    else if (e->kernel->mode == PG_ROW)
        slot_places(e, body, context);
    else
        position_places(e, tiles.index, body, context);
    cg_end_for(e, &tiles);
}

CgValue cg_indexed(CgEmit *e, unsigned slot, PgLayout layout, const CgIndex *at, CgValue panel, int64_t O, int64_t N) {
    uint64_t bytes = (uint64_t)N * CG_VEC_BYTES;
    CgValue place = layout == PG_POSITIONS ? at->position : at->row;
    if (layout == PG_PLANES) panel = cg_iadd(e, cg_imul_n(e, at->expert, pg_panels(O)), panel);
    place = cg_iadd(e, cg_imul(e, panel, cg_stride(e, layout)), place);
    return cg_at(e, cg_operand(e, slot), cg_imul_n(e, place, bytes));
}

CgValue cg_row_position(CgEmit *e, CgValue row, CgSegment *out_segment) {
    if (e->kernel->mode == PG_ROW) {
        *out_segment = cg_segment(e, cg_i64(e, 0));
        return out_segment->position;
    }
    CgValue of = cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, row_segment)), cg_imul_n(e, row, 4));
    *out_segment = cg_segment(e, cg_wide(e, cg_load_i32(e, of)));
    return cg_load_i64(e, cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, row_position)), cg_imul_n(e, row, 8)));
}
