/* Printing kernels: what the emitters of this back end share.
 *
 * An emitter is `void cg_cuda_KIND(CgCuda *c)`: it prints the body of
 *
 *   u32 kN(const PN *phase, u32 first)
 *
 * (`step` is known in it), which does the phase's tiles first, first + gridDim.x, … and returns how many tiles the phase has. All threads of a block enter
 * together. `shared` is the block's shared memory, declared in every function (a pointer that is handed over would be slower); it is free for others after a
 * barrier, so a kernel that uses it begins each tile with one (cg_cuda_tiles does). Constants are printed by name (an enum), conditions of PgKernel are decided here.
 *
 * A kernel of PG_BLOCK is printed in two forms: CG_FEW is part of the persistent launch of at most CG_CUDA_FEW_ROWS rows, where a
 * tile may not wait for another; CG_MANY is launched by itself. Where both print the same text it stands once. In CG_MANY a kernel
 * may take several launches, which see each other's results: the emitter sets `parts` and is called again for parts 1, 2, … */
#ifndef MOSSC_CODEGEN_CUDA_EMIT_H
#define MOSSC_CODEGEN_CUDA_EMIT_H

#include "codegen/cuda/words.h"

enum { CG_CUDA_HELD = 1152 /* bytes of shared memory in front of what kernels use: prelude.cuh, Held */ };

/* Bytes of shared memory of a linear layer in rows_step, for x and then the sums: at least the sums of 16 panels and 64 rows. */
uint32_t cg_cuda_few_bytes(const CgCudaTarget *target);

typedef enum CgCudaForm { CG_ONE, CG_FEW, CG_MANY, CG_FORMS } CgCudaForm; /* CG_ONE: PG_ROW */

typedef struct CgCuda {
    const CgCudaTarget *target;
    const PgKernel *kernel;
    SuText *out;
    CgCudaForm form;
    int part;
    bool whole_k;    /* a linear layer whose k blocks may not share */
    bool x_words;    /* a linear layer whose x are words (words.h) */
    CgWords y_words; /* how Y is written: by cg_cuda_put */
    uint64_t words_panels; /* of Y, the first ones, that words are of; 0: all. Of linear layers alone */
    IrDtype words_of; /* the weights that Y's words are multiplied with */
    /* what the emitter says; cg_cuda_tiles sets the tiles */
    int parts;           /* 1, unless the emitter says more */
    bool two_blocks;     /* CG_MANY: made for two blocks a multiprocessor, at most 128 registers */
    bool warpgroups;     /* CG_MANY: blocks have CG_CUDA_WARPGROUP_THREADS threads */
    uint64_t shared;     /* bytes of shared memory that the kernel takes */
    uint64_t groups;     /* tiles = ceil(count / per_tile) · PgPhase.fixed · groups + surplus; see RtCudaLaunch */
    uint64_t per_tile, surplus;
    uint64_t scratch_per_row, scratch_per_segment,
        scratch_fixed; /* bytes of RtArgs.scratch that one phase needs; see RtCudaImage */
} CgCuda;

/* Adds text. */
void cg_cu(CgCuda *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A name for `bytes` of shared memory: "float *NAME = …" at the function's beginning. */
void cg_cuda_shared(CgCuda *c, const char *type, const char *name, uint64_t bytes);

/* ld, and ldp where the kernel has positions. Goes before what uses them. */
void cg_cuda_strides(CgCuda *c);
/* The loop over tiles, with a barrier at its beginning, and its end with the end of the function. A tile of the phase is taken as
 * `groups` tiles; cg_cuda_tiles_of takes `per_tile` units of the phase's count (blocks of 8 rows, mostly) as one, and adds `surplus`. */
void cg_cuda_tiles(CgCuda *c, uint64_t groups);
void cg_cuda_tiles_of(CgCuda *c, uint64_t per_tile, uint64_t groups, uint64_t surplus);
void cg_cuda_end_tiles(CgCuda *c);
/* cg_cuda_tiles_of in two: `tiles`, for what comes before the loop, and the loop. */
void cg_cuda_count_tiles(CgCuda *c, uint64_t per_tile, uint64_t groups, uint64_t surplus);
void cg_cuda_tile_loop(CgCuda *c);
/* `Groups groups = …` from an operand. */
void cg_cuda_groups(CgCuda *c, int operand);

/* `float *words`, where Y is written as words. */
void cg_cuda_words(CgCuda *c);
/* Stores of Y, as a value, as words or both: v at y[at], element `i` of row `row`, where rows are `stride` apart and `base` (text, "" for none)
 * floats behind Y's beginning; or quad `q` of panel `panel`. All are expressions of the text. */
void cg_cuda_put(CgCuda *c, const char *base, const char *stride, const char *at, const char *row, const char *i, const char *v);
/* The same of a quad, where values are written at `y`, another pointer of the text. */
void cg_cuda_put_quad_to(CgCuda *c, const char *y, const char *base, const char *stride, const char *at, const char *row,
                         const char *panel, const char *v);
void cg_cuda_put_to(CgCuda *c, const char *y, const char *base, const char *stride, const char *at, const char *row, const char *i,
                    const char *v);
void cg_cuda_put_quad(CgCuda *c, const char *base, const char *stride, const char *at, const char *row, const char *panel,
                      const char *v);

/* PgKernel.norm_behind: prints `norm_w`, `squares` and, where SCALED are values, `scaled`; Y's words are SCALED's. */
void cg_cuda_norm_behind(CgCuda *c);

const char *cg_cuda_type(IrDtype dtype); /* "BF16": of weights.cuh */
const char *cg_cuda_stride(PgLayout layout); /* "ld" or "ldp" */
const char *cg_cuda_act(PgActivation act);
const char *cg_cuda_truth(bool condition); /* "true" */
/* A float as C reads it back: "1.5f", exactly. */
const char *cg_cuda_float(double x, char out[48]);
/* Prints the expression of x (C text) held between the kernel's low and high, the latter possibly infinite. */
void cg_cuda_held(CgCuda *c, const char *x);

/* The expression that finds a value in a layout. Names in it: row, position, expert, as far as the layout needs them. */
typedef struct CgCudaPlace {
    char text[256];
} CgCudaPlace;
CgCudaPlace cg_cuda_index(PgLayout layout, uint64_t panels, uint64_t N, const char *panel, const char *n, const char *lane);

#endif
