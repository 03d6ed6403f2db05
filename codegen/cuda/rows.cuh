/* Sums across threads, and what is done to a row: where it lies, its norm, its rope. */

/* ---------------------------------------------------------------------------------------------- sums across threads. All threads
 * of the warp, or of the block, take part. */

INLINE float4 from_lane_across(float4 v, u32 distance) {
    return make_float4(__shfl_xor_sync(ALL_LANES, v.x, distance), __shfl_xor_sync(ALL_LANES, v.y, distance),
                       __shfl_xor_sync(ALL_LANES, v.z, distance), __shfl_xor_sync(ALL_LANES, v.w, distance));
}

/* One row: the sum over the eight k of a warp, in every lane. */
INLINE float4 sum_row(const float4 *acc) {
    float4 sum = acc[0];
    for (u32 distance = 4; distance < 32; distance *= 2) sum = add4(sum, from_lane_across(sum, distance));
    return sum;
}
/* The same where a lane has two outputs (arranged panels), in the first four lanes. */
INLINE float4 sum_row(const float2 *acc) {
    float2 sum = acc[0];
    for (u32 distance = 8; distance < 32; distance *= 2) {
        sum.x += __shfl_xor_sync(ALL_LANES, sum.x, distance);
        sum.y += __shfl_xor_sync(ALL_LANES, sum.y, distance);
    }
    return make_float4(sum.x, sum.y, __shfl_xor_sync(ALL_LANES, sum.x, 4), __shfl_xor_sync(ALL_LANES, sum.y, 4));
}

INLINE float4 keep_half(float4 low, float4 high, bool upper, u32 distance) {
    const float4 given = from_lane_across(upper ? low : high, distance);
    return add4(upper ? high : low, given);
}

/* Eight rows: the same, and lane l keeps the sum of row l / 4. In each round a lane keeps half of its rows and gives the others
 * away, so that 7 quads travel in place of 24. */
INLINE float4 sum_8_rows(const float4 *acc) {
    const u32 lane = threadIdx.x % 32;
    float4 four[4], two[2];
#pragma unroll
    for (u32 r = 0; r < 4; r++) four[r] = keep_half(acc[r], acc[r + 4], lane & 16, 16);
#pragma unroll
    for (u32 r = 0; r < 2; r++) two[r] = keep_half(four[r], four[r + 2], lane & 8, 8);
    return keep_half(two[0], two[1], lane & 4, 4);
}

INLINE float warp_sum(float v) {
    for (u32 distance = 16; distance > 0; distance /= 2) v += __shfl_xor_sync(ALL_LANES, v, distance);
    return v;
}

INLINE float warp_max(float v) {
    for (u32 distance = 16; distance > 0; distance /= 2) v = vm_max(v, __shfl_xor_sync(ALL_LANES, v, distance));
    return v;
}

/* Of all threads, in every thread. parts: WARPS floats of shared memory that nobody else uses meanwhile. */
INLINE float block_sum(float v, float *parts) {
    v = warp_sum(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    float sum = 0;
    for (u32 w = 0; w < WARPS; w++) sum += parts[w];
    return sum;
}

INLINE float block_max(float v, float *parts) {
    v = warp_max(v);
    __syncthreads();
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = v;
    __syncthreads();
    float most = parts[0];
    for (u32 w = 1; w < WARPS; w++) most = vm_max(most, parts[w]);
    return most;
}

/* Over the sixteen threads with this one's threadIdx.x % 16, in each of them. parts: THREADS floats of shared memory. */
INLINE float sum_of_sixteen(float v, float *parts) {
    __syncthreads();
    parts[threadIdx.x] = v;
    __syncthreads();
    float sum = 0;
    for (u32 i = threadIdx.x % 16; i < 256; i += 16) sum += parts[i];
    return sum;
}

/* ---------------------------------------------------------------------------------------------- rows */

/* Of `count` rows, how many block `block` of `size` has. */
INLINE u32 rows_from(u32 count, u32 block, u32 size) { return count - block * size < size ? count - block * size : size; }

/* The first index from `low` up to `high` whose value is at least `value`, in a rising list; `high` if there is none. */
INLINE u32 first_at_least(const i32 *list, u32 low, u32 high, u32 value) {
    while (low < high) {
        const u32 middle = (low + high) / 2;
        if ((u32)list[middle] < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Rows of a chunk of a scan that is split over time: so many that the chunks of all rows are about `tiles` tiles of a panel, and
 * those of a sequence at most `most`. */
INLINE u32 scan_chunk_rows(const Step *step, u32 panels, u32 most, u32 least, u32 tiles) {
    const u32 spread = (u32)(((u64)step->rows * panels + tiles - 1) / tiles), in_most = (step->rows + most - 1) / most;
    const u32 rows = spread > in_most ? spread : in_most;
    return rows > least ? rows : least;
}

/* Element i of row `row` in [panel][ld][16]. */
INLINE u64 element(u64 ld, u64 row, u32 i) { return (i / 16 * ld + row) * 16 + i % 16; }

/* What a norm makes of a row: (x - mean) * scale. */
struct Spread {
    float mean, scale;
};

/* Mean and 1 / sqrt(variance + eps) of n values from the first on, by `count` threads of which this one is number `me`; SUM adds over them. */
#define SPREAD(x, ld, row, first, n, layer, eps, me, count, SUM)                           \
    float mean = 0, squares = 0;                                                           \
    if (layer) {                                                                           \
        for (u32 i = me; i < n; i += count) mean += x[element(ld, row, first + i)];        \
        mean = SUM(mean) / n;                                                              \
    }                                                                                      \
    for (u32 i = me; i < n; i += count) {                                                  \
        const float d = x[element(ld, row, first + i)] - mean;                             \
        squares = fmaf(d, d, squares);                                                     \
    }                                                                                      \
    return Spread{mean, 1.0f / sqrtf(SUM(squares) / n + eps)};

INLINE Spread warp_spread(const float *x, u64 ld, u64 row, u32 n, bool layer, float eps) {
    SPREAD(x, ld, row, 0, n, layer, eps, threadIdx.x % 32, 32, warp_sum)
}
INLINE Spread run_spread(const float *x, u64 ld, u64 row, u32 first, u32 n, float eps) {
    SPREAD(x, ld, row, first, n, false, eps, threadIdx.x % 32, 32, warp_sum)
}
INLINE Spread block_spread(const float *x, u64 ld, u64 row, u32 n, bool layer, float eps, float *parts) {
#define SUM_OF_BLOCK(v) block_sum(v, parts)
    SPREAD(x, ld, row, 0, n, layer, eps, threadIdx.x, THREADS, SUM_OF_BLOCK)
#undef SUM_OF_BLOCK
}
#undef SPREAD

/* ---------------------------------------------------------------------------------------------- ropes */

/* Cosines and sines of all rows' angles: pairs of [rows][half], by all threads of all blocks. rates: turns a position. */
INLINE void fill_rope(const Step *step, float *table, const double *rates, u32 half) {
    const u32 pairs = step->rows * half;
    for (u32 i = blockIdx.x * THREADS + threadIdx.x; i < pairs; i += gridDim.x * THREADS) {
        const double turns = (double)step->row_position[i / half] * rates[i % half];
        const float part = (float)(2 * (turns - rint(turns)));
        table[2 * i] = cospif(part);
        table[2 * i + 1] = sinpif(part);
    }
}
