/* One module of all kernels and of the program's tables. A table is the image of a C array: its bytes as they lie in this process,
 * with holes where pointers stand, which the linker fills. That holds because every target has the data model of this one
 * (little endian, LP64), which the emitters rely on too when they read RtArgs and PgPhase by offsetof. */
#include "codegen/artefact.h"

#include <llvm-c/Analysis.h>
#include <llvm-c/BitReader.h>
#include <llvm-c/BitWriter.h>
#include <llvm-c/Linker.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/module.h"
#include "support/alloc.h"

typedef struct Artefact {
    const CgTarget *target;
    const PgProgram *program;
    const char *symbol;
    LLVMTargetMachineRef machine;
    LLVMContextRef context;
    LLVMModuleRef module;
    SuArena arena;
    PgCode *codes; /* [n_kernels], without addresses */
    SuDiags *diags;
} Artefact;

/* ---- kernels */

/* A kernel's module in the context of the whole; NULL and a message to su_free. It is made in a context of its own, as everywhere. */
static LLVMModuleRef make_kernel(Artefact *a, uint32_t index, char **out_error) {
    CgModule kernel = cg_module_open(a->target, a->machine, &a->program->kernels[index], index);
    a->codes[index] = (PgCode){.groups = kernel.info.groups, .claim = kernel.info.claim, .scratch = kernel.info.scratch};
    *out_error = cg_module_optimise(&kernel);
    LLVMModuleRef copy = NULL;
    if (*out_error == NULL) {
        LLVMMemoryBufferRef bitcode = LLVMWriteBitcodeToMemoryBuffer(kernel.module);
        if (LLVMParseBitcodeInContext2(a->context, bitcode, &copy)) *out_error = su_copy("cannot read its bitcode back");
        LLVMDisposeMemoryBuffer(bitcode);
    }
    cg_module_close(&kernel);
    return copy;
}

static const char *kernel_name(Artefact *a, uint32_t index) {
    char *name = su_alloc(&a->arena, CG_KERNEL_NAME);
    cg_kernel_name(&a->program->kernels[index], index, name, CG_KERNEL_NAME);
    return name;
}

static bool add_kernels(Artefact *a) {
    a->codes = SU_NEW_ARRAY(&a->arena, PgCode, a->program->n_kernels);
    for (uint32_t i = 0; i < a->program->n_kernels; i++) {
        char *error = NULL;
        LLVMModuleRef kernel = make_kernel(a, i, &error);
        if (error == NULL && LLVMLinkModules2(a->module, kernel)) { error = su_copy("cannot link it"); } /* which frees it */
        if (error != NULL) {
            su_error(a->diags, (SuSpan){0}, NULL, "LLVM cannot compile kernel %s: %s", kernel_name(a, i), error);
            su_free(error);
            return false;
        }
        LLVMSetLinkage(LLVMGetNamedFunction(a->module, kernel_name(a, i)), LLVMInternalLinkage);
    }
    return true;
}

/* ---- tables */

/* Whoever adds a pointer to one of these adds a hole below; then the size here. */
_Static_assert(sizeof(PgProgram) == 264 && sizeof(PgStep) == 32 && sizeof(PgPhase) == 480 && sizeof(PgTensor) == 48 &&
                   sizeof(PgWeight) == 88 && sizeof(PgState) == 24 && sizeof(PgRope) == 120 && sizeof(PgCode) == 24,
               "every pointer in a table has its hole");

/* A pointer within an image. */
typedef struct Hole {
    size_t at;
    LLVMValueRef value;
} Hole;

/* Bytes [from, to) of an image. */
static LLVMValueRef span(const Artefact *a, const uint8_t *bytes, size_t from, size_t to) {
    return LLVMConstStringInContext2(a->context, (const char *)bytes + from, to - from, true);
}

