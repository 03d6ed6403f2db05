/* From the kernels of a program to functions in this process: an object for each, from the cache or made (IR by the emitters, a
 * short pass pipeline, machine code), all of them linked by ORC. Kernels are independent, so objects are had by several threads,
 * each with an LLVM context of its own. */
#include <llvm-c/Analysis.h>
#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/jit.h"
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/object.h"
#include "support/alloc.h"
#include "support/cpus.h"

struct CgCompiled {
    LLVMOrcLLJITRef jit;
    PgCode *codes; /* [n_kernels] */
    uint64_t code_bytes;
};

/* ---------------------------------------------------------------------------------------------- objects, on several threads */

enum { MAX_THREADS = 8 };

typedef struct Made {
    CgObject object;
    SuDigest key;
    bool is_new; /* not from the cache */
    char *error; /* LLVM's message, or NULL */
} Made;

typedef struct Making {
    const CgTarget *target;
    const PgProgram *program;
    CgOptions options;
    CgCache *cache;    /* NULL: none */
    Made *made;        /* [n_kernels] */
    atomic_uint failures;
    SuFailure failure; /* the first one, once the threads have ended */
    CgCompiled *compiled;
    atomic_uint taken; /* kernels that threads have begun, from the last one: those of row blocks stand there and take longest */
} Making;

/* A thread's; it is made for the first kernel that needs it. */
typedef struct Machine {
    LLVMTargetMachineRef machine;
    char *error; /* LLVM's message if there is none, or NULL */
} Machine;

static void close_module(void *module) {
    if (su_cleanup_reason() != SU_LLVM_FAILED) cg_module_close(module);
}

static char *make_object(const Making *m, LLVMTargetMachineRef machine, const CgSpecLine *at, const PgKernel *kernel,
                         const CgSchedule *schedule, CgObject *out) {
    CgModule module = cg_module_open_as(m->target, machine, out->info.name, kernel, schedule);
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, close_module, &module);
    out->info = module.info;
    cg_module_dump(&module, m->options.dump_dir, "0");
    char *error = cg_module_optimise(&module);
    cg_module_dump(&module, m->options.dump_dir, "1");
    if (error == NULL) {
        if (at->path != NULL) cg_module_place(&module, at->path, at->line);
        cg_module_dump_assembly(&module, m->options.dump_dir);
        error = cg_module_emit(&module, LLVMObjectFile, &out->code);
    }
    su_cleanup_done(&cleanup);
    cg_module_close(&module);
    return error;
}

/* The line of the first phase that runs the kernel. */
static uint32_t first_line(const PgProgram *program, uint32_t kernel) {
    for (int mode = 0; mode < PG_MODES; mode++) {
        const PgStep *step = &program->steps[mode];
        for (uint32_t i = 0; i < step->n_phases; i++)
            if (step->phases[i].kernel == kernel) return step->phases[i].line;
    }
    return 0;
}

static void find_or_make(const Making *m, Machine *machine, uint32_t index) {
    Made *made = &m->made[index];
    CgSpecLine at = {0};
    const PgKernel *kernel = &m->program->kernels[index];
    if (m->options.debugger != CG_NO_DEBUGGER) at = (CgSpecLine){m->options.spec_path, first_line(m->program, index)};
    CgSchedule schedule = m->options.schedules != NULL ? m->options.schedules[index] : cg_schedule_default(m->target, kernel);
    made->key = cg_object_key(m->target, kernel, &schedule, &at);
    if (m->options.dump_dir == NULL)
        cg_object_symbol(kernel, &made->key, made->object.info.name);
    else
        cg_kernel_name(kernel, index, made->object.info.name, sizeof made->object.info.name);
    if (m->cache != NULL && cg_object_find(m->cache, &made->key, &made->object)) return;
    if (machine->machine == NULL && machine->error == NULL) machine->machine = cg_machine(m->target, &machine->error);
    if (machine->machine == NULL) {
        made->error = su_copy(machine->error == NULL ? "no target machine" : machine->error);
    } else {
        made->error = make_object(m, machine->machine, &at, kernel, &schedule, &made->object);
        made->is_new = made->error == NULL;
    }
}

/* A failure ends the work of all threads; the first one is told. */
static void note_failure(Making *m, Machine *machine, const SuFailure *failure) {
    uint32_t none = 0;
    if (atomic_compare_exchange_strong(&m->failures, &none, 1)) m->failure = *failure;
    atomic_store(&m->taken, m->program->n_kernels);
    if (failure->code == SU_LLVM_FAILED) *machine = (Machine){0}; /* it is not touched again, not even to dispose of it */
}

/* Each thread has a guard of its own. */
static void find_or_make_guarded(Making *m, Machine *machine, uint32_t index) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "compiling kernels")) {
        note_failure(m, machine, &guard.failure);
        return;
    }
    find_or_make(m, machine, index);
    su_guard_end(&guard);
}

static void *take_kernels(void *context) {
    Making *m = context;
    Machine machine = {0};
    uint32_t n = m->program->n_kernels;
    for (uint32_t taken = atomic_fetch_add(&m->taken, 1); taken < n; taken = atomic_fetch_add(&m->taken, 1))
        find_or_make_guarded(m, &machine, n - 1 - taken);
    if (machine.machine != NULL) LLVMDisposeTargetMachine(machine.machine);
    LLVMDisposeMessage(machine.error);
    return NULL;
}

