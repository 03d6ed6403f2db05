/* The programs of shipped specs keep every rule of programs; each rule, broken once in a good program, is found and named. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "codegen/cuda/cuda.h"
#include "frontend/lower.h"
#include "frontend/spec.h"
#include "ir/program_verify.h"
#include "schedule/schedule.h"
#include "support/size.h"

/* A program whose tables may be written. */
typedef struct Made {
    SuArena arena;
    PgProgram program;
    PgPhase *phases[PG_LISTS];
    PgKernel *kernels;
    PgTensor *tensors;
    PgWeight *weights;
    PgState *states;
    PgRope *ropes;
} Made;

static const char *directory;

static void *copy(Made *m, const void *table, size_t count, size_t size) {
    void *out = su_alloc(&m->arena, count * size + 1);
    if (count > 0) memcpy(out, table, count * size);
    return out;
}

static void make_writable(Made *m) {
    PgProgram *p = &m->program;
    for (int list = 0; list < PG_LISTS; list++) {
        m->phases[list] = copy(m, p->steps[list].phases, p->steps[list].n_phases, sizeof(PgPhase));
        p->steps[list].phases = m->phases[list];
    }
    p->kernels = m->kernels = copy(m, p->kernels, p->n_kernels, sizeof(PgKernel));
    p->tensors = m->tensors = copy(m, p->tensors, p->n_tensors, sizeof(PgTensor));
    p->weights = m->weights = copy(m, p->weights, p->n_weights, sizeof(PgWeight));
    p->states = m->states = copy(m, p->states, p->n_states, sizeof(PgState));
    p->ropes = m->ropes = copy(m, p->ropes, p->n_ropes, sizeof(PgRope));
}

static Made make(const char *name, const PsOptions *options) {
    Made m = {0};
    FeSpec spec = {0};
    SuDiags diags = {0};
    const PgProgram *program = NULL;
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.yaml", directory, name);
    bool good = fe_spec_load(path, NULL, 0, &spec, &diags);
    IrGraph *graph = good ? fe_lower(&spec, &m.arena) : NULL;
    good = good && ps_fuse(graph, options, &diags) && sc_program(graph, options, &m.arena, &program, &diags);
    if (!good) {
        su_diags_print(&diags, stderr);
        fail_msg("%s has no program", name);
    }
    m.program = *program;
    make_writable(&m);
    su_diags_free(&diags);
    fe_spec_free(&spec);
    return m;
}

/* The message, or "" for a good program. */
static void verify(const Made *m, char out[512]) {
    SuDiags diags = {0};
    bool good = pg_verify(&m->program, &diags);
    assert_int_equal(good, diags.errors == 0);
    snprintf(out, 512, "%s", good ? "" : diags.items[0].message);
    su_diags_free(&diags);
}

/* ---- what mutations reach for */

static PgKernel *kernel_of(Made *m, const PgPhase *phase) { return &m->kernels[phase->kernel]; }

/* The first phase of a kind, with a step in its epilogue if one is asked for. */
static PgPhase *phase_with(Made *m, int mode, PgKind kind, PgStepKind step) {
    for (uint32_t i = 0; i < m->program.steps[mode].n_phases; i++) {
        PgPhase *p = &m->phases[mode][i];
        if (kernel_of(m, p)->kind == kind && (step == PG_NO_STEP || pg_does(kernel_of(m, p), step))) return p;
    }
    fail_msg("no phase of kind %d with step %d", (int)kind, (int)step);
    return NULL;
}

static PgPhase *phase_of(Made *m, int mode, PgKind kind) { return phase_with(m, mode, kind, PG_NO_STEP); }

/* Two phases of one stage. */
static PgPhase *neighbour(Made *m, PgMode mode) {
    for (uint32_t i = 1; i < m->program.steps[mode].n_phases; i++) {
        PgPhase *p = &m->phases[mode][i];
        if (p->stage == p[-1].stage && kernel_of(m, p)->kind == PG_LINEAR && kernel_of(m, p - 1)->kind == PG_LINEAR) return p;
    }
    fail_msg("no two linears in a stage");
    return NULL;
}

