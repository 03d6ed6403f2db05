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

/* Names are ours (letters, digits, dots, underscores), so nothing needs escaping. */
static void make_header(SuText *text, SuArena *scratch, const RtWriteTensor *tensors, size_t n_tensors) {
    uint64_t offset = 0;
    su_text_add(text, "{");
    for (size_t i = 0; i < n_tensors; i++) {
        uint64_t end = offset + elements_of(&tensors[i]) * bytes_of(&tensors[i]);
        su_text_add(text, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%llu,%llu]}", i ? "," : "", tensors[i].name,
                    dtype_of(&tensors[i]), rt_shape_text(scratch, tensors[i].shape, tensors[i].rank), (unsigned long long)offset,
                    (unsigned long long)end);
        offset = end;
    }
    su_text_add(text, "}");
    while (text->size % 8)  /* the data then lies on 8 bytes */
        su_text_add(text, " ");
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "mossc's files are little endian, and so must be the machine"
#endif

/* Ends early on an error, which shows when the file is committed. */
static void write_all(FILE *file, const RtWriteTensor *tensors, size_t n_tensors, RtFill fill, void *context, void *run) {
    for (size_t i = 0; i < n_tensors; i++) {
        uint64_t elements = elements_of(&tensors[i]), size = bytes_of(&tensors[i]), most = RUN_BYTES / size;
        for (uint64_t first = 0; first < elements && !ferror(file); first += most) {
            uint64_t count = elements - first < most ? elements - first : most;
            fill(context, i, first, count, run);
            fwrite(run, size, count, file);
        }
    }
}

bool rt_safetensors_write(const char *path, const RtWriteTensor *tensors, size_t n_tensors, RtFill fill, void *context,
                          SuDiags *diags) {
    SuOut out;
    if (!su_out_open(path, &out, diags)) return false;
    SuText header = {0};
    SuArena scratch = {0};
    make_header(&header, &scratch, tensors, n_tensors);
    void *run = su_alloc_array(&scratch, RUN_BYTES, 1);
    uint8_t length[8];
    for (int i = 0; i < 8; i++) length[i] = (uint8_t)((uint64_t)header.size >> (8 * i));
    fwrite(length, 1, sizeof length, out.file);
    fwrite(header.text, 1, header.size, out.file);
    write_all(out.file, tensors, n_tensors, fill, context, run);
    su_text_free(&header);
    su_arena_free(&scratch);
    return su_out_commit(&out, diags);
}
