/* Products of matrices in tiles: what the linear layers of several rows share. mossc prints this file after prelude.cuh.
 *
 * A *slot* is one panel of weights that a tile multiplies with: 16 outputs. Where a linear layer has two matrices, slots 2i and 2i + 1 are panel
 * i of the one and of the other, so that nothing below knows of it. Inputs come in chunks of CHUNK k: two panels of x, 16 pairs of k.
 *
 * With tensor cores, weights are the left operand: a 16-byte quad of an arranged panel (prelude.cuh) is what a lane gives to a product of
 * 16 x 8 x 16. Lane (g, t) = (lane / 4, lane % 4) has of two slots side by side the slot g / 4, the quad g % 4, and of 16 k the four from
 * 4 t on; both operands agree in that order of k, which a sum does not see.
 * x enters as the sum of two numbers of the weights' type, `high` + `low`, which keeps 16 bits of it; FAST leaves `low` out. */

enum { SLOT_QUADS = CHUNK / 2 * 4 /* of 16-bit weights, in a chunk */ };

#ifndef MOSSC_SIMT
#if __CUDA_ARCH__ >= 800
/* 16 bytes from global to shared memory, all past the first `bytes` zero; they are there for this thread after CP_ASYNC_WAIT(n) lets
 * all but the last n committed groups be done, for others after a barrier then. */
#define CP_ASYNC_16(to, from, bytes)                                                                                         \
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes) \
                 : "memory")
#define CP_ASYNC_COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define CP_ASYNC_WAIT(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")
#else
#define CP_ASYNC_16(to, from, bytes) (*(uint4 *)(to) = first_bytes(from, bytes))
#define CP_ASYNC_COMMIT()
#define CP_ASYNC_WAIT(n)
INLINE uint4 first_bytes(const void *from, u32 bytes) {
    ASSUME_GLOBAL(from);
    const uint4 v = bytes > 0 ? *(const uint4 *)from : uint4{0, 0, 0, 0};
    return uint4{v.x, bytes > 4 ? v.y : 0, bytes > 8 ? v.z : 0, bytes > 12 ? v.w : 0};
}
#endif
/* acc += a b, of 16 outputs, 8 rows and 16 k; all lanes of the warp. The sums may be read after MMA_DONE. */
#define MMA(type, acc, a0, a1, a2, a3, b0, b1)                                                                       \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, " \
                 "{%0, %1, %2, %3};"                                                                                 \
                 : "+f"((acc).x), "+f"((acc).y), "+f"((acc).z), "+f"((acc).w)                                        \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1))
#define MMA_BF16(acc, a0, a1, a2, a3, b0, b1) MMA("bf16", acc, a0, a1, a2, a3, b0, b1)
#define MMA_F16(acc, a0, a1, a2, a3, b0, b1) MMA("f16", acc, a0, a1, a2, a3, b0, b1)
#define MMA_DONE()
#define PREFETCH_L2(at) asm volatile("prefetch.global.L2 [%0];" ::"l"(at))
/* No instruction: an address that is held in registers, where the compiler would compute it again in every turn of a loop. */
#define HOLD_ADDRESS(at) asm("" : "+l"(at))
/* Nor here: what follows from the number is computed behind this, and not before a loop around it. */
#define FIND_ANEW(number) asm volatile("" : "+r"(number))
/* to = at + i · bytes: one instruction, where the compiler makes three of it. */
#define MAD_WIDE(to, i, bytes, at) asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(to) : "r"(i), "r"(bytes), "l"(at))
/* pair = two numbers rounded, `even` in the low half. */
#define PACK_BF16(pair, even, odd) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(odd), "f"(even))
#define PACK_F16(pair, even, odd) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(odd), "f"(even))
#endif

/* Phase i of a table goes to its place of the two, behind CP_ASYNC_WAIT(0) and a barrier of the block. */
INLINE void fetch_phase(const Phase *table, u32 i) {
    if (threadIdx.x < sizeof *table / 16) CP_ASYNC_16((uint4 *)&held()->phases[i % 2] + threadIdx.x, (const uint4 *)&table[i] + threadIdx.x, 16);
    CP_ASYNC_COMMIT();
}

/* ---------------------------------------------------------------------------------------------- types of weights
 *
 * A panel is lines of four quads: a line is a k in float, a pair of k in 16 bits (K_OF_LINE). load: quad of a line, whose lane has `w`
 * behind its panel's beginning; zeros past the last line. add_line: acc += what the quad gives, x from k first_k on; Sum: its outputs.
 * CHUNK_QUADS: of a slot's chunk; place: where they lie in it; four_k: four outputs at each of four k, from 4 `fourth` on; four_of_panel:
 * the same of a panel; weight: one. */

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

/* ---------------------------------------------------------------------------------------------- x for tensor cores
 *
 * Of a row and t, a chunk's two quads (k = 4 t … of either panel) become the words that a lane multiplies with: words[half] are `high`
 * and `low` of that half's four k; FAST: words[0] are `high` of both halves. */

/* The words of four k: `high`, and `low` of what is left. */
template <class W, bool FAST> INLINE uint2 high_words(float4 v) {
    if (FAST) return {W::pack(v.x, v.y), W::pack(v.z, v.w)};
    return {W::pack_high(v.x, v.y), W::pack_high(v.z, v.w)};
}
template <class W> INLINE uint2 low_words(float4 v, uint2 high) {
    return {W::pack(v.x - W::low(high.x), v.y - W::high(high.x)), W::pack(v.z - W::low(high.y), v.w - W::high(high.y))};
}
template <class W> INLINE uint4 both_words(float4 v) {
    const uint2 high = high_words<W, false>(v), low = low_words<W>(v, high);
    return {high.x, high.y, low.x, low.y};
}

