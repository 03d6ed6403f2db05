/* What the files that print PG_SCAN share. */
#ifndef MOSSC_CODEGEN_CUDA_SCAN_H
#define MOSSC_CODEGEN_CUDA_SCAN_H

#include "codegen/cuda/emit.h"

typedef struct Scan {
    CgCuda *c;
    const PgKernel *k;
    bool experts;     /* a state each: PG_SCAN_HOLD, PG_SCAN_UPDATE */
    bool routed;      /* the text knows expert indices and combine weights */
    bool own_delta;   /* delta depends on the expert whose state moves */
    bool mixed_delta; /* delta is made of the experts' sums, mixed by the combine weights */
    bool mixed_A;     /* so is A, for each row */
    bool runs;        /* rows of an expert lie side by side as positions: it walks its own ones */
} Scan;

/* A walk (scan_prefill.c): sizes in threads, rows and floats. */
typedef struct Walk {
    const Scan *s;
    CgCuda *c;
    const PgKernel *k;
    uint64_t S, lanes;         /* elements of a mover's state, movers of a channel */
    uint64_t n_row, r_row;     /* floats of a row of B, of δ in shared memory */
    uint64_t rows, movers, makers; /* rows of a block; threads that move states; helpers that make deltas and no more (0: all do) */
    bool staged; /* δ (and where it is one, W_dt) lie in shared memory */
    bool tensor; /* W_dt · δ by tensor cores, W_dt in registers of the makers */
    bool split; /* over time */
} Walk;

/* scan.c. Each prints a piece of text; `row` is known to it where a row's values are asked for. */
void cg_scan_slot(const Scan *s, const char *expert); /* u32 slot of the expert in this row, k: it was not chosen */
void cg_scan_skip(const Scan *s); /* float skip: D as this row sees it */
uint64_t cg_scan_plane(int64_t width); /* elements of one row of a plane that many wide */
const char *cg_scan_act(const PgKernel *k); /* the gate's function */
/* Where a row's output of slot `slot` lies in the scratch memory, in [PANELS] planes of places of 16. */
const char *cg_scan_place(const Scan *s);

/* scan_decode.c: one row of many sequences side by side, or one row alone. Sets no tiles: the loop is its own. */
void cg_scan_decode(const Scan *s);
/* scan_prefill.c: many rows of a sequence in order. */
void cg_scan_prefill(const Scan *s);
/* Which matrix, A, D or bias of [E][PANELS] the walk's states have. */
const char *cg_walk_own(const Walk *w, bool own);

/* scan_prefill_helpers.c: what helpers do in turn t; before the first turn, what they keep in registers. */
void cg_walk_prepare(const Walk *w);
void cg_walk_fetch(const Walk *w);
void cg_walk_deltas(const Walk *w);
void cg_walk_finish(const Walk *w);
void cg_walk_put(const Walk *w);

#endif
