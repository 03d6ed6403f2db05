/* What every program's kernels share. mossc prints this file in front of them, after `enum { THREADS }`, `enum { WARPS }` and the
 * functions of the bits (vm_exp, vm_silu …), and nothing is included: NVRTC carries no headers.
 *
 * Layouts are those of the CPU: sixteen values of a row lie side by side, [panel][row][16], weights [panel][k][16] in float or in
 * pairs of k. A warp reads eight k (or eight pairs) of a panel at once: lane l has k = l / 4 and the outputs 4 (l % 4) … + 3 of
 * sixteen, 16 bytes a lane and 512 in a row. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef long long i64;

#ifndef MOSSC_SIMT /* a test compiles this for the CPU and has its own */
#define ENTRY(name) extern "C" __global__ void __launch_bounds__(THREADS, 1) name
#define ENTRY_OF_TWO(name) extern "C" __global__ void __launch_bounds__(THREADS, 2) name /* two blocks a multiprocessor */
#define DEVICE static __device__
#define CALLED static __device__ __noinline__ /* compiled once for each entry, however often it is called there */
#define INLINE static __device__ __forceinline__
#define METHOD __device__ __forceinline__
#define TABLE static __device__ const
#define EXPORTED extern "C" __device__ const
/* As many bytes as the launch gives, behind what a block holds of the step. */
#define SHARED(name)                         \
    extern __shared__ __align__(16) u8 held_and_shared[]; \
    u8 *const name = held_and_shared + HELD_BYTES
INLINE void *held_memory() {
    extern __shared__ __align__(16) u8 held_and_shared[];
    return held_and_shared;
}
#define SPIN() __nanosleep(32)
/* gridDim.x, read here: an entry would keep it in memory over all that it calls between its barriers. */
#define READ_BLOCKS(to) asm volatile("mov.u32 %0, %%nctaid.x;" : "=r"(to))
#define TRAP() __trap() /* ends the launch; nothing more can be done in this context of the driver */
#define BARRIER_POLLS (1u << 26) /* of a barrier: tens of seconds, where the slowest stage takes milliseconds */
#define ASSUME_GLOBAL(pointer) __builtin_assume(__isGlobal(pointer)) /* loads and stores through it are those of global memory */
#define ASSUME_SHARED(pointer) __builtin_assume(__isShared(pointer))
/* Of a counter that blocks meet at: the addition makes what this block wrote before it (behind its barrier) seen by those that have
 * acquired a value with it. */
INLINE void ADD_RELEASE(u32 *at, u32 v) { asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(at), "r"(v) : "memory"); }
/* Both: who adds after others sees what they wrote before. */
INLINE u32 ADD_ACQUIRE_RELEASE(u32 *at, u32 v) {
    u32 old;
    asm volatile("atom.acq_rel.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(at), "r"(v) : "memory");
    return old;
}
INLINE u32 LOAD_RELAXED(const u32 *at) {
    u32 v;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(at) : "memory");
    return v;
}
INLINE u32 LOAD_ACQUIRE(const u32 *at) {
    u32 v;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(at) : "memory");
    return v;
}
/* 2^x and a / b to about 2 units in the last place, by the special-function unit; a result below 2^-126 is 0. */
INLINE float FAST_EXP2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#define FAST_DIVIDE(a, b) __fdividef(a, b)
#endif

enum { ALL_LANES = 0xffffffff };

/* ---------------------------------------------------------------------------------------------- the step */

/* A pointer to global memory that lies in memory itself: loads and stores through it are those of global memory. */
template <class T> struct Global {
    T *at;
    METHOD operator T *() const {
        ASSUME_GLOBAL(at);
        return at;
    }
    template <class OTHER> METHOD explicit operator OTHER *() const { return (OTHER *)(T *)*this; }
    METHOD T *operator->() const { return *this; }
};

struct Segment { /* a run of rows of one sequence */
    Global<u8> state;
    i64 position; /* of its first row */
    u32 first_row, count;
};

