/* Products of bytes: what q8 and q4 weights (ir/quant.h) times inputs of 8 bits come to, as integers and so exactly. Whatever differs
 * between processors stands in dot.c; who calls it sees runs of four k of 16 outputs.
 *
 * A group of 32 has eight runs, which are multiplied in order, one at a time or two (cg_dot_runs). Those of q4 are in turn the low and
 * the high halves of the same bytes. A sum begins for a group and ends with it. It is handed over as a float that is CG_DOT_BASE more than it: an integer added to the
 * bits of that float adds to its value, and so nothing is converted. A factor takes the base off again, exactly:
 *
 *     d·n = fma(d, base + n, -(d·base))      where d·base is exact: d has at most 17 bits, the base has two
 */
#ifndef MOSSC_CODEGEN_LLVM_DOT_H
#define MOSSC_CODEGEN_LLVM_DOT_H

#include "codegen/llvm/emit.h"

#define CG_DOT_BASE 12582912.0f /* 1.5 · 2^23: |n| < 2^22 */

enum { CG_GROUP_RUNS = 8, CG_RUN = 4 /* k */, CG_MAX_RUNS = 2, CG_DOT_PARTS = 4 };

/* 64 bytes in registers of the target: four k of each of 16 outputs, or four inputs 16 times. */
typedef struct CgBytes {
    CgValue part[CG_DOT_PARTS];
} CgBytes;

/* Integers of 16 outputs on their way; `high` where a register of products makes two of sums. */
typedef struct CgDot {
    CgValue low[CG_DOT_PARTS], high[CG_DOT_PARTS];
} CgDot;

/* How many runs are multiplied at a time. */
unsigned cg_dot_runs(const CgEmit *e);
/* How many rows a product takes: 1, or 2 in blocks of rows where the target has such an instruction. Then a sum has outputs and rows as
 * codegen/llvm/arranged.h says, and a run has eight k of eight outputs. */
unsigned cg_dot_rows(const CgEmit *e);
/* Run `run` of the group at `group`; k of its first input within the group. */
CgBytes cg_dot_weights(CgEmit *e, IrDtype dtype, CgValue group, unsigned run);
unsigned cg_dot_k(IrDtype dtype, unsigned run);
unsigned cg_dot_run_of(IrDtype dtype, unsigned k);
/* Two runs of 16 outputs and four k to two of 8 outputs and eight k. */
void cg_dot_pair_weights(CgEmit *e, CgBytes w[2]);
/* 64 bytes at a 64-aligned address. */
void cg_dot_store(CgEmit *e, const CgBytes *bytes, CgValue address);
CgBytes cg_dot_load(CgEmit *e, CgValue address);
/* Four inputs that lie in the i32 `four`, or in lane `lane` of the vector of i32 `four`. */
CgBytes cg_dot_input(CgEmit *e, CgValue four, int lane /* -1: `four` is an i32 */);
/* Eight inputs of two rows: from lane `lane` on of the vectors of i32 `a` and `b`. */
CgBytes cg_dot_pair_input(CgEmit *e, CgValue a, CgValue b, unsigned lane);
/* An empty sum. p_sum: the sum of the group's inputs, a float in every lane; NULL: the sum, of q4, ends as integers. */
CgDot cg_dot_start(CgEmit *e, IrDtype dtype, CgValue p_sum);
/* Adds cg_dot_runs of them. */
void cg_dot_add(CgEmit *e, IrDtype dtype, const CgBytes *w, const CgBytes *x, CgDot *sum);
/* Leaves the sum where it is (cg_keep_place). */
void cg_dot_keep_place(CgEmit *e, CgDot *sum);
CgValue cg_dot_end(CgEmit *e, IrDtype dtype, const CgDot *sum); /* vec: CG_DOT_BASE + Σ q·p */
CgValue cg_dot_end_integers(CgEmit *e, IrDtype dtype, const CgDot *sum); /* ivec: Σ q·p */

#endif
