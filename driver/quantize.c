#include "driver/quantize.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "driver/expected.h"
#include "driver/score.h"
#include "driver/sequence.h"
#include "driver/text.h"
#include "ir/quant.h"
#include "runtime/calibrate.h"
#include "runtime/layout.h"
#include "runtime/narrow.h"
#include "runtime/weights.h"
#include "support/file.h"
#include "support/size.h"
#include "support/str.h"

enum { MAX_TEXT = 1 << 30, CLAIM_ROWS = 8, RUN = 1 << 16 };

typedef struct Job {
    DrBuild *build;
    const DrBuildOptions *options;
    const DrQuantizeOptions *quantize;
    DrQuantizeReport *report;
    const FeTensor *tensors;
    const PgTensor *expected; /* [n_tensors] the same */
    size_t n_tensors;
    RtCheckpoints checkpoints;   /* of floats */
    DrBuild calibrated;          /* the model whose inputs are looked at */
    DrBuild before;              /* that of the floats */
    RtCalibration *calibration;  /* NULL: all inputs count the same */
    RtWorkers *workers;
    RtTokens calibrating, scoring;
} Job;

static SuDiags *diags_of(const Job *job) { return &job->build->diags; }

/* ---- the text */

static size_t character_at(const char *text, size_t size, size_t at) {
    while (at < size && ((unsigned char)text[at] & 0xC0) == 0x80) at++;
    return at;
}

static bool read_text(Job *job, const char *path, char **text, size_t *size) {
    if (!su_read_file(&job->build->arena, path, MAX_TEXT, text, size, diags_of(job))) return false;
    dr_skip_bom(path, text, size, diags_of(job));
    return true;
}

static bool encode(const Job *job, const RtTokenizer *tokenizer, const char *path, const char *text, size_t size, RtTokens *out) {
    if (!dr_encode(tokenizer, text, size, out, diags_of(job))) return false;
    return out->count > 1 || su_error(diags_of(job), su_file_span(diags_of(job), path), NULL, "the text is too short");
}

/* Bytes of what is predicted: all tokens but the first. */
static size_t predicted_bytes(const RtTokenizer *tokenizer, const RtTokens *tokens) {
    SuText text = {0};
    for (size_t i = 1; i < tokens->count; i++) rt_tokenizer_decode(tokenizer, tokens->ids[i], &text);
    size_t size = text.size;
    su_text_free(&text);
    return size;
}

static bool encode_texts(Job *job, const RtTokenizer *tokenizer) {
    const DrQuantizeOptions *q = job->quantize;
    char *text = NULL, *other = NULL;
    size_t size = 0, other_size = 0;
    if (!read_text(job, q->text, &text, &size)) return false;
    size_t end = q->eval ? size : character_at(text, size, size - size / 5),
           start = end; /* of what calibrates, of what is scored */
    other = text + start;
    other_size = size - start;
    if (q->eval && !read_text(job, q->eval, &other, &other_size)) return false;
    if (!q->eval && other_size > q->text_bytes / 4) other_size = character_at(other, other_size, q->text_bytes / 4);
    if (end > q->text_bytes) end = character_at(text, end, q->text_bytes);
    if (!encode(job, tokenizer, q->text, text, end, &job->calibrating)) return false;
    if (!encode(job, tokenizer, q->eval ? q->eval : q->text, other, other_size, &job->scoring)) return false;
    job->report->scored_tokens = job->scoring.count - 1;
    job->report->scored_bytes = predicted_bytes(tokenizer, &job->scoring);
    return job->report->scored_bytes > 0 || su_error(diags_of(job), su_file_span(diags_of(job), q->eval ? q->eval : q->text), NULL,
                                                     "the tokens that are scored stand for no bytes");
}

static bool prepare_texts(Job *job) {
    if (!job->quantize->text) return true;
    RtTokenizer *tokenizer = dr_tokenizer(&job->build->spec, diags_of(job));
    if (!tokenizer) return false;
    bool ok = encode_texts(job, tokenizer);
    rt_tokenizer_free(tokenizer);
    return ok;
}

/* ---- models of the same spec with other weights */

