/* PG_SCAN: Δ, the recurrence, the output, the experts' sum and the gate of one panel of 16 channels over the rows of a segment.
 *
 *   Δ = softplus(W_dt δ + b_dt)       a = exp(Δ · A_n)      s_n = cut(fma(a, s_n, (Δ · c) · B_n)), with zero-order hold · zoh(Δ · A_n)
 *   y = Σ_n s_n · C_n by fma from +0, + D · c               out = Σ_j g_j y_j (experts) · act(z)
 *
 * Channels lie in the lanes: δ, B and C are scalars to them, broadcast from memory, and nothing crosses lanes. The state stays
 * where the sequence keeps it (a panel's [N][16] is a few KB and lives in L1); exp, about 13 of 20 vector operations a state
 * element, decides the speed, and the n of a row are independent but for the short chain of y.
 *
 * Rows are taken in blocks of ROW_CHAINS. W_dt δ is a chain of R dependent fma, so several rows of a block (or pairs of a row and a
 * chosen expert) run theirs side by side first and leave Δ in a small buffer; then the states move, row by row, some elements
 * side by side; at last all rows pass through the gate.
 *
 * Where registers are small the channels of a panel go by in parts of target->scan_lanes: exp with its constants, Δ, Δ · c and y of 16
 * channels would not fit. */
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/addressing.h"

enum {
    ROW_CHAINS = 8,      /* rows of a block; most rows, or (row, slot) pairs, whose Δ is summed side by side */
    UNROLLED_SUM = 256, /* multiplications of registers by W_dt written out in a line; longer sums become loops over blocks of 16 */
    FEW_STATES = 16 /* state elements of a channel that a short line of code copies */
};

typedef struct Scan {
    CgEmit *e;
    const PgKernel *kernel;
    int rows; /* of a block: ROW_CHAINS, or 1 */
    int chains; /* rows, or pairs, whose Δ is summed side by side on this target */
    CgValue panel; /* i64 */
    CgValue lane_offset; /* i64: bytes into a panel where the present part begins; NULL: 0 */
    CgValue state, dt_w, dt_b, A, D; /* ptr: this panel's part, of expert 0 */
    uint64_t dt_w_bytes, lane_bytes, channel_bytes; /* from one expert's to the next one's: W_dt; b_dt and D; A and state */
    bool shared_delta; /* Δ does not depend on the expert */
    bool mixed_delta; /* Δ is made of the experts' sums, mixed (PG_SCAN_PARAMS) */
    CgValue deltas; /* [ROW_CHAINS][16]: Δ of the rows of a block */
    CgValue expert_deltas; /* [ROW_CHAINS][k][16]: the same of their chosen experts; their sums, if mixed */
    CgValue y; /* [ROW_CHAINS][16]: what the rows' states give, before the gate */
    CgValue b_copy, c_copy; /* [N] floats: B and C of a row (side_by_side) */
    CgValue cursor; /* i32 [ROW_CHAINS]: slot of the next chosen expert (PG_SCAN_UPDATE) */
} Scan;

/* Where the state of one expert moves for one row. */
typedef struct Move {
    CgValue delta, delta_c; /* vec: Δ, Δ · c */
    CgScalars b, c; /* element n of B is element b_start + n there */
    int64_t b_start, c_start;
    CgValue state, A; /* ptr [N][16] */
    const CgChosen *mix; /* not NULL: A is the first expert's, to be mixed */
} Move;

static CgValue at_index(CgEmit *e, CgValue base, CgValue index) { return cg_at(e, base, cg_imul_n(e, index, CG_VEC_BYTES)); }

/* The part of `expert` (i64, or NULL for what is not its own) of a parameter. */
static CgValue of_expert(Scan *s, CgValue base, CgValue expert, bool own, uint64_t bytes) {
    return own && expert ? cg_at(s->e, base, cg_imul_n(s->e, expert, bytes)) : base;
}

/* Where δ, B or C of a row lie: `index` is a row or position, `expert` the plane (or NULL). */
static CgPlace dbc_place(Scan *s, unsigned slot, CgValue expert, CgValue index, int64_t width) {
    return cg_place(s->e, cg_operand(s->e, slot), s->kernel->dbc_layout, expert, index, width);
}

/* ---------------------------------------------------------------------------------------------- Δ */

