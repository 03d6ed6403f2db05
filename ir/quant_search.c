/* How d, m, s, t and q of a super-block are found.
 *
 * Given a group's D = d·s and M = m·t, the nearest q are best, and given q the best D and M solve two linear equations: the first is
 * done for many D and M side by side (a lane each), the second is cheap. A super-block takes these steps:
 *
 *   1. x = w, scaled by a power of two so that the largest |x| lies in [1/2, 1); h, so that the largest is 1.
 *   2. For each group by itself: ranges somewhat narrower and wider than its values' give D and M; q, then D and M by least squares,
 *      REFITS times; the range with the least error stays.
 *   3. d and m: largest D / S and largest M / T for the S and T of 32..63 whose multiples lie nearest to all D and all M.
 *   4. For each group the s and t of a window around D/d and M/m with the least error. The error is a rough function of s and t, as
 *      values cross from one q to the next, so the window is wide.
 *   5. d and m by least squares, given s, t and q, rounded to f16; again 4 in a small window, while the error falls.
 *
 * m ≥ 0 suits values on both sides of 0. Where a whole group is positive, m ≤ 0 is tried as well (sign −1). Sums run in one order,
 * and lanes do not touch each other, so the width of vectors does not matter. */
#include "ir/quant_search.h"

#include <string.h>

#include "ir/half.h"
#include "ir/quant.h"

enum { LANES = 16, RANGES = LANES, REFITS = 2, WINDOW_S = 8, WINDOW_T = 8, SMALL_S = 4, ROUNDS = 2 };
_Static_assert(LANES % WINDOW_T == 0 && SMALL_S % (LANES / WINDOW_T) == 0 && WINDOW_S % (LANES / WINDOW_T) == 0, "whole lanes");

/* Inlined into each version of search, so that its vectors are as wide as that has them. Sanitized code would take the compiler a
 * quarter of a minute. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define INLINE static inline
#else
#define INLINE static inline __attribute__((always_inline))
#endif

/* An input counts at least this share of what the one that counts most does. */
static const float least_h = 0x1p-20f;

/* ---- a group */

typedef struct Group {
    const float *x, *h; /* [n] */
    int n;
    float least, largest; /* of x */
    float sum_h, sum_hz;  /* z = x − least: sums of x itself would cancel where all x are far from 0 */
    float D, M, hqq;      /* of step 2, and Σ h·q² there: how much an error of D counts */
} Group;

/* A D and an M in each lane. */
typedef struct Lanes {
    float D[LANES], M[LANES];
} Lanes;

/* Σ h·q, Σ h·q², Σ h·q·z of the q that are nearest. */
typedef struct Sums {
    float hq[LANES], hqq[LANES], hqz[LANES];
} Sums;

/* 1/D for the q of a group; of D = 0, where q does not matter, a large number. */
INLINE float inverse(float D) { return 1.0f / (D + 0x1p-100f); }

/* y·per_D to the nearest of 0..15. Adding 3·2^22 rounds, and floats from there on are ordered as their bits are; negative ones are
 * below. Clamped as integers, since float comparisons keep gcc from making vectors of the loops. */
INLINE float nearest_q(float y, float per_D) {
    const float rounding = 0x1.8p23f;
    int32_t bits = (int32_t)ir_bits_of(y * per_D + rounding), least = 0x4B400000, most = least + IR_Q4_MOST;
    bits = bits < least ? least : bits;
    bits = bits > most ? most : bits;
    return ir_from_bits((uint32_t)bits) - rounding;
}

INLINE void invert(const Lanes *at, float per_D[LANES]) {
    for (int i = 0; i < LANES; i++) per_D[i] = inverse(at->D[i]);
}

/* Σ h·(x − w')² in each lane. */
INLINE void errors_of(const Group *g, const Lanes *at, float errors[LANES]) {
    float per_D[LANES], sum[LANES] = {0};
    invert(at, per_D);
    for (int k = 0; k < g->n; k++) {
        float x = g->x[k], h = g->h[k];
        for (int i = 0; i < LANES; i++) {
            float y = x + at->M[i], e = y - at->D[i] * nearest_q(y, per_D[i]);
            sum[i] += h * (e * e);
        }
    }
    memcpy(errors, sum, sizeof sum);
}

INLINE void sums_of(const Group *g, const Lanes *at, Sums *out) {
    float per_D[LANES];
    Sums sums = {0};
    invert(at, per_D);
    for (int k = 0; k < g->n; k++) {
        float x = g->x[k], h = g->h[k];
        for (int i = 0; i < LANES; i++) {
            float q = nearest_q(x + at->M[i], per_D[i]), hq = h * q;
            sums.hq[i] += hq;
            sums.hqq[i] += hq * q;
            sums.hqz[i] += hq * (x - g->least);
        }
    }
    *out = sums;
}

