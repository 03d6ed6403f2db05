/* From a program to the image that a GPU runs: printed (codegen/cuda/cuda.h), then compiled by NVRTC or found in the kernel cache.
 *
 * An entry of the cache is found by the text and by what is asked of it. It says which NVRTC made it: one of another NVRTC is made
 * anew, and taken as it is where there is none, so that a machine with a filled cache needs a driver only. */
#ifndef MOSSC_CODEGEN_CUDA_COMPILE_H
#define MOSSC_CODEGEN_CUDA_COMPILE_H

#include "codegen/cache.h"
#include "codegen/cuda/cuda.h"
#include "codegen/cuda/nvrtc.h"

/* What the image shall be. */
typedef enum CgCudaOutput {
    CG_CUDA_RUNS,  /* whatever runs on the target: machine code, or PTX where the GPU is newer than the NVRTC */
    CG_CUDA_CUBIN, /* machine code */
    CG_CUDA_PTX    /* PTX, which the drivers of later GPUs take too: of the target without its suffix */
} CgCudaOutput;

typedef struct CgCudaOptions {
    CgCudaOutput output;
    CgCache *cache; /* or NULL */
    SuText *log;    /* gets the assembler's report of registers and spills when NVRTC compiles machine code; or NULL */
} CgCudaOptions;

typedef struct CgCudaCode {
    char *image;      /* malloced; PTX ends in a NUL, which counts */
    size_t size;
    CgNvrtcForm form;
    CgCudaArchitecture architecture; /* that it was compiled for; below the target's where NVRTC knows no newer one */
    bool found;       /* in the cache */
    double seconds;   /* that NVRTC took; 0: it was not needed */
    CgCudaPlan plan;
    SuArena arena;    /* of the plan */
} CgCudaCode;

/* options NULL: all of it zero. An error of NVRTC carries its log and the line of the spec. */
bool cg_cuda_compile(const CgCudaTarget *target, const PgProgram *program, const CgCudaOptions *options, CgCudaCode *out,
                     SuDiags *diags);
/* {0} is fine. */
void cg_cuda_code_free(CgCudaCode *code);

#endif
