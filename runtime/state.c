/* Sequences: a block of memory each, zero at position 0; copied, saved, loaded, and taken back to an earlier token. */
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"
#include "runtime/state_file.h"
#include "support/file.h"
#include "support/size.h"

enum { LARGE = 1 << 20 }; /* bytes from which a state gets pages: long attention caches are then not touched before use */

/* ---- memory */

bool rt_state_memory_make(RtStateMemory *memory, uint64_t state_bytes) {
    uint64_t bytes = su_round_up(state_bytes ? state_bytes : 1, RT_CACHE_LINE);
    *memory = (RtStateMemory){0};
    if (bytes >= LARGE) {
        memory->pages = rt_pages_alloc(bytes);
        memory->data = memory->pages.data;
    } else if ((memory->data = aligned_alloc(RT_CACHE_LINE, bytes))) {
        memset(memory->data, 0, bytes);
    }
    return memory->data != NULL;
}

void rt_state_memory_free(RtStateMemory *memory) {
    if (memory->pages.data) {
        rt_pages_free(&memory->pages);
    } else if (!memory->borrowed) {
        free(memory->data);
    }
    *memory = (RtStateMemory){0};
}

static MossError no_memory(const MossModel *model) {
    return rt_error(MOSS_NO_MEMORY, "no memory for the %llu bytes of a state", (unsigned long long)model->program->state_bytes);
}

MossError moss_state_create(MossModel *model, MossState **out_state) {
    MossState *state = calloc(1, sizeof *state);
    *out_state = NULL;
    if (!state || !rt_state_memory_make(&state->memory, model->program->state_bytes)) {
        free(state);
        return no_memory(model);
    }
    state->model = model;
    *out_state = state;
    return (MossError){.code = MOSS_OK};
}

MossError moss_state_place(MossModel *model, void *memory, MossState **out_state) {
    *out_state = NULL;
    if ((uintptr_t)memory % RT_CACHE_LINE != 0) {
        return rt_error(MOSS_BAD_INPUT, "the memory for a state is not aligned to %d bytes", RT_CACHE_LINE);
    }
    MossState *state = calloc(1, sizeof *state);
    if (!state) { return no_memory(model); }
    memset(memory, 0, model->program->state_bytes);
    state->model = model;
    state->memory = (RtStateMemory){.data = memory, .borrowed = true};
    *out_state = state;
    return (MossError){.code = MOSS_OK};
}

void moss_state_reset(MossState *state) {
    if (state->memory.pages.data) {
        rt_pages_clear(&state->memory.pages);
    } else {
        memset(state->memory.data, 0, state->model->program->state_bytes);
    }
    state->position = 0;
    state->spoilt = false;
    rt_state_forget_logits(state);
    rt_mark_forget(state);
}

MossError moss_state_clone(const MossState *state, MossState **out_copy) {
    MossError error = moss_state_create(state->model, out_copy);
    if (error.code == MOSS_OK) {
        MossState *copy = *out_copy;
        rt_state_copy(copy->memory.data, state->memory.data, state->model->program->state_bytes);
        copy->position = state->position;
        copy->spoilt = state->spoilt;
        if (!rt_state_keep_logits(copy, moss_state_logits(state))) {
            error = no_memory(state->model);
            moss_state_free(copy);
            *out_copy = NULL;
        }
    }
    return error;
}

int64_t moss_state_position(const MossState *state) { return state->position; }

void moss_state_free(MossState *state) {
    if (state) {
        rt_mark_free(state);
        rt_state_memory_free(&state->memory);
        free(state->logits);
        free(state);
    }
}

/* ---- logits after the last token */

const float *moss_state_logits(const MossState *state) {
    if (state->has_logits) { return state->logits; }
    bool in_model = state->logits_step && state->logits_step == state->model->logits_step;
    return in_model ? moss_logits(state->model, state->logits_row) : NULL;
}

void rt_state_forget_logits(MossState *state) {
    state->has_logits = false;
    state->logits_step = 0;
}

bool rt_state_keep_logits(MossState *state, const void *logits) {
    size_t bytes = (size_t)state->model->program->vocab_size * sizeof(float);
    rt_state_forget_logits(state);
    if (!logits) { return true; }
    if (!state->logits && !(state->logits = malloc(bytes))) { return false; }
    memcpy(state->logits, logits, bytes);
    state->has_logits = true;
    return true;
}

/* ---- files */

MossError moss_state_save(const MossState *state, const char *path) {
    if (state->spoilt) { return rt_error(MOSS_BAD_INPUT, "the state was left unusable by a failed step and is not saved"); }
    SuDiags diags = {0};
    RtSequence sequence = {.position = state->position, .memory = state->memory.data, .logits = moss_state_logits(state)};
    MossError error = {.code = MOSS_OK};
    if (!rt_state_write(path, state->model->program, rt_model_identity(state->model), &sequence, &diags)) {
        error = rt_error_from(MOSS_NO_FILE, &diags);
    }
    su_diags_free(&diags);
    return error;
}

static MossError load(MossModel *model, const SuMap *map, const char *path, MossState **out_state) {
    SuDiags diags = {0};
    RtStateFile file;
    MossError error;
    if (!rt_state_check(map->data, map->size, path, model->program, rt_model_identity(model), &file, &diags)) {
        error = rt_error_from(MOSS_BAD_STATE, &diags);
    } else if ((error = moss_state_create(model, out_state)).code == MOSS_OK) {
        MossState *state = *out_state;
        rt_state_unpack(&file, state->memory.data);
        state->position = file.head->position;
        if (!rt_state_keep_logits(state, file.logits)) {
            error = no_memory(model);
            moss_state_free(state);
            *out_state = NULL;
        }
    }
    su_diags_free(&diags);
    return error;
}

MossError moss_state_load(MossModel *model, const char *path, MossState **out_state) {
    SuDiags diags = {0};
    SuMap map;
    MossError error;
    *out_state = NULL;
    if (!su_map_open(path, &map, &diags)) {
        error = rt_error_from(MOSS_NO_FILE, &diags);
    } else {
        error = load(model, &map, path, out_state);
        su_map_close(&map);
    }
    su_diags_free(&diags);
    return error;
}