/* acc_i = fma(W_i[r], δ_i[r], acc_i) for r = 16 · block + [0, count), n sums side by side. */
static void sum_block(Scan *s, int n, const CgValue *weights, const CgPlace *delta, CgValue block, int64_t count, CgValue *acc) {
    CgEmit *e = s->e;
    IrDtype dtype = s->kernel->dtype;
    int64_t group = (int64_t)ir_dtype(dtype)->group;
    uint64_t block_bytes = ir_panel_bytes(dtype, PG_LANES);
    CgValue at[ROW_CHAINS], w[ROW_CHAINS][IR_MAX_GROUP] = {{NULL}};
    CgScalars inputs[ROW_CHAINS] = {0};
    for (int i = 0; i < n; i++) {
        inputs[i].place = delta[i];
        if (block) inputs[i].place.base = cg_place_panel(e, &delta[i], block);
    }
    for (int i = 0; i < n; i++) at[i] = block ? cg_at(e, weights[i], cg_imul_n(e, block, block_bytes)) : weights[i];
    for (int64_t r = 0; r < count; r++) {
        for (int i = 0; i < n; i++) {
            int of = i > 0 && weights[i] == weights[0] ? 0 : i; /* whose weights these are */
            if (of == i && r % group == 0) cg_load_group(e, dtype, cg_at_n(e, at[i], ir_panel_bytes(dtype, r)), w[i]);
            acc[i] = cg_fma(e, w[of][r % group], cg_scalar(e, &inputs[i], s->kernel->delta_start + r), acc[i]);
        }
    }
}

/* Sums of `count` inputs from block `first` (i64) on, count <= PG_SEGMENT_K: one segment of a linear layer. */
static void sum_segment(Scan *s, int n, const CgValue *weights, const CgPlace *delta, CgValue first, int64_t count, CgValue *acc) {
    CgEmit *e = s->e;
    CgValue carried[ROW_CHAINS], next[ROW_CHAINS];
    CgValue end = cg_iadd_n(e, first, (uint64_t)(count / PG_LANES));
    for (int i = 0; i < n; i++) acc[i] = cg_zero(e);
    if (count >= PG_LANES) {
        CgLoop loop = cg_for(e, first, end, 1);
        for (int i = 0; i < n; i++) next[i] = carried[i] = cg_carry(e, &loop, acc[i]);
        sum_block(s, n, weights, delta, loop.index, PG_LANES, next);
        for (int i = 0; i < n; i++) cg_next(&loop, carried[i], next[i]);
        cg_end_for(e, &loop);
        for (int i = 0; i < n; i++) acc[i] = cg_after(&loop, carried[i]);
    }
    if (count % PG_LANES) sum_block(s, n, weights, delta, end, count % PG_LANES, acc);
}

/* W_dt δ of n rows or experts, in segments of PG_SEGMENT_K as every linear layer. */
static void sum_delta(Scan *s, int n, const CgValue *weights, const CgPlace *delta, CgValue *total) {
    CgEmit *e = s->e;
    int64_t R = s->kernel->R, segments = R / PG_SEGMENT_K, rest = R % PG_SEGMENT_K;
    enum { SEGMENT_BLOCKS = PG_SEGMENT_K / PG_LANES };
    CgValue part[ROW_CHAINS], carried[ROW_CHAINS];
    if (R * n * PG_LANES / e->target->vector_lanes <= UNROLLED_SUM && R <= PG_SEGMENT_K) {
        for (int i = 0; i < n; i++) total[i] = cg_zero(e);
        sum_block(s, n, weights, delta, NULL, R, total);
        return;
    }
    sum_segment(s, n, weights, delta, cg_i64(e, 0), segments ? PG_SEGMENT_K : R, total);
    if (segments > 1) {
        CgLoop loop = cg_for(e, cg_i64(e, 1), cg_i64(e, (uint64_t)segments), 1);
        for (int i = 0; i < n; i++) carried[i] = cg_carry(e, &loop, total[i]);
        sum_segment(s, n, weights, delta, cg_imul_n(e, loop.index, SEGMENT_BLOCKS), PG_SEGMENT_K, part);
        for (int i = 0; i < n; i++) cg_next(&loop, carried[i], cg_add(e, carried[i], part[i]));
        cg_end_for(e, &loop);
        for (int i = 0; i < n; i++) total[i] = cg_after(&loop, carried[i]);
    }
    if (segments && rest) {
        sum_segment(s, n, weights, delta, cg_i64(e, (uint64_t)(segments * SEGMENT_BLOCKS)), rest, part);
        for (int i = 0; i < n; i++) total[i] = cg_add(e, total[i], part[i]);
    }
}

