/* The heart of a linear layer: panels × rows of sums over K. The bits ask for K in segments of 256 that are summed from +0 and added in
 * order; inside a segment 16 inputs are one step of the loop, fully unrolled, so that every address is a pointer plus a
 * constant. */
#include "codegen/llvm/blocks.h"
#include "codegen/llvm/linear.h"
#include "support/diag.h"

enum {
    MAX_SUMS = 32,
    STEP = PG_LANES,
    RUN_STEPS = 4, /* of weights that are widened; else the schedule says it */
    RUN_BYTES = RUN_STEPS * STEP * PG_LANES * 4, /* of a panel, as floats */
    RUN_GROUPS = RUN_STEPS * STEP / IR_GROUP,
    /* Bytes that blocks of a few positions read ahead, where the weights of every expert come from memory once, whatever dtype they
     * have. Where there are many they stay in a cache, and the line at hand is fetched: that costs nothing. */
    AHEAD_OF_FEW = 2048,
    FEW_ROWS = 64
};

typedef struct Sums {
    CgValue v[MAX_SUMS]; /* [panel][row] */
} Sums;

typedef struct Core {
    CgEmit *e;
    unsigned panels, rows;
    uint64_t panel_bytes; /* of weights */
    IrDtype dtype;
    unsigned group; /* inputs that are loaded together */
    CgValue ahead; /* i64: bytes that blocks of positions fetch ahead; NULL: nothing */
} Core;

/* The inputs of all rows at one step, read as the multiplications want them: broadcast_lanes at a time. */
typedef struct Inputs {
    CgValue x; /* ptr: input 0 of row 0 */
    CgValue held[MAX_SUMS]; /* [row]: the inputs that were loaded last, if more than one at a time */
} Inputs;

/* Input k of row r in every lane. */
static CgValue input(const Core *c, Inputs *in, unsigned r, unsigned k) {
    unsigned few = (unsigned)c->e->target->broadcast_lanes;
    CgValue address = cg_at_n(c->e, in->x, (uint64_t)r * 64 + (uint64_t)(k - k % few) * 4);
    if (few == 1) return cg_load_splat(c->e, address);
    if (k % few == 0) in->held[r] = cg_load_few(c->e, address, few);
    return cg_splat_lane(c->e, in->held[r], k % few);
}

/* sum[p][r] = fma(w[p], x[r] of input k, sum) of panels [p0, p1). A broadcast input lives for its panels only: the weights of one k
 * and one input are all that stands in registers beside the sums. */
static void multiply(const Core *c, unsigned p0, unsigned p1, const CgValue *w, Inputs *in, unsigned k, Sums *sums) {
    for (unsigned r = 0; r < c->rows; r++) {
        CgValue x = input(c, in, r, k);
        for (unsigned p = p0; p < p1; p++) {
            CgValue *sum = &sums->v[p * c->rows + r];
            *sum = cg_fma(c->e, w[p], x, *sum);
        }
    }
}

/* Where the weights of a step lie: a pointer for all panels, or one for each if loads do not reach from panel to panel. */
typedef struct Streams {
    CgValue at[MAX_SUMS];
    unsigned count;
} Streams;

static Streams open_streams(const Core *c, CgValue w) {
    Streams s = {.count = c->e->target->far_offsets ? 1 : c->panels};
    for (unsigned i = 0; i < s.count; i++) s.at[i] = i == 0 ? w : cg_opaque(c->e, cg_at_n(c->e, w, i * c->panel_bytes));
    return s;
}

static CgValue weight_address(const Core *c, const Streams *w, unsigned panel, uint64_t bytes) {
    return panel < w->count ? cg_at_n(c->e, w->at[panel], bytes) : cg_at_n(c->e, w->at[0], panel * c->panel_bytes + bytes);
}

static Streams streams_ahead(const Core *c, const Streams *w) {
    Streams far = *w;
    for (unsigned i = 0; i < far.count; i++) far.at[i] = cg_opaque(c->e, cg_at(c->e, w->at[i], c->ahead));
    return far;
}

/* Weights of a step's panels: of each k of a group. */
typedef struct Group {
    CgValue w[IR_MAX_GROUP][MAX_SUMS];
} Group;

