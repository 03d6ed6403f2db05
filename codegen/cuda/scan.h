/* What the files that print PG_SCAN share. */
#ifndef MOSSC_CODEGEN_CUDA_SCAN_H
#define MOSSC_CODEGEN_CUDA_SCAN_H

#include "codegen/cuda/emit.h"

typedef struct Scan {
    CgCuda *c;
    const PgKernel *k;
    bool experts;     /* a state each: PG_SCAN_HOLD, PG_SCAN_UPDATE */
    bool routed;      /* the text knows routes and gates */
    bool own_delta;   /* delta depends on the expert whose state moves */
    bool mixed_delta; /* delta is made of the experts' sums, mixed by the gates */
    bool mixed_A;     /* so is A, for each row */
    bool runs;        /* rows of an expert lie side by side as positions: it walks its own ones */
} Scan;

/* scan.c. Each prints a piece of text; `row` is known to it where a row's values are asked for. */
void cg_scan_slot(const Scan *s, const char *expert);  /* u32 slot of the expert in this row, k: it was not chosen */
void cg_scan_skip(const Scan *s);                      /* float skip: D as this row sees it */
uint64_t cg_scan_plane(int64_t width);                 /* elements of one row of a plane that many wide */

/* scan_rows.c: one row of many sequences side by side, or one row alone. Sets no tiles: the loop is its own. */
void cg_scan_rows(const Scan *s);
/* scan_walk.c: many rows of a sequence in order. */
void cg_scan_walk(const Scan *s);
/* Where a row's output of slot `slot` lies in the scratch memory, in [PANELS] planes of places of 16. */
const char *cg_scan_place(const Scan *s);

#endif
