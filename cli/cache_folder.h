/* The kernel cache that the environment names. */
#ifndef MOSSC_CLI_CACHE_FOLDER_H
#define MOSSC_CLI_CACHE_FOLDER_H

#include <stdint.h>

#include "support/arena.h"
#include "support/diag.h"

#define CLI_ABOUT_CACHE                                                                                                            \
    "Compiled kernels are kept in $MOSSC_CACHE_DIR, else $XDG_CACHE_HOME/mossc/kernels, else ~/.cache/mossc/kernels, up to "       \
    "$MOSSC_CACHE_SIZE MiB (default 64); what was used least recently goes first."

/* NULL: the environment names none. */
const char *cli_cache_folder(SuArena *arena);
/* The bound on all entries together. Warns of a $MOSSC_CACHE_SIZE that is none. */
uint64_t cli_cache_most_bytes(SuDiags *diags);
/* Adds the error that cli_cache_folder gave none; false. */
bool cli_cache_no_folder(SuDiags *diags);

#endif
