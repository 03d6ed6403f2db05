/* Rows of 8 bits per group of 32, and of bf16 (ir/program.h, "rounded"): made by round.c, read by linear.c. */
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

/* Rows of bf16: groups of 32 elements, those of all rows of a plane side by side. */
enum { CG_BF16_GROUP = IR_GROUP * 2 /* bytes */ };
/* The first group of row `row` (i64) of a plane; the next one is as many groups on as rows stand side by side. */
CgValue cg_bf16_row(CgEmit *e, CgValue plane, CgValue row);
/* Copies a row of K elements, whose groups lie `from_step` bytes apart. */
void cg_copy_bf16(CgEmit *e, CgValue from, CgValue from_step, CgValue to, CgValue to_step, int64_t K);

#endif
