// What hopper.h declares. machine.cpp includes this file.
#pragma once

namespace simt {

// ------------------------------------------------------------------------------------------------ barriers in memory, bulk copies

struct MemoryBarrier {
    const void *at;
    unsigned count, pending, phase; // arrivals of a phase, those that lack, its parity
    long long bytes;                // that are expected, and not there
    unsigned thread;                // that initialised it
    bool known;                     // to the async proxy
};

struct BulkCopy {
    void *to;
    const void *from;
    unsigned bytes;
    const void *barrier;
};

struct BlockMemory {
    std::vector<MemoryBarrier> barriers;
    std::vector<BulkCopy> copies;
};

// ------------------------------------------------------------------------------------------------ products of warpgroups

struct GroupProduct {
    float *acc;
    const uint32_t *a;
    uint32_t issued[4]; // what `a` was
    uint64_t b;
    unsigned rows, group;
    Numbers of;
    int line;
};

struct Pending { // sums that products on their way will write
    float *acc;
    unsigned count; // of products
    std::vector<float> sums;
};

struct Fenced { // weights that were given before, and what they were at the last fence
    const uint32_t *a;
    uint32_t then[4];
};

struct ThreadWork {
    std::vector<GroupProduct> products;
    std::vector<Pending> pending;
    std::vector<Fenced> weights;
    unsigned groups; // committed
    unsigned done;   // products
    bool fenced;
};

static std::vector<BlockMemory> block_memory; // of resident blocks
static std::vector<ThreadWork> thread_work;   // of their threads
static std::vector<std::vector<GroupProduct>> group_history; // of their warpgroups: what the first warp to finish had

enum : uint32_t { ON_ITS_WAY = 0x7fedcba9u }; // a NaN

inline size_t running_index() { return static_cast<size_t>(machine.running - machine.fibers.data()); }
inline BlockMemory &running_memory() { return block_memory[machine.running->block]; }
inline ThreadWork &running_work() { return thread_work[running_index()]; }

inline void begin_hopper(unsigned blocks, unsigned threads) {
    block_memory.assign(blocks, BlockMemory{});
    thread_work.assign(static_cast<size_t>(blocks) * threads, ThreadWork{});
    group_history.assign(static_cast<size_t>(blocks) * ((threads + 127) / 128), {});
}

inline std::vector<GroupProduct> &history_of(const Fiber &f) {
    return group_history[f.block * ((machine.launch->threads + 127) / 128) + f.thread / 128];
}

inline void end_thread() {
    const ThreadWork &work = running_work();
    if (!work.products.empty())
        finding("a thread ends, and nobody has waited for the products of line %d of the text", work.products[0].line);
}

// Of blocks that have ended.
inline void end_hopper() {
    for (size_t i = 0; i < thread_work.size(); i++) {
        const size_t all = history_of(machine.fibers[i]).size();
        if (thread_work[i].done != all) finding("a thread has %u products, and its warpgroup has %zu", thread_work[i].done, all);
    }
}

uint32_t shared_address_of(const void *at, int line) {
    if (!is_shared(at)) finding("line %d of the text takes what is no shared memory for it", line);
    return static_cast<uint32_t>(static_cast<const char *>(at) - machine.blocks[machine.running->block].mapped);
}

inline MemoryBarrier *find_barrier(const void *at, int line) {
    for (MemoryBarrier &b : running_memory().barriers)
        if (b.at == at) return &b;
    finding("line %d of the text takes what is no initialised barrier for one", line);
    return nullptr;
}

inline void end_phase(MemoryBarrier &b) {
    if (b.pending > 0 || b.bytes != 0) return;
    b.phase ^= 1;
    b.pending = b.count;
}

void init_barrier(void *at, unsigned count, int line) {
    if (!is_shared(at) || reinterpret_cast<uintptr_t>(at) % 8 != 0)
        finding("line %d of the text has a barrier where none can be", line);
    for (const MemoryBarrier &b : running_memory().barriers)
        if (b.at == at) finding("line %d of the text initialises a barrier again", line);
    running_memory().barriers.push_back({at, count, count, 0, 0, machine.running->thread, false});
}

void fence_async_proxy() {
    for (MemoryBarrier &b : running_memory().barriers) b.known = b.known || b.thread == machine.running->thread;
}

void arrive_at(const void *at, long long bytes, int line) {
    MemoryBarrier *b = find_barrier(at, line);
    if (b == nullptr) return;
    if (b->pending == 0) finding("line %d of the text arrives at a barrier too often", line);
    b->bytes += bytes;
    b->pending--;
    end_phase(*b);
}

inline void bring(const BulkCopy &copy) {
    const races::Quiet quiet;
    memcpy(copy.to, copy.from, copy.bytes);
    MemoryBarrier *b = find_barrier(copy.barrier, 0);
    if (b == nullptr) return;
    b->bytes -= copy.bytes;
    end_phase(*b);
}

void bulk_copy(void *to, const void *from, unsigned bytes, const void *barrier, int line) {
    const MemoryBarrier *b = find_barrier(barrier, line);
    const uintptr_t all = reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from) | bytes;
    if (b == nullptr) return;
    if (!b->known) finding("line %d of the text copies to a barrier that the async proxy does not know", line);
    if (all % 16 != 0 || bytes == 0) finding("line %d of the text copies %u bytes that are not aligned, or none", line, bytes);
    if (!is_shared(to) || is_shared(from)) finding("line %d of the text copies from shared memory, or not to it", line);
    races::read(from, bytes); // what it writes is in order by barriers in memory, of which races.h knows nothing
    const BulkCopy copy = {to, from, bytes, barrier};
    if (machine.launch->order % 2 == 1)
        bring(copy);
    else
        running_memory().copies.push_back(copy);
}

