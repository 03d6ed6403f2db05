/* The program: a compiled model as constant data, agreed between schedule/ (which writes it), codegen/ (which makes its
 * kernels) and runtime/ (which runs it). Nothing in it depends on a device; nothing in it points into a graph.
 *
 * A *step* takes n rows (tokens) in s segments (runs of rows of one sequence). There are two *modes*, each with its own list of
 * phases: PG_ROW for exactly one row, PG_BLOCK for any number of rows up to max_rows. A third list, PG_FEW, is made for targets that
 * take a few rows in one launch (PsOptions.few, ir/few.h): it has the layouts of PG_BLOCK, and fewer stages, since its tiles have all rows. A *phase* runs one kernel over a number
 * of tiles, which workers claim in runs; phases of one *stage* do not depend on each other, between stages all workers wait at a barrier.
 *
 * Layouts. Sixteen is a constant of the language (docs/design.md, Layouts). LD is the row stride of a step: 1 in PG_ROW; in
 * PG_BLOCK the smallest 8·odd that holds the rows (never a power of two, so that panels do not share cache sets). LDP is the
 * stride of routed positions: k in PG_ROW; k·LD + 8·E' in PG_BLOCK, with E' = E if k + E is odd, else E + 1.
 *
 *   rows       value [R,O]        f32 [O/16][LD][16]           lanes past O are zero, or finite and ignored
 *   planes     value [R,E,O]      f32 [E][O/16][LD][16]
 *   positions  value [R,k,O]      f32 [O/16][LDP][16]          a position is a (row, slot) pair: in PG_ROW position = slot; in
 *                                                              PG_BLOCK sorted by expert, found through the group table
 *   rounded    rows, planes or positions of K elements for a linear layer that rounds its input (PG_BLOCK): a plane's rows as
 *              i8 [G][LD][32], G = ceil(K/32), elements past K zero; then f32 [G][LD] scales; then f32 [G][LD] sums of the 32.
 *              A plane takes pg_rounded_bytes(K) · LD bytes. Where it rounds to bf16 (PgKernel.bf16_x): bf16 [G][LD][32],
 *              pg_bf16_bytes(K) · LD bytes
 *   channels   value [R,(P),I,N]  f32 [P][I/16][LD][N][16]     only without scan fusion; positions: [I/16][LDP][N][16]
 *   experts    i32 [LD][k] expert indices in rising order; combine weights f32 [LD][k]
 *   group table (PG_BLOCK) i32: start[E+1] (multiples of 8; start[E] = positions in use), expert_of[LDP/8] (of 8 positions),
 *              row_of[LDP] (padding positions hold row 0 of the step), pos_of[LD*k]
 *   weights    panels  [E][O/16] of ir_panel_bytes: [K][16] f32, or [ceil(K/2)][16][2] bf16, f16 (an odd last k has a zero
 *              partner that is stored but never multiplied), or the groups of q8 and q4 (ir/dtype.def); lanes [E][O/16][16] f32; channels [E][I/16][N][16] f32 (A, conv)
 *   states     conv history [I/16][W-1][16] oldest first; scan state [E][I/16][N][16] (E = 1 without experts);
 *              k cache [Hkv][cap/16][hd][16 positions], v cache [Hkv][cap][hd rounded up to 16]; position p lies at slot p % cap
 */
#ifndef MOSSC_IR_PROGRAM_H
#define MOSSC_IR_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ir/activation.h"
#include "ir/dtype.h"
#include "ir/epilogue.h"
#include "ir/quant.h"
#include "support/limits.h"

enum {
    PG_LANES = 16,      /* rows of a weight panel, channels of an activation panel */
    PG_SEGMENT_K = 256, /* a linear layer sums K in segments of this many (the bits) */
    PG_ROW_BLOCK = 8,   /* rows that tile counts are made of; kernels may split it further */
    PG_MAX_ROWS = SU_LIMIT(512, 16), /* most rows of a step on a CPU */
    PG_KEY_BLOCK = 256, /* attention merges keys in blocks of this many absolute positions (the bits) */
    PG_KEY_RUNS = 16,   /* most parts of one row's attention to a key/value head, each of one or more blocks of keys, on a CPU */
    PG_NUMERICS = 2     /* version of the bits: written into states and packed weights */
};