static void find_or_make_all(Making *m) {
    int cpus = su_default_threads();
    uint32_t threads = cpus > MAX_THREADS ? MAX_THREADS : (uint32_t)cpus, started = 0;
    pthread_t helpers[MAX_THREADS];
    threads = threads > m->program->n_kernels ? m->program->n_kernels : threads;
    while (started + 1 < threads && pthread_create(&helpers[started], NULL, take_kernels, m) == 0) started++;
    take_kernels(m); /* this thread too, so that all is made even if no helper could be started */
    for (uint32_t i = 0; i < started; i++) pthread_join(helpers[i], NULL);
}

static void store_new(const Making *m) {
    if (m->cache == NULL) return;
    for (uint32_t i = 0; i < m->program->n_kernels; i++)
        if (m->made[i].is_new) cg_object_store(m->cache, &m->made[i].key, &m->made[i].object);
    cg_cache_trim(m->cache);
}

/* ---------------------------------------------------------------------------------------------- linking */

static bool link_all(CgCompiled *c, Making *m, SuDiags *diags) {
    c->jit = cg_jit_open(m->options.debugger, diags);
    if (c->jit == NULL) return false;
    for (uint32_t i = 0; i < m->program->n_kernels; i++) {
        Made *made = &m->made[i];
        if (made->error != NULL)
            return su_error(diags, (SuSpan){0}, NULL, "LLVM cannot compile kernel %s: %s", made->object.info.name, made->error);
        c->code_bytes += cg_object_code_bytes(&made->object);
        if (!cg_jit_link(c->jit, &made->object, &c->codes[i], diags)) return false;
    }
    return true;
}

/* Also when a guard is ended. */
static void free_making(void *context) {
    Making *m = context;
    for (uint32_t i = 0; m->made != NULL && i < m->program->n_kernels; i++) {
        if (m->made[i].object.code != NULL) LLVMDisposeMemoryBuffer(m->made[i].object.code);
        su_free(m->made[i].error);
    }
    su_free(m->made);
    cg_compiled_free(m->compiled);
}

static void *zeroed(size_t count, size_t size) {
    void *memory = su_calloc(count, size);
    if (memory == NULL) su_no_memory(count * size);
    return memory;
}

static bool make_all(Making *m, SuDiags *diags) {
    uint32_t n = m->program->n_kernels == 0 ? 1 : m->program->n_kernels;
    m->compiled = zeroed(1, sizeof *m->compiled);
    m->compiled->codes = zeroed(n, sizeof *m->compiled->codes);
    m->made = zeroed(n, sizeof *m->made);
    find_or_make_all(m);
    if (m->failures != 0) {
        su_failed(diags, &m->failure);
        return false;
    }
    store_new(m);
    return link_all(m->compiled, m, diags);
}

bool cg_llvm_compile(const CgTarget *target, const PgProgram *program, const CgOptions *options, CgCompiled **out_compiled,
                     SuDiags *diags) {
    Making m = {.target = target, .program = program};
    if (options != NULL) m.options = *options;
    if (m.options.dump_dir == NULL) { m.cache = m.options.cache; } /* what is dumped must be made */
    SuGuard guard;
    SuCleanup cleanup;
    if (SU_CAUGHT(&guard, diags, "compiling kernels")) return false;
    su_cleanup_add(&cleanup, free_making, &m);
    bool ok = make_all(&m, diags);
    if (ok) {
        *out_compiled = m.compiled;
        m.compiled = NULL;
    }
    su_cleanup_done(&cleanup);
    free_making(&m);
    su_guard_end(&guard);
    return ok;
}

const PgCode *cg_codes(const CgCompiled *compiled) { return compiled->codes; }

uint64_t cg_code_bytes(const CgCompiled *compiled) { return compiled->code_bytes; }

void cg_compiled_free(CgCompiled *compiled) {
    if (compiled == NULL) return;
    cg_jit_close(compiled->jit);
    su_free(compiled->codes);
    su_free(compiled);
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

static bool llvm_print_unguarded(const CgTarget *target, const PgProgram *program, bool llvm_ir, FILE *out, SuDiags *diags) {
    char *error = NULL;
    LLVMTargetMachineRef machine = cg_machine(target, &error);
    if (machine == NULL) {
        su_error(diags, (SuSpan){0}, NULL, "LLVM does not support machine '%s': %s", target->triple, error == NULL ? "" : error);
        LLVMDisposeMessage(error);
        return false;
    }
    bool ok = true;
    for (uint32_t i = 0; ok && i < program->n_kernels; i++) {
        char *failed = print_kernel(target, machine, &program->kernels[i], i, llvm_ir, out);
        if (failed != NULL) {
            ok = su_error(diags, (SuSpan){0}, NULL, "LLVM cannot compile a kernel: %s", failed);
            su_free(failed);
        }
    }
    LLVMDisposeTargetMachine(machine);
    return ok;
}

bool cg_llvm_print(const CgTarget *target, const PgProgram *program, bool llvm_ir, FILE *out, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "printing code")) return false;
    bool result = llvm_print_unguarded(target, program, llvm_ir, out, diags);
    su_guard_end(&guard);
    return result;
}

void cg_llvm_shutdown(void) { LLVMShutdown(); }
