/* Weights in blocks, q8 and q4 (ir/dtype.def), and inputs that are rounded for them.
 *
 * A panel is groups of 32 k, a group runs of quads: the quad `q` of a run is four outputs, a word each. Of q8 a word is four k of run
 * k / 4, of q4 eight: k 4 j … in the low halves of its bytes, k 16 + 4 j … in the high ones. Scales stand behind a group's runs, those
 * that eight groups of q4 share behind the panel. A weight is d q - m, with one d and one m (of q8: 0) an output and group.
 *
 * An input that is rounded is bytes p, a scale e, and the sum of p, for each group: x is about e p. Its group's eight words of four k
 * stand in the order 0, 4, 1, 5, 2, 6, 3, 7 (place_of_word): the two that a lane gives to a product of 16 x 8 x 32 lie side by side. Sums
 * of products within a group are integers and exact; then y = fma(e, d Σqp - m Σp, y). */

enum { GROUP_K = 32 };

/* Integers that are summed from INTEGER on are the bits of 1.5 2^23 plus their sum. */
enum { INTEGER = 0x4b400000 };
INLINE float number_of(i32 sum) { return __uint_as_float((u32)sum) - 12582912.0f; }

struct Whole4 {
    i32 x, y, z, w;
};
INLINE float4 numbers_of(Whole4 s) { return make_float4(number_of(s.x), number_of(s.y), number_of(s.z), number_of(s.w)); }

#ifndef MOSSC_SIMT
/* c + the sum of the products of four signed bytes. */
#define DOT4(a, b, c) __dp4a((i32)(a), (i32)(b), c)
#define BYTE_PERM(low, high, selector) __byte_perm(low, high, selector)
#define ROUNDED_PRODUCT(a, b) __fmul_rn(a, b) /* never a part of an fma */
INLINE float half_number(u32 half) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"((u16)half));
    return y;
}
/* acc += a b, of 16 outputs, 8 rows and 32 k in signed bytes, as MMA. */
#define MMA_S8(acc, a0, a1, a2, a3, b0, b1)                                                                                  \
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
                 : "+r"((acc).x), "+r"((acc).y), "+r"((acc).z), "+r"((acc).w)                                                \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1))
/* 4 bytes from global to shared memory, or, where `bytes` is 0, a zero; as CP_ASYNC_16. */
#if __CUDA_ARCH__ >= 800
#define CP_ASYNC_4(to, from, bytes)                                                                                          \
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes) \
                 : "memory")
#else
#define CP_ASYNC_4(to, from, bytes) (*(u32 *)(to) = (bytes) > 0 ? *Global<const u32>{(const u32 *)(from)} : 0)
#endif
#endif

INLINE u32 groups_of(u32 K) { return (K + GROUP_K - 1) / GROUP_K; }
INLINE u32 place_of_word(u32 word) { return word % 4 * 2 + word / 4; }

/* Byte i of each word, from 0 to 255. */
INLINE float byte_number(u32 word, u32 i) { return __uint_as_float(BYTE_PERM(word, 0x4b000000u, 0x7440u + i)) - 8388608.0f; }
INLINE float4 bytes_number(uint4 v, u32 i) {
    return make_float4(byte_number(v.x, i), byte_number(v.y, i), byte_number(v.z, i), byte_number(v.w, i));
}
INLINE float4 four_bytes(u32 word) {
    return make_float4(byte_number(word, 0), byte_number(word, 1), byte_number(word, 2), byte_number(word, 3));
}
INLINE float4 four_halves(uint2 v) {
    return make_float4(half_number(v.x & 0xffffu), half_number(v.x >> 16), half_number(v.y & 0xffffu), half_number(v.y >> 16));
}
INLINE uint4 each_and(uint4 v, u32 mask) { return uint4{v.x & mask, v.y & mask, v.z & mask, v.w & mask}; }
INLINE uint4 each_xor(uint4 v, u32 bits) { return uint4{v.x ^ bits, v.y ^ bits, v.z ^ bits, v.w ^ bits}; }
/* The low, and the high halves of bytes. */
INLINE uint4 low_halves(uint4 v) { return each_and(v, 0x0f0f0f0fu); }
INLINE uint4 high_halves(uint4 v) { return each_and(uint4{v.x >> 4, v.y >> 4, v.z >> 4, v.w >> 4}, 0x0f0f0f0fu); }

