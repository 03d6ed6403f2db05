#include "runtime/prompt_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/model.h"
#include "runtime/state_file.h"

enum { STALE_SECONDS = 3600 }; /* a temporary this old belongs to a process that was killed */
static const char suffix[] = ".state";

struct RtPromptCache {
    MossModel *model;
    RtPromptCacheOptions options;
    SuDigest base; /* of all that a name depends on but the tokens */
    RtPromptCacheStats stats;
    SuArena arena; /* owns the folder's name */
};

/* ---- names */

static SuDigest base_of(MossModel *model) {
    const PgProgram *program = model->program;
    SuDigest layout = rt_state_layout(program);
    uint32_t versions[] = {RT_STATE_FORMAT, PG_NUMERICS};
    SuDigestStream *stream = su_digest_start();
    su_digest_add(stream, versions, sizeof versions);
    su_digest_add(stream, program->spec_hash, sizeof program->spec_hash);
    su_digest_add(stream, rt_model_identity(model), sizeof(SuDigest));
    su_digest_add(stream, &layout, sizeof layout);
    SuDigest base = su_digest_now(stream);
    su_digest_end(stream);
    return base;
}

static SuDigestStream *start_name(const RtPromptCache *cache) {
    SuDigestStream *stream = su_digest_start();
    su_digest_add(stream, &cache->base, sizeof cache->base);
    return stream;
}

static const char *path_of(const RtPromptCache *cache, const SuDigest *name, SuArena *arena) {
    char hex[SU_HEX];
    return su_printf(arena, "%s/%s%s", cache->options.folder, su_digest_hex(name, hex), suffix);
}

/* Reads a file's name; *out_rest is what follows the digest and the suffix. false: no name of ours. */
static bool read_name(const char *text, SuDigest *out, const char **out_rest) {
    for (size_t i = 0; i < 2 * sizeof out->bytes; i++) {
        const char *digits = "0123456789abcdef", *at = text[i] ? strchr(digits, text[i]) : NULL;
        if (!at) { return false; }
        uint8_t digit = (uint8_t)(at - digits);
        out->bytes[i / 2] = (uint8_t)(i % 2 ? out->bytes[i / 2] | digit : digit << 4);
    }
    size_t size = strlen(suffix);
    *out_rest = text + SU_HEX - 1 + size;
    return strncmp(text + SU_HEX - 1, suffix, size) == 0;
}

/* ---- the folder */

typedef struct Entry {
    SuDigest name;
    struct timespec used;
    uint64_t bytes;
} Entry;

typedef struct Entries {
    Entry *items;
    size_t count, capacity;
    SuArena arena;
} Entries;

