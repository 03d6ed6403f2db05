/* A model: its workers or its device, every buffer that a step of one row needs, and weights mapped from a packed file. */
#include <stdlib.h>
#include <string.h>

#include "ir/rope.h"
#include "runtime/device.h"
#include "runtime/model.h"
#include "runtime/packed.h"
#include "support/alloc.h"
#include "support/dmath.h"
#include "support/size.h"

uint64_t rt_arena_bytes(const PgProgram *program, PgMode mode, uint64_t rows) {
    const PgStep *step = &program->steps[mode];
    uint64_t ld = mode == PG_ROW ? 1 : pg_ld(rows), bytes;
    if (!su_mul(step->arena_per_row, ld, &bytes) || !su_add(bytes, step->arena_fixed, &bytes))
        SU_BUG("arena of program '%s' overflows", program->name);
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
            if (phase->kernel >= program->n_kernels || phase->stage >= step->n_stages || phase->stage < stage)
                SU_BUG("phase %u (%s) of program '%s' is out of order", i, phase->name, program->name);
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
        for (int64_t i = 0; i < rope->dim / 2; i++) {
            double rate = su_dpow(rope->theta, (double)(-2 * i) / (double)rope->dim);
            rates[r][i] = ir_rope_rate(rate, rope->factor, rope->low, rope->high, rope->original);
        }
    }
    return rates;
}

static void fill_args(MossModel *m) {
    const PgProgram *program = m->program;
    for (int i = 0; i < rt_workers_count(m->workers); i++) {
        m->args[i].args = (RtArgs){.scratch = m->scratch.data + (uint64_t)i * m->scratch_stride,
                                   .segments = m->segments,
                                   .tokens = m->tokens,
                                   .row_segment = m->row_segment,
                                   .row_position = m->row_position,
                                   .out_rows = m->out_rows,
                                   .nonfinite = m->nonfinite,
                                   .out_stride = program->out_stride};
    }
}

/* The caller's memory, if it gave some that serves at least one row: grown like any other when a step needs more. */
static RtPages make_arena(const PgProgram *program, const MossOptions *options) {
    uint64_t bytes = rt_arena_bytes(program, PG_ROW, 1);
    bool aligned = (uintptr_t)options->arena % RT_CACHE_LINE == 0;
    if (options->arena && aligned && options->arena_bytes >= bytes)
        return (RtPages){.data = options->arena, .size = options->arena_bytes};
    return rt_pages_alloc(bytes);
}

RtWorkers *rt_model_workers(const MossOptions *options) {
    return options->no_pin ? rt_workers_create(options->threads, true)
                           : rt_workers_create_on(options->threads, options->cpus, options->n_cpus);
}

/* What a step is described with. */
static void make_tables(MossModel *m) {
    size_t rows = (size_t)m->program->max_rows;
    m->segments = SU_NEW_ARRAY(&m->memory, RtSegment, rows);
    m->tokens = SU_NEW_ARRAY(&m->memory, int32_t, rows);
    m->row_segment = SU_NEW_ARRAY(&m->memory, int32_t, rows);
    m->out_rows = SU_NEW_ARRAY(&m->memory, int32_t, rows);
    m->nonfinite = SU_NEW_ARRAY(&m->memory, int32_t, rows);
    m->row_position = SU_NEW_ARRAY(&m->memory, int64_t, rows);
    m->logits = rt_pages_alloc(m->program->out_stride * sizeof(float));
}

/* Bytes of scratch that a worker needs for them: workers write there all the time, so they have pages of their own. */
static uint64_t scratch_bytes(const PgProgram *program, const PgCode *codes) {
    uint64_t scratch = RT_CACHE_LINE;
    for (uint32_t i = 0; i < program->n_kernels; i++) scratch = codes[i].scratch > scratch ? codes[i].scratch : scratch;
    return su_round_up(scratch, RT_PAGE);
}

