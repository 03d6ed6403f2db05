/* The heart of a linear layer of bf16 weights whose input is rounded to bf16 (--fast), of blocks of rows: an instruction adds several
 * products to a float32 (CgBf16Way). The order of a sum is the instruction's; runs of inputs and groups rise.
 *
 * Where a product takes two rows by two outputs, weights are arranged first, once for all rows of a tile: of four k
 *
 *     bf16 [2 h][8 outputs][4 k]                   h: outputs 0 to 7, 8 to 15
 *
 * and the sums of rows 2i and 2i + 1 stand in their two vectors output by output, until the last group is done (cg_part_rows).
 *
 * With tiles (codegen/llvm/tiles.h) a product takes a whole group; one in which K ends is copied first, with zeros behind it. */
#include "codegen/llvm/arranged.h"
#include "codegen/llvm/blocks.h"
#include "codegen/llvm/linear.h"
#include "codegen/llvm/tiles.h"
#include "support/diag.h"

enum {
    MAX_SUMS = 32,
    GROUP_PAIRS = IR_GROUP / 2, /* of k */
    QUAD = 4, /* k that a product of two rows by two outputs takes */
    QUAD_BYTES = QUAD * PG_LANES * 2,
    GROUP_BYTES = IR_GROUP * PG_LANES * 2, /* of a panel */
    PARTS = 4 /* registers of a vector, where a product takes two rows */
};

typedef struct Core {
    CgEmit *e;
    unsigned panels, rows;
    bool two_rows, tiles;
    uint64_t panel_bytes; /* as stored, or of an arranged run */
    uint64_t run_groups; /* groups of 32 inputs that all rows take before the next ones */
} Core;

static Core core_of(CgEmit *e, const CgLinearShape *shape) {
    if (shape->panels * shape->rows > MAX_SUMS) SU_BUG("a microkernel of %u sums", shape->panels * shape->rows);
    Core c = {.e = e,
              .panels = shape->panels,
              .rows = shape->rows,
              .two_rows = e->target->bf16 == CG_BF16_MMLA,
              .tiles = e->schedule.tiles,
              .panel_bytes = ir_panel_bytes(IR_BF16, e->kernel->K),
              .run_groups = (uint64_t)e->schedule.run / IR_GROUP};
    if (c.tiles && shape->rows != CG_TILE_ROWS) SU_BUG("tiles of %u rows", shape->rows);
    if (c.two_rows) c.panel_bytes = c.run_groups * GROUP_BYTES;
    return c;
}

/* ---------------------------------------------------------------------------------------------- the instructions */

static CgValue as_bf16(CgEmit *e, CgValue v, unsigned elements) {
    return LLVMBuildBitCast(e->builder, v, LLVMVectorType(LLVMBFloatTypeInContext(e->context), elements), "");
}

/* sum + w1·x1, then + w0·x0, in every lane; w and x: ivecs of pairs. */
static CgValue add_pair(CgEmit *e, CgValue sum, CgValue w, CgValue x) {
    if (e->target->bf16_in_ir) {
        CgValue weights[2], inputs[2];
        cg_bf16_halves(e, w, weights);
        cg_bf16_halves(e, x, inputs);
        return cg_fma(e, weights[0], inputs[0], cg_fma(e, weights[1], inputs[1], sum));
    }
    CgValue args[3] = {sum, as_bf16(e, w, 2 * PG_LANES), as_bf16(e, x, 2 * PG_LANES)};
    return cg_intrinsic(e, "llvm.x86.avx512bf16.dpbf16ps.512", NULL, 0, args, 3);
}

static CgValue part_of(CgEmit *e, CgValue v, unsigned part, unsigned of_part) {
    CgValue mask[PG_LANES];
    for (unsigned i = 0; i < of_part; i++) mask[i] = cg_i32(e, (int32_t)(part * of_part + i));
    return LLVMBuildShuffleVector(e->builder, v, LLVMGetPoison(LLVMTypeOf(v)), LLVMConstVector(mask, of_part), "");
}

/* sum: of 8 outputs and two rows; w: ivec, [8 outputs][4 k]; x: <4 x i32>, [2 rows][4 k]. */
static CgValue add_quad(CgEmit *e, CgValue sum, CgValue w, CgValue x) {
    CgValue parts[PARTS];
    for (unsigned i = 0; i < PARTS; i++) {
        CgValue args[3] = {part_of(e, sum, i, PG_LANES / PARTS), as_bf16(e, part_of(e, w, i, PG_LANES / PARTS), 8),
                           as_bf16(e, x, 8)};
        parts[i] = cg_intrinsic(e, "llvm.aarch64.neon.bfmmla", NULL, 0, args, 3);
    }
    return cg_concat(e, parts, PARTS);
}

