// What simt.h declares: fibers, their turns, and what a GPU has. Compiled once, and optimised, however many texts are compiled behind
// simt.h (CMakeLists.txt); each library of a text has its own.
#include "simt.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdarg>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

// ------------------------------------------------------------------------------------------------ fibers

namespace simt {

#if defined(__x86_64__)
// Saves the registers that a call keeps and continues on another stack.
extern "C" void simt_switch(void **save, void *load);
asm(R"(
.text
simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

struct Context {
    void *sp;
};
inline void go(Context &from, Context &to) { simt_switch(&from.sp, to.sp); }
inline void prepare(Context &c, char *stack, size_t size, void (*entry)()) {
    uintptr_t *top = reinterpret_cast<uintptr_t *>(stack + size);
    *--top = 0; // where `entry` would return to; keeps the stack aligned as at a call
    *--top = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < 6; i++) *--top = 0;
    c.sp = top;
}
#else
struct Context {
    ucontext_t context;
};
inline void go(Context &from, Context &to) { swapcontext(&from.context, &to.context); }
inline void prepare(Context &c, char *stack, size_t size, void (*entry)()) {
    getcontext(&c.context);
    c.context.uc_stack.ss_sp = stack;
    c.context.uc_stack.ss_size = size;
    c.context.uc_link = nullptr;
    makecontext(&c.context, entry, 0);
}
#endif

enum State { READY, SPINNING, AT_BARRIER, AT_SHUFFLE, AT_NAMED_BARRIER, DONE, STATES };

// An asynchronous copy of `size` bytes, the last of them zeros.
struct Copy {
    void *to;
    const void *from;
    unsigned bytes, size, group;
};

// What a lane gives to a product of 16 x 8 x 16 (of bytes: 32) and where its part of the sums is.
struct Product {
    void *acc; // [4] float, of bytes int32_t
    uint32_t a[4], b[2];
    int line;
    Numbers of;
};

struct Fiber {
    Context context;
    State state;
    unsigned thread, block;
    int line; // of the text: where it waits
    unsigned mask, partner; // of a shuffle
    uint32_t given, received; // of a shuffle or a vote
    bool multiplies; // at a shuffle: it is MMA_DONE
    bool orders; // at a shuffle: it is __syncwarp
    int finishes; // at a shuffle: it is WGMMA_WAIT of so many groups; -1: it is not
    unsigned barrier, members; // at a named barrier
    unsigned groups; // of copies: committed
    std::vector<Copy> copies;
    std::vector<Product> products;
};

struct Block {
    unsigned in[STATES]; // threads by state
    char *shared; // its first byte
    char *mapped;
    size_t mapped_bytes;
};

constexpr size_t STACK = 64 * 1024 + 17 * 64; // no power of two: the tops of stacks lie in different sets of the caches

struct Machine {
    std::vector<Fiber> fibers;
    std::vector<Block> blocks;
    char *stacks = nullptr;
    size_t stack_count = 0;
    Context scheduler;
    Fiber *running = nullptr;
    std::vector<unsigned> turns; // threads of a block in the launch's order
    const SimtLaunch *launch = nullptr;
    bool failed = false;
    ~Machine() {
        for (Block &b : blocks)
            if (b.mapped != nullptr) munmap(b.mapped, b.mapped_bytes);
        if (stacks != nullptr) munmap(stacks, stack_count * STACK);
    }
};
static Machine machine; // of this text's library alone, and gone with it

inline void enter(Fiber *f, State state) {
    unsigned *in = machine.blocks[f->block].in;
    in[f->state]--;
    in[state]++;
    f->state = state;
}

inline void give_way(State state, int line) {
    Fiber *f = machine.running;
    enter(f, state);
    f->line = line;
    go(f->context, machine.scheduler);
}

__attribute__((format(printf, 1, 2))) inline void finding(const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (!machine.failed) vsnprintf(machine.launch->finding, machine.launch->finding_bytes, format, args);
    va_end(args);
    machine.failed = true;
}

void spin(int line) { give_way(SPINNING, line); }

void trap(int line) {
    finding("line %d of the text ends the launch", line);
    for (;;) give_way(SPINNING, line);
}

inline void end_thread(); // hopper.h

inline void run_thread() {
    machine.launch->run(machine.launch);
    Fiber *f = machine.running;
    if (!f->copies.empty()) finding("a thread ends, and nobody has waited for %zu of its copies", f->copies.size());
    if (!f->products.empty()) finding("a thread ends with products that are not done: line %d of the text", f->products[0].line);
    end_thread();
    enter(f, DONE);
    go(f->context, machine.scheduler);
    abort();
}

// ------------------------------------------------------------------------------------------------ what a block has

inline void map_shared(Block &b, size_t bytes) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), whole = (bytes + page - 1) / page * page;
    b.mapped_bytes = whole + page;
    b.mapped = static_cast<char *>(mmap(nullptr, b.mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(b.mapped + whole, page, PROT_NONE);
    memset(b.mapped, 0xff, whole); // NaN
    b.shared = b.mapped + whole - (bytes + 15) / 16 * 16;
    races::shared(machine.running->block, b.shared, bytes);
}

unsigned char *shared() {
    Block &b = machine.blocks[machine.running->block];
    if (b.mapped == nullptr) map_shared(b, machine.launch->shared);
    return reinterpret_cast<unsigned char *>(b.shared);
}

inline bool is_shared(const void *at) {
    const Block &b = machine.blocks[machine.running->block];
    return b.mapped != nullptr && at >= b.mapped && at < b.mapped + b.mapped_bytes;
}
inline bool is_on_stack(const void *at) { return at >= machine.stacks && at < machine.stacks + machine.stack_count * STACK; }

void assume_global(const void *at, int line) {
    if (is_shared(at) || is_on_stack(at)) finding("line %d of the text takes what is no global memory for it", line);
}

void assume_shared(const void *at, int line) {
    if (!is_shared(at)) finding("line %d of the text takes what is no shared memory for it", line);
}

// ------------------------------------------------------------------------------------------------ turns

// The i-th of n in the launch's order: rising, falling, or in strides from somewhere (7919 is prime and divides no n here).
inline unsigned in_order(unsigned i, unsigned n) {
    switch (machine.launch->order) {
    case 0: return i;
    case 1: return n - 1 - i;
    default: return static_cast<unsigned>((machine.launch->order * 31ull + i * 7919ull) % n);
    }
}

inline Fiber *fibers_of(unsigned block) { return &machine.fibers[static_cast<size_t>(block) * machine.launch->threads]; }

// Runs every thread of the block that can run. Whether one did something other than spin.
inline bool run_ready(unsigned block) {
    const unsigned *in = machine.blocks[block].in;
    bool moved = false;
    if (in[READY] + in[SPINNING] == 0) return false;
    for (unsigned turn : machine.turns) {
        Fiber *f = fibers_of(block) + turn;
        if (f->state != READY && f->state != SPINNING) continue;
        const bool spun = f->state == SPINNING;
        enter(f, READY);
        machine.running = f;
        races::run(machine.launch->first_block[0] + f->block, f->block, f->thread);
        go(machine.scheduler, f->context);
        if (races::found() != nullptr) finding("%s", races::found());
        moved = moved || !(spun && f->state == SPINNING);
    }
    return moved;
}

// ------------------------------------------------------------------------------------------------ products of a warp

typedef float Columns __attribute__((vector_size(32))); // eight
typedef double WideColumns __attribute__((vector_size(64)));
typedef int32_t ColumnBits __attribute__((vector_size(32)));
typedef int64_t WideColumnBits __attribute__((vector_size(64)));

inline WideColumns widened(const Columns &x) { return __builtin_convertvector(x, WideColumns); }

// Sums of a product as tensor cores leave them: what does not fit a float is cut off, not rounded.
inline Columns cut_off(const WideColumns &sum) {
    const Columns nearest = __builtin_convertvector(sum, Columns);
    const WideColumns back = widened(nearest);
    const WideColumnBits beyond = (sum > 0 & back > sum) | (sum < 0 & back < sum); // -1 where it is
    return (Columns)((ColumnBits)nearest + __builtin_convertvector(beyond, ColumnBits));
}

inline float wide(uint32_t bits, bool half) {
    uint32_t word = bits << 16;
    float x;
    if (half) {
        const uint32_t magnitude = (bits & 0x7fffu) << 13;
        memcpy(&x, &magnitude, 4);
        x *= 0x1p112f;
        memcpy(&word, &x, 4);
        if ((bits & 0x7c00u) == 0x7c00u) word = magnitude | 0x7f800000u;
        word |= (bits & 0x8000u) << 16;
    }
    memcpy(&x, &word, 4);
    return x;
}
inline float low(uint32_t pair, bool half) { return wide(pair & 0xffffu, half); }
inline float high(uint32_t pair, bool half) { return wide(pair >> 16, half); }

// Of signed bytes, fragments as mma.m16n8k32 has them.
inline void multiply_bytes(Product *const (&of)[32]) {
    int8_t a[16][32], b[8][32];
    for (unsigned lane = 0; lane < 32; lane++) {
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned r = 0; r < 4; r++) memcpy(&a[g + r % 2 * 8][4 * t + r / 2 * 16], &of[lane]->a[r], 4);
        for (unsigned r = 0; r < 2; r++) memcpy(&b[g][4 * t + r * 16], &of[lane]->b[r], 4);
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        for (unsigned r = 0; r < 4; r++) {
            const int8_t *row = a[lane / 4 + r / 2 * 8], *column = b[lane % 4 * 2 + r % 2];
            int32_t sum = 0;
            for (unsigned k = 0; k < 32; k++) sum += row[k] * column[k];
            static_cast<int32_t *>(of[lane]->acc)[r] += sum;
        }
    }
}

