/* What happens to the sums of a linear layer before they are stored: the steps of its epilogue (ir/epilogue.def), in their order. */
#include "codegen/llvm/linear.h"

/* Byte offset of (panel, row) in a value [panels][stride][16]. */
static CgValue value_offset(CgEmit *e, CgValue panel, CgValue row, CgValue stride) {
    return cg_imul_n(e, cg_iadd(e, cg_imul(e, panel, stride), row), 64);
}

static CgValue load_panel(CgEmit *e, CgValue base, CgValue panel) {
    return cg_load_vec(e, cg_at(e, base, cg_imul_n(e, panel, 64)));
}

/* One row passes through the convolution: its history holds the W - 1 values before it, oldest first, and moves on by one. */
static CgValue convolve(CgEmit *e, CgValue v, CgValue panel) {
    const PgKernel *k = e->kernel;
    uint64_t past = (uint64_t)k->taps - 1;
    CgValue w = cg_at(e, cg_operand(e, PG_LINEAR_CONV_W), cg_imul_n(e, panel, (past + 1) * 64));
    CgValue acc = cg_zero(e);
    if (past > 0) {
        CgValue history = cg_at(e, cg_operand(e, PG_LINEAR_HISTORY), cg_imul_n(e, panel, past * 64));
        for (uint64_t t = 0; t < past; t++) {
            CgValue old = cg_load_vec(e, cg_at_n(e, history, t * 64));
            acc = cg_fma(e, cg_load_vec(e, cg_at_n(e, w, t * 64)), old, acc);
            if (t > 0) cg_store_vec(e, cg_at_n(e, history, (t - 1) * 64), old);
        }
        cg_store_vec(e, cg_at_n(e, history, (past - 1) * 64), v);
    }
    return cg_fma(e, cg_load_vec(e, cg_at_n(e, w, past * 64)), v, acc);
}

/* A value on its way through the epilogue: panel and row of y, and what the steps before have made. */
typedef struct Value {
    CgEmit *e;
    const CgLinearTile *tile;
    CgValue panel, row; /* i64 */
    CgValue sums; /* byte offset of its sums; NULL behind a sum over experts */
    CgValue v;
    CgValue second; /* of the second linear, once a step has asked for it */
    CgValue offset; /* bytes into values that lie as y does, once a step has asked for them */
    bool stored;
} Value;

static CgValue beside_y(Value *x, unsigned slot) {
    CgEmit *e = x->e;
    if (x->offset == NULL) x->offset = value_offset(e, x->panel, x->row, cg_stride(e, e->kernel->y_layout));
    return cg_load_vec(e, cg_at(e, cg_operand(e, slot), x->offset));
}

static CgValue second(Value *x) {
    if (x->second == NULL) x->second = cg_load_vec(x->e, cg_at(x->e, x->tile->sums2, x->sums));
    return x->second;
}

static void store_logits(const Value *x) {
    CgEmit *e = x->e;
    CgIf inside = cg_if(e, cg_icmp(e, LLVMIntULT, x->row, cg_arg_u32(e, offsetof(RtArgs, n_out_rows))));
    CgValue floats = cg_imul(e, x->row, cg_arg_i64(e, offsetof(RtArgs, out_stride)));
    floats = cg_iadd(e, floats, cg_imul_n(e, x->panel, PG_LANES));
    cg_store_vec_unaligned(e, cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, logits)), cg_imul_n(e, floats, 4)), x->v);
    cg_end_if(e, &inside);
}

static void take_step(Value *x, const PgEpilogueStep *step) {
    CgEmit *e = x->e;
    switch ((PgStepKind)step->kind) {
    case PG_STEP_BIAS: x->v = cg_add(e, x->v, load_panel(e, x->tile->bias, x->panel)); return;
    case PG_STEP_CONV: x->v = convolve(e, x->v, x->panel); return;
    case PG_STEP_CONV_BIAS: x->v = cg_add(e, x->v, load_panel(e, cg_operand(e, PG_LINEAR_CONV_B), x->panel)); return;
    case PG_STEP_ACT: x->v = cg_activation(e, (PgActivation)step->act, x->v); return;
    case PG_STEP_BIAS2: x->second = cg_add(e, second(x), load_panel(e, x->tile->bias2, x->panel)); return;
    case PG_STEP_DUAL: x->v = cg_mul(e, x->v, second(x)); return;
    case PG_STEP_ADDEND: x->v = cg_add(e, x->v, beside_y(x, PG_LINEAR_ADDEND)); return;
    case PG_STEP_RESIDUAL: x->v = cg_add(e, x->v, beside_y(x, PG_LINEAR_RESIDUAL)); return;
    case PG_STEP_OUT_SCALE:
    case PG_STEP_SCALE: x->v = cg_mul(e, x->v, cg_vec(e, (float)step->scale)); return;
    case PG_STEP_LOGITS:
        store_logits(x);
        x->stored = true;
        return;
    case PG_STEP_WEIGHTED_SUM: /* the caller's: it has all terms */
    case PG_STEP_PLANE_SUM:
    case PG_NO_STEP: return;
    }
}

/* The steps from `step` on, up to a sum over experts or to the end; then the value is stored, if nothing else is to come. */
static void take_steps(Value *x, const PgEpilogueStep *step) {
    CgEmit *e = x->e;
    while (step->kind != PG_NO_STEP && !pg_step_sums(step)) take_step(x, step++);
    if (step->kind != PG_NO_STEP || x->stored) return;
    if (x->offset == NULL) x->offset = value_offset(e, x->panel, x->row, cg_stride(e, e->kernel->y_layout));
    cg_store_vec(e, cg_at(e, x->tile->y, x->offset), x->v);
}

/* The terms of a sum over experts gather in memory. */
static void add_to_total(const Value *x, CgValue at) {
    CgEmit *e = x->e;
    CgValue total = cg_load_vec(e, at);
    total = x->tile->combine_weight == NULL ? cg_add(e, total, x->v) : cg_fma(e, cg_splat(e, x->tile->combine_weight), x->v, total);
    cg_store_vec(e, at, total);
}

void cg_linear_finish(CgEmit *e, const CgLinearShape *shape, const CgLinearTile *t) {
    CgLoop panels = cg_for(e, t->first, t->end, 1);
    CgLoop rows = cg_for_n(e, shape->rows);
    Value x = {.e = e, .tile = t, .panel = cg_iadd(e, t->panel0, cg_imul_n(e, panels.index, t->span))};
    x.sums = cg_imul_n(e, cg_iadd(e, cg_imul_n(e, panels.index, shape->rows), rows.index), 64);
    x.v = cg_load_vec(e, cg_at(e, t->sums, x.sums));
    x.row = cg_iadd(e, t->row0, rows.index);
    take_steps(&x, e->kernel->epilogue.steps);
    if (t->total != NULL) add_to_total(&x, cg_at(e, t->total, cg_imul_n(e, panels.index, 64)));
    cg_end_for(e, &rows);
    cg_end_for(e, &panels);
}

void cg_linear_finish_total(CgEmit *e, const CgLinearTile *t) {
    CgLoop panels = cg_for(e, t->first, t->end, 1);
    CgValue panel = cg_iadd(e, t->panel0, cg_imul_n(e, panels.index, t->span));
    Value x = {.e = e, .tile = t, .panel = panel, .row = t->row0};
    x.v = cg_load_vec(e, cg_at(e, t->total, cg_imul_n(e, panels.index, 64)));
    take_steps(&x, pg_epilogue_behind_sum(&e->kernel->epilogue));
    cg_end_for(e, &panels);
}
