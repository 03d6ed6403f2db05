/* Lets the n-th allocation fail, for every n: each time an error is found, and nothing stays allocated. Of one test program; cmocka.h is
 * included before. */
#ifndef MOSSC_TESTS_EACH_ALLOCATION_H
#define MOSSC_TESTS_EACH_ALLOCATION_H

#include <stdatomic.h>
#include <stdlib.h>

#include "mossc/moss.h"
#include "support/alloc.h"

static atomic_long asked, live, failing; /* failing: which one fails; 0: none */
static atomic_bool for_ever; /* and all that follow it fail too */
static long runs; /* at most so many values of n a scenario, evenly spread; 0: all */

static bool refused(void) {
    long n = atomic_fetch_add(&asked, 1) + 1, first = atomic_load(&failing);
    return n == first || (first && for_ever && n > first);
}

static void *resize(void *context, void *old, size_t size) {
    (void)context;
    if (size == 0) {
        if (old) atomic_fetch_sub(&live, 1);
        free(old);
        return NULL;
    }
    if (refused()) return NULL;
    void *memory = realloc(old, size);
    if (memory && !old) atomic_fetch_add(&live, 1);
    return memory;
}

static bool may_map(void *context, size_t size) { return (void)context, (void)size, !refused(); }

static const SuAllocator hook = {.resize = resize, .may_map = may_map};

/* The scenario leaves nothing behind, whether it succeeds or not. */
static void fail_each(MossError (*scenario)(void)) {
    asked = failing = 0;
    long before = live;
    assert_int_equal(scenario().code, MOSS_OK);
    long count = asked, stride = runs && count > runs ? count / runs : 1, failed = 0;
    assert_int_equal(live, before);
    for (long n = 1; n <= count; n += stride) {
        asked = 0;
        failing = n;
        MossError error = scenario();
        failing = 0;
        if (live != before) fail_msg("allocation %ld of %ld: %ld blocks stay (%s)", n, count, live - before, error.text);
        if (error.code == MOSS_OK) continue; /* done without: a cache, a wish */
        if (error.code != MOSS_NO_MEMORY) fail_msg("allocation %ld of %ld: code %d: %s", n, count, error.code, error.text);
        failed++;
    }
    if (!failed) fail_msg("none of %ld allocations failed", count);
    print_message("  %ld allocations, every %ld: %ld errors\n", count, stride, failed);
}

#endif
