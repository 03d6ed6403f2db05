/* What is behind MossModel and MossState; shared by model.c, state.c and step.c. */
#ifndef MOSSC_RUNTIME_MODEL_H
#define MOSSC_RUNTIME_MODEL_H

#include "runtime/memory.h"
#include "ir/program.h"
#include "mossc/moss.h"
#include "runtime/packed.h"
#include "runtime/workers.h"
#include "support/diag.h"
#include "support/digest.h"

/* The arguments of one worker, alone in their cache lines. */
typedef struct RtWorkerArgs {
    _Alignas(RT_CACHE_LINE) RtArgs args;
} RtWorkerArgs;

typedef struct RtRunning RtRunning;
/* At the end of a phase's stage, by one of the workers, while the others wait: what the phase read is still in the arena. */
typedef void RtAfterPhase(void *context, const RtRunning *running, const PgPhase *phase);

struct MossModel {
    const PgProgram *program; /* the caller's */
    MossDevice *device;       /* the caller's; NULL: the workers do the steps, and have what stands up to uses */
    PgCode *codes;            /* [n_kernels] */
    RtWorkers *workers;
    RtPages weights;          /* packed: memory of our own, or a mapped file */
    SuDigest identity;        /* of the weights; read it with rt_model_identity */
    bool has_identity;
    RtPages arena;            /* of a step: for one row from the start, grown by the first larger step */
    RtPages scratch;          /* [workers][scratch_stride] */
    RtPages logits;           /* [n_out_rows][out_stride]: for one row from the start, grown likewise */
    float *into;              /* during moss_step_into: where logits go; else NULL */
    uint64_t scratch_stride;
    RtWorkerArgs *args;       /* [workers] */
    RtShare *shares;          /* [most phases of a stage][workers] */
    uint32_t uses;            /* of theirs, so far */
    double **rope_rates;      /* [n_ropes][dim/2]: radians a position */
    uint64_t step_number;     /* of the step being checked or run; states carry the number of their last one */
    uint32_t n_out_rows;          /* rows of logits of the last step */
    uint64_t logits_step;     /* step_number of that step; 0: it failed */
    MossPhaseTime *profile[PG_MODES];
    MossNonFinite *watch;     /* of moss_find_non_finite; else NULL */
    RtAfterPhase *after_phase; /* told of each phase of a step, unless it is NULL; not of a device's */
    void *after_phase_context; /* one asks at a time: a calibration, or hidden.c */
    bool keeps_hidden;
    uint32_t hidden_rows; /* of the last step; 0: none are kept */
    RtPages hidden;       /* [blocks + 1][hidden_rows][d_model] floats */
    /* of a step, [max_rows] each */
    RtSegment *segments;
    int32_t *tokens, *row_segment, *out_rows, *nonfinite;
    int64_t *row_position;
    SuArena memory; /* owns all arrays above but args and shares */
};

/* [state_bytes], 64-aligned, zero at first: on the model's device, or here: in `pages` when large, else malloced. */
typedef struct RtStateMemory {
    uint64_t address; /* on the device; 0: it is here */
    uint8_t *data;
    RtPages pages;
    bool borrowed; /* the caller's */
} RtStateMemory;

typedef struct RtStateCheckpoint RtStateCheckpoint; /* state_checkpoint.c */

/* Where a sampler stands, as a state carries it. */
typedef struct RtRandom {
    bool is_set;
    uint64_t seed, state;
} RtRandom;

struct MossState {
    MossModel *model;
    RtStateMemory memory;
    int64_t position;
    uint64_t in_step;     /* step_number of its last step: finds a state that is twice in one */
    bool spoilt;          /* by a non-finite value: refused until reset */
    RtRandom random;      /* moss_state_set_random */
    bool has_logits;      /* `logits` are those after the last token */
    float *logits;        /* [vocab_size] of a state that was loaded or copied; malloced when first needed, or NULL */
    uint64_t logits_step; /* else they are row logits_row of the model's, as long as this was its last step; 0: none */
    uint32_t logits_row;
    RtStateCheckpoint *checkpoint;         /* NULL until the first moss_state_checkpoint */
};

/* ---- step.c: what moss_step consists of */

