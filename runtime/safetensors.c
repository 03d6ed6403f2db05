/* The safetensors reader. The header passes three gates: its JSON, each entry on its own, and all entries together (names distinct,
 * bytes covered exactly once). */
#include "runtime/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "support/content.h"
#include "support/json.h"
#include "support/size.h"
#include "support/str.h"

enum {
    DEPTH = 3, /* { name: { shape: [ … */
    LENGTH_BYTES = 8,
    MAX_ELEMENTS_LOG2 = 48 /* of a tensor, as in the language */
};

/* Where messages go; everything a check needs to name the place. */
typedef struct Reader {
    RtSafetensors *file;
    const uint8_t *data; /* behind the header */
    uint64_t data_size;
    SuSpan span;
    SuDiags *diags;
} Reader;

#define FAIL(reader, ...) su_error((reader)->diags, (reader)->span, NULL, __VA_ARGS__)

/* ---- gate 1: the JSON */

/* What a header never needs is refused. __metadata__ that is null is as good as absent. */
static const SuJsonRules header_rules = {
    .part = "header", .depth = DEPTH, .values = RT_MAX_VALUES, .plain = true, .null_key = "__metadata__"};

/* ---- gate 2: an entry */

uint64_t rt_dtype_bytes(const char *dtype) {
    static const struct {
        const char *name;
        uint8_t size;
    } dtypes[] = {{"F64", 8},  {"I64", 8},  {"U64", 8},     {"F32", 4},     {"I32", 4},    {"U32", 4},
                  {"F16", 2},  {"BF16", 2}, {"I16", 2},     {"U16", 2},     {"I8", 1},     {"U8", 1},
                  {"BOOL", 1}, {"C64", 8},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (strcmp(dtype, dtypes[i].name) == 0) return dtypes[i].size;
    return 0;
}

static void set_dtype(RtTensor *t, uint64_t *out_size) {
    *out_size = rt_dtype_bytes(t->dtype_name); /* 0, unknown: its bytes cannot be checked */
    for (int i = 0; i < IR_STORED_DTYPES; i++) {
        const char *file = ir_dtype((IrDtype)i)->file;
        if (!file || strcmp(t->dtype_name, file) != 0) continue;
        t->readable = true;
        t->dtype = (IrDtype)i;
    }
}

/* A whole number that a double holds exactly. */
static bool whole_number(const cJSON *item, uint64_t *out) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) || item->valuedouble >= 0x1p53) return false;
    *out = (uint64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

static bool read_shape(Reader *r, const cJSON *item, RtTensor *t) {
    if (!cJSON_IsArray(item)) return FAIL(r, "tensor '%s': shape: expected a list", t->name);
    t->elements = 1;
    for (const cJSON *dim = item->child; dim; dim = dim->next) {
        uint64_t size;
        if (t->rank == RT_MAX_RANK) return FAIL(r, "tensor '%s': more than %d dimensions", t->name, RT_MAX_RANK);
        if (!whole_number(dim, &size))
            return FAIL(r, "tensor '%s': dimension %d of shape: expected an integer between 0 and 2^53 - 1", t->name, t->rank);
        if (!su_mul(t->elements, size, &t->elements) || t->elements > UINT64_C(1) << MAX_ELEMENTS_LOG2)
            return FAIL(r, "tensor '%s': shape has more than 2^%d elements", t->name, MAX_ELEMENTS_LOG2);
        t->shape[t->rank++] = (int64_t)size;
    }
    return true;
}

static bool read_offsets(Reader *r, const cJSON *item, RtTensor *t) {
    const cJSON *first = cJSON_IsArray(item) ? item->child : NULL;
    const cJSON *second = first ? first->next : NULL;
    uint64_t begin, end;
    if (!second || second->next || !whole_number(first, &begin) || !whole_number(second, &end))
        return FAIL(r, "tensor '%s': data_offsets: expected a list of two integers", t->name);
    if (begin > end) {
        return FAIL(r, "tensor '%s': data_offsets: end %llu is before begin %llu", t->name, (unsigned long long)end,
                    (unsigned long long)begin);
    }
    if (end > r->data_size) {
        return FAIL(r, "tensor '%s': data_offsets end at byte %llu, but the file has only %llu bytes of data", t->name,
                    (unsigned long long)end, (unsigned long long)r->data_size);
    }
    t->data = begin < end ? r->data + begin : r->data;
    t->bytes = end - begin;
    return true;
}

/* Finds each of the three keys exactly once. */
static bool read_keys(Reader *r, const cJSON *entry, RtTensor *t, const cJSON *found[3]) {
    static const char *const keys[3] = {"dtype", "shape", "data_offsets"};
    if (!cJSON_IsObject(entry)) return FAIL(r, "tensor '%s': expected a JSON object", t->name);
    for (const cJSON *item = entry->child; item; item = item->next) {
        int key = 0;
        while (key < 3 && strcmp(item->string, keys[key]) != 0) key++;
        if (key == 3) return FAIL(r, "tensor '%s': unknown key '%s'", t->name, item->string);
        if (found[key]) return FAIL(r, "tensor '%s': duplicate key '%s'", t->name, item->string);
        found[key] = item;
    }
    for (int key = 0; key < 3; key++)
        if (!found[key]) return FAIL(r, "tensor '%s': key '%s' is missing", t->name, keys[key]);
    return true;
}

static bool read_entry(Reader *r, const cJSON *entry, RtTensor *t) {
    const cJSON *found[3] = {0};
    t->name = su_strdup(&r->file->arena, entry->string);
    if (!read_keys(r, entry, t, found)) return false;
    if (!cJSON_IsString(found[0])) return FAIL(r, "tensor '%s': dtype: expected a string", t->name);
    uint64_t size, bytes;
    t->dtype_name = su_strdup(&r->file->arena, found[0]->valuestring);
    set_dtype(t, &size);
    if (!read_shape(r, found[1], t) || !read_offsets(r, found[2], t)) return false;
    if (size && (!su_mul(t->elements, size, &bytes) || bytes != t->bytes)) {
        return FAIL(r, "tensor '%s': data_offsets: expected %llu bytes for %s %s, got %llu", t->name,
                    (unsigned long long)(t->elements * size), t->dtype_name, rt_shape_text(&r->diags->arena, t->shape, t->rank),
                    (unsigned long long)t->bytes);
    }
    return true;
}

static bool check_metadata(Reader *r, const cJSON *entry) {
    bool ok = cJSON_IsObject(entry) || cJSON_IsNull(entry);
    for (const cJSON *item = ok ? entry->child : NULL; item; item = item->next) ok = ok && cJSON_IsString(item);
    return ok || FAIL(r, "__metadata__: expected a JSON object of strings");
}

/* ---- gate 3: all entries */

static int by_name(const void *a, const void *b) { return strcmp(((const RtTensor *)a)->name, ((const RtTensor *)b)->name); }

/* By place; empty tensors before others at the same place. */
static int by_data(const void *a, const void *b) {
    const RtTensor *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The format wants the data covered without gaps; overlaps and gaps both mean that a header does not belong to its data. */
static bool check_cover(Reader *r) {
    RtTensor *tensors = r->file->tensors;
    size_t count = r->file->count;
    if (count) qsort(tensors, count, sizeof *tensors, by_data);
    const RtTensor *last = NULL;
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        if (!tensors[i].bytes) continue;
        uint64_t begin = (uint64_t)(tensors[i].data - r->data);
        if (begin < end) return FAIL(r, "tensors '%s' and '%s' overlap", last->name, tensors[i].name);
        if (begin > end) {
            return FAIL(r, "bytes %llu to %llu of the data belong to no tensor", (unsigned long long)end,
                        (unsigned long long)begin);
        }
        end = begin + tensors[i].bytes;
        last = &tensors[i];
    }
    if (end != r->data_size) {
        return FAIL(r, "bytes %llu to %llu of the data belong to no tensor", (unsigned long long)end,
                    (unsigned long long)r->data_size);
    }
    return true;
}

static bool check_names(Reader *r) {
    RtTensor *tensors = r->file->tensors;
    bool ok = true;
    if (r->file->count) qsort(tensors, r->file->count, sizeof *tensors, by_name);
    for (size_t i = 1; i < r->file->count; i++)
        if (!strcmp(tensors[i - 1].name, tensors[i].name) && (i < 2 || strcmp(tensors[i - 2].name, tensors[i].name) != 0))
            ok = FAIL(r, "duplicate tensor '%s'", tensors[i].name);
    return ok;
}

/* ---- all of it */

static bool read_entries(Reader *r, const cJSON *root) {
    RtSafetensors *file = r->file;
    size_t n = 0;
    bool ok = true, metadata = false;
    for (const cJSON *entry = root->child; entry; entry = entry->next) n++;
    file->tensors = SU_NEW_ARRAY(&file->arena, RtTensor, n);
    for (const cJSON *entry = root->child; entry; entry = entry->next) {
        if (!strcmp(entry->string, "__metadata__")) {
            ok = (metadata ? FAIL(r, "duplicate __metadata__") : check_metadata(r, entry)) && ok;
            metadata = true;
        } else {
            ok = read_entry(r, entry, &file->tensors[file->count++]) && ok;
        }
    }
    if (!ok) return false;
    ok = check_cover(r);
    return check_names(r) && ok; /* last: it leaves the tensors sorted by name */
}

static bool read_json(Reader *r, const char *text, size_t size) {
    SuJson json;
    if (!su_json_parse(text, size, &header_rules, r->span, &json, r->diags)) return false;
    bool ok = cJSON_IsObject(json.root) ? read_entries(r, json.root) : FAIL(r, "header: expected a JSON object of tensors");
    su_json_free(&json);
    return ok;
}

/* Something else by its content; what a safetensors file cannot begin with. */
static bool check_content(Reader *r, const uint8_t *data, size_t size) {
    bool has_header = size > LENGTH_BYTES && data[LENGTH_BYTES] == '{' && data[LENGTH_BYTES - 1] == 0;
    const char *hint, *what = has_header ? NULL : su_content_of(data, size, &hint);
    return !what || su_error(r->diags, r->span, hint, "%s", what);
}

static bool read_file(Reader *r, const uint8_t *data, size_t size) {
    if (!check_content(r, data, size)) return false;
    if (size < LENGTH_BYTES) return FAIL(r, "file is not a safetensors file: expected at least 8 bytes, got %zu", size);
    uint64_t header = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--) header = header << 8 | data[i];
    if (header > size - LENGTH_BYTES) {
        return FAIL(r, "file is not a complete safetensors file: expected a header of %llu bytes, but only %zu follow",
                    (unsigned long long)header, size - LENGTH_BYTES);
    }
    if (header > RT_MAX_HEADER)
        return FAIL(r, "header of %llu bytes exceeds the limit of %d bytes", (unsigned long long)header, RT_MAX_HEADER);
    r->data = data + LENGTH_BYTES + header;
    r->data_size = size - LENGTH_BYTES - header;
    return read_json(r, (const char *)data + LENGTH_BYTES, (size_t)header);
}

