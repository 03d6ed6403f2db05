#include "explore/study.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "driver/device.h"
#include "driver/target.h"
#include "explore/quality.h"
#include "measure/limiter.h"
#include "support/cpus.h"
#include "support/file.h"

enum {
    ROUNDS = 3,             /* of measuring the host */
    CACHED_BYTES = 8 << 20, /* that every last cache holds */
    MOST_SUMMARY = 1 << 28
};

static const char *inside(ExStudy *study, const char *name) { return su_printf(&study->arena, "%s/%s", study->directory, name); }

static bool make_directory(const char *path, SuDiags *diags) {
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return true;
    return su_error(diags, su_file_span(diags, path), NULL, "cannot make the directory: %s", su_file_error(errno));
}

static bool exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

/* ---------------------------------------------------------------------------------------------- devices */

/* What this machine can do now, as rates of its description. */
static bool measure_host(FeDevice *host, int threads, SuArena *arena, SuDiags *diags) {
    CgTarget target;
    MsLimiter *limiter;
    if (!cg_target_host(NULL, &target, diags)) return false;
    bool ok = ms_limiter_create(&target, threads, &limiter, diags);
    if (ok) {
        MsLimits best = ms_measure_limits(limiter);
        for (int i = 1; i < ROUNDS; i++) best = ms_limits_best(best, ms_measure_limits(limiter));
        ms_limiter_read_bytes(limiter, CACHED_BYTES);
        double cached = ms_limit_read(limiter);
        host->has_rates = true;
        host->rates = (FeRates){.threads = ms_limiter_threads(limiter),
                                .read_gb_s = best.read_gb_s,
                                .cache_gb_s = cached > best.read_gb_s ? cached : best.read_gb_s,
                                .panel_gflop_s = best.panel_gflop_s,
                                .exp_g_s = best.exp_g_s,
                                .phase_us = NAN,
                                .stage_us = NAN};
        host->source = su_strdup(arena, "this machine, measured when the study began");
        ms_limiter_free(limiter);
    }
    cg_target_free(&target);
    return ok;
}

/* The name that files use: of a device file the name that it gives. */
static bool find_device(ExStudy *study, const char *name, SuSpan span, FeDevice *out, SuDiags *diags) {
    size_t errors = diags->errors;
    if (dr_find_device(name, &study->arena, out, diags)) return true;
    return span.source && diags->errors > errors ? su_report(diags, SU_CODE_wrong_value, span, NULL, "'devices': see above")
                                                 : false;
}

/* The next device of the study. */
static bool take_model(ExStudy *study, FeDevice *device, SuDiags *diags) {
    ExDevice *out = &study->devices[study->n_devices];
    *out = (ExDevice){.name = device->name};
    if (!ms_time_model(device, study->space.workload.threads, &out->model, diags)) return false;
    const DrDeviceKind *kind = dr_kind_of_target(device->target);
    out->max_rows = kind && kind->max_rows ? kind->max_rows : PG_MAX_ROWS;
    study->n_devices++;
    return true;
}

static bool add_device(ExStudy *study, const char *name, SuSpan span, SuDiags *diags) {
    FeDevice *device = &study->descriptions[study->n_devices];
    if (!find_device(study, name, span, device, diags)) return false;
    for (size_t i = 0; i < study->n_devices; i++)
        if (strcmp(study->descriptions[i].name, device->name) == 0)
            return su_error(diags, span, NULL, "device '%s' is there twice", device->name);
    int64_t threads = study->space.workload.threads;
    const char *path = inside(study, su_printf(&study->arena, "devices/%s.yaml", device->name));
    bool host = strcmp(name, "host") == 0;
    if (host && exists(path)) {
        if (!dr_find_device(path, &study->arena, device, diags)) return false;
    } else if (host && !measure_host(device, threads ? (int)threads : su_default_threads(), &study->arena, diags)) {
        return false;
    }
    if (!take_model(study, device, diags)) return false;
    SuText text = {0};
    fe_print_device(device, &text);
    bool ok = (host && exists(path)) || su_out_write(path, text.text, text.size, diags);
    su_text_free(&text);
    return ok;
}