/* Of a quad: each output's. */
struct Scales {
    float4 d, m;
};

/* Of a quad and a run: what a lane gives to products: k 4 t … and 16 + 4 t … of run t. */
struct Fragment {
    uint4 low, high;
};

INLINE void dot_word(Whole4 &s, uint4 w, u32 p) {
    s.x = DOT4(w.x, p, s.x);
    s.y = DOT4(w.y, p, s.y);
    s.z = DOT4(w.z, p, s.z);
    s.w = DOT4(w.w, p, s.w);
}

/* The weights of four outputs at each of four k. */
template <class W> INLINE void four_weights(uint4 words, Scales s, float4 (&w)[4]) {
#pragma unroll
    for (u32 k = 0; k < 4; k++) {
        const float4 q = W::integers(words, k);
        w[k] = W::OFFSET ? fma4(s.d, q, mul4(s.m, splat4(-1))) : mul4(s.d, q);
    }
}

/* The same from a panel, from 4 `fourth` on. */
template <class W> INLINE void four_weights_of_panel(const uint4 *panel, u32 K, u32 fourth, u32 q, float4 (&w)[4]) {
    const u32 group = fourth / 8;
    four_weights<W>(W::loaded_words(panel + (u64)group * W::GROUP_QUADS, fourth % 8, q), W::loaded_scales(panel, group, groups_of(K), q), w);
}

/* ---------------------------------------------------------------------------------------------- types of weights
 *
 * Group: a quad of a group in registers; Lane: what of it a lane gives to products. load: from a panel; held_…: from a chunk in shared
 * memory, whose runs are swizzled. dots: Σ q p from INTEGER on. …words…: those of four k, from 4 `fourth` on; integers: q of four
 * outputs at the k-th of them, and four_k: the weights at all of them. */

struct Q8 {
    typedef GroupFetch<Q8> WeightFetch;
    enum { RUNS = 8, GROUP_QUADS = 34, CHUNK_QUADS = 34, OFFSET = 0 /* m is 0 */ };
    struct Group {
        uint4 runs[RUNS];
        uint2 d;
    };
    struct Lane {
        uint4 low, high;
        uint2 d;
    };
    INLINE u64 panel_quads(u32 K) { return (u64)groups_of(K) * GROUP_QUADS; }
    INLINE const uint4 *chunk_quad(const uint4 *panel, u32 group, u32, u32 in) { return panel + (u64)group * GROUP_QUADS + in; }
    INLINE Group load(const uint4 *panel, u32 group, u32, u32 q) {
        const uint4 *at = panel + (u64)group * GROUP_QUADS;
        Group g;
#pragma unroll
        for (u32 j = 0; j < RUNS; j++) g.runs[j] = __ldg(at + 4 * j + q);
        g.d = __ldg((const uint2 *)(at + 4 * RUNS) + q);
        return g;
    }
    INLINE Group held(const uint4 *chunk, u32 q) {
        Group g;
#pragma unroll
        for (u32 j = 0; j < RUNS; j++) g.runs[j] = chunk[swizzled(j, q)];
        g.d = ((const uint2 *)(chunk + 4 * RUNS))[q];
        return g;
    }
    INLINE Scales scales(const Group &g) { return Scales{four_halves(g.d), splat4(0)}; }
    INLINE Scales held_scales(const uint4 *chunk, u32 q) { return Scales{four_halves(((const uint2 *)(chunk + 4 * RUNS))[q]), splat4(0)}; }
    INLINE Scales loaded_scales(const uint4 *panel, u32 group, u32, u32 q) {
        return Scales{four_halves(__ldg((const uint2 *)(panel + (u64)group * GROUP_QUADS + 4 * RUNS) + q)), splat4(0)};
    }
    INLINE Whole4 dots(const Group &g, uint4 a, uint4 b) {
        Whole4 s = {INTEGER, INTEGER, INTEGER, INTEGER};
        dot_word(s, g.runs[0], a.x), dot_word(s, g.runs[4], a.y), dot_word(s, g.runs[1], a.z), dot_word(s, g.runs[5], a.w);
        dot_word(s, g.runs[2], b.x), dot_word(s, g.runs[6], b.y), dot_word(s, g.runs[3], b.z), dot_word(s, g.runs[7], b.w);
        return s;
    }
    INLINE Fragment held_fragment(const uint4 *chunk, u32 t, u32 q) { return Fragment{chunk[swizzled(t, q)], chunk[swizzled(4 + t, q)]}; }
    INLINE Lane lane(const uint4 *panel, u32 group, u32 groups, u32 t, u32 q) {
        if (group >= groups) return Lane{};
        const uint4 *at = panel + (u64)group * GROUP_QUADS;
        return Lane{__ldg(at + 4 * t + q), __ldg(at + 16 + 4 * t + q), __ldg((const uint2 *)(at + 4 * RUNS) + q)};
    }
    INLINE Fragment fragment(const Lane &g) { return Fragment{g.low, g.high}; }
    INLINE Scales scales(const Lane &g) { return Scales{four_halves(g.d), splat4(0)}; }
    INLINE uint4 words_of(const Group &g, u32 fourth) { return g.runs[fourth]; }
    INLINE uint4 held_words(const uint4 *chunk, u32 fourth, u32 q) { return chunk[swizzled(fourth, q)]; }
    INLINE uint4 loaded_words(const uint4 *group, u32 fourth, u32 q) { return __ldg(group + 4 * fourth + q); }
    INLINE float4 integers(uint4 words, u32 k) { return add4(bytes_number(each_xor(words, 0x80808080u), k), splat4(-128)); }
    INLINE void four_k(const uint4 *chunk, u32 fourth, u32 q, float4 (&w)[4]) {
        four_weights<Q8>(held_words(chunk, fourth, q), held_scales(chunk, q), w);
    }
    INLINE void four_of_panel(const uint4 *panel, u32 K, u32 fourth, u32 q, float4 (&w)[4]) {
        four_weights_of_panel<Q8>(panel, K, fourth, q, w);
    }
    INLINE float weight(const u8 *panel, u32, u32 k, u32 lane) {
        const u8 *at = panel + (u64)(k / GROUP_K) * (16 * GROUP_QUADS), *run = at + k % GROUP_K / 4 * 64;
        return half_number(((const u16 *)(at + 64 * RUNS))[lane]) * (float)(signed char)run[4 * lane + k % 4];
    }
};