template <class W, bool FAST> INLINE void round_quads(float4 a, float4 b, uint4 *first, uint4 *second) {
    if (FAST) {
        const uint2 of_a = high_words<W, true>(a), of_b = high_words<W, true>(b);
        *first = uint4{of_a.x, of_a.y, of_b.x, of_b.y};
        return;
    }
    *first = both_words<W>(a);
    *second = both_words<W>(b);
}

/* What linear layers alone multiply by tensor cores, four k at a time, is made of words where it is made ("words" in emit.h). A panel's 16 values of a row
 * are 64 bytes, four quads of words, `high` and `low` of four k. FAST: 64 bytes are the `high` of two panels' values, those of four k
 * of either side by side, and half of the place is empty. A row of x lies where it would lie in float. */

template <class W, bool FAST> INLINE void put_quad(float *words, u64 ld, u64 row, u64 panel, u32 q, float4 v) {
    if (FAST)
        ((uint2 *)words)[((panel / 2 * ld + row) * 4 + q) * 2 + panel % 2] = high_words<W, true>(v);
    else
        ((uint4 *)words)[(panel * ld + row) * 4 + q] = both_words<W>(v);
}

/* Element i of a row. */
template <class W, bool FAST> INLINE void put_number(float *words, u64 ld, u64 row, u32 i, float v) {
    const u32 high = FAST ? W::pack(v, 0) : W::pack_high(v, 0), q = i % 16 / 4;
    const u64 panel = i / 16;
    if (FAST) {
        ((u16 *)words)[(((panel / 2 * ld + row) * 4 + q) * 2 + panel % 2) * 4 + i % 4] = (u16)high;
        return;
    }
    u16 *at = (u16 *)words + ((panel * ld + row) * 4 + q) * 8 + i % 4;
    at[0] = (u16)high;
    at[4] = (u16)W::pack(v - W::low(high), 0);
}

/* What x is when it comes. */
enum Inputs { FLOATS, WORDS, HIGH_WORDS /* of FAST */ };

/* Of the 16 bytes of words of a row, those of k: the words of four k from k on, with HIGH_WORDS also of four from k + 16 on. Past K, a
 * multiple of 4, lies whatever was there. */
template <Inputs X> INLINE u32 word_bytes(u32 k, u32 K) {
    if (X == HIGH_WORDS && k + 16 >= K) return k < K ? 8 : 0;
    return k < K ? 16 : 0;
}

/* ---------------------------------------------------------------------------------------------- a warp's products of a chunk */

/* Which of a slot's lines this lane gives a quad of, i = 0 … 3; its slot is the first or, where upper_slot(), the second of two. */
INLINE u32 line_of_lane(u32 i) { return i / 2 * 8 + threadIdx.x % 4 * 2 + i % 2; }
INLINE u32 quad_of_lane(u32 thread = threadIdx.x) { return thread / 4 % 4; }
INLINE u32 upper_slot(u32 thread = threadIdx.x) { return thread / 16 % 2; }

/* The first `left` of four values, then zeros; the same of a row, which may end before them. */
INLINE float4 first4(float4 v, u32 left) {
    return make_float4(left > 0 ? v.x : 0, left > 1 ? v.y : 0, left > 2 ? v.z : 0, left > 3 ? v.w : 0);
}
INLINE float4 quad_within(const float *at, u32 left) { return left == 0 ? splat4(0) : first4(*quad(at), left); }

/* Panel `panel` of packed weights. */
template <class W> INLINE const uint4 *panel_at(const u8 *w, u64 panel, u32 K) { return (const uint4 *)w + panel * W::panel_quads(K); }

/* Piece `i` behind `at`, of so many bytes each. */
template <class T> INLINE const T *piece(const T *at, u32 i, u32 bytes) {
    const T *found;
    MAD_WIDE(found, i, bytes, at);
    return found;
}

/* The slots of a tile: panel `first` of an expert's `count` and those behind it; w2: of two matrices. */
struct Slots {
    const u8 *w, *w2; /* the expert's; w2 is w where there is one matrix */
    u32 first, count;
    bool dual;
    /* Where slot s begins; past the last panel: that one again. */
    template <class W> METHOD const uint4 *at(u32 s, u32 K) const {
        const u32 panel = first + (dual ? s / 2 : s);
        return panel_at<W>(dual && s % 2 ? w2 : w, panel < count ? panel : count - 1, K);
    }
};

INLINE u32 least(u32 a, u32 b) { return a < b ? a : b; }

/* The rows of a tile in [panel][ld][16]: `first` and those behind it, or the entries of a table there. */
struct Rows {
    const float *x;
    u64 ld;
    const i32 *table; /* NULL: none */
    u32 first, count;
    /* Of the first panel. */
    METHOD const float *at(u32 r) const {
        const float *row = x + (u64)(table ? Global<const i32>{table}[first + r] : first + r) * 16;
        ASSUME_GLOBAL(row);
        return row;
    }
};

/* Two slots with eight rows: quads a0, a1 with the first two of b's words, then a2, a3 with the others. acc[0]: outputs 0 and 1 of four,
 * acc[1]: 2 and 3; x, y the first of them of rows 2 t and 2 t + 1. */
template <class W> INLINE void multiply_8_rows(float4 (&acc)[2], uint4 a0, uint4 a1, uint4 a2, uint4 a3, uint4 b) {
    W::mma(acc[0], a0, b.x, b.y);
    W::mma(acc[1], a1, b.x, b.y);
    W::mma(acc[0], a2, b.z, b.w);
    W::mma(acc[1], a3, b.z, b.w);
}

