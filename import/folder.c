#include "import/folder.h"

#include <string.h>
#include <unistd.h>

#include "import/folder_texts.h"
#include "runtime/weights.h"
#include "support/file.h"

enum { MOST_CONFIG = 1 << 22, CONFIG_DEPTH = 32, CONFIG_VALUES = 1 << 16 };

/* ---- JSON of Python */

/* json.dumps writes Infinity as a bare word, which is no JSON: a number beyond all doubles, as long, takes its place. */
static void spell_infinity(char *text, size_t size) {
    static const char word[] = "Infinity", number[] = "1e999999";
    bool in_string = false;
    for (size_t i = 0; i < size; i++)
        if (in_string && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            in_string = !in_string;
        else if (!in_string && size - i >= sizeof word - 1 && memcmp(text + i, word, sizeof word - 1) == 0)
            memcpy(text + i, number, sizeof word - 1);
}

bool im_json_parse(char *text, size_t size, const char *path, SuJson *out, SuDiags *diags) {
    static const SuJsonRules rules = {.depth = CONFIG_DEPTH, .values = CONFIG_VALUES};
    spell_infinity(text, size);
    return su_json_parse(text, size, &rules, su_file_span(diags, path), out, diags);
}

/* ---- the folder */

typedef struct Files {
    RtWeightFiles weights;
    RtSafetensors *files; /* [n_files] */
    size_t n_files;
    SuJson config;
    bool has_config;
} Files;

static void close_files(ImCheckpoint *checkpoint) {
    Files *f = checkpoint->files;
    if (f->has_config) su_json_free(&f->config);
    for (size_t i = 0; i < f->n_files; i++) rt_safetensors_close(&f->files[i]);
}

static bool read_config(Files *f, const char *folder, ImCheckpoint *out, SuDiags *diags) {
    const char *path = su_printf(&out->arena, "%s/config.json", folder);
    char *text;
    size_t size;
    if (!su_read_file(&out->arena, path, MOST_CONFIG, &text, &size, diags)) return false;
    f->has_config = im_json_parse(text, size, path, &f->config, diags);
    if (f->has_config) out->config = im_config(f->config.root, path, &out->arena, diags);
    return f->has_config && !im_config_failed(out->config);
}

static bool is_there(SuArena *arena, const char *folder, const char *name) {
    return access(su_printf(arena, "%s/%s", folder, name), F_OK) == 0;
}

/* Pickles are programs: they are not read. */
static bool check_pickles(const char *folder, SuArena *arena, SuDiags *diags) {
    static const char *const good[] = {"model.safetensors", "model.safetensors.index.json"}, *const bad[] = {
                                                                                                 "pytorch_model.bin",
                                                                                                 "pytorch_model.bin.index.json"};
    for (int i = 0; i < 2; i++)
        if (is_there(arena, folder, good[i])) return true;
    for (int i = 0; i < 2; i++) {
        if (!is_there(arena, folder, bad[i])) continue;
        const char *hint =
            su_printf(&diags->arena,
                      "convert it, with the Python packages torch and safetensors: python3 -c \"import glob, torch; from "
                      "safetensors.torch import "
                      "save_file; w = {}; [w.update(torch.load(p, map_location='cpu', weights_only=True)) for p in "
                      "glob.glob('%s/pytorch_model*.bin')]; w = w.get('model', w); save_file({k: v.clone().contiguous() for k, v "
                      "in w.items()}, "
                      "'%s/model.safetensors')\"",
                      folder, folder);
        return su_error(diags, su_file_span(diags, su_printf(&diags->arena, "%s/%s", folder, bad[i])), hint,
                        "a pickle of PyTorch is not read, since reading it runs what is in it");
    }
    return true;
}

static bool add_tensor(ImSource *source, const RtTensor *t, const char *path, SuDiags *diags) {
    static const ImForm forms[IR_STORED_DTYPES] = {[IR_F32] = IM_F32, [IR_F16] = IM_F16, [IR_BF16] = IM_BF16};
    ImForm form = t->readable ? forms[t->dtype] : IM_F32;
    return im_source_add(source, t->name, path, t->readable ? NULL : t->dtype_name, form, t->shape, t->rank, t->data, diags);
}

static bool open_weights(Files *f, const char *folder, ImCheckpoint *out, SuDiags *diags) {
    if (!check_pickles(folder, &out->arena, diags) || !rt_weight_files_open(&folder, 1, &f->weights, diags)) return false;
    f->files = SU_NEW_ARRAY(&out->arena, RtSafetensors, f->weights.count);
    bool ok = true;
    for (size_t i = 0; ok && i < f->weights.count; i++) {
        RtWeightFile *file = &f->weights.items[i];
        ok = rt_safetensors_take(&file->map, file->path, &f->files[f->n_files], diags);
        f->n_files += ok;
    }
    rt_weight_files_close(&f->weights);
    for (size_t i = 0; ok && i < f->n_files; i++)
        for (size_t j = 0; j < f->files[i].count; j++)
            ok = add_tensor(&out->source, &f->files[i].tensors[j], f->files[i].path, diags) && ok;
    return ok;
}

/* ---- the index */

/* A name that the index gives to a file: the tensor must be there. */
static bool check_entry(const cJSON *item, const ImSource *source, const char *path, SuDiags *diags) {
    const ImTensor *t = im_source_find(source, item->string);
    const char *slash = t ? strrchr(t->file, '/') : NULL, *file = t ? slash ? slash + 1 : t->file : NULL;
    if (!cJSON_IsString(item)) return true; /* reported when the files were opened */
    if (t && strcmp(file, item->valuestring) == 0) return true;
    return su_error(diags, su_file_span(diags, path), NULL, "weight_map: '%s' is not in %s%s%s", item->string, item->valuestring,
                    t ? ", but in " : "", t ? file : "");
}

/* Whether the index, if there is one, tells the truth about its shards. */
static bool check_index(const char *folder, ImCheckpoint *out, SuDiags *diags) {
    static const SuJsonRules rules = {.depth = CONFIG_DEPTH, .values = RT_MAX_VALUES};
    const char *path = su_printf(&out->arena, "%s/model.safetensors.index.json", folder);
    char *text;
    size_t size;
    SuJson json;
    if (access(path, F_OK) != 0) return true;
    if (!su_read_file(&out->arena, path, RT_MAX_HEADER, &text, &size, diags)) return false;
    if (!su_json_parse(text, size, &rules, su_file_span(diags, path), &json, diags)) return false;
    const cJSON *map = cJSON_GetObjectItemCaseSensitive(json.root, "weight_map");
    bool ok = true;
    for (const cJSON *item = map ? map->child : NULL; item; item = item->next)
        ok = check_entry(item, &out->source, path, diags) && ok;
    su_json_free(&json);
    return ok;
}

bool im_folder_open(const char *path, ImCheckpoint *out, SuDiags *diags) {
    Files *f = SU_NEW(&out->arena, Files);
    out->what = "Hugging Face folder";
    out->files = f;
    out->close = close_files;
    return read_config(f, path, out, diags) && open_weights(f, path, out, diags) && im_source_settle(&out->source, diags) &&
           check_index(path, out, diags) && im_folder_texts(path, out, diags);
}
