/* From the kernels of a program to functions in this process: IR by the emitters, a short pass pipeline, an object per kernel, all
 * objects linked by ORC. Kernels are independent, so they are made by several threads, each with an LLVM context of its own. */
#include <llvm-c/Analysis.h>
#include <llvm-c/Error.h>
#include <llvm-c/LLJIT.h>
#include <llvm-c/Orc.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <llvm-c/Transforms/PassBuilder.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/llvm/kernels.h"
#include "codegen/llvm/module.h"

struct CgCompiled {
    LLVMOrcLLJITRef jit;
    PgCode *codes; /* [n_kernels] */
};

/* ---------------------------------------------------------------------------------------------- objects, on several threads */

enum { MAX_THREADS = 8 };

typedef struct Made {
    LLVMMemoryBufferRef object; /* NULL until made */
    CgModuleInfo info;
    char *error; /* LLVM's message, or NULL */
} Made;

typedef struct Making {
    const CgTarget *target;
    const PgProgram *program;
    const char *dump_dir;
    Made *made;          /* [n_kernels] */
    atomic_uint taken; /* kernels that threads have begun, from the last one: those of row blocks stand there and take longest */
} Making;

static void make_object(const Making *m, LLVMTargetMachineRef machine, uint32_t index) {
    Made *made = &m->made[index];
    CgModule module = cg_module_open(m->target, machine, &m->program->kernels[index], index);
    made->info = module.info;
    cg_module_dump(&module, m->dump_dir, "0");
    made->error = cg_module_optimise(&module);
    cg_module_dump(&module, m->dump_dir, "1");
    if (made->error == NULL) {
        cg_module_dump_assembly(&module, m->dump_dir);
        made->error = cg_module_emit(&module, LLVMObjectFile, &made->object);
    }
    cg_module_close(&module);
}

static void *make_objects(void *context) {
    Making *m = context;
    char *error = NULL;
    LLVMTargetMachineRef machine = cg_machine(m->target, &error);
    uint32_t n = m->program->n_kernels;
    for (uint32_t taken = atomic_fetch_add(&m->taken, 1); taken < n; taken = atomic_fetch_add(&m->taken, 1)) {
        uint32_t i = n - 1 - taken;
        if (machine == NULL) {
            m->made[i].error = strdup(error == NULL ? "no target machine" : error);
        } else {
            make_object(m, machine, i);
        }
    }
    if (machine != NULL) { LLVMDisposeTargetMachine(machine); }
    LLVMDisposeMessage(error);
    return NULL;
}

static void make_all(Making *m) {
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t threads = cpus < 1 ? 1 : cpus > MAX_THREADS ? MAX_THREADS : (uint32_t)cpus, started = 0;
    pthread_t helpers[MAX_THREADS];
    threads = threads > m->program->n_kernels ? m->program->n_kernels : threads;
    while (started + 1 < threads && pthread_create(&helpers[started], NULL, make_objects, m) == 0) { started++; }
    make_objects(m); /* this thread too, so that all is made even if no helper could be started */
    for (uint32_t i = 0; i < started; i++) { pthread_join(helpers[i], NULL); }
}

/* ---------------------------------------------------------------------------------------------- linking */

/* Adds an error of ORC to diags, if there is one; true if there is none. */
static bool no_error(LLVMErrorRef error, const char *what, SuDiags *diags) {
    if (error == LLVMErrorSuccess) { return true; }
    char *message = LLVMGetErrorMessage(error);
    su_error(diags, (SuSpan){0}, NULL, "LLVM cannot %s: %s", what, message);
    LLVMDisposeErrorMessage(message);
    return false;
}

static bool link_kernel(CgCompiled *c, Made *made, PgCode *code, SuDiags *diags) {
    LLVMOrcJITDylibRef library = LLVMOrcLLJITGetMainJITDylib(c->jit);
    LLVMMemoryBufferRef object = made->object;
    made->object = NULL; /* ORC takes it, also on an error */
    if (!no_error(LLVMOrcLLJITAddObjectFile(c->jit, library, object), "add an object", diags)) { return false; }
    LLVMOrcExecutorAddress address = 0;
    if (!no_error(LLVMOrcLLJITLookup(c->jit, &address, made->info.name), "link a kernel", diags)) { return false; }
    code->run = (PgKernelFn)(uintptr_t)address;
    code->groups = made->info.groups;
    code->claim = made->info.claim;
    code->scratch = made->info.scratch;
    return true;
}

