#include "explore/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "explore/measured.h"
#include "explore/rank.h"
#include "support/table.h"

static const double MOST_OTHERS = 0.1; /* of the processor: what was measured beside more is left out */

/* Phases that are alike, as they were measured in one step. */
typedef struct Line {
    double phases, stages, seconds; /* of all of them */
    MsPhaseWork work;               /* of one */
} Line;

typedef struct Step {
    PgMode mode;
    double seconds;      /* without the clock of profiling */
    double profiled;     /* with it: what the lines add up to */
    double read_bytes, read_gb_s, panel_gflop_s, exp_g_s; /* beside it */
    Line *lines;
    size_t n_lines;
} Step;

typedef struct Point {
    uint64_t index;
    size_t study;
    bool held_out, disturbed;
    Step steps[PG_MODES];
    bool has[PG_MODES];
} Point;

typedef struct Fit {
    ExStudy *studies; /* [n_studies] */
    size_t n_studies, reading; /* the one that is being read */
    SuDiags *diags;
    SuArena arena;
    Point *points;
    size_t n, capacity, disturbed; /* the last: measured, but left out */
    MsTimeModel plain, fitted;
    FeKernelTime *kernels; /* [n_kernels] what was fitted, in the order of a device file */
    size_t n_kernels, kernels_capacity;
} Fit;

const char *ex_predicted_word(ExPredicted predicted) {
    static const char *const words[] = {[EX_PREDICTED_DECODE] = "decode_ms", [EX_PREDICTED_PREFILL] = "prefill_ms"};
    SU_TABLE_FULL(words, EX_PREDICTED_COUNT);
    return words[predicted];
}

const char *ex_fidelity_word(ExFidelity fidelity) {
    static const char *const words[] = {[EX_MODELLED] = "modelled", [EX_CALIBRATED] = "calibrated"};
    SU_TABLE_FULL(words, EX_FIDELITY_COUNT);
    return words[fidelity];
}

/* ---------------------------------------------------------------------------------------------- what was measured */