/* The errors of a build that is gone before they are printed, without the places in its source. */
static void take_errors(const Job *job, const DrBuild *build) {
    for (size_t i = 0; i < build->diags.count; i++) {
        const SuDiag *d = &build->diags.items[i];
        SuArena *arena = &diags_of(job)->arena;
        if (d->severity == SU_ERROR)
            su_error(diags_of(job), (SuSpan){0}, d->hint ? su_printf(arena, "%s", d->hint) : NULL, "%s", d->message);
    }
    if (build->diags.failure.code) su_failed(diags_of(job), &build->diags.failure);
}

static bool build_model(Job *job, DrBuild *build, IrDtype q8, IrDtype q4) {
    *build = (DrBuild){0};
    bool ok = dr_build_spec(build, job->options);
    FeWeights *weights = &build->spec.weights;
    for (int i = 0; ok && i < FE_N_WEIGHTS; i++)
        weights->of[i] = weights->of[i] == IR_Q8 ? q8 : weights->of[i] == IR_Q4 ? q4 : weights->of[i];
    weights->rounds = false;
    ok = ok && dr_build_model(build, job->options);
    if (!ok) take_errors(job, build);
    return ok;
}

/* Every token of a text that is fed, in sequences as long as the model allows: one begins with the token at which the one before
 * ended. Steps of all logits. */
typedef struct Walk {
    const RtTokens *tokens;
    size_t at, begin, longest; /* next to be fed; where its sequence began; tokens of a sequence */
    uint32_t chunk, count;     /* of this step */
    bool first;                /* this step begins a sequence */
} Walk;

static Walk walk_start(const Job *job, const RtTokens *tokens, uint32_t chunk) {
    int64_t bound = fe_position_bound(&job->build->spec);
    return (Walk){.tokens = tokens, .longest = bound ? (size_t)bound : SIZE_MAX, .chunk = chunk};
}

/* The next step; false: there is none. The last token is not fed, as nothing is known to follow it. */
static bool walk_next(Walk *w) {
    w->at += w->count;
    size_t left = w->tokens->count - 1 - w->at;
    if (w->at - w->begin == w->longest) w->begin = w->at;
    size_t room = w->longest - (w->at - w->begin);
    left = left < room ? left : room;
    w->count = left < w->chunk ? (uint32_t)left : w->chunk;
    w->first = w->at == w->begin;
    return w->count > 0;
}

static MossError walk_step(const Walk *w, MossModel *model, MossState *state) {
    MossSegment segment = {.state = state, .tokens = w->tokens->ids + w->at, .count = w->count, .logits = MOSS_ALL_LOGITS};
    if (w->first) moss_state_reset(state);
    return moss_step(model, &segment, 1);
}

/* ---- calibration */

static bool calibrate(Job *job) {
    if (!job->quantize->text) return true;
    /* The spec's own maps, with weights that are nearly the floats: mixtures of weights, for one, are q8 maps side by side. */
    if (!build_model(job, &job->calibrated, IR_Q8, IR_Q8)) return false;
    MossModel *model = job->calibrated.model;
    MossState *state = NULL;
    if (!dr_take_ok(job->build, moss_state_create(model, &state))) return false;
    job->calibration = rt_calibration_begin(model);
    bool ok = job->calibration || su_out_of_memory(diags_of(job), "calibrating");
    const DrProgress *progress = &job->options->progress;
    dr_progress_begin(progress, "calibrating", "tokens", true);
    for (Walk w = walk_start(job, &job->calibrating, (uint32_t)dr_chunk_of_logits(job->calibrated.program, 0));
         ok && walk_next(&w);) {
        ok = dr_take_ok(job->build, walk_step(&w, model, state));
        dr_progress_update(progress, w.at + w.count, job->calibrating.count - 1);
    }
    dr_progress_end(progress);
    moss_state_free(state);
    job->report->calibrated = job->calibrating.count - 1;
    return ok;
}

