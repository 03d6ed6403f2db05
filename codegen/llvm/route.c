/* PG_ROUTE: which experts a row goes to and with which weights; and its parts, which the unfused kernels share.
 *
 *   r = W · norm(x) (+ bias);  p = softmax(r) or sigmoid(r);  the k largest r, or p + select_bias;  combine weights from p
 *
 * A tile is a row, but W is multiplied with eight rows at a time: a worker that claims eight rows reads W once. */
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/linear.h"

#include <math.h>

/* ---------------------------------------------------------------------------------------------- softmax */

static CgValue panel_at(CgEmit *e, CgValue base, CgValue panel) { return cg_at(e, base, cg_imul_n(e, panel, 64)); }

/* Lanes of panel `p` (i64) below n, as <16 x i1>. */
static CgValue lanes_below(CgEmit *e, CgValue p, int64_t n) {
    CgValue lane[PG_LANES];
    for (unsigned i = 0; i < PG_LANES; i++) lane[i] = cg_i32(e, (int32_t)i);
    CgValue first = LLVMBuildTrunc(e->builder, cg_imul_n(e, p, PG_LANES), e->i32, "");
    CgValue index = cg_iadd(e, LLVMConstVector(lane, PG_LANES), cg_splat(e, first));
    return cg_icmp(e, LLVMIntULT, index, cg_ivec(e, (int32_t)n));
}

/* The largest of n scores, in every lane. Which of equal ones, or of zeros of both signs, does not matter to e^(r - m). */
static CgValue largest(CgEmit *e, CgValue scores, int64_t n) {
    CgLoop loop = cg_for_n(e, pg_panels(n));
    CgValue most = cg_carry(e, &loop, cg_vec(e, -INFINITY));
    CgValue v = cg_load_vec(e, panel_at(e, scores, loop.index));
    v = cg_select(e, lanes_below(e, loop.index, n), v, cg_vec(e, -INFINITY));
    cg_next(&loop, most, cg_larger(e, most, v));
    cg_end_for(e, &loop);
    CgValue lanes = cg_after(&loop, most), m = cg_lane(e, lanes, 0);
    for (unsigned i = 1; i < PG_LANES; i++) m = cg_larger(e, m, cg_lane(e, lanes, i));
    return cg_splat(e, m);
}

/* The sum of n floats in order, from +0. */
static CgValue ordered_sum(CgEmit *e, CgValue values, int64_t n) {
    CgLoop loop = cg_for_n(e, (uint64_t)n);
    CgValue sum = cg_carry(e, &loop, cg_f32(e, 0));
    cg_next(&loop, sum, cg_add(e, sum, cg_load_f32(e, cg_at(e, values, cg_imul_n(e, loop.index, 4)))));
    cg_end_for(e, &loop);
    return cg_after(&loop, sum);
}

void cg_softmax_row(CgEmit *e, CgValue scores, int64_t n) {
    CgValue m = largest(e, scores, n);
    CgLoop powers = cg_for_n(e, pg_panels(n));
    CgValue at = panel_at(e, scores, powers.index);
    cg_store_vec(e, at, cg_exp(e, cg_sub(e, cg_load_vec(e, at), m)));
    cg_end_for(e, &powers);
    CgValue sum = cg_splat(e, ordered_sum(e, scores, n));
    CgLoop shares = cg_for_n(e, pg_panels(n));
    at = panel_at(e, scores, shares.index);
    cg_store_vec(e, at, cg_div(e, cg_load_vec(e, at), sum));
    cg_end_for(e, &shares);
}

/* ---------------------------------------------------------------------------------------------- selection */

/* What is compared: scores (+ bias), NaN and lanes past n as -inf. */
static CgValue selection_keys(CgEmit *e, CgValue scores, CgValue bias, int64_t n) {
    CgValue keys = cg_scratch(e, pg_panels(n) * 64);
    CgLoop loop = cg_for_n(e, pg_panels(n));
    CgValue v = cg_load_vec(e, panel_at(e, scores, loop.index));
    if (bias != NULL) v = cg_add(e, v, cg_load_vec(e, panel_at(e, bias, loop.index)));
    CgValue number = cg_fcmp(e, LLVMRealORD, v, v), low = cg_vec(e, -INFINITY);
    v = cg_select(e, number, v, low);
    cg_store_vec(e, panel_at(e, keys, loop.index), cg_select(e, lanes_below(e, loop.index, n), v, low));
    cg_end_for(e, &loop);
    return keys;
}

