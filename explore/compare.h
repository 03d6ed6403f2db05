/* Two points of a study side by side: what their steps do, phase by phase, on one of its devices. */
#ifndef MOSSC_EXPLORE_COMPARE_H
#define MOSSC_EXPLORE_COMPARE_H

#include "explore/study.h"

/* Phases of one name in blocks of one kind, of both points; a point without them has zeros. */
typedef struct ExSides {
    const char *name; /* "mlp gate_up"; "embed" outside blocks */
    uint64_t phases[2];
    PgCost cost[2];
    double seconds[2]; /* modelled, or calibrated where the device is */
} ExSides;

/* A step of the workload: the one that decodes a token of each sequence, or the first of the prompts'. */
typedef struct ExComparedStep {
    PgWork work;
    ExSides *lines; /* [n_lines], the largest difference in time first */
    size_t n_lines, capacity;
    ExSides total;
} ExComparedStep;

typedef struct ExComparison {
    ExComparedStep token, prompt;
} ExComparison;

/* Everything in `out` lies in `arena`. false: a point is none, or has no cost (in diags). */
bool ex_compare(ExStudy *study, size_t device, const uint64_t points[2], SuArena *arena, ExComparison *out, SuDiags *diags);

#endif
