/* The rows of llama-bench, under its names: the columns that mean something here. */
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "cli/format.h"
#include "cli/measure/meter.h"
#include "cli/measure/series.h"

enum { TEXT = 256 };

/* ---- what a row says */

static double parameters_of(const DrBuild *build) {
    size_t count;
    double sum = 0;
    const FeTensor *tensors = fe_tensors((FeSpec *)&build->spec, &count);
    for (size_t i = 0; i < count; i++) {
        double elements = 1;
        for (int d = 0; d < tensors[i].rank; d++) elements *= (double)tensors[i].shape[d];
        sum += elements;
    }
    return sum;
}

static void model_of(const DrBuild *build, char out[TEXT]) {
    snprintf(out, TEXT, "%s %s", build->program->name, ir_dtype_word(build->spec.weights.dtype));
}

/* "CPU" */
static void backend_of(const DrBuild *build, char out[TEXT]) {
    size_t i = 0;
    for (const char *at = dr_kind(build)->name; *at && i + 1 < TEXT; at++)
        out[i++] = (char)(*at >= 'a' && *at <= 'z' ? *at - 32 : *at);
    out[i] = '\0';
}

/* "pp512", "tg128", "pp512+tg128", "tg128 @ d4096" */
static void name_of(const MsTest *t, char out[TEXT]) {
    int n = 0;
    if (t->prompt) n += snprintf(out, TEXT, "pp%" PRId64, t->prompt);
    if (t->tokens) n += snprintf(out + n, TEXT - (size_t)n, "%stg%" PRId64, t->prompt ? "+" : "", t->tokens);
    if (t->depth) snprintf(out + n, TEXT - (size_t)n, " @ d%" PRId64, t->depth);
}

