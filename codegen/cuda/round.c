/* PG_ROUND belongs to q8 and q4 weights, which cg_has_no_blocks refuses. */
#include "codegen/cuda/kernels.h"
#include "support/diag.h"

void cg_cuda_round(CgCuda *c) {
    (void)c;
    SU_BUG("no kernels for weights of q8 and q4");
}
