/* The reader of one GGUF file. The tables of pairs and tensors grow as they are read, so that no more memory is taken than bytes of
 * the file allow; then the tensors' bytes are compared with each other. */
#include "import/gguf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "import/gguf_read.h"
#include "ir/half.h"
#include "support/content.h"
#include "support/size.h"
#include "support/table.h"
#include "support/utf8.h"

enum { OLDEST_VERSION = 2, VERSION = 3, MOST_ELEMENTS_LOG2 = 48, USUAL_ALIGNMENT = 32, MOST_ALIGNMENT = 1 << 16 };

typedef struct Reader {
    const uint8_t *data;
    uint64_t size, at;
    ImGguf *gguf;
    size_t first_pair, first_tensor; /* of this file */
    size_t pairs_capacity, tensors_capacity;
    uint64_t alignment;
    SuSpan span;
    SuDiags *diags;
} Reader;

static const struct {
    const char *word;
    uint8_t bytes;
} types[] = {
#define IM_GGUF_TYPE(NAME, word, bytes) {word, bytes},
#include "import/gguf_types.def"
};
SU_TABLE_FULL(types, IM_GGUF_TYPES);

const char *im_gguf_type_word(ImGgufType type) { return types[type].word; }

typedef unsigned long long Number; /* for messages */

/* Errors say where in the file they are. */
__attribute__((format(printf, 3, 4))) static bool fail_at(Reader *r, uint64_t place, const char *format, ...) {
    va_list args;
    va_start(args, format);
    const char *text = su_vprintf(&r->diags->arena, format, args);
    va_end(args);
    return su_error(r->diags, r->span, NULL, "byte %llu: %s", (Number)place, text);
}

/* ---- numbers and texts */

static bool need(Reader *r, uint64_t bytes, const char *what) {
    if (bytes <= r->size - r->at) return true;
    return fail_at(r, r->at, "%s: expected %llu bytes, but the file ends after %llu", what, (Number)bytes,
                   (Number)(r->size - r->at));
}

static uint64_t little(const uint8_t *at, int bytes) {
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;) value = value << 8 | at[i];
    return value;
}

static bool read_number(Reader *r, int bytes, const char *what, uint64_t *out) {
    if (!need(r, (uint64_t)bytes, what)) return false;
    *out = little(r->data + r->at, bytes);
    r->at += (uint64_t)bytes;
    return true;
}

static bool read_string(Reader *r, const char *what, const char **out_text, size_t *out_size) {
    uint64_t size;
    if (!read_number(r, 8, what, &size) || !need(r, size, what)) return false;
    *out_text = (const char *)r->data + r->at;
    *out_size = size;
    r->at += size;
    return true;
}

static bool is_plain_text(const char *text, size_t size) {
    for (size_t i = 0; i < size;) {
        const SuUtf8 c = su_utf8_at(text + i, size - i);
        if (!c.whole || c.code < 0x20 || c.code == 0x7F) return false;
        i += c.size;
    }
    return true;
}

/* A key or a tensor's name. */
static bool read_name(Reader *r, const char *what, const char **out) {
    const uint64_t place = r->at;
    const char *text;
    size_t size;
    if (!read_string(r, what, &text, &size)) return false;
    if (size == 0 || size > IM_GGUF_NAME)
        return fail_at(r, place, "%s: expected 1 to %d bytes, got %zu", what, (int)IM_GGUF_NAME, size);
    if (!is_plain_text(text, size)) return fail_at(r, place, "%s: expected UTF-8 without control characters", what);
    *out = su_strndup(&r->gguf->arena, text, size);
    return true;
}

/* ---- values */

static bool read_type(Reader *r, const char *what, ImGgufType *out) {
    uint64_t type;
    if (!read_number(r, 4, what, &type)) return false;
    if (type >= IM_GGUF_TYPES)
        return fail_at(r, r->at - 4, "%s: expected the number of a type, 0 to %d, got %llu", what, IM_GGUF_TYPES - 1, (Number)type);
    *out = (ImGgufType)type;
    return true;
}

static void set_number(uint64_t bits, ImGgufValue *value) {
    switch (value->type) {
    case IM_GGUF_U8:
    case IM_GGUF_U16:
    case IM_GGUF_U32:
    case IM_GGUF_U64:
    case IM_GGUF_BOOL: value->as.natural = bits; return;
    case IM_GGUF_I8: value->as.integer = (int8_t)bits; return;
    case IM_GGUF_I16: value->as.integer = (int16_t)bits; return;
    case IM_GGUF_I32: value->as.integer = (int32_t)bits; return;
    case IM_GGUF_I64: value->as.integer = (int64_t)bits; return;
    case IM_GGUF_F32: value->as.real = ir_from_bits((uint32_t)bits); return;
    case IM_GGUF_F64: memcpy(&value->as.real, &bits, sizeof bits); return;
    case IM_GGUF_STRING:
    case IM_GGUF_ARRAY:
    case IM_GGUF_TYPES: return;
    }
}

