/* Between float32 and the two narrow dtypes: bf16 and f16, round to nearest even, exact back. No branches, so that loops over
 * them become vector code. Narrowing to f16 wants the rounding mode of the bits, nearest even. */
#ifndef MOSSC_RUNTIME_NARROW_H
#define MOSSC_RUNTIME_NARROW_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t rt_bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float rt_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline bool rt_finite(float x) { return (rt_bits_of(x) & 0x7F800000) != 0x7F800000; }

static inline float rt_widen_bf16(uint16_t x) { return rt_from_bits((uint32_t)x << 16); }

/* Of a finite x; above 0x1.FFp+127 the result is infinite. */
static inline uint16_t rt_narrow_bf16(float x) {
    uint32_t bits = rt_bits_of(x);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

static inline float rt_widen_f16(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = x & 0x7C00, bits = ((uint32_t)(x & 0x7FFF) << 13) + (112u << 23);
    uint32_t special = bits + (112u << 23);                                      /* infinity, NaN */
    uint32_t subnormal = rt_bits_of(rt_from_bits(bits + (1u << 23)) - 0x1p-14f); /* 2^-14 + m 2^-24, less 2^-14: exact */
    return rt_from_bits(sign | (exponent == 0x7C00 ? special : exponent ? bits : subnormal));
}

/* Of a finite x; from 65520 on the result is infinite. */
static inline uint16_t rt_narrow_f16(float x) {
    uint32_t bits = rt_bits_of(x), magnitude = bits & 0x7FFFFFFF, sign = (bits >> 16) & 0x8000;
    uint32_t rebased = magnitude - (112u << 23);
    uint32_t normal = (rebased + 0xFFF + ((rebased >> 13) & 1)) >> 13; /* a carry may go up to infinity */
    /* Below 2^-14 the least bit is 2^-24, that of floats in [1/2, 1): adding 1/2 rounds there. */
    uint32_t subnormal = rt_bits_of(rt_from_bits(magnitude) + 0.5f) - 0x3F000000;
    return (uint16_t)(sign | (magnitude >= 0x47800000 ? 0x7C00 : magnitude >= 0x38800000 ? normal : subnormal));
}

#endif