// The i-th product of all lanes, fragments as mma.m16n8k16 has them.
inline void multiply(Fiber *warp, size_t i) {
    float a[16][16];
    Columns b[16], c[16];
    WideColumns wide_b[16];
    Product *of[32];
    for (unsigned lane = 0; lane < 32; lane++) of[lane] = warp[lane].products.data() + i;
    const bool half = of[0]->of == F16_NUMBERS;
    if (of[0]->of == S8_NUMBERS) {
        multiply_bytes(of);
        return;
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        const Product &p = *of[lane];
        const float *acc = static_cast<const float *>(p.acc);
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned r = 0; r < 4; r++) {
            const unsigned row = g + r % 2 * 8, k = 2 * t + r / 2 * 8;
            a[row][k] = low(p.a[r], half), a[row][k + 1] = high(p.a[r], half);
            c[row - r % 2 * 8 + r / 2 * 8][2 * t + r % 2] = acc[r];
        }
        for (unsigned r = 0; r < 2; r++) b[2 * t + 8 * r][g] = low(p.b[r], half), b[2 * t + 8 * r + 1][g] = high(p.b[r], half);
    }
    for (unsigned k = 0; k < 16; k++) wide_b[k] = widened(b[k]);
    for (unsigned row = 0; row < 16; row++) {
        WideColumns sum = widened(c[row]);
        for (unsigned k = 0; k < 16; k++) sum += static_cast<double>(a[row][k]) * wide_b[k];
        c[row] = cut_off(sum);
    }
    for (unsigned lane = 0; lane < 32; lane++)
        for (unsigned r = 0; r < 4; r++) static_cast<float *>(of[lane]->acc)[r] = c[lane / 4 + r / 2 * 8][lane % 4 * 2 + r % 2];
}

