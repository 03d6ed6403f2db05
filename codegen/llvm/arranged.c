#include "codegen/llvm/arranged.h"

enum { WEIGHTS_BYTES = CG_GROUP_RUNS * CG_VEC_BYTES, KINDS = 3 /* d, its base, m */ };

bool cg_arranges(const CgEmit *e) {
    return (e->target->dot_arranges || e->schedule.tiles) && e->kernel->rounds && e->kernel->mode == PG_BLOCK;
}

uint64_t cg_arranged_bytes(const CgEmit *e) { return WEIGHTS_BYTES + KINDS * cg_dot_rows(e) * CG_VEC_BYTES; }

static CgValue scales_at(CgEmit *e, CgValue group, unsigned kind, unsigned h) {
    return cg_at_n(e, group, WEIGHTS_BYTES + (kind * cg_dot_rows(e) + h) * CG_VEC_BYTES);
}

/* Elements first, first + step … of a and b behind one another, each of them `times` times. */
static CgValue shuffled(CgEmit *e, CgValue a, CgValue b, unsigned first, unsigned step, unsigned times) {
    CgValue mask[PG_LANES];
    for (unsigned i = 0; i < PG_LANES; i++) mask[i] = cg_i32(e, (int32_t)(first + i / times * step));
    return LLVMBuildShuffleVector(e->builder, a, b, LLVMConstVector(mask, PG_LANES), "");
}

static void store_scales(CgEmit *e, CgValue group, unsigned kind, CgValue v) {
    unsigned rows = cg_dot_rows(e);
    for (unsigned h = 0; h < rows; h++)
        cg_store_vec(e, scales_at(e, group, kind, h), rows == 1 ? v : shuffled(e, v, v, PG_LANES / 2 * h, 1, 2));
}

void cg_arrange_group(CgEmit *e, CgValue group, const CgScales *shared, CgValue out) {
    IrDtype dtype = e->kernel->dtype;
    unsigned step = cg_dot_rows(e);
    for (unsigned run = 0; run < CG_GROUP_RUNS; run += step) {
        CgBytes w[CG_MAX_RUNS];
        for (unsigned i = 0; i < step; i++) w[i] = cg_dot_weights(e, dtype, group, cg_dot_run_of(dtype, (run + i) * CG_RUN));
        if (step > 1) cg_dot_pair_weights(e, w);
        for (unsigned i = 0; i < step; i++) cg_dot_store(e, &w[i], cg_at_n(e, out, (run + i) * CG_VEC_BYTES));
    }
    CgScales s = cg_group_scales(e, dtype, group, shared);
    store_scales(e, out, 0, s.d);
    store_scales(e, out, 1, cg_mul(e, s.d, cg_vec(e, -CG_DOT_BASE)));
    if (s.m != NULL) store_scales(e, out, 2, s.m);
}

CgScales cg_arranged_scales(CgEmit *e, CgValue group, unsigned h, CgValue *out_base) {
    CgScales s = {cg_load_vec(e, scales_at(e, group, 0, h)), NULL};
    *out_base = cg_load_vec(e, scales_at(e, group, 1, h));
    if (e->kernel->dtype == IR_Q4) s.m = cg_load_vec(e, scales_at(e, group, 2, h));
    return s;
}

void cg_part_rows(CgEmit *e, CgValue at) {
    CgValue a = cg_load_vec(e, at), b = cg_load_vec(e, cg_at_n(e, at, CG_VEC_BYTES));
    for (unsigned row = 0; row < 2; row++) cg_store_vec(e, cg_at_n(e, at, row * CG_VEC_BYTES), shuffled(e, a, b, row, 2, 1));
}