/* The sums of two slots and eight rows go to sums[slot][rows][4]: 16 outputs of a row are four quads in a swizzled line. */
INLINE void put_8_rows(float4 *sums, u32 rows, u32 row0, const float4 (&acc)[2], u32 thread = threadIdx.x) {
    const u32 row = row0 + thread % 4 * 2, q = quad_of_lane(thread);
    float4 *slot = sums + upper_slot(thread) * (rows * 4);
    slot[swizzled(row, q)] = make_float4(acc[0].x, acc[0].z, acc[1].x, acc[1].z);
    slot[swizzled(row + 1, q)] = make_float4(acc[0].y, acc[0].w, acc[1].y, acc[1].w);
}

/* ---------------------------------------------------------------------------------------------- where a tile lies */

/* A tile's rows, from `row` on, and its group of panels; `expert` is the plane of y where there are planes. */
struct Place {
    u32 row, count, group, expert;
};

/* Of `rows` rows in each plane. Tiles of a group of panels follow each other for BAND row tiles, then the next group: blocks that run
 * together share weights and rows. */
INLINE Place place_of_rows(u32 tile, u32 rows, u32 per_tile, u32 groups) {
    enum { BAND = 16 };
    const u32 steps = (rows + per_tile - 1) / per_tile, plane = tile / (steps * groups), at = tile % (steps * groups);
    const u32 band = at / (BAND * groups), width = steps - band * BAND < BAND ? steps - band * BAND : BAND;
    const u32 in_band = at - band * BAND * groups, row = (band * BAND + in_band % width) * per_tile;
    return Place{row, least(rows - row, per_tile), in_band / width, plane};
}

/* Of positions sorted by expert: no tile has rows of two experts. A surplus tile, behind all others, has no rows. */
INLINE Place place_of_run(u32 tile, const i32 *start, u32 E, u32 per_tile, u32 groups) {
    u32 step = tile / groups;
    for (u32 e = 0; e < E; e++) {
        const u32 first = start[e], end = start[e + 1], steps = (end - first + per_tile - 1) / per_tile;
        if (step < steps) return Place{first + step * per_tile, least(end - first - step * per_tile, per_tile), tile % groups, e};
        step -= steps;
    }
    return Place{0, 0, 0, 0};
}

/* ---------------------------------------------------------------------------------------------- tiles of many rows
 *
 * A block has 8 slots and ROWS rows. Chunks of weights and x come to STAGES places in shared memory in turn; the next STAGES - 1 are on
 * their way while one is multiplied. A thread rounds what it has itself fetched of x, so one barrier a chunk is enough. */

enum { SLOTS = 8 };

template <class W, u32 ROWS, Inputs X> struct Stage {
    uint4 w[SLOTS * W::CHUNK_QUADS];
    uint4 x[X == HIGH_WORDS ? 1 : 2][ROWS * 4]; /* two panels; then their words */
};

/* What a thread fetches of every chunk's weights, chunk after chunk: lines, as they lie in a slot. */
template <class W> struct LineFetch {
    enum { STEP = THREADS / W::CHUNK_QUADS /* slots that the block fetches at once */, COUNT = SLOTS / STEP };
    const uint4 *w[COUNT]; /* of the first chunk */
    u32 K;

    METHOD u32 first_slot() const { return threadIdx.x / W::CHUNK_QUADS; }
    METHOD LineFetch(const Slots &slots, u32 k) : K(k) {
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) w[i] = slots.at<W>(first_slot() + i * STEP, K) + threadIdx.x % W::CHUNK_QUADS;
    }
    METHOD void start(uint4 *to, u32 k0) const {
        const u32 line = threadIdx.x % W::CHUNK_QUADS / 4, place = W::place(line, threadIdx.x % 4), at = W::lines(k0);
        const bool whole = K % CHUNK == 0, again = !whole && second_of_unpaired(k0);
        const u32 bytes = whole || W::lines(k0) + line < W::lines(K) || again ? 16 : 0;
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) {
            const uint4 *from = piece(again ? w[i] - 4 : w[i], bytes > 0 ? at : 0, 64);
            CP_ASYNC_16(&to[(first_slot() + i * STEP) * W::CHUNK_QUADS + place], from, bytes);
        }
    }
    /* Behind the wait: of a last line without a partner the copies made both quads' place the line's own. */
    METHOD void settle(uint4 *to, u32 k0) const {
        if (!W::UNPAIRED || W::lines(K) % 2 == 0) return;
        const u32 line = threadIdx.x % W::CHUNK_QUADS / 4;
        if (line / 2 != (W::lines(K) - W::lines(k0)) / 2) return;
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) {
            uint4 *at = &to[(first_slot() + i * STEP) * W::CHUNK_QUADS + W::place(line, threadIdx.x % 4)];
            *at = unpaired(*at, line % 2);
        }
    }
    METHOD bool second_of_unpaired(u32 k0) const {
        const u32 line = W::lines(k0) + threadIdx.x % W::CHUNK_QUADS / 4;
        return W::UNPAIRED && W::lines(K) % 2 == 1 && line == W::lines(K);
    }
};

