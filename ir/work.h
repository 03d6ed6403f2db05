/* The work of operations from sizes alone: no graph and no program is needed, and nothing is allocated. */
#ifndef MOSSC_IR_WORK_H
#define MOSSC_IR_WORK_H

#include "ir/graph.h"

typedef struct IrWork {
    double flops, exps;
} IrWork;

/* By the row of ir/work.def. */
IrWork ir_work(IrOp op, double elements, double inner);

/* Keys that `rows` rows of one sequence see, all together, when `position` rows came before them. window 0: all keys. */
double ir_keys_seen(double rows, double position, double window);

#endif
