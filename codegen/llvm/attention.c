/* PG_KV_STORE and PG_ATTEND.
 *
 * Component i of head h is element h · head_dim + i of a row. When heads fill whole panels all work is on vectors of components;
 * an odd head_dim takes the same code with one component at a time.
 *
 * The k cache holds 16 positions side by side ([Hkv][cap / 16][head_dim][16]), so that a score needs no sum across lanes; the v
 * cache holds components side by side ([Hkv][cap][head_dim up to 16]). Position p lies at p % cap, and cap is a multiple of 16: a
 * run of 16 positions from a multiple of 16 on never wraps. */
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/rows.h"

#include <math.h>

enum {
    VEC_BYTES = PG_LANES * 4,
    MANY_CHUNKS = 8, /* runs of 16 positions scored side by side (as many chains of fma) … */
    FEW_CHUNKS = 2,  /* … and the rest of a block */
    VALUE_PANELS = 8 /* panels of head_dim summed side by side */
};

/* Position in its sequence, and the segment, of a row. */
static CgValue row_position(CgEmit *e, CgValue row, CgSegment *out_segment) {
    if (e->kernel->mode == PG_ROW) {
        *out_segment = cg_segment(e, cg_i64(e, 0));
        return out_segment->position;
    }
    CgValue of = cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, row_segment)), cg_imul_n(e, row, 4));
    *out_segment = cg_segment(e, cg_wide(e, cg_load_i32(e, of)));
    return cg_load_i64(e, cg_at(e, cg_arg_ptr(e, offsetof(RtArgs, row_position)), cg_imul_n(e, row, 8)));
}

static uint64_t head_panels(const PgKernel *kernel) { return pg_panels(kernel->O); }

/* ---------------------------------------------------------------------------------------------- PG_KV_STORE */

typedef struct Store {
    CgEmit *e;
    const PgKernel *kernel;
    bool wide;       /* 16 components at a time; else one */
    CgValue row;
    CgValue slot;    /* position % cap */
    CgValue table;   /* of this row: cos, sin of each pair */
    CgValue k_cache, v_cache;
} Store;

/* Takes a component (or 16 from i on) of a head where it belongs. */
typedef void (*Sink)(Store *s, CgValue head, CgValue i, CgValue value);

static CgValue head_element(Store *s, CgValue head, CgValue i) {
    return cg_iadd(s->e, cg_imul_n(s->e, head, (uint64_t)s->kernel->O), i);
}

static CgValue component_at(Store *s, unsigned slot, int64_t heads, CgValue element) {
    CgEmit *e = s->e;
    CgPlace place = cg_place(e, cg_operand(e, slot), PG_ROWS, NULL, s->row, heads * s->kernel->O);
    return s->wide ? cg_place_panel(e, &place, cg_udiv_n(e, element, PG_LANES)) : cg_place_element_at(e, &place, element);
}

static CgValue load_component(Store *s, unsigned slot, int64_t heads, CgValue head, CgValue i) {
    CgValue at = component_at(s, slot, heads, head_element(s, head, i));
    return s->wide ? cg_load_vec(s->e, at) : cg_load_f32(s->e, at);
}

static void store_component(Store *s, CgValue at, CgValue value) {
    if (s->wide)
        cg_store_vec(s->e, at, value);
    else
        cg_store_f32(s->e, at, value);
}

static void q_sink(Store *s, CgValue head, CgValue i, CgValue value) {
    store_component(s, component_at(s, PG_KV_Y, s->kernel->heads, head_element(s, head, i)), value);
}

static void k_sink(Store *s, CgValue head, CgValue i, CgValue value) {
    CgEmit *e = s->e;
    CgValue chunk = cg_iadd(e, cg_imul_n(e, head, (uint64_t)s->kernel->cap / PG_LANES), cg_udiv_n(e, s->slot, PG_LANES));
    CgValue component = cg_iadd(e, cg_imul_n(e, chunk, (uint64_t)s->kernel->O), i);
    CgValue at = cg_at(e, s->k_cache, cg_imul_n(e, component, VEC_BYTES));
    at = cg_at(e, at, cg_imul_n(e, cg_urem_n(e, s->slot, PG_LANES), 4));
    if (!s->wide) {
        cg_store_f32(e, at, value);
        return;
    }
    for (unsigned lane = 0; lane < PG_LANES; lane++) cg_store_f32(e, cg_at_n(e, at, lane * VEC_BYTES), cg_lane(e, value, lane));
}

