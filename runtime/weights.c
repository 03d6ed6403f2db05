/* Elements of checkpoints as floats and as blocks, for packing and for the evaluators. */
#include "runtime/weights.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/dtypes.h"
#include "runtime/narrow.h"
#include "support/str.h"

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

/* ---- rows of blocks */

RtRoom rt_room_make(SuArena *arena, const PgTensor *tensors, size_t n_tensors) {
    uint64_t most = 0;
    RtRoom room;
    for (size_t i = 0; i < n_tensors; i++) {
        uint64_t K = (uint64_t)tensors[i].shape[tensors[i].rank - 1];
        if (ir_is_blocks((IrDtype)tensors[i].dtype) && K > most) most = K;
    }
    room.values = su_alloc_array(arena, most, sizeof *room.values);
    for (int i = 0; i < IR_PARTS; i++) {
        uint64_t q8 = ir_part_bytes(IR_Q8, (IrPart)i, most), q4 = ir_part_bytes(IR_Q4, (IrPart)i, most);
        room.row.part[i] = su_alloc_array(arena, q8 > q4 ? q8 : q4, 1);
    }
    return room;
}

/* Row `row` alone. */
static IrBlocks row_of(const IrBlocks *blocks, uint64_t row) {
    IrBlocks one = *blocks;
    one.rows = 1;
    for (int i = 0; i < IR_PARTS; i++)
        if (one.part[i]) one.part[i] += row * ir_part_bytes(one.dtype, (IrPart)i, one.K);
    return one;
}

static IrBlocks blocks_in(const RtRoom *room, IrDtype dtype, uint64_t K) {
    IrBlocks blocks = {.dtype = dtype, .rows = 1, .K = K};
    for (int i = 0; i < IR_PARTS; i++) blocks.part[i] = ir_part(dtype, (IrPart)i)->suffix ? room->row.part[i] : NULL;
    return blocks;
}

bool rt_read_row(const PgTensor *expected, const RtStored *stored, uint64_t row, const RtRoom *room, IrBlocks *out, bool *out_low) {
    uint64_t K = (uint64_t)expected->shape[expected->rank - 1];
    IrDtype dtype = (IrDtype)expected->dtype;
    if (!stored->tensor) {
        *out = row_of(&stored->blocks, row);
        IrRowState state = ir_blocks_check(out, 0);
        if (state == IR_ROW_LOW) *out_low = true;
        return state == IR_ROW_GOOD || state == IR_ROW_LOW;
    }
    *out = blocks_in(room, dtype, K);
    rt_read_elements(stored->tensor, row * K, K, room->values);
    return first_bad(room->values, K) == K && ir_quantise(dtype, room->values, NULL, K, &room->row);
}

/* ---- what is wrong with them */

/* "[3, 17]": the element's place in its tensor; of a row without the last number. */
static const char *place_text(SuArena *arena, const PgTensor *expected, uint64_t index, bool row) {
    int64_t place[4];
    for (int32_t i = expected->rank - 1; i >= 0; i--) {
        place[i] = (int64_t)(index % (uint64_t)expected->shape[i]);
        index /= (uint64_t)expected->shape[i];
    }
    return rt_shape_text(arena, place, expected->rank - row);
}

static bool row_error(const PgTensor *expected, uint64_t index, const char *part, const char *what, SuDiags *diags) {
    return su_error(diags, (SuSpan){0}, NULL, "tensor '%s%s': row %s: %s", expected->name, part,
                    place_text(&diags->arena, expected, index, true), what);
}

/* Of a row that stands as blocks. */
static bool block_error(const PgTensor *expected, const IrBlocks *blocks, uint64_t index, SuDiags *diags) {
    if (ir_blocks_check(blocks, index / blocks->K) == IR_ROW_RANGE)
        return row_error(expected, index, "", "s or t is above 63", diags);
    return row_error(expected, index, "", expected->dtype == IR_Q8 ? "d is not finite" : "d or m is not finite", diags);
}

/* Of one that was to be quantised: an element that is not finite, or scales that are too large. */
static bool quantise_error(const PgTensor *expected, const RtTensor *tensor, uint64_t *index, SuDiags *diags) {
    uint64_t K = (uint64_t)expected->shape[expected->rank - 1], end = *index + K;
    for (float value; *index < end; ++*index) {
        rt_read_elements(tensor, *index, 1, &value);
        if (!rt_finite(value)) return true;
    }
    return row_error(expected, end - K, "",
                     su_printf(&diags->arena, "weights are too large for %s: a scale is out of range for f16",
                               ir_dtype_word((IrDtype)expected->dtype)),
                     diags);
}

