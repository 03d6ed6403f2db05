/* Checkpoints held against what a program wants: which file holds which tensor, or the parts of its blocks. */
#include <stdlib.h>
#include <string.h>

#include "runtime/packed.h"
#include "runtime/weights.h"
#include "support/str.h"

/* What a tensor may stand as in a file: by its own name, or in parts. q8 and q4 share the names of all parts but the first. */
typedef enum Slot { PLAIN, Q8, Q4, D, M, S, T, SLOTS } Slot;

typedef struct Found {
    const RtTensor *tensor; /* NULL: in no file so far */
    const char *path;
} Found;

/* Expected tensors by name; also the words for "did you mean". */
typedef struct Expected {
    const PgTensor *tensors;
    size_t n_tensors;
    const char **names; /* [n_tensors] */
    const PgTensor **sorted;
    Found (*found)[SLOTS]; /* [n_tensors] */
} Expected;

/* ---------------------------------------------------------------------------------------------- names */

static Slot slot_of(IrDtype dtype, IrPart part) {
    return part != IR_PART_Q ? (Slot)(D + part - IR_PART_D) : dtype == IR_Q8 ? Q8 : Q4;
}

static const char *suffix_of(Slot slot) {
    for (IrDtype dtype = IR_Q8; dtype <= IR_Q4; dtype++)
        for (int part = 0; part < IR_PARTS; part++)
            if (ir_part(dtype, (IrPart)part)->suffix && slot_of(dtype, (IrPart)part) == slot)
                return ir_part(dtype, (IrPart)part)->suffix;
    return "";
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const PgTensor *const *)a)->name, (*(const PgTensor *const *)b)->name);
}