static void v_sink(Store *s, CgValue head, CgValue i, CgValue value) {
    CgEmit *e = s->e;
    CgValue line = cg_iadd(e, cg_imul_n(e, head, (uint64_t)s->kernel->cap), s->slot);
    CgValue at = cg_at(e, s->v_cache, cg_imul_n(e, line, head_panels(s->kernel) * VEC_BYTES));
    store_component(s, cg_at(e, at, cg_imul_n(e, i, 4)), value);
}

/* cos and sin of pair i (or of 16 pairs from i on). */
static void load_angles(Store *s, CgValue i, CgValue *out_cos, CgValue *out_sin) {
    CgEmit *e = s->e;
    CgValue at = cg_at(e, s->table, cg_imul_n(e, i, 8)), even[PG_LANES], odd[PG_LANES];
    if (!s->wide) {
        *out_cos = cg_load_f32(e, at);
        *out_sin = cg_load_f32(e, cg_at_n(e, at, 4));
        return;
    }
    CgValue low = cg_load_vec_unaligned(e, at), high = cg_load_vec_unaligned(e, cg_at_n(e, at, VEC_BYTES));
    for (int lane = 0; lane < PG_LANES; lane++) {
        even[lane] = cg_i32(e, 2 * lane);
        odd[lane] = cg_i32(e, 2 * lane + 1);
    }
    *out_cos = LLVMBuildShuffleVector(e->builder, low, high, LLVMConstVector(even, PG_LANES), "");
    *out_sin = LLVMBuildShuffleVector(e->builder, low, high, LLVMConstVector(odd, PG_LANES), "");
}

/* (x0, x1) of components i and i + dim / 2 turned by the row's angles, every product rounded. */
static void rotate_pair(Store *s, unsigned slot, int64_t heads, CgValue head, CgValue i, Sink sink) {
    CgEmit *e = s->e;
    CgValue far = cg_iadd_n(e, i, (uint64_t)s->kernel->rope_dim / 2), cosine, sine;
    CgValue x0 = load_component(s, slot, heads, head, i), x1 = load_component(s, slot, heads, head, far);
    load_angles(s, i, &cosine, &sine);
    sink(s, head, i, cg_sub(e, cg_mul(e, x0, cosine), cg_mul(e, x1, sine)));
    sink(s, head, far, cg_add(e, cg_mul(e, x1, cosine), cg_mul(e, x0, sine)));
}

/* All heads of q, k or v of the row, the first `rotated` components of each turned. */
static void store_heads(Store *s, unsigned slot, int64_t heads, int64_t rotated, Sink sink) {
    CgEmit *e = s->e;
    uint64_t step = s->wide ? PG_LANES : 1;
    CgLoop head = cg_for_n(e, (uint64_t)heads);
    if (rotated > 0) {
        CgLoop pairs = cg_for(e, cg_i64(e, 0), cg_i64(e, (uint64_t)rotated / 2), step);
        rotate_pair(s, slot, heads, head.index, pairs.index, sink);
        cg_end_for(e, &pairs);
    }
    if (rotated < s->kernel->O) {
        CgLoop rest = cg_for(e, cg_i64(e, (uint64_t)rotated), cg_i64(e, (uint64_t)s->kernel->O), step);
        sink(s, head.index, rest.index, load_component(s, slot, heads, head.index, rest.index));
        cg_end_for(e, &rest);
    }
    cg_end_for(e, &head);
}