static bool read_value(Reader *r, int depth, const char *what, ImGgufValue *value);

/* Passes over the items of an array: at once, where any bytes of their size are a value. */
static bool skip_items(Reader *r, const ImGgufItems *items, int depth, const char *what) {
    const uint64_t each = types[items->type].bytes;
    uint64_t bytes;
    if (each != 0 && items->type != IM_GGUF_BOOL) {
        if (!su_mul(items->count, each, &bytes)) bytes = UINT64_MAX;
        if (!need(r, bytes, what)) return false;
        r->at += bytes;
        return true;
    }
    for (uint64_t i = 0; i < items->count; i++) {
        ImGgufValue item = {.type = items->type};
        if (!read_value(r, depth + 1, what, &item)) return false;
    }
    return true;
}

static bool read_array(Reader *r, int depth, const char *what, ImGgufItems *items) {
    if (depth == IM_GGUF_DEPTH) return fail_at(r, r->at, "%s: arrays within each other, more than %d deep", what, IM_GGUF_DEPTH);
    if (!read_type(r, what, &items->type) || !read_number(r, 8, what, &items->count)) return false;
    items->at = r->data + r->at;
    if (!skip_items(r, items, depth, what)) return false;
    items->end = r->data + r->at;
    return true;
}

/* Of value->type. */
static bool read_value(Reader *r, int depth, const char *what, ImGgufValue *value) {
    uint64_t bits;
    if (value->type == IM_GGUF_ARRAY) return read_array(r, depth, what, &value->as.items);
    if (value->type == IM_GGUF_STRING) return read_string(r, what, &value->as.string.text, &value->as.string.size);
    if (!read_number(r, types[value->type].bytes, what, &bits)) return false;
    if (value->type == IM_GGUF_BOOL && bits > 1)
        return fail_at(r, r->at - 1, "%s: a bool: expected 0 or 1, got %llu", what, (Number)bits);
    set_number(bits, value);
    return true;
}

bool im_gguf_next(ImGgufItems *items, ImGgufValue *out) {
    if (items->count == 0) return false;
    Reader r = {.data = items->at, .size = (uint64_t)(items->end - items->at)};
    out->type = items->type;
    if (!read_value(&r, 0, NULL, out)) return false; /* cannot be: it was read before */
    items->at += r.at;
    items->count--;
    return true;
}

bool im_gguf_is_word(const ImGgufValue *value, const char *word) {
    return value != NULL && value->type == IM_GGUF_STRING && value->as.string.size == strlen(word) &&
           memcmp(value->as.string.text, word, strlen(word)) == 0;
}

bool im_gguf_whole(const ImGgufValue *value, int64_t *out) {
    switch (value->type) {
    case IM_GGUF_U8:
    case IM_GGUF_U16:
    case IM_GGUF_U32:
    case IM_GGUF_U64: *out = (int64_t)value->as.natural; return value->as.natural <= INT64_MAX;
    case IM_GGUF_I8:
    case IM_GGUF_I16:
    case IM_GGUF_I32:
    case IM_GGUF_I64: *out = value->as.integer; return true;
    case IM_GGUF_F32:
    case IM_GGUF_BOOL:
    case IM_GGUF_STRING:
    case IM_GGUF_ARRAY:
    case IM_GGUF_F64:
    case IM_GGUF_TYPES: return false;
    }
    return false;
}

/* ---- pairs */

static int by_key(const void *a, const void *b) { return strcmp(((const ImGgufPair *)a)->key, ((const ImGgufPair *)b)->key); }

const ImGgufValue *im_gguf_find(const ImGguf *gguf, const char *key) {
    const ImGgufPair wanted = {.key = key};
    const ImGgufPair *found = gguf->n_pairs != 0 ? bsearch(&wanted, gguf->pairs, gguf->n_pairs, sizeof wanted, by_key) : NULL;
    return found != NULL ? &found->value : NULL;
}

static bool read_pairs(Reader *r, uint64_t count) {
    ImGguf *gguf = r->gguf;
    if (count > IM_GGUF_PAIRS)
        return fail_at(r, 16, "metadata: expected at most %d keys, got %llu", (int)IM_GGUF_PAIRS, (Number)count);
    for (uint64_t i = 0; i < count; i++) {
        gguf->pairs = su_grow(&gguf->arena, gguf->pairs, &r->pairs_capacity, gguf->n_pairs + 1, sizeof *gguf->pairs);
        ImGgufPair *pair = &gguf->pairs[gguf->n_pairs++];
        *pair = (ImGgufPair){0};
        if (!read_name(r, "a key", &pair->key) || !read_type(r, pair->key, &pair->value.type) ||
            !read_value(r, 0, pair->key, &pair->value)) {
            return false;
        }
    }
    if (gguf->n_pairs != 0) qsort(gguf->pairs, gguf->n_pairs, sizeof *gguf->pairs, by_key);
    for (size_t i = 1; i < gguf->n_pairs; i++)
        if (strcmp(gguf->pairs[i - 1].key, gguf->pairs[i].key) == 0)
            return su_error(r->diags, r->span, NULL, "the key '%s' is there twice", gguf->pairs[i].key);
    return true;
}