/* ---------------------------------------------------------------------------------------------- arranging */

/* Pairs of four k of 16 outputs, as [2 h][8 outputs][4 k]. */
static void weave(CgEmit *e, CgValue low, CgValue high, CgValue to) {
    for (unsigned h = 0; h < 2; h++) {
        CgValue mask[PG_LANES];
        for (unsigned i = 0; i < PG_LANES; i++) mask[i] = cg_i32(e, (int32_t)(i % 2 * PG_LANES + PG_LANES / 2 * h + i / 2));
        CgValue v = LLVMBuildShuffleVector(e->builder, low, high, LLVMConstVector(mask, PG_LANES), "");
        cg_store_vec(e, cg_at_n(e, to, (uint64_t)h * CG_VEC_BYTES), LLVMBuildBitCast(e->builder, v, e->vec, ""));
    }
}

/* The first `pairs` pairs of a group; an odd last one gets a partner of zeros. */
static void arrange_group(CgEmit *e, CgValue from, unsigned pairs, CgValue to) {
    for (unsigned i = 0; i < pairs; i += 2) {
        CgValue low = cg_load_ivec(e, cg_at_n(e, from, (uint64_t)i * CG_VEC_BYTES)), high = cg_ivec(e, 0);
        if (i + 1 < pairs) high = cg_load_ivec(e, cg_at_n(e, from, (uint64_t)(i + 1) * CG_VEC_BYTES));
        weave(e, low, high, cg_at_n(e, to, (uint64_t)i / 2 * QUAD_BYTES));
    }
}

/* ---------------------------------------------------------------------------------------------- a group */

typedef struct Sums {
    CgValue v[MAX_SUMS]; /* [panel][row] */
} Sums;

static CgValue weights_at(const Core *c, CgValue w, unsigned panel, uint64_t bytes) {
    return cg_load_ivec(c->e, cg_at_n(c->e, w, panel * c->panel_bytes + bytes));
}

/* Weights at w, panel 0, with inputs at x, row 0. */
static void add_pairs(const Core *c, CgValue w, CgValue x, unsigned pairs, Sums *sums) {
    CgEmit *e = c->e;
    for (unsigned k = 0; k < pairs; k++) {
        CgValue panel[MAX_SUMS];
        for (unsigned p = 0; p < c->panels; p++) panel[p] = weights_at(c, w, p, (uint64_t)k * CG_VEC_BYTES);
        for (unsigned r = 0; r < c->rows; r++) {
            CgValue two = cg_splat(e, cg_load_i32(e, cg_at_n(e, x, (uint64_t)r * CG_BF16_GROUP + k * 4)));
            for (unsigned p = 0; p < c->panels; p++)
                sums->v[p * c->rows + r] = add_pair(e, sums->v[p * c->rows + r], panel[p], two);
        }
        for (unsigned i = 0; i < c->panels * c->rows && !e->target->bf16_in_ir; i++) sums->v[i] = cg_keep_place(e, sums->v[i]);
        cg_keep_order(e);
    }
}

/* Eight inputs of a row: <4 x i32>. */
static CgValue eight_inputs(const Core *c, CgValue x, unsigned row, unsigned k) {
    CgValue v =
        LLVMBuildLoad2(c->e->builder, LLVMVectorType(c->e->i32, 4), cg_at_n(c->e, x, (uint64_t)row * CG_BF16_GROUP + 2 * k), "");
    LLVMSetAlignment(v, 16);
    return v;
}

/* Four of them, from `first` on (0, 4), of row a, then of row b. */
static CgValue quad_of(CgEmit *e, CgValue a, CgValue b, unsigned first) {
    CgValue mask[4];
    for (unsigned i = 0; i < 4; i++) mask[i] = cg_i32(e, (int32_t)(i / 2 * 4 + first / 2 + i % 2));
    return LLVMBuildShuffleVector(e->builder, a, b, LLVMConstVector(mask, 4), "");
}

/* The same of arranged weights; inputs past K are zero, of which all 32 are there. */
static void add_quads(const Core *c, CgValue w, CgValue x, unsigned pairs, Sums *sums) {
    CgEmit *e = c->e;
    CgValue held[MAX_SUMS];
    for (unsigned k = 0; k < 2 * pairs; k += QUAD) {
        if (k % 8 == 0)
            for (unsigned r = 0; r < c->rows; r++) held[r] = eight_inputs(c, x, r, k);
        for (unsigned p = 0; p < c->panels; p++) {
            for (unsigned h = 0; h < 2; h++) {
                CgValue v = weights_at(c, w, p, (uint64_t)k / QUAD * QUAD_BYTES + (uint64_t)h * CG_VEC_BYTES);
                for (unsigned r = 0; r < c->rows; r += 2) {
                    CgValue *sum = &sums->v[p * c->rows + r + h];
                    *sum = add_quad(e, *sum, v, quad_of(e, held[r], held[r + 1], k % 8));
                }
            }
        }
        cg_keep_order(e);
    }
}