static bool add_devices(ExStudy *study, const char *const *names, size_t n, SuDiags *diags) {
    const ExSpace *space = &study->space;
    if (n > EX_MAX_DEVICES) return su_error(diags, (SuSpan){0}, NULL, "a study has at most %d devices", EX_MAX_DEVICES);
    bool ok = true;
    for (size_t i = 0; i < (n ? n : space->n_devices); i++)
        ok = add_device(study, n ? names[i] : space->devices[i], n ? (SuSpan){0} : space->device_spans[i], diags) && ok;
    return ok;
}

/* ---------------------------------------------------------------------------------------------- begin and open */

/* Whether a file of the study has this text; then it need not be written. */
static bool has_text(ExStudy *study, const char *path, const SuSource *source, bool *out_same, SuDiags *diags) {
    char *text;
    size_t size;
    *out_same = false;
    if (!exists(path)) return true;
    if (!su_read_file(&study->arena, path, FE_MAX_INPUT, &text, &size, diags)) return false;
    *out_same = size == source->size && memcmp(text, source->text, size) == 0;
    return true;
}

/* Puts a copy of a source into the study. */
static bool keep_source(ExStudy *study, const char *name, const SuSource *source, SuDiags *diags) {
    const char *path = inside(study, name);
    bool same;
    if (!has_text(study, path, source, &same, diags)) return false;
    if (same) return true;
    if (exists(path) && exists(inside(study, "measurements.jsonl")))
        return su_error(diags, su_file_span(diags, path), "choose another directory, or remove this one",
                        "the directory has measurements of another %s", strcmp(name, "space.yaml") == 0 ? "space" : "spec");
    return su_out_write(path, source->text, source->size, diags);
}

/* Objectives must be known of points that are not measured; only of quality may a command speak later, if another objective is known. */
static bool check_objectives(const ExStudy *study, SuDiags *diags) {
    bool ok = true, later = study->space.quality_command && study->space.n_objectives > 1;
    for (size_t i = 0; i < study->space.n_objectives; i++) {
        ExMetric metric = study->space.objectives[i].metric;
        bool known = metric != EX_METRIC_CODE_BYTES && metric != EX_METRIC_COMPILE_MS &&
                     (metric != EX_METRIC_QUALITY || study->quality || later);
        if (!known)
            ok = su_report(diags, SU_CODE_unfit_value, study->space.objectives[i].span,
                           metric == EX_METRIC_QUALITY ? "give quality: {file: …}, by spec hash" : NULL,
                           "'objectives': %s is known of measured points only", ex_metric(metric)->name);
    }
    return ok;
}

static bool read_quality(ExStudy *study, SuDiags *diags) {
    const char *file = study->space.quality_file;
    if (file) study->quality = ex_quality_read(file, &study->arena, diags);
    return !file || study->quality;
}

/* A copy for those who open the study. */
static bool keep_quality(ExStudy *study, SuDiags *diags) {
    char *text;
    size_t size;
    return !study->quality || (su_read_file(&study->arena, study->space.quality_file, MOST_SUMMARY, &text, &size, diags) &&
                               su_out_write(inside(study, "quality.csv"), text, size, diags));
}

static bool begin_unguarded(const char *space, const char *const *devices, size_t n_devices, ExStudy *out, SuDiags *diags) {
    if (!ex_space_load(space, &out->space, diags)) return false;
    if (!fe_base_load(out->space.spec, &out->base, diags))
        return su_report(diags, SU_CODE_wrong_value, out->space.spec_span, NULL, "'spec': the base cannot be read");
    if (!read_quality(out, diags) || !check_objectives(out, diags)) return false;
    return make_directory(out->directory, diags) && make_directory(inside(out, "devices"), diags) &&
           keep_source(out, "space.yaml", out->space.source, diags) && keep_source(out, "spec.yaml", out->base.source, diags) &&
           keep_quality(out, diags) && add_devices(out, devices, n_devices, diags);
}

