/* The CUDA back end: prints CUDA C for the kernels of a program, one text a program.
 *
 * The text includes nothing and names no library: NVRTC compiles it (codegen/cuda/nvrtc.h), and so does a C++ compiler with
 * tests/simt/simt.h, which runs it on a CPU. It holds the entries
 *
 *   row_step(const Step *step, u32 *arrived)      PG_ROW: all phases; a cooperative launch of any number of blocks; *arrived is 0
 *   block_kN(const Step *step, u32 phase)         PG_BLOCK: one phase that runs kernel N, with any number of blocks
 *
 * where Step is RtArgs with pointers of the device, N indexes PgProgram.kernels and `phase` PgStep.phases. Every launch has
 * CgCudaTarget.threads threads a block. Results agree with the evaluators within tolerance: sums have an order of their own. */
#ifndef MOSSC_CODEGEN_CUDA_CUDA_H
#define MOSSC_CODEGEN_CUDA_CUDA_H

#include "ir/program.h"
#include "support/diag.h"
#include "support/str.h"

typedef struct CgCudaTarget {
    char name[32];      /* "cuda:sm_90" */
    int architecture;   /* 90 */
    int threads;        /* of a block; a multiple of 32 */
    int multiprocessors; /* of the device that maps of one row are spread over; a hint */
} CgCudaTarget;

/* "cuda:sm_XX", XX from 75 on. An unknown name is an error that says what is known. */
bool cg_cuda_target_by_name(const char *name, CgCudaTarget *out_target, SuDiags *diags);
/* Whether the name is one for this back end: it begins with "cuda". */
bool cg_cuda_is_target(const char *name);

/* What all programs of a target share, and what is the program's own. cg_cuda_print writes one behind the other. */
void cg_cuda_print_prelude(const CgCudaTarget *target, SuText *out);
void cg_cuda_print_program(const CgCudaTarget *target, const PgProgram *program, SuText *out);
void cg_cuda_print(const CgCudaTarget *target, const PgProgram *program, SuText *out);

#endif