struct Step { /* as the host's RtArgs, with pointers of the device; one token of a sequence after the other is picked in place */
    Global<const u8> weights;
    Global<u8> arena, scratch;
    Global<Segment> segments;
    Global<i32> tokens;              /* [rows] */
    Global<const i32> row_segment;   /* [rows] */
    Global<i64> row_position;        /* [rows] */
    Global<const i32> out_rows;      /* [n_out_rows] */
    Global<float> logits;            /* [n_out_rows][out_stride] */
    Global<i32> nonfinite;           /* [rows] */
    u64 out_stride, ld;
    u32 rows, n_segments, n_out_rows, pad;
};

enum Space { NOWHERE, ARENA, WEIGHTS, STATE };
enum Count { ONCE, PER_ROW, PER_ROW_BLOCK, PER_SEGMENT, PER_OUT_ROW_BLOCK, PER_POSITION_BLOCK };

struct Ref { /* byte offset per_row * ld + fixed */
    Space space;
    u64 per_row, fixed;
};

struct alignas(16) Phase {
    u32 kernel, more; /* more: the next one belongs to the same stage */
    Count count;
    u32 fixed, E, k;
    i32 block; /* of the spec */
    u32 tile0; /* rows_step: of the stage's tiles whose k several blocks share, the phase's first */
    Ref operands[18];
    u64 words_per_row, words_fixed; /* of the arena: where the kernel writes words */
};

/* Spaces in two bits each, the first one lowest. */
template <Space...> struct SpaceBits {
    enum : u64 { BITS = 0 };
};
template <Space FIRST, Space... REST> struct SpaceBits<FIRST, REST...> {
    enum : u64 { BITS = (u64)FIRST | SpaceBits<REST...>::BITS << 2 };
};

/* What a block holds of a launch in shared memory, where no barrier of the grid makes it read it again: the step, and the phase it is
 * in and the next one. */
struct Held {
    Step step;
    Phase phases[2];
    Global<const u32> gaps; /* row_step: of Control, for noting the best logit */
    u32 limit;
    i32 token; /* row_step: of the only row, where all blocks have picked it; negative: step->tokens has it */
};
static_assert(sizeof(Held) <= HELD_BYTES && HELD_BYTES % 16 == 0, "as the host gives it");
/* How far a launch of several steps is: barriers behind it, the step. Callees get the address, so that it takes no registers in kernels. */
struct Turn {
    u32 barriers, turn;
};
INLINE Held *held() { return (Held *)held_memory(); }
INLINE const Step *held_step() { return &held()->step; }

/* By all threads, before anything else of the launch; a barrier of the block must follow. */
INLINE void hold_step(const Step *step) {
    if (threadIdx.x == 0) held()->token = -1;
    if (threadIdx.x < sizeof *step / 4) ((u32 *)&held()->step)[threadIdx.x] = ((const u32 *)step)[threadIdx.x];
}
/* For a launch of one phase. */
INLINE const Phase *hold_phase(const Step *step, const Phase *phase) {
    const u32 at = threadIdx.x - 32;
    hold_step(step);
    if (at < sizeof *phase / 4) ((u32 *)held()->phases)[at] = ((const u32 *)phase)[at];
    __syncthreads();
    return held()->phases;
}

/* A phase of a kernel, whose operands lie in the same spaces in all its phases. */
template <Space... SPACES> struct PhaseOf : Phase {
    METHOD static Space space(u32 slot) { return (Space)(SpaceBits<SPACES...>::BITS >> 2 * slot & 3); }
};

