#include "ir/quant.h"

#include <math.h>
#include <string.h>

#include "ir/half.h"
#include "ir/quant_search.h"

enum { LANES = 16, RUN = 4 }; /* outputs of a panel, weights of one output side by side in it */

/* ---------------------------------------------------------------------------------------------- parts */

/* What one element of a part serves. */
typedef enum Each { OF_WEIGHT, OF_PAIR, OF_GROUP, OF_SUPER } Each;

typedef struct PartRow {
    IrPartInfo info;
    Each each;
} PartRow;

static const PartRow q8_parts[IR_PARTS] = {
    [IR_PART_Q] = {{"q8", "I8", 1}, OF_WEIGHT},
    [IR_PART_D] = {{"d", "F16", 2}, OF_GROUP},
};

static const PartRow q4_parts[IR_PARTS] = {
    [IR_PART_Q] = {{"q4", "U8", 1}, OF_PAIR}, [IR_PART_D] = {{"d", "F16", 2}, OF_SUPER}, [IR_PART_M] = {{"m", "F16", 2}, OF_SUPER},
    [IR_PART_S] = {{"s", "U8", 1}, OF_GROUP}, [IR_PART_T] = {{"t", "U8", 1}, OF_GROUP},
};

static const PartRow *part_row(IrDtype dtype, IrPart part) { return dtype == IR_Q8 ? &q8_parts[part] : &q4_parts[part]; }

static uint64_t groups_of(uint64_t K) { return K / IR_GROUP + (K % IR_GROUP != 0); }
static uint64_t supers_of(uint64_t K) { return K / IR_SUPER + (K % IR_SUPER != 0); }

const IrPartInfo *ir_part(IrDtype dtype, IrPart part) { return &part_row(dtype, part)->info; }

uint64_t ir_part_elements(IrDtype dtype, IrPart part, uint64_t K) {
    const PartRow *row = part_row(dtype, part);
    if (row->info.suffix == NULL) return 0;
    switch (row->each) {
    case OF_WEIGHT: return K;
    case OF_PAIR: return groups_of(K) * (IR_GROUP / 2);
    case OF_GROUP: return groups_of(K);
    case OF_SUPER: return supers_of(K);
    }
    return 0;
}

uint64_t ir_part_bytes(IrDtype dtype, IrPart part, uint64_t K) {
    return ir_part_elements(dtype, part, K) * ir_part(dtype, part)->bytes;
}

/* ---------------------------------------------------------------------------------------------- what weights are */

static const uint8_t *row_of(const IrBlocks *b, IrPart part, uint64_t row) {
    return b->part[part] + row * ir_part_bytes(b->dtype, part, b->K);
}

static uint16_t half_at(const uint8_t *halves, uint64_t i) {
    uint16_t half;
    memcpy(&half, halves + i * sizeof half, sizeof half);
    return half;
}

static uint64_t size_of_group(uint64_t K, uint64_t group) {
    return K - group * IR_GROUP < IR_GROUP ? K - group * IR_GROUP : IR_GROUP;
}

/* d and m of a group. */
static void read_scales(const IrBlocks *b, uint64_t row, uint64_t group, IrGroup *out) {
    const uint8_t *d = row_of(b, IR_PART_D, row);
    if (b->dtype == IR_Q8) {
        out->d = ir_widen_f16(half_at(d, group));
        out->m = 0;
        return;
    }
    out->d = ir_widen_f16(half_at(d, group / IR_OVER)) * (float)row_of(b, IR_PART_S, row)[group];
    out->m = ir_widen_f16(half_at(row_of(b, IR_PART_M, row), group / IR_OVER)) * (float)row_of(b, IR_PART_T, row)[group];
}

