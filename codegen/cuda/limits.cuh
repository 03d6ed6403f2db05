/* Kernels that do one thing as fast as a GPU can: what a model's kernels are held against. A text of its own; mossc prints this file
 * behind an enum of THREADS, CHAINS, STEPS (limits.c). An entry does CHAINS x STEPS operations a thread and round (a warp, of
 * products), in registers: CHAINS that do not wait for each other. `out` [blocks * THREADS] gets what is left of them, so that a
 * compiler takes nothing away. */

typedef unsigned int u32;

#ifndef MOSSC_SIMT
#define ENTRY(name) extern "C" __global__ void __launch_bounds__(THREADS) name
#define INLINE static __device__ __forceinline__
/* 2^-x, one instruction of the special-function unit. */
INLINE float power_of_minus(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(-x));
    return y;
}
/* acc += a b, of 16 x 8 x 16 numbers. */
INLINE void multiply(float4 &acc, const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(acc.x), "+f"(acc.y), "+f"(acc.z), "+f"(acc.w)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else /* that it runs is all that a CPU can show */
INLINE float power_of_minus(float x) { return exp2f(-x); }
INLINE void multiply(float4 &acc, const u32 (&a)[4], const u32 (&b)[2]) { acc.x += __uint_as_float(a[0]) * __uint_as_float(b[0]); }
#endif

INLINE u32 this_thread() { return blockIdx.x * THREADS + threadIdx.x; }

ENTRY(fma_limit)(float *out, u32 rounds) {
    const float a = 0.5f + 0.001f * threadIdx.x, b = 1.0f - a;
    float acc[CHAINS], sum = 0;
#pragma unroll
    for (u32 i = 0; i < CHAINS; i++) acc[i] = a * i;
    for (u32 round = 0; round < rounds; round++) {
#pragma unroll
        for (u32 i = 0; i < CHAINS * STEPS; i++) acc[i % CHAINS] = fmaf(acc[i % CHAINS], a, b);
    }
#pragma unroll
    for (u32 i = 0; i < CHAINS; i++) sum += acc[i];
    out[this_thread()] = sum;
}

ENTRY(exp_limit)(float *out, u32 rounds) {
    float acc[CHAINS], sum = 0;
#pragma unroll
    for (u32 i = 0; i < CHAINS; i++) acc[i] = 0.01f * (threadIdx.x + i);
    for (u32 round = 0; round < rounds; round++) {
#pragma unroll
        for (u32 i = 0; i < CHAINS * STEPS; i++) acc[i % CHAINS] = power_of_minus(acc[i % CHAINS]);
    }
#pragma unroll
    for (u32 i = 0; i < CHAINS; i++) sum += acc[i];
    out[this_thread()] = sum;
}

#if TENSOR_CORES
/* A pair of bf16 between 0.5 and 2, of either sign: zeros would need less power, and clocks rise with that. */
INLINE u32 some_pair(u32 seed) { return ((threadIdx.x + 256 * seed) * 2654435761u & 0x80ff80ffu) | 0x3f003f00u; }

ENTRY(mma_limit)(float *out, u32 rounds) {
    const u32 a[4] = {some_pair(0), some_pair(1), some_pair(2), some_pair(3)}, b[2] = {some_pair(4), some_pair(5)};
    float4 acc[CHAINS] = {};
    float sum = 0;
    for (u32 round = 0; round < rounds; round++) {
#pragma unroll
        for (u32 i = 0; i < CHAINS * STEPS; i++) multiply(acc[i % CHAINS], a, b);
    }
#pragma unroll
    for (u32 i = 0; i < CHAINS; i++) sum += acc[i].x + acc[i].y + acc[i].z + acc[i].w;
    out[this_thread()] = sum;
}
#endif
