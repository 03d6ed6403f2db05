/* PG_ROUND, and the rounding that linear layers of one row begin with: inputs to 8 bits per group of 32, as docs/bits.md says; and of
 * blocks of rows to bf16. */
#include "codegen/llvm/rounded.h"

#include "codegen/llvm/kernels.h"

enum { HALF = PG_LANES, MASK = 0x7fffffff, INFINITE = 0x7f800000 };
#define ROUNDS_TO_INTEGER 12582912.0f /* 1.5 · 2^23: a sum with it has no bits below 1; its lowest byte is 0 */
#define LEAST 0x1p-100f

CgRounded cg_rounded_at(CgEmit *e, CgValue plane, CgValue ld, CgValue row, int64_t K) {
    uint64_t groups = pg_round_groups(K);
    CgRounded r = {.p_step = cg_imul_n(e, ld, IR_GROUP), .scale_step = cg_imul_n(e, ld, sizeof(float))};
    CgValue scales = cg_at(e, plane, cg_imul_n(e, r.p_step, groups));
    CgValue sums = cg_at(e, scales, cg_imul_n(e, r.scale_step, groups)), word = cg_imul_n(e, row, sizeof(float));
    r.p = cg_at(e, plane, cg_imul_n(e, row, IR_GROUP));
    r.scale = cg_at(e, scales, word);
    r.sum = cg_at(e, sums, word);
    return r;
}

/* ---------------------------------------------------------------------------------------------- a group */

/* Lanes past `count` are +0. */
static CgValue first_lanes(CgEmit *e, CgValue v, unsigned count) {
    CgValue lanes[PG_LANES];
    for (unsigned i = 0; i < PG_LANES; i++) lanes[i] = LLVMConstInt(e->i1, i < count, 0);
    return count >= PG_LANES ? v : cg_select(e, LLVMConstVector(lanes, PG_LANES), v, cg_zero(e));
}

/* The bits of the largest |x|, as an i32: integers rise as these floats do, infinity and NaN at their end. */
static CgValue largest_bits(CgEmit *e, const CgValue x[2]) {
    CgValue bits[2];
    for (int i = 0; i < 2; i++)
        bits[i] = LLVMBuildAnd(e->builder, LLVMBuildBitCast(e->builder, x[i], e->ivec, ""), cg_ivec(e, MASK), "");
    LLVMTypeRef type = e->ivec;
    CgValue most = cg_intrinsic(e, "llvm.smax", &type, 1, bits, 2);
    return cg_intrinsic(e, "llvm.vector.reduce.smax", &type, 1, &most, 1);
}

/* Rounds the inputs x[2] of a group, whose lanes past K are zero. |x| · (127 / max) is at most 127 and a rounding: it rounds to 127. */
static void round_group(CgEmit *e, const CgValue x[2], CgValue p, CgValue scale, CgValue sum) {
    LLVMTypeRef bytes = LLVMVectorType(e->i8, PG_LANES);
    CgValue bits = largest_bits(e, x), most = LLVMBuildBitCast(e->builder, bits, e->f32, "");
    CgValue finite = cg_icmp(e, LLVMIntSLT, bits, cg_i32(e, INFINITE)), large = cg_fcmp(e, LLVMRealOGE, most, cg_f32(e, LEAST));
    CgValue zero = cg_f32(e, 0), nan = cg_sub(e, most, most); /* of infinity, too */
    CgValue step = cg_select(e, large, cg_div(e, most, cg_f32(e, 127)), zero);
    CgValue factor = cg_splat(e, cg_select(e, large, cg_div(e, cg_f32(e, 127), most), zero));
    CgValue whole[2];
    for (unsigned i = 0; i < 2; i++) {
        CgValue v = cg_add(e, cg_mul(e, x[i], factor), cg_vec(e, ROUNDS_TO_INTEGER));
        CgValue low = LLVMBuildTrunc(e->builder, LLVMBuildBitCast(e->builder, v, e->ivec, ""), bytes, "");
        LLVMSetAlignment(LLVMBuildStore(e->builder, low, cg_at_n(e, p, (uint64_t)i * HALF)), HALF);
        whole[i] = cg_sub(e, v, cg_vec(e, ROUNDS_TO_INTEGER));
    }
    cg_store_f32(e, scale, cg_select(e, finite, step, nan));
    cg_store_f32(e, sum, cg_tree_sum(e, cg_add(e, whole[0], whole[1]))); /* integers: in any order */
}

