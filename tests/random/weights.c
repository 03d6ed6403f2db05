#include "weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

static int64_t elements(const FeTensor *tensor) {
    int64_t count = 1;
    for (int i = 0; i < tensor->rank; i++) count *= tensor->shape[i];
    return count;
}

static bool ends(const char *name, const char *tail) {
    size_t n = strlen(name), m = strlen(tail);
    return n >= m && strcmp(name + n - m, tail) == 0;
}

/* One element of the tensor of that name; `in` is its last dimension. */
static double draw_element(Rng *rng, const char *name, int64_t in) {
    double n = rng_normal(rng);
    if (ends(name, "norm.weight")) return 1 + 0.2 * n;
    if (ends(name, "norm.bias")) return 0.2 * n;
    if (strcmp(name, "embed.weight") == 0) return n;
    if (ends(name, "router.weight")) return 1.5 * n / sqrt((double)in);
    if (ends(name, "router.bias")) return 0.5 * n;
    if (ends(name, "select_bias")) return 0.2 * n;
    if (ends(name, "A_log")) return 3.5 * rng_unit(rng) - 1.5;
    if (ends(name, ".D")) return n;
    if (ends(name, "dt_proj.bias")) return 4.5 * rng_unit(rng) - 4;
    if (ends(name, "dt_proj.weight")) return 0.5 * n / sqrt((double)in);
    if (ends(name, "bias")) return 0.3 * n;
    return 0.8 * n / sqrt((double)in);
}

static float to_f32(float x) { return x; }

static float to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, 4);
    return x;
}

/* Nearest half, ties to even: eleven significant bits, and multiples of 2^-24 below 2^-14. None of our values overflows. */
static float to_f16(float x) {
    if (fabsf(x) < 0x1p-14f) return rintf(x * 0x1p24f) * 0x1p-24f;
    uint32_t bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0xfff + (bits >> 13 & 1)) & 0xffffe000u;
    memcpy(&x, &bits, 4);
    return x;
}

/* Blocks are rounded row by row. */
static float to_q8(float x) { return x; }
static float to_q4(float x) { return x; }

static float narrow(IrDtype dtype, float x) {
    static float (*const to[IR_STORED_DTYPES])(float) = {
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most) [IR_##NAME] = to_##name,
#include "ir/dtype.def"
    };
    return to[dtype](x);
}

void weights_draw(FeSpec *spec, uint64_t seed, Weights *out) {
    out->tensors = fe_tensors(spec, &out->count);
    out->drawn = calloc(out->count, sizeof(float *));
    out->narrowed = calloc(out->count, sizeof(float *));
    for (size_t i = 0; i < out->count; i++) {
        const FeTensor *tensor = &out->tensors[i];
        Rng rng = {seed ^ (0x51ed270b0929ba3du * (i + 1))};
        int64_t count = elements(tensor), in = tensor->shape[tensor->rank - 1];
        out->drawn[i] = malloc((size_t)count * sizeof(float));
        out->narrowed[i] = malloc((size_t)count * sizeof(float));
        for (int64_t j = 0; j < count; j++) {
            float x = (float)draw_element(&rng, tensor->name, in);
            out->drawn[i][j] = x;
            out->narrowed[i][j] = narrow(tensor->dtype, x);
        }
    }
}

void weights_free(Weights *weights) {
    for (size_t i = 0; i < weights->count; i++) {
        free(weights->drawn[i]);
        free(weights->narrowed[i]);
    }
    free(weights->drawn);
    free(weights->narrowed);
    *weights = (Weights){0};
}

static const float *find(const Weights *weights, float *const *which, const char *name) {
    for (size_t i = 0; i < weights->count; i++)
        if (strcmp(weights->tensors[i].name, name) == 0) return which[i];
    return NULL;
}

const float *weights_drawn(void *context, const char *name) {
    const Weights *weights = context;
    return find(weights, weights->drawn, name);
}

const float *weights_narrowed(void *context, const char *name) {
    const Weights *weights = context;
    return find(weights, weights->narrowed, name);
}
