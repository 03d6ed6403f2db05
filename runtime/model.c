/* Loading a model: workers, packed weights, and every buffer that a step of one row needs; and making packed files. */
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"
#include "runtime/packed.h"
#include "runtime/weights.h"
#include "support/dmath.h"
#include "support/size.h"

uint64_t rt_arena_bytes(const PgProgram *program, PgMode mode, uint64_t rows) {
    const PgStep *step = &program->steps[mode];
    uint64_t ld = mode == PG_ROW ? 1 : pg_ld(rows), bytes;
    if (!su_mul(step->arena_per_row, ld, &bytes) || !su_add(bytes, step->arena_fixed, &bytes)) {
        SU_BUG("arena of program '%s' overflows", program->name);
    }
    return bytes;
}

/* The order of phases that step.c relies on; also finds the most phases that one stage has. */
static uint32_t check_phases(const PgProgram *program) {
    uint32_t most = 1;
    for (int mode = 0; mode < PG_MODES; mode++) {
        const PgStep *step = &program->steps[mode];
        uint32_t stage = 0, in_stage = 0;
        for (uint32_t i = 0; i < step->n_phases; i++) {
            const PgPhase *phase = &step->phases[i];
            if (phase->kernel >= program->n_kernels || phase->stage >= step->n_stages || phase->stage < stage) {
                SU_BUG("phase %u (%s) of program '%s' is out of order", i, phase->name, program->name);
            }
            in_stage = phase->stage == stage ? in_stage + 1 : 1;
            stage = phase->stage;
            most = in_stage > most ? in_stage : most;
        }
    }
    return most;
}

static double **make_rope_rates(SuArena *arena, const PgProgram *program) {
    double **rates = SU_NEW_ARRAY(arena, double *, program->n_ropes);
    for (uint32_t r = 0; r < program->n_ropes; r++) {
        const PgRope *rope = &program->ropes[r];
        rates[r] = SU_NEW_ARRAY(arena, double, (size_t)rope->dim / 2);
        for (int64_t i = 0; i < rope->dim / 2; i++) { rates[r][i] = su_dpow(rope->theta, (double)(-2 * i) / (double)rope->dim); }
    }
    return rates;
}

static void fill_args(MossModel *m) {
    const PgProgram *program = m->program;
    for (int i = 0; i < rt_workers_count(m->workers); i++) {
        m->args[i].args = (RtArgs){.weights = m->weights.data,
                                   .scratch = m->scratch.data + (uint64_t)i * m->scratch_stride,
                                   .segments = m->segments,
                                   .tokens = m->tokens,
                                   .row_segment = m->row_segment,
                                   .row_position = m->row_position,
                                   .out_rows = m->out_rows,
                                   .trouble = m->trouble,
                                   .out_stride = program->out_stride};
    }
}

/* Workers and all buffers but the packed weights. False: no memory. */
static bool make_buffers(MossModel *m, const PgCode *codes, const MossOptions *options) {
    const PgProgram *program = m->program;
    size_t rows = (size_t)program->max_rows;
    uint64_t scratch = RT_CACHE_LINE;
    m->workers = rt_workers_create(options->threads, options->no_pin);
    if (!m->workers) { return false; }
    size_t workers = (size_t)rt_workers_count(m->workers);
    m->codes = SU_NEW_ARRAY(&m->memory, PgCode, program->n_kernels);
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        m->codes[i] = codes[i];
        scratch = codes[i].scratch > scratch ? codes[i].scratch : scratch;
    }
    m->scratch_stride = su_round_up(scratch, RT_PAGE); /* workers write there all the time: pages of their own */
    m->n_claims = check_phases(program);
    m->rope_rates = make_rope_rates(&m->memory, program);
    m->segments = SU_NEW_ARRAY(&m->memory, RtSegment, rows);
    m->tokens = SU_NEW_ARRAY(&m->memory, int32_t, rows);
    m->row_segment = SU_NEW_ARRAY(&m->memory, int32_t, rows);
    m->out_rows = SU_NEW_ARRAY(&m->memory, int32_t, rows);
    m->trouble = SU_NEW_ARRAY(&m->memory, int32_t, rows);
    m->row_position = SU_NEW_ARRAY(&m->memory, int64_t, rows);
    m->args = aligned_alloc(RT_CACHE_LINE, workers * sizeof *m->args);
    m->claims = aligned_alloc(RT_CACHE_LINE, m->n_claims * sizeof *m->claims);
    m->scratch = rt_pages_alloc(workers * m->scratch_stride);
    m->arena = rt_pages_alloc(rt_arena_bytes(program, PG_ROW, 1));
    m->logits = rt_pages_alloc(program->out_stride * sizeof(float));
    return m->args && m->claims && m->scratch.data && m->arena.data && m->logits.data;
}

