/* libFuzzer target: the GGUF reader takes any bytes without a fault, and what it accepts lies inside the file. Behind the letters GGUF
 * and the version, which mutations need not find. */
#include <stdlib.h>
#include <string.h>

#include "import/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(ImGgufItems items, const uint8_t *data, size_t size) {
    ImGgufValue item;
    const uint64_t count = items.count;
    uint64_t found = 0;
    if (items.at < data || items.end > data + size) abort();
    for (; im_gguf_next(&items, &item); found++)
        if (item.type == IM_GGUF_ARRAY) walk(item.as.items, data, size);
    if (found != count || items.at != items.end) abort();
}

static void check(const ImGguf *gguf, const uint8_t *data, size_t size) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < gguf->n_tensors; i++) {
        const ImGgufTensor *t = &gguf->tensors[i];
        float row[4096];
        if (t->bytes > size || t->data < data || t->data > data + size - t->bytes) abort();
        if (im_gguf_tensor(gguf, t->name) != t || t->row_bytes * t->rows != t->bytes) abort();
        if (t->K <= 4096) im_form_to_floats(t->form, t->data + (t->rows - 1) * t->row_bytes, t->K, row);
        bytes += t->bytes;
    }
    if (bytes > size) abort();
    for (size_t i = 0; i < gguf->n_pairs; i++) {
        const ImGgufValue *value = im_gguf_find(gguf, gguf->pairs[i].key);
        if (value != &gguf->pairs[i].value) abort();
        if (value->type == IM_GGUF_ARRAY) walk(value->as.items, data, size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t head[] = {'G', 'G', 'U', 'F', 3, 0, 0, 0};
    uint8_t *image = malloc(sizeof head + size);
    SuDiags diags = {0};
    ImGguf gguf;
    memcpy(image, head, sizeof head);
    if (size != 0) memcpy(image + sizeof head, data, size);
    if (im_gguf_parse(image, sizeof head + size, "input", &gguf, &diags)) {
        check(&gguf, image, sizeof head + size);
        im_gguf_close(&gguf);
    } else if (diags.errors == 0) {
        abort(); /* every refusal has a reason */
    }
    su_diags_free(&diags);
    free(image);
    return 0;
}
