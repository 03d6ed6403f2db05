/* Routers: what softmax and selection make of scores[E], the scores of one row in shared memory. */

/* ---------------------------------------------------------------------------------------------- routers: scores[E] of one row in
 * shared memory, all threads of the block. */

INLINE bool scores_are_finite(const float *scores, u32 E) {
    bool bad = false;
    for (u32 e = threadIdx.x; e < E; e += THREADS) bad = bad || !is_finite(scores[e]);
    return !__syncthreads_or(bad);
}

INLINE void softmax(float *scores, u32 E, float *parts) {
    float most = minus_infinity(), sum = 0;
    for (u32 e = threadIdx.x; e < E; e += THREADS) most = vm_max(most, scores[e]);
    most = block_max(most, parts);
    for (u32 e = threadIdx.x; e < E; e += THREADS) {
        scores[e] = vm_exp(scores[e] - most);
        sum += scores[e];
    }
    sum = block_sum(sum, parts);
    for (u32 e = threadIdx.x; e < E; e += THREADS) scores[e] = scores[e] / sum;
    __syncthreads();
}

/* What experts are chosen by. `closed`: of each run of `size` experts, whether none of them may be chosen; NULL: all may. */
struct Keys {
    const float *scores, *bias;
    const u8 *closed;
    u32 size;
};

/* What experts are compared by; a NaN comes last, like those of closed runs. */
INLINE float key_of(const Keys &keys, u32 e) {
    const float key = keys.bias ? keys.scores[e] + keys.bias[e] : keys.scores[e];
    return key == key && !(keys.closed && keys.closed[e / keys.size]) ? key : minus_infinity();
}

/* The sum of the two largest keys of a run, or its only one. */
INLINE float run_score(const Keys &keys, u32 run) {
    float first = minus_infinity(), second = minus_infinity();
    for (u32 e = run * keys.size; e < (run + 1) * keys.size; e++) {
        const float key = key_of(keys, e);
        second = key > first ? first : vm_max(second, key);
        first = key > first ? key : first;
    }
    return keys.size > 1 ? first + second : first;
}

/* Which of the equal runs are not among the `top` best; the lower one is better among equals. By `count` threads of which this one
 * is number `me`. */
INLINE void close_runs(const Keys &keys, u32 runs, u32 top, u8 *closed, u32 me, u32 count) {
    for (u32 run = me; run < runs; run += count) {
        const float own = run_score(keys, run);
        u32 better = 0;
        for (u32 other = 0; other < runs; other++) {
            const float theirs = run_score(keys, other);
            better += theirs > own || (theirs == own && other < run);
        }
        closed[run] = better >= top;
    }
}

INLINE u32 rank_of(const Keys &keys, u32 E, u32 e) {
    const float key = key_of(keys, e);
    u32 rank = 0;
    for (u32 other = 0; other < E; other++) {
        const float theirs = key_of(keys, other);
        rank += theirs > key || (theirs == key && other < e);
    }
    return rank;
}

/* The k best experts in rising order, the lower index first among equals. Ranks are a permutation, so there are always k. */
INLINE void select_experts(const Keys &keys, u32 E, u32 k, u8 *chosen, i32 *expert_indices) {
    for (u32 e = threadIdx.x; e < E; e += THREADS) chosen[e] = rank_of(keys, E, e) < k;
    __syncthreads();
    for (u32 e = threadIdx.x; e < E; e += THREADS) {
        if (!chosen[e]) continue;
        u32 slot = 0;
        for (u32 other = 0; other < e; other++) slot += chosen[other];
        expert_indices[slot] = (i32)e;
    }
    __syncthreads();
}

/* By `count` threads of which this one is number `me`. */
INLINE void make_combine_weights(const float *scores, const i32 *expert_indices, u32 k, bool normalize, float scale, float *combine_weights, u32 me, u32 count) {
    float whole = 1;
    if (normalize) {
        whole = 0;
        for (u32 j = 0; j < k; j++) whole += scores[expert_indices[j]];
        whole += 1e-20f;
    }
    for (u32 j = me; j < k; j += count) combine_weights[j] = scale * (scores[expert_indices[j]] / whole);
}

/* The same for a warp and a row: scores[E] in shared memory, picks: room for k there. */

INLINE bool warp_is_finite(const float *scores, u32 E) {
    float bad = 0;
    for (u32 e = threadIdx.x % 32; e < E; e += 32) bad += !is_finite(scores[e]);
    return warp_sum(bad) == 0;
}

INLINE void warp_softmax(float *scores, u32 E) {
    float most = minus_infinity(), sum = 0;
    for (u32 e = threadIdx.x % 32; e < E; e += 32) most = vm_max(most, scores[e]);
    most = warp_max(most);
    for (u32 e = threadIdx.x % 32; e < E; e += 32) {
        scores[e] = vm_exp(scores[e] - most);
        sum += scores[e];
    }
    sum = warp_sum(sum);
    for (u32 e = threadIdx.x % 32; e < E; e += 32) scores[e] = scores[e] / sum;
    __syncwarp();
}

/* One expert after the other: the best of those that come behind the last one in the order of select_experts. */
INLINE void warp_select(const Keys &keys, u32 E, u32 k, i32 *picks, i32 *expert_indices) {
    const u32 lane = threadIdx.x % 32;
    float last = -minus_infinity();
    i32 last_at = -1;
    for (u32 round = 0; round < k; round++) {
        float best = minus_infinity();
        i32 best_at = (i32)E;
        for (i32 e = (i32)lane; e < (i32)E; e += 32) {
            const float key = key_of(keys, e);
            const bool behind = key < last || (key == last && e > last_at);
            if (!behind || (best_at < (i32)E && key <= best)) continue;
            best = key;
            best_at = e;
        }
        for (u32 distance = 16; distance > 0; distance /= 2) {
            const float key = __shfl_xor_sync(ALL_LANES, best, distance);
            const i32 at = __shfl_xor_sync(ALL_LANES, best_at, distance);
            if (at == (i32)E || (best_at < (i32)E && (key < best || (key == best && at > best_at)))) continue;
            best = key;
            best_at = at;
        }
        if (lane == 0) picks[round] = best_at;
        last = best;
        last_at = best_at;
    }
    __syncwarp();
    for (u32 j = lane; j < k; j += 32) {
        u32 slot = 0;
        for (u32 other = 0; other < k; other++) slot += picks[other] < picks[j];
        expert_indices[slot] = picks[j];
    }
    __syncwarp();
}
