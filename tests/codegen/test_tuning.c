/* Schedules on disk: what is stored comes back, decides how kernels are compiled, and changes no logit; what is damaged or was not
 * accepted is not used. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "driver/device.h"
#include "driver/random_weights.h"
#include "driver/tuning.h"

enum { TOKENS = 21, SKIPPED = 77 };

static const char spec[] = "mossc: 1\nname: tuned\nvocab_size: 250\nd_model: 300\n"
                           "stack:\n  - ssm: {d_state: 4}\n  - mlp: {d_ff: 80, experts: {count: 4}, router: {top_k: 2}}\n";

typedef struct Place {
    char directory[64];
    DrTexts weights;
    DrBuildOptions options;
} Place;

static void open_place(Place *p) {
    memset(p, 0, sizeof *p);
    snprintf(p->directory, sizeof p->directory, "tuning-%ld", (long)getpid());
    p->options = (DrBuildOptions){.spec = "tuned.yaml",
                                  .spec_text = spec,
                                  .spec_size = sizeof spec - 1,
                                  .cache_directory = p->directory,
                                  .weights = &p->weights};
    cg_tuning_clear(p->directory);
}

static void close_place(const Place *p) {
    cg_cache_clear(p->directory);
    cg_tuning_clear(p->directory);
    assert_int_equal(rmdir(p->directory), 0);
}

static void open_build(DrBuild *build, const Place *p) {
    *build = (DrBuild){0};
    if (!dr_build_device(build, &p->options) || !dr_build_spec(build, &p->options) || !dr_build_graph(build) ||
        !dr_build_program(build, &p->options) || !cg_target_host(NULL, &build->target, &build->diags)) {
        su_diags_print(&build->diags, stderr);
        fail();
    }
    build->has_target = true;
}

/* The last schedule of the space for every linear layer; how many. */
static uint32_t store_all(const Place *p, bool accepted) {
    DrBuild build;
    uint32_t count = 0;
    open_build(&build, p);
    CgCache *tuning = cg_tuning_open(p->directory);
    for (uint32_t i = 0; i < build.program->n_kernels; i++) {
        CgSchedule space[CG_MOST_SCHEDULES];
        unsigned n = cg_schedule_space(&build.target, &build.program->kernels[i], false, space);
        if (n == 1) continue;
        CgTuned tuned = {.best = space[n - 1], .measured = 3, .accepted = accepted, .ratio = 0.5}, back;
        cg_tuned_store(tuning, &build.target, &build.program->kernels[i], &tuned);
        assert_true(cg_tuned_find(tuning, &build.target, &build.program->kernels[i], &back));
        assert_true(cg_schedule_equal(&back.best, &tuned.best) && back.measured == 3 && back.ratio == 0.5);
        count++;
    }
    assert_null(cg_cache_stats(tuning).problem);
    cg_cache_close(tuning);
    dr_build_free(&build);
    return count;
}

typedef struct Ran {
    uint32_t kernels, tuned, found; /* of the program: all, tuned ones, and those that were compiled before */
    size_t warnings;
} Ran;

/* Compiles, and gives the logits after a prompt and two tokens more. */
static Ran run(const Place *p, bool no_tune, float *out) {
    DrBuild build;
    DrBuildOptions options = p->options;
    options.no_tune = no_tune;
    open_build(&build, p);
    MossState *state = NULL;
    int32_t tokens[TOKENS + 2];
    for (int i = 0; i < TOKENS + 2; i++) tokens[i] = i * 37 % 250;
    if (!dr_build_code(&build, &options) || !dr_build_weights_or_random(&build, &options, NULL)) {
        su_diags_print(&build.diags, stderr);
        fail();
    }
    assert_int_equal(moss_state_create(build.model, &state).code, MOSS_OK);
    assert_int_equal(moss_feed(build.model, state, tokens, TOKENS, 0).code, MOSS_OK);
    memcpy(out, moss_state_logits(state), 250 * sizeof *out);
    for (int i = TOKENS; i < TOKENS + 2; i++) assert_int_equal(moss_feed(build.model, state, tokens + i, 1, 0).code, MOSS_OK);
    memcpy(out + 250, moss_state_logits(state), 250 * sizeof *out);
    moss_state_free(state);
    Ran ran = {.kernels = build.program->n_kernels,
               .tuned = build.kernels_tuned,
               .found = build.kernels_found,
               .warnings = build.diags.count};
    dr_build_free(&build);
    return ran;
}

/* A schedule is part of what a compiled kernel is found by: kernels of other schedules are compiled anew. */
static void stored_schedules_are_used_and_change_no_bit(void **unused) {
    (void)unused;
    Place p;
    float usual[500], tuned[500], ignored[500];
    open_place(&p);
    Ran ran = run(&p, false, usual);
    assert_int_equal(ran.tuned, 0);
    assert_int_equal(ran.found, 0);
    assert_int_equal(ran.warnings, 0);
    uint32_t count = store_all(&p, true);
    assert_true(count > 4);
    ran = run(&p, false, tuned);
    assert_int_equal(ran.tuned, count);
    assert_int_equal(ran.found, ran.kernels - count);
    ran = run(&p, true, ignored);
    assert_int_equal(ran.tuned, 0);
    assert_int_equal(ran.found, ran.kernels);
    assert_memory_equal(usual, tuned, sizeof usual);
    assert_memory_equal(usual, ignored, sizeof usual);
    store_all(&p, false);
    assert_int_equal(run(&p, false, tuned).tuned, 0);
    close_place(&p);
}

