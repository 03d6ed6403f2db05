#include "explore/run.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "explore/csv.h"
#include "explore/front.h"
#include "explore/sample.h"
#include "support/alloc.h"
#include "support/clock.h"
#include "support/file.h"

enum { CHUNK = 2048 }; /* indices that a worker takes at once */

/* What the workers share. A chunk's results are taken over in the order of the chunks, whoever made them. */
typedef struct Run {
    const ExSpace *space;
    ExCoster *coster;
    const ExDevice *devices;
    size_t n_devices;
    const ExRunOptions *options;
    const uint64_t *sample; /* or NULL: the indices themselves */
    uint64_t begin, end;    /* of the sample or of the indices */
    pthread_mutex_t lock;
    pthread_cond_t turned;
    uint64_t next, turn; /* the chunk that is taken next; whose results are next */
    bool stop;           /* something broke */
    FILE *rows[EX_MAX_DEVICES]; /* of points.csv, by device */
    ExFront fronts[EX_MAX_DEVICES];
    ExTally tally;
    SuArena *arena; /* of the tally */
    SuDiags *diags;
} Run;

/* One chunk in the making; a worker's, used again and again. */
typedef struct Chunk {
    ExScratch *scratch;
    SuText rows[EX_MAX_DEVICES];
    ExFront fronts[EX_MAX_DEVICES];
    ExTally tally;
    SuArena arena; /* of the tally's reasons; emptied with each chunk */
    uint32_t choices[EX_MAX_AXES];
    ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
    SuDiags diags;
} Chunk;

/* ---------------------------------------------------------------------------------------------- budgets and goals */

bool ex_within(const ExSpace *space, const ExCost *cost, size_t device) {
    for (size_t i = 0; i < space->n_budgets; i++) {
        double value = ex_value(cost, space->budgets[i].metric, device);
        if (value < space->budgets[i].low || value > space->budgets[i].high) return false; /* NaN is within: it is not known */
    }
    return true;
}

ExRival ex_rival(const ExSpace *space, const ExCost *cost, size_t device, uint64_t index) {
    ExRival rival = {.index = index};
    for (size_t i = 0; i < space->n_objectives; i++) {
        double value = ex_value(cost, space->objectives[i].metric, device);
        rival.goals[i] = space->objectives[i].maximise ? -value : value;
    }
    return rival;
}

/* ---------------------------------------------------------------------------------------------- points */

static void add_row(const Run *run, Chunk *chunk, uint64_t index, size_t device, const char *fidelity, const ExCost *cost) {
    uint8_t hash[EX_HASH];
    if (cost && !ex_hash(chunk->scratch, hash)) su_no_memory(EX_HASH);
    ex_csv_row(run->space, index, chunk->choices, run->devices[device].name, fidelity, cost ? hash : NULL, cost, device,
               &chunk->rows[device]);
}

const char *ex_fidelity(const ExDevice *device) { return device->model.calibrated ? "calibrated" : "modelled"; }

static void take_cost(const Run *run, Chunk *chunk, uint64_t index, const ExCost *cost) {
    bool kept = false;
    for (size_t d = 0; d < run->n_devices; d++) {
        bool within = ex_within(run->space, cost, d);
        kept |= within;
        if (within || run->options->all_points) add_row(run, chunk, index, d, ex_fidelity(&run->devices[d]), cost);
        if (!within) continue;
        chunk->tally.kept_on[d]++;
        ExRival point = ex_rival(run->space, cost, d, index);
        if (!ex_front_add(&chunk->fronts[d], &point)) su_no_memory(sizeof point);
    }
    chunk->tally.kept += kept;
    chunk->tally.over_budget += !kept;
}

/* A point without a cost, where it is to be written down. */
static void add_bare_rows(const Run *run, Chunk *chunk, uint64_t index, const char *what) {
    for (size_t d = 0; d < run->n_devices && run->options->all_points; d++) add_row(run, chunk, index, d, what, NULL);
}

static void take_invalid(const Run *run, Chunk *chunk, uint64_t index, const char *message) {
    chunk->tally.invalid++;
    ex_tally_reason(&chunk->tally, message, 1, &chunk->arena);
    add_bare_rows(run, chunk, index, "invalid");
}

