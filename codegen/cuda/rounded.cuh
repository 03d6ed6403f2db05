/* Products of weights in blocks with rounded inputs (blocks.cuh), and one row's of them with either.
 *
 * Rows that a phase has rounded (PG_ROUND) lie as ir/program.h says: bytes [group][ld][32], then scales e [group][ld], then sums of p
 * [group][ld]. Tiles take them a group at a time. With tensor cores lanes have slots, quads and rows as in product.cuh, and of k the words
 * t and 4 + t of a group; without, a lane has a quad of two slots with every eighth row, as in float. */

/* ---------------------------------------------------------------------------------------------- rounding */

/* p is x · factor, rounded. */
struct Rounding {
    float factor, e;
};

/* Of a group whose largest |x| has these bits. */
INLINE Rounding rounding_of(u32 most) {
    const float a = __uint_as_float(most);
    if (most >= 0x7f800000u) return Rounding{0, __uint_as_float(0x7fc00000u)};
    return a < 0x1p-100f ? Rounding{0, 0} : Rounding{127.0f / a, a / 127.0f};
}
INLINE u32 size_bits(float x) { return __float_as_uint(x) & 0x7fffffffu; }
INLINE u32 larger(u32 a, u32 b) { return a > b ? a : b; }
INLINE u32 most_bits(float4 v) { return larger(larger(size_bits(v.x), size_bits(v.y)), larger(size_bits(v.z), size_bits(v.w))); }
/* To the nearest, ties to even: the low byte of the sum's bits is the integer. */
INLINE u32 rounded_byte(float x, float factor) { return __float_as_uint(ROUNDED_PRODUCT(x, factor) + 12582912.0f) & 0xffu; }
INLINE u32 rounded_word(float4 v, float factor) {
    return rounded_byte(v.x, factor) | rounded_byte(v.y, factor) << 8 | rounded_byte(v.z, factor) << 16 | rounded_byte(v.w, factor) << 24;
}

/* One row in shared memory becomes `padded` / 4 words, then, of each group, e times `scale` and the sum of p. A thread reads the quads
 * that stage_row gave it. */
INLINE void round_row(float *to, const float *xs, u32 padded, float scale) {
    u32 *words = (u32 *)to;
    float2 *scales = (float2 *)(words + padded / 4);
    for (u32 i = threadIdx.x; i < padded / 4; i += THREADS) {
        const float4 v = quad(xs)[i];
        u32 most = most_bits(v);
        for (u32 distance = 1; distance < 8; distance *= 2) most = larger(most, __shfl_xor_sync(ALL_LANES, most, distance));
        const Rounding r = rounding_of(most);
        const u32 word = rounded_word(v, r.factor);
        i32 sum = DOT4(word, 0x01010101u, 0);
        for (u32 distance = 1; distance < 8; distance *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, distance);
        words[i / 8 * 8 + place_of_word(i % 8)] = word;
        if (i % 8 == 0) scales[i / 8] = make_float2(scale * r.e, (float)sum);
    }
}

/* The same of a group of a row in [panel][ld][16], to a plane of rounded rows. */
INLINE void round_group(u8 *plane, const float *x, u64 ld, u64 row, u32 group, u32 K) {
    float4 v[8];
    u32 most = 0;
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        const u32 k = group * GROUP_K + 4 * i;
        v[i] = k < K ? quad_within(x + (k / 16 * ld + row) * 16 + 4 * i % 16, K - k) : splat4(0);
        most = larger(most, most_bits(v[i]));
    }
    const Rounding r = rounding_of(most);
    u32 words[8];
    i32 sum = 0;
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        words[i] = rounded_word(v[i], r.factor);
        sum = DOT4(words[i], 0x01010101u, sum);
    }
    const u64 at = group * ld + row;
    uint4 *p = (uint4 *)(plane + at * GROUP_K);
    p[0] = uint4{words[0], words[4], words[1], words[5]};
    p[1] = uint4{words[2], words[6], words[3], words[7]};
    float *e = (float *)(plane + groups_of(K) * ld * GROUP_K);
    e[at] = r.e;
    e[groups_of(K) * ld + at] = (float)sum;
}

