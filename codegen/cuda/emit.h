/* Printing kernels: what the emitters of this back end share.
 *
 * An emitter is `void cg_cuda_KIND(CgCuda *c)`: it prints the body of
 *
 *   u32 kN(const Step *step, const Phase *phase, u32 first, u8 *shared)
 *
 * which does the phase's tiles first, first + gridDim.x, … and returns how many tiles the phase has. All threads of a block enter
 * together. `shared` is the block's shared memory; it is free for others after a barrier, so a kernel that uses it begins each tile
 * with one (cg_cuda_tiles does). Constants are printed by name (an enum), conditions of PgKernel are decided here. */
#ifndef MOSSC_CODEGEN_CUDA_EMIT_H
#define MOSSC_CODEGEN_CUDA_EMIT_H

#include "codegen/cuda/cuda.h"

typedef struct CgCuda {
    const CgCudaTarget *target;
    const PgKernel *kernel;
    SuText *out;
    uint64_t shared; /* bytes of shared memory that the kernel takes */
} CgCuda;

/* Adds text. */
void cg_cu(CgCuda *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A name for `bytes` of shared memory: "float *NAME = …" at the function's beginning. */
void cg_cuda_shared(CgCuda *c, const char *type, const char *name, uint64_t bytes);

/* ld, and ldp where the kernel has positions. Goes before what uses them. */
void cg_cuda_strides(CgCuda *c);
/* The loop over tiles, with a barrier at its beginning, and its end with the end of the function. A tile of the phase is taken as
 * `groups` tiles. */
void cg_cuda_tiles(CgCuda *c, uint64_t groups);
void cg_cuda_end_tiles(CgCuda *c);
/* `Groups groups = …` from an operand. */
void cg_cuda_groups(CgCuda *c, int operand);

const char *cg_cuda_dtype(PgDtype dtype);          /* "f32" */
const char *cg_cuda_stride(PgLayout layout);       /* "ld" or "ldp" */
const char *cg_cuda_act(PgActivation act);         /* "vm_silu"; "" for none */
uint64_t cg_cuda_panel_bytes(PgDtype dtype, int64_t K);
/* A float as C reads it back: "1.5f", exactly. */
const char *cg_cuda_float(double x, char out[48]);

/* The expression that finds a value in a layout. Names in it: row, position, expert, as far as the layout needs them. */
typedef struct CgCudaPlace {
    char text[256];
} CgCudaPlace;
CgCudaPlace cg_cuda_index(PgLayout layout, uint64_t panels, uint64_t N, const char *panel, const char *n, const char *lane);

#endif
