/* PG_ATTEND: who attends to which keys.
 *
 * A tile is a row and a key/value head. In PG_BLOCK a run of tiles is walked by key/value heads, GROUP_ROWS rows of one sequence at
 * a time, since such rows share nearly all keys; other rows go alone, their query heads side by side. In PG_ROW the tile is parted
 * into runs of key blocks, so that there is work for all workers however few heads there are: each block's m, l and o go to PARTS,
 * and who ends the last run of a key/value head merges its blocks, in order. */
#include "codegen/llvm/attention.h"
#include "codegen/llvm/addressing.h"
#include "codegen/llvm/kernels.h"

enum { GROUP_ROWS = 4 };

static uint64_t group_heads(const CgAttend *a) { return (uint64_t)(a->kernel->heads / a->kernel->kv_heads); }

/* The row, and the caches of the key/value head. */
static void take_row(CgAttend *a, CgValue row) {
    CgEmit *e = a->e;
    CgSegment segment;
    a->row = row;
    a->position = cg_row_position(e, row, &segment);
    CgValue keys = cg_imul_n(e, a->kv_head, (uint64_t)a->kernel->cap);
    a->k_cache = cg_at(e, cg_state_operand(e, PG_ATTEND_K_CACHE, &segment), cg_imul_n(e, keys, (uint64_t)a->kernel->O * 4));
    a->v_cache = cg_at(e, cg_state_operand(e, PG_ATTEND_V_CACHE, &segment), cg_imul_n(e, keys, a->line));
}

/* The blocks that the rows at hand see something of: the first, and the one past the last. */
static void find_blocks(CgAttend *a, CgValue *out_first, CgValue *out_end) {
    CgEmit *e = a->e;
    a->from = cg_i64(e, 0);
    *out_first = cg_udiv_n(e, cg_first_key(a, cg_i64(e, 0)), PG_KEY_BLOCK);
    *out_end = cg_iadd_n(e, cg_udiv_n(e, cg_iadd_n(e, a->position, (uint64_t)a->width.rows - 1), PG_KEY_BLOCK), 1);
}

/* `emit` for all query heads of the key/value head, CG_QUERIES or fewer side by side. */
static void each_group(CgAttend *a, void (*emit)(CgAttend *a)) {
    CgEmit *e = a->e;
    uint64_t all = group_heads(a), groups = (all + CG_QUERIES - 1) / CG_QUERIES, side = (all + groups - 1) / groups;
    uint64_t full = all / side, rest = all % side;
    a->width = cg_width_of_heads(e->target, side, (uint64_t)a->kernel->O);
    CgLoop loop = cg_for_n(e, full);
    a->line0 = cg_imul_n(e, loop.index, side);
    emit(a);
    cg_end_for(e, &loop);
    a->line0 = cg_i64(e, full * side);
    if (rest > 0) {
        a->width = cg_width_of_heads(e->target, rest, (uint64_t)a->kernel->O);
        emit(a);
    }
    a->line0 = cg_i64(e, 0);
}

static void attend_and_merge(CgAttend *a) {
    cg_attend_block(a);
    cg_each_query(a, cg_merge_query);
}

static void gather(CgAttend *a) { cg_each_query(a, cg_gather_query); }
static void clear(CgAttend *a) { cg_each_query(a, cg_clear_query); }
static void store(CgAttend *a) { cg_each_query(a, cg_store_query); }

/* ---------------------------------------------------------------------------------------------- blocks of rows */

/* All query heads of one row. */
static void attend_row(CgAttend *a, CgValue row) {
    CgEmit *e = a->e;
    CgValue first, end;
    a->head = cg_imul_n(e, a->kv_head, group_heads(a));
    a->width = cg_width_of_heads(e->target, 1, (uint64_t)a->kernel->O);
    take_row(a, row);
    each_group(a, gather);
    each_group(a, clear);
    find_blocks(a, &first, &end);
    CgLoop blocks = cg_for(e, first, end, 1);
    cg_take_block(a, blocks.index);
    each_group(a, attend_and_merge);
    cg_end_for(e, &blocks);
    each_group(a, store);
}

