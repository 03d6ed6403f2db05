/* Products of matrices in tiles: what the linear layers of several rows share, and tiles of many rows.
 *
 * A *slot* is one panel of weights that a tile multiplies with: 16 outputs. Where a linear layer has two matrices, slots 2i and 2i + 1 are panel
 * i of the one and of the other, so that nothing below knows of it. Inputs come in chunks of CHUNK k: two panels of x, 16 pairs of k.
 *
 * With tensor cores, weights are the left operand: a 16-byte quad of an arranged panel (numbers.cuh) is what a lane gives to a product of
 * 16 x 8 x 16. Lane (g, t) = (lane / 4, lane % 4) has of two slots side by side the slot g / 4, the quad g % 4, and of 16 k the four from
 * 4 t on; both operands agree in that order of k, which a sum does not see.
 * x enters as the sum of two numbers of the weights' type, `high` + `low`, which keeps 16 bits of it; FAST leaves `low` out. */

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
