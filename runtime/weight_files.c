/* Weights by the name of what holds them: a file, an index of shards, or a directory of one of the two. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/packed.h"
#include "runtime/weights.h"
#include "support/content.h"
#include "support/file.h"
#include "support/json.h"
#include "support/str.h"

static const char index_name[] = "model.safetensors.index.json", file_name[] = "model.safetensors";

static void close_map(void *map) { su_map_close(map); }

static bool open_map(RtWeightFiles *files, const char *path, SuMap *out, SuDiags *diags) {
    bool ok = su_map_open(path, out, diags);
    files->missing = files->missing || !ok;
    return ok;
}

static void add(RtWeightFiles *files, const char *path, SuMap map) {
    files->items = su_grow(&files->arena, files->items, &files->capacity, files->count + 1, sizeof *files->items);
    files->items[files->count++] = (RtWeightFile){.path = path, .map = map};
}

/* `name` beside the file `path`. */
static const char *beside(SuArena *arena, const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    return su_printf(arena, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name);
}

static bool open_shard(RtWeightFiles *files, size_t first, const char *path, SuDiags *diags) {
    for (size_t i = first; i < files->count; i++)
        if (strcmp(files->items[i].path, path) == 0) return true;
    add(files, path, (SuMap){0});
    return open_map(files, path, &files->items[files->count - 1].map, diags);
}

/* Shards in the order in which the map first names them. */
static bool add_shards(RtWeightFiles *files, const char *path, const cJSON *map, SuDiags *diags) {
    size_t first = files->count;
    bool ok = true;
    for (const cJSON *item = map->child; item; item = item->next) {
        if (!cJSON_IsString(item) || !item->valuestring[0] || strchr(item->valuestring, '/'))
            return su_error(diags, su_file_span(diags, path), NULL,
                            "weight_map: '%s': expected the name of a file in the same directory", item->string);
        ok = open_shard(files, first, beside(&files->arena, path, item->valuestring), diags) && ok;
    }
    return files->count > first ? ok : su_error(diags, su_file_span(diags, path), NULL, "weight_map is empty: it names no file");
}

static const SuJsonRules index_rules = {.depth = 16, .values = RT_MAX_VALUES};

static bool add_index(RtWeightFiles *files, const char *path, const SuMap *map, SuDiags *diags) {
    if (map->size > RT_MAX_HEADER)
        return su_error(diags, su_file_span(diags, path), NULL, "file exceeds the limit of %d bytes for JSON", RT_MAX_HEADER);
    SuSpan span = su_file_span(diags, path);
    SuJson json;
    if (!su_json_parse((const char *)map->data, map->size, &index_rules, span, &json, diags)) return false;
    const cJSON *weight_map = cJSON_GetObjectItemCaseSensitive(json.root, "weight_map");
    bool ok = cJSON_IsObject(weight_map)
                  ? add_shards(files, path, weight_map, diags)
                  : su_error(diags, span, "give the .safetensors file, its index.json, or the directory that holds them",
                             "file is JSON without a weight_map, not weights");
    su_json_free(&json);
    return ok;
}

/* A file: an index stands for its shards. */
static bool add_file(RtWeightFiles *files, const char *path, SuDiags *diags) {
    SuMap map;
    SuCleanup cleanup;
    if (!open_map(files, path, &map, diags)) return false;
    su_cleanup_add(&cleanup, close_map, &map);
    bool index = su_begins_as_json(map.data, map.size), ok = !index || add_index(files, path, &map, diags);
    if (!index) add(files, path, map);
    su_cleanup_done(&cleanup);
    if (index) su_map_close(&map);
    return ok;
}

const char *rt_weight_file_of(SuArena *arena, const char *path) {
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) return path;
    size_t size = strlen(path);
    const char *slash = size && path[size - 1] == '/' ? "" : "/";
    const char *index = su_printf(arena, "%s%s%s", path, slash, index_name);
    const char *file = su_printf(arena, "%s%s%s", path, slash, file_name);
    return access(index, F_OK) == 0 ? index : access(file, F_OK) == 0 ? file : NULL;
}

static void close_files(void *files) { rt_weight_files_close(files); }

bool rt_weight_files_open(const char *const *paths, size_t n_paths, RtWeightFiles *out, SuDiags *diags) {
    bool ok = true;
    *out = (RtWeightFiles){0};
    su_cleanup_add(&out->cleanup, close_files, out);
    for (size_t i = 0; i < n_paths; i++) {
        const char *file = rt_weight_file_of(&out->arena, su_strdup(&out->arena, paths[i]));
        ok = (file ? add_file(out, file, diags)
                   : su_error(diags, su_file_span(diags, paths[i]), NULL, "directory has neither %s nor %s", index_name,
                              file_name)) &&
             ok;
    }
    bool missing = out->missing;
    if (!ok) rt_weight_files_close(out);
    out->missing = missing;
    return ok;
}

bool rt_weight_files_are_packed(const RtWeightFiles *files) {
    return files->count == 1 && rt_packed_is(files->items[0].map.data, files->items[0].map.size);
}

void rt_weight_files_close(RtWeightFiles *files) {
    su_cleanup_done(&files->cleanup);
    for (size_t i = 0; i < files->count; i++) su_map_close(&files->items[i].map);
    su_arena_free(&files->arena);
    *files = (RtWeightFiles){0};
}