/* n sums become Δ = softplus(sum + bias), side by side; or sum + bias, if they are yet to be mixed. */
static void store_deltas(Scan *s, int n, const CgValue *sums, const CgValue *bias, const CgValue *to) {
    CgEmit *e = s->e;
    for (int first = 0; first < n; first += e->target->side) {
        CgSide delta = {.n = n - first < e->target->side ? n - first : e->target->side};
        for (int i = 0; i < delta.n; i++) delta.v[i] = cg_add(e, sums[first + i], cg_load_vec(e, bias[first + i]));
        if (!s->mixed_delta) delta = cg_side_softplus(e, delta);
        for (int i = 0; i < delta.n; i++) cg_store_vec(e, to[first + i], delta.v[i]);
    }
}

/* deltas[i] of rows first + [0, n), those past `last` being done as `last`; for one expert, or NULL. */
static void row_chains(Scan *s, int n, CgValue first, CgValue last, CgValue expert, CgValue deltas) {
    CgEmit *e = s->e;
    CgValue weights[ROW_CHAINS] = {NULL}, bias[ROW_CHAINS] = {NULL}, total[ROW_CHAINS] = {NULL}, to[ROW_CHAINS] = {NULL};
    CgPlace delta[ROW_CHAINS] = {{NULL, NULL}};
    CgValue own_w = of_expert(s, s->dt_w, expert, s->kernel->own_dt, s->dt_w_bytes);
    CgValue own_b = of_expert(s, s->dt_b, expert, s->kernel->own_dt, s->lane_bytes);
    for (int i = 0; i < n; i++) {
        CgValue row = i == 0 ? first : cg_umin(e, cg_iadd_n(e, first, (uint64_t)i), last);
        weights[i] = own_w;
        bias[i] = own_b;
        to[i] = cg_at_n(e, deltas, (uint64_t)i * CG_VEC_BYTES);
        delta[i] = dbc_place(s, PG_SCAN_DELTA, expert, row, s->kernel->delta_width);
    }
    sum_delta(s, n, weights, delta, total);
    store_deltas(s, n, total, bias, to);
}

/* Δ of a block of rows. */
static void block_deltas(Scan *s, CgValue first, CgValue last, CgValue expert) {
    CgEmit *e = s->e;
    if (s->rows <= s->chains) {
        row_chains(s, s->rows, first, last, expert, s->deltas);
        return;
    }
    CgLoop part = cg_for(e, cg_i64(e, 0), cg_i64(e, (uint64_t)s->rows), (uint64_t)s->chains);
    CgValue row = cg_umin(e, cg_iadd(e, first, part.index), last);
    row_chains(s, s->chains, row, last, expert, at_index(e, s->deltas, part.index));
    cg_end_for(e, &part);
}

/* expert_deltas of pairs first + [0, n), those past `last` being done as `last`; pair = row * k + slot, counted from `origin` on. */
static void pair_deltas(Scan *s, CgValue origin, CgValue first, CgValue last, int n) {
    CgEmit *e = s->e;
    CgValue to[ROW_CHAINS] = {NULL}, weights[ROW_CHAINS] = {NULL}, bias[ROW_CHAINS] = {NULL}, total[ROW_CHAINS] = {NULL};
    CgPlace delta[ROW_CHAINS] = {{NULL, NULL}};
    CgChosen all = cg_chosen(e, PG_SCAN_EXPERTS, PG_SCAN_COMBINE_W, cg_i64(e, 0));
    for (int i = 0; i < n; i++) {
        CgValue pair = i == 0 ? first : cg_umin(e, cg_iadd_n(e, first, (uint64_t)i), last);
        CgValue expert = cg_chosen_expert(e, &all, pair), index = cg_udiv_n(e, pair, (uint64_t)s->kernel->k);
        if (s->kernel->dbc_layout == PG_POSITIONS) index = cg_position_of(e, PG_SCAN_GROUPS, cg_i64(e, 0), pair);
        to[i] = at_index(e, s->expert_deltas, cg_isub(e, pair, origin));
        weights[i] = of_expert(s, s->dt_w, expert, s->kernel->own_dt, s->dt_w_bytes);
        bias[i] = of_expert(s, s->dt_b, expert, s->kernel->own_dt, s->lane_bytes);
        delta[i] = dbc_place(s, PG_SCAN_DELTA, NULL, index, s->kernel->delta_width);
    }
    sum_delta(s, n, weights, delta, total);
    store_deltas(s, n, total, bias, to);
}

