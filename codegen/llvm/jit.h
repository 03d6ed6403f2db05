/* Objects linked into this process by ORC. */
#ifndef MOSSC_CODEGEN_LLVM_JIT_H
#define MOSSC_CODEGEN_LLVM_JIT_H

#include <llvm-c/LLJIT.h>

#include "codegen/llvm/object.h"
#include "support/diag.h"

/* NULL after adding to diags. */
LLVMOrcLLJITRef cg_jit_open(CgDebugger debugger, SuDiags *diags);
void cg_jit_close(LLVMOrcLLJITRef jit); /* NULL is nothing */
/* Links the object, takes its code, and fills *out_code. */
bool cg_jit_link(LLVMOrcLLJITRef jit, CgObject *object, PgCode *out_code, SuDiags *diags);

#endif
