/* The planner's promise, on random buffers: two that live in the same stage never overlap, for any number of rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "schedule/builder.h"

static uint64_t next(uint64_t *seed) {
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

enum { MOST = 60 };

static void draw(ScBuilder *b, ScBuffer *buffers, uint64_t *seed) {
    b->buffers = buffers;
    b->n_buffers = 1 + next(seed) % MOST;
    for (size_t i = 0; i < b->n_buffers; i++) {
        uint32_t first = (uint32_t)(next(seed) % 20);
        ScBytes bytes = {64 * (1 + next(seed) % 50), next(seed) % 3 == 0 ? 64 * (next(seed) % 80) : 0};
        if (b->mode == PG_ROW) bytes = (ScBytes){0, bytes.per_row + bytes.fixed};
        buffers[i] = (ScBuffer){.bytes = bytes, .name = "", .first = first, .last = first + (uint32_t)(next(seed) % 6)};
    }
}

static uint64_t at(ScBytes bytes, uint64_t ld) { return bytes.per_row * ld + bytes.fixed; }

static void check_apart(const ScBuilder *b, ScBytes arena, uint64_t ld, bool all) {
    for (size_t i = 0; i < b->n_buffers; i++) {
        const ScBuffer *x = &b->buffers[i];
        uint64_t start = at(x->offset, ld), end = start + at(x->bytes, ld);
        assert_true(end <= at(arena, ld));
        for (size_t j = 0; j < i; j++) {
            const ScBuffer *y = &b->buffers[j];
            if (!all && (x->first > y->last || y->first > x->last)) continue;
            uint64_t other = at(y->offset, ld), other_end = other + at(y->bytes, ld);
            assert_true(end <= other || other_end <= start);
        }
    }
}

static void plan_many(PgMode mode, bool off) {
    uint64_t seed = 7;
    for (int round = 0; round < 300; round++) {
        PsOptions options = {.off = {[PS_PLAN] = off}};
        ScBuffer buffers[MOST];
        ScBuilder b = {.options = &options, .mode = mode};
        draw(&b, buffers, &seed);
        ScBytes arena = sc_plan(&b);
        const uint64_t lds[] = {1, 8, 24, 520};
        for (int i = mode == PG_ROW ? 0 : 1; i < (mode == PG_ROW ? 1 : 4); i++) check_apart(&b, arena, lds[i], off);
        su_arena_free(&b.scratch);
    }
}

static void one_row_buffers_of_a_stage_stay_apart(void **state) {
    (void)state;
    plan_many(PG_ROW, false);
}

static void block_buffers_of_a_stage_stay_apart_for_any_ld(void **state) {
    (void)state;
    plan_many(PG_BLOCK, false);
}

static void without_the_pass_every_buffer_has_its_own_place(void **state) {
    (void)state;
    plan_many(PG_BLOCK, true);
}

static void dead_buffers_are_reused(void **state) {
    (void)state;
    PsOptions options = {0};
    ScBuffer buffers[3];
    memset(buffers, 0, sizeof buffers);
    for (uint32_t i = 0; i < 3; i++) buffers[i] = (ScBuffer){.bytes = {0, 640}, .name = "", .first = i * 2, .last = i * 2 + 1};
    ScBuilder b = {.options = &options, .mode = PG_ROW, .buffers = buffers, .n_buffers = 3};
    assert_int_equal(sc_plan(&b).fixed, 640);
    su_arena_free(&b.scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_row_buffers_of_a_stage_stay_apart),
        cmocka_unit_test(block_buffers_of_a_stage_stay_apart_for_any_ld),
        cmocka_unit_test(without_the_pass_every_buffer_has_its_own_place),
        cmocka_unit_test(dead_buffers_are_reused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
