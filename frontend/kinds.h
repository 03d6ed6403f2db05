/* What a kind of block is, and what its file has to work with: building, listing tensors, lowering.
 *
 * A kind is a row of kinds.def, a section of keys.def and a file of kinds/. The rest of the front end goes through the table
 * below and knows no kind by name. Functions here call each other for a block inside another one: tensors and states get
 * their names from a prefix ("blocks.3."), which the caller sets. */
#ifndef MOSSC_FRONTEND_KINDS_H
#define MOSSC_FRONTEND_KINDS_H

#include "frontend/load.h"
#include "frontend/lower.h"

/* ---- building: one block from its own map under the defaults (block.c, router.c) ---- */

typedef struct FeBuild {
    const FeLoad *load;
    SuArena *arena;
    SuSpan span; /* of the block */
    FeBlock *out;
} FeBuild;

#define KEY(section, key) FE_KEY_##section##_##key

/* A value that does not fit; where it came from defaults, a note names the block. */
void fe_refuse(const FeBuild *b, const FeValue *value, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* What was written where it has no meaning: the key itself is wrong, not its value. */
void fe_misplaced(const FeBuild *b, const FeValue *value, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The note of a message about a value that came from defaults: which block uses it. NULL for one that was written. */
const char *fe_used_by(const FeBuild *b, const FeValue *value);

/* An inner width: given outright, or expand * d_model, which must be whole exactly. Afterwards it is given outright. */
int64_t fe_width(const FeBuild *b, FeMap *map, FeKey outright, FeKey expand);

/* The experts' map, complete, or NULL when the block has none. A router beside none is dropped or refused. */
FeMap *fe_block_experts(const FeBuild *b, FeMap *map, FeKey experts, FeKey router);
/* Fills out->router from the block's own router under the defaults; `map` has the complete one afterwards, which is returned.
 * `inner`: the block has an inner activation to route by. */
const FeMap *fe_build_router(const FeBuild *b, FeMap *map, FeKey router, const FeMap *experts, FeKey count, bool inner);

/* ---- a block with the weights of another one (share.c) ---- */

/* Whether the share has a tensor of its own in place of the other block's: "conv.weight". */
bool fe_share_owns(const FeShare *share, const char *tensor);
/* Whether the share adds an adapter to that map. */
bool fe_share_adapts(const FeShare *share, const char *map);
/* Takes over what is said of the other block, which is complete, and checks `own` and `targets` against its tensors. */
void fe_fill_share(const FeLoad *load, FeBlock *block, const FeBlock *other);
/* "shares lower, rank 8" */
void fe_describe_share(const FeShare *share, SuText *out);

/* ---- tensors of a checkpoint (tensors.c) ---- */

typedef struct FeTensorList {
    FeSpec *spec;
    FeTensor *items;
    size_t count, capacity;
    double deep; /* 1/sqrt(number of blocks): scales what is added to the residual */
    /* The block that is being listed. */
    const FeBlock *block;
    int64_t index;
    const char *prefix; /* of its tensors' names; "" outside the blocks */
} FeTensorList;

FeTensor *fe_add_tensor(FeTensorList *l, const char *name, const int64_t *shape, int rank);
/* A tensor of the block; with a leading dimension E when each expert has its own. rows 0: one dimension only. */
FeTensor *fe_add_part(FeTensorList *l, const char *name, bool per_expert, int64_t rows, int64_t columns);
/* weight [rows, columns] of a *_proj and its bias [rows], which is the next tensor. Returns the weight. */
FeTensor *fe_add_linear(FeTensorList *l, const char *name, bool per_expert, int64_t rows, int64_t columns, bool bias);
/* Says which of the weights of weights.def it is, and so how it is stored. */
void fe_name_weight(const FeTensorList *l, FeTensor *t, const char *map);
FeWeight fe_find_weight(const char *map);
void fe_add_norm(FeTensorList *l, const char *name, FeNormKind kind, int64_t width);
/* The tensors of the block's router, where it has experts; `width` of what it routes by. */
void fe_add_router(FeTensorList *l, int64_t width);
void fe_draw_uniform(FeTensor *t, int64_t fan);
/* All tensors. */
FeTensorList fe_list_tensors(FeSpec *spec);
/* The tensors of a block that is no parallel and no share, but for its norms outside: by their names in the block. */
FeTensorList fe_list_parts(FeSpec *spec, const FeBlock *block);

/* ---- lowering: one operation per operator of the language's equations (lower.c) ---- */

typedef struct FeLower {
    FeSpec *spec;
    IrBuilder b;
    const FeTensor *tensors;
    IrValueId *weights; /* [n_tensors] */
    size_t n_tensors;
    size_t *firsts;     /* [n_blocks]: the first tensor of each */
    size_t first;       /* tensor of the block being lowered */
    const char *prefix; /* of the names of its tensors and states; "" outside the blocks */
    const FeShare *share; /* what is being lowered has its weights from another block; else NULL */
} FeLower;

/* What a router gives to the rest of its block. */
typedef struct FeChosen {
    IrValueId experts; /* i32[R,k]: expert indices */
    IrValueId gates;   /* f32[R,k]: combine weights */
} FeChosen;

IrValueId fe_op1(FeLower *l, IrOp op, IrValueId x);
IrValueId fe_op2(FeLower *l, IrOp op, IrValueId x, IrValueId y);
IrValueId fe_op3(FeLower *l, IrOp op, IrValueId x, IrValueId y, IrValueId z);
IrValueId fe_inject(FeLower *l, IrValueId v, IrValueId B, int64_t groups);
IrValueId fe_contract(FeLower *l, IrValueId states, IrValueId C, int64_t groups);
IrValueId fe_repeat(FeLower *l, IrValueId x, int64_t times);
IrValueId fe_repeat_runs(FeLower *l, IrValueId x, int64_t run, int64_t times);
IrValueId fe_take(FeLower *l, IrValueId w, int64_t dim, int64_t start, int64_t count);
IrValueId fe_slice(FeLower *l, IrValueId x, int64_t start, int64_t count);
/* The weight `part` ("x_proj.weight") of the block in hand, or a tensor outside the blocks by its whole name. */
IrValueId fe_weight(FeLower *l, const char *part);
IrValueId fe_state(FeLower *l, const char *what, IrType type);
/* A gated kind stands for what its gate goes through. */
IrValueId fe_activation(FeLower *l, FeActivation kind, IrValueId x);
bool fe_is_gated(FeActivation kind);
/* Every one of `runs` equal runs of x by itself; w is as long as x, or as a run. */
IrValueId fe_rms_norm(FeLower *l, double eps, int64_t runs, IrValueId w, IrValueId x);
IrValueId fe_scale(FeLower *l, IrValueId x, double factor);
IrValueId fe_clamp(FeLower *l, double low, double high, IrValueId x); /* high may be DBL_MAX: no limit */
IrValueId fe_norm(FeLower *l, FeNorm kind, const char *name, IrValueId x);
/* W x (+ b) with one matrix; x may have planes. */
IrValueId fe_linear(FeLower *l, const char *name, bool bias, IrValueId x);
/* W_e x (+ b_e) for every expert: [R,E,O]. */
IrValueId fe_linear_all(FeLower *l, const char *name, bool bias, IrValueId x);
/* One whose weights are mixed by the gates where `mixed`, else a plain one. */
IrValueId fe_linear_mixed(FeLower *l, const char *name, bool bias, bool mixed, FeChosen chosen, IrValueId x);
/* The convolution of x [R,width] with w, whose state is named `history`; without a bias. */
IrValueId fe_conv(FeLower *l, const char *history, int64_t width, int64_t taps, IrValueId w, IrValueId x);
FeChosen fe_router(FeLower *l, const FeRouter *router, IrValueId input);

/* ---- the table ---- */

/* The keys that every block has. */
typedef struct FeEnds {
    FeKey input_scale, output_scale, out_norm;
} FeEnds;
#define FE_ENDS(section) {KEY(section, input_scale), KEY(section, output_scale), KEY(section, out_norm)}
/* Their values, of a map that is complete. */
void fe_set_ends(FeBlock *block, const FeMap *map, const FeEnds *ends);

typedef struct FeKind {
    /* Completes the block's map by what follows from other values, checks the rules that tie keys to each other, and fills what
     * FeBlock says of every kind. */
    void (*build)(const FeBuild *b, FeMap *map);
    /* Its tensors, but for the norm before it. */
    void (*tensors)(FeTensorList *l, const FeBlock *block);
    /* f(u) of x + f(norm(x)). */
    IrValueId (*lower)(FeLower *l, const FeBlock *block, IrValueId u);
    /* What is special about it: "8 experts, top 2, outputs"; nothing where nothing is. */
    void (*describe)(const FeBlock *block, SuText *out);
} FeKind;

#define FE_KIND(id, word, what) extern const FeKind fe_kind_##word;
#include "frontend/kinds.def"

typedef struct FeKindRow {
    const char *word;
    FeSection section; /* of its keys */
    FeKey defaults, entry; /* where a map of them may stand */
    FeEnds ends;
    const FeKind *kind;
} FeKindRow;

const FeKindRow *fe_kind_row(FeBlockKind kind);
/* The kind of that word; false for a word that is none. */
bool fe_find_kind(const char *word, FeBlockKind *out_kind);
/* "ssm, mlp and attention", for messages: `last` stands before the last word. */
const char *fe_kind_words(SuArena *arena, const char *last);

#endif
