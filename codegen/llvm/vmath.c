/* ir/vmath.inc for vectors of LLVM IR: each function emits its operations at the current place. */
#include "codegen/llvm/emit.h"

/* The vector whose lanes' bits are those of t shifted left by 23. */
static CgValue exponent(CgEmit *e, CgValue t) {
    CgValue bits = LLVMBuildBitCast(e->builder, t, e->ivec, "");
    CgValue shifted = LLVMBuildShl(e->builder, bits, cg_ivec(e, 23), "");
    return LLVMBuildBitCast(e->builder, shifted, e->vec, "");
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
#define VM_SEL_LT(a, b, x, y) cg_select(e, cg_fcmp(e, LLVMRealOLT, a, b), x, y)
#define VM_EXPONENT(t) exponent(e, t)
#include "ir/vmath.inc"

CgValue cg_exp(CgEmit *e, CgValue x) { return vector_exp(e, x); }
CgValue cg_softplus(CgEmit *e, CgValue x) { return vector_softplus(e, x); }
CgValue cg_cut(CgEmit *e, CgValue s) { return vector_cut(e, s); }
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
