#include "import/about.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "import/families/families.h"
#include "import/folder.h"
#include "runtime/state_file.h"
#include "support/content.h"
#include "support/digest.h"
#include "support/utf8.h"
#include "tokenizer/packed.h"

enum { MOST_TEXT = 64 << 20 };

/* ---- what is found */

const char *im_clean_text(SuArena *arena, const char *bytes, size_t size) {
    SuText text = {0};
    for (size_t i = 0; i < size;) {
        SuUtf8 at = su_utf8_at(bytes + i, size - i);
        const bool good = at.whole && at.code != 0;
        su_text_append(&text, good ? bytes + i : SU_UTF8_REPLACEMENT, good ? at.size : 3);
        i += at.size;
    }
    const char *clean = su_strndup(arena, text.size ? text.text : "", text.size);
    su_text_free(&text);
    return clean;
}

void im_add_fact(ImLook *look, ImFacts *facts, const char *key, const char *value, bool plain) {
    facts->items = su_grow(&look->out->arena, facts->items, &facts->capacity, facts->count + 1, sizeof *facts->items);
    facts->items[facts->count++] = (ImFact){key, value, plain};
}

void im_fact(ImLook *look, const char *key, const char *format, ...) {
    va_list args;
    va_start(args, format);
    im_add_fact(look, &look->out->facts, key, su_vprintf(&look->out->arena, format, args), false);
    va_end(args);
}

void im_plain_fact(ImLook *look, const char *key, const char *format, ...) {
    va_list args;
    va_start(args, format);
    im_add_fact(look, &look->out->facts, key, su_vprintf(&look->out->arena, format, args), true);
    va_end(args);
}

ImAboutTensor *im_about_tensor(ImLook *look, const char *name, const char *dtype, uint64_t elements, uint64_t bytes) {
    ImAbout *a = look->out;
    a->tensors = su_grow(&a->arena, a->tensors, &a->tensors_capacity, a->n_tensors + 1, sizeof *a->tensors);
    ImAboutTensor *t = &a->tensors[a->n_tensors++];
    *t = (ImAboutTensor){.name = im_clean_text(&a->arena, name, strlen(name)),
                         .dtype = im_clean_text(&a->arena, dtype, strlen(dtype)),
                         .elements = elements,
                         .bytes = bytes};
    return t;
}

void im_about_file(ImLook *look, const char *path, const SuMap *map) {
    look->out->bytes += map->size;
    if (!look->every_byte) return;
    char hex[SU_HEX];
    SuDigest digest = su_digest(map->data, map->size);
    const char *slash = strrchr(path, '/');
    im_fact(look, su_printf(&look->out->arena, "digest of %s", slash ? slash + 1 : path), "%s", su_digest_hex(&digest, hex));
}

/* ---- classes */

static const char *pattern_of(SuArena *arena, const char *name) {
    char *out = su_strdup(arena, name), *to = out;
    for (const char *at = name; *at; at++) {
        const bool digit = isdigit((unsigned char)*at) != 0, begins = at == name || !isalnum((unsigned char)at[-1]);
        const char *end = at;
        while (isdigit((unsigned char)*end)) end++;
        if (digit && begins && !isalnum((unsigned char)*end)) { /* a number, not the 1 of conv1d */
            *to++ = '*';
            at = end - 1;
        } else {
            *to++ = *at;
        }
    }
    *to = '\0';
    return out;
}

static int by_name(const void *a, const void *b) {
    const ImAboutClass *x = a, *y = b;
    const int order = strcmp(x->name, y->name);
    return order ? order : strcmp(x->dtype, y->dtype);
}

ImAboutClass *im_about_classes(ImAbout *about, size_t *out_count) {
    ImAboutClass *classes = SU_NEW_ARRAY(&about->arena, ImAboutClass, about->n_tensors);
    size_t n = 0;
    for (size_t i = 0; i < about->n_tensors; i++) {
        const ImAboutTensor *t = &about->tensors[i];
        classes[i] = (ImAboutClass){pattern_of(&about->arena, t->name), t->dtype, 1, t->elements, t->bytes};
    }
    qsort(classes, about->n_tensors, sizeof *classes, by_name);
    for (size_t i = 0; i < about->n_tensors; i++) {
        if (n == 0 || by_name(&classes[n - 1], &classes[i]) != 0) {
            classes[n++] = classes[i];
            continue;
        }
        ImAboutClass *c = &classes[n - 1];
        c->tensors++;
        c->elements += classes[i].elements;
        c->bytes += classes[i].bytes;
    }
    *out_count = n;
    return classes;
}

/* ---- directories */

static bool is_there(const ImLook *look, const char *name) {
    return access(su_printf(&look->out->arena, "%s/%s", look->path, name), F_OK) == 0;
}

static void close_map(void *map) { su_map_close(map); }

/* Looks at a file of the directory. */
static bool look_within(ImLook *look, const char *name, bool (*about)(ImLook *)) {
    ImLook within = *look;
    within.path = su_printf(&look->out->arena, "%s/%s", look->path, name);
    if (!su_map_open(within.path, &within.map, look->diags)) return false;
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, close_map, &within.map);
    const bool ok = about(&within);
    su_cleanup_done(&cleanup);
    su_map_close(&within.map);
    return ok;
}

/* The name of the only file of the directory that ends so; NULL: none, or several. */
static const char *only_file(ImLook *look, const char *ending) {
    DIR *directory = opendir(look->path);
    const char *found = NULL;
    const size_t size = strlen(ending);
    for (struct dirent *entry; directory && (entry = readdir(directory)) != NULL;) {
        const size_t length = strlen(entry->d_name);
        if (length <= size || strcmp(entry->d_name + length - size, ending) != 0) continue;
        if (found) {
            found = NULL;
            break;
        }
        found = su_strdup(&look->out->arena, entry->d_name);
    }
    if (directory) closedir(directory);
    return found;
}

