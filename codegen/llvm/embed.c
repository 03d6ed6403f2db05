/* PG_EMBED: rows of the table become rows of x. The table lies in panels, as the head reads it: [V/16][D][16], so a token's row is
 * a walk of one lane. A tile is eight rows (PG_BLOCK) or the one row. */
#include "codegen/llvm/kernels.h"

/* Elements [16 p, 16 p + count) of a row, lane `lane` of the panel at `from`, scaled, to panel p of y. */
static void embed_panel(CgEmit *e, CgValue from, CgValue lane, CgValue to, CgValue panel, unsigned count) {
    const PgKernel *k = e->kernel;
    CgValue v = cg_collect(e, k->dtype, k->O, from, lane, panel, count);
    if (k->scaled) v = cg_mul(e, cg_vec(e, (float)k->scale), v);
    cg_store_vec(e, cg_at(e, to, cg_imul(e, panel, cg_imul_n(e, cg_ld(e), 64))), v);
}

static void embed_row(CgEmit *e, CgValue row) {
    const PgKernel *k = e->kernel;
    CgValue token = cg_wide(e, cg_load_i32(e, cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, tokens)), cg_imul_n(e, row, 4))));
    CgValue panel = cg_imul_n(e, cg_udiv_n(e, token, PG_LANES), ir_panel_bytes(k->dtype, k->O));
    CgValue from = cg_at(e, cg_operand(e, PG_EMBED_W), panel), lane = cg_urem_n(e, token, PG_LANES);
    CgValue to = cg_at(e, cg_operand(e, PG_EMBED_Y), cg_imul_n(e, row, 64));
    uint64_t full = (uint64_t)k->O / PG_LANES;
    CgLoop panels = cg_for_n(e, full);
    embed_panel(e, from, lane, to, panels.index, PG_LANES);
    cg_end_for(e, &panels);
    if (k->O % PG_LANES != 0) embed_panel(e, from, lane, to, cg_i64(e, full), (unsigned)(k->O % PG_LANES));
}

void cg_emit_embed(CgEmit *e) {
    CgLoop tiles = cg_for_tiles(e);
    CgValue first = cg_imul_n(e, tiles.index, PG_ROW_BLOCK);
    CgLoop rows = cg_for(e, first, cg_umin(e, cg_iadd_n(e, first, PG_ROW_BLOCK), cg_rows(e)), 1);
    embed_row(e, rows.index);
    cg_end_for(e, &rows);
    cg_end_for(e, &tiles);
}
