/* Checkpoints held against what a program wants, and their elements as floats. */
#include "runtime/weights.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/dtypes.h"
#include "runtime/narrow.h"
#include "runtime/packed.h"
#include "support/str.h"

/* ---- which file holds what */

/* Expected tensors by name; also the words for "did you mean". */
typedef struct Expected {
    const PgTensor *tensors;
    size_t n_tensors;
    const char **names;   /* [n_tensors] */
    const PgTensor **sorted;
    size_t *holder;       /* [n_tensors] 1 + index of the file that holds it, 0 so far */
} Expected;

static int by_name(const void *a, const void *b) {
    return strcmp((*(const PgTensor *const *)a)->name, (*(const PgTensor *const *)b)->name);
}

static Expected expect(SuArena *arena, const PgTensor *tensors, size_t n_tensors) {
    Expected e = {.tensors = tensors,
                  .n_tensors = n_tensors,
                  .names = SU_NEW_ARRAY(arena, const char *, n_tensors),
                  .sorted = SU_NEW_ARRAY(arena, const PgTensor *, n_tensors),
                  .holder = SU_NEW_ARRAY(arena, size_t, n_tensors)};
    for (size_t i = 0; i < n_tensors; i++) {
        e.sorted[i] = &tensors[i];
        e.names[i] = tensors[i].name;
    }
    if (n_tensors) qsort(e.sorted, n_tensors, sizeof *e.sorted, by_name);
    return e;
}

static const PgTensor *find_expected(const Expected *e, const char *name) {
    PgTensor key = {.name = name}, *pointer = &key;
    const PgTensor **found = e->n_tensors ? bsearch(&pointer, e->sorted, e->n_tensors, sizeof *e->sorted, by_name) : NULL;
    return found ? *found : NULL;
}

static bool same_shape(const PgTensor *expected, const RtTensor *tensor) {
    bool same = expected->rank == tensor->rank;
    for (int32_t i = 0; same && i < expected->rank; i++) same = expected->shape[i] == tensor->shape[i];
    return same;
}

/* "F32, BF16 or F16" */
static const char *readable_dtypes(SuArena *arena) {
    const char *names[IR_STORED_DTYPES], *text = "";
    int n = 0;
    for (int i = 0; i < IR_STORED_DTYPES; i++)
        if (ir_dtype((IrDtype)i)->file) names[n++] = ir_dtype((IrDtype)i)->file;
    for (int i = 0; i < n; i++) text = su_printf(arena, "%s%s%s", text, i == 0 ? "" : i + 1 < n ? ", " : " or ", names[i]);
    return text;
}

static bool check_form(const PgTensor *expected, const RtTensor *tensor, const char *path, SuDiags *diags) {
    if (!tensor->readable) {
        return su_error(diags, su_file_span(diags, path), NULL, "tensor '%s': dtype: expected %s, got %s", tensor->name,
                        readable_dtypes(&diags->arena), tensor->dtype_name);
    }
    if (!same_shape(expected, tensor)) {
        return su_error(diags, su_file_span(diags, path), NULL, "tensor '%s': shape: expected %s, got %s", tensor->name,
                        rt_shape_text(&diags->arena, expected->shape, expected->rank),
                        rt_shape_text(&diags->arena, tensor->shape, tensor->rank));
    }
    return true;
}

static bool unknown_tensor(const Expected *e, const RtTensor *tensor, const char *path, SuDiags *diags) {
    const char *near = diags->errors < SU_MAX_ERRORS ? su_nearest(tensor->name, e->names, e->n_tensors) : NULL;
    const char *hint =
        near && e->holder[find_expected(e, near) - e->tensors] == 0 ? su_printf(&diags->arena, "the model has '%s'", near) : NULL;
    return su_error(diags, su_file_span(diags, path), hint, "tensor '%s' is not part of this model", tensor->name);
}

static bool take_file(RtCheckpoints *c, Expected *e, size_t file, SuDiags *diags) {
    const RtSafetensors *f = &c->files[file];
    bool ok = true;
    for (size_t i = 0; i < f->count; i++) {
        const RtTensor *tensor = &f->tensors[i];
        const PgTensor *expected = find_expected(e, tensor->name);
        size_t index = expected ? (size_t)(expected - e->tensors) : 0;
        if (!expected) {
            ok = unknown_tensor(e, tensor, f->path, diags);
        } else if (e->holder[index]) {
            ok = su_error(diags, su_file_span(diags, f->path), NULL, "tensor '%s' is also in %s: expected it in one file only",
                          tensor->name, c->files[e->holder[index] - 1].path);
        } else {
            e->holder[index] = file + 1;
            c->tensors[index] = tensor;
            ok = check_form(expected, tensor, f->path, diags) && ok;
        }
    }
    return ok;
}

