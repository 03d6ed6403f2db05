/* ir/vmath.inc for vectors of LLVM IR: each function emits its operations at the current place. */
#include "codegen/llvm/emit.h"

/* The vector whose lanes' bits are those of t shifted left by 23. */
static CgValue exponent(CgEmit *e, CgValue t) {
    CgValue bits = LLVMBuildBitCast(e->builder, t, e->ivec, "");
    CgValue shifted = LLVMBuildShl(e->builder, bits, cg_ivec(e, 23), "");
    return LLVMBuildBitCast(e->builder, shifted, e->vec, "");
}

/* a < b ? x : y. A limit, x < c ? c : x or c < x ? c : x with a constant c that is not 0, is maximum or minimum, which keep a NaN as
 * the choice does; zero is left out because they would give +0 for -0. */
static CgValue select_less(CgEmit *e, CgValue a, CgValue b, CgValue x, CgValue y) {
    bool above = x == b && y == a && LLVMIsConstant(b) && !LLVMIsNull(b);
    bool below = x == a && y == b && LLVMIsConstant(a) && !LLVMIsNull(a);
    if (e->target->ieee_max && (above || below)) { return above ? cg_ieee_max(e, a, b) : cg_ieee_min(e, b, a); }
    return cg_select(e, cg_fcmp(e, LLVMRealOLT, a, b), x, y);
}

#define VM_T CgValue
#define VM_FN(name) vector_##name
#define VM_PARAMS CgEmit *e,
#define VM_ARGS e,
#define VM_C(c) cg_vec(e, c)
#define VM_ADD(a, b) cg_add(e, a, b)
#define VM_SUB(a, b) cg_sub(e, a, b)
#define VM_MUL(a, b) cg_mul(e, a, b)
#define VM_DIV(a, b) cg_div(e, a, b)
#define VM_FMA(a, b, c) cg_fma(e, a, b, c)
#define VM_NEG(a) LLVMBuildFNeg(e->builder, a, "")
#define VM_ABS(a) cg_abs(e, a)
#define VM_SEL_LT(a, b, x, y) select_less(e, a, b, x, y)
#define VM_EXPONENT(t) exponent(e, t)
#include "ir/vmath.inc"

CgValue cg_exp(CgEmit *e, CgValue x) { return vector_exp(e, x); }
CgValue cg_exp_down(CgEmit *e, CgValue x) { return vector_exp_down(e, x); }
CgValue cg_softplus(CgEmit *e, CgValue x) { return vector_softplus(e, x); }

/* A register's worth of s, `first` lane on, with the lanes below 2^-80 cleared. */
static CgValue cut_register(CgEmit *e, CgValue s, unsigned first) {
    unsigned count = (unsigned)e->target->vector_lanes, all = LLVMGetVectorSize(e->vec);
    CgValue lanes[PG_LANES];
    for (unsigned i = 0; i < count; i++) { lanes[i] = cg_i32(e, (int32_t)(first + i)); }
    CgValue part = LLVMBuildShuffleVector(e->builder, s, LLVMGetPoison(e->vec), LLVMConstVector(lanes, count), "");
    cg_set_lanes(e, count);
    CgValue small = cg_abs_greater(e, cg_vec(e, 0x1p-80f), part);
    CgValue bits = LLVMBuildBitCast(e->builder, part, e->ivec, "");
    bits = LLVMBuildAnd(e->builder, bits, LLVMBuildNot(e->builder, small, ""), "");
    CgValue kept = LLVMBuildBitCast(e->builder, bits, e->vec, "");
    cg_set_lanes(e, all);
    return kept;
}

/* Where one instruction compares magnitudes, a register at a time; else as vmath.inc has it. The same bits. */
CgValue cg_cut(CgEmit *e, CgValue s) {
    unsigned step = (unsigned)e->target->vector_lanes, count = LLVMGetVectorSize(e->vec);
    if (e->target->abs_greater == NULL || step > count) { return vector_cut(e, s); }
    CgValue parts[PG_LANES];
    for (unsigned i = 0; i < count / step; i++) { parts[i] = cut_register(e, s, i * step); }
    return cg_concat(e, parts, count / step);
}

CgValue cg_larger(CgEmit *e, CgValue a, CgValue b) {
    return LLVMTypeOf(a) == e->vec ? vector_max(e, a, b) : cg_select(e, cg_fcmp(e, LLVMRealOLT, a, b), b, a);
}

CgValue cg_activation(CgEmit *e, PgActivation act, CgValue x) {
    switch (act) {
    case PG_NO_ACT: return x;
    case PG_SILU: return vector_silu(e, x);
    case PG_GELU: return vector_gelu(e, x);
    case PG_GELU_TANH: return vector_gelu_tanh(e, x);
    case PG_RELU2: return vector_relu2(e, x);
    case PG_SIGMOID: return vector_sigmoid(e, x);
    case PG_SOFTPLUS: return vector_softplus(e, x);
    case PG_EXP: return vector_exp(e, x);
    }
    return x;
}
