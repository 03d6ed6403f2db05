/* Weights that an import wrote, held against the checkpoint that they come from. */
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

#include "driver/expected.h"
#include "import/pieces.h"
#include "import/write.h"
#include "runtime/layout.h"
#include "runtime/weights.h"

enum { CLAIM_ROWS = 8 };

typedef struct Verifying {
    const ImPlan *plan;
    const char *path;
    const PgTensor *tensors;
    size_t n_tensors;
    RtCheckpoints checkpoints;
    RtWorkers *workers;
    SuDiags *diags;
} Verifying;

/* ---- floats */

static bool float_error(const Verifying *v, size_t tensor, uint64_t at, float there, float wanted) {
    return su_error(v->diags, su_file_span(v->diags, v->path),
                    "the file is damaged, or was made of another checkpoint or by other options",
                    "tensor '%s': number %" PRIu64 " is %.9g, the checkpoint makes it %.9g", v->tensors[tensor].name, at,
                    (double)there, (double)wanted);
}

static bool check_floats(const Verifying *v, size_t tensor, const ImOutput *output) {
    SuArena arena = {0};
    const uint64_t room = im_output_run(output);
    float *wanted = SU_NEW_ARRAY(&arena, float, room), *there = SU_NEW_ARRAY(&arena, float, room);
    uint64_t at = 0;
    bool ok = true;
    for (size_t i = 0; ok && i < output->count; i++) {
        const ImPiece *piece = &output->pieces[i];
        const uint64_t K = piece->from ? piece->from->K : 1, most = room / K * K, all = im_piece_numbers(piece);
        for (uint64_t first = 0, n; ok && first < all; first += n, at += n) {
            n = all - first < most ? all - first : most;
            im_piece_read(piece, first, n, wanted);
            rt_round_to((IrDtype)v->tensors[tensor].dtype, wanted, n); /* what it refuses was never written: it differs */
            rt_read_elements(v->checkpoints.tensors[tensor].tensor, at, n, there);
            for (uint64_t k = 0; ok && k < n; k++)
                if (memcmp(&wanted[k], &there[k], sizeof *there) != 0) ok = float_error(v, tensor, at + k, there[k], wanted[k]);
        }
    }
    su_arena_free(&arena);
    return ok;
}

/* ---- blocks */

/* One tensor, whose rows workers claim. */
typedef struct Rows {
    ImBlockRows made;
    const PgTensor *expected;
    const RtStored *stored;
    uint64_t rows;
    RtRoom *rooms; /* [workers] */
    IrRow *row;    /* [workers] */
    float *w;      /* [workers][K] */
    RtWorkers *workers;
    RtClaims claims;
    _Atomic uint64_t bad; /* the first row that differs, or UINT64_MAX */
} Rows;

static bool is_same_row(const Rows *r, uint64_t row, int worker) {
    const IrDtype dtype = r->made.dtype;
    const uint64_t K = r->made.K;
    const IrRow *wanted = &r->row[worker];
    IrBlocks there;
    bool low = false;
    if (im_block_row(&r->made, row, r->w + (uint64_t)worker * K, wanted) == IM_ROW_BAD) return false;
    if (!rt_read_row(r->expected, r->stored, row, &r->rooms[worker], &there, &low) || low) return false;
    for (int p = 0; p < IR_PARTS; p++)
        if (wanted->part[p] && memcmp(wanted->part[p], there.part[p], ir_part_bytes(dtype, (IrPart)p, K)) != 0) return false;
    return true;
}

static void check_some(void *context, int worker) {
    Rows *r = context;
    uint32_t first, end, runs = (uint32_t)((r->rows + CLAIM_ROWS - 1) / CLAIM_ROWS);
    while (rt_claim(&r->claims, runs, 1, (uint32_t)rt_workers_count(r->workers), &first, &end))
        for (uint64_t row = (uint64_t)first * CLAIM_ROWS; row < (uint64_t)end * CLAIM_ROWS && row < r->rows; row++) {
            uint64_t seen = atomic_load(&r->bad);
            if (is_same_row(r, row, worker)) continue;
            while (row < seen && !atomic_compare_exchange_weak(&r->bad, &seen, row)) {}
        }
}

static bool check_blocks(const Verifying *v, size_t tensor, const ImOutput *output) {
    SuArena arena = {0};
    const PgTensor *t = &v->tensors[tensor];
    const IrDtype dtype = (IrDtype)t->dtype;
    const uint64_t K = rt_layout_inner(t);
    const size_t workers = (size_t)rt_workers_count(v->workers);
    Rows r = {.made = im_block_rows(output, dtype, K, &arena),
              .expected = t,
              .stored = &v->checkpoints.tensors[tensor],
              .rows = rt_layout_rows(t),
              .workers = v->workers,
              .bad = UINT64_MAX};
    r.rooms = SU_NEW_ARRAY(&arena, RtRoom, workers);
    r.row = SU_NEW_ARRAY(&arena, IrRow, workers);
    r.w = su_alloc_array(&arena, workers * K, sizeof *r.w);
    for (size_t i = 0; i < workers; i++) {
        r.rooms[i] = rt_room_make(&arena, t, 1);
        for (int p = 0; p < IR_PARTS; p++)
            if (ir_part(dtype, (IrPart)p)->suffix) r.row[i].part[p] = su_alloc(&arena, ir_part_bytes(dtype, (IrPart)p, K));
    }
    rt_workers_run(v->workers, check_some, &r);
    if (r.bad != UINT64_MAX)
        su_error(v->diags, su_file_span(v->diags, v->path),
                 "the file is damaged, or was made of another checkpoint or by other options",
                 "tensor '%s': row %" PRIu64 " is not what the checkpoint makes it", t->name, (uint64_t)r.bad);
    su_arena_free(&arena);
    return r.bad == UINT64_MAX;
}

/* ---- all of it */

static bool check_all(const Verifying *v, const DrProgress *progress) {
    uint64_t done = 0, all = 0;
    bool ok = true;
    for (size_t i = 0; i < v->n_tensors; i++) all += rt_layout_rows(&v->tensors[i]) * rt_layout_inner(&v->tensors[i]);
    dr_progress_begin(progress, "verifying", "numbers", true);
    for (size_t i = 0; ok && i < v->n_tensors; i++) {
        const ImOutput *output = im_plan_find(v->plan, v->tensors[i].name);
        ok = (ir_is_blocks((IrDtype)v->tensors[i].dtype) ? check_blocks : check_floats)(v, i, output);
        done += rt_layout_rows(&v->tensors[i]) * rt_layout_inner(&v->tensors[i]);
        dr_progress_update(progress, done, all);
    }
    dr_progress_end(progress);
    return ok;
}

bool im_verify_weights(const ImPlan *plan, FeSpec *spec, const char *path, RtWorkers *workers, const DrProgress *progress,
                       SuDiags *diags) {
    SuArena arena = {0};
    Verifying v = {.plan = plan, .path = path, .workers = workers, .diags = diags};
    v.tensors = dr_expected(&arena, spec, &v.n_tensors);
    bool ok = rt_checkpoints_open(&path, 1, v.tensors, v.n_tensors, &v.checkpoints, diags);
    if (ok) {
        ok = check_all(&v, progress);
        su_diags_keep(diags);
        rt_checkpoints_close(&v.checkpoints);
    }
    su_arena_free(&arena);
    return ok;
}
