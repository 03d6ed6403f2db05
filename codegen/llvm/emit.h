/* Emission: what every kernel emitter of the LLVM back end writes its code with.
 *
 * An emitter is `void cg_emit_KIND(CgEmit *e)`: it fills the body of the function void k(args, phase, tile0, tile1) of
 * e->kernel; the caller (compile.c) opens the function before and closes it after. Emitters never look at the target except
 * for how many values they keep side by side.
 *
 * Values. A vector is <16 x float> (cg type `vec`), one panel's lanes, which targets with smaller registers split, or a part of it
 * between two calls of cg_set_lanes: functions that make or load a vector go by the lanes that are set. Integers
 * that address memory are i64 and count bytes. Nothing carries a fast-math flag, so the optimiser keeps every rounding; a fused
 * multiply-add is only where cg_fma says so.
 *
 * Where code goes. e->builder appends at the current place. Operand addresses and fields of RtArgs are computed once, in the
 * `entry` block, at their first use (cg_operand, cg_arg_*): they dominate everything and cost nothing inside loops.
 *
 * Memory of operands is 64-aligned, and so is every panel: vector loads and stores say so (of fewer lanes: aligned to their size). */
#ifndef MOSSC_CODEGEN_LLVM_EMIT_H
#define MOSSC_CODEGEN_LLVM_EMIT_H

#include <llvm-c/Core.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codegen/target.h"
#include "codegen/tuning.h"
#include "ir/program.h"

typedef LLVMValueRef CgValue;

enum {
    CG_MAX_CARRIED = 64,
    CG_ARG_SLOTS = 32,
    CG_MAX_SIDE = 8,
    CG_VEC_BYTES = PG_LANES * 4 /* of 16 floats in memory */
};

typedef struct CgEmit {
    const CgTarget *target;
    const PgKernel *kernel;
    CgSchedule schedule;
    LLVMContextRef context;
    LLVMModuleRef module;
    LLVMBuilderRef builder;
    LLVMValueRef function;
    LLVMTypeRef none, i1, i8, i16, i32, i64, f32, ptr;
    LLVMTypeRef vec, ivec, hvec; /* <16 x float>, <16 x i32>, <16 x half>; fewer lanes after cg_set_lanes */
    CgValue args, phase;         /* parameters */
    CgValue tile0, tile1;        /* parameters, as i64 */
    LLVMBasicBlockRef entry;     /* ends in a branch to the body; grows as operands and fields are first used */
    CgValue operand[PG_MAX_OPERANDS];
    CgValue arg[CG_ARG_SLOTS];   /* fields of RtArgs already read, by offset / 4 */
    CgValue tiles;               /* what stands for registers of AMX (codegen/llvm/tiles.h), or NULL */
    uint64_t scratch;            /* bytes of worker scratch taken so far */
    uint32_t groups, claim;      /* for PgCode; 1 unless the emitter says otherwise */
} CgEmit;

/* ---- constants */
CgValue cg_i64(CgEmit *e, uint64_t n);
CgValue cg_i32(CgEmit *e, int32_t n);
CgValue cg_f32(CgEmit *e, float x);
CgValue cg_vec(CgEmit *e, float x);     /* x in every lane */
CgValue cg_ivec(CgEmit *e, int32_t n);  /* n in every lane */
CgValue cg_zero(CgEmit *e);             /* vec of +0 */

/* ---- integers (any integer or integer vector type). Addition and multiplication of addresses never wrap. */
CgValue cg_iadd(CgEmit *e, CgValue a, CgValue b);
CgValue cg_isub(CgEmit *e, CgValue a, CgValue b);
CgValue cg_imul(CgEmit *e, CgValue a, CgValue b);
CgValue cg_udiv(CgEmit *e, CgValue a, CgValue b);
CgValue cg_urem(CgEmit *e, CgValue a, CgValue b);
CgValue cg_iadd_n(CgEmit *e, CgValue a, uint64_t n); /* i64 */
CgValue cg_imul_n(CgEmit *e, CgValue a, uint64_t n); /* i64 */
CgValue cg_udiv_n(CgEmit *e, CgValue a, uint64_t n); /* i64 */
CgValue cg_urem_n(CgEmit *e, CgValue a, uint64_t n); /* i64 */
CgValue cg_umin(CgEmit *e, CgValue a, CgValue b);
CgValue cg_umax(CgEmit *e, CgValue a, CgValue b);
CgValue cg_wide(CgEmit *e, CgValue i32_value);       /* i32, taken as unsigned (indices, counts), to i64 */
CgValue cg_icmp(CgEmit *e, LLVMIntPredicate how, CgValue a, CgValue b);

