/* The functions of ir/vmath.inc as CUDA C: vm_exp, vm_silu, … */
#ifndef MOSSC_CODEGEN_CUDA_VMATH_H
#define MOSSC_CODEGEN_CUDA_VMATH_H

#include "support/str.h"

void cg_cuda_print_vmath(SuText *out);

#endif
