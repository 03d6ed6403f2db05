/* What streams do: launches through simt.h, copies, fills, time stamps. Nothing runs before somebody waits for it, so that a program
 * which does not wait finds nothing done. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device.h"

void work_add(Work *work, const Operation *operation) {
    if (work->count == work->room) {
        work->room = work->room == 0 ? 16 : 2 * work->room;
        work->operations = realloc(work->operations, work->room * sizeof *work->operations);
        if (work->operations == NULL) abort();
    }
    work->operations[work->count++] = *operation;
}

void work_free(Work *work) {
    free(work->operations);
    *work = (Work){0};
}

/* ---------------------------------------------------------------------------------------------- launches */

/* A fault in a kernel happens on a fiber's stack and ends the launch: from the handler there is one way out. */
static sigjmp_buf way_out;
static void *volatile fault_address;

static void on_fault(int number, siginfo_t *info, void *context) {
    (void)context;
    fault_address = info->si_addr;
    siglongjmp(way_out, number);
}

enum { HANDLED = 4 };
static const int handled[HANDLED] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL /* not aligned: tests/simt/CMakeLists.txt */};

typedef struct Handlers {
    struct sigaction before[HANDLED];
    stack_t stack_before;
} Handlers;

static void install(Handlers *h) {
    static uint8_t stack[1 << 16]; /* a fiber may have nothing left of its own */
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, &h->stack_before);
    for (int i = 0; i < HANDLED; i++) sigaction(handled[i], &action, &h->before[i]);
}

static void restore(const Handlers *h) {
    for (int i = 0; i < HANDLED; i++) sigaction(handled[i], &h->before[i], NULL);
    sigaltstack(&h->stack_before, NULL);
}

static void set_reach(CuContextRef context, void (*set)(const Memory *)) {
    for (Object *o = device.objects; o != NULL; o = o->next)
        if ((o->kind == MEMORY || o->kind == GLOBAL) && o->context == context) set((const Memory *)o);
}

/* 0, or the signal that ended it. */
static int run_guarded(const Operation *o, const SimtLaunch *launch) {
    Handlers handlers;
    install(&handlers);
    int signal_number = sigsetjmp(way_out, 1);
    if (signal_number == 0) o->function->module->run(launch);
    restore(&handlers);
    return signal_number;
}

static CuResult report(const Operation *o, int signal_number, const char *finding) {
    char where[160];
    const char *name = o->function->entry->name;
    if (signal_number == 0 && finding[0] == '\0') return CU_OK;
    if (signal_number == 0) {
        fprintf(stderr, "emulated GPU: %s: %s\n", name, finding);
        return CU_LAUNCH_FAILED;
    }
    if (signal_number == SIGILL) {
        fprintf(stderr, "emulated GPU: %s: an access that is not aligned\n", name);
        return CU_MISALIGNED_ADDRESS;
    }
    memory_describe(fault_address, where, sizeof where);
    fprintf(stderr, "emulated GPU: %s: %s at %s\n", name, signal_number == SIGFPE ? "division by zero" : "access", where);
    return signal_number == SIGFPE ? CU_LAUNCH_FAILED : CU_ILLEGAL_ADDRESS;
}

static CuResult launch(CuContextRef context, const Operation *o) {
    const EmulatedEntry *entry = o->function->entry;
    const void *params[ENTRY_PARAMS];
    char finding[512] = "";
    unsigned first_block = 0;
    size_t at = 0;
    for (unsigned i = 0; i < entry->n_params; i++, at += ENTRY_PARAM_BYTES) params[i] = o->params + at;
    SimtLaunch l = {.run = entry->run,
                    .params = (void *const *)params,
                    .blocks = o->blocks,
                    .threads = o->threads,
                    .shared = o->shared,
                    .cooperative = o->together,
                    .absent = (unsigned)device.settings.absent,
                    .order = device.settings.order,
                    .finding = finding,
                    .finding_bytes = sizeof finding,
                    .first_block = &first_block};
    set_reach(context, memory_open);
    int signal_number = run_guarded(o, &l);
    set_reach(context, memory_close);
    return report(o, signal_number, finding);
}

/* ---------------------------------------------------------------------------------------------- all operations */

static Memory *device_side(const void *at, size_t bytes, const char *what) { return memory_holding(MEMORY, at, bytes, what); }

/* A graph may name memory that was freed since. */
static CuResult move(const Operation *o) {
    bool writes = o->action != GET, reads = o->action == GET || o->action == COPY;
    const Memory *to = writes ? device_side(o->to, o->bytes, "a write") : NULL;
    const Memory *from = reads ? device_side(o->from, o->bytes, "a read") : NULL;
    if ((writes && to == NULL) || (reads && from == NULL)) return CU_ILLEGAL_ADDRESS;
    if (to != NULL) memory_open(to);
    if (from != NULL) memory_open(from);
    if (o->action == FILL)
        memset(o->to, o->value, o->bytes);
    else
        memmove(o->to, o->from, o->bytes);
    if (to != NULL) memory_close(to);
    if (from != NULL) memory_close(from);
    return CU_OK;
}

static void stamp(CuEventRef event) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    event->stream = NULL;
    event->stamped = true;
    event->seconds = (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

CuResult work_run(CuContextRef context, const Operation *o) {
    switch (o->action) {
    case RUN: return launch(context, o);
    case PUT:
    case GET:
    case COPY:
    case FILL: return move(o);
    case STAMP: stamp(o->event); break;
    }
    return CU_OK;
}

CuResult stream_flush(CuStreamRef stream, const struct CuEvent *until) {
    CuContextRef context = stream->object.context;
    Work *queue = &stream->queue;
    size_t n = queue->count;
    for (size_t i = queue->count; until != NULL && i > 0 && n == queue->count; i--)
        if (queue->operations[i - 1].event == until) n = i;
    for (size_t i = 0; i < n && !context->dead; i++) context->dead = work_run(context, &queue->operations[i]);
    queue->count -= n;
    if (queue->count > 0) memmove(queue->operations, queue->operations + n, queue->count * sizeof *queue->operations);
    return context->dead;
}

void flush_all(CuContextRef context) {
    for (Object *o = device.objects; o != NULL; o = o->next)
        if (o->kind == STREAM && o->context == context) stream_flush((CuStreamRef)o, NULL);
}
