/* Two words carry everything: `generation`, which the last worker of a barrier raises, and `epoch`, which a run raises. Waiting
 * for one of them to change is spinning, then a futex. A sleeper announces itself before it looks at the word for the last
 * time, and who raises a word looks for sleepers after raising it: sequential consistency makes that pair safe. */
#include "runtime/workers.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "support/alloc.h"
#include "support/cpus.h"

enum {
    SPIN_NS = 20000,        /* when every worker has a CPU */
    SPIN_CROWDED_NS = 2000, /* when they share: a spinner keeps the one it waits for from running */
    SPINS_A_LOOK = 32       /* pauses between looks at the clock */
};

typedef struct Word {
    _Alignas(RT_CACHE_LINE) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
} Word;

typedef struct Thread {
    RtWorkers *owner;
    pthread_t thread;
    int index;
} Thread;

struct RtWorkers {
    Word epoch, generation;
    _Alignas(RT_CACHE_LINE) _Atomic uint32_t arrived;
    _Alignas(RT_CACHE_LINE) int count;
    int64_t spin_ns;
    int missing, missing_error; /* threads that could not be started, and why */
    uint32_t forks;             /* of the process when the threads were started */
    bool pin;
    bool stopping;  /* read after epoch has changed */
    RtWork work;    /* likewise */
    void *context;
    cpu_set_t *cpus; /* [count]: one CPU each; NULL without pinning */
    Thread *threads; /* [count], 0 unused */
};

/* ---- floating-point environment */

#if defined(__x86_64__)
static uint64_t fp_environment(void) { return __builtin_ia32_stmxcsr(); }
static void set_fp_environment(uint64_t value) { __builtin_ia32_ldmxcsr((uint32_t)value); }
enum { FP_AGREED = 0x1F80 }; /* MXCSR: exceptions masked, nearest even, no FTZ, no DAZ */
#elif defined(__aarch64__)
static uint64_t fp_environment(void) {
    uint64_t value;
    __asm__ volatile("mrs %0, fpcr" : "=r"(value));
    return value;
}
static void set_fp_environment(uint64_t value) { __asm__ volatile("msr fpcr, %0" ::"r"(value)); }
enum { FP_AGREED = 0 }; /* FPCR: nearest even, no FZ, no alternative half precision */
#else
#error "the floating-point environment of this machine is not known here"
#endif

