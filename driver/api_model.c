/* mossc/mossc.h: from a spec to a model that runs. */
#include <string.h>

#include "driver/api.h"
#include "driver/device.h"
#include "driver/fresh.h"
#include "driver/text.h"
#include "support/alloc.h"

static const MossError fine = {.code = MOSS_OK};

static MossError no_memory(void) {
    return (MossError){.code = MOSS_NO_MEMORY, .text = "cannot allocate memory for a compiled model"};
}

/* ---------------------------------------------------------------------------------------------- compiling */

static DrBuildOptions build_options(const MosscSpec *spec, const MosscCompileOptions *o) {
    DrBuildOptions options = api_options(spec);
    options.device = o->device;
    options.isa = o->isa;
    options.fast = o->fast;
    options.cache = o->no_cache ? DR_NO_CACHE : DR_CACHE;
    options.no_tune = o->no_cache;
    options.cache_directory = o->cache_directory;
    return options;
}

static bool compile(DrBuild *build, const DrBuildOptions *options) {
    if (!dr_build_spec(build, options)) return false;
    su_diags_free(&build->diags); /* warnings, which mossc_spec_open told */
    return dr_build_device(build, options) && dr_build_graph(build) && dr_build_program(build, options) &&
           dr_build_code(build, options);
}

MossError mossc_compile(const MosscSpec *spec, const MosscCompileOptions *options, MosscDiags *diags,
                        MosscCompiled **out_compiled) {
    *out_compiled = NULL;
    MosscCompiled *compiled = su_calloc(1, sizeof *compiled);
    if (!compiled) return no_memory();
    MosscCompileOptions all;
    bool ok = dr_take_ok(&compiled->build, rt_take_sized("MosscCompileOptions", options, &all, sizeof all));
    if (ok) {
        DrBuildOptions o = build_options(spec, &all);
        ok = compile(&compiled->build, &o);
    }
    MossError error = api_result(&compiled->build, ok, MOSS_BAD_SPEC, diags);
    if (ok)
        *out_compiled = compiled;
    else
        mossc_compiled_free(compiled);
    return error;
}

void mossc_compiled_free(MosscCompiled *compiled) {
    if (!compiled) return;
    dr_build_free(&compiled->build);
    su_free(compiled);
}

const MossProgram *mossc_compiled_program(const MosscCompiled *compiled) { return compiled->build.program; }

uint32_t mossc_compiled_kernels(const MosscCompiled *compiled) { return compiled->build.program->n_kernels; }

uint32_t mossc_compiled_found(const MosscCompiled *compiled) { return compiled->build.kernels_found; }

/* ---------------------------------------------------------------------------------------------- weights */

/* The caller's options on the device of `compiled`. */
static MossError options_on(const MosscCompiled *compiled, const MossOptions *given, MossOptions *out_options) {
    MossError error = rt_take_options(given, out_options);
    out_options->device = compiled->build.device;
    return error;
}

MossError mossc_model_open(MosscCompiled *compiled, const char *const *paths, size_t n_paths, const MossOptions *options,
                           MosscDiags *diags, MossModel **out_model) {
    DrBuild *build = &compiled->build;
    MossOptions moss;
    *out_model = NULL;
    MossError error = options_on(compiled, options, &moss);
    if (error.code == MOSS_OK) error = moss_model_load(build->program, dr_codes(build), paths, n_paths, &moss, out_model);
    return api_result(build, dr_take_ok(build, error), MOSS_BAD_WEIGHTS, diags);
}

MossError mossc_model_from_memory(MosscCompiled *compiled, MossTensorLookup lookup, void *context, const MossOptions *options,
                                  MosscDiags *diags, MossModel **out_model) {
    DrBuild *build = &compiled->build;
    MossOptions moss;
    *out_model = NULL;
    MossError error = options_on(compiled, options, &moss);
    if (error.code == MOSS_OK) error = moss_model_from_memory(build->program, dr_codes(build), lookup, context, &moss, out_model);
    return api_result(build, dr_take_ok(build, error), MOSS_BAD_WEIGHTS, diags);
}

MossError mossc_model_fresh(MosscCompiled *compiled, uint64_t seed, const MossOptions *options, MosscDiags *diags,
                            MossModel **out_model) {
    DrBuild *build = &compiled->build;
    MossOptions moss;
    *out_model = NULL;
    bool ok = dr_take_ok(build, options_on(compiled, options, &moss)) && dr_fresh_model(build, seed, &moss, out_model);
    return api_result(build, ok, MOSS_NO_MEMORY, diags);
}

MossError mossc_fresh_write(MosscSpec *spec, uint64_t seed, const char *path, MossProgress progress, void *context,
                            MosscDiags *diags) {
    DrProgress told = {.context = context, .update = progress};
    bool ok = dr_write_fresh(&spec->build, seed, &told, path);
    return api_result(&spec->build, ok, MOSS_NO_FILE, diags);
}

/* ---------------------------------------------------------------------------------------------- text */

static MossError tokenizer_open_unguarded(const MosscSpec *spec, MosscDiags *diags, MossTokenizer **out_tokenizer) {
    DrBuild messages = {0};
    *out_tokenizer = dr_tokenizer(&spec->build.spec, &messages.diags);
    MossError error = api_result(&messages, *out_tokenizer != NULL, MOSS_BAD_INPUT, diags);
    dr_build_free(&messages);
    return *out_tokenizer ? fine : error;
}

MossError mossc_tokenizer_open(const MosscSpec *spec, MosscDiags *diags, MossTokenizer **out_tokenizer) {
    *out_tokenizer = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "opening a tokenizer")) return rt_failure(&guard.failure);
    MossError result = tokenizer_open_unguarded(spec, diags, out_tokenizer);
    su_guard_end(&guard);
    return result;
}

void mossc_shutdown(void) { cg_llvm_shutdown(); }
