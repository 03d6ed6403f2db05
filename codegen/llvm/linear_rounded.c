/* The heart of a linear layer of q8 or q4 weights whose input is rounded: for each group of 32 the integers Σ q·p, then
 *
 *   q8   c = d · Σ q·p                                       y = fma(scale, c, y)
 *   q4   c = fma(-(m·t), Σ p, (d·s) · Σ q·p)                 y = fma(scale, c, y)
 *
 * groups in rising order from +0, a lane an output. Integers are exact in any order, so this order alone makes the bits.
 *
 * Blocks of rows may arrange their weights first (arranged.h). Where a product takes two rows, the sums of rows 2i and 2i + 1 stand in
 * their two vectors output by output, until the last group is done. With tiles the integers of a group come from there. */
#include "codegen/llvm/arranged.h"
#include "codegen/llvm/linear.h"
#include "codegen/llvm/tiles.h"
#include "support/diag.h"

enum { MAX_SUMS = 32, RUN_GROUPS = IR_OVER /* of which q4 shares d and m */ };

typedef struct Core {
    CgEmit *e;
    IrDtype dtype;
    unsigned panels, rows; /* panels: of all matrices */
    unsigned of_matrix; /* panels of each */
    bool arranged;
    unsigned rows_of_sum; /* cg_dot_rows */
    uint64_t panel_bytes, group_bytes; /* to the next panel of the tile; as stored, or as arranged */
    uint64_t panel_step; /* as stored */
    CgValue integers; /* of a group, from tiles: i32 [panel][8 rows][16]; or NULL */
} Core;

/* Where a group lies: its weights in each panel, and its inputs, row 0. */
typedef struct At {
    CgValue w[MAX_SUMS];
    CgRounded x;
} At;

/* ---------------------------------------------------------------------------------------------- a group */

/* Inputs of a row's group in registers, where the target takes them from there. */
typedef struct Held {
    CgValue words[2];
} Held;

/* The vector of inputs of a row that holds word `word`. */
static CgValue held_words(const Core *c, const At *at, unsigned row, unsigned word, Held *held) {
    CgEmit *e = c->e;
    unsigned few = (unsigned)e->target->broadcast_lanes;
    CgValue *words = &held->words[word / few];
    if (*words == NULL) {
        CgValue from = cg_at_n(e, at->x.p, row * IR_GROUP + (uint64_t)(word / few) * few * 4);
        *words = LLVMBuildLoad2(e->builder, LLVMVectorType(e->i32, few), from, "");
        LLVMSetAlignment(*words, 16);
    }
    return *words;
}

static CgBytes input_of(const Core *c, const At *at, unsigned row, unsigned k, Held *held) {
    CgEmit *e = c->e;
    unsigned few = (unsigned)e->target->broadcast_lanes, word = k / CG_RUN;
    if (few == 1) return cg_dot_input(e, cg_load_i32(e, cg_at_n(e, at->x.p, row * IR_GROUP + k)), -1);
    return cg_dot_input(e, held_words(c, at, row, word, held), (int)(word % few));
}

static CgBytes weights_of(const Core *c, CgValue group, unsigned run) {
    if (c->arranged) return cg_dot_load(c->e, cg_at_n(c->e, group, run * CG_VEC_BYTES));
    return cg_dot_weights(c->e, c->dtype, group, run);
}

/* The line that lies as far ahead of a run as the schedule says, of one row. */
static void fetch_ahead(const Core *c, CgValue group, unsigned run) {
    CgEmit *e = c->e;
    uint64_t at = (uint64_t)run * CG_VEC_BYTES;
    if (c->rows > 1 || e->schedule.ahead == 0 || at >= c->group_bytes) return;
    cg_prefetch(e, cg_at_n(e, group, at + (uint64_t)e->schedule.ahead));
    if (run + 1 == CG_GROUP_RUNS && at + CG_VEC_BYTES < c->group_bytes) /* q8: its scales lie behind the runs */
        cg_prefetch(e, cg_at_n(e, group, at + CG_VEC_BYTES + (uint64_t)e->schedule.ahead));
}

