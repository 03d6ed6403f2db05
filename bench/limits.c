/* What this machine can do at most, as JSON: reading memory (best of several patterns, for 1..n threads) and float32
 * multiply-adds. A decode loop is compared with the first, a prompt with the second.
 *
 *   cc -std=gnu17 -D_GNU_SOURCE -O3 -march=native -pthread -o limits bench/limits.c && ./limits
 *
 * One stream a core does not fill memory's pipes; several do, with or without prefetch depending on the machine: so the limit
 * is the best of all. The host of a virtual machine drifts by a third within minutes: measure it next to what it is compared with. */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef float V16 __attribute__((vector_size(64)));

enum { MAX_THREADS = 64, REPEATS = 4, PATTERNS = 8 };
static const size_t BYTES = (size_t)512 << 20; /* past every last-level cache that two cores of a shared host see */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Adds up `count` vectors, walking `streams` equal parts side by side, fetching `ahead` bytes before use (0: not). */
static inline __attribute__((always_inline)) V16 read_streams(const V16 *data, size_t count, int streams, int ahead) {
    V16 sums[8] = {0};
    size_t part = count / (size_t)streams;
    for (size_t i = 0; i < part; i++)
#pragma GCC unroll 8
        for (int s = 0; s < streams; s++) {
            const V16 *at = data + (size_t)s * part + i;
            if (ahead > 0) __builtin_prefetch((const char *)at + ahead);
            sums[s] += *at;
        }
    for (int s = 1; s < 8; s++) sums[0] += sums[s];
    return sums[0];
}

static V16 read_pattern(const V16 *data, size_t count, int pattern) {
    switch (pattern) {
    case 0: return read_streams(data, count, 1, 0);
    case 1: return read_streams(data, count, 2, 0);
    case 2: return read_streams(data, count, 4, 0);
    case 3: return read_streams(data, count, 8, 0);
    case 4: return read_streams(data, count, 1, 1024);
    case 5: return read_streams(data, count, 2, 1024);
    case 6: return read_streams(data, count, 4, 1024);
    default: return read_streams(data, count, 8, 1024);
    }
}
static const char *const pattern_names[PATTERNS] = {
    "1 stream",           "2 streams",           "4 streams",           "8 streams",
    "1 stream, prefetch", "2 streams, prefetch", "4 streams, prefetch", "8 streams, prefetch"};

/* 24 independent chains of multiply-adds: enough to hide their latency. */
static V16 multiply_add(long rounds, float seed) {
    V16 acc[24], a = seed + (V16){0}, b = a * 0.5f;
    for (int i = 0; i < 24; i++) acc[i] = a + (float)i;
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 24
        for (int i = 0; i < 24; i++) acc[i] = acc[i] * a + b;
        __asm__ volatile("" : "+v"(a));
    }
    for (int i = 1; i < 24; i++) acc[0] += acc[i];
    return acc[0];
}

typedef struct Job {
    pthread_barrier_t *barrier;
    int thread, threads, pattern; /* pattern -1: multiply-adds */
    const V16 *data;
    long rounds;
    double start[REPEATS], end[REPEATS]; /* read by the thread itself: the one that waits for them may wake up late */
    V16 sum;
} Job;

static void pin(int thread) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed) || seen++ != thread) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

static void *work(void *context) {
    Job *job = context;
    pin(job->thread);
    size_t share = BYTES / sizeof(V16) / (size_t)job->threads;
    for (int r = 0; r < REPEATS; r++) {
        pthread_barrier_wait(job->barrier);
        job->start[r] = now();
        if (job->pattern < 0)
            job->sum += multiply_add(job->rounds, 0.5f);
        else
            job->sum += read_pattern(job->data + (size_t)job->thread * share, share, job->pattern);
        job->end[r] = now();
    }
    return NULL;
}

/* Seconds of the fastest round in which all threads took part: from the first start to the last end. */
static double fastest(int threads, int pattern, const V16 *data, long rounds) {
    pthread_t ids[MAX_THREADS];
    static Job jobs[MAX_THREADS];
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        jobs[i] = (Job){.barrier = &barrier, .thread = i, .threads = threads, .pattern = pattern, .data = data, .rounds = rounds};
        if (pthread_create(&ids[i], NULL, work, &jobs[i]) != 0) abort();
    }
    volatile float sink = 0;
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        sink = sink + jobs[i].sum[0];
    }
    pthread_barrier_destroy(&barrier);
    double best = 1e9;
    for (int r = 0; r < REPEATS; r++) {
        double start = jobs[0].start[r], end = jobs[0].end[r];
        for (int i = 1; i < threads; i++) {
            if (jobs[i].start[r] < start) start = jobs[i].start[r];
            if (jobs[i].end[r] > end) end = jobs[i].end[r];
        }
        if (end - start < best) best = end - start;
    }
    return best;
}

int main(void) {
    cpu_set_t allowed;
    int threads = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    V16 *data = aligned_alloc((size_t)2 << 20, BYTES);
    if (data == NULL) {
        fprintf(stderr, "limits: no memory\n");
        return 1;
    }
    memset(data, 0, BYTES);
    double best_read = 0;
    printf("{\"threads\": %d, \"read_gb_s\": {", threads);
    for (int n = 1; n <= threads; n = n < threads && 2 * n > threads ? threads : 2 * n) {
        double best = 0;
        int which = 0;
        for (int pattern = 0; pattern < PATTERNS; pattern++) {
            double rate = (double)BYTES / fastest(n, pattern, data, 0) / 1e9;
            if (rate > best) best = rate, which = pattern;
        }
        printf("%s\"%d\": {\"best\": %.2f, \"pattern\": \"%s\"}", n > 1 ? ", " : "", n, best, pattern_names[which]);
        if (best > best_read) best_read = best;
    }
    const long rounds = 2000000;
    double one = 2.0 * 16 * 24 * (double)rounds / fastest(1, -1, data, rounds) / 1e9;
    double all = 2.0 * 16 * 24 * (double)rounds * threads / fastest(threads, -1, data, rounds) / 1e9;
    printf("}, \"best_read_gb_s\": %.2f, \"fma_gflop_s\": {\"one_thread\": %.1f, \"all_threads\": %.1f}}\n", best_read, one, all);
    free(data);
    return 0;
}