typedef enum PgMode { PG_ROW, PG_BLOCK, PG_MODES } PgMode;
/* Lists of phases: one of each mode, and one of PG_BLOCK's kernels for a step of few rows. */
enum { PG_FEW = PG_MODES, PG_LISTS };
static inline PgMode pg_mode_of(int list) { return list == PG_ROW ? PG_ROW : PG_BLOCK; }

/* ---------------------------------------------------------------------------------------------- kernels */

typedef enum PgKind {
#define PG_KERNEL(NAME, name) PG_##NAME,
#include "ir/kernel_kinds.def"
    PG_KIND_COUNT
} PgKind;

const char *pg_kind_word(PgKind kind); /* "kv_store" */

typedef enum PgNormKind { PG_NO_NORM, PG_RMS, PG_LAYER } PgNormKind;
typedef enum PgLayout {
#define PG_LAYOUT_ROW(NAME, word) PG_##NAME,
#include "ir/words.def"
} PgLayout;

/* Which weights a linear layer multiplies with. */
typedef enum PgSelect {
#define PG_SELECT_ROW(NAME, word, printed) PG_##NAME,
#include "ir/words.def"
} PgSelect;

/* Sum over experts after the linear layer (or in PG_COMBINE). */
typedef enum PgSum {
    PG_NO_SUM,
    PG_WEIGHTED_SUM, /* acc = fma(g_j, y_j, acc) from +0 over the chosen, rising */
    PG_PLANE_SUM  /* y_0 + y_1 + … over all planes */
} PgSum;

typedef enum PgElementwise {
    PG_EW_UNARY, /* PgKernel.act */
    PG_EW_SCALE,
    PG_EW_CLAMP, /* PgKernel.low, high (infinite as a float: none) */
#define IR_BINARY(name, NAME, flops, value) PG_EW_##NAME,
#include "ir/binary.def"
    PG_EW_ADD_PARAM,
    PG_EW_MUL_PARAM
} PgElementwise;

static inline bool pg_ew_is_binary(PgElementwise ew) { return ew > PG_EW_CLAMP && ew < PG_EW_ADD_PARAM; }
static inline bool pg_ew_has_parameter(PgElementwise ew) { return ew == PG_EW_ADD_PARAM || ew == PG_EW_MUL_PARAM; }

/* How the experts enter a scan. */
typedef enum PgScanExperts {
#define PG_SCAN_ROW(NAME, word) PG_SCAN_##NAME,
#include "ir/words.def"
} PgScanExperts;

/* The description of a kernel: two phases with equal descriptions share one function. Kernels of PG_ROW handle exactly one row (or
 * k positions). */
typedef struct PgKernel {
#define PG_FIELD(type, name) type name;
#include "ir/kernel_fields.def"
} PgKernel;

/* Whether the experts of a scan have a state each; else there is one. */
static inline bool pg_experts_have_states(const PgKernel *k) { return k->scan == PG_SCAN_HOLD || k->scan == PG_SCAN_UPDATE; }

/* The sum over experts in its epilogue. */
static inline PgSum pg_sum(const PgKernel *k) {
    for (const PgEpilogueStep *s = k->epilogue.steps; s->kind != PG_NO_STEP; s++)
        if (pg_step_sums(s)) return s->kind == PG_STEP_WEIGHTED_SUM ? PG_WEIGHTED_SUM : PG_PLANE_SUM;
    return PG_NO_SUM;
}
static inline bool pg_does(const PgKernel *k, PgStepKind kind) { return pg_epilogue_find(&k->epilogue, kind) != 0; }

/* Ranks of a trapezoid or turn: planes of B and C. */
static inline int64_t pg_ranks(const PgKernel *k) { return k->dbc_layout == PG_PLANES ? k->E : 1; }

