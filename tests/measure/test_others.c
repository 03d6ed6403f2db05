/* The part of the processor that others take: by a /proc/stat of our own, and by that of this machine. */
#include <math.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "measure/others.h"

static char root[] = "/tmp/mossc-others-XXXXXX";

static void write_stat(const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/proc", root);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/proc/stat", root);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int make_root(void **context) {
    (void)context;
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **context) {
    (void)context;
    char path[256];
    snprintf(path, sizeof path, "%s/proc/stat", root);
    unlink(path);
    snprintf(path, sizeof path, "%s/proc", root);
    rmdir(path);
    return rmdir(root);
}

/* Idle and iowait are not use, steal is; CPUs that this process may not use, and the sum of all, do not count. */
static void reads_lines(void **context) {
    (void)context;
    cpu_set_t allowed;
    assert_int_equal(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    int first = 0, none = 0;
    while (!CPU_ISSET(first, &allowed)) first++;
    while (none < CPU_SETSIZE - 1 && CPU_ISSET(none, &allowed)) none++;
    char text[512];
    snprintf(text, sizeof text,
             "cpu  9000 9000 9000 9000 9000 9000 9000 9000 0 0\n"
             "cpu%d 100 20 30 5000 7000 4 6 40 0 0\n"
             "cpu%d 800 0 0 0 0 0 0 0 0 0\n"
             "intr 12345\n",
             first, none);
    write_stat(text);
    MsMoment moment = ms_moment(root);
    assert_int_equal(moment.cpus, 1);
    assert_true(fabs(moment.used - 200.0 / (double)sysconf(_SC_CLK_TCK)) < 1e-9);
}

static void takes_own_use_off(void **context) {
    (void)context;
    MsMoment a = {.wall = 10, .used = 100, .own = 5, .cpus = 2}, b = {.wall = 11, .used = 101.5, .own = 6, .cpus = 2};
    assert_true(fabs(ms_others(&a, &b) - 0.25) < 1e-12);
    b.own = 7; /* more than was counted in ticks */
    assert_true(ms_others(&a, &b) == 0);
    assert_true(ms_others(&a, &a) == 0);
    b.cpus = 3; /* CPUs came or went: nothing can be said */
    assert_true(ms_others(&a, &b) == 0);
}

static void without_proc(void **context) {
    (void)context;
    MsMoment a = ms_moment("/nowhere"), b = ms_moment("/nowhere");
    assert_int_equal(a.cpus, 0);
    assert_true(ms_others(&a, &b) == 0);
}

static void this_machine(void **context) {
    (void)context;
    MsMoment a = ms_moment("");
    assert_true(a.cpus >= 1);
    assert_true(a.used > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(reads_lines), cmocka_unit_test(takes_own_use_off),
                                       cmocka_unit_test(without_proc), cmocka_unit_test(this_machine)};
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
