/* Rows of GGUF's Q8_0 and Q4_K, which are blocks of the same numbers in other places:
 *
 *   Q8_0   32 weights in 34 bytes: d f16; q i8 [32]
 *   Q4_K   256 weights in 144 bytes: d f16; m f16; s and t of eight groups in twelve bytes, six bits each; q [4][32]: byte i of run j
 *          holds weight i of group 2j in its low half and of group 2j + 1 in its high half */
#ifndef MOSSC_IR_QUANT_GGUF_H
#define MOSSC_IR_QUANT_GGUF_H

#include "ir/quant.h"

enum { IR_Q8_0_BYTES = 34, IR_Q4_K_BYTES = 144 };

/* Bytes of a row of K weights; 0: GGUF has no such row, whose K is no multiple of 32 (q8) or 256 (q4). */
uint64_t ir_gguf_row_bytes(IrDtype dtype, uint64_t K);
/* A row to and from GGUF's form, both [ir_gguf_row_bytes], of no particular alignment. Nothing is rounded or checked. */
void ir_row_from_gguf(IrDtype dtype, const uint8_t *gguf, uint64_t K, const IrRow *out);
void ir_row_to_gguf(const IrBlocks *blocks, uint64_t row, uint8_t *out);

#endif
