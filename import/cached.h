/* Checkpoints that were imported to be used at once: each in a directory of its own within the cache, found again by what it was made of. */
#ifndef MOSSC_IMPORT_CACHED_H
#define MOSSC_IMPORT_CACHED_H

#include "import/import.h"

/* Whether a path names a checkpoint of others, by what is there: a directory with config.json and no spec.yaml, or a file that ends in ".gguf". */
bool im_is_checkpoint(const char *path);
/* Whether a path is a directory that mossc import made: one with spec.yaml and model.safetensors. */
bool im_is_imported(const char *path);

/* The directory of what options->input was imported to, in the arena; it is imported first where it is not there: then *out_made is true. The
 * same files, by path, size and time, give the same directory. options->output is not looked at. NULL after errors. */
const char *im_cached(const ImOptions *options, SuArena *arena, bool *out_made, SuDiags *diags);

#endif
