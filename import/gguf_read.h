/* Between the files that read GGUF. */
#ifndef MOSSC_IMPORT_GGUF_READ_H
#define MOSSC_IMPORT_GGUF_READ_H

#include "import/gguf.h"

/* Adds the tensors of a file to those of `out`, and with `pairs` its pairs, where `out` has none yet. *out_split: its split.no and
 * split.count and, or -1, split.tensors.count. Nothing is sorted or compared with what `out` had. */
typedef struct ImGgufSplit {
    int64_t number, count, tensors;
} ImGgufSplit;

bool im_gguf_read(const uint8_t *data, size_t size, const char *path, ImGguf *out, ImGgufSplit *out_split, SuDiags *diags);

#endif
