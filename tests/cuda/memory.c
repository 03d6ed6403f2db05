/* Memory of the emulated GPU: it ends at a page that nobody may touch, is full of garbage when it is new, and is out of the host's
 * reach. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device.h"

static size_t page_size(void) { return (size_t)sysconf(_SC_PAGESIZE); }

static void fill_with_garbage(uint8_t *at, size_t bytes) {
    const float garbage = 3e4f; /* no NaN: a kernel may drop that where it looks for the largest */
    for (size_t i = 0; i + sizeof garbage <= bytes; i += sizeof garbage) memcpy(at + i, &garbage, sizeof garbage);
}

Memory *memory_new(Kind kind, CuContextRef context, size_t bytes) {
    size_t page = page_size(), used = (bytes + 63) / 64 * 64, whole = (used + page - 1) / page * page;
    uint8_t *mapped = mmap(NULL, whole + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED || mprotect(mapped + page, whole, PROT_READ | PROT_WRITE) != 0) return NULL;
    fill_with_garbage(mapped + page, whole);
    Memory *m = object_new(kind, context, sizeof *m);
    m->mapped = mapped;
    m->mapped_bytes = whole + 2 * page;
    m->data = mapped + page + whole - used;
    m->bytes = bytes;
    if (kind != PINNED) memory_close(m);
    return m;
}

void memory_free(Memory *m) {
    munmap(m->mapped, m->mapped_bytes);
    object_remove(&m->object);
}

static void protect(const Memory *m, int how) {
    size_t page = page_size();
    mprotect(m->mapped + page, m->mapped_bytes - 2 * page, how);
}
void memory_open(const Memory *m) { protect(m, PROT_READ | PROT_WRITE); }
void memory_close(const Memory *m) { protect(m, PROT_NONE); }

static bool is_kind(Kind kind, Kind wanted) { return kind == wanted || (wanted == MEMORY && kind == GLOBAL); }

static Memory *find(Kind kind, const void *at, size_t bytes) {
    uintptr_t begin = (uintptr_t)at;
    for (Object *o = device.objects; o != NULL; o = o->next) {
        Memory *m = (Memory *)o;
        if (!is_kind(o->kind, kind)) continue;
        uintptr_t data = (uintptr_t)m->data;
        if (begin >= data && begin - data <= m->bytes && bytes <= m->bytes - (begin - data)) return m;
    }
    return NULL;
}

Memory *memory_holding(Kind kind, const void *at, size_t bytes, const char *call) {
    char where[160];
    Memory *m = find(kind, at, bytes);
    if (m == NULL) {
        memory_describe(at, where, sizeof where);
        fprintf(stderr, "emulated GPU: %s of %zu bytes at %s\n", call, bytes, where);
    }
    return m;
}

bool memory_is_pinned(const void *at, size_t bytes) { return find(PINNED, at, bytes) != NULL; }

void memory_describe(const void *at, char *out, size_t bytes) {
    for (Object *o = device.objects; o != NULL; o = o->next) {
        Memory *m = (Memory *)o;
        if (o->kind != MEMORY && o->kind != PINNED && o->kind != GLOBAL) continue;
        if ((const uint8_t *)at < m->mapped || (const uint8_t *)at >= m->mapped + m->mapped_bytes) continue;
        snprintf(out, bytes, "byte %lld of %zu that were allocated", (long long)((const uint8_t *)at - m->data), m->bytes);
        return;
    }
    snprintf(out, bytes, "address %p, which is nobody's", at);
}
