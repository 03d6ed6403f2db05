/* Sequences: a block of memory each, zero at position 0; copied, saved, loaded, and taken back to an earlier token. */
#include <stdlib.h>
#include <string.h>

#include "runtime/model.h"
#include "runtime/state_file.h"
#include "support/alloc.h"
#include "support/file.h"

static MossError no_memory(const MossModel *model) {
    return rt_error(MOSS_NO_MEMORY, "no memory for the %llu bytes of a state", (unsigned long long)model->program->state_bytes);
}

MossError moss_state_create(MossModel *model, MossState **out_state) {
    MossState *state = su_calloc(1, sizeof *state);
    *out_state = NULL;
    if (!state) return no_memory(model);
    MossError error = rt_state_memory_make(model, &state->memory);
    if (error.code != MOSS_OK) {
        su_free(state);
        return error;
    }
    state->model = model;
    *out_state = state;
    return error;
}

MossError moss_state_place(MossModel *model, void *memory, MossState **out_state) {
    *out_state = NULL;
    if (model->device) return rt_error(MOSS_BAD_INPUT, "states of a model on a device lie there: moss_state_create makes them");
    if ((uintptr_t)memory % RT_CACHE_LINE != 0)
        return rt_error(MOSS_BAD_INPUT, "the memory for a state is not aligned to %d bytes", RT_CACHE_LINE);
    MossState *state = su_calloc(1, sizeof *state);
    if (!state) return no_memory(model);
    memset(memory, 0, model->program->state_bytes);
    state->model = model;
    state->memory = (RtStateMemory){.data = memory, .borrowed = true};
    *out_state = state;
    return (MossError){.code = MOSS_OK};
}

void moss_state_reset(MossState *state) {
    state->spoilt = rt_state_memory_clear(state->model, &state->memory).code != MOSS_OK; /* a device that fails keeps failing */
    state->position = 0;
    state->random = (RtRandom){0};
    rt_state_forget_logits(state);
    rt_state_checkpoint_forget(state);
}

MossError moss_state_clone(const MossState *state, MossState **out_copy) {
    MossError error = moss_state_create(state->model, out_copy);
    if (error.code != MOSS_OK) return error;
    MossState *copy = *out_copy;
    error = rt_state_memory_copy(state->model, &copy->memory, &state->memory);
    copy->position = state->position;
    copy->spoilt = state->spoilt;
    copy->random = state->random;
    if (error.code == MOSS_OK && !rt_state_keep_logits(copy, moss_state_logits(state))) error = no_memory(state->model);
    if (error.code != MOSS_OK) {
        moss_state_free(copy);
        *out_copy = NULL;
    }
    return error;
}

int64_t moss_state_position(const MossState *state) { return state->position; }

void moss_state_set_random(MossState *state, uint64_t seed, uint64_t sampler_state) {
    state->random = (RtRandom){.is_set = true, .seed = seed, .state = sampler_state};
}

bool moss_state_random(const MossState *state, uint64_t *out_seed, uint64_t *out_sampler_state) {
    *out_seed = state->random.seed;
    *out_sampler_state = state->random.state;
    return state->random.is_set;
}

void moss_state_free(MossState *state) {
    if (state) {
        rt_state_checkpoint_free(state);
        rt_state_memory_free(state->model, &state->memory);
        su_free(state->logits);
        su_free(state);
    }
}

/* ---- logits after the last token */

const float *moss_state_logits(const MossState *state) {
    if (state->has_logits) return state->logits;
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
    if (!logits) return true;
    if (!state->logits && !(state->logits = su_malloc(bytes))) return false;
    memcpy(state->logits, logits, bytes);
    state->has_logits = true;
    return true;
}

/* ---- files */

static MossError save(const MossState *state, const uint8_t *memory, const char *path) {
    const SuDigest *identity;
    MossError error = rt_model_identity(state->model, &identity);
    if (error.code != MOSS_OK) return error;
    SuDiags diags = {0};
    RtSequence sequence = {
        .position = state->position, .memory = memory, .logits = moss_state_logits(state), .random = &state->random};
    if (!rt_state_write(path, state->model->program, identity, &sequence, &diags)) error = rt_error_from(MOSS_NO_FILE, &diags);
    su_diags_free(&diags);
    return error;
}

static MossError state_save_unguarded(const MossState *state, const char *path) {
    if (state->spoilt) return rt_error(MOSS_BAD_INPUT, "the state was left unusable by a failed step and is not saved");
    RtStateMemory here;
    MossError error = rt_state_memory_here(state->model, &state->memory, &here);
    if (error.code != MOSS_OK) return error;
    error = save(state, here.data, path);
    rt_state_memory_free(state->model, &here);
    return error;
}

MossError moss_state_save(const MossState *state, const char *path) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "saving a state")) return rt_failure(&guard.failure);
    MossError result = state_save_unguarded(state, path);
    su_guard_end(&guard);
    return result;
}

/* What a checked file holds becomes the state's, which is new. */
static MossError unpack(const RtStateFile *file, MossState *state) {
    RtStateMemory here;
    MossError error = rt_state_memory_here(state->model, &state->memory, &here);
    if (error.code != MOSS_OK) return error;
    rt_state_unpack(file, here.data);
    state->position = file->header->position;
    state->random = (RtRandom){.is_set = file->header->has_random, .seed = file->header->seed, .state = file->header->random};
    error = rt_state_memory_back(state->model, &state->memory, &here);
    if (error.code == MOSS_OK && !rt_state_keep_logits(state, file->logits)) error = no_memory(state->model);
    return error;
}

static void close_map(void *map) { su_map_close(map); }

static MossError load(MossModel *model, const SuMap *map, const char *path, MossState **out_state) {
    const SuDigest *identity;
    SuDiags diags = {0};
    RtStateFile file;
    MossError error = rt_model_identity(model, &identity);
    if (error.code != MOSS_OK) return error;
    if (!rt_state_check(map->data, map->size, path, model->program, identity, &file, &diags))
        error = rt_error_from(MOSS_BAD_STATE, &diags);
    else if ((error = moss_state_create(model, out_state)).code == MOSS_OK)
        error = unpack(&file, *out_state);
    if (error.code != MOSS_OK && *out_state) {
        moss_state_free(*out_state);
        *out_state = NULL;
    }
    su_diags_free(&diags);
    return error;
}

static MossError state_load_unguarded(MossModel *model, const char *path, MossState **out_state) {
    SuDiags diags = {0};
    SuMap map;
    MossError error;
    *out_state = NULL;
    if (!su_map_open(path, &map, &diags)) {
        error = rt_error_from(MOSS_NO_FILE, &diags);
    } else {
        SuCleanup cleanup;
        su_cleanup_add(&cleanup, close_map, &map);
        error = load(model, &map, path, out_state);
        su_cleanup_done(&cleanup);
        su_map_close(&map);
    }
    su_diags_free(&diags);
    return error;
}

MossError moss_state_load(MossModel *model, const char *path, MossState **out_state) {
    *out_state = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "loading a state")) return rt_failure(&guard.failure);
    MossError result = state_load_unguarded(model, path, out_state);
    su_guard_end(&guard);
    return result;
}