/* An operand in the arena, the weights, or the state of the only sequence; the latter two take no more with more rows. */
template <class OF> INLINE u8 *operand(const Step *step, const OF *phase, u32 slot) {
    const u64 fixed = phase->operands[slot].fixed;
    if (OF::space(slot) == WEIGHTS) return (u8 *)step->weights + fixed;
    if (OF::space(slot) == STATE) return step->segments->state + fixed;
    return step->arena + (phase->operands[slot].per_row * step->ld + fixed);
}
template <class OF> INLINE float *floats(const Step *step, const OF *phase, u32 slot) { return (float *)operand(step, phase, slot); }
template <class OF> INLINE i32 *ints(const Step *step, const OF *phase, u32 slot) { return (i32 *)operand(step, phase, slot); }
INLINE float *words_of(const Step *step, const Phase *phase) {
    return (float *)(step->arena + (phase->words_per_row * step->ld + phase->words_fixed));
}
INLINE float *state_floats(const Segment *segment, const Phase *phase, u32 slot) {
    return (float *)(segment->state + phase->operands[slot].fixed);
}

/* The segment of a row: its own, where each has one row. */
INLINE const Segment *segment_of(const Step *step, u64 row) {
    return step->segments + (step->n_segments == step->rows ? (i32)row : step->row_segment[row]);
}

/* Blocks of eight positions that a step has at most: every expert's run is padded. */
INLINE u32 position_blocks(const Step *step, const Phase *phase) {
    const u32 positions = step->rows * phase->k;
    return (positions + 7) / 8 + (phase->E < positions ? phase->E : positions) - 1;
}

INLINE u32 count_of(const Step *step, const Phase *phase) {
    switch (phase->count) {
    case ONCE: return 1;
    case PER_ROW: return step->rows;
    case PER_ROW_BLOCK: return (step->rows + 7) / 8;
    case PER_SEGMENT: return step->n_segments;
    case PER_OUT_ROW_BLOCK: return (step->n_out_rows + 7) / 8;
    case PER_POSITION_BLOCK: return position_blocks(step, phase);
    }
    return 0;
}

/* The router of a row gave something that is not finite: the host looks after the step. */
INLINE void report_nonfinite(const Step *step, const Phase *phase, u32 row) {
    if (step->nonfinite[row] == 0) step->nonfinite[row] = 1 + phase->block;
}

/* Positions of a step sorted by expert. */
struct Groups {
    i32 *start;     /* [E + 1] multiples of 8; start[E]: positions in use */
    i32 *expert_of; /* [ldp / 8] of eight positions */
    i32 *row_of;    /* [ldp] */
    i32 *pos_of;    /* [ld * k] of (row, slot) */
};
INLINE Groups groups_at(i32 *table, u32 E, u64 ldp) {
    i32 *expert_of = table + E + 1, *row_of = expert_of + ldp / 8;
    return Groups{table, expert_of, row_of, row_of + ldp};
}

/* A barrier of all blocks of a launch, the n-th with `nth` = n, from 1. What was written before is seen by all after. The launch
 * is cooperative: every block is resident. Between arriving and waiting a block may do what needs nothing of the others. */
struct Stuck { /* RtCudaStuck: what a launch that waited too long leaves in memory of the host */
    u32 set, block, blocks, arrived, nth, phase;
};
struct GridBarrier { /* how RtCudaControl begins */
    u32 arrived, line[31]; /* alone in what a cache moves */
    Global<Stuck> stuck; /* 0: nobody reads it */
};
enum { NO_PHASE = 0xffffffff }; /* of a barrier between the steps of one launch */

/* The wait has no end: blocks are missing. The first one to notice says so and ends the launch; the others let it. */
CALLED void give_up(const GridBarrier *barrier, u32 nth, u32 phase) {
    Stuck *stuck = barrier->stuck;
    if (stuck) {
        while (atomicCAS(&stuck->set, 0u, 1u) != 0) SPIN();
        stuck->block = blockIdx.x;
        stuck->blocks = gridDim.x;
        stuck->arrived = LOAD_RELAXED(&barrier->arrived) - (nth - 1) * gridDim.x;
        stuck->nth = nth;
        stuck->phase = phase;
        __threadfence_system();
    }
    TRAP();
}

