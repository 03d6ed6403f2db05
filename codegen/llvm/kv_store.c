/* PG_KV_STORE: rope on q and k, k and v into the caches.
 *
 * Component i of head h is element h · head_dim + i of a row. When heads fill whole panels all work is on vectors of components;
 * an odd head_dim takes the same code with one component at a time.
 *
 * The k cache holds 16 positions side by side ([Hkv][cap / 16][head_dim][16]), so that a score needs no sum across lanes; the v
 * cache holds components side by side ([Hkv][cap][head_dim up to 16]). Position p lies at p % cap, and cap is a multiple of 16: a
 * run of 16 positions from a multiple of 16 on never wraps. */
#include "codegen/llvm/kernels.h"
#include "codegen/llvm/addressing.h"

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
    CgValue at = cg_at(e, s->k_cache, cg_imul_n(e, component, CG_VEC_BYTES));
    at = cg_at(e, at, cg_imul_n(e, cg_urem_n(e, s->slot, PG_LANES), 4));
    if (!s->wide) {
        cg_store_f32(e, at, value);
        return;
    }
    for (unsigned lane = 0; lane < PG_LANES; lane++) cg_store_f32(e, cg_at_n(e, at, lane * CG_VEC_BYTES), cg_lane(e, value, lane));
}

static void v_sink(Store *s, CgValue head, CgValue i, CgValue value) {
    CgEmit *e = s->e;
    CgValue line = cg_iadd(e, cg_imul_n(e, head, (uint64_t)s->kernel->cap), s->slot);
    CgValue at = cg_at(e, s->v_cache, cg_imul_n(e, line, pg_panels(s->kernel->O) * CG_VEC_BYTES));
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
    CgValue low = cg_load_vec_unaligned(e, at), high = cg_load_vec_unaligned(e, cg_at_n(e, at, CG_VEC_BYTES));
    *out_cos = every_second(s, low, high, 0);
    *out_sin = every_second(s, low, high, 1);
}

/* (x0, x1) of pair i (or of 16 pairs from i on) turned by the row's angles, every product rounded. The two vectors of 16
 * interleaved pairs hold x0 and x1 in turns. */
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

/* Of no key/value head has a run of keys been attended to. */
static void clear_done(Store *s) {
    CgEmit *e = s->e;
    CgLoop heads = cg_for_n(e, (uint64_t)s->kernel->kv_heads);
    cg_store_i32(e, cg_at(e, cg_operand(e, PG_KV_DONE), cg_imul_n(e, heads.index, 4)), cg_i32(e, 0));
    cg_end_for(e, &heads);
}

void cg_emit_kv_store(CgEmit *e) {
    const PgKernel *kernel = e->kernel;
    int64_t rotated = kernel->rope ? kernel->rope_dim : 0;
    Store s = {.e = e, .kernel = kernel, .wide = kernel->O % PG_LANES == 0 && rotated % (2 * PG_LANES) == 0};
    CgLoop rows = cg_for_tiles(e);
    CgSegment segment;
    s.row = kernel->mode == PG_ROW ? cg_i64(e, 0) : rows.index;
    s.slot = cg_urem_n(e, cg_row_position(e, s.row, &segment), (uint64_t)kernel->cap);
    s.k_cache = cg_state_operand(e, PG_KV_K_CACHE, &segment);
    s.v_cache = cg_state_operand(e, PG_KV_V_CACHE, &segment);
    if (kernel->rope) {
        s.table = cg_at(e, cg_operand(e, PG_KV_TABLE), cg_imul_n(e, s.row, (uint64_t)rotated * 4));
        store_heads(&s, PG_KV_Q, kernel->heads, rotated, q_sink);
    }
    store_heads(&s, PG_KV_K, kernel->kv_heads, rotated, k_sink);
    store_heads(&s, PG_KV_V, kernel->kv_heads, 0, v_sink);
    if (kernel->mode == PG_ROW) clear_done(&s);
    cg_end_for(e, &rows);
}
