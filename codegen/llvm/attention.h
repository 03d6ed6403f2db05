/* A block of keys and several queries: what attention.c walks over, and attention_block.c computes.
 *
 * A query is a head of a row. Those side by side either are heads of one row that read the same key/value head, or the same head of
 * several rows of one sequence: each key and value is read once for all of them. Query i has line line0 + i of what lies in lines. */
#ifndef MOSSC_CODEGEN_LLVM_ATTENTION_H
#define MOSSC_CODEGEN_LLVM_ATTENTION_H

#include "codegen/llvm/emit.h"

enum {
    CG_QUERIES = 4, /* side by side, at most */
    CG_SCORE_BYTES = (PG_KEY_BLOCK + 2 * PG_LANES) * 4
};

/* Queries side by side, and how much of their work is kept in registers. */
typedef struct CgWidth {
    int rows, heads;         /* one of them is 1 */
    int chunks, rest_chunks; /* runs of 16 positions that are scored side by side; where fewer than `chunks` are left */
    int summed;              /* queries whose values are summed side by side */
    uint64_t panels;         /* panels of head_dim of each of them, likewise */
} CgWidth;

typedef struct CgAttend {
    CgEmit *e;
    const PgKernel *kernel;
    CgWidth width;
    CgValue row, position;    /* i64: the first row; its position in the sequence */
    CgValue kv_head;          /* i64 */
    CgValue head;             /* i64: that line 0 belongs to */
    CgValue line0;            /* i64 */
    CgValue k_cache, v_cache; /* of the key/value head */
    uint64_t line;            /* bytes of head_dim up to 16 */
    CgValue q, O, o;          /* lines of head_dim: q; sums so far; sums of the block */
    CgValue M, L, m, l;       /* lines of 16, every lane the same: M, L and m of docs/bits.md; l: lane 0 only */
    CgValue scores;           /* [CG_QUERIES][CG_SCORE_BYTES]: of the block from `start` on; then their powers */
    /* the block at hand: keys from … from + PG_KEY_BLOCK - 1; start, end: multiples of 16 around all that the rows see of it */
    CgValue from, start, end;
} CgAttend;

/* The queries at hand, and one that stands alone, with the shapes that suit the target. */
CgWidth cg_width_of_heads(const CgTarget *target, uint64_t heads, uint64_t head_dim);
CgWidth cg_width_of_rows(const CgTarget *target, int rows);

/* First key that query i sees in the block at `from`, and the first one past them; the latter is not larger if it sees none. */
CgValue cg_first_key(CgAttend *a, CgValue i);
CgValue cg_end_key(CgAttend *a, CgValue i);

/* `emit` in a loop over the queries at hand. */
void cg_each_query(CgAttend *a, void (*emit)(CgAttend *a, CgValue i));

/* Of one query: q into its line; M = -inf, L = O = +0; m, l, o of the block merged into M, L, O, unless it sees nothing of it;
 * y = O / L. */
void cg_gather_query(CgAttend *a, CgValue i);
void cg_clear_query(CgAttend *a, CgValue i);
void cg_merge_query(CgAttend *a, CgValue i);
void cg_store_query(CgAttend *a, CgValue i);

/* Takes block `index` (i64), of what the queries at hand see: from, start and end. */
void cg_take_block(CgAttend *a, CgValue index);
/* m, l and o of the block for the queries at hand. */
void cg_attend_block(CgAttend *a);

#endif