/* Input k of a row of a plane as the number that it is now. */
INLINE float rounded_number(const u8 *plane, u64 ld, u64 row, u32 k, u32 K) {
    const u64 at = k / GROUP_K * ld + row;
    const signed char p = (signed char)plane[at * GROUP_K + place_of_word(k % GROUP_K / 4) * 4 + k % 4];
    return ((const float *)(plane + groups_of(K) * ld * GROUP_K))[at] * (float)p;
}

/* The same in place, of n values of one row in shared memory; zeros follow them. By all threads. */
INLINE void round_in_place(float *xs, u32 n) {
    for (u32 group = threadIdx.x; group < groups_of(n); group += THREADS) {
        float *x = xs + group * GROUP_K;
        const u32 count = least(n - group * GROUP_K, GROUP_K);
        u32 most = 0;
        for (u32 i = 0; i < count; i++) most = larger(most, size_bits(x[i]));
        const Rounding r = rounding_of(most);
        for (u32 i = 0; i < count; i++) x[i] = r.e * (float)(signed char)rounded_byte(x[i], r.factor);
    }
}

/* ---------------------------------------------------------------------------------------------- tiles of many rows */

/* The rows of a tile in a plane of rounded ones; as Rows. */
struct RoundedRows {
    const u8 *x;
    u64 ld;
    const i32 *table;
    u32 first, count, groups;
    METHOD u64 row(u32 r) const { return table ? (u32)Global<const i32>{table}[first + r] : first + r; }
    METHOD Global<const uint4> p(u32 group, u64 row) const { return {(const uint4 *)(x + (group * ld + row) * GROUP_K)}; }
    METHOD Global<const float> e(u32 group, u64 row) const { return {(const float *)(x + groups * ld * GROUP_K) + group * ld + row}; }
    METHOD Global<const float> sum(u32 group, u64 row) const { return {e(group, row) + groups * ld}; }
};

template <class W, u32 ROWS> struct RoundedStage {
    uint4 w[SLOTS * W::CHUNK_QUADS];
    uint4 p[ROWS * 2];
    float scales[ROWS * 2]; /* e, then the sums */
};

/* A thread fetches of each group half of a row's p, and e or the sum of another one. */
template <class W, u32 ROWS> struct RoundedFetch {
    GroupFetch<W> weights;
    const uint4 *p;     /* of the first group; NULL: past the last row */
    const float *scale; /* likewise */
    u64 ld;

    METHOD RoundedFetch(const Slots &slots, const RoundedRows &rows, u32 K) : weights(slots, K), p(nullptr), scale(nullptr), ld(rows.ld) {
        const u32 r = threadIdx.x / 2, s = threadIdx.x % ROWS;
        if (r < ROWS && r < rows.count) p = rows.p(0, rows.row(r)) + threadIdx.x % 2;
        if (s < rows.count) scale = threadIdx.x < ROWS ? rows.e(0, rows.row(s)) : rows.sum(0, rows.row(s));
    }

    METHOD void start(RoundedStage<W, ROWS> *stage, u32 k0) const {
        const u64 before = k0 / CHUNK * ld; /* rows of groups */
        weights.start(stage->w, k0);
        if (ROWS * 2 < THREADS && threadIdx.x >= ROWS * 2) return;
        CP_ASYNC_16(&stage->p[threadIdx.x], p ? p + before * 2 : (const uint4 *)weights.slots.w, p ? 16 : 0);
        CP_ASYNC_4(&stage->scales[threadIdx.x], scale ? scale + before : (const float *)weights.slots.w, scale ? 4 : 0);
    }
    METHOD void settle(RoundedStage<W, ROWS> *, u32) const {}
};

/* acc = fma(e, d Σqp - m Σp, acc). */
template <class W> INLINE float add_rounded(float acc, i32 dots, float d, float m, float e, float sum) {
    const float whole = d * number_of(dots);
    return fmaf(e, W::OFFSET ? fmaf(-m, sum, whole) : whole, acc);
}
template <class W> INLINE float4 add_rounded4(float4 acc, Whole4 dots, Scales s, float e, float sum) {
    return make_float4(add_rounded<W>(acc.x, dots.x, s.d.x, s.m.x, e, sum), add_rounded<W>(acc.y, dots.y, s.d.y, s.m.y, e, sum),
                       add_rounded<W>(acc.z, dots.z, s.d.z, s.m.z, e, sum), add_rounded<W>(acc.w, dots.w, s.d.w, s.m.w, e, sum));
}