/* expert_deltas of all chosen experts of the rows first … last. */
static void chosen_deltas(Scan *s, CgValue first, CgValue last) {
    CgEmit *e = s->e;
    uint64_t k = (uint64_t)s->kernel->k;
    int n = s->rows == 1 && k < (uint64_t)s->chains ? (int)k : s->chains;
    CgValue origin = cg_imul_n(e, first, k), end = cg_imul_n(e, cg_iadd_n(e, last, 1), k);
    CgLoop loop = cg_for(e, origin, end, (uint64_t)n);
    pair_deltas(s, origin, loop.index, cg_isub(e, end, cg_i64(e, 1)), n);
    cg_end_for(e, &loop);
}

/* ---------------------------------------------------------------------------------------------- states */

/* B or C of a row, elements [start, start + N) of `place`, as N neighbours from element 0 of the result on; in `copy` unless they lie
 * so already. */
static CgPlace side_by_side(Scan *s, CgPlace place, int64_t start, CgValue copy) {
    CgEmit *e = s->e;
    int64_t N = s->kernel->N, step = start % 4 == 0 && N % 4 == 0 ? 4 : 1;
    bool dense = s->kernel->mode == PG_ROW && s->kernel->dbc_layout != PG_POSITIONS; /* one row: panels are neighbours */
    CgPlace line = {.base = copy, .panel_bytes = cg_i64(e, CG_VEC_BYTES)};
    if (dense || start / PG_LANES == (start + N - 1) / PG_LANES) {
        line.base = cg_place_element(e, &place, NULL, start);
    } else if (N <= FEW_STATES) {
        for (int64_t n = 0; n < N; n += step) {
            CgValue few = cg_load_few(e, cg_place_element(e, &place, NULL, start + n), (unsigned)step);
            cg_store_few(e, cg_at_n(e, copy, (uint64_t)n * 4), few);
        }
    } else {
        CgLoop loop = cg_for(e, cg_i64(e, 0), cg_i64(e, (uint64_t)N), (uint64_t)step);
        CgValue from = cg_place_element_at(e, &place, cg_iadd_n(e, loop.index, (uint64_t)start));
        cg_store_few(e, cg_at(e, copy, cg_imul_n(e, loop.index, 4)), cg_load_few(e, from, (unsigned)step));
        cg_end_for(e, &loop);
    }
    return line;
}

/* Where the B and C of a move lie: in their operands, or as neighbours where their loop takes less than a panel at a time. */
static void place_b_c(Scan *s, Move *m, CgValue plane, CgValue index) {
    const PgKernel *kernel = s->kernel;
    m->b.place = dbc_place(s, PG_SCAN_B, plane, index, kernel->b_width);
    m->c.place = dbc_place(s, PG_SCAN_C, plane, index, kernel->c_width);
    m->b_start = kernel->b_start;
    m->c_start = kernel->c_start;
    if (s->e->target->scan_states < PG_LANES) {
        m->b.place = side_by_side(s, m->b.place, m->b_start, s->b_copy);
        m->c.place = side_by_side(s, m->c.place, m->c_start, s->c_copy);
        m->b_start = m->c_start = 0;
        m->b.limit = m->c.limit = kernel->N;
    }
}

/* The move of `count` state elements from scan_states · block on. */
static Move move_from(Scan *s, const Move *m, CgValue block, int64_t count) {
    CgEmit *e = s->e;
    uint64_t states = (uint64_t)e->target->scan_states;
    Move from = *m;
    CgValue bytes = cg_imul_n(e, block, states * CG_VEC_BYTES);
    from.state = cg_at(e, m->state, bytes);
    from.A = cg_at(e, m->A, bytes);
    CgScalars *const both[] = {&from.b, &from.c};
    for (int i = 0; i < 2; i++) {
        CgPlace *place = &both[i]->place;
        CgValue step = states < PG_LANES ? cg_imul_n(e, block, states * 4) : cg_imul(e, block, place->panel_bytes);
        place->base = cg_at(e, place->base, step);
        if (states < PG_LANES) both[i]->limit = count;
    }
    return from;
}