/* ---- mutations: a rule each, and what the message must say */

#define MUTATIONS(M)                                                                                                               \
    M(no_name, "moss-tiny", "no name", m->program.name = NULL)                                                                     \
    M(no_vocabulary, "moss-tiny", "vocabulary", m->program.vocab_size = 0)                                                         \
    M(logits_too_close, "moss-tiny", "floats apart", m->program.out_stride -= 16)                                                  \
    M(no_rows, "moss-tiny", "takes 0 rows", m->program.max_rows = 0)                                                               \
    M(negative_positions, "moss-tiny", "max_positions", m->program.max_positions = -1)                                             \
    M(missing_table, "moss-tiny", "table is missing", m->program.weights = NULL)                                                   \
    M(huge_weights, "moss-tiny", "less than 2^48", m->program.weight_bytes = UINT64_MAX)                                           \
    M(unnamed_tensor, "moss-tiny", "tensor 1 has no name", m->tensors[1].name = NULL)                                              \
    M(shapeless_tensor, "moss-tiny", "no shape", m->tensors[2].shape[0] = 0)                                                       \
    M(endless_tensor, "moss-tiny", "no shape", m->tensors[2].shape[0] = INT64_MAX)                                                 \
    M(rankless_tensor, "moss-tiny", "no shape", m->tensors[2].rank = 5)                                                            \
    M(weight_of_no_tensor, "moss-tiny", "is of tensor", m->weights[3].tensor = m->program.n_tensors)                               \
    M(unknown_pack, "moss-tiny", "unknown way", m->weights[3].pack = 3)                                                            \
    M(unknown_dtype, "moss-tiny", "dtype", m->weights[0].dtype = 77)                                                               \
    M(narrow_vector, "moss-tiny", "dtype", m->weights[1].dtype = m->weights[0].dtype)                                              \
    M(weight_of_other_size, "moss-tiny", "number of elements", m->weights[0].K++)                                                  \
    M(weight_of_other_bytes, "moss-tiny", "expected", m->weights[0].bytes -= 64)                                                   \
    M(weight_between_pages, "moss-tiny", "not at a multiple of 4096", m->weights[0].offset += 64)                                  \
    M(vector_between_lines, "moss-tiny", "not at a multiple of 64", m->weights[1].offset += 4)                                     \
    M(weights_overlap, "moss-tiny", "overlaps", m->weights[1].offset = 0)                                                          \
    M(weight_beyond_blob, "moss-tiny", "ends beyond", m->program.weight_bytes = m->weights[m->program.n_weights - 1].offset)       \
    M(more_active_than_all, "moss-tiny", "more weights than", m->program.active_weight_bytes = m->program.weight_bytes + 1)        \
    M(unnamed_state, "moss-tiny", "state 0 has no name", m->states[0].name = NULL)                                                 \
    M(states_overlap, "moss-tiny", "overlaps the one before", m->states[1].offset = 0)                                             \
    M(state_beyond_all, "moss-tiny", "ends beyond", m->program.state_bytes -= 64)                                                  \
    M(odd_rope, "mixtral-small", "rope 0", m->ropes[0].dim--)                                                                      \
    M(endless_theta, "mixtral-small", "rope 0", m->ropes[0].theta = 1.0 / 0.0)                                                     \
    M(rope_divided_by_nothing, "mixtral-small", "scale nothing", m->ropes[0].factor = 0)                                           \
    M(rope_of_half_a_ramp, "mixtral-small", "scale nothing", m->ropes[0].high = 4)                                                 \
    M(scores_times_nothing, "mixtral-small", "has scale", kernel_of(m, phase_of(m, PG_ROW, PG_ATTEND))->scale = 0)                 \
    M(groups_that_do_not_divide, "moss-tiny", "size out of range", {                                                               \
        PgKernel *k = kernel_of(m, phase_of(m, PG_ROW, PG_ROUTE));                                                                 \
        k->expert_groups = k->E + 1;                                                                                               \
        k->top_groups = 1;                                                                                                         \
    })                                                                                                                             \
    M(unknown_kind, "moss-tiny", "an unknown kind, mode, layout or word", m->kernels[1].kind = PG_KIND_COUNT)                      \
    M(unknown_layout, "moss-tiny", "an unknown kind, mode, layout or word", m->kernels[1].y_layout = (PgLayout)9)                  \
    M(negative_size, "moss-tiny", "size out of range", m->kernels[1].K = -1)                                                       \
    M(more_chosen_than_experts, "moss-tiny", "size out of range", m->kernels[1].k = m->kernels[1].E + 1)                           \
    M(rounds_for_floats, "moss-tiny", "rounds its input", kernel_of(m, phase_of(m, PG_BLOCK, PG_LINEAR))->rounds = true)           \
    M(rounds_one_row, "moss-tiny", "rounds rows", kernel_of(m, phase_of(m, PG_ROW, PG_SCAN))->kind = PG_ROUND)                     \
    M(rounds_to_another_layout, "moss-tiny", "rounds rows", {                                                                      \
        PgKernel *k = kernel_of(m, phase_of(m, PG_BLOCK, PG_LINEAR));                                                              \
        k->kind = PG_ROUND;                                                                                                        \
        k->y_layout = k->x_layout == PG_ROWS ? PG_PLANES : PG_ROWS;                                                                \
    })                                                                                                                             \
    M(blocks_as_floats, "moss-tiny", "which its pack does not take", {                                                             \
        m->weights[0].dtype = IR_F32;                                                                                              \
        m->tensors[m->weights[0].tensor].dtype = IR_Q8;                                                                            \
    })                                                                                                                             \
    M(rope_of_no_table, "mixtral-small", "reads rope", kernel_of(m, phase_of(m, PG_ROW, PG_KV_STORE))->rope_table = 1)             \
    M(unknown_step, "moss-tiny", "unknown step", kernel_of(m, phase_of(m, PG_ROW, PG_LINEAR))->epilogue.steps[0].kind = 99)        \
    M(steps_turned, "moss-tiny", "do not rise", {                                                                                  \
        PgEpilogueStep *s = kernel_of(m, phase_with(m, PG_ROW, PG_LINEAR, PG_STEP_CONV))->epilogue.steps;                          \
        PgEpilogueStep first = s[0];                                                                                               \
        s[0] = s[1];                                                                                                               \
        s[1] = first;                                                                                                              \
    })                                                                                                                             \
    M(activation_of_none, "moss-tiny", "has activation 0", {                                                                       \
        PgKernel *k = kernel_of(m, phase_with(m, PG_ROW, PG_LINEAR, PG_STEP_ACT));                                                 \
        ((PgEpilogueStep *)(uintptr_t)pg_epilogue_find(&k->epilogue, PG_STEP_ACT))->act = PG_NO_ACT;                               \
    })                                                                                                                             \
    M(scale_of_a_residual, "moss-tiny", "has scale", {                                                                             \
        PgKernel *k = kernel_of(m, phase_with(m, PG_ROW, PG_LINEAR, PG_STEP_RESIDUAL));                                            \
        ((PgEpilogueStep *)(uintptr_t)pg_epilogue_find(&k->epilogue, PG_STEP_RESIDUAL))->scale = 2;                                \
    })                                                                                                                             \
    M(epilogue_of_a_scan, "moss-tiny", "neither a linear layer nor a sum",                                                         \
      kernel_of(m, phase_of(m, PG_ROW, PG_SCAN))->epilogue.steps[0].kind = PG_STEP_LOGITS)                                         \
    M(two_sums, "moss-tiny", "two sums",                                                                                           \
      kernel_of(m, phase_of(m, PG_BLOCK, PG_COMBINE))->epilogue =                                                                  \
          (PgEpilogue){{{.kind = PG_STEP_WEIGHTED_SUM}, {.kind = PG_STEP_PLANE_SUM}}})                                             \
    M(combine_without_sum, "moss-tiny", "must begin with a sum",                                                                   \
      kernel_of(m, phase_of(m, PG_BLOCK, PG_COMBINE))->epilogue = (PgEpilogue){{{.kind = PG_STEP_RESIDUAL}}})                      \
    M(block_that_sums, "moss-tiny", "sums over experts",                                                                           \
      kernel_of(m, phase_of(m, PG_BLOCK, PG_LINEAR))->epilogue = (PgEpilogue){{{.kind = PG_STEP_PLANE_SUM}}})                      \
    M(no_phases, "moss-tiny", "has no phases", m->program.steps[PG_ROW].n_phases = 0)                                              \
    M(stages_miscounted, "moss-tiny", "stages, expected", m->program.steps[PG_ROW].n_stages++)                                     \
    M(uneven_arena, "moss-tiny", "a size that no plan gives", m->program.steps[PG_ROW].arena_fixed += 4)                           \
    M(growing_arena_of_a_row, "moss-tiny", "a size that no plan gives", m->program.steps[PG_ROW].arena_per_row = 64)               \
    M(unnamed_phase, "moss-tiny", "phase 2 (row) has no name", m->phases[PG_ROW][2].name = NULL)                                   \
    M(kernel_of_none, "moss-tiny", "it runs kernel", m->phases[PG_ROW][2].kernel = m->program.n_kernels)                           \
    M(stage_left_out, "moss-tiny", "rise one by one", {                                                                            \
        PgStep *step = &m->program.steps[PG_ROW];                                                                                  \
        for (uint32_t i = 1; i < step->n_phases; i++) m->phases[PG_ROW][i].stage++;                                                \
        step->n_stages++;                                                                                                          \
    })                                                                                                                             \
    M(stage_falls, "moss-tiny", "rise one by one", m->phases[PG_ROW][3].stage = 0)                                                 \
    M(no_tiles, "moss-tiny", "tile count is invalid", m->phases[PG_ROW][2].fixed = 0)                                              \
    M(unknown_count, "moss-tiny", "tile count is invalid", m->phases[PG_ROW][2].count = 6)                                         \
    M(kernel_of_the_other_mode, "moss-tiny", "of the other mode", m->phases[PG_ROW][0].kernel = m->phases[PG_BLOCK][0].kernel)     \
    M(tiles_of_another_count, "moss-tiny", "tiles per count", phase_of(m, PG_BLOCK, PG_LINEAR)->count = PG_PER_ROW)                \
    M(tiles_of_another_size, "moss-tiny", "tiles per count", phase_of(m, PG_ROW, PG_SCAN)->fixed--)                                \
    M(blocks_of_other_experts, "moss-tiny", "counts blocks of", {                                                                  \
        for (uint32_t i = 0; i < m->program.steps[PG_BLOCK].n_phases; i++)                                                         \
            if (m->phases[PG_BLOCK][i].count == PG_PER_POSITION_BLOCK) m->phases[PG_BLOCK][i].E++;                                 \
    })                                                                                                                             \
    M(operand_in_no_space, "moss-tiny", "in an unknown space", phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_Y].space = 4)    \
    M(nowhere_with_a_place, "moss-tiny", "absent, but has an offset", phase_of(m, PG_ROW, PG_SCAN)->operands[15].fixed = 64)       \
    M(operand_between_lines, "moss-tiny", "multiple of 64", phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_Y].fixed += 4)      \
    M(growing_weight, "moss-tiny", "multiple of 64", phase_of(m, PG_BLOCK, PG_LINEAR)->operands[PG_LINEAR_W].per_row = 64)         \
    M(operand_beyond_arena, "moss-tiny", "begins beyond",                                                                          \
      phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_Y].fixed = m->program.steps[PG_ROW].arena_fixed + 64)                     \
    M(operand_beyond_weights, "moss-tiny", "begins beyond",                                                                        \
      phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_W].fixed = su_round_up(m->program.weight_bytes, 4096))                    \
    M(operand_beyond_states, "moss-tiny", "begins beyond",                                                                         \
      phase_of(m, PG_ROW, PG_SCAN)->operands[PG_SCAN_STATE].fixed = m->program.state_bytes)                                        \
    M(operand_missing, "moss-tiny", "W is missing", phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_W] = (PgRef){0})            \
    M(step_without_operand, "moss-tiny", "RESIDUAL is missing",                                                                    \
      phase_with(m, PG_ROW, PG_LINEAR, PG_STEP_RESIDUAL)->operands[PG_LINEAR_RESIDUAL] = (PgRef){0})                               \
    M(history_missing, "moss-tiny", "HISTORY is missing",                                                                          \
      phase_with(m, PG_ROW, PG_LINEAR, PG_STEP_CONV)->operands[PG_LINEAR_HISTORY] = (PgRef){0})                                    \
    M(operand_without_step, "moss-tiny", "does not belong to its kernel",                                                          \
      phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_ADDEND] = phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_X])          \
    M(operand_in_another_space, "moss-tiny", "X is in the wrong space",                                                            \
      phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_X] = phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_W])               \
    M(y_ends_beyond_arena, "moss-tiny", "ends beyond the arena",                                                                   \
      phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_Y].fixed = m->program.steps[PG_ROW].arena_fixed - 64)                     \
    M(another_weight, "moss-tiny", "is not a weight of the shape",                                                                 \
      phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_W] = phase_of(m, PG_ROW, PG_EMBED)->operands[PG_EMBED_W])                 \
    M(weights_with_a_gap, "mixtral-small", "is not a weight of the shape", {                                                       \
        uint64_t w = phase_of(m, PG_ROW, PG_LINEAR)->operands[PG_LINEAR_W].fixed; /* of q, k and v */                              \
        for (uint32_t i = 0; i < m->program.n_weights; i++)                                                                        \
            if (m->weights[i].offset > w) m->weights[i].offset += 4096;                                                            \
        m->program.weight_bytes += 4096;                                                                                           \
    })                                                                                                                             \
    M(part_beyond_the_whole, "mixtral-small", "wrote something else",                                                              \
      phase_of(m, PG_ROW, PG_KV_STORE)->operands[PG_KV_V].fixed += 64)                                                             \
    M(weight_of_another_dtype, "moss-tiny", "is not a weight of the shape",                                                        \
      kernel_of(m, phase_of(m, PG_ROW, PG_LINEAR))->dtype = IR_F32)                                                                \
    M(state_of_another_size, "moss-tiny", "is not a state of the size",                                                            \
      phase_of(m, PG_ROW, PG_SCAN)->operands[PG_SCAN_STATE].fixed =                                                                \
          phase_with(m, PG_ROW, PG_LINEAR, PG_STEP_CONV)->operands[PG_LINEAR_HISTORY].fixed)                                       \
    M(half_a_state, "moss-tiny", "is not a state of the size", phase_of(m, PG_ROW, PG_SCAN)->operands[PG_SCAN_STATE].fixed += 64)  \
    M(residual_of_no_operand, "moss-tiny", "no operand in the arena", phase_of(m, PG_ROW, PG_EMBED)->hidden_slot = PG_EMBED_W)     \
    M(residual_of_another_width, "moss-tiny", "expected 192", {                                                                    \
        phase_of(m, PG_ROW, PG_EMBED)->hidden = 0;                                                                                 \
        phase_of(m, PG_ROW, PG_ROUTE)->hidden = 1;                                                                                 \
        phase_of(m, PG_ROW, PG_ROUTE)->hidden_slot = PG_ROUTE_EXPERTS;                                                             \
    })                                                                                                                             \
    M(residual_twice, "moss-tiny", "writes the same residual", phase_with(m, PG_ROW, PG_LINEAR, PG_STEP_RESIDUAL)->hidden = 1)     \
    M(residual_left_out, "moss-tiny", "mode block writes 8 of 9 residual", phase_of(m, PG_BLOCK, PG_EMBED)->hidden = 0)            \
    M(neighbours_write_the_same, "moss-tiny", "of the same stage overlap",                                                         \
      neighbour(m, PG_ROW)->operands[PG_LINEAR_Y] = neighbour(m, PG_ROW)[-1].operands[PG_LINEAR_Y])                                \
    M(neighbour_reads_what_is_written, "moss-tiny", "of the same stage overlap",                                                   \
      neighbour(m, PG_BLOCK)->operands[PG_LINEAR_X] = neighbour(m, PG_BLOCK)[-1].operands[PG_LINEAR_Y])                            \
    M(store_and_attend_in_a_stage, "mixtral-small", "of the same stage overlap", {                                                 \
        PgPhase *p = phase_of(m, PG_ROW, PG_ATTEND), *end = m->phases[PG_ROW] + m->program.steps[PG_ROW].n_phases;                 \
        for (; p < end; p++) p->stage--;                                                                                           \
        m->program.steps[PG_ROW].n_stages--;                                                                                       \
    })                                                                                                                             \
    M(read_before_written, "moss-tiny", "before any phase wrote it",                                                               \
      phase_of(m, PG_ROW, PG_ROUTE)->operands[PG_ROUTE_X] = phase_of(m, PG_ROW, PG_SCAN)->operands[PG_SCAN_Y])                     \
    M(convolves_in_blocks, "moss-tiny", "need not have all rows",                                                                  \
      phase_of(m, PG_BLOCK, PG_LINEAR)->kernel = phase_with(m, PG_FEW, PG_LINEAR, PG_STEP_CONV)->kernel)                           \
    M(norm_behind_one_row, "moss-tiny", "prepares a norm", kernel_of(m, phase_of(m, PG_ROW, PG_LINEAR))->norm_behind = true)       \
    M(norm_of_blocks, "moss-tiny", "norms its input", kernel_of(m, phase_of(m, PG_BLOCK, PG_LINEAR))->norm = PG_LAYER)             \
    M(half_a_panel_of_two_matrices, "moss-tiny", "side by side",                                                                   \
      kernel_of(m, phase_with(m, PG_FEW, PG_LINEAR, PG_STEP_CONV))->first_O++)                                                     \
    M(squares_of_something_else, "moss-tiny", "wrote something else", {                                                            \
        PgPhase *p = phase_with(m, PG_FEW, PG_LINEAR, PG_STEP_CONV);                                                               \
        p->operands[PG_LINEAR_X] = p->operands[PG_LINEAR_SQUARES];                                                                 \
    })                                                                                                                             \
    M(groups_of_something_else, "moss-tiny", "wrote something else", {                                                             \
        PgPhase *group = phase_of(m, PG_BLOCK, PG_GROUP), *p = group;                                                              \
        while (p->operands[PG_LINEAR_GROUPS].space != PG_ARENA || kernel_of(m, p)->kind != PG_LINEAR) p++;                         \
        p->operands[PG_LINEAR_GROUPS] = phase_of(m, PG_BLOCK, PG_ROUTE)->operands[PG_ROUTE_EXPERTS];                               \
    })

