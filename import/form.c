#include "import/form.h"

#include <string.h>

#include "ir/half.h"
#include "ir/quant_gguf.h"
#include "support/table.h"

static const ImFormInfo forms[] = {
#define IM_FORM(NAME, gguf, weights, bytes, kept) [IM_##NAME] = {#NAME, gguf, weights, bytes, kept},
#include "import/form.def"
};
SU_TABLE_FULL(forms, IM_FORMS);

static const struct {
    const char *word;
    uint32_t gguf;
} aliens[] = {
#define IM_ALIEN(NAME, gguf) {#NAME, gguf},
#include "import/form.def"
};

const ImFormInfo *im_form(ImForm form) { return &forms[form]; }

bool im_form_of_gguf(uint32_t gguf, ImForm *out, const char **out_word) {
    *out_word = NULL;
    for (int i = 0; i < IM_FORMS; i++) {
        if (forms[i].gguf != gguf) continue;
        *out = (ImForm)i;
        *out_word = forms[i].word;
        return true;
    }
    for (size_t i = 0; i < sizeof aliens / sizeof *aliens; i++)
        if (aliens[i].gguf == gguf) *out_word = aliens[i].word;
    return false;
}

uint64_t im_form_row_bytes(ImForm form, uint64_t K) {
    const ImFormInfo *info = im_form(form);
    return K % info->weights == 0 ? K / info->weights * info->bytes : 0;
}

bool im_form_is_kept(ImForm form, IrDtype *out_dtype) {
    *out_dtype = im_form(form)->kept;
    return ir_is_blocks(*out_dtype);
}

/* ---- the parts of blocks */

enum { LOW = 15, BLOCK = IR_GROUP, HALF = BLOCK / 2, SUPER = IR_SUPER };

