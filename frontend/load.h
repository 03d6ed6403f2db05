/* What the parts of fe_spec_load share while one spec is read. */
#ifndef MOSSC_FRONTEND_LOAD_H
#define MOSSC_FRONTEND_LOAD_H

#include "frontend/edit.h"
#include "frontend/keys.h"
#include "frontend/spec.h"
#include "frontend/yaml.h"
#include "support/limits.h"
#include "support/str.h"

enum { FE_MAX_BLOCKS = SU_LIMIT(4096, 8), FE_MAX_DEFINES = SU_LIMIT(4096, 3) };

typedef struct FeLoad {
    FeReader reader;
    FeSpec *spec;
    FeMap *file;           /* the top level, complete */
    const FeMap *defaults; /* or NULL */
    bool d_model_known;    /* else nothing that depends on it is checked */
} FeLoad;

/* set.c: applies "PATH=VALUE" to the tree. */
bool fe_apply_set(const FeReader *reader, FeNode *root, const char *set);
bool fe_apply_edit(const FeReader *reader, FeNode *root, const FeEdit *edit);

/* block.c: one block from its own map (NULL for a bare word), under the defaults. False when something was reported. */
bool fe_build_block(const FeLoad *load, FeBlockKind kind, const FeMap *own, SuSpan span, FeBlock *out_block);

/* weights.c: dtypes of weights from the map of that name, which is complete. fe_settle_weights, when the blocks are known: false where
 * overrides name what no tensor is; what has no effect is neither printed nor hashed afterwards. */
void fe_read_weights(FeSpec *spec, const FeMap *weights);
bool fe_settle_weights(const FeLoad *load);

/* stack.c: reads `define` and `stack`, fills spec->blocks. */
void fe_build_stack(FeLoad *load);

/* canon.c: the text whose hash is FeSpec.hash. The tokenizer's file is there as the spec has it, so that the hash does not
 * depend on where the spec lies. */
void fe_print_canonical(const FeSpec *spec, SuText *out);

/* tensors.c: reports tensors, and their sum, above 2^48 elements. */
bool fe_check_sizes(FeSpec *spec, SuDiags *diags);

#endif
