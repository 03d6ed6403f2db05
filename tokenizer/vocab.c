/* Two open hash tables, filled once and never changed. */
#include "tokenizer/vocab.h"

#include <string.h>

#include "support/digest.h"

static size_t slots_for(size_t count) {
    size_t slots = 16;
    while (slots <= 2 * count) slots *= 2;
    return slots;
}

/* ---- texts */

void tk_vocab_make(TkVocab *vocab, SuArena *arena, size_t count, size_t n_ids) {
    size_t slots = slots_for(count);
    *vocab = (TkVocab){.texts = SU_NEW_ARRAY(arena, TkText, n_ids),
                       .n_ids = n_ids,
                       .slots = SU_NEW_ARRAY(arena, int32_t, slots),
                       .mask = slots - 1};
    memset(vocab->slots, -1, slots * sizeof *vocab->slots);
}

static size_t hash_of(const char *text, size_t size) {
    SuDigest digest = su_digest(text, size);
    size_t hash;
    memcpy(&hash, digest.bytes, sizeof hash);
    return hash;
}

/* The slot that holds the text, or the free one where it belongs. */
static int32_t *slot_of(const TkVocab *vocab, const char *text, size_t size) {
    for (size_t at = hash_of(text, size);; at++) {
        int32_t *slot = &vocab->slots[at & vocab->mask];
        if (*slot < 0) return slot;
        const TkText *there = &vocab->texts[*slot];
        if (there->size == size && memcmp(there->text, text, size) == 0) return slot;
    }
}

int32_t tk_vocab_add(TkVocab *vocab, int32_t id, const char *text, size_t size) {
    int32_t *slot = slot_of(vocab, text, size);
    if (*slot >= 0) return *slot;
    *slot = id;
    vocab->texts[id] = (TkText){.text = text, .size = size};
    return -1;
}

int32_t tk_vocab_find(const TkVocab *vocab, const char *text, size_t size) { return *slot_of(vocab, text, size); }

/* ---- merges */

void tk_merges_make(TkMerges *merges, SuArena *arena, size_t count) {
    size_t slots = slots_for(count);
    *merges = (TkMerges){.slots = SU_NEW_ARRAY(arena, TkMerge, slots), .mask = slots - 1};
    for (size_t i = 0; i < slots; i++) merges->slots[i].pair = UINT64_MAX;
}

static TkMerge *merge_slot(const TkMerges *merges, uint64_t pair) {
    uint64_t hash = pair * UINT64_C(0x9E3779B97F4A7C15);
    for (size_t at = (size_t)(hash ^ hash >> 32);; at++) {
        TkMerge *slot = &merges->slots[at & merges->mask];
        if (slot->pair == pair || slot->pair == UINT64_MAX) return slot;
    }
}

static uint64_t pair_of(int32_t left, int32_t right) { return (uint64_t)(uint32_t)left << 32 | (uint32_t)right; }

bool tk_merges_add(TkMerges *merges, int32_t left, int32_t right, uint32_t rank, int32_t id) {
    uint64_t pair = pair_of(left, right);
    TkMerge *slot = merge_slot(merges, pair);
    if (slot->pair == pair) return false;
    *slot = (TkMerge){.pair = pair, .rank = rank, .id = id};
    return true;
}

void tk_merges_move(TkMerges *merges, int32_t left, int32_t right, uint32_t rank) {
    merge_slot(merges, pair_of(left, right))->rank = rank;
}

const TkMerge *tk_merges_find(const TkMerges *merges, int32_t left, int32_t right) {
    const TkMerge *slot = merge_slot(merges, pair_of(left, right));
    return slot->pair == UINT64_MAX ? NULL : slot;
}
