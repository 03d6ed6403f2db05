#include "ir/quant_gguf.h"

#include <string.h>

enum { Q4_SCALES = 4, Q4_VALUES = 16, SIX = 63 }; /* where they begin in a block of Q4_K; six bits */

uint64_t ir_gguf_row_bytes(IrDtype dtype, uint64_t K) {
    if (dtype == IR_Q8) return K % IR_GROUP == 0 ? K / IR_GROUP * IR_Q8_0_BYTES : 0;
    return K % IR_SUPER == 0 ? K / IR_SUPER * IR_Q4_K_BYTES : 0;
}

/* ---- q8 */

static void q8_from(const uint8_t *gguf, uint64_t K, const IrRow *out) {
    uint8_t *q = out->part[IR_PART_Q], *d = out->part[IR_PART_D];
    for (uint64_t group = 0; group < K / IR_GROUP; group++, gguf += IR_Q8_0_BYTES) {
        memcpy(d + 2 * group, gguf, 2);
        memcpy(q + IR_GROUP * group, gguf + 2, IR_GROUP);
    }
}

static void q8_to(const uint8_t *q, const uint8_t *d, uint64_t K, uint8_t *out) {
    for (uint64_t group = 0; group < K / IR_GROUP; group++, out += IR_Q8_0_BYTES) {
        memcpy(out, d + 2 * group, 2);
        memcpy(out + 2, q + IR_GROUP * group, IR_GROUP);
    }
}

/* ---- q4. The first four of s and of t take the low six bits of bytes 0..3 and 4..7; of the others, bytes 8..11 have the low four bits,
 * of s below those of t, and the high two stand above the first four's. */

static void scales_from(const uint8_t *packed, uint8_t *s, uint8_t *t) {
    for (int i = 0; i < 4; i++) {
        s[i] = packed[i] & SIX;
        t[i] = packed[4 + i] & SIX;
        s[4 + i] = (uint8_t)((packed[8 + i] & 15) | packed[i] >> 6 << 4);
        t[4 + i] = (uint8_t)(packed[8 + i] >> 4 | packed[4 + i] >> 6 << 4);
    }
}

static void scales_to(const uint8_t *s, const uint8_t *t, uint8_t *packed) {
    for (int i = 0; i < 4; i++) {
        packed[i] = (uint8_t)(s[i] | s[4 + i] >> 4 << 6);
        packed[4 + i] = (uint8_t)(t[i] | t[4 + i] >> 4 << 6);
        packed[8 + i] = (uint8_t)((s[4 + i] & 15) | (t[4 + i] & 15) << 4);
    }
}

/* Two groups that share 32 bytes there, and take 16 each here. */
static void pair_from(const uint8_t *shared, uint8_t *q) {
    enum { BYTES = IR_GROUP / 2 };
    for (int i = 0; i < BYTES; i++) {
        uint8_t even = shared[2 * i], odd = shared[2 * i + 1];
        q[i] = (uint8_t)((even & 15) | (odd & 15) << 4);
        q[BYTES + i] = (uint8_t)(even >> 4 | odd >> 4 << 4);
    }
}

static void pair_to(const uint8_t *q, uint8_t *shared) {
    enum { BYTES = IR_GROUP / 2 };
    for (int i = 0; i < BYTES; i++) {
        shared[2 * i] = (uint8_t)((q[i] & 15) | (q[BYTES + i] & 15) << 4);
        shared[2 * i + 1] = (uint8_t)(q[i] >> 4 | q[BYTES + i] >> 4 << 4);
    }
}

static void q4_from(const uint8_t *gguf, uint64_t K, const IrRow *out) {
    uint8_t *q = out->part[IR_PART_Q], *d = out->part[IR_PART_D], *m = out->part[IR_PART_M];
    uint8_t *s = out->part[IR_PART_S], *t = out->part[IR_PART_T];
    for (uint64_t i = 0; i < K / IR_SUPER; i++, gguf += IR_Q4_K_BYTES) {
        memcpy(d + 2 * i, gguf, 2);
        memcpy(m + 2 * i, gguf + 2, 2);
        scales_from(gguf + Q4_SCALES, s + IR_OVER * i, t + IR_OVER * i);
        for (int j = 0; j < IR_OVER / 2; j++) pair_from(gguf + Q4_VALUES + IR_GROUP * j, q + IR_SUPER / 2 * i + IR_GROUP * j);
    }
}

static void q4_to(const uint8_t *const part[IR_PARTS], uint64_t K, uint8_t *out) {
    for (uint64_t i = 0; i < K / IR_SUPER; i++, out += IR_Q4_K_BYTES) {
        memcpy(out, part[IR_PART_D] + 2 * i, 2);
        memcpy(out + 2, part[IR_PART_M] + 2 * i, 2);
        scales_to(part[IR_PART_S] + IR_OVER * i, part[IR_PART_T] + IR_OVER * i, out + Q4_SCALES);
        for (int j = 0; j < IR_OVER / 2; j++)
            pair_to(part[IR_PART_Q] + IR_SUPER / 2 * i + IR_GROUP * j, out + Q4_VALUES + IR_GROUP * j);
    }
}

/* ---- both */

void ir_row_from_gguf(IrDtype dtype, const uint8_t *gguf, uint64_t K, const IrRow *out) {
    (dtype == IR_Q8 ? q8_from : q4_from)(gguf, K, out);
}

void ir_row_to_gguf(const IrBlocks *b, uint64_t row, uint8_t *out) {
    const uint8_t *part[IR_PARTS];
    for (int i = 0; i < IR_PARTS; i++)
        part[i] = b->part[i] != NULL ? b->part[i] + row * ir_part_bytes(b->dtype, (IrPart)i, b->K) : NULL;
    if (b->dtype == IR_Q8)
        q8_to(part[IR_PART_Q], part[IR_PART_D], b->K, out);
    else
        q4_to(part, b->K, out);
}