/* A whole number of the metadata, or `otherwise`. */
static bool find_whole(Reader *r, const char *key, int64_t least, int64_t most, int64_t otherwise, int64_t *out) {
    const ImGgufValue *value = im_gguf_find(r->gguf, key);
    *out = otherwise;
    if (value == NULL || (im_gguf_whole(value, out) && *out >= least && *out <= most)) return true;
    return su_error(r->diags, r->span, NULL, "%s: expected a whole number from %lld to %lld", key, (long long)least,
                    (long long)most);
}

static bool find_alignment(Reader *r) {
    int64_t alignment;
    if (!find_whole(r, "general.alignment", 1, MOST_ALIGNMENT, USUAL_ALIGNMENT, &alignment)) return false;
    r->alignment = (uint64_t)alignment;
    if ((alignment & (alignment - 1)) == 0) return true;
    return su_error(r->diags, r->span, NULL, "general.alignment: expected a power of two, got %lld", (long long)alignment);
}

/* ---- tensors. Until the place of the data is known, `bytes` is what a tensor takes, and `data` points to its offset. */

static bool read_shape(Reader *r, ImGgufTensor *t) {
    uint64_t rank, elements = 1;
    if (!read_number(r, 4, t->name, &rank)) return false;
    if (rank < 1 || rank > IM_GGUF_RANK)
        return fail_at(r, r->at - 4, "tensor '%s': expected 1 to %d dimensions, got %llu", t->name, IM_GGUF_RANK, (Number)rank);
    t->rank = (int32_t)rank;
    for (int32_t i = t->rank; i-- > 0;) {
        if (!read_number(r, 8, t->name, &t->shape[i])) return false;
        if (t->shape[i] == 0) return fail_at(r, r->at - 8, "tensor '%s': a dimension is 0", t->name);
        if (!su_mul(elements, t->shape[i], &elements) || elements > UINT64_C(1) << MOST_ELEMENTS_LOG2)
            return fail_at(r, r->at - 8, "tensor '%s': expected at most 2^%d elements", t->name, MOST_ELEMENTS_LOG2);
    }
    t->K = t->shape[t->rank - 1];
    t->rows = elements / t->K;
    return true;
}

static bool read_form(Reader *r, ImGgufTensor *t) {
    static const char hint[] = "convert the model to Q8_0, Q4_K_M, F16 or another type that mossc reads (docs/import.md)";
    const char *word;
    uint64_t form;
    if (!read_number(r, 4, t->name, &form)) return false;
    if (!im_form_of_gguf((uint32_t)form, &t->form, &word)) {
        if (word != NULL)
            return su_error(r->diags, r->span, hint, "tensor '%s' is of type %s, which mossc does not read", t->name, word);
        return fail_at(r, r->at - 4, "tensor '%s': there is no type of tensors with number %llu", t->name, (Number)form);
    }
    t->row_bytes = im_form_row_bytes(t->form, t->K);
    if (t->row_bytes != 0) return true;
    return fail_at(r, r->at - 4, "tensor '%s': expected rows of a multiple of %u elements for %s, got %llu", t->name,
                   im_form(t->form)->weights, word, (Number)t->K);
}

/* At most 2^48 elements of 4 bytes: the product cannot overflow. */
static bool read_tensor(Reader *r, ImGgufTensor *t) {
    uint64_t offset;
    if (!read_name(r, "a tensor's name", &t->name) || !read_shape(r, t) || !read_form(r, t)) return false;
    t->bytes = t->rows * t->row_bytes;
    t->data = r->data + r->at;
    if (!read_number(r, 8, t->name, &offset)) return false;
    if (offset % r->alignment == 0) return true;
    return fail_at(r, r->at - 8, "tensor '%s': expected an offset that is a multiple of %llu, got %llu", t->name,
                   (Number)r->alignment, (Number)offset);
}

