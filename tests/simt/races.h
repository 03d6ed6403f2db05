// Which accesses of a launch's threads to memory are ordered by a barrier, and which are not. With MOSSC_SIMT_RACES the printed text is
// compiled with -fsanitize=thread, whose calls at every load and store come to races.cpp in place of that sanitizer's own library; what
// simt.h does for a GPU (barriers, releases, acquires, atomic operations, asynchronous copies) it tells by the functions below. Without,
// they are nothing.
//
// Two accesses to a word, one of them a write, must be ordered: in a block by a barrier of the block (in a warp by __syncwarp), between
// blocks by a release of the one's after its barrier and an acquire of the other's before one. Found whatever the order of threads is;
// of what has read a word the last two threads are remembered. What is loaded through __ldg must not be written in the same launch.
// Of sm_90a only what bulk copies read is seen: what they write, and the words that products of warpgroups read in shared memory, are in
// order by barriers in memory, which are not known here (hopper_machine.h lets bytes come late or early instead).
#pragma once
#include <cstddef>

#include "launch.h"

namespace races {

#ifdef MOSSC_SIMT_RACES
void begin(const SimtLaunch *launch);
void shared(unsigned place, const void *memory, size_t bytes); // of the block that is resident at this place, from now on
void run(unsigned block, unsigned place, unsigned thread);     // whose accesses the following ones are
void barrier(unsigned block);                                  // all its threads have come to one
void warp_barrier(unsigned block, unsigned warp);
void release(const void *at);
// Of what was released there. `meeting`: blocks wait until all have released there as often as this one; what they do there later, which
// an order of blocks may show already, is not taken.
void acquire(const void *at, bool meeting);
void read(const void *at, size_t bytes);
void write(const void *at, size_t bytes);
void constant(const void *at, size_t bytes); // read by __ldg
const char *found();                         // NULL: nothing yet
// Accesses in its life are of no interest: atomic ones, and the emulator's own.
struct Quiet {
    Quiet();
    ~Quiet();
};
#else
inline void begin(const SimtLaunch *) {}
inline void shared(unsigned, const void *, size_t) {}
inline void run(unsigned, unsigned, unsigned) {}
inline void barrier(unsigned) {}
inline void warp_barrier(unsigned, unsigned) {}
inline void release(const void *) {}
inline void acquire(const void *, bool) {}
inline void read(const void *, size_t) {}
inline void write(const void *, size_t) {}
inline void constant(const void *, size_t) {}
inline const char *found() { return nullptr; }
struct Quiet {
    Quiet() {}
};
#endif

} // namespace races