/* The same of weights in blocks (blocks.cuh): a chunk is a group with its scales. Panels are found anew each time, which saves registers. */
template <class W> struct GroupFetch {
    enum { QUADS = SLOTS * W::CHUNK_QUADS, COUNT = (QUADS + THREADS - 1) / THREADS };
    const Slots slots;
    u32 K;

    METHOD GroupFetch(const Slots &of, u32 k) : slots(of), K(k) {}
    METHOD void start(uint4 *to, u32 k0) const {
#pragma unroll
        for (u32 i = 0; i < COUNT; i++) {
            const u32 at = threadIdx.x + i * THREADS, slot = at / W::CHUNK_QUADS, in = at % W::CHUNK_QUADS;
            const u32 place = in < W::RUNS * 4 ? swizzled(in / 4, in % 4) : in;
            if (at < QUADS) CP_ASYNC_16(&to[at - in + place], W::chunk_quad(slots.at<W>(slot, K), k0 / CHUNK, (K + CHUNK - 1) / CHUNK, in), 16);
        }
    }
    METHOD void settle(uint4 *, u32) const {}
};

/* And of the rows. What is past the last row is that one again: nobody reads its sums. */
template <class W, u32 ROWS, Inputs X> struct Fetch {
    enum { X_COUNT = (ROWS * 4 + THREADS - 1) / THREADS, HALVES = X == HIGH_WORDS ? 1 : 2 };
    typename W::WeightFetch weights;
    const float *x[X_COUNT]; /* of the first chunk */
    u32 panel;               /* bytes from a panel of x to the next */
    u32 K;

    METHOD u32 first_row() const { return threadIdx.x / 4; }

    METHOD Fetch(const Slots &slots, const Rows &rows, u32 k)
        : weights(slots, k), panel((u32)rows.ld * 64), K(k) {
#pragma unroll
        for (u32 i = 0; i < X_COUNT; i++) {
            const u32 r = first_row() + i * (THREADS / 4);
            x[i] = rows.at(least(r, rows.count - 1)) + threadIdx.x % 4 * 4;
            HOLD_ADDRESS(x[i]);
        }
    }

    METHOD void start(Stage<W, ROWS, X> *stage, u32 k0) const {
        weights.start(stage->w, k0);
#pragma unroll
        for (u32 i = 0; i < X_COUNT; i++) {
            if (X_COUNT == 1 && ROWS * 4 < THREADS && threadIdx.x >= ROWS * 4) break;
#pragma unroll
            for (u32 half = 0; half < HALVES; half++) {
                const u32 k = k0 + 16 * half + threadIdx.x % 4 * 4, left = k < K ? K - k : 0;
                const u32 bytes = K % CHUNK == 0 ? 16 : X != FLOATS ? word_bytes<X>(k, K) : left >= 4 ? 16 : 4 * left;
                const u32 at = k0 / CHUNK * HALVES + half;
                CP_ASYNC_16(&stage->x[half][threadIdx.x + i * THREADS], piece(x[i], bytes > 0 ? at : 0, panel), bytes);
            }
        }
    }

    METHOD void settle(Stage<W, ROWS, X> *stage, u32 k0) const { weights.settle(stage->w, k0); }

    template <bool FAST> METHOD void round(Stage<W, ROWS, X> *stage) const {
        if (X != FLOATS) return;
#pragma unroll
        for (u32 i = 0; i < X_COUNT; i++) {
            const u32 at = threadIdx.x + i * THREADS;
            if (at < ROWS * 4) {
                const float4 a = *(float4 *)&stage->x[0][at], b = *(float4 *)&stage->x[1][at];
                round_quads<W, FAST>(a, b, &stage->x[0][at], &stage->x[1][at]);
            }
        }
    }
};

/* The sums of tiles by tensor cores: a warp has four slots and a quarter of the rows. */
template <u32 ROWS> struct WarpSums {
    enum { COUNT = ROWS / 32 /* of eight rows */ };
    float4 acc[2][COUNT][2];

    METHOD u32 first_slot(u32 thread = threadIdx.x) const { return thread / 32 % 2 * 4; }
    METHOD u32 first_row(u32 thread = threadIdx.x) const { return thread / 64 * (ROWS / 4); }
    METHOD void put(float4 *sums) {
        u32 thread = threadIdx.x;
        FIND_ANEW(thread); /* the places of all tiles would take registers in the loop that multiplies */
#pragma unroll
        for (u32 p = 0; p < 2; p++) {
#pragma unroll
            for (u32 n = 0; n < COUNT; n++)
                put_8_rows(sums + (first_slot(thread) + 2 * p) * (ROWS * 4), ROWS, first_row(thread) + 8 * n, acc[p][n], thread);
        }
    }
};

/* And without: a warp has two slots and half of the rows, a lane a quad of each with every eighth of these rows. */
template <u32 ROWS> struct LaneSums {
    enum { COUNT = ROWS / 16 };
    float4 acc[2][COUNT];

    METHOD u32 first_slot() const { return threadIdx.x / 32 % 4 * 2; }
    METHOD u32 row(u32 i) const { return threadIdx.x / 128 * (ROWS / 2) + threadIdx.x % 32 / 4 + 8 * i; }
    METHOD void put(float4 *sums) {
#pragma unroll
        for (u32 s = 0; s < 2; s++) {
#pragma unroll
            for (u32 i = 0; i < COUNT; i++) sums[(first_slot() + s) * (ROWS * 4) + swizzled(row(i), threadIdx.x % 4)] = acc[s][i];
        }
    }
};

