/* Workers: threads that run one function together and synchronise at barriers inside it.
 *
 * The caller's thread is worker 0; the others wait between runs, spinning for a few microseconds, then asleep on a futex. In a
 * run every thread has the floating-point environment of the bits: round to nearest, no flushing of denormals. Workers are
 * pinned to distinct CPUs of the allowed mask when there are at least two of them and as many CPUs; the caller's own mask is
 * put back after each run. */
#ifndef MOSSC_RUNTIME_WORKERS_H
#define MOSSC_RUNTIME_WORKERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RT_CACHE_LINE = 64 };

typedef struct RtWorkers RtWorkers;
typedef void (*RtWork)(void *context, int worker);

/* threads 0: su_default_threads. Where a thread cannot be started there are fewer workers (rt_workers_missing). NULL: no memory. */
RtWorkers *rt_workers_create(int threads, bool no_pin);
/* Worker i on the i-th of these CPUs that the process may use; threads 0: as many as those; more than those: none is
 * pinned. When the process may use none of them, it is as if none were named. */
RtWorkers *rt_workers_create_on(int threads, const int *cpus, size_t n_cpus);
/* Likewise, as a cleanup (support/alloc.h). */
void rt_workers_drop(void *workers);
void rt_workers_free(RtWorkers *workers);
int rt_workers_count(const RtWorkers *workers);
/* How many threads could not be started, and why (errno; 0 when none is missing). */
int rt_workers_missing(const RtWorkers *workers, int *out_error);
/* Whether this process is a child of the one that started the threads. */
bool rt_workers_forked(const RtWorkers *workers);

/* Calls work(context, i) on every worker i at once; returns when all are back. After a fork the child has no threads but the caller's:
 * its first run starts them anew, as many as can be had. */
void rt_workers_run(RtWorkers *workers, RtWork work, void *context);

/* Inside a run: returns when every worker has called it. The last one to arrive calls last(context) before anyone leaves;
 * all that was written before is seen by all. last may be NULL. */
void rt_workers_barrier(RtWorkers *workers, void (*last)(void *context), void *context);

/* A counter that workers claim runs of tiles from; alone in its cache line. */
typedef struct RtClaims {
    _Alignas(RT_CACHE_LINE) _Atomic uint32_t next;
} RtClaims;

/* Claims a run [*first, *end) of the `total` tiles: `most` of them, fewer towards the end so that all finish together. */
bool rt_claim(RtClaims *claims, uint32_t total, uint32_t most, uint32_t workers, uint32_t *first, uint32_t *end);

/* How many tiles of a worker's share are claimed, below the number of the use that counts them: nothing else sets it back. */
typedef struct RtShare {
    _Alignas(RT_CACHE_LINE) _Atomic uint64_t claimed;
} RtShare;

/* Tiles in equal shares, one a worker. Everyone claims of its own first, from its beginning to its end, so that the weights it reads
 * follow one another in memory, and then of what others have left. */
typedef struct RtTiles {
    RtShare *shares; /* [workers], zero at first */
    uint32_t use; /* another one than the last time, when everyone was done */
    uint32_t total, most, workers; /* most: at once */
} RtTiles;

/* Claims a run [*first, *end) for `worker`. false: nothing is left. */
bool rt_claim_tiles(const RtTiles *tiles, uint32_t worker, uint32_t *first, uint32_t *end);

#endif