/* ---- floats, scalar (f32) or vector (vec) alike: IEEE, one rounding each */
CgValue cg_add(CgEmit *e, CgValue a, CgValue b);
CgValue cg_sub(CgEmit *e, CgValue a, CgValue b);
CgValue cg_mul(CgEmit *e, CgValue a, CgValue b);
CgValue cg_div(CgEmit *e, CgValue a, CgValue b);
CgValue cg_fma(CgEmit *e, CgValue a, CgValue b, CgValue c); /* a·b + c with one rounding */
CgValue cg_sqrt(CgEmit *e, CgValue a);
CgValue cg_abs(CgEmit *e, CgValue a);
/* The larger, the smaller one; NaN if either is, -0 below +0. Only where the target has an instruction for it. */
CgValue cg_ieee_max(CgEmit *e, CgValue a, CgValue b);
CgValue cg_ieee_min(CgEmit *e, CgValue a, CgValue b);
/* All bits of a lane where |a| > |b|, an ivec. Only where the target has an instruction for it, and for one of its registers. */
CgValue cg_abs_greater(CgEmit *e, CgValue a, CgValue b);
CgValue cg_fcmp(CgEmit *e, LLVMRealPredicate how, CgValue a, CgValue b);
CgValue cg_select(CgEmit *e, CgValue condition, CgValue yes, CgValue no);
/* a < b ? b : a, so `a` when either is NaN: a comparison and a choice, not maxnum. */
CgValue cg_larger(CgEmit *e, CgValue a, CgValue b);
/* x < low ? low : x, then high < x ? high : x, of a vector: NaN stays. */
CgValue cg_clamp(CgEmit *e, CgValue x, float low, float high);

/* A call of LLVM's intrinsic, which is overloaded on `types`. Arguments are cast to vectors of the same size, where it takes others. */
CgValue cg_intrinsic(CgEmit *e, const char *name, LLVMTypeRef *types, unsigned n_types, CgValue *args, unsigned count);

/* ---- lanes */
/* From here on vectors have `lanes` lanes, a power of two up to 16. For code that keeps more values side by side than registers of a
 * small target hold; whoever sets fewer sets 16 again. */
void cg_set_lanes(CgEmit *e, unsigned lanes);
CgValue cg_splat(CgEmit *e, CgValue scalar); /* f32 or i32 into all lanes */
CgValue cg_splat_lane(CgEmit *e, CgValue vector, unsigned lane); /* one lane of a vector of any size into all lanes */
CgValue cg_concat(CgEmit *e, const CgValue *parts, unsigned count); /* lanes of parts[count] in order; count is a power of two */
CgValue cg_lane(CgEmit *e, CgValue vector, unsigned lane);
CgValue cg_set_lane(CgEmit *e, CgValue vector, CgValue scalar, unsigned lane);
/* The sum of 16 lanes by the tree of the bits: acc_j + acc_{j+8}, then 4, 2, 1. f32. */
CgValue cg_tree_sum(CgEmit *e, CgValue vector);

/* ---- memory. Addresses are base + byte offset. */
CgValue cg_at(CgEmit *e, CgValue base, CgValue bytes); /* bytes: i64 */
CgValue cg_at_n(CgEmit *e, CgValue base, uint64_t bytes);
/* The same address, of which loop optimisers know nothing. For a pointer that a loop carries and many loads stand around at
 * constant offsets: strength reduction would weigh all ways to write them (in time that grows with their square) to find this
 * one again. */
CgValue cg_opaque(CgEmit *e, CgValue address);
CgValue cg_load_vec(CgEmit *e, CgValue address); /* 64-aligned <16 x float> */
CgValue cg_load_ivec(CgEmit *e, CgValue address); /* likewise, of integers */
void cg_store_vec(CgEmit *e, CgValue address, CgValue vector);
CgValue cg_load_vec_unaligned(CgEmit *e, CgValue address); /* 4-aligned */
void cg_store_vec_unaligned(CgEmit *e, CgValue address, CgValue vector);
CgValue cg_load_f32(CgEmit *e, CgValue address);
void cg_store_f32(CgEmit *e, CgValue address, CgValue scalar);
CgValue cg_load_i32(CgEmit *e, CgValue address);
void cg_store_i32(CgEmit *e, CgValue address, CgValue scalar);
CgValue cg_load_i64(CgEmit *e, CgValue address);
CgValue cg_load_ptr(CgEmit *e, CgValue address);
CgValue cg_load_splat(CgEmit *e, CgValue address); /* one float into all lanes */
CgValue cg_load_few(CgEmit *e, CgValue address, unsigned count); /* <count x float>, 4-aligned */
void cg_store_few(CgEmit *e, CgValue address, CgValue few);