void cg_emit_kv_store(CgEmit *e) {
    const PgKernel *kernel = e->kernel;
    int64_t rotated = kernel->rope ? kernel->rope_dim : 0;
    Store s = {.e = e, .kernel = kernel, .wide = kernel->O % PG_LANES == 0 && rotated % (2 * PG_LANES) == 0};
    CgLoop rows = cg_for_tiles(e);
    CgSegment segment;
    s.row = kernel->mode == PG_ROW ? cg_i64(e, 0) : rows.index;
    s.slot = cg_urem_n(e, row_position(e, s.row, &segment), (uint64_t)kernel->cap);
    s.k_cache = cg_state_operand(e, PG_KV_K_CACHE, &segment);
    s.v_cache = cg_state_operand(e, PG_KV_V_CACHE, &segment);
    if (kernel->rope) {
        s.table = cg_at(e, cg_operand(e, PG_KV_TABLE), cg_imul_n(e, s.row, (uint64_t)rotated * 4));
        store_heads(&s, PG_KV_Q, kernel->heads, rotated, q_sink);
    }
    store_heads(&s, PG_KV_K, kernel->kv_heads, rotated, k_sink);
    store_heads(&s, PG_KV_V, kernel->kv_heads, 0, v_sink);
    cg_end_for(e, &rows);
}

/* ---------------------------------------------------------------------------------------------- PG_ATTEND */

typedef struct Attend {
    CgEmit *e;
    const PgKernel *kernel;
    CgValue row, head;        /* i64 */
    CgValue k_cache, v_cache; /* of the key/value head */
    CgValue q;                /* [head_dim] in scratch */
    CgValue scores;           /* of a block, from `start` on, in scratch */
    CgValue sums;             /* O: [head_dim up to 16] in scratch */
    /* the block at hand: visible keys first … last; start is `first` rounded down to 16, end the first multiple of 16 past last */
    CgValue first, last, start, end;
} Attend;

/* q of the head as head_dim floats in a line. */
static void gather_q(Attend *a) {
    CgEmit *e = a->e;
    int64_t head_dim = a->kernel->O;
    bool wide = head_dim % PG_LANES == 0;
    CgPlace place = cg_place(e, cg_operand(e, PG_ATTEND_Q), PG_ROWS, NULL, a->row, a->kernel->heads * head_dim);
    CgLoop loop = cg_for(e, cg_i64(e, 0), cg_i64(e, (uint64_t)head_dim), wide ? PG_LANES : 1);
    CgValue element = cg_iadd(e, cg_imul_n(e, a->head, (uint64_t)head_dim), loop.index);
    CgValue to = cg_at(e, a->q, cg_imul_n(e, loop.index, 4));
    if (wide)
        cg_store_vec(e, to, cg_load_vec(e, cg_place_panel(e, &place, cg_udiv_n(e, element, PG_LANES))));
    else
        cg_store_f32(e, to, cg_load_f32(e, cg_place_element_at(e, &place, element)));
    cg_end_for(e, &loop);
}

/* Lanes of positions offset + [0, 16) (from start on) that the row sees. */
static CgValue visible(Attend *a, CgValue offset) {
    CgEmit *e = a->e;
    CgValue lane[PG_LANES];
    for (int i = 0; i < PG_LANES; i++) lane[i] = cg_i32(e, i);
    CgValue base = cg_splat(e, LLVMBuildTrunc(e->builder, offset, e->i32, ""));
    CgValue at = cg_iadd(e, base, LLVMConstVector(lane, PG_LANES));
    CgValue low = cg_splat(e, LLVMBuildTrunc(e->builder, cg_isub(e, a->first, a->start), e->i32, ""));
    CgValue high = cg_splat(e, LLVMBuildTrunc(e->builder, cg_isub(e, a->last, a->start), e->i32, ""));
    CgValue past = cg_icmp(e, LLVMIntSGE, at, low), before = cg_icmp(e, LLVMIntSLE, at, high);
    return LLVMBuildAnd(e->builder, past, before, "");
}

/* Scores of `chunks` runs of 16 positions from `position` on; returns `most` with the visible ones taken in. Runs past the block
 * read some other part of the cache and count for nothing. */
