#include "tests/codegen/reference.h"

float ref_dot(const float *w, const float *x, int64_t K) {
    float total = 0;
    for (int64_t k0 = 0; k0 < K; k0 += PG_SEGMENT_K) {
        float acc = 0;
        for (int64_t k = k0; k < K && k < k0 + PG_SEGMENT_K; k++) acc = fmaf(w[k], x[k], acc);
        total = k0 == 0 ? acc : total + acc;
    }
    return total;
}

static float tree(float *lanes) {
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] = lanes[i] + lanes[i + half];
    return lanes[0];
}

void ref_norm(PgNormKind kind, const float *x, const float *w, const float *b, int64_t n, double eps, float *out) {
    float lanes[16] = {0}, mean = 0;
    if (kind == PG_LAYER) {
        for (int64_t i = 0; i < n; i++) lanes[i % 16] = lanes[i % 16] + x[i];
        mean = tree(lanes) / (float)n;
        memset(lanes, 0, sizeof lanes);
    }
    for (int64_t i = 0; i < n; i++) {
        float d = kind == PG_LAYER ? x[i] - mean : x[i];
        lanes[i % 16] = fmaf(d, d, lanes[i % 16]);
    }
    float r = 1.0f / sqrtf(tree(lanes) / (float)n + (float)eps);
    for (int64_t i = 0; i < n; i++) {
        float d = kind == PG_LAYER ? x[i] - mean : x[i];
        out[i] = kind == PG_LAYER ? d * r * w[i] + b[i] : d * r * w[i];
    }
}

float ref_act(PgActivation act, float x) {
    switch (act) {
    case PG_NO_ACT: return x;
#define IR_ACTIVATION(name, NAME, flops, exps, exact)                                                                              \
    case PG_##NAME: return vm_##name(x);
#include "ir/activation.def"
    }
    return x;
}

void ref_softmax(float *r, int64_t n) {
    float m = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) m = m < r[i] ? r[i] : m;
    for (int64_t i = 0; i < n; i++) {
        r[i] = vm_exp(r[i] - m);
        sum = sum + r[i];
    }
    for (int64_t i = 0; i < n; i++) r[i] = r[i] / sum;
}

static float run_score(const float *keys, int64_t n) {
    float first = keys[0], second = -INFINITY;
    for (int64_t i = 1; i < n; i++)
        if (keys[i] > first)
            second = first, first = keys[i];
        else if (keys[i] > second)
            second = keys[i];
    return n > 1 ? first + second : first;
}

/* Whether key i stands in one of the best runs. */
static bool is_open(const PgKernel *k, const float *keys, int64_t n, int64_t i) {
    if (k->expert_groups == 0) return true;
    int64_t size = n / k->expert_groups, run = i / size, before = 0;
    float own = run_score(keys + run * size, size);
    for (int64_t r = 0; r < k->expert_groups; r++) {
        float score = run_score(keys + r * size, size);
        before += score > own || (score == own && r < run);
    }
    return before < k->top_groups;
}

void ref_select(const PgKernel *kernel, const float *keys, int64_t n, int64_t k, int32_t *out_indices) {
    int64_t chosen = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!is_open(kernel, keys, n, i)) continue;
        int64_t before = 0;
        for (int64_t j = 0; j < n; j++)
            before += is_open(kernel, keys, n, j) && (keys[j] > keys[i] || (keys[j] == keys[i] && j < i));
        if (before < k) out_indices[chosen++] = (int32_t)i;
    }
}

float ref_mix(const Rig *rig, unsigned slot, uint64_t row, int64_t I, int64_t N, int64_t i, int64_t n) {
    float sum = 0;
    for (uint64_t j = 0; j < (uint64_t)rig->kernel.k; j++)
        sum = fmaf(ref_combine_weight(rig, row, j), rig_float(rig, slot, 0, ref_channel(I, N, ref_expert(rig, row, j), i, n)), sum);
    return sum;
}
