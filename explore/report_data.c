#include "explore/report_data.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "explore/csv.h"
#include "explore/table.h"
#include "support/file.h"
#include "support/json.h"

enum { MOST_JSON = 1 << 28 };

typedef struct Report {
    ExStudy *study;
    SuText *out;
    SuDiags *diags;
    ExCoster *coster;
    ExScratch *scratch;
    uint64_t *detailed; /* [n_detailed] points whose spec is asked for, of all devices */
    size_t n_detailed, capacity;
} Report;

static const char *path_of(const Report *r, const char *name) {
    return su_printf(&r->study->arena, "%s/%s", r->study->directory, name);
}

static bool has_file(const Report *r, const char *name) {
    struct stat status;
    return stat(path_of(r, name), &status) == 0;
}

/* Whether item i of n is among `most` that are evenly spread. */
static bool picked(uint64_t i, uint64_t n, uint64_t most) {
    return n <= most || (unsigned __int128)(i + 1) * most / n > (unsigned __int128)i * most / n;
}

static void add_string(SuText *out, const char *text) {
    su_text_append(out, "\"", 1);
    for (const char *c = text; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            su_text_add(out, "\\u%04x", (unsigned)(unsigned char)*c);
        else
            su_text_append(out, c, 1);
    su_text_append(out, "\"", 1);
}

/* ---------------------------------------------------------------------------------------------- other files */

/* A JSON file of the study as one line, less what no page shows. */
static bool add_file(const Report *r, const char *name, const char *const *without) {
    static const SuJsonRules rules = {.depth = 8, .values = 1 << 24};
    const char *path = path_of(r, name);
    char *text;
    size_t size;
    SuJson json;
    if (!su_read_file(&r->study->arena, path, MOST_JSON, &text, &size, r->diags) ||
        !su_json_parse(text, size, &rules, su_file_span(r->diags, path), &json, r->diags))
        return false;
    for (; *without; without++) cJSON_DeleteItemFromObjectCaseSensitive(json.root, *without);
    char *printed = cJSON_PrintUnformatted(json.root);
    if (printed) su_text_add(r->out, "%s", printed);
    su_json_free(&json);
    if (!printed) return su_out_of_memory(r->diags, "for the report");
    cJSON_free(printed);
    return true;
}

static bool add_calibration(const Report *r) {
    static const char *const without[] = {NULL};
    if (has_file(r, "calibration.json")) return add_file(r, "calibration.json", without);
    su_text_add(r->out, "null");
    return true;
}

static void add_metrics(const Report *r) {
    for (int m = 0; m < EX_METRIC_COUNT; m++) {
        const ExMetricRow *row = ex_metric((ExMetric)m);
        su_text_add(r->out, "%s{\"name\":\"%s\",\"unit\":\"%s\",\"larger\":%s,\"help\":", m ? ",\n" : "", row->name, row->unit,
                    row->larger_is_better ? "true" : "false");
        add_string(r->out, row->help);
        su_text_add(r->out, "}");
    }
}

/* ---------------------------------------------------------------------------------------------- rows */

static void add_row(const ExSpace *space, const ExCsvRow *row, uint64_t index, SuText *out) {
    uint32_t choices[EX_MAX_AXES];
    size_t size;
    ex_choices(space, index, choices);
    su_text_add(out, "[%" PRIu64 ",[", index);
    for (size_t a = 0; a < space->n_axes; a++) su_text_add(out, "%s%" PRIu32, a ? "," : "", choices[a]);
    const char *hash = ex_csv_field(row, ex_csv_hash(space), &size);
    su_text_add(out, "],\"%.*s\",[", (int)size, hash ? hash : "");
    for (int m = 0; m < EX_METRIC_COUNT; m++) {
        const char *field = ex_csv_field(row, ex_csv_metric(space, (ExMetric)m), &size);
        bool known = isfinite(ex_csv_value(space, row, (ExMetric)m)); /* then the text is that of ex_csv_number, which JSON takes */
        su_text_add(out, "%s%.*s", m ? "," : "", known ? (int)size : 4, known ? field : "null");
    }
    su_text_add(out, "]]");
}

/* Whether a row is of a point that is kept: --all-points writes others too. */
static bool is_kept(const ExSpace *space, const ExCsvRow *row) {
    size_t size;
    const char *hash = ex_csv_field(row, ex_csv_hash(space), &size);
    if (!hash || size == 0) return false;
    for (size_t i = 0; i < space->n_budgets; i++) {
        double value = ex_csv_value(space, row, space->budgets[i].metric);
        if (value < space->budgets[i].low || value > space->budgets[i].high) return false;
    }
    return true;
}

/* Rows of a file that go on the page, in their order. */
typedef struct Rows {
    const char *name;
    uint64_t most; /* of a device */
    bool all; /* also rows that are over budget */
    uint64_t counts[EX_MAX_DEVICES]; /* rows that are kept */
    uint64_t seen[EX_MAX_DEVICES]; /* of them, when they are read for the second time */
    SuText text[EX_MAX_DEVICES]; /* those on the page */
    uint64_t *indices[EX_MAX_DEVICES]; /* [n_indices[device]] of their points */
    size_t n_indices[EX_MAX_DEVICES], capacity[EX_MAX_DEVICES];
} Rows;

static void count_row(const Report *r, Rows *rows, const ExCsvRow *row, size_t d) {
    (void)r;
    (void)row;
    rows->counts[d]++;
}

static void take_row(const Report *r, Rows *rows, const ExCsvRow *row, size_t d) {
    if (!picked(rows->seen[d]++, rows->counts[d], rows->most)) return;
    SuText *out = &rows->text[d];
    uint64_t index = strtoull(row->text, NULL, 10);
    if (rows->n_indices[d]) su_text_add(out, ",\n");
    add_row(&r->study->space, row, index, out);
    rows->indices[d] =
        su_grow(&r->study->arena, rows->indices[d], &rows->capacity[d], rows->n_indices[d] + 1, sizeof *rows->indices[d]);
    rows->indices[d][rows->n_indices[d]++] = index;
}

/* Reads a file, whose rows are sorted by device in the order of the study. */
static bool each_row(const Report *r, Rows *rows, void (*visit)(const Report *, Rows *, const ExCsvRow *, size_t)) {
    const ExStudy *study = r->study;
    const char *path = path_of(r, rows->name);
    FILE *file = fopen(path, "r");
    ExCsvRow row = {0};
    size_t d = 0;
    if (!file) return su_error(r->diags, su_file_span(r->diags, path), NULL, "%s", su_file_error(errno));
    bool ok = ex_csv_read(file, &row); /* the header */
    while (ok && ex_csv_read(file, &row)) {
        while (d < study->n_devices && !ex_csv_is_of(&study->space, &row, study->devices[d].name)) d++;
        ok = d < study->n_devices;
        if (ok && (rows->all || is_kept(&study->space, &row))) visit(r, rows, &row, d);
    }
    ok = ok && !ferror(file);
    su_free(row.text);
    fclose(file);
    return ok || su_error(r->diags, su_file_span(r->diags, path), NULL, "is not what `mossc explore` wrote");
}

static bool read_rows(const Report *r, Rows *rows) { return each_row(r, rows, count_row) && each_row(r, rows, take_row); }

static void free_rows(Rows *rows) {
    for (size_t d = 0; d < EX_MAX_DEVICES; d++) su_text_free(&rows->text[d]);
}

/* ---------------------------------------------------------------------------------------------- what a point does */

static void add_work(const Report *r, size_t device, bool prompts) {
    ExKindWork kinds[PG_KIND_COUNT];
    const char *comma = "";
    ex_cost_by_kind(r->scratch, device, prompts, kinds);
    for (int kind = 0; kind < PG_KIND_COUNT; kind++) {
        const ExKindWork *work = &kinds[kind];
        const double numbers[] = {work->flops, work->exps, work->memory_bytes, work->activation_bytes, work->seconds};
        if (work->phases == 0) continue;
        su_text_add(r->out, "%s[\"%s\",%" PRIu64, comma, pg_kind_word((PgKind)kind), work->phases);
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            char text[SU_REAL];
            su_text_add(r->out, ",%s", su_real_text(numbers[i], text));
        }
        su_text_add(r->out, "]");
        comma = ",";
    }
}

