/* Tiles of many rows by warpgroups (hopper.cuh), for linear layers with weights of 16 bits.
 *
 * A launch before makes *words* of x: numbers of the weights' type, `high` and, if not FAST, `low` (words.cuh), as products read them:
 *
 *   words[ceil(K / 64)][high, low][rows][64 numbers]     zeros from K on
 *
 * The 64 numbers of a row are eight units of 16 bytes; unit u lies at u ^ (row % 8), which is how shared memory swizzled in 128 bytes has
 * it, so that a tile's rows of 64 k are one piece that a bulk copy brings. Units 2 p and 2 p + 1 are panel p of four: pairs of k 0, 2, 4, 6
 * and 1, 3, 5, 7 of its eight. A lane then has four k in a row, as an arranged panel gives them (numbers.cuh): of the two pairs of k
 * of lane t the product's k are 2 t, 2 t + 1 and 2 t + 8, 2 t + 9.
 *
 * A block has SLOTS slots and ROWS rows. Two warpgroups multiply, a slot a warp: weights come straight from memory to the registers of the
 * left operand, 64 k ahead. Of a third one a thread fetches pieces of words into a ring of places in shared memory, and three warps take
 * the sums of a tile through the epilogue while the next one is multiplied. Each place has two barriers: `full` when its bytes are
 * there, `empty` when all eight warps are done with it. */

enum { WORDS_K = 64, PIECE_UNITS = WORDS_K / 8 /* of 16 bytes in a row */ };
/* Threads of a block: those that multiply come first, then the warp of the one that fetches. */
enum { MULTIPLIERS = 2 * WARPGROUP, FIRST_FINISHER = MULTIPLIERS + 32, FINISHERS = WARPGROUP_THREADS - FIRST_FINISHER };
/* Barriers between those that multiply and those that finish. */
enum { SUMS_ARE_READ = 1, SUMS_ARE_THERE = 2, SHARERS = MULTIPLIERS + FINISHERS };
/* Registers a thread: a block begins with 168, which the 65536 of a multiprocessor give 384 threads; the sums alone are 128. */
enum { FINISHING_REGISTERS = 88, MULTIPLYING_REGISTERS = 208 };
static_assert(FINISHING_REGISTERS * WARPGROUP + MULTIPLYING_REGISTERS * MULTIPLIERS <= 168 * WARPGROUP_THREADS, "no more than a block has");
static_assert(MULTIPLIERS / 32 == SLOTS && THREADS / 4 == 64, "a slot a warp, and the rows of words that warpgroup.c counts");

/* ---------------------------------------------------------------------------------------------- x as words */

/* Of one row and 16 k: two units. */
template <class W> INLINE void put_units(uint4 *row, u32 r, u32 panel, const u32 (&pairs)[8]) {
    row[2 * panel ^ r % 8] = uint4{pairs[0], pairs[2], pairs[4], pairs[6]};
    row[(2 * panel + 1) ^ r % 8] = uint4{pairs[1], pairs[3], pairs[5], pairs[7]};
}

/* 64 k of up to THREADS / 4 rows, a panel a thread. words: of the tile's first row, which is a multiple of 8; `low` lies `plane` units on. */
template <class W, bool FAST> INLINE void write_words(uint4 *words, u64 plane, const Rows &rows, u32 K, u32 k0) {
    const u32 r = threadIdx.x / 4, panel = threadIdx.x % 4, first = k0 + 16 * panel;
    if (r >= rows.count) return;
    const float *x = rows.at(r) + (u64)(first / 16) * rows.ld * 16;
    u32 high[8], low[8];
#pragma unroll
    for (u32 t = 0; t < 4; t++) {
        const u32 k = first + 4 * t;
        const float4 v = quad_within(x + 4 * t, k < K ? K - k : 0);
        const uint2 highs = high_words<W, FAST>(v);
        high[2 * t] = highs.x;
        high[2 * t + 1] = highs.y;
        if (FAST) continue;
        const uint2 lows = low_words<W>(v, highs);
        low[2 * t] = lows.x;
        low[2 * t + 1] = lows.y;
    }
    put_units<W>(words + r * PIECE_UNITS, r, panel, high);
    if (!FAST) put_units<W>(words + plane + r * PIECE_UNITS, r, panel, low);
}

