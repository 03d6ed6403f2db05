/* PG_HEADS: the decay, the recurrence, the output and the gate of one panel of 16 channels over the rows of a segment, where all
 * channels of a head share a time step, and all N elements of a channel's state a decay.
 *
 *   a = exp(Δ · A)      s_n = cut(fma(a, s_n, (Δ · x) · B_n))      y = Σ_n s_n · C_n by fma from +0, + D · x      out = y · act(z)
 *
 * Channels lie in the lanes, B and C are scalars to them. A state of N = 128 is 8 KiB a panel, which registers do not hold, so rows
 * are taken in blocks: first all that does not depend on n, then some elements of the state at a time, which stay in registers while
 * the rows of the block pass by with their y, then the rows' ends. Elements are summed in rising order either way.
 *
 * With experts that have states every row moves states of its own choice, so a row is a block by itself, and each of its experts by
 * itself: y = Σ_j g_j (Σ_n s_n · C_n + D · x), in rising order. Where A or D are mixed (PG_SCAN_PARAMS) a row has vectors of its own.
 *
 * Where a panel's channels are of several groups, since a group is not whole panels, B and C are spread over the lanes first, and
 * blocks have one row. */
#include "codegen/llvm/addressing.h"
#include "codegen/llvm/kernels.h"

enum {
    BLOCK_ROWS = 16, /* of a block: their decays, inputs and outputs, 64 bytes each, and a part of B and C stay in L1 */
    MOST_AT_ONCE = 16,
    CLAIM_BYTES = 64 * 1024, /* of states that a claim of tiles moves: what lies in a line is fetched ahead by the processor */
    AHEAD = 4096 /* bytes of state that are fetched before they are moved, as a processor stops at the end of a page */
};

typedef struct Heads {
    CgEmit *e;
    const PgKernel *kernel;
    CgValue panel, state, A, D; /* state: this panel's [N][16]; A, D: its vectors; of the expert at hand; NULL: mixed */
    CgValue expert, position; /* of the place at hand; NULL: there are no experts, or no positions */
    CgValue decays, inputs, outputs; /* [BLOCK_ROWS][16]: a, Δ · x, and y so far of the rows of a block */
    CgValue b_lines, c_lines; /* [block_rows][N] floats, or vectors: B and C, where they do not lie in whole panels; or NULL */
    CgValue b_panel, c_panel; /* else the panels of their operands where the group's elements begin */
    bool several_groups; /* of a panel: lines are of vectors */
    uint64_t block_rows; /* at most BLOCK_ROWS */
    int at_once; /* elements of a state that stay in registers */
} Heads;

static CgValue line_of(const Heads *h, CgValue lines, CgValue i) { return cg_at(h->e, lines, cg_imul_n(h->e, i, CG_VEC_BYTES)); }

/* The place of a row, or of the expert at hand for it. */
static CgPlace place_of(const Heads *h, unsigned slot, PgLayout layout, CgValue row, int64_t width) {
    CgValue base = cg_operand(h->e, slot);
    if (layout == PG_POSITIONS) return cg_place(h->e, base, layout, NULL, h->position, width);
    return cg_place(h->e, base, layout, layout == PG_PLANES ? h->expert : NULL, row, width);
}

static CgValue row_panel(const Heads *h, unsigned slot, CgValue row) {
    CgPlace place = cg_place(h->e, cg_operand(h->e, slot), PG_ROWS, NULL, row, h->kernel->O);
    return cg_place_panel(h->e, &place, h->panel);
}

/* ---------------------------------------------------------------------------------------------- before the states */