/* The D and M that are best for these q, M on the side of `sign`; unchanged where q says nothing about them. */
INLINE void refit(const Group *g, const Sums *s, float sign, Lanes *at) {
    for (int i = 0; i < LANES; i++) {
        float square = s->hqq[i] * g->sum_h, det = square - s->hq[i] * s->hq[i];
        float D = (s->hqz[i] * g->sum_h - s->hq[i] * g->sum_hz) / det, M = (D * s->hq[i] - g->sum_hz) / g->sum_h - g->least;
        bool both = det > square * 0x1p-18f && M * sign >= 0;
        D = both ? D : (s->hqz[i] + g->least * s->hq[i]) / s->hqq[i];
        M = both ? M : 0;
        bool usable = s->hqq[i] > 0 && D > 0;
        at->D[i] = usable ? D : at->D[i];
        at->M[i] = usable ? M : at->M[i];
    }
}

/* The first lane of the least error. */
INLINE int least_lane(const float errors[LANES]) {
    int best = 0;
    for (int i = 1; i < LANES; i++) best = errors[i] < errors[best] ? i : best;
    return best;
}

/* Step 2: fills D, M and hqq. */
INLINE void fit_group(Group *g, float sign) {
    /* Values of the group lie between those that q = 0 and q = 15 stand for, of which the former is not above 0 (sign 1) or not below. */
    float low = (sign > 0) == (g->least > 0) ? 0.0f : g->least, range = g->largest > low ? g->largest - low : 0.0f;
    Lanes at;
    Sums sums;
    float errors[LANES];
    for (int i = 0; i < LANES; i++) {
        at.D[i] = range / (13.0f + (float)i * (4.0f / (RANGES - 1)));
        at.M[i] = -low;
    }
    at.D[8] = range / IR_Q4_MOST;
    for (int round = 0; round < REFITS; round++) {
        sums_of(g, &at, &sums);
        refit(g, &sums, sign, &at);
    }
    errors_of(g, &at, errors);
    int best = least_lane(errors);
    sums_of(g, &at, &sums);
    g->D = at.D[best];
    g->M = at.M[best];
    g->hqq = sums.hqq[best];
}

/* ---- a super-block */

typedef struct Super {
    Group groups[IR_OVER];
    int n_groups;
    float x[IR_SUPER], h[IR_SUPER];
    float unit; /* w = unit·x, a power of two */
} Super;

typedef struct Choice {
    uint16_t d, m;
    int s[IR_OVER], t[IR_OVER];
    float error;
} Choice;

INLINE float clamped(float x, float most) { return x < 0 ? 0 : x > most ? most : x; }

INLINE int nearest_int(float x, int most) { return (int)(clamped(x, (float)most) + 0.5f); }

/* Step 4: s and t of the group within a window around those given. Returns the error. */
INLINE float choose(const Group *g, float d, float m, int window, int *s, int *t) {
    enum { SIDE = LANES / WINDOW_T };
    int first_s = nearest_int((float)(*s - window / 2), IR_Q4_SCALE_MOST + 1 - window);
    int first_t = nearest_int((float)(*t - WINDOW_T / 2), IR_Q4_SCALE_MOST + 1 - WINDOW_T);
    float least = 0x1p127f;
    for (int from = first_s; from < first_s + window; from += SIDE) {
        Lanes at;
        float errors[LANES];
        for (int i = 0; i < LANES; i++) {
            at.D[i] = d * (float)(from + i / WINDOW_T);
            at.M[i] = m * (float)(first_t + i % WINDOW_T);
        }
        errors_of(g, &at, errors);
        int best = least_lane(errors);
        if (!(errors[best] < least)) continue;
        least = errors[best];
        *s = from + best / WINDOW_T;
        *t = first_t + best % WINDOW_T;
    }
    return least;
}

INLINE void choose_all(const Super *super, int window, Choice *c) {
    float d = ir_widen_f16(c->d) / super->unit, m = ir_widen_f16(c->m) / super->unit;
    c->error = 0;
    for (int i = 0; i < super->n_groups; i++) c->error += choose(&super->groups[i], d, m, window, &c->s[i], &c->t[i]);
}

