/* The tables and the JSON of `mossc explain`. */
#include <inttypes.h>
#include <string.h>

#include "cli/inspect/explain_print.h"
#include "cli/format.h"
#include "codegen/tuning.h"
#include "support/table.h"

enum { NAME = 22, LINES = 8, KERNEL = 37 };
static const double NOTED_OTHERS = 0.04; /* of the processor */

typedef struct Row {
    const MsPart *part; /* NULL: the total */
    const MsLine *line;
    bool sum, inside; /* of a part's blocks; a line below that */
} Row;

/* "12", "21,23", "21-35": the spec's lines, as many as there is room for. */
static void spec_lines(const MsPart *part, char out[LINES + 1]) {
    char text[64] = "";
    size_t n = part->n_spec_lines, used = 0;
    for (size_t i = 0; i < n && used <= LINES; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" PRIu32, i ? "," : "", part->spec_lines[i]);
    if (used > LINES) snprintf(text, sizeof text, "%" PRIu32 "-%" PRIu32, part->spec_lines[0], part->spec_lines[n - 1]);
    snprintf(out, LINES + 1, "%.*s", LINES, text);
}

/* At most `width` bytes; what is longer loses its middle. */
static void shorten(const char *name, size_t width, char *out) {
    size_t length = strlen(name), back = (width - 2) / 2;
    if (length <= width)
        memcpy(out, name, length + 1);
    else
        snprintf(out, width + 1, "%.*s..%s", (int)(width - 2 - back), name, name + length - back);
}

/* A part's sum where it stands for blocks, then its lines; the total last. */
static void each_row(const MsExplained *x, void (*print)(const MsExplained *x, const Row *row)) {
    for (size_t p = 0; p < x->n_parts; p++) {
        const MsPart *part = &x->parts[p];
        if (part->blocks) print(x, &(Row){.part = part, .line = &part->sum, .sum = true});
        for (size_t i = 0; i < part->n_lines; i++)
            print(x, &(Row){.part = part, .line = &part->lines[i], .inside = part->blocks > 0});
    }
    print(x, &(Row){.line = &x->total});
}

/* The columns that both tables begin with. */
static void print_name(const Row *row) {
    char name[NAME + 1], lines[LINES + 1] = "", times[24] = "";
    int indent = row->inside ? 2 : 0;
    shorten(row->line->name, (size_t)(NAME - indent), name);
    if (row->part && !row->inside) spec_lines(row->part, lines);
    if (row->part) snprintf(times, sizeof times, "%" PRIu64, row->sum ? row->part->blocks : row->line->times);
    printf("  %*s%-*s %*s %4s", indent, "", NAME - indent, name, LINES, lines, times);
}

/* "-" for nothing. */
static const char *some(double value, const char *(*format)(double, char *), char out[CLI_NUMBER]) {
    return value > 0 ? format(value, out) : "-";
}

static void print_cost(const MsExplained *x, const Row *row) {
    (void)x;
    const PgCost *cost = &row->line->cost;
    char text[5][CLI_NUMBER], kernel[KERNEL + 1];
    shorten(row->sum ? row->part->about : row->line->kernel ? row->line->kernel : "", KERNEL, kernel);
    print_name(row);
    printf(" %7s %7s %8s %8s %8s%s%s\n", some(cost->flops, cli_count, text[0]), some(cost->exps, cli_count, text[1]),
           some(cost->weight_bytes, cli_bytes, text[2]), some(cost->state_bytes, cli_bytes, text[3]),
           some(cost->activation_bytes, cli_bytes, text[4]), kernel[0] ? "  " : "", kernel);
}

static void print_time(const MsExplained *x, const Row *row) {
    const MsLine *line = row->line;
    double seconds = line->working + line->waiting, whole = x->total.working + x->total.waiting;
    SuText words = {0};
    if (line->kernel) ms_explain_words(x, line, &words);
    print_name(row);
    printf(" %9.3f %6.1f %7.3f %9.3f %7.0f%s%s\n", 1e3 * seconds, 100 * seconds / whole, 1e3 * line->waiting, 1e3 * line->bound,
           100 * line->bound / seconds, words.text ? "  " : "", words.text ? words.text : "");
    su_text_free(&words);
}

static void print_modelled(const MsExplained *x, const Row *row) {
    const MsLine *line = row->line;
    print_name(row);
    printf(" %9.3f %6.1f\n", 1e3 * line->modelled, 100 * line->modelled / x->total.modelled);
}

static void print_model(const MsExplained *x) {
    const MsTimeModel *m = x->model;
    printf("  %-*s %*s %4s %9s %6s\n", NAME, "phase", LINES, "line", "x", "model, ms", "%");
    each_row(x, print_modelled);
    printf("\n  %s: reading %.1f GB/s, %.0f GFLOP/s, exp %.1f G/s; %" PRId64 " thread%s: %.4g tokens/s.\n\n",
           m->calibrated ? "Calibrated" : "Modelled", m->read_gb_s, m->panel_gflop_s, m->exp_g_s, m->threads,
           m->threads > 1 ? "s" : "", (double)x->work.rows / x->total.modelled);
}

static void print_title(const MsExplained *x) {
    if (x->list == PG_ROW)
        printf("One token at position %" PRId64, x->work.position);
    else if (x->list == PG_FEW)
        printf("A token of %" PRId64 " sequences each at position %" PRId64, x->work.segments, x->work.position);
    else
        printf("A prompt of %" PRId64 " tokens", x->work.rows);
    PgStep step = x->program->steps[x->list];
    printf(": %" PRIu32 " phases in %" PRIu32 " stages\n\n", step.n_phases, step.n_stages);
}

static void print_summary(const MsExplained *x) {
    char text[CLI_NUMBER];
    double rate = (double)x->work.rows / x->step_seconds;
    printf("\n  %.4g ms a step without profiling (%.4g tokens/s), %.4g ms with it; the limits allow %.4g ms.\n",
           1e3 * x->step_seconds, rate, 1e3 * x->profiled_seconds, 1e3 * x->total.bound);
    printf("  Limits, measured beside it: reading %s %.1f GB/s, panel kernel %.0f GFLOP/s, exp %.1f G/s; %d thread%s.\n",
           cli_bytes((double)x->read_bytes, text), x->limits.read_gb_s, x->limits.panel_gflop_s, x->limits.exp_g_s, x->threads,
           x->threads > 1 ? "s" : "");
    if (x->others > NOTED_OTHERS)
        printf("  Others took at least %.0f %% of the processor in every round: the times above are too long.\n", 100 * x->others);
}

/* Whether the schedule of the line's kernel is none of the default ones. */
static bool is_tuned(const MsExplained *x, const MsLine *line) {
    CgSchedule usual = cg_schedule_default(x->target, &x->program->kernels[line->kernel_index]);
    return !cg_schedule_equal(&usual, &x->schedules[line->kernel_index]);
}

static bool has_schedule(const MsExplained *x, const MsLine *line) {
    return x->schedules && line->kernel && x->program->kernels[line->kernel_index].kind == PG_LINEAR;
}

static void print_schedule(const MsExplained *x, const Row *row) {
    char words[96];
    if (row->sum || !has_schedule(x, row->line)) return;
    cg_schedule_words(&x->program->kernels[row->line->kernel_index], &x->schedules[row->line->kernel_index], words, sizeof words);
    print_name(row);
    printf("  %-7s %s\n", is_tuned(x, row->line) ? "tuned" : "default", words);
}

static void print_schedules(const MsExplained *x) {
    printf("  %-*s %*s %4s  schedule\n", NAME, "phase", LINES, "line", "x");
    each_row(x, print_schedule);
    putchar('\n');
}

void cli_explain_print(const MsExplained *x) {
    print_title(x);
    printf("  %-*s %*s %4s %7s %7s %8s %8s %8s  %s\n", NAME, "phase", LINES, "line", "x", "FLOPs", "exps", "weights", "state",
           "arena", "kernel");
    each_row(x, print_cost);
    putchar('\n');
    if (x->schedules) print_schedules(x);
    if (x->model) print_model(x);
    if (!x->measured) return;
    printf("  %-*s %*s %4s %9s %6s %7s %9s %7s  %s\n", NAME, "phase", LINES, "line", "x", "time, ms", "%", "waits", "limit, ms",
           "% of it", "bottleneck");
    each_row(x, print_time);
    print_summary(x);
    putchar('\n');
}

/* ---------------------------------------------------------------------------------------------- JSON */

static const char *const bottleneck_words[] = {
    [MS_BY_READING] = "reading", [MS_BY_ARITHMETIC] = "arithmetic", [MS_BY_WAITING] = "waiting", [MS_BY_SIZE] = "size"};
SU_TABLE_FULL(bottleneck_words, MS_BY_SIZE + 1);

static cJSON *line_json(const MsExplained *x, const MsLine *line) {
    cJSON *item = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "name", line->name);
    if (line->kernel) cJSON_AddStringToObject(item, "kernel", line->kernel);
    cJSON_AddNumberToObject(item, "phases", (double)line->times);
    cJSON_AddNumberToObject(item, "flops", line->cost.flops);
    cJSON_AddNumberToObject(item, "exps", line->cost.exps);
    cJSON_AddNumberToObject(item, "weight_bytes", line->cost.weight_bytes);
    cJSON_AddNumberToObject(item, "state_bytes", line->cost.state_bytes);
    cJSON_AddNumberToObject(item, "activation_bytes", line->cost.activation_bytes);
    if (has_schedule(x, line)) {
        char words[96];
        cg_schedule_words(&x->program->kernels[line->kernel_index], &x->schedules[line->kernel_index], words, sizeof words);
        cJSON_AddStringToObject(item, "schedule", words);
        cJSON_AddBoolToObject(item, "tuned", is_tuned(x, line));
    }
    if (x->model) cJSON_AddNumberToObject(item, "modelled_seconds", line->modelled);
    if (!x->measured) return item;
    double seconds = line->working + line->waiting, whole = x->total.working + x->total.waiting;
    cJSON_AddNumberToObject(item, "seconds", seconds);
    cJSON_AddNumberToObject(item, "waiting_seconds", line->waiting);
    cJSON_AddNumberToObject(item, "share", seconds / whole);
    cJSON_AddNumberToObject(item, "bound_seconds", line->bound);
    if (!line->kernel) return item;
    SuText words = {0};
    ms_explain_words(x, line, &words);
    cJSON_AddStringToObject(item, "binding", bottleneck_words[line->bottleneck]);
    cJSON_AddStringToObject(item, "words", words.text);
    su_text_free(&words);
    return item;
}

