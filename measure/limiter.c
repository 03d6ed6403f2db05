/* Every worker notes its own clock where it starts and where it ends, since the one that waits for all of them may wake up late: a
 * repetition lasts from the first start to the last end. Work is claimed in pieces, as a model's tiles are, so that a worker
 * that loses its CPU for a while does not hold up the others. */
#include "measure/limiter.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/limits.h"
#include "runtime/memory.h"
#include "runtime/workers.h"
#include "support/alloc.h"
#include "support/clock.h"
#include "support/size.h"

enum {
    PANEL = CG_READ_PATTERNS, /* kernels by index */
    FMA,
    EXP,
    REPEATS = 4,
    KEPT_PATTERNS = 2, /* of reading, after the first call */
    PIECES = 64        /* that each worker claims of a repetition */
};
static const double LEAST_SECONDS = 5e-3; /* of a repetition of arithmetic, and of reading again and again */
static const uint64_t LEAST_BUFFER = (uint64_t)256 << 20, MOST_BUFFER = (uint64_t)2 << 30;

/* Memory of one worker for arithmetic: the operands stay in its first cache. */
typedef struct Worker {
    _Alignas(64) float weights[CG_LIMIT_OPERAND_BYTES / sizeof(float)];
    _Alignas(64) float inputs[CG_LIMIT_OPERAND_BYTES / sizeof(float)];
    _Alignas(64) float scratch[CG_LIMIT_OPERAND_BYTES / sizeof(float)];
    double start, end;
} Worker;

struct MsLimiter {
    CgLimits *code;
    const CgLimitKernel *kernels; /* of code */
    RtWorkers *threads;
    int count;
    RtPages buffer; /* for reading */
    uint64_t touched; /* bytes of it that are there */
    uint64_t read_bytes; /* of it that are read again and again; 0: one half, then the other */
    uint32_t read_tiles; /* of a repetition of reading; 0: not known yet */
    bool second_half;
    Worker *workers; /* [count] */
    unsigned patterns[CG_READ_PATTERNS]; /* kernels worth trying, the last best first */
    unsigned n_patterns;
    uint32_t tiles[CG_LIMIT_KERNELS]; /* of a repetition; 0: not known yet */
};

/* ---------------------------------------------------------------------------------------------- running a kernel */

typedef struct Run {
    MsLimiter *limiter;
    const CgLimitKernel *kernel;
    const uint8_t *data; /* reading: where tile 0 begins */
    uint32_t tiles;
    uint32_t round; /* reading: tiles after which it begins again */
    RtClaims claims;
} Run;

/* Tiles first … end - 1, where tile `round` is tile 0 again. */
static void run_tiles(const Run *run, const RtArgs *args, uint32_t first, uint32_t end) {
    while (first < end) {
        uint32_t from = first % run->round, count = end - first < run->round - from ? end - first : run->round - from;
        run->kernel->run(args, NULL, from, from + count);
        first += count;
    }
}

static void work(void *context, int index) {
    Run *run = context;
    Worker *worker = &run->limiter->workers[index];
    bool reads = run->kernel->kind == CG_LIMIT_READ;
    RtArgs args = {.weights = reads ? run->data : (const uint8_t *)worker->weights,
                   .arena = (uint8_t *)worker->inputs,
                   .scratch = (uint8_t *)worker->scratch};
    uint32_t workers = (uint32_t)run->limiter->count, most = run->tiles / workers / PIECES + 1, first, end;
    rt_workers_barrier(run->limiter->threads, NULL, NULL);
    worker->start = su_seconds();
    while (rt_claim(&run->claims, run->tiles, most, workers, &first, &end)) run_tiles(run, &args, first, end);
    worker->end = su_seconds();
}

/* What a repetition of reading goes through: the same bytes each time, or the half of the buffer whose turn it is. */
static void choose_bytes(MsLimiter *limiter, Run *run) {
    if (limiter->read_bytes) {
        run->round = (uint32_t)(limiter->read_bytes / CG_READ_TILE);
        return;
    }
    if (limiter->second_half) run->data += limiter->buffer.size / 2;
    limiter->second_half = !limiter->second_half;
}

