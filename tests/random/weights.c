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

/* How elements are drawn: base + factor·n, or base + factor·u; n is normal, u uniform in [0, 1). */
typedef struct Drawn {
    bool uniform;
    double base, factor;
} Drawn;

/* Of the tensor of that name; `in` is its last dimension. */
static Drawn drawn_as(const char *name, int64_t in) {
    double of_inputs = 1 / sqrt((double)in);
    if (ends(name, "norm.weight")) return (Drawn){.base = 1, .factor = 0.2};
    if (ends(name, "norm.bias")) return (Drawn){.factor = 0.2};
    if (strcmp(name, "embed.weight") == 0) return (Drawn){.factor = 1};
    if (ends(name, "router.weight")) return (Drawn){.factor = 1.5 * of_inputs};
    if (ends(name, "router.bias")) return (Drawn){.factor = 0.5};
    if (ends(name, "select_bias")) return (Drawn){.factor = 0.2};
    if (ends(name, "A_log")) return (Drawn){.uniform = true, .base = -1.5, .factor = 3.5};
    if (ends(name, ".D")) return (Drawn){.factor = 1};
    if (ends(name, "dt_proj.bias")) return (Drawn){.uniform = true, .base = -4, .factor = 4.5};
    if (ends(name, "dt_proj.weight")) return (Drawn){.factor = 0.5 * of_inputs};
    if (ends(name, "bias")) return (Drawn){.factor = 0.3};
    return (Drawn){.factor = 0.8 * of_inputs};
}

static double draw_element(Rng *rng, const Drawn *as) {
    double n = rng_normal(rng);
    return as->base + as->factor * (as->uniform ? rng_unit(rng) : n);
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

static float narrow(IrDtype dtype, float x) {
    static float (*const to[IR_STORED_DTYPES])(float) = {
#define IR_DTYPE(name, NAME, file, bytes, group, group_bytes, over, over_bytes, mma, most) [IR_##NAME] = to_##name,
#define IR_BLOCK_DTYPE(...)
#include "ir/dtype.def"
    };
    return to[dtype](x);
}

/* The tensor's rows, quantised. Row after row of a part stand behind each other. */
static IrBlocks quantise(const FeTensor *tensor, const float *values) {
    uint64_t K = (uint64_t)tensor->shape[tensor->rank - 1];
    IrBlocks blocks = {.dtype = tensor->dtype, .rows = (uint64_t)elements(tensor) / K, .K = K};
    uint8_t *memory[IR_PARTS] = {0};
    for (int i = 0; i < IR_PARTS; i++) {
        uint64_t bytes = blocks.rows * ir_part_bytes(blocks.dtype, (IrPart)i, K);
        if (bytes > 0) blocks.part[i] = memory[i] = calloc(1, bytes);
    }
    for (uint64_t row = 0; row < blocks.rows; row++) {
        IrRow out;
        for (int i = 0; i < IR_PARTS; i++)
            out.part[i] = memory[i] != NULL ? memory[i] + row * ir_part_bytes(blocks.dtype, (IrPart)i, K) : NULL;
        if (!ir_quantise(blocks.dtype, values + row * K, NULL, K, &out)) abort(); /* none of our values overflows */
    }
    return blocks;
}

void weights_draw(FeSpec *spec, uint64_t seed, Weights *out) {
    out->tensors = fe_tensors(spec, &out->count);
    out->drawn = calloc(out->count, sizeof(float *));
    out->narrowed = calloc(out->count, sizeof(float *));
    out->blocks = calloc(out->count, sizeof *out->blocks);
    for (size_t i = 0; i < out->count; i++) {
        const FeTensor *tensor = &out->tensors[i];
        Rng rng = {seed ^ (0x51ed270b0929ba3du * (i + 1))};
        int64_t count = elements(tensor), in = tensor->shape[tensor->rank - 1];
        bool blocks = ir_is_blocks(tensor->dtype);
        Drawn as = drawn_as(tensor->name, in);
        out->drawn[i] = malloc((size_t)count * sizeof(float));
        if (!blocks) out->narrowed[i] = malloc((size_t)count * sizeof(float));
        for (int64_t j = 0; j < count; j++) {
            float x = (float)draw_element(&rng, &as);
            out->drawn[i][j] = x;
            if (!blocks) out->narrowed[i][j] = narrow(tensor->dtype, x);
        }
        if (blocks) out->blocks[i] = quantise(tensor, out->drawn[i]);
    }
}

void weights_free(Weights *weights) {
    for (size_t i = 0; i < weights->count; i++) {
        free(weights->drawn[i]);
        free(weights->narrowed[i]);
        for (int part = 0; part < IR_PARTS; part++) free((void *)(uintptr_t)weights->blocks[i].part[part]);
    }
    free(weights->drawn);
    free(weights->narrowed);
    free(weights->blocks);
    *weights = (Weights){0};
}

const float *weights_drawn(void *context, const char *name) {
    const Weights *weights = context;
    for (size_t i = 0; i < weights->count; i++)
        if (strcmp(weights->tensors[i].name, name) == 0) return weights->drawn[i];
    return NULL;
}

IrElements weights_stored(void *context, const char *name) {
    const Weights *weights = context;
    for (size_t i = 0; i < weights->count; i++)
        if (strcmp(weights->tensors[i].name, name) == 0) return (IrElements){weights->narrowed[i], weights->blocks[i]};
    return (IrElements){0};
}
