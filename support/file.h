/* Files: mapping what is read, writing whole or not at all. */
#ifndef MOSSC_SUPPORT_FILE_H
#define MOSSC_SUPPORT_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "support/diag.h"

/* A read-only mapping of a whole regular file. */
typedef struct SuMap {
    const uint8_t *data; /* NULL when size is 0 */
    size_t size;
} SuMap;

bool su_map_open(const char *path, SuMap *out_map, SuDiags *diags);
void su_map_close(SuMap *map);
/* Whole file (or "-" for standard input) into the arena, at most `limit` bytes, NUL added behind. */
bool su_read_file(SuArena *arena, const char *path, size_t limit, char **out_text, size_t *out_size, SuDiags *diags);

/* What errno says of a file, in words. */
const char *su_file_error(int error);

/* A file that appears under its name only when complete: written to a temporary name beside it, synced, renamed.
 * su_out_commit or su_out_abort must be called; a crash leaves at most the temporary, never a half-written `path`, and whoever
 * writes the same file next removes it. What fails while `file` is written to need not be looked at: su_out_commit reports it. */
typedef struct SuOut {
    FILE *file;
    char *path, *temporary; /* malloced */
} SuOut;

/* From now on SIGINT, SIGTERM and SIGHUP, unless they are ignored, remove the temporary being written before they end the process. */
void su_out_clean_on_signals(void);
/* What they call after that, in a signal handler; NULL: nothing. */
typedef void (*SuClean)(void);
void su_out_also_clean(SuClean clean);
bool su_out_open(const char *path, SuOut *out, SuDiags *diags);
bool su_out_commit(SuOut *out, SuDiags *diags);
/* Without syncing: a crash of the machine may leave `path` empty or cut. For files that readers check and that can be made again. */
bool su_out_commit_unsynced(SuOut *out, SuDiags *diags);
void su_out_abort(SuOut *out);
/* Removes the file `name` of a folder if what follows the first `size` characters says that it is a temporary of SuOut, and the
 * process that wrote it is gone. */
void su_out_remove_stale(int folder, const char *name, size_t size);

#endif
