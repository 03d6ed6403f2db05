/* Symbols are a doubly linked list in an array, so that a merge is local; candidates wait in a binary heap. A candidate is not
 * removed when one of its symbols changes: when its turn comes, it is dropped if the pair there has another rank by then. */
#include "tokenizer/word.h"

#include "support/alloc.h"
#include "support/limits.h"

static void *grow(void *items, size_t *capacity, size_t size) {
    size_t room = *capacity ? 2 * *capacity : SU_LIMIT(64, 1);
    void *grown = su_realloc(items, room * size);
    if (!grown) su_no_memory(room * size);
    *capacity = room;
    return grown;
}

void tk_word_add(TkWord *word, int32_t id) {
    if (word->count == word->capacity) word->symbols = grow(word->symbols, &word->capacity, sizeof *word->symbols);
    uint32_t at = (uint32_t)word->count++;
    word->symbols[at] = (TkSymbol){.id = id, .before = at ? at - 1 : TK_NO_SYMBOL, .after = TK_NO_SYMBOL};
    if (at) word->symbols[at - 1].after = at;
}

/* ---- the heap */

static void push(TkWord *word, uint64_t key) {
    if (word->heap_count == word->heap_capacity) word->heap = grow(word->heap, &word->heap_capacity, sizeof *word->heap);
    size_t at = word->heap_count++;
    for (size_t parent; at && word->heap[parent = (at - 1) / 2] > key; at = parent) word->heap[at] = word->heap[parent];
    word->heap[at] = key;
}

static uint64_t pop(TkWord *word) {
    uint64_t *heap = word->heap, top = heap[0], last = heap[--word->heap_count];
    size_t at = 0, n = word->heap_count;
    for (size_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return top;
}

/* ---- merging */

static const TkMerge *merge_at(const TkWord *word, const TkMerges *merges, uint32_t left) {
    const TkSymbol *symbol = &word->symbols[left];
    if (symbol->id < 0 || symbol->after == TK_NO_SYMBOL) return NULL;
    return tk_merges_find(merges, symbol->id, word->symbols[symbol->after].id);
}

static void propose(TkWord *word, const TkMerges *merges, uint32_t left) {
    const TkMerge *merge = merge_at(word, merges, left);
    if (merge) push(word, (uint64_t)merge->rank << 32 | left);
}

static void join(TkWord *word, uint32_t left, int32_t id) {
    TkSymbol *symbol = &word->symbols[left], *right = &word->symbols[symbol->after];
    symbol->id = id;
    symbol->after = right->after;
    right->id = -1;
    if (symbol->after != TK_NO_SYMBOL) word->symbols[symbol->after].before = left;
}

void tk_word_merge(TkWord *word, const TkMerges *merges, RtTokens *out) {
    for (uint32_t i = 0; i + 1 < word->count; i++) propose(word, merges, i);
    while (word->heap_count) {
        uint64_t top = pop(word);
        uint32_t left = (uint32_t)top;
        const TkMerge *merge = merge_at(word, merges, left);
        if (!merge || merge->rank != top >> 32) continue;
        join(word, left, merge->id);
        if (word->symbols[left].before != TK_NO_SYMBOL) propose(word, merges, word->symbols[left].before);
        propose(word, merges, left);
    }
    for (uint32_t i = 0; i < word->count; i = word->symbols[i].after) rt_tokens_add(out, word->symbols[i].id);
    word->count = 0;
}

void tk_word_free(TkWord *word) {
    su_free(word->symbols);
    su_free(word->heap);
    *word = (TkWord){0};
}
