/* Weights of each dtype (ir/dtype.def) as vectors of floats, exactly. */
#include "codegen/llvm/blocks.h"
#include "support/diag.h"

/* ---- float32: 16 outputs at one k */

static void load_f32(CgEmit *e, CgValue address, CgValue *out) { out[0] = cg_load_vec(e, address); }

static CgValue collect_f32(CgEmit *e, CgValue address, unsigned count) {
    CgValue v = cg_zero(e);
    for (unsigned i = 0; i < count; i++) v = cg_set_lane(e, v, cg_load_f32(e, cg_at_n(e, address, i * 64)), i);
    return v;
}

/* ---- floats of 16 bits: 16 outputs at a pair of k, the earlier one in the low half */

/* bf16 is the upper half of a float. */
void cg_bf16_halves(CgEmit *e, CgValue pairs, CgValue out[2]) {
    CgValue low = LLVMBuildShl(e->builder, pairs, cg_ivec(e, 16), "");
    CgValue high = LLVMBuildAnd(e->builder, pairs, cg_ivec(e, (int32_t)0xffff0000u), "");
    out[0] = LLVMBuildBitCast(e->builder, low, e->vec, "");
    out[1] = LLVMBuildBitCast(e->builder, high, e->vec, "");
}

static void load_bf16(CgEmit *e, CgValue address, CgValue *out) { cg_bf16_halves(e, cg_load_ivec(e, address), out); }

static CgValue half_to_float(CgEmit *e, CgValue lanes) {
    LLVMTypeRef shorts = LLVMVectorType(e->i16, LLVMGetVectorSize(e->vec));
    CgValue bits = LLVMBuildTrunc(e->builder, lanes, shorts, "");
    CgValue halves = LLVMBuildBitCast(e->builder, bits, e->hvec, "");
    return LLVMBuildFPExt(e->builder, halves, e->vec, "");
}

static void load_f16(CgEmit *e, CgValue address, CgValue *out) {
    CgValue pairs = cg_load_ivec(e, address);
    out[0] = half_to_float(e, pairs);
    out[1] = half_to_float(e, LLVMBuildLShr(e->builder, pairs, cg_ivec(e, 16), ""));
}

/* Sixteen halves of one output: each 4 bytes, 64 apart, hold those at 2i and 2i + 1. */
static CgValue collect_shorts(CgEmit *e, CgValue address, unsigned count) {
    CgValue pairs = LLVMConstNull(LLVMVectorType(e->i32, PG_LANES / 2));
    for (unsigned i = 0; 2 * i < count; i++) pairs = cg_set_lane(e, pairs, cg_load_i32(e, cg_at_n(e, address, i * 64)), i);
    return LLVMBuildBitCast(e->builder, pairs, LLVMVectorType(e->i16, PG_LANES), "");
}

static CgValue collect_bf16(CgEmit *e, CgValue address, unsigned count) {
    CgValue wide = LLVMBuildZExt(e->builder, collect_shorts(e, address, count), e->ivec, "");
    return LLVMBuildBitCast(e->builder, LLVMBuildShl(e->builder, wide, cg_ivec(e, 16), ""), e->vec, "");
}

static CgValue collect_f16(CgEmit *e, CgValue address, unsigned count) {
    CgValue shorts = collect_shorts(e, address, count);
    return LLVMBuildFPExt(e->builder, LLVMBuildBitCast(e->builder, shorts, e->hvec, ""), e->vec, "");
}

/* ---- blocks: linear layers of them have microkernels of their own, or widen them first (codegen/llvm/blocks.h) */

static void no_group(CgEmit *e, CgValue address, CgValue *out) {
    (void)e, (void)address, (void)out;
    SU_BUG("a kernel loads weights of q8 or q4 as if they were floats");
}
#define load_q8 no_group
#define load_q4 no_group

/* Where 16 k of one output lie: in those dtypes in which they are the same bytes of every group. */
static CgValue within_groups(CgEmit *e, IrDtype dtype, CgValue panel, CgValue lane, CgValue step) {
    CgValue first = cg_imul_n(e, lane, ir_dtype(dtype)->group_bytes / PG_LANES);
    return cg_at(e, panel, cg_iadd(e, first, cg_imul_n(e, step, ir_panel_bytes(dtype, PG_LANES))));
}

/* ---- all of them */

typedef struct Loads {
    void (*group)(CgEmit *e, CgValue address, CgValue *out);
    CgValue (*collect)(CgEmit *e, CgValue address, unsigned count); /* NULL: collect_block */
    CgValue (*collect_block)(CgEmit *e, int64_t K, CgValue panel, CgValue lane, CgValue step);
} Loads;

#define collect_q8 NULL, cg_collect_q8
#define collect_q4 NULL, cg_collect_q4

static const Loads loads[IR_STORED_DTYPES] = {
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most)                                         \
    [IR_##NAME] = {load_##name, collect_##name},
#include "ir/dtype.def"
};

#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most)                                         \
    _Static_assert(((group) <= IR_MAX_GROUP && PG_LANES % (group) == 0) || IR_##NAME == IR_Q8 || IR_##NAME == IR_Q4,               \
                   "groups of " #name " are of another size than the loops take");
#include "ir/dtype.def"

void cg_load_group(CgEmit *e, IrDtype dtype, CgValue address, CgValue *out) { loads[dtype].group(e, address, out); }

CgValue cg_collect(CgEmit *e, IrDtype dtype, int64_t K, CgValue panel, CgValue lane, CgValue step, unsigned count) {
    const Loads *l = &loads[dtype];
    if (l->collect != NULL) return l->collect(e, within_groups(e, dtype, panel, lane, step), count);
    CgValue v = l->collect_block(e, K, panel, lane, step), kept[PG_LANES];
    for (unsigned i = 0; i < PG_LANES; i++) kept[i] = LLVMConstInt(e->i1, i < count, 0);
    return count >= PG_LANES ? v : cg_select(e, LLVMConstVector(kept, PG_LANES), v, cg_zero(e));
}