/* Δ of the row in every lane's head. */
static CgValue time_steps(const Heads *h, CgValue row) {
    CgEmit *e = h->e;
    uint64_t P = (uint64_t)h->kernel->times, heads = (uint64_t)h->kernel->O / P;
    CgPlace place = place_of(h, PG_HEADS_DELTA, h->kernel->x_layout, row, (int64_t)heads);
    if (P == 1) return cg_load_vec(e, cg_place_panel(e, &place, h->panel));
    if (P % PG_LANES == 0) return cg_load_splat(e, cg_place_element_at(e, &place, cg_udiv_n(e, h->panel, P / PG_LANES)));
    CgValue steps = cg_zero(e);
    for (unsigned lane = 0; lane < PG_LANES; lane++) {
        CgValue channel = cg_iadd_n(e, cg_imul_n(e, h->panel, PG_LANES), lane);
        CgValue head = cg_umin(e, cg_udiv_n(e, channel, P), cg_i64(e, heads - 1)); /* lanes past O */
        steps = cg_set_lane(e, steps, cg_load_f32(e, cg_place_element_at(e, &place, head)), lane);
    }
    return steps;
}

static CgValue line_at(const Heads *h, CgValue lines, CgValue i, CgValue n) {
    uint64_t bytes = h->several_groups ? CG_VEC_BYTES : 4;
    return cg_at(h->e, lines, cg_imul_n(h->e, cg_iadd(h->e, cg_imul_n(h->e, i, (uint64_t)h->kernel->N), n), bytes));
}

/* The first element of B or C of a channel's group, of those that begin at `start`. */
static CgValue first_of_group(const Heads *h, int64_t start, CgValue channel) {
    CgEmit *e = h->e;
    CgValue first = cg_i64(e, (uint64_t)start);
    if (h->kernel->groups == 1) return first;
    CgValue group = cg_udiv_n(e, channel, (uint64_t)(h->kernel->O / h->kernel->groups));
    return cg_iadd(e, first, cg_imul_n(e, group, (uint64_t)h->kernel->N));
}

/* The N elements of the group's B or C, one behind the other; where lanes are of several groups, each lane's in it. */
static void copy_line(const Heads *h, unsigned slot, int64_t start, int64_t width, CgValue row, CgValue lines, CgValue i) {
    CgEmit *e = h->e;
    CgPlace place = place_of(h, slot, h->kernel->dbc_layout, row, width);
    CgValue first[PG_LANES];
    unsigned count = h->several_groups ? PG_LANES : 1;
    for (unsigned lane = 0; lane < count; lane++) {
        CgValue channel = cg_iadd_n(e, cg_imul_n(e, h->panel, PG_LANES), lane);
        if (lane > 0) channel = cg_umin(e, channel, cg_i64(e, (uint64_t)h->kernel->O - 1)); /* lanes past O */
        first[lane] = first_of_group(h, start, channel);
    }
    CgLoop loop = cg_for_n(e, (uint64_t)h->kernel->N);
    CgValue to = line_at(h, lines, i, loop.index), value = cg_zero(e);
    for (unsigned lane = 0; lane < count; lane++) {
        CgValue element = cg_load_f32(e, cg_place_element_at(e, &place, cg_iadd(e, first[lane], loop.index)));
        if (!h->several_groups)
            cg_store_f32(e, to, element);
        else
            value = cg_set_lane(e, value, element, lane);
    }
    if (h->several_groups) cg_store_vec(e, to, value);
    cg_end_for(e, &loop);
}

/* A or D of a row, mixed where it is the experts'. */
static CgValue vector_of_row(const Heads *h, unsigned slot, CgValue vector, CgValue row) {
    CgEmit *e = h->e;
    if (vector != NULL) return vector;
    CgChosen chosen = cg_chosen(e, PG_HEADS_EXPERTS, PG_HEADS_COMBINE_W, row);
    CgValue first = cg_at(e, cg_operand(e, slot), cg_imul_n(e, h->panel, CG_VEC_BYTES));
    return cg_mixed_vec(e, &chosen, first, pg_panels(h->kernel->O) * CG_VEC_BYTES);
}

