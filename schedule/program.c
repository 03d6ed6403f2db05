/* The program as constant data: both modes' phases with their offsets, kernels shared, tables copied. */
#include <string.h>

#include "ir/program_verify.h"
#include "schedule/few.h"
#include "support/clock.h"
#include "support/size.h"

enum { ARENA_LIMIT_SHIFT = 30 }; /* a step of max_rows keeps its arena below 1 GiB */

static uint32_t intern_kernel(ScBuilder *b, const PgKernel *kernel) {
    for (size_t i = 0; i < b->n_kernels; i++)
        if (pg_kernel_equal(&b->kernels[i], kernel)) return (uint32_t)i;
    b->kernels = su_grow(b->arena, b->kernels, &b->kernels_capacity, b->n_kernels + 1, sizeof *b->kernels);
    b->kernels[b->n_kernels] = *kernel;
    return (uint32_t)b->n_kernels++;
}

static PgRef buffer_ref(const ScBuilder *b, int32_t buffer) {
    return (PgRef){PG_ARENA, b->buffers[buffer].offset.per_row, b->buffers[buffer].offset.fixed};
}

static PgRef operand_ref(const ScBuilder *b, const ScOperand *operand) {
    if (operand->space != PG_ARENA) return (PgRef){operand->space, 0, operand->offset};
    PgRef ref = buffer_ref(b, operand->buffer);
    ref.per_row += operand->per_row;
    ref.fixed += operand->offset;
    return ref;
}

static void finish_phases(ScBuilder *b, PgStep *step) {
    PgPhase *phases = SU_NEW_ARRAY(b->arena, PgPhase, b->n_phases);
    for (size_t i = 0; i < b->n_phases; i++) {
        const ScPhase *p = &b->phases[i];
        phases[i] = p->pg;
        phases[i].kernel = intern_kernel(b, &p->kernel);
        for (int o = 0; o < PG_MAX_OPERANDS; o++) phases[i].operands[o] = operand_ref(b, &p->operands[o]);
    }
    step->phases = phases;
    step->n_phases = (uint32_t)b->n_phases;
    step->n_stages = b->n_phases > 0 ? phases[b->n_phases - 1].stage + 1 : 0;
}

static void reset_mode(ScBuilder *b, int list) {
    b->mode = pg_mode_of(list);
    b->few = list == PG_FEW;
    b->buffers = NULL;
    b->phases = NULL;
    b->n_buffers = b->buffers_capacity = b->n_phases = b->phases_capacity = 0;
    for (size_t v = 0; v < b->g->n_values; v++) b->buffer_of[v] = b->groups_of[v] = b->rounded_of[0][v] = b->rounded_of[1][v] = -1;
    memset(b->buffer_start, 0, b->g->n_values * sizeof *b->buffer_start);
    memset(b->joined, 0, b->g->n_regions * sizeof *b->joined);
    for (size_t i = 0; i < b->n_ropes; i++) b->rope_buffers[i] = -1;
}

static void add_seconds(const ScBuilder *b, PsPass pass, double seconds) {
    if (b->options->seconds != NULL) b->options->seconds[pass] += seconds;
}

static void build_list(ScBuilder *b, int list, PgStep *step) {
    reset_mode(b, list);
    double start = su_seconds();
    sc_make_phases(b);
    sc_assign_stages(b);
    double scheduled = su_seconds();
    ScBytes arena = sc_plan(b);
    add_seconds(b, PS_SCHEDULE, scheduled - start);
    add_seconds(b, PS_PLAN, su_seconds() - scheduled);
    if (b->options->live && list < PG_MODES) b->options->live[list] = sc_live(b);
    step->arena_per_row = arena.per_row;
    step->arena_fixed = arena.fixed;
    finish_phases(b, step);
    for (size_t i = 0; i < b->n_ropes; i++) b->ropes[i].table[list] = buffer_ref(b, b->rope_buffers[i]);
}

static void finish_weights(ScBuilder *b, PgProgram *program) {
    PgWeight *weights = SU_NEW_ARRAY(b->arena, PgWeight, b->n_weights);
    double active = 0;
    for (size_t i = 0; i < b->n_weights; i++) {
        weights[i] = b->weights[i].pg;
        active += (double)weights[i].bytes * b->weights[i].active;
    }
    program->weights = weights;
    program->n_weights = (uint32_t)b->n_weights;
    program->active_weight_bytes = (uint64_t)(active + 0.5);
    program->weight_bytes = b->n_weights > 0 ? weights[b->n_weights - 1].offset + weights[b->n_weights - 1].bytes : 0;
}

static int64_t largest_step(const ScBuilder *b, const PgStep *block) {
    uint64_t limit = (uint64_t)1 << ARENA_LIMIT_SHIFT;
    int64_t rows = b->options->max_rows ? b->options->max_rows : PG_MAX_ROWS;
    for (size_t i = 0; i < b->n_kernels && rows > PG_MAX_ROWS; i++)
        if (b->kernels[i].window > 0) rows = PG_MAX_ROWS;
    while (rows > 8 && block->arena_per_row * pg_ld((uint64_t)rows) + block->arena_fixed > limit) rows /= 2;
    return rows;
}

