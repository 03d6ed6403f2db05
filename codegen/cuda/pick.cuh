/* Picking tokens from logits, as runtime/sampler.c does: candidates are ordered by logit, then lower id first; top_k keeps a prefix of that
 * order, top_p the shortest prefix that has so much of the probability. A prefix is a Cut: all above a key, and the first few of those
 * at it, found digit by digit over histograms. Weights are added as integers, in units of 2^-40 of the largest, so that no order of
 * threads shows in a sum.
 *
 * A block takes a sequence. Where there is one sequence all blocks look for its candidates first: each takes a slice of the ids, and keeps
 * what is not below the k-th largest of the slices' largest keys; the k best of all ids are among them. */

struct Pick { /* RtCudaPick of ir/cuda_image.h */
    u64 random;
    float temperature, top_p;
    i32 top_k;
    u32 from, ended, no_number;
};

struct Control { /* RtCudaControl */
    GridBarrier barrier;
    u32 steps, picking, done, pad;
    i32 eos[16];
    u32 pad3;
    i32 limit;
    Global<const u32> gaps;
    Global<Pick> picks;
    Global<i32> picked;
    Global<u64> random;
};

struct Cut {
    u32 key;
    u32 ties; /* of those with exactly this key, the first ones by id */
};

/* What a block needs in shared memory; picking_memory() is where it lies. */
struct Picking {
    u64 bins[256];
    u64 sums[THREADS / 8]; /* of runs of threads */
    u32 keys[WARPS], ids[WARPS];
    u64 above;
    u32 bin, id;
};
static_assert(sizeof(Picking) <= PICK_BYTES && sizeof(Pick) == PICK_SIZE && sizeof(Control) == CONTROL_SIZE, "as the host has them");

INLINE Picking *picking_memory() {
    SHARED(shared);
    return (Picking *)shared;
}

struct Candidates {
    Global<const float> logits;
    Global<const u32> gaps;
    Global<const u32> keys, ids; /* [n] of those that were kept; NULL: all ids below n */
    u32 n;
    float largest, temperature;
    Cut cut;
};