static const char *word_of(const cJSON *line, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* Whether others took so much of the processor in every round that the times say little (docs/explore.md). */
static bool is_disturbed(const cJSON *steps) {
    const cJSON *step;
    cJSON_ArrayForEach(step, steps) {
        if (ex_measured_number(step, "others") > MOST_OTHERS) return true;
    }
    return false;
}

/* false: it lacks something. */
static bool take_line(const cJSON *json, PgMode mode, Line *out) {
    *out = (Line){.phases = ex_measured_number(json, "phases"),
                  .stages = ex_measured_number(json, "stages"),
                  .seconds = ex_measured_number(json, "seconds")};
    bool ok = ms_class_named(word_of(json, "kernel"), ms_step_word(mode), word_of(json, "weights"), word_of(json, "experts"),
                             &out->work.class);
#define MS_NUMBER(name)                                                                                                            \
    out->work.name = (float)ex_measured_number(json, #name);                                                                       \
    ok = ok && out->work.name >= 0;
#include "measure/phase_numbers.def"
    return ok && out->phases > 0 && out->stages >= 0 && out->seconds >= 0 && out->work.longer >= 1;
}

static bool take_step(Fit *fit, const cJSON *json, Point *point) {
    const cJSON *lines = cJSON_GetObjectItemCaseSensitive(json, "lines"), *line;
    const cJSON *limits = cJSON_GetObjectItemCaseSensitive(json, "limits");
    PgMode which = strcmp(word_of(json, "mode"), ms_step_word(PG_BLOCK)) == 0 ? PG_BLOCK : PG_ROW;
    Step *step = &point->steps[which];
    *step = (Step){.mode = which,
                   .seconds = ex_measured_number(json, "seconds"),
                   .profiled = ex_measured_number(json, "profiled_seconds"),
                   .read_bytes = ex_measured_number(json, "read_bytes"),
                   .read_gb_s = ex_measured_number(limits, "read_gb_s"),
                   .panel_gflop_s = ex_measured_number(limits, "panel_gflop_s"),
                   .exp_g_s = ex_measured_number(limits, "exp_g_s"),
                   .lines = SU_NEW_ARRAY(&fit->arena, Line, (size_t)cJSON_GetArraySize(lines))};
    cJSON_ArrayForEach(line, lines) {
        if (!take_line(line, which, &step->lines[step->n_lines])) return false;
        step->n_lines++;
    }
    point->has[which] = true;
    return step->n_lines > 0 && step->seconds > 0 && step->profiled > 0 && step->read_bytes > 0 && step->read_gb_s > 0 &&
           step->panel_gflop_s > 0 && step->exp_g_s > 0;
}

static bool take_point(void *context, const cJSON *json, SuSpan span) {
    Fit *fit = context;
    const cJSON *steps = cJSON_GetObjectItemCaseSensitive(json, "steps"), *step;
    if (cJSON_HasObjectItem(json, "error") || !steps) return true;
    fit->points = su_grow(&fit->arena, fit->points, &fit->capacity, fit->n + 1, sizeof *fit->points);
    Point *point = &fit->points[fit->n++];
    *point = (Point){.index = (uint64_t)ex_measured_number(json, "index"), .study = fit->reading, .disturbed = is_disturbed(steps)};
    cJSON_ArrayForEach(step, steps) {
        if (!take_step(fit, step, point))
            return su_error(fit->diags, span, NULL, "a step of this line lacks a number, or has an impossible one");
    }
    return true;
}

/* Where enough others are left to calibrate with, which on a machine that never rests they are not. */
static void leave_out_disturbed(Fit *fit) {
    size_t good = 0;
    for (size_t p = 0; p < fit->n; p++) good += !fit->points[p].disturbed;
    if (good < EX_LEAST_MEASURED) return;
    fit->disturbed = fit->n - good;
    size_t n = 0;
    for (size_t p = 0; p < fit->n; p++)
        if (!fit->points[p].disturbed) fit->points[n++] = fit->points[p];
    fit->n = n;
}

static uint64_t mixed(uint64_t x) {
    x ^= x >> 31;
    x *= 0x9E3779B97F4A7C15u;
    return x ^ x >> 29;
}

static int by_mixed(const void *a, const void *b) {
    const Point *p = a, *q = b;
    if (p->study != q->study) return p->study < q->study ? -1 : 1;
    uint64_t x = mixed(p->index), y = mixed(q->index);
    return x < y ? -1 : x > y;
}

/* Every second one of each study, in an order that depends on the indices alone. */
static void hold_out(Fit *fit) {
    qsort(fit->points, fit->n, sizeof *fit->points, by_mixed);
    for (size_t i = 0; i < fit->n; i++) fit->points[i].held_out = i % 2 == 1;
}

/* ---------------------------------------------------------------------------------------------- predictions */

static const double MOST_HELD = 0.8, LEAST_OF_MEMORY = 0.5, MOST_OF_MEMORY = 2;

/* How fast memory was beside a step, GB/s: what is left of reading so many bytes again and again without the part that the cache held.
 * Where that was nearly all of it, as the model has it. */
static double memory_beside(const MsTimeModel *model, const Step *step) {
    double held = ms_held(model->cache_bytes, step->read_bytes);
    double seconds = (1 / step->read_gb_s - held / model->cache_gb_s) / (1 - held);
    if (held > MOST_HELD || seconds <= 0) return model->read_gb_s;
    return fmin(fmax(1 / seconds, LEAST_OF_MEMORY * model->read_gb_s), MOST_OF_MEMORY * model->read_gb_s);
}

/* Rates in a step, with the limits that were measured beside it. */
static MsStepRates rates_of(const MsTimeModel *model, const Step *step) {
    double kept = 0, all = 0;
    for (size_t i = 0; i < step->n_lines; i++) {
        kept += step->lines[i].phases * (double)step->lines[i].work.kept_bytes;
        all += step->lines[i].phases * (double)step->lines[i].work.all_bytes;
    }
    MsStepRates rates = ms_step_rates(model, kept, all);
    rates.memory = 1e-9 / memory_beside(model, step);
    rates.flop = 1e-9 / step->panel_gflop_s;
    rates.exp = 1e-9 / step->exp_g_s;
    return rates;
}

static double predict(const MsTimeModel *model, const Step *step) {
    MsStepRates rates = rates_of(model, step);
    double seconds = 0;
    for (size_t i = 0; i < step->n_lines; i++) {
        const Line *line = &step->lines[i];
        seconds += line->phases * ms_phase_seconds(model, &rates, &line->work) + 1e-6 * line->stages * model->stage_us;
    }
    return seconds;
}

/* ---------------------------------------------------------------------------------------------- fitting a class */

enum { FIXED = MS_PARTS, UNKNOWNS, ROUNDS = 20, SWEEPS = 40 };
static const double SMALL_ERROR = 0.03; /* below it an error counts by its square, above by its size */
static const double STIFFNESS = 0.1; /* how much a weight's place before the fit counts, beside the lines */
static const double SOFTNESS = 0.005; /* a weight is worth more than this part of the lines' time, or stays where it was */
static const double LEAST_OF_LINE = 0.2; /* of a line's time is left without its barriers */

/* Of a fit: the sum of weight · part should be 1. */
typedef struct Equation {
    double part[UNKNOWNS]; /* seconds over those that were measured; fixed: of a microsecond */
    double counts; /* the line's part of its step */
    double error; /* of the round before */
} Equation;

/* Of one class: of weights, arithmetic and fixed time that explain its lines. */
typedef struct Solution {
    double of[UNKNOWNS], overlap, loss;
} Solution;

static MsWeights weights_of(const Solution *s) {
    MsWeights w = {.overlap = (float)s->overlap, .fixed_us = (float)s->of[FIXED]};
    for (int i = 0; i < MS_PARTS; i++) w.part[i] = (float)s->of[i];
    return w;
}

/* The part of the shorter of reading and arithmetic that is not hidden counts; of the longer one all. */
static void visible_parts(const Equation *e, const Solution *s, double out[UNKNOWNS]) {
    double reading = s->of[MS_MEMORY] * e->part[MS_MEMORY] + s->of[MS_CACHE] * e->part[MS_CACHE];
    double arithmetic = s->of[MS_FLOPS] * e->part[MS_FLOPS] + s->of[MS_EXPS] * e->part[MS_EXPS];
    double shown = 1 - s->overlap;
    for (int i = 0; i < UNKNOWNS; i++) {
        bool reads = i == MS_MEMORY || i == MS_CACHE, hides = i != FIXED && reads == (reading < arithmetic);
        out[i] = e->part[i] * (hides ? shown : 1);
    }
}

/* Least squares with weights ≥ 0 that are held back towards `before`: one unknown after the other, again and again. */
static void solve(const Equation *e, size_t n, const Solution *before, Solution *s) {
    double square[UNKNOWNS][UNKNOWNS] = {{0}}, right[UNKNOWNS] = {0}, sum = 0, mean[UNKNOWNS] = {0};
    for (size_t k = 0; k < n; k++) {
        double part[UNKNOWNS], weight = e[k].counts / fmax(SMALL_ERROR, e[k].error);
        visible_parts(&e[k], s, part);
        sum += weight;
        for (int i = 0; i < UNKNOWNS; i++) {
            mean[i] += weight * part[i];
            right[i] += weight * part[i];
            for (int j = 0; j < UNKNOWNS; j++) square[i][j] += weight * part[i] * part[j];
        }
    }
    for (int i = 0; i < UNKNOWNS; i++) {
        double share = i == FIXED ? 0 : fmin(1, mean[i] / sum), hold = STIFFNESS * sum * (share * share + SOFTNESS * SOFTNESS);
        square[i][i] += hold;
        right[i] += hold * before->of[i];
    }
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        for (int i = 0; i < UNKNOWNS; i++) {
            double rest = right[i];
            for (int j = 0; j < UNKNOWNS; j++)
                if (j != i) rest -= square[i][j] * s->of[j];
            s->of[i] = fmax(0, rest / square[i][i]);
        }
    }
}

/* Errors of all lines as they count; notes each for the next round. */
static double judge(Equation *e, size_t n, const Solution *s) {
    MsWeights w = weights_of(s);
    double loss = 0;
    for (size_t k = 0; k < n; k++) {
        e[k].error = fabs(ms_parts_seconds(&w, e[k].part) + s->of[FIXED] * e[k].part[FIXED] - 1);
        loss += e[k].counts * e[k].error;
    }
    return loss;
}

static Solution fit_with(Equation *e, size_t n, const Solution *before, double overlap) {
    Solution s = *before;
    s.overlap = overlap;
    for (size_t k = 0; k < n; k++) e[k].error = 1;
    for (int round = 0; round < ROUNDS; round++) {
        solve(e, n, before, &s);
        s.loss = judge(e, n, &s);
    }
    return s;
}

/* The overlap that explains most; a larger one only if it is better by 1 %. */
static Solution fit_equations(Equation *e, size_t n, const Solution *before) {
    Solution best = fit_with(e, n, before, 0);
    for (int quarter = 1; quarter <= 4; quarter++) {
        Solution s = fit_with(e, n, before, quarter / 4.0);
        if (s.loss < 0.99 * best.loss) best = s;
    }
    return best;
}

/* Whether a class is one of those that are fitted together: of any dtype and experts where these are below 0. */
typedef struct Together {
    PgMode mode;
    int kind, dtype, experts;
} Together;

static bool is_of(const Together *t, MsClass c) {
    return c.mode == t->mode && c.kind == t->kind && (t->dtype < 0 || c.dtype == t->dtype) &&
           (t->experts < 0 || c.experts == t->experts);
}

/* Lines of the points that are fitted. */
static size_t take_equations(const Fit *fit, const Together *t, Equation *out) {
    size_t n = 0;
    for (size_t p = 0; p < fit->n; p++) {
        const Step *step = &fit->points[p].steps[t->mode];
        if (fit->points[p].held_out || !fit->points[p].has[t->mode]) continue;
        MsStepRates rates = rates_of(&fit->fitted, step);
        for (size_t i = 0; i < step->n_lines; i++) {
            const Line *line = &step->lines[i];
            double measured = line->seconds / line->phases * step->seconds / step->profiled;
            double alone = measured - 1e-6 * fit->fitted.stage_us * line->stages / line->phases;
            double seconds = fmax(alone, LEAST_OF_LINE * measured);
            if (!is_of(t, line->work.class) || seconds <= 0) continue;
            Equation *e = &out[n++];
            ms_phase_parts(&rates, &line->work, e->part);
            for (int k = 0; k < MS_PARTS; k++) e->part[k] /= seconds;
            e->part[FIXED] = 1e-6 / seconds;
            e->counts = line->seconds / step->profiled;
        }
    }
    return n;
}

/* ---------------------------------------------------------------------------------------------- all classes */

static void keep_kernel(Fit *fit, const Together *t, const Solution *s) {
    fit->kernels = su_grow(&fit->arena, fit->kernels, &fit->kernels_capacity, fit->n_kernels + 1, sizeof *fit->kernels);
    fit->kernels[fit->n_kernels++] = (FeKernelTime){.kernel = pg_kind_word((PgKind)t->kind),
                                                    .step = ms_step_word(t->mode),
                                                    .weights = t->dtype < 0 ? NULL : ir_dtype_word((IrDtype)t->dtype),
                                                    .experts = t->experts < 0 ? NULL : ms_experts_word((PgSelect)t->experts),
                                                    .memory = s->of[MS_MEMORY],
                                                    .cache = s->of[MS_CACHE],
                                                    .flops = s->of[MS_FLOPS],
                                                    .exps = s->of[MS_EXPS],
                                                    .overlap = s->overlap,
                                                    .fixed_us = s->of[FIXED]};
}

/* false: nothing was measured. */
static bool fit_together(Fit *fit, const Together *t, const Solution *before, Equation *e, Solution *out) {
    size_t n = take_equations(fit, t, e);
    if (n < 2) return false;
    *out = fit_equations(e, n, before);
    keep_kernel(fit, t, out);
    return true;
}

/* A kind of kernel, then each of its classes, which are held back towards the kind's weights. */
static void fit_kind(Fit *fit, PgMode mode, int kind, Equation *e) {
    static const Solution plain = {.of = {1, 1, 1, 1, 0}};
    Solution of_kind, of_class;
    if (!fit_together(fit, &(Together){mode, kind, -1, -1}, &plain, e, &of_kind)) return;
    for (int dtype = 0; dtype < IR_STORED_DTYPES; dtype++)
        for (int experts = 0; experts < MS_EXPERTS; experts++)
            fit_together(fit, &(Together){mode, kind, dtype, experts}, &of_kind, e, &of_class);
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* What the lines leave out, such as the runtime between steps: the median of measured over predicted, into every weight. */
static void fit_whole(Fit *fit, PgMode mode) {
    double *ratios = SU_NEW_ARRAY(&fit->arena, double, fit->n);
    size_t n = 0;
    for (size_t p = 0; p < fit->n; p++) {
        if (fit->points[p].held_out || !fit->points[p].has[mode]) continue;
        ratios[n++] = fit->points[p].steps[mode].seconds / predict(&fit->fitted, &fit->points[p].steps[mode]);
    }
    if (n == 0) return;
    qsort(ratios, n, sizeof *ratios, by_value);
    for (size_t i = 0; i < fit->n_kernels; i++) {
        FeKernelTime *k = &fit->kernels[i];
        if (strcmp(k->step, ms_step_word(mode)) != 0) continue;
        double *const values[] = {&k->memory, &k->cache, &k->flops, &k->exps, &k->fixed_us};
        for (size_t v = 0; v < sizeof values / sizeof *values; v++) *values[v] *= ratios[n / 2];
    }
}

/* ---------------------------------------------------------------------------------------------- reading */

/* How far a cache and memory of these speeds are from what was read in turns with the points. */
static double reading_loss(const Fit *fit, double cache_bytes, double cache_gb_s, double memory_gb_s) {
    double sum = 0;
    for (size_t p = 0; p < fit->n; p++) {
        const Step *step = &fit->points[p].steps[PG_ROW];
        if (fit->points[p].held_out || !fit->points[p].has[PG_ROW]) continue;
        double held = ms_held(cache_bytes, step->read_bytes);
        sum += fabs(log((held / cache_gb_s + (1 - held) / memory_gb_s) * step->read_gb_s));
    }
    return sum;
}

/* Memory, the last cache and its size: what explains best how fast so many bytes were read in turns with the points. */
static void fit_reading(const Fit *fit, FeDevice *device) {
    double best = INFINITY;
    for (double cache = 1 << 20; cache <= 1 << 30; cache *= 1.1) {
        for (double memory = 1; memory < 2000; memory *= 1.05) {
            for (double ratio = 1; ratio <= 16; ratio *= 1.1) {
                double loss = reading_loss(fit, cache, ratio * memory, memory);
                if (loss >= best) continue;
                best = loss;
                device->rates.read_gb_s = memory;
                device->rates.cache_gb_s = ratio * memory;
                device->l3_kb = (int64_t)(cache / 1024);
            }
        }
    }
}

static double median_limit(Fit *fit, bool of_exp) {
    double *values = SU_NEW_ARRAY(&fit->arena, double, 2 * fit->n);
    size_t n = 0;
    for (size_t p = 0; p < fit->n; p++)
        for (int mode = 0; mode < PG_MODES; mode++)
            if (fit->points[p].has[mode])
                values[n++] = of_exp ? fit->points[p].steps[mode].exp_g_s : fit->points[p].steps[mode].panel_gflop_s;
    qsort(values, n, sizeof *values, by_value);
    return values[n / 2];
}

/* The device with its rates, and no kernels yet. */
static void take_rates(Fit *fit, const FeDevice *host, FeDevice *out) {
    *out = *host;
    out->has_rates = out->has_kernels = true;
    out->source = "this machine, calibrated by mossc explore";
    fit_reading(fit, out);
    out->rates.panel_gflop_s = median_limit(fit, false);
    out->rates.exp_g_s = median_limit(fit, true);
    out->rates.phase_us = 0;
    out->rates.stage_us = fit->plain.stage_us;
    out->kernels = NULL;
    out->n_kernels = 0;
}

/* The kernels that were fitted, into the device; they live as long as the study. */
static void take_kernels(const Fit *fit, SuArena *arena, FeDevice *out) {
    FeKernelTime *kernels = SU_NEW_ARRAY(arena, FeKernelTime, fit->n_kernels);
    for (size_t i = 0; i < fit->n_kernels; i++) kernels[i] = fit->kernels[i];
    out->kernels = kernels;
    out->n_kernels = (int)fit->n_kernels;
}

/* ---------------------------------------------------------------------------------------------- errors */

static PgMode mode_of(ExPredicted predicted) { return predicted == EX_PREDICTED_DECODE ? PG_ROW : PG_BLOCK; }

static void measure_errors(Fit *fit, ExCalibration *out) {
    double *measured = SU_NEW_ARRAY(&fit->arena, double, fit->n), *predicted = SU_NEW_ARRAY(&fit->arena, double, fit->n);
    for (int what = 0; what < EX_PREDICTED_COUNT; what++) {
        for (int fidelity = 0; fidelity < EX_FIDELITY_COUNT; fidelity++) {
            PgMode mode = mode_of((ExPredicted)what);
            size_t n = 0;
            for (size_t p = 0; p < fit->n; p++) {
                if (!fit->points[p].held_out || !fit->points[p].has[mode]) continue;
                measured[n] = fit->points[p].steps[mode].seconds;
                predicted[n++] = predict(fidelity == EX_MODELLED ? &fit->plain : &fit->fitted, &fit->points[p].steps[mode]);
            }
            if (n >= 2) out->errors[what][fidelity] = ex_errors(measured, predicted, n);
        }
    }
}

void ex_errors_json(const ExCalibration *calibration, cJSON *list) {
    for (int what = 0; what < EX_PREDICTED_COUNT; what++) {
        for (int fidelity = 0; fidelity < EX_FIDELITY_COUNT; fidelity++) {
            const ExErrors *e = &calibration->errors[what][fidelity];
            if (e->n == 0) continue;
            cJSON *item = cJSON_CreateObject();
            cJSON_AddItemToArray(list, item);
            cJSON_AddStringToObject(item, "metric", ex_predicted_word((ExPredicted)what));
            cJSON_AddStringToObject(item, "fidelity", ex_fidelity_word((ExFidelity)fidelity));
            cJSON_AddNumberToObject(item, "n", (double)e->n);
            cJSON_AddNumberToObject(item, "mape", e->mape);
            cJSON_AddNumberToObject(item, "median", e->median);
            cJSON_AddNumberToObject(item, "within_10", e->within_10);
            cJSON_AddNumberToObject(item, "spearman", e->spearman);
            cJSON_AddNumberToObject(item, "kendall", e->kendall);
        }
    }
}

static void add_point(const Fit *fit, cJSON *list, const Point *point, ExPredicted what) {
    PgMode mode = mode_of(what);
    if (!point->has[mode]) return;
    cJSON *item = cJSON_CreateObject();
    cJSON_AddItemToArray(list, item);
    cJSON_AddNumberToObject(item, "index", (double)point->index);
    cJSON_AddStringToObject(item, "metric", ex_predicted_word(what));
    cJSON_AddNumberToObject(item, "measured", 1e3 * point->steps[mode].seconds);
    cJSON_AddNumberToObject(item, "modelled", 1e3 * predict(&fit->plain, &point->steps[mode]));
    cJSON_AddNumberToObject(item, "calibrated", 1e3 * predict(&fit->fitted, &point->steps[mode]));
    cJSON_AddBoolToObject(item, "held_out", point->held_out);
}

static bool write_json(Fit *fit, size_t study, const ExCalibration *out) {
    cJSON *root = cJSON_CreateObject(), *metrics = cJSON_AddArrayToObject(root, "metrics");
    cJSON *points = cJSON_AddArrayToObject(root, "points");
    ex_errors_json(out, metrics);
    for (int what = 0; what < EX_PREDICTED_COUNT; what++)
        for (size_t p = 0; p < fit->n; p++)
            if (fit->points[p].study == study) add_point(fit, points, &fit->points[p], (ExPredicted)what);
    return ex_study_json(fit->studies[study].directory, "calibration.json", root, fit->diags);
}

/* ---------------------------------------------------------------------------------------------- the whole */

/* The number of the host among a study's devices. */
static bool find_host(Fit *fit, const ExStudy *study, size_t *out_device) {
    *out_device = ex_study_host(study);
    return *out_device < study->n_devices ||
           su_error(fit->diags, su_file_span(fit->diags, study->directory), NULL, "host is no device of this study");
}

static bool read_studies(Fit *fit) {
    for (fit->reading = 0; fit->reading < fit->n_studies; fit->reading++) {
        size_t host;
        if (!find_host(fit, &fit->studies[fit->reading], &host)) return false;
        if (!ex_measured_read(fit->studies[fit->reading].directory, take_point, fit, NULL, fit->diags)) return false;
    }
    leave_out_disturbed(fit);
    if (fit->n >= EX_LEAST_MEASURED) return true;
    return su_error(fit->diags, su_file_span(fit->diags, fit->studies[0].directory),
                    "measure more with `mossc explore SPACE -o DIR --measure 60 --spread`",
                    "calibrating needs at least %d measured points, got %zu", EX_LEAST_MEASURED, fit->n);
}

static void fit_classes(Fit *fit) {
    size_t most = 0;
    for (size_t p = 0; p < fit->n; p++)
        for (int mode = 0; mode < PG_MODES; mode++) most += fit->points[p].steps[mode].n_lines;
    Equation *e = SU_NEW_ARRAY(&fit->arena, Equation, most);
    for (int mode = 0; mode < PG_MODES; mode++)
        for (int kind = 0; kind < PG_KIND_COUNT; kind++) fit_kind(fit, (PgMode)mode, kind, e);
}

static bool calibrate_unguarded(Fit *fit, ExCalibration *out) {
    size_t host;
    ExStudy *first = &fit->studies[0];
    if (!read_studies(fit) || !find_host(fit, first, &host)) return false;
    int64_t threads = first->devices[host].model.threads;
    hold_out(fit);
    FeDevice bare = first->descriptions[host];
    bare.has_kernels = false;
    bare.n_kernels = 0;
    if (!ms_time_model(&bare, threads, &fit->plain, fit->diags)) return false;
    take_rates(fit, &first->descriptions[host], &out->device);
    if (!ms_time_model(&out->device, threads, &fit->fitted, fit->diags)) return false;
    fit_classes(fit);
    take_kernels(fit, &first->arena, &out->device);
    if (!ms_time_model(&out->device, threads, &fit->fitted, fit->diags)) return false;
    for (int mode = 0; mode < PG_MODES; mode++) fit_whole(fit, (PgMode)mode);
    take_kernels(fit, &first->arena, &out->device);
    if (!ms_time_model(&out->device, threads, &fit->fitted, fit->diags)) return false;
    out->n_points = fit->n;
    out->n_disturbed = fit->disturbed;
    for (size_t p = 0; p < fit->n; p++) out->n_fitted += !fit->points[p].held_out;
    measure_errors(fit, out);
    bool ok = true;
    for (size_t i = 0; i < fit->n_studies && ok; i++) ok = write_json(fit, i, out);
    return ok;
}

bool ex_calibrate(ExStudy *studies, size_t n, ExCalibration *out, SuDiags *diags) {
    *out = (ExCalibration){0};
    Fit fit = {.studies = studies, .n_studies = n, .diags = diags, .arena = SU_ARENA_FREE};
    SuGuard guard;
    volatile bool ok = false;
    if (!SU_CAUGHT(&guard, diags, "calibrating")) {
        ok = calibrate_unguarded(&fit, out);
        su_guard_end(&guard);
    }
    su_arena_free(&fit.arena);
    return ok;
}