static void now(char out[TEXT]) {
    const time_t seconds = time(NULL);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    strftime(out, TEXT, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

/* Tokens a second of each round; [repeat] in the build's arena. */
static double *speeds_of(const CliSeriesRow *row) {
    double *speeds = SU_NEW_ARRAY((SuArena *)&row->build->arena, double, (size_t)row->repeat);
    for (int64_t i = 0; i < row->repeat; i++) speeds[i] = (double)(row->test.prompt + row->test.tokens) / row->seconds[i];
    return speeds;
}

/* ---- Markdown */

static void print_md(const CliSeriesRow *row) {
    char model[TEXT], backend[TEXT], test[TEXT], size[CLI_NUMBER], parameters[CLI_NUMBER], speed[64];
    const MsMoments m = ms_moments(speeds_of(row), (size_t)row->repeat);
    const double count = parameters_of(row->build), bytes = (double)row->build->program->weight_bytes;
    model_of(row->build, model);
    backend_of(row->build, backend);
    name_of(&row->test, test);
    snprintf(speed, sizeof speed, "%.2f ± %.2f", m.mean, m.deviation);
    snprintf(parameters, sizeof parameters, count < 1e9 ? "%.2f M" : "%.2f B", count / (count < 1e9 ? 1e6 : 1e9));
    snprintf(size, sizeof size, bytes < 0x1p30 ? "%.2f MiB" : "%.2f GiB", bytes / (bytes < 0x1p30 ? 0x1p20 : 0x1p30));
    printf("| %-30s | %10s | %10s | %-10s | %7" PRId64 " | %15s | %21s |\n", model, size, parameters, backend, row->threads, test,
           speed); /* ± takes two bytes */
}

/* ---- fields: JSON and CSV */

static cJSON *reals(const double *values, int64_t n, double factor) {
    cJSON *list = cJSON_CreateArray();
    for (int64_t i = 0; i < n; i++) cJSON_AddItemToArray(list, cJSON_CreateNumber(values[i] * factor));
    return list;
}

static cJSON *fields_of(const CliSeriesRow *row) {
    char text[TEXT];
    DrFacts facts;
    const DrBuild *build = row->build;
    double *speeds = speeds_of(row);
    const MsMoments speed = ms_moments(speeds, (size_t)row->repeat), time = ms_moments(row->seconds, (size_t)row->repeat);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "build_commit", MOSSC_VERSION);
    dr_kind(build)->describe(build, &facts);
    cli_processor_name(text);
    cJSON_AddStringToObject(root, "cpu_info", text);
    cJSON_AddStringToObject(root, "gpu_info", dr_kind(build) == &dr_cpu ? "" : facts.title);
    backend_of(build, text);
    cJSON_AddStringToObject(root, "backends", text);
    cJSON_AddStringToObject(root, "model_filename", row->spec);
    model_of(build, text);
    cJSON_AddStringToObject(root, "model_type", text);
    cJSON_AddNumberToObject(root, "model_size", (double)build->program->weight_bytes);
    cJSON_AddNumberToObject(root, "model_n_params", parameters_of(build));
    cJSON_AddNumberToObject(root, "n_batch", (double)row->chunk);
    cJSON_AddNumberToObject(root, "n_threads", (double)row->threads);
    cJSON_AddNumberToObject(root, "n_prompt", (double)row->test.prompt);
    cJSON_AddNumberToObject(root, "n_gen", (double)row->test.tokens);
    cJSON_AddNumberToObject(root, "n_depth", (double)row->test.depth);
    now(text);
    cJSON_AddStringToObject(root, "test_time", text);
    cJSON_AddNumberToObject(root, "avg_ns", round(1e9 * time.mean));
    cJSON_AddNumberToObject(root, "stddev_ns", round(1e9 * time.deviation));
    cJSON_AddNumberToObject(root, "avg_ts", speed.mean);
    cJSON_AddNumberToObject(root, "stddev_ts", speed.deviation);
    cJSON_AddItemToObject(root, "samples_ns", reals(row->seconds, row->repeat, 1e9));
    cJSON_AddItemToObject(root, "samples_ts", reals(speeds, row->repeat, 1));
    return root;
}

static void print_quoted(const char *text) {
    putchar('"');
    for (; *text; text++) printf(*text == '"' ? "\"\"" : "%c", *text);
    putchar('"');
}

/* All fields but the lists; heading: their names. */
static void print_csv(const cJSON *fields, bool heading) {
    const char *between = "";
    for (const cJSON *item = fields->child; item; item = item->next) {
        if (cJSON_IsArray(item)) continue;
        char number[64];
        fputs(between, stdout);
        between = ",";
        snprintf(number, sizeof number, floor(item->valuedouble) == item->valuedouble ? "%.0f" : "%.6f", item->valuedouble);
        if (heading)
            fputs(item->string, stdout);
        else
            print_quoted(cJSON_IsString(item) ? item->valuestring : number);
    }
    putchar('\n');
}

/* ---- all forms */

void cli_series_begin(CliSeriesForm form) {
    if (form == CLI_JSON) fputs("[\n", stdout);
    if (form != CLI_MD) return;
    printf("| %-30s | %10s | %10s | %-10s | %7s | %15s | %20s |\n", "model", "size", "params", "backend", "threads", "test", "t/s");
    puts("| ------------------------------ | ---------: | ---------: | ---------- | ------: | --------------: | "
         "-------------------: |");
}

void cli_series_row(CliSeriesForm form, const CliSeriesRow *row, int64_t index) {
    if (form == CLI_MD) {
        print_md(row);
        return;
    }
    cJSON *fields = fields_of(row);
    if (form == CLI_CSV) {
        if (index == 0) print_csv(fields, true);
        print_csv(fields, false);
        cJSON_Delete(fields);
        return;
    }
    if (form == CLI_JSON && index > 0) fputs(",\n", stdout);
    cli_json_print(fields);
}

void cli_series_end(CliSeriesForm form) {
    if (form == CLI_JSON) puts("]");
}
