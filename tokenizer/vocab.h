/* What the model section of a tokenizer.json comes to: texts by id, ids by text, and merges by their pair. */
#ifndef MOSSC_TOKENIZER_VOCAB_H
#define MOSSC_TOKENIZER_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/arena.h"
#include "support/limits.h"

enum { TK_MAX_ID = SU_LIMIT((1 << 24) - 1, 1023) }; /* a table by id of the largest allowed takes 256 MiB */

typedef struct TkText {
    const char *text; /* NULL: nothing has this id */
    size_t size;
} TkText;

typedef struct TkVocab {
    TkText *texts; /* [n_ids] */
    size_t n_ids;  /* largest id + 1 */
    int32_t *slots; /* ids by hash of their text, -1: free; the arena's */
    size_t mask;    /* slots - 1, a power of two less one, more than twice the texts */
} TkVocab;

/* Room for `count` texts with ids below n_ids. */
void tk_vocab_make(TkVocab *vocab, SuArena *arena, size_t count, size_t n_ids);
/* -1, or the id that has this text already; only then nothing is added. The id is free. */
int32_t tk_vocab_add(TkVocab *vocab, int32_t id, const char *text, size_t size);
/* -1: no such text */
int32_t tk_vocab_find(const TkVocab *vocab, const char *text, size_t size);

typedef struct TkMerge {
    uint64_t pair; /* left id << 32 | right id; UINT64_MAX: a free slot */
    uint32_t rank; /* lower ones come first */
    int32_t id;    /* what they become */
} TkMerge;

typedef struct TkMerges {
    TkMerge *slots;
    size_t mask;
} TkMerges;

void tk_merges_make(TkMerges *merges, SuArena *arena, size_t count);
/* false: this pair is there already */
bool tk_merges_add(TkMerges *merges, int32_t left, int32_t right, uint32_t rank, int32_t id);
/* Another rank for a pair that is there. */
void tk_merges_move(TkMerges *merges, int32_t left, int32_t right, uint32_t rank);
/* NULL: they stay apart */
const TkMerge *tk_merges_find(const TkMerges *merges, int32_t left, int32_t right);

#endif
