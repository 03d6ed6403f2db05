/* The heart of a map: panels × rows of sums over K. The bits ask for K in segments of 256 that are summed from +0 and added in
 * order; inside a segment 16 inputs are one step of the loop, fully unrolled, so that every address is a pointer plus a
 * constant. */
#include "codegen/llvm/map.h"
#include "support/diag.h"

enum {
    MAX_SUMS = 32,
    STEP = PG_LANES,
    /* Bytes that one row reads ahead in every stream of pairs. Widening fills the processor's window, so that few loads are
     * under way without it: 14 to 17 GB/s from memory; f32 gives 18 either way. */
    AHEAD = 512
};

typedef struct Sums {
    CgValue v[MAX_SUMS]; /* [panel][row] */
} Sums;

typedef struct Core {
    CgEmit *e;
    unsigned panels, rows;
    uint64_t panel_bytes; /* of weights */
    PgDtype dtype;
} Core;

/* The inputs of all rows at one step, read as the multiplications want them: broadcast_lanes at a time. */
typedef struct Inputs {
    CgValue x;              /* ptr: input 0 of row 0 */
    CgValue held[MAX_SUMS]; /* [row]: the inputs that were loaded last, if more than one at a time */
} Inputs;

/* Input k of row r in every lane. */
static CgValue input(const Core *c, Inputs *in, unsigned r, unsigned k) {
    unsigned few = (unsigned)c->e->target->broadcast_lanes;
    CgValue address = cg_at_n(c->e, in->x, (uint64_t)r * 64 + (uint64_t)(k - k % few) * 4);
    if (few == 1) { return cg_load_splat(c->e, address); }
    if (k % few == 0) { in->held[r] = cg_load_few(c->e, address, few); }
    return cg_splat_lane(c->e, in->held[r], k % few);
}

/* sum[p][r] = fma(w[p], x[r] of input k, sum). A broadcast input lives for its panels only: the weights of one k and one input
 * are all that stands in registers beside the sums. */
