/* A block of keys and the queries at hand (attention.h).
 *
 * The k cache holds 16 positions side by side ([Hkv][cap / 16][head_dim][16]), so that a score needs no sum across lanes; the v
 * cache holds components side by side ([Hkv][cap][head_dim up to 16]). Position p lies at p % cap, and cap is a multiple of 16: a
 * run of 16 positions from a multiple of 16 on never wraps. */
#include "codegen/llvm/attention.h"
#include "codegen/llvm/addressing.h"

#include <math.h>

enum {
    MAX_CHUNKS = 8,
    MAX_PANELS = 8,
    RUN_BYTES = 8192 /* of values, which stay in the first cache while all queries and panels take them in turns */
};

/* ---------------------------------------------------------------------------------------------- shapes */

/* Vectors of 16 sums that fill the pipeline, and leave room for what is multiplied. */
static int sums_side_by_side(const CgTarget *target) { return target->vector_lanes == PG_LANES ? 8 : 4; }

static int at_least_one(int n) { return n > 0 ? n : 1; }

CgWidth cg_width_of_heads(const CgTarget *target, uint64_t heads, uint64_t head_dim) {
    int sums = sums_side_by_side(target), chunks = at_least_one(sums / (int)heads), panels = (int)pg_panels((int64_t)head_dim);
    int side = panels < sums ? panels : sums; /* of one query; then as many queries as there is room for */
    return (CgWidth){.rows = 1,
                     .heads = (int)heads,
                     .chunks = chunks,
                     .rest_chunks = chunks > 2 ? 2 : 1,
                     .summed = at_least_one(sums / side),
                     .panels = (uint64_t)side};
}

CgWidth cg_width_of_rows(const CgTarget *target, int rows) {
    int each = at_least_one(2 * sums_side_by_side(target) / rows / (target->vector_lanes == PG_LANES ? 1 : 2));
    return (CgWidth){.rows = rows, .heads = 1, .chunks = each, .rest_chunks = 1, .summed = rows, .panels = (uint64_t)each};
}

static int queries(const CgAttend *a) { return a->width.rows * a->width.heads; }

/* ---------------------------------------------------------------------------------------------- places */

static CgValue line_at(CgAttend *a, CgValue base, CgValue i, uint64_t bytes) {
    return cg_at(a->e, base, cg_imul_n(a->e, cg_iadd(a->e, a->line0, i), bytes));
}

static CgValue scores_at(CgAttend *a, CgValue i) { return cg_at(a->e, a->scores, cg_imul_n(a->e, i, CG_SCORE_BYTES)); }

/* Row of query i, from the first one on, and its head. */
static CgValue row_offset(CgAttend *a, CgValue i) { return a->width.rows > 1 ? i : cg_i64(a->e, 0); }

static CgValue head_of(CgAttend *a, CgValue i) {
    return a->width.rows > 1 ? a->head : cg_iadd(a->e, a->head, cg_iadd(a->e, a->line0, i));
}

CgValue cg_first_key(CgAttend *a, CgValue i) {
    CgEmit *e = a->e;
    uint64_t window = (uint64_t)a->kernel->window;
    if (window == 0) return a->from;
    CgValue seen = cg_iadd_n(e, cg_iadd(e, a->position, row_offset(a, i)), 1), past = cg_umax(e, seen, cg_i64(e, window));
    return cg_umax(e, cg_isub(e, past, cg_i64(e, window)), a->from);
}

CgValue cg_end_key(CgAttend *a, CgValue i) {
    CgEmit *e = a->e;
    CgValue seen = cg_iadd_n(e, cg_iadd(e, a->position, row_offset(a, i)), 1);
    return cg_umin(e, seen, cg_iadd_n(e, a->from, PG_KEY_BLOCK));
}

