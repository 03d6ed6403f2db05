// Runs CUDA C on a CPU, to see whether it is right; nothing here is fast. What codegen/cuda prints is compiled as C++17 behind this
// header: every thread of a block is a fiber, which runs until it has to wait for others (a barrier, a shuffle, other blocks) and
// then gives way. The order in which threads and blocks take turns is the caller's to choose: code that lacks a barrier gives
// different results in different orders. What no order shows are mistakes in the use of memory fences; races.h finds those.
//
// Findings, which end the launch: threads of a block that wait at different barriers, a barrier that some threads never reach, a
// shuffle that not all named lanes take part in, blocks that wait for each other in vain, lanes of a warp with different products,
// copies that nobody waits for, or that are not of 16 or 4 aligned bytes from outside of shared memory into it. An access that is not aligned
// to its type is a SIGILL (CMakeLists.txt). Shared memory ends at a page that cannot be touched and begins with garbage.
//
// What a GPU does later is done as late as it may be: copies (CP_ASYNC_…) at the CP_ASYNC_WAIT that lets them be done, products of a
// warp (MMA_…) at MMA_DONE, which is a barrier of all lanes; so a wait that is missing gives wrong values.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "launch.h"
#include "races.h"

// machine.cpp has these. `line` is that of the text, for findings.
namespace simt {

struct Index {
    unsigned x;
};
Index thread_index();
Index block_index();
Index grid_size();

// Shared memory of the block, and what an address must be.
unsigned char *shared();
void assume_global(const void *at, int line);
void assume_shared(const void *at, int line);

// Waiting for others: of the block, of some of it, with a vote, of the warp; for other blocks; for ever.
void barrier(int line);
void barrier_of(unsigned id, unsigned threads, int line);
int vote(int line, int condition);
void sync_warp(int line);
void spin(int line);
void trap(int line);
uint32_t exchanged(int line, unsigned mask, uint32_t value, unsigned distance); // what lane ^ distance gives

// Copies of at most `size` bytes; the rest are zeros.
void copy_later(int line, unsigned size, void *to, const void *from, unsigned bytes);
void commit_copies();
void wait_for_copies(unsigned groups_left);

// Products of 16 x 8 x 16 (of bytes: 32): sums are [4] float, of bytes int32_t.
enum Numbers { BF16_NUMBERS, F16_NUMBERS, S8_NUMBERS };
void multiply_later(int line, void *acc, Numbers of, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1);
void multiply_now(int line);

int32_t dot_of_bytes(uint32_t a, uint32_t b, int32_t c);
uint32_t permuted_bytes(uint32_t low, uint32_t high,
                        uint32_t selector); // byte i: the one of both words that half byte i of the selector names
float rounded_product(float a, float b); // whatever the compiler makes of products that are added
// The special-function unit: denormals are 0, and so is a quotient by 2^126 or more (by infinity: a times 0).
float flushed(float x);
float divided(float a, float b);
// To the nearest, ties to even.
uint32_t narrow_bf16(float x);
uint32_t narrow_f16(float x);
float half_number(unsigned half);

template <class T> inline T shuffle_xor(int line, unsigned mask, T value, unsigned distance) {
    static_assert(sizeof(T) == 4, "32-bit values");
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits = exchanged(line, mask, bits, distance);
    memcpy(&value, &bits, 4);
    return value;
}

} // namespace simt

#include "hopper.h"

// ------------------------------------------------------------------------------------------------ the language

#define MOSSC_SIMT
#define ENTRY(name) static void name
#define ENTRY_OF_TWO(name) static void name
#define DEVICE static
#define CALLED static
#define INLINE static inline
#define METHOD inline
#define TABLE static const
#define EXPORTED static const
#define SHARED(name) unsigned char *name = simt::shared() + HELD_BYTES
#define held_memory() simt::shared()
#define ASSUME_GLOBAL(pointer) simt::assume_global(pointer, __LINE__)
#define ASSUME_SHARED(pointer) simt::assume_shared(pointer, __LINE__)
#define SPIN() simt::spin(__LINE__)
#define READ_BLOCKS(to) (to) = gridDim.x
#define TRAP() simt::trap(__LINE__)
#define BARRIER_POLLS 4096u /* a thread that spins is asked once a turn of its block */
#define __threadfence_system()
#define __device__
#define __forceinline__ inline