static uint16_t half_bits(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
static float half_at(const uint8_t *at) { return ir_widen_f16(half_bits(at)); }

/* 32 integers of 4 bits: those of the low halves of sixteen bytes, then those of the high ones. */
static void low_and_high(const uint8_t *bytes, int8_t *q) {
    for (int i = 0; i < HALF; i++) {
        q[i] = (int8_t)(bytes[i] & LOW);
        q[HALF + i] = (int8_t)(bytes[i] >> 4);
    }
}

/* The same with a fifth bit each, bit i of the four bytes `high`. */
static void with_fifth(const uint8_t *high, const uint8_t *bytes, int8_t *q) {
    low_and_high(bytes, q);
    for (int i = 0; i < BLOCK; i++) q[i] = (int8_t)(q[i] | (high[i / 8] >> i % 8 & 1) << 4);
}

static void less(int8_t *q, int by) {
    for (int i = 0; i < BLOCK; i++) q[i] = (int8_t)(q[i] - by);
}

/* ---- to q8: 32 integers of a block, whose d stands first */

typedef void (*Integers)(const uint8_t *block, int8_t *q);

static void integers_q8_0(const uint8_t *block, int8_t *q) { memcpy(q, block + 2, BLOCK); }

bool im_form_is_low(ImForm form, const uint8_t *bytes, uint64_t K) {
    for (uint64_t at = 0; form == IM_Q8_0 && at < K; at += BLOCK, bytes += im_form(form)->bytes)
        if (memchr(bytes + 2, 0x80, BLOCK) != NULL) return true;
    return false;
}

static void integers_q4_0(const uint8_t *block, int8_t *q) {
    low_and_high(block + 2, q);
    less(q, 8);
}

static void integers_q5_0(const uint8_t *block, int8_t *q) {
    with_fifth(block + 2, block + 6, q);
    less(q, 16);
}

static Integers integers_of(ImForm form) {
    return form == IM_Q4_0 ? integers_q4_0 : form == IM_Q5_0 ? integers_q5_0 : integers_q8_0;
}

void im_form_to_row(ImForm form, const uint8_t *bytes, uint64_t K, const IrRow *out) {
    if (form == IM_Q4_K) {
        ir_row_from_gguf(IR_Q4, bytes, K, out);
        return;
    }
    const Integers integers = integers_of(form);
    uint8_t *d = out->part[IR_PART_D];
    int8_t *q = out->part[IR_PART_Q];
    for (uint64_t at = 0; at < K; at += BLOCK, bytes += im_form(form)->bytes, d += 2, q += BLOCK) {
        memcpy(d, bytes, 2);
        integers(bytes, q);
        for (int i = 0; i < BLOCK; i++) q[i] = q[i] < -IR_Q8_MOST ? -IR_Q8_MOST : q[i];
    }
}

/* ---- to floats: the weights of a block */

static void of_integers(Integers integers, const uint8_t *block, float *out) {
    int8_t q[BLOCK];
    integers(block, q);
    const float d = half_at(block);
    for (int i = 0; i < BLOCK; i++) out[i] = d * (float)q[i];
}

static void of_sum(const uint8_t *block, const int8_t *q, float *out) {
    const float d = half_at(block), m = half_at(block + 2);
    for (int i = 0; i < BLOCK; i++) out[i] = d * (float)q[i] + m;
}

static void float_F32(const uint8_t *block, float *out) { memcpy(out, block, sizeof *out); }
static void float_F16(const uint8_t *block, float *out) { *out = half_at(block); }
static void float_BF16(const uint8_t *block, float *out) { *out = ir_from_bits((uint32_t)half_bits(block) << 16); }
static void float_Q8_0(const uint8_t *block, float *out) { of_integers(integers_q8_0, block, out); }
static void float_Q4_0(const uint8_t *block, float *out) { of_integers(integers_q4_0, block, out); }
static void float_Q5_0(const uint8_t *block, float *out) { of_integers(integers_q5_0, block, out); }

static void float_Q4_1(const uint8_t *block, float *out) {
    int8_t q[BLOCK];
    low_and_high(block + 4, q);
    of_sum(block, q, out);
}

static void float_Q5_1(const uint8_t *block, float *out) {
    int8_t q[BLOCK];
    with_fifth(block + 4, block + 8, q);
    of_sum(block, q, out);
}

/* scales [16]: s in the low half, t in the high one, of sixteen weights; q [64]; d; m. Weights 128j + 32k + i have bits 2k, 2k + 1 of
 * byte 32j + i. */
static void float_Q2_K(const uint8_t *block, float *out) {
    const uint8_t *q = block + 16;
    const float d = half_at(block + 80), m = half_at(block + 82);
    for (int i = 0; i < SUPER; i++) {
        const int s = block[i / 16], bits = q[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3;
        out[i] = d * (float)(s & LOW) * (float)bits - m * (float)(s >> 4);
    }
}

/* Sixteen scales of six bits: the low four in the halves of bytes 0..7, the high two in pairs of bits of bytes 8..11. */
static int scale_of_q3(const uint8_t *packed, int i) {
    const int low = packed[i % 8] >> i / 8 * 4 & LOW, high = packed[8 + i % 4] >> i / 4 * 2 & 3;
    return (low | high << 4) - 32;
}

/* high [32]: the third bit, of weight 32k + i bit k of byte i, which counts for 4 less where it is 0; q [64] as in Q2_K; scales [12]; d. */
static void float_Q3_K(const uint8_t *block, float *out) {
    const uint8_t *high = block, *q = block + 32, *scales = block + 96;
    const float d = half_at(block + 108);
    for (int i = 0; i < SUPER; i++) {
        const int bits = q[i / 128 * 32 + i % 32] >> i / 32 % 4 * 2 & 3, third = high[i % 32] >> i / 32 & 1;
        out[i] = d * (float)scale_of_q3(scales, i / 16) * (float)(bits - (third ? 0 : 4));
    }
}

/* s and t of Q4_K and Q5_K: ir/quant_gguf.c says how they lie. */
static void scales_of_q4(const uint8_t *packed, int i, int *s, int *t) {
    *s = i < 4 ? packed[i] & 63 : (packed[4 + i] & LOW) | packed[i - 4] >> 6 << 4;
    *t = i < 4 ? packed[4 + i] & 63 : packed[4 + i] >> 4 | packed[i] >> 6 << 4;
}

/* d; m; scales [12]; high [32], of Q5_K: bit g of byte i is the fifth of weight i of group g, or NULL; q [4][32]. */
static void of_groups(const uint8_t *block, const uint8_t *high, const uint8_t *q, float *out) {
    const float d = half_at(block), m = half_at(block + 2);
    for (int g = 0; g < IR_OVER; g++) {
        int s, t;
        scales_of_q4(block + 4, g, &s, &t);
        const float step = d * (float)s, low = m * (float)t;
        for (int i = 0; i < BLOCK; i++) {
            const int four = q[g / 2 * BLOCK + i] >> g % 2 * 4 & LOW, fifth = high != NULL ? high[i] >> g & 1 : 0;
            out[g * BLOCK + i] = step * (float)(four | fifth << 4) - low;
        }
    }
}

static void float_Q4_K(const uint8_t *block, float *out) { of_groups(block, NULL, block + 16, out); }
static void float_Q5_K(const uint8_t *block, float *out) { of_groups(block, block + 16, block + 48, out); }

/* low [128]: four bits, high [64]: two, of a weight; scales i8 [16]; d. Of each half of 128: weight 32k + i has its four in byte
 * 32·(k mod 2) + i, of which k div 2 says the half, and its two in bits 2k, 2k + 1 of byte i. */
static void float_Q6_K(const uint8_t *block, float *out) {
    const float d = half_at(block + 208);
    for (int i = 0; i < SUPER; i++) {
        const int half = i / 128, k = i / 32 % 4, four = block[half * 64 + k % 2 * 32 + i % 32] >> k / 2 * 4 & LOW;
        const int two = block[128 + half * 32 + i % 32] >> 2 * k & 3;
        out[i] = d * (float)(int8_t)block[192 + i / 16] * (float)((four | two << 4) - 32);
    }
}

void im_form_to_floats(ImForm form, const uint8_t *bytes, uint64_t K, float *out) {
    static void (*const floats[])(const uint8_t *block, float *out) = {
#define IM_FORM(NAME, gguf, weights, bytes, kept) [IM_##NAME] = float_##NAME,
#include "import/form.def"
    };
    const ImFormInfo *info = im_form(form);
    if (form == IM_F32) {
        memcpy(out, bytes, K * sizeof *out);
        return;
    }
    for (uint64_t at = 0; at < K; at += info->weights, bytes += info->bytes) floats[form](bytes, out + at);
}