/* Elements n0 + [0, count) of every channel's state, side by side: returns y with them added, in order. */
static CgValue move_elements(Scan *s, Move *m, int64_t n0, int count, CgValue y) {
    CgEmit *e = s->e;
    CgSide a = {.n = count}, moved = {.n = count}, held = {.n = 0};
    CgValue state[CG_MAX_SIDE];
    for (int i = 0; i < count; i++) {
        uint64_t bytes = (uint64_t)(n0 + i) * CG_VEC_BYTES;
        CgValue A = cg_at_n(e, m->A, bytes);
        state[i] = cg_at_n(e, m->state, bytes);
        a.v[i] = cg_mul(e, m->delta, m->mix ? cg_mixed_vec(e, m->mix, A, s->channel_bytes) : cg_load_vec(e, A));
        if (e->target->broadcast_lanes > 1) cg_scalar(e, &m->c, m->c_start + n0 + i); /* before a store that might change it */
    }
    if (s->kernel->zoh) held = cg_side_activation(e, PG_ZOH, a);
    a = cg_side_exp_down(e, a); /* Δ >= 0 >= A */
    for (int i = 0; i < count; i++) {
        CgValue b = cg_mul(e, m->delta_c, cg_scalar(e, &m->b, m->b_start + n0 + i));
        if (s->kernel->zoh) b = cg_mul(e, b, held.v[i]);
        moved.v[i] = cg_fma(e, a.v[i], cg_load_vec(e, state[i]), b);
    }
    moved = cg_side_cut(e, moved);
    for (int i = 0; i < count; i++) {
        cg_store_vec(e, state[i], moved.v[i]);
        y = cg_fma(e, moved.v[i], cg_scalar(e, &m->c, m->c_start + n0 + i), y);
    }
    return y;
}

/* Elements [0, count) of a line. */
static CgValue move_line(Scan *s, Move *m, int64_t count, CgValue y) {
    int side = s->e->target->side;
    for (int64_t n = 0; n < count; n += side) y = move_elements(s, m, n, count - n < side ? (int)(count - n) : side, y);
    return y;
}

/* All N elements: returns Σ s_n · C_n. */
static CgValue move_state(Scan *s, Move *m) {
    CgEmit *e = s->e;
    int64_t N = s->kernel->N, line = e->target->scan_states, blocks = N / line, rest = N % line;
    if (N <= line) return move_line(s, m, N, cg_zero(e));
    CgLoop loop = cg_for_n(e, (uint64_t)blocks);
    CgValue carried = cg_carry(e, &loop, cg_zero(e));
    Move here = move_from(s, m, loop.index, line);
    cg_next(&loop, carried, move_line(s, &here, line, carried));
    cg_end_for(e, &loop);
    Move last = move_from(s, m, cg_i64(e, (uint64_t)blocks), rest);
    return move_line(s, &last, rest, cg_after(&loop, carried));
}

/* ---------------------------------------------------------------------------------------------- rows */

static CgValue row_panel(Scan *s, unsigned slot, CgValue row) {
    CgPlace place = cg_place(s->e, cg_operand(s->e, slot), PG_ROWS, NULL, row, s->kernel->O);
    CgValue at = cg_place_panel(s->e, &place, s->panel);
    return s->lane_offset ? cg_at(s->e, at, s->lane_offset) : at;
}

/* y of row i of the block, before the gate. */
static CgValue y_of(Scan *s, CgValue i) { return at_index(s->e, s->y, i); }

/* y of one expert's state (or of the only one: expert NULL) for one row, with D. index: where B and C lie. */
static CgValue expert_row(Scan *s, CgValue c, CgValue delta, CgValue expert, CgValue plane, CgValue index) {
    CgEmit *e = s->e;
    const PgKernel *kernel = s->kernel;
    Move m = {.delta = delta, .delta_c = cg_mul(e, delta, c)};
    place_b_c(s, &m, plane, index);
    m.state = of_expert(s, s->state, expert, true, s->channel_bytes);
    m.A = of_expert(s, s->A, expert, kernel->own_A, s->channel_bytes);
    CgValue D = cg_load_vec(e, of_expert(s, s->D, expert, kernel->own_D, s->lane_bytes));
    return cg_add(e, move_state(s, &m), cg_mul(e, D, c));
}

static void plain_row(Scan *s, CgValue row, CgValue i) {
    CgEmit *e = s->e;
    CgValue c = cg_load_vec(e, row_panel(s, PG_SCAN_X, row));
    CgValue delta = cg_load_vec(e, at_index(e, s->deltas, i));
    cg_store_vec(e, y_of(s, i), expert_row(s, c, delta, NULL, NULL, row));
}

/* Δ of row i of the block: one vector if it is shared, else one for each slot. */
static CgValue row_deltas(Scan *s, CgValue i) {
    if (s->shared_delta) return at_index(s->e, s->deltas, i);
    return at_index(s->e, s->expert_deltas, cg_imul_n(s->e, i, (uint64_t)s->kernel->k));
}

