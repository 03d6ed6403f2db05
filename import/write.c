#include "import/write.h"

#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "driver/expected.h"
#include "import/pieces.h"
#include "mossc/moss.h"
#include "runtime/layout.h"
#include "runtime/narrow.h"
#include "runtime/weights.h"

enum { CLAIM_ROWS = 8 };

typedef struct Job {
    const ImPlan *plan;
    const PgTensor *tensors;
    const FeTensor *spec; /* the same */
    size_t n_tensors;
    RtLayout layout;
    RtSafetensorsOut out;
    RtWorkers *workers;
    const DrProgress *progress;
    ImClasses *classes;
    double (*sums)[2]; /* [classes] Σ e², Σ w² */
    SuDiags *diags;
} Job;

/* ---- errors */

/* What is wrong with a number that was refused: by itself, or for the dtype. */
static bool value_error(const Job *job, const ImOutput *output, IrDtype dtype, uint64_t index) {
    const ImPiece *piece = output->pieces;
    while (index >= im_piece_numbers(piece)) index -= im_piece_numbers(piece++);
    const char *name = piece->from ? piece->from->name : output->name,
               *file = piece->from ? piece->from->file : job->plan->source->path;
    float *row = su_malloc((piece->from ? piece->from->K : 1) * sizeof *row);
    float value = NAN;
    if (row) {
        uint64_t K = piece->from ? piece->from->K : 1;
        im_piece_read(piece, index / K * K, K, row);
        value = row[index % K];
        for (uint64_t i = 0; i < K && ir_is_blocks(dtype); i++)
            if (!rt_finite(row[i])) value = row[i];
        su_free(row);
    }
    if (rt_finite(value)) {
        return su_error(job->diags, su_file_span(job->diags, file), "try --dtype f32", "tensor '%s' has numbers beyond %s, near %g",
                        name, ir_dtype_word(dtype), (double)value);
    }
    return su_error(job->diags, su_file_span(job->diags, file), "the file may be damaged",
                    "tensor '%s' has a number that is not finite", name);
}

/* ---- the report */

static const char *form_of(const ImOutput *output) {
    for (size_t i = 0; i < output->count; i++)
        if (output->pieces[i].from) return im_form(output->pieces[i].from->form)->word;
    return "-";
}

static size_t class_of(Job *job, size_t tensor, const ImOutput *output) {
    const char *map = job->spec[tensor].map ? job->spec[tensor].map : "others", *from = form_of(output);
    ImClasses *c = job->classes;
    for (size_t i = 0; i < c->count; i++)
        if (c->items[i].dtype == job->spec[tensor].dtype && strcmp(c->items[i].map, map) == 0 &&
            strcmp(c->items[i].from, from) == 0)
            return i;
    c->items = su_grow(&c->arena, c->items, &c->capacity, c->count + 1, sizeof *c->items);
    c->items[c->count] = (ImClass){.map = su_strdup(&c->arena, map), .from = from, .dtype = job->spec[tensor].dtype};
    return c->count++;
}

static void add_errors(const float *w, const float *back, uint64_t n, double sums[2]) {
    for (uint64_t i = 0; i < n; i++) {
        double e = (double)w[i] - (double)back[i];
        sums[0] += e * e;
        sums[1] += (double)w[i] * (double)w[i];
    }
}

/* ---- floats */

static bool write_run(Job *job, size_t tensor, const ImOutput *output, uint64_t at, float *run, float *rounded, uint64_t n,
                      double sums[2]) {
    IrDtype dtype = job->spec[tensor].dtype;
    memcpy(rounded, run, n * sizeof *run);
    uint64_t bad = rt_round_to(dtype, rounded, n);
    if (bad != n) return value_error(job, output, dtype, at + bad);
    add_errors(run, rounded, n, sums);
    uint16_t *halves = (uint16_t *)run;
    for (uint64_t i = 0; i < n && dtype != IR_F32; i++) { /* in place: a half never lies behind what is read next */
        uint16_t half = dtype == IR_BF16 ? rt_narrow_bf16(rounded[i]) : rt_narrow_f16(rounded[i]);
        memcpy(&halves[i], &half, sizeof half);
    }
    uint64_t size = (uint64_t)ir_dtype(dtype)->bytes;
    rt_safetensors_put(&job->out, job->layout.place[tensor][0], at * size, dtype == IR_F32 ? (const void *)rounded : halves,
                       n * size);
    return true;
}

