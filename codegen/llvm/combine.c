/* PG_COMBINE: the sum over experts of what a linear layer gave each, then addend, residual, scale. A tile is eight rows (PG_BLOCK) or the
 * row. */
#include "codegen/llvm/kernels.h"
#include "support/diag.h"

enum { FEW = 8 }; /* up to this many terms are unrolled, with their combine weights and places read once a row */

typedef struct Terms {
    CgEmit *e;
    const PgKernel *k;
    CgValue row;
    CgValue x_panel; /* bytes between panels of x */
    CgValue plane; /* bytes between planes of x */
    uint64_t count;
    CgValue from[FEW], weight[FEW]; /* when count <= FEW */
} Terms;

static CgValue slot_word(const Terms *t, unsigned slot, CgValue j) {
    CgValue index = cg_iadd(t->e, cg_imul_n(t->e, t->row, (uint64_t)t->k->k), j);
    return cg_at(t->e, cg_operand(t->e, slot), cg_imul_n(t->e, index, 4));
}

/* Where term j (i64) of the row begins: its position, or the plane of its expert. */
static CgValue term_start(const Terms *t, CgValue j) {
    CgEmit *e = t->e;
    CgValue x = cg_operand(e, PG_COMBINE_X);
    if (t->k->x_layout == PG_POSITIONS) {
        CgValue position = j;
        if (t->k->mode == PG_BLOCK) {
            CgValue pos_of = cg_group_pos_of(e, cg_operand(e, PG_COMBINE_GROUPS));
            CgValue index = cg_iadd(e, cg_imul_n(e, t->row, (uint64_t)t->k->k), j);
            position = cg_wide(e, cg_load_i32(e, cg_at(e, pos_of, cg_imul_n(e, index, 4))));
        }
        return cg_at(e, x, cg_imul_n(e, position, 64));
    }
    CgValue plane = pg_sum(t->k) == PG_WEIGHTED_SUM ? cg_wide(e, cg_load_i32(e, slot_word(t, PG_COMBINE_EXPERTS, j))) : j;
    return cg_at(e, x, cg_iadd(e, cg_imul(e, plane, t->plane), cg_imul_n(e, t->row, 64)));
}

static CgValue term_weight(const Terms *t, CgValue j) {
    return pg_sum(t->k) == PG_WEIGHTED_SUM ? cg_load_splat(t->e, slot_word(t, PG_COMBINE_COMBINE_W, j)) : NULL;
}

static CgValue add_term(const Terms *t, CgValue acc, CgValue from, CgValue weight, CgValue panel) {
    CgValue v = cg_load_vec(t->e, cg_at(t->e, from, cg_imul(t->e, panel, t->x_panel)));
    return weight == NULL ? cg_add(t->e, acc, v) : cg_fma(t->e, weight, v, acc);
}

/* A plain sum starts from -0, so that its first term comes out as it is. */
static CgValue sum_terms(const Terms *t, CgValue panel) {
    CgEmit *e = t->e;
    CgValue first = pg_sum(t->k) == PG_WEIGHTED_SUM ? cg_zero(e) : cg_vec(e, -0.0f);
    if (t->count <= FEW) {
        CgValue acc = first;
        for (uint64_t j = 0; j < t->count; j++) acc = add_term(t, acc, t->from[j], t->weight[j], panel);
        return acc;
    }
    CgLoop loop = cg_for_n(e, t->count);
    CgValue acc = cg_carry(e, &loop, first);
    cg_next(&loop, acc, add_term(t, acc, term_start(t, loop.index), term_weight(t, loop.index), panel));
    cg_end_for(e, &loop);
    return cg_after(&loop, acc);
}

/* A step behind the sum; what it reads lies as y does. */
static CgValue take_step(CgEmit *e, const PgEpilogueStep *step, CgValue v, CgValue offset) {
    switch ((PgStepKind)step->kind) {
    case PG_STEP_ADDEND: return cg_add(e, v, cg_load_vec(e, cg_at(e, cg_operand(e, PG_COMBINE_ADDEND), offset)));
    case PG_STEP_RESIDUAL: return cg_add(e, v, cg_load_vec(e, cg_at(e, cg_operand(e, PG_COMBINE_RESIDUAL), offset)));
    case PG_STEP_OUT_SCALE:
    case PG_STEP_SCALE: return cg_mul(e, v, cg_vec(e, (float)step->scale));
    case PG_NO_STEP:
    case PG_STEP_BIAS:
    case PG_STEP_CONV:
    case PG_STEP_CONV_BIAS:
    case PG_STEP_ACT:
    case PG_STEP_BIAS2:
    case PG_STEP_DUAL:
    case PG_STEP_WEIGHTED_SUM:
    case PG_STEP_PLANE_SUM:
    case PG_STEP_LOGITS: break;
    }
    SU_BUG("step %u stands behind no sum of PG_COMBINE", step->kind);
}

static void combine_row(Terms *t) {
    CgEmit *e = t->e;
    const PgKernel *k = t->k;
    for (uint64_t j = 0; t->count <= FEW && j < t->count; j++) {
        t->from[j] = term_start(t, cg_i64(e, j));
        t->weight[j] = term_weight(t, cg_i64(e, j));
    }
    CgLoop panels = cg_for_n(e, pg_panels(k->O));
    CgValue offset = cg_imul_n(e, cg_iadd(e, cg_imul(e, panels.index, cg_ld(e)), t->row), 64);
    CgValue v = sum_terms(t, panels.index);
    for (const PgEpilogueStep *step = pg_epilogue_behind_sum(&k->epilogue); step->kind != PG_NO_STEP; step++)
        v = take_step(e, step, v, offset);
    cg_store_vec(e, cg_at(e, cg_operand(e, PG_COMBINE_Y), offset), v);
    cg_end_for(e, &panels);
}

void cg_emit_combine(CgEmit *e) {
    const PgKernel *k = e->kernel;
    Terms t = {.e = e, .k = k, .count = (uint64_t)(pg_sum(k) == PG_WEIGHTED_SUM ? k->k : k->E)};
    t.x_panel = cg_imul_n(e, cg_stride(e, k->x_layout), 64);
    t.plane = cg_plane_bytes(e, k->O);
    CgLoop tiles = cg_for_tiles(e);
    CgValue first = cg_imul_n(e, tiles.index, PG_ROW_BLOCK);
    CgLoop rows = cg_for(e, first, cg_umin(e, cg_iadd_n(e, first, PG_ROW_BLOCK), cg_rows(e)), 1);
    t.row = rows.index;
    combine_row(&t);
    cg_end_for(e, &rows);
    cg_end_for(e, &tiles);
}