void ir_blocks_group(const IrBlocks *b, uint64_t row, uint64_t group, IrGroup *out) {
    const uint8_t *q = row_of(b, IR_PART_Q, row);
    uint64_t n = size_of_group(b->K, group);
    read_scales(b, row, group, out);
    if (b->dtype == IR_Q8) {
        memcpy(out->q, q + group * IR_GROUP, n);
        memset(out->q + n, 0, IR_GROUP - n);
        for (uint64_t i = 0; i < IR_GROUP; i++) out->q[i] = out->q[i] < -IR_Q8_MOST ? -IR_Q8_MOST : out->q[i];
        return;
    }
    const uint8_t *pairs = q + group * (IR_GROUP / 2);
    for (uint64_t i = 0; i < IR_GROUP / 2; i++) {
        out->q[2 * i] = (int8_t)(pairs[i] & 15);
        out->q[2 * i + 1] = (int8_t)(pairs[i] >> 4);
    }
    memset(out->q + n, 0, IR_GROUP - n);
}

static float value_in(IrDtype dtype, const IrGroup *g, uint64_t i) {
    float product = g->d * (float)g->q[i];
    return dtype == IR_Q8 ? product : product - g->m;
}

void ir_blocks_values(const IrBlocks *b, uint64_t row, uint64_t first, uint64_t n, float *out) {
    for (uint64_t k = first; k < first + n; k += IR_GROUP) {
        IrGroup g;
        ir_blocks_group(b, row, k / IR_GROUP, &g);
        for (uint64_t i = 0; i < IR_GROUP && k + i < first + n; i++) out[k - first + i] = value_in(b->dtype, &g, i);
    }
}

float ir_blocks_value(const IrBlocks *b, uint64_t row, uint64_t k) {
    IrGroup g;
    ir_blocks_group(b, row, k / IR_GROUP, &g);
    return value_in(b->dtype, &g, k % IR_GROUP);
}

void ir_blocks_row(const IrBlocks *b, uint64_t row, float *out) { ir_blocks_values(b, row, 0, b->K, out); }

static bool are_finite(const IrBlocks *b, IrPart part, uint64_t row) {
    const uint8_t *halves = row_of(b, part, row);
    bool finite = true;
    for (uint64_t i = 0; i < ir_part_elements(b->dtype, part, b->K); i++) finite = finite && ir_is_finite_f16(half_at(halves, i));
    return finite;
}

static bool are_scales(const IrBlocks *b, IrPart part, uint64_t row) {
    const uint8_t *scales = row_of(b, part, row);
    bool good = true;
    for (uint64_t i = 0; i < ir_part_elements(b->dtype, part, b->K); i++) good = good && scales[i] <= IR_Q4_SCALE_MOST;
    return good;
}

IrRowState ir_blocks_check(const IrBlocks *b, uint64_t row) {
    if (!are_finite(b, IR_PART_D, row)) return IR_ROW_NONFINITE;
    if (b->dtype == IR_Q4) {
        if (!are_finite(b, IR_PART_M, row)) return IR_ROW_NONFINITE;
        return are_scales(b, IR_PART_S, row) && are_scales(b, IR_PART_T, row) ? IR_ROW_GOOD : IR_ROW_RANGE;
    }
    return memchr(row_of(b, IR_PART_Q, row), 0x80, b->K) == NULL ? IR_ROW_GOOD : IR_ROW_LOW;
}

/* ---------------------------------------------------------------------------------------------- quantising */

/* x to the nearest integer, ties to even, held to ±127. Floats near 1.5·2^23 are integers, so the addition rounds; loops over this
 * become vector code. */
static int8_t to_int8(float x) {
    float held = x > IR_Q8_MOST ? IR_Q8_MOST : x < -IR_Q8_MOST ? -IR_Q8_MOST : x;
    return (int8_t)((held + 0x1.8p23f) - 0x1.8p23f);
}

