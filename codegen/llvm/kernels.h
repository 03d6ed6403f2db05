/* The emitters of ir/kernel_kinds.def: one for each kind of kernel. */
#ifndef MOSSC_CODEGEN_LLVM_KERNELS_H
#define MOSSC_CODEGEN_LLVM_KERNELS_H

#include "codegen/llvm/emit.h"

#define PG_KERNEL(NAME, name) void cg_emit_##name(CgEmit *e);
#include "ir/kernel_kinds.def"

#endif
