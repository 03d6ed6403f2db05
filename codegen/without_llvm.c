/* What replaces codegen/llvm/ in a build with MOSSC_LLVM=OFF: no target of a CPU, and no code for one. A request for either
 * is an error; everything that needs no code of a CPU (checking, the intermediate forms, evaluators, GPUs) works. */
#include "codegen/artefact.h"
#include "codegen/limits.h"
#include "codegen/target.h"
#include "codegen/tuning.h"

static bool absent(SuDiags *diags) {
    return su_error(diags, (SuSpan){0}, "run the model on a GPU (--device cuda), or build mossc with LLVM (-DMOSSC_LLVM=ON)",
                    "mossc was built without LLVM and cannot generate code for CPUs");
}

bool cg_target_host(const char *isa, CgTarget *out_target, SuDiags *diags) {
    (void)isa;
    *out_target = (CgTarget){0};
    return absent(diags);
}

bool cg_target_by_name(const char *name, CgTarget *out_target, SuDiags *diags) { return cg_target_host(name, out_target, diags); }

void cg_target_free(CgTarget *target) { *target = (CgTarget){0}; }

const CgTargetName *cg_target_names(size_t *out_count) {
    static const CgTargetName none[1];
    *out_count = 0;
    return none;
}

const CgTargetName *cg_target_extensions(size_t *out_count) { return cg_target_names(out_count); }

bool cg_llvm_compile(const CgTarget *target, const PgProgram *program, const CgOptions *options, CgCompiled **out_compiled,
                     SuDiags *diags) {
    (void)target, (void)program, (void)options;
    *out_compiled = NULL;
    return absent(diags);
}

const PgCode *cg_codes(const CgCompiled *compiled) {
    (void)compiled;
    return NULL;
}

uint64_t cg_code_bytes(const CgCompiled *compiled) {
    (void)compiled;
    return 0;
}

void cg_compiled_free(CgCompiled *compiled) { (void)compiled; }

bool cg_llvm_print(const CgTarget *target, const PgProgram *program, bool llvm_ir, FILE *out, SuDiags *diags) {
    (void)target, (void)program, (void)llvm_ir, (void)out;
    return absent(diags);
}

bool cg_llvm_artefact(const CgTarget *target, const PgProgram *program, const char *symbol, CgEmission emission, FILE *out,
                      SuDiags *diags) {
    (void)target, (void)program, (void)symbol, (void)emission, (void)out;
    return absent(diags);
}

bool cg_llvm_limits(const CgTarget *target, CgLimits **out_limits, SuDiags *diags) {
    (void)target;
    *out_limits = NULL;
    return absent(diags);
}

const CgLimitKernel *cg_limit_kernels(const CgLimits *limits) {
    (void)limits;
    return NULL;
}

void cg_limits_free(CgLimits *limits) { (void)limits; }

/* Of no kernel: there is no target that one could be made for. */
SuDigest cg_tuning_key(const CgTarget *target, const PgKernel *kernel) {
    (void)target, (void)kernel;
    return (SuDigest){{0}};
}

void cg_llvm_shutdown(void) {}
