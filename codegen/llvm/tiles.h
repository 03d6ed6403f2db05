/* AMX: registers of 8 rows of 64 bytes, and products of them, where the schedule says so (CgSchedule.tiles): blocks of 8 rows of a linear
 * layer with rounded inputs, of bytes or of bf16.
 *
 *     C[8 rows][16 outputs] += A[8 rows][32 k] · B[32 k][16 outputs]
 *
 * C i32 or f32; A i8 or bf16, rows any distance apart; B u8 [8][16][4 k], or bf16 [16][16][2 k], in lines of 64 bytes. */
#ifndef MOSSC_CODEGEN_LLVM_TILES_H
#define MOSSC_CODEGEN_LLVM_TILES_H

#include "codegen/llvm/emit.h"

enum { CG_TILE_SUMS = 6 /* C's, by a number from 0 on */, CG_TILE_ROWS = PG_ROW_BLOCK, CG_TILE_K = IR_GROUP };

/* Of a kernel. cg_tiles_begin comes first and cg_tiles_end last, once a call. */
void cg_tiles_begin(CgEmit *e);
void cg_tiles_end(CgEmit *e);

/* What a product takes; a stand-in reads it when it is multiplied. */
typedef struct CgTilePair {
    CgValue a, b; /* addresses */
    uint64_t a_step; /* bytes between rows */
} CgTilePair;

void cg_tile_zero(CgEmit *e, unsigned c);
void cg_tile_load(CgEmit *e, unsigned c, CgValue address); /* 8 vectors one behind the other */
void cg_tile_store(CgEmit *e, unsigned c, CgValue address);
/* A is loaded unless it is that of the product before. */
void cg_tile_multiply(CgEmit *e, unsigned c, const CgTilePair *pair, bool same_a);

#endif