/* h[planes][K] of a tensor; NULL: all inputs count the same. An expert that saw no token takes what all experts saw together. */
static bool importance(Job *job, const FeTensor *tensor, SuArena *arena, uint64_t *planes, float **out) {
    RtInputs in;
    *out = NULL;
    *planes = 1;
    if (!job->calibration || !rt_calibration_inputs(job->calibration, tensor->name, &in)) return true;
    float *h = SU_NEW_ARRAY(arena, float, in.planes *in.K);
    uint64_t all = 0;
    for (uint64_t plane = 0; plane < in.planes; plane++) all += in.count[plane];
    for (uint64_t i = 0; i < in.planes * in.K; i++) {
        uint64_t plane = i / in.K, count = in.count[plane];
        double sum = in.squares[i];
        for (uint64_t other = 0; !count && other < in.planes; other++) sum += in.squares[other * in.K + i % in.K];
        h[i] = (float)(sum / (double)(count ? count : all ? all : 1));
        if (!rt_finite(h[i])) {
            return su_error(diags_of(job), (SuSpan){0}, "the weights may be corrupt or belong to another spec",
                            "input %llu of tensor '%s' is not finite", (unsigned long long)(i % in.K), tensor->name);
        }
    }
    *planes = in.planes;
    *out = h;
    return true;
}

/* ---- quantising */

static bool is_quantised(const FeTensor *tensor) { return ir_is_blocks(tensor->dtype); }

static uint64_t inner_of(const FeTensor *tensor) { return (uint64_t)tensor->shape[tensor->rank - 1]; }

static uint64_t elements_of(const FeTensor *tensor) {
    uint64_t n = 1;
    for (int i = 0; i < tensor->rank; i++) n *= (uint64_t)tensor->shape[i];
    return n; /* below 2^48: fe_spec_load saw to it */
}

/* One tensor, whose rows workers claim. */
typedef struct Rows {
    const RtStored *from; /* elements */
    IrDtype dtype;
    const float *h; /* [planes][K] or NULL */
    uint64_t planes, rows, K;
    uint8_t *parts[IR_PARTS];     /* [rows][ir_part_bytes] */
    double (*sums)[4];            /* [rows] Σ e², Σ w², Σ h e², Σ h w² */
    float *room;                  /* [workers][2 K] */
    RtWorkers *workers;
    RtClaims claims;
    _Atomic uint64_t bad; /* the first row that has no form, or UINT64_MAX */
} Rows;

static void note_bad(Rows *rows, uint64_t row) {
    uint64_t seen = atomic_load(&rows->bad);
    while (row < seen && !atomic_compare_exchange_weak(&rows->bad, &seen, row)) {}
}

static void add_errors(const float *w, const float *back, const float *h, uint64_t K, double sums[4]) {
    for (uint64_t k = 0; k < K; k++) {
        double e = (double)w[k] - (double)back[k], square = (double)w[k] * (double)w[k], weight = h ? (double)h[k] : 1;
        sums[0] += e * e;
        sums[1] += square;
        sums[2] += weight * (e * e);
        sums[3] += weight * square;
    }
}

static void quantise_row(Rows *r, uint64_t row, float *w, float *back) {
    const float *h = r->h ? r->h + row / (r->rows / r->planes) * r->K : NULL;
    IrRow to = {0};
    IrBlocks blocks = {.dtype = r->dtype, .rows = 1, .K = r->K};
    for (int p = 0; p < IR_PARTS; p++) {
        if (r->parts[p]) to.part[p] = r->parts[p] + row * ir_part_bytes(r->dtype, (IrPart)p, r->K);
        blocks.part[p] = to.part[p];
    }
    rt_read_elements(r->from->tensor, row * r->K, r->K, w);
    if (!moss_all_finite(w, (int64_t)r->K) || !ir_quantise(r->dtype, w, h, r->K, &to)) {
        note_bad(r, row);
        return;
    }
    ir_blocks_row(&blocks, 0, back);
    add_errors(w, back, h, r->K, r->sums[row]);
}

static void quantise_rows(void *context, int worker) {
    Rows *r = context;
    float *w = r->room + (uint64_t)worker * 2 * r->K;
    uint32_t first, end, runs = (uint32_t)su_ceil_div(r->rows, CLAIM_ROWS);
    while (rt_claim(&r->claims, runs, 1, (uint32_t)rt_workers_count(r->workers), &first, &end))
        for (uint64_t row = (uint64_t)first * CLAIM_ROWS; row < (uint64_t)end * CLAIM_ROWS && row < r->rows; row++)
            quantise_row(r, row, w, w + r->K);
}

static DrQuantizeClass *class_of(Job *job, const FeTensor *tensor) {
    DrQuantizeReport *report = job->report;
    for (size_t i = 0; i < report->n_classes; i++)
        if (report->classes[i].dtype == tensor->dtype && strcmp(report->classes[i].map, tensor->map) == 0)
            return &report->classes[i];
    DrQuantizeClass *class = &report->classes[report->n_classes++];
    *class = (DrQuantizeClass){.map = tensor->map, .dtype = tensor->dtype};
    return class;
}