/* All query heads, one by one, of GROUP_ROWS rows of one sequence. */
static void attend_rows(CgAttend *a, CgValue row) {
    CgEmit *e = a->e;
    CgValue first, end;
    a->width = cg_width_of_rows(e->target, GROUP_ROWS);
    take_row(a, row);
    find_blocks(a, &first, &end);
    CgLoop heads = cg_for_n(e, group_heads(a));
    a->head = cg_iadd(e, cg_imul_n(e, a->kv_head, group_heads(a)), heads.index);
    gather(a);
    clear(a);
    CgLoop blocks = cg_for(e, first, end, 1);
    cg_take_block(a, blocks.index);
    attend_and_merge(a);
    cg_end_for(e, &blocks);
    store(a);
    cg_end_for(e, &heads);
}

/* Rows [first, first + GROUP_ROWS), or up to `end`: together if they are of one sequence. */
static void attend_group(CgAttend *a, CgValue first, CgValue end) {
    CgEmit *e = a->e;
    CgValue last = cg_iadd_n(e, first, GROUP_ROWS - 1), segments = cg_arg_ptr(e, offsetof(RtArgs, row_segment));
    CgValue far = cg_umin(e, last, cg_isub(e, end, cg_i64(e, 1)));
    CgValue own = cg_load_i32(e, cg_at(e, segments, cg_imul_n(e, first, 4)));
    CgValue others = cg_load_i32(e, cg_at(e, segments, cg_imul_n(e, far, 4)));
    CgValue full = cg_icmp(e, LLVMIntEQ, far, last), same = cg_icmp(e, LLVMIntEQ, own, others);
    CgIf together = cg_if(e, LLVMBuildAnd(e->builder, full, same, ""));
    attend_rows(a, first);
    cg_else(e, &together);
    CgLoop rows = cg_for(e, first, cg_iadd_n(e, far, 1), 1);
    attend_row(a, rows.index);
    cg_end_for(e, &rows);
    cg_end_if(e, &together);
}

/* Tiles [tile0, tile1) by key/value heads: those of head h are h + kv_heads · row. */
static void attend_tiles(CgAttend *a) {
    CgEmit *e = a->e;
    uint64_t heads = (uint64_t)a->kernel->kv_heads;
    CgLoop loop = cg_for_n(e, heads);
    a->kv_head = loop.index;
    CgValue up = cg_isub(e, cg_i64(e, heads - 1), loop.index);
    CgValue first = cg_udiv_n(e, cg_iadd(e, e->tile0, up), heads), end = cg_udiv_n(e, cg_iadd(e, e->tile1, up), heads);
    CgLoop groups = cg_for(e, first, end, GROUP_ROWS);
    attend_group(a, groups.index, end);
    cg_end_for(e, &groups);
    cg_end_for(e, &loop);
}

/* ---------------------------------------------------------------------------------------------- one row */

/* m, l and o are those of PARTS: [block][m, l: heads][16], [block][heads][head_dim up to 16]. `part`: of the blocks that the row
 * sees. */
static void take_part(CgAttend *a, CgValue part) {
    CgEmit *e = a->e;
    uint64_t heads = (uint64_t)a->kernel->heads;
    CgValue at = cg_at(e, cg_operand(e, PG_ATTEND_PARTS), cg_imul_n(e, part, heads * (2 * CG_VEC_BYTES + a->line)));
    a->m = cg_at(e, at, cg_imul_n(e, a->head, CG_VEC_BYTES));
    a->l = cg_at_n(e, a->m, heads * CG_VEC_BYTES);
    a->o = cg_at(e, cg_at_n(e, at, 2 * heads * CG_VEC_BYTES), cg_imul_n(e, a->head, a->line));
}