static inline void pause_cpu(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

/* ---- waiting */

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void futex(_Atomic uint32_t *word, int operation, uint32_t value) {
    syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void wait_for_change(Word *word, uint32_t old, int64_t spin_ns) {
    int64_t end = 0;
    for (;;) {
        for (int i = 0; i < SPINS_A_LOOK; i++) {
            if (atomic_load_explicit(&word->value, memory_order_acquire) != old) return;
            pause_cpu();
        }
        int64_t now = now_ns();
        if (!end)
            end = now + spin_ns;
        else if (now >= end)
            break;
    }
    atomic_fetch_add(&word->sleepers, 1);
    while (atomic_load(&word->value) == old) futex(&word->value, FUTEX_WAIT, old);
    atomic_fetch_sub(&word->sleepers, 1);
}

static void raise_word(Word *word) {
    atomic_fetch_add(&word->value, 1);
    if (atomic_load(&word->sleepers)) futex(&word->value, FUTEX_WAKE, INT32_MAX);
}

void rt_workers_barrier(RtWorkers *workers, void (*last)(void *context), void *context) {
    uint32_t generation = atomic_load_explicit(&workers->generation.value, memory_order_relaxed); /* ours: it cannot pass us */
    uint32_t arrived = atomic_fetch_add_explicit(&workers->arrived, 1, memory_order_acq_rel) + 1;
    if (arrived < (uint32_t)workers->count) {
        wait_for_change(&workers->generation, generation, workers->spin_ns);
        return;
    }
    atomic_store_explicit(&workers->arrived, 0, memory_order_relaxed);
    if (last) last(context);
    raise_word(&workers->generation);
}

/* ---- forks. The child of a fork has a copy of all memory, but of the threads only the one that forked. */

static _Atomic uint32_t forks; /* between this process and the one that watched first */
static pthread_once_t watching = PTHREAD_ONCE_INIT;

static void count_fork(void) { atomic_fetch_add_explicit(&forks, 1, memory_order_relaxed); }

static void watch_forks(void) { pthread_atfork(NULL, NULL, count_fork); }

bool rt_workers_forked(const RtWorkers *workers) { return workers->forks != atomic_load_explicit(&forks, memory_order_relaxed); }

/* ---- threads */

static void *thread_main(void *argument) {
    Thread *self = argument;
    RtWorkers *workers = self->owner;
    if (workers->pin) sched_setaffinity(0, sizeof(cpu_set_t), &workers->cpus[self->index]); /* refused: it runs where it may */
    set_fp_environment(FP_AGREED);
    for (uint32_t epoch = 0;; epoch++) {
        wait_for_change(&workers->epoch, epoch, workers->spin_ns);
        if (workers->stopping) return NULL;
        workers->work(workers->context, self->index);
        rt_workers_barrier(workers, NULL, NULL);
    }
}

static void start(RtWorkers *workers) {
    pthread_once(&watching, watch_forks);
    workers->forks = atomic_load_explicit(&forks, memory_order_relaxed);
    for (int i = 1; i < workers->count; i++) {
        workers->threads[i] = (Thread){.owner = workers, .index = i};
        int error = pthread_create(&workers->threads[i].thread, NULL, thread_main, &workers->threads[i]);
        if (!error) continue;
        workers->missing += workers->count - i;
        workers->missing_error = error;
        workers->count = i; /* nobody has read it: there was no run yet */
        return;
    }
}

static void start_anew(RtWorkers *workers) {
    workers->epoch = (Word){0};
    workers->generation = (Word){0};
    atomic_store(&workers->arrived, 0);
    start(workers);
}

void rt_workers_run(RtWorkers *workers, RtWork work, void *context) {
    if (rt_workers_forked(workers)) start_anew(workers);
    uint64_t environment = fp_environment();
    set_fp_environment(FP_AGREED);
    cpu_set_t mask;
    bool pinned =
        workers->pin && !sched_getaffinity(0, sizeof mask, &mask) && !sched_setaffinity(0, sizeof mask, &workers->cpus[0]);
    workers->work = work;
    workers->context = context;
    if (workers->count > 1) raise_word(&workers->epoch);
    work(context, 0);
    rt_workers_barrier(workers, NULL, NULL);
    if (pinned) sched_setaffinity(0, sizeof mask, &mask);
    set_fp_environment(environment);
}

/* Those of the list that the process may use, in order; with none listed all that it may use. 0: they cannot be told. */
static int usable_cpus(const int *cpus, size_t n_cpus, int out_cpus[CPU_SETSIZE]) {
    cpu_set_t mask;
    int count = 0;
    if (sched_getaffinity(0, sizeof mask, &mask) != 0) return 0;
    for (size_t i = 0; i < n_cpus && count < CPU_SETSIZE; i++)
        if (cpus[i] >= 0 && cpus[i] < CPU_SETSIZE && CPU_ISSET(cpus[i], &mask)) out_cpus[count++] = cpus[i];
    for (int cpu = 0; n_cpus == 0 && cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &mask)) out_cpus[count++] = cpu;
    return count;
}

/* Gives each worker a CPU of its own; leaves them free when there are too few. */
static void choose_cpus(RtWorkers *workers, const int *cpus, int n_cpus) {
    if (n_cpus < workers->count || !(workers->cpus = su_calloc((size_t)workers->count, sizeof *workers->cpus))) return;
    for (int i = 0; i < workers->count; i++) CPU_SET(cpus[i], &workers->cpus[i]);
    workers->pin = true;
}

static void stop(RtWorkers *workers, int started) {
    workers->stopping = true;
    raise_word(&workers->epoch);
    for (int i = 1; i < started && !rt_workers_forked(workers); i++) pthread_join(workers->threads[i].thread, NULL);
}

static RtWorkers *create(int threads, int allowed, const int *cpus, int n_cpus) {
    int count = threads < SU_MOST_THREADS ? threads : SU_MOST_THREADS;
    RtWorkers *workers = su_aligned(RT_CACHE_LINE, sizeof *workers);
    if (!workers) return NULL;
    *workers = (RtWorkers){.count = count, .spin_ns = count <= allowed ? SPIN_NS : SPIN_CROWDED_NS};
    workers->threads = su_calloc((size_t)count, sizeof *workers->threads);
    if (workers->threads) {
        choose_cpus(workers, cpus, n_cpus);
        start(workers);
        return workers;
    }
    rt_workers_free(workers);
    return NULL;
}

RtWorkers *rt_workers_create(int threads, bool no_pin) {
    int cpus[CPU_SETSIZE], allowed = su_default_threads();
    threads = threads > 0 ? threads : allowed;
    /* One worker is the caller's thread, which runs where the caller wants it. Under a quota the CPUs are shared with other groups,
     * which would be pinned to the same ones. */
    bool pin = !no_pin && threads > 1 && allowed == su_allowed_cpus();
    return create(threads, allowed, cpus, pin ? usable_cpus(NULL, 0, cpus) : 0);
}

RtWorkers *rt_workers_create_on(int threads, const int *cpus, size_t n_cpus) {
    int usable[CPU_SETSIZE], count = usable_cpus(cpus, n_cpus, usable);
    if (n_cpus == 0 || count == 0) return rt_workers_create(threads, false);
    return create(threads > 0 ? threads : count, count, usable, count);
}

void rt_workers_free(RtWorkers *workers) {
    if (!workers) return;
    if (workers->threads) stop(workers, workers->count);
    su_free(workers->threads);
    su_free(workers->cpus);
    su_free(workers);
}

void rt_workers_drop(void *workers) { rt_workers_free(workers); }

int rt_workers_count(const RtWorkers *workers) { return workers->count; }

int rt_workers_missing(const RtWorkers *workers, int *out_error) {
    *out_error = workers->missing_error;
    return workers->missing;
}

bool rt_claim(RtClaims *claims, uint32_t total, uint32_t most, uint32_t workers, uint32_t *first, uint32_t *end) {
    uint32_t seen = atomic_load_explicit(&claims->next, memory_order_relaxed);
    if (seen >= total) return false;
    uint32_t share = (total - seen) / (2 * workers);
    uint32_t run = share < most ? share : most;
    run = run ? run : 1;
    *first = atomic_fetch_add_explicit(&claims->next, run, memory_order_relaxed);
    if (*first >= total) return false;
    *end = total - *first < run ? total : *first + run;
    return true;
}

/* Claims `*run` of the `size` tiles of a share, from `*at` on: half of what is left, up to `most`. */
static bool claim_of_share(RtShare *share, const RtTiles *tiles, uint32_t size, uint32_t *at, uint32_t *run) {
    uint64_t seen = atomic_load_explicit(&share->claimed, memory_order_relaxed), claimed;
    do {
        *at = seen >> 32 == tiles->use ? (uint32_t)seen : 0;
        if (*at >= size) return false;
        *run = (size - *at) / 2 < tiles->most ? (size - *at) / 2 : tiles->most;
        *run = *run ? *run : 1;
        claimed = (uint64_t)tiles->use << 32 | (*at + *run);
    } while (!atomic_compare_exchange_weak_explicit(&share->claimed, &seen, claimed, memory_order_relaxed, memory_order_relaxed));
    return true;
}

bool rt_claim_tiles(const RtTiles *tiles, uint32_t worker, uint32_t *first, uint32_t *end) {
    uint64_t total = tiles->total;
    for (uint32_t i = 0; i < tiles->workers; i++) {
        uint32_t owner = (worker + i) % tiles->workers, at, run;
        uint32_t begin = (uint32_t)(total * owner / tiles->workers), stop = (uint32_t)(total * (owner + 1) / tiles->workers);
        if (!claim_of_share(&tiles->shares[owner], tiles, stop - begin, &at, &run)) continue;
        *first = begin + at;
        *end = *first + run;
        return true;
    }
    return false;
}
