/* What the operands of a phase are (ir/operands.def), for whoever checks or describes programs. */
#ifndef MOSSC_IR_PROGRAM_OPERANDS_H
#define MOSSC_IR_PROGRAM_OPERANDS_H

#include "ir/program.h"

typedef enum PgAccess { PG_READ, PG_WRITE, PG_UPDATE } PgAccess;
typedef enum PgNeed { PG_MUST_NOT, PG_MAY, PG_MUST } PgNeed;
typedef enum PgForm {
    PG_FORM_VALUE, /* in the arena: and the next three */
    PG_FORM_ROUNDED,
    PG_FORM_INDICES,
    PG_FORM_GROUPS,
    PG_FORM_PANELS, /* weights: and the next three */
    PG_FORM_VECTOR,
    PG_FORM_CHANNELS,
    PG_FORM_MIXED, /* vector or channels */
    PG_FORM_STATE
} PgForm;

/* Numbers that would overflow stand still at 2^56, which is more than any memory has. */
typedef struct PgOperand {
    const char *name; /* "RESIDUAL" */
    int slot;
    PgAccess access;
    PgNeed need;
    PgForm form;
    uint64_t per_row, fixed; /* bytes: per_row * LD + fixed; those of weights are their PgWeight's */
    PgLayout layout;         /* VALUE and ROUNDED */
    int64_t planes, O, K;    /* weights */
} PgOperand;

enum { PG_OPERAND_ROWS = 32 };

/* The operands of a kernel, those that it must not have among them; returns how many. A slot may occur in several forms, of which
 * it must have one at most. */
int pg_operands(const PgKernel *kernel, PgOperand out[PG_OPERAND_ROWS]);

#endif