/* Field by field: what lies in padding does not count. */
bool pg_kernel_equal(const PgKernel *a, const PgKernel *b);

/* Operand slots of each kind (indices into PgPhase.operands). Unused ones are PG_NOWHERE. */
enum { PG_EMBED_W, PG_EMBED_Y, PG_EMBED_NORM_W, PG_EMBED_SQUARES, PG_EMBED_SCALED };
enum { PG_NORM_X, PG_NORM_W, PG_NORM_B, PG_NORM_Y };
enum { PG_ROUND_X, PG_ROUND_Y };
enum {
    PG_LINEAR_X, /* in PG_BLOCK, with `rounds` or `bf16_x`: rounded */
    PG_LINEAR_W, /* in PG_ROW, like all but X and norm: perhaps several, one behind the other (pg_operand_weights) */
    PG_LINEAR_W2,
    PG_LINEAR_BIAS,
    PG_LINEAR_BIAS2,
    PG_LINEAR_NORM_W, /* with norm_behind, that norm's */
    PG_LINEAR_NORM_B,
    PG_LINEAR_ADDEND,
    PG_LINEAR_RESIDUAL,
    PG_LINEAR_EXPERTS,
    PG_LINEAR_COMBINE_W,
    PG_LINEAR_GROUPS,
    PG_LINEAR_CONV_W,
    PG_LINEAR_CONV_B,
    PG_LINEAR_HISTORY,
    PG_LINEAR_Y,
    PG_LINEAR_SQUARES, /* in PG_BLOCK: read with norm, written with norm_behind */
    PG_LINEAR_SCALED
};
enum {
    PG_ROUTE_X,
    PG_ROUTE_W,
    PG_ROUTE_BIAS,
    PG_ROUTE_SELECT_BIAS,
    PG_ROUTE_NORM_W,
    PG_ROUTE_NORM_B,
    PG_ROUTE_EXPERTS,
    PG_ROUTE_COMBINE_W
};
enum { PG_GROUP_EXPERTS, PG_GROUP_GROUPS };
enum {
    PG_COMBINE_X,
    PG_COMBINE_EXPERTS,
    PG_COMBINE_COMBINE_W,
    PG_COMBINE_GROUPS,
    PG_COMBINE_ADDEND,
    PG_COMBINE_RESIDUAL,
    PG_COMBINE_Y,
    PG_COMBINE_NORM_W,
    PG_COMBINE_SQUARES,
    PG_COMBINE_SCALED
};
enum { PG_CONV_X, PG_CONV_W, PG_CONV_BIAS, PG_CONV_HISTORY, PG_CONV_EXPERTS, PG_CONV_COMBINE_W, PG_CONV_Y };
enum {
    PG_SCAN_DELTA,
    PG_SCAN_B,
    PG_SCAN_C,
    PG_SCAN_X,
    PG_SCAN_Z,
    PG_SCAN_DT_W,
    PG_SCAN_DT_B,
    PG_SCAN_A,
    PG_SCAN_D,
    PG_SCAN_STATE,
    PG_SCAN_EXPERTS,
    PG_SCAN_COMBINE_W,
    PG_SCAN_GROUPS,
    PG_SCAN_Y
};
enum {
    PG_HEADS_DELTA,
    PG_HEADS_B,
    PG_HEADS_C,
    PG_HEADS_X,
    PG_HEADS_Z,
    PG_HEADS_A,
    PG_HEADS_D,
    PG_HEADS_STATE,
    PG_HEADS_EXPERTS,
    PG_HEADS_COMBINE_W,
    PG_HEADS_GROUPS,
    PG_HEADS_Y
};
enum {
    PG_TRAPEZOID_DELTA,
    PG_TRAPEZOID_A,
    PG_TRAPEZOID_TRAP,
    PG_TRAPEZOID_B,
    PG_TRAPEZOID_B_LAST,
    PG_TRAPEZOID_C,
    PG_TRAPEZOID_X,
    PG_TRAPEZOID_Z,
    PG_TRAPEZOID_D,
    PG_TRAPEZOID_MIMO_X,
    PG_TRAPEZOID_MIMO_Z,
    PG_TRAPEZOID_MIMO_O,
    PG_TRAPEZOID_HISTORY,
    PG_TRAPEZOID_STATE,
    PG_TRAPEZOID_Y
}; /* B, C: k and q, of every head; HISTORY: x of the row before */
enum {
    PG_TURN_X,
    PG_TURN_DELTA,
    PG_TURN_THETA,
    PG_TURN_NORM_B,
    PG_TURN_NORM_C,
    PG_TURN_BIAS_B,
    PG_TURN_BIAS_C,
    PG_TURN_ANGLE,
    PG_TURN_HISTORY,
    PG_TURN_B,
    PG_TURN_B_LAST,
    PG_TURN_C
}; /* X: B and C of all ranks and groups; ANGLE, HISTORY: the angles, B of the row before */
enum {
    PG_KV_Q,
    PG_KV_K,
    PG_KV_V,
    PG_KV_K_CACHE,
    PG_KV_V_CACHE,
    PG_KV_Y,
    PG_KV_TABLE,
    PG_KV_DONE
}; /* with rope: Y q after it, TABLE PgRope.table; PG_ROW: DONE 0 for each key/value head, for ATTEND to count in */
enum {
    PG_ATTEND_Q,
    PG_ATTEND_K_CACHE,
    PG_ATTEND_V_CACHE,
    PG_ATTEND_Y,
    PG_ATTEND_DONE,
    PG_ATTEND_PARTS
}; /* PG_ROW: i32 DONE[kv_heads] runs of key blocks that are attended to; PARTS what each block gives, laid out as the back end likes */
/* Unfused operations: X and Z are their x operands in the order of ops.def, W the weight, then: */
enum { PG_OP_X, PG_OP_Z, PG_OP_W, PG_OP_EXPERTS, PG_OP_COMBINE_W, PG_OP_GROUPS, PG_OP_STATE, PG_OP_Y };

