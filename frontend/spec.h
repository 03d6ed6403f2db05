/* Spec: a model as the language describes it, checked and complete (docs/language.md).
 *
 * fe_spec_load reads YAML, applies --set overrides and defaults, enforces every rule of the language and flattens the stack.
 * After it returns true, every field below is filled and consistent; nobody downstream checks again. Device-free. */
#ifndef MOSSC_FRONTEND_SPEC_H
#define MOSSC_FRONTEND_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "ir/dtype.h"
#include "mossc/moss.h"
#include "support/diag.h"
#include "support/str.h"

typedef enum FeBlockKind {
#define FE_KIND(id, word, what) FE_##id,
#include "frontend/kinds.def"
} FeBlockKind;
enum {
#define FE_KIND(id, word, what) +1
    FE_N_KINDS = 0
#include "frontend/kinds.def"
};
typedef enum FeNormKind { FE_NORM_RMS, FE_NORM_LAYER } FeNormKind;
typedef enum FeScore { FE_SOFTMAX, FE_SIGMOID } FeScore;
typedef enum FeCombine { FE_OUTPUTS, FE_PARAMS } FeCombine;
typedef enum FeIdle { FE_HOLD, FE_UPDATE } FeIdle;
typedef enum FeRouterInput { FE_ROUTER_BLOCK, FE_ROUTER_INNER } FeRouterInput;
typedef enum FeQkNorm { FE_QK_NORM_NONE, FE_QK_NORM_HEAD, FE_QK_NORM_FULL } FeQkNorm;
typedef enum FePairing { FE_HALF, FE_INTERLEAVED } FePairing;
typedef enum FeRopeScaling { FE_LINEAR, FE_LLAMA3 } FeRopeScaling;
typedef enum FeTokenizerKind { FE_TOKENIZER_BYTES, FE_TOKENIZER_BPE } FeTokenizerKind;
/* The words of `activation`; the gated ones, which stand last, occur only in mlp. */
typedef enum FeActivation {
#define IR_PLAIN_WORD(word, WORD, name) FE_##WORD,
#include "ir/activation.def"
#define IR_GATED_WORD(word, WORD, name) FE_##WORD,
#include "ir/activation.def"
} FeActivation;

typedef struct FeNorm {
    FeNormKind kind;
    double eps;
} FeNorm;

typedef struct FeRouter {
    int64_t top_k;
    FeScore score;
    bool normalize, select_bias, bias;
    double scale;
    FeRouterInput input;
    int64_t groups, top_groups; /* equal runs of experts, and how many of them may be chosen from; 1 and 1: all may */
} FeRouter;

/* count == 0: the block has no experts, the other field is then meaningless. */
typedef struct FeExperts {
    int64_t count; /* E */
    int64_t busy;  /* of them, that a token uses */
} FeExperts;

typedef struct FeMap FeMap; /* keys.h: a map of the language, complete, by the table of keys */

typedef struct FeBlock FeBlock;

/* What a block has of another one. */
typedef struct FeShare {
    const FeMap *map; /* every value of the share */
    const char *name; /* of the other block */
    int64_t of;       /* its number */
    int64_t rank;     /* of the adapters; 0: there are none */
} FeShare;

struct FeBlock {
    FeBlockKind kind; /* without meaning in a parallel, as is map */
    const FeMap *map; /* every value of the block; of a share: of the other block */
    const FeShare *share;    /* or NULL */
    const FeBlock *branches; /* [n_branches], of a parallel */
    int64_t n_branches;      /* 0: it is none */
    bool shared;             /* some share repeats it */
    const char *name; /* as given in the file, or NULL */
    const char *path; /* "stack[0].blocks[1]" : where it was written, after the language's rule for paths */
    SuSpan span;      /* the line of the block's kind or word in the stack */
    FeExperts experts;
    FeRouter router; /* meaningful when experts.count > 0 */
    bool knows_order;        /* the order of tokens matters to it */
    bool looks_back;         /* on earlier positions, by a cache: as many as window says, 0: on all */
    int64_t window;
    uint64_t state_elements; /* of a sequence, at most; UINT64_MAX: too many to count */
    double input_scale, output_scale; /* output_scale · out_norm(f(input_scale · u)) */
    bool out_norm;                    /* rms; else there is none */
};

typedef struct FeToken {
    int64_t id;       /* -1: none, or given by its text */
    const char *text; /* resolved by the tokenizer, or NULL */
    SuSpan span;
} FeToken;

typedef struct FeTokenizer {
    FeTokenizerKind kind;
    const char *file;     /* bpe: path, already relative to the working directory; else NULL */
    FeToken bos;
    const FeToken *eos; /* [n_eos], at most MOSS_MAX_ENDS, none twice */
    int64_t n_eos;
} FeTokenizer;

/* The weights whose dtype a spec chooses, by the names of weights.overrides. */
typedef enum FeWeight {
#define FE_WEIGHT(name, q8, q4, help) FE_WEIGHT_##name,
#include "frontend/weights.def"
    FE_N_WEIGHTS
} FeWeight;