template <class W, u32 ROWS, bool FAST, Inputs X> struct TensorTile : WarpSums<ROWS> {
    typedef WarpSums<ROWS> Sums;
    using Sums::acc, Sums::first_slot, Sums::first_row;

    template <class Fetching> METHOD void prepare(const Fetching &fetch, Stage<W, ROWS, X> *stage) { fetch.template round<FAST>(stage); }

    /* Half of a chunk at a time leaves registers for a second block; FAST has one word a pair of k, and takes both. */
    METHOD void multiply(const Stage<W, ROWS, X> *stage) {
        enum { HALVES = FAST ? 1 : 2, QUADS = 4 / HALVES };
        const u32 lane = threadIdx.x % 32, q = quad_of_lane();
#pragma unroll
        for (u32 half = 0; half < HALVES; half++) {
            uint4 a[2][QUADS];
#pragma unroll
            for (u32 i = 0; i < 2 * QUADS; i++) {
                const uint4 *slot = stage->w + (first_slot() + i / QUADS * 2 + upper_slot()) * SLOT_QUADS;
                a[i / QUADS][i % QUADS] = slot[swizzled(line_of_lane(half * QUADS + i % QUADS), q)];
            }
#pragma unroll
            for (u32 n = 0; n < Sums::COUNT; n++) {
                const uint4 b = stage->x[half][(first_row() + 8 * n) * 4 + lane];
#pragma unroll
                for (u32 p = 0; p < 2; p++) multiply_8_rows<W>(acc[p][n], a[p][0], a[p][1], a[p][QUADS - 2], a[p][QUADS - 1], b);
            }
        }
    }

    METHOD void put(float4 *sums) {
        MMA_DONE();
        Sums::put(sums);
    }
};

template <class W, u32 ROWS> struct FloatTile : LaneSums<ROWS> {
    typedef LaneSums<ROWS> Sums;
    using Sums::acc, Sums::first_slot, Sums::row;

    template <class Fetching> METHOD void prepare(const Fetching &, Stage<W, ROWS, FLOATS> *) {}

    METHOD void multiply(const Stage<W, ROWS, FLOATS> *stage) {
#pragma unroll 1
        for (u32 fourth = 0; fourth < CHUNK / 4; fourth++) {
            float4 w[2][4];
#pragma unroll
            for (u32 s = 0; s < 2; s++)
                W::four_k(stage->w + (first_slot() + s) * W::CHUNK_QUADS, fourth, threadIdx.x % 4, w[s]);
#pragma unroll
            for (u32 i = 0; i < Sums::COUNT; i++) {
                const float4 x = *(const float4 *)&stage->x[fourth / 4][row(i) * 4 + fourth % 4];
#pragma unroll
                for (u32 s = 0; s < 2; s++)
                    acc[s][i] = fma4(x.w, w[s][3], fma4(x.z, w[s][2], fma4(x.y, w[s][1], fma4(x.x, w[s][0], acc[s][i]))));
            }
        }
    }
};

/* sums[slot][row][4], lines swizzled, of one tile; they lie where the stages were. */
template <class Places, u32 STAGES, class Tile, class Fetching> INLINE void sum_chunks(Fetching fetch, u32 K) {
    SHARED(shared);
    const u32 chunks = (K + CHUNK - 1) / CHUNK;
    Places *stages = (Places *)shared;
    Tile tile = {};
#pragma unroll
    for (u32 i = 0; i < STAGES - 1; i++) {
        if (i < chunks) fetch.start(stages + i, i * CHUNK);
        CP_ASYNC_COMMIT();
    }
    u32 now = 0;
#pragma unroll 1
    for (u32 chunk = 0; chunk < chunks; chunk++) {
        CP_ASYNC_WAIT(STAGES - 2);
        fetch.settle(stages + now, chunk * CHUNK);
        tile.prepare(fetch, stages + now);
        __syncthreads(); /* the chunk is there, and the one before it is done with */
        const u32 last = now == 0 ? STAGES - 1 : now - 1; /* its place */
        if (chunk + STAGES - 1 < chunks) fetch.start(stages + last, (chunk + STAGES - 1) * CHUNK);
        CP_ASYNC_COMMIT();
        tile.multiply(stages + now);
        now = now + 1 == STAGES ? 0 : now + 1;
    }
    CP_ASYNC_WAIT(0);
    __syncthreads();
    tile.put((float4 *)shared);
    __syncthreads();
}
template <class W, u32 ROWS, class Tile, u32 STAGES, Inputs X> INLINE void sum_tile(const Slots &slots, const Rows &rows, u32 K) {
    sum_chunks<Stage<W, ROWS, X>, STAGES, Tile>(Fetch<W, ROWS, X>(slots, rows, K), K);
}

/* ---------------------------------------------------------------------------------------------- one row
 *
 * SPLIT warps share a panel (of each matrix): a warp takes eight lines of it at once, 512 bytes, then those 8 SPLIT lines on. These
 * steps go by in batches of up to 8 loads a lane, one on its way while another is added up; the first of a tile is fetched before the
 * tile begins. A tile may have several terms, each with its panel and its x. */

