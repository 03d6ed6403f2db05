/* A step made by hand for one kernel: buffers, operands, segments, tokens, output rows, logits, expert indices; and what the kernel
 * must have written, to the bit.
 *
 * A test builds a PgKernel, gives every operand its place and content, runs the compiled kernel, and writes the expected results
 * with rig_expect: a copy of all memory is kept, the reference changes that copy, and rig_check compares. Bytes that were given out
 * as results (rig_result) count only where the reference wrote: the lanes past an operand's elements, padding rows and padding
 * positions are anything. All other memory must be as it was, a margin around every operand included. What nobody wrote is a NaN.
 *
 * A suite runs for one instruction set, which is its argument: avx512, avx2 or neon; or for one way to multiply bytes or bf16 (rig.c). */
#ifndef MOSSC_TESTS_CODEGEN_RIG_H
#define MOSSC_TESTS_CODEGEN_RIG_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "codegen/target.h"
#include "ir/program.h"
#include "tests/random/rng.h"

enum { RIG_MAX_SEGMENTS = 8, RIG_MAX_CHOSEN = 16, RIG_MAX_PAIRS = PG_MAX_ROWS * RIG_MAX_CHOSEN, RIG_SKIPPED = 77 };
/* Logits are no operand of a phase; here they have a number and a space like one. */
/* Floats: what an operand of rounded rows was rounded from. */
enum { RIG_LOGITS = PG_MAX_OPERANDS, RIG_FLOATS, RIG_SLOTS, RIG_SPACES = PG_STATE + 1 };

typedef struct RigMemory {
    uint8_t *now, *expected, *results; /* results: whether it must be unchanged, may be anything, or was written by the reference */
    uint64_t bytes, used; /* used: of a sequence's part in PG_STATE */
} RigMemory;

/* What weight panels hold: values[planes][O][K], which the dtype holds exactly. Of q8 and q4 also [planes][O][groups]: q of the 32 k,
 * d (times s), m times t. */
typedef struct RigWeights {
    float *values;
    int64_t O, K;
    int8_t (*q)[IR_GROUP];
    float *d, *m;
} RigWeights;

typedef struct Rig {
    Rng random;
    PgKernel kernel;
    const CgSchedule *schedule; /* NULL: the default */
    float tolerance; /* of what is written, of its size or of 1: where the order of sums is the processor's; 0: bits count */
    PgPhase phase;
    RtArgs args;
    RtSegment segments[RIG_MAX_SEGMENTS];
    int32_t tokens[PG_MAX_ROWS], row_segment[PG_MAX_ROWS], out_rows[PG_MAX_ROWS], nonfinite[PG_MAX_ROWS];
    int64_t row_position[PG_MAX_ROWS];
    uint64_t rows, ld, ldp;
    RigMemory memory[RIG_SPACES]; /* by PgSpace, logits at PG_NOWHERE; states of all sequences lie behind each other */
    uint64_t slot_bytes[RIG_SLOTS], slot_offset[RIG_SLOTS];
    RigWeights weights[RIG_SLOTS];
    /* The routing of the step. */
    int32_t expert_indices[RIG_MAX_PAIRS], positions[RIG_MAX_PAIRS]; /* of (row, slot) */
    float combine_weights[RIG_MAX_PAIRS];
} Rig;

/* ---------------------------------------------------------------------------------------------- suites */

/* Takes the instruction set from the arguments. false: this machine lacks it, and a line says so; end with RIG_SKIPPED. */
bool rig_begin(int argc, char **argv);
/* What main returns after that many failures: not 0 either when no case has run. */
int rig_end(int failed);
const CgTarget *rig_target(void);
/* Runs `test` that many times, each with random numbers of its own. */
void rig_each(int cases, uint64_t seed, void (*test)(Rng random));
/* The same where a test makes its cases itself: one has begun. */
void rig_count_case(void);

/* ---------------------------------------------------------------------------------------------- random numbers */

/* Uniform, but one in 64 is scaled down by up to 2^-29. */
float rig_uniform(Rng *random, float low, float high);
float *rig_floats(Rng *random, uint64_t n, float low, float high); /* malloced */

/* ---------------------------------------------------------------------------------------------- steps */

/* A step for this kernel: PG_ROW one row; PG_BLOCK a few segments of uneven length. The phase has one tile (PG_ONCE). */
void rig_open(Rig *rig, const PgKernel *kernel, Rng random);
/* The same with so many rows in one segment; `n_out_rows` of them, drawn at random, are output rows. */
void rig_open_rows(Rig *rig, const PgKernel *kernel, Rng random, uint32_t rows, uint32_t n_out_rows);
void rig_close(Rig *rig);

