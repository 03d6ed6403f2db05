/* PG_KV_STORE and PG_ATTEND.
 *
 * Component i of head h is element h · head_dim + i of a row. When heads fill whole panels all work is on vectors of components;
 * an odd head_dim takes the same code with one component at a time.
 *
 * The k cache holds 16 positions side by side ([Hkv][cap / 16][head_dim][16]), so that a score needs no sum across lanes; the v
 * cache holds components side by side ([Hkv][cap][head_dim up to 16]). Position p lies at p % cap, and cap is a multiple of 16: a
 * run of 16 positions from a multiple of 16 on never wraps. */
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/addressing.h"

#include <math.h>

enum { VEC_BYTES = PG_LANES * 4 };

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

/* Of the lanes of two vectors, all even (first 0) or all odd (first 1) ones. */
static CgValue every_second(Store *s, CgValue low, CgValue high, int32_t first) {
    CgValue lanes[PG_LANES];
    for (int32_t lane = 0; lane < PG_LANES; lane++) lanes[lane] = cg_i32(s->e, first + 2 * lane);
    return LLVMBuildShuffleVector(s->e->builder, low, high, LLVMConstVector(lanes, PG_LANES), "");
}

/* Lanes first … first + 7 of both, in turns. */
static CgValue in_turns(Store *s, CgValue even, CgValue odd, int32_t first) {
    CgValue lanes[PG_LANES];
    for (int32_t lane = 0; lane < PG_LANES; lane++) lanes[lane] = cg_i32(s->e, first + lane / 2 + lane % 2 * PG_LANES);
    return LLVMBuildShuffleVector(s->e->builder, even, odd, LLVMConstVector(lanes, PG_LANES), "");
}

/* cos and sin of pair i (or of 16 pairs from i on). */
static void load_angles(Store *s, CgValue i, CgValue *out_cos, CgValue *out_sin) {
    CgEmit *e = s->e;
    CgValue at = cg_at(e, s->table, cg_imul_n(e, i, 8));
    if (!s->wide) {
        *out_cos = cg_load_f32(e, at);
        *out_sin = cg_load_f32(e, cg_at_n(e, at, 4));
        return;
    }
    CgValue low = cg_load_vec_unaligned(e, at), high = cg_load_vec_unaligned(e, cg_at_n(e, at, VEC_BYTES));
    *out_cos = every_second(s, low, high, 0);
    *out_sin = every_second(s, low, high, 1);
}

/* (x0, x1) of pair i (or of 16 pairs from i on) turned by the row's angles, every product rounded. The two vectors of 16 interleaved
 * pairs hold x0 and x1 in turns. */
