// races.h: the sanitizer's calls, and what is known of every word.
#include "races.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <unordered_map>
#include <vector>

namespace races {

// An access: who, when, and where in the code. Launches count from 1: what is of another one is nothing.
struct Access {
    unsigned launch, block, thread;
    unsigned epoch, warp_epoch; // barriers of its block, and of its warp, that lay before it
    unsigned bytes; // of the word: a bit each
    const void *code;
};
struct Word {
    Access writer, readers[2], constant;
};

struct Range {
    const char *name;
    uintptr_t begin, end;
    bool shared; // of a block alone
    std::vector<Word> words;
};
constexpr unsigned NOBODY = ~0u;

struct Block {
    unsigned epoch = 0;
    std::vector<unsigned> warp_epochs;
    std::vector<Access> releases; // in order
    std::unordered_map<const void *, std::vector<unsigned>> released; // the place among them of those at an address
    std::vector<unsigned> known, soon; // of every block's releases: how many this block has acquired, and will have behind its next barrier
    unsigned acquirer = NOBODY;
};

static struct {
    const SimtLaunch *launch;
    unsigned number;
    std::vector<Range> ranges; // global memory
    std::vector<Range> shared; // by place of a resident block
    unsigned place;            // of the block that runs
    std::vector<Block> blocks;
    Access now; // block and thread that run
    bool ready, quiet;
    char finding[512];
} all;

static Block &block_of(unsigned block) { return all.blocks[block]; }

// Words of an earlier launch stay: they are nothing by their number.
static void place_range(Range &range, const char *name, const void *data, size_t bytes, bool shared) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(data);
    range.name = name, range.begin = at, range.end = at + bytes, range.shared = shared;
    range.words.resize(bytes / 4 + 1);
}

void begin(const SimtLaunch *launch) {
    const unsigned n = launch->blocks;
    all.launch = launch;
    all.number++;
    all.finding[0] = '\0';
    all.ranges.resize(launch->n_watched);
    for (size_t i = 0; i < launch->n_watched; i++) {
        const SimtMemory &m = launch->watched[i];
        place_range(all.ranges[i], m.name, m.data, m.bytes, false);
    }
    all.shared.resize(launch->cooperative ? n : 1);
    for (Range &range : all.shared) range.begin = range.end = 0;
    all.blocks.assign(n, Block());
    for (Block &b : all.blocks) {
        b.known.assign(n, 0), b.soon.assign(n, 0);
        b.warp_epochs.assign(launch->threads / 32 + 1, 0);
    }
    all.ready = true;
}

void shared(unsigned place, const void *memory, size_t bytes) { place_range(all.shared[place], "shared memory", memory, bytes, true); }

void run(unsigned block, unsigned place, unsigned thread) { all.now.block = block, all.now.thread = thread, all.place = place; }

void barrier(unsigned block) {
    Block &b = block_of(block);
    b.epoch++;
    b.known = b.soon;
    b.acquirer = NOBODY;
}

void warp_barrier(unsigned block, unsigned warp) { block_of(block).warp_epochs[warp]++; }

static Access access_now(const void *code) {
    const Block &b = block_of(all.now.block);
    return {all.number, all.now.block, all.now.thread, b.epoch, b.warp_epochs[all.now.thread / 32], 15, code};
}

void release(const void *at) {
    Block &b = block_of(all.now.block);
    b.released[at].push_back(static_cast<unsigned>(b.releases.size()));
    b.releases.push_back(access_now(nullptr));
}

void acquire(const void *at, bool meeting) {
    Block &b = block_of(all.now.block);
    const size_t own = b.released[at].size();
    for (size_t i = 0; i < all.blocks.size(); i++) {
        const std::vector<unsigned> &places = all.blocks[i].released[at];
        if (places.empty()) continue;
        const size_t taken = meeting && own > 0 && own < places.size() ? own : places.size();
        if (b.soon[i] < places[taken - 1] + 1) b.soon[i] = places[taken - 1] + 1;
    }
    b.acquirer = all.now.thread;
}

// Whether an access lies before what this thread does now.
static bool is_before(const Access &a, const Access &now) {
    const Block &mine = block_of(now.block), &theirs = block_of(a.block);
    if (a.block == now.block) {
        if (a.thread == now.thread || a.epoch != now.epoch) return true;
        return a.thread / 32 == now.thread / 32 && a.warp_epoch != now.warp_epoch;
    }
    const unsigned known = mine.acquirer == now.thread ? mine.soon[a.block] : mine.known[a.block];
    for (unsigned i = 0; i < known; i++) {
        const Access &release = theirs.releases[i];
        if (release.thread == a.thread ? release.epoch >= a.epoch : release.epoch > a.epoch) return true;
    }
    return false;
}