typedef struct FeWeights {
    IrDtype dtype;
    IrDtype of[FE_N_WEIGHTS]; /* of each: by dtype, or by overrides */
    IrDtype adapters;
    bool rounds; /* the input of a q8 or q4 map is rounded to 8 bits */
} FeWeights;

typedef struct FeSpec {
    SuArena arena; /* owns everything below, the source text too */
    const SuSource *source;
    const FeMap *map; /* every value of the top level */
    const char *name;
    int64_t vocab_size, d_model; /* V, D */
    FeNorm norm, final_norm;
    bool tie_embeddings;
    double embedding_scale, logit_scale;
    FeWeights weights;
    FeTokenizer tokenizer;
    int64_t max_positions;
    SuSpan span; /* of the file's first key */
    SuSpan embed_span, head_span, final_norm_span; /* of their keys where given, else of the first key */
    FeBlock *blocks;
    int64_t n_blocks;
    uint8_t hash[16]; /* XXH3-128 of a canonical text of all of the above (names, comments and spans excluded) */
    const struct FeTensor *tensors; /* [n_tensors] of fe_tensors, once they were asked for */
    size_t n_tensors;
} FeSpec;

/* Reads and checks one spec. path "-" is standard input. sets: n_sets strings "PATH=VALUE" (value is YAML).
 * false: errors are in diags (warnings may be there in either case). The spec must be freed either way. */
bool fe_spec_load(const char *path, const char *const *sets, size_t n_sets, FeSpec *out_spec, SuDiags *diags);
/* The same from memory; `name` stands for the path in messages and is the base for relative files. */
bool fe_spec_parse(const char *name, const char *text, size_t size, const char *const *sets, size_t n_sets, FeSpec *out_spec,
                   SuDiags *diags);
void fe_spec_free(FeSpec *spec);

/* The most tokens that a sequence may have: max_positions where some attention has no window, else 0: no bound. */
int64_t fe_position_bound(const FeSpec *spec);

/* The spec as YAML with every value written out; it reads back as a spec of the same hash. */
void fe_print_spec(const FeSpec *spec, SuText *out);
/* The same as JSON: one object with the keys of the language (a token that is none is left out). As YAML it reads back too. */
void fe_print_spec_json(const FeSpec *spec, SuText *out);

/* The text whose digest is FeSpec.hash, in pieces that make it when they follow each other: so that specs that differ in their blocks
 * alone share what is said of the rest. Each piece of a share names the other block by its number in the stack. */
typedef struct FeCanonical {
    SuText before, after;
    SuText *blocks; /* [n_blocks], the caller's */
} FeCanonical;
void fe_print_canonical_pieces(const FeSpec *spec, FeCanonical *out);

/* The table of keys, rendered: `mossc help keys` and `mossc schema` (JSON Schema, draft 2020-12). */
void fe_print_keys(SuText *out);
bool fe_print_schema(SuText *out); /* false: out of memory */

/* Words of the enums above as the language spells them ("silu", "bf16", "outputs"…). */
const char *fe_block_kind_word(FeBlockKind kind);
/* "ssm"; "parallel". Of a share, the word of the other block. */
const char *fe_block_word(const FeBlock *block);
/* What is special about a block: "8 experts, top 2, outputs", "window 512"; adds nothing where nothing is. */
void fe_describe_block(const FeBlock *block, SuText *out);

/* The tensors of a checkpoint, in block order, as the language's Weights table says. */
typedef struct FeTensor {
    const char *name; /* "blocks.3.x_proj.weight" */
    int rank;
    int64_t shape[4];
    IrDtype dtype; /* its values are rounded to it; all but embed, head and linear weights: float32 */
    int64_t block; /* -1: outside the blocks */
    const char *map; /* what weights.overrides calls it: "in_proj", "shared_up_proj", "embed"; NULL: its dtype is not chosen */
    bool per_expert; /* the leading dimension is E */
    bool neg_exp; /* loading makes -exp(x) of its elements */
    SuSpan span; /* the spec line that asks for it */
    enum FeInit { /* how `mossc init` draws it */
                  FE_INIT_UNIFORM_FAN, /* U(±1/sqrt(fan)) */
                  FE_INIT_NORMAL, /* N(0, 0.02) */
                  FE_INIT_ONES,
                  FE_INIT_ZEROS,
                  FE_INIT_DT_BIAS,
                  FE_INIT_A_LOG,
                  FE_INIT_LOG_UNIFORM /* log U(1, 16) */
    } init;
    int64_t fan; /* FE_INIT_UNIFORM_FAN */
    double init_scale; /* then multiplied by this (1/sqrt(number of blocks) for out_proj, down_proj, o_proj) */
    int64_t active; /* elements active per token */
} FeTensor;

/* The word of share.own under which a share has such a tensor of its own, told by its name without "blocks.3."; "": none. */
const char *fe_owned_word(const char *tensor);

/* All tensors, of a spec that changes no more; the array is allocated in spec->arena, once. Sizes above 2^48 elements were refused by fe_spec_load. */
const FeTensor *fe_tensors(FeSpec *spec, size_t *out_count);

#endif