/* What two products of a fragment with eight rows give: dots[0] outputs 0 and 1 of the quad, dots[1] 2 and 3, of rows 2 t and 2 t + 1. */
INLINE void multiply_8_rounded(Whole4 (&dots)[2], Fragment a, uint2 b) {
    dots[0] = dots[1] = Whole4{INTEGER, INTEGER, INTEGER, INTEGER};
    MMA_S8(dots[0], a.low.x, a.low.y, a.high.x, a.high.y, b.x, b.y);
    MMA_S8(dots[1], a.low.z, a.low.w, a.high.z, a.high.w, b.x, b.y);
}
template <class W> INLINE void add_8_rounded(float4 (&acc)[2], const Whole4 (&dots)[2], Scales s, float2 e, float2 sum) {
    acc[0].x = add_rounded<W>(acc[0].x, dots[0].x, s.d.x, s.m.x, e.x, sum.x);
    acc[0].y = add_rounded<W>(acc[0].y, dots[0].y, s.d.x, s.m.x, e.y, sum.y);
    acc[0].z = add_rounded<W>(acc[0].z, dots[0].z, s.d.y, s.m.y, e.x, sum.x);
    acc[0].w = add_rounded<W>(acc[0].w, dots[0].w, s.d.y, s.m.y, e.y, sum.y);
    acc[1].x = add_rounded<W>(acc[1].x, dots[1].x, s.d.z, s.m.z, e.x, sum.x);
    acc[1].y = add_rounded<W>(acc[1].y, dots[1].y, s.d.z, s.m.z, e.y, sum.y);
    acc[1].z = add_rounded<W>(acc[1].z, dots[1].z, s.d.w, s.m.w, e.x, sum.x);
    acc[1].w = add_rounded<W>(acc[1].w, dots[1].w, s.d.w, s.m.w, e.y, sum.y);
}

/* By tensor cores. */
template <class W, u32 ROWS> struct IntegerTile : WarpSums<ROWS> {
    typedef WarpSums<ROWS> Sums;
    using Sums::acc, Sums::first_slot, Sums::first_row;

    template <class Fetching> METHOD void prepare(const Fetching &, RoundedStage<W, ROWS> *) {}

    /* Two slots after the other: two blocks a multiprocessor leave registers for little else than the sums. */
    METHOD void multiply(const RoundedStage<W, ROWS> *stage) {
        const u32 lane = threadIdx.x % 32, t = lane % 4;
#pragma unroll
        for (u32 p = 0; p < 2; p++) {
            const uint4 *chunk = stage->w + (first_slot() + 2 * p + upper_slot()) * W::CHUNK_QUADS;
            const Fragment a = W::held_fragment(chunk, t, quad_of_lane());
            const Scales s = W::held_scales(chunk, quad_of_lane());
#pragma unroll
            for (u32 n = 0; n < Sums::COUNT; n++) {
                const u32 row = first_row() + 8 * n;
                const float2 e = ((const float2 *)(stage->scales + row))[t], sum = ((const float2 *)(stage->scales + ROWS + row))[t];
                Whole4 dots[2];
                multiply_8_rounded(dots, a, ((const uint2 *)(stage->p + row * 2))[lane]);
                MMA_DONE();
                add_8_rounded<W>(acc[p][n], dots, s, e, sum);
            }
        }
    }
};

/* By products of four bytes. */
template <class W, u32 ROWS> struct DotTile : LaneSums<ROWS> {
    typedef LaneSums<ROWS> Sums;
    using Sums::acc, Sums::first_slot, Sums::row;

    template <class Fetching> METHOD void prepare(const Fetching &, RoundedStage<W, ROWS> *) {}

    METHOD void multiply(const RoundedStage<W, ROWS> *stage) {
#pragma unroll
        for (u32 s = 0; s < 2; s++) {
            const typename W::Group g = W::held(stage->w + (first_slot() + s) * W::CHUNK_QUADS, threadIdx.x % 4);
            const Scales scales = W::scales(g);
#pragma unroll
            for (u32 i = 0; i < Sums::COUNT; i++) {
                const u32 r = row(i);
                acc[s][i] = add_rounded4<W>(acc[s][i], W::dots(g, stage->p[2 * r], stage->p[2 * r + 1]), scales, stage->scales[r],
                                            stage->scales[ROWS + r]);
            }
        }
    }
};

