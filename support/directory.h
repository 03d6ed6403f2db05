/* Writing a folder whole or not at all: it is filled under a temporary name beside its own, synced and renamed. */
#ifndef MOSSC_SUPPORT_DIRECTORY_H
#define MOSSC_SUPPORT_DIRECTORY_H

#include "support/diag.h"

enum { SU_FOLDER_MOST = 256 }; /* files and folders in it */

/* su_folder_commit or su_folder_abort must be called; a signal that ends the process removes what is there by then, and kill -9
 * leaves at most the temporary. One at a time. */
typedef struct SuFolder {
    char *path, *temporary;
    char *made[SU_FOLDER_MOST]; /* paths, in the order in which they were made */
    size_t n_made;
    SuArena arena;
} SuFolder;

/* `path` must not exist, or be an empty folder. */
bool su_folder_open(const char *path, SuFolder *out, SuDiags *diags);
/* The path at which to write the file NAME of the folder ("a/b.c": with the folders it needs); the arena's. NULL after an error. */
const char *su_folder_file(SuFolder *folder, const char *name, SuDiags *diags);
/* Writes a whole file. */
bool su_folder_write(SuFolder *folder, const char *name, const void *data, size_t size, SuDiags *diags);
/* What was to be made at this path is not made after all. */
void su_folder_forget(SuFolder *folder, const char *path);
bool su_folder_commit(SuFolder *folder, SuDiags *diags);
/* Messages that name the temporary are made to name the folder. */
void su_folder_abort(SuFolder *folder, SuDiags *diags);

#endif