static size_t offset_of(const void *code) {
    Dl_info info;
    return dladdr(code, &info) != 0 ? static_cast<size_t>(static_cast<const char *>(code) - static_cast<const char *>(info.dli_fbase)) : 0;
}

// Places are those of the library: addr2line -e text.so says which lines they are (test_simt --keep keeps it).
static void report(const Range &range, size_t word, const char *what, const Access &a, const char *did, const Access &now) {
    if (all.finding[0] != '\0') return;
    snprintf(all.finding, sizeof all.finding, "thread %u of block %u %s %s + %zu, which thread %u of block %u %s: nothing orders them (at 0x%zx and 0x%zx of the code)",
             now.thread, now.block, what, range.name, 4 * word, a.thread, a.block, did, offset_of(now.code), offset_of(a.code));
}

enum Kind { READ, WRITE, CONSTANT };

// Of several threads that write bytes of one word the last is remembered.
static void touch(Range &range, size_t index, Kind kind, const Access &now) {
    Word &w = range.words[index];
    const auto conflicts = [&](const Access &a) {
        return a.launch == all.number && (a.bytes & now.bytes) != 0 && !(range.shared && a.block != now.block) && !is_before(a, now);
    };
    if (kind == CONSTANT) {
        if (w.writer.launch == all.number) report(range, index, "reads by __ldg", w.writer, "wrote in this launch", now);
        w.constant = now;
        return;
    }
    if (kind == WRITE && w.constant.launch == all.number) report(range, index, "writes", w.constant, "read by __ldg", now);
    if (conflicts(w.writer)) report(range, index, kind == WRITE ? "writes" : "reads", w.writer, "wrote", now);
    if (kind == READ) {
        if (w.readers[0].launch != all.number || w.readers[0].block != now.block || w.readers[0].thread != now.thread)
            w.readers[1] = w.readers[0];
        w.readers[0] = now;
        return;
    }
    for (const Access &reader : w.readers)
        if (conflicts(reader)) report(range, index, "writes", reader, "read", now);
    w.writer = now;
}

static Range *range_of(uintptr_t address) {
    Range &shared = all.shared[all.place];
    if (address >= shared.begin && address < shared.end) return &shared;
    for (Range &r : all.ranges)
        if (address >= r.begin && address < r.end) return &r;
    return nullptr;
}

static void touch_bytes(const void *at, size_t bytes, Kind kind, const void *code) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(at);
    Range *r = all.ready && !all.quiet ? range_of(address) : nullptr;
    if (r == nullptr || bytes == 0) return;
    Access now = access_now(code);
    if (bytes < 4) now.bytes = ((1u << bytes) - 1) << (address - r->begin) % 4;
    for (size_t word = (address - r->begin) / 4; word <= (address + bytes - 1 - r->begin) / 4 && word < r->words.size(); word++)
        touch(*r, word, kind, now);
}

void read(const void *at, size_t bytes) { touch_bytes(at, bytes, READ, __builtin_return_address(0)); }
void write(const void *at, size_t bytes) { touch_bytes(at, bytes, WRITE, __builtin_return_address(0)); }
void constant(const void *at, size_t bytes) { touch_bytes(at, bytes, CONSTANT, __builtin_return_address(0)); }
const char *found() { return all.finding[0] != '\0' ? all.finding : nullptr; }

Quiet::Quiet() { all.quiet = true; }
Quiet::~Quiet() { all.quiet = false; }

} // namespace races

// ------------------------------------------------------------------------------------------------ what the compiler calls

#define CALLS(size)                                                                                                              \
    extern "C" void __tsan_read##size(void *at) { races::touch_bytes(at, size, races::READ, __builtin_return_address(0)); }         \
    extern "C" void __tsan_write##size(void *at) { races::touch_bytes(at, size, races::WRITE, __builtin_return_address(0)); }       \
    extern "C" void __tsan_unaligned_read##size(void *at) { races::touch_bytes(at, size, races::READ, __builtin_return_address(0)); } \
    extern "C" void __tsan_unaligned_write##size(void *at) { races::touch_bytes(at, size, races::WRITE, __builtin_return_address(0)); }
CALLS(1)
CALLS(2)
CALLS(4)
CALLS(8)
CALLS(16)
extern "C" void __tsan_read_range(void *at, size_t bytes) { races::touch_bytes(at, bytes, races::READ, __builtin_return_address(0)); }
extern "C" void __tsan_write_range(void *at, size_t bytes) { races::touch_bytes(at, bytes, races::WRITE, __builtin_return_address(0)); }
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void *) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_vptr_update(void **, void *) {}
extern "C" void __tsan_vptr_read(void **) {}