enum { PG_MAX_OPERANDS = 18, PG_NO_SLOT = -1 };

/* With norm_behind: where a kernel has that norm's weight and what it leaves for it. Other kinds have none (PG_NO_SLOT). */
typedef struct PgNormSlots {
    int norm_w, squares, scaled;
} PgNormSlots;

static inline PgNormSlots pg_norm_slots(PgKind kind) {
    if (kind == PG_EMBED) return (PgNormSlots){PG_EMBED_NORM_W, PG_EMBED_SQUARES, PG_EMBED_SCALED};
    if (kind == PG_LINEAR) return (PgNormSlots){PG_LINEAR_NORM_W, PG_LINEAR_SQUARES, PG_LINEAR_SCALED};
    if (kind == PG_COMBINE) return (PgNormSlots){PG_COMBINE_NORM_W, PG_COMBINE_SQUARES, PG_COMBINE_SCALED};
    return (PgNormSlots){PG_NO_SLOT, PG_NO_SLOT, PG_NO_SLOT};
}

/* ---------------------------------------------------------------------------------------------- phases */

typedef enum PgSpace {
#define PG_SPACE_ROW(NAME, word) PG_##NAME,
#include "ir/words.def"
} PgSpace;

/* Where an operand lies: byte offset per_row * LD + fixed into the arena of the step, the packed weights, or the state of the
 * sequence (the segment's). Both are multiples of 64; per_row is 0 but in the arena in PG_BLOCK. */
typedef struct PgRef {
    uint64_t space; /* PgSpace */
    uint64_t per_row, fixed;
} PgRef;

/* What the tile count grows with (pg_tiles). */
typedef enum PgCount {
#define PG_COUNT_ROW(NAME, word) PG_##NAME,
#include "ir/words.def"
} PgCount;

