/* The stages in order; a reader finds each from here. */
#include "driver/build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "driver/cache_directory.h"
#include "driver/device.h"
#include "frontend/lower.h"
#include "runtime/packed.h"
#include "runtime/weights.h"
#include "support/clock.h"

bool dr_build_spec(DrBuild *build, const DrBuildOptions *options) {
    build->has_spec = true;
    size_t n_sets = options->sets ? options->sets->count : 0;
    const char *const *sets = n_sets ? options->sets->items : NULL;
    if (options->spec_text)
        return fe_spec_parse(options->spec, options->spec_text, options->spec_size, sets, n_sets, &build->spec, &build->diags);
    return fe_spec_load(options->spec, sets, n_sets, &build->spec, &build->diags);
}

static bool build_graph_unguarded(DrBuild *build) {
    build->graph = fe_lower(&build->spec, &build->arena);
    return true;
}

bool dr_build_graph(DrBuild *build) {
    su_arena_settle(&build->arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "making the graph")) return false;
    bool result = build_graph_unguarded(build);
    su_guard_end(&guard);
    return result;
}

bool dr_build_program(DrBuild *build, const DrBuildOptions *options) {
    if (options->off) memcpy(build->passes.off, options->off, sizeof build->passes.off);
    build->passes.dump_dir = options->dump_dir;
    build->passes.check |= DR_DEBUG_BUILD;
    build->passes.max_rows = dr_kind(build)->max_rows;
    build->passes.few = dr_kind(build)->few;
    build->passes.live = build->live;
    build->passes.bf16_inputs = options->fast && dr_kind(build)->bf16_inputs;
    return ps_fuse(build->graph, &build->passes, &build->diags) &&
           sc_program(build->graph, &build->passes, &build->arena, &build->program, &build->diags);
}

/* NULL: there is no directory for one. */
static const char *cache_directory(DrBuild *build, const DrBuildOptions *options) {
    return options->cache_directory ? options->cache_directory : dr_cache_directory(&build->arena);
}

static CgCache *open_cache(DrBuild *build, const char *directory) {
    return directory ? cg_cache_open(directory, dr_cache_most_bytes(&build->diags)) : NULL;
}

/* Says why kernels cannot be kept, if they cannot. false: they must be. */
static bool check_cache(DrBuild *build, const DrBuildOptions *options, const char *directory, const CgCache *cache) {
    const char *hint = "set MOSSC_CACHE_DIR to a writable directory";
    CgCacheStats stats = directory ? cg_cache_stats(cache) : (CgCacheStats){.problem = "HOME is not set"};
    SuSpan span = directory ? su_file_span(&build->diags, directory) : (SuSpan){0};
    bool needed = options->cache == DR_CACHE_NEEDED;
    if (needed && stats.overfull) {
        return su_error(&build->diags, span, "increase MOSSC_CACHE_SIZE (MiB)",
                        "kernels of this spec alone exceed the size limit of the cache");
    }
    if (!stats.problem) return true;
    if (needed) return su_error(&build->diags, span, hint, "kernels cannot be kept: %s", stats.problem);
    su_warning(&build->diags, span, hint, "kernels cannot be kept: %s", stats.problem);
    return true;
}

static bool build_code_unguarded(DrBuild *build, const DrBuildOptions *options) {
    bool cached = options->cache != DR_NO_CACHE && !options->dump_dir;
    const char *directory = cached ? cache_directory(build, options) : NULL;
    CgCache *cache = open_cache(build, directory);
    dr_progress_begin(&options->progress, "compiling", "kernels", false);
    bool ok = dr_kind(build)->compile(build, options, cache);
    dr_progress_end(&options->progress);
    ok = (!cached || check_cache(build, options, directory, cache)) && ok;
    cg_cache_close(cache);
    return ok;
}

bool dr_build_code(DrBuild *build, const DrBuildOptions *options) {
    su_arena_settle(&build->arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "compiling kernels")) return false;
    bool result = build_code_unguarded(build, options);
    su_guard_end(&guard);
    return result;
}

const PgCode *dr_codes(const DrBuild *build) { return build->device ? NULL : cg_codes(build->compiled); }

void dr_note(void *diags, const char *text) { su_warning(diags, (SuSpan){0}, NULL, "%s", text); }

MossOptions dr_moss_options(DrBuild *build, const DrBuildOptions *options) {
    return (MossOptions){.size = sizeof(MossOptions),
                         .threads = (int)options->threads,
                         .progress = options->progress.update,
                         .progress_context = options->progress.context,
                         .verify = options->verify,
                         .device = build->device,
                         .note = dr_note,
                         .note_context = &build->diags};
}

