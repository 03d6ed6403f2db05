#include "runtime/layout.h"

#include <string.h>

uint64_t rt_layout_inner(const PgTensor *tensor) { return (uint64_t)tensor->shape[tensor->rank - 1]; }

uint64_t rt_layout_rows(const PgTensor *tensor) {
    uint64_t rows = 1;
    for (int i = 0; i + 1 < tensor->rank; i++) rows *= (uint64_t)tensor->shape[i];
    return rows;
}

/* What the file holds of a tensor: itself or a part; dtype NULL: there is no such part. */
static RtWriteTensor listed(SuArena *arena, const PgTensor *tensor, IrPart p) {
    IrDtype dtype = (IrDtype)tensor->dtype;
    RtWriteTensor out = {.name = tensor->name, .rank = tensor->rank};
    memcpy(out.shape, tensor->shape, sizeof out.shape);
    if (!ir_is_blocks(dtype)) {
        out.dtype = p == IR_PART_Q ? ir_dtype(dtype)->file : NULL;
        return out;
    }
    const IrPartInfo *part = ir_part(dtype, p);
    out.dtype = part->suffix ? part->file : NULL;
    out.name = part->suffix ? su_printf(arena, "%s.%s", tensor->name, part->suffix) : NULL;
    out.shape[tensor->rank - 1] = (int64_t)ir_part_elements(dtype, p, rt_layout_inner(tensor));
    return out;
}

static uint64_t bytes_of(const RtWriteTensor *tensor) {
    uint64_t bytes = rt_dtype_bytes(tensor->dtype);
    for (int d = 0; d < tensor->rank; d++) bytes *= (uint64_t)tensor->shape[d];
    return bytes;
}

RtLayout rt_layout_make(SuArena *arena, const PgTensor *tensors, size_t n_tensors) {
    RtLayout layout = {.items = su_alloc_array(arena, n_tensors, IR_PARTS * sizeof *layout.items),
                       .place = su_alloc_array(arena, n_tensors, sizeof *layout.place)};
    for (uint64_t size = 4; size > 0; size /= 2) {
        for (size_t i = 0; i < n_tensors * IR_PARTS; i++) {
            RtWriteTensor item = listed(arena, &tensors[i / IR_PARTS], (IrPart)(i % IR_PARTS));
            if (!item.dtype || rt_dtype_bytes(item.dtype) != size) continue;
            layout.place[i / IR_PARTS][i % IR_PARTS] = layout.count;
            layout.items[layout.count++] = item;
            layout.bytes += bytes_of(&item);
        }
    }
    return layout;
}