static bool check_missing(const RtCheckpoints *c, const Expected *e, SuDiags *diags) {
    bool ok = true;
    SuSpan span = c->n_files == 1 ? su_file_span(diags, c->files[0].path) : (SuSpan){0};
    for (size_t i = 0; i < e->n_tensors; i++) {
        if (!e->holder[i]) {
            ok = su_error(diags, span, NULL, "tensor '%s' is missing; expected shape %s", e->tensors[i].name,
                          rt_shape_text(&diags->arena, e->tensors[i].shape, e->tensors[i].rank));
        }
    }
    return ok;
}

static void close_checkpoints(void *checkpoints) { rt_checkpoints_close(checkpoints); }

static bool read_checkpoint(RtWeightFile *file, RtSafetensors *out, SuDiags *diags) {
    if (!rt_packed_is(file->map.data, file->map.size)) return rt_safetensors_take(&file->map, file->path, out, diags);
    return su_error(diags, su_file_span(diags, file->path), "give the safetensors checkpoints, or only the packed file",
                    "file has packed weights: it cannot be combined with other files, packed again or used with --reference");
}

bool rt_checkpoints_take(RtWeightFiles *files, const PgTensor *tensors, size_t n_tensors, RtCheckpoints *out, SuDiags *diags) {
    SuCleanup cleanup;
    *out = (RtCheckpoints){0};
    su_cleanup_add(&cleanup, close_checkpoints, out);
    out->files = SU_NEW_ARRAY(&out->arena, RtSafetensors, files->count);
    out->n_files = files->count;
    out->tensors = SU_NEW_ARRAY(&out->arena, const RtTensor *, n_tensors);
    bool ok = true;
    for (size_t i = 0; i < files->count; i++) ok = read_checkpoint(&files->items[i], &out->files[i], diags) && ok;
    if (ok) { /* a file that was not read would make all its tensors missing */
        Expected e = expect(&out->arena, tensors, n_tensors);
        for (size_t i = 0; i < files->count; i++) ok = take_file(out, &e, i, diags) && ok;
        ok = check_missing(out, &e, diags) && ok;
    }
    su_cleanup_done(&cleanup);
    if (!ok) rt_checkpoints_close(out);
    return ok;
}

bool rt_checkpoints_open(const char *const *paths, size_t n_paths, const PgTensor *tensors, size_t n_tensors, RtCheckpoints *out,
                         SuDiags *diags) {
    RtWeightFiles files;
    if (!rt_weight_files_open(paths, n_paths, &files, diags)) return false;
    bool ok = rt_checkpoints_take(&files, tensors, n_tensors, out, diags);
    rt_weight_files_close(&files);
    return ok;
}

void rt_checkpoints_close(RtCheckpoints *checkpoints) {
    for (size_t i = 0; i < checkpoints->n_files; i++) rt_safetensors_close(&checkpoints->files[i]);
    su_arena_free(&checkpoints->arena);
    *checkpoints = (RtCheckpoints){0};
}

/* ---- elements */

void rt_read_elements(const RtTensor *tensor, uint64_t first, uint64_t count, float *out) {
    if (!tensor->readable) SU_BUG("tensor '%s' is read although its dtype is %s", tensor->name, tensor->dtype_name);
    rt_dtype(tensor->dtype)->read(tensor->data + first * (uint64_t)ir_dtype(tensor->dtype)->bytes, count, out);
}

/* The first that is not finite, or count. Looks at all before it searches: without a branch that is as fast as memory. */
static uint64_t first_bad(const float *values, uint64_t count) {
    uint32_t bad = 0;
    for (uint64_t i = 0; i < count; i++) bad |= (uint32_t)!rt_finite(values[i]);
    uint64_t at = bad ? 0 : count;
    while (at < count && rt_finite(values[at])) at++;
    return at;
}

