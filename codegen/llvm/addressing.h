/* Addresses of rows, planes and positions, and what the kernels around the scan and the unfused ones share (addressing.c).
 *
 * A value in rows, planes or positions keeps element i of place r (a row or a position) of plane e at
 * base + e · plane bytes + ((i / 16) · stride + r) · 64 + (i % 16) · 4, where stride is LD or LDP. */
#ifndef MOSSC_CODEGEN_LLVM_ADDRESSING_H
#define MOSSC_CODEGEN_LLVM_ADDRESSING_H

#include "codegen/llvm/emit.h"

/* One place of a value whose panels lie panel_bytes apart: a row, or a position. */
typedef struct CgPlace {
    CgValue base;        /* ptr: lane 0 of panel 0 of this place */
    CgValue panel_bytes; /* i64 */
} CgPlace;

/* Place `index` of the operand at `base` with this layout; plane NULL where the layout has only one. `elements` is the operand's
 * O: only read for planes. */
CgPlace cg_place(CgEmit *e, CgValue base, PgLayout layout, CgValue plane, CgValue index, int64_t elements);
/* Address of panel `panel` (i64) of a place. */
CgValue cg_place_panel(CgEmit *e, const CgPlace *place, CgValue panel);
/* Address of element 16 · block + i; block NULL means 0. */
CgValue cg_place_element(CgEmit *e, const CgPlace *place, CgValue block, int64_t i);
/* Address of element `i` (i64, known only at run time). */
CgValue cg_place_element_at(CgEmit *e, const CgPlace *place, CgValue i);

/* Elements of a place one by one, each in all lanes, for code that goes through them in order: where registers give single lanes to
 * multiplications (CgTarget.broadcast_lanes) neighbours share a load. */
typedef struct CgScalars {
    CgPlace place;
    int64_t limit; /* elements that may be read, if less than all of the last panel; else 0 */
    CgValue held; /* elements loaded last, from `first` on; or NULL */
    int64_t first;
} CgScalars;

CgValue cg_scalar(CgEmit *e, CgScalars *scalars, int64_t i);

enum { CG_FEW_CHOSEN = 4 };

/* The chosen experts of a row: addresses of its k expert indices and k combine weights; up to CG_FEW_CHOSEN of them are read at once, so that
 * stores in between do not make them be read again. */
typedef struct CgChosen {
    CgValue expert_indices, combine_weights;
    CgValue expert[CG_FEW_CHOSEN], weight[CG_FEW_CHOSEN]; /* i64, vec; only if k <= CG_FEW_CHOSEN */
    int64_t k;
} CgChosen;

CgChosen cg_chosen(CgEmit *e, unsigned experts_slot, unsigned combine_slot, CgValue row);
CgValue cg_chosen_expert(CgEmit *e, const CgChosen *chosen, CgValue j); /* i64 */
CgValue cg_chosen_weight(CgEmit *e, const CgChosen *chosen, CgValue j); /* vec: the combine weight in every lane */
/* Position of (row, slot j): j itself in PG_ROW, else found through the group table of that operand slot. */
CgValue cg_position_of(CgEmit *e, unsigned groups_slot, CgValue row, CgValue j);
/* The vector at base + e · expert_bytes, mixed over the chosen: acc = fma(g, p, acc) from +0 in rising e. */
CgValue cg_mixed_vec(CgEmit *e, const CgChosen *chosen, CgValue base, uint64_t expert_bytes);

/* One place of an unfused operation's result, and what its operands need to be found there. */
typedef struct CgIndex {
    CgValue row;
    CgValue position; /* NULL unless the result is positions */
    CgValue expert; /* the plane, or the position's expert; NULL for rows */
} CgIndex;

/* The body of a loop over places; `context` is the emitter's own. */
typedef void (*CgPlaceBody)(CgEmit *e, void *context, const CgIndex *at);
/* Tiles of the unfused operations (see PgPhase): `body` is emitted once, in a loop over all places of y_layout that the tiles cover.
 * Positions need the operands PG_OP_GROUPS in PG_BLOCK and PG_OP_EXPERTS in PG_ROW. */
void cg_each_place(CgEmit *e, PgLayout layout, CgPlaceBody body, void *context);
/* Panel `panel` of a place of an operand with this layout, which may be other than the result's: rows repeat over planes and
 * positions. N vectors lie there: 1, or the elements of a channel. */
CgValue cg_indexed(CgEmit *e, unsigned slot, PgLayout layout, const CgIndex *at, CgValue panel, int64_t O, int64_t N);

/* tile = segment * panels + panel: both of a tile. In PG_ROW the segment is 0. */
void cg_segment_and_panel(CgEmit *e, CgValue tile, int64_t channels, CgSegment *out_segment, CgValue *out_panel);

/* Position of a row in its sequence, and the sequence's segment. */
CgValue cg_row_position(CgEmit *e, CgValue row, CgSegment *out_segment);

#endif