static void rotate_pair(Store *s, unsigned slot, int64_t heads, CgValue head, CgValue i, Sink sink) {
    CgEmit *e = s->e;
    bool interleaved = s->kernel->interleaved, turns = interleaved && s->wide;
    uint64_t apart = turns ? PG_LANES : interleaved ? 1 : (uint64_t)s->kernel->rope_dim / 2;
    CgValue near = interleaved ? cg_imul_n(e, i, 2) : i, far = cg_iadd_n(e, near, apart), cosine, sine;
    CgValue a = load_component(s, slot, heads, head, near), b = load_component(s, slot, heads, head, far);
    CgValue x0 = turns ? every_second(s, a, b, 0) : a, x1 = turns ? every_second(s, a, b, 1) : b;
    load_angles(s, i, &cosine, &sine);
    CgValue y0 = cg_sub(e, cg_mul(e, x0, cosine), cg_mul(e, x1, sine));
    CgValue y1 = cg_add(e, cg_mul(e, x1, cosine), cg_mul(e, x0, sine));
    sink(s, head, near, turns ? in_turns(s, y0, y1, 0) : y0);
    sink(s, head, far, turns ? in_turns(s, y0, y1, PG_LANES / 2) : y1);
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

/* ---------------------------------------------------------------------------------------------- PG_ATTEND
 *
 * In PG_BLOCK a run of tiles is walked head by head, GROUP_ROWS rows of one sequence at a time: such rows share nearly all keys, so
 * each key and value is read once for all of them. Where their ranges differ (the last keys by causality, the first ones by the window)
 * each row goes alone, so that an invisible key takes no part in any sum. */

enum {
    GROUP_ROWS = 4,
    MAX_CHUNKS = 8, /* runs of 16 positions scored side by side */
    MAX_VALUE_PANELS = 8, /* panels of head_dim summed side by side */
    SCORE_BYTES = (PG_KEY_BLOCK + 2 * PG_LANES) * 4
};

/* How much is kept in registers: for one row, or for a group of rows. */
typedef struct Width {
    int rows, chunks, rest_chunks; /* rest_chunks: where fewer than `chunks` are left */
    uint64_t panels;
} Width;

/* What one row, or a group of consecutive rows of one sequence, needs for one head. Arrays in scratch have a line for each row. */
typedef struct Attend {
    CgEmit *e;
    const PgKernel *kernel;
    Width width;
    CgValue row, position; /* i64: the first row; its position in the sequence */
    CgValue head; /* i64 */
    CgValue k_cache, v_cache; /* of the key/value head */
    uint64_t line; /* bytes of head_dim up to 16 */
    CgValue q, O, o; /* [rows][head_dim]: q; sums so far; sums of the block */
    CgValue scores; /* [rows][SCORE_BYTES]: of the block from `start` on; then their powers */
    CgValue M, L, m, l; /* [rows][16] every lane the same: M, L and m of docs/bits.md; l: lane 0 only */
    /* the block at hand: keys from … from + PG_KEY_BLOCK - 1; start, end: multiples of 16 around all that the rows see of it */
    CgValue from, start, end;
} Attend;

static CgValue line_of(Attend *a, CgValue base, CgValue i, uint64_t bytes) { return cg_at(a->e, base, cg_imul_n(a->e, i, bytes)); }

/* First key that row i of the group sees in the block, and the first one past them; the latter is not larger if it sees none. */
static CgValue first_key(Attend *a, CgValue i) {
    CgEmit *e = a->e;
    uint64_t window = (uint64_t)a->kernel->window;
    if (window == 0) return a->from;
    CgValue seen = cg_iadd_n(e, cg_iadd(e, a->position, i), 1), past = cg_umax(e, seen, cg_i64(e, window));
    return cg_umax(e, cg_isub(e, past, cg_i64(e, window)), a->from);
}

static CgValue end_key(Attend *a, CgValue i) {
    CgEmit *e = a->e;
    return cg_umin(e, cg_iadd_n(e, cg_iadd(e, a->position, i), 1), cg_iadd_n(e, a->from, PG_KEY_BLOCK));
}

/* q of the head of every row as head_dim floats in a line. */
static void gather_q(Attend *a) {
    CgEmit *e = a->e;
    int64_t head_dim = a->kernel->O;
    bool wide = head_dim % PG_LANES == 0;
    CgLoop rows = cg_for_n(e, (uint64_t)a->width.rows);
    CgValue row = cg_iadd(e, a->row, rows.index), to = line_of(a, a->q, rows.index, a->line);
    CgPlace place = cg_place(e, cg_operand(e, PG_ATTEND_Q), PG_ROWS, NULL, row, a->kernel->heads * head_dim);
    CgLoop loop = cg_for(e, cg_i64(e, 0), cg_i64(e, (uint64_t)head_dim), wide ? PG_LANES : 1);
    CgValue element = cg_iadd(e, cg_imul_n(e, a->head, (uint64_t)head_dim), loop.index);
    to = cg_at(e, to, cg_imul_n(e, loop.index, 4));
    if (wide)
        cg_store_vec(e, to, cg_load_vec(e, cg_place_panel(e, &place, cg_udiv_n(e, element, PG_LANES))));
    else
        cg_store_f32(e, to, cg_load_f32(e, cg_place_element_at(e, &place, element)));
    cg_end_for(e, &loop);
    cg_end_for(e, &rows);
}

/* Lanes of positions offset + [0, 16) (from start on) that row i sees. */
static CgValue visible(Attend *a, int i, CgValue offset) {
    CgEmit *e = a->e;
    CgValue lane[PG_LANES], row = cg_i64(e, (uint64_t)i);
    for (int l = 0; l < PG_LANES; l++) lane[l] = cg_i32(e, l);
    CgValue base = cg_splat(e, LLVMBuildTrunc(e->builder, offset, e->i32, ""));
    CgValue at = cg_iadd(e, base, LLVMConstVector(lane, PG_LANES));
    CgValue low = cg_splat(e, LLVMBuildTrunc(e->builder, cg_isub(e, first_key(a, row), a->start), e->i32, ""));
    CgValue high = cg_splat(e, LLVMBuildTrunc(e->builder, cg_isub(e, end_key(a, row), a->start), e->i32, ""));
    CgValue past = cg_icmp(e, LLVMIntSGE, at, low), before = cg_icmp(e, LLVMIntSLT, at, high);
    return LLVMBuildAnd(e->builder, past, before, "");
}

/* Dot products of every row with `chunks` runs of 16 positions from `position` on. */
static void dot_chunks(Attend *a, CgValue position, int chunks, CgValue sum[GROUP_ROWS][MAX_CHUNKS]) {
    CgEmit *e = a->e;
    int rows = a->width.rows;
    uint64_t head_dim = (uint64_t)a->kernel->O;
    CgValue key[MAX_CHUNKS], k[MAX_CHUNKS];
    for (int c = 0; c < chunks; c++) {
        CgValue slot = cg_urem_n(e, cg_iadd_n(e, position, (uint64_t)c * PG_LANES), (uint64_t)a->kernel->cap);
        key[c] = cg_at(e, a->k_cache, cg_imul_n(e, slot, head_dim * 4));
    }
    CgLoop loop = cg_for_n(e, head_dim);
    for (int i = 0; i < rows * chunks; i++) sum[i / chunks][i % chunks] = cg_carry(e, &loop, cg_zero(e));
    for (int c = 0; c < chunks; c++) k[c] = cg_load_vec(e, cg_at(e, key[c], cg_imul_n(e, loop.index, VEC_BYTES)));
    for (int i = 0; i < rows; i++) {
        CgValue q = cg_at_n(e, cg_at(e, a->q, cg_imul_n(e, loop.index, 4)), (uint64_t)i * a->line);
        q = cg_load_splat(e, q);
        for (int c = 0; c < chunks; c++) cg_next(&loop, sum[i][c], cg_fma(e, q, k[c], sum[i][c]));
    }
    cg_end_for(e, &loop);
    for (int i = 0; i < rows * chunks; i++) sum[i / chunks][i % chunks] = cg_after(&loop, sum[i / chunks][i % chunks]);
}

/* Scores of `chunks` runs from `position` on; the visible ones go into most[row]. Runs past the block read some other part of the
 * cache and count for nothing. */
static void score_chunks(Attend *a, CgValue position, int chunks, CgValue *most) {
    CgEmit *e = a->e;
    CgValue sum[GROUP_ROWS][MAX_CHUNKS], scale = cg_vec(e, (float)a->kernel->scale);
    dot_chunks(a, position, chunks, sum);
    for (int i = 0; i < a->width.rows; i++) {
        for (int c = 0; c < chunks; c++) {
            CgValue offset = cg_isub(e, cg_iadd_n(e, position, (uint64_t)c * PG_LANES), a->start);
            CgValue score = cg_mul(e, sum[i][c], scale), at = cg_at(e, a->scores, cg_imul_n(e, offset, 4));
            cg_store_vec(e, cg_at_n(e, at, (uint64_t)i * SCORE_BYTES), score);
            most[i] = cg_larger(e, most[i], cg_select(e, visible(a, i, offset), score, cg_vec(e, -INFINITY)));
        }
    }
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

/* Scores of the positions [first, end), `chunks` runs at a time. */
static void score_range(Attend *a, CgValue first, CgValue end, int chunks, CgValue *most) {
    CgEmit *e = a->e;
    CgValue carried[GROUP_ROWS];
    CgLoop loop = cg_for(e, first, end, (uint64_t)chunks * PG_LANES);
    for (int i = 0; i < a->width.rows; i++) most[i] = carried[i] = cg_carry(e, &loop, most[i]);
    score_chunks(a, loop.index, chunks, most);
    for (int i = 0; i < a->width.rows; i++) cg_next(&loop, carried[i], most[i]);
    cg_end_for(e, &loop);
    for (int i = 0; i < a->width.rows; i++) most[i] = cg_after(&loop, carried[i]);
}

/* All scores of the block, and m. */
static void score_block(Attend *a) {
    CgEmit *e = a->e;
    uint64_t many = (uint64_t)a->width.chunks * PG_LANES;
    CgValue most[GROUP_ROWS], full = cg_udiv_n(e, cg_isub(e, a->end, a->start), many);
    CgValue middle = cg_iadd(e, a->start, cg_imul_n(e, full, many));
    for (int i = 0; i < a->width.rows; i++) most[i] = cg_vec(e, -INFINITY);
    score_range(a, a->start, middle, a->width.chunks, most);
    if (a->width.rest_chunks < a->width.chunks) score_range(a, middle, a->end, a->width.rest_chunks, most);
    for (int i = 0; i < a->width.rows; i++) cg_store_vec(e, cg_at_n(e, a->m, (uint64_t)i * VEC_BYTES), largest_lane(e, most[i]));
}

/* Scores of row i become exp(s - m); invisible ones become something that nobody reads. Its block sums become +0. */
static void start_row(Attend *a, CgValue i) {
    CgEmit *e = a->e;
    CgValue m = cg_load_vec(e, line_of(a, a->m, i, VEC_BYTES)), scores = line_of(a, a->scores, i, SCORE_BYTES);
    CgLoop powers = cg_for(e, cg_i64(e, 0), cg_isub(e, a->end, a->start), PG_LANES);
    CgValue at = cg_at(e, scores, cg_imul_n(e, powers.index, 4));
    cg_store_vec(e, at, cg_exp(e, cg_sub(e, cg_load_vec(e, at), m)));
    cg_end_for(e, &powers);
    CgLoop clear = cg_for_n(e, a->line / VEC_BYTES);
    cg_store_vec(e, cg_at(e, line_of(a, a->o, i, a->line), cg_imul_n(e, clear.index, VEC_BYTES)), cg_zero(e));
    cg_end_for(e, &clear);
    cg_store_f32(e, line_of(a, a->l, i, VEC_BYTES), cg_f32(e, 0));
}

/* o += p · v for keys [first, end) in order, on `panels` panels from `panel` on, of `rows` rows from row i on; l too if `powers`. */
static void sum_panels(Attend *a, CgValue i, int rows, CgValue first, CgValue end, uint64_t panel, uint64_t panels, bool powers) {
    CgEmit *e = a->e;
    uint64_t cap = (uint64_t)a->kernel->cap;
    CgValue at[GROUP_ROWS], l_at[GROUP_ROWS], o[GROUP_ROWS][MAX_VALUE_PANELS], l[GROUP_ROWS], v[MAX_VALUE_PANELS];
    CgValue old[GROUP_ROWS][MAX_VALUE_PANELS], old_l[GROUP_ROWS], first_slot = cg_urem_n(e, first, cap);
    for (int r = 0; r < rows; r++) {
        CgValue row = cg_iadd_n(e, i, (uint64_t)r);
        at[r] = cg_at_n(e, line_of(a, a->o, row, a->line), panel * VEC_BYTES);
        l_at[r] = line_of(a, a->l, row, VEC_BYTES);
        old_l[r] = cg_load_f32(e, l_at[r]);
        for (uint64_t c = 0; c < panels; c++) old[r][c] = cg_load_vec(e, cg_at_n(e, at[r], c * VEC_BYTES));
    }
    CgLoop loop = cg_for(e, first, end, 1);
    CgValue slot = cg_carry(e, &loop, first_slot);
    for (int r = 0; r < rows; r++) {
        l[r] = powers ? cg_carry(e, &loop, old_l[r]) : NULL;
        for (uint64_t c = 0; c < panels; c++) o[r][c] = cg_carry(e, &loop, old[r][c]);
    }
    CgValue value = cg_at_n(e, line_of(a, a->v_cache, slot, a->line), panel * VEC_BYTES), next = cg_iadd_n(e, slot, 1);
    for (uint64_t c = 0; c < panels; c++) v[c] = cg_load_vec(e, cg_at_n(e, value, c * VEC_BYTES));
    for (int r = 0; r < rows; r++) {
        CgValue scores = line_of(a, a->scores, cg_iadd_n(e, i, (uint64_t)r), SCORE_BYTES);
        CgValue p = cg_load_f32(e, cg_at(e, scores, cg_imul_n(e, cg_isub(e, loop.index, a->start), 4)));
        for (uint64_t c = 0; c < panels; c++) cg_next(&loop, o[r][c], cg_fma(e, cg_splat(e, p), v[c], o[r][c]));
        if (powers) cg_next(&loop, l[r], cg_add(e, l[r], p));
    }
    cg_next(&loop, slot, cg_select(e, cg_icmp(e, LLVMIntEQ, next, cg_i64(e, cap)), cg_i64(e, 0), next));
    cg_end_for(e, &loop);
    for (int r = 0; r < rows; r++) {
        for (uint64_t c = 0; c < panels; c++) cg_store_vec(e, cg_at_n(e, at[r], c * VEC_BYTES), cg_after(&loop, o[r][c]));
        if (powers) cg_store_f32(e, l_at[r], cg_after(&loop, l[r]));
    }
}

static void sum_values(Attend *a, CgValue i, int rows, CgValue first, CgValue end) {
    uint64_t all = a->line / VEC_BYTES;
    for (uint64_t panel = 0; panel < all; panel += a->width.panels) {
        uint64_t panels = all - panel < a->width.panels ? all - panel : a->width.panels;
        sum_panels(a, i, rows, first, end, panel, panels, panel == 0);
    }
}

/* o and l of the block: the keys that all rows see together, those before (the window) and after them row by row. */
static void sum_block(Attend *a) {
    CgEmit *e = a->e;
    CgValue zero = cg_i64(e, 0), last = cg_i64(e, (uint64_t)a->width.rows - 1);
    CgValue first = first_key(a, last), end = cg_umax(e, first, end_key(a, zero));
    if (a->width.rows == 1) {
        sum_values(a, zero, 1, first, end);
        return;
    }
    if (a->kernel->window > 0) {
        CgLoop before = cg_for_n(e, (uint64_t)a->width.rows);
        sum_values(a, before.index, 1, first_key(a, before.index), cg_umin(e, first, end_key(a, before.index)));
        cg_end_for(e, &before);
    }
    sum_values(a, zero, a->width.rows, first, end);
    CgLoop after = cg_for_n(e, (uint64_t)a->width.rows);
    sum_values(a, after.index, 1, end, end_key(a, after.index));
    cg_end_for(e, &after);
}

/* The block's m, l, o of row i merged into M, L, O, unless the row sees nothing of it. */
static void merge_row(Attend *a, CgValue i) {
    CgEmit *e = a->e;
    CgIf some = cg_if(e, cg_icmp(e, LLVMIntULT, first_key(a, i), end_key(a, i)));
    CgValue M_at = line_of(a, a->M, i, VEC_BYTES), L_at = line_of(a, a->L, i, VEC_BYTES);
    CgValue M = cg_load_vec(e, M_at), m = cg_load_vec(e, line_of(a, a->m, i, VEC_BYTES)), both = cg_larger(e, M, m);
    CgValue old = cg_exp(e, cg_sub(e, M, both)), fresh = cg_exp(e, cg_sub(e, m, both));
    CgValue l = cg_load_splat(e, line_of(a, a->l, i, VEC_BYTES));
    cg_store_vec(e, M_at, both);
    cg_store_vec(e, L_at, cg_fma(e, l, fresh, cg_mul(e, cg_load_vec(e, L_at), old)));
    CgValue O_line = line_of(a, a->O, i, a->line), o_line = line_of(a, a->o, i, a->line);
    CgLoop panels = cg_for_n(e, a->line / VEC_BYTES);
    CgValue bytes = cg_imul_n(e, panels.index, VEC_BYTES), O_at = cg_at(e, O_line, bytes);
    CgValue o = cg_load_vec(e, cg_at(e, o_line, bytes)), O = cg_load_vec(e, O_at);
    cg_store_vec(e, O_at, cg_fma(e, o, fresh, cg_mul(e, O, old)));
    cg_end_for(e, &panels);
    cg_end_if(e, &some);
}

/* `emit` in a loop over the rows of the group. */
static void each_row(Attend *a, void (*emit)(Attend *a, CgValue i)) {
    CgLoop rows = cg_for_n(a->e, (uint64_t)a->width.rows);
    emit(a, rows.index);
    cg_end_for(a->e, &rows);
}

/* M = -inf, L = O = +0. */
static void clear_row(Attend *a, CgValue i) {
    CgEmit *e = a->e;
    cg_store_vec(e, line_of(a, a->M, i, VEC_BYTES), cg_vec(e, -INFINITY));
    cg_store_vec(e, line_of(a, a->L, i, VEC_BYTES), cg_zero(e));
    CgLoop panels = cg_for_n(e, a->line / VEC_BYTES);
    cg_store_vec(e, cg_at(e, line_of(a, a->O, i, a->line), cg_imul_n(e, panels.index, VEC_BYTES)), cg_zero(e));
    cg_end_for(e, &panels);
}

/* y = O / L. */
static void store_row(Attend *a, CgValue i) {
    CgEmit *e = a->e;
    int64_t head_dim = a->kernel->O;
    bool wide = head_dim % PG_LANES == 0;
    CgValue L = cg_load_vec(e, line_of(a, a->L, i, VEC_BYTES)), line = line_of(a, a->O, i, a->line), row = cg_iadd(e, a->row, i);
    CgPlace place = cg_place(e, cg_operand(e, PG_ATTEND_Y), PG_ROWS, NULL, row, a->kernel->heads * head_dim);
    CgValue first = cg_imul_n(e, a->head, (uint64_t)head_dim);
    CgLoop panels = cg_for_n(e, a->line / VEC_BYTES);
    CgValue at = cg_at(e, line, cg_imul_n(e, panels.index, VEC_BYTES)), y = cg_div(e, cg_load_vec(e, at), L);
    CgValue element = cg_iadd(e, first, cg_imul_n(e, panels.index, PG_LANES));
    cg_store_vec(e, wide ? cg_place_panel(e, &place, cg_udiv_n(e, element, PG_LANES)) : at, y);
    cg_end_for(e, &panels);
    if (wide) return;
    CgLoop loop = cg_for_n(e, (uint64_t)head_dim);
    CgValue to = cg_place_element_at(e, &place, cg_iadd(e, first, loop.index));
    cg_store_f32(e, to, cg_load_f32(e, cg_at(e, line, cg_imul_n(e, loop.index, 4))));
    cg_end_for(e, &loop);
}

/* One head of the rows from `row` on, all of one sequence: blocks of PG_KEY_BLOCK keys by absolute position. */
static void attend_rows(Attend *a, CgValue row) {
    CgEmit *e = a->e;
    CgSegment segment;
    CgValue zero = cg_i64(e, 0), last = cg_i64(e, (uint64_t)a->width.rows - 1);
    a->row = row;
    a->position = row_position(e, row, &segment);
    CgValue kv = cg_udiv_n(e, a->head, (uint64_t)(a->kernel->heads / a->kernel->kv_heads));
    CgValue keys = cg_imul_n(e, kv, (uint64_t)a->kernel->cap);
    a->k_cache = cg_at(e, cg_state_operand(e, PG_ATTEND_K_CACHE, &segment), cg_imul_n(e, keys, (uint64_t)a->kernel->O * 4));
    a->v_cache = cg_at(e, cg_state_operand(e, PG_ATTEND_V_CACHE, &segment), cg_imul_n(e, keys, a->line));
    gather_q(a);
    each_row(a, clear_row);
    a->from = zero;
    CgValue first_block = cg_udiv_n(e, first_key(a, zero), PG_KEY_BLOCK);
    CgValue last_block = cg_udiv_n(e, cg_iadd(e, a->position, last), PG_KEY_BLOCK);
    CgLoop blocks = cg_for(e, first_block, cg_iadd_n(e, last_block, 1), 1);
    a->from = cg_imul_n(e, blocks.index, PG_KEY_BLOCK);
    a->start = cg_imul_n(e, cg_udiv_n(e, first_key(a, zero), PG_LANES), PG_LANES);
    a->end = cg_imul_n(e, cg_udiv_n(e, cg_iadd_n(e, end_key(a, last), PG_LANES - 1), PG_LANES), PG_LANES);
    score_block(a);
    each_row(a, start_row);
    sum_block(a);
    each_row(a, merge_row);
    cg_end_for(e, &blocks);
    each_row(a, store_row);
}

static Width one_row(const CgTarget *target) {
    bool wide = target->vector_lanes == PG_LANES;
    return (Width){.rows = 1, .chunks = wide ? 8 : 4, .rest_chunks = 2, .panels = wide ? 8 : 4};
}

static Width group_of_rows(const CgTarget *target) {
    bool wide = target->vector_lanes == PG_LANES;
    return (Width){.rows = GROUP_ROWS, .chunks = wide ? 4 : 1, .rest_chunks = 1, .panels = wide ? 4 : 1};
}

/* Rows [first, first + GROUP_ROWS), or up to `end`: together if they are of one sequence. */
static void attend_group(Attend *a, CgValue first, CgValue end) {
    CgEmit *e = a->e;
    CgValue last = cg_iadd_n(e, first, GROUP_ROWS - 1), segments = cg_arg_ptr(e, offsetof(RtArgs, row_segment));
    CgValue far = cg_umin(e, last, cg_isub(e, end, cg_i64(e, 1)));
    CgValue own = cg_load_i32(e, cg_at(e, segments, cg_imul_n(e, first, 4)));
    CgValue others = cg_load_i32(e, cg_at(e, segments, cg_imul_n(e, far, 4)));
    CgValue full = cg_icmp(e, LLVMIntEQ, far, last), same = cg_icmp(e, LLVMIntEQ, own, others);
    CgIf together = cg_if(e, LLVMBuildAnd(e->builder, full, same, ""));
    a->width = group_of_rows(e->target);
    attend_rows(a, first);
    cg_else(e, &together);
    a->width = one_row(e->target);
    CgLoop rows = cg_for(e, first, cg_iadd_n(e, far, 1), 1);
    attend_rows(a, rows.index);
    cg_end_for(e, &rows);
    cg_end_if(e, &together);
}

/* Tiles [tile0, tile1) head by head: those of head h are h + heads · row. */
static void attend_heads(Attend *a) {
    CgEmit *e = a->e;
    uint64_t heads = (uint64_t)a->kernel->heads;
    CgLoop loop = cg_for_n(e, heads);
    a->head = loop.index;
    CgValue up = cg_isub(e, cg_i64(e, heads - 1), loop.index);
    CgValue first = cg_udiv_n(e, cg_iadd(e, e->tile0, up), heads), end = cg_udiv_n(e, cg_iadd(e, e->tile1, up), heads);
    CgLoop groups = cg_for(e, first, end, GROUP_ROWS);
    attend_group(a, groups.index, end);
    cg_end_for(e, &groups);
    cg_end_for(e, &loop);
}

void cg_emit_attend(CgEmit *e) {
    const PgKernel *kernel = e->kernel;
    uint64_t rows = kernel->mode == PG_ROW ? 1 : GROUP_ROWS;
    Attend a = {.e = e, .kernel = kernel, .line = head_panels(kernel) * VEC_BYTES};
    CgValue *const lines[] = {&a.q, &a.O, &a.o}, *const splats[] = {&a.M, &a.L, &a.m, &a.l};
    for (int i = 0; i < 3; i++) *lines[i] = cg_scratch(e, rows * a.line);
    for (int i = 0; i < 4; i++) *splats[i] = cg_scratch(e, rows * VEC_BYTES);
    a.scores = cg_scratch(e, rows * SCORE_BYTES);
    if (kernel->mode == PG_BLOCK) {
        e->claim = 2 * GROUP_ROWS * (uint32_t)kernel->heads;
        attend_heads(&a);
        return;
    }
    CgLoop tiles = cg_for_tiles(e);
    a.head = tiles.index;
    a.width = one_row(e->target);
    attend_rows(&a, cg_i64(e, 0));
    cg_end_for(e, &tiles);
}
