#include "import/gguf_view.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "import/folder.h"
#include "import/gguf_tokenizer.h"
#include "support/table.h"

enum { MOST_LAYERS = 4096, MOST_EXPERTS = 4096 };

static const ImArchInfo archs[] = {
#define IM_ARCH(NAME, word, model_type, pairs, fixed) {word, model_type, pairs, fixed},
#include "import/gguf_archs.def"
};
SU_TABLE_FULL(archs, IM_ARCHS);

const ImArchInfo *im_arch(ImArch arch) { return &archs[arch]; }

/* What is done to a tensor (gguf_names.def). */
typedef enum Way { SAME, PAIRS, CONV, LOG, FLAT, FLAT_LOG, ROW, SPLIT } Way;

typedef struct Name {
    unsigned archs;
    const char *name, *theirs;
    Way way;
} Name;

#define ALL IM_SET_ALL
#define MIXTRAL IM_SET_MIXTRAL
#define QWEN2MOE IM_SET_QWEN2MOE
#define MAMBA IM_SET_MAMBA
#define FALCON_MAMBA IM_SET_FALCON_MAMBA
#define JAMBA IM_SET_JAMBA
#define FALCON_H1 IM_SET_FALCON_H1
#define LFM2 IM_SET_LFM2
#define GRANITEMOE IM_SET_GRANITEMOE
#define GRANITEHYBRID IM_SET_GRANITEHYBRID
#define NEMOTRONS IM_SET_NEMOTRONS
#define BACKBONES IM_SET_BACKBONES
static const Name names[] = {
#define IM_NAME(archs, name, theirs, way) {archs, name, theirs, way},
#include "import/gguf_names.def"
};

/* ---- names */

static bool has_suffix(const char *name) {
    const char *dot = strrchr(name, '.');
    return dot != NULL && (strcmp(dot, ".weight") == 0 || strcmp(dot, ".bias") == 0);
}

/* What a row adds to its name where it fits `name`: "", ".weight" or ".bias"; NULL: it does not fit. */
static const char *fits(const Name *row, const char *name) {
    const size_t size = strlen(row->name);
    if (strncmp(row->name, name, size) != 0) return NULL;
    const char *rest = name + size;
    if (*rest == 0) return rest;
    return !has_suffix(row->name) && !has_suffix(row->theirs) && (strcmp(rest, ".weight") == 0 || strcmp(rest, ".bias") == 0)
               ? rest
               : NULL;
}

/* "blk.12.attn_q.weight" is in layer 12, with the name "attn_q.weight"; else the layer is -1. */
static int64_t layer_of(const ImView *v, const char *name, const char **out_name) {
    *out_name = name;
    if (strncmp(name, "blk.", 4) != 0) return -1;
    int64_t layer = 0;
    const char *at = name + 4;
    for (; *at >= '0' && *at <= '9' && layer < MOST_LAYERS; at++) layer = layer * 10 + (*at - '0');
    if (at == name + 4 || *at != '.' || layer >= v->layers) return -1;
    *out_name = at + 1;
    return layer;
}

static const Name *row_of(const ImView *v, int64_t layer, const char *name, const char **out_suffix) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const Name *row = &names[i];
        if (!im_arch_in(v->arch, row->archs) || (row->theirs[0] == '.') != (layer >= 0)) continue;
        *out_suffix = fits(row, name);
        if (*out_suffix != NULL) return row;
    }
    return NULL;
}

/* ---- the other way round */

/* Whether `name` is `theirs`, a number in place of %d; what follows is *out_rest. */
static bool is_theirs(const char *theirs, const char *name, int64_t *out_number, const char **out_rest) {
    const char *number = strstr(theirs, "%d");
    const size_t before = number ? (size_t)(number - theirs) : strlen(theirs);
    *out_number = -1;
    if (strncmp(theirs, name, before) != 0) return false;
    *out_rest = name + before;
    if (!number) return true;
    char *end;
    *out_number = strtol(name + before, &end, 10);
    *out_rest = end + strlen(number + 2);
    return end != name + before && strncmp(end, number + 2, strlen(number + 2)) == 0;
}

/* Several rows may have the same name of theirs: of a model with experts the one of the shared expert fits. */
static bool is_shared_twin(const Name *row, bool experts) {
    bool shared = false;
    for (size_t i = 0; i < sizeof names / sizeof *names && !shared; i++)
        shared = strstr(names[i].name, "_shexp") && (names[i].archs & row->archs) && strcmp(names[i].theirs, row->theirs) == 0;
    return shared && (strstr(row->name, "_shexp") != NULL) != experts;
}

