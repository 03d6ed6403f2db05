/* The operations as they are when fusion is off: softmax, selection and combine weights of a router, mixed parameters, and the
 * scan in parts. Values of a channel's N elements are channels: [panel][row][N][16]. */
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/addressing.h"

#include <math.h>

static CgValue at_index(CgEmit *e, CgValue base, CgValue index) { return cg_at(e, base, cg_imul_n(e, index, CG_VEC_BYTES)); }

/* ---------------------------------------------------------------------------------------------- router */

/* Copies the E scores of a row from X into a line of scratch. */
static void gather_scores(CgEmit *e, const CgIndex *at, CgValue line) {
    CgLoop panels = cg_for_n(e, pg_panels(e->kernel->E));
    CgValue x = cg_indexed(e, PG_OP_X, PG_ROWS, at, panels.index, e->kernel->E, 1);
    cg_store_vec(e, at_index(e, line, panels.index), cg_load_vec(e, x));
    cg_end_for(e, &panels);
}

/* A row whose scores are not all finite is reported as non-finite. */
static void check_scores(CgEmit *e, const CgIndex *at, CgValue line) {
    CgLoop loop = cg_for_n(e, (uint64_t)e->kernel->E);
    CgValue bad = cg_carry(e, &loop, LLVMConstInt(e->i1, 0, 0));
    CgValue score = cg_load_f32(e, cg_at(e, line, cg_imul_n(e, loop.index, 4)));
    CgValue finite = cg_fcmp(e, LLVMRealOLT, cg_abs(e, score), cg_f32(e, INFINITY));
    cg_next(&loop, bad, LLVMBuildOr(e->builder, bad, LLVMBuildNot(e->builder, finite, ""), ""));
    cg_end_for(e, &loop);
    cg_nonfinite(e, at->row, cg_after(&loop, bad));
}

static void softmax_row(CgEmit *e, void *context, const CgIndex *at) {
    CgValue line = context;
    gather_scores(e, at, line);
    check_scores(e, at, line);
    cg_softmax_row(e, line, e->kernel->E);
    CgLoop panels = cg_for_n(e, pg_panels(e->kernel->E));
    CgValue y = cg_indexed(e, PG_OP_Y, PG_ROWS, at, panels.index, e->kernel->E, 1);
    cg_store_vec(e, y, cg_load_vec(e, at_index(e, line, panels.index)));
    cg_end_for(e, &panels);
}

static void select_row(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    CgValue line = context, bias = kernel->select_bias ? cg_operand(e, PG_OP_W) : NULL;
    gather_scores(e, at, line);
    check_scores(e, at, line);
    CgValue expert_indices = cg_at(e, cg_operand(e, PG_OP_EXPERTS), cg_imul_n(e, at->row, (uint64_t)kernel->k * 4));
    cg_select_row(e, line, bias, kernel->E, kernel->k, expert_indices);
}

static void gates_row(CgEmit *e, void *context, const CgIndex *at) {
    CgValue line = context;
    gather_scores(e, at, line);
    CgValue bytes = cg_imul_n(e, at->row, (uint64_t)e->kernel->k * 4);
    CgValue expert_indices = cg_at(e, cg_operand(e, PG_OP_EXPERTS), bytes),
            combine_weights = cg_at(e, cg_operand(e, PG_OP_COMBINE_W), bytes);
    cg_combine_weights_row(e, line, expert_indices, e->kernel->k, combine_weights);
}

static void each_router_row(CgEmit *e, CgPlaceBody body) {
    cg_each_place(e, PG_ROWS, body, cg_scratch(e, pg_panels(e->kernel->E) * CG_VEC_BYTES));
}

void cg_emit_softmax(CgEmit *e) { each_router_row(e, softmax_row); }
void cg_emit_select(CgEmit *e) { each_router_row(e, select_row); }
void cg_emit_gates(CgEmit *e) { each_router_row(e, gates_row); }

