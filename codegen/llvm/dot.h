/* Products of bytes: what q8 and q4 weights (ir/quant.h) times inputs of 8 bits come to, as integers and so exactly. Whatever differs
 * between processors stands in dot.c; who calls it sees runs of four k of 16 outputs.
 *
 * Runs are multiplied two at a time: those at k and k + 4 of q8, those in the low and in the high halves of the bytes of q4. A sum
 * begins for a group of 32 and ends with it. It is handed over as a float that is CG_DOT_BASE more than it: an integer added to the
 * bits of that float adds to its value, and so nothing is converted. A factor takes the base off again, exactly:
 *
 *     d·n = fma(d, base + n, -(d·base))      where d·base is exact: d has at most 17 bits, the base has two
 */
#ifndef MOSSC_CODEGEN_LLVM_DOT_H
#define MOSSC_CODEGEN_LLVM_DOT_H

#include "codegen/llvm/emit.h"

#define CG_DOT_BASE 12582912.0f /* 1.5 · 2^23: |n| < 2^22 */

enum { CG_DOT_PAIRS = 4, CG_DOT_PARTS = 4, CG_RUN = 4 /* k */ };

/* 64 bytes in registers of the target: four k of each of 16 outputs, or four inputs 16 times. */
typedef struct CgBytes {
    CgValue part[CG_DOT_PARTS];
} CgBytes;

/* Integers of 16 outputs on their way; `high` where a register of products makes two of sums. */
typedef struct CgDot {
    CgValue low[CG_DOT_PARTS], high[CG_DOT_PARTS];
} CgDot;

/* The two runs of pair `pair` of a group (of 4) at `group`. */
void cg_dot_weights(CgEmit *e, IrDtype dtype, CgValue group, unsigned pair, CgBytes out[2]);
/* k of the first input of either run, within the group. */
unsigned cg_dot_k(IrDtype dtype, unsigned pair, unsigned run);
/* Four inputs that lie in the i32 `four`, or in lane `lane` of the vector of i32 `four`. */
CgBytes cg_dot_input(CgEmit *e, CgValue four, int lane /* -1: `four` is an i32 */);
/* An empty sum. p_sum: the sum of the group's inputs, a float in every lane. */
CgDot cg_dot_start(CgEmit *e, IrDtype dtype, CgValue p_sum);
void cg_dot_add(CgEmit *e, IrDtype dtype, const CgBytes w[2], const CgBytes x[2], CgDot *sum);
CgValue cg_dot_end(CgEmit *e, IrDtype dtype, const CgDot *sum); /* vec: CG_DOT_BASE + Σ q·p */

#endif
