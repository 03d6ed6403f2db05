/* Numbers and their bits, logits as keys, and the panels of weights that hold them. */

/* ---------------------------------------------------------------------------------------------- numbers */

INLINE float bf16_low(u32 pair) { return __uint_as_float(pair << 16); }
INLINE float bf16_high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

/* 2^112 moves the exponent of a half to that of a float, denormals included. */
INLINE float f16_bits(u32 half) {
    const u32 magnitude = (half & 0x7fffu) << 13;
    const float wide = (half & 0x7c00u) == 0x7c00u ? __uint_as_float(magnitude | 0x7f800000u)
                                                   : __uint_as_float(magnitude) * 0x1p112f;
    return __uint_as_float(__float_as_uint(wide) | (half & 0x8000u) << 16);
}
INLINE float f16_low(u32 pair) { return f16_bits(pair & 0xffffu); }
INLINE float f16_high(u32 pair) { return f16_bits(pair >> 16); }

INLINE bool is_finite(float x) { return fabsf(x) < __uint_as_float(0x7f800000u); }
INLINE float minus_infinity() { return __uint_as_float(0xff800000u); }

INLINE float4 splat4(float x) { return make_float4(x, x, x, x); }
INLINE float4 add4(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }
INLINE float sum4(float4 a) { return a.x + a.y + (a.z + a.w); }
INLINE float4 mul4(float4 a, float4 b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }
INLINE float4 fma4(float a, float4 b, float4 c) {
    return make_float4(fmaf(a, b.x, c.x), fmaf(a, b.y, c.y), fmaf(a, b.z, c.z), fmaf(a, b.w, c.w));
}
INLINE float4 fma4(float4 a, float4 b, float4 c) {
    return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y), fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}
INLINE float dot4(float4 a, float4 b, float c) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c))));
}
/* f of each of four values. */
#define EACH4(f, v) make_float4(f((v).x), f((v).y), f((v).z), f((v).w))

INLINE float4 *quad(float *at) { return (float4 *)at; }
INLINE const float4 *quad(const float *at) { return (const float4 *)at; }

/* Where the last bit is of no use: e^x with relative error 2.4e-7 + 1.2e-7 |x|, and what is made of it. */
#define LOG2_E 1.44269504f
INLINE float fast_exp(float x) { return FAST_EXP2(x * LOG2_E); }
INLINE float fast_softplus(float x) { return vm_max(0.0f, x) + vm_log1p(fast_exp(-fabsf(x))); }
/* Limits that let NaN through. */
INLINE float raised(float x, float low) { return x < low ? low : x; }
INLINE float lowered(float x, float high) { return high < x ? high : x; }
INLINE float fast_silu(float x) { return FAST_DIVIDE(x, 1.0f + fast_exp(-x)); }

/* ---------------------------------------------------------------------------------------------- logits */

/* Rises with the logit; both zeros are equal; 0 for NaN. */
INLINE u32 key_of_logit(float logit) {
    const u32 bits = __float_as_uint(logit == 0 ? 0.0f : logit);
    return logit != logit ? 0 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
INLINE bool is_gap(const u32 *gaps, u32 id) { return gaps && (gaps[id / 32] >> id % 32 & 1); }

/* The best of the logits that a thread of row_step has made: its key, and lower ids first among equals; 0: none. */
INLINE u64 better_logit(u64 best, float logit, u32 id) {
    const u32 key = id < held()->limit && !is_gap(held()->gaps, id) ? key_of_logit(logit) : 0;
    const u64 both = key == 0 ? 0 : (u64)key << 32 | (0xffffffffu - id);
    return both > best ? both : best;
}
INLINE u64 better_logits(u64 best, float4 v, u32 id) {
    return better_logit(better_logit(better_logit(better_logit(best, v.x, id), v.y, id + 1), v.z, id + 2), v.w, id + 3);
}
INLINE u64 best_of_warp(u64 best) {
    for (u32 distance = 16; distance > 0; distance /= 2) {
        const u32 high = __shfl_xor_sync(ALL_LANES, (u32)(best >> 32), distance);
        const u32 low = __shfl_xor_sync(ALL_LANES, (u32)best, distance);
        const u64 other = (u64)high << 32 | low;
        best = other > best ? other : best;
    }
    return best;
}
/* The block's, for all blocks to read behind the next barrier. Only the first warp has made logits. */
INLINE void note_best(u8 *scratch, u64 best) {
    if (threadIdx.x >= 32) return;
    best = best_of_warp(best);
    if (threadIdx.x == 0) ((u64 *)scratch)[blockIdx.x] = best;
}

/* ---------------------------------------------------------------------------------------------- weights
 *
 * 16-bit panels in the device's memory are arranged: of two lines (pairs of k) 2 t and 2 t + 1 the quad q of the first is outputs 4 q and
 * 4 q + 1 at both pairs, that of the second outputs 4 q + 2 and 4 q + 3; 16 bytes are then what a lane gives to a product of tensor cores.
 * In the host's panels a quad is four outputs at one pair. A last line without a partner stays as it was. */

struct Panels {
    u64 offset, count;
    u32 lines, pad;
};

/* Arranges 16-bit panels as the host packs them; arranged ones become as the host's. By all threads of all blocks. */
INLINE void arrange(u8 *weights, const Panels *panels) {
    const u64 pairs = panels->lines / 2, quads = panels->count * pairs * 4, stride = (u64)gridDim.x * THREADS;
    for (u64 i = (u64)blockIdx.x * THREADS + threadIdx.x; i < quads; i += stride) {
        const u64 panel = i / 4 / pairs, pair = i / 4 % pairs;
        uint4 *a = (uint4 *)(weights + panels->offset) + (panel * panels->lines + 2 * pair) * 4 + i % 4, *b = a + 4;
        const uint4 first = *a, second = *b;
        *a = uint4{first.x, first.y, second.x, second.y};
        *b = uint4{first.z, first.w, second.z, second.w};
    }
}

/* acc[row] += w · x[row] for one row, or eight. */
INLINE void add_row(float4 *acc, float4 w, const float *x) { acc[0] = fma4(x[0], w, acc[0]); }
INLINE void add_8_rows(float4 *acc, float4 w, const float *x) {
    const float4 a = *quad(x), b = *quad(x + 4);
    acc[0] = fma4(a.x, w, acc[0]);
    acc[1] = fma4(a.y, w, acc[1]);
    acc[2] = fma4(a.z, w, acc[2]);
    acc[3] = fma4(a.w, w, acc[3]);
    acc[4] = fma4(b.x, w, acc[4]);
    acc[5] = fma4(b.y, w, acc[5]);
    acc[6] = fma4(b.z, w, acc[6]);
    acc[7] = fma4(b.w, w, acc[7]);
}