/* Parameters of [E][I/16][N][16] mixed by the combine weights of each row. */
static void mix_row(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    uint64_t N = (uint64_t)kernel->N, panels = pg_panels(kernel->O);
    CgChosen chosen = cg_chosen(e, PG_OP_EXPERTS, PG_OP_COMBINE_W, at->row);
    (void)context;
    CgLoop panel = cg_for_n(e, panels);
    CgValue y = cg_indexed(e, PG_OP_Y, PG_ROWS, at, panel.index, kernel->O, kernel->N);
    CgValue w = cg_at(e, cg_operand(e, PG_OP_W), cg_imul_n(e, panel.index, N * CG_VEC_BYTES));
    CgLoop n = cg_for_n(e, N);
    cg_store_vec(e, at_index(e, y, n.index), cg_mixed_vec(e, &chosen, at_index(e, w, n.index), panels * N * CG_VEC_BYTES));
    cg_end_for(e, &n);
    cg_end_for(e, &panel);
}

void cg_emit_mix(CgEmit *e) { cg_each_place(e, PG_ROWS, mix_row, NULL); }

/* ---------------------------------------------------------------------------------------------- scan in parts */

/* A of a place: plain, the expert's, or mixed for the row. */
static CgValue channels_of(CgEmit *e, const CgIndex *at, CgValue panel) {
    const PgKernel *kernel = e->kernel;
    if (kernel->mixed) return cg_indexed(e, PG_OP_W, PG_ROWS, at, panel, kernel->O, kernel->N);
    if (kernel->per_expert) panel = cg_iadd(e, cg_imul_n(e, at->expert, pg_panels(kernel->O)), panel);
    return cg_at(e, cg_operand(e, PG_OP_W), cg_imul_n(e, panel, (uint64_t)kernel->N * CG_VEC_BYTES));
}

/* y_n = d · A_n */
static void outer_place(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    (void)context;
    CgLoop panel = cg_for_n(e, pg_panels(kernel->O));
    CgValue d = cg_load_vec(e, cg_indexed(e, PG_OP_X, kernel->x_layout, at, panel.index, kernel->O, 1));
    CgValue A = channels_of(e, at, panel.index);
    CgValue y = cg_indexed(e, PG_OP_Y, kernel->y_layout, at, panel.index, kernel->O, kernel->N);
    CgLoop n = cg_for_n(e, (uint64_t)kernel->N);
    cg_store_vec(e, at_index(e, y, n.index), cg_mul(e, d, cg_load_vec(e, at_index(e, A, n.index))));
    cg_end_for(e, &n);
    cg_end_for(e, &panel);
}

void cg_emit_outer(CgEmit *e) { cg_each_place(e, e->kernel->y_layout, outer_place, NULL); }

/* Address of element i of Z at a place: B or C of all groups. */
static CgValue element_of_z(CgEmit *e, const CgIndex *at, CgValue i) {
    const PgKernel *kernel = e->kernel;
    CgValue panel = cg_indexed(e, PG_OP_Z, kernel->z_layout, at, cg_udiv_n(e, i, PG_LANES), kernel->groups * kernel->N, 1);
    return cg_at(e, panel, cg_imul_n(e, cg_urem_n(e, i, PG_LANES), 4));
}

/* Element n of each lane's group. */
static CgValue group_lanes(CgEmit *e, const CgIndex *at, CgValue panel, CgValue n) {
    const PgKernel *kernel = e->kernel;
    uint64_t width = (uint64_t)(kernel->O / kernel->groups), N = (uint64_t)kernel->N;
    CgValue lanes = cg_zero(e);
    for (unsigned lane = 0; lane < PG_LANES; lane++) {
        CgValue channel = cg_iadd_n(e, cg_imul_n(e, panel, PG_LANES), lane);
        CgValue group = cg_umin(e, cg_udiv_n(e, channel, width), cg_i64(e, (uint64_t)kernel->groups - 1)); /* lanes past O */
        CgValue element = element_of_z(e, at, cg_iadd(e, cg_imul_n(e, group, N), n));
        lanes = cg_set_lane(e, lanes, cg_load_f32(e, element), lane);
    }
    return lanes;
}