void cg_round_row(CgEmit *e, CgValue x, CgValue x_step, int64_t K, const CgRounded *to) {
    uint64_t full = (uint64_t)K / IR_GROUP;
    unsigned rest = (unsigned)(K % IR_GROUP);
    CgLoop groups = cg_for_n(e, full);
    CgValue first = cg_at(e, x, cg_imul(e, cg_imul_n(e, groups.index, 2), x_step)), word = cg_imul(e, groups.index, to->scale_step);
    CgValue pair[2] = {cg_load_vec(e, first), cg_load_vec(e, cg_at(e, first, x_step))};
    round_group(e, pair, cg_at(e, to->p, cg_imul(e, groups.index, to->p_step)), cg_at(e, to->scale, word), cg_at(e, to->sum, word));
    cg_end_for(e, &groups);
    if (rest == 0) return;
    CgValue last = cg_at(e, x, cg_imul_n(e, x_step, 2 * full));
    pair[0] = first_lanes(e, cg_load_vec(e, last), rest);
    pair[1] = rest > HALF ? first_lanes(e, cg_load_vec(e, cg_at(e, last, x_step)), rest - HALF) : cg_zero(e);
    CgValue at = cg_imul_n(e, to->scale_step, full);
    round_group(e, pair, cg_at(e, to->p, cg_imul_n(e, to->p_step, full)), cg_at(e, to->scale, at), cg_at(e, to->sum, at));
}

void cg_copy_rounded(CgEmit *e, const CgRounded *from, const CgRounded *to, int64_t K) {
    LLVMTypeRef bytes = LLVMVectorType(e->i8, IR_GROUP);
    CgLoop group = cg_for_n(e, pg_round_groups(K));
    CgValue p = LLVMBuildLoad2(e->builder, bytes, cg_at(e, from->p, cg_imul(e, group.index, from->p_step)), "");
    LLVMSetAlignment(p, IR_GROUP);
    LLVMSetAlignment(LLVMBuildStore(e->builder, p, cg_at(e, to->p, cg_imul(e, group.index, to->p_step))), IR_GROUP);
    CgValue here = cg_imul(e, group.index, from->scale_step), there = cg_imul(e, group.index, to->scale_step);
    cg_store_f32(e, cg_at(e, to->scale, there), cg_load_f32(e, cg_at(e, from->scale, here)));
    cg_store_f32(e, cg_at(e, to->sum, there), cg_load_f32(e, cg_at(e, from->sum, here)));
    cg_end_for(e, &group);
}

/* ---------------------------------------------------------------------------------------------- bf16 */

CgValue cg_bf16_row(CgEmit *e, CgValue plane, CgValue row) { return cg_at(e, plane, cg_imul_n(e, row, CG_BF16_GROUP)); }

/* To the nearest, ties to even; NaN stays NaN. With integers, so that it is the same everywhere: instructions for it take tiny numbers
 * for zero. */
static CgValue to_bf16(CgEmit *e, CgValue x) {
    CgValue bits = LLVMBuildBitCast(e->builder, x, e->ivec, ""), sixteen = cg_ivec(e, 16);
    CgValue odd = LLVMBuildAnd(e->builder, LLVMBuildLShr(e->builder, bits, sixteen, ""), cg_ivec(e, 1), "");
    CgValue up = LLVMBuildAdd(e->builder, LLVMBuildAdd(e->builder, bits, odd, ""), cg_ivec(e, 0x7fff), "");
    CgValue quiet = LLVMBuildOr(e->builder, bits, cg_ivec(e, 0x400000), "");
    CgValue chosen = cg_select(e, cg_fcmp(e, LLVMRealUNO, x, x), quiet, up);
    return LLVMBuildTrunc(e->builder, LLVMBuildLShr(e->builder, chosen, sixteen, ""), LLVMVectorType(e->i16, PG_LANES), "");
}

