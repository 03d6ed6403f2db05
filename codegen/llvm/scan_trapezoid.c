/* PG_TRAPEZOID: the decay, the recurrence, the outputs and the gate of one panel of 16 channels of a mamba3 block over the rows of a
 * segment. Each row's state takes in the product of the row before beside its own; a head has R ranks, each with B, C and a v of its
 * own, x ∘ mimo_x (x alone without MIMO):
 *
 *   α = exp(-max(f(a), floor) · Δ)    γ = σ(λ') · Δ    β = (σ(-λ') · Δ) · α
 *   b_n = Σ_r (v⁻_r · β) · B⁻_{r,n}, + Σ_r (v_r · γ) · B_{r,n}, by fma from +0      s_n = cut(fma(α, s_n, b_n))
 *   y_r = Σ_n s_n · C_{r,n} by fma from +0, + D · v_r        out = Σ_r (y_r · silu(z ∘ mimo_z)) · mimo_o, or each y_r without a gate
 *
 * As in PG_HEADS channels lie in the lanes, and rows are taken in blocks: what does not depend on n, then some elements of the state
 * at a time through all rows of the block, then the rows' ends. A head's scalars are made of all rows of a block at once, a row a
 * lane. The first product of a sum is not added to +0: what that changes, the sign of a zero, does not outlive the cut. */
#include "codegen/llvm/addressing.h"
#include "codegen/llvm/kernels.h"

#include <math.h>

enum {
    BLOCK_ROWS = PG_LANES, /* a row a lane of their scalars */
    MOST_AT_ONCE = 16,
    CLAIM_BYTES = 64 * 1024, /* of states that a claim of tiles moves */
    AHEAD = 4096 /* bytes of state that are fetched before they are moved */
};

typedef struct Trapezoid {
    CgEmit *e;
    const PgKernel *kernel;
    uint64_t R, heads;
    CgValue panel, head, first; /* head: of the panel; first: the panel of B and C where its elements begin */
    CgValue state, history, D; /* state: this panel's [N][16]; history: x of the row before; D: its vector */
    CgValue alphas, betas, gammas; /* [BLOCK_ROWS] floats */
    CgValue before, inputs, outputs; /* [BLOCK_ROWS][R][16]: v⁻ · β, v · γ, and y so far */
    int at_once; /* elements of a state that stay in registers */
} Trapezoid;

static CgValue row_place(const Trapezoid *t, unsigned slot, CgValue row) {
    CgPlace place = cg_place(t->e, cg_operand(t->e, slot), PG_ROWS, NULL, row, t->kernel->O);
    return cg_place_panel(t->e, &place, t->panel);
}

/* Vector (i, r) of an array of the block. */
static CgValue of_rank(const Trapezoid *t, CgValue lines, CgValue i, CgValue r) {
    return cg_at(t->e, lines, cg_imul_n(t->e, cg_iadd(t->e, cg_imul_n(t->e, i, t->R), r), CG_VEC_BYTES));
}

/* x ∘ w_r, or x. */
static CgValue spread(const Trapezoid *t, unsigned slot, CgValue r, CgValue x) {
    CgEmit *e = t->e;
    if (!t->kernel->mimo) return x;
    CgValue panel = cg_iadd(e, cg_imul_n(e, r, pg_panels(t->kernel->O)), t->panel);
    return cg_mul(e, x, cg_load_vec(e, cg_at(e, cg_operand(e, slot), cg_imul_n(e, panel, CG_VEC_BYTES))));
}

/* A body for every rank, from `from` on: one that is known while it is emitted, or those of a loop. */
static CgLoop each_rank(const Trapezoid *t, uint64_t from) { return cg_for(t->e, cg_i64(t->e, from), cg_i64(t->e, t->R), 1); }

/* ---------------------------------------------------------------------------------------------- before the states */

/* The head's element of an operand for each row of the block, a row a lane. */
static CgValue of_rows(const Trapezoid *t, unsigned slot, CgValue first, CgValue rows) {
    CgEmit *e = t->e;
    CgValue lanes = cg_zero(e), last = cg_isub(e, rows, cg_i64(e, 1));
    for (unsigned lane = 0; lane < (t->kernel->mode == PG_ROW ? 1 : BLOCK_ROWS); lane++) {
        CgValue row = cg_iadd(e, first, cg_umin(e, cg_i64(e, lane), last));
        CgPlace place = cg_place(e, cg_operand(e, slot), PG_ROWS, NULL, row, (int64_t)t->heads);
        lanes = cg_set_lane(e, lanes, cg_load_f32(e, cg_place_element_at(e, &place, t->head)), lane);
    }
    return lanes;
}

