/* Parts of the linear kernel: linear.c decides what a tile reads and writes, linear_microkernel.c multiplies, linear_epilogue.c finishes. */
#ifndef MOSSC_CODEGEN_LLVM_LINEAR_H
#define MOSSC_CODEGEN_LLVM_LINEAR_H

#include "codegen/llvm/rounded.h"

/* The tile of a microkernel: panels of weights × rows of activations, a sum each. */
typedef struct CgLinearShape {
    unsigned panels, rows;
    unsigned span; /* panels of a tile lie so many apart; 1 in PG_BLOCK */
    unsigned parts; /* PG_BLOCK: tiles of rows that go through the weights together at most; else 1 */
    uint64_t groups; /* panel groups of the linear layer */
} CgLinearShape;

CgLinearShape cg_linear_shape(const CgSchedule *schedule, const PgKernel *kernel);

/* sums[panel][row] (vectors, 64-aligned memory) = W · x over all K by the order of the bits, of one tile of rows. w: first panel of
 * the group; x: first row, panel i of 16 inputs at x + i·x_step, row r at + 64·r. */
void cg_linear_sums(CgEmit *e, const CgLinearShape *shape, CgValue w, CgValue x, CgValue x_step, CgValue sums);
/* Memory that is written over: `open`, the size of sums; `wide`, of cg_linear_wide_bytes, for weights of q8 and q4. */
typedef struct CgLinearRoom {
    CgValue open, wide;
} CgLinearRoom;
uint64_t cg_linear_wide_bytes(const CgLinearShape *shape);

/* The same for `parts` (i64, at most shape->parts) tiles of rows one behind the other: sums[part][panel][row]. A run of inputs is done
 * for all parts before the next one, so that its weights are read from the first cache for all but one of them. Weights of q8 and q4
 * become floats run by run. */
void cg_linear_sums_of_parts(CgEmit *e, const CgLinearShape *shape, CgValue w, CgValue x, CgValue x_step, CgValue parts,
                             const CgLinearRoom *room, CgValue sums);

/* The same with rounded inputs, row 0 of which lies at x, and weights of q8 or q4 (linear_rounded.c): of one row, with one matrix or two
 * of them group by group (w, sums: [matrices]); of `parts` tiles of rows. arranged: memory that is written over, of
 * cg_linear_arranged_bytes; NULL where these are 0. */
void cg_linear_rounded_row(CgEmit *e, const CgLinearShape *shape, unsigned matrices, const CgValue *w, const CgRounded *x,
                           const CgValue *sums);
void cg_linear_rounded_parts(CgEmit *e, const CgLinearShape *shape, CgValue w, const CgRounded *x, CgValue parts, CgValue arranged,
                             CgValue sums);
uint64_t cg_linear_arranged_bytes(const CgEmit *e, const CgLinearShape *shape);

/* The same of `parts` tiles of rows with inputs of bf16 and weights of bf16 (linear_bf16.c), in an order of its own: row 0 at x, groups of
 * 32 inputs x_step bytes apart, row r at + 64·r. arranged: of cg_linear_bf16_arranged_bytes; NULL where these are 0. */
void cg_linear_bf16_parts(CgEmit *e, const CgLinearShape *shape, CgValue w, CgValue x, CgValue x_step, CgValue parts,
                          CgValue arranged, CgValue sums);
uint64_t cg_linear_bf16_arranged_bytes(const CgEmit *e, const CgLinearShape *shape);

/* What the epilogue of one tile works on. Panels [first, end) of the group are this tile's own (a last group that is not full
 * begins early and shares panels with its neighbour, which stores them). */
typedef struct CgLinearTile {
    CgValue panel0; /* i64: panel of the linear layer that sums[0] belongs to; sums[i]: `span` panels further for each */
    unsigned span;
    CgValue first, end; /* i64: panels of the group to finish */
    CgValue row0; /* i64: row, or position, of y that sums[.][0] belongs to */
    CgValue bias, bias2; /* ptr to the expert's [panels][16], or NULL */
    CgValue y; /* ptr to the plane's [panels][stride][16]; NULL with logits */
    CgValue sums, sums2; /* sums2: dual's second linear layer, or NULL */
    CgValue total; /* [panels] vectors of the sum over experts, or NULL */
    CgValue combine_weight; /* f32: g_j of this round of the sum, or NULL */
} CgLinearTile;

/* One expert's part of a tile: bias, activation, dual; then added to tile->total (with a sum over experts) or finished and
 * stored. */
void cg_linear_finish(CgEmit *e, const CgLinearShape *shape, const CgLinearTile *tile);
/* After the last expert: finishes tile->total and stores it. */
void cg_linear_finish_total(CgEmit *e, const CgLinearTile *tile);

#endif
