/* What a node costs: its row of ir/work.def gives its floating-point operations; the bytes follow from the operands. A step
 * reads each weight and state once whatever its rows; the bytes of a step of one row count chosen experts only. */
#include <math.h>

#include "ir/internal.h"
#include "ir/work.h"
#include "support/table.h"

typedef struct Count {
    const IrGraph *g;
    const IrNode *node;
    double rows, position;
} Count;

/* ---------------------------------------------------------------------------------------------- words of the rules */

static const IrType *operand(const Count *c, int i) { return &c->g->values[c->node->operands[i]].type; }
static const IrType *result(const Count *c) { return &c->g->values[c->node->results[0]].type; }
static double dim(const IrType *t, int i) { return (double)t->dim[i]; }
static double last(const IrType *t) { return dim(t, t->rank - 1); }

/* Elements for the step's rows. */
static double elements(const Count *c, const IrType *t) {
    double n = t->dim[0] == IR_R ? c->rows : 1;
    for (int i = t->dim[0] == IR_R; i < t->rank; i++) n *= dim(t, i);
    return n;
}

static double of_result(const Count *c) { return elements(c, result(c)); }
static double of_first(const Count *c) { return elements(c, operand(c, 0)); }

/* Planes of a value of rows, 1 where it has none. */
static double planes(const Count *c, int i) { return operand(c, i)->rank == 3 ? dim(operand(c, i), 1) : 1; }

/* Held experts do not move, though a naive graph keeps them among its planes. */
static double moving(const Count *c) {
    double share = c->node->n_operands == 4 ? last(operand(c, 3)) / dim(operand(c, 2), 0) : 1;
    return of_result(c) * share;
}

/* The first dimensions of each head turn. */
static double turned(const Count *c) {
    return of_result(c) / (double)c->node->attrs[IR_ROPE_head_dim].i * (double)c->node->attrs[IR_ROPE_dim].i;
}

/* Two components of each row for every angle, in each plane. */
static double rotated(const Count *c) { return 2 * elements(c, operand(c, 1)) * planes(c, 0); }

/* A pass for each of the chosen, and one for the groups. */
static double select_passes(const Count *c) {
    return (double)(c->node->attrs[IR_SELECT_k].i + (c->node->attrs[IR_SELECT_top].i < c->node->attrs[IR_SELECT_groups].i));
}

static double scores(const Count *c) {
    double keys = ir_keys_seen(c->rows, c->position, (double)c->node->attrs[IR_ATTEND_window].i);
    return keys * (double)c->node->attrs[IR_ATTEND_heads].i;
}

/* ---------------------------------------------------------------------------------------------- flops */

double ir_keys_seen(double rows, double position, double window) {
    if (window <= 0 || position + rows <= window) return rows * (position + (rows + 1) / 2);
    double growing = fmax(0, window - position); /* rows that still see all keys */
    return growing * (position + (growing + 1) / 2) + (rows - growing) * window;
}

typedef struct Rate {
    double flops, flops_inner, exps;
} Rate;

IrWork ir_work(IrOp op, double elements, double inner) {
    static const Rate rates[IR_OP_COUNT] = {
#define IR_WORK(op, elements, inner, flops, flops_inner, exps) [IR_OP_##op] = {flops, flops_inner, exps},
#include "ir/work.def"
    };
    const Rate *rate = &rates[op];
    return (IrWork){elements * (rate->flops + rate->flops_inner * inner), elements * rate->exps};
}

/* An operation without a row has no function here: it does not compile. */
#define IR_WORK(op, elements, inner, flops, flops_inner, exps)                                                                     \
    static IrWork work_of_##op(const Count *c) { return ir_work(IR_OP_##op, (elements), (inner)); }
#include "ir/work.def"

static IrWork (*const works[])(const Count *) = {
#define IR_OP(name, operands, results, attributes, traits) [IR_OP_##name] = work_of_##name,
#include "ir/ops.def"
#undef IR_OP
};
SU_TABLE_FULL(works, IR_OP_COUNT);

/* ---------------------------------------------------------------------------------------------- bytes */

/* The share of a weight's elements that one row reads: one row of a table, the chosen ones of E experts. */
static double share_read(const Count *c, const IrType *weight) {
    const IrNode *node = c->node;
    if (node->op == IR_OP_embed) return 1 / dim(weight, 0);
    bool routed = (ir_op_info(node->op)->traits & IR_ROUTED) != 0 || node->op == IR_OP_mix;
    for (int i = 0; i < node->n_operands && routed; i++)
        if (operand(c, i)->dtype == IR_I32) return last(operand(c, i)) / dim(weight, 0);
    return 1;
}

static double weight_bytes(const Count *c) {
    double bytes = 0;
    for (int i = 0; i < c->node->n_operands; i++) {
        const IrValue *value = &c->g->values[c->node->operands[i]];
        const IrType *read =
            c->node->op == IR_OP_take || c->node->op == IR_OP_transpose ? result(c) : &value->type; /* its readers read no weight */
        if (value->kind != IR_WEIGHT) continue;
        const int64_t row = read->dim[read->rank - 1];
        bytes += elements(c, read) / (double)row * ir_row_bytes(value->type.dtype, row) * share_read(c, &value->type);
    }
    return bytes;
}

/* Attention reads the keys and values in sight of the last row and writes its own; the other states move as a whole, or in the
 * share of the chosen experts. */
static double state_bytes(const Count *c) {
    const IrNode *node = c->node;
    double bytes = 0;
    for (int i = 0; i < node->n_operands; i++) {
        if (c->g->values[node->operands[i]].kind != IR_STATE) continue;
        const IrType *state = operand(c, i);
        if (node->op == IR_OP_attend) {
            double window = (double)node->attrs[IR_ATTEND_window].i, seen = c->position + c->rows;
            if (window > 0) seen = fmin(seen, window + c->rows - 1);
            bytes += (seen + c->rows) * last(state) * 4;
        } else {
            bool chosen = node->n_operands == 4; /* whoever has a state and expert indices */
            bytes += 2 * elements(c, state) * 4 * (chosen ? fmin(1, c->rows * last(operand(c, 3)) / dim(state, 0)) : 1);
        }
    }
    return bytes;
}

IrCost ir_cost(const IrGraph *g, const IrNode *node, int64_t rows, int64_t position) {
    Count c = {g, node, (double)rows, (double)position};
    return (IrCost){.flops = works[node->op](&c).flops, .weight_bytes = weight_bytes(&c), .state_bytes = state_bytes(&c)};
}