/* A program without kernels has no codes. */
static void take_codes(MossModel *m, const PgCode *codes) {
    if (m->program->n_kernels > 0) memcpy(m->codes, codes, m->program->n_kernels * sizeof *codes);
}

bool rt_model_use_codes(MossModel *m, const PgCode *codes) {
    uint64_t stride = scratch_bytes(m->program, codes), workers = (uint64_t)rt_workers_count(m->workers);
    if (stride > m->scratch_stride) {
        RtPages scratch = rt_pages_alloc(workers * stride);
        if (!scratch.data) return false;
        rt_pages_free(&m->scratch);
        m->scratch = scratch;
        m->scratch_stride = stride;
        for (uint64_t i = 0; i < workers; i++) m->args[i].args.scratch = scratch.data + i * stride;
    }
    take_codes(m, codes);
    return true;
}

/* What the workers need for steps of their own. */
static bool make_buffers(MossModel *m, const PgCode *codes, const MossOptions *options) {
    const PgProgram *program = m->program;
    size_t workers = (size_t)rt_workers_count(m->workers);
    m->codes = SU_NEW_ARRAY(&m->memory, PgCode, program->n_kernels);
    take_codes(m, codes);
    m->scratch_stride = scratch_bytes(program, codes);
    size_t shares = check_phases(program) * workers;
    m->rope_rates = make_rope_rates(&m->memory, program);
    m->args = su_aligned(RT_CACHE_LINE, workers * sizeof *m->args);
    m->shares = su_aligned(RT_CACHE_LINE, shares * sizeof *m->shares);
    m->scratch = rt_pages_alloc(workers * m->scratch_stride);
    m->arena = make_arena(program, options);
    if (!m->args || !m->shares || !m->scratch.data || !m->arena.data) return false;
    memset(m->shares, 0, shares * sizeof *m->shares);
    fill_args(m);
    return true;
}

static bool all_zero(const void *memory, size_t size) {
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < size; i++)
        if (bytes[i]) return false;
    return true;
}

MossError rt_take_sized(const char *name, const void *given, void *out, size_t known) {
    size_t size = known;
    memset(out, 0, known);
    memcpy(out, &known, sizeof known);
    if (!given) return (MossError){.code = MOSS_OK};
    memcpy(&size, given, sizeof size);
    if (size < sizeof size) return rt_error(MOSS_BAD_INPUT, "%s.size is %zu; expected sizeof(%s), %zu", name, size, name, known);
    if (size > known && !all_zero((const char *)given + known, size - known)) {
        return rt_error(MOSS_BAD_INPUT,
                        "%s.size is %zu, of a later header than this library's (%zu), and an option that only the later one has"
                        " is set: use a later library",
                        name, size, known);
    }
    memcpy(out, given, size < known ? size : known);
    memcpy(out, &known, sizeof known);
    return (MossError){.code = MOSS_OK};
}

MossError rt_take_options(const MossOptions *given, MossOptions *out_options) {
    return rt_take_sized("MossOptions", given, out_options, sizeof *out_options);
}

static MossError no_model(const PgProgram *program) {
    return rt_error(MOSS_NO_MEMORY, "cannot allocate %llu bytes for the model's weights and step buffers",
                    (unsigned long long)program->weight_bytes);
}

static MossError join_device(MossModel *m, MossDevice *device) {
    if (device->model) return rt_error(MOSS_DEVICE, "device is in use by another model");
    MossError error = device->kind->take_model(device, m->program);
    if (error.code == MOSS_OK) {
        m->device = device;
        device->model = m;
    }
    return error;
}

static void free_model(void *model) { moss_model_free(model); }

