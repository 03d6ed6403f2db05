/* Directories of entries: what caches on disk share. An entry is a file named by a digest in hexadecimal and a suffix; it appears
 * whole (SuOut), is then only read or unlinked, and its modification time is that of its last use. Any number of processes may
 * use a directory at once. Files of other names are none of ours and never touched. */
#ifndef MOSSC_SUPPORT_ENTRIES_H
#define MOSSC_SUPPORT_ENTRIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "support/arena.h"
#include "support/digest.h"

typedef struct SuEntry {
    SuDigest name;
    struct timespec used;
    uint64_t bytes;
} SuEntry;

typedef struct SuEntries {
    SuEntry *items;
    size_t count, capacity;
    uint64_t bytes; /* of all together */
    SuArena arena;
} SuEntries;

/* Every entry with that suffix (".state"), in no order; none if there is no such directory. Removes temporaries of killed processes. */
SuEntries su_entries_list(const char *directory, const char *suffix);
void su_entries_free(SuEntries *entries);
void su_entries_sort_by_name(SuEntries *entries); /* for su_entries_find */
const SuEntry *su_entries_find(const SuEntries *sorted, const SuDigest *name);

/* Removes what was used least recently until the entries take `most_bytes` or less (0: all, empty ones too); how many went. */
size_t su_entries_make_room(const char *directory, const char *suffix, uint64_t most_bytes);

const char *su_entry_path(SuArena *arena, const char *directory, const SuDigest *name, const char *suffix);
/* Marks as used now. false: there is no such file. */
bool su_entry_touch(const char *path);

#endif
