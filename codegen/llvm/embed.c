/* PG_EMBED: rows of the table become rows of x. The table lies in panels, as the head reads it: [V/16][D][16], so a token's row is
 * a walk of one lane. A tile is eight rows (PG_BLOCK) or the one row. */
#include "codegen/llvm/kernels.h"

/* `count` floats from address on, 64 bytes apart; lanes past count are +0. */
static CgValue collect_floats(CgEmit *e, CgValue address, unsigned count) {
    CgValue v = cg_zero(e);
    for (unsigned i = 0; i < count; i++) v = cg_set_lane(e, v, cg_load_f32(e, cg_at_n(e, address, i * 64)), i);
    return v;
}

/* The same of pairs: each 4 bytes hold elements 2i and 2i + 1. */
static CgValue collect_halves(CgEmit *e, PgDtype dtype, CgValue address, unsigned count) {
    CgValue pairs = LLVMConstNull(LLVMVectorType(e->i32, PG_LANES / 2));
    for (unsigned i = 0; 2 * i < count; i++) pairs = cg_set_lane(e, pairs, cg_load_i32(e, cg_at_n(e, address, i * 64)), i);
    CgValue shorts = LLVMBuildBitCast(e->builder, pairs, LLVMVectorType(e->i16, PG_LANES), "");
    if (dtype == PG_F16) return LLVMBuildFPExt(e->builder, LLVMBuildBitCast(e->builder, shorts, e->hvec, ""), e->vec, "");
    CgValue wide = LLVMBuildZExt(e->builder, shorts, e->ivec, "");
    return LLVMBuildBitCast(e->builder, LLVMBuildShl(e->builder, wide, cg_ivec(e, 16), ""), e->vec, "");
}

/* Elements [16 p, 16 p + count) of the row that begins at `from`, scaled, to panel p of y. */
static void embed_panel(CgEmit *e, CgValue from, CgValue to, CgValue panel, unsigned count) {
    const PgKernel *k = e->kernel;
    CgValue at = cg_at(e, from, cg_imul_n(e, panel, cg_panel_bytes(k->dtype, PG_LANES)));
    CgValue v = k->dtype == PG_F32 ? collect_floats(e, at, count) : collect_halves(e, k->dtype, at, count);
    if (k->scaled) v = cg_mul(e, cg_vec(e, (float)k->scale), v);
    cg_store_vec(e, cg_at(e, to, cg_imul(e, panel, cg_imul_n(e, cg_ld(e), 64))), v);
}

static void embed_row(CgEmit *e, CgValue row) {
    const PgKernel *k = e->kernel;
    CgValue token = cg_wide(e, cg_load_i32(e, cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, tokens)), cg_imul_n(e, row, 4))));
    CgValue panel = cg_imul_n(e, cg_udiv_n(e, token, PG_LANES), cg_panel_bytes(k->dtype, k->O));
    CgValue from = cg_at(e, cg_operand(e, PG_EMBED_W), cg_iadd(e, panel, cg_imul_n(e, cg_urem_n(e, token, PG_LANES), 4)));
    CgValue to = cg_at(e, cg_operand(e, PG_EMBED_Y), cg_imul_n(e, row, 64));
    uint64_t full = (uint64_t)k->O / PG_LANES;
    CgLoop panels = cg_for_n(e, full);
    embed_panel(e, from, to, panels.index, PG_LANES);
    cg_end_for(e, &panels);
    if (k->O % PG_LANES != 0) embed_panel(e, from, to, cg_i64(e, full), (unsigned)(k->O % PG_LANES));
}

void cg_emit_embed(CgEmit *e) {
    CgLoop tiles = cg_for_tiles(e);
    CgValue first = cg_imul_n(e, tiles.index, PG_ROW_BLOCK);
    CgLoop rows = cg_for(e, first, cg_umin(e, cg_iadd_n(e, first, PG_ROW_BLOCK), cg_rows(e)), 1);
    embed_row(e, rows.index);
    cg_end_for(e, &rows);
    cg_end_for(e, &tiles);
}