struct Q4 {
    typedef GroupFetch<Q4> WeightFetch;
    enum { RUNS = 4, GROUP_QUADS = 18, CHUNK_QUADS = 22, OFFSET = 1, OVER = 8 /* groups that share d and m */ };
    struct Group {
        uint4 runs[RUNS];
        u32 s, t;
        uint2 d, m;
    };
    struct Lane {
        uint4 run;
        u32 s, t;
        uint2 d, m;
    };
    INLINE u64 panel_quads(u32 K) { return (u64)groups_of(K) * GROUP_QUADS + (groups_of(K) + OVER - 1) / OVER * 4; }
    INLINE const uint4 *shared_of(const uint4 *panel, u32 group, u32 groups) { return panel + (u64)groups * GROUP_QUADS + group / OVER * 4; }
    INLINE const uint4 *chunk_quad(const uint4 *panel, u32 group, u32 groups, u32 in) {
        return in < GROUP_QUADS ? panel + (u64)group * GROUP_QUADS + in : shared_of(panel, group, groups) + (in - GROUP_QUADS);
    }
    INLINE Scales scales_of(u32 s, u32 t, uint2 d, uint2 m) {
        return Scales{mul4(four_halves(d), four_bytes(s)), mul4(four_halves(m), four_bytes(t))};
    }
    INLINE Group load(const uint4 *panel, u32 group, u32 groups, u32 q) {
        const uint4 *at = panel + (u64)group * GROUP_QUADS, *over = shared_of(panel, group, groups);
        Group g;
#pragma unroll
        for (u32 j = 0; j < RUNS; j++) g.runs[j] = __ldg(at + 4 * j + q);
        g.s = __ldg((const u32 *)(at + 16) + q), g.t = __ldg((const u32 *)(at + 17) + q);
        g.d = __ldg((const uint2 *)over + q), g.m = __ldg((const uint2 *)(over + 2) + q);
        return g;
    }
    INLINE Group held(const uint4 *chunk, u32 q) {
        Group g;
#pragma unroll
        for (u32 j = 0; j < RUNS; j++) g.runs[j] = chunk[swizzled(j, q)];
        g.s = ((const u32 *)(chunk + 16))[q], g.t = ((const u32 *)(chunk + 17))[q];
        g.d = ((const uint2 *)(chunk + 18))[q], g.m = ((const uint2 *)(chunk + 20))[q];
        return g;
    }
    INLINE Scales scales(const Group &g) { return scales_of(g.s, g.t, g.d, g.m); }
    INLINE Scales held_scales(const uint4 *chunk, u32 q) {
        return scales_of(((const u32 *)(chunk + 16))[q], ((const u32 *)(chunk + 17))[q], ((const uint2 *)(chunk + 18))[q],
                         ((const uint2 *)(chunk + 20))[q]);
    }
    INLINE Scales loaded_scales(const uint4 *panel, u32 group, u32 groups, u32 q) {
        const uint4 *at = panel + (u64)group * GROUP_QUADS, *over = shared_of(panel, group, groups);
        return scales_of(__ldg((const u32 *)(at + 16) + q), __ldg((const u32 *)(at + 17) + q), __ldg((const uint2 *)over + q),
                         __ldg((const uint2 *)(over + 2) + q));
    }
    INLINE Whole4 dots(const Group &g, uint4 a, uint4 b) {
        Whole4 s = {INTEGER, INTEGER, INTEGER, INTEGER};
        dot_word(s, low_halves(g.runs[0]), a.x), dot_word(s, high_halves(g.runs[0]), a.y);
        dot_word(s, low_halves(g.runs[1]), a.z), dot_word(s, high_halves(g.runs[1]), a.w);
        dot_word(s, low_halves(g.runs[2]), b.x), dot_word(s, high_halves(g.runs[2]), b.y);
        dot_word(s, low_halves(g.runs[3]), b.z), dot_word(s, high_halves(g.runs[3]), b.w);
        return s;
    }
    INLINE Fragment held_fragment(const uint4 *chunk, u32 t, u32 q) {
        const uint4 run = chunk[swizzled(t, q)];
        return Fragment{low_halves(run), high_halves(run)};
    }
    INLINE Lane lane(const uint4 *panel, u32 group, u32 groups, u32 t, u32 q) {
        if (group >= groups) return Lane{};
        const uint4 *at = panel + (u64)group * GROUP_QUADS, *over = shared_of(panel, group, groups);
        return Lane{__ldg(at + 4 * t + q), __ldg((const u32 *)(at + 16) + q), __ldg((const u32 *)(at + 17) + q),
                    __ldg((const uint2 *)over + q), __ldg((const uint2 *)(over + 2) + q)};
    }
    INLINE Fragment fragment(const Lane &g) { return Fragment{low_halves(g.run), high_halves(g.run)}; }
    INLINE Scales scales(const Lane &g) { return scales_of(g.s, g.t, g.d, g.m); }
    INLINE uint4 words_of(const Group &g, u32 fourth) { return fourth < 4 ? low_halves(g.runs[fourth]) : high_halves(g.runs[fourth - 4]); }
    INLINE uint4 held_words(const uint4 *chunk, u32 fourth, u32 q) {
        const uint4 run = chunk[swizzled(fourth % 4, q)];
        return fourth < 4 ? low_halves(run) : high_halves(run);
    }
    INLINE uint4 loaded_words(const uint4 *group, u32 fourth, u32 q) {
        const uint4 run = __ldg(group + 4 * (fourth % 4) + q);
        return fourth < 4 ? low_halves(run) : high_halves(run);
    }
    INLINE float4 integers(uint4 words, u32 k) { return bytes_number(words, k); }
    INLINE void four_k(const uint4 *chunk, u32 fourth, u32 q, float4 (&w)[4]) {
        four_weights<Q4>(held_words(chunk, fourth, q), held_scales(chunk, q), w);
    }
    INLINE void four_of_panel(const uint4 *panel, u32 K, u32 fourth, u32 q, float4 (&w)[4]) {
        four_weights_of_panel<Q4>(panel, K, fourth, q, w);
    }
    INLINE float weight(const u8 *panel, u32 K, u32 k, u32 lane) {
        const u32 group = k / GROUP_K, in = k % GROUP_K;
        const u8 *at = panel + (u64)group * (16 * GROUP_QUADS);
        const u16 *over = (const u16 *)shared_of((const uint4 *)panel, group, groups_of(K));
        const u32 byte = at[in % 16 / 4 * 64 + 4 * lane + in % 4], q = in < 16 ? byte & 15 : byte >> 4;
        return fmaf(half_number(over[lane]) * (float)at[256 + lane], (float)q, -(half_number(over[16 + lane]) * (float)at[272 + lane]));
    }
};
