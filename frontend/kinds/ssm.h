/* What the kinds of ssm blocks share, between ssm.c (mamba1), mamba2.c and mamba3.c. */
#ifndef MOSSC_FRONTEND_KINDS_SSM_H
#define MOSSC_FRONTEND_KINDS_SSM_H

#include "frontend/kinds.h"

typedef enum FeSsmKind { FE_MAMBA1, FE_MAMBA2, FE_MAMBA3 } FeSsmKind; /* the words of ssm.kind */
typedef enum FeDiscretize { FE_EULER, FE_ZOH } FeDiscretize;     /* of ssm.discretize */
typedef enum FeGatedNorm { FE_GATED_RMS, FE_GATED_NONE } FeGatedNorm; /* of ssm.gated_norm */
typedef enum FeAActivation { FE_A_HEAVY_TAIL, FE_A_SOFTPLUS } FeAActivation; /* of ssm.a_activation */

/* The values of a block that is complete. */
typedef struct FeSsm {
    FeSsmKind kind;
    int64_t d_inner, d_state, d_conv; /* I, N, W */
    bool conv_bias, bias;
    FeActivation activation;
    bool zoh;
    double inner_norm_eps;
    /* mamba1 */
    int64_t dt_rank; /* R */
    bool dt_norm, b_norm, c_norm;
    /* mamba2 and mamba3 */
    int64_t head_dim, n_groups; /* P, G */
    /* mamba2 */
    bool limits_dt;
    double dt_low, dt_high;
    bool gated_norm, norm_before_gate;
    int64_t norm_groups;
    bool d_per_channel;
    /* mamba3 */
    double rope_fraction;
    int64_t mimo_rank; /* 0: none */
    bool a_softplus;   /* else heavy_tail */
    double a_floor;
    bool head_norm;

    const FeMap *experts; /* or NULL */
    bool params;          /* with experts: parameters are mixed; else their outputs are summed, and each has a state */
    FeIdle idle;
} FeSsm;

FeSsm fe_read_ssm(const FeMap *map);
/* Whether each expert has its own of what per_expert calls `part`. */
bool fe_ssm_owns(const FeSsm *s, const char *part);

/* Refuses a value that does not divide `whole`, which `of` names. */
void fe_ssm_check_divides(const FeBuild *b, FeMap *map, FeKey key, int64_t whole, const char *of);
/* head_dim and n_groups. */
void fe_ssm_check_heads(const FeBuild *b, FeMap *map, const FeSsm *s);

/* The convolution's weight and bias, of so many channels. */
void fe_ssm_conv_tensors(FeTensorList *l, const FeSsm *s, int64_t channels);

/* One ssm block in the making. */
typedef struct FeSsmMaking {
    const FeBlock *block;
    FeSsm d;
    FeChosen chosen;
} FeSsmMaking;

/* Whether the experts' `part` is mixed into one. */
bool fe_ssm_mixes(const FeSsmMaking *s, const char *part);

/* Whether each expert has a state of its own. */
bool fe_ssm_keeps_states(const FeSsm *s);
/* A linear of x: with a plane for every expert where each has its own and a state, else the experts' mixed, or the only one. */
IrValueId fe_ssm_linear(FeLower *l, const FeSsmMaking *s, const char *name, bool bias, IrValueId x);
/* s <- a s + b, where the state is that of the block, or one for each expert; returns every row's s. */
IrValueId fe_ssm_recur(FeLower *l, const FeSsmMaking *s, IrValueId a, IrValueId b);

/* Channels [first, first + count) of `of`. */
typedef struct FeSsmChannels {
    int64_t first, count, of;
} FeSsmChannels;

/* act(conv(x)) of a part of the convolution's channels; `what` names the history. planes: x has one for each expert, and each its
 * history. */
IrValueId fe_ssm_conv(FeLower *l, const FeSsmMaking *s, FeSsmChannels part, const char *what, bool planes, IrValueId x);

/* mamba2.c */
void fe_build_mamba2(const FeBuild *b, FeMap *map);
void fe_mamba2_tensors(FeTensorList *l, const FeSsm *s);
IrValueId fe_lower_mamba2(FeLower *l, FeSsmMaking *s, IrValueId u); /* routes by the inner activation where nothing is chosen yet */

/* mamba3.c */
/* R, 1 without MIMO; S, the angles of a head. */
static inline int64_t fe_ssm_ranks(const FeSsm *s) { return s->mimo_rank > 0 ? s->mimo_rank : 1; }
int64_t fe_ssm_pairs(const FeSsm *s);
void fe_build_mamba3(const FeBuild *b, FeMap *map);
uint64_t fe_mamba3_held(const FeSsm *s); /* elements that a sequence keeps besides the recurrence's */
void fe_mamba3_tensors(FeTensorList *l, const FeSsm *s);
IrValueId fe_lower_mamba3(FeLower *l, const FeSsmMaking *s, IrValueId u);

#endif