/* Element n of Z in every lane of a panel of channels: of their groups. */
static CgValue broadcast_z(CgEmit *e, const CgIndex *at, CgValue panel, CgValue n) {
    const PgKernel *kernel = e->kernel;
    uint64_t width = (uint64_t)(kernel->O / kernel->groups);
    if (kernel->groups == 1) return cg_load_splat(e, element_of_z(e, at, n));
    if (width % PG_LANES != 0) return group_lanes(e, at, panel, n);
    CgValue group = cg_udiv_n(e, panel, width / PG_LANES);
    return cg_load_splat(e, element_of_z(e, at, cg_iadd(e, cg_imul_n(e, group, (uint64_t)kernel->N), n)));
}

/* y_n = v · B_n */
static void inject_place(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    (void)context;
    CgLoop panel = cg_for_n(e, pg_panels(kernel->O));
    CgValue v = cg_load_vec(e, cg_indexed(e, PG_OP_X, kernel->x_layout, at, panel.index, kernel->O, 1));
    CgValue y = cg_indexed(e, PG_OP_Y, kernel->y_layout, at, panel.index, kernel->O, kernel->N);
    CgLoop n = cg_for_n(e, (uint64_t)kernel->N);
    cg_store_vec(e, at_index(e, y, n.index), cg_mul(e, v, broadcast_z(e, at, panel.index, n.index)));
    cg_end_for(e, &n);
    cg_end_for(e, &panel);
}

void cg_emit_inject(CgEmit *e) { cg_each_place(e, e->kernel->y_layout, inject_place, NULL); }

/* y_n = addend_n, or +0, and then fma(v, B_n, y_n) over the planes in order */
static void inject_sum_place(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    bool planes = kernel->x_layout == PG_PLANES;
    (void)context;
    CgLoop panel = cg_for_n(e, pg_panels(kernel->O));
    CgValue y = cg_indexed(e, PG_OP_Y, PG_ROWS, at, panel.index, kernel->O, kernel->N);
    CgValue addend = kernel->addend ? cg_indexed(e, PG_OP_W, PG_ROWS, at, panel.index, kernel->O, kernel->N) : NULL;
    CgLoop n = cg_for_n(e, (uint64_t)kernel->N);
    CgValue first = addend ? cg_load_vec(e, at_index(e, addend, n.index)) : cg_zero(e);
    CgLoop plane = cg_for_n(e, planes ? (uint64_t)kernel->E : 1);
    CgValue sum = cg_carry(e, &plane, first);
    CgIndex of = {.row = at->row, .expert = plane.index};
    CgValue v = cg_load_vec(e, cg_indexed(e, PG_OP_X, kernel->x_layout, &of, panel.index, kernel->O, 1));
    cg_next(&plane, sum, cg_fma(e, v, broadcast_z(e, &of, panel.index, n.index), sum));
    cg_end_for(e, &plane);
    cg_store_vec(e, at_index(e, y, n.index), cg_after(&plane, sum));
    cg_end_for(e, &n);
    cg_end_for(e, &panel);
}

void cg_emit_inject_sum(CgEmit *e) { cg_each_place(e, PG_ROWS, inject_sum_place, NULL); }

/* y = Σ_n s_n · C_n by fma from +0 */
static void contract_place(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    (void)context;
    CgLoop panel = cg_for_n(e, pg_panels(kernel->O));
    CgValue s = cg_indexed(e, PG_OP_X, kernel->x_layout, at, panel.index, kernel->O, kernel->N);
    CgValue y = cg_indexed(e, PG_OP_Y, kernel->y_layout, at, panel.index, kernel->O, 1);
    CgLoop n = cg_for_n(e, (uint64_t)kernel->N);
    CgValue sum = cg_carry(e, &n, cg_zero(e));
    cg_next(&n, sum, cg_fma(e, cg_load_vec(e, at_index(e, s, n.index)), broadcast_z(e, at, panel.index, n.index), sum));
    cg_end_for(e, &n);
    cg_store_vec(e, y, cg_after(&n, sum));
    cg_end_for(e, &panel);
}

