/* PG_NORM, and the norm of one row that linear layers and routers begin with. */
#include "codegen/llvm/kernels.h"

/* The sum over the row of f(x): 16 lanes in panel order, then the tree. `mean` NULL: x² by fma (rms); else (x - mean)² by fma;
 * plain: x. */
static CgValue row_sum(CgEmit *e, CgValue x, CgValue x_step, int64_t n, bool plain, CgValue mean) {
    uint64_t full = (uint64_t)n / PG_LANES;
    unsigned tail = (unsigned)(n % PG_LANES);
    CgLoop loop = cg_for_n(e, full);
    CgValue acc = cg_carry(e, &loop, cg_zero(e));
    CgValue v = cg_load_vec(e, cg_at(e, x, cg_imul(e, loop.index, x_step)));
    if (mean != NULL) v = cg_sub(e, v, mean);
    cg_next(&loop, acc, plain ? cg_add(e, acc, v) : cg_fma(e, v, v, acc));
    cg_end_for(e, &loop);
    CgValue sum = cg_after(&loop, acc);
    if (tail > 0) { /* lanes past n take no part: adding +0 or fma(0, 0, acc) could turn a -0 into +0, so they are chosen away */
        v = cg_load_vec(e, cg_at(e, x, cg_imul_n(e, x_step, full)));
        if (mean != NULL) v = cg_sub(e, v, mean);
        CgValue more = plain ? cg_add(e, sum, v) : cg_fma(e, v, v, sum), lanes[PG_LANES];
        for (unsigned i = 0; i < PG_LANES; i++) lanes[i] = LLVMConstInt(e->i1, i < tail, 0);
        sum = cg_select(e, LLVMConstVector(lanes, PG_LANES), more, sum);
    }
    return cg_tree_sum(e, sum);
}

/* 1 / sqrt(mean of squares + eps) in every lane. */
static CgValue inverse_root(CgEmit *e, CgValue sum, int64_t n) {
    CgValue mean = cg_div(e, sum, cg_f32(e, (float)n));
    CgValue root = cg_sqrt(e, cg_add(e, mean, cg_f32(e, (float)e->kernel->eps)));
    return cg_splat(e, cg_div(e, cg_f32(e, 1.0f), root));
}

void cg_norm_row(CgEmit *e, CgValue x, CgValue x_step, CgValue w, CgValue b, CgValue y, CgValue y_step, int64_t n) {
    bool layer = e->kernel->norm == PG_LAYER;
    uint64_t panels = pg_panels(n);
    CgValue mean = NULL;
    if (layer) mean = cg_splat(e, cg_div(e, row_sum(e, x, x_step, n, true, NULL), cg_f32(e, (float)n)));
    CgValue r = inverse_root(e, row_sum(e, x, x_step, n, false, mean), n);
    CgLoop loop = cg_for_n(e, panels);
    CgValue v = cg_load_vec(e, cg_at(e, x, cg_imul(e, loop.index, x_step)));
    CgValue at = cg_imul_n(e, loop.index, 64);
    if (layer) v = cg_sub(e, v, mean);
    v = cg_mul(e, cg_mul(e, v, r), cg_load_vec(e, cg_at(e, w, at)));
    if (layer) v = cg_add(e, v, cg_load_vec(e, cg_at(e, b, at)));
    cg_store_vec(e, cg_at(e, y, cg_imul(e, loop.index, y_step)), v);
    cg_end_for(e, &loop);
}

/* ---------------------------------------------------------------------------------------------- the kernel */

/* Rows (or output rows, or positions) [first, end) of the tile. */
static void tile_rows(CgEmit *e, CgValue tile, CgValue *out_first, CgValue *out_end) {
    const PgKernel *k = e->kernel;
    if (k->mode == PG_ROW) {
        *out_first = cg_i64(e, 0);
        *out_end = k->gather_out_rows ? cg_arg_u32(e, offsetof(RtArgs, n_out_rows))
                                      : cg_i64(e, k->x_layout == PG_POSITIONS ? (uint64_t)k->k : 1);
        return;
    }
    *out_first = cg_imul_n(e, tile, PG_ROW_BLOCK);
    *out_end = cg_iadd_n(e, *out_first, PG_ROW_BLOCK);
    if (k->x_layout != PG_POSITIONS)  /* positions of surplus tiles exist too, and nobody reads them */
        *out_end = cg_umin(e, *out_end, k->gather_out_rows ? cg_arg_u32(e, offsetof(RtArgs, n_out_rows)) : cg_rows(e));
}