static void multiply(const Core *c, const CgValue *w, Inputs *in, unsigned k, Sums *sums) {
    for (unsigned r = 0; r < c->rows; r++) {
        CgValue x = input(c, in, r, k);
        for (unsigned p = 0; p < c->panels; p++) {
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
    for (unsigned i = 0; i < s.count; i++) { s.at[i] = i == 0 ? w : cg_opaque(c->e, cg_at_n(c->e, w, i * c->panel_bytes)); }
    return s;
}

static CgValue weight_address(const Core *c, const Streams *w, unsigned panel, uint64_t bytes) {
    return panel < w->count ? cg_at_n(c->e, w->at[panel], bytes) : cg_at_n(c->e, w->at[0], panel * c->panel_bytes + bytes);
}

/* Inputs [0, count) at x with the weights at w. */
static void multiply_inputs(const Core *c, const Streams *w, CgValue x, unsigned count, Sums *sums) {
    CgValue low[MAX_SUMS], high[MAX_SUMS];
    Inputs in = {.x = x};
    for (unsigned k = 0; k < count; k += c->dtype == PG_F32 ? 1 : 2) {
        for (unsigned p = 0; p < c->panels; p++) {
            CgValue address = weight_address(c, w, p, c->dtype == PG_F32 ? k * 64 : k / 2 * 64);
            if (c->dtype == PG_F32) {
                low[p] = cg_load_vec(c->e, address);
            } else {
                if (c->rows == 1 && count == STEP) { cg_prefetch(c->e, cg_at_n(c->e, address, AHEAD)); }
                cg_load_pair(c->e, c->dtype, address, &low[p], &high[p]);
            }
        }
        multiply(c, low, &in, k, sums);
        if (c->dtype != PG_F32 && k + 1 < count) { /* an odd last input has no partner */
            multiply(c, high, &in, k + 1, sums);
        }
    }
}

/* The next 16 inputs of every row: panels of x lie far apart, so the processor does not see them coming. */
static void fetch_inputs(const Core *c, CgValue x) {
    CgValue at = cg_opaque(c->e, x);
    for (unsigned r = 0; r < c->rows; r++) { cg_prefetch(c->e, cg_at_n(c->e, at, (uint64_t)r * 64)); }
}

/* One segment from +0: `steps` (i64) times 16 inputs, then `tail` more if `with_tail` (i1; NULL: always). */
static Sums sum_segment(const Core *c, CgValue w, CgValue x, CgValue x_step, CgValue steps, unsigned tail, CgValue with_tail) {
    CgEmit *e = c->e;
    unsigned count = c->panels * c->rows;
    Sums sums, in_loop;
    Streams first = open_streams(c, w), carried_w = first, here = first, last_w = first;
    CgLoop loop = cg_for(e, cg_i64(e, 0), steps, 1);
    for (unsigned i = 0; i < first.count; i++) { carried_w.at[i] = cg_carry(e, &loop, first.at[i]); }
    CgValue xp = cg_carry(e, &loop, x);
    CgValue carried[MAX_SUMS];
    for (unsigned i = 0; i < count; i++) { in_loop.v[i] = carried[i] = cg_carry(e, &loop, cg_zero(e)); }
    for (unsigned i = 0; i < first.count; i++) { here.at[i] = cg_opaque(e, carried_w.at[i]); }
    if (c->rows > 1) { fetch_inputs(c, cg_at(e, xp, x_step)); }
    multiply_inputs(c, &here, cg_opaque(e, xp), STEP, &in_loop);
    for (unsigned i = 0; i < count; i++) { cg_next(&loop, carried[i], in_loop.v[i]); }
    for (unsigned i = 0; i < first.count; i++) {
        cg_next(&loop, carried_w.at[i], cg_at_n(e, carried_w.at[i], cg_panel_bytes(c->dtype, STEP)));
    }
    cg_next(&loop, xp, cg_at(e, xp, x_step));
    cg_end_for(e, &loop);
    for (unsigned i = 0; i < count; i++) { sums.v[i] = cg_after(&loop, carried[i]); }
    if (tail == 0) { return sums; }
    for (unsigned i = 0; i < first.count; i++) { last_w.at[i] = cg_after(&loop, carried_w.at[i]); }
    Sums more = sums;
    if (with_tail == NULL) {
        multiply_inputs(c, &last_w, cg_after(&loop, xp), tail, &more);
        return more;
    }
    CgIf last = cg_if(e, with_tail);
    multiply_inputs(c, &last_w, cg_after(&loop, xp), tail, &more);
    cg_end_if(e, &last);
    for (unsigned i = 0; i < count; i++) { sums.v[i] = cg_join(e, &last, more.v[i], sums.v[i]); }
    return sums;
}

/* sums := -0, so that adding the first segment to them gives that segment itself, whatever its sign. */
static void clear_sums(CgEmit *e, unsigned count, CgValue sums) {
    for (unsigned i = 0; i < count; i++) { cg_store_vec(e, cg_at_n(e, sums, i * 64), cg_vec(e, -0.0f)); }
}

void cg_map_sums(CgEmit *e, const CgMapShape *shape, CgValue w, CgValue x, CgValue x_step, CgValue sums) {
    const PgKernel *k = e->kernel;
    uint64_t K = (uint64_t)k->K, steps = K / STEP, segments = (K + PG_SEGMENT_K - 1) / PG_SEGMENT_K;
    unsigned tail = (unsigned)(K % STEP), count = shape->panels * shape->rows;
    Core c = {e, shape->panels, shape->rows, cg_panel_bytes(k->dtype, k->K), k->dtype};
    if (count > MAX_SUMS) { SU_BUG("a microkernel of %u sums", count); }
    if (segments <= 1) {
        Sums s = sum_segment(&c, w, x, x_step, cg_i64(e, steps), tail, NULL);
        for (unsigned i = 0; i < count; i++) { cg_store_vec(e, cg_at_n(e, sums, i * 64), s.v[i]); }
        return;
    }
    enum { SEGMENT_STEPS = PG_SEGMENT_K / STEP };
    clear_sums(e, count, sums);
    CgLoop loop = cg_for_n(e, segments);
    CgValue step0 = cg_imul_n(e, loop.index, SEGMENT_STEPS), left = cg_isub(e, cg_i64(e, steps), step0);
    CgValue here = steps % SEGMENT_STEPS == 0 && tail == 0 ? cg_i64(e, SEGMENT_STEPS) : cg_umin(e, left, cg_i64(e, SEGMENT_STEPS));
    CgValue last = tail == 0 ? NULL : cg_icmp(e, LLVMIntEQ, loop.index, cg_i64(e, segments - 1));
    CgValue ws = cg_at(e, w, cg_imul_n(e, step0, cg_panel_bytes(k->dtype, STEP)));
    CgValue xs = cg_at(e, x, cg_imul(e, step0, x_step));
    Sums s = sum_segment(&c, ws, xs, x_step, here, tail, last);
    for (unsigned i = 0; i < count; i++) {
        CgValue at = cg_at_n(e, sums, i * 64);
        cg_store_vec(e, at, cg_add(e, cg_load_vec(e, at), s.v[i]));
    }
    cg_end_for(e, &loop);
}
