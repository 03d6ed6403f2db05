/* PG_ELEMENTWISE, PG_SLICE and PG_REPEAT. */
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/addressing.h"
#include "support/alloc.h"

/* Vectors of a panel: 1, or N when the operands are channels. */
static int64_t vectors(const PgKernel *kernel) { return kernel->N > 0 ? kernel->N : 1; }

/* The parameter's 16 lanes: [O/16][16], or the expert's of [E][O/16][16]. */
static CgValue parameter(CgEmit *e, const CgIndex *at, CgValue panel) {
    const PgKernel *kernel = e->kernel;
    if (kernel->per_expert) panel = cg_iadd(e, cg_imul_n(e, at->expert, pg_panels(kernel->O)), panel);
    return cg_load_vec(e, cg_at(e, cg_operand(e, PG_OP_W), cg_imul_n(e, panel, CG_VEC_BYTES)));
}

static CgValue second(CgEmit *e, const CgIndex *at, CgValue panel, CgValue bytes) {
    const PgKernel *kernel = e->kernel;
    if (kernel->z_repeats) return cg_load_splat(e, cg_indexed(e, PG_OP_Z, PG_ROWS, at, cg_i64(e, 0), 1, 1));
    CgValue z = cg_indexed(e, PG_OP_Z, kernel->z_layout, at, panel, kernel->O, vectors(kernel));
    return cg_load_vec(e, cg_at(e, z, bytes));
}

/* The operation on one vector; `bytes`: its offset in the panel. */
static CgValue apply(CgEmit *e, const CgIndex *at, CgValue panel, CgValue bytes, CgValue x) {
    switch (e->kernel->ew) {
    case PG_EW_UNARY: return cg_activation(e, e->kernel->act, x);
    case PG_EW_SCALE: return cg_mul(e, x, cg_vec(e, (float)e->kernel->scale));
    case PG_EW_CLAMP: return cg_clamp(e, x, (float)e->kernel->low, (float)e->kernel->high);
    case PG_EW_ADD: return cg_add(e, x, second(e, at, panel, bytes));
    case PG_EW_MUL: return cg_mul(e, x, second(e, at, panel, bytes));
    case PG_EW_ADD_PARAM: return cg_add(e, x, parameter(e, at, panel));
    case PG_EW_MUL_PARAM: return cg_mul(e, x, parameter(e, at, panel));
    }
    SU_BUG("no elementwise operation has the number %d", (int)e->kernel->ew);
}

static void elementwise_place(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    int64_t N = vectors(kernel);
    (void)context;
    CgLoop panels = cg_for_n(e, pg_panels(kernel->O));
    CgValue x = cg_indexed(e, PG_OP_X, kernel->x_layout, at, panels.index, kernel->O, N);
    CgValue y = cg_indexed(e, PG_OP_Y, kernel->y_layout, at, panels.index, kernel->O, N);
    CgLoop n = cg_for_n(e, (uint64_t)N);
    CgValue bytes = cg_imul_n(e, n.index, CG_VEC_BYTES);
    cg_store_vec(e, cg_at(e, y, bytes), apply(e, at, panels.index, bytes, cg_load_vec(e, cg_at(e, x, bytes))));
    cg_end_for(e, &n);
    cg_end_for(e, &panels);
}

void cg_emit_elementwise(CgEmit *e) { cg_each_place(e, e->kernel->y_layout, elementwise_place, NULL); }

/* Elements `from` (i64) + 0 … 15 of a row of x; those past its end are its last one. */
static CgValue gathered(CgEmit *e, const CgIndex *at, CgValue from) {
    CgValue lanes = cg_zero(e);
    for (unsigned lane = 0; lane < PG_LANES; lane++) {
        CgValue i = cg_umin(e, cg_iadd_n(e, from, lane), cg_i64(e, (uint64_t)e->kernel->K - 1));
        CgValue panel = cg_indexed(e, PG_OP_X, e->kernel->x_layout, at, cg_udiv_n(e, i, PG_LANES), e->kernel->K, 1);
        lanes = cg_set_lane(e, lanes, cg_load_f32(e, cg_at(e, panel, cg_imul_n(e, cg_urem_n(e, i, PG_LANES), 4))), lane);
    }
    return lanes;
}

