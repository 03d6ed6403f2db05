/* Kernels that do one thing as fast as a GPU can, for the rates that a model is held against (codegen/limits.h has the CPU's). An
 * entry is `entry(float *out, u32 rounds)` with CgCudaTarget.threads threads a block and any number of blocks; `out` has room for a
 * float of each thread. */
#ifndef MOSSC_CODEGEN_CUDA_LIMITS_H
#define MOSSC_CODEGEN_CUDA_LIMITS_H

#include "codegen/cuda/cuda.h"

typedef enum CgCudaLimitKind {
    CG_CUDA_LIMIT_MMA, /* tensor cores: bf16 with float sums, m16n8k16 */
    CG_CUDA_LIMIT_FMA, /* multiply-adds of floats */
    CG_CUDA_LIMIT_EXP, /* ex2.approx of the special-function units */
    CG_CUDA_LIMIT_KINDS
} CgCudaLimitKind;

typedef struct CgCudaLimit {
    const char *entry; /* NULL: the target's linear layers do not use such a thing */
    double work;       /* FLOPs or exps of a thread in a round */
} CgCudaLimit;

CgCudaLimit cg_cuda_limit(const CgCudaTarget *target, CgCudaLimitKind kind);
void cg_cuda_print_limits(const CgCudaTarget *target, SuText *out);
/* The image: machine code, or PTX where NVRTC does not know the target yet. */
bool cg_cuda_compile_limits(const CgCudaTarget *target, SuText *out_image, SuDiags *diags);

#endif