static CgValue score_chunks(Attend *a, CgValue position, int chunks, CgValue most) {
    CgEmit *e = a->e;
    uint64_t head_dim = (uint64_t)a->kernel->O;
    CgValue key[MANY_CHUNKS], sum[MANY_CHUNKS], scale = cg_vec(e, (float)(1 / sqrt((double)head_dim)));
    for (int c = 0; c < chunks; c++) {
        CgValue slot = cg_urem_n(e, cg_iadd_n(e, position, (uint64_t)c * PG_LANES), (uint64_t)a->kernel->cap);
        key[c] = cg_at(e, a->k_cache, cg_imul_n(e, slot, head_dim * 4));
    }
    CgLoop loop = cg_for_n(e, head_dim);
    for (int c = 0; c < chunks; c++) sum[c] = cg_carry(e, &loop, cg_zero(e));
    CgValue q = cg_load_splat(e, cg_at(e, a->q, cg_imul_n(e, loop.index, 4)));
    for (int c = 0; c < chunks; c++) {
        CgValue k = cg_load_vec(e, cg_at(e, key[c], cg_imul_n(e, loop.index, VEC_BYTES)));
        cg_next(&loop, sum[c], cg_fma(e, q, k, sum[c]));
    }
    cg_end_for(e, &loop);
    for (int c = 0; c < chunks; c++) {
        CgValue offset = cg_isub(e, cg_iadd_n(e, position, (uint64_t)c * PG_LANES), a->start);
        CgValue score = cg_mul(e, cg_after(&loop, sum[c]), scale);
        cg_store_vec(e, cg_at(e, a->scores, cg_imul_n(e, offset, 4)), score);
        most = cg_larger(e, most, cg_select(e, visible(a, offset), score, cg_vec(e, -INFINITY)));
    }
    return most;
}

/* The largest lane in every lane. */
static CgValue largest_lane(CgEmit *e, CgValue v) {
    for (int half = PG_LANES / 2; half > 0; half /= 2) {
        CgValue lane[PG_LANES];
        for (int i = 0; i < PG_LANES; i++) lane[i] = cg_i32(e, i ^ half);
        v = cg_larger(e, v, LLVMBuildShuffleVector(e->builder, v, LLVMGetPoison(e->vec), LLVMConstVector(lane, PG_LANES), ""));
    }
    return v;
}

/* All scores of the block; returns their largest in every lane. */
static CgValue score_block(Attend *a) {
    CgEmit *e = a->e;
    uint64_t many = MANY_CHUNKS * PG_LANES;
    CgValue runs = cg_udiv_n(e, cg_isub(e, a->end, a->start), many), most = cg_vec(e, -INFINITY);
    CgValue middle = cg_iadd(e, a->start, cg_imul_n(e, runs, many));
    CgLoop fast = cg_for(e, a->start, middle, many);
    CgValue carried = cg_carry(e, &fast, most);
    cg_next(&fast, carried, score_chunks(a, fast.index, MANY_CHUNKS, carried));
    cg_end_for(e, &fast);
    most = cg_after(&fast, carried);
    CgLoop rest = cg_for(e, middle, a->end, FEW_CHUNKS * PG_LANES);
    carried = cg_carry(e, &rest, most);
    cg_next(&rest, carried, score_chunks(a, rest.index, FEW_CHUNKS, carried));
    cg_end_for(e, &rest);
    return largest_lane(e, cg_after(&rest, carried));
}

/* scores become exp(s - m); invisible ones become something that nobody reads. */
static void powers_of_block(Attend *a, CgValue m) {
    CgEmit *e = a->e;
    CgLoop loop = cg_for(e, cg_i64(e, 0), cg_isub(e, a->end, a->start), PG_LANES);
    CgValue at = cg_at(e, a->scores, cg_imul_n(e, loop.index, 4));
    cg_store_vec(e, at, cg_exp(e, cg_sub(e, cg_load_vec(e, at), m)));
    cg_end_for(e, &loop);
}