/* All that row `i` of the block needs, which does not depend on n. */
static void prepare_row(const Heads *h, CgValue row, CgValue i) {
    CgEmit *e = h->e;
    const PgKernel *k = h->kernel;
    CgValue step = time_steps(h, row);
    if (k->limited) step = cg_clamp(e, step, (float)k->low, (float)k->high);
    CgValue v = cg_mul(e, step, vector_of_row(h, PG_HEADS_A, h->A, row));
    cg_store_vec(e, line_of(h, h->decays, i), cg_exp(e, v));
    if (k->zoh) step = cg_mul(e, step, cg_activation(e, PG_ZOH, v));
    cg_store_vec(e, line_of(h, h->inputs, i), cg_mul(e, step, cg_load_vec(e, row_panel(h, PG_HEADS_X, row))));
    cg_store_vec(e, line_of(h, h->outputs, i), cg_zero(e));
    if (h->b_lines == NULL) return;
    copy_line(h, PG_HEADS_B, k->b_start, k->b_width, row, h->b_lines, i);
    copy_line(h, PG_HEADS_C, k->c_start, k->c_width, row, h->c_lines, i);
}

/* ---------------------------------------------------------------------------------------------- states */

/* Where elements n … of B or C of a row lie, neighbours as far as n's panel goes. */
static CgValue elements_at(const Heads *h, unsigned slot, CgValue first_panel, CgValue lines, CgValue row, CgValue i, CgValue n) {
    CgEmit *e = h->e;
    if (lines != NULL) return line_at(h, lines, i, n);
    int64_t width = slot == PG_HEADS_B ? h->kernel->b_width : h->kernel->c_width;
    CgPlace place = place_of(h, slot, h->kernel->dbc_layout, row, width);
    if (h->kernel->mode == PG_ROW && h->kernel->dbc_layout == PG_ROWS) /* panels of one row follow each other */
        return cg_at(e, cg_place_panel(e, &place, first_panel), cg_imul_n(e, n, 4));
    CgValue panel = cg_place_panel(e, &place, cg_iadd(e, first_panel, cg_udiv_n(e, n, PG_LANES)));
    return cg_at(e, panel, cg_imul_n(e, cg_urem_n(e, n, PG_LANES), 4));
}

/* Element `n` behind the place of elements_at, in the lanes that it is for. */
static CgValue element(const Heads *h, CgValue at, int n) {
    if (h->several_groups) return cg_load_vec(h->e, cg_at_n(h->e, at, (uint64_t)n * CG_VEC_BYTES));
    return cg_load_splat(h->e, cg_at_n(h->e, at, (uint64_t)n * 4));
}

/* `count` elements of the state move by one row. */
static void move_elements(const Heads *h, CgValue row, CgValue i, CgValue n, int count, CgValue *state) {
    CgEmit *e = h->e;
    CgValue a = cg_load_vec(e, line_of(h, h->decays, i)), input = cg_load_vec(e, line_of(h, h->inputs, i));
    CgValue output = line_of(h, h->outputs, i), y = cg_load_vec(e, output);
    CgValue b = elements_at(h, PG_HEADS_B, h->b_panel, h->b_lines, row, i, n);
    CgValue c = elements_at(h, PG_HEADS_C, h->c_panel, h->c_lines, row, i, n);
    for (int first = 0; first < count; first += CG_MAX_SIDE) {
        CgSide moved = {.n = count - first < CG_MAX_SIDE ? count - first : CG_MAX_SIDE};
        for (int j = 0; j < moved.n; j++) {
            CgValue in = cg_mul(e, input, element(h, b, first + j));
            moved.v[j] = cg_fma(e, a, state[first + j], in);
        }
        moved = cg_side_cut(e, moved);
        for (int j = 0; j < moved.n; j++) {
            state[first + j] = moved.v[j];
            y = cg_fma(e, moved.v[j], element(h, c, first + j), y);
        }
    }
    cg_store_vec(e, output, y);
}