static void prepare_scalars(const Trapezoid *t, CgValue first, CgValue rows) {
    CgEmit *e = t->e;
    const PgKernel *k = t->kernel;
    CgValue dt = of_rows(t, PG_TRAPEZOID_DELTA, first, rows), a = of_rows(t, PG_TRAPEZOID_A, first, rows);
    CgValue trap = of_rows(t, PG_TRAPEZOID_TRAP, first, rows), minus = cg_vec(e, -1);
    a = cg_mul(e, cg_clamp(e, cg_activation(e, k->act, a), (float)k->low, INFINITY), minus);
    CgValue alpha = cg_exp(e, cg_mul(e, a, dt)), rest = cg_activation(e, PG_SIGMOID, cg_mul(e, trap, minus));
    cg_store_vec(e, t->alphas, alpha);
    cg_store_vec(e, t->gammas, cg_mul(e, cg_activation(e, PG_SIGMOID, trap), dt));
    cg_store_vec(e, t->betas, cg_mul(e, cg_mul(e, rest, dt), alpha));
}

static CgValue scalar_of(const Trapezoid *t, CgValue scalars, CgValue i) {
    return cg_load_splat(t->e, cg_at(t->e, scalars, cg_imul_n(t->e, i, 4)));
}

/* The rows' inputs; the history becomes the row's x. */
static void prepare_row(const Trapezoid *t, CgValue row, CgValue i) {
    CgEmit *e = t->e;
    CgValue x = cg_load_vec(e, row_place(t, PG_TRAPEZOID_X, row)), held = cg_load_vec(e, t->history);
    CgValue beta = scalar_of(t, t->betas, i), gamma = scalar_of(t, t->gammas, i);
    cg_store_vec(e, t->history, x);
    CgLoop ranks = each_rank(t, 0);
    CgValue r = ranks.index;
    cg_store_vec(e, of_rank(t, t->before, i, r), cg_mul(e, spread(t, PG_TRAPEZOID_MIMO_X, r, held), beta));
    cg_store_vec(e, of_rank(t, t->inputs, i, r), cg_mul(e, spread(t, PG_TRAPEZOID_MIMO_X, r, x), gamma));
    cg_store_vec(e, of_rank(t, t->outputs, i, r), cg_zero(e));
    cg_end_for(e, &ranks);
}

/* ---------------------------------------------------------------------------------------------- states */

/* Where elements n … of B or C of a rank and row lie, neighbours as far as n's panel goes. */
static CgValue elements_at(const Trapezoid *t, unsigned slot, CgValue r, CgValue row, CgValue n) {
    CgEmit *e = t->e;
    const PgKernel *k = t->kernel;
    CgValue plane = k->dbc_layout == PG_PLANES ? r : NULL;
    CgPlace place = cg_place(e, cg_operand(e, slot), k->dbc_layout, plane, row, (int64_t)t->heads * k->N);
    CgValue panel = cg_place_panel(e, &place, cg_iadd(e, t->first, cg_udiv_n(e, n, PG_LANES)));
    return cg_at(e, panel, cg_imul_n(e, cg_urem_n(e, n, PG_LANES), 4));
}

/* sum_j + Σ_r lines_r · (B or B⁻)_{r,n+j}; NULL sums: from the first product on. */
static void add_products(const Trapezoid *t, unsigned slot, CgValue lines, CgValue row, CgValue i, CgValue n, int count,
                         CgValue *sum) {
    CgEmit *e = t->e;
    CgValue zero = cg_i64(e, 0), carried[MOST_AT_ONCE];
    CgValue v = cg_load_vec(e, of_rank(t, lines, i, zero)), from = elements_at(t, slot, zero, row, n);
    for (int j = 0; j < count; j++) {
        CgValue element = cg_load_splat(e, cg_at_n(e, from, (uint64_t)j * 4));
        sum[j] = sum[j] == NULL ? cg_mul(e, v, element) : cg_fma(e, v, element, sum[j]);
    }
    if (t->R == 1) return;
    CgLoop ranks = each_rank(t, 1);
    for (int j = 0; j < count; j++) sum[j] = carried[j] = cg_carry(e, &ranks, sum[j]);
    v = cg_load_vec(e, of_rank(t, lines, i, ranks.index));
    from = elements_at(t, slot, ranks.index, row, n);
    for (int j = 0; j < count; j++)
        cg_next(&ranks, carried[j], cg_fma(e, v, cg_load_splat(e, cg_at_n(e, from, (uint64_t)j * 4)), sum[j]));
    cg_end_for(e, &ranks);
    for (int j = 0; j < count; j++) sum[j] = cg_after(&ranks, carried[j]);
}

