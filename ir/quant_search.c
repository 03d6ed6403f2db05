/* See quant_search.h. */
#include "ir/quant_search.h"

#include <string.h>

enum { GROUP = 32, OVER = 8, STEPS = 15, MOST = 63 };

/* ---- f16 */

static float from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* To the nearest, ties to even; infinite from 65520 on. */
static uint16_t half_of(float x) {
    uint32_t bits = bits_of(x), magnitude = bits & 0x7FFFFFFF, sign = (bits >> 16) & 0x8000;
    uint32_t rebased = magnitude - (112u << 23), normal = (rebased + 0xFFF + ((rebased >> 13) & 1)) >> 13;
    uint32_t subnormal = bits_of(from_bits(magnitude) + 0.5f) - 0x3F000000;
    return (uint16_t)(sign | (magnitude >= 0x47800000 ? 0x7C00 : magnitude >= 0x38800000 ? normal : subnormal));
}

static float float_of(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = x & 0x7C00, bits = ((uint32_t)(x & 0x7FFF) << 13) + (112u << 23);
    float subnormal = from_bits(bits + (1u << 23)) - 0x1p-14f;
    return from_bits(sign | (exponent ? bits : bits_of(subnormal)));
}

/* ---- a super-block */

/* 0..most; x ≥ 0 or NaN, which gives 0. */
static uint8_t nearest(float x, int most) { return x >= (float)most ? (uint8_t)most : x > 0 ? (uint8_t)(x + 0.5f) : 0; }

static bool search_super(const float *w, uint64_t K, uint8_t *q, uint8_t *s, uint8_t *t, uint16_t *d, uint16_t *m) {
    uint64_t groups = (K + GROUP - 1) / GROUP;
    float scale[OVER], low[OVER], most_scale = 0, most_low = 0;
    for (uint64_t g = 0; g < groups; g++) {
        float least = 0, largest = 0;
        for (uint64_t k = g * GROUP; k < K && k < (g + 1) * GROUP; k++) {
            least = w[k] < least ? w[k] : least;
            largest = w[k] > largest ? w[k] : largest;
        }
        scale[g] = largest / STEPS - least / STEPS;
        low[g] = -least;
        most_scale = scale[g] > most_scale ? scale[g] : most_scale;
        most_low = low[g] > most_low ? low[g] : most_low;
    }
    *d = half_of(most_scale / MOST);
    *m = half_of(most_low / MOST);
    if ((*d & 0x7FFF) >= 0x7C00 || (*m & 0x7FFF) >= 0x7C00) return false;
    float step = float_of(*d), shift = float_of(*m);
    memset(q, 0, groups * (GROUP / 2));
    for (uint64_t g = 0; g < groups; g++) {
        s[g] = nearest(scale[g] / step, MOST);
        t[g] = nearest(low[g] / shift, MOST);
        float unit = step * (float)s[g], offset = shift * (float)t[g];
        for (uint64_t k = g * GROUP; k < K && k < (g + 1) * GROUP; k++)
            q[k / 2] |= (uint8_t)(nearest((w[k] + offset) / unit, STEPS) << (k % 2 * 4));
    }
    return true;
}

bool ir_q4_search(const float *w, const float *h, uint64_t K, const IrQ4Row *out) {
    enum { SUPER = GROUP * OVER };
    (void)h;
    for (uint64_t first = 0, b = 0; first < K; first += SUPER, b++) {
        uint64_t n = K - first < SUPER ? K - first : SUPER;
        if (!search_super(w + first, n, out->q + first / 2, out->s + b * OVER, out->t + b * OVER, out->d + b, out->m + b))
            return false;
    }
    return true;
}