void cg_emit_contract(CgEmit *e) { cg_each_place(e, e->kernel->y_layout, contract_place, NULL); }

/* ---------------------------------------------------------------------------------------------- PG_RECUR */

typedef struct Recur Recur;
/* The state of one place moves, if `moves` (i1, or NULL: it does). */
typedef void (*Move)(const Recur *r, const CgIndex *at, CgValue moves);

struct Recur {
    CgEmit *e;
    const PgKernel *kernel;
    uint64_t elements; /* of a channel's state */
    Move move;
    CgValue panel, state; /* state: this panel's [elements][16], of expert 0 */
};

/* This place's part of the state. */
static CgValue state_at(const Recur *r, const CgIndex *at) {
    if (!at->expert) return r->state;
    return cg_at(r->e, r->state, cg_imul_n(r->e, at->expert, pg_panels(r->kernel->O) * r->elements * CG_VEC_BYTES));
}

/* s_n = cut(fma(a, s_n, b)), which is also y. */
static void move_state(const Recur *r, const CgIndex *at, CgValue moves) {
    CgEmit *e = r->e;
    const PgKernel *kernel = r->kernel;
    uint64_t N = (uint64_t)kernel->N;
    CgValue a = cg_indexed(e, PG_OP_X, kernel->x_layout, at, r->panel, kernel->O, kernel->one_a ? 1 : kernel->N);
    CgValue b = cg_indexed(e, PG_OP_Z, kernel->z_layout, at, r->panel, kernel->O, kernel->N);
    CgValue y = cg_indexed(e, PG_OP_Y, kernel->y_layout, at, r->panel, kernel->O, kernel->N), state = state_at(r, at);
    CgLoop n = cg_for_n(e, N);
    CgValue where = at_index(e, state, n.index), s = cg_load_vec(e, where);
    CgValue decay = cg_load_vec(e, kernel->one_a ? a : at_index(e, a, n.index));
    CgValue sum = cg_fma(e, decay, s, cg_load_vec(e, at_index(e, b, n.index)));
    CgValue moved = cg_side_cut(e, (CgSide){.n = 1, .v = {sum}}).v[0];
    if (moves) moved = cg_select(e, moves, moved, s);
    cg_store_vec(e, where, moved);
    cg_store_vec(e, at_index(e, y, n.index), moved);
    cg_end_for(e, &n);
}

static CgValue route_of(const Recur *r, CgValue row, CgValue j) {
    CgEmit *e = r->e;
    CgValue pair = cg_iadd(e, cg_imul_n(e, row, (uint64_t)r->kernel->k), j);
    return cg_wide(e, cg_load_i32(e, cg_at(e, cg_operand(e, PG_OP_EXPERTS), cg_imul_n(e, pair, 4))));
}

/* Whether the row chose this expert. */
static CgValue is_chosen(const Recur *r, CgValue row, CgValue expert) {
    CgEmit *e = r->e;
    CgLoop slots = cg_for_n(e, (uint64_t)r->kernel->k);
    CgValue found = cg_carry(e, &slots, LLVMConstInt(e->i1, 0, 0));
    CgValue same = cg_icmp(e, LLVMIntEQ, route_of(r, row, slots.index), expert);
    cg_next(&slots, found, LLVMBuildOr(e->builder, found, same, ""));
    cg_end_for(e, &slots);
    return cg_after(&slots, found);
}

static void recur_row(const Recur *r, CgValue row) {
    CgEmit *e = r->e;
    CgIndex at = {.row = row};
    if (r->kernel->y_layout == PG_ROWS) {
        r->move(r, &at, NULL);
        return;
    }
    bool planes = r->kernel->y_layout == PG_PLANES;
    CgLoop places = cg_for_n(e, (uint64_t)(planes ? r->kernel->E : r->kernel->k));
    at.expert = planes ? places.index : route_of(r, row, places.index);
    if (!planes) at.position = cg_position_of(e, PG_OP_GROUPS, row, places.index);
    r->move(r, &at, r->kernel->held ? is_chosen(r, row, at.expert) : NULL);
    cg_end_for(e, &places);
}

