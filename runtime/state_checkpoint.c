/* Taking tokens back: a checkpoint keeps a copy of the state where it was set and the tokens fed since. Going back restores the copy
 * and feeds again what remains, which gives the same bits, since the bits do not depend on how tokens are fed. One copy serves
 * all of the last MOSS_REWIND tokens. */
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"
#include "support/alloc.h"

struct RtStateCheckpoint {
    bool set;
    RtStateMemory memory;
    int64_t position;
    float *logits; /* [vocab_size], malloced when first needed */
    bool has_logits;
    uint64_t count; /* of tokens fed since; the first MOSS_REWIND of them are kept */
    int32_t tokens[MOSS_REWIND];
};

void rt_state_checkpoint_free(MossState *state) {
    if (state->checkpoint) {
        rt_state_memory_free(state->model, &state->checkpoint->memory);
        su_free(state->checkpoint->logits);
        su_free(state->checkpoint);
        state->checkpoint = NULL;
    }
}

void rt_state_checkpoint_forget(MossState *state) {
    if (state->checkpoint) state->checkpoint->set = false;
}

void rt_state_checkpoint_note(MossState *state, const int32_t *tokens, uint32_t count) {
    RtStateCheckpoint *checkpoint = state->checkpoint;
    if (!checkpoint || !checkpoint->set) return;
    for (uint32_t i = 0; i < count && checkpoint->count + i < MOSS_REWIND; i++)
        checkpoint->tokens[checkpoint->count + i] = tokens[i];
    checkpoint->count += count;
}

static MossError no_memory(const MossState *state) {
    return rt_error(MOSS_NO_MEMORY, "cannot allocate %llu bytes for a state checkpoint",
                    (unsigned long long)state->model->program->state_bytes);
}

/* The checkpoint with its memory, in state->checkpoint. */
static MossError make_checkpoint(MossState *state) {
    if (state->checkpoint) return (MossError){.code = MOSS_OK};
    RtStateCheckpoint *checkpoint = su_calloc(1, sizeof *checkpoint);
    if (!checkpoint) return no_memory(state);
    MossError error = rt_state_memory_make(state->model, &checkpoint->memory);
    if (error.code != MOSS_OK) {
        su_free(checkpoint);
        return error;
    }
    state->checkpoint = checkpoint;
    return error;
}

MossError moss_state_checkpoint(MossState *state) {
    const PgProgram *program = state->model->program;
    const float *logits = moss_state_logits(state);
    size_t logits_bytes = (size_t)program->vocab_size * sizeof *logits;
    if (state->spoilt)
        return rt_error(MOSS_BAD_INPUT, "state is unusable after a failed step: reset it before taking a checkpoint");
    MossError error = make_checkpoint(state);
    if (error.code != MOSS_OK) return error;
    RtStateCheckpoint *checkpoint = state->checkpoint;
    if (logits && !checkpoint->logits && !(checkpoint->logits = su_malloc(logits_bytes))) return no_memory(state);
    error = rt_state_memory_copy(state->model, &checkpoint->memory, &state->memory);
    if (error.code != MOSS_OK) return error;
    checkpoint->has_logits = logits != NULL;
    if (logits) memcpy(checkpoint->logits, logits, logits_bytes);
    checkpoint->position = state->position;
    checkpoint->count = 0;
    checkpoint->set = true;
    return (MossError){.code = MOSS_OK};
}

MossError moss_state_rewind(MossState *state, uint32_t n) {
    RtStateCheckpoint *checkpoint = state->checkpoint;
    if (!checkpoint || !checkpoint->set) return rt_error(MOSS_BAD_INPUT, "state has no checkpoint to return to");
    if (checkpoint->count > MOSS_REWIND && n != checkpoint->count) { /* all of them: the copy is what is left */
        return rt_error(MOSS_BAD_INPUT, "cannot return to the checkpoint: expected at most %d tokens fed since, got %llu",
                        MOSS_REWIND, (unsigned long long)checkpoint->count);
    }
    if (n > checkpoint->count) {
        return rt_error(MOSS_BAD_INPUT, "cannot go back %u tokens: only %llu were fed since the checkpoint", n,
                        (unsigned long long)checkpoint->count);
    }
    if (n == 0 && !state->spoilt) return (MossError){.code = MOSS_OK};
    int32_t again[MOSS_REWIND];
    size_t count = checkpoint->count - n;
    memcpy(again, checkpoint->tokens, count * sizeof *again);
    MossError error = rt_state_memory_copy(state->model, &state->memory, &checkpoint->memory);
    if (error.code != MOSS_OK) return error;
    state->position = checkpoint->position;
    state->spoilt = false;
    checkpoint->count = 0; /* what is fed again is noted again */
    if (!rt_state_keep_logits(state, checkpoint->has_logits ? checkpoint->logits : NULL)) return no_memory(state);
    return count ? moss_feed(state->model, state, again, count, 0) : (MossError){.code = MOSS_OK};
}