/* Gives an operand `bytes` (in PG_STATE: for each sequence), all of them NaN. */
void rig_reserve(Rig *rig, unsigned slot, PgSpace space, uint64_t bytes);
/* The same with random floats in [low, high]. */
void rig_place(Rig *rig, unsigned slot, PgSpace space, uint64_t bytes, float low, float high);
/* Values of O elements in the arena: those of rows, planes and positions of the step are random, others NaN. */
void rig_place_values(Rig *rig, unsigned slot, PgLayout layout, int64_t O, float low, float high);
/* Parameters [planes][I/16][N][16]. */
void rig_place_channels(Rig *rig, unsigned slot, uint64_t planes, int64_t I, int64_t N, float low, float high);
/* The same as rounded rows of K elements; the floats are operand RIG_FLOATS. */
void rig_place_rounded(Rig *rig, unsigned slot, PgLayout layout, int64_t K, float low, float high);
/* The same as rows of bf16. */
void rig_place_bf16(Rig *rig, unsigned slot, PgLayout layout, int64_t K, float low, float high);
/* Weight panels [planes][O/16] of K inputs, from values[planes][O][K], which are rounded to the dtype and then the rig's. Lanes past
 * O are random. */
void rig_place_panels(Rig *rig, unsigned slot, IrDtype dtype, uint64_t planes, int64_t O, int64_t K, float *values);
/* The same with random values of absolute value up to `most`; half of them have a random exponent, so that small ones occur. */
void rig_place_weights(Rig *rig, unsigned slot, IrDtype dtype, uint64_t planes, int64_t O, int64_t K, float most);
/* The same of q8 or q4 with random blocks (blocks.c). */
void rig_place_blocks(Rig *rig, unsigned slot, IrDtype dtype, uint64_t planes, int64_t O, int64_t K);
/* Room for logits of O elements a row, which are a result: operand RIG_LOGITS. */
void rig_place_logits(Rig *rig, int64_t O);
/* The operand lies where `other` does. */
void rig_alias(Rig *rig, unsigned slot, unsigned other);
/* The operand is written: only what the reference writes of it counts. */
void rig_result(Rig *rig, unsigned slot);
/* Random expert indices and combine weights of kernel E and k, in these operands (group table only in PG_BLOCK). */
void rig_route(Rig *rig, unsigned experts_slot, unsigned combine_slot, unsigned groups_slot);
/* Expert indices alone; rig_group makes the positions that belong to them and writes the table by `write`. */
void rig_choose(Rig *rig, unsigned experts_slot);
typedef void (*RigWriteInt)(Rig *rig, unsigned slot, uint64_t at, int32_t v);
uint64_t rig_group_bytes(const Rig *rig);
void rig_group(Rig *rig, unsigned groups_slot, RigWriteInt write);

/* Bytes of a value with this layout: rows, planes, positions of O elements with N each. */
uint64_t rig_value_bytes(const Rig *rig, PgLayout layout, int64_t O, int64_t N);
/* Parts of a row: planes, slots, or 1. */
uint64_t rig_parts(const Rig *rig, PgLayout layout);
/* Place of (row, slot j) in positions. */
uint64_t rig_position(const Rig *rig, uint64_t row, uint64_t j);
/* Plane and index of part j of a row. */
uint64_t rig_plane(PgLayout layout, uint64_t j);
uint64_t rig_index(const Rig *rig, PgLayout layout, uint64_t row, uint64_t j);

/* Compiles and runs all tiles of the phase in runs of random length, those of the second half first. */
void rig_run(Rig *rig);
/* Fails the test if memory differs from what is expected. */
void rig_check(Rig *rig, const char *what);

/* ---------------------------------------------------------------------------------------------- content */

/* Element i (n-th of N) of place `index` (row or position) in plane p of an operand, in the expected memory. */
float rig_get(const Rig *rig, unsigned slot, PgLayout layout, int64_t O, int64_t N, uint64_t p, uint64_t index, int64_t i,
              int64_t n);
void rig_expect(Rig *rig, unsigned slot, PgLayout layout, int64_t O, int64_t N, uint64_t p, uint64_t index, int64_t i, int64_t n,
                float v);
/* All O elements of a place. */
void rig_get_all(const Rig *rig, unsigned slot, PgLayout layout, int64_t O, uint64_t p, uint64_t index, float *out);
/* Float (or int) number `at` of an operand; `segment` matters for states. */
float rig_float(const Rig *rig, unsigned slot, uint64_t segment, uint64_t at);
void rig_set(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, float v);
void rig_set_int(Rig *rig, unsigned slot, uint64_t at, int32_t v);
/* Bytes from byte `at` of an operand on are these, for the kernel and for the reference. */
void rig_set_bytes(Rig *rig, unsigned slot, uint64_t at, const void *bytes, uint64_t n);
/* The kernel must have written these there. */
void rig_expect_bytes(Rig *rig, unsigned slot, uint64_t at, const void *bytes, uint64_t n);
/* What the kernel wrote there. */
int32_t rig_written_int(const Rig *rig, unsigned slot, uint64_t at);
/* The kernel must have written this there. */
void rig_expect_float(Rig *rig, unsigned slot, uint64_t segment, uint64_t at, float v);
void rig_expect_int(Rig *rig, unsigned slot, uint64_t at, int32_t v);
/* The K weights of output o of plane e, as the dtype holds them. */
const float *rig_weights(const Rig *rig, unsigned slot, uint64_t e, int64_t o);

/* Fails the test with place and bits unless both are equal bit for bit (two NaNs are equal). */
void check_bits(const char *what, uint64_t i, uint64_t j, float got, float expected);

#endif