/* The rows of a segment, with all their places. */
static void move_segments(CgEmit *e, uint64_t elements, Move move) {
    const PgKernel *kernel = e->kernel;
    Recur r = {.e = e, .kernel = kernel, .elements = elements, .move = move};
    CgLoop tiles = cg_for_tiles(e);
    CgSegment segment;
    cg_segment_and_panel(e, tiles.index, kernel->O, &segment, &r.panel);
    if (elements > 0) {
        r.state = cg_state_operand(e, PG_OP_STATE, &segment);
        r.state = cg_at(e, r.state, cg_imul_n(e, r.panel, elements * CG_VEC_BYTES));
    }
    bool one = kernel->mode == PG_ROW;
    CgValue first = one ? cg_i64(e, 0) : segment.first_row;
    CgLoop rows = cg_for(e, first, one ? cg_i64(e, 1) : cg_iadd(e, first, segment.count), 1);
    recur_row(&r, rows.index);
    cg_end_for(e, &rows);
    cg_end_for(e, &tiles);
}

void cg_emit_recur(CgEmit *e) { move_segments(e, (uint64_t)e->kernel->N, move_state); }

/* y = Σ_w weight_w · the place's last inputs, from the oldest by fma from +0; then the present one joins them. */
static void move_history(const Recur *r, const CgIndex *at, CgValue moves) {
    CgEmit *e = r->e;
    const PgKernel *kernel = r->kernel;
    uint64_t past = r->elements;
    CgValue x = cg_load_vec(e, cg_indexed(e, PG_OP_X, kernel->x_layout, at, r->panel, kernel->O, 1)), y = cg_zero(e);
    CgValue weights = cg_at(e, cg_operand(e, PG_OP_W), cg_imul_n(e, r->panel, (past + 1) * CG_VEC_BYTES));
    CgValue history = past > 0 ? state_at(r, at) : NULL;
    for (uint64_t w = 0; w < past; w++) {
        CgValue where = cg_at_n(e, history, w * CG_VEC_BYTES), h = cg_load_vec(e, where);
        y = cg_fma(e, cg_load_vec(e, cg_at_n(e, weights, w * CG_VEC_BYTES)), h, y);
        CgValue next = w + 1 < past ? cg_load_vec(e, cg_at_n(e, where, CG_VEC_BYTES)) : x;
        cg_store_vec(e, where, moves ? cg_select(e, moves, next, h) : next);
    }
    y = cg_fma(e, cg_load_vec(e, cg_at_n(e, weights, past * CG_VEC_BYTES)), x, y);
    cg_store_vec(e, cg_indexed(e, PG_OP_Y, kernel->y_layout, at, r->panel, kernel->O, 1), y);
}

void cg_emit_conv_each(CgEmit *e) { move_segments(e, (uint64_t)e->kernel->taps - 1, move_history); }

/* y is what the state holds, which then becomes x. */
static void move_delayed(const Recur *r, const CgIndex *at, CgValue moves) {
    CgEmit *e = r->e;
    const PgKernel *kernel = r->kernel;
    CgValue state = state_at(r, at), held = cg_load_vec(e, state);
    (void)moves;
    cg_store_vec(e, state, cg_load_vec(e, cg_indexed(e, PG_OP_X, kernel->x_layout, at, r->panel, kernel->O, 1)));
    cg_store_vec(e, cg_indexed(e, PG_OP_Y, kernel->y_layout, at, r->panel, kernel->O, 1), held);
}

void cg_emit_delay(CgEmit *e) { move_segments(e, 1, move_delayed); }

/* ---------------------------------------------------------------------------------------------- angles */

/* Element `i` (i64) of a row of an operand of `width`. */
static CgValue element_of_row(CgEmit *e, unsigned slot, CgValue row, CgValue i, int64_t width) {
    const CgIndex at = {.row = row};
    CgValue panel = cg_indexed(e, slot, PG_ROWS, &at, cg_udiv_n(e, i, PG_LANES), width, 1);
    return cg_load_f32(e, cg_at(e, panel, cg_imul_n(e, cg_urem_n(e, i, PG_LANES), 4)));
}