static void add_group(const Core *c, CgValue w, CgValue x, unsigned pairs, Sums *sums) {
    (c->two_rows ? add_quads : add_pairs)(c, w, x, pairs, sums);
}

/* ---------------------------------------------------------------------------------------------- runs of groups */

static Sums load_sums(const Core *c, CgValue at) {
    Sums s = {{NULL}};
    for (unsigned i = 0; i < c->panels * c->rows; i++) s.v[i] = cg_load_vec(c->e, cg_at_n(c->e, at, (uint64_t)i * CG_VEC_BYTES));
    return s;
}

static void store_sums(const Core *c, CgValue at, const Sums *s) {
    for (unsigned i = 0; i < c->panels * c->rows; i++) cg_store_vec(c->e, cg_at_n(c->e, at, (uint64_t)i * CG_VEC_BYTES), s->v[i]);
}

/* Adds `groups` (i64) whole groups, and `tail` pairs of the next one where `has_tail` (i1), to the sums at `at`. */
static void add_run(const Core *c, CgValue w, CgValue x, CgValue x_step, CgValue groups, unsigned tail, CgValue has_tail,
                    CgValue at) {
    CgEmit *e = c->e;
    unsigned count = c->panels * c->rows;
    Sums from = load_sums(c, at), in_loop, carried;
    CgLoop loop = cg_for(e, cg_i64(e, 0), groups, 1);
    CgValue wp = cg_carry(e, &loop, w), xp = cg_carry(e, &loop, x);
    for (unsigned i = 0; i < count; i++) in_loop.v[i] = carried.v[i] = cg_carry(e, &loop, from.v[i]);
    add_group(c, cg_opaque(e, wp), cg_opaque(e, xp), GROUP_PAIRS, &in_loop);
    for (unsigned i = 0; i < count; i++) cg_next(&loop, carried.v[i], in_loop.v[i]);
    cg_next(&loop, wp, cg_at_n(e, wp, GROUP_BYTES));
    cg_next(&loop, xp, cg_at(e, xp, x_step));
    cg_end_for(e, &loop);
    for (unsigned i = 0; i < count; i++) from.v[i] = cg_after(&loop, carried.v[i]);
    store_sums(c, at, &from);
    if (tail == 0) return;
    CgIf last = cg_if(e, has_tail);
    Sums more = load_sums(c, at);
    add_group(c, cg_after(&loop, wp), cg_after(&loop, xp), tail, &more);
    store_sums(c, at, &more);
    cg_end_if(e, &last);
}

/* The same by tiles; `last`: the group in which K ends, [panel], or NULL. */
static void add_tiles(const Core *c, CgValue w, CgValue x, CgValue x_step, CgValue groups, CgValue last, CgValue has_tail,
                      CgValue at) {
    CgEmit *e = c->e;
    for (unsigned p = 0; p < c->panels; p++) cg_tile_load(e, p, cg_at_n(e, at, (uint64_t)p * c->rows * CG_VEC_BYTES));
    CgLoop loop = cg_for(e, cg_i64(e, 0), groups, 1);
    CgValue a = cg_at(e, x, cg_imul(e, loop.index, x_step)), b = cg_at(e, w, cg_imul_n(e, loop.index, GROUP_BYTES));
    for (unsigned p = 0; p < c->panels; p++)
        cg_tile_multiply(e, p, &(CgTilePair){a, cg_at_n(e, b, p * c->panel_bytes), CG_BF16_GROUP}, p > 0);
    cg_end_for(e, &loop);
    if (last != NULL) {
        CgIf here = cg_if(e, has_tail);
        a = cg_at(e, x, cg_imul(e, groups, x_step));
        for (unsigned p = 0; p < c->panels; p++)
            cg_tile_multiply(e, p, &(CgTilePair){a, cg_at_n(e, last, (uint64_t)p * GROUP_BYTES), CG_BF16_GROUP}, p > 0);
        cg_end_if(e, &here);
    }
    for (unsigned p = 0; p < c->panels; p++) cg_tile_store(e, p, cg_at_n(e, at, (uint64_t)p * c->rows * CG_VEC_BYTES));
}

