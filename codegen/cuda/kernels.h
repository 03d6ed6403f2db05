/* The emitters: one row for each kind of kernel. A kind without its emitter does not link. */
#ifndef MOSSC_CODEGEN_CUDA_KERNELS_H
#define MOSSC_CODEGEN_CUDA_KERNELS_H

#include "codegen/cuda/emit.h"

#define CG_CUDA_KERNELS(ROW)                                                                                                       \
    ROW(PG_EMBED, cg_cuda_embed)                                                                                                   \
    ROW(PG_NORM, cg_cuda_norm)                                                                                                     \
    ROW(PG_LINEAR, cg_cuda_linear)                                                                                                 \
    ROW(PG_ROUTE, cg_cuda_route)                                                                                                   \
    ROW(PG_GROUP, cg_cuda_group)                                                                                                   \
    ROW(PG_COMBINE, cg_cuda_combine)                                                                                               \
    ROW(PG_CONV, cg_cuda_conv)                                                                                                     \
    ROW(PG_SCAN, cg_cuda_scan)                                                                                                     \
    ROW(PG_KV_STORE, cg_cuda_kv_store)                                                                                             \
    ROW(PG_ATTEND, cg_cuda_attend)                                                                                                 \
    ROW(PG_ELEMENTWISE, cg_cuda_elementwise)                                                                                       \
    ROW(PG_SLICE, cg_cuda_slice)                                                                                                   \
    ROW(PG_SOFTMAX, cg_cuda_softmax)                                                                                               \
    ROW(PG_SELECT, cg_cuda_select)                                                                                                 \
    ROW(PG_GATES, cg_cuda_gates)                                                                                                   \
    ROW(PG_MIX, cg_cuda_mix)                                                                                                       \
    ROW(PG_OUTER, cg_cuda_outer)                                                                                                   \
    ROW(PG_INJECT, cg_cuda_inject)                                                                                                 \
    ROW(PG_RECUR, cg_cuda_recur)                                                                                                   \
    ROW(PG_CONTRACT, cg_cuda_contract)

/* route_batch.c: PG_ROUTE in a launch of its own. */
void cg_cuda_route_rows(CgCuda *c);
/* Pointers of PG_ROUTE, as far as the kernel has them. */
void cg_cuda_route_operands(CgCuda *c);
/* attention_prefill.c: PG_ATTEND in a launch of its own, if heads are not too large for it; the text knows sizes, q and y. */
bool cg_cuda_attends_rows(const PgKernel *kernel);
void cg_cuda_attend_rows(CgCuda *c);

#define CG_DECLARE(kind, emitter) void emitter(CgCuda *c);
CG_CUDA_KERNELS(CG_DECLARE)
#undef CG_DECLARE

/* Prints the body of `u32 kN_ahead(step, phase, first)`, which asks for the first weights that block's tiles of the phase read, before
 * the phase may begin, and returns the phase's tiles. false: nothing is known of them before (a route chooses them, or no linear layer). */
bool cg_cuda_linear_ahead(CgCuda *c);

#endif