/* A constant global: the bytes with pointers in the holes, which rise. */
static LLVMValueRef add_image(Artefact *a, const char *name, const void *image, size_t size, const Hole *holes, size_t n_holes) {
    const uint8_t *bytes = image;
    LLVMValueRef *parts = SU_NEW_ARRAY(&a->arena, LLVMValueRef, 2 * n_holes + 1);
    size_t at = 0;
    unsigned count = 0;
    for (size_t i = 0; i < n_holes; at = holes[i++].at + sizeof(void *)) {
        parts[count++] = span(a, bytes, at, holes[i].at);
        parts[count++] = holes[i].value;
    }
    parts[count++] = span(a, bytes, at, size);
    LLVMValueRef value = LLVMConstStructInContext(a->context, parts, count, true);
    LLVMValueRef global = LLVMAddGlobal(a->module, LLVMTypeOf(value), name);
    LLVMSetInitializer(global, value);
    LLVMSetGlobalConstant(global, true);
    LLVMSetAlignment(global, 16);
    LLVMSetLinkage(global, LLVMInternalLinkage);
    return global;
}

static LLVMValueRef null(const Artefact *a) { return LLVMConstNull(LLVMPointerTypeInContext(a->context, 0)); }

static LLVMValueRef add_text(Artefact *a, const char *text) {
    if (text == NULL) return null(a);
    LLVMValueRef global = add_image(a, "text", text, strlen(text) + 1, NULL, 0);
    LLVMSetLinkage(global, LLVMPrivateLinkage);
    LLVMSetUnnamedAddress(global, LLVMGlobalUnnamedAddr);
    LLVMSetAlignment(global, 1);
    return global;
}

/* `count` items of `size` bytes, each of which points to its name at `name_at`. */
static LLVMValueRef add_named(Artefact *a, const char *name, const void *items, size_t count, size_t size, size_t name_at) {
    const uint8_t *bytes = items;
    Hole *holes = SU_NEW_ARRAY(&a->arena, Hole, count);
    for (size_t i = 0; i < count; i++) {
        const char *text;
        memcpy(&text, bytes + i * size + name_at, sizeof text);
        holes[i] = (Hole){.at = i * size + name_at, .value = add_text(a, text)};
    }
    return count == 0 ? null(a) : add_image(a, name, items, count * size, holes, count);
}

static LLVMValueRef add_plain(Artefact *a, const char *name, const void *items, size_t count, size_t size) {
    return count == 0 ? null(a) : add_image(a, name, items, count * size, NULL, 0);
}

/* Makes a global of the artefact visible as SYMBOL_NAME. */
static void publish(Artefact *a, LLVMValueRef global, const char *name) {
    const char *symbol = su_printf(&a->arena, "%s_%s", a->symbol, name);
    LLVMSetLinkage(global, LLVMExternalLinkage);
    LLVMSetValueName2(global, symbol, strlen(symbol));
}

static void add_codes(Artefact *a) {
    uint32_t n = a->program->n_kernels;
    Hole *holes = SU_NEW_ARRAY(&a->arena, Hole, n);
    for (uint32_t i = 0; i < n; i++) {
        LLVMValueRef function = LLVMGetNamedFunction(a->module, kernel_name(a, i));
        holes[i] = (Hole){.at = i * sizeof *a->codes + offsetof(PgCode, run), .value = function};
    }
    publish(a, add_image(a, "codes", a->codes, n * sizeof *a->codes, holes, n), "codes");
}

static LLVMValueRef add_phases(Artefact *a, PgMode mode) {
    const PgStep *step = &a->program->steps[mode];
    return add_named(a, mode == PG_ROW ? "phases_row" : "phases_block", step->phases, step->n_phases, sizeof *step->phases,
                     offsetof(PgPhase, name));
}

