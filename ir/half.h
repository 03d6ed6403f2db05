/* Between float32 and f16, without branches, so that loops over them become vector code. Both want the rounding mode nearest even. */
#ifndef MOSSC_IR_HALF_H
#define MOSSC_IR_HALF_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t ir_bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float ir_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Exact. */
static inline float ir_widen_f16(uint16_t x) {
    uint32_t sign = (uint32_t)(x & 0x8000) << 16, exponent = x & 0x7C00, bits = ((uint32_t)(x & 0x7FFF) << 13) + (112u << 23);
    uint32_t special = bits + (112u << 23); /* infinity, NaN */
    uint32_t subnormal = ir_bits_of(ir_from_bits(bits + (1u << 23)) - 0x1p-14f); /* 2^-14 + m 2^-24, less 2^-14: exact */
    return ir_from_bits(sign | (exponent == 0x7C00 ? special : exponent ? bits : subnormal));
}

/* To the nearest, ties to even, of an x that is not NaN; from 65520 on the result is infinite. */
static inline uint16_t ir_narrow_f16(float x) {
    uint32_t bits = ir_bits_of(x), magnitude = bits & 0x7FFFFFFF, sign = (bits >> 16) & 0x8000;
    uint32_t rebased = magnitude - (112u << 23);
    uint32_t normal = (rebased + 0xFFF + ((rebased >> 13) & 1)) >> 13; /* a carry may go up to infinity */
    /* Below 2^-14 the least bit is 2^-24, that of floats in [1/2, 1): adding 1/2 rounds there. */
    uint32_t subnormal = ir_bits_of(ir_from_bits(magnitude) + 0.5f) - 0x3F000000;
    return (uint16_t)(sign | (magnitude >= 0x47800000 ? 0x7C00 : magnitude >= 0x38800000 ? normal : subnormal));
}

static inline bool ir_is_finite_f16(uint16_t x) { return (x & 0x7C00) != 0x7C00; }

#endif
