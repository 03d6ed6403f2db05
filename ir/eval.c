/* The walk of both evaluators: memory for every value, one token at a time, node by node. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "ir/eval_impl.h"
#include "ir/internal.h"

/* ---------------------------------------------------------------------------------------------- making */

static double *doubles(IrEval *eval, int64_t n) { return SU_NEW_ARRAY(&eval->arena, double, (size_t)n); }

static bool find_weight(IrEval *eval, const IrValue *value, IrArray *array, IrWeightLookup lookup, void *context) {
    IrElements found = lookup(context, value->name);
    if (ir_is_blocks(value->type.dtype)) {
        if (!found.blocks.part[IR_PART_Q]) return false;
        if (found.blocks.dtype != value->type.dtype || (int64_t)(found.blocks.rows * found.blocks.K) != array->n)
            SU_BUG("%s is found with other blocks", value->name);
        IrBlocks *blocks = SU_NEW(&eval->arena, IrBlocks);
        *blocks = found.blocks;
        array->blocks = blocks;
        return true;
    }
    if (!found.f) return false;
    if (value->transform == IR_AS_IS) {
        array->f = found.f;
        return true;
    }
    array->d = doubles(eval, array->n);
    for (int64_t i = 0; i < array->n; i++) array->d[i] = eval->precision->neg_exp(found.f[i]);
    return true;
}

/* Room for the rounded inputs of all nodes: one for each row of outputs. */
static void make_rounded(IrEval *eval) {
    const IrGraph *g = eval->graph;
    int64_t groups = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const IrNode *node = &g->nodes[i];
        bool linear = node->op == IR_OP_linear || node->op == IR_OP_linear_all || node->op == IR_OP_linear_routed;
        if (!linear || !node->attrs[IR_LINEAR_rounds].i) continue;
        const IrType *x = &g->values[node->operands[0]].type, *y = &g->values[node->results[0]].type;
        groups += ir_elements(y, 1) / y->dim[y->rank - 1] * ((x->dim[x->rank - 1] + IR_GROUP - 1) / IR_GROUP);
    }
    eval->rounded = SU_NEW_ARRAY(&eval->arena, IrRounded, (size_t)groups);
}

/* Results that stand for a state's new value share its memory. */
static void make_results(IrEval *eval, const IrNode *node) {
    const IrOpInfo *info = ir_op_info(node->op);
    int n = ir_result_count(info, node->n_operands), state = n;
    for (int i = 0; i < node->n_operands; i++) state -= strchr("sS", info->operands[i]) != NULL;
    for (int i = 0; i < state; i++) {
        IrArray *array = &eval->arrays[node->results[i]];
        array->d = doubles(eval, array->n);
    }
    for (int i = 0; i < node->n_operands; i++)
        if (strchr("sS", info->operands[i])) eval->arrays[node->results[state++]].d = eval->arrays[node->operands[i]].d;
}

static IrEval *make(const IrGraph *g, const IrPrecision *precision, IrWeightLookup lookup, void *context) {
    SuArena arena = {0};
    IrEval *eval = SU_NEW(&arena, IrEval);
    *eval = (IrEval){.graph = g, .precision = precision, .arena = arena, .min_gap = INFINITY};
    eval->arrays = SU_NEW_ARRAY(&eval->arena, IrArray, g->n_values);
    for (size_t i = 0; i < g->n_values; i++) {
        const IrValue *value = &g->values[i];
        IrArray *array = &eval->arrays[i];
        *array = (IrArray){.type = &value->type, .n = ir_elements(&value->type, 1)};
        if (value->kind == IR_WEIGHT && !find_weight(eval, value, array, lookup, context)) {
            ir_eval_free(eval);
            return NULL;
        }
        if (value->kind == IR_STATE || value->kind == IR_TOKENS || value->kind == IR_POSITIONS) array->d = doubles(eval, array->n);
    }
    for (size_t i = 0; i < g->n_nodes; i++) make_results(eval, &g->nodes[i]);
    make_rounded(eval);
    return eval;
}

IrEval *ir_eval32_new(const IrGraph *g, IrWeightLookup lookup, void *context) { return make(g, &ir_precision32, lookup, context); }
IrEval *ir_eval64_new(const IrGraph *g, IrWeightLookup lookup, void *context) { return make(g, &ir_precision64, lookup, context); }

void ir_eval_free(IrEval *eval) {
    if (!eval) return;
    SuArena arena = eval->arena; /* which holds eval itself */
    su_arena_free(&arena);
}

/* ---------------------------------------------------------------------------------------------- running */

void ir_eval_fail(IrCall *call, const char *what) {
    IrEval *eval = call->eval;
    eval->failed = true;
    su_error(eval->diags, call->node->span, NULL, "block %" PRId32 ", position %" PRId64 ": %s", call->node->block, eval->position,
             what);
}

static void run_node(IrEval *eval, const IrNode *node) {
    IrCall call = {.eval = eval, .node = node};
    for (int i = 0; i < node->n_operands; i++) call.in[i] = eval->arrays[node->operands[i]];
    for (int i = 0; i < IR_MAX_RESULTS; i++)
        if (node->results[i] != IR_NONE) call.out[i] = eval->arrays[node->results[i]];
    eval->precision->ops[node->op](&call);
}

bool ir_eval_token(IrEval *eval, int32_t token, double *logits, SuDiags *diags) {
    const IrGraph *g = eval->graph;
    eval->diags = diags;
    eval->n_rounded = 0;
    eval->arrays[g->tokens].d[0] = token;
    eval->arrays[g->positions].d[0] = (double)eval->position;
    for (size_t i = 0; i < g->n_nodes && !eval->failed; i++) run_node(eval, &g->nodes[i]);
    eval->diags = NULL;
    if (eval->failed) return false;
    const IrArray *result = &eval->arrays[g->logits];
    memcpy(logits, result->d, (size_t)result->n * sizeof *logits);
    eval->position++;
    return true;
}

/* ---------------------------------------------------------------------------------------------- asking */

double ir_eval_min_gap(const IrEval *eval) { return eval->min_gap; }

void ir_eval_replay(IrEval *eval, const IrEval *of) { eval->replayed = of; }

double ir_eval_most_step(const IrEval *eval) { return eval->most_step; }

size_t ir_eval_experts(const IrEval *eval, int32_t *out, size_t capacity) {
    size_t n = 0;
    for (size_t i = 0; i < eval->graph->n_nodes; i++) {
        const IrNode *node = &eval->graph->nodes[i];
        if (node->op != IR_OP_select) continue;
        const IrArray *expert_indices = &eval->arrays[node->results[0]];
        if (n < capacity) out[n] = node->block;
        n++;
        for (int64_t j = 0; j < expert_indices->n; j++, n++)
            if (n < capacity) out[n] = (int32_t)expert_indices->d[j];
    }
    return n;
}

const double *ir_eval_value(const IrEval *eval, IrValueId value) {
    if (value < 0 || (size_t)value >= eval->graph->n_values || eval->graph->values[value].kind != IR_RESULT) return NULL;
    return eval->arrays[value].d;
}
