/* PG_TURN: what a mamba3 block makes of B and C, a head and the rows of a segment a tile: for each rank r, with the head's group,
 *
 *   Θ = wrap(fma(θ, Δ, Θ))     k_r = turn(rms(B_r) + bias_r)     q_r = turn(rms(C_r) + bias_r)     k⁻_r = k_r of the row before
 *
 * turn: components 2i and 2i + 1, i < S, by angle i. Components lie in the lanes; eight angles at a time, which serve a panel. */
#include "codegen/llvm/addressing.h"
#include "codegen/llvm/kernels.h"

enum { ANGLES = PG_LANES / 2, ANGLE_BYTES = ANGLES * 4 };

typedef struct Turn {
    CgEmit *e;
    const PgKernel *kernel;
    uint64_t N, turned;               /* N; panels of a head whose components turn */
    CgValue head, angles, history;    /* angles: the head's [S]; history: its [N] of rank 0 */
    CgValue cosines, sines, normed; /* [turned][16] of the row, two lanes an angle, sines with the sign of their lane; [N/16][16] */
} Turn;

/* Each of eight lanes twice. */
static CgValue doubled(CgEmit *e, CgValue eight) {
    CgValue lanes[PG_LANES];
    for (int i = 0; i < PG_LANES; i++) lanes[i] = cg_i32(e, i / 2);
    return LLVMBuildShuffleVector(e->builder, eight, LLVMGetPoison(LLVMTypeOf(eight)), LLVMConstVector(lanes, PG_LANES), "");
}

/* Every lane's neighbour in its pair. */
static CgValue swapped(CgEmit *e, CgValue v) {
    CgValue lanes[PG_LANES];
    for (int i = 0; i < PG_LANES; i++) lanes[i] = cg_i32(e, i ^ 1);
    return LLVMBuildShuffleVector(e->builder, v, LLVMGetPoison(e->vec), LLVMConstVector(lanes, PG_LANES), "");
}

/* -1 in even lanes, 1 in odd ones. */
static CgValue signs(CgEmit *e) {
    CgValue lanes[PG_LANES];
    for (int i = 0; i < PG_LANES; i++) lanes[i] = cg_f32(e, i % 2 == 0 ? -1 : 1);
    return LLVMConstVector(lanes, PG_LANES);
}

/* The angles move by the row. */
static void move_angles(const Turn *t, CgValue row) {
    CgEmit *e = t->e;
    const PgKernel *k = t->kernel;
    CgPlace steps = cg_place(e, cg_operand(e, PG_TURN_DELTA), PG_ROWS, NULL, row, k->heads);
    CgPlace thetas = cg_place(e, cg_operand(e, PG_TURN_THETA), PG_ROWS, NULL, row, k->rope_dim / 2);
    CgValue step = cg_load_f32(e, cg_place_element_at(e, &steps, t->head));
    CgLoop loop = cg_for_n(e, t->turned);
    CgValue state = cg_at(e, t->angles, cg_imul_n(e, loop.index, ANGLE_BYTES));
    CgValue theta = cg_place_element_at(e, &thetas, cg_imul_n(e, loop.index, ANGLES));
    cg_set_lanes(e, ANGLES);
    CgValue moved = cg_wrap(e, cg_fma(e, cg_load_vec(e, theta), cg_splat(e, step), cg_load_vec(e, state)));
    cg_store_vec(e, state, moved);
    CgValue cosine = cg_activation(e, PG_COS, moved), sine = cg_activation(e, PG_SIN, moved);
    cg_set_lanes(e, PG_LANES);
    CgValue bytes = cg_imul_n(e, loop.index, CG_VEC_BYTES);
    cg_store_vec(e, cg_at(e, t->cosines, bytes), doubled(e, cosine));
    cg_store_vec(e, cg_at(e, t->sines, bytes), cg_mul(e, doubled(e, sine), signs(e)));
    cg_end_for(e, &loop);
}

/* Where panel `panel` of the head's B or C of a rank goes. */
static CgValue result_panel(const Turn *t, unsigned slot, CgValue row, CgValue rank, CgValue panel) {
    CgEmit *e = t->e;
    const PgKernel *k = t->kernel;
    CgPlace place = cg_place(e, cg_operand(e, slot), k->dbc_layout, k->dbc_layout == PG_PLANES ? rank : NULL, row, k->O);
    return cg_place_panel(e, &place, cg_iadd(e, cg_imul_n(e, t->head, t->N / PG_LANES), panel));
}

