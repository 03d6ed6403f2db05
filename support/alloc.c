#include "support/alloc.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/diag.h"

/* ---- the hook */

static SuAllocator hook;

void su_set_allocator(const SuAllocator *allocator) { hook = allocator ? *allocator : (SuAllocator){0}; }

bool su_may_map(size_t size) { return !hook.may_map || hook.may_map(hook.context, size); }

/* ---- blocks: memory behind a header that links them into the ring of a guard */

typedef struct Block {
    SuLink link;  /* first: a link of a ring is a block */
    size_t size;  /* what was asked for */
    size_t lead;  /* bytes before the header, of an aligned block */
} Block;

enum { HEADER = 32 };
_Static_assert(sizeof(Block) <= HEADER, "what stands behind the header is aligned to 16");

static Block *block_of(const void *memory) { return (Block *)((uintptr_t)memory - HEADER); }

static _Thread_local SuGuard *innermost;

/* Rings are changed rarely (an arena takes 64 KiB at once), now and then by a thread that frees what another one allocated. */
static atomic_flag rings = ATOMIC_FLAG_INIT;

static void lock(void) {
    while (atomic_flag_test_and_set_explicit(&rings, memory_order_acquire)) {}
}

static void unlock(void) { atomic_flag_clear_explicit(&rings, memory_order_release); }

static void link_after(SuLink *before, SuLink *link) {
    link->before = before;
    link->after = before->after;
    before->after->before = link;
    before->after = link;
}

static void unlink_it(SuLink *link) {
    if (link->before) {
        link->before->after = link->after;
        link->after->before = link->before;
    }
    *link = (SuLink){0};
}

static void *raw(size_t size, bool zero) {
    if (!hook.resize) return zero ? calloc(1, size) : malloc(size);
    void *memory = hook.resize(hook.context, NULL, size);
    if (memory && zero) memset(memory, 0, size);
    return memory;
}

static void raw_free(void *memory) {
    if (hook.resize)
        hook.resize(hook.context, memory, 0);
    else
        free(memory);
}

/* Memory with its header, in the ring that `before` is part of (NULL: in none). */
static void *make(SuLink *before, size_t align, size_t size, bool zero) {
    size_t more = HEADER + (align > 16 ? align : 0), whole;
    if (__builtin_add_overflow(size, more, &whole)) return NULL;
    unsigned char *begin = raw(whole, zero);
    if (!begin) return NULL;
    unsigned char *memory = begin + HEADER;
    if (align > 16) memory += (align - (uintptr_t)memory % align) % align;
    Block *block = block_of(memory);
    *block = (Block){.size = size, .lead = (size_t)(memory - begin) - HEADER};
    if (before) {
        lock();
        link_after(before, &block->link);
        unlock();
    }
    return memory;
}

static SuLink *ring(void) { return innermost ? &innermost->blocks : NULL; }

void *su_malloc(size_t size) { return make(ring(), 0, size, false); }

void *su_calloc(size_t count, size_t size) {
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : make(ring(), 0, bytes, true);
}

void *su_aligned(size_t align, size_t size) { return make(ring(), align, size, false); }

static void free_block(Block *block) { raw_free((unsigned char *)block - block->lead); }

/* A block keeps its ring: what was allocated before a guard began stays outside it. */
void *su_realloc(void *old, size_t size) {
    if (!old) return su_malloc(size);
    Block *block = block_of(old);
    void *grown = make(NULL, 0, size, false);
    if (!grown) return NULL;
    memcpy(grown, old, block->size < size ? block->size : size);
    lock();
    if (block->link.before) link_after(&block->link, &block_of(grown)->link);
    unlink_it(&block->link);
    unlock();
    free_block(block);
    return grown;
}

char *su_copy(const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = su_malloc(size);
    if (!copy) su_no_memory(size);
    memcpy(copy, text, size);
    return copy;
}

void su_free(void *memory) {
    if (!memory) return;
    Block *block = block_of(memory);
    lock();
    unlink_it(&block->link);
    unlock();
    free_block(block);
}

/* ---- for arenas */

uint32_t su_guard_depth(void) {
    uint32_t depth = 0;
    for (const SuGuard *g = innermost; g; g = g->outer) depth++;
    return depth;
}

void *su_malloc_with(const void *with, uint32_t depth, size_t size) {
    if (with) {
        Block *block = block_of(with);
        lock();
        bool linked = block->link.before != NULL; /* it cannot be unlinked meanwhile: an arena is one thread's */
        unlock();
        return make(linked ? &block->link : NULL, 0, size, true);
    }
    SuGuard *guard = innermost;
    for (uint32_t d = su_guard_depth(); d > depth; d--) guard = guard->outer;
    return make(guard ? &guard->blocks : NULL, 0, size, true);
}

