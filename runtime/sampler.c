/* Sampling without memory of its own. Candidates are ordered by logit, then lower id first; top_k keeps a prefix of that order,
 * top_p the shortest prefix of it whose share of the probability is at least top_p; min_p leaves out what is less than that share of
 * the largest probability. A prefix is a Cut: all above a key, and the
 * first few of those at it. Cuts are found digit by digit over histograms of the keys, so nothing is ever sorted.
 *
 * Deterministic: probabilities are vm_exp (ir/vmath32.h), sums run in the order of ids in double, and a token takes one random
 * word (support/random.h). */
#include <string.h>

#include "ir/vmath32.h"
#include "mossc/moss.h"
#include "runtime/narrow.h"
#include "runtime/picker.h"
#include "support/random.h"

enum { DIGIT = 8, BINS = 1 << DIGIT, RUN = 256 };

typedef struct Cut {
    uint32_t key;
    int64_t ties; /* of those with exactly this key, the first ones by id */
} Cut;

typedef struct Candidates Candidates;
typedef void Weigh(const Candidates *c, int64_t first, int64_t count, float *out);

struct Candidates {
    const float *logits;
    int64_t n;
    float largest, temperature;
    float least; /* weights below it count for nothing: the largest weight is 1 */
    Cut cut;
    Weigh *weigh;
};

/* Rises with the logit; both zeros are equal; 0 for NaN, which no number has. */
static uint32_t key_of(float logit) {
    uint32_t bits = ir_bits_of(logit == 0 ? 0.0f : logit);
    if (logit != logit) return 0;
    return bits & 0x80000000 ? ~bits : bits | 0x80000000;
}

/* ---- weights: e^((logit − largest) / temperature), in runs */

static inline __attribute__((always_inline)) float weight_of(const Candidates *c, float logit) {
    return vm_exp((logit - c->largest) / c->temperature);
}

static inline __attribute__((always_inline)) void weigh(const Candidates *c, int64_t first, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i++) out[i] = weight_of(c, c->logits[first + i]);
}

static void weigh_anywhere(const Candidates *c, int64_t first, int64_t count, float *out) { weigh(c, first, count, out); }

/* The same code with fma as an instruction instead of a call: the same bits, ten times as fast. */
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void weigh_fma(const Candidates *c, int64_t first, int64_t count, float *out) {
    weigh(c, first, count, out);
}
#endif

static Weigh *choose_weigh(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return weigh_fma;
#endif
    return weigh_anywhere;
}

/* ---- order */

/* The first of the largest; -1 if all are NaN. */
static int32_t argmax(const float *logits, int64_t n) {
    int64_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (logits[i] == logits[i] && (best < 0 || logits[i] > logits[best])) best = i;
    return (int32_t)best;
}

/* Whether id's candidate is inside the cut. *ties counts those at the key, over a walk in rising id. */
static bool inside(const Cut *cut, uint32_t key, int64_t *ties) {
    if (key != cut->key) return key > cut->key;
    return (*ties)++ < cut->ties;
}

static float logit_of(uint32_t key) { return ir_from_bits(key & 0x80000000 ? key & 0x7FFFFFFF : ~key); }

/* Measures of the candidates whose key begins with `prefix`, by their next digit. */
static void fill_bins(const Candidates *c, bool counting, uint32_t prefix, int shift, double bins[BINS]) {
    int64_t ties = 0;
    float weights[RUN];
    memset(bins, 0, BINS * sizeof *bins);
    for (int64_t i = 0; i < c->n; i++) {
        uint32_t key = key_of(c->logits[i]);
        if (!counting && i % RUN == 0) c->weigh(c, i, c->n - i < RUN ? c->n - i : RUN, weights);
        if (inside(&c->cut, key, &ties) && (uint64_t)key >> (shift + DIGIT) == prefix)
            bins[(key >> shift) & (BINS - 1)] += counting ? 1 : (double)weights[i % RUN];
    }
}

/* The bin at which `above` plus the bins from the top reaches target; above grows by those that come before. Where rounding
 * leaves all of them below target, it is the lowest that holds anything. */
static int find_bin(const double bins[BINS], double target, double *above) {
    int lowest = 0;
    double before = *above;
    for (int bin = BINS - 1; bin >= 0; bin--) {
        if (bins[bin] > 0) {
            lowest = bin;
            *above = before;
            if (before + bins[bin] >= target) break;
            before += bins[bin];
        }
    }
    return lowest;
}

/* Finds the prefix of candidates whose measures, added up, first reach `target`: 1 for each when `counting`, else weights. */
static Cut find_cut(const Candidates *c, bool counting, double target) {
    uint32_t key = 0;
    double above = 0;
    for (int shift = 32 - DIGIT; shift >= 0; shift -= DIGIT) {
        double bins[BINS];
        fill_bins(c, counting, key, shift, bins);
        key = key << DIGIT | (uint32_t)find_bin(bins, target, &above);
    }
    Cut cut = {.key = key, .ties = 1};
    int64_t ties = 0, available = 0;
    for (int64_t i = 0; i < c->n; i++) {
        uint32_t other = key_of(c->logits[i]);
        available += inside(&c->cut, other, &ties) && other == key;
    }
    double unit = counting ? 1 : (double)weight_of(c, logit_of(key));
    for (double total = above + unit; total < target && cut.ties < available; total += unit) cut.ties++;
    return cut;
}

/* The sum of weights inside the cut; or, with pick ≥ 0, the id at which it passes `pick`. */
static double sum_weights(const Candidates *c, double pick, int32_t *out_id) {
    double total = 0;
    int64_t ties = 0;
    float weights[RUN];
    for (int64_t i = 0; i < c->n; i++) {
        if (i % RUN == 0) c->weigh(c, i, c->n - i < RUN ? c->n - i : RUN, weights);
        if (!inside(&c->cut, key_of(c->logits[i]), &ties) || weights[i % RUN] < c->least) continue;
        total += (double)weights[i % RUN];
        if (out_id) {
            *out_id = (int32_t)i;
            if (total > pick) break;
        }
    }
    return total;
}

int32_t moss_sample(MossSampler *sampler, const float *logits, int64_t n, int64_t limit) {
    return rt_sample(sampler, 0, logits, n, limit);
}

int32_t rt_sample(MossSampler *sampler, float min_p, const float *logits, int64_t n, int64_t limit) {
    n = limit < n ? limit : n;
    int32_t id = argmax(logits, n);
    if (id < 0 || !(sampler->temperature > 0)) return id;
    double u = su_unit(su_random(&sampler->state));
    Candidates c = {.logits = logits, .n = n, .largest = logits[id], .temperature = sampler->temperature, .weigh = choose_weigh()};
    if (!rt_finite(c.largest))  /* infinite: it is certain; minus infinity: all are equal, the first will do */
        return id;
    c.cut = (Cut){.key = key_of(-INFINITY), .ties = 0}; /* all that are numbers and possible */
    if (sampler->top_k > 0 && sampler->top_k < n) c.cut = find_cut(&c, true, sampler->top_k);
    if (sampler->top_p < 1) c.cut = find_cut(&c, false, (double)sampler->top_p * sum_weights(&c, 0, NULL));
    c.least = min_p;
    sum_weights(&c, u * sum_weights(&c, 0, NULL), &id);
    return id;
}
