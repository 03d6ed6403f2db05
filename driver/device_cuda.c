/* NVIDIA GPUs. */
#include <stdlib.h>
#include <string.h>

#include "codegen/artefact.h"
#include "codegen/cuda/compile.h"
#include "driver/device.h"
#include "runtime/cuda/moss_cuda.h"

static bool find_code(const char *word, CgCudaTarget *out_target) {
    SuDiags diags = {0};
    char name[32];
    bool whole = snprintf(name, sizeof name, "cuda:%s", word) < (int)sizeof name;
    bool found = whole && cg_cuda_target_by_name(name, out_target, &diags);
    su_diags_free(&diags);
    return found;
}

static bool is_code(const char *word) {
    CgCudaTarget target;
    return find_code(word, &target);
}

/* The architecture with the suffix that is asked for, of the very GPU. */
static bool take_code(DrBuild *build, const char *word, const MossCudaFacts *facts) {
    CgCudaTarget asked;
    if (!find_code(word, &asked)) return true; /* a number stands there */
    if (asked.architecture.number != facts->architecture) {
        return su_error(&build->diags, (SuSpan){0}, NULL, "code for %s does not run on %s (sm_%d)", word, facts->name,
                        facts->architecture);
    }
    asked.multiprocessors = facts->multiprocessors;
    asked.shared = facts->shared;
    build->gpu = asked;
    return true;
}

static bool open_gpu(DrBuild *build, int ordinal, const DrBuildOptions *options) {
    if (!dr_take_ok(build, moss_cuda_open(ordinal, &build->device))) return false;
    const MossCudaFacts *facts = moss_cuda_facts(build->device);
    const char *word = options->device ? strrchr(options->device, ':') : NULL;
    build->gpu = cg_cuda_target_of(facts->architecture, facts->multiprocessors, facts->shared);
    if (word && !take_code(build, word + 1, facts)) return false;
    build->gpu.fast = options->fast;
    return true;
}

static bool find_target(DrBuild *build, const char *name, bool fast) {
    if (!cg_cuda_target_by_name(name, &build->gpu, &build->diags)) return false;
    build->gpu.fast = fast;
    return true;
}

static bool compile(DrBuild *build, const DrBuildOptions *options, CgCache *cache) {
    (void)options;
    CgCudaOptions what = {.output = CG_CUDA_RUNS, .cache = cache};
    CgCudaCode code = {0};
    bool ok = cg_cuda_compile(&build->gpu, build->program, &what, &code, &build->diags);
    if (ok && build->device) ok = dr_take_ok(build, moss_cuda_code(build->device, build->program, code.image, code.size));
    build->kernels_found = code.found ? build->program->n_kernels : 0;
    cg_cuda_code_free(&code);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- its code, to be looked at */

static const char *const forms[] = {"cuda", "ptx", "cubin", NULL};
enum { FORM_CUDA, FORM_PTX, FORM_CUBIN };

static bool print_text(DrBuild *build, FILE *out) {
    SuText text = {0};
    cg_cuda_print(&build->gpu, build->program, &build->arena, &text);
    fwrite(text.text, 1, text.size, out);
    su_text_free(&text);
    return true;
}

static bool print(DrBuild *build, int form, FILE *out) {
    if (form == FORM_CUDA) return print_text(build, out);
    CgCudaOptions options = {.output = form == FORM_PTX ? CG_CUDA_PTX : CG_CUDA_CUBIN};
    CgCudaCode code;
    if (!cg_cuda_compile(&build->gpu, build->program, &options, &code, &build->diags)) return false;
    fwrite(code.image, 1, code.form == CG_NVRTC_PTX ? code.size - 1 : code.size, out); /* PTX ends in a NUL */
    cg_cuda_code_free(&code);
    return true;
}

/* ---------------------------------------------------------------------------------------------- artefacts */

static bool write_image(DrBuild *build, CgCudaOutput output, const char *suffix, DrWriteFile write, void *context) {
    CgCudaOptions options = {.output = output};
    CgCudaCode code;
    if (!cg_cuda_compile(&build->gpu, build->program, &options, &code, &build->diags)) return false;
    size_t size = code.form == CG_NVRTC_PTX ? code.size - 1 : code.size; /* a file needs no NUL */
    bool ok = write(context, suffix, code.image, size);
    cg_cuda_code_free(&code);
    return ok;
}

/* For the very architecture, for later ones, and what the host must know. */
static bool write_code(DrBuild *build, const char *symbol, DrWriteFile write, void *context) {
    if (!write_image(build, CG_CUDA_CUBIN, ".cubin", write, context) || !write_image(build, CG_CUDA_PTX, ".ptx", write, context))
        return false;
    SuText tables = {0};
    cg_print_tables(build->program, symbol, &tables);
    bool ok = write(context, ".c", tables.text, tables.size);
    su_text_free(&tables);
    return ok;
}

static const char *name_of_target(const DrBuild *build) { return build->gpu.name; }

/* ---------------------------------------------------------------------------------------------- what is told of it */

static void describe(const DrBuild *build, DrFacts *out) {
    const MossCudaFacts *facts = moss_cuda_facts(build->device);
    char driver[32];
    snprintf(driver, sizeof driver, "%d.%d", facts->driver / 1000, facts->driver % 1000 / 10);
    *out = (DrFacts){.count = 5, .memory = facts->memory};
    snprintf(out->title, sizeof out->title, "%s (sm_%d, %d multiprocessors, driver of CUDA %s)", facts->name, facts->architecture,
             facts->multiprocessors, driver);
    out->items[0].key = "device";
    snprintf(out->items[0].text, sizeof out->items[0].text, "%s", facts->name);
    out->items[1].key = "architecture";
    snprintf(out->items[1].text, sizeof out->items[1].text, "sm_%d", facts->architecture);
    out->items[2].key = "multiprocessors", out->items[2].number = facts->multiprocessors;
    out->items[3].key = "driver";
    snprintf(out->items[3].text, sizeof out->items[3].text, "%s", driver);
    out->items[4].key = "memory_bytes", out->items[4].number = (double)facts->memory;
}

const DrDeviceKind dr_cuda = {
    .name = "cuda",
    .numbered = true,
    .is_code = is_code,
    .max_rows = CG_CUDA_MAX_ROWS,
    .few = &cg_cuda_few,
    .open = open_gpu,
    .is_target = cg_cuda_is_target,
    .find_target = find_target,
    .target_name = cg_cuda_target_name,
    .compile = compile,
    .forms = forms,
    .print = print,
    .write_code = write_code,
    .artefact = {.templates = "cuda/",
                 .runtime = "runtime/cuda/",
                 .code = ".cubin",
                 .sources = ".c mossrt/runtime/cuda/*.c",
                 .libraries = "-lm -ldl -pthread",
                 .target_name = name_of_target},
    .describe = describe,
};
