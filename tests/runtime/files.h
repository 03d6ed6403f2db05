/* Files for tests: a folder that is made and removed again, and safetensors files of given header and data. */
#ifndef TESTS_RUNTIME_FILES_H
#define TESTS_RUNTIME_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/diag.h"

enum { FOLDER_FILES = 8 };

typedef struct Folder {
    char *path, *files[FOLDER_FILES]; /* malloced */
    int n_files;
} Folder;

static inline Folder folder_make(void) {
    Folder folder = {0};
    const char *parent = getenv("TMPDIR");
    assert_true(asprintf(&folder.path, "%s/mossc-test-XXXXXX", parent ? parent : "/tmp") > 0);
    assert_non_null(mkdtemp(folder.path));
    return folder;
}

/* A path in the folder; the file, if it is written, goes with the folder. */
static inline const char *folder_file(Folder *folder, const char *name) {
    assert_true(folder->n_files < FOLDER_FILES);
    char **path = &folder->files[folder->n_files++];
    assert_true(asprintf(path, "%s/%s", folder->path, name) > 0);
    return *path;
}

static inline void folder_remove(Folder *folder) {
    for (int i = 0; i < folder->n_files; i++) {
        unlink(folder->files[i]);
        free(folder->files[i]);
    }
    assert_int_equal(rmdir(folder->path), 0);
    free(folder->path);
}

/* Writes eight bytes of length, the header, the data. */
static inline void write_safetensors(const char *path, const char *header, const void *data, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    uint64_t length = strlen(header);
    fwrite(&length, sizeof length, 1, file);
    fwrite(header, 1, length, file);
    if (size) fwrite(data, 1, size, file);
    assert_int_equal(fclose(file), 0);
}

/* Whether some diagnostic says `words`. */
static inline bool says(const SuDiags *diags, const char *words) {
    for (size_t i = 0; i < diags->count; i++)
        if (strstr(diags->items[i].message, words)) return true;
    for (size_t i = 0; i < diags->count; i++) print_message("instead of '%s': %s\n", words, diags->items[i].message);
    return false;
}

#endif
