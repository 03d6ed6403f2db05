#include "explore/unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The part of a block, or of what stands outside: before the first block's phases or behind them. */
static ExUnit *unit_of(ExParts *parts, int64_t block, bool behind) {
    if (block >= 0) return &parts->blocks[block];
    return behind ? &parts->frame.after : &parts->frame.before;
}

static void take_weights(const PgProgram *program, ExParts *parts) {
    for (uint32_t i = 0; i < program->n_weights; i++) {
        int64_t block = -1;
        sscanf(program->tensors[program->weights[i].tensor].name, "blocks.%" SCNd64 ".", &block);
        unit_of(parts, block, false)->packed_bytes += (double)program->weights[i].bytes;
    }
}

static void note_rope(ExUnit *unit, const PgRope *rope, SuArena *arena) {
    for (uint32_t i = 0; i < unit->n_ropes; i++)
        if (pg_same_angles(&unit->ropes[i], rope)) return;
    PgRope *ropes = SU_NEW_ARRAY(arena, PgRope, unit->n_ropes + 1);
    for (uint32_t i = 0; i < unit->n_ropes; i++) ropes[i] = unit->ropes[i];
    ropes[unit->n_ropes++] = *rope;
    unit->ropes = ropes;
}

static void note_ropes(const PgProgram *program, const PgPhase *phase, ExUnit *unit, SuArena *arena) {
    const PgRef *table = &phase->operands[PG_KV_TABLE];
    if (program->kernels[phase->kernel].kind != PG_KV_STORE || table->space != PG_ARENA) return;
    for (uint32_t r = 0; r < program->n_ropes; r++) {
        const PgRef *of_row = &program->ropes[r].table[PG_ROW];
        if (table->per_row == of_row->per_row && table->fixed == of_row->fixed) note_rope(unit, &program->ropes[r], arena);
    }
}

/* Phases of one step, into the parts that they belong to. */
static void take_step(const PgProgram *program, const ExStep *step, uint32_t index, SuArena *arena, ExParts *parts) {
    const PgStep *pg = &program->steps[step->mode];
    bool behind = false;
    for (uint32_t first = 0, end; first < pg->n_phases; first = end) {
        for (end = first + 1; end < pg->n_phases && pg->phases[end].block == pg->phases[first].block;) end++;
        behind |= pg->phases[first].block >= 0;
        ExUnit *unit = unit_of(parts, pg->phases[first].block, behind);
        MsPhaseWork *phases = SU_NEW_ARRAY(arena, MsPhaseWork, end - first);
        double *bytes = index == 0 ? SU_NEW_ARRAY(arena, double, end - first) : NULL;
        for (uint32_t i = first; i < end; i++) {
            const PgPhase *phase = &pg->phases[i];
            const PgKernel *kernel = &program->kernels[phase->kernel];
            PgCost cost = pg_phase_cost(program, phase, &step->work);
            phases[i - first] = ms_phase_work(phase, kernel, &cost, &step->work, step->mode, i ? phase - 1 : NULL, step->threads);
            if (bytes) bytes[i - first] = cost.weight_bytes;
            if (step->mode == PG_ROW) note_ropes(program, phase, unit, arena);
        }
        unit->phases[index] = phases;
        unit->n_phases[index] = end - first;
        if (bytes) unit->weight_bytes = bytes;
    }
}

static void make_room(ExUnit *unit, const ExSteps *steps, SuArena *arena) {
    unit->live = SU_NEW_ARRAY(arena, double, steps->n_steps);
    unit->phases = SU_NEW_ARRAY(arena, MsPhaseWork *, steps->n_steps);
    unit->n_phases = SU_NEW_ARRAY(arena, uint32_t, steps->n_steps);
}

static void take_text(const FeSpec *spec, ExParts *parts, SuArena *arena) {
    FeCanonical text = {.blocks = SU_NEW_ARRAY(arena, SuText, (size_t)spec->n_blocks)};
    fe_print_canonical_pieces(spec, &text);
    for (int64_t i = -2; i < spec->n_blocks; i++) {
        SuText *piece = i == -2 ? &text.before : i == -1 ? &text.after : &text.blocks[i];
        ExUnit *unit = i < 0 ? unit_of(parts, -1, i == -1) : &parts->blocks[i];
        unit->canonical = su_strndup(arena, piece->text ? piece->text : "", piece->size);
        unit->canonical_size = piece->size;
        su_text_free(piece);
    }
}

static bool take_parts_unguarded(DrBuild *build, const ExSteps *steps, SuArena *arena, ExParts *out) {
    const FeSpec *spec = &build->spec;
    int64_t n = spec->n_blocks;
    *out = (ExParts){.n_blocks = n, .blocks = SU_NEW_ARRAY(arena, ExUnit, (size_t)n), .max_rows = build->program->max_rows};
    out->bounded = SU_NEW_ARRAY(arena, bool, (size_t)n);
    out->frame.position_bound = spec->max_positions;
    make_room(&out->frame.before, steps, arena);
    make_room(&out->frame.after, steps, arena);
    DrCosts costs;
    if (!dr_costs(build, steps->steps[0].work.position, &costs)) return false;
    out->frame.before.cost = costs.parts[0];
    for (int64_t i = 0; i < n; i++) {
        make_room(&out->blocks[i], steps, arena);
        out->blocks[i].cost = costs.parts[i + 1];
        out->bounded[i] = spec->blocks[i].looks_back && spec->blocks[i].window == 0;
    }
    take_weights(build->program, out);
    for (uint32_t s = 0; s < steps->n_steps; s++) {
        const ExStep *step = &steps->steps[s];
        take_step(build->program, step, s, arena, out);
        out->frame.before.live[s] = dr_live_bytes(build, step->mode, step->work.rows, -1);
        for (int64_t i = 0; i < n; i++) out->blocks[i].live[s] = dr_live_bytes(build, step->mode, step->work.rows, i);
    }
    take_text(spec, out, arena);
    return true;
}

bool ex_take_parts(DrBuild *build, const ExSteps *steps, SuArena *arena, ExParts *out) {
    su_arena_settle(arena);
    SuGuard guard;
    if (SU_CAUGHT(&guard, &build->diags, "taking a spec apart")) return false;
    bool result = take_parts_unguarded(build, steps, arena, out);
    su_guard_end(&guard);
    return result;
}
