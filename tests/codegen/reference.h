/* Scalar pieces of docs/bits.md that several tests share. */
#ifndef MOSSC_TESTS_CODEGEN_REFERENCE_H
#define MOSSC_TESTS_CODEGEN_REFERENCE_H

#include "ir/vmath32.h"
#include "tests/codegen/rig.h"

/* The order of a linear layer: one output of K inputs. */
float ref_dot(const float *w, const float *x, int64_t K);
/* Of rounded inputs with blocks: one output of matrix m, by integers. */
float ref_rounded_dot(const Rig *rig, unsigned slot, uint64_t m, int64_t o, const float *x);
/* A group of n (at most 32) inputs: 32 integers, their scale and their sum. */
void ref_round(const float *x, int64_t n, int8_t p[IR_GROUP], float *scale, float *sum);
/* Byte of a plane of `ld` rounded rows of K elements where group g of a row begins, and where its scale and its sum are. */
typedef struct RefRounded {
    uint64_t p, scale, sum;
} RefRounded;
RefRounded ref_rounded_at(int64_t K, uint64_t ld, uint64_t row, uint64_t g);
/* A float as bf16, to the nearest, ties to even; and one output of K inputs that are rounded so, in pairs as CG_BF16_PAIRS has them. */
uint16_t ref_bf16(float x);
float ref_bf16_dot(const float *w, const float *x, int64_t K);
void ref_norm(PgNormKind kind, const float *x, const float *w, const float *b, int64_t n, double eps, float *out);
float ref_act(PgActivation act, float x);
/* r[n] becomes the softmax of r. */
void ref_softmax(float *r, int64_t n);
/* The k largest of n keys, ties to the lower index, in rising order; with kernel->expert_groups, of the best runs alone. */
void ref_select(const PgKernel *kernel, const float *keys, int64_t n, int64_t k, int32_t *out_indices);

static inline float ref_combine_weight(const Rig *rig, uint64_t row, uint64_t j) {
    return rig->combine_weights[row * (uint64_t)rig->kernel.k + j];
}
static inline uint64_t ref_expert(const Rig *rig, uint64_t row, uint64_t j) {
    return (uint64_t)rig->expert_indices[row * (uint64_t)rig->kernel.k + j];
}

/* Number (panel of channel i, n of N) of [E][I/16][N][16], as parameters and states have it. */
static inline uint64_t ref_channel(int64_t I, int64_t N, uint64_t e, int64_t i, int64_t n) {
    return ((e * pg_panels(I) + (uint64_t)i / PG_LANES) * (uint64_t)N + (uint64_t)n) * PG_LANES + (uint64_t)i % PG_LANES;
}

/* The parameter of [E][I/16][N][16] mixed by the combine weights of a row. */
float ref_mix(const Rig *rig, unsigned slot, uint64_t row, int64_t I, int64_t N, int64_t i, int64_t n);

#endif
