#include "codegen/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/alloc.h"
#include "support/diag.h"
#include "support/file.h"

enum { FORMAT = 1, MOST_ENTRY_BYTES = 64 << 20 };
static const char kernels[] = ".kernel", magic[8] = {'m', 'o', 's', 's', 'c', 'K', '\r', '\n'};

typedef struct Header {
    char magic[8];
    uint32_t format, pad;
    SuDigest key;
    uint64_t size;   /* of the payload */
    SuDigest digest; /* of the header up to here and the payload */
} Header;
_Static_assert(sizeof(Header) == 56, "no padding");

struct CgCache {
    char *directory;
    const char *suffix;
    uint64_t most_bytes;
    atomic_uint found, missed, damaged;
    atomic_ullong bytes; /* of the entries found and stored */
    uint32_t stored, evicted;
    SuDiags problems; /* the first one is told */
};

CgCache *cg_cache_open_as(const char *directory, const char *suffix, uint64_t most_bytes) {
    CgCache *cache = su_calloc(1, sizeof *cache);
    char *copy = su_copy(directory);
    if (cache == NULL || copy == NULL) SU_BUG("cannot allocate memory for the kernel cache");
    cache->directory = copy;
    cache->suffix = suffix;
    cache->most_bytes = most_bytes;
    return cache;
}

CgCache *cg_cache_open(const char *directory, uint64_t most_bytes) { return cg_cache_open_as(directory, kernels, most_bytes); }

void cg_cache_trim(CgCache *cache) {
    if (cache->stored > 0) cache->evicted += (uint32_t)su_entries_make_room(cache->directory, cache->suffix, cache->most_bytes);
}

void cg_cache_close(CgCache *cache) {
    if (cache == NULL) return;
    su_diags_free(&cache->problems);
    su_free(cache->directory);
    su_free(cache);
}

CgCacheStats cg_cache_stats(const CgCache *cache) {
    return (CgCacheStats){.found = cache->found,
                          .missed = cache->missed,
                          .damaged = cache->damaged,
                          .stored = cache->stored,
                          .evicted = cache->evicted,
                          .overfull = cache->evicted > 0 && cache->bytes > cache->most_bytes,
                          .problem = cache->problems.count > 0 ? cache->problems.items[0].message : NULL};
}

/* ---------------------------------------------------------------------------------------------- reading */

/* Somebody who may write an entry may run code as this user. */
static bool is_trusted(const struct stat *st) {
    bool ours = st->st_uid == geteuid() || st->st_uid == 0;
    return S_ISREG(st->st_mode) && ours && (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static bool read_all(int fd, uint8_t *to, size_t size) {
    while (size > 0) {
        ssize_t got = read(fd, to, size);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        to += got;
        size -= (size_t)got;
    }
    return true;
}

static SuDigest digest_of(const Header *header, const void *first, size_t first_size, const void *second, size_t second_size) {
    SuDigestStream *stream = su_digest_start();
    su_digest_add(stream, header, offsetof(Header, digest));
    su_digest_add(stream, first, first_size);
    su_digest_add(stream, second, second_size);
    SuDigest digest = su_digest_now(stream);
    su_digest_end(stream);
    return digest;
}

static bool is_whole(const Header *header, const SuDigest *key, const uint8_t *payload, size_t size) {
    if (memcmp(header->magic, magic, sizeof magic) != 0 || header->format != FORMAT || header->size != size ||
        !su_digest_equal(&header->key, key)) {
        return false;
    }
    SuDigest digest = digest_of(header, payload, size, NULL, 0);
    return su_digest_equal(&header->digest, &digest);
}

/* The payload of an open file, or NULL if it is not to be believed. */
static uint8_t *read_entry(int fd, const SuDigest *key, size_t *out_size) {
    struct stat st;
    Header header;
    if (fstat(fd, &st) != 0 || !is_trusted(&st) || st.st_size < (off_t)sizeof header || st.st_size > MOST_ENTRY_BYTES) return NULL;
    size_t size = (size_t)st.st_size - sizeof header;
    uint8_t *payload = su_malloc(size > 0 ? size : 1);
    if (payload != NULL && read_all(fd, (uint8_t *)&header, sizeof header) && read_all(fd, payload, size) &&
        is_whole(&header, key, payload, size)) {
        *out_size = size;
        return payload;
    }
    su_free(payload);
    return NULL;
}

uint8_t *cg_cache_find(CgCache *cache, const SuDigest *key, size_t *out_size) {
    SuArena arena = {0};
    const char *path = su_entry_path(&arena, cache->directory, key, cache->suffix);
    uint8_t *payload = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK); /* a FIFO would block */
    bool absent = fd < 0 && (errno == ENOENT || errno == ENOTDIR);
    if (fd >= 0) {
        payload = read_entry(fd, key, out_size);
        if (payload != NULL) {
            futimens(fd, NULL); /* the time of last use; where it cannot be set, entries age */
            atomic_fetch_add(&cache->bytes, sizeof(Header) + *out_size);
        }
        close(fd);
    }
    atomic_fetch_add(payload != NULL ? &cache->found : absent ? &cache->missed : &cache->damaged, 1);
    su_arena_free(&arena);
    return payload;
}

/* ---------------------------------------------------------------------------------------------- writing */

/* Makes the directory and those above it that are missing, for this user alone. What cannot be made shows when a file is. */
static void make_directories(const char *directory) {
    char *path = su_copy(directory);
    for (char *at = path; at != NULL && *at != '\0'; at++) {
        if (*at == '/' && at > path) {
            *at = '\0';
            mkdir(path, 0700);
            *at = '/';
        }
    }
    if (path != NULL) mkdir(path, 0700);
    su_free(path);
}

void cg_cache_store(CgCache *cache, const SuDigest *key, const void *header, size_t header_size, const void *body,
                    size_t body_size) {
    Header h = {.format = FORMAT, .key = *key, .size = header_size + body_size};
    memcpy(h.magic, magic, sizeof magic);
    h.digest = digest_of(&h, header, header_size, body, body_size);
    if (cache->stored == 0) make_directories(cache->directory);
    SuOut out;
    const char *path = su_entry_path(&cache->problems.arena, cache->directory, key, cache->suffix);
    struct stat old;
    if (lstat(path, &old) == 0 && !is_trusted(&old)) unlink(path); /* a file in its place would have its mode, a link its target */
    if (!su_out_open(path, &out, &cache->problems)) return;
    fchmod(fileno(out.file), 0644); /* is_trusted, whatever the umask */
    fwrite(&h, sizeof h, 1, out.file);
    fwrite(header, 1, header_size, out.file);
    if (body_size > 0) fwrite(body, 1, body_size, out.file);
    if (!su_out_commit_unsynced(&out, &cache->problems)) return;
    cache->stored++;
    cache->bytes += sizeof h + h.size;
}

/* ---------------------------------------------------------------------------------------------- the directory */

SuEntries cg_cache_list(const char *directory) { return su_entries_list(directory, kernels); }

size_t cg_cache_clear(const char *directory) { return su_entries_make_room(directory, kernels, 0); }
