#include "explore/front.h"

#include <stdlib.h>

#include "support/alloc.h"

typedef enum Order { BEATS, BEATEN, NEITHER } Order;

static Order compare(const ExRival *a, const ExRival *b, size_t n) {
    bool better = false, worse = false;
    for (size_t i = 0; i < n; i++) {
        better |= a->goals[i] < b->goals[i];
        worse |= a->goals[i] > b->goals[i];
    }
    return better == worse ? NEITHER : better ? BEATS : BEATEN;
}

static bool make_room(ExFront *front) {
    if (front->count < front->capacity) return true;
    size_t capacity = front->capacity ? 2 * front->capacity : 64;
    ExRival *points = su_malloc_with(NULL, 0, capacity * sizeof *points); /* of no guard, since threads hand fronts over */
    if (!points) return false;
    for (size_t i = 0; i < front->count; i++) points[i] = front->points[i];
    su_free(front->points);
    front->points = points;
    front->capacity = capacity;
    return true;
}

bool ex_front_add(ExFront *front, const ExRival *point) {
    size_t kept = 0;
    for (size_t i = 0; i < front->count; i++) {
        Order order = compare(point, &front->points[i], front->n_goals);
        if (order == BEATEN) { /* then it beats none; who beat it comes first from now on, since it often beats the next one too */
            ExRival winner = front->points[i];
            front->points[i] = front->points[0];
            front->points[0] = winner;
            return true;
        }
        if (order == NEITHER) front->points[kept++] = front->points[i];
    }
    front->count = kept;
    if (!make_room(front)) return false;
    front->points[front->count++] = *point;
    return true;
}

static int by_index(const void *a, const void *b) {
    const ExRival *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

void ex_front_sort(ExFront *front) {
    if (front->count > 1) qsort(front->points, front->count, sizeof *front->points, by_index);
}

void ex_front_free(ExFront *front) {
    su_free(front->points);
    *front = (ExFront){.n_goals = front->n_goals};
}
