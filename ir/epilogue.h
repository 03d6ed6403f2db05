/* The epilogue of a linear, and of what sums experts: a short list of steps, walked in order by whoever prints, counts, checks or
 * generates code (ir/epilogue.def). */
#ifndef MOSSC_IR_EPILOGUE_H
#define MOSSC_IR_EPILOGUE_H

#include <stdbool.h>
#include <stdint.h>

#include "ir/activation.h"

typedef enum PgStepKind {
    PG_NO_STEP, /* ends the list */
#define PG_STEP(NAME, word, linear, also, combine, op, moved) PG_STEP_##NAME,
#include "ir/epilogue.def"
} PgStepKind;

enum {
    PG_STEP_KINDS = 1 /* PG_NO_STEP among them */
#define PG_STEP(NAME, word, linear, also, combine, op, moved) +1
#include "ir/epilogue.def"
};

/* Compared as bytes: no padding, unused arguments are zero. */
typedef struct PgEpilogueStep {
    uint32_t kind; /* PgStepKind */
    uint32_t act;  /* ACT: PgActivation */
    double scale;  /* SCALE */
} PgEpilogueStep;
_Static_assert(sizeof(PgEpilogueStep) == 16, "a step has no padding");

/* Each kind once at most, in rising order; the rest is PG_NO_STEP. */
typedef struct PgEpilogue {
    PgEpilogueStep steps[PG_STEP_KINDS];
} PgEpilogue;

typedef struct PgStepInfo {
    const char *word;
    int linear, also, combine; /* operand slots, PG_NO_SLOT */
    int op; /* IrOp; IR_OP_COUNT: none */
    double moved;
} PgStepInfo;

const PgStepInfo *pg_step(PgStepKind kind);

static inline void pg_epilogue_add(PgEpilogue *epilogue, PgEpilogueStep step) {
    int n = 0;
    while (n < PG_STEP_KINDS - 1 && epilogue->steps[n].kind != PG_NO_STEP) n++;
    epilogue->steps[n] = step;
}

/* The step of that kind, or NULL. */
static inline const PgEpilogueStep *pg_epilogue_find(const PgEpilogue *epilogue, PgStepKind kind) {
    for (const PgEpilogueStep *s = epilogue->steps; s->kind != PG_NO_STEP; s++)
        if (s->kind == (uint32_t)kind) return s;
    return 0;
}

static inline bool pg_step_sums(const PgEpilogueStep *step) {
    return step->kind == PG_STEP_WEIGHTED_SUM || step->kind == PG_STEP_PLANE_SUM;
}

/* The first step of those that stand behind a sum over experts where there is one: they work on what is stored, those before on the
 * terms. */
static inline const PgEpilogueStep *pg_epilogue_behind_sum(const PgEpilogue *epilogue) {
    const PgEpilogueStep *step = epilogue->steps;
    while (step->kind != PG_NO_STEP && step->kind <= PG_STEP_PLANE_SUM) step++;
    return step;
}

#endif