/* y_r of a rank goes on by `count` elements of the state. */
static void add_outputs(const Trapezoid *t, CgValue r, CgValue row, CgValue i, CgValue n, int count, const CgValue *state) {
    CgEmit *e = t->e;
    CgValue line = of_rank(t, t->outputs, i, r), y = cg_load_vec(e, line), from = elements_at(t, PG_TRAPEZOID_C, r, row, n);
    for (int j = 0; j < count; j++) y = cg_fma(e, state[j], cg_load_splat(e, cg_at_n(e, from, (uint64_t)j * 4)), y);
    cg_store_vec(e, line, y);
}

/* `count` elements of the state move by one row. */
static void move_elements(const Trapezoid *t, CgValue row, CgValue i, CgValue n, int count, CgValue *state) {
    CgEmit *e = t->e;
    CgValue alpha = scalar_of(t, t->alphas, i), sum[MOST_AT_ONCE] = {NULL};
    add_products(t, PG_TRAPEZOID_B_LAST, t->before, row, i, n, count, sum);
    add_products(t, PG_TRAPEZOID_B, t->inputs, row, i, n, count, sum);
    for (int first = 0; first < count; first += CG_MAX_SIDE) {
        CgSide moved = {.n = count - first < CG_MAX_SIDE ? count - first : CG_MAX_SIDE};
        for (int j = 0; j < moved.n; j++) moved.v[j] = cg_fma(e, alpha, state[first + j], sum[first + j]);
        moved = cg_side_cut(e, moved);
        for (int j = 0; j < moved.n; j++) state[first + j] = moved.v[j];
    }
    if (t->R == 1) {
        add_outputs(t, cg_i64(e, 0), row, i, n, count, state);
        return;
    }
    CgLoop ranks = each_rank(t, 0);
    add_outputs(t, ranks.index, row, i, n, count, state);
    cg_end_for(e, &ranks);
}

/* Elements [n, n + at_once) of the state through all rows of a block. */
static void move_rows(const Trapezoid *t, CgValue first, CgValue rows, CgValue n) {
    CgEmit *e = t->e;
    const int count = t->at_once;
    CgValue at = cg_at(e, t->state, cg_imul_n(e, n, CG_VEC_BYTES)), state[MOST_AT_ONCE], carried[MOST_AT_ONCE];
    for (int j = 0; j < count; j++) {
        cg_prefetch(e, cg_at_n(e, at, (uint64_t)j * CG_VEC_BYTES + AHEAD));
        state[j] = cg_load_vec(e, cg_at_n(e, at, (uint64_t)j * CG_VEC_BYTES));
    }
    if (t->kernel->mode == PG_ROW) {
        move_elements(t, first, cg_i64(e, 0), n, count, state);
    } else {
        CgLoop loop = cg_for(e, cg_i64(e, 0), rows, 1);
        for (int j = 0; j < count; j++) state[j] = carried[j] = cg_carry(e, &loop, state[j]);
        move_elements(t, cg_iadd(e, first, loop.index), loop.index, n, count, state);
        for (int j = 0; j < count; j++) cg_next(&loop, carried[j], state[j]);
        cg_end_for(e, &loop);
        for (int j = 0; j < count; j++) state[j] = cg_after(&loop, carried[j]);
    }
    for (int j = 0; j < count; j++) cg_store_vec(e, cg_at_n(e, at, (uint64_t)j * CG_VEC_BYTES), state[j]);
}

/* ---------------------------------------------------------------------------------------------- rows */

/* y_r with its skip, gated where the kernel has a gate. */
static CgValue rank_y(const Trapezoid *t, CgValue row, CgValue i, CgValue r) {
    CgEmit *e = t->e;
    const PgKernel *k = t->kernel;
    CgValue v = spread(t, PG_TRAPEZOID_MIMO_X, r, cg_load_vec(e, row_place(t, PG_TRAPEZOID_X, row)));
    CgValue y = cg_add(e, cg_load_vec(e, of_rank(t, t->outputs, i, r)), cg_mul(e, v, t->D));
    if (!k->gate) return y;
    CgValue z = spread(t, PG_TRAPEZOID_MIMO_Z, r, cg_load_vec(e, row_place(t, PG_TRAPEZOID_Z, row)));
    return spread(t, PG_TRAPEZOID_MIMO_O, r, cg_mul(e, y, cg_activation(e, PG_SILU, z)));
}

static void store_y(const Trapezoid *t, CgValue row, CgValue r, CgValue y) {
    CgEmit *e = t->e;
    const PgLayout layout = t->kernel->y_layout;
    CgPlace place = cg_place(e, cg_operand(e, PG_TRAPEZOID_Y), layout, layout == PG_PLANES ? r : NULL, row, t->kernel->O);
    cg_store_vec(e, cg_place_panel(e, &place, t->panel), y);
}