/* Weights of panel p for the group from input k on; fetches those at `far` unless it is NULL. */
static void load_weights(const Core *c, const Streams *w, const Streams *far, unsigned p, unsigned k, bool ahead, Group *out) {
    uint64_t bytes = ir_panel_bytes(c->dtype, k);
    CgValue address = weight_address(c, w, p, bytes), vectors[IR_MAX_GROUP];
    if (far != NULL) cg_prefetch(c->e, weight_address(c, far, p, bytes));
    if (ahead) cg_prefetch(c->e, cg_at_n(c->e, address, (uint64_t)c->e->schedule.ahead));
    cg_load_group(c->e, c->dtype, address, vectors);
    for (unsigned i = 0; i < c->group; i++) out->w[i][p] = vectors[i];
}

/* Inputs [0, count) at x with the weights at w. Where an input is broadcast from memory all panels share it; where it stands in a
 * register panels go one by one, so that few weights do. */
static void multiply_inputs(const Core *c, const Streams *w, const Streams *far, CgValue x, unsigned count, Sums *sums) {
    Group group;
    Inputs in = {.x = x};
    bool ahead = c->e->schedule.ahead > 0 && c->rows == 1 && count == STEP;
    unsigned side = c->e->target->broadcast_lanes > 1 ? 1 : c->panels;
    for (unsigned k = 0; k < count; k += c->group) {
        for (unsigned p0 = 0; p0 < c->panels; p0 += side) {
            for (unsigned p = p0; p < p0 + side; p++) load_weights(c, w, far, p, k, ahead, &group);
            for (unsigned i = 0; i < c->group && k + i < count; i++) /* the last group may not be whole */
                multiply(c, p0, p0 + side, group.w[i], &in, k + i, sums);
        }
    }
}

/* The next 16 inputs of every row: panels of x lie far apart, so the processor does not see them coming. */
static void fetch_inputs(const Core *c, CgValue x) {
    CgValue at = cg_opaque(c->e, x);
    for (unsigned r = 0; r < c->rows; r++) cg_prefetch(c->e, cg_at_n(c->e, at, (uint64_t)r * 64));
}

/* Adds `steps` (i64) times 16 inputs to `from`, then `tail` more if `with_tail` (i1; NULL: always). */
static Sums sum_inputs(const Core *c, const Sums *from, CgValue w, CgValue x, CgValue x_step, CgValue steps, unsigned tail,
                       CgValue with_tail) {
    CgEmit *e = c->e;
    unsigned count = c->panels * c->rows;
    Sums sums, in_loop;
    Streams first = open_streams(c, w), carried_w = first, here = first, last_w = first;
    CgLoop loop = cg_for(e, cg_i64(e, 0), steps, 1);
    for (unsigned i = 0; i < first.count; i++) carried_w.at[i] = cg_carry(e, &loop, first.at[i]);
    CgValue xp = cg_carry(e, &loop, x);
    CgValue carried[MAX_SUMS];
    for (unsigned i = 0; i < count; i++) in_loop.v[i] = carried[i] = cg_carry(e, &loop, from->v[i]);
    for (unsigned i = 0; i < first.count; i++) here.at[i] = cg_opaque(e, carried_w.at[i]);
    if (c->rows > 1) fetch_inputs(c, cg_at(e, xp, x_step));
    Streams far = c->ahead == NULL ? here : streams_ahead(c, &here);
    multiply_inputs(c, &here, c->ahead == NULL ? NULL : &far, cg_opaque(e, xp), STEP, &in_loop);
    for (unsigned i = 0; i < count; i++) cg_next(&loop, carried[i], in_loop.v[i]);
    for (unsigned i = 0; i < first.count; i++)
        cg_next(&loop, carried_w.at[i], cg_at_n(e, carried_w.at[i], ir_panel_bytes(c->dtype, STEP)));
    cg_next(&loop, xp, cg_at(e, xp, x_step));
    cg_end_for(e, &loop);
    for (unsigned i = 0; i < count; i++) sums.v[i] = cg_after(&loop, carried[i]);
    if (tail == 0) return sums;
    for (unsigned i = 0; i < first.count; i++) last_w.at[i] = cg_after(&loop, carried_w.at[i]);
    Sums more = sums;
    if (with_tail == NULL) {
        multiply_inputs(c, &last_w, NULL, cg_after(&loop, xp), tail, &more);
        return more;
    }
    CgIf last = cg_if(e, with_tail);
    multiply_inputs(c, &last_w, NULL, cg_after(&loop, xp), tail, &more);
    cg_end_if(e, &last);
    for (unsigned i = 0; i < count; i++) sums.v[i] = cg_join(e, &last, more.v[i], sums.v[i]);
    return sums;
}