/* What a graph of text may lack, however sound it is. */
static bool check_kernels(const IrGraph *g, SuDiags *diags) {
    const IrNode *last = ps_maker(g, g->logits);
    if (last->op == IR_OP_scale) last = ps_maker(g, last->operands[0]);
    for (size_t n = 0; n < g->n_nodes; n++)
        if (g->nodes[n].op == IR_OP_rope && g->nodes[n].region == IR_NONE)
            return su_error(diags, g->nodes[n].span, NULL, "rope must be read by one attend alone to become part of a program");
    if (last != NULL && last->op == IR_OP_linear) return true;
    return su_error(diags, last->span, NULL, "the logits must be a linear's result, or that scaled, to become a program");
}

static void collect_fused(ScBuilder *b) {
    for (size_t r = 0; r < b->g->n_regions; r++) {
        const IrValueId *of = b->g->regions[r].roles.of;
        if (of[IR_ROLE_norm] != IR_NONE) b->fused[of[IR_ROLE_norm]] |= SC_NO_ROW_PHASE;
        if (of[IR_ROLE_conv] != IR_NONE) b->fused[of[IR_ROLE_conv]] |= SC_NO_ROW_PHASE;
        if (of[IR_ROLE_output_norm] != IR_NONE) b->fused[of[IR_ROLE_output_norm]] |= SC_OUTPUT_ROWS;
    }
}

/* The values of the residual stream. */
static void collect_hidden(ScBuilder *b) {
    int32_t blocks;
    const IrValueId *residuals = ir_residuals(b->g, &b->scratch, &blocks);
    for (int32_t i = 0; residuals != NULL && i <= blocks; i++) b->hidden[residuals[i]] = 1 + (uint32_t)i;
}

/* Without the schedule pass a step of few rows takes PG_BLOCK's phases. */
static bool makes_few(const PsOptions *options) { return options->few != NULL && !options->off[PS_SCHEDULE]; }

static bool sc_program_unguarded(const IrGraph *graph, const PsOptions *options, SuArena *arena, const PgProgram **out_program,
                                 SuDiags *diags) {
    if (!check_kernels(graph, diags)) return false;
    ScBuilder b = {.g = graph, .options = options, .arena = arena};
    PgProgram *program = SU_NEW(arena, PgProgram);
    b.layouts = sc_layouts(graph, &b.scratch);
    b.fused = SU_NEW_ARRAY(&b.scratch, uint8_t, graph->n_values);
    collect_fused(&b);
    if (makes_few(options)) sc_join_few(&b);
    b.hidden = SU_NEW_ARRAY(&b.scratch, uint32_t, graph->n_values);
    collect_hidden(&b);
    b.buffer_of = SU_NEW_ARRAY(&b.scratch, int32_t, graph->n_values);
    b.buffer_start = SU_NEW_ARRAY(&b.scratch, ScBytes, graph->n_values);
    b.joined = SU_NEW_ARRAY(&b.scratch, bool, graph->n_regions);
    b.groups_of = SU_NEW_ARRAY(&b.scratch, int32_t, graph->n_values);
    for (int i = 0; i < 2; i++) b.rounded_of[i] = SU_NEW_ARRAY(&b.scratch, int32_t, graph->n_values);
    double start = su_seconds();
    sc_collect_tensors(&b);
    bool fits = sc_collect_states(&b, diags);
    add_seconds(&b, PS_WEIGHTS, su_seconds() - start);
    if (!fits) {
        su_arena_free(&b.scratch);
        return false;
    }
    *program =
        (PgProgram){.name = su_strdup(arena, graph->name), .vocab_size = ir_vocab_size(graph), .d_model = ir_model_width(graph)};
    memcpy(program->spec_hash, graph->spec_hash, sizeof program->spec_hash);
    for (int list = 0; list < PG_LISTS; list++)
        if (list != PG_FEW || makes_few(options)) build_list(&b, list, &program->steps[list]);
    finish_weights(&b, program);
    program->max_positions = graph->max_positions;
    program->max_rows = largest_step(&b, &program->steps[PG_BLOCK]);
    program->out_stride = su_round_up((uint64_t)program->vocab_size, PG_LANES);
    program->kernels = b.kernels;
    program->n_kernels = (uint32_t)b.n_kernels;
    program->tensors = b.tensors;
    program->n_tensors = (uint32_t)b.n_tensors;
    program->states = b.states;
    program->n_states = (uint32_t)b.n_states;
    program->state_bytes = b.state_bytes;
    program->ropes = b.ropes;
    program->n_ropes = (uint32_t)b.n_ropes;
    *out_program = program;
    su_arena_free(&b.scratch);
    if (options->check && !pg_verify(program, diags)) SU_BUG("scheduling produced a program that violates the rules above");
    return true;
}

bool sc_program(const IrGraph *graph, const PsOptions *options, SuArena *arena, const PgProgram **out_program, SuDiags *diags) {
    su_arena_settle(arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, diags, "making the program")) return false;
    bool result = sc_program_unguarded(graph, options, arena, out_program, diags);
    su_guard_end(&guard);
    return result;
}