/* Elements [n, n + count) of the state through all rows of a block. */
static void move_rows(const Heads *h, CgValue first, CgValue rows, CgValue n, int count) {
    CgEmit *e = h->e;
    CgValue at = cg_at(e, h->state, cg_imul_n(e, n, CG_VEC_BYTES)), state[MOST_AT_ONCE], carried[MOST_AT_ONCE];
    for (int j = 0; j < count; j++) {
        cg_prefetch(e, cg_at_n(e, at, (uint64_t)j * CG_VEC_BYTES + AHEAD));
        state[j] = cg_load_vec(e, cg_at_n(e, at, (uint64_t)j * CG_VEC_BYTES));
    }
    if (h->block_rows == 1) {
        move_elements(h, first, cg_i64(e, 0), n, count, state);
    } else {
        CgLoop loop = cg_for(e, cg_i64(e, 0), rows, 1);
        for (int j = 0; j < count; j++) state[j] = carried[j] = cg_carry(e, &loop, state[j]);
        move_elements(h, cg_iadd(e, first, loop.index), loop.index, n, count, state);
        for (int j = 0; j < count; j++) cg_next(&loop, carried[j], state[j]);
        cg_end_for(e, &loop);
        for (int j = 0; j < count; j++) state[j] = cg_after(&loop, carried[j]);
    }
    for (int j = 0; j < count; j++) cg_store_vec(e, cg_at_n(e, at, (uint64_t)j * CG_VEC_BYTES), state[j]);
}

static void move_states(const Heads *h, CgValue first, CgValue rows) {
    CgEmit *e = h->e;
    uint64_t N = (uint64_t)h->kernel->N, step = (uint64_t)h->at_once, whole = N / step * step;
    CgLoop loop = cg_for(e, cg_i64(e, 0), cg_i64(e, whole), step);
    move_rows(h, first, rows, loop.index, h->at_once);
    cg_end_for(e, &loop);
    if (N > whole) move_rows(h, first, rows, cg_i64(e, whole), (int)(N - whole));
}

/* ---------------------------------------------------------------------------------------------- rows */

/* Σ_n s_n · C_n + D · x */
static CgValue with_skip(const Heads *h, CgValue row, CgValue i) {
    CgEmit *e = h->e;
    CgValue x = cg_load_vec(e, row_panel(h, PG_HEADS_X, row));
    CgValue skip = cg_mul(e, x, vector_of_row(h, PG_HEADS_D, h->D, row));
    return cg_add(e, cg_load_vec(e, line_of(h, h->outputs, i)), skip);
}

static void store_row(const Heads *h, CgValue row, CgValue y) {
    CgEmit *e = h->e;
    const PgKernel *k = h->kernel;
    if (k->gate) y = cg_mul(e, y, cg_activation(e, k->act, cg_load_vec(e, row_panel(h, PG_HEADS_Z, row))));
    cg_store_vec(e, row_panel(h, PG_HEADS_Y, row), y);
}

static void finish_row(const Heads *h, CgValue row, CgValue i) { store_row(h, row, with_skip(h, row, i)); }

static void each_row(const Heads *h, CgValue first, CgValue rows, void (*body)(const Heads *, CgValue, CgValue)) {
    CgLoop loop = cg_for(h->e, cg_i64(h->e, 0), rows, 1);
    body(h, cg_iadd(h->e, first, loop.index), loop.index);
    cg_end_for(h->e, &loop);
}

static void block(const Heads *h, CgValue first, CgValue rows) {
    each_row(h, first, rows, prepare_row);
    move_states(h, first, rows);
    each_row(h, first, rows, finish_row);
}

static void segment_rows(const Heads *h, const CgSegment *segment) {
    CgEmit *e = h->e;
    if (h->kernel->mode == PG_ROW) {
        block(h, cg_i64(e, 0), cg_i64(e, 1));
        return;
    }
    CgValue end = cg_iadd(e, segment->first_row, segment->count);
    CgLoop blocks = cg_for(e, segment->first_row, end, h->block_rows);
    block(h, blocks.index, cg_umin(e, cg_isub(e, end, blocks.index), cg_i64(e, h->block_rows)));
    cg_end_for(e, &blocks);
}

