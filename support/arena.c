/* Arena allocator: a list of zeroed blocks, bumped from the newest. A request larger than a block gets one of its own. */
#include "support/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "support/alloc.h"
#include "support/limits.h"

enum {
    ALIGN = 16,
    BLOCK = SU_LIMIT(64 * 1024, 256), /* bytes */
    FIRST = SU_LIMIT(8, 1) /* items that a growing array has room for at first */
};

struct SuArenaBlock {
    SuArenaBlock *next;
    size_t used, size; /* bytes of data */
    _Alignas(ALIGN) unsigned char data[];
};

static SuArenaBlock *new_block(SuArena *arena, size_t size) {
    if (size > SIZE_MAX - sizeof(SuArenaBlock)) su_no_memory(size);
    uint32_t depth = arena->settled ? arena->settled - 1 : UINT32_MAX;
    SuArenaBlock *block = su_malloc_with(arena->head, depth, sizeof *block + size);
    if (!block) su_no_memory(size);
    block->size = size;
    arena->total += sizeof *block + size;
    return block;
}

/* A large block goes behind the head, so that what is left of the head is still used. */
static void *alloc_large(SuArena *arena, size_t size) {
    SuArenaBlock *block = new_block(arena, size);
    block->used = size;
    if (arena->head) {
        block->next = arena->head->next;
        arena->head->next = block;
    } else {
        arena->head = block;
    }
    return block->data;
}

void *su_alloc(SuArena *arena, size_t size) {
    if (size > SIZE_MAX - ALIGN) su_no_memory(size);
    size_t rounded = size ? (size + ALIGN - 1) / ALIGN * ALIGN : ALIGN;
    if (rounded > BLOCK / 4) return alloc_large(arena, rounded);
    SuArenaBlock *head = arena->head;
    if (!head || head->size - head->used < rounded) {
        head = new_block(arena, BLOCK);
        head->next = arena->head;
        arena->head = head;
    }
    void *result = head->data + head->used;
    head->used += rounded;
    return result;
}

void *su_alloc_array(SuArena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) su_no_memory(SIZE_MAX);
    return su_alloc(arena, bytes);
}

void *su_grow(SuArena *arena, void *items, size_t *capacity, size_t need, size_t size) {
    if (need <= *capacity) return items;
    size_t grown = *capacity < SIZE_MAX / 2 ? *capacity * 2 : need;
    if (grown < need) grown = need < FIRST ? FIRST : need;
    void *result = su_alloc_array(arena, grown, size);
    if (*capacity) memcpy(result, items, *capacity * size);
    *capacity = grown;
    return result;
}

char *su_strndup(SuArena *arena, const char *text, size_t size) {
    if (size == SIZE_MAX) su_no_memory(size);
    char *copy = su_alloc(arena, size + 1);
    if (size) memcpy(copy, text, size);
    return copy; /* arena memory is zeroed: the NUL is there */
}

char *su_strdup(SuArena *arena, const char *text) { return su_strndup(arena, text, strlen(text)); }

char *su_vprintf(SuArena *arena, const char *format, va_list args) {
    va_list copy;
    va_copy(copy, args);
    int size = vsnprintf(NULL, 0, format, copy);
    va_end(copy);
    size_t room = size < 0 ? 1 : (size_t)size + 1; /* negative: longer than INT_MAX; the text is then empty */
    char *text = su_alloc(arena, room);
    vsnprintf(text, room, format, args);
    return text;
}

char *su_printf(SuArena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *text = su_vprintf(arena, format, args);
    va_end(args);
    return text;
}

void su_arena_free(SuArena *arena) {
    for (SuArenaBlock *block = arena->head, *next; block; block = next) {
        next = block->next;
        su_free(block);
    }
    *arena = (SuArena){0};
}

void su_arena_settle(SuArena *arena) {
    uint32_t depth = su_guard_depth() + 1;
    if (!arena->head && (!arena->settled || depth < arena->settled)) arena->settled = depth; /* the outermost caller's */
}