/* Fewer workers than asked for are slower, not wrong. */
static void warn_of_missing_threads(DrBuild *build) {
    int error, missing = build->model ? moss_model_missing_threads(build->model, &error) : 0;
    if (!missing) return;
    int there = moss_model_threads(build->model);
    su_warning(&build->diags, (SuSpan){0}, "check ulimit -u and the container's process limit",
               "expected %d threads, got %d: cannot start another: %s", there + missing, there, strerror(error));
}

bool dr_build_weights(DrBuild *build, const DrBuildOptions *options) {
    MossOptions moss = dr_moss_options(build, options);
    dr_progress_begin(&options->progress, "loading weights", "bytes", true);
    MossError error =
        moss_model_load(build->program, dr_codes(build), options->weights->items, options->weights->count, &moss, &build->model);
    dr_progress_end(&options->progress);
    warn_of_missing_threads(build);
    return dr_take_ok(build, error);
}

bool dr_build_from_memory(DrBuild *build, const DrBuildOptions *options, const char *what, MossTensorLookup lookup, void *context) {
    MossOptions moss = dr_moss_options(build, options);
    dr_progress_begin(&options->progress, what, "bytes", true);
    MossError error = moss_model_from_memory(build->program, dr_codes(build), lookup, context, &moss, &build->model);
    dr_progress_end(&options->progress);
    warn_of_missing_threads(build);
    return dr_take_ok(build, error);
}

static bool check_packed(DrBuild *build, RtWeightFile *file) {
    RtPacked packed;
    if (!rt_packed_take(&file->map, file->path, build->program, &packed, &build->diags)) return false;
    su_map_close(&packed.map);
    return true;
}

static bool check_checkpoints(DrBuild *build, RtWeightFiles *files) {
    RtCheckpoints checkpoints;
    const PgProgram *program = build->program;
    if (!rt_checkpoints_take(files, program->tensors, program->n_tensors, &checkpoints, &build->diags)) return false;
    rt_checkpoints_close(&checkpoints);
    return true;
}

static bool build_files_unguarded(DrBuild *build, const DrBuildOptions *options) {
    RtWeightFiles files;
    if (!rt_weight_files_open(options->weights->items, options->weights->count, &files, &build->diags)) return false;
    bool ok = rt_weight_files_are_packed(&files) ? check_packed(build, &files.items[0]) : check_checkpoints(build, &files);
    rt_weight_files_close(&files);
    return ok;
}

bool dr_build_files(DrBuild *build, const DrBuildOptions *options) {
    su_arena_settle(&build->arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "reading weights")) return false;
    bool result = build_files_unguarded(build, options);
    su_guard_end(&guard);
    return result;
}

bool dr_build_model(DrBuild *build, const DrBuildOptions *options) {
    double start = su_seconds();
    bool ok = dr_build_device(build, options) &&  /* where it will run */
              dr_build_graph(build) &&            /* Spec -> Graph */
              dr_build_program(build, options) && /* Graph -> fused Graph -> Program */
              dr_build_files(build, options) &&   /* checkpoints */
              dr_build_code(build, options);      /* Program -> kernels */
    double middle = su_seconds();
    ok = ok && dr_build_weights(build, options); /* kernels, checkpoints -> Model */
    build->compile_seconds = middle - start;
    build->load_seconds = su_seconds() - middle;
    return ok;
}

void dr_build_free(DrBuild *build) {
    moss_model_free(build->model);
    moss_device_free(build->device);
    cg_compiled_free(build->compiled);
    if (build->has_target) cg_target_free(&build->target);
    if (build->has_spec) fe_spec_free(&build->spec);
    su_arena_free(&build->arena);
    su_diags_free(&build->diags);
    *build = (DrBuild){0};
}

DrBuild dr_build_again(const DrBuild *build) { return (DrBuild){.kind = build->kind, .device = build->device, .gpu = build->gpu}; }

void dr_build_forget(DrBuild *again) {
    again->device = NULL;
    dr_build_free(again);
}

static void add_lines(SuDiags *diags, MossError error) {
    for (const char *line = error.text; *line;) {
        int size = (int)strcspn(line, "\n");
        su_error(diags, (SuSpan){0}, NULL, "%.*s", size, line);
        line += size + (line[size] == '\n');
    }
}

bool dr_moss_ok(SuDiags *diags, MossError error) {
    if (error.code == MOSS_OK) return true;
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "putting an error into words")) return false;
    add_lines(diags, error);
    su_guard_end(&guard);
    return false;
}

bool dr_take_ok(DrBuild *build, MossError error) {
    if (error.code != MOSS_OK) build->code = error.code;
    return dr_moss_ok(&build->diags, error);
}

bool dr_make_directory(SuDiags *diags, const char *path) {
    struct stat st;
    if (mkdir(path, 0777) == 0) return true;
    if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return true;
    return su_error(diags, su_file_span(diags, path), NULL, "cannot create directory: %s", strerror(errno));
}
