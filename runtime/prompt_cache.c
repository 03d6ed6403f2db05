#include "runtime/prompt_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/model.h"
#include "runtime/state_file.h"
#include "support/alloc.h"
#include "support/entries.h"

static const char suffix[] = ".state";

struct RtPromptCache {
    MossModel *model;
    RtPromptCacheOptions options;
    SuDigest base; /* of all that a name depends on but the tokens */
    RtPromptCacheStats stats;
    SuArena arena; /* owns the directory's name */
};

/* ---- names */

static SuDigest base_of(const MossModel *model, const SuDigest *identity) {
    const PgProgram *program = model->program;
    SuDigest layout = rt_state_layout(program);
    uint32_t versions[] = {RT_STATE_FORMAT, PG_NUMERICS};
    SuDigestStream *stream = su_digest_start();
    su_digest_add(stream, versions, sizeof versions);
    su_digest_add(stream, program->spec_hash, sizeof program->spec_hash);
    su_digest_add(stream, identity, sizeof *identity);
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
    return su_entry_path(arena, cache->options.directory, name, suffix);
}

/* ---- finding */

/* A prefix of the prompt that has an entry. */
typedef struct Found {
    size_t length;
    SuDigest name;
} Found;

/* All of them, rising. */
static Found *find_prefixes(const RtPromptCache *cache, const int32_t *tokens, size_t count, SuEntries *entries,
                            size_t *out_count) {
    Found *found = NULL;
    size_t capacity = 0, n = 0;
    su_entries_sort_by_name(entries);
    SuDigestStream *stream = start_name(cache);
    for (size_t i = 0; i < count; i++) {
        su_digest_add(stream, &tokens[i], sizeof tokens[i]);
        SuDigest name = su_digest_now(stream);
        if (su_entries_find(entries, &name)) {
            found = su_grow(&entries->arena, found, &capacity, n + 1, sizeof *found);
            found[n++] = (Found){.length = i + 1, .name = name};
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
        su_entry_touch(path);
        return state;
    }
    moss_state_free(state);
    return NULL;
}

static MossState *find(RtPromptCache *cache, const int32_t *tokens, size_t count) {
    SuEntries entries = su_entries_list(cache->options.directory, suffix);
    MossState *state = NULL;
    if (entries.count) {
        size_t n;
        Found *found = find_prefixes(cache, tokens, count, &entries, &n);
        while (!state && n-- > 0) state = load(cache, &found[n], found[n].length == count, &entries.arena);
    }
    su_entries_free(&entries);
    return state;
}

/* ---- storing */

static void store(RtPromptCache *cache, const SuDigest *name, const MossState *state) {
    SuArena arena = {0};
    const char *path = path_of(cache, name, &arena);
    if (cache->stats.error.code == MOSS_OK && !su_entry_touch(path)) {
        cache->stats.error = moss_state_save(state, path);
        cache->stats.stored += cache->stats.error.code == MOSS_OK;
        cache->stats.evicted += su_entries_make_room(cache->options.directory, suffix, cache->options.most_bytes);
    }
    su_arena_free(&arena);
}

/* Feeds what the state has not seen, up to each place where one is to be stored. */
static MossError feed(RtPromptCache *cache, const int32_t *tokens, size_t count, uint32_t chunk, RtPromptRead read, void *context,
                      MossState *state) {
    size_t at = (size_t)moss_state_position(state), most = (size_t)cache->model->program->max_rows;
    SuDigestStream *stream = start_name(cache);
    su_digest_add(stream, tokens, at * sizeof *tokens);
    MossError error = {.code = MOSS_OK};
    bool go = at == 0 || !read || read(context, at, count);
    while (go && at < count && error.code == MOSS_OK) {
        size_t every = cache->options.every, n = every - at % every;
        n = n < count - at ? n : count - at;
        n = n < most ? n : most; /* so that `read` is asked often */
        error = moss_feed(cache->model, state, tokens + at, n, chunk);
        su_digest_add(stream, tokens + at, n * sizeof *tokens);
        at += n;
        if (error.code == MOSS_OK && (at % every == 0 || at == count)) {
            SuDigest name = su_digest_now(stream);
            store(cache, &name, state);
        }
        go = !read || read(context, at, count);
    }
    su_digest_end(stream);
    return error;
}

static MossError prompt_cache_feed_unguarded(RtPromptCache *cache, const int32_t *tokens, size_t count, uint32_t chunk,
                                             RtPromptRead read, void *context, MossState **out_state) {
    MossError error = {.code = MOSS_OK};
    MossState *state = find(cache, tokens, count);
    *out_state = NULL;
    if (state)
        cache->stats.reused += (size_t)moss_state_position(state);
    else
        error = moss_state_create(cache->model, &state);
    if (error.code == MOSS_OK) error = feed(cache, tokens, count, chunk, read, context, state);
    if (error.code != MOSS_OK) {
        moss_state_free(state);
        return error;
    }
    *out_state = state;
    return error;
}

MossError rt_prompt_cache_feed(RtPromptCache *cache, const int32_t *tokens, size_t count, uint32_t chunk, RtPromptRead read,
                               void *context, MossState **out_state) {
    *out_state = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "feeding a prompt")) return rt_failure(&guard.failure);
    MossError result = prompt_cache_feed_unguarded(cache, tokens, count, chunk, read, context, out_state);
    su_guard_end(&guard);
    return result;
}

/* ---- opening */

bool rt_prompt_cache_make(const char *directory, SuDiags *diags) {
    struct stat st;
    SuSpan span = su_file_span(diags, directory);
    if (mkdir(directory, 0777) != 0 && errno != EEXIST)
        return su_error(diags, span, NULL, "cannot create directory: %s", strerror(errno));
    if (stat(directory, &st) != 0 || !S_ISDIR(st.st_mode)) return su_error(diags, span, NULL, "path is not a directory");
    return true;
}

RtPromptCache *rt_prompt_cache_open(MossModel *model, const RtPromptCacheOptions *options, SuDiags *diags) {
    if (!rt_prompt_cache_make(options->directory, diags)) return NULL;
    const SuDigest *identity;
    MossError error = rt_model_identity(model, &identity);
    if (error.code != MOSS_OK) {
        su_error(diags, (SuSpan){0}, NULL, "%s", error.text);
        return NULL;
    }
    RtPromptCache *cache = su_calloc(1, sizeof *cache);
    if (!cache) {
        su_error(diags, (SuSpan){0}, NULL, "cannot allocate memory for the prompt cache");
        return NULL;
    }
    *cache = (RtPromptCache){.model = model, .options = *options, .base = base_of(model, identity)};
    cache->options.directory = su_strdup(&cache->arena, options->directory);
    cache->options.every = options->every ? options->every : 1;
    return cache;
}

void rt_prompt_cache_close(RtPromptCache *cache) {
    if (cache) {
        su_arena_free(&cache->arena);
        su_free(cache);
    }
}

RtPromptCacheStats rt_prompt_cache_stats(const RtPromptCache *cache) { return cache->stats; }
