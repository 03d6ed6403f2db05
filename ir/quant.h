/* Weights in blocks, q8 and q4: the formats, what a weight is as a number, quantising, and rounding of inputs. One place for all; what
 * bits come out of it is said in docs/bits.md.
 *
 * A tensor is rows of K weights. A row is cut into groups of IR_GROUP along K, of which the last may be shorter; q4 has super-blocks of
 * IR_OVER groups besides, of which the last may have fewer. With d and m in f16, s and t in 0..63:
 *
 *   q8   w = d·q, d of the group, q in -127..127 (a -128 in a file is read as -127)
 *   q4   w = d·s·q - m·t, d and m of the super-block, s and t of the group, q in 0..15: both products are exact floats, and their
 *        difference is rounded once
 *
 * A checkpoint holds the parts of such a tensor T as tensors of their own: T.q8 and T.d; or T.q4, T.d, T.m, T.s, T.t. */
#ifndef MOSSC_IR_QUANT_H
#define MOSSC_IR_QUANT_H

#include "ir/dtype.h"

enum { IR_GROUP = 32, IR_OVER = 8, IR_SUPER = IR_GROUP * IR_OVER, IR_Q8_MOST = 127, IR_Q4_MOST = 15, IR_Q4_SCALE_MOST = 63 };

/* ---- parts of a tensor in the form of a checkpoint */

typedef enum IrPart { IR_PART_Q, IR_PART_D, IR_PART_M, IR_PART_S, IR_PART_T, IR_PARTS } IrPart;

typedef struct IrPartInfo {
    const char *suffix; /* "q8": the part of tensor T is called T.q8. NULL: the dtype has no such part */
    const char *file; /* its dtype, as safetensors calls it */
    uint64_t bytes; /* of an element */
} IrPartInfo;

const IrPartInfo *ir_part(IrDtype dtype, IrPart part);
/* Elements of a row of K weights: K q of q8 or 16 bytes a group of q4 (element 2j of a group in the low half of byte j, 2j + 1 in the
 * high half), one d, s, t a group or d, m a super-block. 0: no such part. */
uint64_t ir_part_elements(IrDtype dtype, IrPart part, uint64_t K);
uint64_t ir_part_bytes(IrDtype dtype, IrPart part, uint64_t K);

/* A tensor's rows, someone else's memory, of no particular alignment. */
typedef struct IrBlocks {
    IrDtype dtype; /* IR_Q8 or IR_Q4 */
    uint64_t rows, K;
    const uint8_t *part[IR_PARTS]; /* [rows][ir_part_bytes]; NULL where there is none */
} IrBlocks;

/* A weight's elements, row-major, in the language's shape. All zero: there is none. */
typedef struct IrElements {
    const float *f;
    IrBlocks blocks; /* instead, where the weight is q8 or q4: a row for each run of the last dimension */
} IrElements;

/* ---- what weights are */

/* A group: weight i is d·q[i] - m. */
typedef struct IrGroup {
    int8_t q[IR_GROUP]; /* 0 behind the row's end */
    float d, m; /* q8: d and 0; q4: d·s and m·t, exact */
} IrGroup;

void ir_blocks_group(const IrBlocks *blocks, uint64_t row, uint64_t group, IrGroup *out);
/* Weight k of a row as the float32 number that it is. */
float ir_blocks_value(const IrBlocks *blocks, uint64_t row, uint64_t k);
/* Weights first … first + n of a row; first is a multiple of IR_GROUP. */
void ir_blocks_values(const IrBlocks *blocks, uint64_t row, uint64_t first, uint64_t n, float *out);
/* All K of a row. */
void ir_blocks_row(const IrBlocks *blocks, uint64_t row, float *out);

/* What a row from a file may be. */
typedef enum IrRowState {
    IR_ROW_GOOD,
    IR_ROW_LOW, /* a q of -128: read as -127 */
    IR_ROW_NONFINITE, /* a d or m is not finite */
    IR_ROW_RANGE /* an s or t is above 63 */
} IrRowState;

IrRowState ir_blocks_check(const IrBlocks *blocks, uint64_t row);

/* ---- quantising */

/* A row that is being made: memory for each part, aligned for its elements. */
typedef struct IrRow {
    void *part[IR_PARTS]; /* [ir_part_bytes] */
} IrRow;

/* Quantises a row of K finite weights. h[K]: how much each input counts in the search for q4's numbers (quant_search.h), or NULL.
 * false: a d or m would be beyond f16. */
bool ir_quantise(IrDtype dtype, const float *w, const float *h, uint64_t K, const IrRow *out);

/* ---- panels (ir/dtype.def) */

/* Stores a row as output `lane` (0..15) of a panel, which is zero before its first row. */
void ir_store_lane(const IrBlocks *blocks, uint64_t row, unsigned lane, uint8_t *panel);

/* ---- inputs */

/* A group of an input vector, rounded: element i is about e·p[i]. */
typedef struct IrRounded {
    int8_t p[IR_GROUP];
    int32_t sum; /* of p */
    float e; /* NaN where an element is not finite; then p is 0 */
} IrRounded;

/* n ≤ IR_GROUP elements, the rest being zero: a = max|x|; a < 2^-100: zeros and e = 0; else e = a/127 and p = x·(127/a), rounded to
 * nearest even and held to ±127. */
void ir_round_group(const float *x, uint64_t n, IrRounded *out);

#endif
