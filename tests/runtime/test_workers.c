/* Workers: every worker runs, every worker reaches every barrier, every tile is claimed once; and the caller's thread is left as it was. */
#include <errno.h>
#include <fenv.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/workers.h"
#include "support/cpus.h"

enum { ROUNDS = 200, TILES = 1000, MOST = 8 };

typedef struct Shared {
    RtWorkers *workers;
    int plain[MOST]; /* written by one worker, read by all after a barrier: TSan sees a missing barrier */
    int rounds_by_last;
    RtClaims claims;
    RtShare shares[MOST];
    uint32_t use;
    uint8_t claimed[TILES];
    _Atomic int wrong;
} Shared;

static void count_round(void *context) {
    Shared *s = context;
    s->rounds_by_last++;
}

static void pass_many_barriers(void *context, int worker) {
    Shared *s = context;
    int count = rt_workers_count(s->workers);
    for (int round = 1; round <= ROUNDS; round++) {
        s->plain[worker] = round;
        rt_workers_barrier(s->workers, count_round, s);
        for (int i = 0; i < count; i++) s->wrong += s->plain[i] != round;
        s->wrong += s->rounds_by_last != 2 * round - 1;
        rt_workers_barrier(s->workers, count_round, s);
    }
}

static void claim_all(void *context, int worker) {
    Shared *s = context;
    uint32_t first, end;
    (void)worker;
    while (rt_claim(&s->claims, TILES, 24, (uint32_t)rt_workers_count(s->workers), &first, &end))
        for (; first < end; first++) s->claimed[first]++;
}

