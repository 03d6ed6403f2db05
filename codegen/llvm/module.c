#include "codegen/llvm/module.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/Target.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "codegen/llvm/kernels.h"
#include "support/alloc.h"
#include "support/diag.h"

/* The emitters write vector code in its final shape; what is left to do is to forget stack slots, equal expressions and loop
 * invariants. (default<O2> costs three times as much and made no kernel faster.) */
static const char pipeline[] = "function(sroa,early-cse,simplifycfg,loop-mssa(licm),instcombine<no-verify-fixpoint>,early-cse)";

static void (*const emitters[PG_KIND_COUNT])(CgEmit *e) = {
#define PG_KERNEL(NAME, name) [PG_##NAME] = cg_emit_##name,
#include "ir/kernel_kinds.def"
};

/* ---------------------------------------------------------------------------------------------- machine */

bool cg_has_address_space(void) {
    void *room = mmap(NULL, (size_t)CG_ADDRESS_SPACE_MIB << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room != MAP_FAILED) munmap(room, (size_t)CG_ADDRESS_SPACE_MIB << 20);
    return room != MAP_FAILED;
}

LLVMTargetMachineRef cg_machine(const CgTarget *target, char **out_error) {
    LLVMTargetRef found = NULL;
    if (!cg_has_address_space()) {
        char text[160];
        snprintf(text, sizeof text,
                 "out of memory while compiling kernels: LLVM needs %d MiB of address space; raise its limit (ulimit -v)",
                 CG_ADDRESS_SPACE_MIB);
        *out_error = LLVMCreateMessage(text);
        return NULL;
    }
    if (LLVMGetTargetFromTriple(target->triple, &found, out_error)) return NULL;
    LLVMTargetMachineOptionsRef o = LLVMCreateTargetMachineOptions();
    LLVMTargetMachineOptionsSetCPU(o, target->cpu);
    LLVMTargetMachineOptionsSetFeatures(o, target->features);
    LLVMTargetMachineOptionsSetCodeGenOptLevel(o, LLVMCodeGenLevelDefault);
    LLVMTargetMachineOptionsSetRelocMode(o, LLVMRelocPIC);
    LLVMTargetMachineOptionsSetCodeModel(o, LLVMCodeModelDefault);
    LLVMTargetMachineRef machine = LLVMCreateTargetMachineWithOptions(found, target->triple, o);
    LLVMDisposeTargetMachineOptions(o);
    return machine;
}

/* ---------------------------------------------------------------------------------------------- function */

static void string_attribute(CgEmit *e, const char *key, const char *value) {
    LLVMAttributeRef a = LLVMCreateStringAttribute(e->context, key, (unsigned)strlen(key), value, (unsigned)strlen(value));
    LLVMAddAttributeAtIndex(e->function, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, a);
}

static void enum_attribute(CgEmit *e, LLVMAttributeIndex index, const char *name) {
    unsigned kind = LLVMGetEnumAttributeKindForName(name, strlen(name));
    LLVMAddAttributeAtIndex(e->function, index, LLVMCreateEnumAttribute(e->context, kind, 0));
}

static void fill_types(CgEmit *e) {
    e->none = LLVMVoidTypeInContext(e->context);
    e->i1 = LLVMInt1TypeInContext(e->context);
    e->i8 = LLVMInt8TypeInContext(e->context);
    e->i16 = LLVMInt16TypeInContext(e->context);
    e->i32 = LLVMInt32TypeInContext(e->context);
    e->i64 = LLVMInt64TypeInContext(e->context);
    e->f32 = LLVMFloatTypeInContext(e->context);
    e->ptr = LLVMPointerTypeInContext(e->context, 0);
    e->vec = LLVMVectorType(e->f32, PG_LANES);
    e->ivec = LLVMVectorType(e->i32, PG_LANES);
    e->hvec = LLVMVectorType(LLVMHalfTypeInContext(e->context), PG_LANES);
}

/* Opens void NAME(args, phase, tile0, tile1): an entry block that ends in a branch to the body, where the builder stands. */
static void open_function(CgEmit *e, const char *name) {
    LLVMTypeRef params[4] = {e->ptr, e->ptr, e->i32, e->i32};
    e->function = LLVMAddFunction(e->module, name, LLVMFunctionType(e->none, params, 4, 0));
    string_attribute(e, "target-cpu", e->target->cpu);
    string_attribute(e, "target-features", e->target->features);
    const char *tune = e->target->tune[e->kernel->mode];
    if (tune != NULL) string_attribute(e, "tune-cpu", tune);
    string_attribute(e, "prefer-vector-width", e->target->vector_lanes == 16 ? "512" : "256");
    string_attribute(e, "no-builtins", "");
    enum_attribute(e, (LLVMAttributeIndex)LLVMAttributeFunctionIndex, "nounwind");
    for (LLVMAttributeIndex i = 1; i <= 2; i++) { /* args, phase */
        enum_attribute(e, i, "noalias");
        enum_attribute(e, i, "readonly");
    }
    e->entry = LLVMAppendBasicBlockInContext(e->context, e->function, "entry");
    LLVMBasicBlockRef body = LLVMAppendBasicBlockInContext(e->context, e->function, "body");
    LLVMPositionBuilderAtEnd(e->builder, e->entry);
    e->args = LLVMGetParam(e->function, 0);
    e->phase = LLVMGetParam(e->function, 1);
    e->tile0 = cg_wide(e, LLVMGetParam(e->function, 2));
    e->tile1 = cg_wide(e, LLVMGetParam(e->function, 3));
    LLVMBuildBr(e->builder, body);
    LLVMPositionBuilderAtEnd(e->builder, body);
}

