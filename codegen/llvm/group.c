/* PG_GROUP: positions of a step sorted by expert, each expert's padded to a multiple of eight. One tile, plain scalar loops.
 * Rows keep their order inside an expert. */
#include "codegen/llvm/kernels.h"

static CgValue word(CgEmit *e, CgValue base, CgValue index) { return cg_at(e, base, cg_imul_n(e, index, 4)); }

static CgValue narrow(CgEmit *e, CgValue i64_value) { return LLVMBuildTrunc(e->builder, i64_value, e->i32, ""); }

/* counts[e] := positions of expert e. */
static void count_positions(CgEmit *e, CgValue expert_indices, CgValue positions, CgValue counts) {
    CgLoop clear = cg_for_n(e, (uint64_t)e->kernel->E);
    cg_store_i32(e, word(e, counts, clear.index), cg_i32(e, 0));
    cg_end_for(e, &clear);
    CgLoop loop = cg_for(e, cg_i64(e, 0), positions, 1);
    CgValue count = word(e, counts, cg_wide(e, cg_load_i32(e, word(e, expert_indices, loop.index))));
    cg_store_i32(e, count, cg_iadd(e, cg_load_i32(e, count), cg_i32(e, 1)));
    cg_end_for(e, &loop);
}

/* Gives every expert its run of blocks; counts become the next free position of each. Padding positions hold row 0. */
static void place_experts(CgEmit *e, CgValue table, CgValue counts) {
    CgValue start = cg_group_start(e, table), expert_of = cg_group_expert_of(e, table), row_of = cg_group_row_of(e, table);
    CgLoop loop = cg_for_n(e, (uint64_t)e->kernel->E);
    CgValue at = cg_carry(e, &loop, cg_i64(e, 0));
    CgValue counter = word(e, counts, loop.index), count = cg_wide(e, cg_load_i32(e, counter));
    CgValue blocks = cg_udiv_n(e, cg_iadd_n(e, count, 7), 8), end = cg_iadd(e, at, cg_imul_n(e, blocks, 8));
    cg_store_i32(e, word(e, start, loop.index), narrow(e, at));
    cg_store_i32(e, counter, narrow(e, at));
    CgLoop block = cg_for(e, cg_udiv_n(e, at, 8), cg_udiv_n(e, end, 8), 1);
    cg_store_i32(e, word(e, expert_of, block.index), narrow(e, loop.index));
    cg_end_for(e, &block);
    CgLoop padding = cg_for(e, cg_iadd(e, at, count), end, 1);
    cg_store_i32(e, word(e, row_of, padding.index), cg_i32(e, 0));
    cg_end_for(e, &padding);
    cg_next(&loop, at, end);
    cg_end_for(e, &loop);
    cg_store_i32(e, word(e, start, cg_i64(e, (uint64_t)e->kernel->E)), narrow(e, cg_after(&loop, at)));
}

static void place_positions(CgEmit *e, CgValue expert_indices, CgValue positions, CgValue table, CgValue next) {
    CgValue row_of = cg_group_row_of(e, table), pos_of = cg_group_pos_of(e, table);
    CgLoop loop = cg_for(e, cg_i64(e, 0), positions, 1);
    CgValue cursor = word(e, next, cg_wide(e, cg_load_i32(e, word(e, expert_indices, loop.index)))), at = cg_load_i32(e, cursor);
    cg_store_i32(e, cursor, cg_iadd(e, at, cg_i32(e, 1)));
    cg_store_i32(e, word(e, pos_of, loop.index), at);
    cg_store_i32(e, word(e, row_of, cg_wide(e, at)), narrow(e, cg_udiv_n(e, loop.index, (uint64_t)e->kernel->k)));
    cg_end_for(e, &loop);
}

void cg_emit_group(CgEmit *e) {
    CgValue expert_indices = cg_operand(e, PG_GROUP_EXPERTS), table = cg_operand(e, PG_GROUP_GROUPS);
    CgValue counts = cg_scratch(e, (uint64_t)e->kernel->E * 4);
    CgValue positions = cg_imul_n(e, cg_rows(e), (uint64_t)e->kernel->k);
    CgLoop tiles = cg_for_tiles(e);
    count_positions(e, expert_indices, positions, counts);
    place_experts(e, table, counts);
    place_positions(e, expert_indices, positions, table, counts);
    cg_end_for(e, &tiles);
}
