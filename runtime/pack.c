/* Packing: every weight cut into items of some panels, which all workers claim. A vector is a matrix of one column and channels
 * are panels of K = N or W, so one layout serves all: [planes][O/16] panels of ir_panel_bytes. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ir/vmath32.h"
#include "runtime/memory.h"
#include "runtime/dtypes.h"
#include "runtime/weights.h"
#include "support/size.h"

enum {
    COLUMNS = RT_COLUMNS,
    ITEM_BYTES = 1 << 17, /* packed bytes of an item, at least */
    NO_WEIGHT = UINT32_MAX
};

/* The packing of one weight; or, when no weight uses a tensor, only the check of its values. */
typedef struct Job {
    uint32_t tensor, weight;  /* weight: NO_WEIGHT when only checked */
    uint32_t first_item;      /* of all items */
    uint64_t units, per_item; /* panels of all planes, or elements, or rows of blocks */
} Job;

typedef struct Packer {
    const RtPacking *in;
    Job *jobs;
    uint32_t n_jobs, n_items;
    RtClaims *claims;
    RtRoom *rooms;               /* [workers] */
    _Atomic bool *low;           /* [n_tensors] a q of -128 was read as -127 */
    _Atomic uint64_t *first_bad; /* [n_tensors] element, UINT64_MAX: none */
    _Atomic uint32_t *left;      /* [n_tensors] items to do */
    _Atomic uint64_t done;       /* packed bytes */
} Packer;

static uint64_t panel_bytes(const PgWeight *w) { return ir_panel_bytes((IrDtype)w->dtype, w->K); }

static void note_bad(Packer *p, uint32_t tensor, uint64_t element) {
    uint64_t seen = atomic_load(&p->first_bad[tensor]);
    while (element < seen && !atomic_compare_exchange_weak(&p->first_bad[tensor], &seen, element)) {}
}

/* false: the row is bad, which is noted. */
static bool read_row(Packer *p, uint32_t tensor, uint64_t row, int worker, IrBlocks *out) {
    const PgTensor *expected = &p->in->program->tensors[tensor];
    bool low = false, good = rt_read_row(expected, &p->in->tensors[tensor], row, &p->rooms[worker], out, &low);
    if (low) atomic_store_explicit(&p->low[tensor], true, memory_order_relaxed);
    if (!good) note_bad(p, tensor, row * (uint64_t)expected->shape[expected->rank - 1]);
    return good;
}

/* Elements of a tensor that is not in blocks, as the kernels read them. */
static void convert(Packer *p, uint32_t tensor, bool negexp, uint64_t first, uint64_t count, float *out) {
    IrDtype dtype = (IrDtype)p->in->program->tensors[tensor].dtype;
    rt_read_elements(p->in->tensors[tensor].tensor, first, count, out);
    uint64_t bad = rt_round_to(dtype, out, count);
    if (bad < count) {
        note_bad(p, tensor, first + bad);
        memset(out, 0, count * sizeof *out);
    }
    for (uint64_t i = 0; negexp && i < count; i++) out[i] = -vm_exp(out[i]);
}

static void pack_blocks(Packer *p, const PgWeight *w, uint64_t unit, int worker) {
    uint64_t panels = pg_panels(w->O), plane = unit / panels, first_row = unit % panels * PG_LANES;
    uint8_t *panel = p->in->blob + w->offset + unit * panel_bytes(w);
    for (unsigned lane = 0; lane < PG_LANES && first_row + lane < (uint64_t)w->O; lane++) {
        IrBlocks row;
        if (read_row(p, w->tensor, pg_weight_row(w, plane, first_row + lane), worker, &row)) ir_store_lane(&row, 0, lane, panel);
    }
}

