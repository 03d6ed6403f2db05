/* Types of weights: F32, and BF16 and F16, whose panels are arranged (numbers.cuh).
 *
 * A panel is lines of four quads: a line is a k in float, a pair of k in 16 bits (K_OF_LINE). load: quad of a line, whose lane has `w`
 * behind its panel's beginning; zeros past the last line. add_line: acc += what the quad gives, x from k first_k on; Sum: its outputs.
 * CHUNK_QUADS: of a slot's chunk; place: where they lie in it; four_k: four outputs at each of four k, from 4 `fourth` on; four_of_panel:
 * the same of a panel; weight: one. */

enum { SLOT_QUADS = CHUNK / 2 * 4 /* of 16-bit weights, in a chunk */ };

/* Where quad `q` of line `line` lies among lines of four: eight lanes that read (or write) one quad each of every second line, or of
 * two lines next to each other, meet no bank twice. */
INLINE u32 swizzled(u32 line, u32 q) { return (4 * line + q) ^ (line & 6); }

template <class W> struct LineFetch;
template <class W> struct GroupFetch;

struct F32 {
    typedef LineFetch<F32> WeightFetch;
    enum { K_OF_LINE = 1, CHUNK_QUADS = CHUNK * 4 };
    INLINE u64 panel_quads(u32 K) { return (u64)K * 4; }
    INLINE u32 lines(u32 k) { return k; }
    INLINE u32 place(u32 line, u32 q) { return 4 * line + q; }
    typedef float4 Sum;
    enum { UNPAIRED = 0 };
    INLINE u32 first_k(u32 line) { return line; }
    INLINE uint4 load(const uint4 *w, u32 line, u32 lines) { return line < lines ? __ldg(w + 4 * line) : uint4{0, 0, 0, 0}; }
    INLINE float weight(const u8 *panel, u32, u32 k, u32 lane) { return ((const float *)panel)[k * 16 + lane]; }
    INLINE void add_line(float4 &acc, uint4 w, const float *x) {
        acc = fma4(x[0], make_float4(__uint_as_float(w.x), __uint_as_float(w.y), __uint_as_float(w.z), __uint_as_float(w.w)), acc);
    }
    INLINE void four_k(const uint4 *slot, u32 fourth, u32 q, float4 (&w)[4]) {
#pragma unroll
        for (u32 k = 0; k < 4; k++) w[k] = ((const float4 *)slot)[4 * (4 * fourth + k) + q];
    }
};

/* The first or second quad of a last line without a partner, made from the line's own: as if a line of zeros came behind it. */
INLINE uint4 unpaired(uint4 v, u32 second) { return second ? uint4{v.z, v.w, 0, 0} : uint4{v.x, v.y, 0, 0}; }

/* What bf16 and f16 share, of OF = BF16 or F16, which knows low and high: a line is a pair of k, and panels are arranged. */
template <class OF> struct PairsOfK {
    typedef LineFetch<OF> WeightFetch;
    typedef float2 Sum;
    enum { K_OF_LINE = 2, CHUNK_QUADS = SLOT_QUADS, UNPAIRED = 1 /* there may be a last line without a partner */ };
    INLINE u64 panel_quads(u32 K) { return (u64)((K + 1) / 2) * 4; }
    INLINE u32 lines(u32 k) { return (k + 1) / 2; }
    INLINE u32 place(u32 line, u32 q) { return swizzled(line, q); }
    INLINE u32 first_k(u32 line) { return line / 2 * 4; }
    INLINE uint4 load(const uint4 *w, u32 line, u32 lines) {
        if (lines % 2 == 0 || (line | 1) < lines) return line < lines ? __ldg(w + 4 * line) : uint4{0, 0, 0, 0};
        return line / 2 == lines / 2 ? unpaired(__ldg(w + 4 * (lines - 1)), line % 2) : uint4{0, 0, 0, 0};
    }
    INLINE void add_line(float2 &acc, uint4 w, const float *x) {
        const float4 v = *quad(x);
        acc.x = fmaf(v.w, OF::high(w.z), fmaf(v.z, OF::low(w.z), fmaf(v.y, OF::high(w.x), fmaf(v.x, OF::low(w.x), acc.x))));
        acc.y = fmaf(v.w, OF::high(w.w), fmaf(v.z, OF::low(w.w), fmaf(v.y, OF::high(w.y), fmaf(v.x, OF::low(w.y), acc.y))));
    }
    INLINE void four_outputs(uint4 a, uint4 b, float4 (&w)[4]) {
        w[0] = make_float4(OF::low(a.x), OF::low(a.y), OF::low(b.x), OF::low(b.y));
        w[1] = make_float4(OF::high(a.x), OF::high(a.y), OF::high(b.x), OF::high(b.y));
        w[2] = make_float4(OF::low(a.z), OF::low(a.w), OF::low(b.z), OF::low(b.w));
        w[3] = make_float4(OF::high(a.z), OF::high(a.w), OF::high(b.z), OF::high(b.w));
    }
    INLINE void four_k(const uint4 *slot, u32 fourth, u32 q, float4 (&w)[4]) {
        four_outputs(slot[swizzled(2 * fourth, q)], slot[swizzled(2 * fourth + 1, q)], w);
    }
    INLINE void four_of_panel(const uint4 *panel, u32 K, u32 fourth, u32 q, float4 (&w)[4]) {
        four_outputs(load(panel + q, 2 * fourth, lines(K)), load(panel + q, 2 * fourth + 1, lines(K)), w);
    }
    /* k and k + 1 of an output; k is even */
    INLINE u32 pair(const u8 *panel, u32 K, u32 k, u32 lane) {
        const u32 line = k / 2, second = lane % 4 / 2; /* of the two lines */
        const u32 *at = (const u32 *)panel + line * 16;
        if (line == lines(K) - 1 && line % 2 == 0) return at[lane];
        return at[(i32)(second - line % 2) * 16 + (i32)(lane / 4 * 4 + line % 2 * 2 + lane % 2)];
    }
    INLINE float weight(const u8 *panel, u32 K, u32 k, u32 lane) {
        const u32 both = pair(panel, K, k, lane);
        return k % 2 ? OF::high(both) : OF::low(both);
    }
};

struct BF16 : PairsOfK<BF16> {
    INLINE float low(u32 pair) { return bf16_low(pair); }
    INLINE float high(u32 pair) { return bf16_high(pair); }
    INLINE u32 pack(float even, float odd) {
        u32 pair;
        PACK_BF16(pair, even, odd);
        return pair;
    }
    INLINE u32 pack_high(float even, float odd) { return pack(even, odd); }
    INLINE void mma(float4 &acc, uint4 a, u32 b0, u32 b1) { MMA_BF16(acc, a.x, a.y, a.z, a.w, b0, b1); }
};

struct F16 : PairsOfK<F16> {
    INLINE float low(u32 pair) { return f16_low(pair); }
    INLINE float high(u32 pair) { return f16_high(pair); }
    /* What is too large is infinite, which the logits show. */
    INLINE u32 pack(float even, float odd) {
        u32 pair;
        PACK_F16(pair, even, odd);
        return pair;
    }
    /* Where a `low` follows: larger ones become the largest, and `low` has the rest, or is infinite; a NaN stays. */
    INLINE float within(float x) { return x > 65504.0f ? 65504.0f : x < -65504.0f ? -65504.0f : x; }
    INLINE u32 pack_high(float even, float odd) { return pack(within(even), within(odd)); }
    INLINE void mma(float4 &acc, uint4 a, u32 b0, u32 b1) { MMA_F16(acc, a.x, a.y, a.z, a.w, b0, b1); }
};
