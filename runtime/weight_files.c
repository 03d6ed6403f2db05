/* Weights by the name of what holds them: a file, an index of shards, or a directory of one of the two. */
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/weights.h"
#include "support/file.h"
#include "support/json.h"
#include "support/str.h"

static const char index_name[] = "model.safetensors.index.json", file_name[] = "model.safetensors";

typedef struct Files {
    SuArena *arena;
    const char **items;
    size_t count, capacity;
} Files;

static void add(Files *files, const char *path) {
    files->items = su_grow(files->arena, files->items, &files->capacity, files->count + 1, sizeof *files->items);
    files->items[files->count++] = path;
}

/* `name` beside the file `path`. */
static const char *beside(SuArena *arena, const char *path, const char *name) {
    const char *slash = strrchr(path, '/');
    return su_printf(arena, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name);
}

/* Shards in the order in which the map first names them. */
static bool add_shards(Files *files, const char *path, const cJSON *map, SuDiags *diags) {
    size_t first = files->count;
    for (const cJSON *item = map->child; item; item = item->next) {
        if (!cJSON_IsString(item) || !item->valuestring[0] || strchr(item->valuestring, '/'))
            return su_error(diags, su_file_span(diags, path), NULL,
                            "weight_map: '%s': expected the name of a file in the same directory", item->string);
        const char *shard = beside(files->arena, path, item->valuestring);
        size_t i = first;
        while (i < files->count && strcmp(files->items[i], shard) != 0) i++;
        if (i == files->count) add(files, shard);
    }
    return files->count > first || su_error(diags, su_file_span(diags, path), NULL, "weight_map is empty: it names no file");
}

/* Whether it begins as JSON does; a safetensors file has zeros among its first eight bytes. */
static bool is_json(const SuMap *map) {
    size_t at = 0;
    while (at < map->size && memchr(" \t\r\n", map->data[at], 4)) at++;
    return at < map->size && map->data[at] == '{' && (map->size < 8 || !memchr(map->data, '\0', 8));
}

static const SuJsonRules index_rules = {.depth = 16, .values = RT_MAX_VALUES};

static bool add_index(Files *files, const char *path, const SuMap *map, SuDiags *diags) {
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

/* A file: an index stands for its shards. What cannot be opened is reported by whoever opens it. */
static bool add_file(Files *files, const char *path, SuDiags *diags) {
    SuMap map;
    SuDiags ignored = {0};
    bool ok = true, opened = su_map_open(path, &map, &ignored);
    su_diags_free(&ignored);
    if (opened && is_json(&map))
        ok = add_index(files, path, &map, diags);
    else
        add(files, path);
    if (opened) su_map_close(&map);
    return ok;
}

static bool add_directory(Files *files, const char *path, SuDiags *diags) {
    size_t size = strlen(path);
    const char *slash = size && path[size - 1] == '/' ? "" : "/";
    const char *index = su_printf(files->arena, "%s%s%s", path, slash, index_name);
    const char *file = su_printf(files->arena, "%s%s%s", path, slash, file_name);
    if (access(index, F_OK) == 0) return add_file(files, index, diags);
    if (access(file, F_OK) == 0) return add_file(files, file, diags);
    return su_error(diags, su_file_span(diags, path), NULL, "directory has neither %s nor %s", index_name, file_name);
}

bool rt_weight_files(SuArena *arena, const char *const *paths, size_t n_paths, const char *const **out_paths, size_t *out_count,
                     SuDiags *diags) {
    Files files = {.arena = arena};
    bool ok = true;
    for (size_t i = 0; i < n_paths; i++) {
        struct stat st;
        bool directory = stat(paths[i], &st) == 0 && S_ISDIR(st.st_mode);
        ok = (directory ? add_directory : add_file)(&files, paths[i], diags) && ok;
    }
    *out_paths = files.items;
    *out_count = files.count;
    return ok;
}
