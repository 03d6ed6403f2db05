/* Damaged copies of a file: a bit flipped here and there, and cut at many lengths. */
#ifndef TESTS_RUNTIME_DAMAGE_H
#define TESTS_RUNTIME_DAMAGE_H

#include <fcntl.h>

#include "tests/runtime/files.h"

typedef struct Bytes {
    uint8_t *data; /* malloced */
    size_t size;
} Bytes;

static inline Bytes read_bytes(const char *path) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    Bytes bytes = {.size = (size_t)ftell(file)};
    rewind(file);
    bytes.data = malloc(bytes.size ? bytes.size : 1);
    assert_int_equal(fread(bytes.data, 1, bytes.size, file), bytes.size);
    fclose(file);
    return bytes;
}

/* In place: truncating to nothing first makes some file systems sync each time. */
static inline void write_bytes(const char *path, const uint8_t *data, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, size, 0), size);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(close(fd), 0);
}

/* Must not take the file at `path`; `what` is for its message. */
typedef void (*ExpectRefused)(void *context, const char *path, const char *what);

/* Every bit position of every region is hit: all bytes of the first `dense`, every stride-th byte after. */
static inline void try_flips(const char *path, size_t dense, size_t stride, ExpectRefused refused, void *context) {
    Bytes good = read_bytes(path);
    char what[64];
    for (size_t at = 0, n = 0; at < good.size; at += at < dense ? 1 : stride, n++) {
        good.data[at] ^= (uint8_t)(1u << n % 8);
        write_bytes(path, good.data, good.size);
        snprintf(what, sizeof what, "bit %zu of byte %zu flipped", n % 8, at);
        refused(context, path, what);
        good.data[at] ^= (uint8_t)(1u << n % 8);
    }
    write_bytes(path, good.data, good.size);
    free(good.data);
}

static inline void try_cuts(const char *path, size_t stride, ExpectRefused refused, void *context) {
    Bytes good = read_bytes(path);
    char what[64];
    for (size_t size = 0; size < good.size; size += size < 16 || size + 16 >= good.size ? 1 : stride) {
        write_bytes(path, good.data, size);
        snprintf(what, sizeof what, "cut to %zu of %zu bytes", size, good.size);
        refused(context, path, what);
    }
    uint8_t *longer = calloc(1, good.size + 1);
    memcpy(longer, good.data, good.size);
    write_bytes(path, longer, good.size + 1);
    refused(context, path, "one byte more");
    write_bytes(path, good.data, good.size);
    free(longer);
    free(good.data);
}

#endif