/* o_i = Σ p · v of `count` panels from `panel` on, in order of position, merged into the sums with the factors `old` and `fresh`.
 * Returns the sum of p in order if `sum_powers` (f32), else NULL. */
static CgValue value_panels(Attend *a, uint64_t panel, uint64_t count, bool sum_powers, CgValue old, CgValue fresh) {
    CgEmit *e = a->e;
    uint64_t line = head_panels(a->kernel) * VEC_BYTES, cap = (uint64_t)a->kernel->cap;
    CgValue o[VALUE_PANELS], sum = NULL, first_slot = cg_urem_n(e, a->first, cap);
    CgLoop loop = cg_for(e, a->first, cg_iadd_n(e, a->last, 1), 1);
    CgValue slot = cg_carry(e, &loop, first_slot);
    if (sum_powers) sum = cg_carry(e, &loop, cg_f32(e, 0));
    for (uint64_t i = 0; i < count; i++) o[i] = cg_carry(e, &loop, cg_zero(e));
    CgValue p = cg_load_f32(e, cg_at(e, a->scores, cg_imul_n(e, cg_isub(e, loop.index, a->start), 4)));
    CgValue v = cg_at_n(e, cg_at(e, a->v_cache, cg_imul_n(e, slot, line)), panel * VEC_BYTES), next = cg_iadd_n(e, slot, 1);
    for (uint64_t i = 0; i < count; i++)
        cg_next(&loop, o[i], cg_fma(e, cg_splat(e, p), cg_load_vec(e, cg_at_n(e, v, i * VEC_BYTES)), o[i]));
    if (sum_powers) cg_next(&loop, sum, cg_add(e, sum, p));
    cg_next(&loop, slot, cg_select(e, cg_icmp(e, LLVMIntEQ, next, cg_i64(e, cap)), cg_i64(e, 0), next));
    cg_end_for(e, &loop);
    for (uint64_t i = 0; i < count; i++) {
        CgValue at = cg_at_n(e, a->sums, (panel + i) * VEC_BYTES);
        cg_store_vec(e, at, cg_fma(e, cg_after(&loop, o[i]), fresh, cg_mul(e, cg_load_vec(e, at), old)));
    }
    return sum_powers ? cg_after(&loop, sum) : NULL;
}

/* One block of keys merged into M and L (vec, every lane the same) and the sums. */
static void attend_block(Attend *a, CgValue M, CgValue L, CgValue *out_M, CgValue *out_L) {
    CgEmit *e = a->e;
    CgValue m = score_block(a);
    powers_of_block(a, m);
    *out_M = cg_larger(e, M, m);
    CgValue old = cg_exp(e, cg_sub(e, M, *out_M)), fresh = cg_exp(e, cg_sub(e, m, *out_M)), l = NULL;
    for (uint64_t panel = 0, all = head_panels(a->kernel); panel < all; panel += VALUE_PANELS) {
        uint64_t count = all - panel < VALUE_PANELS ? all - panel : VALUE_PANELS;
        CgValue sum = value_panels(a, panel, count, panel == 0, old, fresh);
        if (panel == 0) l = cg_splat(e, sum);
    }
    *out_L = cg_fma(e, l, fresh, cg_mul(e, L, old));
}

/* y = O / L. */
static void store_result(Attend *a, CgValue L) {
    CgEmit *e = a->e;
    int64_t head_dim = a->kernel->O;
    bool wide = head_dim % PG_LANES == 0;
    CgPlace place = cg_place(e, cg_operand(e, PG_ATTEND_Y), PG_ROWS, NULL, a->row, a->kernel->heads * head_dim);
    CgLoop panels = cg_for_n(e, head_panels(a->kernel));
    CgValue at = cg_at(e, a->sums, cg_imul_n(e, panels.index, VEC_BYTES)), y = cg_div(e, cg_load_vec(e, at), L);
    CgValue element = cg_iadd(e, cg_imul_n(e, a->head, (uint64_t)head_dim), cg_imul_n(e, panels.index, PG_LANES));
    cg_store_vec(e, wide ? cg_place_panel(e, &place, cg_udiv_n(e, element, PG_LANES)) : at, y);
    cg_end_for(e, &panels);
    if (wide) return;
    CgLoop loop = cg_for_n(e, (uint64_t)head_dim);
    element = cg_iadd(e, cg_imul_n(e, a->head, (uint64_t)head_dim), loop.index);
    cg_store_f32(e, cg_place_element_at(e, &place, element), cg_load_f32(e, cg_at(e, a->sums, cg_imul_n(e, loop.index, 4))));
    cg_end_for(e, &loop);
}

