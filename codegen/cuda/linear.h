/* Maps: what one row or eight (linear.c) and tiles of more rows (gemm.c) share. */
#ifndef MOSSC_CODEGEN_CUDA_LINEAR_H
#define MOSSC_CODEGEN_CUDA_LINEAR_H

#include "codegen/cuda/product.h"

typedef struct CgMap {
    CgCuda *c;
    const PgKernel *k;
    CgProduct product; /* of one row, or eight */
    bool hoisted;      /* x goes to shared memory once a call, not once a tile */
} CgMap;

/* Prints pointers to what is multiplied: x with its norm, the weights, and which rows and experts there are. */
void cg_map_sources(const CgMap *m);
/* Prints pointers to what the epilogue reads and writes: bias, addend, residual, y and so on. */
void cg_map_epilogue_pointers(const CgMap *m);
/* Prints: sum (and sum2) of quad `q` of panel `panel` (of `expert`) become v: bias, convolution, activation, second map. */
void cg_map_value(const CgMap *m);
/* Prints: v goes to row `row` (of `plane`) of y: addends, scale, store. */
void cg_map_store(const CgMap *m);

/* PG_BLOCK, tiles of many rows (CG_MANY), and of few rows by tensor cores. Prints all. */
bool cg_map_in_tiles(const CgMap *m);
void cg_map_tiles(const CgMap *m);
/* Prints what comes behind the weights in cg_cuda_map_ahead (kernels.h). */
void cg_map_tiles_ahead(const CgMap *m);
/* PG_ROW, where all of x fits shared memory: the same. */
bool cg_map_of_row(const CgMap *m);
void cg_map_row(const CgMap *m);
void cg_map_row_ahead(const CgMap *m);

#endif
