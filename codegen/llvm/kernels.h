/* The emitters of codegen/kernels.def: one for each kind of kernel. */
#ifndef MOSSC_CODEGEN_LLVM_KERNELS_H
#define MOSSC_CODEGEN_LLVM_KERNELS_H

#include "codegen/llvm/emit.h"

#define CG_KERNEL(kind, emitter, name) void emitter(CgEmit *e);
#include "codegen/kernels.def"
#undef CG_KERNEL

#endif
