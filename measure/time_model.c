#include "measure/time_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What an exp costs in multiply-adds of the same lanes, by ir/vmath.inc: the rate of devices whose exp was not measured. */
static const double FMAS_OF_EXP = 12;
static const double CACHE_SPEED = 4;    /* the last cache against memory, where nothing is known */
static const double PHASE_US = 0.5;     /* claiming tiles, the first operands */
static const double STAGE_US = 1.0;     /* a barrier among a few cores */
static const double GPU_STAGE_US = 1.2; /* among all multiprocessors (bench/NOTES.md, section 11) */
static const int64_t DEFAULT_PIPES = 2;

/* ---------------------------------------------------------------------------------------------- devices */

static bool is_gpu(const FeDevice *device) { return strncmp(device->target, "cuda", 4) == 0; }

/* CPUs in "7,6,5". */
static int64_t workers_of(const FeDevice *device) {
    int64_t count = 0;
    for (const char *c = device->workers; c && *c; c++) count += *c == ',';
    return device->workers ? count + 1 : 0;
}

static bool works_here(const char *cpus, const char *cpu, size_t size) {
    for (const char *at = cpus; at && *at;) {
        size_t n = strcspn(at, ",");
        if (n == size && strncmp(at, cpu, size) == 0) return true;
        at += n + (at[n] == ',');
    }
    return false;
}

static double core_gflop_s(const FeCluster *cluster) {
    int64_t pipes = cluster->fma_pipes ? cluster->fma_pipes : DEFAULT_PIPES;
    return cluster->ghz * 2 * (double)(cluster->vector_bits / 32 * pipes);
}

/* Of the first `threads` workers, in the order of device->workers where that is known, else of the clusters. */
static double gflop_s(const FeDevice *device, int64_t threads) {
    double sum = 0;
    int64_t left = threads;
    for (const char *at = device->workers; at && *at && left > 0;) {
        size_t n = strcspn(at, ",");
        for (int i = 0; i < device->n_clusters; i++) {
            if (!works_here(device->clusters[i].cpus, at, n)) continue;
            sum += core_gflop_s(&device->clusters[i]);
            left--;
        }
        at += n + (at[n] == ',');
    }
    if (device->workers) return sum;
    for (int i = 0; i < device->n_clusters && left > 0; i++) {
        int64_t cores = device->clusters[i].cores < left ? device->clusters[i].cores : left;
        sum += (double)cores * core_gflop_s(&device->clusters[i]);
        left -= cores;
    }
    return sum;
}

static int64_t all_cores(const FeDevice *device) {
    int64_t cores = 0;
    for (int i = 0; i < device->n_clusters; i++) cores += device->clusters[i].cores;
    return cores > 0 ? cores : 1;
}

static double last_cache(const FeDevice *device) {
    double bytes = 1024 * (double)device->l3_kb;
    for (int i = 0; i < device->n_clusters && device->l3_kb == 0; i++)
        bytes += 1024 * (double)(device->clusters[i].l2_kb * device->clusters[i].cores);
    return bytes;
}

/* ---------------------------------------------------------------------------------------------- corrections */

static bool take_kernels(const FeDevice *device, MsTimeModel *out, SuDiags *diags) {
    for (int i = 0; i < device->n_kernels; i++) {
        const FeKernelTime *time = &device->kernels[i];
        int kind = 0, mode = strcmp(time->step, "row") == 0 ? PG_ROW : strcmp(time->step, "block") == 0 ? PG_BLOCK : PG_MODES;
        while (kind < PG_KIND_COUNT && strcmp(pg_kind_word((PgKind)kind), time->kernel) != 0) kind++;
        if (kind == PG_KIND_COUNT)
            return su_error(diags, (SuSpan){0}, NULL, "device '%s': kernels: no kind of kernel is '%s'", device->name,
                            time->kernel);
        if (mode == PG_MODES)
            return su_error(diags, (SuSpan){0}, NULL, "device '%s': kernels: step: expected row or block, got '%s'", device->name,
                            time->step);
        out->factor[mode][kind] = time->factor;
        out->fixed_us[mode][kind] = time->fixed_us;
    }
    out->calibrated = device->has_kernels;
    return true;
}

static MsTimeModel plain_model(void) {
    MsTimeModel model = {.phase_us = PHASE_US, .stage_us = STAGE_US};
    for (int mode = 0; mode < PG_MODES; mode++)
        for (int kind = 0; kind < PG_KIND_COUNT; kind++) model.factor[mode][kind] = 1;
    return model;
}

