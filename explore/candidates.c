/* Which points of a study are worth measuring. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "explore/csv.h"
#include "explore/measure.h"
#include "explore/sample.h"
#include "support/file.h"

typedef struct Candidate {
    uint64_t index;
    double worse; /* than the nearest point of the front, in its worst objective: 0.1 is a tenth */
} Candidate;

/* By how much, then by a fixed shuffle, so that a few points of a long front lie all over it. */
static uint64_t shuffled(uint64_t index) {
    uint64_t x = index * 0x9E3779B97F4A7C15u;
    return x ^ x >> 29;
}

static int by_worse(const void *a, const void *b) {
    const Candidate *x = a, *y = b;
    if (x->worse != y->worse) return x->worse < y->worse ? -1 : 1;
    uint64_t s = shuffled(x->index), t = shuffled(y->index);
    return s < t ? -1 : s > t;
}

typedef struct Goals {
    double of[4];
} Goals;

typedef struct Search {
    ExStudy *study;
    size_t device;
    SuDiags *diags;
    SuArena *arena;
    Goals *front;
    size_t n_front, front_capacity;
    Candidate *found;
    size_t n_found, found_capacity;
} Search;

static Goals goals_of(const ExSpace *space, const ExCsvRow *row) {
    Goals goals = {{0}};
    for (size_t o = 0; o < space->n_objectives; o++) goals.of[o] = ex_csv_value(space, row, space->objectives[o].metric);
    return goals;
}

/* How much worse `a` is than `b` in its worst objective; below 0: better in all. */
static double worse_by(const ExSpace *space, const Goals *a, const Goals *b) {
    double worst = -INFINITY;
    for (size_t o = 0; o < space->n_objectives; o++) {
        double x = a->of[o], y = b->of[o], by = space->objectives[o].maximise ? y / x - 1 : x / y - 1;
        if (by > worst) worst = by;
    }
    return worst;
}

static bool take_front(void *context, const ExCsvRow *row) {
    Search *s = context;
    s->front = su_grow(s->arena, s->front, &s->front_capacity, s->n_front + 1, sizeof *s->front);
    s->front[s->n_front++] = goals_of(&s->study->space, row);
    return true;
}

static bool take_point(void *context, const ExCsvRow *row) {
    Search *s = context;
    Goals goals = goals_of(&s->study->space, row);
    double least = INFINITY;
    for (size_t i = 0; i < s->n_front && least > 0; i++) least = fmin(least, worse_by(&s->study->space, &goals, &s->front[i]));
    s->found = su_grow(s->arena, s->found, &s->found_capacity, s->n_found + 1, sizeof *s->found);
    s->found[s->n_found++] = (Candidate){strtoull(row->text, NULL, 10), fmax(0, least)};
    return true;
}

static bool read_file(Search *s, const char *name, bool (*take)(void *, const ExCsvRow *)) {
    return ex_csv_each(&s->study->space, su_printf(s->arena, "%s/%s", s->study->directory, name), s->study->devices[s->device].name,
                       take, s, s->diags);
}

/* Kept points in an order that fills the space. */
static void spread(Search *s, uint64_t *out) {
    size_t n;
    const uint64_t *sample = ex_sample_order(&s->study->space, EX_SOBOL, 16 * s->n_found + 64, s->arena, &n);
    bool *used = SU_NEW_ARRAY(s->arena, bool, s->n_found);
    size_t count = 0;
    for (size_t i = 0; i < n && count < s->n_found; i++) { /* found is by rising index here */
        size_t low = 0, high = s->n_found;
        while (low < high) {
            size_t middle = (low + high) / 2;
            if (s->found[middle].index < sample[i])
                low = middle + 1;
            else
                high = middle;
        }
        if (low == s->n_found || s->found[low].index != sample[i] || used[low]) continue;
        used[low] = true;
        out[count++] = sample[i];
    }
    for (size_t i = 0; i < s->n_found; i++)
        if (!used[i]) out[count++] = s->found[i].index;
}

bool ex_candidates(ExStudy *study, size_t device, const ExMeasureOptions *options, SuArena *arena, uint64_t **out_points,
                   size_t *out_count, SuDiags *diags) {
    Search s = {.study = study, .device = device, .diags = diags, .arena = arena};
    if (!read_file(&s, "front.csv", take_front) || !read_file(&s, "points.csv", take_point)) return false;
    uint64_t *points = SU_NEW_ARRAY(arena, uint64_t, s.n_found);
    *out_points = points;
    *out_count = s.n_found;
    if (options->spread) {
        spread(&s, points);
        return true;
    }
    if (s.n_found > 1) qsort(s.found, s.n_found, sizeof *s.found, by_worse);
    *out_count = 0;
    for (size_t i = 0; i < s.n_found && s.found[i].worse <= options->near; i++) points[(*out_count)++] = s.found[i].index;
    return true;
}
