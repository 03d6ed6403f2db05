/* W · x for a tile: `side` panels of a block's warps with one row or eight (product.c). */
#ifndef MOSSC_CODEGEN_CUDA_PRODUCT_H
#define MOSSC_CODEGEN_CUDA_PRODUCT_H

#include "codegen/cuda/emit.h"

typedef struct CgProduct {
    CgCuda *c;
    int rows;                        /* of x in shared memory: 1 or 8 */
    int split, side;                 /* warps of a panel; panels of a block: split · side = WARPS */
    uint64_t panels, groups;         /* of the linear layer; ceil(panels / side) */
    uint64_t K, chunk;               /* inputs; how many of them are in shared memory at a time */
    const char *stride;              /* of x */
    bool expert;                     /* w is [expert][panels]…; the text knows an `expert` */
    bool dual;                       /* w2 beside w: sum2 beside sum */
    bool normed;                     /* x goes through the norm: norm_w and norm_b are known (PG_ROW) */
} CgProduct;

/* The shape for a matrix of O × K in the kernel's mode and dtype. */
CgProduct cg_product(CgCuda *c, int64_t O, int64_t K, const char *stride);
/* One row at a time in PG_BLOCK too (routers). */
CgProduct cg_product_of_one_row(CgCuda *c, int64_t O, int64_t K, const char *stride);
/* Prints constants, shared memory, and where this thread stands: lane, q = lane % 4, part. */
void cg_product_begin(const CgProduct *p);
/* Prints how the only row of `x` goes to shared memory once for all tiles, through the norm. For a chunk that holds all of K. */
void cg_product_hoist(const CgProduct *p, const char *x);
/* Prints `float4 sum` (and sum2) of the panel `panel`, which the lanes that hold a result (linear.c) have. `row` of x may use r, one
 * of eight (PG_BLOCK). x NULL: it is hoisted. */
void cg_product_sums(const CgProduct *p, const char *x, const char *row);

#endif
