/* Products on tensor cores, for limits.cuh: CHAINS x STEPS of them a warp and round. */

#ifndef MOSSC_SIMT
/* acc += a b, of 16 x 8 x 16 numbers. */
INLINE void multiply(float4 &acc, const u32 (&a)[4], const u32 (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(acc.x), "+f"(acc.y), "+f"(acc.z), "+f"(acc.w)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
#else
INLINE void multiply(float4 &acc, const u32 (&a)[4], const u32 (&b)[2]) { acc.x += __uint_as_float(a[0]) * __uint_as_float(b[0]); }
#endif

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