void cg_take_block(CgAttend *a, CgValue index) {
    CgEmit *e = a->e;
    CgValue zero = cg_i64(e, 0), last = cg_i64(e, (uint64_t)queries(a) - 1);
    a->from = cg_imul_n(e, index, PG_KEY_BLOCK);
    a->start = cg_imul_n(e, cg_udiv_n(e, cg_first_key(a, zero), PG_LANES), PG_LANES);
    a->end = cg_imul_n(e, cg_udiv_n(e, cg_iadd_n(e, cg_end_key(a, last), PG_LANES - 1), PG_LANES), PG_LANES);
}

/* ---------------------------------------------------------------------------------------------- one query */

void cg_each_query(CgAttend *a, void (*emit)(CgAttend *a, CgValue i)) {
    CgLoop loop = cg_for_n(a->e, (uint64_t)queries(a));
    emit(a, loop.index);
    cg_end_for(a->e, &loop);
}

static CgPlace place_of(CgAttend *a, unsigned slot, CgValue i) {
    CgEmit *e = a->e;
    CgValue row = cg_iadd(e, a->row, row_offset(a, i));
    return cg_place(e, cg_operand(e, slot), PG_ROWS, NULL, row, a->kernel->heads * a->kernel->O);
}

void cg_gather_query(CgAttend *a, CgValue i) {
    CgEmit *e = a->e;
    int64_t head_dim = a->kernel->O;
    bool wide = head_dim % PG_LANES == 0;
    CgValue to = line_at(a, a->q, i, a->line), head = head_of(a, i);
    CgPlace place = place_of(a, PG_ATTEND_Q, i);
    CgLoop loop = cg_for(e, cg_i64(e, 0), cg_i64(e, (uint64_t)head_dim), wide ? PG_LANES : 1);
    CgValue element = cg_iadd(e, cg_imul_n(e, head, (uint64_t)head_dim), loop.index);
    to = cg_at(e, to, cg_imul_n(e, loop.index, 4));
    if (wide)
        cg_store_vec(e, to, cg_load_vec(e, cg_place_panel(e, &place, cg_udiv_n(e, element, PG_LANES))));
    else
        cg_store_f32(e, to, cg_load_f32(e, cg_place_element_at(e, &place, element)));
    cg_end_for(e, &loop);
}

void cg_clear_query(CgAttend *a, CgValue i) {
    CgEmit *e = a->e;
    cg_store_vec(e, line_at(a, a->M, i, CG_VEC_BYTES), cg_vec(e, -INFINITY));
    cg_store_vec(e, line_at(a, a->L, i, CG_VEC_BYTES), cg_zero(e));
    CgLoop panels = cg_for_n(e, a->line / CG_VEC_BYTES);
    cg_store_vec(e, cg_at(e, line_at(a, a->O, i, a->line), cg_imul_n(e, panels.index, CG_VEC_BYTES)), cg_zero(e));
    cg_end_for(e, &panels);
}

void cg_merge_query(CgAttend *a, CgValue i) {
    CgEmit *e = a->e;
    CgIf some = cg_if(e, cg_icmp(e, LLVMIntULT, cg_first_key(a, i), cg_end_key(a, i)));
    CgValue M_at = line_at(a, a->M, i, CG_VEC_BYTES), L_at = line_at(a, a->L, i, CG_VEC_BYTES);
    CgValue M = cg_load_vec(e, M_at), m = cg_load_vec(e, line_at(a, a->m, i, CG_VEC_BYTES)), both = cg_larger(e, M, m);
    CgValue old = cg_exp(e, cg_sub(e, M, both)), fresh = cg_exp(e, cg_sub(e, m, both));
    CgValue l = cg_load_splat(e, line_at(a, a->l, i, CG_VEC_BYTES));
    cg_store_vec(e, M_at, both);
    cg_store_vec(e, L_at, cg_fma(e, l, fresh, cg_mul(e, cg_load_vec(e, L_at), old)));
    CgValue O_line = line_at(a, a->O, i, a->line), o_line = line_at(a, a->o, i, a->line);
    CgLoop panels = cg_for_n(e, a->line / CG_VEC_BYTES);
    CgValue bytes = cg_imul_n(e, panels.index, CG_VEC_BYTES), O_at = cg_at(e, O_line, bytes);
    CgValue o = cg_load_vec(e, cg_at(e, o_line, bytes)), O = cg_load_vec(e, O_at);
    cg_store_vec(e, O_at, cg_fma(e, o, fresh, cg_mul(e, O, old)));
    cg_end_for(e, &panels);
    cg_end_if(e, &some);
}

