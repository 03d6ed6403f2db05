/* A step made by hand for one kernel: buffers, operands, segments, expert indices; and what the kernel must have written, to the bit.
 *
 * A test builds a PgKernel, gives every operand its place (rig_place) and random content, runs the compiled kernel, and writes
 * the expected results with rig_expect: a copy of all memory is kept, the reference changes that copy, and rig_check compares.
 * Bytes that were given out as results (rig_result) count only where the reference wrote: the lanes past an operand's elements,
 * padding rows and padding positions are anything. All other memory must be as it was. */
#ifndef MOSSC_TESTS_CODEGEN2_RIG_H
#define MOSSC_TESTS_CODEGEN2_RIG_H

#include "codegen/target.h"
#include "ir/program.h"

typedef struct RigRandom {
    uint64_t state;
} RigRandom;

uint32_t rig_next(RigRandom *r);
int64_t rig_range(RigRandom *r, int64_t low, int64_t high); /* both included */
float rig_uniform(RigRandom *r, float low, float high);

enum { RIG_MAX_SEGMENTS = 8, RIG_MAX_ROWS = 64 };

typedef struct Rig {
    const CgTarget *target;
    RigRandom random;
    PgKernel kernel;
    PgPhase phase;
    RtArgs args;
    RtSegment segments[RIG_MAX_SEGMENTS];
    int32_t row_segment[RIG_MAX_ROWS], nonfinite[RIG_MAX_ROWS];
    int64_t row_position[RIG_MAX_ROWS];
    uint64_t rows, ld, ldp;
    uint8_t *memory[4], *expected[4], *results[4]; /* by PgSpace; states of all sequences lie behind each other */
    uint64_t used[4], state_bytes; /* a sequence's part is state_bytes */
    uint64_t slot_bytes[PG_MAX_OPERANDS], slot_offset[PG_MAX_OPERANDS];
    /* the routing of the step */
    int32_t expert_indices[RIG_MAX_ROWS * 16];
    float combine_weights[RIG_MAX_ROWS * 16];
    int32_t positions[RIG_MAX_ROWS * 16]; /* of (row, slot) */
    int32_t expert_of[4096], row_of[4096];
} Rig;

/* A step for this kernel: PG_ROW one row; PG_BLOCK a few segments of uneven length. */
void rig_open(Rig *rig, const CgTarget *target, const PgKernel *kernel, RigRandom random);
void rig_close(Rig *rig);
/* Gives an operand `bytes` (in PG_STATE: for each sequence) of random floats in [low, high]. */
void rig_place(Rig *rig, unsigned slot, PgSpace space, uint64_t bytes, float low, float high);
/* The operand is written: only what the reference writes of it counts. */
void rig_result(Rig *rig, unsigned slot);
/* Random expert indices and combine weights of kernel E and k, in these operands (group table only in PG_BLOCK). */
void rig_route(Rig *rig, unsigned experts_slot, unsigned combine_slot, unsigned groups_slot);
/* Bytes of a value with this layout: rows, planes, positions of O elements with N each. */
uint64_t rig_value_bytes(const Rig *rig, PgLayout layout, int64_t O, int64_t N);
/* Compiles and runs tiles [0, tiles) in runs of random length. */
void rig_run(Rig *rig, uint32_t tiles);
/* Fails the test if memory differs from what is expected. */
void rig_check(Rig *rig, const char *what);

/* Element i (n-th of N) of place `index` (row or position) in plane p of an operand, in the expected memory. */
float rig_get(const Rig *rig, unsigned slot, PgLayout layout, int64_t O, int64_t N, uint64_t p, uint64_t index, int64_t i,
              int64_t n);
void rig_expect(Rig *rig, unsigned slot, PgLayout layout, int64_t O, int64_t N, uint64_t p, uint64_t index, int64_t i, int64_t n,
                float v);
/* Float (or int) number `at` of an operand; `segment` matters for states. */
float rig_float(const Rig *rig, unsigned slot, uint64_t segment, uint64_t at);
void rig_set(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, float v);
void rig_set_int(Rig *rig, unsigned slot, uint64_t at, int32_t v);
/* The kernel must have written this there. */
void rig_expect_float(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, float v);
void rig_expect_int(Rig *rig, unsigned slot, uint64_t at, int32_t v);
/* Gives an operand random weight panels [planes][O/16][K] of a dtype, of absolute value below about 0.2. */
void rig_place_weights(Rig *rig, unsigned slot, IrDtype dtype, uint64_t planes, int64_t O, int64_t K);
/* Element k of lane o % 16 of panel o / 16 of expert e: weight panels of K inputs, any dtype. */
float rig_weight(const Rig *rig, unsigned slot, IrDtype dtype, int64_t O, int64_t K, uint64_t e, int64_t o, int64_t k);
/* For each case of each instruction set that this machine has: runs `test` with its own random numbers. */
void rig_each(int cases, uint64_t seed, void (*test)(const CgTarget *target, RigRandom random));
/* Place of (row, slot j) in positions. */
uint64_t rig_position(const Rig *rig, uint64_t row, uint64_t j);

#endif
