/* The evaluator in double: the oracle for meaning, with the C library's functions. It leaves out what only floats need: states are
 * never cut. */
#include <math.h>
#include <string.h>

#include "ir/eval_impl.h"
#include "ir/rope.h"

#define IR_ACTIVATION(name, NAME, flops, exps, exact)                                                                              \
    static inline double R_##name(double x) { return exact; }
#include "ir/activation.def"

#define REAL double
#define FN(name) f64_##name
#define R_FMA(a, b, c) ((a) * (b) + (c))
#define R_SQRT(x) sqrt(x)
#define R_EXP(x) exp(x)
#define R_CUT(x) (x)
#define R_WRAP(x) remainder((x), 2 * M_PI)
#define R_COS(x) cos(x)
#define R_SIN(x) sin(x)
#define R_POW(x, y) pow((x), (y))
#include "ir/eval_ops.inc"

static double neg_exp(float a_log) { return -exp((double)a_log); }

const IrPrecision ir_precision64 = {
    .ops =
        {
#define IR_OP(name, operands, results, attributes, traits) [IR_OP_##name] = f64_##name,
#include "ir/ops.def"
#undef IR_OP
        },
    .neg_exp = neg_exp,
};