/* The states of the chosen experts move. */
static void hold_row(Scan *s, CgValue row, CgValue i) {
    CgEmit *e = s->e;
    CgChosen chosen = cg_chosen(e, PG_SCAN_EXPERTS, PG_SCAN_COMBINE_W, row);
    CgValue c = cg_load_vec(e, row_panel(s, PG_SCAN_X, row)), deltas = row_deltas(s, i);
    CgLoop loop = cg_for_n(e, (uint64_t)s->kernel->k);
    CgValue total = cg_carry(e, &loop, cg_zero(e)), j = loop.index, index = row;
    CgValue expert = cg_chosen_expert(e, &chosen, j);
    if (s->kernel->dbc_layout == PG_POSITIONS) index = cg_position_of(e, PG_SCAN_GROUPS, row, j);
    CgValue delta = cg_load_vec(e, s->shared_delta ? deltas : at_index(e, deltas, j));
    CgValue y = expert_row(s, c, delta, expert, NULL, index);
    cg_next(&loop, total, cg_fma(e, cg_chosen_weight(e, &chosen, j), y, total));
    cg_end_for(e, &loop);
    cg_store_vec(e, y_of(s, i), cg_after(&loop, total));
}

/* softplus(Σ_j g_j (W_dt[e_j] δ + b_dt[e_j])). */
static CgValue mixed_delta(Scan *s, const CgChosen *chosen, CgValue sums) {
    CgEmit *e = s->e;
    CgLoop loop = cg_for_n(e, (uint64_t)chosen->k);
    CgValue sum = cg_carry(e, &loop, cg_zero(e));
    CgValue v = cg_load_vec(e, at_index(e, sums, loop.index));
    cg_next(&loop, sum, cg_fma(e, cg_chosen_weight(e, chosen, loop.index), v, sum));
    cg_end_for(e, &loop);
    return cg_softplus(e, cg_after(&loop, sum));
}

/* One state, parameters mixed by the combine weights. */
static void params_row(Scan *s, CgValue row, CgValue i) {
    CgEmit *e = s->e;
    const PgKernel *kernel = s->kernel;
    CgChosen chosen = cg_chosen(e, PG_SCAN_EXPERTS, PG_SCAN_COMBINE_W, row);
    CgValue c = cg_load_vec(e, row_panel(s, PG_SCAN_X, row));
    CgValue at = row_deltas(s, i), delta = s->mixed_delta ? mixed_delta(s, &chosen, at) : cg_load_vec(e, at);
    Move m = {.delta = delta, .state = s->state, .A = s->A};
    m.delta_c = cg_mul(e, m.delta, c);
    place_b_c(s, &m, NULL, row);
    m.mix = kernel->own_A ? &chosen : NULL;
    CgValue D = kernel->own_D ? cg_mixed_vec(e, &chosen, s->D, s->lane_bytes) : cg_load_vec(e, s->D);
    cg_store_vec(e, y_of(s, i), cg_add(e, move_state(s, &m), cg_mul(e, D, c)));
}

/* Whether `expert` is the next one that this row chose; if so the cursor goes on. Experts come in rising order. */
static CgValue take_chosen(Scan *s, const CgChosen *chosen, CgValue expert, CgValue i, CgValue *out_slot) {
    CgEmit *e = s->e;
    CgValue cursor = cg_at(e, s->cursor, cg_imul_n(e, i, 4));
    CgValue slot = cg_wide(e, cg_load_i32(e, cursor));
    *out_slot = cg_umin(e, slot, cg_i64(e, (uint64_t)s->kernel->k - 1)); /* past the last: a smaller expert, never equal */
    CgValue taken = cg_icmp(e, LLVMIntEQ, cg_chosen_expert(e, chosen, *out_slot), expert);
    cg_store_i32(e, cursor, LLVMBuildTrunc(e->builder, cg_iadd(e, slot, cg_wide(e, taken)), e->i32, ""));
    return taken;
}

/* What a row does to some channels of the panel. */
typedef struct RowWork {
    CgValue row, i; /* i64: the row; its place in the block */
    CgValue expert; /* PG_SCAN_UPDATE: whose state moves */
    CgChosen chosen; /* PG_SCAN_UPDATE: of the row; whether the expert is among them, and in which slot */
    CgValue taken, slot;
} RowWork;

/* One expert's state moves, whether chosen or not; y counts if it was. */
static void update_row(Scan *s, const RowWork *work) {
    CgEmit *e = s->e;
    CgValue row = work->row, expert = work->expert, at = y_of(s, work->i);
    CgValue c = cg_load_vec(e, row_panel(s, PG_SCAN_X, row));
    CgValue delta = cg_load_vec(e, at_index(e, s->deltas, work->i));
    CgValue y = expert_row(s, c, delta, expert, expert, row);
    CgValue total = cg_load_vec(e, at), with = cg_fma(e, cg_chosen_weight(e, &work->chosen, work->slot), y, total);
    cg_store_vec(e, at, cg_select(e, work->taken, with, total));
}

