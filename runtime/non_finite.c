/* Where a value that is not finite arose: tokens are fed again one by one, by one thread, and after every phase its results are looked
 * at. The arena is zeroed before each token, so that what is found there was written by the phase that has just run. */
#include <string.h>

#include "runtime/model.h"
#include "runtime/narrow.h"

bool moss_all_finite(const float *values, int64_t n) {
    bool finite = true;
    for (int64_t i = 0; i < n; i++) finite = finite && rt_finite(values[i]);
    return finite;
}

static void note(MossNonFinite *out, const PgPhase *phase, int64_t position) {
    out->found = true;
    out->position = position;
    out->block = phase ? phase->block : -1;
    out->line = phase ? phase->line : 0;
    strncpy(out->phase, phase ? phase->name : "", sizeof out->phase - 1);
}

bool rt_watch_phase(MossModel *model, const PgPhase *phase, int64_t position) {
    uint64_t n = rt_arena_bytes(model->program, PG_ROW, 1) / sizeof(float);
    if (moss_all_finite((const float *)(const void *)model->arena.data, (int64_t)n)) return true;
    note(model->watch, phase, position);
    return false;
}

MossError moss_find_non_finite(MossModel *model, MossState *state, const int32_t *tokens, size_t count, MossNonFinite *out) {
    int64_t vocab_size = model->program->vocab_size;
    MossError error = {.code = MOSS_OK};
    *out = (MossNonFinite){.block = -1};
    model->watch = out;
    for (size_t i = 0; i < count && error.code == MOSS_OK && !out->found; i++) {
        int64_t position = moss_state_position(state);
        MossSegment segment = {.state = state, .tokens = &tokens[i], .count = 1, .logits = MOSS_LAST_LOGITS};
        error = moss_step(model, &segment, 1);
        if (error.code == MOSS_OK && !out->found && !moss_all_finite(moss_logits(model, 0), vocab_size)) note(out, NULL, position);
    }
    model->watch = NULL;
    return error;
}