/* Worker 0 sleeps between claims: others take what it leaves of its share. */
static void claim_shares(void *context, int worker) {
    Shared *s = context;
    uint32_t count = (uint32_t)rt_workers_count(s->workers), at = (uint32_t)worker, first, end;
    RtTiles tiles = {.shares = s->shares, .use = s->use, .total = TILES, .most = 24, .workers = count};
    uint64_t begin = (uint64_t)TILES * at / count, stop = (uint64_t)TILES * (at + 1) / count, next = begin;
    while (rt_claim_tiles(&tiles, at, &first, &end)) {
        s->wrong += first >= end || end - first > 24 || end > TILES;
        if (first >= begin && first < stop) { /* its own, in order */
            s->wrong += first < next || end > stop;
            next = end;
        }
        for (; first < end; first++) s->claimed[first]++;
        if (worker == 0 && count > 1) nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
}

static void with_workers(int threads, void (*test)(Shared *s)) {
    Shared *s = aligned_alloc(RT_CACHE_LINE, sizeof *s);
    memset(s, 0, sizeof *s);
    s->workers = rt_workers_create(threads, false);
    assert_non_null(s->workers);
    assert_int_equal(rt_workers_count(s->workers), threads);
    test(s);
    assert_int_equal(s->wrong, 0);
    rt_workers_free(s->workers);
    free(s);
}

static void check_barriers(Shared *s) {
    rt_workers_run(s->workers, pass_many_barriers, s);
    assert_int_equal(s->rounds_by_last, 2 * ROUNDS);
}

static void check_claims(Shared *s) {
    for (int run = 1; run <= 20; run++) {
        s->claims.next = 0;
        rt_workers_run(s->workers, claim_all, s);
        for (int i = 0; i < TILES; i++) assert_int_equal(s->claimed[i], run);
    }
}

static void check_shares(Shared *s) {
    for (int run = 1; run <= 20; run++) {
        s->use++;
        rt_workers_run(s->workers, claim_shares, s);
        for (int i = 0; i < TILES; i++) assert_int_equal(s->claimed[i], run);
    }
}

/* Runs far apart find the others asleep on their futex. */
static void check_sleepers(Shared *s) {
    struct timespec pause = {.tv_nsec = 2000000};
    for (int run = 0; run < 20; run++) {
        nanosleep(&pause, NULL);
        s->claims.next = 0;
        rt_workers_run(s->workers, claim_all, s);
    }
    assert_int_equal(s->claimed[TILES - 1], 20);
}

static void test_a_barrier_holds_every_time(void **unused) {
    (void)unused;
    with_workers(1, check_barriers);
    with_workers(2, check_barriers);
    with_workers(8, check_barriers);
}

static void test_every_tile_is_claimed_once(void **unused) {
    (void)unused;
    with_workers(1, check_claims);
    with_workers(2, check_claims);
    with_workers(8, check_claims);
}

static void test_shares_are_claimed_once(void **unused) {
    (void)unused;
    with_workers(1, check_shares);
    with_workers(2, check_shares);
    with_workers(8, check_shares);
}

/* Of fewer tiles than workers too; a use begins anew, whatever the one before has left. */
static void test_own_tiles_come_first(void **unused) {
    (void)unused;
    RtShare shares[4] = {{0}};
    uint32_t first, end;
    for (uint32_t use = 1; use <= 3; use++) {
        RtTiles tiles = {.shares = shares, .use = use, .total = 40, .most = 3, .workers = 4};
        for (uint32_t at = 20; at < 30; at = end) { /* worker 2's own */
            assert_true(rt_claim_tiles(&tiles, 2, &first, &end));
            assert_int_equal(first, at);
            assert_true(end > first && end - first <= 3);
        }
        assert_true(rt_claim_tiles(&tiles, 2, &first, &end));
        assert_int_equal(first, 30); /* the next worker's */
    }
    RtTiles few = {.shares = shares, .use = 4, .total = 2, .most = 8, .workers = 4};
    uint32_t seen = 0;
    while (rt_claim_tiles(&few, 0, &first, &end))
        for (; first < end; first++) seen |= 1u << first;
    assert_int_equal(seen, 3);
    few = (RtTiles){.shares = shares, .use = 5, .workers = 4, .most = 1};
    assert_false(rt_claim_tiles(&few, 3, &first, &end));
}

static void test_sleeping_workers_wake(void **unused) {
    (void)unused;
    with_workers(2, check_sleepers);
    with_workers(8, check_sleepers);
}

static void test_claims_shrink_towards_the_end(void **unused) {
    (void)unused;
    RtClaims claims = {0};
    uint32_t first, end = 0, last_run = 100, runs = 0;
    while (rt_claim(&claims, 100, 16, 2, &first, &end)) {
        assert_true(end - first <= last_run && end - first <= 16 && end > first);
        last_run = end - first;
        runs++;
    }
    assert_int_equal(end, 100);
    assert_int_equal(last_run, 1);
    assert_true(runs < 30);
    assert_false(rt_claim(&claims, 0, 4, 2, &first, &end));
}

static void see_rounding(void *context, int worker) {
    Shared *s = context;
    volatile float one = 1, least = 0x1p-126f;
    s->wrong += (one + 0x1p-24f != 1) + (one + 0x1.8p-24f == 1) + (least / 2 == 0);
    s->plain[worker] = 1;
}

static void check_rounding(Shared *s) {
    assert_int_equal(fesetround(FE_UPWARD), 0);
    rt_workers_run(s->workers, see_rounding, s);
    volatile float one = 1, above;
    above = one + 0x1p-24f;
    fesetround(FE_TONEAREST);
    assert_true(above > 1); /* the caller's mode is back */
    for (int i = 0; i < rt_workers_count(s->workers); i++) assert_int_equal(s->plain[i], 1);
}

static void test_runs_round_to_nearest_and_the_caller_gets_his_mode_back(void **unused) {
    (void)unused;
    with_workers(1, check_rounding);
    with_workers(2, check_rounding);
}

static void see_cpus(void *context, int worker) {
    Shared *s = context;
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    s->plain[worker] = CPU_COUNT(&mask) == 1 ? 1 + sched_getcpu() : 0;
}

static void test_workers_are_pinned_apart_and_the_caller_is_let_go(void **unused) {
    (void)unused;
    if (su_allowed_cpus() < 2) skip();
    cpu_set_t before, after;
    sched_getaffinity(0, sizeof before, &before);
    Shared *s = aligned_alloc(RT_CACHE_LINE, sizeof *s);
    s->workers = rt_workers_create(2, false);
    rt_workers_run(s->workers, see_cpus, s);
    assert_true(s->plain[0] && s->plain[1] && s->plain[0] != s->plain[1]);
    sched_getaffinity(0, sizeof after, &after);
    assert_true(CPU_EQUAL(&before, &after));
    rt_workers_free(s->workers);
    s->workers = rt_workers_create(2, true);
    rt_workers_run(s->workers, see_cpus, s);
    assert_true(!s->plain[0] && !s->plain[1]);
    rt_workers_free(s->workers);
    free(s);
}

static void test_workers_run_on_the_named_cpus(void **unused) {
    (void)unused;
    int cpus[CPU_SETSIZE], count = 0, none[] = {-1, CPU_SETSIZE, 1 << 30};
    cpu_set_t mask;
    sched_getaffinity(0, sizeof mask, &mask);
    for (int cpu = CPU_SETSIZE; cpu-- > 0;) /* the last one first */
        if (CPU_ISSET(cpu, &mask)) cpus[count++] = cpu;
    Shared *s = aligned_alloc(RT_CACHE_LINE, sizeof *s);
    for (int n = 1; n <= count && n <= 2; n++) {
        int named[] = {-1, cpus[0], CPU_SETSIZE, cpus[n - 1]}; /* what the process may not use is passed over */
        s->workers = rt_workers_create_on(n, named, 4);
        rt_workers_run(s->workers, see_cpus, s);
        assert_int_equal(s->plain[0], 1 + cpus[0]);
        if (n == 2) assert_int_equal(s->plain[1], 1 + cpus[1]);
        rt_workers_free(s->workers);
    }
    s->workers = rt_workers_create_on(0, cpus, 1);
    assert_int_equal(rt_workers_count(s->workers), 1);
    rt_workers_free(s->workers);
    s->workers = rt_workers_create_on(0, none, 3);
    assert_int_equal(rt_workers_count(s->workers), count);
    rt_workers_free(s->workers);
    free(s);
}

static void add_one(void *context, int worker) {
    Shared *s = context;
    s->plain[worker] = 1;
    rt_workers_barrier(s->workers, NULL, NULL);
}

/* In the child of a fork: whether a run comes back from every worker. */
static int run_in_child(Shared *s) {
    alarm(20); /* it hung */
    for (int i = 0; i < 8; i++) s->plain[i] = 0;
    rt_workers_run(s->workers, add_one, s);
    int all = 1;
    for (int i = 0; i < rt_workers_count(s->workers); i++) all = all && s->plain[i] == 1;
    rt_workers_free(s->workers);
    return all ? 0 : 1;
}

static int status_of_child(Shared *s, int (*work)(Shared *s)) {
    int status;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(work(s));
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static int free_in_child(Shared *s) {
    alarm(20);
    rt_workers_free(s->workers);
    return 0;
}

static int fork_in_child(Shared *s) { return status_of_child(s, run_in_child) == 0 ? run_in_child(s) : 1; }

static void test_a_child_of_a_fork_has_workers_of_its_own(void **unused) {
    (void)unused;
#ifdef __SANITIZE_THREAD__
    skip(); /* no threads after a fork */
#endif
    static int (*const works[])(Shared *) = {run_in_child, free_in_child, fork_in_child};
    for (int threads = 1; threads <= 4; threads++) {
        for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
            Shared *s = aligned_alloc(RT_CACHE_LINE, sizeof *s);
            s->workers = rt_workers_create(threads, true);
            rt_workers_run(s->workers, add_one, s);
            assert_int_equal(status_of_child(s, works[i]), 0);
            rt_workers_run(s->workers, add_one, s); /* the parent's are as they were */
            rt_workers_free(s->workers);
            free(s);
        }
    }
}

/* As a user who may start no thread more. */
static int run_with_few(Shared *s) {
    const struct rlimit none = {0, 0};
    alarm(20);
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) return 77;
    if (setrlimit(RLIMIT_NPROC, &none) != 0) return 77;
    int error;
    s->workers = rt_workers_create(4, true);
    if (!s->workers) return 1;
    if (rt_workers_count(s->workers) == 4) return 77; /* the limit does not hold here */
    if (rt_workers_count(s->workers) != 1 || rt_workers_missing(s->workers, &error) != 3 || error != EAGAIN) return 2;
    return run_in_child(s);
}

