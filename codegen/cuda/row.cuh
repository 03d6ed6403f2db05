/* Linear layers of one row.
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