static void pack_panel(Packer *p, const PgWeight *w, uint64_t unit, int worker) {
    if (ir_is_blocks((IrDtype)w->dtype)) {
        pack_blocks(p, w, unit, worker);
        return;
    }
    float rows[PG_LANES][COLUMNS];
    uint64_t panels = pg_panels(w->O), plane = unit / panels, first_row = unit % panels * PG_LANES;
    uint64_t K = (uint64_t)w->K, O = (uint64_t)w->O;
    uint8_t *panel = p->in->blob + w->offset + unit * panel_bytes(w);
    const IrDtypeInfo *dtype = ir_dtype((IrDtype)w->dtype);
    memset(rows, 0, sizeof rows); /* lanes past O stay zero */
    for (uint64_t k0 = 0; k0 < K; k0 += COLUMNS) {
        uint64_t n = K - k0 < COLUMNS ? K - k0 : COLUMNS;
        for (uint64_t lane = 0; lane < PG_LANES && first_row + lane < O; lane++) {
            convert(p, w->tensor, w->negexp, pg_weight_row(w, plane, first_row + lane) * K + k0, n, rows[lane]);
            uint64_t whole = su_round_up(n, dtype->group); /* more than n in the last round only */
            for (uint64_t k = n; k < whole; k++) rows[lane][k] = 0;
        }
        rt_dtype((IrDtype)w->dtype)->store(rows, n, panel + k0 / dtype->group * dtype->group_bytes);
    }
}

/* Values of a tensor that nothing uses are held to the same rules: elements, or rows of blocks. */
static void check_only(Packer *p, const Job *job, uint64_t first, uint64_t end, int worker) {
    if (ir_is_blocks((IrDtype)p->in->program->tensors[job->tensor].dtype)) {
        IrBlocks row;
        for (; first < end; first++) read_row(p, job->tensor, first, worker, &row);
        return;
    }
    float values[COLUMNS];
    for (uint64_t n; first < end; first += n) {
        n = end - first < COLUMNS ? end - first : COLUMNS;
        convert(p, job->tensor, false, first, n, values);
    }
}

/* Gives the pages of a mapped tensor back: those that belong to it alone. */
static void drop_tensor(const RtTensor *t) {
    uintptr_t first = su_round_up((uintptr_t)t->data, RT_PAGE), end = ((uintptr_t)t->data + t->bytes) / RT_PAGE * RT_PAGE;
    if (first < end) madvise((void *)first, end - first, MADV_DONTNEED);
}

static void drop(const RtStored *stored) {
    if (stored->tensor) drop_tensor(stored->tensor);
    for (int i = 0; i < IR_PARTS; i++)
        if (stored->parts[i]) drop_tensor(stored->parts[i]);
}

static void do_item(Packer *p, uint32_t item, int worker) {
    uint32_t low = 0, high = p->n_jobs; /* the last job that begins at or before item */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        *(p->jobs[middle].first_item <= item ? &low : &high) = middle;
    }
    const Job *job = &p->jobs[low];
    uint64_t first = (item - job->first_item) * job->per_item;
    uint64_t end = first + job->per_item < job->units ? first + job->per_item : job->units;
    if (job->weight == NO_WEIGHT) {
        check_only(p, job, first, end, worker);
    } else {
        const PgWeight *w = &p->in->program->weights[job->weight];
        for (uint64_t unit = first; unit < end; unit++) pack_panel(p, w, unit, worker);
        atomic_fetch_add_explicit(&p->done, (end - first) * panel_bytes(w), memory_order_relaxed);
    }
    if (atomic_fetch_sub(&p->left[job->tensor], 1) == 1 && p->in->drop) drop(&p->in->tensors[job->tensor]);
}

static void work(void *context, int worker) {
    Packer *p = context;
    uint32_t first, end;
    while (rt_claim(p->claims, p->n_items, 1, (uint32_t)rt_workers_count(p->in->workers), &first, &end)) {
        do_item(p, first, worker);
        if (worker == 0 && p->in->progress) {
            p->in->progress(p->in->progress_context, atomic_load_explicit(&p->done, memory_order_relaxed),
                            p->in->program->weight_bytes);
        }
    }
}

static uint64_t elements_of(const PgTensor *t) {
    uint64_t n = 1;
    for (int32_t i = 0; i < t->rank; i++) n *= (uint64_t)t->shape[i];
    return n;
}

