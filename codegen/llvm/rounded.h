/* Rows of 8 bits per group of 32 (ir/program.h, "rounded"): made by round.c, read by linear.c. */
#ifndef MOSSC_CODEGEN_LLVM_ROUNDED_H
#define MOSSC_CODEGEN_LLVM_ROUNDED_H

#include "codegen/llvm/emit.h"

/* A row: its first group, and the bytes to the next one. The rows behind it lie IR_GROUP bytes on, their scales and sums one
 * float on. */
typedef struct CgRounded {
    CgValue p, scale, sum;
    CgValue p_step, scale_step;
} CgRounded;

/* Row `row` of a plane in which `ld` (both i64) rows of K elements stand. */
CgRounded cg_rounded_at(CgEmit *e, CgValue plane, CgValue ld, CgValue row, int64_t K);

/* Rounds a row: panel i of 16 inputs at x + i·x_step. */
void cg_round_row(CgEmit *e, CgValue x, CgValue x_step, int64_t K, const CgRounded *to);
/* Copies a row from one plane to another. */
void cg_copy_rounded(CgEmit *e, const CgRounded *from, const CgRounded *to, int64_t K);

#endif
