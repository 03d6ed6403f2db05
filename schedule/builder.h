/* The program in the making: what phases.c writes, stages.c orders, plan.c places and program.c turns into constant data.
 *
 * Phases name the values they touch by buffer; offsets come last, when live ranges are known. One ScBuilder serves all lists
 * in turn; kernels, weights and states are common to them. */
#ifndef MOSSC_SCHEDULE_BUILDER_H
#define MOSSC_SCHEDULE_BUILDER_H

#include "passes/graph_tools.h"
#include "schedule/layout.h"
#include "schedule/schedule.h"

/* Memory of the arena with a life: from the stage that writes it to the last stage that reads it. */
typedef struct ScBuffer {
    ScBytes bytes, offset;
    const char *name;
    uint32_t first, last; /* stages, inclusive */
    int32_t writer;       /* phase; -1: written before the step (rope tables) */
} ScBuffer;

/* An operand before buffers have offsets. */
typedef struct ScOperand {
    PgSpace space;
    int32_t buffer;  /* PG_ARENA */
    uint64_t offset, per_row; /* PG_WEIGHTS, PG_STATE; PG_ARENA: bytes into the buffer, offset + per_row · LD */
} ScOperand;

enum { SC_MAX_TOUCHED = 20, SC_MOST_JOINED = 4 /* linear layers of one phase, and states of one */ };

typedef struct ScPhase {
    PgPhase pg;
    PgKernel kernel;
    ScOperand operands[PG_MAX_OPERANDS];
    int32_t reads[SC_MAX_TOUCHED], states[SC_MOST_JOINED]; /* buffers read; states read or written */
    int n_reads, n_states;
} ScPhase;

typedef struct ScWeight {
    PgWeight pg;
    IrValueId value;
    double active; /* fraction of it that one decoded token reads */
} ScWeight;

/* A norm or convolution that others compute in a one-row step; a norm that makes only the rows whose logits are asked for; a norm or
 * convolution that others compute in a step of few rows. */
enum { SC_NO_ROW_PHASE = 1, SC_OUTPUT_ROWS = 2, SC_NO_FEW_PHASE = 4 };

/* Buffers of PG_FEW in place of a norm's result: x times the norm's weight, and x's sums of squares. */
typedef struct ScLeft {
    int32_t scaled, squares;
} ScLeft;

typedef struct ScBuilder {
    const IrGraph *g;
    const PsOptions *options;
    SuArena *arena;  /* of the program */
    SuArena scratch;
    ScLayout *layouts;      /* [values] */
    uint8_t *fused;         /* [values] SC_…: what regions say about results of others */
    PgMode mode;
    bool few;               /* the list at hand is PG_FEW; mode is PG_BLOCK then */
    int32_t *buffer_of;     /* [values], -1 none; of the mode */
    ScBytes *buffer_start;  /* [values] where it begins in its buffer */
    uint32_t *hidden;       /* [values] PgPhase.hidden of whatever writes it */
    IrValueId *norm_behind; /* [values] PG_FEW: the norm that whoever makes the value prepares; IR_NONE */
    ScLeft *left;           /* [values] of norms that are prepared so */
    bool *joined;           /* [regions] whose linear layer another one's phase makes; of the mode */
    int32_t *groups_of;     /* [values] of expert indices: buffer of the group table, -1 none (PG_BLOCK) */
    int32_t *rounded_of[2]; /* [bf16][values] buffer of the value's rows rounded to 8 bits, or to bf16; -1 none (PG_BLOCK) */
    ScBuffer *buffers;
    size_t n_buffers, buffers_capacity;
    ScPhase *phases;
    size_t n_phases, phases_capacity;
    /* common to both modes */
    PgTensor *tensors;
    size_t n_tensors;
    uint32_t *tensor_of;    /* [values] of weights: index into tensors */
    ScWeight *weights;
    size_t n_weights, weights_capacity;
    bool packing_in_line;   /* what is packed now follows what was packed last, without a gap */
    int32_t *weight_of[3];  /* [PgPack][values]: index into weights, -1 */
    uint64_t *state_offset; /* [values] */
    PgState *states;
    size_t n_states;
    uint64_t state_bytes;
    PgKernel *kernels;
    size_t n_kernels, kernels_capacity;
    PgRope *ropes;
    size_t n_ropes, ropes_capacity;
    int32_t *rope_buffers;  /* [n_ropes] of the mode, -1 none yet */
    size_t rope_buffers_capacity;
} ScBuilder;

/* A phase of the mode at hand, by index: making another one may move them all. */
typedef uint32_t ScPhaseId;
/* Holds until the next phase is made. */
static inline ScPhase *sc_phase(const ScBuilder *b, ScPhaseId id) { return &b->phases[id]; }

/* weights.c: tensors of the checkpoint, their packed forms, states. */
void sc_collect_tensors(ScBuilder *b);
bool sc_collect_states(ScBuilder *b, SuDiags *diags); /* false: too large */
/* The packed form `pack` of a weight value, made on first use. active: fraction that one decoded token reads. */
const ScWeight *sc_packed(ScBuilder *b, IrValueId value, PgPack pack, double active);
/* The same with the pack, planes, O and K of `shape`. */
const ScWeight *sc_packed_as(ScBuilder *b, IrValueId value, const PgWeight *shape, double active);

/* Whether, in the list at hand, others compute the value. */
static inline bool sc_is_folded(const ScBuilder *b, IrValueId value) {
    int flag = b->mode == PG_ROW ? SC_NO_ROW_PHASE : b->few ? SC_NO_FEW_PHASE : 0;
    return value != IR_NONE && (b->fused[value] & flag) != 0;
}

/* phases.c: all phases of b->mode, in graph order. */
void sc_make_phases(ScBuilder *b);

/* stages.c: the stage of every phase, and phases in order of it. */
void sc_assign_stages(ScBuilder *b);

/* plan.c: offsets of all buffers; returns the bytes of the arena. */
ScBytes sc_plan(ScBuilder *b);
PsStageBytes *sc_live(const ScBuilder *b); /* PsOptions.live of the mode at hand; needs stages */

#endif
