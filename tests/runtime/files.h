/* Files for tests: a directory that is made and removed again, and safetensors files of given header and data. */
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

enum { DIRECTORY_FILES = 8 };

typedef struct Directory {
    char *path, *files[DIRECTORY_FILES]; /* malloced */
    int n_files;
} Directory;

static inline Directory directory_make(void) {
    Directory directory = {0};
    const char *parent = getenv("TMPDIR");
    assert_true(asprintf(&directory.path, "%s/mossc-test-XXXXXX", parent ? parent : "/tmp") > 0);
    assert_non_null(mkdtemp(directory.path));
    return directory;
}

/* A path in the directory; the file, if it is written, goes with the directory. */
static inline const char *directory_file(Directory *directory, const char *name) {
    assert_true(directory->n_files < DIRECTORY_FILES);
    char **path = &directory->files[directory->n_files++];
    assert_true(asprintf(path, "%s/%s", directory->path, name) > 0);
    return *path;
}

static inline void directory_remove(Directory *directory) {
    for (int i = 0; i < directory->n_files; i++) {
        unlink(directory->files[i]);
        free(directory->files[i]);
    }
    assert_int_equal(rmdir(directory->path), 0);
    free(directory->path);
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
