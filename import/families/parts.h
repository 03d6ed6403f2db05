/* What families are made of: the mixers and feed-forward parts that several of them share. Widths are those of the config; that tensors
 * have them is seen when the spec is held against them (write.h). Names of tensors are within the block. */
#ifndef MOSSC_IMPORT_FAMILIES_PARTS_H
#define MOSSC_IMPORT_FAMILIES_PARTS_H

#include "import/plan.h"

/* ---- the top level */

/* hidden_size, eps of all norms, max_position_embeddings where it is there. */
void im_begin(ImConfig *c, ImPlan *plan, const char *hidden_size, const char *eps_key, double eps);
/* num_hidden_layers, at most what a spec can have; the loop over them ends early once the plan has failed. */
int64_t im_layers(ImConfig *c, const char *key);
/* tie_word_embeddings: 1, 0, or -1: the key is missing. */
int im_tied(ImConfig *c, const char *key);
/* vocab_size and im_ends, for families of transformers. */
void im_finish(ImConfig *c, ImPlan *plan, const char *embed, const char *norm);
/* A key that says again what is known. */
void im_same(ImConfig *c, const char *key, int64_t value);
/* The word of an activation, which the config names as PyTorch does; NULL after an error. */
const char *im_activation(ImConfig *c, const char *key, bool gated);
/* What configs call one of ours, or NULL: none does. */
const char *im_activation_of(const char *ours, bool gated);
/* Kinds of layers by name: item i of a list of texts. "": after an error, or where the list is missing. */
const char *im_layer_type(ImConfig *c, const char *key, int64_t layer);
/* Whether a layer of this kind, in the words of either version of transformers, is attention; another than a mixer is an error. */
bool im_is_attention(ImConfig *c, const char *key, const char *type);
/* Whether a list (or NULL) holds a number. */
bool im_is_listed(const cJSON *list, int64_t number);
/* "model.layers.3." */
const char *im_layer_name(ImPlan *plan, int64_t layer);

/* ---- attention */

typedef struct ImAttention {
    const char *at; /* "self_attn." */
    int64_t heads, kv_heads, head_dim, window; /* window 0: none */
    bool bias, qkv_bias;
    const char *rope; /* its map as YAML, or NULL */
    double scale, clip; /* 0: the default, none */
    const char *out; /* "o_proj" */
    const char *norms; /* "q_norm" (k_norm goes with it), or NULL */
    bool full_norm; /* over all heads */
} ImAttention;

/* num_attention_heads, num_key_value_heads and head_dim of a config, under at "self_attn.", out "o_proj". */
ImAttention im_attention_of(ImConfig *c);
/* RoPE of a config in either spelling. dim: how many components turn; 0: as partial_rotary_factor says, else all. theta: the family's, where
 * the config has none. */
const char *im_rope_of(ImConfig *c, ImPlan *plan, int64_t head_dim, int64_t dim, double theta);
void im_attention(ImBlock *block, const ImAttention *a);

/* ---- feed-forward parts */

typedef struct ImMlp {
    const char *at; /* "mlp." */
    const char *gate, *up, *down; /* names; gate NULL: not gated */
    const char *activation; /* a word of the language */
    int64_t width;
    bool bias;
} ImMlp;

/* gate_proj, up_proj, down_proj of width intermediate_size. */
ImMlp im_gated(ImConfig *c, const char *at, const char *activation_key);
void im_mlp(ImBlock *block, const ImMlp *m);

typedef struct ImMoe {
    const char *at, *router, *experts; /* "mlp.", "gate", "experts" */
    const char *gate, *up, *down, *activation;
    int64_t count, top_k, width;
    bool normalize;
    const char *router_keys; /* ", score: sigmoid", or "" */
    const char *expert_keys; /* ", latent: 64", or "" */
    const ImMlp *shared; /* a shared expert's tensors, within `at`, or NULL */
    bool shared_gate; /* shared_expert_gate */
} ImMoe;

void im_moe(ImBlock *block, const ImMoe *m);

/* ---- state-space mixers */

typedef enum ImInner { IM_NO_INNER_NORMS, IM_INNER_NORMS, IM_PLAIN_INNER_NORMS } ImInner; /* plain: without weights */

typedef struct ImMamba1 {
    const char *at; /* "mixer." */
    int64_t inner, state, conv, rank;
    bool bias, conv_bias;
    const char *activation; /* NULL: silu */
    ImInner norms; /* of δ, B and C */
    double norms_eps; /* 0: that of the blocks */
} ImMamba1;

/* in_proj's rows are x, then the gate. */
void im_mamba1(ImBlock *block, const ImMamba1 *m);

typedef struct ImMamba2 {
    const char *at;
    int64_t heads, head_dim, groups, state, conv;
    bool bias, conv_bias;
    const char *activation;
    double limit[2]; /* of the time step; 0 and infinity: none */
    const double *multipliers; /* [5] of gate, x, B, C, δ; or NULL */
    bool gated_norm, norm_before_gate;
} ImMamba2;

/* By the keys of bamba, granitemoehybrid and falcon_h1. */
ImMamba2 im_mamba2_of(ImConfig *c);
/* in_proj's rows are gate, x, B, C, δ. */
void im_mamba2(ImBlock *block, const ImMamba2 *m);
typedef struct ImMamba3 {
    const char *at;
    int64_t heads, head_dim, groups, state, rank; /* rank 0: one input and output of a head */
    double rope_fraction, a_floor;
    const char *a_activation;
    bool head_norm;
} ImMamba3;

/* in_proj's rows are z, x, B, C, δ, A, trap, angles. */
void im_mamba3(ImBlock *block, const ImMamba3 *m);
/* time_step_limit or another key of a pair of numbers. */
void im_limit_of(ImConfig *c, const char *key, double limit[2]);

#endif
