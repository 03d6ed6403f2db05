/* PG_CONV: the causal depthwise convolution of one panel of channels over the rows of one segment.
 *
 *   y_t = act(Σ_w weight_w · x_{t-W+1+w} (+ bias)), from the oldest tap by fma from +0
 *
 * The last W - 1 inputs travel from row to row in registers; they come from the sequence's history and go back to it at the end,
 * so a segment shorter than W - 1 needs no case of its own. Weights are plain (loaded once a tile), per expert (mixed here by the
 * row's combine weights), or mixed before by PG_MIX (one set a row, in the arena). */
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/addressing.h"

enum { MAX_TAPS = 8 };

typedef struct Conv {
    CgEmit *e;
    const PgKernel *kernel;
    CgValue panel;
    CgValue weight[MAX_TAPS], bias; /* of the row at hand */
} Conv;

/* The same for all rows: weights and bias of the panel. */
static void load_plain_weights(Conv *c) {
    CgEmit *e = c->e;
    int64_t taps = c->kernel->taps;
    CgValue weights = cg_at(e, cg_operand(e, PG_CONV_W), cg_imul_n(e, c->panel, (uint64_t)taps * CG_VEC_BYTES));
    for (int64_t w = 0; w < taps; w++) c->weight[w] = cg_load_vec(e, cg_at_n(e, weights, (uint64_t)w * CG_VEC_BYTES));
}

static void load_plain_bias(Conv *c) {
    CgEmit *e = c->e;
    c->bias = cg_load_vec(e, cg_at(e, cg_operand(e, PG_CONV_BIAS), cg_imul_n(e, c->panel, CG_VEC_BYTES)));
}

/* Σ g · weight and Σ g · bias over the row's experts: [E][I/16][W][16] and [E][I/16][16]. */
static void mix_row_weights(Conv *c, CgValue row) {
    CgEmit *e = c->e;
    uint64_t panels = pg_panels(c->kernel->O), taps = (uint64_t)c->kernel->taps;
    CgChosen chosen = cg_chosen(e, PG_CONV_EXPERTS, PG_CONV_COMBINE_W, row);
    CgValue weights = cg_at(e, cg_operand(e, PG_CONV_W), cg_imul_n(e, c->panel, taps * CG_VEC_BYTES));
    for (uint64_t w = 0; w < taps; w++)
        c->weight[w] = cg_mixed_vec(e, &chosen, cg_at_n(e, weights, w * CG_VEC_BYTES), panels * taps * CG_VEC_BYTES);
    if (!c->kernel->bias) return;
    CgValue bias = cg_at(e, cg_operand(e, PG_CONV_BIAS), cg_imul_n(e, c->panel, CG_VEC_BYTES));
    c->bias = cg_mixed_vec(e, &chosen, bias, panels * CG_VEC_BYTES);
}

/* Weights that PG_MIX made for this row: [I/16][LD][W][16]. */
static void load_row_weights(Conv *c, CgValue row) {
    CgEmit *e = c->e;
    uint64_t taps = (uint64_t)c->kernel->taps;
    CgValue place = cg_iadd(e, cg_imul(e, c->panel, cg_ld(e)), row);
    CgValue weights = cg_at(e, cg_operand(e, PG_CONV_W), cg_imul_n(e, place, taps * CG_VEC_BYTES));
    for (uint64_t w = 0; w < taps; w++) c->weight[w] = cg_load_vec(e, cg_at_n(e, weights, w * CG_VEC_BYTES));
}

/* One row: reads x, writes y, and pushes x into `history` [W-1], oldest first. */
static void conv_row(Conv *c, CgValue row, CgValue *history) {
    CgEmit *e = c->e;
    const PgKernel *kernel = c->kernel;
    int64_t taps = kernel->taps;
    if (kernel->per_expert)
        mix_row_weights(c, row);
    else if (kernel->mixed)
        load_row_weights(c, row);
    CgPlace x_place = cg_place(e, cg_operand(e, PG_CONV_X), PG_ROWS, NULL, row, kernel->O);
    CgPlace y_place = cg_place(e, cg_operand(e, PG_CONV_Y), PG_ROWS, NULL, row, kernel->O);
    CgValue x = cg_load_vec(e, cg_place_panel(e, &x_place, c->panel));
    CgValue y = cg_zero(e);
    for (int64_t w = 0; w < taps - 1; w++) y = cg_fma(e, c->weight[w], history[w], y);
    y = cg_fma(e, c->weight[taps - 1], x, y);
    if (kernel->bias) y = cg_add(e, y, c->bias);
    if (kernel->act != PG_NO_ACT) y = cg_activation(e, kernel->act, y);
    cg_store_vec(e, cg_place_panel(e, &y_place, c->panel), y);
    for (int64_t w = 0; w + 1 < taps - 1; w++) history[w] = history[w + 1];
    if (taps > 1) history[taps - 2] = x;
}

/* All rows of a segment; history [W-1] holds the state before and after. */
static void conv_segment(Conv *c, const CgSegment *segment, CgValue *history) {
    CgEmit *e = c->e;
    int64_t past = c->kernel->taps - 1;
    if (c->kernel->mode == PG_ROW) {
        conv_row(c, cg_i64(e, 0), history);
        return;
    }
    CgValue carried[MAX_TAPS], next[MAX_TAPS];
    CgLoop rows = cg_for(e, segment->first_row, cg_iadd(e, segment->first_row, segment->count), 1);
    for (int64_t w = 0; w < past; w++) next[w] = carried[w] = cg_carry(e, &rows, history[w]);
    conv_row(c, rows.index, next);
    for (int64_t w = 0; w < past; w++) cg_next(&rows, carried[w], next[w]);
    cg_end_for(e, &rows);
    for (int64_t w = 0; w < past; w++) history[w] = cg_after(&rows, carried[w]);
}

void cg_emit_conv(CgEmit *e) {
    const PgKernel *kernel = e->kernel;
    uint64_t past = (uint64_t)kernel->taps - 1;
    e->claim = 16; /* a panel of one row takes about 10 ns */
    CgLoop tiles = cg_for_tiles(e);
    Conv c = {.e = e, .kernel = kernel};
    CgSegment segment;
    CgValue history[MAX_TAPS], state = NULL;
    cg_segment_and_panel(e, tiles.index, kernel->O, &segment, &c.panel);
    if (past) state = cg_at(e, cg_state_operand(e, PG_CONV_HISTORY, &segment), cg_imul_n(e, c.panel, past * CG_VEC_BYTES));
    for (uint64_t w = 0; w < past; w++) history[w] = cg_load_vec(e, cg_at_n(e, state, w * CG_VEC_BYTES));
    if (!kernel->per_expert && !kernel->mixed) load_plain_weights(&c);
    if (!kernel->per_expert && kernel->bias) load_plain_bias(&c);
    conv_segment(&c, &segment, history);
    for (uint64_t w = 0; w < past; w++) cg_store_vec(e, cg_at_n(e, state, w * CG_VEC_BYTES), history[w]);
    cg_end_for(e, &tiles);
}