static void set_all(CgEmit *e, unsigned count, CgValue at, CgValue v) {
    for (unsigned i = 0; i < count; i++) cg_store_vec(e, cg_at_n(e, at, i * 64), v);
}

static Sums load_sums(CgEmit *e, unsigned count, CgValue at) {
    Sums s = {{NULL}};
    for (unsigned i = 0; i < count; i++) s.v[i] = cg_load_vec(e, cg_at_n(e, at, i * 64));
    return s;
}

static void store_sums(CgEmit *e, unsigned count, CgValue at, const Sums *s) {
    for (unsigned i = 0; i < count; i++) cg_store_vec(e, cg_at_n(e, at, i * 64), s->v[i]);
}

/* Adds a segment to the sums of those before. They start as -0: adding the first segment gives that itself, whatever its sign. */
static void add_segment(CgEmit *e, unsigned count, CgValue at, const Sums *segment) {
    for (unsigned i = 0; i < count; i++) {
        CgValue to = cg_at_n(e, at, i * 64);
        cg_store_vec(e, to, cg_add(e, cg_load_vec(e, to), segment->v[i]));
    }
}

static Core core_of(CgEmit *e, const CgLinearShape *shape) {
    const PgKernel *k = e->kernel;
    if (shape->panels * shape->rows > MAX_SUMS) SU_BUG("a microkernel of %u sums", shape->panels * shape->rows);
    Core c = {.e = e,
              .panels = shape->panels,
              .rows = shape->rows,
              .panel_bytes = ir_is_blocks(k->dtype) ? RUN_BYTES : ir_panel_bytes(k->dtype, k->K),
              .dtype = ir_is_blocks(k->dtype) ? IR_F32 : k->dtype};
    c.group = (unsigned)ir_dtype(c.dtype)->group;
    if (k->mode == PG_BLOCK && k->y_layout == PG_POSITIONS) {
        CgValue few = cg_icmp(e, LLVMIntULE, cg_rows(e), cg_i64(e, FEW_ROWS));
        c.ahead = cg_select(e, few, cg_i64(e, AHEAD_OF_FEW), cg_i64(e, 0));
    }
    return c;
}

/* A run of inputs of the loop over runs of `size` steps: steps before it, steps in it, and whether it is the last one. */
typedef struct Run {
    CgValue step0, steps, is_last;
} Run;

static Run run_of(CgEmit *e, CgValue index, uint64_t runs, uint64_t size) {
    uint64_t steps = (uint64_t)e->kernel->K / STEP;
    Run r = {.step0 = cg_imul_n(e, index, size), .steps = cg_i64(e, size)};
    if (steps % size != 0 || steps < runs * size) r.steps = cg_umin(e, cg_isub(e, cg_i64(e, steps), r.step0), r.steps);
    r.is_last = cg_icmp(e, LLVMIntEQ, index, cg_i64(e, runs - 1));
    return r;
}

void cg_linear_sums(CgEmit *e, const CgLinearShape *shape, CgValue w, CgValue x, CgValue x_step, CgValue sums) {
    const PgKernel *k = e->kernel;
    uint64_t K = (uint64_t)k->K, segments = (K + PG_SEGMENT_K - 1) / PG_SEGMENT_K;
    unsigned tail = (unsigned)(K % STEP), count = shape->panels * shape->rows;
    Core c = core_of(e, shape);
    Sums zero = {{NULL}};
    for (unsigned i = 0; i < count; i++) zero.v[i] = cg_zero(e);
    if (segments <= 1) {
        Sums s = sum_inputs(&c, &zero, w, x, x_step, cg_i64(e, K / STEP), tail, NULL);
        store_sums(e, count, sums, &s);
        return;
    }
    set_all(e, count, sums, cg_vec(e, -0.0f));
    CgLoop loop = cg_for_n(e, segments);
    Run run = run_of(e, loop.index, segments, PG_SEGMENT_K / STEP);
    CgValue ws = cg_at(e, w, cg_imul_n(e, run.step0, ir_panel_bytes(k->dtype, STEP)));
    CgValue xs = cg_at(e, x, cg_imul(e, run.step0, x_step));
    Sums s = sum_inputs(&c, &zero, ws, xs, x_step, run.steps, tail, tail == 0 ? NULL : run.is_last);
    add_segment(e, count, sums, &s);
    cg_end_for(e, &loop);
}

