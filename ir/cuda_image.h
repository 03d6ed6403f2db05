/* What the code of a program for a GPU says about itself, so that the runtime can launch it: the global `mossc_image` of the module.
 * Agreed, like ir/program.h, between codegen/cuda/program.c, which writes it, and runtime/cuda/, which reads it. All of it are 32-bit
 * words, little endian. */
#ifndef MOSSC_IR_CUDA_IMAGE_H
#define MOSSC_IR_CUDA_IMAGE_H

#include <stdint.h>

enum {
    RT_CUDA_MAGIC = 0x63736f6d, /* "mosc" */
    RT_CUDA_FORMAT = 6,
    RT_CUDA_NAME = 16 /* bytes of an entry's name, the NUL included */
};

/* A launch of a step of many rows, in order: entry(step, phase) on min(blocks that fit the GPU, tiles) blocks, where
 * tiles = ceil(count of the phase / per_tile) · fixed + surplus, counted as pg_count counts (ir/program.h). */
typedef struct RtCudaLaunch {
    char entry[RT_CUDA_NAME]; /* "block_k7", or "block_k7_1": the second part of a phase that takes several launches */
    uint32_t phase; /* of PgProgram.steps[PG_BLOCK] */
    uint32_t shared; /* bytes of dynamic shared memory */
    uint32_t threads; /* of a block */
    uint32_t count, E, k; /* PgCount and what it takes */
    uint32_t per_tile, fixed, surplus;
} RtCudaLaunch;

typedef struct RtCudaImage {
    uint32_t magic, format, numerics;
    uint32_t spec_hash[4];
    uint32_t threads; /* of a block, in every launch that does not say its own */
    uint32_t few_rows; /* most rows that rows_step takes; larger steps are launches. 0: there is no rows_step */
    uint32_t few_list; /* of PgProgram.steps: whose phases rows_step takes */
    uint32_t row_shared, few_shared; /* bytes of dynamic shared memory of row_step and rows_step */
    /* RtArgs.scratch, in bytes: per_row · LD + per_segment · segments + fixed */
    uint32_t scratch_per_row, scratch_per_segment, scratch_fixed;
    uint32_t arena_per_row, arena_fixed; /* RtArgs.arena, bytes behind what the program takes (PG_BLOCK): per_row · LD + fixed */
    uint32_t n_launches;
    uint32_t
        n_arranged; /* weights that the entry "arrange_weights(weights)" changes between the host's form and its own; 0: no entry */
    uint32_t n_ropes; /* tables are filled by the device: the entry "fill_ropes(step)", before the launches */
} RtCudaImage; /* RtCudaLaunch[n_launches] follow */

_Static_assert(sizeof(RtCudaImage) == 20 * 4 && sizeof(RtCudaLaunch) == 52, "words without padding");

/* ---- what the persistent entries row_step(step, control) and rows_step(step, control) read and write. */

/* One sequence of a step whose tokens are picked on the device. */
typedef struct RtCudaPick {
    uint64_t random; /* MossSampler.state; moves on with every token that is fed */
    float temperature, top_p;
    int32_t top_k;
    uint32_t from; /* row of logits that the first token is picked from; later ones from the sequence's own row */
    uint32_t ended; /* out: eos came next (and was not fed) */
    uint32_t no_number; /* out: no logit is a number */
} RtCudaPick;

/* What a launch leaves in memory of the host when a block has waited too long at a barrier; the launch then fails. */
typedef struct RtCudaStuck {
    uint32_t set; /* 0: nothing below is */
    uint32_t block, blocks; /* who waited, of how many */
    uint32_t arrived; /* blocks that had arrived */
    uint32_t nth; /* barrier of the launch, from 1 */
    uint32_t phase; /* of the step's list, that was to come; UINT32_MAX: none, it stands between two steps */
} RtCudaStuck;

typedef struct RtCudaControl {
    uint32_t arrived; /* of the barrier; 0 between launches */
    uint32_t line[31]; /* nothing: `arrived` is alone in its 128 bytes */
    uint64_t stuck; /* RtCudaStuck in pinned memory of the host, which the device reaches under the same address; 0: none */
    uint32_t steps; /* how often the step is taken; more than 1 only with `picking` */
    uint32_t picking; /* tokens are picked from the logits before each step: RtCudaPick[n_segments], one row a segment */
    uint32_t done, pad2; /* out: steps taken: fewer than `steps` after a non-finite value, or when a sequence ended */
    int32_t eos[16]; /* ids that end a sequence; -1: none */
    uint32_t pad3;
    int32_t limit; /* ids from here on are not picked */
    uint64_t gaps; /* device pointer to bits, the lowest first, of ids that are not picked; 0: none */
    uint64_t picks; /* device pointer to RtCudaPick[n_segments] */
    uint64_t picked; /* device pointer to int32 [steps][n_segments]: tokens that were picked and fed */
    uint64_t random; /* device pointer to uint64 [n_segments]: room for the generators' next states */
} RtCudaControl;

_Static_assert(sizeof(RtCudaPick) == 32 && sizeof(RtCudaControl) == 256 && sizeof(RtCudaStuck) == 24,
               "as the printed text has them");

#endif
