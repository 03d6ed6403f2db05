/* What a phase of a program costs in a step: the work that its result needs, whoever does it and however often.
 *
 * FLOPs are counted by the rules of ir/cost.c, so that the phases of a step add up to the nodes of the fused graph; what a one-row
 * step computes again (a norm in front of several linear layers) counts in each phase. Rows and lanes of padding do not count as FLOPs;
 * bytes of weights and states are those that lie in memory, padding of panels included. */
#ifndef MOSSC_IR_PHASE_COST_H
#define MOSSC_IR_PHASE_COST_H

#include "ir/program.h"

/* A step: rows of so many sequences, all of them at this position (tokens fed before). wanted: rows of logits. */
typedef struct PgWork {
    int64_t rows, segments, n_out_rows, position;
} PgWork;

typedef struct PgCost {
    double flops;            /* a multiply-add is 2 */
    double exps;             /* evaluations of exp, and of what costs as much: log1p in softplus, erf */
    double weight_bytes;     /* read, each weight once; of experts those expected to be chosen */
    double state_bytes;      /* read and written */
    double activation_bytes; /* read from the arena and written to it; they stay in caches for the most part */
    double padded_flops;     /* with those of rows and lanes of padding that linear layers multiply, too */
    double chosen_bytes;     /* of weights and states, those of experts that a route chose: others in every step */
    double kept_bytes;       /* weights and states once each: what a cache holds if the next step shall find them there */
    double all_bytes;        /* the same of all experts: what many steps go through */
} PgCost;

void pg_cost_add(PgCost *to, const PgCost *cost);

PgCost pg_phase_cost(const PgProgram *program, const PgPhase *phase, const PgWork *work);

/* How many of `n` are picked at least once when each of `rows` picks `k` different ones, all equally likely and independent of
 * each other: n · (1 − (1 − k/n)^rows). */
double pg_distinct(int64_t n, int64_t k, double rows);
/* Positions of a group table in use, padding included, that `rows` rows are expected to need under the same assumption. */
double pg_padded_positions(int64_t n, int64_t k, int64_t rows);

/* The packed weight that an operand names; NULL when it lies elsewhere. */
const PgWeight *pg_operand_weight(const PgProgram *program, const PgRef *operand);

/* How many weights, from that one on, make up an operand of O outputs: 1, or several of whole panels (but for the last) that lie
 * one behind the other, as those of linear layers in one phase. 0: none do. */
uint32_t pg_operand_weights(const PgProgram *program, const PgWeight *first, int64_t O);

#endif