static cJSON *part_json(const MsExplained *x, const MsPart *part) {
    cJSON *item = line_json(x, &part->sum);
    if (part->blocks) cJSON_AddStringToObject(item, "about", part->about);
    cJSON_AddNumberToObject(item, "blocks", (double)part->blocks);
    cJSON *lines = cJSON_AddArrayToObject(item, "spec_lines"), *phases = cJSON_AddArrayToObject(item, "lines");
    for (size_t i = 0; i < part->n_spec_lines; i++) cJSON_AddItemToArray(lines, cJSON_CreateNumber(part->spec_lines[i]));
    for (size_t i = 0; i < part->n_lines; i++) cJSON_AddItemToArray(phases, line_json(x, &part->lines[i]));
    return item;
}

/* {"read_gb_s":…, "panel_gflop_s":…, "fma_gflop_s":…, "exp_g_s":…} under "limits". */
static void add_limits(cJSON *object, MsLimits limits) {
    cJSON *item = cJSON_AddObjectToObject(object, "limits");
    cJSON_AddNumberToObject(item, "read_gb_s", limits.read_gb_s);
    cJSON_AddNumberToObject(item, "panel_gflop_s", limits.panel_gflop_s);
    cJSON_AddNumberToObject(item, "fma_gflop_s", limits.fma_gflop_s);
    cJSON_AddNumberToObject(item, "exp_g_s", limits.exp_g_s);
}

cJSON *cli_explain_json(const MsExplained *x) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "rows", (double)x->work.rows);
    cJSON_AddNumberToObject(root, "position", (double)x->work.position);
    cJSON_AddNumberToObject(root, "stages", x->program->steps[x->list].n_stages);
    cJSON *parts = cJSON_AddArrayToObject(root, "parts");
    for (size_t p = 0; p < x->n_parts; p++) cJSON_AddItemToArray(parts, part_json(x, &x->parts[p]));
    cJSON_AddItemToObject(root, "total", line_json(x, &x->total));
    if (!x->measured) return root;
    cJSON_AddNumberToObject(root, "step_seconds", x->step_seconds);
    cJSON_AddNumberToObject(root, "profiled_step_seconds", x->profiled_seconds);
    cJSON_AddNumberToObject(root, "others", x->others);
    cJSON_AddNumberToObject(root, "read_bytes", (double)x->read_bytes);
    add_limits(root, x->limits);
    return root;
}
