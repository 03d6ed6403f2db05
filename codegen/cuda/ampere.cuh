/* Instructions that are not C: asynchronous copies and products on tensor cores of sm_80 and later, and what takes the place of copies
 * before. tests/simt/simt.h has each of them again, for the CPU. */

#ifndef MOSSC_SIMT
#if __CUDA_ARCH__ >= 800
/* 16 bytes from global to shared memory, all past the first `bytes` zero; they are there for this thread after CP_ASYNC_WAIT(n) lets
 * all but the last n committed groups be done, for others after a barrier then. */
#define CP_ASYNC_16(to, from, bytes)                                                                                         \
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((u32)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes) \
                 : "memory")
#define CP_ASYNC_COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define CP_ASYNC_WAIT(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory")
#else
#define CP_ASYNC_16(to, from, bytes) (*(uint4 *)(to) = first_bytes(from, bytes))
#define CP_ASYNC_COMMIT()
#define CP_ASYNC_WAIT(n)
INLINE uint4 first_bytes(const void *from, u32 bytes) {
    ASSUME_GLOBAL(from);
    const uint4 v = bytes > 0 ? *(const uint4 *)from : uint4{0, 0, 0, 0};
    return uint4{v.x, bytes > 4 ? v.y : 0, bytes > 8 ? v.z : 0, bytes > 12 ? v.w : 0};
}
#endif
/* acc += a b, of 16 outputs, 8 rows and 16 k; all lanes of the warp. The sums may be read after MMA_DONE. */
#define MMA(type, acc, a0, a1, a2, a3, b0, b1)                                                                       \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, " \
                 "{%0, %1, %2, %3};"                                                                                 \
                 : "+f"((acc).x), "+f"((acc).y), "+f"((acc).z), "+f"((acc).w)                                        \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1))
#define MMA_BF16(acc, a0, a1, a2, a3, b0, b1) MMA("bf16", acc, a0, a1, a2, a3, b0, b1)
#define MMA_F16(acc, a0, a1, a2, a3, b0, b1) MMA("f16", acc, a0, a1, a2, a3, b0, b1)
#define MMA_DONE()
#define PREFETCH_L2(at) asm volatile("prefetch.global.L2 [%0];" ::"l"(at))
/* No instruction: an address that is held in registers, where the compiler would compute it again in every turn of a loop. */
#define HOLD_ADDRESS(at) asm("" : "+l"(at))
/* Nor here: what follows from the number is computed behind this, and not before a loop around it. */
#define FIND_ANEW(number) asm volatile("" : "+r"(number))
/* to = at + i · bytes: one instruction, where the compiler makes three of it. */
#define MAD_WIDE(to, i, bytes, at) asm("mad.wide.u32 %0, %1, %2, %3;" : "=l"(to) : "r"(i), "r"(bytes), "l"(at))
/* pair = two numbers rounded, `even` in the low half. */
#define PACK_BF16(pair, even, odd) asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(odd), "f"(even))
#define PACK_F16(pair, even, odd) asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(odd), "f"(even))
#endif

/* Phase i of a table goes to its place of the two, behind CP_ASYNC_WAIT(0) and a barrier of the block. */
INLINE void fetch_phase(const Phase *table, u32 i) {
    if (threadIdx.x < sizeof *table / 16) CP_ASYNC_16((uint4 *)&held()->phases[i % 2] + threadIdx.x, (const uint4 *)&table[i] + threadIdx.x, 16);
    CP_ASYNC_COMMIT();
}