/* Tiles of a phase: pg_tiles() below = count · fixed · PgCode.groups. For linear layers `fixed` is the number of planes of y (positions, in
 * PG_ROW, when y is positions; 1 when y is rows, also after a sum), and groups is the number of panel groups: ceil(panels of O /
 * panels that the target walks side by side). For every other kind but ATTEND groups is 1 and `fixed` counts what stands beside the kind.
 * Tile numbering: PG_LINEAR: the kernel's own; neighbours share weights. In PG_BLOCK a tile of it may take several blocks of 8 rows;
 * surplus tiles then return at once. EMBED, NORM, COMBINE, like the unfused operations below: one
 * tile is the row with all its planes or positions (PG_ROW), or a block of 8 rows, output rows or positions; ROUND too. ROUTE: tile = row.
 * (panel, segment): tile = segment * panels + panel (CONV, SCAN, RECUR). KV_STORE: tile = row.
 * ATTEND: (row, key/value head): tile = row * kv_heads + head; groups parts that tile, by query heads or by runs of keys.
 * The other unfused operations: one tile in PG_ROW (PG_ONCE, fixed 1); in PG_BLOCK tile = block of 8 rows with all its panels and
 * planes (PG_PER_ROW_BLOCK, fixed 1), or of 8 positions when y is positions (PG_PER_POSITION_BLOCK, fixed 1).
 * SELECT and GATES write the operands ROUTES and GATES; MIX reads W, ROUTES, GATES; RECUR reads a in X, b in Z. A kernel whose y is
 * positions needs GROUPS in PG_BLOCK and ROUTES in PG_ROW. Sizes: SOFTMAX, SELECT, GATES: E scores a row; MIX, OUTER, INJECT, RECUR,
 * CONTRACT: O = I channels of N (N is 1 or more); elementwise: N = 0 or 1 but for channels; SLICE: K, start, O. Planes number E. */
typedef struct PgPhase {
    uint32_t kernel; /* index into PgProgram.kernels */
    uint32_t stage; /* rising from 0; a change means that all workers wait at a barrier */
    uint32_t count; /* PgCount */
    uint32_t fixed; /* linear layers: planes or positions of y (see above), else tiles per count */
    uint32_t E, k; /* PG_PER_POSITION_BLOCK */
    int32_t block; /* of the spec; -1 outside: for messages about a row's non-finite value */
    uint32_t line; /* of the spec */
    uint32_t hidden; /* 1 + i: it writes the residual stream before block i of the spec, or after the last; 0: it does not */
    uint32_t hidden_slot; /* the operand that is it: rows of d_model */
    const char *name;
    PgRef operands[PG_MAX_OPERANDS];
} PgPhase;

typedef struct PgStep {
    const PgPhase *phases;
    uint32_t n_phases, n_stages;
    uint64_t arena_per_row, arena_fixed; /* bytes of arena: per_row * LD + fixed */
} PgStep;

/* ---------------------------------------------------------------------------------------------- weights and states */

/* A tensor that a checkpoint must hold. */
typedef struct PgTensor {
    const char *name;
    int32_t rank;
    uint32_t dtype; /* IrDtype: its values are rounded to it */
    int64_t shape[4];
} PgTensor;

typedef enum PgPack { PG_PANELS, PG_VECTOR, PG_CHANNELS } PgPack;

/* One packed form of a tensor (a tensor may have several). `planes` is E or shared or 1. */
typedef struct PgWeight {
    uint32_t tensor; /* index into PgProgram.tensors */
    uint32_t pack; /* PgPack */
    uint32_t dtype; /* IrDtype; IR_F32 but for panels */
    uint32_t negexp; /* elements become -exp(x) */
    int64_t planes, O, K; /* panels: [planes,O,K]; vector: [planes,O], K = 1; channels: [planes,O=I,K=N or W] */
    int64_t first, rows; /* the O are elements first, first + 1 … of the tensor's `rows` in each plane; rows 0: O, all of them */
    int64_t times; /* each of them stands this often, one behind the other; 0: once */
    int64_t run; /* the tensor is [O/run][planes][run]: planes lie within runs of a plane's elements; 0: it is [planes][rows] */
    uint64_t offset, bytes; /* in the packed blob; offset a multiple of 4096 for panels, of 64 else and right behind panels */
} PgWeight;