static void finish_row(const Trapezoid *t, CgValue row, CgValue i) {
    CgEmit *e = t->e;
    CgValue zero = cg_i64(e, 0), y = rank_y(t, row, i, zero);
    if (t->R == 1) {
        store_y(t, row, zero, y);
        return;
    }
    if (!t->kernel->gate) store_y(t, row, zero, y);
    CgLoop ranks = each_rank(t, 1);
    CgValue total = cg_carry(e, &ranks, y), next = rank_y(t, row, i, ranks.index);
    if (!t->kernel->gate) store_y(t, row, ranks.index, next);
    cg_next(&ranks, total, cg_add(e, total, next));
    cg_end_for(e, &ranks);
    if (t->kernel->gate) store_y(t, row, zero, cg_after(&ranks, total));
}

static void each_row(const Trapezoid *t, CgValue first, CgValue rows, void (*body)(const Trapezoid *, CgValue, CgValue)) {
    CgLoop loop = cg_for(t->e, cg_i64(t->e, 0), rows, 1);
    body(t, cg_iadd(t->e, first, loop.index), loop.index);
    cg_end_for(t->e, &loop);
}

static void block(const Trapezoid *t, CgValue first, CgValue rows) {
    CgEmit *e = t->e;
    prepare_scalars(t, first, rows);
    each_row(t, first, rows, prepare_row);
    CgLoop loop = cg_for(e, cg_i64(e, 0), cg_i64(e, (uint64_t)t->kernel->N), (uint64_t)t->at_once);
    move_rows(t, first, rows, loop.index);
    cg_end_for(e, &loop);
    each_row(t, first, rows, finish_row);
}

static void segment_rows(const Trapezoid *t, const CgSegment *segment) {
    CgEmit *e = t->e;
    if (t->kernel->mode == PG_ROW) {
        block(t, cg_i64(e, 0), cg_i64(e, 1));
        return;
    }
    CgValue end = cg_iadd(e, segment->first_row, segment->count);
    CgLoop blocks = cg_for(e, segment->first_row, end, BLOCK_ROWS);
    block(t, blocks.index, cg_umin(e, cg_isub(e, end, blocks.index), cg_i64(e, BLOCK_ROWS)));
    cg_end_for(e, &blocks);
}

/* ---------------------------------------------------------------------------------------------- the kernel */

static uint32_t claim_of(const PgKernel *k) {
    uint64_t few = CLAIM_BYTES / ((uint64_t)k->N * CG_VEC_BYTES);
    return few < 1 ? 1 : few > 16 ? 16 : (uint32_t)few;
}

void cg_emit_trapezoid(CgEmit *e) {
    const PgKernel *k = e->kernel;
    Trapezoid t = {.e = e, .kernel = k, .at_once = e->target->vector_lanes == PG_LANES ? 16 : 4};
    t.R = (uint64_t)pg_ranks(k);
    t.heads = (uint64_t)(k->O / k->times);
    const uint64_t lines = (k->mode == PG_ROW ? 1 : BLOCK_ROWS) * t.R;
    t.alphas = cg_var_array(e, e->vec, 1);
    t.betas = cg_var_array(e, e->vec, 1);
    t.gammas = cg_var_array(e, e->vec, 1);
    t.before = cg_var_array(e, e->vec, lines);
    t.inputs = cg_var_array(e, e->vec, lines);
    t.outputs = cg_var_array(e, e->vec, lines);
    e->claim = claim_of(k);
    CgLoop tiles = cg_for_tiles(e);
    CgSegment segment;
    cg_segment_and_panel(e, tiles.index, k->O, &segment, &t.panel);
    t.head = cg_udiv_n(e, t.panel, (uint64_t)k->times / PG_LANES);
    t.first = cg_imul_n(e, t.head, (uint64_t)k->N / PG_LANES);
    t.state = cg_at(e, cg_state_operand(e, PG_TRAPEZOID_STATE, &segment), cg_imul_n(e, t.panel, (uint64_t)k->N * CG_VEC_BYTES));
    t.history = cg_at(e, cg_state_operand(e, PG_TRAPEZOID_HISTORY, &segment), cg_imul_n(e, t.panel, CG_VEC_BYTES));
    t.D = cg_load_vec(e, cg_at(e, cg_operand(e, PG_TRAPEZOID_D), cg_imul_n(e, t.panel, CG_VEC_BYTES)));
    segment_rows(&t, &segment);
    cg_end_for(e, &tiles);
}
