/* The activations as kernels name them, and what they are (ir/activation.def). */
#ifndef MOSSC_IR_ACTIVATION_H
#define MOSSC_IR_ACTIVATION_H

typedef enum PgActivation {
    PG_NO_ACT,
#define IR_ACTIVATION(name, NAME, flops, exps, exact) PG_##NAME,
#include "ir/activation.def"
} PgActivation;

/* How many there are, PG_NO_ACT among them. */
enum {
#define IR_ACTIVATION(name, NAME, flops, exps, exact) +1
    PG_ACTIVATIONS = 1
#include "ir/activation.def"
};

typedef struct PgActivationInfo {
    const char *word;   /* "gelu_tanh"; "" for none */
    double flops, exps; /* of one evaluation (ir/activation.def) */
} PgActivationInfo;

const PgActivationInfo *pg_activation(PgActivation act);

#endif
