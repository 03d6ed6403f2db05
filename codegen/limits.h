/* Kernels that do one thing as fast as a target can: what a model's kernels are compared with. They are made by the same code
 * generator for the same target, and run with one RtArgs a worker like any other kernel; phases mean nothing to them. */
#ifndef MOSSC_CODEGEN_LIMITS_H
#define MOSSC_CODEGEN_LIMITS_H

#include "codegen/target.h"

typedef enum CgLimitKind {
    CG_LIMIT_READ,  /* adds up what lies at RtArgs.weights; a tile is CG_READ_TILE bytes */
    CG_LIMIT_PANEL, /* a linear layer's microkernel for blocks of rows with its operands in the first cache: panels of weights at
                       RtArgs.weights, activations at RtArgs.arena; a tile is 16 inputs */
    CG_LIMIT_FMA,   /* multiply-adds in registers; two vectors at RtArgs.arena; a tile is one of every chain */
    CG_LIMIT_EXP    /* exp of the bits, of vectors at RtArgs.arena */
} CgLimitKind;

enum {
    CG_READ_TILE = 1 << 16,
    CG_READ_PATTERNS = 8,
    CG_LIMIT_KERNELS = CG_READ_PATTERNS + 3,
    CG_LIMIT_OPERAND_BYTES = 1 << 14 /* what the others than CG_LIMIT_READ read at an address at most: finite, not tiny values */
};

typedef struct CgLimitKernel {
    CgLimitKind kind;
    char name[32]; /* "8 streams, prefetch", "3 panels x 8 rows" */
    PgKernelFn run;
    double work;      /* of one tile: bytes, FLOPs, exps */
    uint64_t scratch; /* bytes that it writes at RtArgs.scratch */
} CgLimitKernel;

typedef struct CgLimits CgLimits;

/* Compiles all of them. The first CG_READ_PATTERNS are ways of reading; the others follow in the order of CgLimitKind. */
bool cg_llvm_limits(const CgTarget *target, CgLimits **out_limits, SuDiags *diags);
const CgLimitKernel *cg_limit_kernels(const CgLimits *limits); /* [CG_LIMIT_KERNELS] */
void cg_limits_free(CgLimits *limits);

#endif