/* Bytes that a packed form takes. */
uint64_t pg_weight_bytes(const PgWeight *weight);
/* Rows of its tensor in each plane; the row that output `o` of a plane is packed from. */
static inline int64_t pg_weight_rows(const PgWeight *w) { return w->rows > 0 ? w->rows : w->O; }
static inline uint64_t pg_weight_row(const PgWeight *w, uint64_t plane, uint64_t o) {
    const uint64_t run = (uint64_t)w->run;
    if (run > 0) return (o / run * (uint64_t)w->planes + plane) * run + o % run;
    return plane * (uint64_t)pg_weight_rows(w) + (uint64_t)w->first + o / (uint64_t)(w->times > 0 ? w->times : 1);
}

/* One state of a sequence: a part of its block of memory. */
typedef struct PgState {
    const char *name; /* "blocks.3.ssm" */
    uint64_t offset, bytes;
} PgState;

/* cos and sin for rope: the runtime fills, before a step, f32 [LD][dim/2][2] at `table` in the arena (cos, then sin). */
typedef struct PgRope {
    double theta;
    int64_t dim;
    double factor, low, high; /* ir/rope.h */
    int64_t original;
    PgRef table[PG_LISTS];
} PgRope;

/* Whether two share a table. */
bool pg_same_angles(const PgRope *a, const PgRope *b);
/* Of a row of its table, padding included. */
uint64_t pg_rope_bytes(const PgRope *rope);

typedef struct PgProgram {
    const char *name;
    uint8_t spec_hash[16];
    int64_t vocab_size, d_model;
    int64_t max_positions; /* 0: no bound (no attention without a window) */
    int64_t max_rows; /* of a step: PG_MAX_ROWS (or what the target asked for), less when the arena would be larger than 1 GiB */
    uint64_t out_stride; /* floats between rows of logits: vocab_size rounded up to 16 */
    const PgKernel *kernels;
    uint32_t n_kernels;
    PgStep steps[PG_LISTS]; /* PG_FEW: no phases, unless the target asked for it */
    const PgTensor *tensors;
    uint32_t n_tensors;
    const PgWeight *weights;
    uint32_t n_weights;
    uint64_t weight_bytes; /* of the packed blob */
    uint64_t active_weight_bytes; /* of it, read by one decoded token (chosen experts only) */
    const PgState *states;
    uint32_t n_states;
    uint64_t state_bytes; /* of one sequence */
    const PgRope *ropes;
    uint32_t n_ropes;
} PgProgram;

/* ---------------------------------------------------------------------------------------------- what a kernel sees */

/* One segment of a step. */
typedef struct RtSegment {
    uint8_t *state; /* of its sequence */
    int64_t position; /* of its first row: tokens fed before */
    uint32_t first_row, count;
} RtSegment;

/* Arguments of every kernel; one copy a worker (scratch differs). Compiled code reads it by these offsets. */
typedef struct RtArgs {
    const uint8_t *weights; /* packed blob, 4096-aligned */
    uint8_t *arena; /* 64-aligned */
    uint8_t *scratch; /* of this worker: PG_SCRATCH bytes or what the kernels ask for, 64-aligned */
    const RtSegment *segments;
    const int32_t *tokens; /* [rows] */
    const int32_t *row_segment; /* [rows] */
    const int64_t *row_position; /* [rows] */
    const int32_t *out_rows; /* [n_out_rows] rows whose logits are wanted */
    float *logits; /* [n_out_rows][out_stride] */
    int32_t *nonfinite; /* [rows] 0, or 1 + block whose router was not finite (first one stays) */
    uint64_t out_stride;
    uint64_t ld; /* LD */
    uint32_t rows, n_segments, n_out_rows;
    uint32_t prepared; /* 1: this worker has called the kernel for this phase before, and scratch is as that call left it */
} RtArgs;

/* Runs tiles [tile0, tile1) of a phase. */
typedef void (*PgKernelFn)(const RtArgs *args, const PgPhase *phase, uint32_t tile0, uint32_t tile1);

