#include "ir/names.h"

#include <string.h>

/* FNV-1a. */
static uint64_t hash_of(const char *name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = name; *c; c++) hash = (hash ^ (uint8_t)*c) * 0x100000001b3u;
    return hash;
}

static IrNameSlot *find(IrNameSlot *slots, size_t capacity, const char *name) {
    size_t i = hash_of(name) & (capacity - 1);
    while (slots[i].name && strcmp(slots[i].name, name) != 0) i = (i + 1) & (capacity - 1);
    return &slots[i];
}

static void grow(IrNames *names) {
    size_t capacity = names->capacity ? names->capacity * 2 : 64;
    IrNameSlot *slots = SU_NEW_ARRAY(names->arena, IrNameSlot, capacity);
    for (size_t i = 0; i < names->capacity; i++)
        if (names->slots[i].name) *find(slots, capacity, names->slots[i].name) = names->slots[i];
    names->slots = slots;
    names->capacity = capacity;
}

IrNameSlot *ir_names_at(IrNames *names, const char *name) {
    if (names->n * 2 >= names->capacity) grow(names);
    IrNameSlot *slot = find(names->slots, names->capacity, name);
    if (!slot->name) {
        *slot = (IrNameSlot){name, -1};
        names->n++;
    }
    return slot;
}