void cg_store_query(CgAttend *a, CgValue i) {
    CgEmit *e = a->e;
    int64_t head_dim = a->kernel->O;
    bool wide = head_dim % PG_LANES == 0;
    CgValue L = cg_load_vec(e, line_at(a, a->L, i, CG_VEC_BYTES)), line = line_at(a, a->O, i, a->line);
    CgPlace place = place_of(a, PG_ATTEND_Y, i);
    CgValue first = cg_imul_n(e, head_of(a, i), (uint64_t)head_dim);
    CgLoop panels = cg_for_n(e, a->line / CG_VEC_BYTES);
    CgValue at = cg_at(e, line, cg_imul_n(e, panels.index, CG_VEC_BYTES)), y = cg_div(e, cg_load_vec(e, at), L);
    CgValue element = cg_iadd(e, first, cg_imul_n(e, panels.index, PG_LANES));
    cg_store_vec(e, wide ? cg_place_panel(e, &place, cg_udiv_n(e, element, PG_LANES)) : at, y);
    cg_end_for(e, &panels);
    if (wide) return;
    CgLoop loop = cg_for_n(e, (uint64_t)head_dim);
    CgValue to = cg_place_element_at(e, &place, cg_iadd(e, first, loop.index));
    cg_store_f32(e, to, cg_load_f32(e, cg_at(e, line, cg_imul_n(e, loop.index, 4))));
    cg_end_for(e, &loop);
}

/* ---------------------------------------------------------------------------------------------- scores */

/* Lanes of positions offset + [0, 16) (from start on) that query i sees. */
static CgValue visible(CgAttend *a, CgValue i, CgValue offset) {
    CgEmit *e = a->e;
    CgValue lane[PG_LANES];
    for (int l = 0; l < PG_LANES; l++) lane[l] = cg_i32(e, l);
    CgValue base = cg_splat(e, LLVMBuildTrunc(e->builder, offset, e->i32, ""));
    CgValue at = cg_iadd(e, base, LLVMConstVector(lane, PG_LANES));
    CgValue low = cg_splat(e, LLVMBuildTrunc(e->builder, cg_isub(e, cg_first_key(a, i), a->start), e->i32, ""));
    CgValue high = cg_splat(e, LLVMBuildTrunc(e->builder, cg_isub(e, cg_end_key(a, i), a->start), e->i32, ""));
    CgValue past = cg_icmp(e, LLVMIntSGE, at, low), before = cg_icmp(e, LLVMIntSLT, at, high);
    return LLVMBuildAnd(e->builder, past, before, "");
}

/* Fetches the keys that the next turn of the same loop needs. While one row's sums are formed too few loads are under way. */
static void fetch_ahead(CgAttend *a, const CgValue *keys, int chunks) {
    uint64_t turn = (uint64_t)chunks * (uint64_t)a->kernel->O * CG_VEC_BYTES;
    if (a->width.rows > 1 || a->e->target->pairs_ahead == 0) return;
    for (int c = 0; c < chunks; c++) cg_prefetch(a->e, cg_at_n(a->e, keys[c], turn));
}