/* s = wrap(fma(w, d, s)), which is also y: w of the angle, d of the head. */
static void move_angle(const Recur *r, const CgIndex *at, CgValue moves) {
    CgEmit *e = r->e;
    const PgKernel *kernel = r->kernel;
    const int64_t S = kernel->O / kernel->heads;
    CgValue w = cg_zero(e), d = cg_zero(e);
    (void)moves;
    for (unsigned lane = 0; lane < PG_LANES; lane++) {
        CgValue i = cg_iadd_n(e, cg_imul_n(e, r->panel, PG_LANES), lane);
        i = cg_umin(e, i, cg_i64(e, (uint64_t)kernel->O - 1)); /* lanes past O */
        w = cg_set_lane(e, w, element_of_row(e, PG_OP_X, at->row, cg_urem_n(e, i, (uint64_t)S), S), lane);
        d = cg_set_lane(e, d, element_of_row(e, PG_OP_Z, at->row, cg_udiv_n(e, i, (uint64_t)S), kernel->heads), lane);
    }
    CgValue moved = cg_wrap(e, cg_fma(e, w, d, cg_load_vec(e, r->state)));
    cg_store_vec(e, r->state, moved);
    cg_store_vec(e, cg_indexed(e, PG_OP_Y, PG_ROWS, at, r->panel, kernel->O, 1), moved);
}

void cg_emit_angle(CgEmit *e) { move_segments(e, 1, move_angle); }

/* Components 2i and 2i + 1 of the first rope_dim of each head turn by its angle i; the others stay. */
static void rotate_place(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    const uint64_t N = (uint64_t)(kernel->O / kernel->heads), S = (uint64_t)kernel->rope_dim / 2, H = (uint64_t)kernel->heads;
    (void)context;
    CgLoop panel = cg_for_n(e, pg_panels(kernel->O)); /* all of it, then the pairs that turn */
    CgValue all = cg_load_vec(e, cg_indexed(e, PG_OP_X, kernel->x_layout, at, panel.index, kernel->O, 1));
    cg_store_vec(e, cg_indexed(e, PG_OP_Y, kernel->y_layout, at, panel.index, kernel->O, 1), all);
    cg_end_for(e, &panel);
    CgLoop pair = cg_for_n(e, H * S);
    CgValue h = cg_udiv_n(e, pair.index, S), first = cg_imul_n(e, cg_urem_n(e, pair.index, S), 2);
    first = cg_iadd(e, first, cg_imul_n(e, h, N));
    CgValue at_panel = cg_udiv_n(e, first, PG_LANES), bytes = cg_imul_n(e, cg_urem_n(e, first, PG_LANES), 4);
    CgValue x = cg_at(e, cg_indexed(e, PG_OP_X, kernel->x_layout, at, at_panel, kernel->O, 1), bytes);
    CgValue y = cg_at(e, cg_indexed(e, PG_OP_Y, kernel->y_layout, at, at_panel, kernel->O, 1), bytes);
    CgValue cosine = element_of_row(e, PG_OP_Z, at->row, pair.index, (int64_t)(H * S));
    CgValue sine = element_of_row(e, PG_OP_W, at->row, pair.index, (int64_t)(H * S));
    CgValue x0 = cg_load_f32(e, x), x1 = cg_load_f32(e, cg_at_n(e, x, 4));
    cg_store_f32(e, y, cg_sub(e, cg_mul(e, x0, cosine), cg_mul(e, x1, sine)));
    cg_store_f32(e, cg_at_n(e, y, 4), cg_add(e, cg_mul(e, x1, cosine), cg_mul(e, x0, sine)));
    cg_end_for(e, &pair);
}

void cg_emit_rotate(CgEmit *e) { cg_each_place(e, e->kernel->y_layout, rotate_place, NULL); }
