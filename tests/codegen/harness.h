/* Runs one kernel by hand: buffers in the layouts of ir/program.h, random values, and the packing of weights. The tests compare
 * what the compiled function wrote with a scalar reference that follows docs/bits.md, bit for bit. */
#ifndef MOSSC_TESTS_CODEGEN_HARNESS_H
#define MOSSC_TESTS_CODEGEN_HARNESS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codegen/target.h"
#include "ir/program.h"

enum { HARNESS_BYTES = 24 << 20 };

typedef struct Harness {
    CgTarget target;
    bool present; /* the machine has this instruction set */
    uint64_t random;
    uint8_t *arena, *weights, *state, *scratch, *logits;
    uint64_t arena_used, weights_used, state_used;
    RtArgs args;
    RtSegment segments[64];
    int32_t tokens[PG_MAX_ROWS], row_segment[PG_MAX_ROWS], out_rows[PG_MAX_ROWS], nonfinite[PG_MAX_ROWS];
    int64_t row_position[PG_MAX_ROWS];
    PgPhase phase;
    const char *dump_dir; /* of the environment's MOSSC_DUMP, or NULL */
} Harness;

/* isa: "avx512" or "avx2". */
Harness *harness_new(const char *isa, uint64_t seed);
void harness_free(Harness *h);
/* A step of `rows` rows in one segment; forgets all buffers. NaN fills them, so that what is not written shows. */
void harness_step(Harness *h, PgMode mode, uint32_t rows, uint32_t n_out_rows);

uint32_t harness_below(Harness *h, uint32_t n); /* uniform in [0, n) */
float harness_float(Harness *h); /* roughly in [-1, 1], exponents varied */
float *harness_floats(Harness *h, uint64_t n); /* malloced, random */
/* Random weights that `dtype` can hold exactly: malloced. */
float *harness_weights(Harness *h, IrDtype dtype, uint64_t n);

/* Room for an operand: sets phase.operands[slot] and returns its address. In PG_BLOCK part of the offset is per row. */
float *harness_arena(Harness *h, unsigned slot, uint64_t bytes);
float *harness_state(Harness *h, unsigned slot, uint64_t bytes);
void *harness_packed(Harness *h, unsigned slot, uint64_t bytes);

/* Layouts. values are row-major: [rows][n] and so on; lanes past n are filled with 7 (finite and ignored). */
void harness_pack_panels(Harness *h, unsigned slot, IrDtype dtype, const float *w, int64_t planes, int64_t O, int64_t K);
void harness_pack_vector(Harness *h, unsigned slot, const float *b, int64_t planes, int64_t O);
void harness_pack_channels(Harness *h, unsigned slot, const float *w, int64_t planes, int64_t I, int64_t N);
/* values[i][n] to [n/16][stride][16], i < count */
void harness_put(float *to, const float *values, uint64_t count, int64_t n, uint64_t stride);
float harness_at(const float *from, uint64_t i, int64_t j, uint64_t stride);

/* Compiles the kernel, runs all tiles of the phase in random runs and random order. */
void harness_run(Harness *h, const PgKernel *kernel);

/* The group table of expert_indices[rows][k] (PG_BLOCK). */
void harness_groups(Harness *h, unsigned slot, const int32_t *expert_indices, uint32_t rows, int64_t E, int64_t k);
/* k distinct experts in rising order. */
void harness_experts(Harness *h, int32_t *expert_indices, int64_t E, int64_t k);

/* The order of a linear layer: one output of K inputs. */
float reference_dot(const float *w, const float *x, int64_t K);
void reference_norm(PgNormKind kind, const float *x, const float *w, const float *b, int64_t n, double eps, float *out);
float reference_act(PgActivation act, float x);

/* Fails the test with place and bits unless both are equal bit for bit (two NaNs are equal). */
void check_bits(const char *what, uint64_t i, uint64_t j, float got, float expected);

#endif