static void test_where_no_thread_can_be_started_there_are_fewer_workers(void **unused) {
    (void)unused;
#ifdef __SANITIZE_THREAD__
    skip();
#endif
    Shared *s = aligned_alloc(RT_CACHE_LINE, sizeof *s);
    int status = status_of_child(s, run_with_few);
    free(s);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) skip();
    assert_int_equal(status, 0);
}

/* ---- quotas, of control groups made up in a directory */

static char made_up[] = "/tmp/mossc-test-XXXXXX";

static void put(const char *directory, const char *name, const char *text) {
    char command[1024], path[512];
    snprintf(command, sizeof command, "mkdir -p %s/%s", made_up, directory);
    assert_int_equal(system(command), 0);
    snprintf(path, sizeof path, "%s/%s/%s", made_up, directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void begin_anew(const char *groups) {
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s/*", made_up);
    assert_int_equal(system(command), 0);
    if (groups) put("proc/self", "cgroup", groups);
}

static void test_quotas_of_control_groups_are_found(void **unused) {
    (void)unused;
    assert_non_null(mkdtemp(made_up));
    begin_anew(NULL);
    assert_int_equal(su_cpu_quota(made_up), 0);
    begin_anew("0::/\n"); /* version 2, within a container */
    assert_int_equal(su_cpu_quota(made_up), 0);
    put("sys/fs/cgroup", "cpu.max", "max 100000\n");
    assert_int_equal(su_cpu_quota(made_up), 0);
    put("sys/fs/cgroup", "cpu.max", "150000 100000\n");
    assert_int_equal(su_cpu_quota(made_up), 2);
    put("sys/fs/cgroup", "cpu.max", "1000 100000\n");
    assert_int_equal(su_cpu_quota(made_up), 1);
    begin_anew("0::/a/b\n"); /* the least of all above it */
    put("sys/fs/cgroup/a/b", "cpu.max", "700000 100000\n");
    assert_int_equal(su_cpu_quota(made_up), 7);
    put("sys/fs/cgroup/a", "cpu.max", "300000 100000\n");
    assert_int_equal(su_cpu_quota(made_up), 3);
    put("sys/fs/cgroup/a", "cpu.max", "max 100000\n");
    assert_int_equal(su_cpu_quota(made_up), 7);
    begin_anew("12:memory:/m\n4:cpu,cpuacct:/docker/x\n1:cpuset:/\n0::/\n"); /* version 1; the path is the host's */
    put("sys/fs/cgroup/cpu,cpuacct", "cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/cpu,cpuacct", "cpu.cfs_period_us", "100000\n");
    assert_int_equal(su_cpu_quota(made_up), 0);
    put("sys/fs/cgroup/cpu,cpuacct", "cpu.cfs_quota_us", "250000\n");
    assert_int_equal(su_cpu_quota(made_up), 3);
    begin_anew("2:cpuset:/c\n");
    put("sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "250000\n");
    put("sys/fs/cgroup/cpu", "cpu.cfs_period_us", "100000\n");
    assert_int_equal(su_cpu_quota(made_up), 0);
    begin_anew("garbage\n0:\n::\n");
    assert_int_equal(su_cpu_quota(made_up), 0);
    begin_anew(NULL);
    rmdir(made_up);
    unsetenv("MOSSC_THREADS");
    int threads = su_default_threads();
    assert_in_range(threads, 1, su_allowed_cpus());
    static const char *const wrong[] = {"", "0", "-1", "1025", "two", "2x", "99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv("MOSSC_THREADS", wrong[i], 1);
        assert_int_equal(su_default_threads(), threads);
    }
    setenv("MOSSC_THREADS", "1024", 1);
    assert_int_equal(su_default_threads(), 1024);
    unsetenv("MOSSC_THREADS");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_barrier_holds_every_time),
        cmocka_unit_test(test_every_tile_is_claimed_once),
        cmocka_unit_test(test_sleeping_workers_wake),
        cmocka_unit_test(test_claims_shrink_towards_the_end),
        cmocka_unit_test(test_shares_are_claimed_once),
        cmocka_unit_test(test_own_tiles_come_first),
        cmocka_unit_test(test_runs_round_to_nearest_and_the_caller_gets_his_mode_back),
        cmocka_unit_test(test_a_child_of_a_fork_has_workers_of_its_own),
        cmocka_unit_test(test_where_no_thread_can_be_started_there_are_fewer_workers),
        cmocka_unit_test(test_quotas_of_control_groups_are_found),
        cmocka_unit_test(test_workers_are_pinned_apart_and_the_caller_is_let_go),
        cmocka_unit_test(test_workers_run_on_the_named_cpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
