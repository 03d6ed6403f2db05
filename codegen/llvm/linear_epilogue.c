/* What happens to the sums of a map before they are stored: bias, activation or convolution, the second map, the sum over experts,
 * addends, scale; in the order that docs/bits.md gives. */
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
    CgValue w = cg_at(e, cg_operand(e, PG_MAP_CONV_W), cg_imul_n(e, panel, (past + 1) * 64));
    CgValue acc = cg_zero(e);
    if (past > 0) {
        CgValue history = cg_at(e, cg_operand(e, PG_MAP_HISTORY), cg_imul_n(e, panel, past * 64));
        for (uint64_t t = 0; t < past; t++) {
            CgValue old = cg_load_vec(e, cg_at_n(e, history, t * 64));
            acc = cg_fma(e, cg_load_vec(e, cg_at_n(e, w, t * 64)), old, acc);
            if (t > 0) cg_store_vec(e, cg_at_n(e, history, (t - 1) * 64), old);
        }
        cg_store_vec(e, cg_at_n(e, history, (past - 1) * 64), v);
    }
    acc = cg_fma(e, cg_load_vec(e, cg_at_n(e, w, past * 64)), v, acc);
    return k->conv_bias ? cg_add(e, acc, load_panel(e, cg_operand(e, PG_MAP_CONV_B), panel)) : acc;
}

/* Addend, residual and scale, then the store. */
static void finish_value(CgEmit *e, CgValue v, CgValue panel, CgValue row, CgValue y) {
    const PgKernel *k = e->kernel;
    CgValue offset = value_offset(e, panel, row, cg_stride(e, k->y_layout));
    if (k->addend) v = cg_add(e, v, cg_load_vec(e, cg_at(e, cg_operand(e, PG_MAP_ADDEND), offset)));
    if (k->residual) v = cg_add(e, v, cg_load_vec(e, cg_at(e, cg_operand(e, PG_MAP_RESIDUAL), offset)));
    if (k->scaled) v = cg_mul(e, v, cg_vec(e, (float)k->scale));
    if (!k->logits) {
        cg_store_vec(e, cg_at(e, y, offset), v);
        return;
    }
    CgIf wanted = cg_if(e, cg_icmp(e, LLVMIntULT, row, cg_arg_u32(e, offsetof(RtArgs, wanted))));
    CgValue floats = cg_imul(e, row, cg_arg_i64(e, offsetof(RtArgs, out_stride)));
    floats = cg_iadd(e, floats, cg_imul_n(e, panel, PG_LANES));
    cg_store_vec_unaligned(e, cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, logits)), cg_imul_n(e, floats, 4)), v);
    cg_end_if(e, &wanted);
}

/* v of (panel p of the group, row r): sum, bias, activation or convolution, second map. */
static CgValue one_value(CgEmit *e, const CgMapTile *t, CgValue panel, CgValue index) {
    const PgKernel *k = e->kernel;
    CgValue offset = cg_imul_n(e, index, 64);
    CgValue v = cg_load_vec(e, cg_at(e, t->sums, offset));
    if (k->bias) v = cg_add(e, v, load_panel(e, t->bias, panel));
    if (k->conv) v = convolve(e, v, panel);
    v = cg_activation(e, k->act, v);
    if (k->dual) {
        CgValue up = cg_load_vec(e, cg_at(e, t->sums2, offset));
        if (k->bias) up = cg_add(e, up, load_panel(e, t->bias2, panel));
        v = cg_mul(e, v, up);
    }
    return v;
}

void cg_map_finish(CgEmit *e, const CgMapShape *shape, const CgMapTile *t) {
    CgLoop panels = cg_for(e, t->first, t->end, 1);
    CgLoop rows = cg_for_n(e, shape->rows);
    CgValue panel = cg_iadd(e, t->panel0, panels.index);
    CgValue v = one_value(e, t, panel, cg_iadd(e, cg_imul_n(e, panels.index, shape->rows), rows.index));
    if (t->total == NULL) {
        finish_value(e, v, panel, cg_iadd(e, t->row0, rows.index), t->y);
    } else {
        CgValue at = cg_at(e, t->total, cg_imul_n(e, panels.index, 64)), total = cg_load_vec(e, at);
        total = t->gate == NULL ? cg_add(e, total, v) : cg_fma(e, cg_splat(e, t->gate), v, total);
        cg_store_vec(e, at, total);
    }
    cg_end_for(e, &rows);
    cg_end_for(e, &panels);
}

void cg_map_finish_total(CgEmit *e, const CgMapTile *t) {
    CgLoop panels = cg_for(e, t->first, t->end, 1);
    CgValue v = cg_load_vec(e, cg_at(e, t->total, cg_imul_n(e, panels.index, 64)));
    finish_value(e, v, cg_iadd(e, t->panel0, panels.index), t->row0, t->y);
    cg_end_for(e, &panels);
}