static Expected expect(SuArena *arena, const PgTensor *tensors, size_t n_tensors) {
    Expected e = {.tensors = tensors,
                  .n_tensors = n_tensors,
                  .names = SU_NEW_ARRAY(arena, const char *, n_tensors),
                  .sorted = SU_NEW_ARRAY(arena, const PgTensor *, n_tensors),
                  .found = su_alloc_array(arena, n_tensors, sizeof *e.found)};
    memset(e.found, 0, n_tensors * sizeof *e.found);
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

/* The tensor that a name of a file is of, and as what. NULL: of none. */
static const PgTensor *find_slot(const Expected *e, const char *name, SuArena *arena, Slot *out_slot) {
    const PgTensor *expected = find_expected(e, name);
    const char *dot = strrchr(name, '.');
    *out_slot = PLAIN;
    if (expected || !dot) return expected;
    for (Slot slot = Q8; slot < SLOTS; slot++) {
        if (strcmp(dot + 1, suffix_of(slot)) != 0) continue;
        *out_slot = slot;
        return find_expected(e, su_printf(arena, "%.*s", (int)(dot - name), name));
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- what files hold */

static bool unknown_tensor(const Expected *e, const RtTensor *tensor, const char *path, SuDiags *diags) {
    const char *near = diags->errors < SU_MAX_ERRORS ? su_nearest(tensor->name, e->names, e->n_tensors) : NULL;
    const Found *found = near ? e->found[find_expected(e, near) - e->tensors] : NULL;
    bool missing = found != NULL;
    for (int slot = 0; slot < SLOTS && missing; slot++) missing = !found[slot].tensor;
    const char *hint = missing ? su_printf(&diags->arena, "the model has '%s'", near) : NULL;
    return su_error(diags, su_file_span(diags, path), hint, "tensor '%s' is not part of this model", tensor->name);
}

static bool take_file(const RtSafetensors *f, Expected *e, SuArena *arena, SuDiags *diags) {
    bool ok = true;
    for (size_t i = 0; i < f->count; i++) {
        const RtTensor *tensor = &f->tensors[i];
        Slot slot;
        const PgTensor *expected = find_slot(e, tensor->name, arena, &slot);
        Found *found = expected ? &e->found[expected - e->tensors][slot] : NULL;
        if (!found)
            ok = unknown_tensor(e, tensor, f->path, diags);
        else if (found->tensor)
            ok = su_error(diags, su_file_span(diags, f->path), NULL, "tensor '%s' is also in %s: expected it in one file only",
                          tensor->name, found->path);
        else
            *found = (Found){tensor, f->path};
    }
    return ok;
}

/* ---------------------------------------------------------------------------------------------- tensors */

static bool same_shape(const int64_t *shape, int32_t rank, const RtTensor *tensor) {
    bool same = rank == tensor->rank;
    for (int32_t i = 0; same && i < rank; i++) same = shape[i] == tensor->shape[i];
    return same;
}

static bool check_shape(const int64_t *shape, int32_t rank, const Found *found, SuDiags *diags) {
    if (same_shape(shape, rank, found->tensor)) return true;
    return su_error(diags, su_file_span(diags, found->path), NULL, "tensor '%s': shape: expected %s, got %s", found->tensor->name,
                    rt_shape_text(&diags->arena, shape, rank),
                    rt_shape_text(&diags->arena, found->tensor->shape, found->tensor->rank));
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

static bool wrong_dtype(const Found *found, const char *wanted, SuDiags *diags) {
    return su_error(diags, su_file_span(diags, found->path), NULL, "tensor '%s': dtype: expected %s, got %s", found->tensor->name,
                    wanted, found->tensor->dtype_name);
}

static bool take_plain(const PgTensor *expected, const Found *found, RtStored *out, SuDiags *diags) {
    if (!found->tensor->readable) return wrong_dtype(found, readable_dtypes(&diags->arena), diags);
    out->tensor = found->tensor;
    return check_shape(expected->shape, expected->rank, found, diags);
}

static bool take_part(const PgTensor *expected, IrPart part, const Found *found, const Found *first, RtStored *out,
                      SuDiags *diags) {
    IrDtype dtype = (IrDtype)expected->dtype;
    const IrPartInfo *info = ir_part(dtype, part);
    if (!info->suffix) {
        return !found->tensor || su_error(diags, su_file_span(diags, found->path), NULL, "tensor '%s' is no part of %s weights",
                                          found->tensor->name, ir_dtype_word(dtype));
    }
    int64_t shape[4];
    memcpy(shape, expected->shape, sizeof shape);
    shape[expected->rank - 1] = (int64_t)ir_part_elements(dtype, part, (uint64_t)shape[expected->rank - 1]);
    if (!found->tensor) {
        return su_error(diags, su_file_span(diags, first->path), NULL, "tensor '%s.%s' is missing; expected %s %s beside '%s'",
                        expected->name, info->suffix, info->file, rt_shape_text(&diags->arena, shape, expected->rank),
                        first->tensor->name);
    }
    if (strcmp(found->tensor->dtype_name, info->file) != 0) return wrong_dtype(found, info->file, diags);
    out->parts[part] = found->tensor;
    out->blocks.part[part] = found->tensor->data;
    return check_shape(shape, expected->rank, found, diags);
}

static bool take_parts(const PgTensor *expected, const Found found[SLOTS], const Found *first, RtStored *out, SuDiags *diags) {
    IrDtype dtype = (IrDtype)expected->dtype;
    bool ok = true;
    out->blocks = (IrBlocks){.dtype = dtype, .rows = 1, .K = (uint64_t)expected->shape[expected->rank - 1]};
    for (int32_t i = 0; i + 1 < expected->rank; i++) out->blocks.rows *= (uint64_t)expected->shape[i];
    for (int part = 0; part < IR_PARTS; part++)
        ok = take_part(expected, (IrPart)part, &found[slot_of(dtype, (IrPart)part)], first, out, diags) && ok;
    return ok;
}

/* The slots that are not empty must be those of one form. */
static bool take_tensor(const PgTensor *expected, const Found found[SLOTS], SuSpan nowhere, RtStored *out, SuDiags *diags) {
    const Found *first = NULL, *q = found[Q8].tensor ? &found[Q8] : &found[Q4];
    for (int slot = SLOTS; slot-- > Q8;)
        if (found[slot].tensor) first = &found[slot];
    if (!found[PLAIN].tensor && !first) {
        return su_error(diags, nowhere, NULL, "tensor '%s' is missing; expected shape %s", expected->name,
                        rt_shape_text(&diags->arena, expected->shape, expected->rank));
    }
    if (!first) return take_plain(expected, &found[PLAIN], out, diags);
    const char *name = first->tensor->name;
    SuSpan span = su_file_span(diags, first->path);
    if (found[PLAIN].tensor) return su_error(diags, span, NULL, "tensor '%s' is there twice: also as '%s'", expected->name, name);
    if (found[Q8].tensor && found[Q4].tensor)
        return su_error(diags, span, NULL, "tensor '%s' is there twice: as q8 and as q4", expected->name);
    if (!q->tensor)
        return su_error(diags, span, NULL, "tensor '%s' is without '%s.q8' or '%s.q4'", name, expected->name, expected->name);
    IrDtype stored = q == &found[Q8] ? IR_Q8 : IR_Q4;
    if (stored != (IrDtype)expected->dtype) {
        return su_error(diags, span,
                        "say in weights.dtype or weights.overrides of the spec what the file holds, or load what it was made from",
                        "tensor '%s' is stored as %s, but it is %s in the spec", expected->name, ir_dtype_word(stored),
                        ir_dtype_word((IrDtype)expected->dtype));
    }
    return take_parts(expected, found, first, out, diags);
}

/* ---------------------------------------------------------------------------------------------- all of it */

static void close_checkpoints(void *checkpoints) { rt_checkpoints_close(checkpoints); }

static bool read_checkpoint(RtWeightFile *file, RtSafetensors *out, SuDiags *diags) {
    if (!rt_packed_is(file->map.data, file->map.size)) return rt_safetensors_take(&file->map, file->path, out, diags);
    return su_error(
        diags, su_file_span(diags, file->path), "give the safetensors checkpoints, or only the packed file",
        "file has packed weights: it cannot be combined with other files, packed again, quantised or used with --reference");
}

static bool take_tensors(RtCheckpoints *c, const PgTensor *tensors, size_t n_tensors, SuDiags *diags) {
    Expected e = expect(&c->arena, tensors, n_tensors);
    SuSpan nowhere = c->n_files == 1 ? su_file_span(diags, c->files[0].path) : (SuSpan){0};
    bool ok = true;
    for (size_t i = 0; i < c->n_files; i++) ok = take_file(&c->files[i], &e, &c->arena, diags) && ok;
    for (size_t i = 0; i < n_tensors; i++) ok = take_tensor(&tensors[i], e.found[i], nowhere, &c->tensors[i], diags) && ok;
    return ok;
}

bool rt_checkpoints_take(RtWeightFiles *files, const PgTensor *tensors, size_t n_tensors, RtCheckpoints *out, SuDiags *diags) {
    SuCleanup cleanup;
    *out = (RtCheckpoints){0};
    su_cleanup_add(&cleanup, close_checkpoints, out);
    out->files = SU_NEW_ARRAY(&out->arena, RtSafetensors, files->count);
    out->n_files = files->count;
    out->tensors = SU_NEW_ARRAY(&out->arena, RtStored, n_tensors);
    bool ok = true;
    for (size_t i = 0; i < files->count; i++) ok = read_checkpoint(&files->items[i], &out->files[i], diags) && ok;
    ok = ok && take_tensors(out, tensors, n_tensors, diags); /* a file that was not read would make all its tensors missing */
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
