/* Weights of q8 and q4: their scales as lanes, and the weights themselves as floats. */
#ifndef MOSSC_CODEGEN_LLVM_BLOCKS_H
#define MOSSC_CODEGEN_LLVM_BLOCKS_H

#include "codegen/llvm/emit.h"

/* Scales of 16 outputs in a group: w = d·q (m NULL), or w = d·q + m, where d is q4's d·s and m its -(m·t). All of them are exact. */
typedef struct CgScales {
    CgValue d, m;
} CgScales;

/* What eight groups of q4 share, groups 8·run … (i64) of a panel of `groups`: d and -m. Of q8: nothing. */
CgScales cg_shared_scales(CgEmit *e, IrDtype dtype, CgValue panel, uint64_t groups, CgValue run);
/* Of the group at `group`. */
CgScales cg_group_scales(CgEmit *e, IrDtype dtype, CgValue group, const CgScales *shared);
/* (d·s)·n - (m·t)·p of the group of q4 at `group`, each product rounded once, as docs/bits.md has it: s·n and m·t are exact. n: an ivec,
 * Σ q·p; p_sum: Σ p in all lanes. */
CgValue cg_q4_sums(CgEmit *e, CgValue group, const CgScales *shared, CgValue n, CgValue p_sum);

/* An ivec of pairs of bf16 as floats: out[0] of the low halves, which are of the earlier k, out[1] of the high ones. (dtypes.c) */
void cg_bf16_halves(CgEmit *e, CgValue pairs, CgValue out[2]);

/* Writes the weights of group `g` (i64) of a panel of K inputs to `out` as floats [32][16]. */
void cg_widen_group(CgEmit *e, IrDtype dtype, int64_t K, CgValue panel, CgValue g, CgValue out);

/* 16 k of output `lane` (i64) of a panel of K inputs, from 16 · step (i64) on. */
CgValue cg_collect_q8(CgEmit *e, int64_t K, CgValue panel, CgValue lane, CgValue step);
CgValue cg_collect_q4(CgEmit *e, int64_t K, CgValue panel, CgValue lane, CgValue step);

#endif