static bool cost_point(const Report *r, uint64_t index) {
    const ExSpace *space = &r->study->space;
    uint32_t choices[EX_MAX_AXES];
    ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
    ExCost cost;
    const char *why;
    const ExExpr *where;
    ex_choices(space, index, choices);
    return ex_point(space, choices, values, derived, &why, &where) == EX_POINT &&
           ex_cost(r->scratch, choices, derived, &cost, &why) == EX_COSTED;
}

/* "work": of the points of a device's front that have details. */
static bool add_works(Report *r, const Rows *front, size_t device) {
    size_t n = front->n_indices[device], most = EX_REPORT_DETAILS / r->study->n_devices;
    const char *comma = "";
    for (size_t i = 0; i < n; i++) {
        uint64_t index = front->indices[device][i];
        if (!picked(i, n, most)) continue;
        if (!cost_point(r, index))
            return su_error(r->diags, (SuSpan){0}, NULL, "front.csv: %" PRIu64 " is not a point that has a cost", index);
        su_text_add(r->out, "%s\n\"%" PRIu64 "\":{\"decode\":[", comma, index);
        add_work(r, device, false);
        su_text_add(r->out, "],\"prefill\":[");
        add_work(r, device, true);
        su_text_add(r->out, "]}");
        comma = ",";
        r->detailed = su_grow(&r->study->arena, r->detailed, &r->capacity, r->n_detailed + 1, sizeof *r->detailed);
        r->detailed[r->n_detailed++] = index;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------- specs */

/* Lines of specs, each once. */
typedef struct Lines {
    ExTable *table; /* line -> its number */
    SuArena *arena; /* of the table */
    const char **items; /* [n] */
    size_t n, capacity;
} Lines;

static size_t number_of_line(Report *r, Lines *lines, const char *text, size_t size) {
    const size_t *known = ex_table_find(lines->table, text, size);
    if (known) return *known;
    size_t *number = SU_NEW(lines->arena, size_t);
    char *copy = su_strndup(lines->arena, text, size);
    *number = lines->n;
    if (!ex_table_put(lines->table, copy, size, number)) su_no_memory(size);
    lines->items = su_grow(&r->study->arena, lines->items, &lines->capacity, lines->n + 1, sizeof *lines->items);
    lines->items[lines->n++] = copy;
    return *number;
}

static bool add_spec(Report *r, Lines *lines, uint64_t index) {
    FeSpec spec;
    SuText text = {0};
    SuDiags diags = {0}; /* the front end's warnings about one of many specs are not those of the study */
    bool ok = ex_study_spec(r->study, index, &spec, &diags);
    su_diags_free(&diags);
    if (!ok) return su_error(r->diags, (SuSpan){0}, NULL, "front.csv: %" PRIu64 " is not a point that has a spec", index);
    fe_print_spec(&spec, &text);
    fe_spec_free(&spec);
    for (size_t at = 0; at < text.size;) {
        size_t size = strcspn(text.text + at, "\n");
        su_text_add(r->out, "%s%zu", at ? "," : "", number_of_line(r, lines, text.text + at, size));
        at += size + 1;
    }
    su_text_free(&text);
    return true;
}

static int by_index(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* "specs" and "lines". */
static bool add_specs(Report *r) {
    Lines lines = {.table = ex_table_create(MOST_JSON)};
    lines.arena = ex_table_arena(lines.table);
    if (!lines.arena) su_no_memory(sizeof lines);
    bool ok = true;
    const char *comma = "";
    if (r->n_detailed > 1) qsort(r->detailed, r->n_detailed, sizeof *r->detailed, by_index);
    su_text_add(r->out, "\"specs\":{");
    for (size_t i = 0; i < r->n_detailed && ok; i++) {
        if (i > 0 && r->detailed[i] == r->detailed[i - 1]) continue; /* of several devices */
        su_text_add(r->out, "%s\n\"%" PRIu64 "\":[", comma, r->detailed[i]);
        ok = add_spec(r, &lines, r->detailed[i]);
        su_text_add(r->out, "]");
        comma = ",";
    }
    su_text_add(r->out, "},\n\"lines\":[");
    for (size_t i = 0; i < lines.n; i++) {
        su_text_add(r->out, i ? ",\n" : "");
        add_string(r->out, lines.items[i]);
    }
    su_text_add(r->out, "]");
    ex_table_free(lines.table);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- the whole */

static void add_rows(const Report *r, const char *key, const Rows *rows, size_t device) {
    su_text_add(r->out, ",\n\"%s\":[%s]", key, rows->text[device].text ? rows->text[device].text : "");
}

static bool add_devices(Report *r, const Rows *front, const Rows *points, const Rows *measured) {
    bool ok = true;
    for (size_t d = 0; d < r->study->n_devices && ok; d++) {
        su_text_add(r->out, "%s{\"name\":", d ? ",\n" : "");
        add_string(r->out, r->study->devices[d].name);
        add_rows(r, "front", front, d);
        add_rows(r, "points", points, d);
        add_rows(r, "measured", measured, d);
        su_text_add(r->out, ",\n\"work\":{");
        ok = add_works(r, front, d);
        su_text_add(r->out, "}}");
    }
    return ok;
}

static bool add_all(Report *r, Rows *front, Rows *points, Rows *measured) {
    static const char *const without[] = {"seconds", "points_per_second", NULL};
    if (!read_rows(r, front) || !read_rows(r, points)) return false;
    if (has_file(r, measured->name) && !read_rows(r, measured)) return false;
    su_text_add(r->out, "{\"summary\":");
    if (!add_file(r, "summary.json", without)) return false;
    su_text_add(r->out, ",\n\"metrics\":[");
    add_metrics(r);
    su_text_add(r->out, "],\n\"devices\":[");
    if (!add_devices(r, front, points, measured)) return false;
    su_text_add(r->out, "],\n");
    if (!add_specs(r)) return false;
    su_text_add(r->out, ",\n\"calibration\":");
    if (!add_calibration(r)) return false;
    su_text_add(r->out, "}\n");
    return true;
}

bool ex_report_data(ExStudy *study, SuText *out, SuDiags *diags) {
    Report r = {.study = study, .out = out, .diags = diags};
    Rows front = {.name = "front.csv", .most = EX_REPORT_FRONT / study->n_devices};
    Rows points = {.name = "points.csv", .most = EX_REPORT_POINTS / study->n_devices};
    Rows measured = {.name = "measured.csv", .most = EX_REPORT_POINTS / study->n_devices, .all = true};
    r.coster = ex_study_coster(study, diags);
    r.scratch = r.coster ? ex_scratch_create(r.coster) : NULL;
    bool ok = r.scratch != NULL && add_all(&r, &front, &points, &measured);
    free_rows(&front);
    free_rows(&points);
    free_rows(&measured);
    ex_scratch_free(r.scratch);
    ex_coster_free(r.coster);
    return ok;
}
