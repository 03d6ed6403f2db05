/* What PG_FEW joins, counted: the stages are what a batch of one row a sequence waits for on a GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "codegen/cuda/cuda.h"
#include "frontend/lower.h"
#include "frontend/spec.h"
#include "schedule/schedule.h"

static const char *directory;

typedef struct Counts {
    uint32_t stages, phases;
} Counts;

static Counts counts_of(const PgProgram *program, int list) {
    return (Counts){program->steps[list].n_stages, program->steps[list].n_phases};
}

/* The counts of two lists; `set` is an override. */
static void count(const char *name, const char *set, const PsOptions *options, Counts *block, Counts *few) {
    SuArena arena = {0};
    FeSpec spec = {0};
    SuDiags diags = {0};
    const PgProgram *program = NULL;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.yaml", directory, name);
    bool good = fe_spec_load(path, &set, set != NULL, &spec, &diags);
    IrGraph *graph = good ? fe_lower(&spec, &arena) : NULL;
    good = good && ps_fuse(graph, options, &diags) && sc_program(graph, options, &arena, &program, &diags);
    if (!good) su_diags_print(&diags, stderr);
    assert_true(good);
    *block = counts_of(program, PG_BLOCK);
    *few = counts_of(program, PG_FEW);
    su_diags_free(&diags);
    fe_spec_free(&spec);
    su_arena_free(&arena);
}

static void expect(const char *name, const char *set, Counts expected) {
    Counts block, few;
    count(name, set, &(PsOptions){.few = &cg_cuda_few, .check = true}, &block, &few);
    if (few.stages != expected.stages || few.phases != expected.phases)
        fail_msg("%s %s: %u stages and %u phases, expected %u and %u (of %u and %u)", name, set, few.stages, few.phases,
                 expected.stages, expected.phases, block.stages, block.phases);
    assert_true(few.stages <= block.stages && few.phases <= block.phases);
}

/* Four stages a layer: in_proj and gate_proj with the convolution, x_proj, the scan, out_proj; an embedding, a norm, the head. The issue
 * that asked for it wants at most 200. */
static void mamba_370m_takes_195_stages(void **unused) {
    (void)unused;
    expect("mamba-370m", "weights.dtype=bf16", (Counts){4 * 48 + 3, 4 * 48 + 3});
}

/* What tensor cores do not multiply keeps its stages, and so do norms whose factor comes too late for the type. */
static void others_join_what_they_can(void **unused) {
    (void)unused;
    Counts block, few;
    count("mamba-370m", "weights.dtype=f32", &(PsOptions){.few = &cg_cuda_few}, &block, &few);
    assert_int_equal(few.stages, block.stages);
    expect("mamba-370m", "weights.dtype=f16", (Counts){5 * 48 + 3, 5 * 48 + 3});
    expect("mamba-370m", "weights.dtype=q8", (Counts){8 * 48 + 4, 8 * 48 + 4});
    expect("moss-tiny", NULL, (Counts){43, 47});
    expect("mossnet-8x200m-outputs", "weights.dtype=bf16", (Counts){123, 135});
    expect("mamba2-130m", "weights.dtype=bf16", (Counts){4 * 24 + 3, 5 * 24 + 3});
    expect("jamba-like", "weights.dtype=bf16", (Counts){151, 207});
}

/* Stages and phases of layers in a row, and an embedding, a norm and the head. */
static void totals_are_those_of_their_layers(void **unused) {
    (void)unused;
    static const struct {
        const char *name;
        Counts counts;
    } rows[] = {
        {"mamba-tiny", {4 * 8 + 3, 4 * 8 + 3}},
        {"mamba-130m", {4 * 24 + 3, 4 * 24 + 3}},
        {"mamba2-370m", {4 * 48 + 3, 5 * 48 + 3}},
        {"mamba3-370m", {4 * 48 + 3, 7 * 48 + 3}},
        {"transformer-small", {(4 + 2) * 8 + 3, (4 + 2) * 8 + 3}},
        {"smollm2-135m", {(4 + 2) * 30 + 3, (4 + 2) * 30 + 3}},
        {"mixtral-small", {(4 + 5) * 8 + 3, (4 + 5) * 8 + 3}},
        {"lfm2-like", {4 * 10 + 2 * 16 + 5 * 6 + 3, 5 * 10 + 2 * 16 + 6 * 6 + 3}},
        {"blackmamba-small", {(4 + 5) * 10 + 3, (4 + 5) * 10 + 3}},
        {"mossnet-8x200m-params", {(6 + 5) * 12 + 3, (7 + 5) * 12 + 3}},
        {"mossnet2-8x200m-outputs", {(9 + 5) * 12 + 3, (11 + 5) * 12 + 3}},
        {"routing-mamba", {9 * 12 + 3, 11 * 12 + 3}},
        {"swimba-like", {6 * 16 + 3, 8 * 16 + 3}},
        {"falcon-h1-like", {(7 + 3) * 36 + 3, (11 + 3) * 36 + 3}},
        {"granite-h-like", {4 * 9 + 5 * 10 + 4 + 3, 5 * 9 + 8 * 10 + 4 + 3}},
        {"nemotron-h-like", {4 * 10 + 2 * 11 + 4 * 2 + 3, 5 * 10 + 2 * 11 + 4 * 2 + 3}},
        {"bamba-like", {4 * 6 + 2 * 8 + 4 * 2 + 3, 5 * 6 + 2 * 8 + 4 * 2 + 3}},
        {"recursive-mossnet", {250, 342}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) expect(rows[i].name, "weights.dtype=bf16", rows[i].counts);
}

static void nothing_is_made_unasked(void **unused) {
    (void)unused;
    Counts block, few;
    count("moss-tiny", NULL, &(PsOptions){0}, &block, &few);
    assert_int_equal(few.phases, 0);
}

/* test_few SPECS */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mamba_370m_takes_195_stages),
        cmocka_unit_test(others_join_what_they_can),
        cmocka_unit_test(totals_are_those_of_their_layers),
        cmocka_unit_test(nothing_is_made_unasked),
    };
    if (argc != 2) return 1;
    directory = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