static void merge(CgAttend *a) { cg_each_query(a, cg_merge_query); }

/* The results of the key/value head, whose blocks [first, end) are all done. */
static void merge_blocks(CgAttend *a, CgValue first, CgValue end) {
    CgEmit *e = a->e;
    each_group(a, clear);
    CgLoop blocks = cg_for(e, first, end, 1);
    cg_take_block(a, blocks.index);
    take_part(a, cg_isub(e, blocks.index, first));
    each_group(a, merge);
    cg_end_for(e, &blocks);
    each_group(a, store);
}

/* Tile: run · kv_heads + head. Of n blocks run r of `runs` takes r · n / runs and those up to the next run's. */
static void attend_runs(CgAttend *a) {
    CgEmit *e = a->e;
    uint64_t heads = (uint64_t)a->kernel->kv_heads;
    CgValue first, end, zero = cg_i64(e, 0);
    a->kv_head = zero;
    a->width = cg_width_of_heads(e->target, 1, (uint64_t)a->kernel->O);
    take_row(a, zero);
    find_blocks(a, &first, &end);
    CgValue n = cg_isub(e, end, first), runs = cg_umin(e, n, cg_i64(e, e->groups));
    CgLoop tiles = cg_for(e, e->tile0, cg_umin(e, e->tile1, cg_imul_n(e, runs, heads)), 1);
    a->kv_head = cg_urem_n(e, tiles.index, heads);
    a->head = cg_imul_n(e, a->kv_head, group_heads(a));
    take_row(a, zero);
    each_group(a, gather);
    CgValue run = cg_udiv_n(e, tiles.index, heads), next = cg_iadd_n(e, run, 1);
    CgValue block0 = cg_udiv(e, cg_imul(e, run, n), runs), block1 = cg_udiv(e, cg_imul(e, next, n), runs);
    CgLoop blocks = cg_for(e, block0, block1, 1);
    cg_take_block(a, cg_iadd(e, blocks.index, first));
    take_part(a, blocks.index);
    each_group(a, cg_attend_block);
    cg_end_for(e, &blocks);
    CgValue done = cg_wide(e, cg_count_up(e, cg_at(e, cg_operand(e, PG_ATTEND_DONE), cg_imul_n(e, a->kv_head, 4))));
    CgIf last = cg_if(e, cg_icmp(e, LLVMIntEQ, cg_iadd_n(e, done, 1), runs));
    merge_blocks(a, first, end);
    cg_end_if(e, &last);
    cg_end_for(e, &tiles);
}

void cg_emit_attend(CgEmit *e) {
    const PgKernel *kernel = e->kernel;
    CgAttend a = {.e = e, .kernel = kernel, .line = pg_panels(kernel->O) * CG_VEC_BYTES, .line0 = cg_i64(e, 0)};
    uint64_t lines = group_heads(&a) > GROUP_ROWS ? group_heads(&a) : GROUP_ROWS;
    CgValue *const vectors[] = {&a.q, &a.O, &a.o}, *const splats[] = {&a.M, &a.L, &a.m, &a.l};
    for (int i = 0; i < 3; i++) *vectors[i] = cg_scratch(e, lines * a.line);
    for (int i = 0; i < 4; i++) *splats[i] = cg_scratch(e, lines * CG_VEC_BYTES);
    a.scores = cg_scratch(e, CG_QUERIES * CG_SCORE_BYTES);
    if (kernel->mode == PG_BLOCK) {
        e->claim = 2 * GROUP_ROWS * (uint32_t)kernel->kv_heads;
        attend_tiles(&a);
        return;
    }
    uint64_t blocks = pg_key_blocks(kernel);
    e->groups = (uint32_t)(blocks < PG_KEY_RUNS ? blocks : PG_KEY_RUNS);
    attend_runs(&a);
}
