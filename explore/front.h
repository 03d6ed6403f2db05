/* Pareto fronts: points that no other point beats. A point beats another if it is at least as good in every objective and better in one;
 * equal points all stay. */
#ifndef MOSSC_EXPLORE_FRONT_H
#define MOSSC_EXPLORE_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EX_MAX_GOALS = 4 };

typedef struct ExRival {
    uint64_t index;
    double goals[EX_MAX_GOALS]; /* less is better */
} ExRival;

/* `ExFront f = {.n_goals = n}` is empty. */
typedef struct ExFront {
    ExRival *points; /* su_malloc's, in no order */
    size_t count, capacity, n_goals;
} ExFront;

/* Adds a point unless one of the front beats it, and drops those that it beats. false: out of memory. */
bool ex_front_add(ExFront *front, const ExRival *point);
void ex_front_sort(ExFront *front); /* by index */
void ex_front_free(ExFront *front);

#endif
