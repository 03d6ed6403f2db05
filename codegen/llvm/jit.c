#include "codegen/llvm/jit.h"

#include <llvm-c/Error.h>
#include <llvm-c/ExecutionEngine.h>
#include <llvm-c/LLJITUtils.h>
#include <llvm-c/Orc.h>
#include <llvm-c/OrcEE.h>

/* Adds an error of ORC to diags, if there is one; true if there is none. */
static bool no_error(LLVMErrorRef error, const char *what, SuDiags *diags) {
    if (error == LLVMErrorSuccess) return true;
    char *message = LLVMGetErrorMessage(error);
    su_error(diags, (SuSpan){0}, NULL, "LLVM cannot %s: %s", what, message);
    LLVMDisposeErrorMessage(message);
    return false;
}

/* Only LLVM's older linker has listeners. */
static LLVMOrcObjectLayerRef layer_with_listener(void *listener, LLVMOrcExecutionSessionRef session, const char *triple) {
    (void)triple;
    LLVMOrcObjectLayerRef layer = LLVMOrcCreateRTDyldObjectLinkingLayerWithSectionMemoryManager(session);
    LLVMOrcRTDyldObjectLinkingLayerRegisterJITEventListener(layer, listener);
    return layer;
}

/* perf is told by a listener. false after adding to diags. */
static bool tell_perf(LLVMOrcLLJITBuilderRef builder, SuDiags *diags) {
    LLVMJITEventListenerRef listener = LLVMCreatePerfJITEventListener(); /* LLVM's own */
    if (listener == NULL) return su_error(diags, (SuSpan){0}, NULL, "this build of LLVM does not support perf");
    LLVMOrcLLJITBuilderSetObjectLinkingLayerCreator(builder, layer_with_listener, listener);
    return true;
}

LLVMOrcLLJITRef cg_jit_open(CgDebugger debugger, SuDiags *diags) {
    LLVMOrcLLJITRef jit = NULL;
    LLVMOrcLLJITBuilderRef builder = LLVMOrcCreateLLJITBuilder();
    if (debugger == CG_PERF && !tell_perf(builder, diags)) {
        LLVMOrcDisposeLLJITBuilder(builder);
        return NULL;
    }
    if (!no_error(LLVMOrcCreateLLJIT(&jit, builder), "start its JIT", diags)) return NULL;
    if (debugger == CG_GDB && !no_error(LLVMOrcLLJITEnableDebugSupport(jit), "tell debuggers of its code", diags)) {
        cg_jit_close(jit);
        return NULL;
    }
    return jit;
}

void cg_jit_close(LLVMOrcLLJITRef jit) {
    if (jit != NULL) LLVMConsumeError(LLVMOrcDisposeLLJIT(jit));
}

bool cg_jit_link(LLVMOrcLLJITRef jit, CgObject *object, PgCode *out_code, SuDiags *diags) {
    LLVMMemoryBufferRef code = object->code;
    object->code = NULL; /* ORC takes it, also on an error */
    if (!no_error(LLVMOrcLLJITAddObjectFile(jit, LLVMOrcLLJITGetMainJITDylib(jit), code), "add an object", diags)) return false;
    LLVMOrcExecutorAddress address = 0;
    if (!no_error(LLVMOrcLLJITLookup(jit, &address, object->info.name), "link a kernel", diags)) return false;
    *out_code = (PgCode){.run = (PgKernelFn)(uintptr_t)address,
                         .groups = object->info.groups,
                         .claim = object->info.claim,
                         .scratch = object->info.scratch};
    return true;
}