/* Where the numbers of a piece lie one behind the other in the dtype that is wanted: NULL where they do not. */
static const uint8_t *same_bytes(const ImPiece *piece, IrDtype dtype) {
    const ImTensor *from = piece->from;
    bool as_stored = from && from->order.kind == IM_IN_ORDER && !from->minus_exp && im_form(from->form)->kept == dtype;
    bool as_read = piece->factor == 1 && !piece->plus && piece->order.kind == IM_IN_ORDER;
    return as_stored && as_read ? im_row(from, piece->first) : NULL;
}

static bool write_floats(Job *job, size_t tensor, const ImOutput *output, double sums[2]) {
    SuArena arena = {0};
    const IrDtype dtype = job->spec[tensor].dtype;
    const uint64_t size = (uint64_t)ir_dtype(dtype)->bytes;
    uint64_t room = im_output_run(output), at = 0;
    float *run = SU_NEW_ARRAY(&arena, float, room), *rounded = SU_NEW_ARRAY(&arena, float, room);
    bool ok = true;
    for (size_t i = 0; ok && i < output->count; i++) {
        const ImPiece *piece = &output->pieces[i];
        const uint8_t *bytes = same_bytes(piece, dtype);
        uint64_t K = piece->from ? piece->from->K : 1, most = room / K * K, all = im_piece_numbers(piece);
        for (uint64_t first = 0, n; ok && first < all; first += n, at += n) {
            n = all - first < most ? all - first : most;
            im_piece_read(piece, first, n, run);
            if (bytes && moss_all_finite(run, (int64_t)n))
                rt_safetensors_put(&job->out, job->layout.place[tensor][0], at * size, bytes + first * size, n * size);
            else
                ok = write_run(job, tensor, output, at, run, rounded, n, sums);
        }
    }
    su_arena_free(&arena);
    return ok;
}

/* ---- blocks */

/* One tensor, whose rows workers claim. */
typedef struct Rows {
    ImBlockRows made;
    uint64_t rows;
    uint8_t *parts[IR_PARTS]; /* [rows][ir_part_bytes] */
    double (*sums)[2];        /* [rows] */
    float *room;              /* [workers][2 K] */
    RtWorkers *workers;
    RtClaims claims;
    _Atomic uint64_t bad; /* the first row that has no form, or UINT64_MAX */
    _Atomic uint64_t low; /* rows with a -128 that became -127 */
} Rows;

static void note_bad(Rows *rows, uint64_t row) {
    uint64_t seen = atomic_load(&rows->bad);
    while (row < seen && !atomic_compare_exchange_weak(&rows->bad, &seen, row)) {}
}

static void make_row(Rows *r, uint64_t row, float *w, float *back) {
    const IrDtype dtype = r->made.dtype;
    const uint64_t K = r->made.K;
    IrRow to = {0};
    IrBlocks blocks = {.dtype = dtype, .rows = 1, .K = K};
    for (int p = 0; p < IR_PARTS; p++) {
        if (r->parts[p]) to.part[p] = r->parts[p] + row * ir_part_bytes(dtype, (IrPart)p, K);
        blocks.part[p] = to.part[p];
    }
    const ImRowWay way = im_block_row(&r->made, row, w, &to);
    if (way == IM_ROW_BAD) note_bad(r, row);
    if (way == IM_ROW_LOW) atomic_fetch_add(&r->low, 1);
    if (way == IM_ROW_BAD || way == IM_ROW_KEPT) return;
    ir_blocks_row(&blocks, 0, back);
    add_errors(w, back, K, r->sums[row]);
}

static void make_rows(void *context, int worker) {
    Rows *r = context;
    float *w = r->room + (uint64_t)worker * 2 * r->made.K;
    uint32_t first, end, runs = (uint32_t)((r->rows + CLAIM_ROWS - 1) / CLAIM_ROWS);
    while (rt_claim(&r->claims, runs, 1, (uint32_t)rt_workers_count(r->workers), &first, &end))
        for (uint64_t row = (uint64_t)first * CLAIM_ROWS; row < (uint64_t)end * CLAIM_ROWS && row < r->rows; row++)
            make_row(r, row, w, w + r->made.K);
}