typedef struct Written {
    RtSafetensorsOut out;
    RtLayout layout;
    double (*sums)[4];         /* [classes] */
    uint64_t done, total;      /* elements */
} Written;

static bool write_blocks(Job *job, Written *written, const FeTensor *tensor, const RtStored *from, const size_t place[IR_PARTS]) {
    SuArena arena = {0};
    Rows r = {.from = from, .dtype = tensor->dtype, .K = inner_of(tensor), .workers = job->workers, .bad = UINT64_MAX};
    r.rows = elements_of(tensor) / r.K;
    float *h;
    bool ok = importance(job, tensor, &arena, &r.planes, &h);
    r.h = h;
    for (int p = 0; ok && p < IR_PARTS; p++)
        if (ir_part(r.dtype, (IrPart)p)->suffix)
            r.parts[p] = su_alloc_array(&arena, r.rows, ir_part_bytes(r.dtype, (IrPart)p, r.K));
    if (ok) {
        r.sums = su_alloc_array(&arena, r.rows, sizeof *r.sums);
        r.room = su_alloc_array(&arena, (size_t)rt_workers_count(job->workers) * 2 * r.K, sizeof *r.room);
        rt_workers_run(job->workers, quantise_rows, &r);
        PgTensor expected = {.name = tensor->name, .rank = tensor->rank, .dtype = (uint32_t)tensor->dtype};
        memcpy(expected.shape, tensor->shape, sizeof expected.shape);
        ok = r.bad == UINT64_MAX || rt_value_error(&expected, from, r.bad * r.K, diags_of(job));
    }
    DrQuantizeClass *class = ok ? class_of(job, tensor) : NULL;
    for (int p = 0; ok && p < IR_PARTS; p++) {
        uint64_t bytes = r.rows * ir_part_bytes(r.dtype, (IrPart)p, r.K);
        if (!r.parts[p]) continue;
        rt_safetensors_put(&written->out, place[p], 0, r.parts[p], bytes);
        class->bytes += bytes;
    }
    for (uint64_t row = 0; ok && row < r.rows; row++)
        for (int i = 0; i < 4; i++) written->sums[class - job->report->classes][i] += r.sums[row][i];
    if (ok) {
        class->tensors++;
        class->weights += r.rows * r.K;
    }
    su_arena_free(&arena);
    return ok;
}

/* Floats as the spec stores them. */
static bool write_floats(Job *job, Written *written, const FeTensor *tensor, const RtStored *from, const size_t place[IR_PARTS]) {
    SuArena arena = {0};
    float *run = SU_NEW_ARRAY(&arena, float, RUN);
    uint16_t *halves = SU_NEW_ARRAY(&arena, uint16_t, RUN);
    PgTensor expected = {.name = tensor->name, .rank = tensor->rank, .dtype = (uint32_t)tensor->dtype};
    memcpy(expected.shape, tensor->shape, sizeof expected.shape);
    bool ok = true;
    for (uint64_t first = 0, n; ok && first < from->tensor->elements; first += n) {
        n = from->tensor->elements - first < RUN ? from->tensor->elements - first : RUN;
        rt_read_elements(from->tensor, first, n, run);
        uint64_t bad = rt_round_to(tensor->dtype, run, n);
        ok = bad == n || rt_value_error(&expected, from, first + bad, diags_of(job));
        for (uint64_t i = 0; i < n && tensor->dtype != IR_F32; i++)
            halves[i] = tensor->dtype == IR_BF16 ? rt_narrow_bf16(run[i]) : rt_narrow_f16(run[i]);
        uint64_t size = (uint64_t)ir_dtype(tensor->dtype)->bytes;
        rt_safetensors_put(&written->out, place[0], first * size, tensor->dtype == IR_F32 ? (const void *)run : halves, n * size);
    }
    su_arena_free(&arena);
    return ok;
}

static void finish_classes(DrQuantizeReport *report, double (*sums)[4]) {
    for (size_t i = 0; i < report->n_classes; i++) {
        report->classes[i].error = sums[i][1] > 0 ? sqrt(sums[i][0] / sums[i][1]) : 0;
        report->classes[i].weighted = sums[i][3] > 0 ? sqrt(sums[i][2] / sums[i][3]) : 0;
    }
}