/* Seconds of one repetition. */
static double run_once(MsLimiter *limiter, unsigned kernel, uint32_t tiles) {
    Run run = {
        .limiter = limiter, .kernel = &limiter->kernels[kernel], .data = limiter->buffer.data, .tiles = tiles, .round = tiles};
    if (run.kernel->kind == CG_LIMIT_READ) choose_bytes(limiter, &run);
    rt_workers_run(limiter->threads, work, &run);
    double start = limiter->workers[0].start, end = limiter->workers[0].end;
    for (int i = 1; i < limiter->count; i++) {
        start = fmin(start, limiter->workers[i].start);
        end = fmax(end, limiter->workers[i].end);
    }
    return end - start;
}

/* Work a second, the best of some repetitions. */
static double best_rate(MsLimiter *limiter, unsigned kernel, uint32_t tiles) {
    double best = INFINITY;
    for (int i = 0; i < REPEATS; i++) best = fmin(best, run_once(limiter, kernel, tiles));
    return limiter->kernels[kernel].work * tiles / best;
}

static double arithmetic_rate(MsLimiter *limiter, unsigned kernel) {
    uint32_t *tiles = &limiter->tiles[kernel];
    if (*tiles == 0) { /* the first time: long enough that starting and ending do not count */
        *tiles = 1000;
        while (*tiles < UINT32_MAX / 4 && run_once(limiter, kernel, *tiles) < LEAST_SECONDS) *tiles *= 2;
    }
    return best_rate(limiter, kernel, *tiles);
}

/* ---------------------------------------------------------------------------------------------- the limits */

/* Four times the last cache, so that nothing of a half is left there when its turn comes again; at most a quarter of what is
 * free. */
static uint64_t buffer_bytes(void) {
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE), pages = sysconf(_SC_AVPHYS_PAGES);
    uint64_t wanted = cache > 0 ? 4 * (uint64_t)cache : 0, free_bytes = pages > 0 ? (uint64_t)pages * RT_PAGE : MOST_BUFFER;
    wanted = wanted < LEAST_BUFFER ? LEAST_BUFFER : wanted > MOST_BUFFER ? MOST_BUFFER : wanted;
    wanted = wanted > free_bytes / 4 ? free_bytes / 4 : wanted;
    return wanted / (2 * CG_READ_TILE) * (2 * CG_READ_TILE);
}

/* Pages that nobody has written all stand for one page of zeros. What a model that caches hold reads is little of the buffer. */
static void touch(void *context, int index) {
    MsLimiter *limiter = context;
    size_t size = ms_limit_buffer(limiter), first = limiter->touched + (size_t)index * CG_READ_TILE;
    for (size_t at = first; at < size; at += (size_t)limiter->count * CG_READ_TILE)
        memset(limiter->buffer.data + at, 1, CG_READ_TILE);
}

static void touch_what_is_read(MsLimiter *limiter) {
    if (limiter->touched >= ms_limit_buffer(limiter)) return;
    rt_workers_run(limiter->threads, touch, limiter);
    limiter->touched = ms_limit_buffer(limiter);
}

/* Half of the buffer; of bytes that are read again and again, so many that starting and ending do not count. */
static uint32_t tiles_to_read(MsLimiter *limiter) {
    uint32_t most = (uint32_t)(limiter->buffer.size / 2 / CG_READ_TILE), tiles = (uint32_t)(limiter->read_bytes / CG_READ_TILE);
    if (tiles == 0) return most;
    while (tiles < most && run_once(limiter, limiter->patterns[0], tiles) < LEAST_SECONDS) tiles *= 2;
    return tiles < most ? tiles : most;
}

static void try_all_patterns(MsLimiter *limiter) {
    limiter->n_patterns = CG_READ_PATTERNS;
    for (unsigned i = 0; i < CG_READ_PATTERNS; i++) limiter->patterns[i] = i;
}

void ms_limiter_read_bytes(MsLimiter *limiter, uint64_t bytes) {
    uint64_t tiles = (bytes + CG_READ_TILE - 1) / CG_READ_TILE;
    limiter->read_bytes = tiles * CG_READ_TILE < limiter->buffer.size / 2 ? tiles * CG_READ_TILE : 0;
    limiter->read_tiles = 0;
    try_all_patterns(limiter);
}

