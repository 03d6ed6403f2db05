#include "guarded.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MAX_LIVE = 64, MAX_PLACE = 256 };

/* What a fault may have hit; only these, and a signal handler needs them without a context. */
static struct {
    const char *name;
    Guarded memory;
} live[MAX_LIVE];
static char place[MAX_PLACE];

static uint64_t page_size(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

Guarded guarded_alloc(const char *name, uint64_t bytes) {
    uint64_t page = page_size(), used = (bytes + 63) / 64 * 64, whole = (used + page - 1) / page * page;
    Guarded g = {.mapped_bytes = whole + 2 * page};
    g.mapped = mmap(NULL, g.mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g.mapped == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    mprotect(g.mapped, page, PROT_NONE);
    mprotect(g.mapped + page + whole, page, PROT_NONE);
    float *words = (float *)(g.mapped + page);
    for (uint64_t i = 0; i < whole / sizeof(float); i++) words[i] = 3e4f;
    g.data = g.mapped + page + whole - used;
    for (int i = 0; i < MAX_LIVE; i++) {
        if (live[i].memory.mapped != NULL) continue;
        live[i].name = name;
        live[i].memory = g;
        break;
    }
    return g;
}

void guarded_read_only(const Guarded *g) { mprotect(g->mapped, g->mapped_bytes - page_size(), PROT_READ); }

void guarded_free(Guarded *g) {
    if (g->mapped == NULL) return;
    for (int i = 0; i < MAX_LIVE; i++)
        if (live[i].memory.mapped == g->mapped) live[i].memory = (Guarded){0};
    munmap(g->mapped, g->mapped_bytes);
    *g = (Guarded){0};
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
    char text[MAX_PLACE + 256];
    const uint8_t *at = info->si_addr;
    const char *name = "memory of no one";
    long long offset = 0;
    (void)context;
    for (int i = 0; i < MAX_LIVE; i++) {
        const Guarded *g = &live[i].memory;
        if (g->mapped == NULL || at < g->mapped || at >= g->mapped + g->mapped_bytes) continue;
        name = live[i].name;
        offset = at - g->data;
    }
    int size = signal_number == SIGILL ? snprintf(text, sizeof text, "FAILED: an access that is not aligned, in %s\n", place)
                                       : snprintf(text, sizeof text, "FAILED: signal %d: access to %s, byte %lld, in %s\n",
                                                  signal_number, name, offset, place);
    if (write(1, text, (size_t)size) < 0) _exit(2);
    _exit(1);
}

void guarded_report(void) {
    static uint8_t stack[1 << 16]; /* fibers have little left of theirs */
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaltstack(&alternate, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
}

void guarded_say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(place, sizeof place, format, args);
    va_end(args);
}
