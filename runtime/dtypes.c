#include "runtime/dtypes.h"

#include <string.h>

#include "runtime/narrow.h"

/* ---- float32 */

static void read_f32(const uint8_t *from, uint64_t count, float *out) { memcpy(out, from, count * sizeof *out); }

static bool round_f32(float *values, uint64_t count) {
    (void)values;
    (void)count;
    return false;
}

/* [n][16] */
static void store_f32(float (*rows)[RT_COLUMNS], uint64_t n, uint8_t *out) {
    float *to = (float *)(void *)out;
    for (uint64_t k = 0; k < n; k++)
        for (uint64_t lane = 0; lane < PG_LANES; lane++) to[k * PG_LANES + lane] = rows[lane][k];
}

/* ---- floats of 16 bits, in pairs: [ceil(n/2)][16][2] */

#define HALVES(name)                                                                                                               \
    static void read_##name(const uint8_t *from, uint64_t count, float *out) {                                                     \
        for (uint64_t i = 0; i < count; i++) {                                                                                     \
            uint16_t half;                                                                                                         \
            memcpy(&half, from + i * sizeof half, sizeof half);                                                                    \
            out[i] = rt_widen_##name(half);                                                                                        \
        }                                                                                                                          \
    }                                                                                                                              \
    static bool round_##name(float *values, uint64_t count) {                                                                      \
        for (uint64_t i = 0; i < count; i++) values[i] = rt_widen_##name(rt_narrow_##name(values[i]));                             \
        return true;                                                                                                               \
    }                                                                                                                              \
    static void store_##name(float (*rows)[RT_COLUMNS], uint64_t n, uint8_t *out) {                                                \
        uint16_t *to = (uint16_t *)(void *)out;                                                                                    \
        for (uint64_t k = 0; k < n; k += 2) {                                                                                      \
            for (uint64_t lane = 0; lane < PG_LANES; lane++) {                                                                     \
                to[k * PG_LANES + lane * 2] = rt_narrow_##name(rows[lane][k]);                                                     \
                to[k * PG_LANES + lane * 2 + 1] = rt_narrow_##name(rows[lane][k + 1]);                                             \
            }                                                                                                                      \
        }                                                                                                                          \
    }
HALVES(bf16)
HALVES(f16)

/* ---- all of them */

const RtDtype *rt_dtype(IrDtype dtype) {
    static const RtDtype dtypes[IR_STORED_DTYPES] = {
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most)                                         \
    [IR_##NAME] = {read_##name, round_##name, store_##name},
#define IR_BLOCK_DTYPE(...) /* ir/quant.h */
#include "ir/dtype.def"
    };
    return &dtypes[dtype];
}
