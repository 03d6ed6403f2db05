/* The search for q4's numbers: which d, m, s, t and q give the w' = d·s·q − m·t nearest to given weights.
 *
 * Float32 with IEEE operations in one order, so a row gives the same bytes on every machine. */
#ifndef MOSSC_IR_QUANT_SEARCH_H
#define MOSSC_IR_QUANT_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

/* A row of K weights in the form of a checkpoint, the caller's memory; G = ceil(K/32) groups, S = ceil(G/8) super-blocks. */
typedef struct IrQ4Row {
    uint8_t *q;      /* [G][16]: element 2j of a group in the low half of byte j, 2j + 1 in the high half; 0..15 */
    uint8_t *s, *t;  /* [G]: 0..63 */
    uint16_t *d, *m; /* [S]: f16, finite; m may be negative */
} IrQ4Row;

/* Makes Σ_k h[k]·(w[k] − w'[k])² small for a row of K ≥ 1 finite weights. h[K]: finite, not negative, how much input k counts (the mean
 * of its squares, say; only their ratio matters); NULL: all count the same. Padding behind K has q = 0 and takes no part. false: d or
 * m would be beyond f16, and `out` holds nothing of use. */
bool ir_q4_search(const float *w, const float *h, uint64_t K, const IrQ4Row *out);

#endif