double ms_limit_read(MsLimiter *limiter) {
    double best = 0, rates[CG_READ_PATTERNS];
    touch_what_is_read(limiter);
    if (limiter->read_tiles == 0) limiter->read_tiles = tiles_to_read(limiter);
    for (unsigned i = 0; i < limiter->n_patterns; i++) {
        double rate = best_rate(limiter, limiter->patterns[i], limiter->read_tiles);
        unsigned kernel = limiter->patterns[i], at = i;
        for (; at > 0 && rates[at - 1] < rate; at--) { /* sorted, the best first */
            rates[at] = rates[at - 1];
            limiter->patterns[at] = limiter->patterns[at - 1];
        }
        rates[at] = rate;
        limiter->patterns[at] = kernel;
        best = fmax(best, rate);
    }
    if (limiter->n_patterns > KEPT_PATTERNS) limiter->n_patterns = KEPT_PATTERNS;
    return best / 1e9;
}

double ms_limit_panel(MsLimiter *limiter) { return arithmetic_rate(limiter, PANEL) / 1e9; }
double ms_limit_fma(MsLimiter *limiter) { return arithmetic_rate(limiter, FMA) / 1e9; }
double ms_limit_exp(MsLimiter *limiter) { return arithmetic_rate(limiter, EXP) / 1e9; }

MsLimits ms_measure_limits(MsLimiter *limiter) {
    return (MsLimits){.read_gb_s = ms_limit_read(limiter),
                      .panel_gflop_s = ms_limit_panel(limiter),
                      .fma_gflop_s = ms_limit_fma(limiter),
                      .exp_g_s = ms_limit_exp(limiter)};
}

MsLimits ms_limits_best(MsLimits a, MsLimits b) {
    return (MsLimits){.read_gb_s = fmax(a.read_gb_s, b.read_gb_s),
                      .panel_gflop_s = fmax(a.panel_gflop_s, b.panel_gflop_s),
                      .fma_gflop_s = fmax(a.fma_gflop_s, b.fma_gflop_s),
                      .exp_g_s = fmax(a.exp_g_s, b.exp_g_s)};
}

const char *ms_limit_pattern(const MsLimiter *limiter) { return limiter->kernels[limiter->patterns[0]].name; }
uint64_t ms_limit_buffer(const MsLimiter *limiter) { return limiter->read_bytes ? limiter->read_bytes : limiter->buffer.size; }

/* ---------------------------------------------------------------------------------------------- life */

/* Values of either sign and of about a hundredth, so that no sum grows large and none is tiny. */
static void fill(Worker *worker) {
    for (size_t i = 0; i < CG_LIMIT_OPERAND_BYTES / sizeof(float); i++) {
        worker->weights[i] = i % 2 ? 0.01f : -0.01f;
        worker->inputs[i] = i % 3 ? 0.75f : -0.5f;
    }
}

static bool start(MsLimiter *limiter, int threads) {
    limiter->threads = rt_workers_create(threads, false);
    if (!limiter->threads) return false;
    limiter->count = rt_workers_count(limiter->threads);
    limiter->workers = su_aligned(64, (size_t)limiter->count * sizeof *limiter->workers);
    limiter->buffer = rt_pages_alloc(buffer_bytes());
    if (!limiter->workers || !limiter->buffer.data) return false;
    for (int i = 0; i < limiter->count; i++) fill(&limiter->workers[i]);
    return true;
}

bool ms_limiter_create(const CgTarget *target, int threads, MsLimiter **out_limiter, SuDiags *diags) {
    MsLimiter *limiter = su_calloc(1, sizeof *limiter);
    if (!limiter || !start(limiter, threads)) {
        ms_limiter_free(limiter);
        return su_error(diags, (SuSpan){0}, NULL, "cannot allocate memory to measure this machine's limits");
    }
    if (!cg_llvm_limits(target, &limiter->code, diags)) {
        ms_limiter_free(limiter);
        return false;
    }
    limiter->kernels = cg_limit_kernels(limiter->code);
    try_all_patterns(limiter);
    *out_limiter = limiter;
    return true;
}

void ms_limiter_free(MsLimiter *limiter) {
    if (!limiter) return;
    rt_workers_free(limiter->threads);
    cg_limits_free(limiter->code);
    rt_pages_free(&limiter->buffer);
    su_free(limiter->workers);
    su_free(limiter);
}

int ms_limiter_threads(const MsLimiter *limiter) { return limiter->count; }
