/* Safetensors files: eight bytes of header length (little endian), a JSON header, the tensors' bytes.
 *
 * The reader believes nothing: every field of the header is checked before a pointer into the file is made. What a checkpoint
 * should hold is weights.h's business; here a file is only well-formed or not. */
#ifndef MOSSC_RUNTIME_SAFETENSORS_H
#define MOSSC_RUNTIME_SAFETENSORS_H

#include "ir/dtype.h"
#include "support/file.h"
#include "support/limits.h"

enum {
    RT_MAX_RANK = 8,
    RT_MAX_HEADER = SU_LIMIT(32 << 20, 2048), /* bytes; 4096 blocks of 30 tensors need 16 MiB */
    RT_MAX_VALUES = SU_LIMIT(8 << 20, 64) /* in its JSON: what as many bytes of tensors may have */
};

typedef struct RtTensor {
    const char *name;       /* in the file's arena */
    const char *dtype_name; /* as the file writes it */
    bool readable;          /* its dtype is one of ours */
    IrDtype dtype;          /* if readable */
    int32_t rank;
    int64_t shape[RT_MAX_RANK];
    uint64_t elements;      /* product of shape */
    const uint8_t *data;    /* into the file, no alignment promised; little endian, row-major */
    uint64_t bytes;
} RtTensor;

typedef struct RtSafetensors {
    const char *path;
    SuMap map;         /* empty when parsed from memory */
    RtTensor *tensors; /* sorted by name */
    size_t count;
    SuArena arena;     /* owns tensors, names, path */
} RtSafetensors;

/* On failure nothing is left open. A dtype that is none of ours is not readable, and no error. */
bool rt_safetensors_open(const char *path, RtSafetensors *out, SuDiags *diags);
/* The same of a file that is open. On success `out` has taken the mapping, and *map is empty. */
bool rt_safetensors_take(SuMap *map, const char *path, RtSafetensors *out, SuDiags *diags);
/* The same from memory, which must outlive `out`; path is for messages. */
bool rt_safetensors_parse(const uint8_t *data, size_t size, const char *path, RtSafetensors *out, SuDiags *diags);
void rt_safetensors_close(RtSafetensors *file);
/* NULL if there is none. */
const RtTensor *rt_safetensors_find(const RtSafetensors *file, const char *name);

/* "[8, 512, 16]" for messages. */
const char *rt_shape_text(SuArena *arena, const int64_t *shape, int32_t rank);

/* ---- writing */

/* Bytes of an element of a dtype as files call it ("F32", "I8"); 0: unknown. */
uint64_t rt_dtype_bytes(const char *dtype);

typedef struct RtWriteTensor {
    const char *name;
    int32_t rank;
    int64_t shape[4];
    const char *dtype; /* as files call it; NULL: F32 */
} RtWriteTensor;

/* A file that is being written: its header stands, and the tensors' bytes follow. It stays where it is. */
typedef struct RtSafetensorsOut {
    SuOut out;
    const char *path;
    uint64_t *at;      /* [n_tensors] where the bytes of each begin in the file */
    uint64_t position; /* of the file */
    bool scattered;    /* bytes out of order were given, and the file is none that can be written so */
    SuArena arena;     /* of `at` */
} RtSafetensorsOut;

/* `path` appears only when the file is whole. After success the file is ended by rt_safetensors_commit or rt_safetensors_drop. A tensor's
 * bytes lie on a multiple of its element's size where those before it do not end elsewhere: tensors of large elements go first. */
bool rt_safetensors_begin(const char *path, const RtWriteTensor *tensors, size_t n_tensors, RtSafetensorsOut *out, SuDiags *diags);
/* Bytes first .. first + size of tensor number `tensor`; in any order, where the file is a regular one. What fails shows at the commit. */
void rt_safetensors_put(RtSafetensorsOut *out, size_t tensor, uint64_t first, const void *bytes, uint64_t size);
bool rt_safetensors_commit(RtSafetensorsOut *out, SuDiags *diags);
/* Nothing was written. */
void rt_safetensors_drop(RtSafetensorsOut *out);

/* Gives elements first .. first + count of tensor number `tensor`, of its dtype; `out` is aligned for it. Called in rising order, tensor by
 * tensor. */
typedef void (*RtFill)(void *context, size_t tensor, uint64_t first, uint64_t count, void *out);

/* Writes all in the order given, streaming. */
bool rt_safetensors_write(const char *path, const RtWriteTensor *tensors, size_t n_tensors, RtFill fill, void *context,
                          SuDiags *diags);

#endif