uint64_t rt_round_to(IrDtype dtype, float *values, uint64_t count) {
    uint64_t bad = first_bad(values, count);
    if (bad < count || !rt_dtype(dtype)->round(values, count)) return bad;
    return first_bad(values, count); /* overflow is infinite now */
}

/* "[3, 17]": the element's place in its tensor. */
static const char *place_text(SuArena *arena, const PgTensor *expected, uint64_t index) {
    int64_t place[4];
    for (int32_t i = expected->rank - 1; i >= 0; i--) {
        place[i] = (int64_t)(index % (uint64_t)expected->shape[i]);
        index /= (uint64_t)expected->shape[i];
    }
    return rt_shape_text(arena, place, expected->rank);
}

bool rt_value_error(const PgTensor *expected, const RtTensor *tensor, uint64_t index, SuDiags *diags) {
    float value;
    rt_read_elements(tensor, index, 1, &value);
    const char *place = place_text(&diags->arena, expected, index);
    if (!rt_finite(value)) {
        return su_error(diags, (SuSpan){0}, NULL, "tensor '%s': element %s is %s: expected finite weights", expected->name, place,
                        value != value ? "NaN" : "infinite");
    }
    const IrDtypeInfo *info = ir_dtype((IrDtype)expected->dtype);
    const char *most = info->most == 0 ? "" : su_printf(&diags->arena, " (at most %g)", info->most);
    return su_error(diags, (SuSpan){0}, NULL, "tensor '%s': element %s is %g, out of range for %s%s", expected->name, place,
                    (double)value, info->word, most);
}

/* ---- floats for the evaluators */

struct RtSource {
    SuArena arena;
    size_t n_tensors;
    const PgTensor **tensors; /* sorted by name */
    const float **values;     /* of tensors[i] */
};

static const float *read_tensor(SuArena *arena, const PgTensor *expected, const RtTensor *tensor, SuDiags *diags) {
    float *values = su_alloc_array(arena, tensor->elements, sizeof *values);
    rt_read_elements(tensor, 0, tensor->elements, values);
    uint64_t bad = rt_round_to((IrDtype)expected->dtype, values, tensor->elements);
    if (bad < tensor->elements) {
        rt_value_error(expected, tensor, bad, diags);
        return NULL;
    }
    return values;
}

static RtSource *source_open_unguarded(const char *const *paths, size_t n_paths, const PgTensor *tensors, size_t n_tensors,
                                       SuDiags *diags) {
    RtCheckpoints checkpoints;
    if (!rt_checkpoints_open(paths, n_paths, tensors, n_tensors, &checkpoints, diags)) return NULL;
    SuArena arena = {0};
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, close_checkpoints, &checkpoints);
    RtSource *source = SU_NEW(&arena, RtSource);
    Expected e = expect(&arena, tensors, n_tensors);
    *source = (RtSource){.n_tensors = n_tensors, .tensors = e.sorted, .values = SU_NEW_ARRAY(&arena, const float *, n_tensors)};
    bool ok = true;
    for (size_t i = 0; i < n_tensors; i++) {
        source->values[i] = read_tensor(&arena, e.sorted[i], checkpoints.tensors[e.sorted[i] - tensors], diags);
        ok = ok && source->values[i];
    }
    su_cleanup_done(&cleanup);
    rt_checkpoints_close(&checkpoints);
    source->arena = arena;
    if (!ok) {
        rt_source_close(source);
        return NULL;
    }
    return source;
}

RtSource *rt_source_open(const char *const *paths, size_t n_paths, const PgTensor *tensors, size_t n_tensors, SuDiags *diags) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "reading weights")) return NULL;
    RtSource *result = source_open_unguarded(paths, n_paths, tensors, n_tensors, diags);
    su_guard_end(&guard);
    return result;
}

void rt_source_close(RtSource *source) {
    if (source) {
        SuArena arena = source->arena; /* which holds the source itself */
        su_arena_free(&arena);
    }
}

IrElements rt_source_lookup(void *source, const char *name) {
    const RtSource *s = source;
    Expected e = {.n_tensors = s->n_tensors, .sorted = s->tensors};
    PgTensor key = {.name = name}, *pointer = &key;
    const PgTensor **found = e.n_tensors ? bsearch(&pointer, e.sorted, e.n_tensors, sizeof *e.sorted, by_name) : NULL;
    return (IrElements){.f = found ? s->values[found - s->tensors] : NULL};
}