/* How many of `mask` (<16 x i1>) hold, as i64. */
static CgValue count_lanes(CgEmit *e, CgValue mask) {
    static const char name[] = "llvm.ctpop";
    unsigned id = LLVMLookupIntrinsicID(name, sizeof name - 1);
    CgValue bits = LLVMBuildBitCast(e->builder, mask, e->i16, "");
    CgValue callee = LLVMGetIntrinsicDeclaration(e->module, id, &e->i16, 1);
    CgValue count = LLVMBuildCall2(e->builder, LLVMIntrinsicGetType(e->context, id, &e->i16, 1), callee, &bits, 1, "");
    return LLVMBuildZExt(e->builder, count, e->i64, "");
}

/* How many indices come before i: those with a larger key, and lower ones with an equal key. */
static CgValue rank_of(CgEmit *e, CgValue keys, CgValue i, int64_t n) {
    CgValue key = cg_load_splat(e, cg_at(e, keys, cg_imul_n(e, i, 4)));
    CgValue own = cg_splat(e, LLVMBuildTrunc(e->builder, i, e->i32, "")), lane[PG_LANES];
    for (unsigned l = 0; l < PG_LANES; l++) lane[l] = cg_i32(e, (int32_t)l);
    CgLoop loop = cg_for_n(e, pg_panels(n));
    CgValue rank = cg_carry(e, &loop, cg_i64(e, 0));
    CgValue first = LLVMBuildTrunc(e->builder, cg_imul_n(e, loop.index, PG_LANES), e->i32, "");
    CgValue index = cg_iadd(e, LLVMConstVector(lane, PG_LANES), cg_splat(e, first));
    CgValue v = cg_load_vec(e, panel_at(e, keys, loop.index));
    CgValue tie = LLVMBuildAnd(e->builder, cg_fcmp(e, LLVMRealOEQ, v, key), cg_icmp(e, LLVMIntULT, index, own), "");
    CgValue before = LLVMBuildOr(e->builder, cg_fcmp(e, LLVMRealOGT, v, key), tie, "");
    cg_next(&loop, rank, cg_iadd(e, rank, count_lanes(e, before)));
    cg_end_for(e, &loop);
    return cg_after(&loop, rank);
}

/* The sum of the two largest of `size` keys, or the only one. */
static CgValue run_score(CgEmit *e, CgValue keys, uint64_t size) {
    CgLoop loop = cg_for_n(e, size);
    CgValue first = cg_carry(e, &loop, cg_f32(e, -INFINITY)), second = cg_carry(e, &loop, cg_f32(e, -INFINITY));
    CgValue key = cg_load_f32(e, cg_at(e, keys, cg_imul_n(e, loop.index, 4)));
    CgValue above = cg_fcmp(e, LLVMRealOGT, key, first);
    cg_next(&loop, first, cg_select(e, above, key, first));
    cg_next(&loop, second, cg_select(e, above, first, cg_larger(e, second, key)));
    cg_end_for(e, &loop);
    return size > 1 ? cg_add(e, cg_after(&loop, first), cg_after(&loop, second)) : cg_after(&loop, first);
}

/* How many of n floats come before number i: the larger ones, and equal ones before it. */
static CgValue order_of(CgEmit *e, CgValue values, CgValue i, uint64_t n) {
    CgValue own = cg_load_f32(e, cg_at(e, values, cg_imul_n(e, i, 4)));
    CgLoop loop = cg_for_n(e, n);
    CgValue order = cg_carry(e, &loop, cg_i64(e, 0));
    CgValue other = cg_load_f32(e, cg_at(e, values, cg_imul_n(e, loop.index, 4)));
    CgValue tie = LLVMBuildAnd(e->builder, cg_fcmp(e, LLVMRealOEQ, other, own), cg_icmp(e, LLVMIntULT, loop.index, i), "");
    CgValue before = LLVMBuildOr(e->builder, cg_fcmp(e, LLVMRealOGT, other, own), tie, "");
    cg_next(&loop, order, cg_iadd(e, order, LLVMBuildZExt(e->builder, before, e->i64, "")));
    cg_end_for(e, &loop);
    return cg_after(&loop, order);
}

/* Keys of the runs that are not among the best become -inf, so that theirs come last. */
static void close_runs(CgEmit *e, CgValue keys, int64_t n) {
    uint64_t runs = (uint64_t)e->kernel->expert_groups, size = (uint64_t)n / runs;
    CgValue scores = cg_scratch(e, runs * 4);
    CgLoop score = cg_for_n(e, runs);
    CgValue of_run = run_score(e, cg_at(e, keys, cg_imul_n(e, score.index, size * 4)), size);
    cg_store_f32(e, cg_at(e, scores, cg_imul_n(e, score.index, 4)), of_run);
    cg_end_for(e, &score);
    CgLoop run = cg_for_n(e, runs);
    CgValue order = order_of(e, scores, run.index, runs);
    CgIf closed = cg_if(e, cg_icmp(e, LLVMIntUGE, order, cg_i64(e, (uint64_t)e->kernel->top_groups)));
    CgLoop key = cg_for_n(e, size);
    CgValue at = cg_iadd(e, cg_imul_n(e, run.index, size), key.index);
    cg_store_f32(e, cg_at(e, keys, cg_imul_n(e, at, 4)), cg_f32(e, -INFINITY));
    cg_end_for(e, &key);
    cg_end_if(e, &closed);
    cg_end_for(e, &run);
}

