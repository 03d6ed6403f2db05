/* The sequence that a command feeds: fresh, from a file, or from a prompt cache; and where it is left for later. */
#ifndef MOSSC_CLI_SEQUENCE_H
#define MOSSC_CLI_SEQUENCE_H

#include "cli/pipeline.h"
#include "cli/progress.h"
#include "runtime/prompt_cache.h"

/* Rows of a command's table; `Type` has the fields state_in and state_out. */
#define CLI_OPTION_STATE_IN(Type)                                                                                                  \
    CLI_ROW_TEXT(Type, state_in, "state-in", 0, "FILE", false,                                                                     \
                 "go on from a state that --state-out wrote, with the bits of a sequence that was never interrupted")
#define CLI_OPTION_STATE_OUT(Type)                                                                                                 \
    CLI_ROW_TEXT(Type, state_out, "state-out", 0, "FILE", false,                                                                   \
                 "write the state after the last token; the file appears only when it is whole")

/* Tokens of a step that wants all their logits: what --chunk asks for (0: nothing), as far as the program allows; without, no more
 * than a CPU's step has, since a GPU's largest would make gigabytes of them. */
int64_t cli_chunk_of_logits(const PgProgram *program, int64_t chunk);

/* A new state, or the one in the file `state_in` if that is not NULL. */
bool cli_state_begin(CliBuild *build, const char *state_in, MossState **out_state);
/* Writes the state to `state_out`; nothing to do if that is NULL. */
bool cli_state_end(CliBuild *build, const MossState *state, const char *state_out);

/* Tokens of a prompt, count ≥ 1. */
typedef struct CliPrompt {
    const int32_t *tokens;
    size_t count;
    uint32_t chunk; /* of moss_feed */
} CliPrompt;

/* The state after the prompt, by way of a cache. Warns when the cache cannot be written. */
bool cli_feed_cached(CliBuild *build, const RtPromptCacheOptions *options, const CliPrompt *prompt, CliProgress *progress,
                     MossState **out_state, RtPromptCacheStats *out_stats);

#endif
