/* Targets by name: what LLVM is to make code for, and the shapes of kernels that suit it. */
#include <llvm-c/Core.h>
#include <llvm-c/Target.h>
#include <llvm-c/TargetMachine.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/llvm/module.h"
#include "codegen/target.h"
#include "support/alloc.h"
#include "support/str.h"

/* ---------------------------------------------------------------------------------------------- families */

/* What kernels look like on processors with the same vector registers; the other fields are filled in for each target.
 *
 * pairs_ahead on x86: widening fills the processor's window, so that few loads are under way without it: 14 to 17 GB/s from memory;
 * f32 gives 18 either way. Some processors differ: suit_processor. */
static const CgTarget avx512 = {.vector_lanes = 16,
                                .row_panels = 8,
                                .pair_panels = 8,
                                .block_panels = 3,
                                .block_rows = 8,
                                .side = 8,
                                .scan_lanes = 16,
                                .scan_states = 16,
                                .broadcast_lanes = 1,
                                .pairs_ahead = 512,
                                .dot = CG_DOT_MADD,
                                .dot_lanes = 8,
                                .dot_row_panels = 1,
                                .dot_block_panels = 1,
                                .dot_block_rows = 4,
                                .far_offsets = true};
static const CgTarget avx2 = {.vector_lanes = 8,
                              .row_panels = 8,
                              .pair_panels = 8,
                              .block_panels = 1,
                              .block_rows = 4,
                              .side = 2,
                              .scan_lanes = 16,
                              .scan_states = 16,
                              .broadcast_lanes = 1,
                              .pairs_ahead = 512,
                              .dot = CG_DOT_MADD,
                              .dot_lanes = 8,
                              .dot_row_panels = 4,
                              .dot_ahead = 512,
                              .dot_scales_integers = true,
                              .dot_block_panels = 1,
                              .dot_block_rows = 4,
                              .far_offsets = true};
/* 32 registers of 4 lanes: 16 sums of one kind or the other leave room for weights and inputs.
 *
 * The order of instructions is that of in-order cores, which suits all of them (by llvm-mca, bench/neon). One row: LLVM's generic
 * core pairs all loads; big cores take the same cycles for it as for their own order, small ones half as many. Blocks of rows: the
 * order for Cortex-A55 is the only one that keeps all of bf16's registers. */
static const CgTarget neon = {.vector_lanes = 4,
                              .row_panels = 4,
                              .pair_panels = 4,
                              .block_panels = 1,
                              .block_rows = 4,
                              .side = 1,
                              .scan_lanes = 8,
                              .scan_states = 2,
                              .broadcast_lanes = 4,
                              .dot = CG_DOT_SMLAL,
                              .dot_lanes = 4,
                              .dot_row_panels = 1,
                              .dot_block_panels = 1,
                              .dot_block_rows = 2,
                              .dot_arranges = true,
                              .dot_scales_integers = true,
                              .dot_held_sums = 2,
                              .ieee_max = true,
                              .abs_greater = "llvm.aarch64.neon.facgt",
                              .tune = {"generic", "cortex-a55"}};

/* What was measured on processors, by LLVM's names of them (bench/NOTES.md, 20 and 23). Zen 4 and later: fetching ahead by instructions
 * slows bf16 down (18 GB/s a core with it, 25 to 26 without, of 26 to 28), as many streams do, but q8's one stream gains a fifth by it,
 * and the two matrices of a gate another fifth by being two streams. Zen 3: eight panels of pairs fill the 16 registers with sums. */
static void suit_processor(CgTarget *t, const char *cpu) {
    if (strcmp(cpu, "znver4") == 0 || strcmp(cpu, "znver5") == 0) {
        t->pairs_ahead = 0;
        t->row_panels = t->pair_panels = 4;
        t->dot_ahead = 512;
        t->dot_dual = t->vector_lanes == 16;
    }
    if (strcmp(cpu, "znver3") == 0) t->pair_panels = 4;
}

/* What the instructions for products of bytes change of a family. VNNI needs no registers but for sums, of which 32 hold 3 x 8. */
static void use_vnni(CgTarget *t) {
    t->dot = CG_DOT_VNNI;
    t->dot_lanes = t->vector_lanes;
    if (t->vector_lanes < 16) return;
    t->dot_block_panels = 3;
    t->dot_block_rows = 8;
}