/* ---------------------------------------------------------------------------------------------- blocks of rows */

static void some_channels(Scan *s, const RowWork *work) {
    switch (s->kernel->scan) {
    case PG_SCAN_PLAIN: plain_row(s, work->row, work->i); return;
    case PG_SCAN_HOLD: hold_row(s, work->row, work->i); return;
    case PG_SCAN_PARAMS: params_row(s, work->row, work->i); return;
    case PG_SCAN_UPDATE: update_row(s, work); return;
    }
}

/* All channels of the panel, as many at a time as the target's registers hold. */
static void all_channels(Scan *s, const RowWork *work) {
    CgEmit *e = s->e;
    uint64_t lanes = (uint64_t)e->target->scan_lanes;
    if (lanes == PG_LANES) {
        some_channels(s, work);
        return;
    }
    Scan part = *s;
    CgLoop parts = cg_for(e, cg_i64(e, 0), cg_i64(e, CG_VEC_BYTES), lanes * 4);
    part.lane_offset = parts.index;
    CgValue *const bases[] = {&part.state, &part.A, &part.D, &part.deltas, &part.expert_deltas, &part.y};
    for (size_t i = 0; i < sizeof bases / sizeof bases[0]; i++)
        if (*bases[i]) *bases[i] = cg_at(e, *bases[i], parts.index);
    cg_set_lanes(e, (unsigned)lanes);
    some_channels(&part, work);
    cg_set_lanes(e, PG_LANES);
    cg_end_for(e, &parts);
}

static void one_row(Scan *s, CgValue row, CgValue i, CgValue expert) {
    RowWork work = {.row = row, .i = i, .expert = expert};
    if (expert) {
        work.chosen = cg_chosen(s->e, PG_SCAN_EXPERTS, PG_SCAN_COMBINE_W, row);
        work.taken = take_chosen(s, &work.chosen, expert, i, &work.slot);
    }
    all_channels(s, &work);
}

/* Rows first … end - 1 (at most ROW_CHAINS); i counts them. expert: whose state moves (PG_SCAN_UPDATE), or NULL. */
static void rows_of_block(Scan *s, CgValue first, CgValue end, CgValue expert) {
    CgEmit *e = s->e;
    if (s->rows == 1) {
        one_row(s, first, cg_i64(e, 0), expert);
        return;
    }
    CgLoop rows = cg_for(e, first, end, 1);
    one_row(s, rows.index, cg_isub(e, rows.index, first), expert);
    cg_end_for(e, &rows);
}

/* All experts in turn, each over the rows of the block: its weights and state stay in the cache. */
static void update_block(Scan *s, CgValue first, CgValue end, CgValue last) {
    CgEmit *e = s->e;
    CgLoop clear = cg_for_n(e, (uint64_t)s->rows);
    cg_store_vec(e, y_of(s, clear.index), cg_zero(e));
    cg_store_i32(e, cg_at(e, s->cursor, cg_imul_n(e, clear.index, 4)), cg_i32(e, 0));
    cg_end_for(e, &clear);
    CgLoop experts = cg_for_n(e, (uint64_t)s->kernel->E);
    if (!s->shared_delta) block_deltas(s, first, last, experts.index);
    rows_of_block(s, first, end, experts.index);
    cg_end_for(e, &experts);
}

/* The rows' y through the gate, side by side; those past `last` are done as `last`. */
static void finish_rows(Scan *s, CgValue first, CgValue last) {
    CgEmit *e = s->e;
    int side = s->rows < e->target->side ? s->rows : e->target->side;
    for (int i0 = 0; i0 < s->rows; i0 += side) {
        CgSide z = {.n = side};
        CgValue row[CG_MAX_SIDE], y[CG_MAX_SIDE];
        for (int i = 0; i < side; i++) {
            row[i] = cg_umin(e, cg_iadd_n(e, first, (uint64_t)(i0 + i)), last);
            y[i] = cg_load_vec(e, y_of(s, cg_isub(e, row[i], first)));
            if (s->kernel->gate) z.v[i] = cg_load_vec(e, row_panel(s, PG_SCAN_Z, row[i]));
        }
        if (s->kernel->gate) z = cg_side_activation(e, s->kernel->act, z);
        for (int i = 0; i < side; i++)
            cg_store_vec(e, row_panel(s, PG_SCAN_Y, row[i]), s->kernel->gate ? cg_mul(e, y[i], z.v[i]) : y[i]);
    }
}

