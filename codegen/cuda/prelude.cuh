/* What every program's kernels share begins here: words of the compiler, the step as the host describes it, the barrier of all blocks.
 * mossc prints the files of library.def in front of a program, in their order, after `enum { THREADS }`, `enum { WARPS }` and the functions
 * of the bits (vm_exp, vm_silu …), and nothing is included: NVRTC carries no headers.
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
