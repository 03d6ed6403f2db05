/* This process and its CPUs, or another machine's when code is only made. */
#include <string.h>

#include "driver/device.h"
#include "driver/target.h"
#include "driver/tuning.h"

static bool is_target(const char *name) {
    (void)name;
    return true; /* whatever no other kind knows: its own message says what there is */
}

/* Without products of bf16 `fast` would change nothing, which is not what is asked for. */
static bool check_fast(DrBuild *build, const DrBuildOptions *options, const CgTarget *target) {
    CgTarget host;
    if (!target && !cg_target_host(options->isa, &host, &build->diags)) return false;
    const CgTarget *of = target ? target : &host;
    bool has = of->bf16 != CG_BF16_NONE;
    if (!has)
        su_error(&build->diags, (SuSpan){0}, "leave it out: this processor always gives the same bits",
                 "--fast needs sums of bfloat16 products (AVX-512 BF16, or bf16 of ARM), which %s lacks", of->name);
    if (!target) cg_target_free(&host);
    return has;
}

static bool find_target(DrBuild *build, const char *name, bool fast) {
    build->has_target = dr_find_target(name, &build->arena, &build->target, &build->diags);
    return build->has_target && (!fast || check_fast(build, NULL, &build->target));
}

static CgTargetName target_name(int index) {
    size_t count;
    const CgTargetName *names = cg_target_names(&count);
    return (size_t)index < count ? names[index] : (CgTargetName){0};
}

static bool compile(DrBuild *build, const DrBuildOptions *options, CgCache *cache) {
    if (!dr_build_schedules(build, options)) return false;
    CgOptions code = {.dump_dir = options->dump_dir,
                      .cache = cache,
                      .schedules = build->schedules,
                      .debugger = options->debugger,
                      .spec_path = options->spec};
    if (!cg_llvm_compile(&build->target, build->program, &code, &build->compiled, &build->diags)) return false;
    if (cache) build->kernels_found = cg_cache_stats(cache).found;
    return true;
}

static const char *const forms[] = {"asm", "llvm", NULL};
enum { FORM_ASSEMBLY, FORM_LLVM };

static bool print(DrBuild *build, int form, FILE *out) {
    return cg_llvm_print(&build->target, build->program, form == FORM_LLVM, out, &build->diags);
}

static void describe(const DrBuild *build, DrFacts *out) {
    *out = (DrFacts){.count = 2};
    int threads = build->model ? moss_model_threads(build->model) : 0;
    snprintf(out->title, sizeof out->title, "%d threads, %d float lanes", threads, build->target.vector_lanes);
    out->items[0].key = "threads", out->items[0].number = threads;
    out->items[1].key = "vector_lanes", out->items[1].number = build->target.vector_lanes;
}

static const char *name_of_target(const DrBuild *build) { return build->target.name; }

const DrDeviceKind dr_cpu = {
    .name = "cpu",
    .takes = DR_ISA | DR_DEBUGGER | DR_THREADS | DR_CPUS | DR_EXPLAIN,
    .check_fast = check_fast,
    .bf16_inputs = true,
    .is_target = is_target,
    .find_target = find_target,
    .target_name = target_name,
    .compile = compile,
    .forms = forms,
    .print = print,
    .artefact = {.templates = "", .code = ".o", .sources = ".o", .libraries = "-lm -pthread", .target_name = name_of_target},
    .describe = describe,
};