/* Elements start + [0, O) of rows of K: a panel of y joins two neighbours of x when start is no multiple of 16. */
/* Element start + plane · O + … of rows of K, a plane of y each. */
static void split_place(CgEmit *e, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    CgValue first = cg_iadd_n(e, cg_imul_n(e, at->expert, (uint64_t)kernel->O), (uint64_t)kernel->start);
    CgLoop panels = cg_for_n(e, pg_panels(kernel->O));
    CgValue y = cg_indexed(e, PG_OP_Y, kernel->y_layout, at, panels.index, kernel->O, 1);
    CgValue from = cg_iadd(e, first, cg_imul_n(e, panels.index, PG_LANES));
    if (kernel->O % PG_LANES == 0 && kernel->start % PG_LANES == 0)
        cg_store_vec(e, y, cg_load_vec(e, cg_indexed(e, PG_OP_X, PG_ROWS, at, cg_udiv_n(e, from, PG_LANES), kernel->K, 1)));
    else
        cg_store_vec(e, y, gathered(e, at, from));
    cg_end_for(e, &panels);
}

static void slice_place(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    if (kernel->y_layout == PG_PLANES && kernel->x_layout == PG_ROWS) {
        split_place(e, at);
        return;
    }
    uint64_t last = pg_panels(kernel->K) - 1, first = (uint64_t)(kernel->start / PG_LANES);
    int32_t shift = (int32_t)(kernel->start % PG_LANES);
    (void)context;
    CgLoop panels = cg_for_n(e, pg_panels(kernel->O));
    CgValue panel = cg_iadd_n(e, panels.index, first);
    CgValue low = cg_load_vec(e, cg_indexed(e, PG_OP_X, kernel->x_layout, at, panel, kernel->K, 1));
    if (shift > 0) {
        CgValue lane[PG_LANES], next = cg_umin(e, cg_iadd_n(e, panel, 1), cg_i64(e, last));
        CgValue high = cg_load_vec(e, cg_indexed(e, PG_OP_X, kernel->x_layout, at, next, kernel->K, 1));
        for (int32_t i = 0; i < PG_LANES; i++) lane[i] = cg_i32(e, i + shift);
        low = LLVMBuildShuffleVector(e->builder, low, high, LLVMConstVector(lane, PG_LANES), "");
    }
    cg_store_vec(e, cg_indexed(e, PG_OP_Y, kernel->y_layout, at, panels.index, kernel->O, 1), low);
    cg_end_for(e, &panels);
}

void cg_emit_slice(CgEmit *e) { cg_each_place(e, e->kernel->y_layout, slice_place, NULL); }

/* Which element, or whole panel of them, element `to` of the result repeats: runs of `run` stand `times` times. */
static CgValue repeated(CgEmit *e, CgValue to, uint64_t run, uint64_t times) {
    if (run == 1) return cg_udiv_n(e, to, times);
    return cg_iadd(e, cg_imul_n(e, cg_udiv_n(e, to, run * times), run), cg_urem_n(e, to, run));
}

/* Every run `times` times. Lanes past O repeat the last one. */
static void repeat_place(CgEmit *e, void *context, const CgIndex *at) {
    const PgKernel *kernel = e->kernel;
    const uint64_t run = (uint64_t)kernel->run, times = (uint64_t)kernel->times;
    (void)context;
    CgLoop panels = cg_for_n(e, pg_panels(kernel->O));
    CgValue y = cg_zero(e);
    if (run % PG_LANES == 0) {
        CgValue from = repeated(e, panels.index, run / PG_LANES, times);
        y = cg_load_vec(e, cg_indexed(e, PG_OP_X, kernel->x_layout, at, from, kernel->K, 1));
    }
    for (unsigned lane = 0; lane < PG_LANES && run % PG_LANES != 0; lane++) {
        CgValue to = cg_umin(e, cg_iadd_n(e, cg_imul_n(e, panels.index, PG_LANES), lane), cg_i64(e, (uint64_t)kernel->O - 1));
        CgValue from = repeated(e, to, run, times);
        CgValue panel = cg_indexed(e, PG_OP_X, kernel->x_layout, at, cg_udiv_n(e, from, PG_LANES), kernel->K, 1);
        y = cg_set_lane(e, y, cg_load_f32(e, cg_at(e, panel, cg_imul_n(e, cg_urem_n(e, from, PG_LANES), 4))), lane);
    }
    cg_store_vec(e, cg_indexed(e, PG_OP_Y, kernel->y_layout, at, panels.index, kernel->O, 1), y);
    cg_end_for(e, &panels);
}

void cg_emit_repeat(CgEmit *e) { cg_each_place(e, e->kernel->y_layout, repeat_place, NULL); }