/* ---------------------------------------------------------------------------------------------- the ring of pieces */

/* Both sides go through its places in turn, each with a Ring of its own. */
template <u32 ROWS, u32 STAGES> struct Ring {
    enum { PIECE = ROWS * SWIZZLE_ROW };
    u8 *places;
    Mbarrier *full, *empty; /* [STAGES] each */
    u32 at, parity;         /* the next place; of the phase in which it becomes full */

    /* By all threads of the block. `memory`: STAGES pieces and barriers, and SWIZZLE_ATOM bytes to begin where an atom may. */
    METHOD void begin(u8 *memory) {
        places = memory + (SWIZZLE_ATOM - shared_address(memory) % SWIZZLE_ATOM) % SWIZZLE_ATOM;
        full = (Mbarrier *)(places + STAGES * PIECE);
        empty = full + STAGES;
        at = parity = 0;
        if (threadIdx.x == 0) {
            for (u32 i = 0; i < STAGES; i++) {
                MBARRIER_INIT(&full[i], 1);
                MBARRIER_INIT(&empty[i], MULTIPLIERS / 32);
            }
            FENCE_ASYNC_PROXY();
        }
        __syncthreads();
    }
    METHOD static void wait(Mbarrier *barrier, u32 parity) {
        u32 polls = 0;
        while (!MBARRIER_HAS_PASSED(barrier, parity))
            if (++polls == MBARRIER_POLLS) TRAP(); /* without a record of where */
    }
    METHOD void move() {
        at = at + 1 == STAGES ? 0 : at + 1;
        parity ^= at == 0;
    }
    /* By one thread: the next `bytes` go to the next place when it is empty. */
    METHOD void fetch(const uint4 *from, u32 bytes) {
        wait(&empty[at], parity ^ 1);
        MBARRIER_EXPECT(&full[at], bytes);
        BULK_COPY(places + at * PIECE, from, bytes, &full[at]);
        move();
    }
};

/* All pieces of a tile, by one thread. words: of its first row; `plane` units from a piece to the next one. */
template <u32 ROWS, u32 STAGES> INLINE void fetch_pieces(Ring<ROWS, STAGES> &ring, const uint4 *words, u64 plane, u32 rows, u32 pieces) {
#pragma unroll 1
    for (u32 i = 0; i < pieces; i++, words += plane) ring.fetch(words, rows * SWIZZLE_ROW);
}

/* ---------------------------------------------------------------------------------------------- products */

#define WGMMA_OF_ROWS(TYPE)                              \
    if constexpr (ROWS == 256) WGMMA_##TYPE(256, acc, a, b); \
    if constexpr (ROWS == 128) WGMMA_##TYPE(128, acc, a, b); \
    if constexpr (ROWS == 64) WGMMA_##TYPE(64, acc, a, b);
template <u32 ROWS> INLINE void multiply_rows(BF16, float (&acc)[ROWS / 2], uint4 &a, u64 b) { WGMMA_OF_ROWS(BF16) }
template <u32 ROWS> INLINE void multiply_rows(F16, float (&acc)[ROWS / 2], uint4 &a, u64 b) { WGMMA_OF_ROWS(F16) }

