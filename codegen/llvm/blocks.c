#include "codegen/llvm/blocks.h"

#include "support/size.h"

enum { HALF = 2, HALVES_BYTES = PG_LANES * HALF, SHARE = 8, HALF_GROUP = 16, WORDS = 4 };
enum { Q8_GROUP = 544, Q8_D = 512, Q4_GROUP = 288, Q4_S = 256, Q4_T = Q4_S + PG_LANES, Q4_SHARED = 64, Q4_M = HALVES_BYTES };
#define IR_DTYPE(...)
#define IR_BLOCK_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most)                                   \
    _Static_assert((group_bytes) == NAME##_GROUP, "a group of " #name);
#include "ir/dtype.def"

/* ---------------------------------------------------------------------------------------------- scales */

static CgValue load_lanes(CgEmit *e, CgValue address, LLVMTypeRef element, unsigned alignment) {
    CgValue v = LLVMBuildLoad2(e->builder, LLVMVectorType(element, PG_LANES), address, "");
    LLVMSetAlignment(v, alignment);
    return v;
}

static CgValue load_halves(CgEmit *e, CgValue address) {
    CgValue v = load_lanes(e, address, LLVMHalfTypeInContext(e->context), HALVES_BYTES);
    return LLVMBuildFPExt(e->builder, v, e->vec, "");
}

static CgValue load_small_integers(CgEmit *e, CgValue address) {
    return LLVMBuildZExt(e->builder, load_lanes(e, address, e->i8, PG_LANES), e->ivec, "");
}

static CgValue to_floats(CgEmit *e, CgValue integers) { return LLVMBuildSIToFP(e->builder, integers, e->vec, ""); }
static CgValue load_small(CgEmit *e, CgValue address) { return to_floats(e, load_small_integers(e, address)); }

CgScales cg_shared_scales(CgEmit *e, IrDtype dtype, CgValue panel, uint64_t groups, CgValue run) {
    CgScales s = {NULL, NULL};
    if (dtype != IR_Q4) return s;
    CgValue at = cg_at(e, panel, cg_iadd_n(e, cg_imul_n(e, run, Q4_SHARED), groups * Q4_GROUP));
    s.d = load_halves(e, at);
    s.m = LLVMBuildFNeg(e->builder, load_halves(e, cg_at_n(e, at, Q4_M)), "");
    return s;
}

CgScales cg_group_scales(CgEmit *e, IrDtype dtype, CgValue group, const CgScales *shared) {
    CgScales s = {NULL, NULL};
    if (dtype == IR_Q8) {
        s.d = load_halves(e, cg_at_n(e, group, Q8_D));
        return s;
    }
    s.d = cg_mul(e, shared->d, load_small(e, cg_at_n(e, group, Q4_S)));
    s.m = cg_mul(e, shared->m, load_small(e, cg_at_n(e, group, Q4_T)));
    return s;
}

CgValue cg_q4_sums(CgEmit *e, CgValue group, const CgScales *shared, CgValue n, CgValue p_sum) {
    CgValue sn = cg_imul(e, n, load_small_integers(e, cg_at_n(e, group, Q4_S)));
    CgValue mt = cg_mul(e, shared->m, load_small(e, cg_at_n(e, group, Q4_T)));
    return cg_fma(e, mt, p_sum, cg_mul(e, shared->d, to_floats(e, sn)));
}

/* ---------------------------------------------------------------------------------------------- a group of 16 outputs */

/* Byte `b` of each lane: all of it with its sign, or a half of it. */
static CgValue byte_of(CgEmit *e, CgValue words, unsigned b) {
    CgValue top = LLVMBuildShl(e->builder, words, cg_ivec(e, (int32_t)(24 - 8 * b)), "");
    return LLVMBuildAShr(e->builder, top, cg_ivec(e, 24), "");
}

static CgValue half_of(CgEmit *e, CgValue words, unsigned b, unsigned high) {
    CgValue down = LLVMBuildLShr(e->builder, words, cg_ivec(e, (int32_t)(8 * b + 4 * high)), "");
    return LLVMBuildAnd(e->builder, down, cg_ivec(e, 15), "");
}

static void store_weight(CgEmit *e, const CgScales *s, CgValue q, CgValue out, uint64_t k) {
    CgValue v = LLVMBuildSIToFP(e->builder, q, e->vec, "");
    v = s->m == NULL ? cg_mul(e, s->d, v) : cg_fma(e, s->d, v, s->m);
    cg_store_vec(e, cg_at_n(e, out, k * CG_VEC_BYTES), v);
}

static CgValue load_words(CgEmit *e, CgValue address) { return load_lanes(e, address, e->i32, HALVES_BYTES); }

void cg_widen_group(CgEmit *e, IrDtype dtype, int64_t K, CgValue panel, CgValue g, CgValue out) {
    CgValue group = cg_at(e, panel, cg_imul_n(e, g, ir_dtype(dtype)->group_bytes));
    CgScales shared = cg_shared_scales(e, dtype, panel, pg_round_groups(K), cg_udiv_n(e, g, SHARE));
    CgScales s = cg_group_scales(e, dtype, group, &shared);
    unsigned runs = dtype == IR_Q8 ? 8 : 4;
    for (unsigned run = 0; run < runs; run++) {
        CgValue words = load_words(e, cg_at_n(e, group, (uint64_t)run * CG_VEC_BYTES));
        for (unsigned b = 0; b < 4; b++) {
            uint64_t k = 4 * run + b;
            store_weight(e, &s, dtype == IR_Q8 ? byte_of(e, words, b) : half_of(e, words, b, 0), out, k);
            if (dtype == IR_Q4) store_weight(e, &s, half_of(e, words, b, 1), out, k + HALF_GROUP);
        }
    }
}

/* ---------------------------------------------------------------------------------------------- one output */

/* Sixteen bytes of an output: four words, 64 apart. */
static CgValue collect_bytes(CgEmit *e, CgValue address) {
    CgValue words = LLVMConstNull(LLVMVectorType(e->i32, WORDS));
    for (unsigned i = 0; i < WORDS; i++) words = cg_set_lane(e, words, cg_load_i32(e, cg_at_n(e, address, i * CG_VEC_BYTES)), i);
    return LLVMBuildBitCast(e->builder, words, LLVMVectorType(e->i8, PG_LANES), "");
}

static CgValue half_to_f32(CgEmit *e, CgValue address) {
    CgValue v = LLVMBuildLoad2(e->builder, LLVMHalfTypeInContext(e->context), address, "");
    LLVMSetAlignment(v, HALF);
    return LLVMBuildFPExt(e->builder, v, e->f32, "");
}

static CgValue byte_to_f32(CgEmit *e, CgValue address) {
    CgValue v = LLVMBuildLoad2(e->builder, e->i8, address, "");
    LLVMSetAlignment(v, 1);
    return LLVMBuildSIToFP(e->builder, LLVMBuildZExt(e->builder, v, e->i32, ""), e->f32, "");
}

CgValue cg_collect_q8(CgEmit *e, int64_t K, CgValue panel, CgValue lane, CgValue step) {
    (void)K;
    CgValue group = cg_at(e, panel, cg_imul_n(e, cg_udiv_n(e, step, 2), Q8_GROUP));
    CgValue half = cg_imul_n(e, cg_urem_n(e, step, 2), WORDS * CG_VEC_BYTES);
    CgValue q = collect_bytes(e, cg_at(e, group, cg_iadd(e, half, cg_imul_n(e, lane, 4))));
    CgValue d = half_to_f32(e, cg_at(e, group, cg_iadd_n(e, cg_imul_n(e, lane, HALF), Q8_D)));
    CgValue floats = LLVMBuildSIToFP(e->builder, LLVMBuildSExt(e->builder, q, e->ivec, ""), e->vec, "");
    return cg_mul(e, cg_splat(e, d), floats);
}

CgValue cg_collect_q4(CgEmit *e, int64_t K, CgValue panel, CgValue lane, CgValue step) {
    CgValue g = cg_udiv_n(e, step, 2), group = cg_at(e, panel, cg_imul_n(e, g, Q4_GROUP));
    CgValue shared = cg_iadd_n(e, cg_imul_n(e, cg_udiv_n(e, g, SHARE), Q4_SHARED), pg_round_groups(K) * Q4_GROUP);
    CgValue halves = cg_at(e, panel, cg_iadd(e, shared, cg_imul_n(e, lane, HALF)));
    CgValue both = collect_bytes(e, cg_at(e, group, cg_imul_n(e, lane, 4)));
    CgValue down = LLVMBuildTrunc(e->builder, cg_imul_n(e, cg_urem_n(e, step, 2), 4), e->i8, ""), low[PG_LANES];
    for (unsigned i = 0; i < PG_LANES; i++) low[i] = LLVMConstInt(e->i8, 15, 0);
    CgValue q =
        LLVMBuildAnd(e->builder, LLVMBuildLShr(e->builder, both, cg_splat(e, down), ""), LLVMConstVector(low, PG_LANES), "");
    CgValue at = cg_at(e, group, lane);
    CgValue ds = cg_mul(e, half_to_f32(e, halves), byte_to_f32(e, cg_at_n(e, at, Q4_S)));
    CgValue mt = cg_mul(e, half_to_f32(e, cg_at_n(e, halves, Q4_M)), byte_to_f32(e, cg_at_n(e, at, Q4_T)));
    CgValue floats = LLVMBuildSIToFP(e->builder, LLVMBuildZExt(e->builder, q, e->ivec, ""), e->vec, "");
    return cg_sub(e, cg_mul(e, cg_splat(e, ds), floats), cg_splat(e, mt));
}