/* Step 5: d and m for the choice's s, t and q. false: they are what they were, or nothing is known about them. */
INLINE bool refit_all(const Super *super, Choice *c) {
    float d = ir_widen_f16(c->d) / super->unit, m = ir_widen_f16(c->m) / super->unit;
    float dd = 0, dm = 0, mm = 0, dr = 0,
          mr = 0; /* r = x − w': the changes of d and m are a, b of a·dd − b·dm = dr, a·dm − b·mm = mr */
    for (int i = 0; i < super->n_groups; i++) {
        const Group *g = &super->groups[i];
        float s = (float)c->s[i], t = (float)c->t[i], D = d * s, M = m * t, hq = 0, hqq = 0, hqr = 0, hr = 0, per_D = inverse(D);
        for (int k = 0; k < g->n; k++) {
            float y = g->x[k] + M, q = nearest_q(y, per_D), r = y - D * q, h = g->h[k];
            hq += h * q;
            hqq += h * q * q;
            hqr += h * q * r;
            hr += h * r;
        }
        dd += s * s * hqq;
        dm += s * t * hq;
        mm += t * t * g->sum_h;
        dr += s * hqr;
        mr += t * hr;
    }
    float square = dd * mm, det = square - dm * dm;
    if (det > square * 0x1p-18f) {
        float change = (dr * mm - dm * mr) / det;
        d += change;
        m += (change * dm - mr) / mm;
    } else if (dd > 0) {
        d += dr / dd;
    }
    if (!(d > 0)) return false;
    uint16_t was_d = c->d, was_m = c->m;
    c->d = ir_narrow_f16(d * super->unit);
    c->m = ir_narrow_f16(m * super->unit);
    return c->d != was_d || c->m != was_m;
}

/* Step 3: largest / S for the S of 32..63 whose multiples are nearest to values[n], as the weights count them. */
INLINE float divisor(const float *values, const float *weights, int n, float largest) {
    float best = 0, least = 0x1p127f;
    for (int S = IR_Q4_SCALE_MOST; S > IR_Q4_SCALE_MOST / 2; S--) {
        float step = largest / (float)S, per_step = (float)S / largest, error = 0;
        for (int i = 0; i < n; i++) {
            float e = values[i] - step * ((values[i] * per_step + 0x1.8p23f) - 0x1.8p23f);
            error += weights[i] * (e * e);
        }
        if (!(error < least)) continue;
        least = error;
        best = step;
    }
    return best;
}

/* Of a step > 0 the least f16 rather than zero. */
INLINE uint16_t half_step(float step) {
    uint16_t half = ir_narrow_f16(step);
    return step > 0 && half == 0 ? 1 : half;
}

INLINE void try_start(const Super *super, float d, float m, float sign, Choice *best) {
    Choice c = {.d = half_step(d * super->unit), .m = half_step(m * super->unit)};
    if (!ir_is_finite_f16(c.d) || !ir_is_finite_f16(c.m)) return;
    if (sign < 0 && c.m) c.m |= 0x8000;
    float step = ir_widen_f16(c.d) / super->unit, shift = ir_widen_f16(c.m) / super->unit;
    for (int i = 0; i < super->n_groups; i++) {
        const Group *g = &super->groups[i];
        c.s[i] = step > 0 ? nearest_int(g->D / step, IR_Q4_SCALE_MOST) : 0;
        c.t[i] = shift != 0 ? nearest_int(g->M / shift, IR_Q4_SCALE_MOST) : 0;
    }
    choose_all(super, WINDOW_S, &c);
    if (c.error < best->error) *best = c;
}

INLINE void search_sign(Super *super, float sign, Choice *best) {
    float D[IR_OVER], M[IR_OVER], by_D[IR_OVER], by_M[IR_OVER], largest_D = 0, largest_M = 0;
    for (int i = 0; i < super->n_groups; i++) {
        Group *g = &super->groups[i];
        fit_group(g, sign);
        D[i] = g->D;
        M[i] = g->M * sign;
        by_D[i] = g->hqq;
        by_M[i] = g->sum_h;
        largest_D = D[i] > largest_D ? D[i] : largest_D;
        largest_M = M[i] > largest_M ? M[i] : largest_M;
    }
    float d = divisor(D, by_D, super->n_groups, largest_D), m = divisor(M, by_M, super->n_groups, largest_M);
    try_start(super, d, m, sign, best);
    Choice c = *best;
    for (int round = 0; round < ROUNDS && refit_all(super, &c); round++) {
        if (!ir_is_finite_f16(c.d) || !ir_is_finite_f16(c.m)) break;
        choose_all(super, SMALL_S, &c);
        if (c.error < best->error) *best = c;
    }
}

