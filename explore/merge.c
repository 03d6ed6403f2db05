#include "explore/merge.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "explore/csv.h"
#include "explore/front.h"
#include "support/file.h"
#include "support/json.h"

typedef struct Part {
    const char *directory;
    ExStudy study;
    ExRunOptions options;
    ExTally tally;
    double seconds;
    FILE *points;
    ExCsvRow row; /* the next of points.csv */
    bool has_row;
} Part;

typedef struct Merge {
    SuArena arena;
    Part *parts; /* [n] in the order of their shards */
    size_t n;
    ExStudy *study;
    SuDiags *diags;
} Merge;

static const char *path_in(Merge *m, const char *directory, const char *name) {
    return su_printf(&m->arena, "%s/%s", directory, name);
}

static bool refuse(Merge *m, const char *path, const char *what) {
    return su_error(m->diags, su_file_span(m->diags, path), NULL, "%s", what);
}

/* ---------------------------------------------------------------------------------------------- summaries */

static uint64_t number_of(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) && item->valuedouble >= 0 ? (uint64_t)item->valuedouble : 0;
}

static const cJSON *item_of(const cJSON *object, const char *name) { return cJSON_GetObjectItemCaseSensitive(object, name); }

static void take_summary(Merge *m, const cJSON *root, Part *part) {
    const cJSON *invalid = item_of(root, "invalid"), *reason, *device;
    ExTally *t = &part->tally;
    size_t d = 0;
    t->points = number_of(root, "points");
    t->excluded = number_of(root, "excluded");
    t->over_budget = number_of(root, "over_budget");
    t->kept = number_of(root, "kept");
    t->reasons = SU_NEW_ARRAY(&m->arena, ExReason, (size_t)cJSON_GetArraySize(invalid));
    cJSON_ArrayForEach(reason, invalid) {
        t->reasons[t->n_reasons++] = (ExReason){su_strdup(&m->arena, reason->string), (uint64_t)reason->valuedouble};
        t->invalid += (uint64_t)reason->valuedouble;
    }
    cJSON_ArrayForEach(device, item_of(root, "devices")) {
        if (d < EX_MAX_DEVICES) t->kept_on[d++] = number_of(device, "kept");
    }
    const cJSON *shard = item_of(root, "shard"), *method = item_of(root, "method"), *seconds = item_of(root, "seconds");
    part->options.shard = cJSON_GetArraySize(shard) == 2 ? (uint64_t)cJSON_GetArrayItem(shard, 0)->valuedouble : 0;
    part->options.n_shards = cJSON_GetArraySize(shard) == 2 ? (uint64_t)cJSON_GetArrayItem(shard, 1)->valuedouble : 0;
    const char *word = cJSON_IsString(method) ? method->valuestring : "";
    part->options.method = strcmp(word, "random") == 0 ? EX_RANDOM : strcmp(word, "sobol") == 0 ? EX_SOBOL : EX_ALL;
    part->options.all_points = cJSON_IsTrue(item_of(root, "all_points"));
    part->seconds = cJSON_IsNumber(seconds) ? seconds->valuedouble : 0;
}

static bool read_summary(Merge *m, Part *part) {
    SuJson json;
    if (!ex_study_read_summary(part->directory, &m->arena, &json, m->diags)) return false;
    take_summary(m, json.root, part);
    su_json_free(&json);
    return part->options.n_shards > 0 || refuse(m, path_in(m, part->directory, "summary.json"), "'shard' is missing");
}

/* ---------------------------------------------------------------------------------------------- do the parts belong together? */

static bool same_file(Merge *m, const Part *part, const char *name) {
    char *a, *b;
    size_t a_size, b_size;
    if (!su_read_file(&m->arena, path_in(m, m->parts[0].directory, name), FE_MAX_INPUT, &a, &a_size, m->diags)) return false;
    if (!su_read_file(&m->arena, path_in(m, part->directory, name), FE_MAX_INPUT, &b, &b_size, m->diags)) return false;
    if (a_size == b_size && memcmp(a, b, a_size) == 0) return true;
    return refuse(
        m, path_in(m, part->directory, name),
        su_printf(&m->arena, "differs from that of %s: the parts must have one space, spec and devices", m->parts[0].directory));
}

