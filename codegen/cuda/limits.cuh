/* Kernels that do one thing as fast as a GPU can: what a model's kernels are held against. A text of its own; mossc prints this file
 * behind an enum of THREADS, CHAINS, STEPS (limits.c), and limits_mma.cuh after it where there are tensor cores. An entry does
 * CHAINS x STEPS operations a thread and round, in registers: CHAINS that do not wait for each other. `out` [blocks * THREADS] gets
 * what is left of them, so that a compiler takes nothing away. */

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
#else /* that it runs is all that a CPU can show */
INLINE float power_of_minus(float x) { return exp2f(-x); }
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
