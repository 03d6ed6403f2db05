#include "measure/time_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/table.h"

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

const char *ms_experts_word(PgSelect experts) {
    static const char *const words[] = {[PG_SINGLE] = "single", [PG_ALL] = "all", [PG_CHOSEN] = "chosen"};
    SU_TABLE_FULL(words, MS_EXPERTS);
    return words[experts];
}

const char *ms_step_word(PgMode mode) { return mode == PG_ROW ? "row" : "block"; }

static const char *kind_word(int i) { return pg_kind_word((PgKind)i); }
static const char *step_word(int i) { return ms_step_word((PgMode)i); }
static const char *dtype_word(int i) { return ir_dtype_word((IrDtype)i); }
static const char *experts_word(int i) { return ms_experts_word((PgSelect)i); }

/* The place of a word among `count`; `count` if it is none of them. */
static int place_of(const char *word, const char *(*word_of)(int), int count) {
    int i = 0;
    while (i < count && strcmp(word_of(i), word) != 0) i++;
    return i;
}

bool ms_class_named(const char *kernel, const char *step, const char *weights, const char *experts, MsClass *out) {
    int kind = place_of(kernel, kind_word, PG_KIND_COUNT), mode = place_of(step, step_word, PG_MODES);
    int dtype = place_of(weights, dtype_word, IR_STORED_DTYPES), of = place_of(experts, experts_word, MS_EXPERTS);
    *out = (MsClass){(uint8_t)mode, (uint8_t)kind, (uint8_t)dtype, (uint8_t)of};
    return kind < PG_KIND_COUNT && mode < PG_MODES && dtype < IR_STORED_DTYPES && of < MS_EXPERTS;
}

MsWeights *ms_weights_of(MsTimeModel *m, MsClass c) { return &m->classes[c.mode][c.kind][c.dtype][c.experts]; }

/* One entry, for all classes that it names. */
static bool take_kernel(const FeDevice *device, const FeKernelTime *time, MsTimeModel *out, SuDiags *diags) {
    bool any = false;
    for (int dtype = 0; dtype < IR_STORED_DTYPES; dtype++) {
        for (int experts = 0; experts < MS_EXPERTS; experts++) {
            const char *weights = dtype_word(dtype), *of = experts_word(experts);
            MsClass class;
            if ((time->weights && strcmp(time->weights, weights) != 0) || (time->experts && strcmp(time->experts, of) != 0))
                continue;
            if (!ms_class_named(time->kernel, time->step, weights, of, &class)) continue;
            any = true;
            *ms_weights_of(out, class) = (MsWeights){.part = {[MS_MEMORY] = (float)time->memory,
                                                              [MS_CACHE] = (float)time->cache,
                                                              [MS_FLOPS] = (float)time->flops,
                                                              [MS_EXPS] = (float)time->exps},
                                                     .overlap = (float)time->overlap,
                                                     .fixed_us = (float)time->fixed_us};
        }
    }
    return any || su_error(diags, (SuSpan){0}, "`mossc explore calibrate` writes such entries",
                           "device '%s': kernels: nothing is called '%s' in steps '%s', with weights '%s' and experts '%s'",
                           device->name, time->kernel, time->step, time->weights ? time->weights : "of any dtype",
                           time->experts ? time->experts : "of any choice");
}

static bool take_kernels(const FeDevice *device, MsTimeModel *out, SuDiags *diags) {
    bool ok = true;
    for (int i = 0; i < device->n_kernels && ok; i++) ok = take_kernel(device, &device->kernels[i], out, diags);
    out->calibrated = device->has_kernels;
    return ok;
}

