/* Arena: memory with the life of one unit of work (a spec, a graph, one pass).
 *
 * Everything allocated from an arena is freed at once by su_arena_free. Blocks are zeroed. An arena that runs out of
 * memory ends the guard around the work (support/alloc.h). */
#ifndef MOSSC_SUPPORT_ARENA_H
#define MOSSC_SUPPORT_ARENA_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

typedef struct SuArenaBlock SuArenaBlock;

typedef struct SuArena {
    SuArenaBlock *head; /* newest block first; NULL while empty */
    size_t total;       /* bytes asked of su_malloc so far */
    uint32_t settled;   /* 1 + depth of the guard that its first block belongs to; 0: the innermost */
} SuArena; /* `SuArena a = {0};` is a valid empty arena */

/* `size` zeroed bytes, aligned to 16. size 0 gives a valid distinct pointer. */
void *su_alloc(SuArena *arena, size_t size);
/* `count * size` zeroed bytes; the product is checked (overflow is reported like exhausted memory). */
void *su_alloc_array(SuArena *arena, size_t count, size_t size);
/* Grows an array held in the arena: returns `items` with room for at least `need` elements, *capacity updated. */
void *su_grow(SuArena *arena, void *items, size_t *capacity, size_t need, size_t size);
char *su_strdup(SuArena *arena, const char *text);
char *su_strndup(SuArena *arena, const char *text, size_t size);
char *su_printf(SuArena *arena, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *su_vprintf(SuArena *arena, const char *format, va_list args);
void su_arena_free(SuArena *arena);
/* Declares an arena that may still be empty the caller's: guards that begin from now on do not free it when they are ended. */
void su_arena_settle(SuArena *arena);
/* An empty arena that no guard ever frees: for what several threads use, or a thread between its guards. */
#define SU_ARENA_FREE {.settled = 1}

#define SU_NEW(arena, Type) ((Type *)su_alloc((arena), sizeof(Type)))
#define SU_NEW_ARRAY(arena, Type, count) ((Type *)su_alloc_array((arena), (count), sizeof(Type)))

#endif