/* Runs [first, first + n). */
static void multiply_runs(const Core *c, const At *at, unsigned first, unsigned n, Held *held, CgDot *dots) {
    CgBytes w[MAX_SUMS][CG_MAX_RUNS], x[CG_MAX_RUNS];
    for (unsigned p = 0; p < c->panels; p++)
        for (unsigned i = 0; i < n; i++) {
            fetch_ahead(c, at->w[p], first + i);
            w[p][i] = weights_of(c, at->w[p], first + i);
        }
    for (unsigned r = 0; r < c->rows; r++) {
        for (unsigned i = 0; i < n; i++) {
            unsigned k = c->arranged ? (first + i) * CG_RUN : cg_dot_k(c->dtype, first + i);
            x[i] = input_of(c, at, r, k, &held[r]);
        }
        for (unsigned p = 0; p < c->panels; p++) cg_dot_add(c->e, c->dtype, w[p], x, &dots[p * c->rows + r]);
    }
}

/* Runs `first` and the next one, which are eight k of outputs 0 to 7 and of 8 to 15, of two rows at a time. */
static void multiply_two_rows(const Core *c, const At *at, unsigned first, Held *held, CgDot *dots) {
    CgBytes w[MAX_SUMS][2];
    unsigned few = (unsigned)c->e->target->broadcast_lanes;
    for (unsigned p = 0; p < c->panels; p++)
        for (unsigned h = 0; h < 2; h++) w[p][h] = weights_of(c, at->w[p], first + h);
    for (unsigned r = 0; r < c->rows; r += 2) {
        CgValue a = held_words(c, at, r, first, &held[r]), b = held_words(c, at, r + 1, first, &held[r + 1]);
        CgBytes x = cg_dot_pair_input(c->e, a, b, first % few);
        for (unsigned p = 0; p < c->panels; p++)
            for (unsigned h = 0; h < 2; h++) cg_dot_add(c->e, c->dtype, &w[p][h], &x, &dots[p * c->rows + r + h]);
    }
}

static void multiply_group(const Core *c, const At *at, Held *held, CgDot *dots) {
    CgEmit *e = c->e;
    unsigned step = c->rows_of_sum > 1 ? c->rows_of_sum : cg_dot_runs(e);
    for (unsigned run = 0; run < CG_GROUP_RUNS; run += step) {
        if (c->rows_of_sum > 1)
            multiply_two_rows(c, at, run, held, dots);
        else
            multiply_runs(c, at, run, step, held, dots);
        if (c->rows == 1) continue;
        for (unsigned i = 0; i < c->panels * c->rows; i++) cg_dot_keep_place(e, &dots[i]);
        cg_keep_order(e);
    }
}

/* The same by tiles, for all panels and rows. */
static void multiply_tiles(const Core *c, const At *at, CgDot *dots) {
    CgEmit *e = c->e;
    enum { TILE_BYTES = CG_TILE_ROWS * CG_VEC_BYTES };
    for (unsigned p = 0; p < c->panels; p++) {
        cg_tile_zero(e, p);
        cg_tile_multiply(e, p, &(CgTilePair){at->x.p, at->w[p], IR_GROUP}, p > 0);
    }
    for (unsigned p = 0; p < c->panels; p++) cg_tile_store(e, p, cg_at_n(e, c->integers, (uint64_t)p * TILE_BYTES));
    for (unsigned i = 0; i < c->panels * c->rows; i++)
        dots[i].low[0] = cg_iadd(e, dots[i].low[0], cg_load_ivec(e, cg_at_n(e, c->integers, (uint64_t)i * CG_VEC_BYTES)));
}

/* A float of each row, in the vector of sums `r`: that of row r, or of its two rows in turn. */
static CgValue of_rows(const Core *c, CgValue floats, unsigned r) {
    CgEmit *e = c->e;
    if (c->rows_of_sum == 1) return cg_load_splat(e, cg_at_n(e, floats, r * sizeof(float)));
    CgValue two = cg_load_few(e, cg_at_n(e, floats, r / 2 * 2 * sizeof(float)), 2), mask[PG_LANES];
    for (int i = 0; i < PG_LANES; i++) mask[i] = cg_i32(e, i % 2);
    return LLVMBuildShuffleVector(e->builder, two, LLVMGetPoison(LLVMTypeOf(two)), LLVMConstVector(mask, PG_LANES), "");
}

static CgScales scales_of(const Core *c, CgValue group, const CgScales *shared, unsigned h, CgValue *out_base) {
    if (c->arranged) return cg_arranged_scales(c->e, group, h, out_base);
    CgScales s = cg_group_scales(c->e, c->dtype, group, shared);
    *out_base = cg_mul(c->e, s.d, cg_vec(c->e, -CG_DOT_BASE));
    return s;
}

