/* Linear layers in tiles of rows: what tiles by a block's warps (gemm.c) and by warpgroups (warpgroup.c) share. */
#ifndef MOSSC_CODEGEN_CUDA_TILES_H
#define MOSSC_CODEGEN_CUDA_TILES_H

#include "codegen/cuda/linear.h"

enum { CG_TILE_SLOTS = 8 /* panels of weights that a tile of many rows multiplies with: product.cuh */ };

typedef struct CgTiles {
    const CgLinear *m;
    CgCuda *c;
    const PgKernel *k;
    uint64_t slots, slots_of_tile, groups; /* of the linear layer, of a tile; tiles that have all of them */
    uint64_t first_groups; /* of them those of W where there are W and W2 side by side (PgKernel.first_O); else 0 */
    int rows; /* of a tile */
    int split; /* CG_FEW: warps that share the k of two slots */
    int parts; /* CG_FEW: blocks that share the k of a tile; else 1 */
    int stages; /* CG_MANY */
    bool tensor; /* by tensor cores; else float */
    const char *type; /* of weights: "BF16" */
} CgTiles;

/* Rows of a tile, `most` or a half, a quarter … of it, not below `least`: as many as leave a tile for each multiprocessor in a step of
 * `typical` rows; chosen experts should have two tiles of them. */
int cg_tiles_fitting_rows(const CgTiles *t, int most, int least, int typical);

/* Prints K, PANELS, GROUPS, SIDE and ROWS. */
void cg_tiles_constants(const CgTiles *t);
/* Prints `place` of `tile`, and what follows from it: expert, plane, x_plane. A tile without rows is left out. */
void cg_tiles_place(const CgTiles *t);
/* Prints expert and plane of `place`. */
void cg_tiles_expert(const CgTiles *t);
/* Prints `slots` and `rows` of the place: the operands must be known. */
void cg_tiles_slots(const CgTiles *t);
void cg_tiles_rows(const CgTiles *t);
/* Prints, in a loop over quads `i` of the tile: panel, row and q of the quad, and that the loop ends, or goes on, where there is none; then
 * how its sums become y. */
void cg_tiles_quad_place(const CgTiles *t);
void cg_tiles_quad(const CgTiles *t);
/* Prints the loop: how `sums` of the place become y, by THREADS. With PG_STEP_CONV also `value_of(side, r, q)`, what the convolution takes of a
 * row of the tile, before it, and behind it how histories move on. */
void cg_tiles_epilogue(const CgTiles *t);

/* warpgroup.c: CG_MANY with 16-bit weights where the target has warpgroups, if the shape fits. Prints all, in two parts. */
bool cg_linear_by_warpgroups(const CgLinear *m);
void cg_linear_warpgroups(const CgLinear *m);

#endif