static void add_program(Artefact *a) {
    const PgProgram *p = a->program;
    enum { PHASES = offsetof(PgStep, phases), STEP = sizeof(PgStep), STEPS = offsetof(PgProgram, steps) };
    Hole holes[] = {
        {offsetof(PgProgram, name), add_text(a, p->name)},
        {offsetof(PgProgram, kernels), null(a)},
        {STEPS + PG_ROW * STEP + PHASES, add_phases(a, PG_ROW)},
        {STEPS + PG_BLOCK * STEP + PHASES, add_phases(a, PG_BLOCK)},
        {STEPS + PG_FEW * STEP + PHASES, null(a)}, /* CPUs do not ask for it */
        {offsetof(PgProgram, tensors),
         add_named(a, "tensors", p->tensors, p->n_tensors, sizeof *p->tensors, offsetof(PgTensor, name))},
        {offsetof(PgProgram, weights), add_plain(a, "weights", p->weights, p->n_weights, sizeof *p->weights)},
        {offsetof(PgProgram, states), add_named(a, "states", p->states, p->n_states, sizeof *p->states, offsetof(PgState, name))},
        {offsetof(PgProgram, ropes), add_plain(a, "ropes", p->ropes, p->n_ropes, sizeof *p->ropes)},
    };
    publish(a, add_image(a, "program", p, sizeof *p, holes, sizeof holes / sizeof *holes), "program");
}

/* ---- all of it */

static bool begin(Artefact *a) {
    char *error = NULL;
    a->machine = cg_machine(a->target, &error);
    if (a->machine == NULL) {
        su_error(a->diags, (SuSpan){0}, NULL, "LLVM does not support machine '%s': %s", a->target->triple,
                 error == NULL ? "" : error);
        LLVMDisposeMessage(error);
        return false;
    }
    a->context = LLVMContextCreate();
    a->module = LLVMModuleCreateWithNameInContext(a->symbol, a->context);
    LLVMSetTarget(a->module, a->target->triple);
    LLVMTargetDataRef layout = LLVMCreateTargetDataLayout(a->machine);
    LLVMSetModuleDataLayout(a->module, layout);
    LLVMDisposeTargetData(layout);
    return true;
}

static void verify(const Artefact *a) {
    char *message = NULL;
    if (LLVMVerifyModule(a->module, LLVMReturnStatusAction, &message)) SU_BUG("artefact %s is not valid: %s", a->symbol, message);
    LLVMDisposeMessage(message);
}

static bool write_code(Artefact *a, LLVMCodeGenFileType type, FILE *out) {
    LLVMMemoryBufferRef code = NULL;
    char *error = NULL;
    if (LLVMTargetMachineEmitToMemoryBuffer(a->machine, a->module, type, &error, &code)) {
        su_error(a->diags, (SuSpan){0}, NULL, "LLVM cannot create the object: %s", error);
        LLVMDisposeMessage(error);
        return false;
    }
    fwrite(LLVMGetBufferStart(code), 1, LLVMGetBufferSize(code), out); /* whoever closes the file sees errors */
    LLVMDisposeMemoryBuffer(code);
    return true;
}

static bool write_out(Artefact *a, CgEmission emission, FILE *out) {
    if (emission != CG_IR) return write_code(a, emission == CG_OBJECT ? LLVMObjectFile : LLVMAssemblyFile, out);
    char *text = LLVMPrintModuleToString(a->module);
    fputs(text, out);
    LLVMDisposeMessage(text);
    return true;
}

static bool llvm_artefact_unguarded(const CgTarget *target, const PgProgram *program, const char *symbol, CgEmission emission,
                                    FILE *out, SuDiags *diags) {
    Artefact a = {.target = target, .program = program, .symbol = symbol, .diags = diags};
    bool ok = begin(&a) && add_kernels(&a);
    if (ok) {
        add_codes(&a);
        add_program(&a);
        verify(&a);
        ok = write_out(&a, emission, out);
    }
    if (a.module != NULL) LLVMDisposeModule(a.module);
    if (a.context != NULL) LLVMContextDispose(a.context);
    if (a.machine != NULL) LLVMDisposeTargetMachine(a.machine);
    su_arena_free(&a.arena);
    return ok;
}

bool cg_llvm_artefact(const CgTarget *target, const PgProgram *program, const char *symbol, CgEmission emission, FILE *out,
                      SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "making the artefact")) return false;
    bool result = llvm_artefact_unguarded(target, program, symbol, emission, out, diags);
    su_guard_end(&guard);
    return result;
}
