/* The stages in order; a reader finds each from here. */
#include "cli/pipeline.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cache_folder.h"
#include "cli/gpu.h"
#include "cli/progress.h"
#include "codegen/cache.h"
#include "frontend/lower.h"
#include "runtime/packed.h"
#include "runtime/weights.h"
#include "support/clock.h"
#include "support/file.h"

CliBuildOptions cli_build_options(const char *spec, const CliModelOptions *model) {
    return (CliBuildOptions){.spec = spec,
                             .sets = &model->sets,
                             .off = model->off,
                             .isa = model->isa,
                             .cache = model->no_cache ? CLI_NO_CACHE : CLI_CACHE,
                             .debugger = model->debugger,
                             .device = model->device,
                             .fast = model->fast,
                             .weights = &model->weights,
                             .threads = model->threads,
                             .progress = model->progress,
                             .verify = model->verify};
}

bool cli_build_spec(CliBuild *build, const CliBuildOptions *options) {
    build->has_spec = true;
    size_t n_sets = options->sets ? options->sets->count : 0;
    const char *const *sets = n_sets ? options->sets->items : NULL;
    return fe_spec_load(options->spec, sets, n_sets, &build->spec, &build->diags);
}

bool cli_build_graph(CliBuild *build) {
    build->graph = fe_lower(&build->spec, &build->arena);
    return true;
}

bool cli_build_program(CliBuild *build, const CliBuildOptions *options) {
    if (options->off) memcpy(build->passes.off, options->off, sizeof build->passes.off);
    build->passes.dump_dir = options->dump_dir;
    build->passes.check |= CLI_DEBUG_BUILD;
    if (build->gpu.architecture) build->passes.max_rows = CG_CUDA_MAX_ROWS;
    return ps_fuse(build->graph, &build->passes, &build->diags) &&
           ps_program(&build->spec, build->graph, &build->passes, &build->arena, &build->program, &build->diags);
}

static CgCache *open_cache(CliBuild *build) {
    const char *folder = cli_cache_folder(&build->arena);
    return folder ? cg_cache_open(folder, cli_cache_most_bytes(&build->diags)) : NULL;
}

/* Says why kernels cannot be kept, if they cannot. false: they must be. */
static bool check_cache(CliBuild *build, const CliBuildOptions *options, const CgCache *cache) {
    const char *folder = cli_cache_folder(&build->arena), *hint = "set MOSSC_CACHE_DIR to a folder that can be written";
    CgCacheStats stats = folder ? cg_cache_stats(cache) : (CgCacheStats){.problem = "HOME is not set"};
    SuSpan span = folder ? su_file_span(&build->diags, folder) : (SuSpan){0};
    bool needed = options->cache == CLI_CACHE_NEEDED;
    if (needed && stats.overfull) {
        return su_error(&build->diags, span, "set MOSSC_CACHE_SIZE to more MiB",
                        "the kernels of this spec alone take more room than the cache may");
    }
    if (!stats.problem) return true;
    if (needed) return su_error(&build->diags, span, hint, "kernels cannot be kept: %s", stats.problem);
    su_warning(&build->diags, span, hint, "kernels cannot be kept: %s", stats.problem);
    return true;
}

static bool build_host_code(CliBuild *build, const CliBuildOptions *options, CgCache *cache) {
    const char *isa = options->isa ? cli_isa_words[options->isa] : NULL;
    if (!build->has_target && !cg_target_host(isa, &build->target, &build->diags)) return false;
    build->has_target = true;
    CgOptions code = {
        .dump_dir = options->dump_dir, .cache = cache, .debugger = (CgDebugger)options->debugger, .spec_path = options->spec};
    if (!cg_llvm_compile(&build->target, build->program, &code, &build->compiled, &build->diags)) return false;
    if (cache) build->kernels_found = cg_cache_stats(cache).found;
    return true;
}

