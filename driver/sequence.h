/* The sequence that is fed: fresh, from a file, or from a prompt cache; and where it is left for later. */
#ifndef MOSSC_DRIVER_SEQUENCE_H
#define MOSSC_DRIVER_SEQUENCE_H

#include "driver/build.h"
#include "runtime/prompt_cache.h"

/* Tokens of a step that wants all their logits: what the caller asks for (0: nothing), as far as the program allows; without, no more
 * than a CPU's step has, since a GPU's largest would make gigabytes of them. */
int64_t dr_chunk_of_logits(const PgProgram *program, int64_t chunk);

/* A new state, or the one in the file `state_in` if that is not NULL. */
bool dr_state_begin(DrBuild *build, const char *state_in, MossState **out_state);
/* Writes the state to `state_out`; nothing to do if that is NULL. */
bool dr_state_end(DrBuild *build, const MossState *state, const char *state_out);

/* Tokens of a prompt, count ≥ 1. */
typedef struct DrPrompt {
    const int32_t *tokens;
    size_t count;
    uint32_t chunk; /* of moss_feed */
} DrPrompt;

/* The state after the prompt, by way of a cache; `read` and context as in rt_prompt_cache_feed. Warns when the cache cannot be written. */
bool dr_feed_cached(DrBuild *build, const RtPromptCacheOptions *options, const DrPrompt *prompt, RtPromptRead read, void *context,
                    MossState **out_state, RtPromptCacheStats *out_stats);

/* Adds the error that logits are not finite, with the position and the block where that arose: found by feeding `tokens` again, to a
 * new state or the one in `state_in`. Always false. */
bool dr_non_finite(DrBuild *build, const char *state_in, const int32_t *tokens, size_t count);

#endif