static bool link_all(CgCompiled *c, Making *m, SuDiags *diags) {
    if (!no_error(LLVMOrcCreateLLJIT(&c->jit, NULL), "start its JIT", diags)) {
        c->jit = NULL;
        return false;
    }
    for (uint32_t i = 0; i < m->program->n_kernels; i++) {
        if (m->made[i].error != NULL) {
            return su_error(diags, (SuSpan){0}, NULL, "LLVM cannot compile kernel %s: %s", m->made[i].info.name, m->made[i].error);
        }
        if (!link_kernel(c, &m->made[i], &c->codes[i], diags)) { return false; }
    }
    return true;
}

bool cg_llvm_compile(const CgTarget *target, const PgProgram *program, const CgOptions *options, CgCompiled **out_compiled,
                     SuDiags *diags) {
    uint32_t n = program->n_kernels;
    Making m = {.target = target, .program = program, .dump_dir = options == NULL ? NULL : options->dump_dir};
    CgCompiled *c = calloc(1, sizeof *c);
    m.made = calloc(n == 0 ? 1 : n, sizeof *m.made);
    if (c != NULL) { c->codes = calloc(n == 0 ? 1 : n, sizeof *c->codes); }
    bool ok = c != NULL && m.made != NULL && c->codes != NULL;
    if (!ok) {
        su_error(diags, (SuSpan){0}, NULL, "out of memory");
    } else {
        LLVMInitializeNativeTarget();
        LLVMInitializeNativeAsmPrinter();
        make_all(&m);
        ok = link_all(c, &m, diags);
    }
    for (uint32_t i = 0; m.made != NULL && i < n; i++) {
        if (m.made[i].object != NULL) { LLVMDisposeMemoryBuffer(m.made[i].object); }
        free(m.made[i].error);
    }
    free(m.made);
    if (!ok) {
        cg_compiled_free(c);
        return false;
    }
    *out_compiled = c;
    return true;
}

const PgCode *cg_codes(const CgCompiled *compiled) { return compiled->codes; }

void cg_compiled_free(CgCompiled *compiled) {
    if (compiled == NULL) { return; }
    if (compiled->jit != NULL) { LLVMConsumeError(LLVMOrcDisposeLLJIT(compiled->jit)); }
    free(compiled->codes);
    free(compiled);
}

/* ---------------------------------------------------------------------------------------------- printing */

static char *print_kernel(const CgTarget *target, LLVMTargetMachineRef machine, const PgKernel *kernel, uint32_t index,
                          bool llvm_ir, FILE *out) {
    CgModule module = cg_module_open(target, machine, kernel, index);
    char *error = cg_module_optimise(&module);
    if (error == NULL && llvm_ir) {
        cg_module_print(&module, out);
    } else if (error == NULL) {
        LLVMMemoryBufferRef text = NULL;
        error = cg_module_emit(&module, LLVMAssemblyFile, &text);
        if (text != NULL) {
            fwrite(LLVMGetBufferStart(text), 1, LLVMGetBufferSize(text), out);
            LLVMDisposeMemoryBuffer(text);
        }
    }
    cg_module_close(&module);
    return error;
}

bool cg_llvm_print(const CgTarget *target, const PgProgram *program, bool llvm_ir, FILE *out, SuDiags *diags) {
    char *error = NULL;
    LLVMInitializeNativeTarget();
    LLVMInitializeNativeAsmPrinter();
    LLVMTargetMachineRef machine = cg_machine(target, &error);
    if (machine == NULL) {
        su_error(diags, (SuSpan){0}, NULL, "LLVM knows no machine '%s': %s", target->triple, error == NULL ? "" : error);
        LLVMDisposeMessage(error);
        return false;
    }
    bool ok = true;
    for (uint32_t i = 0; ok && i < program->n_kernels; i++) {
        char *failed = print_kernel(target, machine, &program->kernels[i], i, llvm_ir, out);
        if (failed != NULL) {
            ok = su_error(diags, (SuSpan){0}, NULL, "LLVM cannot compile a kernel: %s", failed);
            free(failed);
        }
    }
    LLVMDisposeTargetMachine(machine);
    return ok;
}

void cg_llvm_shutdown(void) { LLVMShutdown(); }
