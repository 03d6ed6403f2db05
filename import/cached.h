/* Checkpoints that were imported to be used at once: each in a directory of its own within the cache, found again by what it was made of. */
#ifndef MOSSC_IMPORT_CACHED_H
#define MOSSC_IMPORT_CACHED_H

#include <time.h>

#include "import/import.h"

/* Whether a path names a checkpoint of others, by what is there: a directory with config.json and no spec.yaml, or a file that ends in ".gguf". */
bool im_is_checkpoint(const char *path);
/* Whether a path is a directory that mossc import made: one with spec.yaml and model.safetensors. */
bool im_is_imported(const char *path);

/* The directory of what options->input was imported to, in the arena; it is imported first where it is not there: then *out_made is true. The
 * same files, by path, size and time, give the same directory. options->output is not looked at. With options->verify one that was there is
 * held against the checkpoint. It is used until the process ends, so that nobody removes it (su_directory_use). After an import others are
 * removed until all take most_bytes or less. NULL after errors. */
const char *im_cached(const ImOptions *options, uint64_t most_bytes, SuArena *arena, bool *out_made, SuDiags *diags);

/* ---- all that is there (cached_list.c) */

typedef struct ImCached {
    const char *name; /* of its directory: that of the checkpoint and 16 digits */
    uint64_t bytes;
    struct timespec used; /* last */
} ImCached;

typedef struct ImCachedList {
    ImCached *items; /* what was used last stands last */
    size_t count, capacity;
    uint64_t bytes; /* of all */
    SuArena arena;
} ImCachedList;

/* Of the directory of the cache. Removes what killed imports left. */
ImCachedList im_cached_list(const char *directory);
void im_cached_free(ImCachedList *list);
/* Removes what was last used before `before` (of time(); 0: nothing), then what was used least recently until all take most_bytes or
 * less. Whatever somebody uses stays. How many went. */
size_t im_cached_prune(const char *directory, int64_t before, uint64_t most_bytes);

#endif