#define MUTATION(name, spec, expected, ...)                                                                                        \
    static void name(Made *m) { __VA_ARGS__; }
MUTATIONS(MUTATION)
#undef MUTATION

static const struct {
    const char *name, *spec, *expected;
    void (*mutate)(Made *);
} mutations[] = {
#define MUTATION(name, spec, expected, ...) {#name, spec, expected, name},
    MUTATIONS(MUTATION)
#undef MUTATION
};

static void test_broken_rules_are_found(void **unused) {
    (void)unused;
    int failed = 0;
    for (size_t i = 0; i < sizeof mutations / sizeof *mutations; i++) {
        Made m = make(mutations[i].spec, &(PsOptions){.few = &cg_cuda_few});
        mutations[i].mutate(&m);
        char message[512];
        verify(&m, message);
        bool found = strstr(message, mutations[i].expected) != NULL;
        if (!found) print_error("%s: expected \"%s\", got \"%s\"\n", mutations[i].name, mutations[i].expected, message);
        failed += !found;
        su_arena_free(&m.arena);
    }
    assert_int_equal(failed, 0);
}

static void expect_sound(const char *spec, const PsOptions *options) {
    Made m = make(spec, options);
    char message[512];
    verify(&m, message);
    if (message[0] != '\0') fail_msg("%s: %s", spec, message);
    m.program.kernels = NULL; /* as in an artefact */
    verify(&m, message);
    assert_string_equal(message, "");
    su_arena_free(&m.arena);
}