static void verify(const CgModule *m) {
    char *message = NULL;
    if (LLVMVerifyModule(m->module, LLVMReturnStatusAction, &message)) SU_BUG("kernel %s is not valid: %s", m->info.name, message);
    LLVMDisposeMessage(message);
}

CgModule cg_module_begin(const CgTarget *target, LLVMTargetMachineRef machine, const char *name, const PgKernel *kernel,
                         CgEmit *out_emit) {
    CgModule m = {.machine = machine, .context = LLVMContextCreate()};
    snprintf(m.info.name, sizeof m.info.name, "%s", name);
    m.module = LLVMModuleCreateWithNameInContext(m.info.name, m.context);
    LLVMSetTarget(m.module, target->triple);
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(machine);
    LLVMSetModuleDataLayout(m.module, layout);
    LLVMDisposeTargetData(layout);
    *out_emit = (CgEmit){.target = target, .kernel = kernel, .context = m.context, .module = m.module, .groups = 1, .claim = 1};
    out_emit->schedule = cg_schedule_default(target, kernel);
    out_emit->builder = LLVMCreateBuilderInContext(m.context);
    fill_types(out_emit);
    open_function(out_emit, m.info.name);
    return m;
}

void cg_module_end(CgModule *m, CgEmit *e) {
    LLVMBuildRetVoid(e->builder);
    LLVMDisposeBuilder(e->builder);
    m->info.groups = e->groups;
    m->info.claim = e->claim;
    m->info.scratch = e->scratch;
    verify(m);
}

CgModule cg_module_open_as(const CgTarget *target, LLVMTargetMachineRef machine, const char *name, const PgKernel *kernel,
                           const CgSchedule *schedule) {
    CgEmit e;
    CgModule m = cg_module_begin(target, machine, name, kernel, &e);
    if (schedule != NULL) e.schedule = *schedule;
    emitters[kernel->kind](&e);
    cg_module_end(&m, &e);
    return m;
}

CgModule cg_module_open(const CgTarget *target, LLVMTargetMachineRef machine, const PgKernel *kernel, uint32_t index) {
    char name[CG_KERNEL_NAME];
    cg_kernel_name(kernel, index, name, sizeof name);
    return cg_module_open_as(target, machine, name, kernel, NULL);
}

void cg_module_close(CgModule *m) {
    LLVMDisposeModule(m->module);
    LLVMContextDispose(m->context);
}

/* ---------------------------------------------------------------------------------------------- stages */

char *cg_module_optimise(CgModule *m) {
    LLVMPassBuilderOptionsRef options = LLVMCreatePassBuilderOptions();
    LLVMErrorRef error = LLVMRunPasses(m->module, pipeline, m->machine, options);
    LLVMDisposePassBuilderOptions(options);
    if (error == LLVMErrorSuccess) return NULL;
    char *message = LLVMGetErrorMessage(error), *copy = su_copy(message);
    LLVMDisposeErrorMessage(message);
    return copy;
}

char *cg_module_emit(CgModule *m, LLVMCodeGenFileType type, LLVMMemoryBufferRef *out_buffer) {
    char *message = NULL;
    if (!LLVMTargetMachineEmitToMemoryBuffer(m->machine, m->module, type, &message, out_buffer)) return NULL;
    char *copy = su_copy(message);
    LLVMDisposeMessage(message);
    *out_buffer = NULL;
    return copy;
}

void cg_module_print(const CgModule *m, FILE *out) {
    char *text = LLVMPrintModuleToString(m->module);
    fputs(text, out);
    LLVMDisposeMessage(text);
}

/* dir/NAME.SUFFIX for writing; NULL if it cannot be: a dump is a help, not a result. */
static FILE *open_dump(const CgModule *m, const char *dir, const char *suffix) {
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/%s.%s", dir, m->info.name, suffix);
    return length < 0 || (size_t)length >= sizeof path ? NULL : fopen(path, "w");
}

void cg_module_dump(const CgModule *m, const char *dir, const char *stage) {
    char suffix[32];
    snprintf(suffix, sizeof suffix, "%s.ll", stage);
    FILE *out = dir == NULL ? NULL : open_dump(m, dir, suffix);
    if (out != NULL) {
        cg_module_print(m, out);
        fclose(out);
    }
}

void cg_module_dump_assembly(const CgModule *m, const char *dir) {
    FILE *out = dir == NULL ? NULL : open_dump(m, dir, "s");
    if (out == NULL) return;
    CgModule copy = *m; /* emitting changes what it emits */
    copy.module = LLVMCloneModule(m->module);
    LLVMMemoryBufferRef text = NULL;
    char *error = cg_module_emit(&copy, LLVMAssemblyFile, &text);
    if (text != NULL) {
        fwrite(LLVMGetBufferStart(text), 1, LLVMGetBufferSize(text), out);
        LLVMDisposeMemoryBuffer(text);
    }
    su_free(error);
    LLVMDisposeModule(copy.module);
    fclose(out);
}