/* The sums of a run are added up in `open`; where a segment ends they are added to `sums`, and `open` starts anew. */
static void close_run(CgEmit *e, unsigned count, CgValue closes, const Sums *s, CgValue open, CgValue sums) {
    CgIf close = cg_if(e, closes);
    add_segment(e, count, sums, s);
    set_all(e, count, open, cg_zero(e));
    cg_end_if(e, &close);
    CgIf go_on = cg_if(e, LLVMBuildNot(e->builder, closes, ""));
    store_sums(e, count, open, s);
    cg_end_if(e, &go_on);
}

uint64_t cg_linear_wide_bytes(const CgLinearShape *shape) { return (uint64_t)shape->panels * RUN_BYTES; }

/* Run `index` of all panels from `w` on, as floats [64][16] each. */
static void widen_run(const Core *c, CgValue w, CgValue index, CgValue wide) {
    CgEmit *e = c->e;
    const PgKernel *k = e->kernel;
    CgValue first = cg_imul_n(e, index, RUN_GROUPS), end = cg_iadd_n(e, first, RUN_GROUPS);
    CgLoop panel = cg_for_n(e, c->panels);
    CgValue from = cg_at(e, w, cg_imul_n(e, panel.index, ir_panel_bytes(k->dtype, k->K)));
    CgValue to = cg_at(e, wide, cg_imul_n(e, panel.index, RUN_BYTES));
    CgLoop group = cg_for(e, first, cg_umin(e, end, cg_i64(e, pg_round_groups(k->K))), 1);
    CgValue at = cg_imul_n(e, cg_isub(e, group.index, first), RUN_BYTES / RUN_GROUPS);
    cg_widen_group(e, k->dtype, k->K, from, group.index, cg_at(e, to, at));
    cg_end_for(e, &group);
    cg_end_for(e, &panel);
}

void cg_linear_sums_of_parts(CgEmit *e, const CgLinearShape *shape, CgValue w, CgValue x, CgValue x_step, CgValue parts,
                             const CgLinearRoom *room, CgValue sums) {
    const PgKernel *k = e->kernel;
    uint64_t steps = room->wide != NULL ? RUN_STEPS : (uint64_t)e->schedule.run / STEP,
             runs_of_segment = PG_SEGMENT_K / STEP / steps;
    uint64_t K = (uint64_t)k->K, runs = (K + steps * STEP - 1) / (steps * STEP);
    unsigned tail = (unsigned)(K % STEP), count = shape->panels * shape->rows;
    Core c = core_of(e, shape);
    CgLoop clear = cg_for(e, cg_i64(e, 0), parts, 1);
    CgValue offset = cg_imul_n(e, clear.index, count * 64);
    set_all(e, count, cg_at(e, room->open, offset), cg_zero(e));
    set_all(e, count, cg_at(e, sums, offset), cg_vec(e, -0.0f));
    cg_end_for(e, &clear);
    CgLoop loop = cg_for_n(e, runs);
    Run run = run_of(e, loop.index, runs, steps);
    CgValue ends = cg_icmp(e, LLVMIntEQ, cg_urem_n(e, loop.index, runs_of_segment), cg_i64(e, runs_of_segment - 1));
    CgValue closes = LLVMBuildOr(e->builder, ends, run.is_last, "");
    CgValue ws = room->wide;
    if (room->wide != NULL)
        widen_run(&c, w, loop.index, room->wide);
    else
        ws = cg_at(e, w, cg_imul_n(e, run.step0, ir_panel_bytes(k->dtype, STEP)));
    CgValue xs = cg_at(e, x, cg_imul(e, run.step0, x_step));
    CgLoop part = cg_for(e, cg_i64(e, 0), parts, 1);
    CgValue at = cg_imul_n(e, part.index, count * 64), open_here = cg_at(e, room->open, at);
    Sums from = load_sums(e, count, open_here);
    CgValue xp = cg_at(e, xs, cg_imul_n(e, part.index, shape->rows * 64));
    Sums s = sum_inputs(&c, &from, ws, xp, x_step, run.steps, tail, tail == 0 ? NULL : run.is_last);
    close_run(e, count, closes, &s, open_here, cg_at(e, sums, at));
    cg_end_for(e, &part);
    cg_end_for(e, &loop);
}