/* The sums of a slot and ROWS rows, by a warp of eight. */
template <class W, u32 K, u32 ROWS, bool FAST, u32 STAGES> struct WarpgroupTile {
    enum { WORDS = FAST ? 1 : 2, CHUNKS = (K + WORDS_K - 1) / WORDS_K, STEPS = WORDS_K / 16 };
    typedef Ring<ROWS, STAGES> Pieces;
    float acc[ROWS / 2];
    uint4 a[2][STEPS]; /* weights of 64 k in turn */
    const uint4 *w;    /* of this lane's slot, its quad */

    /* Lane (g, t): of each 16 k the four from 4 t on, of outputs 2 (g / 4) and 2 (g / 4) + 1 of quad g % 4. */
    METHOD void load(uint4 (&to)[STEPS], u32 chunk) const {
#pragma unroll
        for (u32 i = 0; i < STEPS; i++) {
            const u32 line = chunk * (WORDS_K / 2) + 8 * i + threadIdx.x % 4 * 2 + threadIdx.x / 16 % 2;
            to[i] = K % WORDS_K == 0 ? __ldg(w + 4 * line) : W::load(w, line, W::lines(K));
        }
    }

    /* The piece that comes next; the one before it, if there is one, is then done with. */
    METHOD void multiply_piece(Pieces &ring, uint4 (&weights)[STEPS], bool first) {
        const u64 b = b_of_rows(ring.places + ring.at * Pieces::PIECE);
        ring.wait(&ring.full[ring.at], ring.parity);
        WGMMA_FENCE();
#pragma unroll
        for (u32 i = 0; i < STEPS; i++) multiply_rows<ROWS>(W(), acc, weights[i], b + i * B_NEXT_K);
        WGMMA_COMMIT();
        if (!first) {
            WGMMA_WAIT(1);
            release(ring, ring.at == 0 ? STAGES - 1 : ring.at - 1);
        }
        ring.move();
    }
    METHOD void release(Pieces &ring, u32 place) const {
        if (threadIdx.x % 32 == 0) MBARRIER_ARRIVE(&ring.empty[place]);
    }
    /* A chunk; the next one's weights are asked for as soon as those before are done with. */
    METHOD void multiply_chunk(Pieces &ring, uint4 (&now)[STEPS], uint4 (&next)[STEPS], u32 chunk) {
        multiply_piece(ring, now, chunk == 0);
        if (chunk + 1 < CHUNKS) load(next, chunk + 1);
        if (!FAST) multiply_piece(ring, now, false);
    }

    /* All of K, of slot threadIdx.x / 32. */
    METHOD void multiply(Pieces &ring, const Slots &slots) {
        w = slots.at<W>(threadIdx.x / 32, K) + quad_of_lane();
#pragma unroll
        for (u32 i = 0; i < ROWS / 2; i++) acc[i] = 0;
        load(a[0], 0);
#pragma unroll 1
        for (u32 chunk = 0; chunk < CHUNKS; chunk += 2) {
            multiply_chunk(ring, a[0], a[1], chunk);
            if (chunk + 1 < CHUNKS) multiply_chunk(ring, a[1], a[0], chunk + 1);
        }
        WGMMA_WAIT(0);
        release(ring, ring.at == 0 ? STAGES - 1 : ring.at - 1);
#pragma unroll
        for (u32 i = 0; i < ROWS / 2; i++) WGMMA_SUM(acc[i]);
    }

    /* sums[slot][ROWS][4], lines swizzled, which eight rows on are as here. */
    METHOD void put(float4 *sums) const {
        const u32 row = threadIdx.x % 4 * 2, q = quad_of_lane(), half = threadIdx.x / 16 % 2;
        float4 *slot = sums + threadIdx.x / 32 * (ROWS * 4);
        float2 *even = (float2 *)&slot[swizzled(row, q)] + half, *odd = (float2 *)&slot[swizzled(row + 1, q)] + half;
#pragma unroll
        for (u32 j = 0; j < ROWS / 8; j++) {
            even[8 * 4 * 2 * j] = make_float2(acc[4 * j], acc[4 * j + 2]);
            odd[8 * 4 * 2 * j] = make_float2(acc[4 * j + 1], acc[4 * j + 3]);
        }
    }
};
