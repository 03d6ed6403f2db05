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

/* A file that appears under its name only when complete: written to a temporary name beside it, synced, renamed.
 * su_out_commit or su_out_abort must be called; a crash leaves at most the temporary, never a half-written `path`. */
typedef struct SuOut {
    FILE *file;
    char *path, *temporary; /* malloced */
} SuOut;

/* From now on SIGINT, SIGTERM and SIGHUP, unless they are ignored, remove the temporary being written before they end the process. */
void su_out_clean_on_signals(void);
bool su_out_open(const char *path, SuOut *out, SuDiags *diags);
bool su_out_commit(SuOut *out, SuDiags *diags);
void su_out_abort(SuOut *out);

#endif
