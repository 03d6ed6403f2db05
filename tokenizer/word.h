/* The merging of one word: byte pair encoding itself. */
#ifndef MOSSC_TOKENIZER_WORD_H
#define MOSSC_TOKENIZER_WORD_H

#include "runtime/tokenizer.h"
#include "tokenizer/vocab.h"

typedef struct TkSymbol {
    int32_t id;             /* -1: merged into one before it */
    uint32_t before, after; /* TK_NO_SYMBOL: none */
} TkSymbol;

#define TK_NO_SYMBOL UINT32_MAX

/* A word in work; its memory serves all words of a text. `TkWord w = {0};` is valid and empty. */
typedef struct TkWord {
    TkSymbol *symbols; /* malloced */
    size_t count, capacity;
    uint64_t
        *heap; /* malloced; merges that may be made, rank << 32 | left symbol: lowest ranks first, the leftmost of them first */
    size_t heap_count, heap_capacity;
} TkWord;

void tk_word_add(TkWord *word, int32_t id);
/* Merges what can be merged, in n log n time for n symbols, and empties the word into `out`. */
void tk_word_merge(TkWord *word, const TkMerges *merges, RtTokens *out);
void tk_word_free(TkWord *word);

#endif