static int by_shard(const void *a, const void *b) {
    const Part *x = a, *y = b;
    return x->options.shard < y->options.shard ? -1 : x->options.shard > y->options.shard;
}

static bool check_part(Merge *m, size_t i) {
    const Part *part = &m->parts[i], *first = &m->parts[0];
    if (part->options.n_shards != m->n || part->options.shard != i + 1)
        return refuse(m, part->directory,
                      su_printf(&m->arena,
                                "is part %" PRIu64 " of %" PRIu64 ": merge takes all parts of one space, each once (got %zu)",
                                part->options.shard, part->options.n_shards, m->n));
    if (part->options.method != first->options.method || part->options.all_points != first->options.all_points)
        return refuse(m, part->directory, "was made with another --method, --points or --all-points than the first part");
    bool ok =
        same_file(m, part, "space.yaml") && same_file(m, part, "spec.yaml") && part->study.n_devices == first->study.n_devices;
    for (size_t d = 0; d < first->study.n_devices && ok; d++)
        ok = same_file(m, part, su_printf(&m->arena, "devices/%s.yaml", first->study.devices[d].name));
    return ok;
}

static bool open_parts(Merge *m, const char *const *directories) {
    for (size_t i = 0; i < m->n; i++) {
        m->parts[i].directory = directories[i];
        if (!read_summary(m, &m->parts[i]) || !ex_study_open(directories[i], &m->parts[i].study, m->diags)) return false;
    }
    qsort(m->parts, m->n, sizeof *m->parts, by_shard);
    for (size_t i = 0; i < m->n; i++)
        if (!check_part(m, i)) return false;
    return true;
}

/* ---------------------------------------------------------------------------------------------- points.csv */

static bool next_row(Merge *m, Part *part) {
    part->has_row = ex_csv_read(part->points, &part->row);
    if (part->has_row || !ferror(part->points)) return true;
    return refuse(m, path_in(m, part->directory, "points.csv"), su_file_error(errno));
}

static bool open_points(Merge *m, Part *part) {
    const char *path = path_in(m, part->directory, "points.csv");
    part->points = fopen(path, "r");
    if (!part->points) return refuse(m, path, su_file_error(errno));
    return next_row(m, part) && next_row(m, part); /* past the header */
}

static bool copy_rows(Merge *m, FILE *out) {
    for (size_t i = 0; i < m->n; i++)
        if (!open_points(m, &m->parts[i])) return false;
    for (size_t d = 0; d < m->study->n_devices; d++) {
        for (size_t i = 0; i < m->n; i++) {
            Part *part = &m->parts[i];
            while (part->has_row && ex_csv_is_of(&m->study->space, &part->row, m->study->devices[d].name)) {
                part->row.text[part->row.size] = '\n';
                fwrite(part->row.text, 1, part->row.size + 1, out);
                if (!next_row(m, part)) return false;
            }
        }
    }
    for (size_t i = 0; i < m->n; i++)
        if (m->parts[i].has_row)
            return refuse(m, path_in(m, m->parts[i].directory, "points.csv"), "has rows of no device of the study");
    return true;
}

static bool merge_points(Merge *m) {
    SuOut out;
    SuText header = {0};
    if (!su_out_open(path_in(m, m->study->directory, "points.csv"), &out, m->diags)) return false;
    ex_csv_header(&m->study->space, &header);
    fwrite(header.text, 1, header.size, out.file);
    su_text_free(&header);
    if (copy_rows(m, out.file)) return su_out_commit(&out, m->diags);
    su_out_abort(&out);
    return false;
}

/* ---------------------------------------------------------------------------------------------- front.csv */

typedef struct FrontRow {
    uint64_t index;
    const char *text;
} FrontRow;

typedef struct Rows {
    FrontRow *items;
    size_t n, capacity;
} Rows;

