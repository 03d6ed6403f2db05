/* Where a value lies: its layout (ir/program.h) and the bytes of its buffer. */
#ifndef MOSSC_SCHEDULE_LAYOUT_H
#define MOSSC_SCHEDULE_LAYOUT_H

#include "ir/graph.h"
#include "ir/program.h"

typedef struct ScLayout {
    PgLayout planes;
    bool indices;      /* expert indices or combine weights: [LD][k] of 4 bytes */
    int64_t E, k;      /* planes: E planes; positions: k of E; 0 for rows */
    int64_t width;     /* O, or channels I */
    int64_t N;         /* channels with a state dimension: N; else 1 */
    IrValueId expert_indices;  /* positions: whose experts */
} ScLayout;

/* One per value of the graph; weights, states and tokens have none (all zero). */
ScLayout *sc_layouts(const IrGraph *g, SuArena *arena);

/* Positions that a cache of attention has room for (PgKernel.cap). */
int64_t sc_cache_positions(const IrGraph *g, const IrNode *attend);

/* Bytes of a buffer: per_row * LD + fixed, both multiples of 64. */
typedef struct ScBytes {
    uint64_t per_row, fixed;
} ScBytes;
ScBytes sc_buffer_bytes(const ScLayout *layout, PgMode mode);
/* Of its rounded rows (PG_BLOCK), each of so many bytes. */
ScBytes sc_rounded_bytes(const ScLayout *layout, uint64_t of_row);
/* Of the group table of expert indices with E experts, k chosen (PG_BLOCK). */
ScBytes sc_group_bytes(int64_t E, int64_t k);

#endif
