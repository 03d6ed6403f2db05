/* The evaluator in float that defines the bits (docs/bits.md). */
#include <math.h>
#include <string.h>

#include "ir/eval_impl.h"
#include "ir/rope.h"
#include "ir/vmath32.h"
#include "support/dmath.h"

#define REAL float
#define FN(name) f32_##name
#define R_FMA(a, b, c) fmaf((a), (b), (c))
#define R_SQRT(x) sqrtf(x)
#define R_EXP(x) vm_exp(x)
#define R_CUT(x) vm_cut(x)
#define R_WRAP(x) vm_wrap(x)
#define R_COS(x) su_dcos(x)
#define R_SIN(x) su_dsin(x)
#define R_POW(x, y) su_dpow((x), (y))
#define IR_ACTIVATION(name, NAME, flops, exps, exact)                                                                              \
    static inline float R_##name(float x) { return vm_##name(x); }
#include "ir/activation.def"
#include "ir/eval_ops.inc"

static double neg_exp(float a_log) { return -vm_exp(a_log); }

const IrPrecision ir_precision32 = {
    .ops =
        {
#define IR_OP(name, operands, results, attributes, traits) [IR_OP_##name] = f32_##name,
#include "ir/ops.def"
#undef IR_OP
        },
    .neg_exp = neg_exp,
};
