/* Sequences: a block of memory each, zero at position 0. */
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"
#include "support/size.h"

enum { LARGE = 1 << 20 }; /* bytes from which a state gets pages: long attention caches are then not touched before use */

MossError moss_state_create(MossModel *model, MossState **out_state) {
    uint64_t bytes = su_round_up(model->program->state_bytes ? model->program->state_bytes : 1, RT_CACHE_LINE);
    MossState *state = calloc(1, sizeof *state);
    *out_state = NULL;
    if (state && bytes >= LARGE) {
        state->pages = rt_pages_alloc(bytes);
        state->memory = state->pages.data;
    } else if (state && (state->memory = aligned_alloc(RT_CACHE_LINE, bytes))) {
        memset(state->memory, 0, bytes);
    }
    if (!state || !state->memory) {
        free(state);
        return rt_error(MOSS_NO_MEMORY, "no memory for the %llu bytes of a state", (unsigned long long)bytes);
    }
    state->model = model;
    *out_state = state;
    return (MossError){.code = MOSS_OK};
}

void moss_state_reset(MossState *state) {
    if (state->pages.data) {
        rt_pages_clear(&state->pages);
    } else {
        memset(state->memory, 0, state->model->program->state_bytes);
    }
    state->position = 0;
    state->spoilt = false;
}

MossError moss_state_clone(const MossState *state, MossState **out_copy) {
    MossError error = moss_state_create(state->model, out_copy);
    if (error.code == MOSS_OK) {
        memcpy((*out_copy)->memory, state->memory, state->model->program->state_bytes);
        (*out_copy)->position = state->position;
        (*out_copy)->spoilt = state->spoilt;
    }
    return error;
}

int64_t moss_state_position(const MossState *state) { return state->position; }

void moss_state_free(MossState *state) {
    if (!state) {
        return;
    }
    if (state->pages.data) {
        rt_pages_free(&state->pages);
    } else {
        free(state->memory);
    }
    free(state);
}
