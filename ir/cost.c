/* What a node costs: one rule a row of ops.def gives its floating-point operations; the bytes follow from the operands. A step
 * reads each weight and state once whatever its rows; the bytes of a step of one row count chosen experts only. */
#include <math.h>

#include "ir/internal.h"

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

/* So many operations for each element of the result, of the first operand. */
static double each(const Count *c, double operations) { return operations * elements(c, result(c)); }
static double each_of_x(const Count *c, double operations) { return operations * elements(c, operand(c, 0)); }

/* ---------------------------------------------------------------------------------------------- flops, op by op */

static double flops_embed(const Count *c) { return each(c, 1); }
static double flops_rms_norm(const Count *c) { return each(c, 4); }
static double flops_layer_norm(const Count *c) { return each(c, 7); }
static double flops_linear(const Count *c) { return each(c, 2 * last(operand(c, 0))); }
static double flops_linear_all(const Count *c) { return each(c, 2 * last(operand(c, 0))); }
static double flops_linear_routed(const Count *c) { return each(c, 2 * last(operand(c, 0))); }
static double flops_slice(const Count *c) { return each(c, 0); }
static double flops_add_bias(const Count *c) { return each(c, 1); }
static double flops_add_bias_routed(const Count *c) { return each(c, 1); }
static double flops_mul_param(const Count *c) { return each(c, 1); }
static double flops_mul_param_routed(const Count *c) { return each(c, 1); }
#define IR_ACTIVATION(name, NAME, flops, exps, exact)                                                                              \
    static double flops_##name(const Count *c) { return each(c, flops); }
#include "ir/activation.def"
static double flops_scale(const Count *c) { return each(c, 1); }
static double flops_add(const Count *c) { return each(c, 1); }
static double flops_mul(const Count *c) { return each(c, 1); }
static double flops_softmax(const Count *c) { return each(c, 5); }
static double flops_select(const Count *c) {
    return each_of_x(c, (double)c->node->attrs[IR_SELECT_k].i);
} /* a pass over the scores each */
static double flops_gates(const Count *c) { return each(c, 3); }
static double flops_expert_sum(const Count *c) { return each(c, 2 * last(operand(c, 1))); }
static double flops_expert_sum_routed(const Count *c) { return each(c, 2 * last(operand(c, 1))); }
static double flops_plane_sum(const Count *c) { return each_of_x(c, 1); }
static double flops_mix(const Count *c) { return each(c, 2 * last(operand(c, 1))); }
static double flops_conv(const Count *c) { return each(c, 2 * last(operand(c, 1))); }
static double flops_outer(const Count *c) { return each(c, 1); }
static double flops_outer_routed(const Count *c) { return each(c, 1); }
static double flops_inject(const Count *c) { return each(c, 1); }
static double flops_recur_routed(const Count *c) { return each(c, 2); }
static double flops_contract(const Count *c) { return each_of_x(c, 2); }
static double flops_rope(const Count *c) {
    return each(c, 3 * (double)c->node->attrs[IR_ROPE_dim].i / (double)c->node->attrs[IR_ROPE_head_dim].i);
}

/* Held experts do not move, though a naive graph keeps them among its planes. */
static double flops_recur(const Count *c) {
    double share = c->node->n_operands == 4 ? last(operand(c, 3)) / dim(operand(c, 2), 0) : 1;
    return each(c, 2 * share);
}

/* Keys that a step's rows see, all rows together. */
static double keys(const Count *c) {
    double window = (double)c->node->attrs[IR_ATTEND_window].i, last_row = c->position + c->rows;
    if (window > 0 && last_row > window) {
        double growing = fmax(0, window - c->position); /* rows that still see all keys */
        return growing * (c->position + (growing + 1) / 2) + (c->rows - growing) * window;
    }
    return c->rows * (c->position + (c->rows + 1) / 2);
}

static double flops_attend(const Count *c) {
    double heads = (double)c->node->attrs[IR_ATTEND_heads].i, head_dim = (double)c->node->attrs[IR_ATTEND_head_dim].i;
    return keys(c) * heads * (4 * head_dim + 3); /* score, value, softmax */
}

static double (*const flops[IR_OP_COUNT])(const Count *) = {
#define IR_OP(name, operands, results, attributes, traits) [IR_OP_##name] = flops_##name,
#include "ir/ops.def"
#undef IR_OP
};

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
        if (value->kind == IR_WEIGHT)
            bytes += elements(c, &value->type) * ir_dtype(value->type.dtype)->bytes * share_read(c, &value->type);
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
            bool chosen = (node->op == IR_OP_recur || node->op == IR_OP_recur_routed) && node->n_operands == 4;
            bytes += 2 * elements(c, state) * 4 * (chosen ? fmin(1, c->rows * last(operand(c, 3)) / dim(state, 0)) : 1);
        }
    }
    return bytes;
}

IrCost ir_cost(const IrGraph *g, const IrNode *node, int64_t rows, int64_t position) {
    Count c = {g, node, (double)rows, (double)position};
    return (IrCost){.flops = flops[node->op](&c), .weight_bytes = weight_bytes(&c), .state_bytes = state_bytes(&c)};
}
