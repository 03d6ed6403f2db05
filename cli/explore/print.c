/* What a study comes to, at the terminal. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/explore/explore.h"
#include "cli/format.h"
#include "explore/csv.h"

/* ---------------------------------------------------------------------------------------------- numbers */

static const char *metric_text(ExMetric metric, double value, char out[CLI_NUMBER]) {
    const ExMetricRow *row = ex_metric(metric);
    if (isnan(value)) return "-";
    if (strcmp(row->unit, "bytes") == 0) return cli_bytes(value, out);
    if (strcmp(row->unit, "") == 0 && metric != EX_METRIC_QUALITY) return cli_count(value, out);
    snprintf(out, CLI_NUMBER, fabs(value) < 1000 ? "%#.4g" : "%.0f", value);
    return out;
}

/* A metric with its unit where the number does not say it: "decode_ms". */
static const char *title_of(ExMetric metric) { return ex_metric(metric)->name; }

/* ---------------------------------------------------------------------------------------------- the front */

/* The points of a device's front with their costs. */
typedef struct Front {
    uint64_t *indices;
    ExCost *costs;
    uint32_t *choices; /* [n][n_axes] */
    size_t *order; /* [n] the best of the first objective first */
    size_t n, device;
} Front;

typedef struct Place {
    double goal; /* less is better */
    size_t at;
} Place;