/* Panels [from, to) of B (or C, which has no history), turned or not. */
static void write_panels(const Turn *t, CgValue row, CgValue rank, bool is_b, uint64_t from, uint64_t to, bool turns) {
    CgEmit *e = t->e;
    CgLoop loop = cg_for(e, cg_i64(e, from), cg_i64(e, to), 1);
    CgValue bytes = cg_imul_n(e, loop.index, CG_VEC_BYTES);
    CgValue own = cg_iadd(e, cg_imul_n(e, rank, (uint64_t)t->kernel->O * 4), cg_imul_n(e, t->head, t->N * 4));
    CgValue bias = cg_at(e, cg_operand(e, is_b ? PG_TURN_BIAS_B : PG_TURN_BIAS_C), cg_iadd(e, own, bytes));
    CgValue v = cg_add(e, cg_load_vec(e, cg_at(e, t->normed, bytes)), cg_load_vec(e, bias));
    if (turns) {
        CgValue by_sine = cg_mul(e, swapped(e, v), cg_load_vec(e, cg_at(e, t->sines, bytes)));
        v = cg_add(e, cg_mul(e, v, cg_load_vec(e, cg_at(e, t->cosines, bytes))), by_sine);
    }
    cg_store_vec(e, result_panel(t, is_b ? PG_TURN_B : PG_TURN_C, row, rank, loop.index), v);
    if (is_b) {
        CgValue held = cg_at(e, t->history, cg_iadd(e, cg_imul_n(e, rank, (uint64_t)t->kernel->O * 4), bytes));
        cg_store_vec(e, result_panel(t, PG_TURN_B_LAST, row, rank, loop.index), cg_load_vec(e, held));
        cg_store_vec(e, held, v);
    }
    cg_end_for(e, &loop);
}

/* B or C of a rank: normed, then written. */
static void turn(const Turn *t, CgValue row, CgValue rank, bool is_b) {
    CgEmit *e = t->e;
    const PgKernel *k = t->kernel;
    const uint64_t R = (uint64_t)pg_ranks(k), G = (uint64_t)k->groups, panels = t->N / PG_LANES;
    CgPlace x = cg_place(e, cg_operand(e, PG_TURN_X), PG_ROWS, NULL, row, (int64_t)(2 * R * G * t->N));
    CgValue group = cg_iadd(e, cg_imul_n(e, rank, G), cg_udiv_n(e, t->head, (uint64_t)k->heads / G));
    if (!is_b) group = cg_iadd_n(e, group, R * G);
    CgValue first = cg_place_panel(e, &x, cg_imul_n(e, group, panels));
    cg_norm_row(e, first, x.panel_bytes, cg_operand(e, is_b ? PG_TURN_NORM_B : PG_TURN_NORM_C), NULL, t->normed,
                cg_i64(e, CG_VEC_BYTES), (int64_t)t->N);
    write_panels(t, row, rank, is_b, 0, t->turned, true);
    if (t->turned < panels) write_panels(t, row, rank, is_b, t->turned, panels, false);
}

static void turn_row(const Turn *t, CgValue row) {
    CgEmit *e = t->e;
    move_angles(t, row);
    CgLoop ranks = cg_for_n(e, (uint64_t)pg_ranks(t->kernel));
    turn(t, row, ranks.index, true);
    turn(t, row, ranks.index, false);
    cg_end_for(e, &ranks);
}

void cg_emit_turn(CgEmit *e) {
    const PgKernel *k = e->kernel;
    const uint64_t heads = (uint64_t)k->heads;
    Turn t = {.e = e, .kernel = k, .N = (uint64_t)k->N, .turned = (uint64_t)k->rope_dim / PG_LANES};
    t.cosines = cg_var_array(e, e->vec, t.turned);
    t.sines = cg_var_array(e, e->vec, t.turned);
    t.normed = cg_var_array(e, e->vec, t.N / PG_LANES);
    bool one = k->mode == PG_ROW;
    CgLoop tiles = cg_for_tiles(e);
    CgSegment segment = cg_segment(e, one ? cg_i64(e, 0) : cg_udiv_n(e, tiles.index, heads));
    t.head = one ? tiles.index : cg_urem_n(e, tiles.index, heads);
    t.angles = cg_at(e, cg_state_operand(e, PG_TURN_ANGLE, &segment), cg_imul_n(e, t.head, t.turned * ANGLE_BYTES));
    t.history = cg_at(e, cg_state_operand(e, PG_TURN_HISTORY, &segment), cg_imul_n(e, t.head, t.N * 4));
    CgValue first = one ? cg_i64(e, 0) : segment.first_row;
    CgLoop rows = cg_for(e, first, one ? cg_i64(e, 1) : cg_iadd(e, first, segment.count), 1);
    turn_row(&t, rows.index);
    cg_end_for(e, &rows);
    cg_end_for(e, &tiles);
}
