/* How an import stores the weights that a spec may choose the dtype of. */
#ifndef MOSSC_IMPORT_DTYPES_H
#define MOSSC_IMPORT_DTYPES_H

#include "frontend/spec.h"
#include "import/plan.h"

typedef enum ImDtype { IM_AS_STORED, IM_TO_F32, IM_TO_BF16, IM_TO_Q8, IM_TO_Q4 } ImDtype;
/* Their words, NULL behind the last. */
extern const char *const im_dtype_words[];

/* The value of the spec's key `weights`, in the arena. `spec` is of `text`, which has no such key. Of each kind of weight the dtype is the one
 * that holds all of its tensors as they are stored, or nearly; exact: without a difference, and inputs of maps in blocks are not rounded either. */
const char *im_weights_of(const ImPlan *plan, FeSpec *spec, const SuText *text, ImDtype dtype, bool exact, SuArena *arena);

#endif