bool im_gguf_name_of(ImArch arch, bool experts, const char *theirs, SuArena *arena, ImGgufName *out) {
    const char *layers = im_arch_in(arch, IM_SET_BACKBONES) ? "backbone.layers." : "model.layers.", *name = theirs, *rest;
    long layer = -1;
    if (strncmp(theirs, layers, strlen(layers)) == 0) {
        char *end;
        layer = strtol(theirs + strlen(layers), &end, 10);
        name = end;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const Name *row = &names[i];
        if (!im_arch_in(arch, row->archs) || (row->theirs[0] == '.') != (layer >= 0)) continue;
        if (!is_theirs(row->theirs, name, &out->expert, &rest)) continue;
        const bool open = !has_suffix(row->name) && !has_suffix(row->theirs);
        if (*rest && !(open && (strcmp(rest, ".weight") == 0 || strcmp(rest, ".bias") == 0))) continue;
        if (is_shared_twin(row, experts)) continue;
        out->name =
            layer < 0 ? su_printf(arena, "%s%s", row->name, rest) : su_printf(arena, "blk.%ld.%s%s", layer, row->name, rest);
        out->pairs = row->way == PAIRS && archs[arch].pairs;
        out->log = row->way == LOG || row->way == FLAT_LOG;
        out->flat = row->way == FLAT || row->way == FLAT_LOG;
        out->row = row->way == ROW;
        return true;
    }
    return false;
}

/* ---- tensors */

typedef struct Shown {
    const ImView *view;
    ImSource *source;
    const ImGgufTensor *from;
    const char *name; /* theirs */
    int64_t shape[IM_GGUF_RANK];
    int rank;
} Shown;

static ImTensor *add(Shown *s, const char *name, const uint8_t *data) {
    ImTensor *t = im_source_add(s->source, name, s->view->gguf->path, NULL, s->from->form, s->shape, s->rank, data, s->view->diags);
    if (t == NULL || t->K == s->from->K || im_form(t->form)->weights == 1) return t;
    su_error(s->view->diags, s->view->span, NULL, "tensor '%s': a vector in blocks of %s is not read", s->from->name,
             im_form(t->form)->word);
    return NULL;
}

/* A vector of all its numbers. */
static void flatten(Shown *s) {
    s->shape[0] = (int64_t)(s->from->rows * s->from->K);
    s->rank = 1;
}

static bool add_conv(Shown *s) {
    if (s->rank != 2) return add(s, s->name, s->from->data) != NULL; /* its shape is found wrong later */
    s->shape[2] = s->shape[1];
    s->shape[1] = 1;
    s->rank = 3;
    return add(s, s->name, s->from->data) != NULL;
}

static bool add_log(Shown *s) {
    ImTensor *t = add(s, s->name, s->from->data);
    if (t != NULL) t->minus_exp = true;
    return t != NULL;
}

static bool add_row(Shown *s) {
    if (s->rank == 1) {
        s->shape[1] = s->shape[0];
        s->shape[0] = 1;
        s->rank = 2;
    }
    return add(s, s->name, s->from->data) != NULL;
}

static bool add_pairs(Shown *s, const char *gguf_name) {
    const ImView *v = s->view;
    ImTensor *t = add(s, s->name, s->from->data);
    if (t == NULL || !v->info->pairs) return t != NULL;
    const bool keys = strncmp(gguf_name, "attn_k", 6) == 0;
    const int64_t heads =
        im_view_each(v, keys && im_view_value(v, "attention.head_count_kv") ? "attention.head_count_kv" : "attention.head_count");
    if (heads < 1) return false;
    if (t->rows % (2 * (uint64_t)heads) != 0)
        return su_error(v->diags, v->span, NULL,
                        "tensor '%s': expected rows of %" PRId64 " heads, an even number each, got %" PRIu64, s->from->name, heads,
                        t->rows);
    t->order = (ImOrder){.kind = IM_FROM_PAIRS, .run = t->rows / (uint64_t)heads};
    return true;
}

static bool add_split(Shown *s) {
    const ImView *v = s->view;
    const int64_t count = s->shape[0];
    if (s->rank != 3 || count > MOST_EXPERTS)
        return su_error(v->diags, v->span, NULL, "tensor '%s': expected three dimensions, the last of at most %d experts",
                        s->from->name, MOST_EXPERTS);
    const char *number = strstr(s->name, "%d");
    const uint64_t bytes = s->from->bytes / (uint64_t)count;
    s->shape[0] = s->shape[1];
    s->shape[1] = s->shape[2];
    s->rank = 2;
    for (int64_t e = 0; e < count; e++) {
        const char *name = su_printf(v->arena, "%.*s%" PRId64 "%s", (int)(number - s->name), s->name, e, number + 2);
        if (s->source->count >= IM_GGUF_TENSORS)
            return su_error(v->diags, v->span, NULL, "expected at most %d tensors, experts counted", (int)IM_GGUF_TENSORS);
        if (add(s, name, s->from->data + (uint64_t)e * bytes) == NULL) return false;
    }
    return true;
}

