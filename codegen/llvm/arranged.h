/* Groups of q8 and q4 weights as blocks of rows read them best: made once for all rows of a tile, which then neither part bytes into
 * halves nor widen scales. A group of a panel:
 *
 *     i8 [8][16 outputs][4 k]       the bytes of a panel of q8; of q4, 0 to 15
 *     f32 [16] d, [16] -d·CG_DOT_BASE, [16] m (CgScales; q4 only)
 *
 * Where a product takes two rows (cg_dot_rows) two vectors of sums hold two rows of 16 outputs: vector h those of outputs 8h to 8h + 7,
 * each output's in both rows side by side. Then:
 *
 *     i8 [4][2 h][8 outputs][8 k]
 *     f32 [2 h][8 outputs][2], of d, -d·CG_DOT_BASE and m */
#ifndef MOSSC_CODEGEN_LLVM_ARRANGED_H
#define MOSSC_CODEGEN_LLVM_ARRANGED_H

#include "codegen/llvm/blocks.h"
#include "codegen/llvm/dot.h"

/* Whether the kernel, a linear layer with rounded inputs, arranges its weights. */
bool cg_arranges(const CgEmit *e);
uint64_t cg_arranged_bytes(const CgEmit *e); /* of a group; a multiple of 64 */
/* Writes the group at `group` to `out` (64-aligned). */
void cg_arrange_group(CgEmit *e, CgValue group, const CgScales *shared, CgValue out);

/* Of vector `h` of sums (0 where a product takes one row): d, m or NULL, and -d·CG_DOT_BASE. */
CgScales cg_arranged_scales(CgEmit *e, CgValue group, unsigned h, CgValue *out_base);
/* Sums of two rows in two vectors at `at`, as vectors of a row each. */
void cg_part_rows(CgEmit *e, CgValue at);

#endif