/* Of every spec in the directory, whatever fusion is off. */
static void test_programs_of_specs_are_sound(void **unused) {
    (void)unused;
    int specs = 0;
    DIR *open = opendir(directory);
    assert_non_null(open);
    for (struct dirent *d; (d = readdir(open)) != NULL;) {
        char name[256] = "";
        size_t size = strlen(d->d_name), suffix = strlen(".yaml");
        if (size <= suffix || strcmp(d->d_name + size - suffix, ".yaml") != 0) continue;
        memcpy(name, d->d_name, size - suffix);
        specs++;
        for (int off = 0; off <= PS_PASS_COUNT + 1; off++) {
            PsOptions options = {.few = &cg_cuda_few};
            for (int pass = 0; pass < PS_PASS_COUNT; pass++) options.off[pass] = pass + 1 == off || off > PS_PASS_COUNT;
            expect_sound(name, &options);
        }
    }
    closedir(open);
    assert_true(specs > 0);
}

/* ---- who checks */

static IrGraph *lowered(const char *name, SuArena *arena) {
    FeSpec spec = {0};
    SuDiags diags = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.yaml", directory, name);
    assert_true(fe_spec_load(path, NULL, 0, &spec, &diags));
    IrGraph *graph = fe_lower(&spec, arena);
    su_diags_free(&diags);
    fe_spec_free(&spec);
    return graph;
}

