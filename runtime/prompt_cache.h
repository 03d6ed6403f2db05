/* A directory of states after prefixes of prompts, so that a prompt that begins like an earlier one is fed from there on.
 *
 * An entry is a state file (state_file.h) whose name is the digest of what its bits depend on: spec, weights, numerics, table of
 * states, and the tokens of the prefix. Entries of many models may share a directory. Entries appear whole, so any number of
 * processes may use a directory at once; one that vanishes meanwhile is a miss, one that is damaged is removed. The entries used
 * least recently go first when all together are larger than the bound. */
#ifndef MOSSC_RUNTIME_PROMPT_CACHE_H
#define MOSSC_RUNTIME_PROMPT_CACHE_H

#include "mossc/moss.h"
#include "support/diag.h"

typedef struct RtPromptCache RtPromptCache;

typedef struct RtPromptCacheOptions {
    const char *directory;  /* made if it is not there */
    uint32_t every;      /* a state is stored each time this many more tokens stand, and after the last one; at least 1 */
    uint64_t most_bytes; /* of all entries together */
} RtPromptCacheOptions;

/* What happened so far. */
typedef struct RtPromptCacheStats {
    size_t reused;   /* tokens that were not fed */
    size_t stored;   /* entries written */
    size_t damaged;  /* entries removed because of damage */
    size_t evicted;  /* entries removed for room */
    MossError error; /* why the last entry could not be written; storing then stops */
} RtPromptCacheStats;

/* Makes the directory of a cache, if it is not there. */
bool rt_prompt_cache_make(const char *directory, SuDiags *diags);
/* NULL after adding to diags. */
RtPromptCache *rt_prompt_cache_open(MossModel *model, const RtPromptCacheOptions *options, SuDiags *diags);
void rt_prompt_cache_close(RtPromptCache *cache);
RtPromptCacheStats rt_prompt_cache_stats(const RtPromptCache *cache);

/* Called when `done` of `total` tokens are read, at first those that were reused, if any. false: enough. */
typedef bool (*RtPromptRead)(void *context, size_t done, size_t total);

/* Makes the state after tokens[count], count ≥ 1: from the longest prefix in the directory, the rest by moss_feed with `chunk`.
 * moss_state_logits are those of the last token, and its bits those of feeding all. `read` may be NULL; where it says that it is enough,
 * the state is the one after the tokens that it was told of. */
MossError rt_prompt_cache_feed(RtPromptCache *cache, const int32_t *tokens, size_t count, uint32_t chunk, RtPromptRead read,
                               void *context, MossState **out_state);

#endif