/* The same for products of bf16: sums alone need registers, as with VNNI. */
static void use_bf16(CgTarget *t) {
    bool pairs = t->vector_lanes == 16;
    t->bf16 = pairs ? CG_BF16_PAIRS : CG_BF16_MMLA;
    t->bf16_panels = pairs ? 3 : 1;
    t->bf16_rows = pairs ? 8 : 4;
}

static void use_way(CgTarget *t, CgDotWay way) {
    if (way == CG_DOT_SDOT || way == CG_DOT_SMMLA) t->dot = way;
}

static const char *const avx512_features[] = {"avx512f", "avx512bw", "avx512dq", "avx512vl", NULL};
static const char *const avx2_features[] = {"avx2", "fma", "f16c", "bmi2", NULL};

/* For every aarch64: Android keeps x18 for itself. SVE is left out because phones whose cores have it do not offer it to
 * programs; it would change nothing but a few instructions, since all vectors have a fixed length. */
static const char aarch64_features[] = "+neon,-sve,+reserve-x18";
static const char VNNI_IN_IR[] = "vnni-in-ir", BF16_IN_IR[] = "bf16-in-ir", AMX_IN_IR[] = "amx-in-ir";
static const char aarch64_triple[] = "aarch64-unknown-linux-gnu";
static const char x86_triple[] = "x86_64-unknown-linux-gnu";

/* ---------------------------------------------------------------------------------------------- names */

/* name, what it is, how it multiplies bytes */
#define CORES(ROW)                                                                                                                 \
    ROW("host", "the machine mossc runs on", MADD)                                                                                 \
    ROW("x86-64-v3", "any PC with AVX2, FMA, F16C and BMI2", MADD)                                                                 \
    ROW("x86-64-v4", "any PC with AVX-512 F, BW, CD, DQ and VL", MADD)                                                             \
    ROW("aarch64", "any 64-bit ARM processor (armv8-a with NEON)", SMLAL)                                                          \
    ROW("cortex-a53", "in-order, ARMv8.0: many boards", SMLAL)                                                                     \
    ROW("cortex-a55", "in-order, ARMv8.2: small cores of phones from 2018 on", SDOT)                                               \
    ROW("cortex-a72", "ARMv8.0: Raspberry Pi 4, Graviton 1", SMLAL)                                                                \
    ROW("cortex-a76", "ARMv8.2: Raspberry Pi 5", SDOT)                                                                             \
    ROW("cortex-a78", "ARMv8.2", SDOT)                                                                                             \
    ROW("cortex-x1", "ARMv8.2", SDOT)                                                                                              \
    ROW("cortex-a510", "in-order, ARMv9.0", SMMLA)                                                                                 \
    ROW("cortex-a710", "ARMv9.0", SMMLA)                                                                                           \
    ROW("cortex-a715", "ARMv9.0", SMMLA)                                                                                           \
    ROW("cortex-x3", "ARMv9.0", SMMLA)                                                                                             \
    ROW("cortex-a520", "in-order, ARMv9.2: small cores of phones from 2023 on", SMMLA)                                             \
    ROW("cortex-a720", "ARMv9.2: middle cores of phones from 2023 on", SMMLA)                                                      \
    ROW("cortex-x4", "ARMv9.2: big core of phones from 2023 on", SMMLA)                                                            \
    ROW("neoverse-n1", "ARMv8.2: Graviton 2, Ampere Altra", SDOT)                                                                  \
    ROW("neoverse-n2", "ARMv9.0: Cobalt 100", SMMLA)                                                                               \
    ROW("neoverse-v1", "ARMv8.4: Graviton 3", SMMLA)                                                                               \
    ROW("neoverse-v2", "ARMv9.0: Graviton 4, Grace", SMMLA)

#define NAME_ROW(name, about, way) {name, about},
#define WAY_ROW(name, about, way) CG_DOT_##way,
static const CgTargetName names[] = {CORES(NAME_ROW)};
static const CgDotWay ways[] = {CORES(WAY_ROW)};
enum { N_NAMES = sizeof names / sizeof names[0], AVX2_PC = 1, AVX512_PC, ANY_CORE, FIRST_CORE };

