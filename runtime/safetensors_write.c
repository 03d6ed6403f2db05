/* The safetensors writer: header first (all sizes are known), then the elements in runs. */
#include "runtime/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "support/size.h"
#include "support/str.h"

enum { RUN = 1 << 16 }; /* floats made and written at once */

uint64_t rt_write_elements(const RtWriteTensor *t) {
    uint64_t n = 1;
    for (int32_t i = 0; i < t->rank; i++)
        if (!su_mul(n, (uint64_t)t->shape[i], &n) || n > UINT64_C(1) << 48) SU_BUG("tensor '%s' is too large to write", t->name);
    return n;
}

static uint64_t bytes_of(const RtWriteTensor *t) { return rt_write_elements(t) * (t->element ? t->element : sizeof(float)); }

/* Names are ours (letters, digits, dots, underscores), so nothing needs escaping. Returns the bytes of all tensors. */
static uint64_t make_header(SuText *text, SuArena *scratch, const RtWriteTensor *tensors, size_t n_tensors) {
    uint64_t offset = 0;
    su_text_add(text, "{");
    for (size_t i = 0; i < n_tensors; i++) {
        const RtWriteTensor *t = &tensors[i];
        uint64_t end = offset + bytes_of(t);
        su_text_add(text, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}", i ? "," : "", t->name,
                    t->dtype ? t->dtype : "F32", rt_shape_text(scratch, t->shape, t->rank), (unsigned long long)offset,
                    (unsigned long long)end);
        offset = end;
    }
    su_text_add(text, "}");
    while (text->size % 8)  /* the data then lies on 8 bytes */
        su_text_add(text, " ");
    return offset;
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mossc's files are little endian, and so must be the machine"
#endif

bool rt_safetensors_begin(const char *path, const RtWriteTensor *tensors, size_t n_tensors, RtSafetensorsOut *out, SuDiags *diags) {
    if (!su_out_open(path, &out->out, diags)) return false;
    SuText header = {0};
    SuArena scratch = {0};
    out->left = make_header(&header, &scratch, tensors, n_tensors);
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)header.size >> (8 * i));
    fwrite(length, 1, sizeof length, out->out.file);
    fwrite(header.text, 1, header.size, out->out.file);
    su_text_free(&header);
    su_arena_free(&scratch);
    return true;
}

void rt_safetensors_add(RtSafetensorsOut *out, const void *bytes, uint64_t size) {
    if (size > out->left) SU_BUG("more is written than the header says");
    out->left -= size;
    if (size && !ferror(out->out.file)) fwrite(bytes, 1, size, out->out.file);
}

bool rt_safetensors_commit(RtSafetensorsOut *out, SuDiags *diags) {
    if (out->left) SU_BUG("less is written than the header says");
    return su_out_commit(&out->out, diags);
}

void rt_safetensors_drop(RtSafetensorsOut *out) { su_out_abort(&out->out); }

bool rt_safetensors_write(const char *path, const RtWriteTensor *tensors, size_t n_tensors, RtFill fill, void *context,
                          SuDiags *diags) {
    RtSafetensorsOut out;
    if (!rt_safetensors_begin(path, tensors, n_tensors, &out, diags)) return false;
    SuArena scratch = {0};
    float *run = su_alloc_array(&scratch, RUN, sizeof *run);
    for (size_t i = 0; i < n_tensors; i++) {
        uint64_t elements = rt_write_elements(&tensors[i]);
        for (uint64_t first = 0; first < elements; first += RUN) {
            uint64_t count = elements - first < RUN ? elements - first : RUN;
            fill(context, i, first, count, run);
            rt_safetensors_add(&out, run, count * sizeof *run);
        }
    }
    su_arena_free(&scratch);
    return rt_safetensors_commit(&out, diags);
}