static bool add_as(Shown *s, Way way, const char *gguf_name) {
    switch (way) {
    case FLAT:
    case FLAT_LOG: flatten(s); return way == FLAT ? add(s, s->name, s->from->data) != NULL : add_log(s);
    case SAME: return add(s, s->name, s->from->data) != NULL;
    case PAIRS: return add_pairs(s, gguf_name);
    case CONV: return add_conv(s);
    case LOG: return add_log(s);
    case ROW: return add_row(s);
    case SPLIT: return add_split(s);
    }
    return false;
}

static bool add_tensor(const ImView *v, const ImGgufTensor *from, ImSource *source) {
    const char *name, *suffix;
    const int64_t layer = layer_of(v, from->name, &name);
    const Name *row = row_of(v, layer, name, &suffix);
    Shown s = {.view = v, .source = source, .from = from, .name = from->name, .rank = from->rank};
    for (int i = 0; i < from->rank; i++) s.shape[i] = (int64_t)from->shape[i];
    if (row == NULL) return add(&s, from->name, from->data) != NULL;
    const char *prefix = im_arch_in(v->arch, IM_SET_BACKBONES) ? "backbone.layers" : "model.layers";
    s.name = layer < 0 ? su_printf(v->arena, "%s%s", row->theirs, suffix)
                       : su_printf(v->arena, "%s.%" PRId64 "%s%s", prefix, layer, row->theirs, suffix);
    return add_as(&s, row->way, name);
}

/* rope_freqs.weight became a key of the config (gguf_rope.c). */
static bool is_in_config(const ImView *v, const ImGgufTensor *t) {
    return strcmp(t->name, "rope_freqs.weight") == 0 && im_gguf_has_rope(v);
}

static bool add_tensors(const ImView *v, ImSource *source) {
    for (size_t i = 0; i < v->gguf->n_tensors; i++)
        if (!is_in_config(v, &v->gguf->tensors[i]) && !add_tensor(v, &v->gguf->tensors[i], source)) return false;
    return true;
}

/* ---- values */

const ImGgufValue *im_view_value(const ImView *v, const char *key) {
    return im_gguf_find(v->gguf, su_printf(v->arena, "%s.%s", v->info->word, key));
}

/* Said once: several ask for the same value. */
static void wrong_value(const ImView *v, const char *key, const char *expected) {
    if (!*v->failed) su_error(v->diags, v->span, NULL, "%s.%s: expected %s", v->info->word, key, expected);
    *v->failed = true;
}

int64_t im_view_whole(const ImView *v, const char *key, int64_t otherwise) {
    const ImGgufValue *value = im_view_value(v, key);
    int64_t whole = otherwise;
    if (value == NULL || im_gguf_whole(value, &whole)) return whole;
    wrong_value(v, key, "a whole number");
    return otherwise;
}

double im_view_real(const ImView *v, const char *key, double otherwise) {
    const ImGgufValue *value = im_view_value(v, key);
    if (value == NULL) return otherwise;
    if ((value->type == IM_GGUF_F32 || value->type == IM_GGUF_F64) && isfinite(value->as.real)) return value->as.real;
    wrong_value(v, key, "a finite number");
    return otherwise;
}

bool im_view_flag(const ImView *v, const char *key, bool otherwise) {
    const ImGgufValue *value = im_view_value(v, key);
    if (value == NULL) return otherwise;
    if (value->type != IM_GGUF_BOOL) wrong_value(v, key, "true or false");
    return value->type == IM_GGUF_BOOL ? value->as.natural != 0 : otherwise;
}

const ImGgufTensor *im_view_tensor(const ImView *v, int64_t layer, const char *name) {
    return im_gguf_tensor(v->gguf, su_printf(v->arena, "blk.%" PRId64 ".%s", layer, name));
}

int64_t im_view_each(const ImView *v, const char *key) {
    const ImGgufValue *value = im_view_value(v, key);
    int64_t found = 0, one;
    ImGgufValue item;
    bool ok = value != NULL;
    if (ok && value->type != IM_GGUF_ARRAY) {
        ok = im_gguf_whole(value, &found);
    } else if (ok) {
        ImGgufItems items = value->as.items;
        while (ok && im_gguf_next(&items, &item)) {
            ok = im_gguf_whole(&item, &one) && one >= 0 && (one == 0 || found == 0 || one == found);
            if (ok && one != 0) found = one;
        }
    }
    if (ok && found >= 0) return found;
    su_error(v->diags, v->span, NULL, "%s.%s: expected a whole number, or one for each layer that is 0 or the same in all",
             v->info->word, key);
    return -1;
}

/* ---- the architecture */

