/* The evaluators: what a graph means.
 *
 * ir_eval64 computes in double, plainly: the oracle for meaning. ir_eval32 computes in float and *defines the bits*: every
 * kernel of every CPU target gives exactly its results (docs/design.md, The bits). Both walk a graph of any level one token at
 * a time and are never tuned. Weights come by name: as floats, already narrowed to their dtype and widened back, or as blocks. */
#ifndef MOSSC_IR_EVAL_H
#define MOSSC_IR_EVAL_H

#include "ir/graph.h"
#include "ir/quant.h"

/* Finds a weight's elements. */
typedef IrElements (*IrWeightLookup)(void *context, const char *tensor);

typedef struct IrEval IrEval; /* a sequence in progress: states and position */

/* The graph must have passed ir_verify, and it and the weights must outlive the evaluator. NULL: a weight is missing. */
IrEval *ir_eval32_new(const IrGraph *g, IrWeightLookup lookup, void *context);
IrEval *ir_eval64_new(const IrGraph *g, IrWeightLookup lookup, void *context);
void ir_eval_free(IrEval *eval);
/* Feeds one token; logits has V elements. false: a router gave a non-finite value, diags says block and position. */
bool ir_eval_token(IrEval *eval, int32_t token, double *logits, SuDiags *diags);
/* The smallest difference, over all selections so far, between the score of a chosen expert and one not chosen
 * (infinity when every expert is always chosen). */
double ir_eval_min_gap(const IrEval *eval);
/* From now on linear layers that round their input take the integers that those of `of` took: another evaluator of the same graph, fed
 * the same tokens, each just before this one, and freed after it. An error of float, at an input that lies between two integers,
 * otherwise moves a sum by a whole step. */
void ir_eval_replay(IrEval *eval, const IrEval *of);
/* The largest distance so far of an input from the integer that it was rounded to, in steps of one (0 where none rounds): at most 1/2
 * and an error of float, or of the two evaluators where it is replayed. */
double ir_eval_most_step(const IrEval *eval);
/* Experts chosen by the last token: appends block, then its k indices… for every select node, in graph order.
 * Returns how many int32_t it needs; writes at most `capacity`. */
size_t ir_eval_experts(const IrEval *eval, int32_t *out, size_t capacity);
/* The value of a result of the last token (tests at the IR level); NULL if the value is not a result. Row-major. */
const double *ir_eval_value(const IrEval *eval, IrValueId value);

#endif
