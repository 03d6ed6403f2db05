/* Compiled kernels on disk: a directory of entries (support/entries.h), each named by its key, the digest of all that its bytes
 * depend on. An entry is
 *
 *     header   magic "mosscK\r\n", format, key, size of the payload, digest of header and payload
 *     payload
 *
 * and nothing of it is trusted: one that is cut, changed, of another format, under the wrong name, or writable or owned by somebody
 * else than the user and root (it is code) is as good as none, and is replaced. Entries are not synced: after a crash the
 * digest finds what was lost. Any number of processes may use a directory at once. */
#ifndef MOSSC_CODEGEN_CACHE_H
#define MOSSC_CODEGEN_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "support/digest.h"
#include "support/entries.h"

typedef struct CgCache CgCache;

/* What happened since cg_cache_open. */
typedef struct CgCacheStats {
    uint32_t found;      /* entries read */
    uint32_t missed;     /* no entry */
    uint32_t damaged;    /* entries that were not believed */
    uint32_t stored;
    uint32_t evicted;    /* removed for room */
    bool overfull;       /* among them some that were just found or stored: all of those take more than the bound */
    const char *problem; /* why an entry could not be stored, or NULL; lives as long as the cache */
} CgCacheStats;

/* The directory is made when the first entry is stored. Ends the process without memory, as arenas do. */
CgCache *cg_cache_open(const char *directory, uint64_t most_bytes);
/* The same for entries of another suffix, a literal (codegen/tuning.h). */
CgCache *cg_cache_open_as(const char *directory, const char *suffix, uint64_t most_bytes);
/* Removes what was used least recently while all entries together are larger than the bound, if any was stored. */
void cg_cache_trim(CgCache *cache);
void cg_cache_close(CgCache *cache);
CgCacheStats cg_cache_stats(const CgCache *cache);

/* The payload under `key`, to be freed, or NULL. May be called by several threads. */
uint8_t *cg_cache_find(CgCache *cache, const SuDigest *key, size_t *out_size);
/* Stores the payload header ++ body. A failure is told by cg_cache_stats: whoever compiles goes on without. One thread at a time. */
void cg_cache_store(CgCache *cache, const SuDigest *key, const void *header, size_t header_size, const void *body,
                    size_t body_size);

/* All entries of a directory, whoever made them; and how many of them were removed. */
SuEntries cg_cache_list(const char *directory);
size_t cg_cache_clear(const char *directory);

#endif