static bool write_tensors(Job *job, Written *written) {
    const DrProgress *progress = &job->options->progress;
    bool ok = true;
    dr_progress_begin(progress, "quantising", "weights", true);
    for (size_t i = 0; ok && i < job->n_tensors; i++) {
        const FeTensor *tensor = &job->tensors[i];
        ok = (is_quantised(tensor) ? write_blocks : write_floats)(job, written, tensor, &job->checkpoints.tensors[i],
                                                                  written->layout.place[i]);
        written->done += elements_of(tensor);
        dr_progress_update(progress, written->done, written->total);
    }
    dr_progress_end(progress);
    return ok;
}

static bool write_all(Job *job) {
    SuArena arena = {0};
    Written written = {.layout = rt_layout_make(&arena, job->expected, job->n_tensors),
                       .sums = su_alloc_array(&arena, job->n_tensors, sizeof *written.sums)};
    for (size_t i = 0; i < job->n_tensors; i++) {
        written.total += elements_of(&job->tensors[i]);
        job->report->bytes_before += job->checkpoints.tensors[i].tensor->bytes;
    }
    job->report->bytes_after = written.layout.bytes;
    bool ok = rt_safetensors_begin(job->quantize->output, written.layout.items, written.layout.count, &written.out, diags_of(job));
    if (ok && write_tensors(job, &written)) {
        finish_classes(job->report, written.sums);
        ok = rt_safetensors_commit(&written.out, diags_of(job));
    } else if (ok) {
        rt_safetensors_drop(&written.out);
        ok = false;
    }
    su_arena_free(&arena);
    return ok;
}

/* ---- what was lost */

typedef struct Sides {
    MossState *states[2]; /* of the floats, of what was written */
    double nats[2], kl;
} Sides;

static bool score_step(const Job *job, Sides *sides, const Walk *w) {
    MossModel *models[] = {job->before.model, job->build->model};
    int64_t vocab_size = moss_program_vocab_size(job->build->program);
    for (int side = 0; side < 2; side++)
        if (!dr_take_ok(job->build, walk_step(w, models[side], sides->states[side]))) return false;
    for (uint32_t i = 0; i < w->count; i++) {
        const float *rows[] = {moss_logits(models[0], i), moss_logits(models[1], i)};
        for (int side = 0; side < 2; side++) {
            if (!moss_all_finite(rows[side], vocab_size)) {
                return su_error(diags_of(job), (SuSpan){0}, "mossc eval says where they arise", "logits of the %s are non-finite",
                                side ? "quantised weights" : "floats");
            }
            sides->nats[side] += dr_token_nats(rows[side], vocab_size, w->tokens->ids[w->at + i + 1]);
        }
        sides->kl += dr_kl_nats(rows[0], rows[1], vocab_size);
    }
    return true;
}

/* The model of the file that was written, as everyone else will load it. */
static bool build_written(Job *job) {
    DrTexts weights = {.items = (const char **)&job->quantize->output, .count = 1};
    DrBuildOptions options = *job->options;
    options.weights = &weights;
    return dr_build_model(job->build, &options);
}

static bool score(Job *job) {
    if (!job->quantize->text) return true;
    Sides sides = {0};
    bool ok = build_model(job, &job->before, IR_F32, IR_F32) && build_written(job) &&
              dr_take_ok(job->build, moss_state_create(job->before.model, &sides.states[0])) &&
              dr_take_ok(job->build, moss_state_create(job->build->model, &sides.states[1]));
    const DrProgress *progress = &job->options->progress;
    int64_t chunk = ok ? dr_chunk_of_logits(job->build->program, 0) : 1,
            other = ok ? dr_chunk_of_logits(job->before.program, 0) : 1;
    dr_progress_begin(progress, "scoring", "tokens", true);
    for (Walk w = walk_start(job, &job->scoring, (uint32_t)(chunk < other ? chunk : other)); ok && walk_next(&w);) {
        ok = score_step(job, &sides, &w);
        dr_progress_update(progress, w.at + w.count, job->scoring.count - 1);
    }
    dr_progress_end(progress);
    moss_state_free(sides.states[0]);
    moss_state_free(sides.states[1]);
    dr_build_free(&job->before);
    DrQuantizeReport *report = job->report;
    report->bits_before = sides.nats[0] / log(2) / (double)report->scored_bytes;
    report->bits_after = sides.nats[1] / log(2) / (double)report->scored_bytes;
    report->kl = sides.kl / (double)report->scored_tokens;
    return ok;
}