/* Step 1. Returns the largest |w|. */
INLINE float take(const float *w, const float *h, float most_h, int n, Super *super) {
    float largest = 0;
    for (int k = 0; k < n; k++) {
        float size = w[k] < 0 ? -w[k] : w[k];
        largest = size > largest ? size : largest;
    }
    /* The power of two above; denormals count as the least normal number. */
    uint32_t exponent = ir_bits_of(largest) >> 23;
    exponent = exponent < 1 ? 1 : exponent > 252 ? 252 : exponent;
    super->unit = ir_from_bits((exponent + 1) << 23);
    float per_unit = ir_from_bits((253 - exponent) << 23);
    for (int k = 0; k < n; k++) {
        super->x[k] = w[k] * per_unit;
        float share = h && most_h > 0 ? h[k] / most_h : 1.0f;
        super->h[k] = share > least_h ? share : least_h;
    }
    super->n_groups = (n + IR_GROUP - 1) / IR_GROUP;
    for (int i = 0; i < super->n_groups; i++) {
        Group *g = &super->groups[i];
        *g = (Group){.x = super->x + i * IR_GROUP,
                     .h = super->h + i * IR_GROUP,
                     .n = n - i * IR_GROUP < IR_GROUP ? n - i * IR_GROUP : IR_GROUP};
        g->least = g->largest = g->x[0];
        for (int k = 0; k < g->n; k++) {
            g->least = g->x[k] < g->least ? g->x[k] : g->least;
            g->largest = g->x[k] > g->largest ? g->x[k] : g->largest;
        }
        for (int k = 0; k < g->n; k++) {
            g->sum_h += g->h[k];
            g->sum_hz += g->h[k] * (g->x[k] - g->least);
        }
    }
    return largest;
}

/* What a search works on: the super-block that begins at `first`. */
typedef struct Task {
    const float *w, *h;
    float most_h; /* the largest h of the row */
    int n;
    uint8_t *q, *s, *t;
    uint16_t *d, *m;
} Task;

static void write_q(const Super *super, const Choice *c, const Task *task) {
    float d = ir_widen_f16(c->d) / super->unit, m = ir_widen_f16(c->m) / super->unit;
    for (int i = 0; i < super->n_groups; i++) {
        const Group *g = &super->groups[i];
        uint8_t *q = task->q + i * (IR_GROUP / 2);
        float D = d * (float)c->s[i], M = m * (float)c->t[i], per_D = inverse(D);
        memset(q, 0, IR_GROUP / 2);
        for (int k = 0; k < g->n; k++) q[k / 2] |= (uint8_t)((int)nearest_q(g->x[k] + M, per_D) << (k % 2 * 4));
        task->s[i] = (uint8_t)c->s[i];
        task->t[i] = (uint8_t)c->t[i];
    }
    *task->d = c->d;
    *task->m = c->m;
}

INLINE bool search_super(const Task *task) {
    Super super;
    Choice best = {.error = 0x1p127f};
    bool positive = false;
    if (take(task->w, task->h, task->most_h, task->n, &super) == 0) best.error = 0; /* all zero, and so is the choice */
    for (int i = 0; i < super.n_groups; i++) positive = positive || super.groups[i].least > 0;
    if (best.error > 0) search_sign(&super, 1, &best);
    if (positive && best.error > 0) search_sign(&super, -1, &best);
    write_q(&super, &best, task);
    return best.error < 0x1p127f;
}

/* ---- a row */

static bool search_anywhere(const Task *task) { return search_super(task); }

/* The same code with wider vectors: the same bits, more than twice as fast. */
#if defined(__x86_64__)
__attribute__((target("avx2"))) static bool search_avx2(const Task *task) { return search_super(task); }
#endif

static bool search(const Task *task) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) return search_avx2(task);
#endif
    return search_anywhere(task);
}

bool ir_q4_search(const float *w, const float *h, uint64_t K, const IrQ4Row *out) {
    float most_h = 0;
    for (uint64_t k = 0; h && k < K; k++) most_h = h[k] > most_h ? h[k] : most_h;
    for (uint64_t first = 0; first < K; first += IR_SUPER) {
        uint64_t b = first / IR_SUPER;
        Task task = {.w = w + first,
                     .h = h ? h + first : NULL,
                     .most_h = most_h,
                     .n = K - first < IR_SUPER ? (int)(K - first) : IR_SUPER,
                     .q = out->q + first / 2,
                     .s = out->s + b * IR_OVER,
                     .t = out->t + b * IR_OVER,
                     .d = out->d + b,
                     .m = out->m + b};
        if (!search(&task)) return false;
    }
    return true;
}
