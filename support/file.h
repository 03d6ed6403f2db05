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

/* The path of a file that the file `path` names, relative to its own directory: files that belong together move together. */
const char *su_beside(SuArena *arena, const char *path, const char *file);

/* What errno says of a file, in words. */
const char *su_file_error(int error);

/* How an output is written. */
typedef enum SuOutWay {
    SU_OUT_REPLACE,  /* beside its place, then renamed */
    SU_OUT_IN_PLACE, /* a file that cannot be replaced: a warning said so */
    SU_OUT_STREAM    /* standard output, a pipe, a device: as it comes */
} SuOutWay;

/* A file that appears under its name only when complete: written to a temporary name beside it, synced, renamed, and its directory
 * synced, so that once it is committed a crash of the machine does not take it back. It keeps the mode, and where this process may give it the owner, of the file that it replaces; of a symbolic link the target is replaced. Where
 * nothing can be renamed (a mounted file, a directory that may not be written) the file is written in place. "-" is standard
 * output, which like pipes and devices is written as it comes.
 *
 * su_out_commit or su_out_abort must be called; a crash leaves at most the temporary, never a half-written `path` (unless it is
 * written in place), and whoever writes the same file next removes it. What fails while `file` is written to need not be looked
 * at: su_out_commit reports it. */
typedef struct SuOut {
    FILE *file;
    SuOutWay way;
    char *path; /* malloced, like those below; as the caller wrote it, for messages */
    char *target; /* the file itself, past symbolic links; NULL for a descriptor */
    char *temporary; /* with SU_OUT_REPLACE */
    SuCleanup cleanup; /* aborts it when a guard is ended (support/alloc.h): a SuOut that is open stays where it is */
} SuOut;

/* From now on SIGINT, SIGTERM and SIGHUP, and SIGBUS (a mapped file became shorter), unless they are ignored, remove the temporary being written before they end the process. */
void su_out_clean_on_signals(void);
/* What they call after that, in a signal handler; NULL: nothing. */
typedef void (*SuClean)(void);
void su_out_also_clean(SuClean clean);
/* Adds a warning when the file is to be written in place. */
bool su_out_open(const char *path, SuOut *out, SuDiags *diags);
/* Whether su_out_open would succeed; nothing is left behind. For commands, before work that ends with writing. NULL: true. */
bool su_out_check(const char *path, SuDiags *diags);
/* Whether `file` is a regular one, which can be mapped and written in any order. */
bool su_out_can_map(const SuOut *out);
bool su_out_commit(SuOut *out, SuDiags *diags);
/* Opens, writes `size` bytes, commits. */
bool su_out_write(const char *path, const void *data, size_t size, SuDiags *diags);
/* Without syncing: a crash of the machine may leave `path` empty or cut. For files that readers check and that can be made again. */
bool su_out_commit_unsynced(SuOut *out, SuDiags *diags);
void su_out_abort(SuOut *out);
/* After a rename to `path`: makes it last. 0, or errno; a directory that cannot be synced (it may not be read, its file system does
 * not do that) is none. */
int su_sync_directory_of(const char *path);
/* Removes the file `name` of a directory if what follows the first `size` characters says that it is a temporary of SuOut, and the
 * process that wrote it is gone. */
void su_out_remove_stale(int directory, const char *name, size_t size);

#endif