/* Keys low … high of one head: blocks of PG_KEY_BLOCK by absolute position. */
static void attend_head(Attend *a, CgValue low, CgValue high) {
    CgEmit *e = a->e;
    gather_q(a);
    CgLoop clear = cg_for_n(e, head_panels(a->kernel));
    cg_store_vec(e, cg_at(e, a->sums, cg_imul_n(e, clear.index, VEC_BYTES)), cg_zero(e));
    cg_end_for(e, &clear);
    CgLoop blocks = cg_for(e, cg_udiv_n(e, low, PG_KEY_BLOCK), cg_iadd_n(e, cg_udiv_n(e, high, PG_KEY_BLOCK), 1), 1);
    CgValue M = cg_carry(e, &blocks, cg_vec(e, -INFINITY)), L = cg_carry(e, &blocks, cg_zero(e)), next_M, next_L;
    CgValue from = cg_imul_n(e, blocks.index, PG_KEY_BLOCK);
    a->first = cg_umax(e, low, from);
    a->last = cg_umin(e, high, cg_iadd_n(e, from, PG_KEY_BLOCK - 1));
    a->start = cg_imul_n(e, cg_udiv_n(e, a->first, PG_LANES), PG_LANES);
    a->end = cg_imul_n(e, cg_iadd_n(e, cg_udiv_n(e, a->last, PG_LANES), 1), PG_LANES);
    attend_block(a, M, L, &next_M, &next_L);
    cg_next(&blocks, M, next_M);
    cg_next(&blocks, L, next_L);
    cg_end_for(e, &blocks);
    store_result(a, cg_after(&blocks, L));
}

void cg_emit_attend(CgEmit *e) {
    const PgKernel *kernel = e->kernel;
    uint64_t heads = (uint64_t)kernel->heads, window = (uint64_t)kernel->window, padded = head_panels(kernel) * VEC_BYTES;
    Attend a = {.e = e, .kernel = kernel};
    a.q = cg_scratch(e, padded);
    a.sums = cg_scratch(e, padded);
    a.scores = cg_scratch(e, (PG_KEY_BLOCK + FEW_CHUNKS * PG_LANES) * sizeof(float));
    CgLoop tiles = cg_for_tiles(e);
    CgSegment segment;
    a.row = kernel->mode == PG_ROW ? cg_i64(e, 0) : cg_udiv_n(e, tiles.index, heads);
    a.head = kernel->mode == PG_ROW ? tiles.index : cg_urem_n(e, tiles.index, heads);
    CgValue position = row_position(e, a.row, &segment), low = cg_i64(e, 0);
    if (window) {
        CgValue seen = cg_iadd_n(e, position, 1), some = cg_icmp(e, LLVMIntUGT, seen, cg_i64(e, window));
        low = cg_select(e, some, cg_isub(e, seen, cg_i64(e, window)), low);
    }
    CgValue line = cg_imul_n(e, cg_udiv_n(e, a.head, heads / (uint64_t)kernel->kv_heads), (uint64_t)kernel->cap);
    a.k_cache = cg_at(e, cg_state_operand(e, PG_ATTEND_K_CACHE, &segment), cg_imul_n(e, line, (uint64_t)kernel->O * 4));
    a.v_cache = cg_at(e, cg_state_operand(e, PG_ATTEND_V_CACHE, &segment), cg_imul_n(e, line, padded));
    attend_head(&a, low, position);
    cg_end_for(e, &tiles);
}