static bool read_tensors(Reader *r, uint64_t count) {
    ImGguf *gguf = r->gguf;
    if (count > IM_GGUF_TENSORS - gguf->n_tensors)
        return fail_at(r, 8, "expected at most %d tensors, got %llu", (int)IM_GGUF_TENSORS, (Number)(gguf->n_tensors + count));
    for (uint64_t i = 0; i < count; i++) {
        gguf->tensors = su_grow(&gguf->arena, gguf->tensors, &r->tensors_capacity, gguf->n_tensors + 1, sizeof *gguf->tensors);
        gguf->tensors[gguf->n_tensors] = (ImGgufTensor){0};
        if (!read_tensor(r, &gguf->tensors[gguf->n_tensors++])) return false;
    }
    return true;
}

/* ---- the data */

static bool place(Reader *r, ImGgufTensor *t, uint64_t begin) {
    const uint64_t at = (uint64_t)(t->data - r->data), offset = little(t->data, 8), room = r->size - begin;
    if (offset > room || t->bytes > room - offset) {
        return fail_at(r, at, "tensor '%s': expected %llu bytes at byte %llu of the data, but there are only %llu bytes of data",
                       t->name, (Number)t->bytes, (Number)offset, (Number)room);
    }
    t->data = r->data + begin + offset;
    return true;
}

static int by_data(const void *a, const void *b) {
    const uint8_t *x = ((const ImGgufTensor *)a)->data, *y = ((const ImGgufTensor *)b)->data;
    return (x > y) - (x < y);
}

static bool unused(Reader *r, uint64_t from, uint64_t to) {
    return fail_at(r, from, "bytes %llu to %llu of the file belong to no tensor", (Number)from, (Number)to);
}

/* Tensors lie behind each other with less than an alignment between them: neither overlaps nor holes, which mean that the table does
 * not belong to the data. */
static bool check_cover(Reader *r, uint64_t begin) {
    ImGgufTensor *tensors = r->gguf->tensors + r->first_tensor;
    const size_t count = r->gguf->n_tensors - r->first_tensor;
    uint64_t end = begin;
    if (count != 0) qsort(tensors, count, sizeof *tensors, by_data);
    for (size_t i = 0; i < count; i++) {
        const uint64_t at = (uint64_t)(tensors[i].data - r->data);
        if (at < end) return fail_at(r, at, "tensors '%s' and '%s' overlap", tensors[i - 1].name, tensors[i].name);
        if (at - end >= r->alignment) return unused(r, end, at);
        end = at + tensors[i].bytes;
    }
    return r->size - end < r->alignment || unused(r, end, r->size);
}

static bool place_tensors(Reader *r) {
    uint64_t begin = su_round_up(r->at, r->alignment);
    if (begin > r->size) begin = r->size; /* no tensors, and no padding either */
    for (size_t i = r->first_tensor; i < r->gguf->n_tensors; i++)
        if (!place(r, &r->gguf->tensors[i], begin)) return false;
    return check_cover(r, begin);
}

/* ---- a file */

static bool read_version(Reader *r) {
    uint64_t version;
    if (!read_number(r, 4, "the version", &version)) return false;
    if ((version & 0xFFFF) == 0 && version != 0)
        return fail_at(r, 4, "the file is of the other byte order (big endian), which mossc does not read");
    if (version >= OLDEST_VERSION && version <= VERSION) return true;
    return fail_at(r, 4, "expected version %d or %d of GGUF, got %llu", OLDEST_VERSION, VERSION, (Number)version);
}

static bool read_magic(Reader *r) {
    const char *hint;
    if (r->size >= 4 && memcmp(r->data, "GGUF", 4) == 0) {
        r->at = 4;
        return read_version(r);
    }
    const char *what = r->size != 0 ? su_content_of(r->data, r->size, &hint) : NULL;
    if (what != NULL) return su_error(r->diags, r->span, hint, "%s", what);
    return su_error(r->diags, r->span, NULL, "file is not a GGUF file, which begins with the letters GGUF");
}

static bool read_split(Reader *r, ImGgufSplit *out) {
    return find_whole(r, "split.no", 0, IM_GGUF_SPLITS - 1, 0, &out->number) &&
           find_whole(r, "split.count", 0, IM_GGUF_SPLITS, 1, &out->count) &&
           find_whole(r, "split.tensors.count", 0, IM_GGUF_TENSORS, -1, &out->tensors);
}

bool im_gguf_read(const uint8_t *data, size_t size, const char *path, ImGguf *out, ImGgufSplit *out_split, SuDiags *diags) {
    Reader r = {.data = data, .size = size, .gguf = out, .first_tensor = out->n_tensors, .tensors_capacity = out->n_tensors};
    uint64_t tensors, pairs;
    r.span = su_file_span(diags, path);
    r.diags = diags;
    return read_magic(&r) && read_number(&r, 8, "the number of tensors", &tensors) &&
           read_number(&r, 8, "the number of keys", &pairs) && read_pairs(&r, pairs) && find_alignment(&r) &&
           read_split(&r, out_split) && read_tensors(&r, tensors) && place_tensors(&r);
}