/* Loads and stores stay before this place or behind it, and so does what makes a vector that passes it: where sums fill the registers,
 * and everything else could be had early. */
void cg_keep_order(CgEmit *e);
CgValue cg_keep_place(CgEmit *e, CgValue vector);

/* Adds 1 to an i32 that several workers count in; the value before. Who reads it sees all that earlier counters wrote before. */
CgValue cg_count_up(CgEmit *e, CgValue address);

void cg_prefetch(CgEmit *e, CgValue address); /* never faults, wherever it points */

/* Weights of `dtype` (dtypes.c), exactly as floats. A group of k at `address`, not of blocks: out[i] are 16 outputs at its i-th k. */
void cg_load_group(CgEmit *e, IrDtype dtype, CgValue address, CgValue *out /* [IR_MAX_GROUP] */);
/* 16 k of output `lane` (i64) of a panel of K inputs, from 16 · step (i64) on; lanes past `count` are +0. */
CgValue cg_collect(CgEmit *e, IrDtype dtype, int64_t K, CgValue panel, CgValue lane, CgValue step, unsigned count);

/* ---- an array on the stack, 64-aligned: its address */
CgValue cg_var_array(CgEmit *e, LLVMTypeRef type, uint64_t count);

/* ---- control. for i = start; i < end; i += step (i64). May run zero times.
 *
 *     CgLoop loop = cg_for(e, start, end, 1);
 *     CgValue sum = cg_carry(e, &loop, cg_zero(e));      // right after cg_for, before anything else
 *     … loop.index …
 *     cg_next(&loop, sum, cg_add(e, sum, v));
 *     cg_end_for(e, &loop);
 *     … cg_after(&loop, sum) …                           // the last value, or the first one if it never ran
 */
typedef struct CgLoop {
    CgValue index, start, end;
    uint64_t step;
    LLVMBasicBlockRef before, body, after;
    int carried;
    CgValue phi[CG_MAX_CARRIED], first[CG_MAX_CARRIED], next[CG_MAX_CARRIED], last[CG_MAX_CARRIED];
    bool guarded; /* zero runs are possible */
} CgLoop;

CgLoop cg_for(CgEmit *e, CgValue start, CgValue end, uint64_t step);
CgLoop cg_for_n(CgEmit *e, uint64_t count); /* 0 … count-1 */
CgValue cg_carry(CgEmit *e, CgLoop *loop, CgValue first);
void cg_next(CgLoop *loop, CgValue carried, CgValue value);
void cg_end_for(CgEmit *e, CgLoop *loop);
CgValue cg_after(const CgLoop *loop, CgValue carried);

/*     CgIf c = cg_if(e, condition); …; [cg_else(e, &c); …;] cg_end_if(e, &c);
 *     v = cg_join(e, &c, value at the end of then, value at the end of else or before the if);   // right after cg_end_if */
typedef struct CgIf {
    LLVMBasicBlockRef before, other, after, then_end, else_end;
    bool has_else;
} CgIf;

CgIf cg_if(CgEmit *e, CgValue condition);
void cg_else(CgEmit *e, CgIf *c);
void cg_end_if(CgEmit *e, CgIf *c);
CgValue cg_join(CgEmit *e, const CgIf *c, CgValue then_value, CgValue else_value);

/* for tile in [tile0, tile1): loop.index is the tile. */
CgLoop cg_for_tiles(CgEmit *e);

/* ---- the step */
CgValue cg_arg_ptr(CgEmit *e, size_t offset); /* fields of RtArgs by offsetof */
CgValue cg_arg_i64(CgEmit *e, size_t offset); /* a uint64_t field */
CgValue cg_arg_u32(CgEmit *e, size_t offset); /* a uint32_t field, widened to i64 */
CgValue cg_rows(CgEmit *e); /* i64; 1 in PG_ROW */
CgValue cg_ld(CgEmit *e); /* LD: a constant 1 in PG_ROW */
CgValue cg_ldp(CgEmit *e); /* LDP of the kernel's E and k: a constant k in PG_ROW */
CgValue cg_stride(CgEmit *e, PgLayout layout); /* LD, or LDP for positions */
/* Bytes between planes of [panels][LD][16] f32, elements = O; only PG_PLANES has more than one. */
CgValue cg_plane_bytes(CgEmit *e, int64_t elements);

