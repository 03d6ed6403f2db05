#include "explore/measured.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "explore/csv.h"
#include "explore/front.h"
#include "support/file.h"
#include "support/json.h"

enum { MOST_LINES = 1 << 28 };

double ex_measured_number(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

bool ex_line_index(const cJSON *line, SuSpan span, uint64_t *out_index, SuDiags *diags) {
    const cJSON *index = cJSON_GetObjectItemCaseSensitive(line, "index");
    if (!cJSON_IsNumber(index)) return su_error(diags, span, NULL, "a line without 'index'");
    const double value = index->valuedouble;
    if (!(value >= 0 && value < 0x1p64) || floor(value) != value)
        return su_error(diags, span, NULL, "'index' is %.17g, which is no index of a point", value);
    *out_index = (uint64_t)value;
    return true;
}

static bool give_line(const char *text, size_t size, bool (*take)(void *, const cJSON *, SuSpan), void *context, SuSpan span,
                      SuDiags *diags) {
    static const SuJsonRules rules = {.part = "line", .depth = 8, .values = 1 << 20};
    SuJson json;
    if (!su_json_parse(text, size, &rules, span, &json, diags)) return false;
    bool more = take(context, json.root, span);
    su_json_free(&json);
    return more;
}

bool ex_lines_read(const char *path, bool (*take)(void *context, const cJSON *line, SuSpan span), void *context, size_t *out_size,
                   SuDiags *diags) {
    SuArena arena = {0};
    char *text;
    size_t size = 0, at = 0;
    uint32_t number = 1;
    bool ok = su_read_file(&arena, path, MOST_LINES, &text, &size, diags);
    for (const char *end; ok && at < size && (end = memchr(text + at, '\n', size - at)) != NULL; number++) {
        SuSpan span = su_file_span(diags, path);
        span.line = number;
        ok = give_line(text + at, (size_t)(end - text) - at, take, context, span, diags);
        at = (size_t)(end - text) + 1;
    }
    if (out_size) *out_size = at;
    su_arena_free(&arena);
    return ok;
}

bool ex_measured_read(const char *directory, bool (*take)(void *context, const cJSON *line, SuSpan span), void *context,
                      size_t *out_size, SuDiags *diags) {
    SuArena arena = {0};
    const char *path = su_printf(&arena, "%s/measurements.jsonl", directory);
    bool is_there = access(path, F_OK) == 0;
    if (!is_there && out_size) *out_size = 0;
    bool ok = !is_there || ex_lines_read(path, take, context, out_size, diags);
    su_arena_free(&arena);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- measured.csv */

typedef struct Point {
    uint64_t index;
    double prefill_ms, decode_ms, compile_ms, code_bytes, quality;
} Point;

typedef struct Points {
    SuArena *arena;
    SuDiags *diags;
    Point *items;
    size_t n, capacity;
} Points;

static bool take_point(void *context, const cJSON *line, SuSpan span) {
    Points *points = context;
    uint64_t index = 0;
    if (cJSON_HasObjectItem(line, "error")) return true;
    if (!ex_line_index(line, span, &index, points->diags)) return false;
    points->items = su_grow(points->arena, points->items, &points->capacity, points->n + 1, sizeof *points->items);
    points->items[points->n++] = (Point){index,
                                         ex_measured_number(line, "prefill_ms"),
                                         ex_measured_number(line, "decode_ms"),
                                         ex_measured_number(line, "compile_ms"),
                                         ex_measured_number(line, "code_bytes"),
                                         ex_measured_number(line, "quality")};
    return true;
}

static int by_index(const void *a, const void *b) {
    const Point *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void put_times(const ExWorkload *w, const Point *point, double *metrics) {
    metrics[EX_METRIC_PREFILL_MS] = point->prefill_ms;
    metrics[EX_METRIC_DECODE_MS] = point->decode_ms;
    metrics[EX_METRIC_COMPILE_MS] = point->compile_ms;
    metrics[EX_METRIC_CODE_BYTES] = point->code_bytes;
    metrics[EX_METRIC_DECODE_TOK_S] = 1e3 * (double)w->batch / point->decode_ms;
    metrics[EX_METRIC_PREFILL_TOK_S] = 1e3 * (double)(w->batch * w->prefill) / point->prefill_ms;
}

/* Rows of measured.csv, and which of them are on the front. */
typedef struct Table {
    SuText rows, front_rows;
    size_t *ends; /* [n] of each row in `rows` */
    ExFront front; /* by number of row */
} Table;

static bool add_row(ExStudy *study, size_t device, ExScratch *scratch, const Point *point, Table *out, size_t number,
                    SuDiags *diags) {
    const ExSpace *space = &study->space;
    ExPriced p;
    if (!ex_price(space, scratch, point->index, &p))
        return su_error(diags, su_file_span(diags, study->directory), NULL,
                        "measurements.jsonl has a point that the space does not have");
    put_times(&space->workload, point, p.cost.on_device[device]);
    if (!isnan(point->quality)) p.cost.shared[EX_METRIC_QUALITY] = point->quality;
    ex_csv_row(space, point->index, p.choices, study->devices[device].name, "measured", p.hash, &p.cost, device, &out->rows);
    out->ends[number] = out->rows.size;
    ExRival rival = ex_rival(space, &p.cost, device, number);
    return !ex_within(space, &p.cost, device) || ex_front_add(&out->front, &rival) || su_out_of_memory(diags, "for a front");
}

static void take_front(Table *table) {
    ex_front_sort(&table->front);
    for (size_t i = 0; i < table->front.count; i++) {
        size_t number = table->front.points[i].index, begin = number ? table->ends[number - 1] : 0;
        su_text_append(&table->front_rows, table->rows.text + begin, table->ends[number] - begin);
    }
}

static bool write_table(ExStudy *study, const char *name, const SuText *rows, SuArena *arena, SuDiags *diags) {
    SuText text = {0};
    ex_csv_header(&study->space, &text);
    if (rows->size) su_text_append(&text, rows->text, rows->size);
    bool ok = su_out_write(su_printf(arena, "%s/%s", study->directory, name), text.text, text.size, diags);
    su_text_free(&text);
    return ok;
}

bool ex_measured_csv(ExStudy *study, size_t device, SuDiags *diags) {
    SuArena arena = {0};
    Points points = {.arena = &arena, .diags = diags};
    Table table = {.front = {.n_goals = study->space.n_objectives}};
    ExCoster *coster = ex_study_coster(study, diags);
    ExScratch *scratch = coster ? ex_scratch_create(coster) : NULL;
    bool ok = scratch && ex_measured_read(study->directory, take_point, &points, NULL, diags);
    if (ok && points.n > 1) qsort(points.items, points.n, sizeof *points.items, by_index);
    table.ends = SU_NEW_ARRAY(&arena, size_t, points.n);
    for (size_t i = 0; i < points.n && ok; i++) ok = add_row(study, device, scratch, &points.items[i], &table, i, diags);
    if (ok) take_front(&table);
    ok = ok && write_table(study, "measured.csv", &table.rows, &arena, diags) &&
         write_table(study, "measured_front.csv", &table.front_rows, &arena, diags);
    su_text_free(&table.rows);
    su_text_free(&table.front_rows);
    ex_front_free(&table.front);
    ex_scratch_free(scratch);
    ex_coster_free(coster);
    su_arena_free(&arena);
    return ok;
}
