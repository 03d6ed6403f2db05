/* GGUF files, versions 2 and 3 (which lie the same), little endian:
 *
 *   "GGUF", version u32, tensors u64, pairs u64
 *   pairs     key, type u32 (gguf_types.def), value. A string is its length u64 and as many bytes; an array is the type of its items
 *             u32, how many u64, and the items
 *   tensors   name, dimensions u32, each u64 with the fastest first, form u32 (form.def), offset u64 from where the data begin
 *   data      begin at a multiple of general.alignment (32), and so does each tensor
 *
 * The reader believes nothing: whatever a file claims is compared with the bytes that are there before a pointer into it is made or
 * memory is taken for it. What a model should hold is gguf_view.h's business; here a file is only well-formed or not. */
#ifndef MOSSC_IMPORT_GGUF_H
#define MOSSC_IMPORT_GGUF_H

#include "import/form.h"
#include "support/file.h"
#include "support/limits.h"

enum {
    IM_GGUF_RANK = 4,
    IM_GGUF_DEPTH = 4,                        /* of arrays within each other */
    IM_GGUF_NAME = 1024,                      /* bytes of a key or a tensor's name */
    IM_GGUF_PAIRS = SU_LIMIT(1 << 16, 16),    /* of a file */
    IM_GGUF_TENSORS = SU_LIMIT(1 << 20, 16),  /* of all files of a model: 4096 blocks with 256 tensors each */
    IM_GGUF_SPLITS = 1000                     /* files of a model */
};

typedef enum ImGgufType {
#define IM_GGUF_TYPE(NAME, word, bytes) IM_GGUF_##NAME,
#include "import/gguf_types.def"
    IM_GGUF_TYPES
} ImGgufType;

typedef struct ImGgufValue ImGgufValue;

/* Items of an array that are still to come. */
typedef struct ImGgufItems {
    const uint8_t *at, *end; /* into the file */
    ImGgufType type;
    uint64_t count; /* of them */
} ImGgufItems;

struct ImGgufValue {
    ImGgufType type;
    union {
        uint64_t natural;  /* U8, U16, U32, U64; BOOL: 0 or 1 */
        int64_t integer;   /* I8, I16, I32, I64 */
        double real;       /* F32, F64 */
        struct {
            const char *text; /* into the file; no NUL behind it, and any bytes */
            size_t size;
        } string;
        ImGgufItems items; /* ARRAY */
    } as;
};

typedef struct ImGgufPair {
    const char *key; /* UTF-8, in the arena */
    ImGgufValue value;
} ImGgufPair;

typedef struct ImGgufTensor {
    const char *name; /* UTF-8, in the arena */
    ImForm form;
    int32_t rank;                  /* 1 to IM_GGUF_RANK */
    uint64_t shape[IM_GGUF_RANK];  /* slowest first, as everywhere but in the file; none is 0 */
    uint64_t rows, K, row_bytes;   /* K: the last dimension */
    const uint8_t *data;           /* into the file */
    uint64_t bytes;
} ImGgufTensor;

/* A model's file, or its files as one: the pairs are those of the first. */
typedef struct ImGguf {
    const char *path;
    SuMap *maps; /* none when parsed from memory */
    size_t n_maps;
    ImGgufPair *pairs;     /* sorted by key */
    ImGgufTensor *tensors; /* sorted by name */
    size_t n_pairs, n_tensors;
    SuArena arena;
    SuCleanup cleanup; /* a model that is open stays where it is */
} ImGguf;

/* Opens a file and, if it is one of several ("NAME-00001-of-00003.gguf", split.count), the others beside it, whichever of them is
 * given. On failure nothing is left open. */
bool im_gguf_open(const char *path, ImGguf *out, SuDiags *diags);
/* One file in memory, which must outlive `out`; path is for messages. */
bool im_gguf_parse(const uint8_t *data, size_t size, const char *path, ImGguf *out, SuDiags *diags);
void im_gguf_close(ImGguf *gguf);

/* NULL if there is none. */
const ImGgufValue *im_gguf_find(const ImGguf *gguf, const char *key);
const ImGgufTensor *im_gguf_tensor(const ImGguf *gguf, const char *name);

/* "uint32" */
const char *im_gguf_type_word(ImGgufType type);
/* The next item of an array; false: there is none. */
bool im_gguf_next(ImGgufItems *items, ImGgufValue *out);
/* Whether a value (NULL: none) is this text. */
bool im_gguf_is_word(const ImGgufValue *value, const char *word);
/* A whole number of whichever type that int64_t holds; a bool is none. */
bool im_gguf_whole(const ImGgufValue *value, int64_t *out);

#endif
