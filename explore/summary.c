/* summary.json: what a study asked for and what came out. Everything but seconds and points_per_second is the same in every run. */
#include <math.h>
#include <string.h>

#include "explore/csv.h"
#include "explore/study.h"

static void add_axes(const ExSpace *space, cJSON *root) {
    cJSON *axes = cJSON_AddArrayToObject(root, "axes");
    for (size_t a = 0; a < space->n_axes; a++) {
        cJSON *axis = cJSON_CreateObject(), *values = cJSON_AddArrayToObject(axis, "values");
        cJSON_AddItemToArray(axes, axis);
        cJSON_AddStringToObject(axis, "name", space->axes[a].name);
        for (size_t v = 0; v < space->axes[a].n_values; v++) {
            SuText text = {0};
            ex_node_text(space->axes[a].nodes[v], &text);
            cJSON_AddItemToArray(values, cJSON_CreateString(text.text ? text.text : ""));
            su_text_free(&text);
        }
    }
}

static void add_bound(cJSON *object, const char *name, double value) {
    if (isfinite(value)) cJSON_AddNumberToObject(object, name, value);
}

/* Metrics that depend on the device: of a point they are measured. */
static void add_on_device(cJSON *root) {
    cJSON *names = cJSON_AddArrayToObject(root, "on_device");
    for (int m = 0; m < EX_METRIC_COUNT; m++)
        if (ex_metric((ExMetric)m)->on_device) cJSON_AddItemToArray(names, cJSON_CreateString(ex_metric((ExMetric)m)->name));
}

static void add_asked(const ExSpace *space, const ExRunOptions *o, cJSON *root) {
    static const char *const methods[] = {[EX_ALL] = "all", [EX_RANDOM] = "random", [EX_SOBOL] = "sobol"};
    cJSON_AddStringToObject(root, "name", space->name);
    cJSON_AddStringToObject(root, "method", methods[o->method]);
    cJSON_AddBoolToObject(root, "all_points", o->all_points);
    cJSON *shard = cJSON_AddArrayToObject(root, "shard");
    cJSON_AddItemToArray(shard, cJSON_CreateNumber((double)o->shard));
    cJSON_AddItemToArray(shard, cJSON_CreateNumber((double)o->n_shards));
    cJSON *workload = cJSON_AddObjectToObject(root, "workload");
    cJSON_AddNumberToObject(workload, "prefill", (double)space->workload.prefill);
    cJSON_AddNumberToObject(workload, "decode", (double)space->workload.decode);
    cJSON_AddNumberToObject(workload, "batch", (double)space->workload.batch);
    cJSON_AddNumberToObject(workload, "threads", (double)space->workload.threads);
    cJSON *objectives = cJSON_AddArrayToObject(root, "objectives");
    for (size_t i = 0; i < space->n_objectives; i++) {
        cJSON *objective = cJSON_CreateObject();
        cJSON_AddItemToArray(objectives, objective);
        cJSON_AddStringToObject(objective, "metric", ex_metric(space->objectives[i].metric)->name);
        cJSON_AddBoolToObject(objective, "maximise", space->objectives[i].maximise);
    }
    cJSON *budgets = cJSON_AddObjectToObject(root, "budgets");
    for (size_t i = 0; i < space->n_budgets; i++) {
        cJSON *budget = cJSON_AddObjectToObject(budgets, ex_metric(space->budgets[i].metric)->name);
        add_bound(budget, "low", space->budgets[i].low);
        add_bound(budget, "high", space->budgets[i].high);
    }
    add_on_device(root);
    cJSON_AddNumberToObject(root, "seed", (double)space->seed);
    if (space->quality_command) cJSON_AddStringToObject(root, "quality_command", space->quality_command);
    add_axes(space, root);
}

static void add_counts(const ExTally *tally, cJSON *root) {
    cJSON_AddNumberToObject(root, "points", (double)tally->points);
    cJSON_AddNumberToObject(root, "excluded", (double)tally->excluded);
    cJSON *invalid = cJSON_AddObjectToObject(root, "invalid");
    for (size_t i = 0; i < tally->n_reasons; i++)
        cJSON_AddNumberToObject(invalid, tally->reasons[i].message, (double)tally->reasons[i].count);
    cJSON_AddNumberToObject(root, "over_budget", (double)tally->over_budget);
    cJSON_AddNumberToObject(root, "kept", (double)tally->kept);
}

static void add_devices(const ExStudy *study, const ExResult *result, cJSON *root) {
    cJSON *front = cJSON_AddObjectToObject(root, "front"), *devices = cJSON_AddArrayToObject(root, "devices");
    const ExTally *tally = &result->tally;
    for (size_t d = 0; d < study->n_devices; d++) {
        const MsTimeModel *model = &study->devices[d].model;
        cJSON *device = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(front, study->devices[d].name);
        cJSON_AddItemToArray(devices, device);
        cJSON_AddStringToObject(device, "name", study->devices[d].name);
        cJSON_AddBoolToObject(device, "host", d == ex_study_host(study));
        cJSON_AddStringToObject(device, "about", study->descriptions[d].about);
        cJSON_AddStringToObject(device, "fidelity", ex_fidelity(&study->devices[d]));
        cJSON_AddNumberToObject(device, "threads", (double)model->threads);
        cJSON_AddNumberToObject(device, "read_gb_s", model->read_gb_s);
        cJSON_AddNumberToObject(device, "cache_gb_s", model->cache_gb_s);
        cJSON_AddNumberToObject(device, "panel_gflop_s", model->panel_gflop_s);
        cJSON_AddNumberToObject(device, "exp_g_s", model->exp_g_s);
        cJSON_AddNumberToObject(device, "kept", (double)tally->kept_on[d]);
        cJSON_AddNumberToObject(device, "over_budget",
                                (double)(tally->points - tally->excluded - tally->invalid - tally->kept_on[d]));
        for (size_t i = 0; i < result->n_front[d]; i++)
            cJSON_AddItemToArray(list, cJSON_CreateNumber((double)result->fronts[d][i]));
    }
}

bool ex_study_summary(const ExStudy *study, const ExRunOptions *options, const ExResult *result, SuDiags *diags) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "mossc_study", 1);
    cJSON_AddStringToObject(root, "version", MOSSC_VERSION);
    add_asked(&study->space, options, root);
    add_counts(&result->tally, root);
    add_devices(study, result, root);
    cJSON_AddNumberToObject(root, "seconds", result->seconds);
    cJSON_AddNumberToObject(root, "points_per_second", result->seconds > 0 ? (double)result->tally.points / result->seconds : 0);
    return ex_study_json(study->directory, "summary.json", root, diags);
}