bool ms_time_model(const FeDevice *device, int64_t threads, MsTimeModel *out, SuDiags *diags) {
    *out = plain_model();
    const FeRates *rates = &device->rates;
    int64_t cores = workers_of(device) ? workers_of(device) : all_cores(device);
    out->cache_bytes = last_cache(device);
    if (is_gpu(device)) {
        out->phase_us = 0;
        out->stage_us = GPU_STAGE_US;
    }
    if (device->has_rates) {
        out->threads = rates->threads ? rates->threads : threads ? threads : cores;
        double scale = threads && threads < out->threads ? (double)threads / (double)out->threads : 1;
        out->read_gb_s = rates->read_gb_s;
        out->panel_gflop_s = rates->panel_gflop_s * scale;
        out->exp_g_s = rates->exp_g_s * scale;
        out->cache_gb_s = rates->cache_gb_s;
        if (!isnan(rates->phase_us)) out->phase_us = rates->phase_us;
        if (!isnan(rates->stage_us)) out->stage_us = rates->stage_us;
        if (scale < 1) out->threads = threads;
    } else {
        out->threads = threads && threads < cores ? threads : cores;
        out->read_gb_s = device->bandwidth_gb_s;
        out->panel_gflop_s = gflop_s(device, out->threads);
        out->exp_g_s = out->panel_gflop_s / (2 * FMAS_OF_EXP);
    }
    if (out->cache_gb_s == 0) out->cache_gb_s = CACHE_SPEED * out->read_gb_s;
    if (out->panel_gflop_s <= 0 || out->read_gb_s <= 0)
        return su_error(diags, (SuSpan){0}, "give 'ghz', 'bandwidth_gb_s' or 'rates'", "device '%s' does not say what it can do",
                        device->name);
    return take_kernels(device, out, diags);
}

/* ---------------------------------------------------------------------------------------------- phases */

enum {
    PANELS_OF_TILE = 4, /* panels that a tile of a linear layer takes, about: targets differ (CgTarget) */
    MOST_KEY_RUNS = 16  /* parts of one row's attention to a key/value head, each of one or more blocks of keys */
};

/* PgCode.groups, about. */
static uint32_t groups_of(const PgKernel *kernel, const PgWork *work) {
    if (kernel->kind == PG_LINEAR) return (uint32_t)((pg_panels(kernel->O) + PANELS_OF_TILE - 1) / PANELS_OF_TILE);
    if (kernel->kind != PG_ATTEND || kernel->mode != PG_ROW) return 1;
    uint64_t seen = (uint64_t)work->position + 1, window = (uint64_t)kernel->window;
    uint64_t keys = window > 0 && window < seen ? window : seen, blocks = (keys + PG_KEY_BLOCK - 1) / PG_KEY_BLOCK;
    return (uint32_t)(blocks < MOST_KEY_RUNS ? blocks : MOST_KEY_RUNS);
}

MsPhaseWork ms_phase_work(const PgPhase *phase, const PgKernel *kernel, const PgCost *cost, const PgWork *work, PgMode mode,
                          const PgPhase *before, int64_t threads) {
    PgCode code = {.groups = groups_of(kernel, work)};
    double tiles = (double)pg_tiles(phase, &code, (uint32_t)work->rows, (uint32_t)work->segments, (uint32_t)work->n_out_rows);
    double rounds = ceil(tiles / (double)threads);
    return (MsPhaseWork){.memory_bytes = (float)(cost->weight_bytes + cost->state_bytes),
                         .activation_bytes = (float)cost->activation_bytes,
                         .flops = (float)cost->flops,
                         .exps = (float)cost->exps,
                         .longer = tiles > 0 ? (float)(rounds * (double)threads / tiles) : 1,
                         .kind = (uint8_t)kernel->kind,
                         .mode = (uint8_t)mode,
                         .begins_stage = !before || before->stage != phase->stage};
}

MsStepRates ms_step_rates(const MsTimeModel *m, double step_bytes) {
    /* The part of what a step reads that the last cache still holds from the step before. */
    double held = step_bytes > 0 ? fmin(1, m->cache_bytes / step_bytes) : 1;
    held = held < 1 ? held * held : 1; /* a cache that is too small loses most of a cyclic walk */
    double cache = 1e-9 / m->cache_gb_s;
    return (MsStepRates){.memory = (1 - held) * 1e-9 / m->read_gb_s + held * cache,
                         .cache = cache,
                         .flop = 1e-9 / m->panel_gflop_s,
                         .exp = 1e-9 / m->exp_g_s};
}

double ms_phase_seconds(const MsTimeModel *m, const MsStepRates *rates, const MsPhaseWork *p) {
    double reading = (double)p->memory_bytes * rates->memory + (double)p->activation_bytes * rates->cache;
    double arithmetic = (double)p->flops * rates->flop + (double)p->exps * rates->exp;
    double work = (reading > arithmetic ? reading : arithmetic) * (double)p->longer;
    double fixed_us = m->fixed_us[p->mode][p->kind] + m->phase_us + (p->begins_stage ? m->stage_us : 0);
    return m->factor[p->mode][p->kind] * work + 1e-6 * fixed_us;
}