bool rt_safetensors_parse(const uint8_t *data, size_t size, const char *path, RtSafetensors *out, SuDiags *diags) {
    *out = (RtSafetensors){0};
    out->path = su_strdup(&out->arena, path);
    Reader r = {.file = out, .span = su_file_span(diags, path), .diags = diags};
    if (!read_file(&r, data, size)) {
        rt_safetensors_close(out);
        return false;
    }
    return true;
}

bool rt_safetensors_take(SuMap *map, const char *path, RtSafetensors *out, SuDiags *diags) {
    if (!rt_safetensors_parse(map->data, map->size, path, out, diags)) return false;
    out->map = *map;
    *map = (SuMap){0};
    return true;
}

static void close_map(void *map) { su_map_close(map); }

bool rt_safetensors_open(const char *path, RtSafetensors *out, SuDiags *diags) {
    SuMap map;
    SuCleanup cleanup;
    if (!su_map_open(path, &map, diags)) return false;
    su_cleanup_add(&cleanup, close_map, &map);
    bool ok = rt_safetensors_take(&map, path, out, diags);
    su_cleanup_done(&cleanup);
    su_map_close(&map); /* if it was not taken */
    return ok;
}

void rt_safetensors_close(RtSafetensors *file) {
    su_map_close(&file->map);
    su_arena_free(&file->arena);
    *file = (RtSafetensors){0};
}

const RtTensor *rt_safetensors_find(const RtSafetensors *file, const char *name) {
    RtTensor key = {.name = name};
    return file->count ? bsearch(&key, file->tensors, file->count, sizeof key, by_name) : NULL;
}

const char *rt_shape_text(SuArena *arena, const int64_t *shape, int32_t rank) {
    SuText text = {0};
    su_text_add(&text, "[");
    for (int32_t i = 0; i < rank; i++) su_text_add(&text, "%s%lld", i ? ", " : "", (long long)shape[i]);
    su_text_add(&text, "]");
    const char *copy = su_strdup(arena, text.text);
    su_text_free(&text);
    return copy;
}