/* ---- guards */

SuGuard *su_guard_begin(SuGuard *guard, SuDiags *diags, const char *what) {
    if (diags) su_arena_settle(&diags->arena);
    guard->outer = innermost;
    guard->blocks = (SuLink){&guard->blocks, &guard->blocks};
    guard->cleanups = NULL;
    guard->diags = diags;
    guard->what = what;
    guard->failure.code = SU_NO_FAILURE;
    innermost = guard;
    return guard;
}

/* To the guard around it, or to nobody. */
static void hand_over(SuGuard *guard) {
    SuLink *first = guard->blocks.after, *last = guard->blocks.before;
    if (first == &guard->blocks) return;
    if (guard->outer) {
        SuLink *head = &guard->outer->blocks;
        last->after = head->after;
        first->before = head;
        head->after->before = last;
        head->after = first;
        return;
    }
    for (SuLink *link = first, *next; link != &guard->blocks; link = next) {
        next = link->after;
        *link = (SuLink){0};
    }
}

void su_guard_end(SuGuard *guard) {
    lock();
    hand_over(guard);
    unlock();
    innermost = guard->outer;
}

void su_cleanup_add(SuCleanup *cleanup, void (*run)(void *object), void *object) {
    *cleanup = (SuCleanup){.run = run, .object = object};
    if (!innermost) return;
    cleanup->next = innermost->cleanups;
    innermost->cleanups = cleanup;
}

void su_cleanup_done(SuCleanup *cleanup) {
    SuCleanup **at = innermost ? &innermost->cleanups : NULL;
    while (at && *at && *at != cleanup) at = &(*at)->next;
    if (at && *at) *at = cleanup->next;
}

SuFailureCode su_cleanup_reason(void) { return innermost ? innermost->failure.code : SU_NO_FAILURE; }

/* ---- failures */

/* A bug is not hidden by what comes of it. */
void su_failed(SuDiags *diags, const SuFailure *failure) {
    if (diags->failure.code != SU_OUR_BUG) diags->failure = *failure;
    diags->errors++;
}

bool su_out_of_memory(SuDiags *diags, const char *what) {
    SuFailure failure = {.code = SU_OUT_OF_MEMORY};
    snprintf(failure.text, sizeof failure.text, "out of memory %s", what);
    su_failed(diags, &failure);
    return false;
}

static void free_all(SuGuard *guard) {
    for (;;) {
        lock();
        SuLink *link = guard->blocks.after;
        bool any = link != &guard->blocks;
        if (any) unlink_it(link);
        unlock();
        if (!any) return;
        free_block((Block *)link);
    }
}

/* guard->failure is set. Nothing here may fail. */
static _Noreturn void end_guard(SuGuard *guard) {
    while (guard->cleanups) {
        SuCleanup *cleanup = guard->cleanups;
        guard->cleanups = cleanup->next;
        cleanup->run(cleanup->object);
    }
    free_all(guard);
    innermost = guard->outer;
    if (guard->diags) su_failed(guard->diags, &guard->failure);
    longjmp(guard->jump, 1);
}

static SuGuard *failing(SuFailureCode code) {
    if (!innermost) __builtin_trap();
    innermost->failure.code = code;
    return innermost;
}

_Noreturn void su_fail(SuFailureCode code, const char *format, ...) {
    SuGuard *guard = failing(code);
    va_list args;
    va_start(args, format);
    vsnprintf(guard->failure.text, sizeof guard->failure.text, format, args);
    va_end(args);
    end_guard(guard);
}

_Noreturn void su_no_memory(size_t size) {
    SuGuard *guard = failing(SU_OUT_OF_MEMORY);
    snprintf(guard->failure.text, sizeof guard->failure.text, "out of memory while %s (%zu bytes)", guard->what, size);
    end_guard(guard);
}

_Noreturn void su_bug(const char *file, int line, const char *format, ...) {
    SuGuard *guard = failing(SU_OUR_BUG);
    int size = snprintf(guard->failure.text, sizeof guard->failure.text, "bug at %s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    if (size > 0 && (size_t)size < sizeof guard->failure.text)
        vsnprintf(guard->failure.text + size, sizeof guard->failure.text - (size_t)size, format, args);
    va_end(args);
    end_guard(guard);
}
