/* What an import makes: the spec, block by block, and of which rows of the source each of its tensors consists.
 *
 * Families (families.def) fill a plan; nothing is read meanwhile but headers. A failure is reported, makes the plan failed and leaves
 * what does no harm: families go on, and whoever called them looks at `failed`. */
#ifndef MOSSC_IMPORT_PLAN_H
#define MOSSC_IMPORT_PLAN_H

#include "import/config.h"
#include "import/source.h"
#include "support/str.h"

/* A run of rows of a source tensor. Numbers become factor · number + plus. */
typedef struct ImPiece {
    const ImTensor *from; /* NULL: `rows` numbers 1, times factor */
    uint64_t first, rows;
    float factor;
    const ImTensor *plus; /* a vector of as many numbers, from plus_first on, or NULL */
    uint64_t plus_first;
    ImOrder order; /* within the piece */
} ImPiece;

/* A tensor of the spec: pieces one behind the other. Its shape is the spec's to say. */
typedef struct ImOutput {
    const char *name;
    ImPiece *pieces;
    size_t count, capacity;
} ImOutput;

/* A key of a block and its value as YAML; a block. */
typedef struct ImKey {
    const char *key, *value;
} ImKey;

typedef struct ImPlan ImPlan;
typedef struct ImBlock ImBlock;
struct ImBlock {
    ImPlan *plan;
    const char *kind;      /* "ssm", "parallel" */
    const char *from, *to; /* beginnings of names: "model.layers.3.", "blocks.7." */
    ImKey *keys;
    size_t n_keys, keys_capacity;
    ImBlock **branches; /* of a parallel */
    size_t n_branches, branches_capacity;
};

struct ImPlan {
    ImSource *source;
    SuDiags *diags;
    SuArena arena;
    bool failed;
    int64_t vocab_size; /* set by im_ends */
    bool norm_bias;            /* norms before blocks have one */
    const char *a_activation; /* what mamba3's A passes, or NULL: nobody has said */
    ImKey *keys; /* of the top level */
    size_t n_keys, keys_capacity;
    ImBlock **blocks;
    size_t n_blocks, blocks_capacity;
    ImOutput *outputs;
    size_t n_outputs, outputs_capacity;
    const char **notes; /* what was decided, for the spec's comment */
    size_t n_notes, notes_capacity;
};

/* ---- the spec */

/* A key of the top level; the value is YAML, printf style. */
void im_top(ImPlan *plan, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A block whose source tensors begin with `from`; `norm` is the norm before it, without ".weight". */
ImBlock *im_block(ImPlan *plan, const char *kind, const char *from, const char *norm);
/* A branch of a block of the kind "parallel". */
ImBlock *im_branch(ImBlock *parallel, const char *kind);
void im_key(ImBlock *block, const char *key, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same of a number, in the fewest digits that give it back. */
void im_key_real(ImBlock *block, const char *key, double value);
/* The same, unless the value is what the language has without the key. */
void im_key_unless(ImBlock *block, const char *key, double value, double otherwise);
void im_key_flag(ImBlock *block, const char *key, bool value);
void im_note(ImPlan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
void im_plan_error(ImPlan *plan, const char *file, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- tensors */

/* Takes a tensor, whose name follows printf style. NULL after an error: it is missing. */
const ImTensor *im_take(ImPlan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Whether there is one; does not take it. */
bool im_there(const ImPlan *plan, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same numbers as rows of one: so that any run of them can be a piece. Not of blocks. */
const ImTensor *im_flat(ImPlan *plan, const ImTensor *tensor);
/* Whether a tensor (NULL: one that is missing, which was reported) has so many rows; else an error. */
bool im_has_rows(ImPlan *plan, const ImTensor *tensor, uint64_t rows);

/* Adds to the tensor TO of a block: all rows, some of them, or ones. The piece, for what is special about it, until the next call;
 * never NULL. `from` may be NULL, after an error. */
ImPiece *im_put(ImBlock *block, const char *to, const ImTensor *from);
ImPiece *im_put_rows(ImBlock *block, const char *to, const ImTensor *from, uint64_t first, uint64_t rows);
void im_put_ones(ImBlock *block, const char *to, uint64_t count);
/* Multiplies what was put there so far. */
void im_scale(ImBlock *block, const char *to, double factor);
/* Takes all tensors whose names begin with `prefix`, which nothing is made of, and says so. */
void im_drop(ImPlan *plan, const char *prefix, const char *what);
/* Takes FROM (within the block) and adds it whole. */
void im_move(ImBlock *block, const char *to, const char *from);
/* The same of FROM.weight and, where there is one, FROM.bias. */
void im_linear(ImBlock *block, const char *to, const char *from, bool bias);
/* Takes FROM.weight or FROM.bias of a block. */
const ImTensor *im_take_in(ImBlock *block, const char *from, const char *part);
/* What stands before and behind the blocks; names without ".weight". */
typedef struct ImEnds {
    const char *embed, *norm, *head;
    int tied;           /* 1, 0, or -1: as the tensors have it. A tied head may be stored all the same */
    int64_t vocab_size; /* by the config; rows of padding may follow, */
    int64_t multiple;   /* up to a multiple of this */
    bool norm_bias;     /* of the last norm */
} ImEnds;

/* Takes and puts them; sets vocab_size and tie_embeddings. */
void im_ends(ImPlan *plan, const ImEnds *ends);

/* ---- the end */

/* The spec as YAML; `head` is a comment's text, of lines. */
void im_plan_print(const ImPlan *plan, const char *head, const char *weights, SuText *out);
/* Nothing is put any more: sorts the outputs by name. */
void im_plan_settle(ImPlan *plan);
/* Of a plan that is settled; NULL: there is none of that name. */
const ImOutput *im_plan_find(const ImPlan *plan, const char *name);
void im_plan_free(ImPlan *plan);

#endif