/* The rule is an error, and that it was broken a bug of ours. */
static void assert_our_bug(SuDiags *diags, const char *rule, const char *bug) {
    assert_int_equal(diags->failure.code, SU_OUR_BUG);
    assert_non_null(strstr(diags->failure.text, bug));
    assert_int_equal(diags->count, 1);
    assert_non_null(strstr(diags->items[0].message, rule));
    su_diags_free(diags);
}

static void test_a_broken_program_is_our_bug(void **unused) {
    (void)unused;
    SuArena arena = {0};
    SuDiags diags = {0};
    PsOptions options = {.check = true};
    const PgProgram *program;
    IrGraph *graph = lowered("moss-tiny", &arena);
    assert_true(ps_fuse(graph, &options, &diags));
    graph->max_positions = -1;
    assert_false(sc_program(graph, &options, &arena, &program, &diags));
    assert_our_bug(&diags, "max_positions", "scheduling produced a program that violates the rules above");
    su_arena_free(&arena);
}

static void test_a_broken_graph_is_our_bug(void **unused) {
    (void)unused;
    SuArena arena = {0};
    SuDiags diags = {0};
    PsOptions options = {.check = true};
    IrGraph *graph = lowered("moss-tiny", &arena);
    graph->values[graph->logits].type.dim[1]++;
    assert_false(ps_fuse(graph, &options, &diags));
    assert_our_bug(&diags, "but its operands make it f32[rows,256]", "route-fusion produced a graph that violates the rules above");
    su_arena_free(&arena);
}

/* A name that the text form cannot hold. */
static void test_a_graph_that_does_not_read_back_is_our_bug(void **unused) {
    (void)unused;
    SuArena arena = {0};
    SuDiags diags = {0};
    PsOptions options = {.check = true};
    IrGraph *graph = lowered("moss-tiny", &arena);
    graph->name = "two\nlines";
    assert_false(ps_fuse(graph, &options, &diags));
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    su_diags_print(&diags, out); /* with the line of the text, which is gone by now */
    fclose(out);
    assert_non_null(strstr(text, "graph after route-fusion:2:1: error: expected naive or fused\n    lines fused {\n    ^~~~~\n"));
    free(text);
    assert_our_bug(&diags, "expected naive or fused", "the text of the graph after route-fusion does not parse");
    su_arena_free(&arena);
}

int main(int argc, char **argv) {
    if (argc != 2) return 1;
    directory = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_programs_of_specs_are_sound), cmocka_unit_test(test_broken_rules_are_found),
        cmocka_unit_test(test_a_broken_program_is_our_bug), cmocka_unit_test(test_a_broken_graph_is_our_bug),
        cmocka_unit_test(test_a_graph_that_does_not_read_back_is_our_bug)};
    return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
