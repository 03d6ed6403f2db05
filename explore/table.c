#include "explore/table.h"

#include <pthread.h>
#include <string.h>

#include "support/alloc.h"
#include "support/digest.h"

typedef struct Slot {
    const void *value; /* NULL: empty */
    const char *key;
    size_t size;
    uint64_t hash;
} Slot;

typedef struct Owned {
    struct Owned *next;
    SuArena arena;
} Owned;

struct ExTable {
    pthread_rwlock_t lock;
    Slot *slots; /* [capacity], a power of two, at most two thirds of it in use */
    size_t n, capacity;
    Owned *owned;
    size_t most_bytes;
};

enum { FIRST_CAPACITY = 1024 };

static uint64_t hash_of(const void *key, size_t size) {
    SuDigest digest = su_digest(key, size);
    uint64_t hash;
    memcpy(&hash, digest.bytes, sizeof hash);
    return hash;
}

/* The slot of a key, or the empty one where it would stand. */
static Slot *slot_of(Slot *slots, size_t capacity, uint64_t hash, const void *key, size_t size) {
    for (size_t i = hash & (capacity - 1);; i = (i + 1) & (capacity - 1)) {
        Slot *slot = &slots[i];
        if (!slot->value || (slot->hash == hash && slot->size == size && memcmp(slot->key, key, size) == 0)) return slot;
    }
}

ExTable *ex_table_create(size_t most_bytes) {
    ExTable *table = su_calloc(1, sizeof *table);
    if (!table) su_no_memory(sizeof *table);
    pthread_rwlock_init(&table->lock, NULL);
    table->most_bytes = most_bytes;
    table->capacity = FIRST_CAPACITY;
    table->slots = su_calloc(table->capacity, sizeof *table->slots);
    if (table->slots) return table;
    ex_table_free(table);
    su_no_memory(FIRST_CAPACITY * sizeof(Slot));
}

void ex_table_free(ExTable *table) {
    if (!table) return;
    for (Owned *owned = table->owned, *next; owned; owned = next) {
        next = owned->next;
        su_arena_free(&owned->arena);
        su_free(owned);
    }
    su_free(table->slots);
    pthread_rwlock_destroy(&table->lock);
    su_free(table);
}

const void *ex_table_find(ExTable *table, const void *key, size_t size) {
    uint64_t hash = hash_of(key, size);
    pthread_rwlock_rdlock(&table->lock);
    const void *value = slot_of(table->slots, table->capacity, hash, key, size)->value;
    pthread_rwlock_unlock(&table->lock);
    return value;
}

/* false: out of memory. */
static bool grow(ExTable *table) {
    size_t capacity = table->capacity * 2;
    Slot *slots = su_malloc_with(NULL, 0, capacity * sizeof *slots);
    if (!slots) return false;
    memset(slots, 0, capacity * sizeof *slots);
    for (size_t i = 0; i < table->capacity; i++) {
        const Slot *old = &table->slots[i];
        if (old->value) *slot_of(slots, capacity, old->hash, old->key, old->size) = *old;
    }
    su_free(table->slots);
    table->slots = slots;
    table->capacity = capacity;
    return true;
}

/* Under the lock; the text of the key is the caller's. false: out of memory. */
static bool put(ExTable *table, const char *key, size_t size, uint64_t hash, const void *value) {
    if (table->n * 3 >= table->capacity * 2 && !grow(table)) return false;
    Slot *slot = slot_of(table->slots, table->capacity, hash, key, size);
    if (slot->value) return true;
    *slot = (Slot){value, key, size, hash};
    table->n++;
    return true;
}

bool ex_table_put(ExTable *table, const char *key, size_t size, const void *value) {
    pthread_rwlock_wrlock(&table->lock);
    bool ok = put(table, key, size, hash_of(key, size), value);
    pthread_rwlock_unlock(&table->lock);
    return ok;
}

SuArena *ex_table_arena(ExTable *table) {
    Owned *owned = su_malloc_with(NULL, 0, sizeof *owned);
    if (!owned) return NULL;
    pthread_rwlock_wrlock(&table->lock);
    *owned = (Owned){.next = table->owned, .arena = SU_ARENA_FREE};
    table->owned = owned;
    pthread_rwlock_unlock(&table->lock);
    return &owned->arena;
}

/* What other threads add meanwhile may be missed: it is a limit, not a count. */
bool ex_table_full(ExTable *table) {
    size_t bytes = 0;
    pthread_rwlock_rdlock(&table->lock);
    for (const Owned *owned = table->owned; owned; owned = owned->next)
        bytes += __atomic_load_n(&owned->arena.total, __ATOMIC_RELAXED);
    pthread_rwlock_unlock(&table->lock);
    return bytes > table->most_bytes;
}

const char *ex_table_text(ExTable *table, const char *text, SuArena *arena) {
    size_t size = strlen(text) + 1;
    const char *found = ex_table_find(table, text, size);
    if (found) return found;
    const char *copy = su_strndup(arena, text, size - 1);
    if (!ex_table_put(table, copy, size, copy)) su_no_memory(size);
    return ex_table_find(table, text, size);
}
