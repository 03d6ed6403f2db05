/* The evaluator in double: the oracle for meaning, with the C library's functions. It leaves out what only floats need: states are
 * never cut. */
#include <math.h>
#include <string.h>

#include "ir/eval_impl.h"

static double silu(double x) { return x / (1 + exp(-x)); }
static double gelu(double x) { return 0.5 * x * (1 + erf(x * M_SQRT1_2)); }
static double gelu_tanh(double x) { return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
static double relu2(double x) { return x > 0 ? x * x : x * 0; /* NaN stays */ }
static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
static double softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

#define REAL double
#define FN(name) f64_##name
#define R_FMA(a, b, c) ((a) * (b) + (c))
#define R_SQRT(x) sqrt(x)
#define R_EXP(x) exp(x)
#define R_CUT(x) (x)
#define R_COS(x) cos(x)
#define R_SIN(x) sin(x)
#define R_POW(x, y) pow((x), (y))
#define R_silu(x) silu(x)
#define R_gelu(x) gelu(x)
#define R_gelu_tanh(x) gelu_tanh(x)
#define R_relu2(x) relu2(x)
#define R_sigmoid(x) sigmoid(x)
#define R_softplus(x) softplus(x)
#define R_exp(x) exp(x)
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
