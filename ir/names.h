/* A table from names to numbers, for whoever interns or looks up by name. */
#ifndef MOSSC_IR_NAMES_H
#define MOSSC_IR_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "support/arena.h"

typedef struct IrNameSlot {
    const char *name; /* NULL: empty */
    int32_t number;
} IrNameSlot;

/* Also IrGraph.named. */
typedef struct IrNames {
    SuArena *arena; /* owns the slots; the names belong to the caller and outlive the table */
    IrNameSlot *slots;
    size_t n, capacity; /* capacity is 0 or a power of two and never full */
} IrNames;

/* The slot of `name`, added with number -1 when it was not there. Valid until the next call. */
IrNameSlot *ir_names_at(IrNames *names, const char *name);

#endif