static void damaged_schedules_are_told_of_and_ignored(void **unused) {
    (void)unused;
    Place p;
    float usual[500], damaged[500];
    open_place(&p);
    uint32_t count = store_all(&p, true);
    assert_int_equal(run(&p, true, usual).tuned, 0);
    SuEntries entries = cg_tuning_list(p.directory);
    assert_int_equal(entries.count, count);
    FILE *file = fopen(su_entry_path(&entries.arena, p.directory, &entries.items[0].name, ".schedule"), "r+b");
    assert_non_null(file);
    fseek(file, 70, SEEK_SET);
    fputc(0x55, file);
    fclose(file);
    su_entries_free(&entries);
    Ran ran = run(&p, false, damaged);
    assert_int_equal(ran.tuned, count - 1);
    assert_int_equal(ran.warnings, 1);
    assert_memory_equal(usual, damaged, sizeof usual);
    close_place(&p);
}

/* Possible schedules only are believed, with a ratio that is a number. */
static void impossible_schedules_are_ignored(void **unused) {
    (void)unused;
    Place p;
    DrBuild build;
    open_place(&p);
    open_build(&build, &p);
    CgCache *tuning = cg_tuning_open(p.directory);
    const PgKernel *kernel = NULL;
    for (uint32_t i = 0; i < build.program->n_kernels && !kernel; i++)
        if (build.program->kernels[i].kind == PG_LINEAR) kernel = &build.program->kernels[i];
    assert_non_null(kernel);
    CgTuned tuned = {.best = cg_schedule_default(&build.target, kernel), .measured = 1, .accepted = 1, .ratio = 0.9}, back;
    tuned.best.panels = 1000;
    cg_tuned_store(tuning, &build.target, kernel, &tuned);
    assert_false(cg_tuned_find(tuning, &build.target, kernel, &back));
    tuned.best = cg_schedule_default(&build.target, kernel);
    cg_tuned_store(tuning, &build.target, kernel, &tuned);
    assert_true(cg_tuned_find(tuning, &build.target, kernel, &back));
    tuned.ratio = INFINITY;
    cg_tuned_store(tuning, &build.target, kernel, &tuned);
    assert_false(cg_tuned_find(tuning, &build.target, kernel, &back));
    tuned.ratio = 0.9;
    tuned.accepted = 2;
    cg_tuned_store(tuning, &build.target, kernel, &tuned);
    assert_false(cg_tuned_find(tuning, &build.target, kernel, &back));
    cg_cache_close(tuning);
    dr_build_free(&build);
    close_place(&p);
}

/* Schedules with tiles come on request, behind all others, and are believed only where the system lets them run. */
static void tiles_come_last(void **unused) {
    (void)unused;
    SuDiags diags = {0};
    CgTarget target;
    if (!cg_target_host("amx-in-ir", &target, &diags)) {
        su_diags_free(&diags);
        skip();
    }
    target.amx_in_ir = false; /* as a processor that has them */
    PgKernel k = {.kind = PG_LINEAR, .mode = PG_BLOCK, .dtype = IR_Q8, .rounds = true, .O = 203, .K = 597};
    CgSchedule without[CG_MOST_SCHEDULES], with[CG_MOST_SCHEDULES];
    unsigned fewer = cg_schedule_space(&target, &k, false, without), more = cg_schedule_space(&target, &k, true, with);
    assert_true(1 < fewer && fewer < more && more < CG_MOST_SCHEDULES);
    assert_memory_equal(without, with, fewer * sizeof *with);
    for (unsigned i = 0; i < more; i++) assert_int_equal(with[i].tiles, i >= fewer);
    Place p;
    open_place(&p);
    CgCache *tuning = cg_tuning_open(p.directory);
    CgTuned tuned = {.best = with[fewer], .measured = 1, .accepted = 1, .ratio = 0.5}, back;
    cg_tuned_store(tuning, &target, &k, &tuned);
    assert_int_equal(cg_tuned_find(tuning, &target, &k, &back), cg_may_use_tiles(&target));
    target.native = false;
    assert_false(cg_may_use_tiles(&target));
    target.native = target.amx_in_ir = true;
    assert_true(cg_may_use_tiles(&target));
    target.amx_bytes = target.amx_bf16 = false;
    assert_false(cg_may_use_tiles(&target));
    cg_cache_close(tuning);
    close_place(&p);
    cg_target_free(&target);
}

int main(void) {
    CgTarget target;
    SuDiags diags = {0};
    if (!cg_target_host(NULL, &target, &diags)) {
        su_diags_print(&diags, stderr);
        su_diags_free(&diags);
        return SKIPPED;
    }
    cg_target_free(&target);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stored_schedules_are_used_and_change_no_bit),
        cmocka_unit_test(damaged_schedules_are_told_of_and_ignored),
        cmocka_unit_test(impossible_schedules_are_ignored),
        cmocka_unit_test(tiles_come_last),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    cg_llvm_shutdown();
    return failed;
}
