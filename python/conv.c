/* LANES channels are walked together over a sequence, from its first token on when going back too: the gradient of a row of x is summed as
 * soon as those of the W outputs from its own on are known. */
#include "conv.h"
#include "vec.h"

#include <stdlib.h>

enum { V = 4, LANES = WIDTH * V };

/* Some channels of a sequence. */
typedef struct Lane {
    const MosscConv *c;
    int64_t sequence, channel, width; /* width ≤ LANES channels */
} Lane;

/* Token t's row, from t = 1 − W on. */
INLINE int64_t row_of(const Lane *l, int64_t t) { return (l->sequence * l->c->length + t) * l->c->inner + l->channel; }
INLINE int64_t past_of(const Lane *l, int64_t t) {
    int64_t before = l->c->width - 1;
    return (l->sequence * before + before + t) * l->c->inner + l->channel;
}
INLINE const float *seen(const Lane *l, int64_t t) { return t < 0 ? l->c->past + past_of(l, t) : l->c->x + row_of(l, t); }

INLINE void load(const Lane *l, const float *from, vec out[V]) { load_some(out, V, from, l->width); }

/* p[t]. */
INLINE void before_silu(const Lane *l, int64_t t, vec p[V]) {
    const MosscConv *c = l->c;
    for (int v = 0; v < V; v++) p[v] = all(0);
    if (c->bias) load(l, c->bias + l->channel, p);
    for (int64_t j = 0; j < c->width; j++) {
        vec w[V], x[V];
        load(l, c->weight + j * c->inner + l->channel, w);
        load(l, seen(l, t - c->width + 1 + j), x);
        for (int v = 0; v < V; v++) p[v] += w[v] * x[v];
    }
}

/* 1 / (1 + e^-x). */
INLINE vec sigmoid(vec x) {
    ivec negative = x < all(0);
    vec size = (vec)((ivec)x & 0x7fffffff), small = exp2_of(size * -LOG2_E);
    vec above = (vec)((negative & (ivec)small) | (~negative & (ivec)all(1)));
    return above / (small + 1.0f);
}

CLONES static void walk(const Lane *l, float *y) {
    for (int64_t t = 0; t < l->c->length; t++) {
        vec p[V];
        before_silu(l, t, p);
        for (int v = 0; v < V; v++) p[v] *= sigmoid(p[v]);
        store_some(y + row_of(l, t), p, V, l->width);
    }
}

typedef struct Back {
    const float *gy;
    const MosscConvGradients *out;
    float *ring; /* [W][LANES]: the gradients of p of W tokens */
    float *g_weight; /* [W][LANES] */
    float *g_bias; /* [LANES] */
} Back;

/* The gradient of row t, which the outputs of tokens t to t + W - 1 took. */
INLINE void to_seen(const Lane *l, const Back *w, int64_t t) {
    const MosscConv *c = l->c;
    vec sum[V];
    for (int v = 0; v < V; v++) sum[v] = all(0);
    for (int64_t j = 0; j < c->width; j++) {
        int64_t user = t + c->width - 1 - j; /* which took it by weight j */
        if (user < 0 || user >= c->length) continue;
        vec by[V];
        load(l, c->weight + j * c->inner + l->channel, by);
        for (int v = 0; v < V; v++) sum[v] += by[v] * at(w->ring + user % c->width * LANES, v);
    }
    store_some(t < 0 ? w->out->past + past_of(l, t) : w->out->x + row_of(l, t), sum, V, l->width);
}

CLONES static void walk_back(const Lane *l, const Back *w) {
    const MosscConv *c = l->c;
    for (int64_t t = 0; t < c->length; t++) {
        vec p[V], g[V];
        before_silu(l, t, p);
        load(l, w->gy + row_of(l, t), g);
        for (int v = 0; v < V; v++) {
            vec s = sigmoid(p[v]);
            g[v] *= s * (p[v] * (1.0f - s) + 1.0f);
            put(w->ring + t % c->width * LANES, v, g[v]);
            put(w->g_bias, v, at(w->g_bias, v) + g[v]);
        }
        for (int64_t j = 0; j < c->width; j++) {
            vec x[V];
            load(l, seen(l, t - c->width + 1 + j), x);
            for (int v = 0; v < V; v++) put(w->g_weight + j * LANES, v, at(w->g_weight + j * LANES, v) + g[v] * x[v]);
        }
        to_seen(l, w, t - c->width + 1);
    }
    for (int64_t t = c->length - c->width + 1; t < c->length; t++) to_seen(l, w, t);
}

static Lane lane_of(const MosscConv *c, const MosscPart *part, int64_t sequence, int64_t channel) {
    int64_t left = part->end_channel - channel;
    return (Lane){.c = c, .sequence = sequence, .channel = channel, .width = left < LANES ? left : LANES};
}

void mossc_conv_forward(const MosscConv *c, const MosscPart *part, float *y) {
    for (int64_t b = part->first_sequence; b < part->end_sequence; b++)
        for (int64_t channel = part->first_channel; channel < part->end_channel; channel += LANES) {
            Lane l = lane_of(c, part, b, channel);
            walk(&l, y);
        }
}

int mossc_conv_back(const MosscConv *c, const MosscPart *part, const float *gy, const MosscConvGradients *out) {
    float *memory = aligned_alloc(64, (size_t)((2 * c->width + 1) * LANES) * 4);
    if (!memory) return 0;
    Back w = {.gy = gy, .out = out, .ring = memory, .g_weight = memory + c->width * LANES, .g_bias = memory + 2 * c->width * LANES};
    for (int64_t channel = part->first_channel; channel < part->end_channel; channel += LANES) {
        memset(w.g_weight, 0, (size_t)((c->width + 1) * LANES) * 4);
        Lane l = lane_of(c, part, 0, channel);
        for (int64_t b = part->first_sequence; b < part->end_sequence; b++) {
            l.sequence = b;
            walk_back(&l, &w);
        }
        for (int64_t j = 0; j < c->width; j++)
            for (int64_t i = 0; i < l.width; i++) out->weight[j * c->inner + channel + i] += w.g_weight[j * LANES + i];
        for (int64_t i = 0; i < l.width && out->bias; i++) out->bias[channel + i] += w.g_bias[i];
    }
    free(memory);
    return 1;
}
