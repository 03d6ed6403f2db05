/* The emitters: one row for each kind of kernel. A kind without its emitter does not link. */
#ifndef MOSSC_CODEGEN_CUDA_KERNELS_H
#define MOSSC_CODEGEN_CUDA_KERNELS_H

#include "codegen/cuda/emit.h"

#define PG_KERNEL(NAME, name) void cg_cuda_##name(CgCuda *c);
#include "ir/kernel_kinds.def"

/* route_batch.c: PG_ROUTE in a launch of its own. */
void cg_cuda_route_rows(CgCuda *c);
/* Pointers of PG_ROUTE, as far as the kernel has them. */
void cg_cuda_route_operands(CgCuda *c);
/* route.c: declares `keys`, what experts of a row are chosen by: `scores` (+ select_bias), and which groups are closed, in `closed` of
 * shared memory. All `count` threads of which this one is number `me` take part; `sync` is their barrier. */
void cg_cuda_route_keys(CgCuda *c, const char *scores, bool bias, const char *closed, const char *me, const char *count,
                        const char *sync);
/* attention_prefill.c: PG_ATTEND in a launch of its own, if heads are not too large for it; the text knows sizes, q and y. */
bool cg_cuda_attends_rows(const PgKernel *kernel);
void cg_cuda_attend_rows(CgCuda *c);

/* Prints the body of `u32 kN_ahead(step, phase, first)`, which asks for the first weights that block's tiles of the phase read, before
 * the phase may begin, and returns the phase's tiles. false: nothing is known of them before (a route chooses them, or no linear layer). */
bool cg_cuda_linear_ahead(CgCuda *c);

#endif