MossError rt_model_make(const PgProgram *program, const PgCode *codes, const MossOptions *options, MossModel **out_model) {
    MossModel *m = su_calloc(1, sizeof *m);
    MossError error = {.code = MOSS_OK};
    *out_model = NULL;
    if (!codes && program->n_kernels && !options->device) {
        su_free(m);
        return rt_error(MOSS_BAD_INPUT,
                        "kernels are missing: expected those of program '%s', got NULL; only a model on a device has none",
                        program->name);
    }
    if (!m) return no_model(program);
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, free_model, m);
    m->program = program;
    m->workers = rt_model_workers(options);
    make_tables(m);
    if (!m->workers || !m->logits.data)
        error = no_model(program);
    else if (options->device)
        error = join_device(m, options->device);
    else if (!make_buffers(m, codes, options))
        error = no_model(program);
    su_cleanup_done(&cleanup);
    if (error.code == MOSS_OK)
        *out_model = m;
    else
        moss_model_free(m);
    return error;
}

MossError rt_model_take(MossModel *model, RtPages weights, MossProgress progress, void *progress_context) {
    if (model->device) {
        MossError error = model->device->kind->put_weights(model->device, weights.data, progress, progress_context);
        rt_pages_free(&weights);
        return error;
    }
    model->weights = weights;
    for (int i = 0; i < rt_workers_count(model->workers); i++) model->args[i].args.weights = weights.data;
    return (MossError){.code = MOSS_OK};
}

/* ---- packed files */

/* The model takes the mapping. */
static MossError use_packed(MossModel *m, RtPacked *packed, const char *path, const MossOptions *options) {
    SuDiags diags = {0};
    bool good = !options->verify || rt_packed_verify(packed, path, m->program, m->workers, &diags);
    MossError error = good ? (MossError){.code = MOSS_OK} : rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    su_diags_free(&diags);
    if (!good) return error;
    m->identity = packed->header->weights;
    m->has_identity = true;
    RtPages weights = {.data = (uint8_t *)(uintptr_t)packed->blob,
                       .size = m->program->weight_bytes,
                       .mapped = (void *)(uintptr_t)packed->map.data,
                       .mapped_size = packed->map.size};
    packed->map = (SuMap){0};
    return rt_model_take(m, weights, options->progress, options->progress_context);
}

static void close_packed(void *packed) { su_map_close(&((RtPacked *)packed)->map); }

MossError rt_model_of_packed(const PgProgram *program, const PgCode *codes, RtPacked *packed, const char *path,
                             const MossOptions *options, MossModel **out_model) {
    MossModel *m;
    SuCleanup file, model;
    su_cleanup_add(&file, close_packed, packed);
    MossError error = rt_model_make(program, codes, options, &m);
    su_cleanup_add(&model, free_model, m);
    if (error.code == MOSS_OK) error = use_packed(m, packed, path, options);
    su_cleanup_done(&model);
    su_cleanup_done(&file);
    if (error.code == MOSS_OK)
        *out_model = m;
    else
        moss_model_free(m);
    su_map_close(&packed->map); /* if no model has taken it */
    return error;
}

static void close_map(void *map) { su_map_close(map); }

/* A file that cannot be opened has its own code. */
static MossError open_packed(const char *path, const PgProgram *program, RtPacked *out_packed) {
    SuDiags diags = {0};
    SuMap map;
    SuCleanup cleanup;
    MossError error = {.code = MOSS_OK};
    bool opened = su_map_open(path, &map, &diags);
    su_cleanup_add(&cleanup, close_map, &map);
    if (!opened)
        error = rt_error_from(MOSS_NO_FILE, &diags);
    else if (!rt_packed_take(&map, path, program, out_packed, &diags))
        error = rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    su_cleanup_done(&cleanup);
    su_map_close(&map); /* if it was not taken */
    su_diags_free(&diags);
    return error;
}

static MossError model_open_unguarded(const PgProgram *program, const PgCode *codes, const char *path, const MossOptions *options,
                                      MossModel **out_model) {
    RtPacked packed;
    MossError error = open_packed(path, program, &packed);
    return error.code == MOSS_OK ? rt_model_of_packed(program, codes, &packed, path, options, out_model) : error;
}

