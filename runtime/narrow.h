/* Between float32 and the two narrow dtypes: bf16 and f16, round to nearest even, exact back. Integer operations only, so the
 * rounding mode and the compiler have no say. */
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
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = (x >> 10) & 31, mantissa = x & 0x3FF;
    if (exponent == 31) {
        return rt_from_bits(sign | 0x7F800000 | mantissa << 13);
    }
    if (exponent) {
        return rt_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
    }
    if (!mantissa) {
        return rt_from_bits(sign);
    }
    uint32_t shift = (uint32_t)__builtin_clz(mantissa) - 21; /* brings the leading bit to bit 10 */
    return rt_from_bits(sign | (113 - shift) << 23 | ((mantissa << shift) & 0x3FF) << 13);
}

/* Of a finite x; from 65520 on the result is infinite. */
static inline uint16_t rt_narrow_f16(float x) {
    uint32_t bits = rt_bits_of(x), magnitude = bits & 0x7FFFFFFF, sign = (bits >> 16) & 0x8000;
    if (magnitude >= 0x47800000) { /* 65536 */
        return (uint16_t)(sign | 0x7C00);
    }
    if (magnitude >= 0x38800000) { /* 2^-14: normal; the carry out of the mantissa may go up to infinity */
        uint32_t rebased = magnitude - (112u << 23);
        return (uint16_t)(sign | (rebased + 0xFFF + ((rebased >> 13) & 1)) >> 13);
    }
    if (magnitude <= 0x33000000) { /* 2^-25, half of the least: ties to even, 0 */
        return (uint16_t)sign;
    }
    uint32_t exponent = magnitude >> 23, mantissa = (magnitude & 0x7FFFFF) | 0x800000;
    uint32_t shift = 126 - exponent; /* 14 … 24: the least bit of the result is 2^-24 */
    uint32_t half = 1u << (shift - 1);
    return (uint16_t)(sign | (mantissa + (half - 1) + ((mantissa >> shift) & 1)) >> shift);
}

#endif