static void bf16_group(CgEmit *e, const CgValue x[2], CgValue to) {
    for (unsigned i = 0; i < 2; i++)
        LLVMSetAlignment(LLVMBuildStore(e->builder, to_bf16(e, x[i]), cg_at_n(e, to, (uint64_t)i * CG_BF16_GROUP / 2)),
                         CG_BF16_GROUP / 2);
}

/* Panel i of 16 inputs of the row at x + i·x_step; group g of 32 to `to` + g·to_step. */
static void bf16_row(CgEmit *e, CgValue x, CgValue x_step, int64_t K, CgValue to, CgValue to_step) {
    uint64_t full = (uint64_t)K / IR_GROUP;
    unsigned rest = (unsigned)(K % IR_GROUP);
    CgLoop groups = cg_for_n(e, full);
    CgValue first = cg_at(e, x, cg_imul(e, cg_imul_n(e, groups.index, 2), x_step));
    CgValue pair[2] = {cg_load_vec(e, first), cg_load_vec(e, cg_at(e, first, x_step))};
    bf16_group(e, pair, cg_at(e, to, cg_imul(e, groups.index, to_step)));
    cg_end_for(e, &groups);
    if (rest == 0) return;
    CgValue last = cg_at(e, x, cg_imul_n(e, x_step, 2 * full));
    pair[0] = first_lanes(e, cg_load_vec(e, last), rest);
    pair[1] = rest > HALF ? first_lanes(e, cg_load_vec(e, cg_at(e, last, x_step)), rest - HALF) : cg_zero(e);
    bf16_group(e, pair, cg_at(e, to, cg_imul_n(e, to_step, full)));
}

void cg_copy_bf16(CgEmit *e, CgValue from, CgValue from_step, CgValue to, CgValue to_step, int64_t K) {
    CgLoop group = cg_for_n(e, pg_round_groups(K));
    CgValue bits = cg_load_vec(e, cg_at(e, from, cg_imul(e, group.index, from_step)));
    cg_store_vec(e, cg_at(e, to, cg_imul(e, group.index, to_step)), bits);
    cg_end_for(e, &group);
}

/* ---------------------------------------------------------------------------------------------- the kernel */

void cg_emit_round(CgEmit *e) {
    const PgKernel *k = e->kernel;
    CgValue x = cg_operand(e, PG_ROUND_X), y = cg_operand(e, PG_ROUND_Y), ld = cg_stride(e, k->x_layout);
    CgValue step = cg_imul_n(e, ld, PG_LANES * sizeof(float)), x_plane = cg_plane_bytes(e, k->K);
    CgValue y_plane = cg_imul_n(e, ld, pg_rounded_row_bytes(k));
    CgLoop tiles = cg_for_tiles(e);
    CgValue begin = cg_imul_n(e, tiles.index, PG_ROW_BLOCK), end = cg_iadd_n(e, begin, PG_ROW_BLOCK);
    if (k->x_layout != PG_POSITIONS) /* positions of surplus tiles exist too, and nobody reads them */
        end = cg_umin(e, end, k->gather_out_rows ? cg_arg_u32(e, offsetof(RtArgs, n_out_rows)) : cg_rows(e));
    CgLoop planes = cg_for_n(e, k->x_layout == PG_PLANES ? (uint64_t)k->E : 1);
    CgLoop rows = cg_for(e, begin, end, 1);
    CgValue from = cg_at(e, x, cg_iadd(e, cg_imul(e, planes.index, x_plane), cg_imul_n(e, rows.index, PG_LANES * sizeof(float))));
    CgValue plane = cg_at(e, y, cg_imul(e, planes.index, y_plane));
    if (k->bf16_x) {
        bf16_row(e, from, step, k->K, cg_bf16_row(e, plane, rows.index), cg_imul_n(e, ld, CG_BF16_GROUP));
    } else {
        CgRounded to = cg_rounded_at(e, plane, ld, rows.index, k->K);
        cg_round_row(e, from, step, k->K, &to);
    }
    cg_end_for(e, &rows);
    cg_end_for(e, &planes);
    cg_end_for(e, &tiles);
}
