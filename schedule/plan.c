/* Plan: one arena for all buffers of a step. Buffers that live in the same stage never overlap; with the pass off, none ever do.
 *
 * First fit by falling size. In PG_ROW sizes are bytes. In PG_BLOCK they are bytes a row, an offset is that times LD (not known
 * yet) plus a fixed part: the paddings (of positions) of all that lives at the same time and lies below. Where the per-row parts
 * of two buffers do not overlap and the fixed parts are in the same order, their sums do not overlap either, whatever LD is. */
#include <stdlib.h>

#include "schedule/builder.h"

/* What a buffer takes: bytes in PG_ROW, bytes a row in PG_BLOCK. */
static uint64_t cost(const ScBuilder *b, const ScBuffer *buffer) {
    return b->mode == PG_ROW ? buffer->bytes.fixed : buffer->bytes.per_row;
}

/* A buffer that has its offset. `turn`: how many were placed before it. */
typedef struct Placed {
    uint64_t offset;
    uint32_t turn, buffer;
} Placed;

static int by_offset(const void *a, const void *b) {
    const Placed *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    return x->turn < y->turn ? -1 : x->turn > y->turn;
}

/* Whom a buffer can meet: the placed ones by the stages in which they live. Most live in a few, so that a buffer sees a few. */
typedef struct Plan {
    const ScBuilder *b;
    Placed *placed; /* [buffers] in the order of placing */
    uint32_t n_placed;
    uint32_t n_stages;
    size_t *begin;   /* [stages + 1] each stage's part of `living` */
    uint32_t *count; /* [stages] */
    uint32_t *living; /* places in `placed` */
    Placed *near;    /* [buffers] scratch: those that live at the same time as one */
} Plan;

/* With the pass off all live in one stage. */
static uint32_t first_stage(const Plan *p, const ScBuffer *buffer) { return p->b->options->off[PS_PLAN] ? 0 : buffer->first; }
static uint32_t last_stage(const Plan *p, const ScBuffer *buffer) { return p->b->options->off[PS_PLAN] ? 0 : buffer->last; }

static Plan new_plan(ScBuilder *b) {
    Plan p = {
        .b = b, .placed = SU_NEW_ARRAY(&b->scratch, Placed, b->n_buffers), .near = SU_NEW_ARRAY(&b->scratch, Placed, b->n_buffers)};
    for (size_t i = 0; i < b->n_buffers; i++)
        if (last_stage(&p, &b->buffers[i]) >= p.n_stages) p.n_stages = last_stage(&p, &b->buffers[i]) + 1;
    p.begin = SU_NEW_ARRAY(&b->scratch, size_t, p.n_stages + 1);
    p.count = SU_NEW_ARRAY(&b->scratch, uint32_t, p.n_stages);
    for (size_t i = 0; i < b->n_buffers; i++)
        for (uint32_t s = first_stage(&p, &b->buffers[i]); s <= last_stage(&p, &b->buffers[i]); s++) p.begin[s + 1]++;
    for (uint32_t s = 0; s < p.n_stages; s++) p.begin[s + 1] += p.begin[s];
    p.living = SU_NEW_ARRAY(&b->scratch, uint32_t, p.begin[p.n_stages]);
    return p;
}

/* The placed buffers that live when `buffer` does, by offset, each once: in its first stage that the two share. */
static size_t find_near(const Plan *p, const ScBuffer *buffer) {
    size_t n = 0;
    uint32_t first = first_stage(p, buffer);
    for (uint32_t s = first; s <= last_stage(p, buffer); s++) {
        for (uint32_t i = 0; i < p->count[s]; i++) {
            const Placed *other = &p->placed[p->living[p->begin[s] + i]];
            if (s == first || first_stage(p, &p->b->buffers[other->buffer]) == s) p->near[n++] = *other;
        }
    }
    qsort(p->near, n, sizeof *p->near, by_offset);
    return n;
}