template <class W, u32 K, u32 SPLIT, u32 MATRICES, u32 TERMS> struct RowTile {
    enum {
        LINES = (K + W::K_OF_LINE - 1) / W::K_OF_LINE,
        STEPS = (LINES + 8 * SPLIT - 1) / (8 * SPLIT),
        BATCHES = (STEPS * MATRICES + 7) / 8,
        LOADS = (STEPS + BATCHES - 1) / BATCHES, /* of a matrix in a batch */
        PADDED = LOADS * BATCHES * 8 * SPLIT * W::K_OF_LINE /* of a term in xs; zeros from K on */
    };
    typedef typename W::Sum Sum;
    uint4 ahead[MATRICES][LOADS];
    const uint4 *w[MATRICES]; /* of this lane: its quad of its line */

    METHOD u32 first_line() const { return threadIdx.x / 32 % SPLIT * 8 + threadIdx.x % 32 / 4; }

    /* panel(tile, term, matrix) is the panel of this warp. */
    template <class Panel> METHOD void aim(Panel panel, u32 tile, u32 term) {
#pragma unroll
        for (u32 m = 0; m < MATRICES; m++) w[m] = panel(tile, term, m) + threadIdx.x % 4;
    }
    METHOD void fetch(u32 batch) {
#pragma unroll
        for (u32 i = 0; i < LOADS; i++) {
            const u32 line = first_line() + (batch * LOADS + i) * 8 * SPLIT;
#pragma unroll
            for (u32 m = 0; m < MATRICES; m++) ahead[m][i] = W::load(w[m], line, LINES);
        }
    }
    template <class Panel> METHOD void begin(Panel panel, u32 tile) {
        aim(panel, tile, 0);
        fetch(0);
    }
    /* The same for the cache, before the step's values may be read. Eight lanes have 128 bytes, which come together. */
    template <class Panel> METHOD void announce(Panel panel, u32 tile) {
        if (threadIdx.x % 8 != 0) return;
        aim(panel, tile, 0);
        for (u32 line = first_line(), i = 0; i < 8 && line < LINES; i++, line += 8 * SPLIT) {
            for (u32 m = 0; m < MATRICES; m++) PREFETCH_L2(w[m] + 4 * line);
        }
    }

    /* acc: this lane's sums. `next`: the tile after it, if it is less than `tiles`. */
    template <class Panel> METHOD void sum(Sum (&acc)[MATRICES], Panel panel, const float *xs, u32 tile, u32 next, u32 tiles) {
#pragma unroll 1
        for (u32 turn = 0; turn < TERMS * BATCHES; turn++) {
            uint4 now[MATRICES][LOADS];
#pragma unroll
            for (u32 i = 0; i < LOADS * MATRICES; i++) now[i % MATRICES][i / MATRICES] = ahead[i % MATRICES][i / MATRICES];
            const u32 batch = turn % BATCHES;
            const bool last = turn + 1 == TERMS * BATCHES;
            if (BATCHES > 1 && batch + 1 < BATCHES) {
                fetch(batch + 1);
            } else if (!last || next < tiles) {
                aim(panel, last ? next : tile, last ? 0 : turn / BATCHES + 1);
                fetch(0);
            }
            const float *x = xs + turn / BATCHES * PADDED + W::first_k(first_line() + batch * LOADS * 8 * SPLIT);
#pragma unroll
            for (u32 i = 0; i < LOADS; i++) {
#pragma unroll
                for (u32 m = 0; m < MATRICES; m++) W::add_line(acc[m], now[m][i], x + i * 8 * SPLIT * W::K_OF_LINE);
            }
        }
    }
};

/* xs = scale · x of one row, zeros from K to `padded`, a multiple of 4; or is added to what is there. A thread has the same quads in all
 * that follows, until a barrier. */
INLINE void stage_row(float *xs, const float *x, u64 ld, u64 row, u32 K, u32 padded, float scale, bool more) {
    for (u32 i = threadIdx.x; i < padded / 4; i += THREADS) {
        const float4 v = 4 * i < K ? quad_within(x + (i / 4 * ld + row) * 16 + i % 4 * 4, K - 4 * i) : splat4(0);
        quad(xs)[i] = fma4(scale, v, more ? quad(xs)[i] : splat4(0));
    }
}

/* The norm of a staged row, in place. */
INLINE void norm_row(float *xs, u32 K, bool layer, float eps, const float *norm_w, const float *norm_b, float *parts) {
    float mean = 0, squares = 0;
    const u32 quads = (K + 3) / 4;
    if (layer) {
        for (u32 i = threadIdx.x; i < quads; i += THREADS) mean += sum4(quad(xs)[i]);
        mean = block_sum(mean, parts) / K;
    }
    for (u32 i = threadIdx.x; i < quads; i += THREADS) {
        const float4 d = first4(add4(quad(xs)[i], splat4(-mean)), K - 4 * i);
        squares += sum4(mul4(d, d));
    }
    const float scale = 1.0f / sqrtf(block_sum(squares, parts) / K + eps);
    for (u32 i = threadIdx.x; i < quads; i += THREADS) {
        const float4 v = mul4(mul4(add4(quad(xs)[i], splat4(-mean)), splat4(scale)), quad(norm_w)[i]);
        quad(xs)[i] = first4(layer ? add4(v, quad(norm_b)[i]) : v, K - 4 * i);
    }
}

/* ---------------------------------------------------------------------------------------------- tiles of few rows
 *
 * A warp has two slots with all rows of the tile, FEW_ROWS at most, and every split-th chunk of k; weights come straight from the
 * device's memory, two chunks ahead. All warps share x, which is in shared memory for as many chunks as fit FEW_BYTES:
 * xs[chunk][half][rows][4]. */


/* Part `part` of a tile's k. */
struct Share {
    u32 part, parts;
    METHOD u32 first(u32 chunks) const { return chunks * part / parts; }
    METHOD u32 end(u32 chunks) const { return chunks * (part + 1) / parts; }
};