/* What the code generator says about one compiled kernel. */
typedef struct PgCode {
    PgKernelFn run;
    uint32_t groups; /* linear layers: panel groups (see PgPhase); ATTEND: parts of a tile; else 1 */
    uint32_t claim; /* tiles that a worker should claim at once, a hint; at least 1 */
    uint64_t scratch; /* bytes of worker scratch it needs */
} PgCode;

static inline uint64_t pg_panels(int64_t n) { return ((uint64_t)n + PG_LANES - 1) / PG_LANES; }
/* Blocks of PG_KEY_BLOCK positions that a row sees keys of, at most. */
static inline uint64_t pg_key_blocks(const PgKernel *k) {
    uint64_t most = ((uint64_t)k->cap + PG_KEY_BLOCK - 1) / PG_KEY_BLOCK;
    return k->window > 0 ? ((uint64_t)k->window + PG_KEY_BLOCK - 2) / PG_KEY_BLOCK + 1 : most;
}
/* Bytes of ATTEND's PARTS: of each block and head m and l in all lanes, and o. */
static inline uint64_t pg_key_parts_bytes(const PgKernel *k) {
    return pg_key_blocks(k) * (uint64_t)k->heads * (pg_panels(k->O) + 2) * PG_LANES * sizeof(float);
}
/* Groups of a rounded row of K elements; bytes that it takes. */
static inline uint64_t pg_round_groups(int64_t K) { return ((uint64_t)K + IR_GROUP - 1) / IR_GROUP; }
static inline uint64_t pg_rounded_bytes(int64_t K) { return (pg_round_groups(K) * (IR_GROUP + 2 * sizeof(float)) + 63) / 64 * 64; }
/* Bytes a row of SQUARES, f32 [O/16][LD], rounded up. */
static inline uint64_t pg_squares_bytes(int64_t O) { return (pg_panels(O) * sizeof(float) + 63) / 64 * 64; }
static inline uint64_t pg_bf16_bytes(int64_t K) { return pg_round_groups(K) * IR_GROUP * 2; }
/* Whether a linear layer reads rounded rows; and what a row of them takes, of that layer or of the ROUND before it. */
static inline bool pg_reads_rounded(const PgKernel *k) { return (k->rounds || k->bf16_x) && k->mode == PG_BLOCK; }
static inline uint64_t pg_rounded_row_bytes(const PgKernel *k) { return k->bf16_x ? pg_bf16_bytes(k->K) : pg_rounded_bytes(k->K); }
/* What a PgCount comes to in a step. */
static inline uint64_t pg_count(const PgPhase *phase, uint32_t rows, uint32_t segments, uint32_t n_out_rows) {
    uint64_t positions = (uint64_t)rows * phase->k;
    switch ((PgCount)phase->count) {
    case PG_ONCE: return 1;
    case PG_PER_ROW: return rows;
    case PG_PER_ROW_BLOCK: return (rows + 7u) / 8;
    case PG_PER_SEGMENT: return segments;
    case PG_PER_OUT_ROW_BLOCK: return (n_out_rows + 7u) / 8;
    case PG_PER_POSITION_BLOCK: return (positions + 7) / 8 + (phase->E < positions ? phase->E : positions) - 1;
    }
    return 0;
}
/* Number of tiles of a phase in a step. */
static inline uint64_t pg_tiles(const PgPhase *phase, const PgCode *code, uint32_t rows, uint32_t segments, uint32_t n_out_rows) {
    return pg_count(phase, rows, segments, n_out_rows) * phase->fixed * code->groups;
}
/* LD for a number of rows in PG_BLOCK. */
static inline uint64_t pg_ld(uint64_t rows) { return (((rows + 7) / 8) | 1) * 8; }
/* The part of LDP that does not grow with LD (PG_BLOCK): 8·E'. */
static inline uint64_t pg_position_pad(int64_t E, int64_t k) { return 8 * (uint64_t)(((k + E) & 1) ? E : E + 1); }

#endif
