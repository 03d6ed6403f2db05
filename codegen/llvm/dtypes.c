/* Weights of each dtype (ir/dtype.def) as vectors of floats, exactly. */
#include "codegen/llvm/emit.h"

/* ---- float32: 16 outputs at one k */

static void load_f32(CgEmit *e, CgValue address, CgValue *out) { out[0] = cg_load_vec(e, address); }

static CgValue collect_f32(CgEmit *e, CgValue address, unsigned count) {
    CgValue v = cg_zero(e);
    for (unsigned i = 0; i < count; i++) v = cg_set_lane(e, v, cg_load_f32(e, cg_at_n(e, address, i * 64)), i);
    return v;
}

/* ---- floats of 16 bits: 16 outputs at a pair of k, the earlier one in the low half */

/* bf16 is the upper half of a float. */
static void load_bf16(CgEmit *e, CgValue address, CgValue *out) {
    CgValue pairs = cg_load_ivec(e, address);
    CgValue low = LLVMBuildShl(e->builder, pairs, cg_ivec(e, 16), "");
    CgValue high = LLVMBuildAnd(e->builder, pairs, cg_ivec(e, (int32_t)0xffff0000u), "");
    out[0] = LLVMBuildBitCast(e->builder, low, e->vec, "");
    out[1] = LLVMBuildBitCast(e->builder, high, e->vec, "");
}

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

/* ---- blocks: cg_has_no_blocks refuses them before */

#define NO_LOADS(name)                                                                                                             \
    static void load_##name(CgEmit *e, CgValue address, CgValue *out) {                                                            \
        (void)e, (void)address, (void)out;                                                                                         \
        SU_BUG("a kernel reads weights of " #name);                                                                                \
    }                                                                                                                              \
    static CgValue collect_##name(CgEmit *e, CgValue address, unsigned count) {                                                    \
        (void)e, (void)address, (void)count;                                                                                       \
        SU_BUG("a kernel reads weights of " #name);                                                                                \
    }
NO_LOADS(q8)
NO_LOADS(q4)

/* ---- all of them */

typedef struct Loads {
    void (*group)(CgEmit *e, CgValue address, CgValue *out);
    CgValue (*collect)(CgEmit *e, CgValue address, unsigned count);
} Loads;

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

CgValue cg_collect(CgEmit *e, IrDtype dtype, CgValue address, unsigned count) { return loads[dtype].collect(e, address, count); }