bool has_passed(const void *at, unsigned parity, int line) {
    std::vector<BulkCopy> &copies = running_memory().copies;
    MemoryBarrier *b = find_barrier(at, line);
    if (b == nullptr) return true;
    for (size_t i = 0; i < copies.size() && b->phase == parity;) {
        const BulkCopy copy = copies[i];
        if (copy.barrier != at) {
            i++;
            continue;
        }
        copies.erase(copies.begin() + static_cast<ptrdiff_t>(i));
        bring(copy);
    }
    if (b->phase == parity) give_way(SPINNING, line);
    b = find_barrier(at, line);
    return b->phase != parity;
}

// ------------------------------------------------------------------------------------------------ products

// Where k of row n lies that the descriptor names, in shared memory.
inline uint32_t place_of(uint64_t b, unsigned n, unsigned k) {
    const uint32_t base = static_cast<uint32_t>(b & 0x3fff) << 4, leading = static_cast<uint32_t>(b >> 16 & 0x3fff) << 4;
    const uint32_t stride = static_cast<uint32_t>(b >> 32 & 0x3fff) << 4, swizzle = static_cast<uint32_t>(b >> 62);
    if (swizzle == 0) return base + n / 8 * stride + n % 8 * 16 + k / 8 * leading + k % 8 * 2;
    const uint32_t at = base + n / 8 * stride + n % 8 * (256u >> swizzle) + 2 * k;
    return at ^ (at >> 7 & ((8u >> (swizzle - 1)) - 1)) << 4;
}

// The part of product i of its warpgroup that this warp has: 16 outputs and all rows, sums[lane][rows / 2].
inline void multiply_part(const char *shared_memory, const ThreadWork *warp, size_t i, float *const (&sums)[32]) {
    const GroupProduct &p = warp[0].products[i];
    const bool half = p.of == F16_NUMBERS;
    Columns a[16][2];
    for (unsigned lane = 0; lane < 32; lane++) {
        const uint32_t *from = warp[lane].products[i].a;
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned r = 0; r < 4; r++) {
            a[2 * t + r / 2 * 8][r % 2][g] = low(from[r], half);
            a[2 * t + r / 2 * 8 + 1][r % 2][g] = high(from[r], half);
        }
    }
    for (unsigned n = 0; n < p.rows; n++) {
        const unsigned at = n / 8 * 4 + n % 2, t = n % 8 / 2;
        WideColumns sum[2];
        for (unsigned g = 0; g < 8; g++) sum[0][g] = sums[4 * g + t][at], sum[1][g] = sums[4 * g + t][at + 2];
        for (unsigned k = 0; k < 16; k += 2) {
            uint32_t both;
            memcpy(&both, shared_memory + place_of(p.b, n, k), 4);
            const double b0 = low(both, half), b1 = high(both, half);
            for (unsigned r = 0; r < 2; r++) sum[r] += widened(a[k][r]) * b0 + widened(a[k + 1][r]) * b1;
        }
        const Columns cut[2] = {cut_off(sum[0]), cut_off(sum[1])};
        for (unsigned g = 0; g < 8; g++) sums[4 * g + t][at] = cut[0][g], sums[4 * g + t][at + 2] = cut[1][g];
    }
}

inline Pending *pending_of(ThreadWork &work, const float *acc) {
    for (Pending &p : work.pending)
        if (p.acc == acc) return &p;
    return nullptr;
}