template <class W, u32 ROWS, class Tile, u32 STAGES> INLINE void sum_rounded_tile(const Slots &slots, const RoundedRows &rows, u32 K) {
    sum_chunks<RoundedStage<W, ROWS>, STAGES, Tile>(RoundedFetch<W, ROWS>(slots, rows, K), K);
}

/* ---------------------------------------------------------------------------------------------- tiles of few rows
 *
 * As in few.cuh: a warp has two slots with all rows of the tile and every split-th group; all warps share the rows, which are
 * copied for as many groups as fit FEW_BYTES: p [group][rows][2], then e [group][rows], then the sums. */

template <class W> CALLED void sum_few_rounded(Slots slots, RoundedRows rows, u32 K, u32 split) {
    SHARED(shared);
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32, t = lane % 4, slots_of_tile = WARPS / split * 2;
    const u32 fitting = FEW_BYTES / (rows.count * (GROUP_K + 8)), groups = rows.groups;
    const uint4 *w = slots.at<W>(2 * (warp / split) + upper_slot(), K);
    uint4 *p = (uint4 *)shared;
    float *e = (float *)(p + fitting * rows.count * 2), *sums = e + fitting * rows.count;
    float4 acc[FEW_ROWS / 8][2] = {};
    u32 group = warp % split;
    typename W::Lane now = W::lane(w, group, groups, t, quad_of_lane());
    for (u32 first = 0; first < groups; first += fitting) {
        const u32 count = least(groups - first, fitting);
        if (first > 0) __syncthreads();
        for (u32 i = threadIdx.x; i < count * rows.count * 2; i += THREADS) {
            const u32 g = first + i / 2 / rows.count;
            p[i] = rows.p(g, rows.row(i / 2 % rows.count))[i % 2];
        }
        for (u32 i = threadIdx.x; i < count * rows.count; i += THREADS) {
            const u32 g = first + i / rows.count;
            const u64 row = rows.row(i % rows.count);
            e[i] = *rows.e(g, row);
            if (W::OFFSET) sums[i] = *rows.sum(g, row);
        }
        __syncthreads();
#pragma unroll 1
        for (; group < first + count; group += split) {
            const typename W::Lane held = now;
            now = W::lane(w, group + split, groups, t, quad_of_lane());
            const Fragment a = W::fragment(held);
            const Scales s = W::scales(held);
            const u32 at = (group - first) * rows.count;
#pragma unroll
            for (u32 n = 0; n < FEW_ROWS / 8; n++) {
                if (8 * n >= rows.count) break;
                Whole4 dots[2];
                multiply_8_rounded(dots, a, ((const uint2 *)(p + (at + 8 * n) * 2))[lane]);
                MMA_DONE();
                add_8_rounded<W>(acc[n], dots, s, ((const float2 *)(e + at + 8 * n))[t],
                                 W::OFFSET ? ((const float2 *)(sums + at + 8 * n))[t] : make_float2(0, 0));
            }
        }
    }
    __syncthreads();
    float4 *to = (float4 *)shared + (warp % split * slots_of_tile + 2 * (warp / split)) * rows.count * 4;
#pragma unroll
    for (u32 n = 0; n < FEW_ROWS / 8; n++) {
        if (8 * n < rows.count) put_8_rows(to, rows.count, 8 * n, acc[n]);
    }
    __syncthreads();
}

/* The first weights of a tile for the cache, before the step's values may be read. */
template <class W> INLINE void announce_few_groups(const Slots &slots, u32 K, u32 split) {
    const u32 warp = threadIdx.x / 32, t = threadIdx.x % 4;
    const uint4 *w = slots.at<W>(warp / split * 2 + upper_slot(), K);
    for (u32 i = 0; i < 4; i++) {
        const u32 group = warp % split + i * split;
        if (group >= groups_of(K)) break;
        for (u32 j = t; j < W::RUNS; j += 4) PREFETCH_L2(w + (u64)group * W::GROUP_QUADS + 4 * j + quad_of_lane());
    }
}

/* ---------------------------------------------------------------------------------------------- one row
 *
 * SPLIT warps share a panel (of each matrix): a lane has one quad of eight of a warp's groups, whose loads are all on their way while
 * the group of eight groups before is added up. xs: of each term PADDED floats, or what round_row makes of them. */

