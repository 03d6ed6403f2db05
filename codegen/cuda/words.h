/* Which values are written as 16-bit words by the kernel that makes them (words.cuh), so that the linear layers
 * which multiply them need not round. */
#ifndef MOSSC_CODEGEN_CUDA_WORDS_H
#define MOSSC_CODEGEN_CUDA_WORDS_H

#include "codegen/cuda/cuda.h"

typedef enum CgWords {
    CG_NO_WORDS,
    CG_WORDS_ALONE, /* they lie where the value would */
    CG_WORDS_TOO /* the value is read by others as well: it has its place, and the words one behind the program's arena */
} CgWords;

/* Of the phases of a list of PG_BLOCK's kernels; arrays belong to the arena that was given. */
typedef struct CgWordPlan {
    bool *read; /* [n_kernels]: a linear layer whose x are words */
    uint8_t *written; /* [n_kernels]: CgWords */
    IrDtype *types; /* [n_kernels]: of the weights that the words written are multiplied with */
    uint64_t *panels; /* [n_kernels]: of Y, the first ones, that words are of; 0: all */
    PgRef *places; /* [n_phases]: where the words lie that a phase writes; PG_NOWHERE: it writes none */
    PgRef *x; /* [n_phases]: the same of those that it reads in place of PG_LINEAR_X */
    uint64_t arena_per_row; /* bytes for each row of LD that they take behind the list's arena */
} CgWordPlan;

/* most_rows: of a step that takes the list. */
CgWordPlan cg_words_plan(const CgCudaTarget *target, const PgProgram *program, const PgStep *list, int64_t most_rows,
                         SuArena *arena);

#endif