/* First those of aarch64. */
static const CgTargetName extensions[] = {
    {"dotprod", "sums of products of four bytes (ARMv8.2)"},
    {"fp16", "arithmetic on half floats (ARMv8.2)"},
    {"i8mm", "products of matrices of bytes (ARMv8.6)"},
    {"bf16", "sums of products of bfloat16, which `--fast` uses (ARMv8.6; of x86-64-v4, AVX-512 BF16)"},
    {"vnni", "sums of products of four bytes, of x86-64-v4 (AVX-512 VNNI) and x86-64-v3 (AVX-VNNI)"},
};
enum {
    N_EXTENSIONS = sizeof extensions / sizeof extensions[0],
    DOTPROD = 0,
    I8MM = 2,
    BF16 = 3,
    VNNI = 4,
    N_ARM_EXTENSIONS = VNNI
};
/* LLVM's words for them. */
static const char *const extension_features[N_ARM_EXTENSIONS] = {
    [DOTPROD] = "+dotprod", "+fullfp16", [I8MM] = "+i8mm", [BF16] = "+bf16"};

const CgTargetName *cg_target_names(size_t *out_count) {
    *out_count = N_NAMES;
    return names;
}

const CgTargetName *cg_target_extensions(size_t *out_count) {
    *out_count = N_EXTENSIONS;
    return extensions;
}

static bool unknown(const char *what, const char *word, const CgTargetName *list, size_t count, SuDiags *diags) {
    const char *words[N_NAMES]; /* the longer list */
    for (size_t i = 0; i < count; i++) words[i] = list[i].name;
    const char *near = su_nearest(word, words, count), *hint = "run `mossc targets` to list them";
    if (near == NULL) return su_error(diags, (SuSpan){0}, hint, "unknown %s '%s'", what, word);
    return su_error(diags, (SuSpan){0}, hint, "unknown %s '%s'; did you mean '%s'?", what, word, near);
}

/* ---------------------------------------------------------------------------------------------- filling */

static void copy_text(char *to, size_t size, const char *from) {
    size_t length = strlen(from);
    length = length < size ? length : size - 1;
    memcpy(to, from, length);
    to[length] = '\0';
}

static bool fill(CgTarget *t, const char *triple, const char *cpu, const char *features, const CgTarget *family, SuDiags *diags) {
    CgTarget filled = *family;
    memcpy(filled.name, t->name, sizeof filled.name);
    filled.native = t->native;
    copy_text(filled.triple, sizeof filled.triple, triple);
    copy_text(filled.cpu, sizeof filled.cpu, cpu);
    filled.features = su_copy(features);
    *t = filled;
    return t->features != NULL || su_error(diags, (SuSpan){0}, NULL, "out of memory");
}

/* Makes both kinds of processors known to LLVM, whichever this is: an object may be for the other one. false after adding to diags. */
static bool initialise_llvm(SuDiags *diags) {
    if (!cg_has_address_space())
        return su_error(diags, (SuSpan){0}, "raise its limit (ulimit -v)", "out of memory: LLVM needs %d MiB of address space",
                        CG_ADDRESS_SPACE_MIB);
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
    return true;
}

/* ---------------------------------------------------------------------------------------------- the host */

/* Whether LLVM's feature list ("+avx2,-sse4a,…") switches `name` on. */
static bool has_feature(const char *features, const char *name) {
    size_t length = strlen(name);
    for (const char *at = strstr(features, name); at != NULL; at = strstr(at + 1, name)) {
        bool whole = at[length] == ',' || at[length] == '\0';
        if (at > features && at[-1] == '+' && whole) return true;
    }
    return false;
}

static bool has_all(const char *features, const char *const *wanted) {
    for (; *wanted != NULL; wanted++)
        if (!has_feature(features, *wanted)) return false;
    return true;
}

/* Kernels for VNNI, and for BF16, that run without them. */
static bool fill_in_ir(CgTarget *t, const char *isa, const char *triple, SuDiags *diags) {
    snprintf(t->name, sizeof t->name, "host-%s", isa);
    if (!fill(t, triple, "x86-64-v3", "", &avx512, diags)) return false;
    use_vnni(t);
    t->dot_in_ir = t->dot_dual = true; /* so that any processor tests both */
    if (strcmp(isa, VNNI_IN_IR) == 0) return true;
    use_bf16(t);
    t->bf16_in_ir = true;
    t->amx_in_ir = t->amx_bytes = t->amx_bf16 = strcmp(isa, AMX_IN_IR) == 0;
    return true;
}