/* Where a model's weights come from. */
typedef struct Source {
    const RtTensor *const *tensors; /* [n_tensors], found */
    bool drop;                      /* they lie in mapped files */
    RtPacked *packed;               /* instead of tensors; the model takes its mapping */
    const char *path;               /* of packed */
} Source;

static bool no_memory_for_weights(const PgProgram *program, SuDiags *diags, MossCode *out_code) {
    *out_code = MOSS_NO_MEMORY;
    return su_error(diags, (SuSpan){0}, NULL, "no memory for the model's %llu bytes of weights, or no threads",
                    (unsigned long long)program->weight_bytes);
}

static bool use_packed(MossModel *m, const Source *source, const MossOptions *options, SuDiags *diags) {
    RtPacked *packed = source->packed;
    if (options->verify && !rt_packed_verify(packed, source->path, m->program, m->workers, diags)) { return false; }
    m->weights = (RtPages){.data = (uint8_t *)(uintptr_t)packed->blob,
                           .size = m->program->weight_bytes,
                           .mapped = (void *)(uintptr_t)packed->map.data,
                           .mapped_size = packed->map.size};
    m->identity = packed->head->weights;
    m->has_identity = true;
    packed->map = (SuMap){0};
    return true;
}

/* Fills m->weights. */
static bool get_weights(MossModel *m, const Source *source, const MossOptions *options, SuDiags *diags, MossCode *out_code) {
    *out_code = MOSS_BAD_WEIGHTS;
    if (source->packed) { return use_packed(m, source, options, diags); }
    m->weights = rt_pages_alloc(m->program->weight_bytes);
    if (!m->weights.data) { return no_memory_for_weights(m->program, diags, out_code); }
    RtPacking packing = {.program = m->program,
                         .tensors = source->tensors,
                         .drop = source->drop,
                         .workers = m->workers,
                         .progress = options->progress,
                         .progress_context = options->progress_context,
                         .blob = m->weights.data};
    return rt_pack(&packing, diags);
}

static MossError make_model(const PgProgram *program, const PgCode *codes, const Source *source, const MossOptions *options,
                            MossModel **out_model) {
    MossModel *m = calloc(1, sizeof *m);
    if (!m) { return rt_error(MOSS_NO_MEMORY, "no memory for a model"); }
    m->program = program;
    SuDiags diags = {0};
    MossError error = {.code = MOSS_OK};
    MossCode code;
    bool ok = make_buffers(m, codes, options) ? get_weights(m, source, options, &diags, &code)
                                              : no_memory_for_weights(program, &diags, &code);
    if (ok) {
        fill_args(m);
        *out_model = m;
    } else {
        error = rt_error_from(code, &diags);
        moss_model_free(m);
    }
    su_diags_free(&diags);
    return error;
}

/* So that a file that cannot be opened has its own code. */
static bool can_open(const char *const *paths, size_t n_paths, SuDiags *diags) {
    for (size_t i = 0; i < n_paths; i++) {
        SuMap map;
        if (su_map_open(paths[i], &map, diags)) { su_map_close(&map); }
    }
    return !diags->errors;
}

static MossError load_packed(const PgProgram *program, const PgCode *codes, const char *path, const MossOptions *options,
                             MossModel **out_model) {
    SuDiags diags = {0};
    RtPacked packed;
    MossError error;
    if (!rt_packed_open(path, program, &packed, &diags)) {
        error = rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    } else {
        error = make_model(program, codes, &(Source){.packed = &packed, .path = path}, options, out_model);
        su_map_close(&packed.map); /* if the model has not taken it */
    }
    su_diags_free(&diags);
    return error;
}

static const MossOptions defaults = {0};

