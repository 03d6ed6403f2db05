/* Scalar pieces of docs/bits.md that several tests share. */
#ifndef MOSSC_TESTS_CODEGEN2_REFERENCE_H
#define MOSSC_TESTS_CODEGEN2_REFERENCE_H

#include "ir/vmath32.h"
#include "tests/codegen2/rig.h"

static inline float ref_act(PgActivation act, float x) {
    switch (act) {
    case PG_NO_ACT: return x;
#define IR_ACTIVATION(name, NAME, flops, exps, exact)                                                                              \
    case PG_##NAME: return vm_##name(x);
#include "ir/activation.def"
    }
    return x;
}

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
static inline float ref_mix(const Rig *rig, unsigned slot, uint64_t row, int64_t I, int64_t N, int64_t i, int64_t n) {
    float sum = 0;
    for (uint64_t j = 0; j < (uint64_t)rig->kernel.k; j++)
        sum = fmaf(ref_combine_weight(rig, row, j), rig_float(rig, slot, 0, ref_channel(I, N, ref_expert(rig, row, j), i, n)), sum);
    return sum;
}

#endif