/* key_of_logit; 0 for ids that stand for nothing as well. */
INLINE u32 logit_key(const Candidates *c, u32 id) {
    if (c->keys) return c->keys[id];
    return is_gap(c->gaps, id) ? 0 : key_of_logit(c->logits[id]);
}
INLINE float key_logit(u32 key) { return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

INLINE u64 weight_of(const Candidates *c, u32 key) {
    return (u64)(vm_exp((key_logit(key) - c->largest) / c->temperature) * 0x1p40f);
}

/* The first of the largest, and its key. */
CALLED u32 largest_id(const Candidates *c, Picking *s, u32 *out_key) {
    u32 key = 0, id = 0;
    for (u32 i = threadIdx.x; i < c->n; i += THREADS) {
        const u32 other = logit_key(c, i);
        if (other > key) key = other, id = i;
    }
    for (u32 distance = 16; distance > 0; distance /= 2) {
        const u32 other = __shfl_xor_sync(ALL_LANES, key, distance), other_id = __shfl_xor_sync(ALL_LANES, id, distance);
        if (other > key || (other == key && other_id < id)) key = other, id = other_id;
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) s->keys[threadIdx.x / 32] = key, s->ids[threadIdx.x / 32] = id;
    __syncthreads();
    key = s->keys[0], id = s->ids[0];
#pragma unroll 1
    for (u32 w = 1; w < WARPS; w++) {
        if (s->keys[w] > key || (s->keys[w] == key && s->ids[w] < id)) key = s->keys[w], id = s->ids[w];
    }
    *out_key = key;
    return id;
}

/* Threads take runs of ids in rising order. */
INLINE u32 run_begin(const Candidates *c, u32 thread) { return (u32)((u64)c->n * thread / THREADS); }

/* The sum of v over the threads before this one; *out_all: over all. Threads take turns by eights. */
CALLED u64 sum_before(u64 v, Picking *s, u64 *out_all) {
    __syncthreads();
    s->bins[threadIdx.x] = v;
    __syncthreads();
    if (threadIdx.x < THREADS / 8) {
        u64 sum = 0;
        for (u32 i = 0; i < 8; i++) sum += s->bins[threadIdx.x * 8 + i];
        s->sums[threadIdx.x] = sum;
    }
    __syncthreads();
    u64 before = 0, all = 0;
#pragma unroll 1
    for (u32 i = 0; i < THREADS / 8; i++) {
        if (i < threadIdx.x / 8) before += s->sums[i];
        all += s->sums[i];
    }
    for (u32 i = threadIdx.x / 8 * 8; i < threadIdx.x; i++) before += s->bins[i];
    *out_all = all;
    return before;
}

/* How many candidates have exactly the cut's key, in the runs before this thread's. */
CALLED u64 ties_before(const Candidates *c, Picking *s, u64 *out_all) {
    u64 mine = 0;
#pragma unroll 1
    for (u32 i = run_begin(c, threadIdx.x); i < run_begin(c, threadIdx.x + 1); i++) mine += logit_key(c, i) == c->cut.key;
    return sum_before(mine, s, out_all);
}

/* Whether a candidate is inside the cut; *ties counts those at the key, over a walk in rising id. */
INLINE bool is_inside(const Candidates *c, u32 key, u64 *ties) {
    if (key != c->cut.key) return key > c->cut.key;
    return key != 0 && (*ties)++ < c->cut.ties;
}

/* Measures of the candidates inside whose key begins with `prefix`, by their next digit. */
CALLED void fill_bins(const Candidates *c, bool counting, u32 prefix, u32 shift, u64 ties, Picking *s) {
    __syncthreads();
    s->bins[threadIdx.x] = 0;
    __syncthreads();
#pragma unroll 1
    for (u32 i = run_begin(c, threadIdx.x); i < run_begin(c, threadIdx.x + 1); i++) {
        const u32 key = logit_key(c, i);
        if (is_inside(c, key, &ties) && (u64)key >> (shift + 8) == prefix) {
            atomicAdd(&s->bins[key >> shift & 255], counting ? (u64)1 : weight_of(c, key));
        }
    }
    __syncthreads();
}

/* The bin at which `above` plus the bins from the top reaches the target, or the lowest that holds anything. */
CALLED u32 find_bin(Picking *s, u64 target, u64 *above) {
    if (threadIdx.x == 0) {
        u64 before = *above;
        s->bin = 0, s->above = before;
#pragma unroll 1
        for (i32 bin = 255; bin >= 0; bin--) {
            if (s->bins[bin] == 0) continue;
            s->bin = bin, s->above = before;
            if (before + s->bins[bin] >= target) break;
            before += s->bins[bin];
        }
    }
    __syncthreads();
    *above = s->above;
    return s->bin;
}

/* The prefix of candidates whose measures, added up, first reach `target`. */
CALLED Cut find_cut(const Candidates *c, bool counting, u64 target, Picking *s) {
    u64 all, above = 0;
    const u64 ties = ties_before(c, s, &all);
    u32 key = 0;
#pragma unroll 1
    for (i32 shift = 24; shift >= 0; shift -= 8) {
        fill_bins(c, counting, key, shift, ties, s);
        key = key << 8 | find_bin(s, target, &above);
    }
    const u64 unit = counting ? 1 : weight_of(c, key), available = s->bins[key & 255] / (unit ? unit : 1);
    u64 wanted = target <= above ? 1 : unit ? (target - above + unit - 1) / unit : 1;
    wanted = wanted < 1 ? 1 : wanted > available && available > 0 ? available : wanted;
    return Cut{key, (u32)wanted};
}

/* The weights inside, of this thread's run. */
INLINE u64 run_weight(const Candidates *c, u64 ties) {
    u64 sum = 0;
#pragma unroll 1
    for (u32 i = run_begin(c, threadIdx.x); i < run_begin(c, threadIdx.x + 1); i++) {
        const u32 key = logit_key(c, i);
        if (is_inside(c, key, &ties)) sum += weight_of(c, key);
    }
    return sum;
}

/* The id at which the weights inside, added up in rising id, pass the part u of their sum. */
CALLED u32 draw_id(const Candidates *c, double u, Picking *s) {
    u64 all_ties, all;
    u64 ties = ties_before(c, s, &all_ties);
    const u64 mine = run_weight(c, ties), before = sum_before(mine, s, &all);
    const u64 target = (u64)(u * (double)all);
    if (mine > 0 && before <= target && target < before + mine) { /* one thread's */
        u64 sum = before;
#pragma unroll 1
        for (u32 i = run_begin(c, threadIdx.x); i < run_begin(c, threadIdx.x + 1); i++) {
            const u32 key = logit_key(c, i);
            if (is_inside(c, key, &ties)) sum += weight_of(c, key);
            if (sum > target) {
                s->id = i;
                break;
            }
        }
    }
    __syncthreads();
    return s->id;
}

INLINE double draw_uniform(u64 *state) { /* splitmix64; in [0, 1) */
    u64 z = *state += 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* By all threads of a block. *random moves on where a token is drawn. */
INLINE u32 pick_token(Candidates *c, const Pick *pick, u64 *random, u32 *out_key, Picking *s) {
    const u32 id = largest_id(c, s, out_key);
    if (*out_key == 0 || !(pick->temperature > 0)) return id;
    const double u = draw_uniform(random);
    c->largest = key_logit(*out_key);
    c->temperature = pick->temperature;
    if (!is_finite(c->largest)) return id;
    c->cut = Cut{0x007fffffu, 0}; /* above minus infinity */
    if (pick->top_k > 0 && pick->top_k < c->n) c->cut = find_cut(c, true, pick->top_k, s);
    if (pick->top_p < 1) {
        u64 all_ties, sum;
        sum_before(run_weight(c, ties_before(c, s, &all_ties)), s, &sum);
        c->cut = find_cut(c, false, (u64)((double)pick->top_p * (double)sum), s);
    }
    __syncthreads();
    s->id = id; /* where rounding leaves nobody */
    return draw_id(c, u, s);
}

INLINE Candidates candidates_of(const Step *step, const Control *control, u32 i, u32 turn) {
    Candidates c = {};
    c.logits = {step->logits + (turn == 0 ? control->picks[i].from : i) * step->out_stride};
    c.gaps = control->gaps;
    c.n = (u32)control->limit;
    return c;
}

/* Where a block keeps candidates: as they come, then by id. In step->scratch, a List for each sequence. */
struct List {
    u32 found_keys[MOST_KEPT], found_ids[MOST_KEPT], keys[MOST_KEPT], ids[MOST_KEPT];
};

/* The k-th largest of the threads' `mine`, k ≤ THREADS. */
INLINE u32 kth_largest(u32 mine, u32 k, Picking *s) {
    __syncthreads();
    s->bins[threadIdx.x] = mine;
    __syncthreads();
    u32 rank = 0;
    for (u32 other = 0; other < THREADS; other++) rank += s->bins[other] > mine || (s->bins[other] == mine && other < threadIdx.x);
    if (rank == k - 1) s->bin = mine;
    __syncthreads();
    return s->bin;
}

/* By one block: only candidates that may be among the k best stay, those not below the k-th largest of the threads' largest keys. All
 * stay where that would leave too many. */
CALLED void keep_best(Candidates *c, u32 k, List *list) {
    SHARED(shared);
    ASSUME_GLOBAL(list);
    Picking *s = (Picking *)shared;
    u32 mine = 0;
#pragma unroll 4
    for (u32 i = threadIdx.x; i < c->n; i += THREADS) {
        const u32 key = logit_key(c, i);
        mine = key > mine ? key : mine;
    }
    const u32 kth = kth_largest(mine, k, s), least = kth > 0 ? kth : 1;
    if (threadIdx.x == 0) s->id = 0;
    __syncthreads();
#pragma unroll 4
    for (u32 i = threadIdx.x; i < c->n; i += THREADS) {
        const u32 key = logit_key(c, i);
        if (key < least) continue;
        const u32 at = atomicAdd(&s->id, 1u);
        if (at < MOST_KEPT) list->found_keys[at] = key, list->found_ids[at] = i;
    }
    __syncthreads();
    const u32 count = s->id;
    if (count > MOST_KEPT) return;
    for (u32 i = threadIdx.x; i < count; i += THREADS) {
        const u32 id = list->found_ids[i];
        u32 rank = 0;
        for (u32 other = 0; other < count; other++) rank += list->found_ids[other] < id;
        list->keys[rank] = list->found_keys[i];
        list->ids[rank] = id;
    }
    __syncthreads();
    c->keys = {list->keys};
    c->ids = {list->ids};
    c->n = count;
}

/* By all threads of a block: sequence i gets its token. */
CALLED void pick_from(Candidates *c, const Step *step, Control *control, u32 i) {
    SHARED(shared);
    Picking *s = (Picking *)shared;
    Pick *pick = &control->picks[i];
    u64 random = pick->random;
    u32 key;
    u32 id = pick_token(c, pick, &random, &key, s);
    if (c->ids) id = c->ids[id];
    if (threadIdx.x == 0) {
        step->tokens[step->segments[i].first_row] = (i32)id;
        control->random[i] = random;
        pick->no_number = key == 0;
        bool ended = false;
        for (int e = 0; e < 16; e++) ended |= (i32)id == control->eos[e];
        pick->ended = key != 0 && ended;
    }
    __syncthreads();
}

/* Picks every sequence's next token into step->tokens, a block a sequence. */
INLINE void pick_tokens(const Step *step, Control *control, u32 turn) {
    for (u32 i = blockIdx.x; i < step->n_segments; i += gridDim.x) {
        const Pick *pick = &control->picks[i];
        Candidates c = candidates_of(step, control, i, turn);
        if (pick->temperature > 0 && pick->top_k > 0 && pick->top_k <= THREADS && c.n >= 4 * THREADS) {
            keep_best(&c, (u32)pick->top_k, (List *)step->scratch + i);
        }
        pick_from(&c, step, control, i);
    }
}

/* ---------------------------------------------------------------------------------------------- one sequence, all blocks */

/* In step->scratch: of every block its slice's largest key and how many it kept, then what is kept, slice by slice and in one. */
struct Kept {
    u32 *largest, *counts;     /* [MOST_SLICES] */
    u32 *slice_keys, *slice_ids; /* [V] */
    u32 *keys, *ids;             /* [V] */
};
INLINE Kept kept_in(u8 *scratch, u32 V) {
    u32 *at = (u32 *)scratch;
    return Kept{at, at + MOST_SLICES, at + 2 * MOST_SLICES, at + 2 * MOST_SLICES + V, at + 2 * MOST_SLICES + 2 * V,
                at + 2 * MOST_SLICES + 3 * V};
}

INLINE u32 slice_begin(const Candidates *c, u32 block) { return (u32)((u64)c->n * block / gridDim.x); }

INLINE void find_largest(const Candidates *c, const Kept *kept, Picking *s) {
    const u32 end = slice_begin(c, blockIdx.x + 1);
    u32 key = 0;
    for (u32 i = slice_begin(c, blockIdx.x) + threadIdx.x; i < end; i += THREADS) {
        const u32 other = logit_key(c, i);
        key = other > key ? other : key;
    }
    for (u32 distance = 16; distance > 0; distance /= 2) {
        const u32 other = __shfl_xor_sync(ALL_LANES, key, distance);
        key = other > key ? other : key;
    }
    if (threadIdx.x % 32 == 0) s->keys[threadIdx.x / 32] = key;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (u32 w = 1; w < WARPS; w++) key = s->keys[w] > key ? s->keys[w] : key;
        kept->largest[blockIdx.x] = key;
    }
}

/* The k-th largest of the slices' largest keys, k ≤ gridDim.x; every block finds it. */
INLINE u32 find_least(const Kept *kept, u32 k, Picking *s) {
    for (u32 i = threadIdx.x; i < gridDim.x; i += THREADS) {
        const u32 key = kept->largest[i];
        u32 rank = 0;
        for (u32 other = 0; other < gridDim.x; other++) rank += kept->largest[other] > key || (kept->largest[other] == key && other < i);
        if (rank == k - 1) s->bin = key;
    }
    __syncthreads();
    return s->bin;
}

/* Of this block's slice, in rising id. A key of 0 is never kept. */
INLINE void keep_slice(const Candidates *c, const Kept *kept, u32 least, Picking *s) {
    const u32 begin = slice_begin(c, blockIdx.x), size = slice_begin(c, blockIdx.x + 1) - begin;
    const u32 first = begin + (u32)((u64)size * threadIdx.x / THREADS), end = begin + (u32)((u64)size * (threadIdx.x + 1) / THREADS);
    u64 mine = 0, all;
    for (u32 i = first; i < end; i++) mine += logit_key(c, i) >= least && logit_key(c, i) != 0;
    u32 at = begin + (u32)sum_before(mine, s, &all);
    for (u32 i = first; i < end && mine > 0; i++) {
        const u32 key = logit_key(c, i);
        if (key < least || key == 0) continue;
        kept->slice_keys[at] = key;
        kept->slice_ids[at++] = i;
    }
    if (threadIdx.x == 0) kept->counts[blockIdx.x] = (u32)all;
}

/* All slices' in one, by one block. */
INLINE Candidates gather_slices(const Candidates *c, const Kept *kept, Picking *s) {
    const u32 first = gridDim.x * threadIdx.x / THREADS, end = gridDim.x * (threadIdx.x + 1) / THREADS;
    u64 mine = 0, all;
    for (u32 b = first; b < end; b++) mine += kept->counts[b];
    u32 at = (u32)sum_before(mine, s, &all);
    for (u32 b = first; b < end; b++) {
        const u32 begin = slice_begin(c, b);
        for (u32 i = 0; i < kept->counts[b]; i++, at++) {
            kept->keys[at] = kept->slice_keys[begin + i];
            kept->ids[at] = kept->slice_ids[begin + i];
        }
    }
    __syncthreads();
    Candidates gathered = *c;
    gathered.keys = {kept->keys};
    gathered.ids = {kept->ids};
    gathered.n = (u32)all;
    return gathered;
}

/* Picks the only sequence's next token into step->tokens. */
CALLED void pick_together(const Step *step, Control *control, u32 turn, u32 *barriers) {
    SHARED(shared);
    Picking *s = (Picking *)shared;
    Candidates c = candidates_of(step, control, 0, turn);
    const Pick *pick = control->picks;
    const u32 k = pick->temperature > 0 ? (u32)pick->top_k : 1;
    if (k == 0 || k > gridDim.x || gridDim.x > MOST_SLICES || c.n < 4 * gridDim.x) { /* slices would not help */
        if (blockIdx.x == 0) pick_from(&c, step, control, 0);
        return;
    }
    const Kept kept = kept_in(step->scratch, c.n);
    find_largest(&c, &kept, s);
    grid_barrier(&control->barrier, ++*barriers);
    keep_slice(&c, &kept, find_least(&kept, k, s), s);
    grid_barrier(&control->barrier, ++*barriers);
    if (blockIdx.x != 0) return;
    Candidates gathered = gather_slices(&c, &kept, s);
    pick_from(&gathered, step, control, 0);
}

/* What logits the blocks note (note_best). */
INLINE void hold_picking(const Control *control) {
    if (threadIdx.x != 0) return;
    held()->gaps = control->gaps;
    held()->limit = (u32)control->limit;
}

/* Whether the most likely token is asked for, from logits of this launch whose best every block has noted. */
INLINE bool picks_noted(const Control *control, u32 turn) {
    return turn > 0 && gridDim.x <= MOST_SLICES && !(control->picks->temperature > 0);
}

/* Every block finds the most likely token, for itself: no barrier follows. Whether it is fed; then it is held, and the sequence is one
 * longer, which others than the first block may read behind the next barrier. */
CALLED bool take_noted(const Step *step, Control *control, u32 turn) {
    Picking *s = picking_memory();
    u64 best = 0;
    for (u32 i = threadIdx.x; i < gridDim.x; i += THREADS) {
        const u64 other = ((const u64 *)(u8 *)step->scratch)[i];
        best = other > best ? other : best;
    }
    best = best_of_warp(best);
    __syncthreads();
    if (threadIdx.x % 32 == 0) s->sums[threadIdx.x / 32] = best;
    __syncthreads();
    for (u32 w = 0; w < WARPS; w++) best = s->sums[w] > best ? s->sums[w] : best;
    const i32 id = (i32)(0xffffffffu - (u32)best);
    bool ended = false;
    for (int e = 0; e < 16; e++) ended |= best != 0 && id == control->eos[e];
    const bool stops = best == 0 || ended || step->nonfinite[0] != 0;
    if (threadIdx.x == 0) held()->token = id;
    if (blockIdx.x == 0 && threadIdx.x == 0) {
        control->picks->no_number = best == 0;
        control->picks->ended = ended;
        if (!stops) {
            control->picked[turn] = id;
            step->segments->position++;
            step->row_position[step->segments->first_row]++;
        }
    }
    __syncthreads();
    return !stops;
}

/* Whether a sequence ends here, or a router of the step before was not finite: nobody's token is fed then. */
CALLED bool has_ended(const Step *step, const Control *control) {
    bool ended = false;
    for (u32 i = threadIdx.x; i < step->n_segments; i += THREADS) ended = ended || control->picks[i].ended || control->picks[i].no_number;
    for (u32 i = threadIdx.x; i < step->rows; i += THREADS) ended = ended || step->nonfinite[i] != 0;
    return __syncthreads_or(ended);
}

/* The picked tokens are the step's now: they are written down, and where this is not the first step every sequence is one longer. */
CALLED void take_tokens(const Step *step, Control *control, u32 turn) {
    if (blockIdx.x != 0) return;
    for (u32 i = threadIdx.x; i < step->n_segments; i += THREADS) {
        Segment *segment = &step->segments[i];
        control->picked[turn * step->n_segments + i] = step->tokens[segment->first_row];
        control->picks[i].random = control->random[i];
        if (turn == 0) continue;
        segment->position++;
        step->row_position[segment->first_row]++;
    }
}
