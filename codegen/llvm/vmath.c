/* ir/vmath.inc for vectors of LLVM IR: each function emits its operations at the current place, for several vectors side by side
 * (CgSide), operation by operation, so that independent ones stand next to each other. */
#include "codegen/llvm/emit.h"
#include "support/alloc.h"

static CgSide alone(CgValue v) { return (CgSide){.n = 1, .v = {v}}; }

/* Vector i; one that stands alone, as constants do, is beside every other. */
static CgValue of(const CgSide *s, int i) { return s->v[s->n == 1 ? 0 : i]; }

static CgSide each1(CgEmit *e, CgValue (*operation)(CgEmit *, CgValue), CgSide a) {
    for (int i = 0; i < a.n; i++) a.v[i] = operation(e, a.v[i]);
    return a;
}

static CgSide each2(CgEmit *e, CgValue (*operation)(CgEmit *, CgValue, CgValue), CgSide a, CgSide b) {
    CgSide y = {.n = a.n > b.n ? a.n : b.n};
    for (int i = 0; i < y.n; i++) y.v[i] = operation(e, of(&a, i), of(&b, i));
    return y;
}

static CgSide each_fma(CgEmit *e, CgSide a, CgSide b, CgSide c) {
    CgSide y = {.n = a.n > b.n ? a.n : b.n};
    y.n = c.n > y.n ? c.n : y.n;
    for (int i = 0; i < y.n; i++) y.v[i] = cg_fma(e, of(&a, i), of(&b, i), of(&c, i));
    return y;
}

/* a < b ? x : y. A limit, x < c ? c : x or c < x ? c : x with a constant c that is not 0, is maximum or minimum, which keep a NaN as
 * the choice does; zero is left out because they would give +0 for -0. */
static CgValue select_less(CgEmit *e, CgValue a, CgValue b, CgValue x, CgValue y) {
    bool above = x == b && y == a && LLVMIsConstant(b) && !LLVMIsNull(b);
    bool below = x == a && y == b && LLVMIsConstant(a) && !LLVMIsNull(a);
    if (e->target->ieee_max && (above || below)) return above ? cg_ieee_max(e, a, b) : cg_ieee_min(e, b, a);
    return cg_select(e, cg_fcmp(e, LLVMRealOLT, a, b), x, y);
}

static CgSide each_select(CgEmit *e, CgSide a, CgSide b, CgSide x, CgSide y) {
    CgSide z = {.n = a.n > b.n ? a.n : b.n};
    for (int i = 0; i < z.n; i++) z.v[i] = select_less(e, of(&a, i), of(&b, i), of(&x, i), of(&y, i));
    return z;
}

static CgValue negative(CgEmit *e, CgValue a) { return LLVMBuildFNeg(e->builder, a, ""); }

/* The vector whose lanes' bits are those of t shifted left by 23. */
static CgValue exponent(CgEmit *e, CgValue t) {
    CgValue bits = LLVMBuildBitCast(e->builder, t, e->ivec, "");
    CgValue shifted = LLVMBuildShl(e->builder, bits, cg_ivec(e, 23), "");
    return LLVMBuildBitCast(e->builder, shifted, e->vec, "");
}

#define VM_T CgSide
#define VM_FN(name) side_##name
#define VM_PARAMS CgEmit *e,
#define VM_ARGS e,
#define VM_C(c) alone(cg_vec(e, c))
#define VM_ADD(a, b) each2(e, cg_add, a, b)
#define VM_SUB(a, b) each2(e, cg_sub, a, b)
#define VM_MUL(a, b) each2(e, cg_mul, a, b)
#define VM_DIV(a, b) each2(e, cg_div, a, b)
#define VM_FMA(a, b, c) each_fma(e, a, b, c)
#define VM_NEG(a) each1(e, negative, a)
#define VM_ABS(a) each1(e, cg_abs, a)
#define VM_SEL_LT(a, b, x, y) each_select(e, a, b, x, y)
#define VM_EXPONENT(t) each1(e, exponent, t)
#include "ir/vmath.inc"

CgSide cg_side_exp_down(CgEmit *e, CgSide x) { return side_exp_down(e, x); }
CgSide cg_side_softplus(CgEmit *e, CgSide x) { return side_softplus(e, x); }

/* A register's worth of s, `first` lane on, with the lanes below 2^-80 cleared. */
static CgValue cut_register(CgEmit *e, CgValue s, unsigned first) {
    unsigned count = (unsigned)e->target->vector_lanes, all = LLVMGetVectorSize(e->vec);
    CgValue lanes[PG_LANES];
    for (unsigned i = 0; i < count; i++) lanes[i] = cg_i32(e, (int32_t)(first + i));
    CgValue part = LLVMBuildShuffleVector(e->builder, s, LLVMGetPoison(e->vec), LLVMConstVector(lanes, count), "");
    cg_set_lanes(e, count);
    CgValue small = cg_abs_greater(e, cg_vec(e, 0x1p-80f), part);
    CgValue bits = LLVMBuildBitCast(e->builder, part, e->ivec, "");
    bits = LLVMBuildAnd(e->builder, bits, LLVMBuildNot(e->builder, small, ""), "");
    CgValue kept = LLVMBuildBitCast(e->builder, bits, e->vec, "");
    cg_set_lanes(e, all);
    return kept;
}

/* Where one instruction compares magnitudes: a register at a time. The same bits as vmath.inc's. */
static CgValue cut_by_registers(CgEmit *e, CgValue s) {
    unsigned step = (unsigned)e->target->vector_lanes, count = LLVMGetVectorSize(e->vec);
    CgValue parts[PG_LANES];
    for (unsigned i = 0; i < count / step; i++) parts[i] = cut_register(e, s, i * step);
    return cg_concat(e, parts, count / step);
}

CgSide cg_side_cut(CgEmit *e, CgSide s) {
    if (e->target->abs_greater == NULL || (unsigned)e->target->vector_lanes > LLVMGetVectorSize(e->vec)) return side_cut(e, s);
    return each1(e, cut_by_registers, s);
}

CgValue cg_exp(CgEmit *e, CgValue x) { return side_exp(e, alone(x)).v[0]; }
CgValue cg_softplus(CgEmit *e, CgValue x) { return side_softplus(e, alone(x)).v[0]; }
CgValue cg_wrap(CgEmit *e, CgValue x) { return side_wrap(e, alone(x)).v[0]; }
CgValue cg_larger(CgEmit *e, CgValue a, CgValue b) {
    return LLVMTypeOf(a) == e->vec ? side_max(e, alone(a), alone(b)).v[0] : cg_select(e, cg_fcmp(e, LLVMRealOLT, a, b), b, a);
}

CgValue cg_clamp(CgEmit *e, CgValue x, float low, float high) {
    CgValue least = cg_vec(e, low), most = cg_vec(e, high), raised = select_less(e, x, least, least, x);
    return select_less(e, most, raised, most, raised);
}

CgSide cg_side_activation(CgEmit *e, PgActivation act, CgSide x) {
    switch (act) {
    case PG_NO_ACT: return x;
#define IR_ACTIVATION(name, NAME, flops, exps, exact)                                                                              \
    case PG_##NAME: return side_##name(e, x);
#include "ir/activation.def"
    }
    SU_BUG("no activation has the number %d", (int)act);
}

CgValue cg_activation(CgEmit *e, PgActivation act, CgValue x) { return cg_side_activation(e, act, alone(x)).v[0]; }
