/* What is in the files of others: safetensors, GGUF. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "import/about.h"
#include "import/gguf.h"
#include "runtime/weights.h"
#include "support/json.h"

/* ---- safetensors */

/* The texts of __metadata__ of a file whose header is well-formed. */
static bool add_metadata(ImLook *look, const RtSafetensors *file) {
    static const SuJsonRules rules = {.part = "header", .depth = 8, .values = RT_MAX_VALUES, .null_key = "__metadata__"};
    uint64_t size = 0;
    memcpy(&size, file->map.data, sizeof size); /* little endian, like every machine that this runs on */
    if (!memmem(file->map.data + 8, size, "__metadata__", 12)) return true;
    SuJson json;
    if (!su_json_parse((const char *)file->map.data + 8, size, &rules, su_file_span(look->diags, file->path), &json, look->diags))
        return false;
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(json.root, "__metadata__");
    for (const cJSON *item = map ? map->child : NULL; item; item = item->next)
        im_add_fact(look, &look->out->metadata, su_strdup(&look->out->arena, item->string),
                    su_strdup(&look->out->arena, cJSON_IsString(item) ? item->valuestring : ""), false);
    su_json_free(&json);
    return true;
}

static void add_tensors(ImLook *look, const RtSafetensors *file) {
    for (size_t i = 0; i < file->count; i++) {
        const RtTensor *from = &file->tensors[i];
        ImAboutTensor *t = im_about_tensor(look, from->name, from->dtype_name, from->elements, from->bytes);
        t->rank = from->rank;
        for (int d = 0; d < from->rank; d++) t->shape[d] = (uint64_t)from->shape[d];
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const ImAboutTensor *)a)->name, ((const ImAboutTensor *)b)->name);
}

static bool one_of_each(ImLook *look) {
    ImAbout *a = look->out;
    if (a->n_tensors) qsort(a->tensors, a->n_tensors, sizeof *a->tensors, by_name);
    for (size_t i = 1; i < a->n_tensors; i++)
        if (by_name(&a->tensors[i - 1], &a->tensors[i]) == 0)
            return su_error(look->diags, su_file_span(look->diags, look->path), NULL, "tensor '%s' is in two files",
                            a->tensors[i].name);
    return true;
}

static void close_file(void *file) { rt_safetensors_close(file); }

static bool add_file(ImLook *look, RtWeightFile *file) {
    RtSafetensors open;
    if (!rt_safetensors_take(&file->map, file->path, &open, look->diags)) return false;
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, close_file, &open);
    im_about_file(look, file->path, &open.map);
    add_tensors(look, &open);
    const bool ok = add_metadata(look, &open);
    su_cleanup_done(&cleanup);
    rt_safetensors_close(&open);
    return ok;
}

bool im_about_weights(ImLook *look) {
    RtWeightFiles files;
    if (!rt_weight_files_open(&look->path, 1, &files, look->diags)) return false;
    bool ok = true;
    look->out->what = files.count > 1 ? "safetensors checkpoint of several files" : "safetensors file";
    if (files.count > 1) im_plain_fact(look, "files", "%zu", files.count);
    for (size_t i = 0; ok && i < files.count; i++) ok = add_file(look, &files.items[i]);
    ok = ok && (files.count < 2 || one_of_each(look));
    rt_weight_files_close(&files);
    return ok;
}

/* ---- GGUF */

static void add_value(ImLook *look, const char *key, const ImGgufValue *value) {
    SuArena *arena = &look->out->arena;
    const char *text = NULL;
    bool plain = true;
    switch (value->type) {
    case IM_GGUF_U8:
    case IM_GGUF_U16:
    case IM_GGUF_U32:
    case IM_GGUF_U64: text = su_printf(arena, "%" PRIu64, value->as.natural); break;
    case IM_GGUF_BOOL: text = value->as.natural ? "true" : "false"; break;
    case IM_GGUF_I8:
    case IM_GGUF_I16:
    case IM_GGUF_I32:
    case IM_GGUF_I64: text = su_printf(arena, "%" PRId64, value->as.integer); break;
    case IM_GGUF_F32:
    case IM_GGUF_F64:
        text = su_printf(arena, "%.9g", value->as.real);
        plain = isfinite(value->as.real);
        break;
    case IM_GGUF_STRING:
        text = im_clean_text(arena, value->as.string.text, value->as.string.size);
        plain = false;
        break;
    case IM_GGUF_ARRAY:
        text = su_printf(arena, "[%" PRIu64 " of %s]", value->as.items.count, im_gguf_type_word(value->as.items.type));
        plain = false;
        break;
    case IM_GGUF_TYPES: return;
    }
    im_add_fact(look, &look->out->metadata, su_strdup(arena, key), text, plain);
}

bool im_about_gguf(ImLook *look) {
    ImGguf gguf = {0};
    if (!im_gguf_open(look->path, &gguf, look->diags)) return false;
    ImAbout *a = look->out;
    a->what = gguf.n_maps > 1 ? "GGUF file in several parts" : "GGUF file";
    if (gguf.n_maps > 1) im_plain_fact(look, "files", "%zu", gguf.n_maps);
    for (size_t i = 0; i < gguf.n_maps; i++)
        im_about_file(look, gguf.n_maps > 1 ? su_printf(&a->arena, "part %zu", i + 1) : look->path, &gguf.maps[i]);
    const ImGgufValue *arch = im_gguf_find(&gguf, "general.architecture");
    if (arch && arch->type == IM_GGUF_STRING)
        im_fact(look, "architecture", "%s", im_clean_text(&a->arena, arch->as.string.text, arch->as.string.size));
    for (size_t i = 0; i < gguf.n_pairs; i++) add_value(look, gguf.pairs[i].key, &gguf.pairs[i].value);
    for (size_t i = 0; i < gguf.n_tensors; i++) {
        const ImGgufTensor *from = &gguf.tensors[i];
        ImAboutTensor *t = im_about_tensor(look, from->name, im_form(from->form)->word, from->rows * from->K, from->bytes);
        t->rank = from->rank;
        for (int d = 0; d < from->rank; d++) t->shape[d] = from->shape[d];
    }
    im_gguf_close(&gguf);
    return true;
}
