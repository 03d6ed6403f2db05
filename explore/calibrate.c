#include "explore/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "explore/measured.h"
#include "explore/rank.h"
#include "support/table.h"

/* Phases that are alike, as they were measured in one step. */
typedef struct Line {
    int kind;
    double phases, stages, seconds;
    MsPhaseWork work; /* of all of them together */
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
    bool held_out;
    Step steps[PG_MODES];
    bool has[PG_MODES];
} Point;

typedef struct Fit {
    ExStudy *studies; /* [n_studies] */
    size_t n_studies, reading; /* the one that is being read */
    SuDiags *diags;
    SuArena arena;
    Point *points;
    size_t n, capacity;
    MsTimeModel plain, fitted;
    bool known[PG_MODES][PG_KIND_COUNT]; /* there was something to fit */
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

static int kind_of(const cJSON *line) {
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(line, "kernel");
    int kind = 0;
    while (kind < PG_KIND_COUNT && !(cJSON_IsString(name) && strcmp(pg_kind_word((PgKind)kind), name->valuestring) == 0)) kind++;
    return kind;
}

/* false: it lacks something. */
static bool take_line(const cJSON *json, PgMode mode, Line *out) {
    *out = (Line){.kind = kind_of(json),
                  .phases = ex_measured_number(json, "phases"),
                  .stages = ex_measured_number(json, "stages"),
                  .seconds = ex_measured_number(json, "seconds")};
    out->work = (MsPhaseWork){.memory_bytes = (float)ex_measured_number(json, "memory_bytes"),
                              .activation_bytes = (float)ex_measured_number(json, "activation_bytes"),
                              .flops = (float)ex_measured_number(json, "flops"),
                              .exps = (float)ex_measured_number(json, "exps"),
                              .longer = (float)ex_measured_number(json, "longer"),
                              .kind = (uint8_t)out->kind,
                              .mode = (uint8_t)mode};
    return out->kind < PG_KIND_COUNT && out->phases > 0 && out->seconds >= 0 && out->work.longer >= 1 &&
           out->work.memory_bytes >= 0;
}

static bool take_step(Fit *fit, const cJSON *json, Point *point) {
    const cJSON *mode = cJSON_GetObjectItemCaseSensitive(json, "mode"), *lines = cJSON_GetObjectItemCaseSensitive(json, "lines"),
                *line;
    const cJSON *limits = cJSON_GetObjectItemCaseSensitive(json, "limits");
    PgMode which = cJSON_IsString(mode) && strcmp(mode->valuestring, "block") == 0 ? PG_BLOCK : PG_ROW;
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
    return step->n_lines > 0 && step->seconds > 0 && step->profiled > 0 && step->read_gb_s > 0 && step->panel_gflop_s > 0 &&
           step->exp_g_s > 0;
}

static bool take_point(void *context, const cJSON *json, SuSpan span) {
    Fit *fit = context;
    const cJSON *steps = cJSON_GetObjectItemCaseSensitive(json, "steps"), *step;
    if (cJSON_HasObjectItem(json, "error") || !steps) return true;
    fit->points = su_grow(&fit->arena, fit->points, &fit->capacity, fit->n + 1, sizeof *fit->points);
    Point *point = &fit->points[fit->n++];
    *point = (Point){.index = (uint64_t)ex_measured_number(json, "index"), .study = fit->reading};
    cJSON_ArrayForEach(step, steps) {
        if (!take_step(fit, step, point))
            return su_error(fit->diags, span, NULL, "a step of this line lacks a number, or has an impossible one");
    }
    return true;
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

/* Rates in a step, as measured beside it. */
static MsStepRates rates_of(const Fit *fit, const Step *step) {
    return (MsStepRates){.memory = 1e-9 / step->read_gb_s,
                         .cache = fmin(1e-9 / fit->plain.cache_gb_s, 1e-9 / step->read_gb_s),
                         .flop = 1e-9 / step->panel_gflop_s,
                         .exp = 1e-9 / step->exp_g_s};
}

/* Seconds of a line's work alone. */
static double work_seconds(const MsStepRates *rates, const Line *line) {
    static const MsTimeModel bare = {.factor = {{0}}};
    MsTimeModel model = bare;
    model.factor[line->work.mode][line->work.kind] = 1;
    return ms_phase_seconds(&model, rates, &line->work);
}

static double predict(const Fit *fit, const MsTimeModel *model, const Step *step) {
    MsStepRates rates = rates_of(fit, step);
    double seconds = 0;
    for (size_t i = 0; i < step->n_lines; i++) {
        const Line *line = &step->lines[i];
        double fixed = line->phases * (model->phase_us + model->fixed_us[step->mode][line->kind]) + line->stages * model->stage_us;
        seconds += model->factor[step->mode][line->kind] * work_seconds(&rates, line) + 1e-6 * fixed;
    }
    return seconds;
}

/* ---------------------------------------------------------------------------------------------- fitting */

enum { ROUNDS = 30 };
static const double LEAST_FACTOR = 0.05, MOST_FACTOR = 1000, SMALL_ERROR = 0.02;

/* One equation of a fit: x·a + y·b should be 1. */
typedef struct Equation {
    double x, y, weight;
} Equation;

/* Weighted least squares with a, b ≥ 0. */
static void solve(const Equation *e, size_t n, double *a, double *b) {
    double xx = 0, xy = 0, yy = 0, x = 0, y = 0;
    for (size_t i = 0; i < n; i++) {
        xx += e[i].weight * e[i].x * e[i].x;
        xy += e[i].weight * e[i].x * e[i].y;
        yy += e[i].weight * e[i].y * e[i].y;
        x += e[i].weight * e[i].x;
        y += e[i].weight * e[i].y;
    }
    double determinant = xx * yy - xy * xy;
    *a = determinant > 1e-12 * xx * yy ? (x * yy - y * xy) / determinant : -1;
    *b = determinant > 1e-12 * xx * yy ? (xx * y - xy * x) / determinant : 0;
    if (*b < 0 || (*a < 0 && xx > 0 && yy == 0)) {
        *b = 0;
        *a = xx > 0 ? x / xx : 1;
    } else if (*a < 0) {
        *a = 0;
        *b = yy > 0 ? y / yy : 0;
    }
}

/* The line of least absolute relative errors, by least squares with weights of the errors before. */
static void fit_line(Equation *e, size_t n, double *a, double *b) {
    for (int round = 0; round < ROUNDS; round++) {
        solve(e, n, a, b);
        for (size_t i = 0; i < n; i++) e[i].weight = 1 / fmax(SMALL_ERROR, fabs(e[i].x * *a + e[i].y * *b - 1));
    }
}

/* Lines of one kind and mode in the points that are fitted. */
static void fit_kind(Fit *fit, PgMode mode, int kind) {
    size_t most = 0, n = 0;
    for (size_t p = 0; p < fit->n; p++) most += fit->points[p].steps[mode].n_lines;
    Equation *e = SU_NEW_ARRAY(&fit->arena, Equation, most);
    for (size_t p = 0; p < fit->n; p++) {
        const Step *step = &fit->points[p].steps[mode];
        MsStepRates rates = fit->points[p].has[mode] ? rates_of(fit, step) : (MsStepRates){0};
        for (size_t i = 0; i < step->n_lines && !fit->points[p].held_out; i++) {
            double seconds = step->lines[i].seconds * step->seconds / step->profiled;
            if (step->lines[i].kind != kind || seconds <= 0) continue;
            e[n++] = (Equation){work_seconds(&rates, &step->lines[i]) / seconds, 1e-6 * step->lines[i].phases / seconds, 1};
        }
    }
    if (n < 2) return; /* the plain model's */
    double a, b;
    fit_line(e, n, &a, &b);
    fit->known[mode][kind] = true;
    fit->fitted.factor[mode][kind] = fmin(fmax(a, LEAST_FACTOR), MOST_FACTOR);
    fit->fitted.fixed_us[mode][kind] = b;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* What the lines leave out, such as the runtime between steps: the median of measured over predicted, into every line. */
static void fit_whole(Fit *fit, PgMode mode) {
    double *ratios = SU_NEW_ARRAY(&fit->arena, double, fit->n);
    size_t n = 0;
    for (size_t p = 0; p < fit->n; p++) {
        if (fit->points[p].held_out || !fit->points[p].has[mode]) continue;
        ratios[n++] = fit->points[p].steps[mode].seconds / predict(fit, &fit->fitted, &fit->points[p].steps[mode]);
    }
    if (n == 0) return;
    qsort(ratios, n, sizeof *ratios, by_value);
    for (int kind = 0; kind < PG_KIND_COUNT; kind++) {
        fit->fitted.factor[mode][kind] *= ratios[n / 2];
        fit->fitted.fixed_us[mode][kind] *= ratios[n / 2];
    }
}

/* Memory, the last cache and its size: what explains best how fast so many bytes were read in turns with the points. */
static void fit_reading(Fit *fit, FeDevice *device) {
    double best = INFINITY;
    for (double cache = 1 << 20; cache <= 1 << 30; cache *= 1.25) {
        for (double memory = 1; memory < 2000; memory *= 1.1) {
            for (double ratio = 1; ratio <= 64; ratio *= 1.25) {
                MsTimeModel model = fit->plain;
                model.read_gb_s = memory;
                model.cache_gb_s = ratio * memory;
                model.cache_bytes = cache;
                double sum = 0;
                for (size_t p = 0; p < fit->n; p++) {
                    const Step *step = &fit->points[p].steps[PG_ROW];
                    if (!fit->points[p].has[PG_ROW]) continue;
                    sum += fabs(log(1e9 * ms_step_rates(&model, step->read_bytes).memory * step->read_gb_s));
                }
                if (sum >= best) continue;
                best = sum;
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

static void take_device(Fit *fit, const FeDevice *host, FeDevice *out) {
    *out = *host;
    out->has_rates = out->has_kernels = true;
    out->source = "this machine, calibrated by mossc explore";
    fit_reading(fit, out);
    out->rates.panel_gflop_s = median_limit(fit, false);
    out->rates.exp_g_s = median_limit(fit, true);
    out->rates.phase_us = out->rates.stage_us = 0;
    out->n_kernels = 0;
    for (int mode = 0; mode < PG_MODES; mode++) {
        for (int kind = 0; kind < PG_KIND_COUNT && out->n_kernels < FE_MAX_KERNEL_TIMES; kind++) {
            if (!fit->known[mode][kind]) continue;
            out->kernels[out->n_kernels++] = (FeKernelTime){.kernel = pg_kind_word((PgKind)kind),
                                                            .step = mode == PG_ROW ? "row" : "block",
                                                            .factor = fit->fitted.factor[mode][kind],
                                                            .fixed_us = fit->fitted.fixed_us[mode][kind]};
        }
    }
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
                predicted[n++] = predict(fit, fidelity == EX_MODELLED ? &fit->plain : &fit->fitted, &fit->points[p].steps[mode]);
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
    cJSON_AddNumberToObject(item, "modelled", 1e3 * predict(fit, &fit->plain, &point->steps[mode]));
    cJSON_AddNumberToObject(item, "calibrated", 1e3 * predict(fit, &fit->fitted, &point->steps[mode]));
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
    if (fit->n >= EX_LEAST_MEASURED) return true;
    return su_error(fit->diags, su_file_span(fit->diags, fit->studies[0].directory),
                    "measure more with `mossc explore SPACE -o DIR --measure 60 --spread`",
                    "calibrating needs at least %d measured points, got %zu", EX_LEAST_MEASURED, fit->n);
}

static bool calibrate_unguarded(Fit *fit, ExCalibration *out) {
    size_t host;
    const ExStudy *first = &fit->studies[0];
    if (!read_studies(fit) || !find_host(fit, first, &host)) return false;
    hold_out(fit);
    FeDevice bare = first->descriptions[host];
    bare.has_kernels = false;
    bare.n_kernels = 0;
    if (!ms_time_model(&bare, first->devices[host].model.threads, &fit->plain, fit->diags)) return false;
    fit->fitted = fit->plain;
    fit->fitted.phase_us = fit->fitted.stage_us = 0;
    for (int mode = 0; mode < PG_MODES; mode++) {
        for (int kind = 0; kind < PG_KIND_COUNT; kind++) fit_kind(fit, (PgMode)mode, kind);
        fit_whole(fit, (PgMode)mode);
    }
    out->n_points = fit->n;
    for (size_t p = 0; p < fit->n; p++) out->n_fitted += !fit->points[p].held_out;
    take_device(fit, &first->descriptions[host], &out->device);
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
