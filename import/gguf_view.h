/* A GGUF file as a checkpoint of Hugging Face: config.json, names, shapes and order of tensors, tokenizer.json. What llama.cpp's converter
 * changed is changed back: gguf_names.def, gguf_keys.def and gguf_archs.def list what it does. */
#ifndef MOSSC_IMPORT_GGUF_VIEW_H
#define MOSSC_IMPORT_GGUF_VIEW_H

#include "import/checkpoint.h"
#include "import/gguf.h"
#include "support/str.h"

/* Opens a file, and the others where a model has several; everything stays mapped until the checkpoint is closed. false after an error. */
bool im_gguf_view(const char *path, ImCheckpoint *out, SuDiags *diags);
/* The same of one file in memory, which must outlive `out`; path is for messages. */
bool im_gguf_view_of(const uint8_t *data, size_t size, const char *path, ImCheckpoint *out, SuDiags *diags);

/* ---- for gguf_view.c, gguf_config.c and gguf_rope.c */

typedef enum ImArch {
#define IM_ARCH(NAME, word, model_type, pairs, fixed) IM_ARCH_##NAME,
#include "import/gguf_archs.def"
    IM_ARCHS
} ImArch;

typedef struct ImArchInfo {
    const char *word, *model_type;
    bool pairs;
    const char *fixed;
} ImArchInfo;

/* Sets of architectures, for the tables. */
enum {
#define IM_ARCH(NAME, word, model_type, pairs, fixed) IM_SET_##NAME = 1 << IM_ARCH_##NAME,
#include "import/gguf_archs.def"
    IM_SET_ALL = (1 << IM_ARCHS) - 1,
    IM_SET_GRANITES = IM_SET_GRANITE | IM_SET_GRANITEMOE | IM_SET_GRANITEHYBRID,
    IM_SET_NEMOTRONS = IM_SET_NEMOTRON_H | IM_SET_NEMOTRON_H_MOE,
    IM_SET_RECURRENT = IM_SET_MAMBA | IM_SET_FALCON_MAMBA | IM_SET_MAMBA2,
    IM_SET_BACKBONES = IM_SET_RECURRENT | IM_SET_NEMOTRONS,
    IM_SET_HEADED = IM_SET_MAMBA2 | IM_SET_GRANITEHYBRID | IM_SET_FALCON_H1 | IM_SET_NEMOTRONS, /* mixers of Mamba-2 */
    IM_SET_UNTIED = IM_SET_OLMOE | IM_SET_QWEN2MOE, /* llama.cpp reads no file of these without a head */
    IM_SET_WITHOUT_ROPE = IM_SET_JAMBA | IM_SET_NEMOTRONS,
};

typedef struct ImView {
    ImGguf *gguf;
    ImArch arch;
    const ImArchInfo *info;
    int64_t layers;
    SuArena *arena;
    SuSpan span;
    SuDiags *diags;
    bool *failed; /* a value was of another type than its key has: reported, and the view is to be given up */
} ImView;

const ImArchInfo *im_arch(ImArch arch);

/* ---- for exports: the tables the other way round */

typedef struct ImGgufName {
    const char *name; /* "blk.0.attn_q.weight" */
    bool pairs, log, flat, row; /* what is done to it: see gguf_names.def */
    int64_t expert; /* which of the tensor's experts it is; -1: it is all of it */
} ImGgufName;

/* What a tensor of Hugging Face's is in GGUF files of an architecture; false: nothing. experts: the model has some, so that an mlp that all
 * tokens use is one beside them. */
bool im_gguf_name_of(ImArch arch, bool experts, const char *theirs, SuArena *arena, ImGgufName *out);
/* Calls `add` for each key ("llama.block_count") that has one of config.json, which it is given too. */
void im_gguf_each_key(ImArch arch, void (*add)(void *context, const char *key, const char *theirs), void *context, SuArena *arena);

/* ---- for views */

static inline bool im_arch_in(ImArch arch, unsigned set) { return (set >> arch & 1) != 0; }

/* The value of "ARCHITECTURE.key", or NULL. */
const ImGgufValue *im_view_value(const ImView *view, const char *key);
/* A whole number, or `otherwise` where there is none; one of another type fails the view. So do reals, which are finite, and flags. */
int64_t im_view_whole(const ImView *view, const char *key, int64_t otherwise);
double im_view_real(const ImView *view, const char *key, double otherwise);
bool im_view_flag(const ImView *view, const char *key, bool otherwise);
/* "blk.LAYER.name"; NULL: there is none. */
const ImGgufTensor *im_view_tensor(const ImView *view, int64_t layer, const char *name);
/* The largest of the numbers of an array with one for each layer, or the number itself; -1 after an error: two of them differ and none is 0,
 * or it is something else. */
int64_t im_view_each(const ImView *view, const char *key);

/* config.json, as text; false after errors. */
bool im_gguf_config(const ImView *view, SuText *json);
/* Whether heads are turned at all. */
bool im_gguf_has_rope(const ImView *view);
/* The members "rope_scaling" of it that rope.scaling.* and rope_freqs.weight mean. */
bool im_gguf_rope(const ImView *view, SuText *json);

#endif