#define threadIdx simt::thread_index()
#define blockIdx simt::block_index()
#define gridDim simt::grid_size()
#define __syncthreads() simt::barrier(__LINE__)
#define __syncthreads_or(condition) simt::vote(__LINE__, condition)
#define __shfl_xor_sync(mask, value, distance) simt::shuffle_xor(__LINE__, mask, value, distance)
#define __syncwarp() simt::sync_warp(__LINE__)
#define __threadfence()
#define FAST_EXP2(x) simt::flushed(exp2f(simt::flushed(x)))
#define FAST_DIVIDE(a, b) simt::divided(a, b)

#define CP_ASYNC_16(to, from, bytes) simt::copy_later(__LINE__, 16, to, from, bytes)
#define CP_ASYNC_4(to, from, bytes) simt::copy_later(__LINE__, 4, to, from, bytes)
#define CP_ASYNC_COMMIT() simt::commit_copies()
#define CP_ASYNC_WAIT(n) simt::wait_for_copies(n)
#define MMA_BF16(acc, a0, a1, a2, a3, b0, b1) simt::multiply_later(__LINE__, &(acc), simt::BF16_NUMBERS, a0, a1, a2, a3, b0, b1)
#define MMA_F16(acc, a0, a1, a2, a3, b0, b1) simt::multiply_later(__LINE__, &(acc), simt::F16_NUMBERS, a0, a1, a2, a3, b0, b1)
#define MMA_S8(acc, a0, a1, a2, a3, b0, b1) simt::multiply_later(__LINE__, &(acc), simt::S8_NUMBERS, a0, a1, a2, a3, b0, b1)
#define DOT4(a, b, c) simt::dot_of_bytes(a, b, c)
#define BYTE_PERM(low, high, selector) simt::permuted_bytes(low, high, selector)
#define ROUNDED_PRODUCT(a, b) simt::rounded_product(a, b)
#define PREFETCH_L2(at) static_cast<void>(*reinterpret_cast<const volatile char *>(at)) /* it lies inside of what there is */
#define MMA_DONE() simt::multiply_now(__LINE__)
#define MAD_WIDE(to, i, bytes, at) to = (decltype(to))((const u8 *)(at) + (u64)(i) * (bytes))
#define HOLD_ADDRESS(at)
#define FIND_ANEW(number)
#define PACK_BF16(pair, even, odd) pair = simt::narrow_bf16(even) | simt::narrow_bf16(odd) << 16
#define PACK_F16(pair, even, odd) pair = simt::narrow_f16(even) | simt::narrow_f16(odd) << 16

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct alignas(8) uint2 {
    unsigned x, y;
};
static inline float half_number(unsigned half) { return simt::half_number(half); }
template <class T> static inline T __ldg(const T *p) {
    races::constant(p, sizeof(T));
    const races::Quiet quiet;
    return *p;
}
template <class T> static inline T atomicAdd(T *p, T v) {
    const races::Quiet quiet;
    const T old = *p;
    *p = old + v;
    return old;
}
template <class T> static inline T atomicCAS(T *p, T expected, T v) {
    const races::Quiet quiet;
    const T old = *p;
    if (old == expected) *p = v;
    return old;
}
static inline void ADD_RELEASE(unsigned *at, unsigned v) {
    const races::Quiet quiet;
    races::release(at);
    *at += v;
}
static inline unsigned ADD_ACQUIRE_RELEASE(unsigned *at, unsigned v) {
    races::release(at);
    races::acquire(at, false);
    return atomicAdd(at, v);
}
static inline unsigned LOAD_RELAXED(const unsigned *at) {
    const races::Quiet quiet;
    return *reinterpret_cast<const volatile unsigned *>(at);
}
static inline unsigned LOAD_ACQUIRE(const unsigned *at) {
    races::acquire(at, true);
    return LOAD_RELAXED(at);
}
static inline float __uint_as_float(unsigned bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}

static inline float cospif(float x) { return static_cast<float>(cos(3.14159265358979323846 * static_cast<double>(x))); }
static inline float sinpif(float x) { return static_cast<float>(sin(3.14159265358979323846 * static_cast<double>(x))); }