/* All entries of any model. Removes temporaries that a killed process left. */
static Entries list(const RtPromptCache *cache) {
    Entries entries = {0};
    DIR *folder = opendir(cache->options.folder);
    time_t now = time(NULL);
    for (struct dirent *d; folder && (d = readdir(folder));) {
        Entry entry = {.bytes = 0};
        struct stat st;
        const char *rest;
        if (!read_name(d->d_name, &entry.name, &rest) || fstatat(dirfd(folder), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISREG(st.st_mode)) {
            continue;
        }
        if (*rest) {
            if (strncmp(rest, ".tmp-", 5) == 0 && now - st.st_mtime > STALE_SECONDS) { unlinkat(dirfd(folder), d->d_name, 0); }
            continue;
        }
        entry.used = st.st_mtim;
        entry.bytes = (uint64_t)st.st_size;
        entries.items = su_grow(&entries.arena, entries.items, &entries.capacity, entries.count + 1, sizeof entry);
        entries.items[entries.count++] = entry;
    }
    if (folder) { closedir(folder); }
    return entries;
}

static int by_name(const void *a, const void *b) {
    return memcmp(&((const Entry *)a)->name, &((const Entry *)b)->name, sizeof(SuDigest));
}

static int by_use(const void *a, const void *b) {
    const struct timespec *x = &((const Entry *)a)->used, *y = &((const Entry *)b)->used;
    return x->tv_sec != y->tv_sec ? (x->tv_sec < y->tv_sec ? -1 : 1) : (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

static void make_room(RtPromptCache *cache) {
    Entries entries = list(cache);
    uint64_t bytes = 0;
    for (size_t i = 0; i < entries.count; i++) { bytes += entries.items[i].bytes; }
    if (bytes > cache->options.most_bytes) { qsort(entries.items, entries.count, sizeof *entries.items, by_use); }
    for (size_t i = 0; i < entries.count && bytes > cache->options.most_bytes; i++) {
        cache->stats.evicted += unlink(path_of(cache, &entries.items[i].name, &entries.arena)) == 0;
        bytes -= entries.items[i].bytes;
    }
    su_arena_free(&entries.arena);
}

/* Marks as used. false: there is no such file. */
static bool touch(const char *path) { return utimensat(AT_FDCWD, path, NULL, 0) == 0; }

/* ---- finding */

/* A prefix of the prompt that has an entry. */
typedef struct Found {
    size_t length;
    SuDigest name;
} Found;

/* All of them, rising. */
static Found *find_prefixes(const RtPromptCache *cache, const int32_t *tokens, size_t count, Entries *entries, size_t *out_count) {
    Found *found = NULL;
    size_t capacity = 0, n = 0;
    qsort(entries->items, entries->count, sizeof *entries->items, by_name);
    SuDigestStream *stream = start_name(cache);
    for (size_t i = 0; i < count; i++) {
        su_digest_add(stream, &tokens[i], sizeof tokens[i]);
        Entry key = {.name = su_digest_now(stream)};
        if (bsearch(&key, entries->items, entries->count, sizeof key, by_name)) {
            found = su_grow(&entries->arena, found, &capacity, n + 1, sizeof *found);
            found[n++] = (Found){.length = i + 1, .name = key.name};
        }
    }
    su_digest_end(stream);
    *out_count = n;
    return found;
}

/* Loads an entry; one that is damaged is removed. NULL: a miss. */
static MossState *load(RtPromptCache *cache, const Found *found, bool needs_logits, SuArena *arena) {
    const char *path = path_of(cache, &found->name, arena);
    MossState *state;
    MossError error = moss_state_load(cache->model, path, &state);
    if (error.code == MOSS_BAD_STATE || (state && moss_state_position(state) != (int64_t)found->length)) {
        cache->stats.damaged++;
        unlink(path);
    } else if (state && (!needs_logits || moss_state_logits(state))) {
        touch(path);
        return state;
    }
    moss_state_free(state);
    return NULL;
}

static MossState *find(RtPromptCache *cache, const int32_t *tokens, size_t count) {
    Entries entries = list(cache);
    MossState *state = NULL;
    if (entries.count) {
        size_t n;
        Found *found = find_prefixes(cache, tokens, count, &entries, &n);
        while (!state && n-- > 0) { state = load(cache, &found[n], found[n].length == count, &entries.arena); }
    }
    su_arena_free(&entries.arena);
    return state;
}

/* ---- storing */

static void store(RtPromptCache *cache, const SuDigest *name, const MossState *state) {
    SuArena arena = {0};
    const char *path = path_of(cache, name, &arena);
    if (cache->stats.error.code == MOSS_OK && !touch(path)) {
        cache->stats.error = moss_state_save(state, path);
        cache->stats.stored += cache->stats.error.code == MOSS_OK;
        make_room(cache);
    }
    su_arena_free(&arena);
}

/* Feeds what the state has not seen, up to each place where one is to be stored. */
static MossError feed(RtPromptCache *cache, const int32_t *tokens, size_t count, uint32_t chunk, MossProgress progress,
                      void *progress_context, MossState *state) {
    size_t at = (size_t)moss_state_position(state);
    SuDigestStream *stream = start_name(cache);
    su_digest_add(stream, tokens, at * sizeof *tokens);
    MossError error = {.code = MOSS_OK};
    while (at < count && error.code == MOSS_OK) {
        size_t every = cache->options.every, n = every - at % every;
        n = n < count - at ? n : count - at;
        error = moss_feed(cache->model, state, tokens + at, n, chunk);
        su_digest_add(stream, tokens + at, n * sizeof *tokens);
        at += n;
        if (error.code == MOSS_OK) {
            SuDigest name = su_digest_now(stream);
            store(cache, &name, state);
        }
        if (progress) { progress(progress_context, at, count); }
    }
    su_digest_end(stream);
    return error;
}

MossError rt_prompt_cache_feed(RtPromptCache *cache, const int32_t *tokens, size_t count, uint32_t chunk, MossProgress progress,
                               void *progress_context, MossState **out_state) {
    MossError error = {.code = MOSS_OK};
    MossState *state = find(cache, tokens, count);
    *out_state = NULL;
    if (state) {
        cache->stats.reused += (size_t)moss_state_position(state);
    } else {
        error = moss_state_create(cache->model, &state);
    }
    if (error.code == MOSS_OK) { error = feed(cache, tokens, count, chunk, progress, progress_context, state); }
    if (error.code != MOSS_OK) {
        moss_state_free(state);
        return error;
    }
    *out_state = state;
    return error;
}

/* ---- opening */

RtPromptCache *rt_prompt_cache_open(MossModel *model, const RtPromptCacheOptions *options, SuDiags *diags) {
    struct stat st;
    SuSpan span = su_file_span(diags, options->folder);
    if (mkdir(options->folder, 0777) != 0 && errno != EEXIST) {
        su_error(diags, span, NULL, "cannot make this folder: %s", strerror(errno));
        return NULL;
    }
    if (stat(options->folder, &st) != 0 || !S_ISDIR(st.st_mode)) {
        su_error(diags, span, NULL, "is not a folder");
        return NULL;
    }
    RtPromptCache *cache = calloc(1, sizeof *cache);
    if (!cache) {
        su_error(diags, span, NULL, "no memory for the prompt cache");
        return NULL;
    }
    *cache = (RtPromptCache){.model = model, .options = *options, .base = base_of(model)};
    cache->options.folder = su_strdup(&cache->arena, options->folder);
    cache->options.every = options->every ? options->every : 1;
    return cache;
}

void rt_prompt_cache_close(RtPromptCache *cache) {
    if (cache) {
        su_arena_free(&cache->arena);
        free(cache);
    }
}

RtPromptCacheStats rt_prompt_cache_stats(const RtPromptCache *cache) { return cache->stats; }