static bool fill_x86(CgTarget *t, const char *isa, const char *triple, const char *cpu, const char *features, SuDiags *diags) {
    SuSpan nowhere = {0};
    bool wide = has_all(features, avx512_features), wants_wide = isa == NULL || strcmp(isa, "avx512") == 0;
    bool vnni = isa == NULL && has_feature(features, wide ? "avx512vnni" : "avxvnni");
    if (!has_all(features, avx2_features)) {
        return su_error(diags, nowhere, "expected x86-64-v3 (AVX2, FMA, F16C, BMI2): Intel Haswell or later, AMD Zen or later",
                        "this processor (%s) is not one that mossc makes code for", cpu);
    }
    if (isa != NULL && strcmp(isa, "neon") == 0) return su_error(diags, nowhere, NULL, "this processor (%s) has no neon", cpu);
    if (isa != NULL && strstr(isa, "-in-ir") != NULL) return fill_in_ir(t, isa, triple, diags);
    if (!wide && isa != NULL && wants_wide)
        return su_error(diags, nowhere, "it needs AVX-512 F, BW, DQ and VL", "this processor (%s) has no AVX-512", cpu);
    if (wide && !wants_wide) {
        copy_text(t->name, sizeof t->name, "host-avx2");
        return fill(t, triple, "x86-64-v3", "", &avx2, diags);
    }
    if (isa != NULL) copy_text(t->name, sizeof t->name, wide ? "host-avx512" : "host-avx2");
    if (!fill(t, triple, cpu, features, wide ? &avx512 : &avx2, diags)) return false;
    if (vnni) use_vnni(t);
    if (isa == NULL && wide && has_feature(features, "avx512bf16")) use_bf16(t);
    if (vnni && wide && has_feature(features, "amx-tile")) {
        t->amx_bytes = has_feature(features, "amx-int8");
        t->amx_bf16 = t->bf16 != CG_BF16_NONE && has_feature(features, "amx-bf16");
    }
    suit_processor(t, cpu);
    return true;
}

static bool fill_arm_host(CgTarget *t, const char *isa, const char *triple, const char *cpu, const char *features, SuDiags *diags) {
    bool plain = isa != NULL && strcmp(isa, "neon") == 0, sdot = !plain && has_feature(features, "dotprod");
    bool smmla = sdot && has_feature(features, "i8mm"), bf16 = !plain && has_feature(features, "bf16");
    if (isa != NULL && !plain) return su_error(diags, (SuSpan){0}, NULL, "this processor (%s) has no %s", cpu, isa);
    if (plain) copy_text(t->name, sizeof t->name, "host-neon");
    SuText ours = {0};
    su_text_add(&ours, "%s%s%s%s", aarch64_features, sdot ? ",+dotprod" : "", smmla ? ",+i8mm" : "", bf16 ? ",+bf16" : "");
    bool ok = fill(t, triple, cpu, ours.text, &neon, diags);
    su_text_free(&ours);
    if (ok) use_way(t, smmla ? CG_DOT_SMMLA : sdot ? CG_DOT_SDOT : CG_DOT_SMLAL);
    if (ok && bf16) use_bf16(t);
    return ok;
}

static bool is_isa(const char *word) {
    static const char *const words[] = {"avx2", "avx512", "neon", VNNI_IN_IR, BF16_IN_IR, AMX_IN_IR};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i], word) == 0) return true;
    return false;
}