/* Ranks are a permutation, so exactly k indices have one below k, NaN or not. */
void cg_select_row(CgEmit *e, CgValue scores, CgValue select_bias, int64_t n, int64_t k, CgValue expert_indices) {
    CgValue keys = selection_keys(e, scores, select_bias, n);
    if (e->kernel->expert_groups > 0) close_runs(e, keys, n);
    CgLoop loop = cg_for_n(e, (uint64_t)n);
    CgValue found = cg_carry(e, &loop, cg_i64(e, 0));
    CgIf chosen = cg_if(e, cg_icmp(e, LLVMIntULT, rank_of(e, keys, loop.index, n), cg_i64(e, (uint64_t)k)));
    cg_store_i32(e, cg_at(e, expert_indices, cg_imul_n(e, found, 4)), LLVMBuildTrunc(e->builder, loop.index, e->i32, ""));
    CgValue more = cg_iadd_n(e, found, 1);
    cg_end_if(e, &chosen);
    cg_next(&loop, found, cg_join(e, &chosen, more, found));
    cg_end_for(e, &loop);
}

void cg_combine_weights_row(CgEmit *e, CgValue p, CgValue expert_indices, int64_t k, CgValue combine_weights) {
    CgLoop gather = cg_for_n(e, (uint64_t)k);
    CgValue slot = cg_imul_n(e, gather.index, 4);
    CgValue expert = cg_wide(e, cg_load_i32(e, cg_at(e, expert_indices, slot)));
    cg_store_f32(e, cg_at(e, combine_weights, slot), cg_load_f32(e, cg_at(e, p, cg_imul_n(e, expert, 4))));
    cg_end_for(e, &gather);
    if (!e->kernel->normalize && !e->kernel->scaled) return;
    CgValue sum = e->kernel->normalize ? cg_add(e, ordered_sum(e, combine_weights, k), cg_f32(e, 1e-20f)) : NULL;
    CgLoop finish = cg_for_n(e, (uint64_t)k);
    CgValue at = cg_at(e, combine_weights, cg_imul_n(e, finish.index, 4)), g = cg_load_f32(e, at);
    g = sum == NULL ? g : cg_div(e, g, sum);
    cg_store_f32(e, at, e->kernel->scaled ? cg_mul(e, cg_f32(e, (float)e->kernel->scale), g) : g);
    cg_end_for(e, &finish);
}

/* ---------------------------------------------------------------------------------------------- the kernel */

typedef struct Router {
    CgEmit *e;
    const PgKernel *k;
    CgLinearShape shape;  /* a few panels of experts × rows at a time */
    CgValue x, x_step;
    CgValue sums;      /* [group of panels][panel][row] vectors */
    CgValue scores;    /* [E, padded] of one row */
} Router;

/* W · x for all experts and the rows at x. */
static void multiply(const Router *r, CgValue x) {
    CgEmit *e = r->e;
    uint64_t panels = pg_panels(r->k->E), bytes = ir_panel_bytes(r->k->dtype, r->k->K);
    CgLoop groups = cg_for_n(e, r->shape.groups);
    CgValue panel0 = cg_umin(e, cg_imul_n(e, groups.index, r->shape.panels), cg_i64(e, panels - r->shape.panels));
    CgValue w = cg_at(e, cg_operand(e, PG_ROUTE_W), cg_imul_n(e, panel0, bytes));
    CgValue sums = cg_at(e, r->sums, cg_imul_n(e, panel0, r->shape.rows * 64));
    cg_linear_sums(e, &r->shape, w, x, r->x_step, sums);
    cg_end_for(e, &groups);
}

