/* How the tensors of a spec lie in a checkpoint that is written: each as itself, a q8 or q4 one as its parts (ir/quant.h). */
#ifndef MOSSC_RUNTIME_LAYOUT_H
#define MOSSC_RUNTIME_LAYOUT_H

#include "ir/program.h"
#include "ir/quant.h"
#include "runtime/safetensors.h"

typedef struct RtLayout {
    RtWriteTensor *items; /* [count], those of large elements first, so that each lies on a multiple of its element's size */
    size_t count;
    size_t (
        *place)[IR_PARTS]; /* [tensors] the item that each part is; of floats the first. Meaningless where there is no such part */
    uint64_t bytes; /* of all items */
} RtLayout;

/* In the arena; names are those of the tensors. */
RtLayout rt_layout_make(SuArena *arena, const PgTensor *tensors, size_t n_tensors);
/* Rows, and numbers in each, of a tensor: runs of its last dimension. */
uint64_t rt_layout_rows(const PgTensor *tensor);
uint64_t rt_layout_inner(const PgTensor *tensor);

#endif