static MsTimeModel plain_model(void) {
    MsTimeModel model = {.phase_us = PHASE_US, .stage_us = STAGE_US};
    for (int mode = 0; mode < PG_MODES; mode++)
        for (int kind = 0; kind < PG_KIND_COUNT; kind++)
            for (int dtype = 0; dtype < IR_STORED_DTYPES; dtype++)
                for (int experts = 0; experts < MS_EXPERTS; experts++)
                    model.classes[mode][kind][dtype][experts] = (MsWeights){.part = {1, 1, 1, 1}, .overlap = 1};
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

enum { PANELS_OF_TILE = 4 /* panels that a tile of a linear layer takes, about: targets differ (CgTarget) */ };

/* PgCode.groups, about. */
static uint32_t groups_of(const PgKernel *kernel, const PgWork *work) {
    if (kernel->kind == PG_LINEAR) return (uint32_t)((pg_panels(kernel->O) + PANELS_OF_TILE - 1) / PANELS_OF_TILE);
    if (kernel->kind != PG_ATTEND || kernel->mode != PG_ROW) return 1;
    uint64_t seen = (uint64_t)work->position + 1, window = (uint64_t)kernel->window;
    uint64_t keys = window > 0 && window < seen ? window : seen, blocks = (keys + PG_KEY_BLOCK - 1) / PG_KEY_BLOCK;
    return (uint32_t)(blocks < PG_KEY_RUNS ? blocks : PG_KEY_RUNS);
}

/* Whose weights or states a kernel goes over. */
static PgSelect experts_of(const PgKernel *k) {
    if (k->kind == PG_LINEAR) return k->select;
    if (k->kind != PG_SCAN && k->kind != PG_HEADS) return PG_SINGLE;
    switch (k->scan) {
    case PG_SCAN_PLAIN: return PG_SINGLE;
    case PG_SCAN_UPDATE: return PG_ALL;
    case PG_SCAN_HOLD:
    case PG_SCAN_PARAMS: return PG_CHOSEN;
    }
    return PG_SINGLE;
}

MsPhaseWork ms_phase_work(const PgPhase *phase, const PgKernel *kernel, const PgCost *cost, const PgWork *work, PgMode mode,
                          const PgPhase *before, int64_t threads) {
    PgCode code = {.groups = groups_of(kernel, work)};
    double tiles = (double)pg_tiles(phase, &code, (uint32_t)work->rows, (uint32_t)work->segments, (uint32_t)work->n_out_rows);
    double rounds = ceil(tiles / (double)threads);
    return (MsPhaseWork){.every_bytes = (float)fmax(0, cost->weight_bytes + cost->state_bytes - cost->chosen_bytes),
                         .chosen_bytes = (float)cost->chosen_bytes,
                         .kept_bytes = (float)cost->kept_bytes,
                         .all_bytes = (float)cost->all_bytes,
                         .activation_bytes = (float)cost->activation_bytes,
                         .flops = (float)cost->padded_flops,
                         .exps = (float)cost->exps,
                         .longer = tiles > 0 ? (float)(rounds * (double)threads / tiles) : 1,
                         .class = {(uint8_t)mode, (uint8_t)kernel->kind, (uint8_t)kernel->dtype, (uint8_t)experts_of(kernel)},
                         .begins_stage = !before || before->stage != phase->stage};
}

/* A cache that is too small loses most of a walk that comes back to the same bytes. */
double ms_held(double cache_bytes, double bytes) {
    double part = bytes > cache_bytes ? cache_bytes / bytes : 1;
    return part * part;
}

/* Between two uses of an expert other experts are used: how many is even between those of one step and all, and so is the mean of
 * ms_held from kept_bytes to all_bytes. */
static double chosen_held(double cache, double kept, double all) {
    if (all <= cache) return 1;
    if (all <= kept) return ms_held(cache, kept);
    double whole = fmax(0, cache - kept), from = fmax(cache, kept);
    return (whole + cache * (cache / from - cache / all)) / (all - kept);
}

MsStepRates ms_step_rates(const MsTimeModel *m, double kept_bytes, double all_bytes) {
    return (MsStepRates){.memory = 1e-9 / m->read_gb_s,
                         .cache = 1e-9 / m->cache_gb_s,
                         .flop = 1e-9 / m->panel_gflop_s,
                         .exp = 1e-9 / m->exp_g_s,
                         .every_held = ms_held(m->cache_bytes, kept_bytes),
                         .chosen_held = chosen_held(m->cache_bytes, kept_bytes, all_bytes)};
}

void ms_phase_parts(const MsStepRates *rates, const MsPhaseWork *p, double out[MS_PARTS]) {
    double every = (double)p->every_bytes, chosen = (double)p->chosen_bytes, longer = (double)p->longer;
    double held = every * rates->every_held + chosen * rates->chosen_held;
    out[MS_MEMORY] = (every + chosen - held) * rates->memory * longer;
    out[MS_CACHE] = (held + (double)p->activation_bytes) * rates->cache * longer;
    out[MS_FLOPS] = (double)p->flops * rates->flop * longer;
    out[MS_EXPS] = (double)p->exps * rates->exp * longer;
}

double ms_parts_seconds(const MsWeights *w, const double parts[MS_PARTS]) {
    double reading = (double)w->part[MS_MEMORY] * parts[MS_MEMORY] + (double)w->part[MS_CACHE] * parts[MS_CACHE];
    double arithmetic = (double)w->part[MS_FLOPS] * parts[MS_FLOPS] + (double)w->part[MS_EXPS] * parts[MS_EXPS];
    double shorter = reading < arithmetic ? reading : arithmetic;
    return reading + arithmetic - (double)w->overlap * shorter;
}

double ms_phase_seconds(const MsTimeModel *m, const MsStepRates *rates, const MsPhaseWork *p) {
    const MsWeights *w = &m->classes[p->class.mode][p->class.kind][p->class.dtype][p->class.experts];
    double parts[MS_PARTS];
    ms_phase_parts(rates, p, parts);
    return ms_parts_seconds(w, parts) + 1e-6 * ((double)w->fixed_us + m->phase_us + (p->begins_stage ? m->stage_us : 0));
}