// Whether product i of all lanes, of which `done` are behind them, is one that all warps of the warpgroup have.
inline bool is_same_product(const Fiber *warp, const ThreadWork *work, size_t i) {
    const size_t number = work[0].done + i;
    const GroupProduct &first = work[0].products[i];
    std::vector<GroupProduct> &history = history_of(*warp);
    if (history.size() == number) history.push_back(first);
    for (unsigned lane = 0; lane < 32; lane++) {
        const GroupProduct &p = work[lane].products[i], &all = history[number];
        if (p.line == all.line && p.b == all.b && p.rows == all.rows && p.of == all.of &&
            memcmp(p.a, p.issued, sizeof p.issued) == 0)
            continue;
        if (memcmp(p.a, p.issued, sizeof p.issued) != 0)
            finding("weights are written before the product of line %d of the text is done", p.line);
        else
            finding("threads of a warpgroup have different products: lines %d and %d of the text", all.line, p.line);
        return false;
    }
    return true;
}

// The products of a warp whose groups are not among the last `left`.
inline bool finish_groups(Fiber *warp, unsigned left) {
    ThreadWork *work = &thread_work[static_cast<size_t>(warp - machine.fibers.data())];
    const races::Quiet quiet;
    size_t count = 0;
    while (count < work[0].products.size() && work[0].products[count].group + left < work[0].groups) count++;
    for (unsigned lane = 1; lane < 32; lane++) {
        if (work[lane].groups == work[0].groups && work[lane].products.size() == work[0].products.size()) continue;
        finding("lanes of a warp have different products at line %d of the text", warp[0].line);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        float *sums[32];
        if (!is_same_product(warp, work, i)) return false;
        for (unsigned lane = 0; lane < 32; lane++) sums[lane] = pending_of(work[lane], work[lane].products[i].acc)->sums.data();
        multiply_part(machine.blocks[warp->block].mapped, work, i, sums);
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        ThreadWork &w = work[lane];
        for (size_t i = 0; i < count; i++) {
            Pending *p = pending_of(w, w.products[i].acc);
            if (--p->count > 0) continue;
            memcpy(p->acc, p->sums.data(), p->sums.size() * sizeof(float));
            w.pending.erase(w.pending.begin() + (p - w.pending.data()));
        }
        w.products.erase(w.products.begin(), w.products.begin() + static_cast<ptrdiff_t>(count));
        w.done += static_cast<unsigned>(count);
        w.fenced = false;
    }
    return true;
}

void fence_products() {
    ThreadWork &work = running_work();
    for (Fenced &w : work.weights) memcpy(w.then, w.a, sizeof w.then);
    work.fenced = true;
}

// Whether the fence before was behind what was written to these weights; the first time it is taken for granted.
inline bool is_behind_fence(ThreadWork &work, const uint32_t *a) {
    for (const Fenced &w : work.weights)
        if (w.a == a) return memcmp(w.then, a, sizeof w.then) == 0;
    work.weights.push_back({a, {a[0], a[1], a[2], a[3]}});
    return true;
}

void product_later(int line, Numbers of, unsigned rows, float *acc, const void *weights, uint64_t b) {
    const races::Quiet quiet;
    ThreadWork &work = running_work();
    const uint32_t *a = static_cast<const uint32_t *>(weights);
    Pending *pending = pending_of(work, acc);
    if (pending == nullptr) {
        if (!work.fenced) finding("line %d of the text multiplies without a fence before", line);
        work.pending.push_back({acc, 0, std::vector<float>(acc, acc + rows / 2)});
        pending = &work.pending.back();
        for (unsigned i = 0; i < rows / 2; i++) memcpy(&acc[i], (const uint32_t[]){ON_ITS_WAY}, 4);
    }
    for (unsigned i = 0; i < rows / 2; i++) {
        uint32_t bits;
        memcpy(&bits, &acc[i], 4);
        if (bits != ON_ITS_WAY) finding("sums are written before the products of line %d of the text are done", line);
    }
    if (!is_behind_fence(work, a)) finding("line %d of the text multiplies weights that were written behind the fence", line);
    pending->count++;
    work.products.push_back({acc, a, {a[0], a[1], a[2], a[3]}, b, rows, work.groups, of, line});
}

void commit_products() { running_work().groups++; }
void wait_for_products(unsigned left, int line) {
    Fiber *f = machine.running;
    f->mask = 0xffffffffu;
    f->partner = f->thread % 32;
    f->finishes = static_cast<int>(left);
    give_way(AT_SHUFFLE, line);
}

} // namespace simt