/* Dot products of every query with `chunks` runs of 16 positions from `position` on. */
static void dot_chunks(CgAttend *a, CgValue position, int chunks, CgValue sum[CG_QUERIES][MAX_CHUNKS]) {
    CgEmit *e = a->e;
    int n = queries(a);
    uint64_t head_dim = (uint64_t)a->kernel->O;
    CgValue key[MAX_CHUNKS], k[MAX_CHUNKS], q_line = line_at(a, a->q, cg_i64(e, 0), a->line);
    for (int c = 0; c < chunks; c++) {
        CgValue slot = cg_urem_n(e, cg_iadd_n(e, position, (uint64_t)c * PG_LANES), (uint64_t)a->kernel->cap);
        key[c] = cg_at(e, a->k_cache, cg_imul_n(e, slot, head_dim * 4));
    }
    CgLoop loop = cg_for_n(e, head_dim);
    for (int i = 0; i < n * chunks; i++) sum[i / chunks][i % chunks] = cg_carry(e, &loop, cg_zero(e));
    for (int c = 0; c < chunks; c++) key[c] = cg_at(e, key[c], cg_imul_n(e, loop.index, CG_VEC_BYTES));
    for (int c = 0; c < chunks; c++) k[c] = cg_load_vec(e, key[c]);
    fetch_ahead(a, key, chunks);
    for (int i = 0; i < n; i++) {
        CgValue q = cg_at_n(e, cg_at(e, q_line, cg_imul_n(e, loop.index, 4)), (uint64_t)i * a->line);
        q = cg_load_splat(e, q);
        for (int c = 0; c < chunks; c++) cg_next(&loop, sum[i][c], cg_fma(e, q, k[c], sum[i][c]));
    }
    cg_end_for(e, &loop);
    for (int i = 0; i < n * chunks; i++) sum[i / chunks][i % chunks] = cg_after(&loop, sum[i / chunks][i % chunks]);
}

/* Scores of `chunks` runs from `position` on; the visible ones go into most[query]. Runs past the block read some other part of the
 * cache and count for nothing. */
