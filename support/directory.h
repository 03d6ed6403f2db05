/* Writing a directory whole or not at all: it is filled under a temporary name beside its own, synced and renamed. */
#ifndef MOSSC_SUPPORT_DIRECTORY_H
#define MOSSC_SUPPORT_DIRECTORY_H

#include "support/diag.h"

enum { SU_DIRECTORY_MOST = 256 }; /* files and directories in it */

/* su_directory_commit or su_directory_abort must be called; a signal that ends the process removes what is there by then, and kill -9
 * leaves at most the temporary, which whoever writes the same directory next removes. One at a time. */
typedef struct SuDirectory {
    char *path, *temporary;
    char *made[SU_DIRECTORY_MOST]; /* paths, in the order in which they were made */
    size_t n_made;
    int lock; /* the temporary itself, which is locked as long as somebody fills it */
    SuArena arena;
    SuCleanup cleanup; /* removes all when a guard is ended (support/alloc.h): a SuDirectory that is open stays where it is */
} SuDirectory;

/* `path` must not exist, or be an empty directory. */
bool su_directory_open(const char *path, SuDirectory *out, SuDiags *diags);
/* The path at which to write the file NAME of the directory ("a/b.c": with the directories it needs); the arena's. NULL after an error. */
const char *su_directory_file(SuDirectory *directory, const char *name, SuDiags *diags);
/* Writes a whole file. */
bool su_directory_write(SuDirectory *directory, const char *name, const void *data, size_t size, SuDiags *diags);
/* What was to be made at this path is not made after all. */
void su_directory_forget(SuDirectory *directory, const char *path);
bool su_directory_commit(SuDirectory *directory, SuDiags *diags);
/* Messages that name the temporary are made to name the directory. */
void su_directory_abort(SuDirectory *directory, SuDiags *diags);

/* ---- directories that processes share: made whole, then only read or removed, never while somebody uses them */

/* Says that a directory is used, until the process ends; waits for whoever removes it. One that is used already stays so, with the one
 * descriptor that it has. false: it is not there, or not any more. Where the file system has no locks, nothing is ever removed either.
 * Any thread. */
bool su_directory_use(const char *path);
/* Marks one as used now, by its modification time. */
void su_directory_touch(const char *path);
/* Removes one with all that is in it, unless somebody uses it: then false. */
bool su_directory_remove(const char *path);
/* Removes what processes that were killed left in a directory of such directories. */
void su_directory_remove_stale(const char *parent);

#endif
