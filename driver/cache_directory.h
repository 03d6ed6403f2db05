/* The kernel cache that the environment names. */
#ifndef MOSSC_DRIVER_CACHE_DIRECTORY_H
#define MOSSC_DRIVER_CACHE_DIRECTORY_H

#include <stdint.h>

#include "support/arena.h"
#include "support/diag.h"

/* NULL: the environment names none. */
const char *dr_cache_directory(SuArena *arena);
/* Beside it: imported models. NULL: the environment names none. */
const char *dr_model_directory(SuArena *arena);
/* The bound on all entries together. Warns of a $MOSSC_CACHE_SIZE that is none. */
uint64_t dr_cache_most_bytes(SuDiags *diags);
/* The same of imported models, by $MOSSC_MODELS_SIZE. */
uint64_t dr_models_most_bytes(SuDiags *diags);
/* Adds the error that dr_cache_directory gave none; false. */
bool dr_no_cache_directory(SuDiags *diags);

#endif