/* y[panel][row] of one group more: in registers (`y`), or in memory at `sums`. */
static void add_group(const Core *c, const At *at, const CgScales *shared, CgValue *y, CgValue sums) {
    CgEmit *e = c->e;
    CgDot dots[MAX_SUMS];
    Held held[MAX_SUMS] = {{{NULL}}};
    CgValue p_sum[MAX_SUMS], scale[MAX_SUMS];
    for (unsigned r = 0; r < c->rows; r++) {
        p_sum[r] = of_rows(c, at->x.sum, r);
        CgDot start = cg_dot_start(e, c->dtype, p_sum[r]);
        for (unsigned p = 0; p < c->panels; p++) dots[p * c->rows + r] = start;
    }
    if (c->integers != NULL)
        multiply_tiles(c, at, dots);
    else
        multiply_group(c, at, held, dots);
    for (unsigned r = 0; r < c->rows; r++) scale[r] = of_rows(c, at->x.scale, r);
    for (unsigned p = 0; p < c->panels; p++) {
        CgScales s[2];
        CgValue base[2];
        for (unsigned h = 0; h < c->rows_of_sum; h++) s[h] = scales_of(c, at->w[p], &shared[p], h, &base[h]);
        for (unsigned r = 0; r < c->rows; r++) {
            unsigned i = p * c->rows + r, h = r % c->rows_of_sum;
            CgValue v = cg_fma(e, s[h].d, cg_dot_end(e, c->dtype, &dots[i]), base[h]), to = NULL;
            if (s[h].m != NULL) v = cg_fma(e, s[h].m, p_sum[r], v);
            if (y == NULL) to = cg_at_n(e, sums, i * CG_VEC_BYTES);
            v = cg_fma(e, scale[r], v, y == NULL ? cg_load_vec(e, to) : y[i]);
            if (y == NULL)
                cg_store_vec(e, to, v);
            else
                y[i] = v;
        }
    }
}

/* The same of one row: panel by panel, of which one has its integers in registers at a time. */
static void add_group_to_row(const Core *c, const At *at, const CgScales *shared, CgValue *y) {
    CgEmit *e = c->e;
    Core one = *c;
    Held held = {{NULL}};
    bool integers = c->dtype == IR_Q4 && e->target->dot_scales_integers;
    CgValue p_sum = cg_load_splat(e, at->x.sum);
    one.panels = 1;
    for (unsigned p = 0; p < c->panels; p++) {
        At here = {.w = {at->w[p]}, .x = at->x};
        if (p > 0 && e->target->broadcast_lanes == 1) { /* inputs are broadcast again: registers do not hold them all */
            here.x.p = cg_opaque(e, here.x.p);
            held = (Held){{NULL}};
            cg_keep_order(e);
        }
        CgDot dot = cg_dot_start(e, c->dtype, integers ? NULL : p_sum);
        multiply_group(&one, &here, &held, &dot);
        CgValue v;
        if (integers) {
            v = cg_q4_sums(e, here.w[0], &shared[p], cg_dot_end_integers(e, c->dtype, &dot), p_sum);
        } else {
            CgValue base;
            CgScales s = scales_of(c, here.w[0], &shared[p], 0, &base);
            v = cg_fma(e, s.d, cg_dot_end(e, c->dtype, &dot), base);
            if (s.m != NULL) v = cg_fma(e, s.m, p_sum, v);
        }
        y[p] = cg_fma(e, cg_load_splat(e, at->x.scale), v, y[p]);
    }
}

/* ---------------------------------------------------------------------------------------------- runs of groups */

/* Panel p, where those of a matrix lie `step` bytes apart. */
static CgValue panel_at(const Core *c, const CgValue *w, unsigned p, uint64_t step) {
    return cg_at_n(c->e, w[p / c->of_matrix], p % c->of_matrix * step);
}

