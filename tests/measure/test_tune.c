/* The search for schedules where one of them is wrong: it changes the logits, or ends the process. The search goes on without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "driver/device.h"
#include "driver/random_weights.h"
#include "measure/tune.h"

enum { SKIPPED = 77, DIED = 7 };

static const char spec[] = "mossc: 1\nname: tuned\nvocab_size: 250\nd_model: 64\nweights: {dtype: q8}\n"
                           "stack:\n  - ssm: {d_state: 4}\n  - mlp: {d_ff: 80}\n";

/* ---------------------------------------------------------------------------------------------- what goes wrong */

static bool spoils; /* the next schedule that is tried doubles what it gives */
static bool dies; /* the first step of kernels with tiles ends the process */
static bool runs_tiles; /* since kernels with tiles were compiled to be tried */
static unsigned tried_tiles, tried_plain; /* schedules that were compiled to be tried */
static CgSchedule spoilt; /* the one that was spoilt, of its first kernel */
static unsigned tried_spoilt; /* how often it was compiled to be tried */

bool __real_cg_llvm_compile(const CgTarget *target, const PgProgram *program, const CgOptions *options, CgCompiled **out,
                            SuDiags *diags);
bool __wrap_cg_llvm_compile(const CgTarget *target, const PgProgram *program, const CgOptions *options, CgCompiled **out,
                            SuDiags *diags);
bool __wrap_cg_llvm_compile(const CgTarget *target, const PgProgram *program, const CgOptions *options, CgCompiled **out,
                            SuDiags *diags) {
    bool is_tried = program->n_tensors == 0;
    PgProgram changed = *program;
    PgKernel kernels[64];
    if (is_tried) {
        runs_tiles = options->schedules[0].tiles;
        *(runs_tiles ? &tried_tiles : &tried_plain) += 1;
    }
    if (is_tried && spoils) spoilt = options->schedules[0];
    tried_spoilt += is_tried && program->kernels[0].mode == PG_ROW && cg_schedule_equal(&options->schedules[0], &spoilt);
    if (is_tried && spoils) {
        assert_true(program->n_kernels <= 64);
        memcpy(kernels, program->kernels, program->n_kernels * sizeof *kernels);
        for (uint32_t i = 0; i < program->n_kernels; i++)
            if (!pg_does(&kernels[i], PG_STEP_LOGITS))
                pg_epilogue_add(&kernels[i].epilogue, (PgEpilogueStep){.kind = PG_STEP_SCALE, .scale = 2});
        changed.kernels = kernels;
        spoils = false;
    }
    return __real_cg_llvm_compile(target, &changed, options, out, diags);
}

MossError __real_moss_step(MossModel *model, const MossSegment *segments, uint32_t n_segments);
MossError __wrap_moss_step(MossModel *model, const MossSegment *segments, uint32_t n_segments);
MossError __wrap_moss_step(MossModel *model, const MossSegment *segments, uint32_t n_segments) {
    if (dies && runs_tiles) _exit(DIED);
    return __real_moss_step(model, segments, n_segments);
}

/* ---------------------------------------------------------------------------------------------- searches */

typedef struct Place {
    char directory[64];
    DrTexts weights;
    DrBuildOptions options;
} Place;

static void open_place(Place *p, const char *isa) {
    memset(p, 0, sizeof *p);
    snprintf(p->directory, sizeof p->directory, "measure-tune-%ld", (long)getpid());
    p->options = (DrBuildOptions){.spec = "tuned.yaml",
                                  .spec_text = spec,
                                  .spec_size = sizeof spec - 1,
                                  .cache_directory = p->directory,
                                  .isa = isa,
                                  .threads = 1,
                                  .weights = &p->weights};
    cg_tuning_clear(p->directory);
    spoils = dies = runs_tiles = false;
    tried_tiles = tried_plain = tried_spoilt = 0;
}

static void close_place(const Place *p) {
    cg_cache_clear(p->directory);
    cg_tuning_clear(p->directory);
    assert_int_equal(rmdir(p->directory), 0);
}

static void open_build(DrBuild *build, const Place *p) {
    *build = (DrBuild){0};
    bool ok = dr_build_device(build, &p->options) && dr_build_spec(build, &p->options) && dr_build_graph(build) &&
              dr_build_program(build, &p->options) && cg_target_host(p->options.isa, &build->target, &build->diags);
    if (!ok) su_diags_print(&build->diags, stderr);
    assert_true(ok);
    build->has_target = true;
}

/* One schedule of each mode that has one left; how many warnings of changed logits. */
static unsigned search(const Place *p, bool amx, MsTuning *out, DrBuild *build) {
    unsigned count = 0;
    open_build(build, p);
    bool ok = ms_tune(build, &p->options, &(MsTunePlan){.seconds = 0, .amx = amx}, out);
    if (!ok) su_diags_print(&build->diags, stderr);
    assert_true(ok);
    for (size_t i = 0; i < build->diags.count; i++) count += strstr(build->diags.items[i].message, "changed the logits") != NULL;
    return count;
}

