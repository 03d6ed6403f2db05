/* What sm_90a has beside other GPUs, an instruction each; mossc prints this file for that target alone. Sections are those of NVIDIA's PTX
 * ISA 8.x, "Instruction set". tests/simt/hopper.h has each of them again, for the CPU.
 *
 * A *warpgroup* is four warps in a row that multiply together; all its threads execute each WGMMA instruction. Bulk copies and products
 * reach shared memory through the *async proxy*: what ordinary stores wrote it sees behind FENCE_ASYNC_PROXY, and what it wrote
 * ordinary loads see behind a barrier in memory that its bytes were counted at. */

typedef u64 Mbarrier; /* in shared memory, aligned to 8 bytes */

enum { WARPGROUP = 128, SWIZZLE_ROW = 128 /* bytes */, SWIZZLE_ATOM = 8 * SWIZZLE_ROW };

#ifndef MOSSC_SIMT
#define MBARRIER_POLLS (1u << 20) /* each of them may take the GPU's own limit, far more than a poll of memory */
#define ENTRY_OF_WARPGROUPS(name) extern "C" __global__ void __launch_bounds__(WARPGROUP_THREADS, 1) name

/* "Cvta": the address that descriptors and barriers are named by. */
INLINE u32 shared_address(const void *at) { return (u32)__cvta_generic_to_shared(at); }

/* "mbarrier.init": the phase is 0, and ends when `count` arrivals and all expected bytes have come. By one thread, before
 * FENCE_ASYNC_PROXY (bytes arrive from there) and a barrier of the block. */
#define MBARRIER_INIT(at, count) asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(at)), "r"(count) : "memory")
/* "mbarrier.arrive": one arrival, which releases what this thread did before. */
#define MBARRIER_ARRIVE(at) asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(at)) : "memory")
/* "mbarrier.arrive", .expect_tx: the phase also waits for `bytes` of copies; then one arrival. */
#define MBARRIER_EXPECT(at, bytes) \
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(at)), "r"(bytes) : "memory")
/* "mbarrier.test_wait / try_wait": whether the phase of this parity has ended; of a fresh barrier the one of parity 1 has. Acquires. It
 * may take some time to say no. */
INLINE bool MBARRIER_HAS_PASSED(Mbarrier *at, u32 parity) {
    u32 passed;
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(passed)
                 : "r"(shared_address(at)), "r"(parity)
                 : "memory");
    return passed;
}
/* "cp.async.bulk": bytes from global to shared memory, all three multiples of 16; they count at the barrier when they are there. */
#define BULK_COPY(to, from, bytes, barrier)                                                                          \
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)), \
                 "l"(from), "r"(bytes), "r"(shared_address(barrier))                                                 \
                 : "memory")
/* "membar / fence", .proxy.async. */
#define FENCE_ASYNC_PROXY() asm volatile("fence.proxy.async.shared::cta;" ::: "memory")
/* "bar / barrier": barrier `id` (0 is __syncthreads) of `threads` threads of the block. */
#define BARRIER_OF(id, threads) asm volatile("bar.sync %0, %1;" ::"n"((i32)(id)), "n"((i32)(threads)) : "memory")

/* "setmaxnreg": this warpgroup has so many registers a thread from here on (a multiple of 8), fewer or more than before. Those that more take
 * others must have given. */
#define FEWER_REGISTERS(n) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"((i32)(n)))
#define MORE_REGISTERS(n) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"((i32)(n)))

/* "wgmma.fence": before the first product, and before one whose registers (sums or `a`) were written since by anything but products. */
#define WGMMA_FENCE() asm volatile("wgmma.fence.sync.aligned;" ::: "memory")
/* "wgmma.commit_group": the products since the last one are a group. */
#define WGMMA_COMMIT() asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory")
/* "wgmma.wait_group": all but the last n groups are done: their sums may be read, their `a` be written, what they read of shared memory
 * be overwritten. */
#define WGMMA_WAIT(n) asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory")
/* No instruction: whoever reads a sum behind it does not read it before. */
#define WGMMA_SUM(sum) asm volatile("" : "+f"(sum)::"memory")

