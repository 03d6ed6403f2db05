/* Products in tiles of few rows.
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