/* Groups [0, n) (i64) from w[matrix] (its panel 0) and `x` on. */
static void add_groups(const Core *c, const CgValue *w, const CgRounded *x, CgValue n, const CgScales *shared, CgValue *y,
                       CgValue sums) {
    CgEmit *e = c->e;
    unsigned together = e->target->far_offsets ? c->of_matrix : 1; /* panels that are found from one address */
    unsigned streams = c->panels / together, count = y == NULL ? 0 : c->panels * c->rows;
    CgValue first[MAX_SUMS], carried[MAX_SUMS];
    At at = {.x = *x};
    for (unsigned s = 0; s < streams; s++) first[s] = panel_at(c, w, s * together, c->panel_bytes);
    CgLoop loop = cg_for(e, cg_i64(e, 0), n, 1);
    for (unsigned s = 0; s < streams; s++) first[s] = cg_carry(e, &loop, first[s]);
    CgValue p = cg_carry(e, &loop, x->p), scale = cg_carry(e, &loop, x->scale), sum = cg_carry(e, &loop, x->sum);
    for (unsigned i = 0; i < count; i++) carried[i] = cg_carry(e, &loop, y[i]);
    for (unsigned i = 0; i < count; i++) y[i] = carried[i];
    for (unsigned i = 0; i < c->panels; i++) {
        unsigned nth = i % together;
        at.w[i] = nth == 0 ? cg_opaque(e, first[i / together]) : cg_at_n(e, at.w[i - nth], nth * c->panel_bytes);
    }
    at.x.p = cg_opaque(e, p);
    at.x.scale = cg_opaque(e, scale);
    at.x.sum = cg_opaque(e, sum);
    if (c->rows == 1)
        add_group_to_row(c, &at, shared, y);
    else
        add_group(c, &at, shared, y, sums);
    for (unsigned i = 0; i < count; i++) cg_next(&loop, carried[i], y[i]);
    for (unsigned s = 0; s < streams; s++) cg_next(&loop, first[s], cg_at_n(e, first[s], c->group_bytes));
    cg_next(&loop, p, cg_at(e, p, x->p_step));
    cg_next(&loop, scale, cg_at(e, scale, x->scale_step));
    cg_next(&loop, sum, cg_at(e, sum, x->scale_step));
    cg_end_for(e, &loop);
    for (unsigned i = 0; i < count; i++) y[i] = cg_after(&loop, carried[i]);
}

static Core core_of(CgEmit *e, const CgLinearShape *shape, unsigned matrices) {
    const PgKernel *k = e->kernel;
    uint64_t group_bytes = ir_dtype(k->dtype)->group_bytes, panel_step = shape->span * ir_panel_bytes(k->dtype, k->K);
    uint64_t panel_bytes = panel_step;
    if (cg_arranges(e)) {
        group_bytes = cg_arranged_bytes(e);
        panel_bytes = RUN_GROUPS * group_bytes;
    }
    unsigned panels = matrices * shape->panels;
    if (panels * shape->rows > MAX_SUMS) SU_BUG("a microkernel of %u sums", panels * shape->rows);
    bool tiles = e->schedule.tiles && k->mode == PG_BLOCK;
    if (tiles && (shape->rows != CG_TILE_ROWS || e->target->dot_lanes != PG_LANES)) SU_BUG("tiles of %u rows", shape->rows);
    return (Core){.e = e,
                  .dtype = k->dtype,
                  .panels = panels,
                  .of_matrix = shape->panels,
                  .rows = shape->rows,
                  .arranged = cg_arranges(e),
                  .rows_of_sum = cg_dot_rows(e),
                  .panel_bytes = panel_bytes,
                  .group_bytes = group_bytes,
                  .panel_step = panel_step,
                  .integers = tiles ? cg_var_array(e, e->vec, (uint64_t)panels * shape->rows) : NULL};
}

/* A run: its weights and inputs, and how many groups it has. */
typedef struct Run {
    CgValue w[2], groups; /* w: of each matrix */
    CgRounded x;
    CgScales shared[MAX_SUMS]; /* [panel] */
} Run;

static Run run_of(const Core *c, const CgValue *w, const CgRounded *x, CgValue index) {
    CgEmit *e = c->e;
    uint64_t groups = pg_round_groups(e->kernel->K), group_bytes = ir_dtype(c->dtype)->group_bytes;
    CgValue first = cg_imul_n(e, index, RUN_GROUPS), word = cg_imul(e, first, x->scale_step);
    Run run = {.groups = cg_i64(e, RUN_GROUPS), .x = *x};
    for (unsigned i = 0; i < c->panels / c->of_matrix; i++) run.w[i] = cg_at(e, w[i], cg_imul_n(e, first, group_bytes));
    if (groups % RUN_GROUPS != 0) run.groups = cg_umin(e, cg_isub(e, cg_i64(e, groups), first), run.groups);
    run.x.p = cg_at(e, x->p, cg_imul(e, first, x->p_step));
    run.x.scale = cg_at(e, x->scale, word);
    run.x.sum = cg_at(e, x->sum, word);
    for (unsigned p = 0; p < c->panels; p++)
        run.shared[p] = cg_shared_scales(e, c->dtype, panel_at(c, w, p, c->panel_step), groups, index);
    return run;
}

