/* The selective scan with experts, forward and backward (AVX-512).
 *
 * For every token t and every chosen expert e = idx[t][k], with its gate g:
 *
 *     dt = softplus(raw[t][k] + bias[e])                       [I]
 *     s_e <- exp(dt A_e) s_e + (dt c[t]) B[t][k]               [N][I]
 *     y[t] += g (s_e . C[t][k] + D_e c[t])                     [I]
 *
 * The states of experts that a token did not choose stay as they are. Sixteen
 * channels lie in the lanes of a vector, LANES channels are walked together over
 * the whole window, so that the states of all experts stay in the first-level
 * cache. The backward pass walks the window forward once more to find the
 * states, keeps them in a buffer of the second-level cache, then walks back.
 * Sequences of the batch are shared out between threads.
 */
#include <immintrin.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "ffi.h"

#ifndef N
#define N 16 /* d_state, a multiple of 16; the loader compiles one library per value */
#endif
enum { V = 2, LANES = 16 * V };

typedef __m512 f32x16;

/* Where everything is. Shapes behind each pointer. */
struct scan {
    int64_t batch, len, chan, k, experts;
    const float *c;    /* [batch][len][chan] */
    const float *raw;  /* [batch][len][k][chan] */
    const float *b_in; /* [batch][len][k][N] */
    const float *c_out; /* [batch][len][k][N] */
    const int32_t *idx; /* [batch][len][k] */
    const float *gate; /* [batch][len][k] */
    const float *a;    /* [experts][N][chan] */
    const float *d;    /* [experts][chan] */
    const float *bias; /* [experts][chan] */
    const float *s0;   /* [batch][experts][N][chan] */
};

struct scan_grads {
    float *c, *raw, *b_in, *c_out, *gate;
    float *a, *d, *bias; /* one copy per thread, summed at the end */
};

/* ---- elementary functions ---- */

static inline f32x16 all(float x) { return _mm512_set1_ps(x); }