INLINE void arrive(GridBarrier *barrier) {
    __syncthreads();
    if (threadIdx.x == 0) {
        ADD_RELEASE(&barrier->arrived, 1u);
    }
}
/* `phase` is what comes after the barrier: a row of the step's table, or NO_PHASE. */
INLINE void wait_for_all(GridBarrier *barrier, u32 nth, u32 phase) {
    if (threadIdx.x == 0) {
        u32 polls = 0, blocks;
        READ_BLOCKS(blocks);
        while ((i32)(LOAD_RELAXED(&barrier->arrived) - nth * blocks) < 0) { /* it may wrap around */
            SPIN();
            if (++polls == BARRIER_POLLS) give_up(barrier, nth, phase);
        }
        LOAD_ACQUIRE(&barrier->arrived); /* once: it empties the first-level cache */
    }
    __syncthreads();
}
INLINE void grid_barrier(GridBarrier *barrier, u32 nth) {
    arrive(barrier);
    wait_for_all(barrier, nth, NO_PHASE);
}

/* The last block to leave makes the counter ready for the next launch. */
INLINE void leave(GridBarrier *barrier, u32 barriers) {
    if (threadIdx.x == 0 && atomicAdd(&barrier->arrived, 1u) + 1 == (barriers + 1) * gridDim.x) barrier->arrived = 0;
}

/* ---------------------------------------------------------------------------------------------- numbers */

INLINE float bf16_low(u32 pair) { return __uint_as_float(pair << 16); }
INLINE float bf16_high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

/* 2^112 moves the exponent of a half to that of a float, denormals included. */
INLINE float f16_bits(u32 half) {
    const u32 magnitude = (half & 0x7fffu) << 13;
    const float wide = (half & 0x7c00u) == 0x7c00u ? __uint_as_float(magnitude | 0x7f800000u)
                                                   : __uint_as_float(magnitude) * 0x1p112f;
    return __uint_as_float(__float_as_uint(wide) | (half & 0x8000u) << 16);
}
INLINE float f16_low(u32 pair) { return f16_bits(pair & 0xffffu); }
INLINE float f16_high(u32 pair) { return f16_bits(pair >> 16); }

INLINE bool is_finite(float x) { return fabsf(x) < __uint_as_float(0x7f800000u); }
INLINE float minus_infinity() { return __uint_as_float(0xff800000u); }

INLINE float4 splat4(float x) { return make_float4(x, x, x, x); }
INLINE float4 add4(float4 a, float4 b) { return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w); }
INLINE float sum4(float4 a) { return a.x + a.y + (a.z + a.w); }
INLINE float4 mul4(float4 a, float4 b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }
INLINE float4 fma4(float a, float4 b, float4 c) {
    return make_float4(fmaf(a, b.x, c.x), fmaf(a, b.y, c.y), fmaf(a, b.z, c.z), fmaf(a, b.w, c.w));
}
INLINE float4 fma4(float4 a, float4 b, float4 c) {
    return make_float4(fmaf(a.x, b.x, c.x), fmaf(a.y, b.y, c.y), fmaf(a.z, b.z, c.z), fmaf(a.w, b.w, c.w));
}
INLINE float dot4(float4 a, float4 b, float c) {
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, c))));
}
/* f of each of four values. */
#define EACH4(f, v) make_float4(f((v).x), f((v).y), f((v).z), f((v).w))

INLINE float4 *quad(float *at) { return (float4 *)at; }
INLINE const float4 *quad(const float *at) { return (const float4 *)at; }

/* Where the last bit is of no use: e^x with relative error 2.4e-7 + 1.2e-7 |x|, and what is made of it. */
#define LOG2_E 1.44269504f
INLINE float fast_exp(float x) { return FAST_EXP2(x * LOG2_E); }
INLINE float fast_softplus(float x) { return vm_max(0.0f, x) + vm_log1p(fast_exp(-fabsf(x))); }
/* Limits that let NaN through. */
INLINE float raised(float x, float low) { return x < low ? low : x; }
INLINE float lowered(float x, float high) { return high < x ? high : x; }
INLINE float fast_silu(float x) { return FAST_DIVIDE(x, 1.0f + fast_exp(-x)); }

/* ---------------------------------------------------------------------------------------------- logits */