static void score_chunks(CgAttend *a, CgValue position, int chunks, CgValue *most) {
    CgEmit *e = a->e;
    CgValue sum[CG_QUERIES][MAX_CHUNKS], scale = cg_vec(e, (float)a->kernel->scale);
    dot_chunks(a, position, chunks, sum);
    for (int i = 0; i < queries(a); i++) {
        for (int c = 0; c < chunks; c++) {
            CgValue query = cg_i64(e, (uint64_t)i);
            CgValue offset = cg_isub(e, cg_iadd_n(e, position, (uint64_t)c * PG_LANES), a->start);
            CgValue score = cg_mul(e, sum[i][c], scale), at = cg_at(e, a->scores, cg_imul_n(e, offset, 4));
            cg_store_vec(e, cg_at_n(e, at, (uint64_t)i * CG_SCORE_BYTES), score);
            most[i] = cg_larger(e, most[i], cg_select(e, visible(a, query, offset), score, cg_vec(e, -INFINITY)));
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
static void score_range(CgAttend *a, CgValue first, CgValue end, int chunks, CgValue *most) {
    CgEmit *e = a->e;
    CgValue carried[CG_QUERIES];
    CgLoop loop = cg_for(e, first, end, (uint64_t)chunks * PG_LANES);
    for (int i = 0; i < queries(a); i++) most[i] = carried[i] = cg_carry(e, &loop, most[i]);
    score_chunks(a, loop.index, chunks, most);
    for (int i = 0; i < queries(a); i++) cg_next(&loop, carried[i], most[i]);
    cg_end_for(e, &loop);
    for (int i = 0; i < queries(a); i++) most[i] = cg_after(&loop, carried[i]);
}

/* All scores of the block, and m. */
static void score_block(CgAttend *a) {
    CgEmit *e = a->e;
    uint64_t many = (uint64_t)a->width.chunks * PG_LANES;
    CgValue most[CG_QUERIES], full = cg_udiv_n(e, cg_isub(e, a->end, a->start), many);
    CgValue middle = cg_iadd(e, a->start, cg_imul_n(e, full, many));
    for (int i = 0; i < queries(a); i++) most[i] = cg_vec(e, -INFINITY);
    score_range(a, a->start, middle, a->width.chunks, most);
    if (a->width.rest_chunks < a->width.chunks) score_range(a, middle, a->end, a->width.rest_chunks, most);
    for (int i = 0; i < queries(a); i++)
        cg_store_vec(e, line_at(a, a->m, cg_i64(e, (uint64_t)i), CG_VEC_BYTES), largest_lane(e, most[i]));
}

/* ---------------------------------------------------------------------------------------------- powers and values */

/* Scores of query i become exp(s - m); invisible ones, and up to 16 behind the last, become something that nobody reads. Its block
 * sums become +0. */
static void start_query(CgAttend *a, CgValue i) {
    CgEmit *e = a->e;
    CgValue m = cg_load_vec(e, line_at(a, a->m, i, CG_VEC_BYTES)), scores = scores_at(a, i);
    CgSide side = {.n = e->target->side > 1 ? 2 : 1};
    CgLoop powers = cg_for(e, cg_i64(e, 0), cg_isub(e, a->end, a->start), (uint64_t)side.n * PG_LANES);
    CgValue at = cg_at(e, scores, cg_imul_n(e, powers.index, 4));
    for (int v = 0; v < side.n; v++) side.v[v] = cg_sub(e, cg_load_vec(e, cg_at_n(e, at, (uint64_t)v * CG_VEC_BYTES)), m);
    side = cg_side_exp_down(e, side);
    for (int v = 0; v < side.n; v++) cg_store_vec(e, cg_at_n(e, at, (uint64_t)v * CG_VEC_BYTES), side.v[v]);
    cg_end_for(e, &powers);
    CgLoop clear = cg_for_n(e, a->line / CG_VEC_BYTES);
    cg_store_vec(e, cg_at(e, line_at(a, a->o, i, a->line), cg_imul_n(e, clear.index, CG_VEC_BYTES)), cg_zero(e));
    cg_end_for(e, &clear);
    cg_store_f32(e, line_at(a, a->l, i, CG_VEC_BYTES), cg_f32(e, 0));
}

/* Some keys [first, end) in order, of `n` queries from `query` on, and of `panels` panels from `panel` on. */
typedef struct Part {
    CgValue query, first, end;
    int n;
    uint64_t panel, panels;
} Part;

/* o += p · v of that part; l too with the first panels. */
static void sum_part(CgAttend *a, const Part *p) {
    CgEmit *e = a->e;
    uint64_t cap = (uint64_t)a->kernel->cap;
    CgValue at[CG_QUERIES], l_at[CG_QUERIES], o[CG_QUERIES][MAX_PANELS], l[CG_QUERIES], v[MAX_PANELS];
    CgValue old[CG_QUERIES][MAX_PANELS], old_l[CG_QUERIES], scores[CG_QUERIES], first_slot = cg_urem_n(e, p->first, cap);
    bool powers = p->panel == 0;
    for (int r = 0; r < p->n; r++) {
        CgValue query = cg_iadd_n(e, p->query, (uint64_t)r);
        scores[r] = scores_at(a, query);
        at[r] = cg_at_n(e, line_at(a, a->o, query, a->line), p->panel * CG_VEC_BYTES);
        l_at[r] = line_at(a, a->l, query, CG_VEC_BYTES);
        old_l[r] = cg_load_f32(e, l_at[r]);
        for (uint64_t c = 0; c < p->panels; c++) old[r][c] = cg_load_vec(e, cg_at_n(e, at[r], c * CG_VEC_BYTES));
    }
    CgLoop loop = cg_for(e, p->first, p->end, 1);
    CgValue slot = cg_carry(e, &loop, first_slot);
    for (int r = 0; r < p->n; r++) {
        l[r] = powers ? cg_carry(e, &loop, old_l[r]) : NULL;
        for (uint64_t c = 0; c < p->panels; c++) o[r][c] = cg_carry(e, &loop, old[r][c]);
    }
    CgValue value = cg_at_n(e, cg_at(e, a->v_cache, cg_imul_n(e, slot, a->line)), p->panel * CG_VEC_BYTES);
    CgValue next = cg_iadd_n(e, slot, 1);
    for (uint64_t c = 0; c < p->panels; c++) v[c] = cg_load_vec(e, cg_at_n(e, value, c * CG_VEC_BYTES));
    for (int r = 0; r < p->n; r++) {
        CgValue power = cg_load_f32(e, cg_at(e, scores[r], cg_imul_n(e, cg_isub(e, loop.index, a->start), 4)));
        for (uint64_t c = 0; c < p->panels; c++) cg_next(&loop, o[r][c], cg_fma(e, cg_splat(e, power), v[c], o[r][c]));
        if (powers) cg_next(&loop, l[r], cg_add(e, l[r], power));
    }
    cg_next(&loop, slot, cg_select(e, cg_icmp(e, LLVMIntEQ, next, cg_i64(e, cap)), cg_i64(e, 0), next));
    cg_end_for(e, &loop);
    for (int r = 0; r < p->n; r++) {
        for (uint64_t c = 0; c < p->panels; c++) cg_store_vec(e, cg_at_n(e, at[r], c * CG_VEC_BYTES), cg_after(&loop, o[r][c]));
        if (powers) cg_store_f32(e, l_at[r], cg_after(&loop, l[r]));
    }
}

/* Keys [first, end) in order, of `n` queries from `query` on. */
static void sum_values(CgAttend *a, CgValue query, int n, CgValue first, CgValue end) {
    uint64_t all = a->line / CG_VEC_BYTES;
    for (int i = 0; i < n; i += a->width.summed) {
        Part p = {.query = cg_iadd_n(a->e, query, (uint64_t)i), .first = first, .end = end};
        p.n = n - i < a->width.summed ? n - i : a->width.summed;
        for (; p.panel < all; p.panel += a->width.panels) {
            p.panels = all - p.panel < a->width.panels ? all - p.panel : a->width.panels;
            sum_part(a, &p);
        }
    }
}

/* o and l of one row's queries: runs of keys whose values stay near while all parts take them. */
static void sum_heads(CgAttend *a) {
    CgEmit *e = a->e;
    CgValue zero = cg_i64(e, 0), first = cg_first_key(a, zero), end = cg_end_key(a, zero);
    uint64_t run = RUN_BYTES / a->line > 8 ? RUN_BYTES / a->line : 8;
    CgLoop runs = cg_for(e, first, end, run);
    sum_values(a, zero, a->width.heads, runs.index, cg_umin(e, cg_iadd_n(e, runs.index, run), end));
    cg_end_for(e, &runs);
}

/* The same of several rows: the keys that all of them see together, those before (the window) and after them row by row, so that an
 * invisible key takes no part in any sum. */
static void sum_rows(CgAttend *a) {
    CgEmit *e = a->e;
    CgValue zero = cg_i64(e, 0), last = cg_i64(e, (uint64_t)a->width.rows - 1);
    CgValue first = cg_first_key(a, last), end = cg_umax(e, first, cg_end_key(a, zero));
    if (a->kernel->window > 0) {
        CgLoop before = cg_for_n(e, (uint64_t)a->width.rows);
        sum_values(a, before.index, 1, cg_first_key(a, before.index), cg_umin(e, first, cg_end_key(a, before.index)));
        cg_end_for(e, &before);
    }
    sum_values(a, zero, a->width.rows, first, end);
    CgLoop after = cg_for_n(e, (uint64_t)a->width.rows);
    sum_values(a, after.index, 1, end, cg_end_key(a, after.index));
    cg_end_for(e, &after);
}

void cg_attend_block(CgAttend *a) {
    score_block(a);
    cg_each_query(a, start_query);
    if (a->width.rows > 1)
        sum_rows(a);
    else
        sum_heads(a);
}