static void scan_block(Scan *s, CgValue first, CgValue end) {
    CgValue last = cg_isub(s->e, end, cg_i64(s->e, 1));
    if (s->shared_delta)
        block_deltas(s, first, last, NULL);
    else if (s->kernel->scan != PG_SCAN_UPDATE)
        chosen_deltas(s, first, last);
    if (s->kernel->scan == PG_SCAN_UPDATE)
        update_block(s, first, end, last);
    else
        rows_of_block(s, first, end, NULL);
    finish_rows(s, first, last);
}

/* A segment of one row, as most are when sequences are decoded together, has code of its own: a block of rows would do that row
 * eight times. */
static void scan_segment(Scan *s, const CgSegment *segment) {
    CgEmit *e = s->e;
    s->rows = 1;
    if (s->kernel->mode == PG_ROW) {
        scan_block(s, cg_i64(e, 0), cg_i64(e, 1));
        return;
    }
    CgValue end = cg_iadd(e, segment->first_row, segment->count);
    CgIf single = cg_if(e, cg_icmp(e, LLVMIntEQ, segment->count, cg_i64(e, 1)));
    scan_block(s, segment->first_row, end);
    cg_end_if(e, &single);
    s->rows = ROW_CHAINS;
    CgIf several = cg_if(e, cg_icmp(e, LLVMIntNE, segment->count, cg_i64(e, 1)));
    CgLoop blocks = cg_for(e, segment->first_row, end, ROW_CHAINS);
    scan_block(s, blocks.index, cg_umin(e, cg_iadd_n(e, blocks.index, ROW_CHAINS), end));
    cg_end_for(e, &blocks);
    cg_end_if(e, &several);
}

static Scan new_scan(CgEmit *e) {
    const PgKernel *kernel = e->kernel;
    uint64_t panels = pg_panels(kernel->O);
    Scan s = {.e = e, .kernel = kernel};
    s.chains = e->target->block_rows < ROW_CHAINS ? e->target->block_rows : ROW_CHAINS;
    s.lane_bytes = panels * CG_VEC_BYTES;
    s.channel_bytes = panels * (uint64_t)kernel->N * CG_VEC_BYTES;
    s.dt_w_bytes = panels * ir_panel_bytes(kernel->dtype, kernel->R);
    s.shared_delta = !kernel->own_dt && kernel->dbc_layout == PG_ROWS;
    s.mixed_delta = !s.shared_delta && kernel->scan == PG_SCAN_PARAMS;
    s.deltas = cg_var_array(e, e->vec, ROW_CHAINS);
    s.y = cg_var_array(e, e->vec, ROW_CHAINS);
    if (!s.shared_delta && kernel->scan != PG_SCAN_UPDATE)
        s.expert_deltas = cg_scratch(e, (kernel->mode == PG_ROW ? 1 : ROW_CHAINS) * (uint64_t)kernel->k * CG_VEC_BYTES);
    if (e->target->scan_states < PG_LANES) {
        s.b_copy = cg_scratch(e, (uint64_t)kernel->N * 4);
        s.c_copy = cg_scratch(e, (uint64_t)kernel->N * 4);
    }
    if (kernel->scan == PG_SCAN_UPDATE) s.cursor = cg_var_array(e, e->i32, ROW_CHAINS);
    return s;
}

void cg_emit_scan(CgEmit *e) {
    Scan s = new_scan(e);
    uint64_t panel_states = (uint64_t)s.kernel->N * CG_VEC_BYTES;
    e->claim = s.kernel->N <= FEW_STATES ? 8 : 1; /* a panel of one row takes about 0.2 us */
    CgLoop tiles = cg_for_tiles(e);
    CgSegment segment;
    cg_segment_and_panel(e, tiles.index, s.kernel->O, &segment, &s.panel);
    s.state = cg_at(e, cg_state_operand(e, PG_SCAN_STATE, &segment), cg_imul_n(e, s.panel, panel_states));
    s.A = cg_at(e, cg_operand(e, PG_SCAN_A), cg_imul_n(e, s.panel, panel_states));
    s.D = at_index(e, cg_operand(e, PG_SCAN_D), s.panel);
    s.dt_b = at_index(e, cg_operand(e, PG_SCAN_DT_B), s.panel);
    s.dt_w = cg_at(e, cg_operand(e, PG_SCAN_DT_W), cg_imul_n(e, s.panel, ir_panel_bytes(s.kernel->dtype, s.kernel->R)));
    scan_segment(&s, &segment);
    cg_end_for(e, &tiles);
}