bool ex_study_begin(const char *space, const char *directory, const char *const *devices, size_t n_devices, ExStudy *out,
                    SuDiags *diags) {
    *out = (ExStudy){.directory = directory, .arena = SU_ARENA_FREE};
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "beginning a study")) return false;
    bool ok = begin_unguarded(space, devices, n_devices, out, diags);
    if (!ok) su_diags_keep(diags); /* the study is closed before anybody prints */
    su_guard_end(&guard);
    return ok;
}

bool ex_study_read_summary(const char *directory, SuArena *arena, SuJson *out, SuDiags *diags) {
    static const SuJsonRules rules = {.depth = 8, .values = 1 << 24};
    const char *path = su_printf(arena, "%s/summary.json", directory);
    char *text;
    size_t size;
    if (!exists(path))
        return su_error(diags, su_file_span(diags, directory), "`mossc explore SPACE -o DIR` makes one", "no study is here");
    return su_read_file(arena, path, MOST_SUMMARY, &text, &size, diags) &&
           su_json_parse(text, size, &rules, su_file_span(diags, path), out, diags);
}

/* Names of the devices of a study that was run, in their order. */
static bool read_device_names(ExStudy *study, const char ***out_names, size_t *out_count, SuDiags *diags) {
    SuJson json;
    if (!ex_study_read_summary(study->directory, &study->arena, &json, diags)) return false;
    const cJSON *devices = cJSON_GetObjectItemCaseSensitive(json.root, "devices"), *device;
    const char **names = SU_NEW_ARRAY(&study->arena, const char *, EX_MAX_DEVICES);
    size_t n = 0;
    cJSON_ArrayForEach(device, devices) {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(device, "name");
        if (cJSON_IsString(name) && n < EX_MAX_DEVICES) names[n++] = su_strdup(&study->arena, name->valuestring);
    }
    su_json_free(&json);
    *out_names = names;
    *out_count = n;
    return n > 0 || su_error(diags, su_file_span(diags, inside(study, "summary.json")), NULL, "'devices' is missing");
}

static bool open_unguarded(ExStudy *out, SuDiags *diags) {
    const char **names;
    size_t n;
    if (!read_device_names(out, &names, &n, diags)) return false;
    if (!ex_space_load(inside(out, "space.yaml"), &out->space, diags)) return false;
    if (!fe_base_load(inside(out, "spec.yaml"), &out->base, diags)) return false;
    if (out->space.quality_file) out->space.quality_file = inside(out, "quality.csv");
    if (!read_quality(out, diags)) return false;
    for (size_t i = 0; i < n; i++) {
        FeDevice *device = &out->descriptions[i];
        if (!dr_find_device(inside(out, su_printf(&out->arena, "devices/%s.yaml", names[i])), &out->arena, device, diags))
            return false;
        if (!take_model(out, device, diags)) return false;
    }
    return true;
}

bool ex_study_open(const char *directory, ExStudy *out, SuDiags *diags) {
    *out = (ExStudy){.directory = directory, .arena = SU_ARENA_FREE};
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "opening a study")) return false;
    bool ok = open_unguarded(out, diags);
    if (!ok) su_diags_keep(diags); /* the study is closed before anybody prints */
    su_guard_end(&guard);
    return ok;
}

static bool copy_file(ExStudy *study, const char *from, const char *name, SuDiags *diags) {
    char *text;
    size_t size;
    return su_read_file(&study->arena, su_printf(&study->arena, "%s/%s", from, name), FE_MAX_INPUT, &text, &size, diags) &&
           su_out_write(inside(study, name), text, size, diags);
}