/* The group of `tail` pairs in which K ends, of every panel from `w` on, with zeros behind it. */
static CgValue copy_last(const Core *c, CgValue w, unsigned tail) {
    CgEmit *e = c->e;
    CgValue out = cg_var_array(e, e->vec, (uint64_t)c->panels * GROUP_PAIRS);
    uint64_t first = (uint64_t)e->kernel->K / IR_GROUP * GROUP_BYTES;
    for (unsigned p = 0; p < c->panels; p++) {
        for (unsigned i = 0; i < GROUP_PAIRS; i++) {
            CgValue from = cg_at_n(e, w, p * c->panel_bytes + first + (uint64_t)i * CG_VEC_BYTES);
            cg_store_vec(e, cg_at_n(e, out, ((uint64_t)p * GROUP_PAIRS + i) * CG_VEC_BYTES),
                         i < tail ? cg_load_vec(e, from) : cg_zero(e));
        }
    }
    return out;
}

/* Puts the weights of a run to `out`. */
static void arrange_run(const Core *c, CgValue w, CgValue groups, unsigned tail, CgValue has_tail, CgValue out) {
    CgEmit *e = c->e;
    for (unsigned p = 0; p < c->panels; p++) {
        CgValue from = cg_at_n(e, w, p * ir_panel_bytes(IR_BF16, e->kernel->K)), to = cg_at_n(e, out, p * c->panel_bytes);
        CgLoop group = cg_for(e, cg_i64(e, 0), groups, 1);
        CgValue bytes = cg_imul_n(e, group.index, GROUP_BYTES);
        arrange_group(e, cg_at(e, from, bytes), GROUP_PAIRS, cg_at(e, to, bytes));
        cg_end_for(e, &group);
        if (tail == 0) continue;
        CgIf last = cg_if(e, has_tail);
        bytes = cg_imul_n(e, groups, GROUP_BYTES);
        arrange_group(e, cg_at(e, from, bytes), tail, cg_at(e, to, bytes));
        cg_end_if(e, &last);
    }
}

uint64_t cg_linear_bf16_arranged_bytes(const CgEmit *e, const CgLinearShape *shape) {
    if (e->target->bf16 != CG_BF16_MMLA) return 0;
    return shape->panels * ((uint64_t)e->schedule.run / IR_GROUP) * GROUP_BYTES;
}

void cg_linear_bf16_parts(CgEmit *e, const CgLinearShape *shape, CgValue w, CgValue x, CgValue x_step, CgValue parts,
                          CgValue arranged, CgValue sums) {
    Core c = core_of(e, shape);
    uint64_t K = (uint64_t)e->kernel->K, all = pg_round_groups(e->kernel->K), runs = (all + c.run_groups - 1) / c.run_groups;
    unsigned count = c.panels * c.rows, tail = ((unsigned)(K % IR_GROUP) + 1) / 2;
    CgLoop clear = cg_for(e, cg_i64(e, 0), cg_imul_n(e, parts, count), 1);
    cg_store_vec(e, cg_at(e, sums, cg_imul_n(e, clear.index, CG_VEC_BYTES)), cg_zero(e));
    cg_end_for(e, &clear);
    CgValue copied = c.tiles && tail > 0 ? copy_last(&c, w, tail) : NULL;
    CgLoop run = cg_for_n(e, runs);
    CgValue first = cg_imul_n(e, run.index, c.run_groups), is_last = cg_icmp(e, LLVMIntEQ, run.index, cg_i64(e, runs - 1));
    CgValue groups = cg_umin(e, cg_isub(e, cg_i64(e, K / IR_GROUP), first), cg_i64(e, c.run_groups));
    CgValue here = cg_at(e, w, cg_imul_n(e, first, GROUP_BYTES)), inputs = cg_at(e, x, cg_imul(e, first, x_step));
    if (c.two_rows) {
        arrange_run(&c, here, groups, tail, is_last, arranged);
        here = arranged;
    }
    CgLoop part = cg_for(e, cg_i64(e, 0), parts, 1);
    CgValue rows = cg_at(e, inputs, cg_imul_n(e, part.index, (uint64_t)c.rows * CG_BF16_GROUP));
    CgValue at = cg_at(e, sums, cg_imul_n(e, part.index, (uint64_t)count * CG_VEC_BYTES));
    if (c.tiles)
        add_tiles(&c, here, rows, x_step, groups, copied, is_last, at);
    else
        add_run(&c, here, rows, x_step, groups, tail, is_last, at);
    cg_end_for(e, &part);
    cg_end_for(e, &run);
    if (!c.two_rows) return;
    CgLoop pair = cg_for(e, cg_i64(e, 0), cg_imul_n(e, parts, count / 2), 1);
    cg_part_rows(e, cg_at(e, sums, cg_imul_n(e, pair.index, 2 * CG_VEC_BYTES)));
    cg_end_for(e, &pair);
}
