// The instructions of codegen/cuda/hopper.cuh for the CPU, as NVIDIA's PTX ISA has them. simt.h includes this file.
//
// What a GPU does later is done as late or as early as it may be: the bytes of a bulk copy come when a thread asks the barrier that they
// count at, or, in launches of an odd order, at once. Products of a warpgroup read their operands (registers, and shared memory by its
// descriptor) and write their sums at the WGMMA_WAIT that needs them; until then the sums are no numbers. Each warp does its part of
// them by itself.
//
// Findings: a barrier in memory that is not initialised, or not known to the async proxy; bytes that are not aligned; sums or weights
// that are written while products are on their way; products without a fence, or whose weights were written behind it; products that are
// not committed or waited for; warps of a warpgroup with different products.
#pragma once

// hopper_machine.h has these.
namespace simt {

uint32_t shared_address_of(const void *at, int line);
void init_barrier(void *at, unsigned count, int line);
void arrive_at(const void *at, long long bytes, int line);
bool has_passed(const void *at, unsigned parity, int line);
void bulk_copy(void *to, const void *from, unsigned bytes, const void *barrier, int line);
void fence_async_proxy();
void product_later(int line, Numbers of, unsigned rows, float *acc, const void *weights, uint64_t b);
void fence_products();
void commit_products();
void wait_for_products(unsigned left, int line);

} // namespace simt

#define MBARRIER_POLLS 4096u
#define ENTRY_OF_WARPGROUPS(name) static void name
#define shared_address(at) simt::shared_address_of(at, __LINE__)
#define MBARRIER_INIT(at, count) simt::init_barrier(at, count, __LINE__)
#define MBARRIER_ARRIVE(at) simt::arrive_at(at, 0, __LINE__)
#define MBARRIER_EXPECT(at, bytes) simt::arrive_at(at, bytes, __LINE__)
#define MBARRIER_HAS_PASSED(at, parity) simt::has_passed(at, parity, __LINE__)
#define BULK_COPY(to, from, bytes, barrier) simt::bulk_copy(to, from, bytes, barrier, __LINE__)
#define FENCE_ASYNC_PROXY() simt::fence_async_proxy()
#define BARRIER_OF(id, threads) simt::barrier_of(id, threads, __LINE__)
#define FEWER_REGISTERS(n)
#define MORE_REGISTERS(n)
#define WGMMA_FENCE() simt::fence_products()
#define WGMMA_COMMIT() simt::commit_products()
#define WGMMA_WAIT(n) simt::wait_for_products(n, __LINE__)
#define WGMMA_SUM(sum)
#define WGMMA_BF16(n, acc, a, b) simt::product_later(__LINE__, simt::BF16_NUMBERS, n, acc, &(a), b)
#define WGMMA_F16(n, acc, a, b) simt::product_later(__LINE__, simt::F16_NUMBERS, n, acc, &(a), b)