template <class W, bool FAST, bool UNPAIRED> struct FewTile {
    enum { HALVES = FAST ? 1 : 2 };
    float4 acc[FEW_ROWS / 8][2];
    uint4 ahead[2][4];
    const uint4 *w; /* of this lane's slot, its quad */
    u32 lines, chunks, chunk, split; /* chunk: the next one of this warp */

    METHOD void load(uint4 (&a)[4], u32 from) const {
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            a[i] = W::load(w, from * (CHUNK / 2) + line_of_lane(i), UNPAIRED ? lines : lines & ~1u);
        }
    }

    /* Chunks first … first + count of x. What AT_ONCE turns load is on its way before any of it is rounded. */
    METHOD void stage(uint4 *xs, const Rows &rows, u32 K, u32 first, u32 count) const {
        enum { AT_ONCE = 4 };
        const u32 bits = rows.count > 32 ? 6 : rows.count > 16 ? 5 : rows.count > 8 ? 4 : 3; /* of a row's number */
        const u32 t = threadIdx.x % 4, all = count << bits;
#pragma unroll 1
        for (u32 turn = threadIdx.x / 4; turn < all; turn += AT_ONCE * THREADS / 4) {
            float4 a[AT_ONCE], b[AT_ONCE];
#pragma unroll
            for (u32 i = 0; i < AT_ONCE; i++) {
                const u32 at = turn + i * (THREADS / 4), c = at >> bits, r = at & ((1 << bits) - 1), k = (first + c) * CHUNK + 4 * t;
                const bool there = at < all && r < rows.count;
                const float *from = rows.at(there ? r : 0) + 4 * t + (u64)(first + c) * 2 * rows.ld * 16;
                a[i] = quad_within(from, there && k < K ? K - k : 0);
                b[i] = quad_within(from + rows.ld * 16, there && k + 16 < K ? K - k - 16 : 0);
            }
#pragma unroll
            for (u32 i = 0; i < AT_ONCE; i++) {
                const u32 at = turn + i * (THREADS / 4), c = at >> bits, r = at & ((1 << bits) - 1);
                uint4 *words = xs + (c * HALVES * rows.count + r) * 4 + t;
                if (at < all && r < rows.count) round_quads<W, FAST>(a[i], b[i], words, words + rows.count * 4);
            }
        }
    }

    /* The same of words, by asynchronous copies. */
    METHOD void copy(uint4 *xs, const Rows &rows, u32 K, u32 first, u32 count) const {
        const u32 t = threadIdx.x % 4, r0 = threadIdx.x / 4; /* a row's four quads side by side */
        const u32 whole = K / CHUNK < first + count ? K / CHUNK - first : count;
        for (u32 r = r0; r < rows.count; r += THREADS / 4) {
            const float *from = rows.at(r) + 4 * t + (u64)first * HALVES * rows.ld * 16;
            uint4 *to = xs + r * 4 + t;
#pragma unroll 4
            for (u32 i = 0; i < whole * HALVES; i++) CP_ASYNC_16(to + i * (rows.count * 4), from + i * (rows.ld * 16), 16);
            for (u32 i = whole * HALVES; i < count * HALVES; i++) { /* of the last chunk */
                const u32 bytes = word_bytes<FAST ? HIGH_WORDS : WORDS>((first + whole) * CHUNK + i % HALVES * 16 + 4 * t, K);
                CP_ASYNC_16(to + i * (rows.count * 4), bytes > 0 ? from + i * (rows.ld * 16) : from, bytes);
            }
        }
    }

    METHOD void multiply(const uint4 *xs, u32 rows, u32 first, u32 end) {
        const u32 lane = threadIdx.x % 32;
#pragma unroll 1
        for (; chunk < end; chunk += split) {
            uint4 a[4];
#pragma unroll
            for (u32 i = 0; i < 4; i++) a[i] = ahead[0][i], ahead[0][i] = ahead[1][i];
            load(ahead[1], chunk + 2 * split);
            const uint4 *b = xs + (chunk - first) * HALVES * rows * 4 + lane;
#pragma unroll
            for (u32 n = 0; n < FEW_ROWS / 8; n++) {
                if (8 * n >= rows) break;
                multiply_8_rows<W>(acc[n], a[0], a[1], a[FAST ? 2 : 0], a[FAST ? 3 : 1], b[8 * n * 4]);
                if (!FAST) multiply_8_rows<W>(acc[n], a[2], a[3], a[2], a[3], b[(rows + 8 * n) * 4]);
            }
        }
    }
};

/* sums[part][slot][rows][4], lines swizzled, where `split` warps share two slots: what each of them has. They lie where x was. */
template <class W, bool FAST, bool UNPAIRED, Inputs X> CALLED void sum_few(Slots slots, Rows rows, u32 K, u32 split, Share share) {
    SHARED(shared);
    const u32 warp = threadIdx.x / 32, pair = warp / split, slots_of_tile = WARPS / split * 2;
    const u32 of_chunk = rows.count * (CHUNK / 8 * (FAST ? 1 : 2)); /* words of x, 16 bytes at a time */
    const u32 fitting = FEW_BYTES / (X == FLOATS ? 1 : 2) / 16 / of_chunk; /* chunks of x */
    FewTile<W, FAST, UNPAIRED> few = {};
    few.w = slots.at<W>(2 * pair + upper_slot(), K) + quad_of_lane();
    few.lines = W::lines(K);
    const u32 chunks = (K + CHUNK - 1) / CHUNK, begin = share.first(chunks);
    few.chunks = share.end(chunks); /* of this block */
    few.chunk = begin + warp % split;
    few.split = split;
    few.load(few.ahead[0], few.chunk);
    few.load(few.ahead[1], few.chunk + split);
    if (X == FLOATS) {
        for (u32 first = begin; first < few.chunks; first += fitting) {
            const u32 count = least(few.chunks - first, fitting);
            if (first > begin) __syncthreads();
            few.stage((uint4 *)shared, rows, K, first, count);
            __syncthreads();
            few.multiply((const uint4 *)shared, rows.count, first, first + count);
        }
    } else { /* in two halves: one is filled while the other is multiplied */
        few.copy((uint4 *)shared, rows, K, begin, least(few.chunks - begin, fitting));
        CP_ASYNC_COMMIT();
        u32 now = 0;
        for (u32 first = begin; first < few.chunks; first += fitting, now ^= 1) {
            const u32 end = least(few.chunks, first + fitting);
            uint4 *next = (uint4 *)shared + (now ^ 1) * (fitting * of_chunk);
            if (end < few.chunks) few.copy(next, rows, K, end, least(few.chunks - end, fitting));
            CP_ASYNC_COMMIT();
            CP_ASYNC_WAIT(1);
            __syncthreads();
            few.multiply((const uint4 *)shared + now * (fitting * of_chunk), rows.count, first, end);
            __syncthreads();
        }
    }
    __syncthreads();
    MMA_DONE();
    float4 *sums = (float4 *)shared + (warp % split * slots_of_tile + 2 * pair) * rows.count * 4;
#pragma unroll
    for (u32 n = 0; n < FEW_ROWS / 8; n++) {
        if (8 * n < rows.count) put_8_rows(sums, rows.count, 8 * n, few.acc[n]);
    }
    __syncthreads();
}