bool rt_value_error(const PgTensor *expected, const RtStored *stored, uint64_t index, SuDiags *diags) {
    if (!stored->tensor) return block_error(expected, &stored->blocks, index, diags);
    if (ir_is_blocks((IrDtype)expected->dtype) && !quantise_error(expected, stored->tensor, &index, diags)) return false;
    float value;
    rt_read_elements(stored->tensor, index, 1, &value);
    const char *place = place_text(&diags->arena, expected, index, false);
    if (!rt_finite(value)) {
        return su_error(diags, (SuSpan){0}, NULL, "tensor '%s': element %s is %s: expected finite weights", expected->name, place,
                        value != value ? "NaN" : "infinite");
    }
    const IrDtypeInfo *info = ir_dtype((IrDtype)expected->dtype);
    const char *most = info->most == 0 ? "" : su_printf(&diags->arena, " (at most %g)", info->most);
    return su_error(diags, (SuSpan){0}, NULL, "tensor '%s': element %s is %g, out of range for %s%s", expected->name, place,
                    (double)value, info->word, most);
}

void rt_low_warning(const PgTensor *expected, SuDiags *diags) {
    su_warning(diags, (SuSpan){0}, NULL, "tensor '%s.q8' holds -128, which is read as -127", expected->name);
}

/* ---- for the evaluators */

struct RtSource {
    SuArena arena;
    size_t n_tensors;
    const PgTensor **tensors; /* sorted by name */
    IrElements *elements;     /* of tensors[i] */
};

static int by_name(const void *a, const void *b) {
    return strcmp((*(const PgTensor *const *)a)->name, (*(const PgTensor *const *)b)->name);
}

static bool read_floats(SuArena *arena, const PgTensor *expected, const RtStored *stored, IrElements *out, SuDiags *diags) {
    uint64_t count = stored->tensor->elements;
    float *values = su_alloc_array(arena, count, sizeof *values);
    rt_read_elements(stored->tensor, 0, count, values);
    uint64_t bad = rt_round_to((IrDtype)expected->dtype, values, count);
    out->f = values;
    return bad == count || rt_value_error(expected, stored, bad, diags);
}

static bool read_blocks(SuArena *arena, const PgTensor *expected, const RtStored *stored, const RtRoom *room, IrElements *out,
                        SuDiags *diags) {
    IrBlocks *all = &out->blocks;
    uint8_t *memory[IR_PARTS];
    bool low = false;
    *all = (IrBlocks){.dtype = (IrDtype)expected->dtype, .rows = 1, .K = (uint64_t)expected->shape[expected->rank - 1]};
    for (int32_t i = 0; i + 1 < expected->rank; i++) all->rows *= (uint64_t)expected->shape[i];
    for (int i = 0; i < IR_PARTS; i++) {
        uint64_t bytes = ir_part_bytes(all->dtype, (IrPart)i, all->K);
        memory[i] = su_alloc_array(arena, all->rows, bytes);
        all->part[i] = bytes ? memory[i] : NULL;
    }
    for (uint64_t row = 0; row < all->rows; row++) {
        IrBlocks one;
        if (!rt_read_row(expected, stored, row, room, &one, &low)) return rt_value_error(expected, stored, row * all->K, diags);
        for (int i = 0; i < IR_PARTS; i++) {
            uint64_t bytes = ir_part_bytes(all->dtype, (IrPart)i, all->K);
            if (bytes) memcpy(memory[i] + row * bytes, one.part[i], bytes);
        }
    }
    if (low) rt_low_warning(expected, diags);
    return true;
}

static void close_checkpoints(void *checkpoints) { rt_checkpoints_close(checkpoints); }

static RtSource *source_open_unguarded(const char *const *paths, size_t n_paths, const PgTensor *tensors, size_t n_tensors,
                                       SuDiags *diags) {
    RtCheckpoints checkpoints;
    if (!rt_checkpoints_open(paths, n_paths, tensors, n_tensors, &checkpoints, diags)) return NULL;
    SuArena arena = {0};
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, close_checkpoints, &checkpoints);
    RtSource *source = SU_NEW(&arena, RtSource);
    *source = (RtSource){.n_tensors = n_tensors,
                         .tensors = SU_NEW_ARRAY(&arena, const PgTensor *, n_tensors),
                         .elements = SU_NEW_ARRAY(&arena, IrElements, n_tensors)};
    for (size_t i = 0; i < n_tensors; i++) source->tensors[i] = &tensors[i];
    if (n_tensors) qsort(source->tensors, n_tensors, sizeof *source->tensors, by_name);
    RtRoom room = rt_room_make(&arena, tensors, n_tensors);
    bool ok = true;
    for (size_t i = 0; i < n_tensors; i++) {
        const PgTensor *expected = source->tensors[i];
        const RtStored *stored = &checkpoints.tensors[expected - tensors];
        ok = (ir_is_blocks((IrDtype)expected->dtype) ? read_blocks(&arena, expected, stored, &room, &source->elements[i], diags)
                                                     : read_floats(&arena, expected, stored, &source->elements[i], diags)) &&
             ok;
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
    PgTensor key = {.name = name}, *pointer = &key;
    const PgTensor **found = s->n_tensors ? bsearch(&pointer, s->tensors, s->n_tensors, sizeof *s->tensors, by_name) : NULL;
    return found ? s->elements[found - s->tensors] : (IrElements){0};
}
