/* A model in one file or several. */
#include <stdlib.h>
#include <string.h>

#include "import/gguf_read.h"

/* "DIRECTORY/NAME" of "DIRECTORY/NAME-00002-of-00003.gguf", which must be what split.no and split.count say. */
static const char *stem_of(ImGguf *gguf, const ImGgufSplit *split, SuDiags *diags) {
    const char *path = gguf->path;
    const char *suffix = su_printf(&gguf->arena, "-%05lld-of-%05lld.gguf", (long long)split->number + 1, (long long)split->count);
    const size_t size = strlen(path), behind = strlen(suffix);
    if (size > behind && strcmp(path + size - behind, suffix) == 0) return su_strndup(&gguf->arena, path, size - behind);
    su_error(diags, su_file_span(diags, path), "the files of a model are told apart by their names",
             "file %lld of %lld of a model: expected a name that ends in '%s'", (long long)split->number + 1,
             (long long)split->count, suffix);
    return NULL;
}

static bool read_map(ImGguf *gguf, const char *path, ImGgufSplit *split, SuDiags *diags) {
    SuMap *map = &gguf->maps[gguf->n_maps];
    if (!su_map_open(path, map, diags)) return false;
    gguf->n_maps++;
    return im_gguf_read(map->data, map->size, path, gguf, split, diags);
}

static bool is_expected(const char *path, const ImGgufSplit *wanted, const ImGgufSplit *found, SuDiags *diags) {
    if (found->number == wanted->number && found->count == wanted->count) return true;
    return su_error(diags, su_file_span(diags, path), NULL, "expected file %lld of %lld of a model, got file %lld of %lld",
                    (long long)wanted->number + 1, (long long)wanted->count, (long long)found->number + 1, (long long)found->count);
}

/* File `number` of several; the pairs that stay are the first file's. */
static bool read_another(ImGguf *gguf, const char *stem, ImGgufSplit *split, int64_t number, SuDiags *diags) {
    const char *path = su_printf(&gguf->arena, "%s-%05lld-of-%05lld.gguf", stem, (long long)number + 1, (long long)split->count);
    const ImGgufSplit wanted = {.number = number, .count = split->count};
    ImGgufSplit found;
    ImGgufPair *pairs = gguf->pairs;
    const size_t n_pairs = gguf->n_pairs;
    gguf->pairs = NULL;
    gguf->n_pairs = 0;
    if (!read_map(gguf, path, &found, diags) || !is_expected(path, &wanted, &found, diags)) return false;
    if (number == 0) {
        split->tensors = found.tensors;
        return true;
    }
    gguf->pairs = pairs;
    gguf->n_pairs = n_pairs;
    return true;
}

static bool check_count(const ImGguf *gguf, int64_t tensors, SuDiags *diags) {
    if (tensors < 0 || (uint64_t)tensors == gguf->n_tensors) return true;
    return su_error(diags, su_file_span(diags, gguf->path), NULL,
                    "split.tensors.count: expected %lld tensors in all files, got %zu", (long long)tensors, gguf->n_tensors);
}

/* The file that was given is read first, then the others in order. */
static bool read_files(ImGguf *gguf, SuDiags *diags) {
    ImGgufSplit split;
    gguf->maps = SU_NEW_ARRAY(&gguf->arena, SuMap, IM_GGUF_SPLITS);
    if (!read_map(gguf, gguf->path, &split, diags)) return false;
    if (split.count <= 1) return check_count(gguf, split.tensors, diags);
    const int64_t given = split.number;
    const char *stem = stem_of(gguf, &split, diags);
    for (int64_t number = 0; stem != NULL && number < split.count; number++)
        if (number != given && !read_another(gguf, stem, &split, number, diags)) return false;
    return stem != NULL && check_count(gguf, split.tensors, diags);
}

/* ---- tensors by name */

static int by_name(const void *a, const void *b) {
    return strcmp(((const ImGgufTensor *)a)->name, ((const ImGgufTensor *)b)->name);
}

static bool finish(ImGguf *gguf, SuDiags *diags) {
    if (gguf->n_tensors != 0) qsort(gguf->tensors, gguf->n_tensors, sizeof *gguf->tensors, by_name);
    for (size_t i = 1; i < gguf->n_tensors; i++)
        if (strcmp(gguf->tensors[i - 1].name, gguf->tensors[i].name) == 0)
            return su_error(diags, su_file_span(diags, gguf->path), NULL, "the tensor '%s' is there twice", gguf->tensors[i].name);
    return true;
}

const ImGgufTensor *im_gguf_tensor(const ImGguf *gguf, const char *name) {
    const ImGgufTensor wanted = {.name = name};
    return gguf->n_tensors != 0 ? bsearch(&wanted, gguf->tensors, gguf->n_tensors, sizeof wanted, by_name) : NULL;
}

/* ---- all of it */

static void close_gguf(void *gguf) { im_gguf_close(gguf); }

static void begin(ImGguf *gguf, const char *path) {
    *gguf = (ImGguf){0};
    su_cleanup_add(&gguf->cleanup, close_gguf, gguf);
    gguf->path = su_strdup(&gguf->arena, path);
}

static bool end(ImGguf *gguf, bool ok) {
    if (!ok) im_gguf_close(gguf);
    return ok;
}

bool im_gguf_open(const char *path, ImGguf *out, SuDiags *diags) {
    begin(out, path);
    return end(out, read_files(out, diags) && finish(out, diags));
}

bool im_gguf_parse(const uint8_t *data, size_t size, const char *path, ImGguf *out, SuDiags *diags) {
    ImGgufSplit split;
    begin(out, path);
    return end(out, im_gguf_read(data, size, path, out, &split, diags) && finish(out, diags));
}

void im_gguf_close(ImGguf *gguf) {
    su_cleanup_done(&gguf->cleanup);
    for (size_t i = 0; i < gguf->n_maps; i++) su_map_close(&gguf->maps[i]);
    su_arena_free(&gguf->arena);
    *gguf = (ImGguf){0};
}