static void a_schedule_that_changes_logits_is_left_out(void **unused) {
    (void)unused;
    Place p;
    DrBuild build;
    MsTuning tuning;
    open_place(&p, NULL);
    spoils = true;
    assert_int_equal(search(&p, false, &tuning, &build), 1);
    unsigned seen = 0;
    for (size_t i = 0; i < tuning.n_kernels; i++) {
        const MsTunedKernel *kernel = &tuning.kernels[i];
        if (build.program->kernels[kernel->index].mode != PG_ROW) continue;
        seen++;
        assert_int_equal(kernel->tuned.measured, 3);
        assert_int_equal(kernel->tuned.accepted, 0);
        assert_true(cg_schedule_equal(&kernel->tuned.best, &kernel->space[0]));
    }
    assert_true(seen > 0);
    dr_build_free(&build);
    assert_int_equal(search(&p, false, &tuning, &build), 0);
    assert_true(tuning.measured > 0);
    assert_int_equal(tried_spoilt, 1);
    dr_build_free(&build);
    close_place(&p);
}

/* Bits of the schedules with tiles but the default. */
static uint32_t tiles_of(const CgTarget *target, const PgKernel *k, CgSchedule *out_default, uint32_t *out_all) {
    CgSchedule space[CG_MOST_SCHEDULES];
    unsigned count = cg_schedule_space(target, k, true, space);
    uint32_t bits = 0;
    for (unsigned i = 1; i < count; i++) bits |= (uint32_t)(space[i].tiles != 0) << i;
    *out_default = space[0];
    *out_all = (1u << count) - 1;
    return count > 1 ? bits : 0;
}

/* All but tiles counts as measured. */
static void leave_tiles(const Place *p) {
    DrBuild build;
    open_build(&build, p);
    CgCache *tuning = cg_tuning_open(p->directory);
    for (uint32_t i = 0; i < build.program->n_kernels; i++) {
        CgTuned tuned = {.ratio = 1};
        uint32_t all, tiles = tiles_of(&build.target, &build.program->kernels[i], &tuned.best, &all);
        tuned.measured = all & ~tiles;
        if (all > 1) cg_tuned_store(tuning, &build.target, &build.program->kernels[i], &tuned);
    }
    cg_cache_close(tuning);
    dr_build_free(&build);
}

/* Of all kernels: schedules with tiles that count as measured. */
static unsigned measured_tiles(const Place *p) {
    DrBuild build;
    unsigned count = 0;
    open_build(&build, p);
    CgCache *tuning = cg_tuning_open(p->directory);
    for (uint32_t i = 0; i < build.program->n_kernels; i++) {
        CgTuned tuned;
        CgSchedule first;
        uint32_t all, tiles = tiles_of(&build.target, &build.program->kernels[i], &first, &all);
        if (tiles && cg_tuned_find(tuning, &build.target, &build.program->kernels[i], &tuned))
            count += (unsigned)__builtin_popcount(tuned.measured & tiles);
    }
    cg_cache_close(tuning);
    dr_build_free(&build);
    return count;
}

static void tiles_that_end_the_process_are_not_tried_again(void **unused) {
    (void)unused;
    Place p;
    DrBuild build;
    MsTuning tuning;
    SuDiags diags = {0};
    CgTarget target;
    bool there = cg_target_host("amx-in-ir", &target, &diags);
    su_diags_free(&diags);
    if (!there) skip();
    cg_target_free(&target);
    open_place(&p, "amx-in-ir");
    leave_tiles(&p);
    assert_int_equal(measured_tiles(&p), 0);
    unsigned before = 0;
    for (int run = 0; run < 2; run++) {
        pid_t child = fork();
        if (child == 0) {
            dies = true;
            search(&p, true, &tuning, &build);
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), DIED);
        unsigned now = measured_tiles(&p);
        assert_true(now > before);
        before = now;
    }
    spoils = true;
    assert_int_equal(search(&p, true, &tuning, &build), 1);
    assert_int_equal(tried_plain, 0);
    assert_true(tried_tiles > 0 && measured_tiles(&p) > before);
    dr_build_free(&build);
    close_place(&p);
}

int main(void) {
    CgTarget target;
    SuDiags diags = {0};
    bool there = cg_target_host(NULL, &target, &diags);
    su_diags_free(&diags);
    if (!there) return SKIPPED;
    cg_target_free(&target);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_schedule_that_changes_logits_is_left_out),
        cmocka_unit_test(tiles_that_end_the_process_are_not_tried_again),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    cg_llvm_shutdown();
    return failed;
}
