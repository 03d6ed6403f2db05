/* Models from checkpoints and from memory, and making packed files: what a device that has packed weights does without. */
#include "runtime/model.h"
#include "runtime/packed.h"
#include "runtime/weights.h"

/* Packing is the first half of loading where a device gets the weights after it. */
typedef struct Half {
    const MossOptions *options;
    bool second;
} Half;

static void tell_half(void *context, uint64_t done, uint64_t total) {
    const Half *half = context;
    half->options->progress(half->options->progress_context, half->second ? total + done : done, 2 * total);
}

static void free_pages(void *pages) { rt_pages_free(pages); }

static void free_model(void *model) { moss_model_free(model); }

static void close_checkpoints(void *checkpoints) { rt_checkpoints_close(checkpoints); }

static void tell_notes(const MossOptions *options, const SuDiags *diags) {
    for (size_t i = 0; i < diags->count && options->note; i++)
        if (diags->items[i].severity == SU_WARNING) options->note(options->note_context, diags->items[i].message);
}

/* Packs tensors and gives them to the model; `drop`: they lie in mapped files. */
static MossError pack_for(MossModel *m, const RtStored *tensors, bool drop, const MossOptions *options) {
    RtPages weights = rt_pages_alloc(m->program->weight_bytes);
    if (!weights.data) {
        return rt_error(MOSS_NO_MEMORY, "cannot allocate %llu bytes for the model's weights",
                        (unsigned long long)m->program->weight_bytes);
    }
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, free_pages, &weights);
    Half half = {.options = options};
    bool halves = m->device && options->progress;
    MossProgress progress = halves ? tell_half : options->progress;
    void *context = halves ? (void *)&half : options->progress_context;
    RtPacking packing = {.program = m->program,
                         .tensors = tensors,
                         .drop = drop,
                         .workers = m->workers,
                         .progress = progress,
                         .progress_context = context,
                         .blob = weights.data};
    SuDiags diags = {0};
    bool good = rt_pack(&packing, &diags);
    tell_notes(options, &diags);
    MossError error = good ? (MossError){.code = MOSS_OK} : rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    su_diags_free(&diags);
    su_cleanup_done(&cleanup);
    if (good) {
        half.second = true;
        return rt_model_take(m, weights, progress, context);
    }
    rt_pages_free(&weights);
    return error;
}

static MossError make_model(const PgProgram *program, const PgCode *codes, const RtStored *tensors, bool drop,
                            const MossOptions *options, MossModel **out_model) {
    MossModel *m;
    MossError error = rt_model_make(program, codes, options, &m);
    if (error.code != MOSS_OK) return error;
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, free_model, m);
    error = pack_for(m, tensors, drop, options);
    su_cleanup_done(&cleanup);
    if (error.code == MOSS_OK)
        *out_model = m;
    else
        moss_model_free(m);
    return error;
}

/* ---- files */

/* A file that cannot be opened has its own code. */
static MossError open_files(const char *const *paths, size_t n_paths, RtWeightFiles *out) {
    SuDiags diags = {0};
    bool ok = rt_weight_files_open(paths, n_paths, out, &diags);
    MossError error = ok ? (MossError){.code = MOSS_OK} : rt_error_from(out->missing ? MOSS_NO_FILE : MOSS_BAD_WEIGHTS, &diags);
    su_diags_free(&diags);
    return error;
}

static MossError take_checkpoints(RtWeightFiles *files, const PgProgram *program, RtCheckpoints *out) {
    SuDiags diags = {0};
    bool ok = rt_checkpoints_take(files, program->tensors, program->n_tensors, out, &diags);
    MossError error = ok ? (MossError){.code = MOSS_OK} : rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    su_diags_free(&diags);
    return error;
}

static MossError load_packed(RtWeightFile *file, const PgProgram *program, const PgCode *codes, const MossOptions *options,
                             MossModel **out_model) {
    RtPacked packed;
    SuDiags diags = {0};
    bool ok = rt_packed_take(&file->map, file->path, program, &packed, &diags);
    MossError error = ok ? (MossError){.code = MOSS_OK} : rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    su_diags_free(&diags);
    return ok ? rt_model_of_packed(program, codes, &packed, file->path, options, out_model) : error;
}

static MossError load_checkpoints(RtWeightFiles *files, const PgProgram *program, const PgCode *codes, const MossOptions *options,
                                  MossModel **out_model) {
    RtCheckpoints checkpoints;
    MossError error = take_checkpoints(files, program, &checkpoints);
    if (error.code != MOSS_OK) return error;
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, close_checkpoints, &checkpoints);
    error = make_model(program, codes, checkpoints.tensors, true, options, out_model);
    su_cleanup_done(&cleanup);
    rt_checkpoints_close(&checkpoints);
    return error;
}

