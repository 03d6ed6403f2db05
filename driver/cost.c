#include "driver/cost.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "ir/quant.h"

void dr_add_cost(DrCost *to, const DrCost *from) {
    to->parameters += from->parameters;
    to->active += from->active;
    to->weight_bytes += from->weight_bytes;
    to->state_bytes += from->state_bytes;
    to->flops += from->flops;
    to->token_bytes += from->token_bytes;
}

/* Of a row of K elements in a checkpoint. */
static uint64_t row_bytes(IrDtype dtype, uint64_t K) {
    uint64_t bytes = ir_is_blocks(dtype) ? 0 : K * (uint64_t)ir_dtype(dtype)->bytes;
    for (int part = 0; ir_is_blocks(dtype) && part < IR_PARTS; part++) bytes += ir_part_bytes(dtype, (IrPart)part, K);
    return bytes;
}

static void count_tensors(FeSpec *spec, DrCost *parts) {
    size_t count;
    const FeTensor *tensors = fe_tensors(spec, &count);
    for (size_t i = 0; i < count; i++) {
        double elements = 1;
        for (int d = 0; d < tensors[i].rank; d++) elements *= (double)tensors[i].shape[d];
        const int64_t row = tensors[i].shape[tensors[i].rank - 1];
        DrCost *cost = &parts[tensors[i].block + 1];
        cost->parameters += elements;
        cost->active += (double)tensors[i].active;
        cost->weight_bytes += elements / (double)row * (double)row_bytes(tensors[i].dtype, (uint64_t)row);
    }
}

/* State names begin with "blocks.N.". */
static bool count_states(DrBuild *build, DrCost *parts) {
    const PgProgram *program = build->program;
    for (uint32_t i = 0; i < program->n_states; i++) {
        int64_t block;
        if (sscanf(program->states[i].name, "blocks.%" SCNd64 ".", &block) != 1 || block < 0 || block >= build->spec.n_blocks)
            return su_error(&build->diags, (SuSpan){0}, NULL, "state '%s' belongs to no block", program->states[i].name);
        parts[block + 1].state_bytes += (double)program->states[i].bytes;
    }
    return true;
}

static void count_work(const IrGraph *graph, int64_t position, DrCost *parts) {
    for (size_t i = 0; i < graph->n_nodes; i++) {
        IrCost work = ir_cost(graph, &graph->nodes[i], 1, position);
        DrCost *cost = &parts[graph->nodes[i].block + 1];
        cost->flops += work.flops;
        cost->token_bytes += work.weight_bytes + work.state_bytes;
    }
}

static bool costs_unguarded(DrBuild *build, int64_t position, DrCosts *out) {
    size_t n = (size_t)build->spec.n_blocks + 1;
    *out = (DrCosts){.parts = SU_NEW_ARRAY(&build->arena, DrCost, n)};
    count_tensors(&build->spec, out->parts);
    count_work(build->graph, position, out->parts);
    if (!count_states(build, out->parts)) return false;
    for (size_t i = 0; i < n; i++) dr_add_cost(&out->total, &out->parts[i]);
    return true;
}

bool dr_costs(DrBuild *build, int64_t position, DrCosts *out) {
    su_arena_settle(&build->arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "counting costs")) return false;
    bool result = costs_unguarded(build, position, out);
    su_guard_end(&guard);
    return result;
}

/* ---------------------------------------------------------------------------------------------- memory */

double dr_live_bytes(const DrBuild *build, PgMode mode, int64_t rows, int64_t block) {
    const PgStep *step = &build->program->steps[mode];
    uint64_t ld = mode == PG_ROW ? 1 : pg_ld((uint64_t)rows);
    double most = 0;
    for (uint32_t i = 0; i < step->n_phases; i++) {
        const PsStageBytes *live = &build->live[mode][step->phases[i].stage];
        bool counts = block == DR_ALL_BLOCKS || step->phases[i].block == block;
        if (counts) most = fmax(most, (double)live->per_row * (double)ld + (double)live->fixed);
    }
    return most;
}

double dr_peak_bytes(const DrBuild *build, int64_t rows, int64_t sequences) {
    const PgProgram *program = build->program;
    double bytes = (double)sequences * (double)program->state_bytes, step[PG_MODES];
    for (uint32_t i = 0; i < program->n_weights; i++) bytes += (double)program->weights[i].bytes;
    for (int mode = 0; mode < PG_MODES; mode++) {
        step[mode] = dr_live_bytes(build, (PgMode)mode, rows, DR_ALL_BLOCKS);
        double ld = mode == PG_ROW ? 1 : (double)pg_ld((uint64_t)rows);
        for (uint32_t r = 0; r < program->n_ropes; r++) step[mode] += ld * (double)pg_rope_bytes(&program->ropes[r]);
    }
    return bytes + fmax(step[PG_ROW], step[PG_BLOCK]);
}
