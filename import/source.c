#include "import/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/str.h"

/* What old checkpoints carry though it follows from the config: the ends of names. */
static const char *const without_meaning[] = {".rotary_emb.inv_freq", ".attn.masked_bias"};

enum { SHOWN = 8 }; /* tensors that stayed, named one by one */

uint64_t im_order_row(const ImOrder *order, uint64_t row) {
    uint64_t half = order->run / 2, start = order->kind ? row / order->run * order->run : 0, i = row - start;
    switch (order->kind) {
    case IM_IN_ORDER: return row;
    case IM_FROM_PAIRS: return start + 2 * (i % half) + i / half;
    case IM_TO_PAIRS: return start + i % 2 * half + i / 2;
    }
    return row;
}

ImTensor *im_source_add(ImSource *source, const char *name, const char *file, const char *alien, ImForm form, const int64_t *shape,
                        int rank, const uint8_t *data, SuDiags *diags) {
    static const uint64_t most = (uint64_t)1 << 48;
    uint64_t elements = 1;
    bool ok = rank >= 0 && rank <= 4;
    for (int i = 0; ok && i < rank; i++) {
        ok = shape[i] > 0 && (uint64_t)shape[i] <= most / elements;
        elements *= ok ? (uint64_t)shape[i] : 1;
    }
    if (!ok) {
        su_error(diags, su_file_span(diags, file), NULL, "tensor '%s': expected one to four dimensions and 1 to 2^48 elements",
                 name);
        return NULL;
    }
    source->tensors = su_grow(&source->arena, source->tensors, &source->capacity, source->count + 1, sizeof *source->tensors);
    ImTensor *t = &source->tensors[source->count++];
    *t = (ImTensor){.name = su_strdup(&source->arena, name), .file = file, .form = form, .rank = rank ? rank : 1, .data = data};
    t->alien = alien ? su_strdup(&source->arena, alien) : NULL;
    t->shape[0] = 1; /* of a number alone */
    for (int i = 0; i < rank; i++) t->shape[i] = shape[i];
    t->K = t->rank > 1 ? (uint64_t)t->shape[t->rank - 1] : 1;
    t->rows = elements / t->K;
    return t;
}

static int by_name(const void *a, const void *b) { return strcmp(((const ImTensor *)a)->name, ((const ImTensor *)b)->name); }

bool im_source_settle(ImSource *source, SuDiags *diags) {
    bool ok = true;
    if (source->count) qsort(source->tensors, source->count, sizeof *source->tensors, by_name);
    for (size_t i = 1; i < source->count; i++) {
        const ImTensor *t = &source->tensors[i];
        if (strcmp(t[-1].name, t->name) == 0)
            ok = su_error(diags, su_file_span(diags, t->file), NULL, "tensor '%s' is there twice, also in %s", t->name, t[-1].file);
    }
    return ok;
}

ImTensor *im_source_find(const ImSource *source, const char *name) {
    ImTensor key = {.name = name};
    return source->count ? bsearch(&key, source->tensors, source->count, sizeof key, by_name) : NULL;
}

ImTensor *im_source_invent(ImSource *source, const char *name) {
    ImTensor *t = SU_NEW(&source->arena, ImTensor);
    *t = (ImTensor){.name = su_strdup(&source->arena, name), .file = source->path, .form = IM_F32, .rank = 1, .K = 1};
    t->number = source->n_invented;
    source->invented =
        su_grow(&source->arena, source->invented, &source->invented_capacity, source->n_invented + 1, sizeof *source->invented);
    source->invented[source->n_invented++] = t;
    return t;
}

static bool means_nothing(const char *name) {
    for (size_t i = 0; i < sizeof without_meaning / sizeof without_meaning[0]; i++) {
        size_t size = strlen(name), end = strlen(without_meaning[i]);
        if (size > end && strcmp(name + size - end, without_meaning[i]) == 0) return true;
    }
    return false;
}

bool im_source_all_taken(const ImSource *source, SuDiags *diags) {
    size_t left = 0;
    for (size_t i = 0; i < source->count; i++) {
        const ImTensor *t = &source->tensors[i];
        if (t->taken || means_nothing(t->name)) continue;
        if (left++ < SHOWN)
            su_error(diags, su_file_span(diags, t->file), NULL, "tensor '%s' is no part of the model that the config describes",
                     t->name);
    }
    return left == 0 ||
           (left > SHOWN &&
            su_error(diags, su_file_span(diags, source->path), NULL, "and %zu tensors more are no part of it", left - SHOWN)) ||
           false;
}

const uint8_t *im_row(const ImTensor *tensor, uint64_t row) {
    return tensor->data + im_order_row(&tensor->order, row) * im_form_row_bytes(tensor->form, tensor->K);
}

void im_read(const ImTensor *tensor, uint64_t first, uint64_t count, float *out) {
    const uint64_t K = tensor->K;
    bool flat = im_form(tensor->form)->weights == 1;
    for (uint64_t done = 0, n; done < count; done += n) {
        uint64_t row = (first + done) / K, at = (first + done) % K;
        n = K - at < count - done ? K - at : count - done;
        if (flat && tensor->order.kind == IM_IN_ORDER) { /* rows that follow each other are one */
            row = 0;
            at = first;
            n = count;
        }
        const uint8_t *bytes = im_row(tensor, row) + (flat ? at * im_form(tensor->form)->bytes : 0);
        im_form_to_floats(tensor->form, bytes, n, out + done);
    }
    for (uint64_t i = 0; tensor->minus_exp && i < count; i++) out[i] = (float)log(-(double)out[i]);
}