static int by_goal(const void *a, const void *b) {
    const Place *x = a, *y = b;
    if (x->goal != y->goal) return x->goal < y->goal ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static size_t *order_of(const ExSpace *space, const Front *front, SuArena *arena) {
    const ExObjective *first = &space->objectives[0];
    Place *places = SU_NEW_ARRAY(arena, Place, front->n);
    size_t *order = SU_NEW_ARRAY(arena, size_t, front->n);
    for (size_t i = 0; i < front->n; i++) {
        double value = ex_value(&front->costs[i], first->metric, front->device);
        places[i] = (Place){first->maximise ? -value : value, i};
    }
    if (front->n > 1) qsort(places, front->n, sizeof *places, by_goal);
    for (size_t i = 0; i < front->n; i++) order[i] = places[i].at;
    return order;
}

static Front cost_front(const ExStudy *study, const ExResult *result, size_t device, SuArena *arena) {
    Front front = {.device = device, .n = result->n_front[device], .indices = result->fronts[device]};
    const ExSpace *space = &study->space;
    SuDiags diags = {0};
    front.costs = SU_NEW_ARRAY(arena, ExCost, front.n);
    front.choices = SU_NEW_ARRAY(arena, uint32_t, front.n * space->n_axes);
    ExCoster *coster = ex_study_coster(study, &diags);
    ExScratch *scratch = coster ? ex_scratch_create(coster) : NULL;
    for (size_t i = 0; i < front.n && scratch; i++) {
        ExValue values[EX_MAX_AXES], derived[EX_MAX_RULES];
        const char *why;
        const ExExpr *where;
        uint32_t *choices = &front.choices[i * space->n_axes];
        ex_choices(space, front.indices[i], choices);
        ex_point(space, choices, values, derived, &why, &where);
        ex_cost(scratch, choices, derived, &front.costs[i], &why);
    }
    ex_scratch_free(scratch);
    ex_coster_free(coster);
    su_diags_free(&diags);
    front.order = order_of(space, &front, arena);
    return front;
}

enum { MOST_ROWS = 24 }; /* of the table; front.csv has all */

/* Rows of the table: all, or so many evenly spread, the first and the last among them. */
static size_t row_at(const Front *front, size_t row) {
    return front->order[front->n <= MOST_ROWS ? row : row * (front->n - 1) / (MOST_ROWS - 1)];
}

/* Columns that its name and all of its values have room in. */
static int width_of(const ExAxis *axis) {
    size_t width = strlen(axis->name);
    for (size_t v = 0; v < axis->n_values; v++) {
        SuText text = {0};
        ex_node_text(axis->nodes[v], &text);
        if (text.size > width) width = text.size;
        su_text_free(&text);
    }
    return (int)width;
}

static int width_of_metric(ExMetric metric) { return (int)(strlen(title_of(metric)) < 9 ? 9 : strlen(title_of(metric))); }

static void print_row(const ExSpace *space, const Front *front, const int *widths, size_t i) {
    printf("  %10" PRIu64, front->indices[i]);
    for (size_t a = 0; a < space->n_axes; a++) {
        SuText text = {0};
        ex_node_text(space->axes[a].nodes[front->choices[i * space->n_axes + a]], &text);
        printf("  %*s", widths[a], text.text ? text.text : "");
        su_text_free(&text);
    }
    for (size_t o = 0; o < space->n_objectives; o++) {
        char number[CLI_NUMBER];
        ExMetric metric = space->objectives[o].metric;
        printf("  %*s", width_of_metric(metric), metric_text(metric, ex_value(&front->costs[i], metric, front->device), number));
    }
    putchar('\n');
}

static void print_table(const ExSpace *space, const Front *front) {
    size_t rows = front->n < MOST_ROWS ? front->n : MOST_ROWS;
    int widths[EX_MAX_AXES];
    printf("  %10s", "point");
    for (size_t a = 0; a < space->n_axes; a++) {
        widths[a] = width_of(&space->axes[a]);
        printf("  %*s", widths[a], space->axes[a].name);
    }
    for (size_t o = 0; o < space->n_objectives; o++)
        printf("  %*s", width_of_metric(space->objectives[o].metric), title_of(space->objectives[o].metric));
    putchar('\n');
    for (size_t r = 0; r < rows; r++) print_row(space, front, widths, row_at(front, r));
    if (front->n > rows)
        printf("  … %zu of %zu points, from the best %s to the worst; front.csv has all\n", rows, front->n,
               title_of(space->objectives[0].metric));
}

/* ---------------------------------------------------------------------------------------------- the plot */

enum { WIDTH = 64, HEIGHT = 16 };

typedef struct Scale {
    double low, high;
    bool logarithmic;
} Scale;

static Scale scale_of(const Front *front, ExMetric metric) {
    Scale s = {INFINITY, -INFINITY, false};
    for (size_t i = 0; i < front->n; i++) {
        double value = ex_value(&front->costs[i], metric, front->device);
        s.low = fmin(s.low, value);
        s.high = fmax(s.high, value);
    }
    s.logarithmic = s.low > 0 && s.high / s.low > 20;
    return s;
}

static int place(const Scale *s, double value, int size) {
    if (!(s->high > s->low)) return size / 2;
    double at = s->logarithmic ? log(value / s->low) / log(s->high / s->low) : (value - s->low) / (s->high - s->low);
    return (int)lrint(at * (size - 1));
}

/* The first objective across, the second up. */
static void plot(const ExSpace *space, const Front *front) {
    char grid[HEIGHT][WIDTH + 1], low[CLI_NUMBER], high[CLI_NUMBER];
    ExMetric across = space->objectives[0].metric, up = space->objectives[1].metric;
    Scale x = scale_of(front, across), y = scale_of(front, up);
    for (int r = 0; r < HEIGHT; r++) snprintf(grid[r], sizeof grid[r], "%*s", WIDTH, "");
    for (size_t i = 0; i < front->n; i++) {
        int column = place(&x, ex_value(&front->costs[i], across, front->device), WIDTH);
        int row = HEIGHT - 1 - place(&y, ex_value(&front->costs[i], up, front->device), HEIGHT);
        grid[row][column] = grid[row][column] == ' ' ? 'o' : '@';
    }
    printf("  %s%s; o is a point of the front, @ several\n", title_of(up), y.logarithmic ? ", logarithmic" : "");
    for (int r = 0; r < HEIGHT; r++) {
        const char *label = r == 0 ? metric_text(up, y.high, high) : r == HEIGHT - 1 ? metric_text(up, y.low, low) : "";
        printf("  %10s |%s\n", label, grid[r]);
    }
    printf("  %10s +", "");
    for (int c = 0; c < WIDTH; c++) putchar('-');
    const char *right = metric_text(across, x.high, high), *left = metric_text(across, x.low, low);
    printf("\n  %11s%s%*s\n  %11s %s%s\n", "", left, WIDTH - (int)strlen(left) + 1, right, "", title_of(across),
           x.logarithmic ? ", logarithmic" : "");
}

/* ---------------------------------------------------------------------------------------------- the whole */

static void print_counts(const ExStudy *study, const ExResult *result) {
    const ExTally *t = &result->tally;
    printf("%s: %" PRIu64 " points", study->space.name, t->points);
    if (t->excluded) printf(", %" PRIu64 " excluded by require", t->excluded);
    printf(", %" PRIu64 " invalid, %" PRIu64 " over budget%s, %" PRIu64 " kept", t->invalid, t->over_budget,
           study->n_devices > 1 ? " on every device" : "", t->kept);
    printf("; %.3g s, %.3g points a second\n", result->seconds, result->seconds > 0 ? (double)t->points / result->seconds : 0);
    for (size_t i = 0; i < t->n_reasons; i++) printf("  %10" PRIu64 " invalid: %s\n", t->reasons[i].count, t->reasons[i].message);
}

void cli_explore_print(const ExStudy *study, const ExResult *result, bool report) {
    SuArena arena = {0};
    print_counts(study, result);
    for (size_t d = 0; d < study->n_devices; d++) {
        const MsTimeModel *model = &study->devices[d].model;
        printf("\n%s (%s, %" PRId64 " threads): %" PRIu64 " kept, %zu on the front\n", study->devices[d].name,
               model->calibrated ? "calibrated" : "modelled", model->threads, result->tally.kept_on[d], result->n_front[d]);
        Front front = cost_front(study, result, d, &arena);
        if (front.n == 0) continue;
        print_table(&study->space, &front);
        if (study->space.n_objectives > 1) putchar('\n');
        if (study->space.n_objectives > 1) plot(&study->space, &front);
    }
    if (report)
        printf("\n%s/report.html shows all of it in a browser; `mossc explore spec %s --point K` prints a point's spec.\n",
               study->directory, study->directory);
    su_arena_free(&arena);
}

void cli_explore_json(const ExStudy *study, const ExResult *result) {
    cJSON *root = cJSON_CreateObject();
    const ExTally *t = &result->tally;
    cJSON_AddStringToObject(root, "directory", study->directory);
    cJSON_AddNumberToObject(root, "points", (double)t->points);
    cJSON_AddNumberToObject(root, "excluded", (double)t->excluded);
    cJSON *invalid = cJSON_AddObjectToObject(root, "invalid"), *fronts = cJSON_AddObjectToObject(root, "front");
    for (size_t i = 0; i < t->n_reasons; i++) cJSON_AddNumberToObject(invalid, t->reasons[i].message, (double)t->reasons[i].count);
    cJSON_AddNumberToObject(root, "over_budget", (double)t->over_budget);
    cJSON_AddNumberToObject(root, "kept", (double)t->kept);
    for (size_t d = 0; d < study->n_devices; d++) {
        cJSON *front = cJSON_AddArrayToObject(fronts, study->devices[d].name);
        for (size_t i = 0; i < result->n_front[d]; i++)
            cJSON_AddItemToArray(front, cJSON_CreateNumber((double)result->fronts[d][i]));
    }
    cJSON_AddNumberToObject(root, "seconds", result->seconds);
    cli_json_print(root);
}