/* ---------------------------------------------------------------------------------------------- experts */

/* This panel's vector of the expert's A or D, or of the only one. */
static CgValue own_vector(const Heads *h, unsigned slot, bool own, CgValue expert) {
    CgEmit *e = h->e;
    CgValue panel = h->panel;
    if (own) panel = cg_iadd(e, panel, cg_imul_n(e, expert, pg_panels(h->kernel->O)));
    return cg_load_vec(e, cg_at(e, cg_operand(e, slot), cg_imul_n(e, panel, CG_VEC_BYTES)));
}

/* y of an expert whose state moves by the row. */
static CgValue expert_y(const Heads *all, CgValue row, CgValue expert, CgValue position) {
    CgEmit *e = all->e;
    const PgKernel *k = all->kernel;
    Heads h = *all;
    h.expert = expert;
    h.position = position;
    h.A = own_vector(&h, PG_HEADS_A, k->own_A, expert);
    h.D = own_vector(&h, PG_HEADS_D, k->own_D, expert);
    h.state = cg_at(e, all->state, cg_imul_n(e, expert, pg_panels(k->O) * (uint64_t)k->N * CG_VEC_BYTES));
    prepare_row(&h, row, cg_i64(e, 0));
    move_states(&h, row, cg_i64(e, 1));
    return with_skip(&h, row, cg_i64(e, 0));
}

/* The chosen experts' states move. */
static CgValue sum_of_chosen(const Heads *h, CgValue row, const CgChosen *chosen) {
    CgEmit *e = h->e;
    const PgKernel *k = h->kernel;
    bool positions = k->x_layout == PG_POSITIONS || k->dbc_layout == PG_POSITIONS;
    CgLoop slots = cg_for_n(e, (uint64_t)k->k);
    CgValue total = cg_carry(e, &slots, cg_zero(e));
    CgValue position = positions ? cg_position_of(e, PG_HEADS_GROUPS, row, slots.index) : NULL;
    CgValue y = expert_y(h, row, cg_chosen_expert(e, chosen, slots.index), position);
    cg_next(&slots, total, cg_fma(e, cg_chosen_weight(e, chosen, slots.index), y, total));
    cg_end_for(e, &slots);
    return cg_after(&slots, total);
}

/* All states move; the chosen ones are summed. They stand in rising order, so that one slot after the other comes up. */
static CgValue sum_of_all(const Heads *h, CgValue row, const CgChosen *chosen) {
    CgEmit *e = h->e;
    uint64_t last = (uint64_t)h->kernel->k - 1;
    CgLoop experts = cg_for_n(e, (uint64_t)h->kernel->E);
    CgValue total = cg_carry(e, &experts, cg_zero(e)), slot = cg_carry(e, &experts, cg_i64(e, 0));
    CgValue y = expert_y(h, row, experts.index, NULL), at = cg_umin(e, slot, cg_i64(e, last));
    CgValue left = cg_icmp(e, LLVMIntULE, slot, cg_i64(e, last));
    CgValue is = LLVMBuildAnd(e->builder, left, cg_icmp(e, LLVMIntEQ, cg_chosen_expert(e, chosen, at), experts.index), "");
    cg_next(&experts, total, cg_select(e, is, cg_fma(e, cg_chosen_weight(e, chosen, at), y, total), total));
    cg_next(&experts, slot, cg_select(e, is, cg_iadd_n(e, slot, 1), slot));
    cg_end_for(e, &experts);
    return cg_after(&experts, total);
}