/* llama with experts is mixtral; mamba with norms of dt, B and C is falcon_mamba. */
static ImArch refined(const ImView *v) {
    if (v->arch == IM_ARCH_LLAMA && im_view_whole(v, "expert_count", 0) > 0) return IM_ARCH_MIXTRAL;
    if (v->arch == IM_ARCH_LLAMA && im_view_whole(v, "attention.sliding_window", 0) > 0) return IM_ARCH_MISTRAL;
    if (v->arch == IM_ARCH_MAMBA && im_view_flag(v, "ssm.dt_b_c_rms", false)) return IM_ARCH_FALCON_MAMBA;
    return v->arch;
}

static bool find_arch(ImView *v) {
    const ImGgufValue *word = im_gguf_find(v->gguf, "general.architecture"), *type = im_gguf_find(v->gguf, "general.type");
    if (type != NULL && !im_gguf_is_word(type, "model"))
        return su_error(v->diags, v->span, NULL, "general.type: expected a model, not an adapter, a projector or something else");
    for (int i = 0; i < IM_ARCHS; i++) {
        if (!im_gguf_is_word(word, archs[i].word)) continue;
        v->arch = (ImArch)i;
        v->info = &archs[i];
        v->arch = refined(v);
        v->info = &archs[v->arch];
        return true;
    }
    const bool text = word != NULL && word->type == IM_GGUF_STRING;
    const char *shown = text ? su_strndup(v->arena, word->as.string.text, word->as.string.size) : "";
    return su_error(v->diags, v->span, "docs/import.md lists the architectures",
                    "general.architecture: '%.100s' is none that is imported", shown);
}

/* ---- the checkpoint */

typedef struct Files {
    ImGguf gguf;
    ImGgufTokenizer tokenizer;
    SuJson config;
    SuText text; /* of the config */
    bool failed; /* ImView.failed */
} Files;

static void close_files(ImCheckpoint *checkpoint) {
    Files *f = checkpoint->files;
    if (f->config.root != NULL) su_json_free(&f->config);
    su_text_free(&f->text);
    im_gguf_tokenizer_free(&f->tokenizer);
    im_gguf_close(&f->gguf);
}

static bool read_config(ImView *v, Files *f, ImCheckpoint *out) {
    v->layers = im_view_whole(v, "block_count", 0);
    if (f->failed) return false;
    if (v->layers < 1 || v->layers > MOST_LAYERS)
        return su_error(v->diags, v->span, NULL, "%s.block_count: expected a whole number from 1 to %d", v->info->word,
                        MOST_LAYERS);
    if (!im_gguf_config(v, &f->text) || f->failed ||
        !im_json_parse(f->text.text, f->text.size, v->gguf->path, &f->config, v->diags))
        return false;
    out->config = im_config(f->config.root, v->gguf->path, v->arena, v->diags);
    return !im_config_failed(out->config);
}

static void read_texts(const ImView *v, Files *f, ImTexts *texts) {
    const ImGgufValue *chat = im_gguf_find(v->gguf, "tokenizer.chat_template");
    im_gguf_tokenizer(v->gguf, &f->tokenizer, v->diags);
    const ImGgufTokenizer *t = &f->tokenizer;
    if (chat != NULL && chat->type == IM_GGUF_STRING) {
        texts->chat_template = su_strndup(v->arena, chat->as.string.text, chat->as.string.size);
        texts->chat_template_size = chat->as.string.size;
    }
    if (t->json.size == 0) return;
    texts->tokenizer = t->json.text;
    texts->tokenizer_size = t->json.size;
    texts->bos = t->bos;
    int64_t *stops = SU_NEW_ARRAY(v->arena, int64_t, t->n_ends);
    for (size_t i = 0; i < t->n_ends; i++) stops[i] = t->ends[i];
    texts->stops = stops;
    texts->n_stops = t->n_ends;
}

static bool show(Files *f, ImCheckpoint *out, SuDiags *diags) {
    out->what = "GGUF file";
    out->files = f;
    out->close = close_files;
    ImView view = {
        .gguf = &f->gguf, .arena = &out->arena, .span = su_file_span(diags, f->gguf.path), .diags = diags, .failed = &f->failed};
    if (!find_arch(&view) || !read_config(&view, f, out) || !add_tensors(&view, &out->source)) return false;
    read_texts(&view, f, &out->texts);
    return true;
}

bool im_gguf_view(const char *path, ImCheckpoint *out, SuDiags *diags) {
    Files *f = SU_NEW(&out->arena, Files);
    return im_gguf_open(path, &f->gguf, diags) && show(f, out, diags);
}

bool im_gguf_view_of(const uint8_t *data, size_t size, const char *path, ImCheckpoint *out, SuDiags *diags) {
    Files *f = SU_NEW(&out->arena, Files);
    return im_gguf_parse(data, size, path, &f->gguf, diags) && show(f, out, diags);
}