/* Quad `in_slot` of a slot: what its warps have, added up. */
INLINE float4 sum_of_parts(const float4 *sums, u32 rows, u32 slot, u32 split, u32 in_slot) {
    float4 sum = sums[slot * rows * 4 + in_slot];
    for (u32 s = 1; s < split; s++) sum = add4(sum, sums[(s * (WARPS / split * 2) + slot) * rows * 4 + in_slot]);
    return sum;
}

/* An RMS norm without a stage of its own. Who makes x leaves the sums of its squares, [panel][ld], each by LANES threads side by side that
 * have a panel's values of a row; and x times the norm's weight, which is multiplied in place of what the norm would give. */
template <u32 LANES> INLINE void put_squares(float *squares, u64 ld, u64 panel, u64 row, float sum) {
    const u32 lanes = ((1u << LANES) - 1) << (threadIdx.x % 32 / LANES * LANES);
#pragma unroll
    for (u32 distance = LANES / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(lanes, sum, distance);
    if (threadIdx.x % LANES == 0) squares[panel * ld + row] = sum;
}
/* Who multiplies adds them up first, a part by every FEW_ROWS threads; a barrier of the block must follow. */
INLINE void gather_squares(float *parts, const float *squares, u64 ld, u32 panels, u32 rows) {
    const u32 row = threadIdx.x % FEW_ROWS;
    float sum = 0;
#pragma unroll 8
    for (u32 p = threadIdx.x / FEW_ROWS; p < panels; p += THREADS / FEW_ROWS) sum += row < rows ? squares[p * ld + row] : 0;
    __syncthreads(); /* shared memory is free */
    parts[threadIdx.x] = sum;
}
/* And has the factor of a row then. */
INLINE float norm_factor(const float *parts, u32 row, u32 K, float eps) {
    float squares = parts[row];
    for (u32 part = 1; part < THREADS / FEW_ROWS; part++) squares += parts[part * FEW_ROWS + row];
    return 1.0f / sqrtf(squares / K + eps);
}

/* Blocks that share the k of a tile leave what they have in scratch memory; the last one to do so adds it up in the order of k, whoever that
 * is, to sums[slot][rows][4], and gets true. [SHARED_TILES] counters, 0 in between, then [tile and part][slot][rows][4] of FEW_ROWS rows. */
INLINE float4 *shares_of(u8 *scratch, u32 tile) { return (float4 *)(scratch + 4 * SHARED_TILES) + (u64)tile * (WARPS * 2 * FEW_ROWS * 4); }
INLINE bool share_few(float4 *sums, u8 *scratch, u32 tile, Share share, u32 rows, u32 split) {
    const u32 slots = WARPS / split * 2, of_slot = rows * 4;
    u32 *counter = (u32 *)scratch + tile;
    float4 *own = shares_of(scratch, tile + share.part);
    for (u32 i = threadIdx.x; i < slots * of_slot; i += THREADS) own[i] = sum_of_parts(sums, rows, i / of_slot, split, i % of_slot);
    __syncthreads();
    const bool last = threadIdx.x == 0 && ADD_ACQUIRE_RELEASE(counter, 1u) + 1 == share.parts;
    if (!__syncthreads_or(last)) return false;
    if (threadIdx.x == 0) *counter = 0;
    for (u32 i = threadIdx.x; i < slots * of_slot; i += THREADS) {
        float4 sum = shares_of(scratch, tile)[i];
        for (u32 p = 1; p < share.parts; p++) sum = add4(sum, shares_of(scratch, tile + p)[i]);
        sums[i] = sum;
    }
    __syncthreads();
    return true;
}
/* Before a step: nobody has left anything. A barrier of the grid must follow. */
INLINE void begin_sharing(u8 *scratch) {
    for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < SHARED_TILES; i += gridDim.x * THREADS) ((u32 *)scratch)[i] = 0;
}

/* The first weights of a tile for the cache, before the step's values may be read: of two lines one quad, with which the others come. */
template <class W> INLINE void announce_few(const Slots &slots, u32 K, u32 split, Share share) {
    const u32 begin = share.first((K + CHUNK - 1) / CHUNK);
    const u32 warp = threadIdx.x / 32;
    if (quad_of_lane() != 0) return;
    const uint4 *w = slots.at<W>(warp / split * 2 + upper_slot(), K) + quad_of_lane();
    for (u32 i = 0; i < 16; i += 2) {
        const u32 line = (begin + warp % split + i / 4 * split) * (CHUNK / 2) + line_of_lane(i % 4);
        if (line < W::lines(K)) PREFETCH_L2(w + 4 * line);
    }
}
