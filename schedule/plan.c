/* Plan: one arena for all buffers of a step. Buffers that live in the same stage never overlap; with the pass off, none ever do.
 *
 * First fit by falling size. In PG_ROW sizes are bytes. In PG_BLOCK they are bytes a row, an offset is that times LD (not known
 * yet) plus a fixed part: the paddings (of positions) of all that lives at the same time and lies below. Where the per-row parts
 * of two buffers do not overlap and the fixed parts are in the same order, their sums do not overlap either, whatever LD is. */
#include <stdlib.h>

#include "schedule/builder.h"
#include "support/size.h"

static bool meet(const ScBuffer *a, const ScBuffer *b) { return a->first <= b->last && b->first <= a->last; }

/* What a buffer takes: bytes in PG_ROW, bytes a row in PG_BLOCK. */
static uint64_t cost(const ScBuilder *b, const ScBuffer *buffer) {
    return b->mode == PG_ROW ? buffer->bytes.fixed : buffer->bytes.per_row;
}

typedef struct Placed {
    uint32_t *order; /* buffers already placed, by offset */
    size_t n;
    uint64_t *offset; /* [buffers] */
} Placed;

/* The lowest offset at which `size` bytes meet no buffer that lives at the same time. */
static uint64_t first_fit(const ScBuilder *b, const Placed *placed, const ScBuffer *buffer, uint64_t size) {
    uint64_t offset = 0;
    for (size_t i = 0; i < placed->n; i++) {
        const ScBuffer *other = &b->buffers[placed->order[i]];
        uint64_t at = placed->offset[placed->order[i]];
        if (!b->options->off[PS_PLAN] && !meet(buffer, other)) continue;
        if (at >= offset + size) break; /* sorted by offset: a gap that fits */
        uint64_t end = at + cost(b, other);
        if (end > offset) offset = end;
    }
    return offset;
}

static void insert(Placed *placed, uint32_t buffer) {
    size_t i = placed->n++;
    while (i > 0 && placed->offset[placed->order[i - 1]] > placed->offset[buffer]) {
        placed->order[i] = placed->order[i - 1];
        i--;
    }
    placed->order[i] = buffer;
}

typedef struct Sized {
    uint64_t size;
    uint32_t buffer;
} Sized;

static int by_falling_size(const void *a, const void *b) {
    const Sized *x = a, *y = b;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return x->buffer < y->buffer ? -1 : x->buffer > y->buffer;
}

/* Fixed parts, from the lowest buffer up; returns their end. */
static uint64_t place_fixed(ScBuilder *b, const Placed *placed) {
    uint64_t end = 0;
    for (size_t i = 0; i < placed->n; i++) {
        ScBuffer *buffer = &b->buffers[placed->order[i]];
        buffer->offset = (ScBytes){placed->offset[placed->order[i]], 0};
        for (size_t j = 0; j < i; j++) {
            const ScBuffer *below = &b->buffers[placed->order[j]];
            uint64_t above = below->offset.fixed + below->bytes.fixed;
            if ((b->options->off[PS_PLAN] || meet(buffer, below)) && above > buffer->offset.fixed) buffer->offset.fixed = above;
        }
        if (buffer->offset.fixed + buffer->bytes.fixed > end) end = buffer->offset.fixed + buffer->bytes.fixed;
    }
    return end;
}

ScBytes sc_plan(ScBuilder *b) {
    Placed placed = {SU_NEW_ARRAY(&b->scratch, uint32_t, b->n_buffers), 0, SU_NEW_ARRAY(&b->scratch, uint64_t, b->n_buffers)};
    Sized *sized = SU_NEW_ARRAY(&b->scratch, Sized, b->n_buffers);
    for (size_t i = 0; i < b->n_buffers; i++) sized[i] = (Sized){cost(b, &b->buffers[i]), (uint32_t)i};
    qsort(sized, b->n_buffers, sizeof *sized, by_falling_size);
    uint64_t end = 0;
    for (size_t i = 0; i < b->n_buffers; i++) {
        uint32_t buffer = sized[i].buffer;
        placed.offset[buffer] = first_fit(b, &placed, &b->buffers[buffer], sized[i].size);
        insert(&placed, buffer);
        if (placed.offset[buffer] + sized[i].size > end) end = placed.offset[buffer] + sized[i].size;
    }
    if (b->mode == PG_ROW) {
        for (size_t i = 0; i < b->n_buffers; i++) b->buffers[i].offset = (ScBytes){0, placed.offset[i]};
        return (ScBytes){0, end};
    }
    return (ScBytes){end, place_fixed(b, &placed)};
}
