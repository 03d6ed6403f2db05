#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/target.h"

/* Whether LLVM's feature list ("+avx2,-sse4a,…") switches `name` on. */
static bool has_feature(const char *features, const char *name) {
    size_t length = strlen(name);
    for (const char *at = strstr(features, name); at != NULL; at = strstr(at + 1, name)) {
        bool whole = at[length] == ',' || at[length] == '\0';
        if (at > features && at[-1] == '+' && whole) { return true; }
    }
    return false;
}

static bool has_all(const char *features, const char *const *names) {
    for (; *names != NULL; names++) {
        if (!has_feature(features, *names)) { return false; }
    }
    return true;
}

static const char *const avx512_features[] = {"avx512f", "avx512bw", "avx512dq", "avx512vl", NULL};
static const char *const avx2_features[] = {"avx2", "fma", "f16c", "bmi2", NULL};

static void copy_text(char *to, size_t size, const char *from) {
    size_t length = strlen(from);
    length = length < size ? length : size - 1;
    memcpy(to, from, length);
    to[length] = '\0';
}

static void fill_avx512(CgTarget *t) {
    t->vector_lanes = 16;
    t->row_panels = 8;
    t->block_panels = 3;
    t->block_rows = 8;
}

static void fill_avx2(CgTarget *t) {
    t->vector_lanes = 8;
    t->row_panels = 8;
    t->block_panels = 1;
    t->block_rows = 4;
}

bool cg_target_host(const char *isa, CgTarget *out_target, SuDiags *diags) {
    SuSpan nowhere = {0};
    memset(out_target, 0, sizeof *out_target);
    if (isa != NULL && strcmp(isa, "avx2") != 0 && strcmp(isa, "avx512") != 0) {
        return su_error(diags, nowhere, "give avx2 or avx512, or nothing for the best", "unknown instruction set '%s'", isa);
    }
    LLVMInitializeNativeTarget();
    LLVMInitializeNativeAsmPrinter();
    char *triple = LLVMGetDefaultTargetTriple(), *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    bool wide = has_all(features, avx512_features), narrow = has_all(features, avx2_features);
    bool ok = true;
    if (!narrow) {
        ok = su_error(diags, nowhere, "it needs x86-64-v3 (AVX2, FMA, F16C, BMI2): Intel from Haswell on, AMD from Zen on",
                      "this processor (%s) is not one that mossc makes code for", cpu);
    } else if (!wide && isa != NULL && strcmp(isa, "avx512") == 0) {
        ok = su_error(diags, nowhere, "it needs AVX-512 F, BW, DQ and VL", "this processor (%s) has no AVX-512", cpu);
    } else {
        bool restricted = wide && isa != NULL && strcmp(isa, "avx2") == 0;
        copy_text(out_target->name, sizeof out_target->name, restricted ? "host-avx2" : "host");
        copy_text(out_target->triple, sizeof out_target->triple, triple);
        copy_text(out_target->cpu, sizeof out_target->cpu, restricted ? "x86-64-v3" : cpu);
        const char *list = restricted ? "" : features;
        out_target->features = malloc(strlen(list) + 1);
        if (out_target->features == NULL) {
            ok = su_error(diags, nowhere, NULL, "out of memory");
        } else {
            memcpy(out_target->features, list, strlen(list) + 1);
        }
        out_target->fp16_convert = true; /* F16C */
        if (wide && !restricted) {
            fill_avx512(out_target);
        } else {
            fill_avx2(out_target);
        }
    }
    LLVMDisposeMessage(triple);
    LLVMDisposeMessage(cpu);
    LLVMDisposeMessage(features);
    return ok;
}

void cg_target_free(CgTarget *target) {
    free(target->features);
    target->features = NULL;
}