inline bool multiply_all(Fiber *warp) {
    const size_t count = warp[0].products.size();
    for (unsigned lane = 1; lane < 32; lane++) {
        if (warp[lane].products.size() != count) {
            finding("lanes of a warp have %zu and %zu products at line %d of the text", count, warp[lane].products.size(),
                    warp[0].line);
            return false;
        }
        for (size_t i = 0; i < count; i++) {
            if (warp[lane].products[i].line == warp[0].products[i].line) continue;
            finding("lanes of a warp are at different products: lines %d and %d of the text", warp[0].products[i].line,
                    warp[lane].products[i].line);
            return false;
        }
    }
    for (size_t i = 0; i < count; i++) multiply(warp, i);
    for (unsigned lane = 0; lane < 32; lane++) {
        warp[lane].products.clear();
        warp[lane].multiplies = false;
    }
    return true;
}

} // namespace simt

#include "hopper_machine.h"

namespace simt {

// ------------------------------------------------------------------------------------------------ barriers

// Lets the lanes of a warp go on that have all come to the same shuffle.
inline bool exchange(Fiber *warp) {
    unsigned lanes = 0;
    for (unsigned l = 0; l < 32; l++) lanes |= (warp[l].state == AT_SHUFFLE) << l;
    for (unsigned l = 0; l < 32; l++) {
        if (warp[l].state != AT_SHUFFLE || (warp[l].mask & ~lanes) != 0) continue;
        for (unsigned other = 0; other < 32; other++) {
            if (!(warp[l].mask >> other & 1)) continue;
            if (warp[other].line != warp[l].line || warp[other].mask != warp[l].mask) {
                finding("lanes of a warp are at different shuffles: lines %d and %d of the text", warp[l].line, warp[other].line);
                return false;
            }
            warp[other].received = warp[warp[other].partner].given;
        }
        if (warp[l].multiplies && !multiply_all(warp)) return false;
        if (warp[l].finishes >= 0 && !finish_groups(warp, static_cast<unsigned>(warp[l].finishes))) return false;
        if (warp[l].orders) races::warp_barrier(machine.launch->first_block[0] + warp[l].block, warp[l].thread / 32);
        const unsigned mask = warp[l].mask;
        for (unsigned other = 0; other < 32; other++)
            if (mask >> other & 1) warp[other].orders = false, warp[other].finishes = -1, enter(&warp[other], READY);
        return true;
    }
    return false;
}

// Lets the block go on if all its threads have come to the same barrier.
inline bool pass_barrier(unsigned block) {
    Fiber *f = fibers_of(block);
    uint32_t any = 0;
    if (machine.blocks[block].in[AT_BARRIER] != machine.launch->threads) return false;
    for (unsigned t = 0; t < machine.launch->threads; t++) any |= f[t].given;
    for (unsigned t = 0; t < machine.launch->threads; t++) {
        if (f[t].line != f[0].line) {
            finding("threads of a block wait at different barriers: lines %d and %d of the text", f[0].line, f[t].line);
            return false;
        }
    }
    races::barrier(machine.launch->first_block[0] + block);
    for (unsigned t = 0; t < machine.launch->threads; t++) {
        f[t].received = any;
        enter(&f[t], READY);
    }
    return true;
}

// Lets the threads go on that have all come to the same barrier of some of the block's threads. To races.h it is one of the block.
inline bool pass_named_barrier(unsigned block) {
    Fiber *f = fibers_of(block);
    const unsigned threads = machine.launch->threads;
    if (machine.blocks[block].in[AT_NAMED_BARRIER] == 0) return false;
    for (unsigned first = 0; first < threads; first++) {
        unsigned count = 0;
        if (f[first].state != AT_NAMED_BARRIER) continue;
        const unsigned barrier = f[first].barrier, members = f[first].members;
        for (unsigned t = 0; t < threads; t++) {
            if (f[t].state != AT_NAMED_BARRIER || f[t].barrier != barrier) continue;
            count++;
            if (f[t].members == members) continue;
            finding("threads wait at one barrier for different numbers: lines %d and %d of the text", f[first].line, f[t].line);
            return false;
        }
        if (count != members) continue;
        races::barrier(machine.launch->first_block[0] + block);
        for (unsigned t = 0; t < threads; t++)
            if (f[t].state == AT_NAMED_BARRIER && f[t].barrier == barrier) enter(&f[t], READY);
        return true;
    }
    return false;
}

inline bool is_done(unsigned block) { return machine.blocks[block].in[DONE] == machine.launch->threads; }

// One turn of a block: until its threads wait for what the block alone cannot give. Whether anything happened.
inline bool take_turn(unsigned block) {
    bool moved = false;
    for (bool again = true; again && !machine.failed;) {
        again = run_ready(block);
        for (unsigned t = 0; machine.blocks[block].in[AT_SHUFFLE] > 0 && t < machine.launch->threads; t += 32)
            again = exchange(fibers_of(block) + t) || again;
        again = pass_barrier(block) || again;
        again = pass_named_barrier(block) || again;
        moved = moved || again;
    }
    return moved;
}

inline void report_stuck(unsigned block) {
    const unsigned *count = machine.blocks[block].in;
    int line[STATES] = {};
    for (unsigned t = 0; t < machine.launch->threads; t++) line[fibers_of(block)[t].state] = fibers_of(block)[t].line;
    finding(
        "block %u is stuck: %u threads at a barrier (line %d of the text), %u at a shuffle (line %d), %u wait for other blocks, "
        "%u at a barrier of some (line %d), %u have ended",
        block, count[AT_BARRIER], line[AT_BARRIER], count[AT_SHUFFLE], line[AT_SHUFFLE], count[SPINNING], count[AT_NAMED_BARRIER],
        line[AT_NAMED_BARRIER], count[DONE]);
}

// Blocks first … first + count, resident together.
inline void run_blocks(unsigned first, unsigned count) {
    const unsigned threads = machine.launch->threads;
    machine.fibers.assign(static_cast<size_t>(count) * threads, Fiber{});
    machine.blocks.assign(count, Block{});
    begin_hopper(count, threads);
    for (size_t i = 0; i < machine.fibers.size(); i++) {
        Fiber &f = machine.fibers[i];
        f.thread = static_cast<unsigned>(i % threads);
        f.block = static_cast<unsigned>(i / threads);
        f.finishes = -1;
        prepare(f.context, machine.stacks + i * STACK, STACK, run_thread);
    }
    for (Block &b : machine.blocks) b.in[READY] = threads;
    const unsigned absent = machine.launch->cooperative ? machine.launch->absent : 0;
    for (unsigned b = count - (absent < count ? absent : count); b < count; b++)
        for (unsigned t = 0; t < threads; t++) enter(&fibers_of(b)[t], DONE);
    machine.launch->first_block[0] = first;
    for (bool done = false; !done && !machine.failed;) {
        bool moved = false;
        done = true;
        for (unsigned i = 0; i < count && !machine.failed; i++) moved = take_turn(in_order(i, count)) || moved;
        for (unsigned b = 0; b < count; b++) done = done && is_done(b);
        for (unsigned b = 0; b < count && !moved && !done; b++)
            if (!is_done(b) && !(absent > 0 && machine.blocks[b].in[SPINNING] > 0)) report_stuck(b);
    }
    end_hopper();
    for (Block &b : machine.blocks) {
        if (b.mapped != nullptr) munmap(b.mapped, b.mapped_bytes);
        b.mapped = nullptr;
    }
}

inline bool run(const SimtLaunch *launch) {
    races::begin(launch);
    const unsigned together = launch->cooperative ? launch->blocks : 1;
    const size_t needed = static_cast<size_t>(together) * launch->threads;
    machine.launch = launch;
    machine.failed = false;
    machine.turns.resize(launch->threads);
    for (unsigned t = 0; t < launch->threads; t++) machine.turns[t] = in_order(t, launch->threads);
    if (machine.stack_count < needed) {
        if (machine.stacks != nullptr) munmap(machine.stacks, machine.stack_count * STACK);
        machine.stacks = static_cast<char *>(
            mmap(nullptr, needed * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        machine.stack_count = needed;
    }
    for (unsigned i = 0; i < launch->blocks && !machine.failed; i += together)
        run_blocks(launch->cooperative ? 0 : in_order(i, launch->blocks), together);
    return !machine.failed;
}

Index thread_index() { return {machine.running->thread}; }
Index block_index() { return {machine.launch->first_block[0] + machine.running->block}; }
Index grid_size() { return {machine.launch->blocks}; }

void barrier(int line) { give_way(AT_BARRIER, line); }
void barrier_of(unsigned id, unsigned threads, int line) {
    machine.running->barrier = id;
    machine.running->members = threads;
    give_way(AT_NAMED_BARRIER, line);
}
int vote(int line, int condition) {
    machine.running->given = condition != 0;
    give_way(AT_BARRIER, line);
    machine.running->given = 0;
    return static_cast<int>(machine.running->received);
}

// The copy's bytes are read and written when it must be done.
void copy_later(int line, unsigned size, void *to, const void *from, unsigned bytes) {
    const uintptr_t both = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
    if (both % size != 0 || bytes > size) finding("line %d of the text copies %u bytes that are not aligned, or more", line, size);
    if (!is_shared(to) || is_shared(from)) finding("line %d of the text copies from shared memory, or not to it", line);
    machine.running->copies.push_back({to, from, bytes, size, machine.running->groups});
}
void commit_copies() { machine.running->groups++; }
void wait_for_copies(unsigned groups_left) {
    Fiber *f = machine.running;
    size_t done = 0;
    for (; done < f->copies.size() && f->copies[done].group + groups_left < f->groups; done++) {
        const Copy &copy = f->copies[done];
        unsigned char bytes[16] = {};
        memcpy(bytes, copy.from, copy.bytes);
        memcpy(copy.to, bytes, copy.size);
        races::read(copy.from, copy.bytes);
        races::write(copy.to, copy.size);
    }
    f->copies.erase(f->copies.begin(), f->copies.begin() + static_cast<ptrdiff_t>(done));
}

void multiply_later(int line, void *acc, Numbers of, uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0, uint32_t b1) {
    machine.running->products.push_back({acc, {a0, a1, a2, a3}, {b0, b1}, line, of});
}
void multiply_now(int line) {
    Fiber *f = machine.running;
    f->mask = 0xffffffffu;
    f->partner = f->thread % 32;
    f->multiplies = true;
    give_way(AT_SHUFFLE, line);
}

int32_t dot_of_bytes(uint32_t a, uint32_t b, int32_t c) {
    for (unsigned shift = 0; shift < 32; shift += 8)
        c += static_cast<int8_t>(a >> shift & 0xffu) * static_cast<int8_t>(b >> shift & 0xffu);
    return c;
}
// Byte i of the result is the one of both words that half byte i of the selector names.
uint32_t permuted_bytes(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t both = static_cast<uint64_t>(high) << 32 | low;
    uint32_t result = 0;
    for (unsigned i = 0; i < 4; i++) result |= static_cast<uint32_t>(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
    return result;
}
// Whatever the compiler makes of products that are added.
float rounded_product(float a, float b) {
    const volatile float product = a * b;
    return product;
}

// The special-function unit: denormals are 0, and so is a quotient by 2^126 or more (by infinity: a times 0).
float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }
float divided(float a, float b) { return fabsf(b) > 0x1p126f ? a * 0.0f : flushed(a / b); }

// To the nearest, ties to even.
uint32_t narrow_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
uint32_t narrow_f16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const float size = fabsf(x);
    if (x != x) return 0x7fffu;
    if (size >= 65520.0f) return sign | 0x7c00u;
    int exponent;
    frexpf(size, &exponent);
    exponent = size < 0x1p-14f ? -24 : exponent - 11; // of the last place
    const uint32_t places = static_cast<uint32_t>(rintf(ldexpf(size, -exponent)));
    return sign | (static_cast<uint32_t>(exponent + 24) << 10) + places; // a carry goes to the exponent, a denormal has none
}

uint32_t exchanged(int line, unsigned mask, uint32_t value, unsigned distance) {
    Fiber *f = machine.running;
    f->given = value;
    f->mask = mask;
    f->partner = f->thread % 32 ^ distance;
    give_way(AT_SHUFFLE, line);
    f->given = 0;
    return f->received;
}

void sync_warp(int line) {
    machine.running->orders = true;
    (void)exchanged(line, 0xffffffffu, 0u, 0);
}

float half_number(unsigned half) { return wide(half, true); }

} // namespace simt

extern "C" __attribute__((visibility("default"))) bool simt_run(const SimtLaunch *launch) { return simt::run(launch); }
