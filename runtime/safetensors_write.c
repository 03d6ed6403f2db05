/* The safetensors writer: header first (all sizes are known), then the elements in runs. */
#include "runtime/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "support/size.h"
#include "support/str.h"

enum { RUN_BYTES = 1 << 18 }; /* made and written at once */

static const char *dtype_of(const RtWriteTensor *t) { return t->dtype ? t->dtype : "F32"; }

static uint64_t bytes_of(const RtWriteTensor *t) {
    uint64_t bytes = rt_dtype_bytes(dtype_of(t));
    if (!bytes) SU_BUG("tensor '%s' is to be written as %s", t->name, dtype_of(t));
    return bytes;
}

static uint64_t elements_of(const RtWriteTensor *t) {
    uint64_t n = 1;
    for (int32_t i = 0; i < t->rank; i++)
        if (!su_mul(n, (uint64_t)t->shape[i], &n) || n > UINT64_C(1) << 48) SU_BUG("tensor '%s' is too large to write", t->name);
    return n;
}

/* Names are ours (letters, digits, dots, underscores), so nothing needs escaping. at[n_tensors] becomes where in the data each begins. */
static void make_header(SuText *text, SuArena *scratch, const RtWriteTensor *tensors, size_t n_tensors, uint64_t *at) {
    uint64_t offset = 0;
    su_text_add(text, "{");
    for (size_t i = 0; i < n_tensors; i++) {
        uint64_t end = offset + elements_of(&tensors[i]) * bytes_of(&tensors[i]);
        su_text_add(text, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}", i ? "," : "", tensors[i].name,
                    dtype_of(&tensors[i]), rt_shape_text(scratch, tensors[i].shape, tensors[i].rank), (unsigned long long)offset,
                    (unsigned long long)end);
        at[i] = offset;
        offset = end;
    }
    su_text_add(text, "}");
    while (text->size % 8) /* the data then lies on 8 bytes */
        su_text_add(text, " ");
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mossc's files are little endian, and so must be the machine"
#endif

bool rt_safetensors_begin(const char *path, const RtWriteTensor *tensors, size_t n_tensors, RtSafetensorsOut *out, SuDiags *diags) {
    *out = (RtSafetensorsOut){.path = path};
    if (!su_out_open(path, &out->out, diags)) return false;
    SuText header = {0};
    SuArena scratch = {0};
    out->at = SU_NEW_ARRAY(&out->arena, uint64_t, n_tensors);
    make_header(&header, &scratch, tensors, n_tensors, out->at);
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)header.size >> (8 * i));
    fwrite(length, 1, sizeof length, out->out.file);
    fwrite(header.text, 1, header.size, out->out.file);
    out->position = sizeof length + header.size;
    for (size_t i = 0; i < n_tensors; i++) out->at[i] += out->position;
    su_text_free(&header);
    su_arena_free(&scratch);
    return true;
}

void rt_safetensors_put(RtSafetensorsOut *out, size_t tensor, uint64_t first, const void *bytes, uint64_t size) {
    uint64_t at = out->at[tensor] + first;
    if (!size || ferror(out->out.file)) return;
    if (at != out->position && fseeko(out->out.file, (off_t)at, SEEK_SET) != 0) out->scattered = true;
    fwrite(bytes, 1, size, out->out.file);
    out->position = at + size;
}

bool rt_safetensors_commit(RtSafetensorsOut *out, SuDiags *diags) {
    su_arena_free(&out->arena);
    if (!out->scattered) return su_out_commit(&out->out, diags);
    su_out_abort(&out->out);
    return su_error(diags, su_file_span(diags, out->path), NULL, "cannot write: expected a regular file");
}

void rt_safetensors_drop(RtSafetensorsOut *out) {
    su_arena_free(&out->arena);
    su_out_abort(&out->out);
}

bool rt_safetensors_write(const char *path, const RtWriteTensor *tensors, size_t n_tensors, RtFill fill, void *context,
                          SuDiags *diags) {
    RtSafetensorsOut out;
    if (!rt_safetensors_begin(path, tensors, n_tensors, &out, diags)) return false;
    SuArena scratch = {0};
    void *run = su_alloc_array(&scratch, RUN_BYTES, 1);
    for (size_t i = 0; i < n_tensors; i++) {
        uint64_t elements = elements_of(&tensors[i]), size = bytes_of(&tensors[i]), most = RUN_BYTES / size;
        for (uint64_t first = 0; first < elements && !ferror(out.out.file); first += most) {
            uint64_t count = elements - first < most ? elements - first : most;
            fill(context, i, first, count, run);
            rt_safetensors_put(&out, i, first * size, run, count * size);
        }
    }
    su_arena_free(&scratch);
    return rt_safetensors_commit(&out, diags);
}