static bool copy_unguarded(const char *from, const char *directory, ExStudy *out, SuDiags *diags) {
    if (!ex_study_open(from, out, diags)) return false;
    out->directory = directory;
    bool ok = make_directory(directory, diags) && make_directory(inside(out, "devices"), diags) &&
              copy_file(out, from, "space.yaml", diags) && copy_file(out, from, "spec.yaml", diags) &&
              (!out->quality || copy_file(out, from, "quality.csv", diags));
    for (size_t d = 0; d < out->n_devices && ok; d++)
        ok = copy_file(out, from, su_printf(&out->arena, "devices/%s.yaml", out->devices[d].name), diags);
    return ok;
}

bool ex_study_copy(const char *from, const char *directory, ExStudy *out, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "copying a study")) return false;
    bool ok = copy_unguarded(from, directory, out, diags);
    su_guard_end(&guard);
    return ok;
}

void ex_study_close(ExStudy *study) {
    ex_space_free(&study->space);
    fe_base_free(&study->base);
    su_arena_free(&study->arena);
}

size_t ex_study_host(const ExStudy *study) {
    size_t device = 0;
    while (device < study->n_devices && strcmp(study->descriptions[device].target, "host") != 0) device++;
    return device;
}

ExCoster *ex_study_coster(const ExStudy *study, SuDiags *diags) {
    ExCoster *coster = ex_coster_create(&study->space, &study->base, study->devices, study->n_devices, diags);
    if (coster && study->quality) ex_coster_judge(coster, study->quality);
    return coster;
}

/* ---------------------------------------------------------------------------------------------- points */

bool ex_no_such_point(const ExSpace *space, uint64_t index, SuSpan span, SuDiags *diags) {
    return su_error(diags, span, NULL, "the space has no point %" PRIu64 ": indices end at %" PRIu64, index, space->n_indices - 1);
}

static bool spec_unguarded(ExStudy *study, uint64_t index, FeSpec *out, SuDiags *diags) {
    const ExSpace *space = &study->space;
    uint32_t choices[EX_MAX_AXES];
    ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
    const char *why;
    const ExExpr *where;
    size_t n;
    *out = (FeSpec){0};
    if (index >= space->n_indices) return ex_no_such_point(space, index, (SuSpan){0}, diags);
    ex_choices(space, index, choices);
    switch (ex_point(space, choices, values, derived, &why, &where)) {
    case EX_TWIN:
        return su_error(diags, (SuSpan){0}, NULL,
                        "%" PRIu64 " is no point: an axis that is off there (its `when` is false) has not its first value", index);
    case EX_INVALID: return su_error(diags, ex_span(where), NULL, "point %" PRIu64 " is invalid: %s", index, why);
    case EX_EXCLUDED: su_note(diags, (SuSpan){0}, NULL, "point %" PRIu64 " is excluded by `require`", index); break;
    case EX_POINT: break;
    }
    if (ex_has_off(space, choices)) { /* their edits stay where the language has a place for them */
        SuDiags refused = {0};
        const FeEdit *all = ex_edits(space, choices, derived, true, &study->arena, &n);
        bool fits = fe_spec_edited(&study->base, all, n, out, &refused);
        su_diags_free(&refused);
        if (fits) return true;
        fe_spec_free(out);
    }
    const FeEdit *edits = ex_edits(space, choices, derived, false, &study->arena, &n);
    return fe_spec_edited(&study->base, edits, n, out, diags);
}

bool ex_study_spec(ExStudy *study, uint64_t index, FeSpec *out, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "making a point's spec")) {
        *out = (FeSpec){0};
        return false;
    }
    bool ok = spec_unguarded(study, index, out, diags);
    su_guard_end(&guard);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- JSON */

bool ex_study_json(const char *directory, const char *name, cJSON *root, SuDiags *diags) {
    char *printed = cJSON_Print(root);
    cJSON_Delete(root);
    if (!printed) return su_out_of_memory(diags, "for a file of JSON");
    SuText path = {0}, text = {0};
    su_text_add(&path, "%s/%s", directory, name);
    su_text_add(&text, "%s\n", printed);
    bool ok = su_out_write(path.text, text.text, text.size, diags);
    su_text_free(&path);
    su_text_free(&text);
    cJSON_free(printed);
    return ok;
}