/* Address of element `i` of a row whose panels lie `step` bytes apart. */
static CgValue element(CgEmit *e, CgValue row, CgValue step, CgValue i) {
    CgValue panel = cg_imul(e, cg_udiv_n(e, i, PG_LANES), step);
    return cg_at(e, row, cg_iadd(e, panel, cg_imul_n(e, cg_urem_n(e, i, PG_LANES), 4)));
}

/* Elements [first, first + count) of a row to or from a line of their own. */
static void copy_run(CgEmit *e, CgValue row, CgValue step, CgValue first, uint64_t count, CgValue line, bool back) {
    CgLoop loop = cg_for_n(e, count);
    CgValue there = element(e, row, step, cg_iadd(e, first, loop.index)), here = cg_at(e, line, cg_imul_n(e, loop.index, 4));
    cg_store_f32(e, back ? there : here, cg_load_f32(e, back ? here : there));
    cg_end_for(e, &loop);
}

/* Every run of a row by itself. Runs that are not whole panels go through a line of scratch. */
static void norm_runs(CgEmit *e, CgValue x, CgValue w, CgValue y, CgValue step, CgValue line) {
    const PgKernel *k = e->kernel;
    uint64_t run = (uint64_t)(k->O / k->runs), bytes = pg_panels((int64_t)run) * 64;
    CgValue line_step = cg_i64(e, 64);
    if (line != NULL) cg_store_vec(e, cg_at(e, y, cg_imul_n(e, step, pg_panels(k->O) - 1)), cg_zero(e)); /* lanes past O */
    CgLoop runs = cg_for_n(e, (uint64_t)k->runs);
    CgValue w_run = k->one_run_w ? w : cg_at(e, w, cg_imul_n(e, runs.index, bytes));
    CgValue first = cg_imul_n(e, runs.index, run);
    if (line != NULL) {
        copy_run(e, x, step, first, run, line, false);
        cg_norm_row(e, line, line_step, w_run, NULL, line, line_step, (int64_t)run);
        copy_run(e, y, step, first, run, line, true);
    } else {
        CgValue offset = cg_imul(e, cg_udiv_n(e, first, PG_LANES), step);
        cg_norm_row(e, cg_at(e, x, offset), step, w_run, NULL, cg_at(e, y, offset), step, (int64_t)run);
    }
    cg_end_for(e, &runs);
}

void cg_emit_norm(CgEmit *e) {
    const PgKernel *k = e->kernel;
    CgValue x = cg_operand(e, PG_NORM_X), y = cg_operand(e, PG_NORM_Y), w = cg_operand(e, PG_NORM_W);
    CgValue b = k->norm == PG_LAYER ? cg_operand(e, PG_NORM_B) : NULL, line = NULL;
    if (k->runs > 1 && k->O / k->runs % PG_LANES != 0) line = cg_scratch(e, pg_panels(k->O / k->runs) * 64);
    CgValue step = cg_imul_n(e, cg_stride(e, k->x_layout), 64), first, end;
    CgValue plane_bytes = cg_plane_bytes(e, k->O);
    CgLoop tiles = cg_for_tiles(e);
    tile_rows(e, tiles.index, &first, &end);
    CgLoop planes = cg_for_n(e, k->x_layout == PG_PLANES ? (uint64_t)k->E : 1);
    CgLoop rows = cg_for(e, first, end, 1);
    CgValue from = rows.index, plane = cg_imul(e, planes.index, plane_bytes);
    if (k->gather_out_rows) {
        CgValue at = cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, out_rows)), cg_imul_n(e, rows.index, 4));
        from = cg_wide(e, cg_load_i32(e, at));
    }
    CgValue source = cg_at(e, x, cg_iadd(e, plane, cg_imul_n(e, from, 64)));
    CgValue target = cg_at(e, y, cg_iadd(e, plane, cg_imul_n(e, rows.index, 64)));
    if (k->runs > 1)
        norm_runs(e, source, w, target, step, line);
    else
        cg_norm_row(e, source, step, w, b, target, step, k->O);
    cg_end_for(e, &rows);
    cg_end_for(e, &planes);
    cg_end_for(e, &tiles);
}