/* A step; read-only while workers run it, but for the claims. */
struct RtRunning {
    MossModel *model;
    const PgStep *step;
    MossPhaseTime *times; /* [workers][n_phases] when profiling */
    PgMode mode;
    uint32_t rows, n_segments, n_out_rows;
    uint64_t ld;
};

/* Checks the segments and describes them in the model's tables. On an error nothing has changed. */
MossError rt_step_begin(MossModel *model, const MossSegment *segments, uint32_t n_segments, RtRunning *out_running);
/* Looks for non-finite values and moves the states on; `error` is what running the step gave. */
MossError rt_step_end(const RtRunning *running, const MossSegment *segments, MossError error);

/* ---- state_checkpoint.c: what was fed; nothing without a checkpoint. */
void rt_state_checkpoint_note(MossState *state, const int32_t *tokens, uint32_t count);
void rt_state_checkpoint_forget(MossState *state);
void rt_state_checkpoint_free(MossState *state);
/* ---- state_memory.c */
MossError rt_state_memory_make(const MossModel *model, RtStateMemory *memory);
void rt_state_memory_free(const MossModel *model, RtStateMemory *memory);
MossError rt_state_memory_clear(const MossModel *model, const RtStateMemory *memory);
MossError rt_state_memory_copy(const MossModel *model, const RtStateMemory *to, const RtStateMemory *from);
/* out_here->data is the state in this process: the state itself, or a copy. rt_state_memory_back takes it back, changed, and
 * rt_state_memory_free as it was. */
MossError rt_state_memory_here(const MossModel *model, const RtStateMemory *memory, RtStateMemory *out_here);
MossError rt_state_memory_back(const MossModel *model, const RtStateMemory *memory, RtStateMemory *here);

/* ---- hidden.c: bytes of what a step of so many rows keeps; 0: nothing. */
uint64_t rt_hidden_bytes(const MossModel *model, uint32_t rows);

/* Looks at what a phase of a watched step left; false: something is not finite, and is noted. */
bool rt_watch_phase(MossModel *model, const PgPhase *phase, int64_t position);

void rt_state_forget_logits(MossState *state);
/* Keeps a copy of logits[vocab_size] (any alignment) as those after the last token; NULL: there are none. false: no memory. */
bool rt_state_keep_logits(MossState *state, const void *logits);

/* An error made of all diagnostics (as many lines as fit), or of one message; success when `code` is MOSS_OK. */
MossError rt_error(MossCode code, const char *format, ...) __attribute__((format(printf, 2, 3)));
MossError rt_error_from(MossCode code, const SuDiags *diags);
/* What ended a guard (support/alloc.h): MOSS_NO_MEMORY or MOSS_BUG. */
MossError rt_failure(const SuFailure *failure);

/* The workers that options ask for. NULL: no memory. */
RtWorkers *rt_model_workers(const MossOptions *options);
/* Options whose first member is their size: out[known] gets what the caller's version of them has; the rest, and all of it for NULL, is
 * zero. `name` is the type's. MOSS_BAD_INPUT: of no version that this one understands. */
MossError rt_take_sized(const char *name, const void *given, void *out, size_t known);
MossError rt_take_options(const MossOptions *given, MossOptions *out_options);
/* From the next step on the model runs these kernels of its program (compiled another way); codes[n_kernels] is copied. false: no memory. */
bool rt_model_use_codes(MossModel *model, const PgCode *codes);
/* A model without weights. */
MossError rt_model_make(const PgProgram *program, const PgCode *codes, const MossOptions *options, MossModel **out_model);
/* A model of a packed file, whose mapping it takes; it is closed on failure. */
MossError rt_model_of_packed(const PgProgram *program, const PgCode *codes, RtPacked *packed, const char *path,
                             const MossOptions *options, MossModel **out_model);
/* Gives it its weights, which it frees; a device gets a copy, of which progress (may be NULL) is told. */
MossError rt_model_take(MossModel *model, RtPages weights, MossProgress progress, void *progress_context);
/* MOSS_DEVICE in the child of a fork of a process whose device it is. */
MossError rt_model_after_fork(const MossModel *model);
MossError rt_no_model(const PgProgram *program);

/* The identity of the model's weights: what a packed file states, or computed when first asked for. */
MossError rt_model_identity(MossModel *model, const SuDigest **out_identity);

/* Bytes of the arena of a step. */
uint64_t rt_arena_bytes(const PgProgram *program, PgMode mode, uint64_t rows);

#endif
