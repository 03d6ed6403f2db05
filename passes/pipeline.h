/* The passes, in order, on one screen (pipeline.c lists them): from a naive graph to a fused one; and the switches of what then
 * builds the program (schedule/).
 *
 *   route-fusion        dense work over all experts becomes work on the chosen ones; routers become one region each
 *   scan-fusion         convolution, and everything from Δ to D, becomes one region each, experts inside
 *   elementwise-fusion  norms, biases, activations, gates, sums, residual adds and scalings join the linear layers beside them
 *   weights             dtype and packed form of every weight
 *   plan                live ranges of buffers share one arena
 *   schedule            regions become phases; phases that do not depend on each other share a stage
 *
 * Each can be switched off (--no-NAME); the result stays right. Without weights everything is stored as f32 (of the same
 * values); without plan every buffer has a place of its own; without schedule every phase is a stage of its own. */
#ifndef MOSSC_PASSES_PIPELINE_H
#define MOSSC_PASSES_PIPELINE_H

#include "ir/few.h"
#include "ir/graph.h"

typedef enum PsPass {
    PS_ROUTE_FUSION,
    PS_SCAN_FUSION,
    PS_ELEMENTWISE_FUSION,
    PS_WEIGHTS,
    PS_PLAN,
    PS_SCHEDULE,
    PS_PASS_COUNT
} PsPass;

/* Bytes of buffers that live at the same time in a stage: per_row · LD + fixed (ir/program.h); without the tables of rope. */
typedef struct PsStageBytes {
    uint64_t per_row, fixed;
} PsStageBytes;

typedef struct PsOptions {
    bool off[PS_PASS_COUNT];
    const char *dump_dir;   /* NULL, or an existing directory: 00-naive.mir, 01-route-fusion.mir, …, program.txt */
    int stop_after;         /* number of graph passes to run; 0: all of them */
    double *seconds;        /* [PS_PASS_COUNT], or NULL: time spent in each */
    int64_t max_rows;       /* rows of a step that the target can use; 0: PG_MAX_ROWS. Caches of attention with a window have room
                             * for steps of PG_MAX_ROWS: there it stays at that */
    bool bf16_inputs;       /* row blocks of linear layers of bf16 weights round their inputs to bf16: other bits than PG_ROW's */
    const PgFew *few;       /* the program has a list PG_FEW, as the target takes a few rows in one launch; NULL: it has none */
    PsStageBytes **live;    /* [PG_MODES], or NULL: become arrays [n_stages] in the program's arena */
    bool check;             /* verify, print, parse and compare after every pass (the program asks for it in debug builds). What
                             * is wrong is added to the diagnostics, with the failure SU_OUR_BUG */
} PsOptions;

/* Name as in "--no-route-fusion"; PS_PASS_COUNT ends a search by name. */
const char *ps_pass_name(PsPass pass);
const char *ps_pass_help(PsPass pass);
PsPass ps_pass_by_name(const char *name);

/* Runs the graph passes (route, scan, elementwise fusion) on `graph` in place; its level becomes fused. One
 * that is fused already stays as it is. */
bool ps_fuse(IrGraph *graph, const PsOptions *options, SuDiags *diags);

#endif