/* ---- all of it */

/* Whether both are there and one file; either may be NULL. */
static bool same_file(const char *one, const char *other) {
    struct stat a, b;
    return one && other && stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Inputs are mapped while the output is written, and read again to be scored. */
static bool check_output(const Job *job) {
    const char *output = job->quantize->output;
    const DrTexts *weights = job->options->weights;
    const char *spec = job->options->spec_text ? NULL : job->options->spec;
    bool same = same_file(output, spec) || same_file(output, job->quantize->text) || same_file(output, job->quantize->eval);
    for (size_t i = 0; i < job->checkpoints.n_files; i++) same = same || same_file(output, job->checkpoints.files[i].path);
    for (size_t i = 0; i < weights->count; i++) /* an index is no checkpoint, but is read too */
        same = same || same_file(output, rt_weight_file_of(&job->build->arena, weights->items[i]));
    if (!same) return true;
    return su_error(diags_of(job), su_file_span(diags_of(job), output), "write another file",
                    "the output is one of the inputs, which are read again to be scored");
}

static bool check_floats(const Job *job) {
    bool ok = true;
    for (size_t i = 0; i < job->n_tensors; i++) {
        if (job->checkpoints.tensors[i].tensor) continue;
        ok = su_error(diags_of(job), (SuSpan){0}, "give the checkpoint that it was made from",
                      "tensor '%s' is %s already: expected floats", job->tensors[i].name, ir_dtype_word(job->tensors[i].dtype));
    }
    return ok;
}

static bool open_floats(Job *job) {
    bool any = false;
    for (size_t i = 0; i < job->n_tensors; i++) any = any || is_quantised(&job->tensors[i]);
    if (!any) {
        return su_error(diags_of(job), (SuSpan){0}, "write weights.dtype q8 or q4 there, or give --dtype",
                        "the spec has no q8 or q4 weights: nothing to quantise");
    }
    size_t count;
    job->expected = dr_expected(&job->build->arena, &job->build->spec, &count);
    const DrTexts *weights = job->options->weights;
    return rt_checkpoints_open(weights->items, weights->count, job->expected, job->n_tensors, &job->checkpoints, diags_of(job)) &&
           check_floats(job) && check_output(job);
}

static bool make_workers(Job *job) {
    MossOptions moss = dr_moss_options(job->build, job->options);
    job->workers = rt_model_workers(&moss);
    return job->workers || su_out_of_memory(diags_of(job), "starting threads");
}

static void free_job(void *context) {
    Job *job = context;
    rt_calibration_end(job->calibration);
    dr_build_free(&job->calibrated);
    dr_build_free(&job->before);
    if (job->workers) rt_workers_free(job->workers);
    rt_checkpoints_close(&job->checkpoints);
    rt_tokens_free(&job->calibrating);
    rt_tokens_free(&job->scoring);
    *job = (Job){.build = job->build, .options = job->options, .quantize = job->quantize, .report = job->report};
}

static bool quantize_unguarded(Job *job) {
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, free_job, job);
    job->tensors = fe_tensors(&job->build->spec, &job->n_tensors);
    job->report->classes = SU_NEW_ARRAY(&job->build->arena, DrQuantizeClass, job->n_tensors);
    bool ok = open_floats(job) && prepare_texts(job) && calibrate(job) && make_workers(job) && write_all(job);
    if (ok) { /* before two more models are made */
        rt_calibration_end(job->calibration);
        job->calibration = NULL;
        dr_build_free(&job->calibrated);
        ok = score(job);
    }
    su_cleanup_done(&cleanup);
    free_job(job);
    return ok;
}

bool dr_quantize(DrBuild *build, const DrBuildOptions *options, const DrQuantizeOptions *quantize, DrQuantizeReport *out) {
    *out = (DrQuantizeReport){0};
    Job job = {.build = build, .options = options, .quantize = quantize, .report = out};
    su_arena_settle(&build->arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "quantising weights")) return false;
    bool result = quantize_unguarded(&job);
    su_guard_end(&guard);
    return result;
}
