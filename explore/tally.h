/* How many points of a space came to what. */
#ifndef MOSSC_EXPLORE_TALLY_H
#define MOSSC_EXPLORE_TALLY_H

#include "explore/space.h"
#include "support/arena.h"

/* How often a message was the first that the front end had to say. */
typedef struct ExReason {
    const char *message;
    uint64_t count;
} ExReason;

typedef struct ExTally {
    uint64_t points, excluded, invalid; /* points: enumerated; the others are some of them */
    uint64_t over_budget, kept;         /* on every device; on one at least */
    uint64_t kept_on[EX_MAX_DEVICES];
    ExReason *reasons; /* [n_reasons], each message once */
    size_t n_reasons, capacity;
} ExTally;

/* Counts a message, which must live as long as the tally; the reasons lie in `arena`. Without memory it ends the guard. */
void ex_tally_reason(ExTally *tally, const char *message, uint64_t count, SuArena *arena);
/* Adds all counts of another; its messages are copied into `arena`. */
void ex_tally_add(ExTally *to, const ExTally *from, SuArena *arena);
/* Reasons by message. */
void ex_tally_sort(ExTally *tally);

#endif
