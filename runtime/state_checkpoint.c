/* Taking tokens back: a mark keeps a copy of the state where it was set and the tokens fed since. Going back restores the copy
 * and feeds again what remains, which gives the same bits, since the bits do not depend on how tokens are fed. One copy serves
 * all of the last MOSS_REWIND tokens. */
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"
#include "support/alloc.h"

struct RtMark {
    bool set;
    RtStateMemory memory;
    int64_t position;
    float *logits; /* [vocab_size], malloced when first needed */
    bool has_logits;
    uint64_t count; /* of tokens fed since; the first MOSS_REWIND of them are kept */
    int32_t tokens[MOSS_REWIND];
};

void rt_mark_free(MossState *state) {
    if (state->mark) {
        rt_state_memory_free(state->model, &state->mark->memory);
        su_free(state->mark->logits);
        su_free(state->mark);
        state->mark = NULL;
    }
}

void rt_mark_forget(MossState *state) {
    if (state->mark) state->mark->set = false;
}

void rt_mark_note(MossState *state, const int32_t *tokens, uint32_t count) {
    RtMark *mark = state->mark;
    if (!mark || !mark->set) return;
    for (uint32_t i = 0; i < count && mark->count + i < MOSS_REWIND; i++) mark->tokens[mark->count + i] = tokens[i];
    mark->count += count;
}

static MossError no_memory(const MossState *state) {
    return rt_error(MOSS_NO_MEMORY, "no memory for a mark of %llu bytes", (unsigned long long)state->model->program->state_bytes);
}

/* The mark with its memory, in state->mark. */
static MossError make_mark(MossState *state) {
    if (state->mark) return (MossError){.code = MOSS_OK};
    RtMark *mark = su_calloc(1, sizeof *mark);
    if (!mark) return no_memory(state);
    MossError error = rt_state_memory_make(state->model, &mark->memory);
    if (error.code != MOSS_OK) {
        su_free(mark);
        return error;
    }
    state->mark = mark;
    return error;
}

MossError moss_state_mark(MossState *state) {
    const PgProgram *program = state->model->program;
    const float *logits = moss_state_logits(state);
    size_t logits_bytes = (size_t)program->vocab_size * sizeof *logits;
    if (state->spoilt) return rt_error(MOSS_BAD_INPUT, "the state was left unusable by a failed step: it cannot be marked");
    MossError error = make_mark(state);
    if (error.code != MOSS_OK) return error;
    RtMark *mark = state->mark;
    if (logits && !mark->logits && !(mark->logits = su_malloc(logits_bytes))) return no_memory(state);
    error = rt_state_memory_copy(state->model, &mark->memory, &state->memory);
    if (error.code != MOSS_OK) return error;
    mark->has_logits = logits != NULL;
    if (logits) memcpy(mark->logits, logits, logits_bytes);
    mark->position = state->position;
    mark->count = 0;
    mark->set = true;
    return (MossError){.code = MOSS_OK};
}

MossError moss_state_rewind(MossState *state, uint32_t n) {
    RtMark *mark = state->mark;
    if (!mark || !mark->set) return rt_error(MOSS_BAD_INPUT, "the state has no mark to go back to");
    if (mark->count > MOSS_REWIND) {
        return rt_error(MOSS_BAD_INPUT, "%llu tokens were fed since the mark; going back is possible within %d",
                        (unsigned long long)mark->count, MOSS_REWIND);
    }
    if (n > mark->count) {
        return rt_error(MOSS_BAD_INPUT, "cannot go back %u tokens: only %llu were fed since the mark", n,
                        (unsigned long long)mark->count);
    }
    if (n == 0 && !state->spoilt) return (MossError){.code = MOSS_OK};
    int32_t again[MOSS_REWIND];
    size_t count = mark->count - n;
    memcpy(again, mark->tokens, count * sizeof *again);
    MossError error = rt_state_memory_copy(state->model, &state->memory, &mark->memory);
    if (error.code != MOSS_OK) return error;
    state->position = mark->position;
    state->spoilt = false;
    mark->count = 0; /* what is fed again is noted again */
    if (!rt_state_keep_logits(state, mark->has_logits ? mark->logits : NULL)) return no_memory(state);
    return count ? moss_feed(state->model, state, again, count, 0) : (MossError){.code = MOSS_OK};
}