/* false: it broke. */
static bool take_point(const Run *run, Chunk *chunk, uint64_t index) {
    const ExSpace *space = run->space;
    const char *why = NULL;
    const ExExpr *where = NULL;
    ExCost cost;
    ex_choices(space, index, chunk->choices);
    ExPointState state = ex_point(space, chunk->choices, chunk->values, chunk->derived, &why, &where);
    if (state == EX_TWIN) return true;
    chunk->tally.points++;
    switch (state) {
    case EX_TWIN: break;
    case EX_EXCLUDED:
        chunk->tally.excluded++;
        add_bare_rows(run, chunk, index, "excluded");
        break;
    case EX_INVALID: {
        const char *message = su_printf(&chunk->arena, "%s: %s", ex_text(where), why);
        take_invalid(run, chunk, index, message);
        break;
    }
    case EX_POINT:
        switch (ex_cost(chunk->scratch, chunk->choices, chunk->derived, &cost, &why)) {
        case EX_COSTED: take_cost(run, chunk, index, &cost); break;
        case EX_REFUSED: take_invalid(run, chunk, index, why); break;
        case EX_BROKEN: return false;
        }
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------- chunks */

static void empty_chunk(const Run *run, Chunk *chunk) {
    su_arena_free(&chunk->arena);
    chunk->arena = (SuArena)SU_ARENA_FREE;
    chunk->tally = (ExTally){0};
    for (size_t d = 0; d < run->n_devices; d++) {
        chunk->fronts[d].count = 0;
        chunk->fronts[d].n_goals = run->space->n_objectives;
    }
}

static bool make_chunk(const Run *run, Chunk *chunk, uint64_t number) {
    uint64_t first = run->begin + number * CHUNK, end = run->end - first > CHUNK ? first + CHUNK : run->end;
    bool ok = true;
    for (uint64_t i = first; i < end && ok; i++) ok = take_point(run, chunk, run->sample ? run->sample[i] : i);
    return ok;
}

/* A chunk's results into the run's; under the lock, in order. */
static void merge_chunk(Run *run, const Chunk *chunk) {
    ex_tally_add(&run->tally, &chunk->tally, run->arena);
    for (size_t d = 0; d < run->n_devices; d++) {
        for (size_t i = 0; i < chunk->fronts[d].count; i++)
            if (!ex_front_add(&run->fronts[d], &chunk->fronts[d].points[i])) su_no_memory(sizeof(ExRival));
        if (chunk->rows[d].size)
            fwrite(chunk->rows[d].text, 1, chunk->rows[d].size, run->rows[d]); /* su_out_commit reports errors */
    }
}

static uint64_t n_chunks(const Run *run) { return (run->end - run->begin + CHUNK - 1) / CHUNK; }

/* Waits for the turn of a chunk. */
static void wait_turn(Run *run, uint64_t number) {
    while (run->turn != number && !run->stop) pthread_cond_wait(&run->turned, &run->lock);
}

/* A chunk from its first point to its results in their turn. Holds the lock at the end, whatever comes of it. */
static bool work_on(Run *run, Chunk *chunk, uint64_t number) {
    volatile bool locked = false;
    SuGuard guard;
    if (SU_CAUGHT(&guard, &chunk->diags, "exploring")) {
        memset(chunk->rows, 0, sizeof chunk->rows); /* freed by the guard */
        if (!locked) pthread_mutex_lock(&run->lock);
        return false;
    }
    empty_chunk(run, chunk);
    bool ok = make_chunk(run, chunk, number);
    pthread_mutex_lock(&run->lock);
    locked = true;
    if (ok) wait_turn(run, number);
    if (ok && !run->stop) merge_chunk(run, chunk);
    for (size_t d = 0; d < run->n_devices; d++) su_text_free(&chunk->rows[d]);
    su_guard_end(&guard);
    return ok;
}

/* The first message of what broke in this worker. */
static void tell_broken(Run *run, const Chunk *chunk) {
    const SuDiags *of_scratch = ex_scratch_diags(chunk->scratch);
    const SuDiags *diags = chunk->diags.failure.code ? &chunk->diags : of_scratch;
    if (!run->stop && diags->failure.code) su_failed(run->diags, &diags->failure);
    if (!run->stop && !diags->failure.code)
        su_error(run->diags, (SuSpan){0}, NULL, "%s", diags->count ? diags->items[0].message : "a point could not be costed");
}

typedef struct Worker {
    pthread_t thread;
    Run *run;
    Chunk chunk;
    bool leads; /* tells progress: the thread that called */
} Worker;

static void *work(void *context) {
    Worker *worker = context;
    Run *run = worker->run;
    pthread_mutex_lock(&run->lock);
    while (!run->stop && run->next < n_chunks(run)) {
        uint64_t number = run->next++;
        pthread_mutex_unlock(&run->lock);
        bool ok = work_on(run, &worker->chunk, number);
        if (!ok) tell_broken(run, &worker->chunk);
        run->stop |= !ok;
        run->turn++;
        pthread_cond_broadcast(&run->turned);
        if (worker->leads) dr_progress_update(&run->options->progress, run->turn * CHUNK, run->end - run->begin);
    }
    pthread_mutex_unlock(&run->lock);
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- the whole */

static void free_worker(Run *run, Worker *worker) {
    ex_scratch_free(worker->chunk.scratch);
    for (size_t d = 0; d < run->n_devices; d++) {
        su_text_free(&worker->chunk.rows[d]);
        ex_front_free(&worker->chunk.fronts[d]);
    }
    su_arena_free(&worker->chunk.arena);
    su_diags_free(&worker->chunk.diags);
}

/* Threads that cannot be started are done without. */
static void run_workers(Run *run, SuArena *arena) {
    int threads = run->options->threads;
    Worker *workers = SU_NEW_ARRAY(arena, Worker, (size_t)threads);
    bool *started = SU_NEW_ARRAY(arena, bool, (size_t)threads);
    for (int t = 0; t < threads; t++) {
        workers[t] = (Worker){.run = run, .leads = t == 0, .chunk = {.scratch = ex_scratch_create(run->coster)}};
        if (!workers[t].chunk.scratch) su_no_memory(sizeof(Worker));
    }
    for (int t = 1; t < threads; t++) started[t] = pthread_create(&workers[t].thread, NULL, work, &workers[t]) == 0;
    work(&workers[0]);
    for (int t = 1; t < threads; t++)
        if (started[t]) pthread_join(workers[t].thread, NULL);
    for (int t = 0; t < threads; t++) free_worker(run, &workers[t]);
}

static void take_results(Run *run, ExResult *out) {
    out->tally = run->tally;
    ex_tally_sort(&out->tally);
    for (size_t d = 0; d < run->n_devices; d++) {
        ExFront *front = &run->fronts[d];
        ex_front_sort(front);
        out->fronts[d] = SU_NEW_ARRAY(&out->arena, uint64_t, front->count);
        out->n_front[d] = front->count;
        for (size_t i = 0; i < front->count; i++) out->fronts[d][i] = front->points[i].index;
    }
}

/* The rows of all devices behind each other, each of which wrote its own. */
static bool join_rows(Run *run, SuOut *points, SuDiags *diags) {
    static char buffer[1 << 16];
    bool ok = true;
    for (size_t d = 1; d < run->n_devices; d++) {
        size_t size;
        ok = ok && fflush(run->rows[d]) == 0 && !ferror(run->rows[d]);
        rewind(run->rows[d]);
        while (ok && (size = fread(buffer, 1, sizeof buffer, run->rows[d])) > 0) fwrite(buffer, 1, size, points->file);
        ok = ok && !ferror(run->rows[d]);
    }
    return ok || su_error(diags, su_file_span(diags, points->path), NULL, "writing rows of points: %s", strerror(errno));
}

/* The first device's rows go to the file itself, those of the others to files without a name. */
static bool open_rows(Run *run, SuOut *points, SuDiags *diags) {
    run->rows[0] = points->file;
    for (size_t d = 1; d < run->n_devices; d++) {
        run->rows[d] = tmpfile();
        if (!run->rows[d]) return su_error(diags, (SuSpan){0}, NULL, "cannot make a temporary file: %s", strerror(errno));
    }
    return true;
}

static void close_rows(Run *run) {
    for (size_t d = 1; d < run->n_devices; d++)
        if (run->rows[d]) fclose(run->rows[d]);
}

static bool write_points(Run *run, const char *path, SuArena *arena, SuDiags *diags) {
    SuOut out;
    SuText header = {0};
    if (!su_out_open(path, &out, diags)) return false;
    ex_csv_header(run->space, &header);
    fwrite(header.text, 1, header.size, out.file);
    su_text_free(&header);
    bool ok = open_rows(run, &out, diags);
    if (ok) {
        dr_progress_begin(&run->options->progress, "exploring", "points", true);
        run_workers(run, arena);
        dr_progress_end(&run->options->progress);
    }
    ok = ok && !run->stop && join_rows(run, &out, diags);
    close_rows(run);
    if (ok) return su_out_commit(&out, diags);
    su_out_abort(&out);
    return false;
}

static bool front_rows(Run *run, const ExResult *result, SuText *out) {
    Chunk chunk = {.scratch = ex_scratch_create(run->coster)};
    bool ok = chunk.scratch != NULL;
    for (size_t d = 0; d < run->n_devices && ok; d++) {
        for (size_t i = 0; i < result->n_front[d] && ok; i++) {
            const char *why;
            const ExExpr *where;
            ExCost cost;
            ex_choices(run->space, result->fronts[d][i], chunk.choices);
            ex_point(run->space, chunk.choices, chunk.values, chunk.derived, &why, &where);
            ok = ex_cost(chunk.scratch, chunk.choices, chunk.derived, &cost, &why) == EX_COSTED;
            if (ok) add_row(run, &chunk, result->fronts[d][i], d, ex_fidelity(&run->devices[d]), &cost);
        }
        su_text_append(out, chunk.rows[d].text ? chunk.rows[d].text : "", chunk.rows[d].size);
    }
    Worker worker = {.chunk = chunk};
    free_worker(run, &worker);
    return ok;
}

static bool write_front(Run *run, const ExResult *result, const char *path, SuDiags *diags) {
    SuText text = {0};
    ex_csv_header(run->space, &text);
    bool ok = front_rows(run, result, &text) || su_error(diags, (SuSpan){0}, NULL, "out of memory for the front");
    ok = ok && su_out_write(path, text.text, text.size, diags);
    su_text_free(&text);
    return ok;
}

/* Part I of N of a range. */
static void take_shard(Run *run, uint64_t count) {
    const ExRunOptions *o = run->options;
    run->begin = (uint64_t)((unsigned __int128)count * (o->shard - 1) / o->n_shards);
    run->end = (uint64_t)((unsigned __int128)count * o->shard / o->n_shards);
}

static bool run_unguarded(Run *run, const char *directory, ExResult *out, SuDiags *diags) {
    size_t sampled;
    double start = su_seconds();
    if (run->options->method != EX_ALL)
        run->sample = ex_sample(run->space, run->options->method, run->options->points, &out->arena, &sampled);
    take_shard(run, run->sample ? sampled : run->space->n_indices);
    run->arena = &out->arena;
    run->diags = diags;
    for (size_t d = 0; d < run->n_devices; d++) run->fronts[d].n_goals = run->space->n_objectives;
    bool ok = write_points(run, su_printf(&out->arena, "%s/points.csv", directory), &out->arena, diags);
    if (ok) {
        take_results(run, out);
        ok = write_front(run, out, su_printf(&out->arena, "%s/front.csv", directory), diags);
    }
    for (size_t d = 0; d < run->n_devices; d++) ex_front_free(&run->fronts[d]);
    out->seconds = su_seconds() - start;
    return ok;
}

static bool run_guarded(Run *run, const char *directory, ExResult *out, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "exploring")) return false;
    bool ok = run_unguarded(run, directory, out, diags);
    su_guard_end(&guard);
    return ok;
}

bool ex_run(const ExSpace *space, ExCoster *coster, const ExDevice *devices, size_t n_devices, const ExRunOptions *options,
            const char *directory, ExResult *out, SuDiags *diags) {
    *out = (ExResult){.arena = SU_ARENA_FREE};
    Run run = {.space = space, .coster = coster, .devices = devices, .n_devices = n_devices, .options = options};
    pthread_mutex_init(&run.lock, NULL);
    pthread_cond_init(&run.turned, NULL);
    bool ok = run_guarded(&run, directory, out, diags);
    pthread_cond_destroy(&run.turned);
    pthread_mutex_destroy(&run.lock);
    return ok;
}

void ex_result_free(ExResult *result) {
    su_arena_free(&result->arena);
    *result = (ExResult){0};
}
