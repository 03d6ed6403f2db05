/* The CUDA back end: prints CUDA C for the kernels of a program, one text a program.
 *
 * The text includes nothing and names no library: NVRTC compiles it (codegen/cuda/nvrtc.h), and so does a C++ compiler with
 * tests/simt/simt.h, which runs it on a CPU. Its entries, and what it says about itself, are those of ir/cuda_image.h:
 *
 *   row_step(step, control)    PG_ROW, all phases and the picking of tokens; a cooperative launch
 *   rows_step(step, control)   PG_BLOCK, the same for a few rows
 *   block_kN(step, phase)      PG_BLOCK, one phase of many rows that runs kernel N (block_kN_P: part P of it)
 *   fill_ropes(step)           PG_BLOCK, before the phases, where the program has ropes
 *   arrange_weights(weights)   after an upload, and before and after a download, where the image says so
 *   mossc_image                RtCudaImage
 *
 * where Step is RtArgs with pointers of the device, Control is RtCudaControl, N indexes PgProgram.kernels and `phase` PgStep.phases.
 * A launch has CgCudaTarget.threads threads a block (block_kN: what its row of the image says) and any number of blocks. Results agree with the evaluators within tolerance:
 * sums have an order of their own. */
#ifndef MOSSC_CODEGEN_CUDA_CUDA_H
#define MOSSC_CODEGEN_CUDA_CUDA_H

#include "codegen/target.h"
#include "ir/few.h"
#include "ir/program.h"
#include "ir/cuda_image.h"
#include "support/arena.h"
#include "support/diag.h"
#include "support/str.h"

/* "sm_90", or "sm_90a". */
typedef struct CgCudaArchitecture {
    int number;  /* 90 */
    char suffix; /* 'a': with instructions that no other GPU has, later ones neither; '\0': none */
} CgCudaArchitecture;

typedef struct CgCudaTarget {
    char name[32];      /* "cuda:sm_90" */
    CgCudaArchitecture architecture;
    int threads;        /* of a block; a multiple of 32 */
    int multiprocessors; /* of the device that work is spread over; a hint */
    uint32_t shared;    /* bytes of shared memory that a block can have */
    bool tensor_cores;  /* mma.sync of bf16 with k = 16, and cp.async: sm_80 and later */
    bool warpgroups;    /* wgmma, mbarriers and bulk copies (hopper.cuh): sm_90a alone */
    int scan_chunk; /* least rows of a chunk of a scan that is split over time, whatever its size (tests); 0: the target decides */
    bool fast; /* inputs of tensor cores are rounded to the weights' type once; else they are the sum of two such numbers */
} CgCudaTarget;

enum {
    CG_CUDA_CHUNK = 32, /* k that linear layers of several rows multiply at a time; the text's CHUNK */
    CG_CUDA_FEW_ROWS = 64, /* of a step that one persistent launch takes; larger ones are launches of each phase */
    CG_CUDA_MAX_ROWS = 8192, /* of a step: what fills a large GPU (PsOptions.max_rows) */
    CG_CUDA_WARPGROUP_THREADS = 384 /* of a block of warpgroup.cuh: two warpgroups that multiply, and one that fetches */
};

/* Of GPUs with tensor cores; others run PG_BLOCK's phases with few rows too. */
extern const PgFew cg_cuda_few;

/* "cuda:sm_XX", XX from 75 on, or 90a. An unknown name is an error that says what is known. */
bool cg_cuda_target_by_name(const char *name, CgCudaTarget *out_target, SuDiags *diags);
/* The known ones, by a number from 0 on; after the last one there is none (NULL). */
CgTargetName cg_cuda_target_name(int index);
/* For the very GPU, without what its architecture's suffix would add. */
CgCudaTarget cg_cuda_target_of(int architecture, int multiprocessors, uint32_t shared);
/* The target without its suffix: whose PTX later GPUs take too. */
CgCudaTarget cg_cuda_portable_target(const CgCudaTarget *target);
/* Whether the name is one for this back end: it begins with "cuda". */
bool cg_cuda_is_target(const char *name);

/* What was printed: what the image says, for those who have no GPU to ask. */
typedef struct CgCudaPlan {
    RtCudaImage image;
    RtCudaLaunch *launches; /* [image.n_launches], in the arena */
    uint32_t n_entries;
    uint64_t few_per_row, few_fixed; /* bytes of arena that rows_step takes: few_per_row · LD + few_fixed */
} CgCudaPlan;

/* What all programs of a target share, and what is the program's own. cg_cuda_print writes one behind the other. */
void cg_cuda_print_library(const CgCudaTarget *target, SuText *out);
CgCudaPlan cg_cuda_print_program(const CgCudaTarget *target, const PgProgram *program, SuArena *arena, SuText *out);
CgCudaPlan cg_cuda_print(const CgCudaTarget *target, const PgProgram *program, SuArena *arena, SuText *out);

#endif