/* e^x = 2^n e^r with |r| <= ln2/2; relative error about 2e-7. */
static inline f32x16 exp16(f32x16 x) {
    f32x16 n = _mm512_roundscale_ps(_mm512_mul_ps(x, all(1.44269504f)), 0);
    f32x16 r = _mm512_fnmadd_ps(n, all(0.693147182f), x);
    f32x16 p = all(1.0f / 720);
    p = _mm512_fmadd_ps(p, r, all(1.0f / 120));
    p = _mm512_fmadd_ps(p, r, all(1.0f / 24));
    p = _mm512_fmadd_ps(p, r, all(1.0f / 6));
    p = _mm512_fmadd_ps(p, r, all(0.5f));
    p = _mm512_fmadd_ps(p, r, all(1.0f));
    p = _mm512_fmadd_ps(p, r, all(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* softplus(x) = max(x, 0) + log(1 + u), u = e^-|x|, log(1 + u) = 2 atanh(u / (2 + u)).
 * *slope receives its derivative, the logistic function. */
static inline f32x16 softplus16(f32x16 x, f32x16 *slope) {
    f32x16 u = exp16(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_abs_ps(x)));
    f32x16 z = _mm512_div_ps(u, _mm512_add_ps(u, all(2.0f)));
    f32x16 q = _mm512_mul_ps(z, z);
    f32x16 p = all(1.0f / 11);
    p = _mm512_fmadd_ps(p, q, all(1.0f / 9));
    p = _mm512_fmadd_ps(p, q, all(1.0f / 7));
    p = _mm512_fmadd_ps(p, q, all(1.0f / 5));
    p = _mm512_fmadd_ps(p, q, all(1.0f / 3));
    p = _mm512_fmadd_ps(p, q, all(1.0f));
    f32x16 tail = _mm512_mul_ps(_mm512_add_ps(z, z), p);
    f32x16 small = _mm512_div_ps(u, _mm512_add_ps(u, all(1.0f)));
    __mmask16 pos = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
    *slope = _mm512_mask_sub_ps(small, pos, all(1.0f), small);
    return _mm512_add_ps(_mm512_max_ps(x, _mm512_setzero_ps()), tail);
}

/* ---- addresses ---- */

static inline f32x16 at(const float *row, int64_t lane, int v) { return _mm512_loadu_ps(row + lane + 16 * v); }

static inline void add_to(float *row, int64_t lane, int v, f32x16 x) {
    _mm512_storeu_ps(row + lane + 16 * v, _mm512_add_ps(at(row, lane, v), x));
}

/* A block of LANES channels of [experts][N][chan], cut out and put back. */
typedef float block[N][LANES];

static void cut(block *dst, const float *src, const struct scan *s, int64_t lane) {
    for (int64_t en = 0; en < s->experts * N; en++)
        memcpy((float *)dst + en * LANES, src + en * s->chan + lane, LANES * sizeof(float));
}

static void put(float *dst, const block *src, const struct scan *s, int64_t lane) {
    for (int64_t en = 0; en < s->experts * N; en++)
        memcpy(dst + en * s->chan + lane, (const float *)src + en * LANES, LANES * sizeof(float));
}

static void put_sum(float *dst, const block *src, const struct scan *s, int64_t lane) {
    for (int64_t en = 0; en < s->experts * N; en++)
        for (int v = 0; v < V; v++) add_to(dst + en * s->chan, lane, v, _mm512_load_ps((const float *)src + en * LANES + 16 * v));
}

/* ---- forward ---- */

/* One expert's state takes one step. Returns s.C in sum[]; the states before
 * the step go to `before` unless it is null. */
static inline void step(block s, const block a, const f32x16 dt[V], const f32x16 dtc[V], const float *b, const float *c,
                        f32x16 sum[V], float *before) {
    for (int v = 0; v < V; v++) sum[v] = _mm512_setzero_ps();
    for (int n = 0; n < N; n++) {
        f32x16 bn = all(b[n]), cn = all(c[n]);
        for (int v = 0; v < V; v++) {
            f32x16 old = _mm512_load_ps(s[n] + 16 * v);
            if (before) _mm512_store_ps(before + n * LANES + 16 * v, old);
            f32x16 decay = exp16(_mm512_mul_ps(dt[v], _mm512_load_ps(a[n] + 16 * v)));
            f32x16 now = _mm512_fmadd_ps(decay, old, _mm512_mul_ps(dtc[v], bn));
            _mm512_store_ps(s[n] + 16 * v, now);
            sum[v] = _mm512_fmadd_ps(now, cn, sum[v]);
        }
    }
}

/* The whole window of sequence `b`, channels lane .. lane + LANES. y or
 * `before` [len][k][N][LANES] may be null. */
static void forward_block(const struct scan *s, int64_t b, int64_t lane, block *state, const block *a, float *y, float *before) {
    for (int64_t t = b * s->len; t < (b + 1) * s->len; t++) {
        f32x16 c[V], out[V], dt[V], dtc[V], sum[V], slope;
        for (int v = 0; v < V; v++) {
            c[v] = at(s->c + t * s->chan, lane, v);
            out[v] = _mm512_setzero_ps();
        }
        for (int64_t p = t * s->k; p < (t + 1) * s->k; p++) {
            int32_t e = s->idx[p];
            for (int v = 0; v < V; v++) {
                f32x16 x = _mm512_add_ps(at(s->raw + p * s->chan, lane, v), at(s->bias + e * s->chan, lane, v));
                dt[v] = softplus16(x, &slope);
                dtc[v] = _mm512_mul_ps(dt[v], c[v]);
            }
            float *keep = before ? before + (p - b * s->len * s->k) * N * LANES : NULL;
            step(state[e], a[e], dt, dtc, s->b_in + p * N, s->c_out + p * N, sum, keep);
            for (int v = 0; v < V; v++) {
                f32x16 ye = _mm512_fmadd_ps(at(s->d + e * s->chan, lane, v), c[v], sum[v]);
                out[v] = _mm512_fmadd_ps(all(s->gate[p]), ye, out[v]);
            }
        }
        for (int v = 0; y && v < V; v++) _mm512_storeu_ps(y + t * s->chan + lane + 16 * v, out[v]);
    }
}

static float *scratch(int64_t floats) { return aligned_alloc(64, (size_t)(floats * 4 + 63) / 64 * 64); }

static void scan_forward(const struct scan *s, float *y, float *last) {
#pragma omp parallel
    {
        block *state = (block *)scratch(2 * s->experts * N * LANES), *a = state + s->experts;
#pragma omp for schedule(dynamic)
        for (int64_t b = 0; b < s->batch; b++)
            for (int64_t lane = 0; lane < s->chan; lane += LANES) {
                int64_t seq = b * s->experts * N * s->chan;
                cut(a, s->a, s, lane);
                cut(state, s->s0 + seq, s, lane);
                forward_block(s, b, lane, state, a, y, NULL);
                put(last + seq, state, s, lane);
            }
        free(state);
    }
}

/* ---- backward ---- */

/* The sums over the lanes of sixteen vectors, as one vector. */
static inline f32x16 sum_lanes(const float rows[16][16]) {
    f32x16 w[16];
    for (int i = 0; i < 16; i++) w[i] = _mm512_load_ps(rows[i]);
    for (int i = 0; i < 8; i++) /* w[i]: pairs of rows i, i + 8 in 64-bit halves of each quarter */
        w[i] = _mm512_add_ps(_mm512_shuffle_f32x4(w[i], w[i + 8], 0x44), _mm512_shuffle_f32x4(w[i], w[i + 8], 0xee));
    for (int i = 0; i < 4; i++)
        w[i] = _mm512_add_ps(_mm512_shuffle_f32x4(w[i], w[i + 4], 0x88), _mm512_shuffle_f32x4(w[i], w[i + 4], 0xdd));
        /* quarters of w[i] now hold rows i, i+8, i+4, i+12 */
    for (int i = 0; i < 2; i++) w[i] = _mm512_add_ps(_mm512_unpacklo_ps(w[i], w[i + 2]), _mm512_unpackhi_ps(w[i], w[i + 2]));
    f32x16 r = _mm512_add_ps(_mm512_unpacklo_ps(w[0], w[1]), _mm512_unpackhi_ps(w[0], w[1]));
        /* lane 4q + j holds row order[4q + j]; put it in order */
    const __m512i order = _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15);
    return _mm512_permutexvar_ps(order, r);
}

/* What the backward pass keeps of one block of channels. */
struct back {
    block *a, *grad_a, *grad_s;
    float *before; /* [len][k][N][LANES] */
};

/* One pair (token, expert) going back. gy: gate times the gradient of y.
 * Adds the gradients of dt and of dt*c; returns s.C in sum[]. */
static inline void step_back(const struct back *w, int32_t e, const float *before, const f32x16 dt[V], const f32x16 dtc[V],
                             const f32x16 gy[V], const float *b, const float *c, float *grad_b, float *grad_c, f32x16 grad_dt[V],
                             f32x16 grad_dtc[V], f32x16 sum[V]) {
    float gb[N][16] __attribute__((aligned(64))), gc[N][16] __attribute__((aligned(64)));
    float (*a)[LANES] = w->a[e], (*ga)[LANES] = w->grad_a[e], (*gs)[LANES] = w->grad_s[e];
    for (int v = 0; v < V; v++) grad_dt[v] = grad_dtc[v] = sum[v] = _mm512_setzero_ps();
    for (int n = 0; n < N; n++) {
        f32x16 bn = all(b[n]), cn = all(c[n]);
        f32x16 to_b = _mm512_setzero_ps(), to_c = _mm512_setzero_ps();
        for (int v = 0; v < V; v++) {
            f32x16 an = _mm512_load_ps(a[n] + 16 * v);
            f32x16 decay = exp16(_mm512_mul_ps(dt[v], an));
            f32x16 kept = _mm512_mul_ps(decay, _mm512_load_ps(before + n * LANES + 16 * v));
            f32x16 now = _mm512_fmadd_ps(dtc[v], bn, kept);
            f32x16 g = _mm512_fmadd_ps(gy[v], cn, _mm512_load_ps(gs[n] + 16 * v));
            f32x16 gk = _mm512_mul_ps(g, kept);
            sum[v] = _mm512_fmadd_ps(now, cn, sum[v]);
            to_c = _mm512_fmadd_ps(gy[v], now, to_c);
            to_b = _mm512_fmadd_ps(g, dtc[v], to_b);
            grad_dtc[v] = _mm512_fmadd_ps(g, bn, grad_dtc[v]);
            grad_dt[v] = _mm512_fmadd_ps(gk, an, grad_dt[v]);
            _mm512_store_ps(ga[n] + 16 * v, _mm512_fmadd_ps(gk, dt[v], _mm512_load_ps(ga[n] + 16 * v)));
            _mm512_store_ps(gs[n] + 16 * v, _mm512_mul_ps(g, decay));
        }
        _mm512_store_ps(gb[n], to_b);
        _mm512_store_ps(gc[n], to_c);
    }
    for (int n = 0; n < N; n += 16) {
        add_to(grad_b, n, 0, sum_lanes(gb + n));
        add_to(grad_c, n, 0, sum_lanes(gc + n));
    }
}

static void backward_block(const struct scan *s, const struct scan_grads *g, const float *gy, int64_t b, int64_t lane,
                           const struct back *w) {
    for (int64_t t = (b + 1) * s->len - 1; t >= b * s->len; t--) {
        f32x16 c[V], gyt[V], gc[V], dt[V], dtc[V], scaled[V], slope[V], grad_dt[V], grad_dtc[V], sum[V];
        for (int v = 0; v < V; v++) {
            c[v] = at(s->c + t * s->chan, lane, v);
            gyt[v] = at(gy + t * s->chan, lane, v);
            gc[v] = _mm512_setzero_ps();
        }
        for (int64_t p = (t + 1) * s->k - 1; p >= t * s->k; p--) {
            int32_t e = s->idx[p];
            f32x16 to_gate = _mm512_setzero_ps();
            for (int v = 0; v < V; v++) {
                f32x16 x = _mm512_add_ps(at(s->raw + p * s->chan, lane, v), at(s->bias + e * s->chan, lane, v));
                dt[v] = softplus16(x, &slope[v]);
                dtc[v] = _mm512_mul_ps(dt[v], c[v]);
                scaled[v] = _mm512_mul_ps(all(s->gate[p]), gyt[v]);
            }
            step_back(w, e, w->before + (p - b * s->len * s->k) * N * LANES, dt, dtc, scaled, s->b_in + p * N, s->c_out + p * N,
                      g->b_in + p * N, g->c_out + p * N, grad_dt, grad_dtc, sum);
            for (int v = 0; v < V; v++) {
                f32x16 d = at(s->d + e * s->chan, lane, v);
                f32x16 raw = _mm512_mul_ps(slope[v], _mm512_fmadd_ps(grad_dtc[v], c[v], grad_dt[v]));
                _mm512_storeu_ps(g->raw + p * s->chan + lane + 16 * v, raw);
                add_to(g->bias + e * s->chan, lane, v, raw);
                add_to(g->d + e * s->chan, lane, v, _mm512_mul_ps(scaled[v], c[v]));
                gc[v] = _mm512_fmadd_ps(grad_dtc[v], dt[v], gc[v]);
                gc[v] = _mm512_fmadd_ps(scaled[v], d, gc[v]);
                to_gate = _mm512_fmadd_ps(gyt[v], _mm512_fmadd_ps(d, c[v], sum[v]), to_gate);
            }
            g->gate[p] += _mm512_reduce_add_ps(to_gate);
        }
        for (int v = 0; v < V; v++) _mm512_storeu_ps(g->c + t * s->chan + lane + 16 * v, gc[v]);
    }
}

static void backward_sequence(const struct scan *s, const struct scan_grads *g, const float *gy, int64_t b, block *state,
                              struct back *w) {
    size_t bytes = (size_t)s->experts * sizeof(block);
    for (int64_t lane = 0; lane < s->chan; lane += LANES) {
        cut(w->a, s->a, s, lane);
        cut(state, s->s0 + b * s->experts * N * s->chan, s, lane);
        forward_block(s, b, lane, state, (const block *)w->a, NULL, w->before);
        memset(w->grad_a, 0, bytes);
        memset(w->grad_s, 0, bytes);
        backward_block(s, g, gy, b, lane, w);
        put_sum(g->a, (const block *)w->grad_a, s, lane);
    }
}

/* The sum of the threads' copies [threads][n] into the first result. */
static void gather(float *out, const float *parts, int threads, int64_t n) {
    memcpy(out, parts, (size_t)n * 4);
    for (int th = 1; th < threads; th++)
        for (int64_t i = 0; i < n; i++) out[i] += parts[th * n + i];
}

static void scan_backward(const struct scan *s, const struct scan_grads *out, const float *gy) {
    int threads = omp_get_max_threads();
    int64_t rows = s->batch * s->len * s->k, wide = s->experts * s->chan;
    float *parts = calloc((size_t)(threads * wide), (N + 2) * 4);
    float *part_d = parts + threads * wide * N, *part_bias = part_d + threads * wide;
    memset(out->b_in, 0, (size_t)(rows * N) * 4);
    memset(out->c_out, 0, (size_t)(rows * N) * 4);
    memset(out->gate, 0, (size_t)rows * 4);
#pragma omp parallel num_threads(threads)
    {
        int64_t th = omp_get_thread_num(), size = s->experts * N * LANES;
        float *mem = scratch(4 * size + s->len * s->k * N * LANES);
        struct back w = {(block *)mem, (block *)(mem + size), (block *)(mem + 2 * size), mem + 4 * size};
        struct scan_grads g = *out;
        g.a = parts + th * wide * N;
        g.d = part_d + th * wide;
        g.bias = part_bias + th * wide;
#pragma omp for schedule(dynamic)
        for (int64_t b = 0; b < s->batch; b++) backward_sequence(s, &g, gy, b, (block *)(mem + 3 * size), &w);
        free(mem);
    }
    gather(out->a, parts, threads, wide * N);
    gather(out->d, part_d, threads, wide);
    gather(out->bias, part_bias, threads, wide);
    free(parts);
}

/* ---- the two XLA handlers ---- */

static struct scan read_scan(const XLA_FFI_CallFrame *call) {
    const int64_t *shape = arg(call, 1)->dims; /* raw: [batch][len][k][chan] */
    struct scan s = {
        .batch = shape[0],
        .len = shape[1],
        .k = shape[2],
        .chan = shape[3],
        .experts = arg(call, 6)->dims[0],
        .c = arg(call, 0)->data,
        .raw = arg(call, 1)->data,
        .b_in = arg(call, 2)->data,
        .c_out = arg(call, 3)->data,
        .idx = arg(call, 4)->data,
        .gate = arg(call, 5)->data,
        .a = arg(call, 6)->data,
        .d = arg(call, 7)->data,
        .bias = arg(call, 8)->data,
        .s0 = arg(call, 9)->data,
    };
    return s;
}

/* (c, raw, B, C, idx, gate, A, D, bias, s0) -> (y, last state) */
XLA_FFI_Error *moss_scan(XLA_FFI_CallFrame *call) {
    if (only_metadata(call)) return NULL;
    struct scan s = read_scan(call);
    scan_forward(&s, result(call, 0)->data, result(call, 1)->data);
    return NULL;
}

/* (the same, gradient of y) -> gradients of (c, raw, B, C, gate, A, D, bias) */
XLA_FFI_Error *moss_scan_back(XLA_FFI_CallFrame *call) {
    if (only_metadata(call)) return NULL;
    struct scan s = read_scan(call);
    struct scan_grads g = {
        .c = result(call, 0)->data,
        .raw = result(call, 1)->data,
        .b_in = result(call, 2)->data,
        .c_out = result(call, 3)->data,
        .gate = result(call, 4)->data,
        .a = result(call, 5)->data,
        .d = result(call, 6)->data,
        .bias = result(call, 7)->data,
    };
    scan_backward(&s, &g, arg(call, 10)->data);
    return NULL;
}