MossError moss_model_open(const PgProgram *program, const PgCode *codes, const char *path, const MossOptions *options,
                          MossModel **out_model) {
    *out_model = NULL;
    MossOptions own;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "opening a model")) return rt_failure(&guard.failure);
    MossError result = rt_take_options(options, &own);
    if (result.code == MOSS_OK) result = model_open_unguarded(program, codes, path, &own, out_model);
    su_guard_end(&guard);
    return result;
}

MossError rt_packed_verify_by(const RtPacked *packed, const char *path, const PgProgram *program, const MossOptions *options) {
    SuDiags diags = {0};
    MossError error = {.code = MOSS_OK};
    RtWorkers *workers = rt_model_workers(options);
    SuCleanup threads;
    su_cleanup_add(&threads, rt_workers_drop, workers);
    if (!workers)
        error = rt_error(MOSS_NO_MEMORY, "cannot allocate memory for the workers that verify weights");
    else if (!rt_packed_verify(packed, path, program, workers, &diags))
        error = rt_error_from(MOSS_BAD_WEIGHTS, &diags);
    su_cleanup_done(&threads);
    rt_workers_free(workers);
    su_diags_free(&diags);
    return error;
}

static MossError weights_verify_unguarded(const PgProgram *program, const char *path, const MossOptions *options) {
    RtPacked packed;
    MossError error = open_packed(path, program, &packed);
    if (error.code != MOSS_OK) return error;
    SuCleanup file;
    su_cleanup_add(&file, close_packed, &packed);
    error = rt_packed_verify_by(&packed, path, program, options);
    su_cleanup_done(&file);
    su_map_close(&packed.map);
    return error;
}

MossError moss_weights_verify(const PgProgram *program, const char *path, const MossOptions *options) {
    MossOptions own;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "verifying weights")) return rt_failure(&guard.failure);
    MossError result = rt_take_options(options, &own);
    if (result.code == MOSS_OK) result = weights_verify_unguarded(program, path, &own);
    su_guard_end(&guard);
    return result;
}

/* A device's weights are fetched for it. */
static MossError find_identity(MossModel *m) {
    RtPages fetched = {0};
    MossError error = {.code = MOSS_OK};
    if (m->device) {
        fetched = rt_pages_alloc(m->program->weight_bytes);
        if (!fetched.data) return no_model(m->program);
        error = m->device->kind->get_weights(m->device, fetched.data);
    }
    if (error.code == MOSS_OK) {
        m->identity = rt_weights_identity(m->program, m->device ? fetched.data : m->weights.data, m->workers);
        m->has_identity = true;
    }
    rt_pages_free(&fetched);
    return error;
}

MossError rt_model_identity(MossModel *model, const SuDigest **out_identity) {
    *out_identity = &model->identity;
    return model->has_identity ? (MossError){.code = MOSS_OK} : find_identity(model);
}

void moss_model_free(MossModel *model) {
    if (!model) return;
    if (model->device) {
        model->device->kind->leave_model(model->device);
        model->device->model = NULL;
    }
    rt_workers_free(model->workers);
    rt_pages_free(&model->weights);
    rt_pages_free(&model->arena);
    rt_pages_free(&model->scratch);
    rt_pages_free(&model->logits);
    rt_pages_free(&model->hidden);
    su_free(model->args);
    su_free(model->shares);
    su_arena_free(&model->memory);
    su_free(model);
}

void moss_device_free(MossDevice *device) {
    if (device) device->kind->free(device);
}

const PgProgram *moss_model_program(const MossModel *model) { return model->program; }

int moss_model_threads(const MossModel *model) { return rt_workers_count(model->workers); }

int moss_model_missing_threads(const MossModel *model, int *out_errno) { return rt_workers_missing(model->workers, out_errno); }

MossError rt_model_after_fork(const MossModel *model) {
    if (!model->device || !rt_workers_forked(model->workers)) return (MossError){.code = MOSS_OK};
    return rt_error(MOSS_DEVICE, "device is not usable after a fork: open the device and the model in this process");
}