/* "wgmma.mma_async": acc += a b of 64 outputs, N rows and 16 k. A thread has of its warp's 16 outputs g and g + 8 ((g, t) = (lane / 4,
 * lane % 4)): a.x, a.y: k 2 t and 2 t + 1 of both, a.z, a.w: k 2 t + 8 and 2 t + 9; acc[4 j …]: rows 8 j + 2 t, 8 j + 2 t + 1 of output g, then
 * of g + 8. b: b_of_rows. */
#define TEN(d) "%" #d "0, %" #d "1, %" #d "2, %" #d "3, %" #d "4, %" #d "5, %" #d "6, %" #d "7, %" #d "8, %" #d "9, "
#define WGMMA_SUMS_32 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, " TEN(1) TEN(2) "%30, %31"
#define WGMMA_SUMS_64 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, " TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) "%60, %61, %62, %63"
#define WGMMA_SUMS_128                                                                                               \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, " TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) TEN(11) \
        "%120, %121, %122, %123, %124, %125, %126, %127"
#define EIGHT_SUMS(acc, i)                                                                                           \
    "+f"((acc)[i]), "+f"((acc)[i + 1]), "+f"((acc)[i + 2]), "+f"((acc)[i + 3]), "+f"((acc)[i + 4]), "+f"((acc)[i + 5]), \
        "+f"((acc)[i + 6]), "+f"((acc)[i + 7])
#define THIRTY_TWO_SUMS(acc, i) EIGHT_SUMS(acc, i), EIGHT_SUMS(acc, i + 8), EIGHT_SUMS(acc, i + 16), EIGHT_SUMS(acc, i + 24)
#define WGMMA_TEXT(n, type, sums, a0, a1, a2, a3, b)                                                                 \
    "{\n.reg .pred adds;\nsetp.eq.u32 adds, 0, 0;\nwgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" sums "}, {%" #a0 \
    ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b ", adds, 1, 1, 0;\n}"
#define WGMMA_OPERANDS(a, b) "r"((a).x), "r"((a).y), "r"((a).z), "r"((a).w), "l"(b)
#define WGMMA_64(type, acc, a, b) \
    asm volatile(WGMMA_TEXT(64, type, WGMMA_SUMS_32, 32, 33, 34, 35, 36) : THIRTY_TWO_SUMS(acc, 0) : WGMMA_OPERANDS(a, b))
#define WGMMA_128(type, acc, a, b)                                                                                   \
    asm volatile(WGMMA_TEXT(128, type, WGMMA_SUMS_64, 64, 65, 66, 67, 68)                                            \
                 : THIRTY_TWO_SUMS(acc, 0), THIRTY_TWO_SUMS(acc, 32)                                                 \
                 : WGMMA_OPERANDS(a, b))
#define WGMMA_256(type, acc, a, b)                                                                                   \
    asm volatile(WGMMA_TEXT(256, type, WGMMA_SUMS_128, 128, 129, 130, 131, 132)                                      \
                 : THIRTY_TWO_SUMS(acc, 0), THIRTY_TWO_SUMS(acc, 32), THIRTY_TWO_SUMS(acc, 64), THIRTY_TWO_SUMS(acc, 96) \
                 : WGMMA_OPERANDS(a, b))
#define WGMMA_BF16(n, acc, a, b) WGMMA_##n("bf16", acc, a, b)
#define WGMMA_F16(n, acc, a, b) WGMMA_##n("f16", acc, a, b)
#endif

/* "Matrix descriptor" of wgmma: rows of 64 numbers of 16 bits, one behind the other, in atoms of eight rows that begin at multiples of
 * SWIZZLE_ATOM; where the 16 k begin is added to it. Bits 0 to 13: the address, in units of 16 bytes as all; 16 to 29: the leading dimension's
 * offset, which swizzled rows do not use (1); 32 to 45: the stride dimension's, from eight rows to the next; 62 and 63: swizzled in 128 bytes
 * (1), "Strides and swizzling": bits 4 to 6 of an address are exchanged by exclusive or with its bits 7 to 9. */
INLINE u64 b_of_rows(const void *at) {
    return (u64)((shared_address(at) & 0x3ffff) >> 4) | (u64)1 << 16 | (u64)(SWIZZLE_ATOM >> 4) << 32 | (u64)1 << 62;
}
enum { B_NEXT_K = 16 * 2 >> 4 /* of the descriptor, from 16 k to the next */ };
