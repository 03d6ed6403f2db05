/* Linear layers: what one row or eight (linear.c) and tiles of more rows (gemm.c) share. */
#ifndef MOSSC_CODEGEN_CUDA_LINEAR_H
#define MOSSC_CODEGEN_CUDA_LINEAR_H

#include "codegen/cuda/product.h"

typedef struct CgLinear {
    CgCuda *c;
    const PgKernel *k;
    CgProduct product; /* of one row, or eight */
    bool hoisted;      /* x goes to shared memory once a call, not once a tile */
    bool ahead;        /* of an addend and a residual this quad is known: `addend_ahead` and `residual_ahead` */
} CgLinear;

/* Prints pointers to what is multiplied: x with its norm, the weights, and which rows and experts there are. */
void cg_linear_sources(const CgLinear *m);
/* Whether x has been rounded before (PG_ROUND). */
bool cg_linear_reads_rounded(const PgKernel *k);
/* PG_BLOCK: prints `x_plane`, the tile's plane of x, where x has several. */
void cg_linear_x_plane(const CgLinear *m);
/* Prints pointers to what the epilogue reads and writes: bias, addend, residual, y and so on. */
void cg_linear_epilogue_pointers(const CgLinear *m);
/* Prints: sum (and sum2) of quad `q` of panel `panel` (of `expert`) become v: bias, convolution, activation, second linear layer. */
void cg_linear_value(const CgLinear *m);
/* Prints: v goes to row `row` (of `plane`) of y: addends, scale, store. */
void cg_linear_store(const CgLinear *m);

/* PG_BLOCK, tiles of many rows (CG_MANY), and of few rows by tensor cores. Prints all. */
bool cg_linear_in_tiles(const CgLinear *m);
void cg_linear_tiles(const CgLinear *m);
/* Tiles of the kernel in rows_step whose k several blocks share, each block's part counted; 0: none do. Their sums meet in scratch memory. */
uint32_t cg_linear_shared_tiles(const CgCudaTarget *target, const PgKernel *kernel);
/* Prints what comes behind the weights in cg_cuda_linear_ahead (kernels.h). */
void cg_linear_tiles_ahead(const CgLinear *m);
/* PG_ROW, where all of x fits shared memory: the same. */
bool cg_linear_of_row(const CgLinear *m);
/* Whether each block leaves the best of its logits where pick.cuh finds it. */
bool cg_linear_notes_best(const CgLinear *m);
void cg_linear_row(const CgLinear *m);
void cg_linear_row_ahead(const CgLinear *m);

#endif