static bool read_front(Merge *m, const Part *part, size_t device, Rows *rows, ExFront *front) {
    const char *path = path_in(m, part->directory, "front.csv");
    FILE *file = fopen(path, "r");
    ExCsvRow row = {0};
    if (!file) return refuse(m, path, su_file_error(errno));
    ex_csv_read(file, &row); /* the header */
    while (ex_csv_read(file, &row)) {
        if (!ex_csv_is_of(&m->study->space, &row, m->study->devices[device].name)) continue;
        ExRival rival = {.index = strtoull(row.text, NULL, 10)};
        for (size_t o = 0; o < m->study->space.n_objectives; o++) {
            const ExObjective *objective = &m->study->space.objectives[o];
            double value = ex_csv_value(&m->study->space, &row, objective->metric);
            rival.goals[o] = objective->maximise ? -value : value;
        }
        rows->items = su_grow(&m->arena, rows->items, &rows->capacity, rows->n + 1, sizeof *rows->items);
        rows->items[rows->n++] = (FrontRow){rival.index, su_strndup(&m->arena, row.text, row.size)};
        if (!ex_front_add(front, &rival)) su_no_memory(sizeof rival);
    }
    bool ok = !ferror(file) || refuse(m, path, su_file_error(errno));
    fclose(file);
    su_free(row.text);
    return ok;
}

/* Parts follow each other, and so do their rows: by rising index. */
static const char *text_of(const Rows *rows, uint64_t index) {
    size_t low = 0, high = rows->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (rows->items[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return rows->items[low].text;
}

static bool merge_front(Merge *m, ExResult *out) {
    SuText text = {0};
    bool ok = true;
    ex_csv_header(&m->study->space, &text);
    for (size_t d = 0; d < m->study->n_devices && ok; d++) {
        ExFront front = {.n_goals = m->study->space.n_objectives};
        Rows rows = {0};
        for (size_t i = 0; i < m->n && ok; i++) ok = read_front(m, &m->parts[i], d, &rows, &front);
        ex_front_sort(&front);
        out->n_front[d] = front.count;
        out->fronts[d] = SU_NEW_ARRAY(&out->arena, uint64_t, front.count);
        for (size_t i = 0; i < front.count; i++) {
            out->fronts[d][i] = front.points[i].index;
            su_text_add(&text, "%s\n", text_of(&rows, front.points[i].index));
        }
        ex_front_free(&front);
    }
    ok = ok && su_out_write(path_in(m, m->study->directory, "front.csv"), text.text, text.size, m->diags);
    su_text_free(&text);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- the whole */

static void add_tallies(Merge *m, ExResult *out) {
    for (size_t i = 0; i < m->n; i++) {
        ex_tally_add(&out->tally, &m->parts[i].tally, &out->arena);
        out->seconds += m->parts[i].seconds;
    }
    ex_tally_sort(&out->tally);
}

static bool merge_unguarded(Merge *m, const char *const *directories, const char *directory, ExResult *out) {
    m->parts = SU_NEW_ARRAY(&m->arena, Part, m->n);
    if (!open_parts(m, directories) || !ex_study_copy(directories[0], directory, m->study, m->diags)) return false;
    ExRunOptions options = m->parts[0].options;
    options.shard = options.n_shards = 1;
    add_tallies(m, out);
    return merge_points(m) && merge_front(m, out) && ex_study_summary(m->study, &options, out, m->diags);
}

static void free_part(Part *part) {
    if (part->points) fclose(part->points);
    su_free(part->row.text);
    ex_study_close(&part->study);
}

bool ex_merge(const char *const *directories, size_t n, const char *directory, ExStudy *study, ExResult *out, SuDiags *diags) {
    *study = (ExStudy){.directory = directory, .arena = SU_ARENA_FREE};
    *out = (ExResult){.arena = SU_ARENA_FREE};
    Merge m = {.arena = SU_ARENA_FREE, .n = n, .study = study, .diags = diags};
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "merging studies")) return false; /* the process is about to end: files stay open */
    bool ok = merge_unguarded(&m, directories, directory, out);
    for (size_t i = 0; i < n && m.parts; i++) free_part(&m.parts[i]);
    su_guard_end(&guard);
    su_arena_free(&m.arena);
    return ok;
}