static float largest(const float *x, uint64_t n) {
    float most = 0;
    for (uint64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

static bool quantise_q8(const float *w, uint64_t K, int8_t *q, uint16_t *d) {
    for (uint64_t group = 0; group < groups_of(K); group++) {
        const uint64_t first = group * IR_GROUP, n = size_of_group(K, group);
        d[group] = ir_narrow_f16(largest(w + first, n) / IR_Q8_MOST);
        if (!ir_is_finite_f16(d[group])) return false;
        float step = ir_widen_f16(d[group]);
        for (uint64_t i = first; i < first + n; i++) q[i] = step == 0 ? 0 : to_int8(w[i] / step);
    }
    return true;
}

bool ir_quantise(IrDtype dtype, const float *w, const float *h, uint64_t K, const IrRow *out) {
    void *const *part = out->part;
    if (dtype == IR_Q8) return quantise_q8(w, K, part[IR_PART_Q], part[IR_PART_D]);
    IrQ4Row row = {.q = part[IR_PART_Q], .s = part[IR_PART_S], .t = part[IR_PART_T], .d = part[IR_PART_D], .m = part[IR_PART_M]};
    return ir_q4_search(w, h, K, &row);
}

/* ---------------------------------------------------------------------------------------------- panels */

static void store_q8(const uint8_t *d, const IrGroup *g, uint64_t group, unsigned lane, uint8_t *panel) {
    uint8_t *to = panel + group * ir_dtype(IR_Q8)->group_bytes, *scales = to + LANES * IR_GROUP;
    for (unsigned run = 0; run < IR_GROUP / RUN; run++) memcpy(to + (run * LANES + lane) * RUN, g->q + run * RUN, RUN);
    memcpy(scales + lane * 2, d + group * 2, 2);
}

static void store_q4(const uint8_t *s, const uint8_t *t, const IrGroup *g, uint64_t group, unsigned lane, uint8_t *panel) {
    enum { HALF = IR_GROUP / 2 };
    uint8_t *to = panel + group * ir_dtype(IR_Q4)->group_bytes, *scales = to + LANES * HALF;
    for (unsigned i = 0; i < HALF; i++) to[(i / RUN * LANES + lane) * RUN + i % RUN] = (uint8_t)(g->q[i] | g->q[HALF + i] << 4);
    scales[lane] = s[group];
    scales[LANES + lane] = t[group];
}

void ir_store_lane(const IrBlocks *b, uint64_t row, unsigned lane, uint8_t *panel) {
    const uint64_t groups = groups_of(b->K);
    const uint8_t *d = row_of(b, IR_PART_D, row);
    IrGroup g;
    for (uint64_t group = 0; group < groups; group++) {
        ir_blocks_group(b, row, group, &g);
        if (b->dtype == IR_Q8)
            store_q8(d, &g, group, lane, panel);
        else
            store_q4(row_of(b, IR_PART_S, row), row_of(b, IR_PART_T, row), &g, group, lane, panel);
    }
    if (b->dtype == IR_Q8) return;
    uint8_t *over = panel + groups * ir_dtype(IR_Q4)->group_bytes;
    for (uint64_t i = 0; i < supers_of(b->K); i++, over += ir_dtype(IR_Q4)->over_bytes) {
        memcpy(over + lane * 2, d + i * 2, 2);
        memcpy(over + (LANES + lane) * 2, row_of(b, IR_PART_M, row) + i * 2, 2);
    }
}

/* ---------------------------------------------------------------------------------------------- inputs */

void ir_round_group(const float *x, uint64_t n, IrRounded *out) {
    *out = (IrRounded){.e = 0};
    bool finite = true;
    for (uint64_t i = 0; i < n; i++) finite = finite && isfinite(x[i]);
    float a = largest(x, n);
    if (!finite) out->e = NAN;
    if (!finite || a < 0x1p-100f) return;
    out->e = a / IR_Q8_MOST;
    float scale = IR_Q8_MOST / a;
    for (uint64_t i = 0; i < n; i++) {
        out->p[i] = to_int8(x[i] * scale);
        out->sum += out->p[i];
    }
}