static bool about_artefact(ImLook *look, const char *weights) {
    const int size = (int)(strlen(weights) - strlen(".weights"));
    const char *tokenizer = su_printf(&look->out->arena, "%.*s.tokenizer", size, weights);
    const char *shared = su_printf(&look->out->arena, "%.*s.so", size, weights);
    if (!look_within(look, weights, im_about_packed)) return false;
    im_fact(look, "shared object", "%s", is_there(look, shared) ? shared : "none");
    if (is_there(look, tokenizer) && !look_within(look, tokenizer, im_about_packed_tokenizer)) return false;
    look->out->what = "artefact of mossc compile";
    return true;
}

/* What the folder's config says, and whether mossc import knows the family. */
static bool about_config(ImLook *look) {
    SuArena *arena = &look->out->arena;
    SuJson json;
    char *text = su_strndup(arena, (const char *)look->map.data, look->map.size);
    if (!im_json_parse(text, look->map.size, look->path, &json, look->diags)) return false;
    SuDiags unsaid = {0};
    ImConfig *config = im_config(json.root, look->path, arena, &unsaid);
    const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json.root, "model_type"));
    const ImFamily *family = im_config_failed(config) ? NULL : im_family_of(config);
    im_fact(look, "model_type", "%s", type ? type : "none");
    im_fact(look, "mossc import", "%s", family ? su_printf(arena, "family %s", family->name) : "not known");
    su_diags_free(&unsaid);
    su_json_free(&json);
    return true;
}

static bool about_directory(ImLook *look) {
    const char *weights = is_there(look, "mossrt") ? only_file(look, ".weights") : NULL;
    if (weights) return about_artefact(look, weights);
    if (is_there(look, "spec.yaml") && !look_within(look, "spec.yaml", im_about_spec)) return false;
    if (is_there(look, "config.json") && !look_within(look, "config.json", about_config)) return false;
    if (!im_about_weights(look)) return false;
    if (is_there(look, "tokenizer.json") && !look_within(look, "tokenizer.json", im_about_tokenizer)) return false;
    look->out->what = is_there(look, "spec.yaml")     ? "directory of mossc import"
                      : is_there(look, "config.json") ? "Hugging Face folder"
                                                      : "folder of safetensors files";
    return true;
}

/* ---- files */

static const struct {
    const char *magic;
    bool (*about)(ImLook *look);
} kinds[] = {
    {"GGUF", im_about_gguf},
    {RT_PACKED_MAGIC, im_about_packed},
    {RT_STATE_MAGIC, im_about_state},
    {TK_PACKED_MAGIC, im_about_packed_tokenizer},
};

/* An index of shards, a tokenizer, or something that belongs to a folder. */
static bool about_json(ImLook *look) {
    static const SuJsonRules rules = {.depth = 64, .values = RT_MAX_VALUES};
    SuJson json;
    const SuSpan span = su_file_span(look->diags, look->path);
    if (!su_json_parse((const char *)look->map.data, look->map.size, &rules, span, &json, look->diags)) return false;
    const bool index = cJSON_HasObjectItem(json.root, "weight_map"), tokenizer = cJSON_HasObjectItem(json.root, "model");
    su_json_free(&json);
    if (index) return im_about_weights(look);
    if (tokenizer) return im_about_tokenizer(look);
    return su_error(look->diags, span, "give the folder that it belongs to",
                    "file is JSON that is neither an index nor a tokenizer");
}

static bool has_ending(const char *path, const char *ending) {
    const size_t size = strlen(path), end = strlen(ending);
    return size > end && strcmp(path + size - end, ending) == 0;
}

static bool about_file(ImLook *look) {
    const SuMap *map = &look->map;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t size = strlen(kinds[i].magic);
        if (map->size >= size && memcmp(map->data, kinds[i].magic, size) == 0) return kinds[i].about(look);
    }
    if (su_begins_as_json(map->data, map->size) && map->size <= MOST_TEXT) return about_json(look);
    if ((map->size > 8 && map->data[8] == '{') || has_ending(look->path, ".safetensors")) return im_about_weights(look);
    if (has_ending(look->path, ".yaml") || has_ending(look->path, ".yml")) return im_about_spec(look);
    return su_error(look->diags, su_file_span(look->diags, look->path), NULL,
                    "file is none that mossc knows: expected safetensors, GGUF, packed weights, a state, a tokenizer or a spec");
}

/* ---- all of it */

static bool look_at(ImLook *look) {
    struct stat st;
    if (stat(look->path, &st) == 0 && S_ISDIR(st.st_mode)) return about_directory(look);
    if (!su_map_open(look->path, &look->map, look->diags)) return false;
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, close_map, &look->map);
    const bool ok = about_file(look);
    su_cleanup_done(&cleanup);
    su_map_close(&look->map);
    return ok;
}

bool im_about(const char *path, bool every_byte, ImAbout *out, SuDiags *diags) {
    *out = (ImAbout){0};
    su_arena_settle(&out->arena);
    ImLook look = {.path = path, .every_byte = every_byte, .out = out, .diags = diags};
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "looking at a file")) return false;
    const bool ok = look_at(&look);
    su_diags_keep(diags);
    su_guard_end(&guard);
    return ok;
}

void im_about_free(ImAbout *about) { su_arena_free(&about->arena); }