bool cli_build_code(CliBuild *build, const CliBuildOptions *options) {
    bool cached = options->cache != CLI_NO_CACHE && !options->dump_dir;
    CgCache *cache = cached ? open_cache(build) : NULL;
    CliProgress progress = cli_progress_start(options->progress, "compiling", "kernels");
    cli_progress_say(&progress);
    bool ok = build->gpu.architecture ? cli_build_gpu_code(build, cache) : build_host_code(build, options, cache);
    cli_progress_end(&progress);
    ok = (!cached || check_cache(build, options, cache)) && ok;
    cg_cache_close(cache);
    return ok;
}

const PgCode *cli_codes(const CliBuild *build) { return build->device ? NULL : cg_codes(build->compiled); }

MossOptions cli_moss_options(int64_t threads, CliProgress *progress) {
    return (MossOptions){.threads = (int)threads, .progress = cli_progress_callback, .progress_context = progress};
}

bool cli_build_weights(CliBuild *build, const CliBuildOptions *options) {
    CliProgress progress = cli_progress_start(options->progress, "loading weights", "bytes");
    MossOptions moss = cli_moss_options(options->threads, &progress);
    moss.verify = options->verify;
    moss.device = build->device;
    MossError error =
        moss_model_load(build->program, cli_codes(build), options->weights->items, options->weights->count, &moss, &build->model);
    cli_progress_end(&progress);
    return cli_moss_ok(&build->diags, error);
}

bool cli_build_files(CliBuild *build, const CliBuildOptions *options) {
    RtCheckpoints checkpoints;
    RtPacked packed;
    if (options->weights->count == 1 && rt_packed_is_file(options->weights->items[0])) {
        if (!rt_packed_open(options->weights->items[0], build->program, &packed, &build->diags)) return false;
        su_map_close(&packed.map);
        return true;
    }
    if (!rt_checkpoints_open(options->weights->items, options->weights->count, build->program->tensors, build->program->n_tensors,
                             &checkpoints, &build->diags)) {
        return false;
    }
    rt_checkpoints_close(&checkpoints);
    return true;
}

static void print_diags(CliBuild *build) {
    su_diags_print(&build->diags, stderr);
    build->diags.count = 0;
}

bool cli_check_output(CliBuild *build, const char *path) {
    if (!su_out_check(path, &build->diags)) return false;
    print_diags(build);
    return true;
}

bool cli_build_model(CliBuild *build, const CliBuildOptions *options) {
    print_diags(build);
    double start = su_seconds();
    bool ok = cli_build_device(build, options) &&  /* where it will run */
              cli_build_graph(build) &&            /* Spec -> Graph */
              cli_build_program(build, options) && /* Graph -> fused Graph -> Program */
              cli_build_files(build, options) &&   /* checkpoints */
              cli_build_code(build, options);      /* Program -> kernels */
    double middle = su_seconds();
    ok = ok && cli_build_weights(build, options); /* kernels, checkpoints -> Model */
    build->compile_seconds = middle - start;
    build->load_seconds = su_seconds() - middle;
    return ok;
}

int cli_build_finish(CliBuild *build, bool ok) {
    su_diags_print(&build->diags, stderr);
    moss_model_free(build->model);
    moss_device_free(build->device);
    cg_compiled_free(build->compiled);
    if (build->has_target) cg_target_free(&build->target);
    if (build->has_spec) fe_spec_free(&build->spec);
    su_arena_free(&build->arena);
    su_diags_free(&build->diags);
    return ok ? CLI_OK : CLI_FAILED;
}

bool cli_moss_ok(SuDiags *diags, MossError error) {
    if (error.code == MOSS_OK) return true;
    for (const char *line = error.text; *line;) {
        int size = (int)strcspn(line, "\n");
        su_error(diags, (SuSpan){0}, NULL, "%.*s", size, line);
        line += size + (line[size] == '\n');
    }
    return false;
}

bool cli_make_folder(SuDiags *diags, const char *path) {
    struct stat st;
    if (mkdir(path, 0777) == 0) return true;
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return true;
    return su_error(diags, su_file_span(diags, path), NULL, "cannot make this folder: %s", strerror(errno));
}