MossError moss_model_load(const PgProgram *program, const PgCode *codes, const char *const *paths, size_t n_paths,
                          const MossOptions *options, MossModel **out_model) {
    SuDiags diags = {0};
    RtCheckpoints checkpoints;
    MossError error = {.code = MOSS_OK};
    options = options ? options : &defaults;
    *out_model = NULL;
    if (!can_open(paths, n_paths, &diags)) {
        error = rt_error_from(MOSS_NO_FILE, &diags);
    } else if (n_paths == 1 && rt_packed_is_file(paths[0])) {
        error = load_packed(program, codes, paths[0], options, out_model);
    } else if (!rt_checkpoints_open(paths, n_paths, program->tensors, program->n_tensors, &checkpoints, &diags)) {
        error = rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    } else {
        error = make_model(program, codes, &(Source){.tensors = checkpoints.tensors, .drop = true}, options, out_model);
        rt_checkpoints_close(&checkpoints);
    }
    su_diags_free(&diags);
    return error;
}

/* ---- packed files */

MossError moss_weights_pack(const PgProgram *program, const char *const *paths, size_t n_paths, const MossOptions *options,
                            const char *out_path) {
    SuDiags diags = {0};
    RtCheckpoints checkpoints;
    MossError error = {.code = MOSS_OK};
    options = options ? options : &defaults;
    if (!can_open(paths, n_paths, &diags)) {
        error = rt_error_from(MOSS_NO_FILE, &diags);
    } else if (!rt_checkpoints_open(paths, n_paths, program->tensors, program->n_tensors, &checkpoints, &diags)) {
        error = rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    } else {
        RtWorkers *workers = rt_workers_create(options->threads, options->no_pin);
        if (!workers) {
            error = rt_error(MOSS_NO_MEMORY, "no threads to pack with");
        } else if (!rt_packed_write(out_path, program, checkpoints.tensors, workers, options->progress, options->progress_context,
                                    &diags)) {
            error = rt_error_from(MOSS_BAD_WEIGHTS, &diags);
        }
        rt_workers_free(workers);
        rt_checkpoints_close(&checkpoints);
    }
    su_diags_free(&diags);
    return error;
}

MossError moss_weights_verify(const PgProgram *program, const char *path, const MossOptions *options) {
    SuDiags diags = {0};
    RtPacked packed;
    MossError error = {.code = MOSS_OK};
    options = options ? options : &defaults;
    RtWorkers *workers = rt_workers_create(options->threads, options->no_pin);
    if (!workers) {
        error = rt_error(MOSS_NO_MEMORY, "no threads to check with");
    } else if (!can_open(&path, 1, &diags)) {
        error = rt_error_from(MOSS_NO_FILE, &diags);
    } else if (!rt_packed_open(path, program, &packed, &diags)) {
        error = rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    } else {
        if (!rt_packed_verify(&packed, path, program, workers, &diags)) { error = rt_error_from(MOSS_BAD_WEIGHTS, &diags); }
        su_map_close(&packed.map);
    }
    rt_workers_free(workers);
    su_diags_free(&diags);
    return error;
}

const SuDigest *rt_model_identity(MossModel *model) {
    if (!model->has_identity) {
        model->identity = rt_weights_identity(model->program, model->weights.data, model->workers);
        model->has_identity = true;
    }
    return &model->identity;
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
                         .dtype = RT_F32,
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

MossError moss_model_from_memory(const PgProgram *program, const PgCode *codes, MossTensorLookup lookup, void *context,
                                 const MossOptions *options, MossModel **out_model) {
    SuDiags diags = {0};
    SuArena arena = {0};
    RtTensor *tensors = SU_NEW_ARRAY(&arena, RtTensor, program->n_tensors);
    const RtTensor **found = SU_NEW_ARRAY(&arena, const RtTensor *, program->n_tensors);
    bool ok = true;
    *out_model = NULL;
    for (uint32_t i = 0; i < program->n_tensors; i++) {
        found[i] = &tensors[i];
        ok = look_up(&program->tensors[i], lookup, context, &tensors[i], &diags) && ok;
    }
    MossError error = ok ? make_model(program, codes, &(Source){.tensors = found}, options ? options : &defaults, out_model)
                         : rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    su_arena_free(&arena);
    su_diags_free(&diags);
    return error;
}

void moss_model_free(MossModel *model) {
    if (!model) { return; }
    rt_workers_free(model->workers);
    rt_pages_free(&model->weights);
    rt_pages_free(&model->arena);
    rt_pages_free(&model->scratch);
    rt_pages_free(&model->logits);
    free(model->args);
    free(model->claims);
    su_arena_free(&model->memory);
    free(model);
}

const PgProgram *moss_model_program(const MossModel *model) { return model->program; }

int moss_model_threads(const MossModel *model) { return rt_workers_count(model->workers); }
