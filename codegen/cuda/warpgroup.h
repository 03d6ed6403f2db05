/* The text that tiles by warpgroups need (warpgroup.c): hopper.cuh and warpgroup.cuh. */
#ifndef MOSSC_CODEGEN_CUDA_WARPGROUP_H
#define MOSSC_CODEGEN_CUDA_WARPGROUP_H

#include "support/str.h"

/* Goes behind product.cuh. */
void cg_cuda_print_warpgroups(SuText *out);

#endif