/* Puts the weights of a run, of one matrix, to `out`, where they are arranged. */
static void arrange(const Core *c, Run *run, CgValue out) {
    CgEmit *e = c->e;
    for (unsigned p = 0; p < c->panels; p++) {
        CgValue from = cg_at_n(e, run->w[0], p * c->panel_step), to = cg_at_n(e, out, p * c->panel_bytes);
        CgLoop group = cg_for(e, cg_i64(e, 0), run->groups, 1);
        CgValue here = cg_at(e, from, cg_imul_n(e, group.index, ir_dtype(c->dtype)->group_bytes));
        cg_arrange_group(e, here, &run->shared[p], cg_at(e, to, cg_imul_n(e, group.index, c->group_bytes)));
        cg_end_for(e, &group);
    }
    run->w[0] = out;
}

uint64_t cg_linear_arranged_bytes(const CgEmit *e, const CgLinearShape *shape) {
    return cg_arranges(e) ? shape->panels * RUN_GROUPS * cg_arranged_bytes(e) : 0;
}

static uint64_t runs_of(const PgKernel *k) { return (pg_round_groups(k->K) + RUN_GROUPS - 1) / RUN_GROUPS; }

void cg_linear_rounded_row(CgEmit *e, const CgLinearShape *shape, unsigned matrices, const CgValue *w, const CgRounded *x,
                           const CgValue *sums) {
    Core c = core_of(e, shape, matrices);
    CgValue y[MAX_SUMS], carried[MAX_SUMS];
    CgLoop loop = cg_for_n(e, runs_of(e->kernel));
    for (unsigned i = 0; i < c.panels; i++) y[i] = carried[i] = cg_carry(e, &loop, cg_zero(e));
    Run run = run_of(&c, w, x, loop.index);
    add_groups(&c, run.w, &run.x, run.groups, run.shared, y, NULL);
    for (unsigned i = 0; i < c.panels; i++) cg_next(&loop, carried[i], y[i]);
    cg_end_for(e, &loop);
    for (unsigned i = 0; i < c.panels; i++) cg_store_vec(e, panel_at(&c, sums, i, CG_VEC_BYTES), cg_after(&loop, carried[i]));
}

void cg_linear_rounded_parts(CgEmit *e, const CgLinearShape *shape, CgValue w, const CgRounded *x, CgValue parts, CgValue arranged,
                             CgValue sums) {
    Core c = core_of(e, shape, 1);
    unsigned count = c.panels * c.rows;
    CgLoop clear = cg_for(e, cg_i64(e, 0), cg_imul_n(e, parts, count), 1);
    cg_store_vec(e, cg_at(e, sums, cg_imul_n(e, clear.index, CG_VEC_BYTES)), cg_zero(e));
    cg_end_for(e, &clear);
    CgLoop loop = cg_for_n(e, runs_of(e->kernel));
    Run run = run_of(&c, &w, x, loop.index);
    if (c.arranged) arrange(&c, &run, arranged);
    CgLoop part = cg_for(e, cg_i64(e, 0), parts, 1);
    CgRounded here = run.x;
    CgValue word = cg_imul_n(e, part.index, c.rows * sizeof(float));
    here.p = cg_at(e, here.p, cg_imul_n(e, part.index, c.rows * IR_GROUP));
    here.scale = cg_at(e, here.scale, word);
    here.sum = cg_at(e, here.sum, word);
    CgValue at = cg_at(e, sums, cg_imul_n(e, part.index, count * CG_VEC_BYTES)), y[MAX_SUMS];
    bool held = count <= (unsigned)e->target->dot_held_sums;
    for (unsigned i = 0; i < count && held; i++) y[i] = cg_load_vec(e, cg_at_n(e, at, i * CG_VEC_BYTES));
    add_groups(&c, run.w, &here, run.groups, run.shared, held ? y : NULL, at);
    for (unsigned i = 0; i < count && held; i++) cg_store_vec(e, cg_at_n(e, at, i * CG_VEC_BYTES), y[i]);
    cg_end_for(e, &part);
    cg_end_for(e, &loop);
    if (c.rows_of_sum == 1) return;
    CgLoop pair = cg_for(e, cg_i64(e, 0), cg_imul_n(e, parts, count / 2), 1);
    cg_part_rows(e, cg_at(e, sums, cg_imul_n(e, pair.index, 2 * CG_VEC_BYTES)));
    cg_end_for(e, &pair);
}