/* Scores of the i-th row of sums, before softmax; whether all are finite (i1). */
static CgValue take_row(const Router *r, CgValue i) {
    CgEmit *e = r->e;
    CgLoop loop = cg_for_n(e, pg_panels(r->k->E));
    CgValue fine = cg_carry(e, &loop, LLVMConstInt(e->i1, 1, 0));
    CgValue at = cg_iadd(e, cg_imul_n(e, loop.index, r->shape.rows), i);
    CgValue v = cg_load_vec(e, panel_at(e, r->sums, at));
    if (r->k->bias) v = cg_add(e, v, cg_load_vec(e, panel_at(e, cg_operand(e, PG_ROUTE_BIAS), loop.index)));
    cg_store_vec(e, panel_at(e, r->scores, loop.index), v);
    CgValue finite = cg_fcmp(e, LLVMRealOLT, cg_abs(e, v), cg_vec(e, INFINITY));
    CgValue past = LLVMBuildNot(e->builder, lanes_below(e, loop.index, r->k->E), "");
    CgValue bits = LLVMBuildBitCast(e->builder, LLVMBuildOr(e->builder, finite, past, ""), e->i16, "");
    CgValue all = cg_icmp(e, LLVMIntEQ, bits, LLVMConstInt(e->i16, 0xffff, 0));
    cg_next(&loop, fine, LLVMBuildAnd(e->builder, fine, all, ""));
    cg_end_for(e, &loop);
    return cg_after(&loop, fine);
}

static void squash(const Router *r) {
    CgEmit *e = r->e;
    if (!r->k->sigmoid) {
        cg_softmax_row(e, r->scores, r->k->E);
        return;
    }
    CgLoop loop = cg_for_n(e, pg_panels(r->k->E));
    CgValue at = panel_at(e, r->scores, loop.index);
    cg_store_vec(e, at, cg_activation(e, PG_SIGMOID, cg_load_vec(e, at)));
    cg_end_for(e, &loop);
}

static void route_row(const Router *r, CgValue i, CgValue row) {
    CgEmit *e = r->e;
    CgValue fine = take_row(r, i);
    cg_nonfinite(e, row, LLVMBuildNot(e->builder, fine, ""));
    CgValue slots = cg_imul_n(e, row, (uint64_t)r->k->k * 4);
    CgValue expert_indices = cg_at(e, cg_operand(e, PG_ROUTE_EXPERTS), slots),
            combine_weights = cg_at(e, cg_operand(e, PG_ROUTE_COMBINE_W), slots);
    if (!r->k->select_bias)  /* by r, not by p: different r may squash to one p */
        cg_select_row(e, r->scores, NULL, r->k->E, r->k->k, expert_indices);
    squash(r);
    if (r->k->select_bias) cg_select_row(e, r->scores, cg_operand(e, PG_ROUTE_SELECT_BIAS), r->k->E, r->k->k, expert_indices);
    cg_combine_weights_row(e, r->scores, expert_indices, r->k->k, combine_weights);
}

static Router begin(CgEmit *e) {
    const PgKernel *k = e->kernel;
    Router r = {.e = e, .k = k, .x = cg_operand(e, PG_ROUTE_X), .x_step = cg_imul_n(e, cg_ld(e), 64)};
    uint64_t panels = pg_panels(k->E);
    unsigned side = (unsigned)(k->mode == PG_ROW ? e->target->row_panels : e->target->block_panels);
    r.shape.rows = k->mode == PG_ROW ? 1 : (unsigned)e->target->block_rows;
    r.shape.panels = panels < side ? (unsigned)panels : side;
    r.shape.groups = (panels + r.shape.panels - 1) / r.shape.panels;
    r.sums = cg_scratch(e, panels * r.shape.rows * 64);
    r.scores = cg_scratch(e, panels * 64);
    if (k->norm != PG_NO_NORM) { /* PG_ROW only */
        CgValue normed = cg_scratch(e, pg_panels(k->K) * 64);
        CgValue b = k->norm == PG_LAYER ? cg_operand(e, PG_ROUTE_NORM_B) : NULL;
        cg_norm_row(e, r.x, r.x_step, cg_operand(e, PG_ROUTE_NORM_W), b, normed, cg_i64(e, 64), k->K);
        r.x = normed;
    }
    return r;
}

void cg_emit_route(CgEmit *e) {
    Router r = begin(e);
    uint64_t side = r.shape.rows;
    e->claim = e->kernel->mode == PG_ROW ? 1 : PG_ROW_BLOCK;
    /* Blocks of rows that touch [tile0, tile1), aligned so that they stay inside LD; rows outside are computed and not used. */
    CgValue first = cg_imul_n(e, cg_udiv_n(e, e->tile0, side), side);
    CgLoop blocks = cg_for(e, first, e->tile1, side);
    multiply(&r, cg_at(e, r.x, cg_imul_n(e, blocks.index, 64)));
    CgValue low = cg_umax(e, blocks.index, e->tile0), high = cg_umin(e, cg_iadd_n(e, blocks.index, side), e->tile1);
    CgLoop rows = cg_for(e, low, high, 1);
    route_row(&r, cg_isub(e, rows.index, blocks.index), rows.index);
    cg_end_for(e, &rows);
    cg_end_for(e, &blocks);
}
