/* GGUF files for tests: bytes put one behind the other. */
#ifndef TESTS_IMPORT_GGUF_BUILD_H
#define TESTS_IMPORT_GGUF_BUILD_H

#include <stdint.h>
#include <string.h>

#include "import/gguf.h"

typedef struct Image {
    uint8_t bytes[1 << 14];
    size_t size;
} Image;

/* `bytes` of a number, the low one first. */
static inline void put(Image *image, uint64_t number, int bytes) {
    for (int i = 0; i < bytes; i++) image->bytes[image->size++] = (uint8_t)(number >> 8 * i);
}

static inline void put_text(Image *image, const char *text) {
    put(image, strlen(text), 8);
    memcpy(image->bytes + image->size, text, strlen(text));
    image->size += strlen(text);
}

static inline void put_head(Image *image, uint32_t version, uint64_t tensors, uint64_t pairs) {
    *image = (Image){.size = 0};
    memcpy(image->bytes, "GGUF", 4);
    image->size = 4;
    put(image, version, 4);
    put(image, tensors, 8);
    put(image, pairs, 8);
}

static inline void put_key(Image *image, const char *key, ImGgufType type) {
    put_text(image, key);
    put(image, type, 4);
}

static inline void put_number(Image *image, const char *key, ImGgufType type, uint64_t value, int bytes) {
    put_key(image, key, type);
    put(image, value, bytes);
}

/* Of `rank` dimensions, the fastest first. */
static inline void put_tensor(Image *image, const char *name, int rank, const uint64_t *dims, uint32_t form, uint64_t offset) {
    put_text(image, name);
    put(image, (uint64_t)rank, 4);
    for (int i = 0; i < rank; i++) put(image, dims[i], 8);
    put(image, form, 4);
    put(image, offset, 8);
}

/* Zeros up to a multiple of `alignment`, and `bytes` of data, which count upwards. */
static inline void put_data(Image *image, size_t alignment, size_t bytes) {
    while (image->size % alignment != 0) put(image, 0, 1);
    for (size_t i = 0; i < bytes; i++) put(image, i, 1);
}

#endif