static bool write_blocks(Job *job, size_t tensor, const ImOutput *output, double sums[2]) {
    SuArena arena = {0};
    const PgTensor *t = &job->tensors[tensor];
    const IrDtype dtype = (IrDtype)t->dtype;
    const uint64_t K = rt_layout_inner(t);
    Rows r = {
        .made = im_block_rows(output, dtype, K, &arena), .rows = rt_layout_rows(t), .workers = job->workers, .bad = UINT64_MAX};
    for (int p = 0; p < IR_PARTS; p++)
        if (ir_part(dtype, (IrPart)p)->suffix) r.parts[p] = su_alloc_array(&arena, r.rows, ir_part_bytes(dtype, (IrPart)p, K));
    r.sums = su_alloc_array(&arena, r.rows, sizeof *r.sums);
    r.room = su_alloc_array(&arena, (size_t)rt_workers_count(job->workers) * 2 * K, sizeof *r.room);
    rt_workers_run(job->workers, make_rows, &r);
    bool ok = r.bad == UINT64_MAX || value_error(job, output, dtype, r.bad * K);
    if (r.low != 0)
        su_warning(job->diags, su_file_span(job->diags, output->pieces[0].from->file), "--exact keeps them, as f32",
                   "tensor '%s' has a -128 in %" PRIu64 " of %" PRIu64 " rows, which became -127: q8 has no other",
                   output->pieces[0].from->name, r.low, r.rows);
    for (int p = 0; ok && p < IR_PARTS; p++)
        if (r.parts[p])
            rt_safetensors_put(&job->out, job->layout.place[tensor][p], 0, r.parts[p], r.rows * ir_part_bytes(dtype, (IrPart)p, K));
    for (uint64_t row = 0; ok && row < r.rows; row++)
        for (int i = 0; i < 2; i++) sums[i] += r.sums[row][i];
    su_arena_free(&arena);
    return ok;
}

/* ---- all of it */

static uint64_t bytes_of(const PgTensor *t) {
    uint64_t bytes = 0, rows = rt_layout_rows(t), K = rt_layout_inner(t);
    if (!ir_is_blocks((IrDtype)t->dtype)) return rows * K * (uint64_t)ir_dtype((IrDtype)t->dtype)->bytes;
    for (int p = 0; p < IR_PARTS; p++)
        if (ir_part((IrDtype)t->dtype, (IrPart)p)->suffix) bytes += rows * ir_part_bytes((IrDtype)t->dtype, (IrPart)p, K);
    return bytes;
}

static bool write_tensor(Job *job, size_t tensor) {
    const ImOutput *output = im_plan_find(job->plan, job->tensors[tensor].name);
    double sums[2] = {0};
    bool ok = (ir_is_blocks(job->spec[tensor].dtype) ? write_blocks : write_floats)(job, tensor, output, sums);
    if (!ok) return false;
    size_t class = class_of(job, tensor, output);
    ImClass *c = &job->classes->items[class];
    c->tensors++;
    c->weights += rt_layout_rows(&job->tensors[tensor]) * rt_layout_inner(&job->tensors[tensor]);
    c->bytes += bytes_of(&job->tensors[tensor]);
    for (int i = 0; i < 2; i++) job->sums[class][i] += sums[i];
    return true;
}

static bool write_all(Job *job) {
    uint64_t done = 0;
    bool ok = true;
    dr_progress_begin(job->progress, "importing", "bytes", true);
    for (size_t i = 0; ok && i < job->n_tensors; i++) {
        ok = write_tensor(job, i);
        done += bytes_of(&job->tensors[i]);
        dr_progress_update(job->progress, done, job->layout.bytes);
    }
    dr_progress_end(job->progress);
    for (size_t i = 0; i < job->classes->count; i++)
        job->classes->items[i].error = job->sums[i][1] > 0 ? sqrt(job->sums[i][0] / job->sums[i][1]) : 0;
    job->classes->bytes = job->layout.bytes;
    return ok;
}

bool im_write_weights(const ImPlan *plan, FeSpec *spec, const char *path, RtWorkers *workers, const DrProgress *progress,
                      ImClasses *out, SuDiags *diags) {
    SuArena arena = {0};
    Job job = {.plan = plan, .workers = workers, .progress = progress, .classes = out, .diags = diags};
    job.spec = fe_tensors(spec, &job.n_tensors);
    job.tensors = dr_expected(&arena, spec, &job.n_tensors);
    job.layout = rt_layout_make(&arena, job.tensors, job.n_tensors);
    job.sums = su_alloc_array(&arena, job.n_tensors, sizeof *job.sums);
    bool ok = rt_safetensors_begin(path, job.layout.items, job.layout.count, &job.out, diags);
    if (ok && write_all(&job)) {
        ok = rt_safetensors_commit(&job.out, diags);
    } else if (ok) {
        rt_safetensors_drop(&job.out);
        ok = false;
    }
    su_arena_free(&arena);
    return ok;
}