/* Rises with the logit; both zeros are equal; 0 for NaN. */
INLINE u32 key_of_logit(float logit) {
    const u32 bits = __float_as_uint(logit == 0 ? 0.0f : logit);
    return logit != logit ? 0 : bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
INLINE bool is_gap(const u32 *gaps, u32 id) { return gaps && (gaps[id / 32] >> id % 32 & 1); }

/* The best of the logits that a thread of row_step has made: its key, and lower ids first among equals; 0: none. */
INLINE u64 better_logit(u64 best, float logit, u32 id) {
    const u32 key = id < held()->limit && !is_gap(held()->gaps, id) ? key_of_logit(logit) : 0;
    const u64 both = key == 0 ? 0 : (u64)key << 32 | (0xffffffffu - id);
    return both > best ? both : best;
}
INLINE u64 better_logits(u64 best, float4 v, u32 id) {
    return better_logit(better_logit(better_logit(better_logit(best, v.x, id), v.y, id + 1), v.z, id + 2), v.w, id + 3);
}
INLINE u64 best_of_warp(u64 best) {
    for (u32 distance = 16; distance > 0; distance /= 2) {
        const u32 high = __shfl_xor_sync(ALL_LANES, (u32)(best >> 32), distance);
        const u32 low = __shfl_xor_sync(ALL_LANES, (u32)best, distance);
        const u64 other = (u64)high << 32 | low;
        best = other > best ? other : best;
    }
    return best;
}
/* The block's, for all blocks to read behind the next barrier. Only the first warp has made logits. */
INLINE void note_best(u8 *scratch, u64 best) {
    if (threadIdx.x >= 32) return;
    best = best_of_warp(best);
    if (threadIdx.x == 0) ((u64 *)scratch)[blockIdx.x] = best;
}

/* ---------------------------------------------------------------------------------------------- weights
 *
 * 16-bit panels in the device's memory are arranged: of two lines (pairs of k) 2 t and 2 t + 1 the quad q of the first is outputs 4 q and
 * 4 q + 1 at both pairs, that of the second outputs 4 q + 2 and 4 q + 3; 16 bytes are then what a lane gives to a product of tensor cores.
 * In the host's panels a quad is four outputs at one pair. A last line without a partner stays as it was. */

struct Panels {
    u64 offset, count;
    u32 lines, pad;
};

/* Arranges 16-bit panels as the host packs them; arranged ones become as the host's. By all threads of all blocks. */
INLINE void arrange(u8 *weights, const Panels *panels) {
    const u64 pairs = panels->lines / 2, quads = panels->count * pairs * 4, stride = (u64)gridDim.x * THREADS;
    for (u64 i = (u64)blockIdx.x * THREADS + threadIdx.x; i < quads; i += stride) {
        const u64 panel = i / 4 / pairs, pair = i / 4 % pairs;
        uint4 *a = (uint4 *)(weights + panels->offset) + (panel * panels->lines + 2 * pair) * 4 + i % 4, *b = a + 4;
        const uint4 first = *a, second = *b;
        *a = uint4{first.x, first.y, second.x, second.y};
        *b = uint4{first.z, first.w, second.z, second.w};
    }
}

/* acc[row] += w · x[row] for one row, or eight. */
INLINE void add_row(float4 *acc, float4 w, const float *x) { acc[0] = fma4(x[0], w, acc[0]); }
INLINE void add_8_rows(float4 *acc, float4 w, const float *x) {
    const float4 a = *quad(x), b = *quad(x + 4);
    acc[0] = fma4(a.x, w, acc[0]);
    acc[1] = fma4(a.y, w, acc[1]);
    acc[2] = fma4(a.z, w, acc[2]);
    acc[3] = fma4(a.w, w, acc[3]);
    acc[4] = fma4(b.x, w, acc[4]);
    acc[5] = fma4(b.y, w, acc[5]);
    acc[6] = fma4(b.z, w, acc[6]);
    acc[7] = fma4(b.w, w, acc[7]);
}

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
