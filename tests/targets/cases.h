/* A compiled model with what it must answer, as make_cases writes it and run_cases checks it. */
#ifndef MOSSC_TESTS_TARGETS_CASES_H
#define MOSSC_TESTS_TARGETS_CASES_H

#include "ir/program.h"

typedef struct Case {
    const char *name;         /* of its files: NAME.weights, NAME.tokens (int32 [T]), NAME.logits (float [T][V]) */
    const char *what;         /* for messages: target, and how to see the spec again */
    const PgProgram *program; /* in NAME.o */
    const PgCode *codes;
    int64_t T, V;
    float tolerance;          /* of more than one row a step, of the logits' root mean square; 0: bits */
} Case;

extern const Case cases[];
extern const int n_cases;

#endif
