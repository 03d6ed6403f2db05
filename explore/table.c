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

struct ExTable {
    pthread_rwlock_t lock;
    Slot *slots; /* [capacity], a power of two, at most two thirds of it in use */
    size_t n, capacity;
    SuArena *owned; /* [n_owned] */
    size_t n_owned, owned_capacity, bytes, most_bytes;
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
    for (size_t i = 0; i < table->n_owned; i++) su_arena_free(&table->owned[i]);
    su_free(table->owned);
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
    Slot *slots = su_calloc(capacity, sizeof *slots);
    if (!slots) return false;
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

bool ex_table_own(ExTable *table, SuArena *arena) {
    pthread_rwlock_wrlock(&table->lock);
    bool ok = table->n_owned < table->owned_capacity;
    if (!ok) {
        size_t capacity = table->owned_capacity ? table->owned_capacity * 2 : 64;
        SuArena *owned = su_realloc(table->owned, capacity * sizeof *owned);
        ok = owned != NULL;
        if (ok) {
            table->owned = owned;
            table->owned_capacity = capacity;
        }
    }
    if (ok) {
        table->owned[table->n_owned++] = *arena;
        table->bytes += arena->total;
        *arena = (SuArena){0};
    }
    pthread_rwlock_unlock(&table->lock);
    return ok;
}

bool ex_table_full(ExTable *table) {
    pthread_rwlock_rdlock(&table->lock);
    bool full = table->bytes > table->most_bytes;
    pthread_rwlock_unlock(&table->lock);
    return full;
}

const char *ex_table_text(ExTable *table, const char *text) {
    size_t size = strlen(text) + 1;
    const char *found = ex_table_find(table, text, size);
    if (found) return found;
    SuArena arena = {0};
    su_arena_settle(&arena);
    const char *copy = su_strndup(&arena, text, size - 1);
    if (!ex_table_own(table, &arena) || !ex_table_put(table, copy, size, copy)) su_no_memory(size);
    return ex_table_find(table, text, size);
}