static void expert_rows(const Heads *h, const CgSegment *segment) {
    CgEmit *e = h->e;
    bool one = h->kernel->mode == PG_ROW;
    CgValue first = one ? cg_i64(e, 0) : segment->first_row;
    CgLoop rows = cg_for(e, first, one ? cg_i64(e, 1) : cg_iadd(e, first, segment->count), 1);
    CgChosen chosen = cg_chosen(e, PG_HEADS_EXPERTS, PG_HEADS_COMBINE_W, rows.index);
    CgValue y = h->kernel->scan == PG_SCAN_HOLD ? sum_of_chosen(h, rows.index, &chosen) : sum_of_all(h, rows.index, &chosen);
    store_row(h, rows.index, y);
    cg_end_for(e, &rows);
}

/* ---------------------------------------------------------------------------------------------- the kernel */

static bool panels_have_several_groups(const PgKernel *k) { return k->groups > 1 && k->O / k->groups % PG_LANES != 0; }

/* Whether each panel's B and C begin at a panel. */
static bool lie_in_panels(const PgKernel *k) {
    bool starts = k->b_start % PG_LANES == 0 && k->c_start % PG_LANES == 0;
    return starts && (k->groups == 1 || (k->N % PG_LANES == 0 && !panels_have_several_groups(k)));
}

/* The first panel of the group's elements that begin at `start`. */
static CgValue first_panel(const Heads *h, int64_t start) {
    return cg_udiv_n(h->e, first_of_group(h, start, cg_imul_n(h->e, h->panel, PG_LANES)), PG_LANES);
}

/* What registers hold beside Δ · x, the decay and y, which one row keeps there too. */
static int at_once(const CgTarget *target, PgMode mode) {
    if (target->vector_lanes == PG_LANES) return 16;
    return target->vector_lanes == 4 && mode == PG_ROW ? 2 : 4;
}

static uint32_t claim_of(const PgKernel *k) {
    uint64_t few = CLAIM_BYTES / ((uint64_t)k->N * CG_VEC_BYTES);
    return few < 1 ? 1 : few > 16 ? 16 : (uint32_t)few;
}

/* Buffers of the kernel: what a block's rows have beside the states. */
static Heads new_heads(CgEmit *e) {
    const PgKernel *k = e->kernel;
    Heads h = {.e = e, .kernel = k, .at_once = at_once(e->target, k->mode), .several_groups = panels_have_several_groups(k)};
    h.block_rows = k->mode == PG_ROW || pg_experts_have_states(k) || h.several_groups ? 1 : BLOCK_ROWS;
    h.decays = cg_var_array(e, e->vec, h.block_rows);
    h.inputs = cg_var_array(e, e->vec, h.block_rows);
    h.outputs = cg_var_array(e, e->vec, h.block_rows);
    if (!lie_in_panels(k)) {
        uint64_t bytes = h.block_rows * (uint64_t)k->N * (h.several_groups ? CG_VEC_BYTES : 4);
        h.b_lines = cg_scratch(e, bytes);
        h.c_lines = cg_scratch(e, bytes);
    }
    return h;
}

void cg_emit_heads(CgEmit *e) {
    const PgKernel *k = e->kernel;
    Heads h = new_heads(e);
    e->claim = claim_of(k);
    CgLoop tiles = cg_for_tiles(e);
    CgSegment segment;
    cg_segment_and_panel(e, tiles.index, k->O, &segment, &h.panel);
    h.state = cg_at(e, cg_state_operand(e, PG_HEADS_STATE, &segment), cg_imul_n(e, h.panel, (uint64_t)k->N * CG_VEC_BYTES));
    h.b_panel = first_panel(&h, k->b_start);
    h.c_panel = first_panel(&h, k->c_start);
    if (pg_experts_have_states(k)) {
        expert_rows(&h, &segment);
    } else {
        if (!k->own_A) h.A = own_vector(&h, PG_HEADS_A, false, NULL);
        if (!k->own_D) h.D = own_vector(&h, PG_HEADS_D, false, NULL);
        segment_rows(&h, &segment);
    }
    cg_end_for(e, &tiles);
}
