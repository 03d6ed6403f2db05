/* LANES channels are walked together over a whole sequence, so that the states of all experts stay in the first-level cache. Going forward
 * for training, the states at the start of each segment are kept; going back, each segment, from the last on, is walked forward from there,
 * keeping what its steps start from, and back. Tables hold A·log₂e, so that a decay is a power of two. */
#include "scan.h"
#include "vec.h"

#include <stdbool.h>
#include <stdlib.h>

enum { V = 2, LANES = WIDTH * V, SEGMENT = 32 };

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

/* The sums of eight vectors' elements, added to out[8]. */
INLINE void add_sums(float *out, const float rows[WIDTH][WIDTH]) {
    vec w[WIDTH];
    for (int i = 0; i < WIDTH; i++) w[i] = at(rows[i], 0);
    for (int i = 0; i < 4; i++)
        w[i] = SHUFFLE(w[i], w[i + 4], 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(w[i], w[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    for (int i = 0; i < 2; i++)
        w[i] = SHUFFLE(w[i], w[i + 2], 0, 1, 8, 9, 4, 5, 12, 13) + SHUFFLE(w[i], w[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    w[0] = SHUFFLE(w[0], w[1], 0, 8, 2, 10, 4, 12, 6, 14) + SHUFFLE(w[0], w[1], 1, 9, 3, 11, 5, 13, 7, 15);
    put(out, 0, at(out, 0) + w[0]);
}

/* ---- a block of channels */

/* Some channels of a sequence, and where they lie. */
typedef struct Lane {
    const MosscScan *s;
    int64_t sequence, channel, width; /* width ≤ LANES channels; the lanes behind them are zero */
    int64_t padded; /* N, in whole vectors */
    float *state; /* [E][padded][LANES] */
    float *a; /* [tables][padded][LANES], times log₂e */
} Lane;

INLINE int64_t block_of(const Lane *l) { return l->padded * LANES; }

/* Channels of a row. */
INLINE void load(const Lane *l, const float *row, vec out[V]) { load_some(out, V, row + l->channel, l->width); }
INLINE void store(const Lane *l, float *row, const vec x[V]) { store_some(row + l->channel, x, V, l->width); }

/* [n][I][N] -> [n][padded][LANES]. */
static void cut(const Lane *l, float *to, const float *from, int64_t n) {
    int64_t N = l->s->states;
    memset(to, 0, (size_t)(n * block_of(l)) * 4);
    for (int64_t e = 0; e < n; e++)
        for (int64_t i = 0; i < l->width; i++)
            for (int64_t k = 0; k < N; k++) to[e * block_of(l) + k * LANES + i] = from[(e * l->s->inner + l->channel + i) * N + k];
}

static void paste(const Lane *l, float *to, const float *from, int64_t n, bool add) {
    int64_t N = l->s->states;
    for (int64_t e = 0; e < n; e++)
        for (int64_t i = 0; i < l->width; i++)
            for (int64_t k = 0; k < N; k++) {
                float *at_state = &to[(e * l->s->inner + l->channel + i) * N + k];
                *at_state = from[e * block_of(l) + k * LANES + i] + (add ? *at_state : 0);
            }
}

/* Token t of the lane's sequence. */
INLINE int64_t token(const Lane *l, int64_t t) { return l->sequence * l->s->length + t; }
INLINE int64_t expert(const Lane *l, int64_t pair) { return l->s->index ? l->s->index[pair] : 0; }
INLINE float gate_of(const Lane *l, int64_t pair) { return l->s->gate ? l->s->gate[pair] : 1.0f; }
INLINE float *table(const Lane *l, float *tables, int64_t e) { return tables + (l->s->tables == 1 ? 0 : e) * block_of(l); }

/* ---- forward */

/* A pair's step. sum: s·C; what it starts from and its decays go to `before` and `decays` [padded][LANES], unless they are NULL. */
INLINE void step(const Lane *l, int64_t pair, const vec dt[V], const vec dtx[V], vec sum[V], float *before, float *decays) {
    int64_t e = expert(l, pair), N = l->s->states;
    float *s = l->state + e * block_of(l);
    const float *a = table(l, l->a, e), *b = l->s->b + pair * N, *c = l->s->c + pair * N;
    for (int v = 0; v < V; v++) sum[v] = all(0);
    for (int64_t n = 0; n < N; n++)
        for (int v = 0; v < V; v++) {
            vec old = at(s + n * LANES, v), decay = exp2_of(dt[v] * at(a + n * LANES, v));
            if (before) put(before + n * LANES, v, old), put(decays + n * LANES, v, decay);
            vec now = decay * old + dtx[v] * b[n];
            put(s + n * LANES, v, now);
            sum[v] += now * c[n];
        }
}

/* Tokens begin..end. */
INLINE void walk(const Lane *l, int64_t begin, int64_t end, float *y, float *before, float *decays) {
    const MosscScan *s = l->s;
    for (int64_t t = begin; t < end; t++) {
        vec x[V], out[V];
        load(l, s->x + token(l, t) * s->inner, x);
        for (int v = 0; v < V; v++) out[v] = all(0);
        for (int64_t k = 0; k < s->chosen; k++) {
            int64_t pair = token(l, t) * s->chosen + k, kept = ((t - begin) * s->chosen + k) * block_of(l);
            vec dt[V], dtx[V], sum[V];
            load(l, s->dt + pair * s->inner, dt);
            for (int v = 0; v < V; v++) dtx[v] = dt[v] * x[v];
            step(l, pair, dt, dtx, sum, before ? before + kept : NULL, before ? decays + kept : NULL);
            for (int v = 0; v < V; v++) out[v] += gate_of(l, pair) * sum[v];
        }
        if (y) store(l, y + token(l, t) * s->inner, out);
    }
}

static int64_t padded_of(const MosscScan *s) { return (s->states + WIDTH - 1) / WIDTH * WIDTH; }
static int64_t segments_of(const MosscScan *s) { return (s->length + SEGMENT - 1) / SEGMENT; }
static int64_t lanes_of(const MosscScan *s) { return (s->inner + LANES - 1) / LANES; }

/* The floats that a lane keeps of a sequence, and where they lie among all. */
static int64_t kept_of(const MosscScan *s) { return segments_of(s) * s->experts * padded_of(s) * LANES; }
static int64_t kept_at(const MosscScan *s, int64_t sequence, int64_t channel) {
    return (sequence * lanes_of(s) + channel / LANES) * kept_of(s);
}

int64_t mossc_scan_kept(const MosscScan *s) { return s->batch * lanes_of(s) * kept_of(s); }

/* starts: [segments][E][padded][LANES], or NULL. */
CLONES static void walk_all(const Lane *l, float *y, float *starts) {
    int64_t length = l->s->length, size = l->s->experts * block_of(l);
    for (int64_t first = 0, i = 0; first < length; first += SEGMENT, i++) {
        if (starts) memcpy(starts + i * size, l->state, (size_t)size * 4);
        walk(l, first, first + SEGMENT < length ? first + SEGMENT : length, y, NULL, NULL);
    }
}

/* Memory for n floats, at a cache line. */
static float *floats(int64_t n) { return aligned_alloc(64, ((size_t)n * 4 + 63) / 64 * 64); }

static Lane lane_of(const MosscScan *s, const MosscPart *part, int64_t sequence, int64_t channel, float *memory) {
    int64_t left = part->end_channel - channel;
    return (Lane){.s = s,
                  .sequence = sequence,
                  .channel = channel,
                  .width = left < LANES ? left : LANES,
                  .padded = padded_of(s),
                  .state = memory,
                  .a = memory + s->experts * padded_of(s) * LANES};
}

static void cut_tables(const Lane *l) {
    int64_t size = l->s->tables * block_of(l);
    cut(l, l->a, l->s->a, l->s->tables);
    for (int64_t i = 0; i < size; i++) l->a[i] *= LOG2_E;
}

static int64_t lane_floats(const MosscScan *s) { return (s->experts + s->tables) * padded_of(s) * LANES; }

int mossc_scan_forward(const MosscScan *s, const MosscPart *part, float *y, float *last, float *kept) {
    float *memory = floats(lane_floats(s));
    if (!memory) return 0;
    for (int64_t b = part->first_sequence; b < part->end_sequence; b++)
        for (int64_t channel = part->first_channel; channel < part->end_channel; channel += LANES) {
            Lane l = lane_of(s, part, b, channel, memory);
            cut_tables(&l);
            cut(&l, l.state, s->start + b * s->experts * s->inner * s->states, s->experts);
            walk_all(&l, y, kept ? kept + kept_at(s, b, channel) : NULL);
            paste(&l, last + b * s->experts * s->inner * s->states, l.state, s->experts, false);
        }
    free(memory);
    return 1;
}

/* ---- back */

typedef struct Back {
    const float *gy, *kept;
    const MosscScanGradients *out;
    float *g_state, *g_a; /* [E], [tables] of [padded][LANES] */
    float *before, *decays; /* [SEGMENT][K][padded][LANES] */
} Back;

/* A pair going back. gy: the gate times y's gradient. Returns the gradients of dt by the decays and of dt·x, and s·C. */
INLINE void step_back(const Lane *l, const Back *w, int64_t pair, const float *before, const float *decays, const vec dt[V],
                      const vec dtx[V], const vec gy[V], vec g_dt[V], vec g_dtx[V], vec sum[V]) {
    int64_t e = expert(l, pair), N = l->s->states;
    const float *a = table(l, l->a, e), *b = l->s->b + pair * N, *c = l->s->c + pair * N;
    float *gs = w->g_state + e * block_of(l), *ga = table(l, w->g_a, e);
    float to_b[WIDTH][WIDTH] __attribute__((aligned(32))), to_c[WIDTH][WIDTH] __attribute__((aligned(32)));
    for (int v = 0; v < V; v++) g_dt[v] = g_dtx[v] = sum[v] = all(0);
    for (int64_t first = 0; first < N; first += WIDTH) {
        int64_t count = N - first < WIDTH ? N - first : WIDTH;
        if (count < WIDTH) memset(to_b, 0, sizeof to_b), memset(to_c, 0, sizeof to_c);
        for (int64_t j = 0; j < count; j++) {
            int64_t n = first + j;
            vec gb = all(0), gc = all(0);
            for (int v = 0; v < V; v++) {
                vec decay = at(decays + n * LANES, v), kept = decay * at(before + n * LANES, v), now = kept + dtx[v] * b[n];
                vec g = gy[v] * c[n] + at(gs + n * LANES, v), gk = g * kept;
                sum[v] += now * c[n];
                gc += gy[v] * now;
                gb += g * dtx[v];
                g_dtx[v] += g * b[n];
                g_dt[v] += gk * at(a + n * LANES, v);
                put(ga + n * LANES, v, gk * dt[v] + at(ga + n * LANES, v));
                put(gs + n * LANES, v, g * decay);
            }
            put(to_b[j], 0, gb);
            put(to_c[j], 0, gc);
        }
        float sums[2][WIDTH] __attribute__((aligned(32))) = {0};
        add_sums(sums[0], (const float (*)[WIDTH])to_b);
        add_sums(sums[1], (const float (*)[WIDTH])to_c);
        for (int64_t j = 0; j < count; j++) {
            w->out->b[pair * N + first + j] += sums[0][j];
            w->out->c[pair * N + first + j] += sums[1][j];
        }
    }
}

INLINE void token_back(const Lane *l, const Back *w, int64_t t, int64_t begin) {
    const MosscScan *s = l->s;
    vec x[V], gy[V], gx[V];
    load(l, s->x + token(l, t) * s->inner, x);
    load(l, w->gy + token(l, t) * s->inner, gy);
    for (int v = 0; v < V; v++) gx[v] = all(0);
    for (int64_t k = s->chosen - 1; k >= 0; k--) {
        int64_t pair = token(l, t) * s->chosen + k, kept = ((t - begin) * s->chosen + k) * block_of(l);
        vec dt[V], dtx[V], scaled[V], g_dt[V], g_dtx[V], sum[V];
        load(l, s->dt + pair * s->inner, dt);
        for (int v = 0; v < V; v++) dtx[v] = dt[v] * x[v], scaled[v] = gate_of(l, pair) * gy[v];
        step_back(l, w, pair, w->before + kept, w->decays + kept, dt, dtx, scaled, g_dt, g_dtx, sum);
        vec to_gate = all(0);
        for (int v = 0; v < V; v++) {
            g_dt[v] = g_dt[v] * LN_2 + g_dtx[v] * x[v];
            gx[v] += g_dtx[v] * dt[v];
            to_gate += gy[v] * sum[v];
        }
        store(l, w->out->dt + pair * s->inner, g_dt);
        for (int i = 0; i < WIDTH && w->out->gate; i++) w->out->gate[pair] += to_gate[i];
    }
    store(l, w->out->x + token(l, t) * s->inner, gx);
}

CLONES static void walk_back(const Lane *l, const Back *w) {
    int64_t length = l->s->length, size = l->s->experts * block_of(l);
    const float *starts = w->kept + kept_at(l->s, l->sequence, l->channel);
    for (int64_t i = segments_of(l->s) - 1; i >= 0; i--) {
        int64_t first = i * SEGMENT, end = first + SEGMENT < length ? first + SEGMENT : length;
        memcpy(l->state, starts + i * size, (size_t)size * 4);
        walk(l, first, end, NULL, w->before, w->decays);
        for (int64_t t = end - 1; t >= first; t--) token_back(l, w, t, first);
    }
}

static void lane_back(const Lane *l, const Back *w, const float *g_last) {
    const MosscScan *s = l->s;
    int64_t sequence = l->sequence * s->experts * s->inner * s->states;
    cut_tables(l);
    cut(l, w->g_state, g_last + sequence, s->experts);
    memset(w->g_a, 0, (size_t)(s->tables * block_of(l)) * 4);
    walk_back(l, w);
    paste(l, w->out->start + sequence, w->g_state, s->experts, false);
    paste(l, w->out->a, w->g_a, s->tables, true);
}

int mossc_scan_back(const MosscScan *s, const MosscPart *part, const float *kept, const float *gy, const float *g_last,
                    const MosscScanGradients *out) {
    int64_t block = padded_of(s) * LANES, segment = SEGMENT * s->chosen * block;
    float *memory = floats(lane_floats(s) + (s->experts + s->tables) * block + 2 * segment);
    if (!memory) return 0;
    float *g_state = memory + lane_floats(s), *g_a = g_state + s->experts * block, *before = g_a + s->tables * block;
    Back w = {.gy = gy, .kept = kept, .out = out, .g_state = g_state, .g_a = g_a, .before = before, .decays = before + segment};
    for (int64_t b = part->first_sequence; b < part->end_sequence; b++)
        for (int64_t channel = part->first_channel; channel < part->end_channel; channel += LANES) {
            Lane l = lane_of(s, part, b, channel, memory);
            lane_back(&l, &w, g_last);
        }
    free(memory);
    return 1;
}
