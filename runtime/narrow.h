/* Between float32 and the two narrow dtypes: bf16 and f16, round to nearest even, exact back. No branches, so that loops over
 * them become vector code. Narrowing to f16 wants the rounding mode of the bits, nearest even. */
#ifndef MOSSC_RUNTIME_NARROW_H
#define MOSSC_RUNTIME_NARROW_H

#include <stdbool.h>
#include <stdint.h>

#include "ir/half.h"

static inline bool rt_finite(float x) { return (ir_bits_of(x) & 0x7F800000) != 0x7F800000; }

static inline float rt_widen_bf16(uint16_t x) { return ir_from_bits((uint32_t)x << 16); }

/* Of a finite x; above 0x1.FFp+127 the result is infinite. */
static inline uint16_t rt_narrow_bf16(float x) {
    uint32_t bits = ir_bits_of(x);
    return (uint16_t)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

static inline float rt_widen_f16(uint16_t x) { return ir_widen_f16(x); }

/* Of a finite x; from 65520 on the result is infinite. */
static inline uint16_t rt_narrow_f16(float x) { return ir_narrow_f16(x); }

#endif
