/* What the emulated compiler makes and the emulated driver loads: a shared object, as "machine code" of one architecture or as
 * "PTX" for it and newer ones. */
#ifndef MOSSC_TESTS_CUDA_IMAGE_H
#define MOSSC_TESTS_CUDA_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/simt/launch.h"

typedef enum ImageForm { IMAGE_CUBIN, IMAGE_PTX } ImageForm;

typedef struct Image {
    ImageForm form;
    int architecture;
    uint8_t *code; /* malloced; NULL: this is no image */
    size_t bytes;
} Image;

/* malloced: a cubin begins as ELF does, PTX is a text; *out_bytes includes its NUL. */
char *image_write(const Image *image, size_t *out_bytes);
/* Its own size stands in an image. `code` of what is damaged is NULL. */
Image image_read(const void *data);

/* ---- what the shared object exports, written by entries.h: emulated_entries[], emulated_globals[] (both end
 * with an empty name), and simt_run. */

enum { ENTRY_PARAMS = 8, ENTRY_PARAM_BYTES = 8 /* the largest */ };

typedef struct EmulatedEntry {
    const char *name;
    void (*run)(const SimtLaunch *launch); /* by every thread; takes the parameters from launch->params */
    unsigned threads; /* of a block at most */
    unsigned n_params;
    size_t sizes[ENTRY_PARAMS];
} EmulatedEntry;

typedef struct EmulatedGlobal {
    const char *name;
    const void *data;
    size_t bytes;
} EmulatedGlobal;

#endif
