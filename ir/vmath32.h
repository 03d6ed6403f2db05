/* ir/vmath.inc for C floats: vm_exp, vm_softplus, vm_silu … These define the bits. Compile with -ffp-contract=off. */
#ifndef MOSSC_IR_VMATH32_H
#define MOSSC_IR_VMATH32_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float vm_exponent(float t) {
    uint32_t bits;
    memcpy(&bits, &t, sizeof bits);
    bits <<= 23;
    memcpy(&t, &bits, sizeof t);
    return t;
}

#define VM_T float
#define VM_FN(name) vm_##name
#define VM_PARAMS
#define VM_ARGS
#define VM_C(c) (c)
#define VM_ADD(a, b) ((a) + (b))
#define VM_SUB(a, b) ((a) - (b))
#define VM_MUL(a, b) ((a) * (b))
#define VM_DIV(a, b) ((a) / (b))
#define VM_FMA(a, b, c) fmaf((a), (b), (c))
#define VM_NEG(a) (-(a))
#define VM_ABS(a) fabsf(a)
#define VM_SEL_LT(a, b, x, y) ((a) < (b) ? (x) : (y))
#define VM_EXPONENT(t) vm_exponent(t)
#include "ir/vmath.inc"

#endif