/* Only to be checked. */
static void add_idle(const PgTensor *tensor, Job *job) {
    uint64_t of_unit = ir_is_blocks((IrDtype)tensor->dtype) ? (uint64_t)tensor->shape[tensor->rank - 1] : 1;
    job->units = elements_of(tensor) / of_unit;
    job->per_item = su_ceil_div(ITEM_BYTES / sizeof(float), of_unit);
}

static void add_job(Packer *p, uint32_t tensor, uint32_t weight) {
    const PgProgram *program = p->in->program;
    Job *job = &p->jobs[p->n_jobs++];
    *job = (Job){.tensor = tensor, .weight = weight, .first_item = p->n_items};
    if (weight == NO_WEIGHT) {
        add_idle(&program->tensors[tensor], job);
    } else {
        const PgWeight *w = &program->weights[weight];
        job->units = (uint64_t)w->planes * pg_panels(w->O);
        job->per_item = su_ceil_div(ITEM_BYTES, panel_bytes(w));
        if ((uint64_t)w->planes * (uint64_t)pg_weight_rows(w) * (uint64_t)w->K != elements_of(&program->tensors[tensor]) ||
            w->offset + job->units * panel_bytes(w) > program->weight_bytes) {
            SU_BUG("packed form of tensor '%s' does not fit it", program->tensors[tensor].name);
        }
    }
    uint32_t items = (uint32_t)su_ceil_div(job->units, job->per_item);
    p->n_items += items;
    p->left[tensor] += items;
}

/* Jobs tensor by tensor, so that a tensor's pages can go as soon as its last form is packed. */
static void make_jobs(Packer *p, SuArena *arena) {
    const PgProgram *program = p->in->program;
    uint32_t *next = SU_NEW_ARRAY(arena, uint32_t, program->n_weights); /* 1 + the tensor's next weight, 0 at the end */
    uint32_t *head = SU_NEW_ARRAY(arena, uint32_t, program->n_tensors);
    for (uint32_t i = program->n_weights; i-- > 0;) {
        next[i] = head[program->weights[i].tensor];
        head[program->weights[i].tensor] = i + 1;
    }
    for (uint32_t t = 0; t < program->n_tensors; t++) {
        if (!head[t]) add_job(p, t, NO_WEIGHT);
        for (uint32_t i = head[t]; i; i = next[i - 1]) add_job(p, t, i - 1);
    }
}

bool rt_pack(const RtPacking *packing, SuDiags *diags) {
    const PgProgram *program = packing->program;
    SuArena arena = {0};
    RtClaims claims = {0};
    Packer p = {.in = packing,
                .jobs = SU_NEW_ARRAY(&arena, Job, (size_t)program->n_weights + program->n_tensors),
                .claims = &claims,
                .first_bad = su_alloc_array(&arena, program->n_tensors, sizeof *p.first_bad),
                .left = su_alloc_array(&arena, program->n_tensors, sizeof *p.left)};
    p.low = su_alloc_array(&arena, program->n_tensors, sizeof *p.low);
    p.rooms = SU_NEW_ARRAY(&arena, RtRoom, (size_t)rt_workers_count(packing->workers));
    for (int i = 0; i < rt_workers_count(packing->workers); i++)
        p.rooms[i] = rt_room_make(&arena, program->tensors, program->n_tensors);
    for (uint32_t t = 0; t < program->n_tensors; t++) {
        p.first_bad[t] = UINT64_MAX;
        p.low[t] = false;
    }
    make_jobs(&p, &arena);
    rt_workers_run(packing->workers, work, &p);
    bool ok = true;
    for (uint32_t t = 0; t < program->n_tensors; t++)
        if (p.first_bad[t] != UINT64_MAX) ok = rt_value_error(&program->tensors[t], &packing->tensors[t], p.first_bad[t], diags);
    for (uint32_t t = 0; t < program->n_tensors; t++)
        if (p.low[t]) rt_low_warning(&program->tensors[t], diags);
    su_arena_free(&arena);
    return ok;
}