bool cg_target_host(const char *isa, CgTarget *out_target, SuDiags *diags) {
    memset(out_target, 0, sizeof *out_target);
    if (isa != NULL && !is_isa(isa))
        return su_error(diags, (SuSpan){0}, "use avx2, avx512 or neon, or leave it out for the best available",
                        "unknown instruction set '%s'", isa);
    if (!initialise_llvm(diags)) return false;
    copy_text(out_target->name, sizeof out_target->name, "host");
    out_target->native = true;
    char *triple = LLVMGetDefaultTargetTriple(), *cpu = LLVMGetHostCPUName(), *features = LLVMGetHostCPUFeatures();
    bool arm = strncmp(triple, "aarch64", strlen("aarch64")) == 0;
    bool ok = arm ? fill_arm_host(out_target, isa, triple, cpu, features, diags)
                  : fill_x86(out_target, isa, triple, cpu, features, diags);
    LLVMDisposeMessage(triple);
    LLVMDisposeMessage(cpu);
    LLVMDisposeMessage(features);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- any target */

/* Appends LLVM's words for "+dotprod+fp16…" to `features`. way: that of the core, then with the extensions; smmla wants dotprod too,
 * for one row. out_bf16 becomes true where that is among them. */
static bool add_extensions(const char *list, SuText *features, CgDotWay *way, bool *out_bf16, SuDiags *diags) {
    bool i8mm = false;
    while (*list == '+') {
        char word[32];
        size_t size = strcspn(list + 1, "+"), i = 0;
        copy_text(word, size + 1 < sizeof word ? size + 1 : sizeof word, list + 1);
        while (i < N_ARM_EXTENSIONS && strcmp(word, extensions[i].name) != 0) i++;
        if (i == N_ARM_EXTENSIONS) return unknown("extension", word, extensions, N_ARM_EXTENSIONS, diags);
        su_text_add(features, ",%s", extension_features[i]);
        if (i == DOTPROD && *way == CG_DOT_SMLAL) *way = CG_DOT_SDOT;
        i8mm = i8mm || i == I8MM;
        *out_bf16 = *out_bf16 || i == BF16;
        list += 1 + size;
    }
    if (i8mm && *way == CG_DOT_SDOT) *way = CG_DOT_SMMLA;
    return true;
}

/* The core called by the first `size` bytes of `name`; N_NAMES: none is. */
static size_t find_core(const char *name, size_t size) {
    size_t i = FIRST_CORE;
    while (i < N_NAMES && (strlen(names[i].name) != size || memcmp(names[i].name, name, size) != 0)) i++;
    return i;
}

/* LLVM's word for an extension of a PC; NULL: there is none. */
static const char *pc_feature(size_t extension, bool wide) {
    if (extension == VNNI) return wide ? "+avx512vnni" : "+avxvnni";
    return extension == BF16 && wide ? "+avx512bf16" : NULL;
}

/* x86-64-v3 or x86-64-v4, and extensions: "+vnni", "+vnni+bf16". */
static bool fill_pc(CgTarget *t, bool wide, const char *list, SuDiags *diags) {
    bool has[N_EXTENSIONS] = {false};
    char features[64] = "";
    size_t used = 0;
    for (size_t size; *list == '+'; list += 1 + size) {
        char word[32];
        size_t i = BF16;
        size = strcspn(list + 1, "+");
        copy_text(word, size + 1 < sizeof word ? size + 1 : sizeof word, list + 1);
        while (i < N_EXTENSIONS && (strcmp(word, extensions[i].name) != 0 || pc_feature(i, wide) == NULL)) i++;
        if (i == N_EXTENSIONS) {
            size_t first = wide ? BF16 : VNNI;
            return unknown("extension", word, &extensions[first], N_EXTENSIONS - first, diags);
        }
        if (!has[i])
            used += (size_t)snprintf(features + used, sizeof features - used, "%s%s", used > 0 ? "," : "", pc_feature(i, wide));
        has[i] = true;
    }
    if (!initialise_llvm(diags) ||
        !fill(t, x86_triple, names[wide ? AVX512_PC : AVX2_PC].name, features, wide ? &avx512 : &avx2, diags))
        return false;
    if (has[VNNI]) use_vnni(t);
    if (has[BF16]) use_bf16(t);
    return true;
}

bool cg_target_by_name(const char *name, CgTarget *out_target, SuDiags *diags) {
    static const char arch[] = "aarch64";
    if (strcmp(name, "host") == 0) return cg_target_host(NULL, out_target, diags);
    memset(out_target, 0, sizeof *out_target);
    copy_text(out_target->name, sizeof out_target->name, name);
    for (size_t pc = AVX2_PC; pc <= AVX512_PC; pc++) {
        size_t length = strlen(names[pc].name);
        bool is = strncmp(name, names[pc].name, length) == 0 && (name[length] == '+' || name[length] == '\0');
        if (is) return fill_pc(out_target, pc == AVX512_PC, name + length, diags);
    }
    bool prefixed = strncmp(name, "aarch64:", sizeof arch) == 0;
    const char *core = prefixed ? name + sizeof arch : name;
    size_t size = strcspn(core, "+");
    bool generic = size == sizeof arch - 1 && memcmp(core, arch, size) == 0 && !prefixed;
    size_t found = generic ? ANY_CORE : find_core(core, size);
    if (found == N_NAMES) return unknown(prefixed ? "core" : "target", core, names, N_NAMES, diags);
    SuText features = {0};
    su_text_add(&features, "%s", aarch64_features);
    CgDotWay way = ways[found];
    bool bf16 = way == CG_DOT_SMMLA; /* cores that have i8mm have it */
    const char *cpu = generic ? "generic" : names[found].name;
    bool ok = initialise_llvm(diags) && add_extensions(core + size, &features, &way, &bf16, diags) &&
              fill(out_target, aarch64_triple, cpu, features.text, &neon, diags);
    su_text_free(&features);
    if (ok) use_way(out_target, way);
    if (ok && bf16) use_bf16(out_target);
    return ok;
}

void cg_target_free(CgTarget *target) {
    su_free(target->features);
    target->features = NULL;
}