template <class W> INLINE void add_floats(float4 &acc, const typename W::Group &g, const float *x) {
    const Scales s = W::scales(g);
    float4 sum = splat4(0);
    float inputs = 0;
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        const float4 v = quad(x)[i];
        const uint4 words = W::words_of(g, i);
        sum = fma4(v.w, W::integers(words, 3),
                   fma4(v.z, W::integers(words, 2), fma4(v.y, W::integers(words, 1), fma4(v.x, W::integers(words, 0), sum))));
        inputs += sum4(v);
    }
    acc = fma4(s.d, sum, acc);
    if (W::OFFSET) acc = fma4(-inputs, s.m, acc);
}

template <class W, u32 K, u32 SPLIT, u32 MATRICES, u32 TERMS, bool ROUNDS> struct GroupRow {
    enum {
        GROUPS_OF_K = (K + GROUP_K - 1) / GROUP_K,
        STEPS = (GROUPS_OF_K + 8 * SPLIT - 1) / (8 * SPLIT),
        PADDED = STEPS * 8 * SPLIT * GROUP_K,          /* of a term; zeros from K on */
        OF_TERM = ROUNDS ? PADDED / 16 * 5 : PADDED /* floats of xs */
    };
    typedef float4 Sum;
    typename W::Group ahead;
    const uint4 *w[MATRICES];

    METHOD u32 group_of(u32 step) const { return step * (8 * SPLIT) + threadIdx.x / 32 % SPLIT * 8 + threadIdx.x % 32 / 4; }

    template <class Panel> METHOD void aim(Panel panel, u32 tile, u32 term) {
#pragma unroll
        for (u32 m = 0; m < MATRICES; m++) w[m] = panel(tile, term, m);
    }
    METHOD void fetch(u32 step, u32 matrix) {
        const u32 group = group_of(step);
        if (group < GROUPS_OF_K)
            ahead = W::load(w[matrix], group, GROUPS_OF_K, threadIdx.x % 4);
        else
            ahead = {};
    }
    template <class Panel> METHOD void begin(Panel panel, u32 tile) {
        aim(panel, tile, 0);
        fetch(0, 0);
    }
    template <class Panel> METHOD void announce(Panel panel, u32 tile) {
        const u32 group = group_of(0);
        aim(panel, tile, 0);
        if (group >= GROUPS_OF_K) return;
        for (u32 m = 0; m < MATRICES; m++)
            for (u32 j = 0; j < W::RUNS; j++) PREFETCH_L2(w[m] + (u64)group * W::GROUP_QUADS + 4 * j + threadIdx.x % 4);
    }
    METHOD void add(float4 &acc, const typename W::Group &g, const float *xs, u32 group) const {
        if (ROUNDS) {
            const uint4 *p = (const uint4 *)xs + group * 2;
            const float2 scale = ((const float2 *)((const u8 *)xs + PADDED))[group];
            acc = add_rounded4<W>(acc, W::dots(g, p[0], p[1]), W::scales(g), scale.x, scale.y);
        } else {
            add_floats<W>(acc, g, xs + group * GROUP_K);
        }
    }

    /* acc: this lane's sums. `next`: the tile after it, if it is less than `tiles`. */
    template <class Panel> METHOD void sum(float4 (&acc)[MATRICES], Panel panel, const float *xs, u32 tile, u32 next, u32 tiles) {
#pragma unroll 1
        for (u32 turn = 0; turn < TERMS * STEPS; turn++) {
            const u32 step = turn % STEPS, term = turn / STEPS;
#pragma unroll
            for (u32 m = 0; m < MATRICES; m++) {
                const typename W::Group now = ahead;
                if (!ROUNDS) add(acc[m], now, xs + term * OF_TERM, group_of(step)); /* registers for one group alone */
                if (m + 1 < MATRICES) {
                    fetch(step, m + 1);
                } else if (step + 1 < STEPS) {
                    fetch(step + 1, 0);
                } else if (turn + 1 < TERMS * STEPS || next < tiles) {
                    const bool last = turn + 1 == TERMS * STEPS;
                    aim(panel, last ? next : tile, last ? 0 : term + 1);
                    fetch(0, 0);
                }
                if (ROUNDS) add(acc[m], now, xs + term * OF_TERM, group_of(step));
            }
        }
    }
};
