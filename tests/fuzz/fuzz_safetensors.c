/* libFuzzer target: the safetensors reader takes any bytes without a fault, and what it accepts lies inside the file.
 *
 * An input is read twice: as a file, and as a header up to its first NUL with data behind it, so that mutations need not keep
 * the header length right. */
#include <stdlib.h>
#include <string.h>

#include "runtime/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const RtSafetensors *file, const uint8_t *data, size_t size) {
    for (size_t i = 0; i < file->count; i++) {
        const RtTensor *t = &file->tensors[i];
        if (t->bytes > size || t->data < data || t->data > data + size - t->bytes) abort();
        if (rt_safetensors_find(file, t->name) != t) abort();
        if (t->readable && t->bytes != t->elements * (uint64_t)ir_dtype(t->dtype)->bytes) abort();
    }
}

static void read_file(const uint8_t *data, size_t size) {
    SuDiags diags = {0};
    RtSafetensors file;
    if (rt_safetensors_parse(data, size, "input", &file, &diags)) {
        check(&file, data, size);
        rt_safetensors_close(&file);
    } else if (!diags.errors) {
        abort(); /* every refusal has a reason */
    }
    su_diags_free(&diags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    read_file(data, size);
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t header = nul ? (size_t)(nul - data) : size, behind = nul ? size - header - 1 : 0;
    uint8_t *image = malloc(8 + header + behind);
    uint64_t length = header;
    memcpy(image, &length, 8);
    if (header) memcpy(image + 8, data, header);
    if (behind) memcpy(image + 8 + header, nul + 1, behind);
    read_file(image, 8 + header + behind);
    free(image);
    return 0;
}
