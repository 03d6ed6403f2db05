/* Memory, and what happens when there is none.
 *
 * All memory of ours is allocated here, behind one hook that tests replace to let the n-th allocation fail. It is freed by su_free,
 * by any thread.
 *
 * Two ways lead out of a failed allocation. su_malloc and its kin return NULL: objects of the runtime and the tokenizer use them and
 * return an error. What the compiler allocates in thousands of places (arenas, texts, diagnostics) calls su_fail instead, which ends
 * the *guard* around it, as a bug (SU_BUG) does, in the way of Lua's protected call:
 *
 *     SuGuard guard;
 *     if (SU_CAUGHT(&guard, diags, "parsing the graph")) return NULL;
 *     IrGraph *graph = parse(...);
 *     su_guard_end(&guard);
 *     return graph;
 *
 * Every public function of the libraries that may reach su_fail has a guard. Guards nest; each thread has its own, and su_fail in a
 * thread ends a guard of that thread. When a guard is ended by su_fail
 *   - the cleanups registered since its begin run, newest first: files, mappings, threads and LLVM's objects are given back there;
 *   - memory allocated since its begin, and not freed, is freed. Not that of arenas and blocks which existed before, or which
 *     su_arena_settle declares the caller's: those stay valid, and so does what they hold;
 *   - the error is left in diags->failure (and in guard->failure), which needs no memory.
 * A guard that ends as it should hands what was allocated to the guard around it, if there is one. */
#ifndef MOSSC_SUPPORT_ALLOC_H
#define MOSSC_SUPPORT_ALLOC_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- allocation */

typedef struct SuAllocator {
    /* Like realloc, of memory from here; size 0 frees and returns NULL. NULL: no memory, and nothing has changed. Any thread. */
    void *(*resize)(void *context, void *old, size_t size);
    /* Whether `size` bytes may be mapped (weights, arenas of steps, attention caches), which is not done through resize. */
    bool (*may_map)(void *context, size_t size);
    void *context;
} SuAllocator;

/* From now on; NULL: the C library. Set before anything is allocated, since memory returns to the allocator that is set then. */
void su_set_allocator(const SuAllocator *allocator);

void *su_malloc(size_t size);
void *su_calloc(size_t count, size_t size);
void *su_realloc(void *old, size_t size); /* not of su_aligned */
void *su_aligned(size_t align, size_t size); /* align: a power of two, at most 4096 */
char *su_copy(const char *text); /* never NULL: see below */
void su_free(void *memory); /* NULL: nothing */
bool su_may_map(size_t size);

/* ---- failures */

typedef enum SuFailureCode {
    SU_NO_FAILURE,
    SU_OUT_OF_MEMORY,
    SU_OUR_BUG, /* a mistake of ours: status 70 at the command line */
    SU_LLVM_FAILED, /* a fatal error within LLVM */
} SuFailureCode;

typedef struct SuFailure {
    SuFailureCode code;
    char text[512]; /* no trailing newline */
} SuFailure;

/* Ends the innermost guard of this thread. Without a guard there is nowhere to go, and the processor's trap is all that is left. */
_Noreturn void su_fail(SuFailureCode code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "out of memory while WHAT (N bytes)" */
_Noreturn void su_no_memory(size_t size);

/* A bug of ours: "bug at FILE:LINE: …". */
_Noreturn void su_bug(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));
#define SU_BUG(...) su_bug(__FILE__, __LINE__, __VA_ARGS__)

/* ---- guards */

/* A link of a ring; a block of memory begins with one. */
typedef struct SuLink {
    struct SuLink *before, *after; /* NULL: in no ring */
} SuLink;

/* What gives something back when a guard is ended by su_fail; lives on the stack of who registers it. */
typedef struct SuCleanup {
    struct SuCleanup *next;
    void (*run)(void *object);
    void *object;
} SuCleanup;

struct SuDiags;

typedef struct SuGuard {
    jmp_buf jump;
    struct SuGuard *outer;
    SuLink blocks; /* ring of what was allocated since the begin */
    SuCleanup *cleanups;
    struct SuDiags *diags;
    const char *what; /* is being done: "reading the spec" */
    SuFailure failure;
} SuGuard;

SuGuard *su_guard_begin(SuGuard *guard, struct SuDiags *diags, const char *what);
void su_guard_end(SuGuard *guard);
/* The controlling expression of an `if`: false at first; true once su_fail has ended the guard. diags may be NULL. The function in
 * which it stands must not return before su_guard_end. */
#define SU_CAUGHT(guard, diags, what) (setjmp(su_guard_begin((guard), (diags), (what))->jump) != 0)

/* Within a guard; without one they do nothing. A cleanup is taken back before its object is gone or the guard has ended. */
void su_cleanup_add(SuCleanup *cleanup, void (*run)(void *object), void *object);
void su_cleanup_done(SuCleanup *cleanup);
/* In a cleanup: what ended the guard. After SU_LLVM_FAILED objects of LLVM are left alone, since it stopped in the middle of work on them. */
SuFailureCode su_cleanup_reason(void);
/* Makes `failure` (of another thread's guard) one of this sink's errors. */
void su_failed(struct SuDiags *diags, const SuFailure *failure);
/* "out of memory WHAT" as an error of this sink, for whoever does without su_fail; false. */
bool su_out_of_memory(struct SuDiags *diags, const char *what);

/* ---- for arenas */

uint32_t su_guard_depth(void); /* guards of this thread */
/* Like su_malloc, for whoever `with` (a block of memory) belongs to; NULL: for the guard at `depth`, 0: for no guard. */
void *su_malloc_with(const void *with, uint32_t depth, size_t size);

#endif