/* The lowest offset at which `size` bytes meet no buffer that lives at the same time. `end`: of all so far. */
static uint64_t first_fit(const Plan *p, const ScBuffer *buffer, uint64_t size, uint64_t end) {
    if (p->b->options->off[PS_PLAN]) return size == 0 ? 0 : end; /* without gaps; an empty one fits anywhere */
    uint64_t offset = 0;
    size_t n = find_near(p, buffer);
    for (size_t i = 0; i < n && p->near[i].offset < offset + size; i++) { /* up to a gap that fits */
        uint64_t behind = p->near[i].offset + cost(p->b, &p->b->buffers[p->near[i].buffer]);
        if (behind > offset) offset = behind;
    }
    return offset;
}

static void place(Plan *p, uint32_t index, uint64_t offset) {
    const ScBuffer *buffer = &p->b->buffers[index];
    p->placed[p->n_placed] = (Placed){offset, p->n_placed, index};
    for (uint32_t s = first_stage(p, buffer); s <= last_stage(p, buffer); s++) p->living[p->begin[s] + p->count[s]++] = p->n_placed;
    p->n_placed++;
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

/* Fixed parts, from the lowest buffer up: behind those of all below it that live at the same time. Returns their end. */
static uint64_t place_fixed(ScBuilder *b, Plan *p) {
    uint64_t end = 0, *top = SU_NEW_ARRAY(&b->scratch, uint64_t, p->n_stages); /* of what lies below, in each stage */
    qsort(p->placed, p->n_placed, sizeof *p->placed, by_offset);
    for (uint32_t i = 0; i < p->n_placed; i++) {
        ScBuffer *buffer = &b->buffers[p->placed[i].buffer];
        uint64_t fixed = 0;
        for (uint32_t s = first_stage(p, buffer); s <= last_stage(p, buffer); s++)
            if (top[s] > fixed) fixed = top[s];
        buffer->offset = (ScBytes){p->placed[i].offset, fixed};
        fixed += buffer->bytes.fixed;
        for (uint32_t s = first_stage(p, buffer); s <= last_stage(p, buffer); s++)
            if (fixed > top[s]) top[s] = fixed;
        if (fixed > end) end = fixed;
    }
    return end;
}

ScBytes sc_plan(ScBuilder *b) {
    Plan plan = new_plan(b);
    Sized *sized = SU_NEW_ARRAY(&b->scratch, Sized, b->n_buffers);
    for (size_t i = 0; i < b->n_buffers; i++) sized[i] = (Sized){cost(b, &b->buffers[i]), (uint32_t)i};
    qsort(sized, b->n_buffers, sizeof *sized, by_falling_size);
    uint64_t end = 0;
    for (size_t i = 0; i < b->n_buffers; i++) {
        uint32_t buffer = sized[i].buffer;
        uint64_t offset = first_fit(&plan, &b->buffers[buffer], sized[i].size, end);
        place(&plan, buffer, offset);
        if (offset + sized[i].size > end) end = offset + sized[i].size;
    }
    if (b->mode == PG_BLOCK) return (ScBytes){end, place_fixed(b, &plan)};
    for (uint32_t i = 0; i < plan.n_placed; i++) b->buffers[plan.placed[i].buffer].offset = (ScBytes){0, plan.placed[i].offset};
    return (ScBytes){0, end};
}

PsStageBytes *sc_live(const ScBuilder *b) {
    PsStageBytes *live = SU_NEW_ARRAY(b->arena, PsStageBytes, b->n_phases); /* at least as many as stages */
    for (size_t i = 0; i < b->n_buffers; i++) {
        const ScBuffer *buffer = &b->buffers[i];
        for (uint32_t s = buffer->first; s <= buffer->last && buffer->writer >= 0; s++) {
            live[s].per_row += buffer->bytes.per_row;
            live[s].fixed += buffer->bytes.fixed;
        }
    }
    return live;
}
