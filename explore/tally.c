#include "explore/tally.h"

#include <stdlib.h>
#include <string.h>

/* Messages are compared by pointer first: they are kept once. */
static ExReason *find(const ExTally *tally, const char *message) {
    for (size_t i = 0; i < tally->n_reasons; i++)
        if (tally->reasons[i].message == message || strcmp(tally->reasons[i].message, message) == 0) return &tally->reasons[i];
    return NULL;
}

void ex_tally_reason(ExTally *tally, const char *message, uint64_t count, SuArena *arena) {
    ExReason *known = find(tally, message);
    if (known) {
        known->count += count;
        return;
    }
    tally->reasons = su_grow(arena, tally->reasons, &tally->capacity, tally->n_reasons + 1, sizeof *tally->reasons);
    tally->reasons[tally->n_reasons++] = (ExReason){message, count};
}

void ex_tally_add(ExTally *to, const ExTally *from, SuArena *arena) {
    to->points += from->points;
    to->excluded += from->excluded;
    to->invalid += from->invalid;
    to->over_budget += from->over_budget;
    to->kept += from->kept;
    for (size_t d = 0; d < EX_MAX_DEVICES; d++) to->kept_on[d] += from->kept_on[d];
    for (size_t i = 0; i < from->n_reasons; i++) {
        const ExReason *known = find(to, from->reasons[i].message);
        ex_tally_reason(to, known ? known->message : su_strdup(arena, from->reasons[i].message), from->reasons[i].count, arena);
    }
}

static int by_message(const void *a, const void *b) {
    return strcmp(((const ExReason *)a)->message, ((const ExReason *)b)->message);
}

void ex_tally_sort(ExTally *tally) {
    if (tally->n_reasons > 1) qsort(tally->reasons, tally->n_reasons, sizeof *tally->reasons, by_message);
}