/* Segment `index` (i64): its fields. In PG_ROW the index is 0. */
typedef struct CgSegment {
    CgValue state; /* ptr */
    CgValue position; /* i64 */
    CgValue first_row, count; /* i64 */
} CgSegment;
CgSegment cg_segment(CgEmit *e, CgValue index);

/* Where an operand lies (see PgRef). cg_operand: the arena, the weights, or (PG_ROW only) the state of the one segment.
 * cg_state_operand: the state of a given segment. */
CgValue cg_operand(CgEmit *e, unsigned slot);
CgValue cg_state_operand(CgEmit *e, unsigned slot, const CgSegment *segment);
/* Scratch of the worker, `bytes` of it (rounded up to 64), kept by this kernel for one call. */
CgValue cg_scratch(CgEmit *e, uint64_t bytes);
/* Byte offsets into the group table (PG_BLOCK) of the kernel's E and k: start, expert_of, row_of, pos_of. */
CgValue cg_group_start(CgEmit *e, CgValue table);
CgValue cg_group_expert_of(CgEmit *e, CgValue table);
CgValue cg_group_row_of(CgEmit *e, CgValue table);
CgValue cg_group_pos_of(CgEmit *e, CgValue table);
/* Where `condition` (i1) holds: nonfinite[row] becomes 1 + block of the phase, unless it already says something. */
void cg_nonfinite(CgEmit *e, CgValue row, CgValue condition);

/* ---- functions of the bits (vmath.c): vec to vec, from ir/vmath.inc. For a scalar: cg_splat it and take a lane. */
CgValue cg_exp(CgEmit *e, CgValue x);
CgValue cg_softplus(CgEmit *e, CgValue x);
CgValue cg_wrap(CgEmit *e, CgValue x);
CgValue cg_activation(CgEmit *e, PgActivation act, CgValue x);

/* Several independent vectors, emitted operation by operation: one chain of dependent operations a vector is too few to fill a
 * pipeline, and a processor looks ahead only so far. How many are worth it: target->side. */
typedef struct CgSide {
    int n;
    CgValue v[CG_MAX_SIDE];
} CgSide;
CgSide cg_side_exp_down(CgEmit *e, CgSide x); /* exp, each x <= 0 or NaN */
CgSide cg_side_softplus(CgEmit *e, CgSide x);
CgSide cg_side_activation(CgEmit *e, PgActivation act, CgSide x);
CgSide cg_side_cut(CgEmit *e, CgSide s); /* |s| < 2^-80 becomes +0 */

/* ---- pieces that several emitters share */

/* rms or layer norm (kernel->norm, ->eps) of one row of n elements: reads panel p at x + p·x_step bytes, writes it to y +
 * p·y_step; w, b: [panels][16]. Lanes past n take no part in the sums; they come out as what w and b hold there, which is zero.
 * (norm.c) */
void cg_norm_row(CgEmit *e, CgValue x, CgValue x_step, CgValue w, CgValue b, CgValue y, CgValue y_step, int64_t n);
/* Softmax over n scores in place, in index order (scores: n floats, room for a multiple of 16, 64-aligned).  (route.c) */
void cg_softmax_row(CgEmit *e, CgValue scores, int64_t n);
/* The k largest of scores[n] (+ select_bias[n] unless NULL; both 64-aligned, room for a multiple of 16) in rising order of
 * index, ties to the lower: expert_indices[k] i32; of kernel->expert_groups only the kernel->top_groups best, if any. Takes NaN for the
 * smallest; always writes k distinct indices.  (route.c) */
void cg_select_row(CgEmit *e, CgValue scores, CgValue select_bias, int64_t n, int64_t k, CgValue expert_indices);
/* combine_weights[k] from p[E] at expert_indices[k]: kernel->normalize, ->scaled, ->scale.  (route.c) */
void cg_combine_weights_row(CgEmit *e, CgValue p, CgValue expert_indices, int64_t k, CgValue combine_weights);

#endif