static MossError model_load_unguarded(const PgProgram *program, const PgCode *codes, const char *const *paths, size_t n_paths,
                                      const MossOptions *options, MossModel **out_model) {
    RtWeightFiles files;
    MossError error = open_files(paths, n_paths, &files);
    if (error.code != MOSS_OK) return error;
    error = rt_weight_files_are_packed(&files) ? load_packed(&files.items[0], program, codes, options, out_model)
                                               : load_checkpoints(&files, program, codes, options, out_model);
    rt_weight_files_close(&files);
    return error;
}

MossError moss_model_load(const PgProgram *program, const PgCode *codes, const char *const *paths, size_t n_paths,
                          const MossOptions *options, MossModel **out_model) {
    *out_model = NULL;
    MossOptions own;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "loading a model")) return rt_failure(&guard.failure);
    MossError result = rt_take_options(options, &own);
    if (result.code == MOSS_OK) result = model_load_unguarded(program, codes, paths, n_paths, &own, out_model);
    su_guard_end(&guard);
    return result;
}

static MossError weights_pack_unguarded(const PgProgram *program, const char *const *paths, size_t n_paths,
                                        const MossOptions *options, const char *out_path) {
    RtWeightFiles files;
    RtCheckpoints checkpoints;
    MossError error = open_files(paths, n_paths, &files);
    if (error.code != MOSS_OK) return error;
    error = take_checkpoints(&files, program, &checkpoints);
    rt_weight_files_close(&files);
    if (error.code != MOSS_OK) return error;
    SuDiags diags = {0};
    RtWorkers *workers = rt_model_workers(options);
    SuCleanup opened, threads;
    su_cleanup_add(&opened, close_checkpoints, &checkpoints);
    su_cleanup_add(&threads, rt_workers_drop, workers);
    if (!workers) {
        error = rt_error(MOSS_NO_MEMORY, "cannot allocate memory for the workers that pack weights");
    } else if (!rt_packed_write(out_path, program, checkpoints.tensors, workers, options->progress, options->progress_context,
                                &diags)) {
        error = rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    }
    tell_notes(options, &diags);
    su_cleanup_done(&threads);
    su_cleanup_done(&opened);
    rt_workers_free(workers);
    rt_checkpoints_close(&checkpoints);
    su_diags_free(&diags);
    return error;
}

MossError moss_weights_pack(const PgProgram *program, const char *const *paths, size_t n_paths, const MossOptions *options,
                            const char *out_path) {
    MossOptions own;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "packing weights")) return rt_failure(&guard.failure);
    MossError result = rt_take_options(options, &own);
    if (result.code == MOSS_OK) result = weights_pack_unguarded(program, paths, n_paths, &own, out_path);
    su_guard_end(&guard);
    return result;
}

/* ---- from memory */

/* Fills `tensor` as if a file held it. */
static bool look_up(const PgTensor *expected, MossTensorLookup lookup, void *context, RtTensor *tensor, SuDiags *diags) {
    const float *values = lookup(context, expected->name);
    if (!values) {
        return su_error(diags, (SuSpan){0}, NULL, "tensor '%s' is missing; expected shape %s", expected->name,
                        rt_shape_text(&diags->arena, expected->shape, expected->rank));
    }
    *tensor = (RtTensor){.name = expected->name,
                         .dtype_name = "F32",
                         .readable = true,
                         .dtype = IR_F32,
                         .rank = expected->rank,
                         .elements = 1,
                         .data = (const uint8_t *)values};
    for (int32_t i = 0; i < expected->rank; i++) {
        tensor->shape[i] = expected->shape[i];
        tensor->elements *= (uint64_t)expected->shape[i];
    }
    tensor->bytes = tensor->elements * sizeof(float);
    return true;
}

static MossError model_from_memory_unguarded(const PgProgram *program, const PgCode *codes, MossTensorLookup lookup, void *context,
                                             const MossOptions *options, MossModel **out_model) {
    SuDiags diags = {0};
    SuArena arena = {0};
    RtTensor *tensors = SU_NEW_ARRAY(&arena, RtTensor, program->n_tensors);
    RtStored *found = SU_NEW_ARRAY(&arena, RtStored, program->n_tensors);
    bool ok = true;
    *out_model = NULL;
    for (uint32_t i = 0; i < program->n_tensors; i++) {
        found[i].tensor = &tensors[i];
        ok = look_up(&program->tensors[i], lookup, context, &tensors[i], &diags) && ok;
    }
    MossError error = ok ? make_model(program, codes, found, false, options, out_model) : rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    su_arena_free(&arena);
    su_diags_free(&diags);
    return error;
}

MossError moss_model_from_memory(const PgProgram *program, const PgCode *codes, MossTensorLookup lookup, void *context,
                                 const MossOptions *options, MossModel **out_model) {
    *out_model = NULL;
    MossOptions own;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "loading a model")) return rt_failure(&guard.failure);
    MossError result = rt_take_options(options, &own);
    if (result.code == MOSS_OK) result = model_from_memory_unguarded(program, codes, lookup, context, &own, out_model);
    su_guard_end(&guard);
    return result;
}
