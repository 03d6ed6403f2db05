/* Text: picking tokens and feeding them, here step by step, on a device all of it in one go. */
#include <string.h>

#include "runtime/device.h"
#include "runtime/model.h"
#include "runtime/picker.h"
#include "runtime/tokenizer.h"

enum { RESERVED = 1 << 16 }; /* tokens that a picker has room for at once */

/* What a call is about. */
typedef struct Generating {
    MossModel *model;
    const MossVocabulary *vocabulary;
    MossSequence *sequences;
    MossPicker *const *pickers; /* [n], or NULL */
    uint32_t n, count;
    MossSegment *segments; /* [n] one row each */
    int32_t *next;         /* [n] picked */
    uint64_t *random;      /* [n] the generators before they picked */
    float *room;           /* [limit] for logits whose gaps are left out; NULL without gaps */
} Generating;

static MossError no_number(const Generating *g, uint32_t i) {
    if (g->pickers && g->pickers[i]) {
        return rt_error(MOSS_BAD_INPUT, "no token may be picked after %lld tokens: logits are NaN, or none is allowed",
                        (long long)g->sequences[i].state->position);
    }
    return rt_error(MOSS_BAD_INPUT, "all logits are NaN after %lld tokens", (long long)g->sequences[i].state->position);
}

static bool is_gap(const MossVocabulary *v, int64_t id) { return v->gaps && (v->gaps[id / 32] >> (id % 32) & 1); }

static MossPicker *picker_of(const Generating *g, uint32_t i) { return g->pickers ? g->pickers[i] : NULL; }

/* ---- here */

int32_t rt_pick(const MossVocabulary *v, const MossState *state, MossSampler *sampler, MossPicker *picker, float *room) {
    const float *own = moss_state_logits(state), *logits = own;
    if (v->gaps) {
        for (int64_t id = 0; id < v->limit; id++) room[id] = is_gap(v, id) ? (float)__builtin_nan("") : own[id];
        logits = room;
    }
    return picker ? rt_picker_pick(picker, sampler, logits, own, v->limit) : moss_sample(sampler, logits, v->limit, v->limit);
}

/* Every sequence's next token. *out_go: all of them may be fed; else the samplers are as they were. */
static MossError pick_all(Generating *g, bool *out_go) {
    MossError error = {.code = MOSS_OK};
    *out_go = true;
    for (uint32_t i = 0; i < g->n; i++) {
        g->random[i] = g->sequences[i].sampler->state;
        g->next[i] = rt_pick(g->vocabulary, g->sequences[i].state, g->sequences[i].sampler, picker_of(g, i), g->room);
        if (g->next[i] == MOSS_NO_TOKEN) error = no_number(g, i);
        g->sequences[i].ended = g->next[i] == MOSS_NO_MORE || rt_ends(g->vocabulary, g->next[i]);
        *out_go = *out_go && g->next[i] >= 0 && !g->sequences[i].ended;
    }
    for (uint32_t i = 0; !*out_go && i < g->n; i++) g->sequences[i].sampler->state = g->random[i];
    return error;
}

/* Every sequence was fed its next token. */
static MossError note_fed(Generating *g, uint32_t step) {
    MossError error = {.code = MOSS_OK};
    for (uint32_t i = 0; i < g->n; i++) {
        g->sequences[i].tokens[step] = g->next[i];
        if (!picker_of(g, i)) continue;
        MossError noted = moss_picker_commit(picker_of(g, i), g->next[i]);
        if (noted.code != MOSS_OK) error = noted;
    }
    return error;
}

static MossError generate_here(Generating *g, uint32_t *out_count) {
    for (bool go; *out_count < g->count; ++*out_count) {
        MossError error = pick_all(g, &go);
        if (error.code != MOSS_OK || !go) return error;
        error = moss_step(g->model, g->segments, g->n);
        if (error.code != MOSS_OK && error.code != MOSS_NON_FINITE) return error;
        MossError noted = note_fed(g, *out_count);
        if (error.code == MOSS_OK && noted.code != MOSS_OK) error = noted;
        if (error.code != MOSS_OK) { /* fed all the same */
            ++*out_count;
            return error;
        }
    }
    return (MossError){.code = MOSS_OK};
}

/* ---- on a device */

/* Where the logits are: rows of the model's last step (in `rows`, which is returned). Else every state keeps its own, since the step's
 * memory is theirs now; *out_rows is NULL. false: no memory. */
static bool find_logits(const Generating *g, uint32_t *rows, const uint32_t **out_rows) {
    bool there = true, kept = true;
    for (uint32_t i = 0; i < g->n; i++) {
        const MossState *state = g->sequences[i].state;
        there = there && !state->has_logits && state->logits_step && state->logits_step == g->model->logits_step;
        rows[i] = state->logits_row;
    }
    for (uint32_t i = 0; !there && i < g->n && kept; i++) {
        MossState *state = g->sequences[i].state;
        kept = state->has_logits || rt_state_keep_logits(state, moss_state_logits(state));
    }
    *out_rows = there ? rows : NULL;
    return kept;
}

/* What the states have kept, side by side. */
static void gather_logits(const Generating *g) {
    const PgProgram *program = g->model->program;
    float *to = (float *)g->model->logits.data;
    for (uint32_t i = 0; i < g->n; i++, to += program->out_stride)
        memcpy(to, g->sequences[i].state->logits, (size_t)program->vocab_size * sizeof(float));
}

/* What the steps have done to states, as rt_step_end does for one. */
static MossError note_steps(const Generating *g, const RtRunning *running, const RtDevicePicks *picks, MossError error) {
    for (uint32_t i = 0; i < g->n; i++) { /* rt_step_end adds the last one */
        MossSequence *s = &g->sequences[i];
        if (picks->done > 1) {
            rt_state_checkpoint_note(s->state, s->tokens + picks->first, picks->done - 1);
            s->state->position += picks->done - 1;
        }
        if (picks->done > 0) g->next[i] = s->tokens[picks->first + picks->done - 1];
    }
    bool failed =
        picks->done == 0 && error.code != MOSS_OK && error.code != MOSS_NO_MEMORY; /* memory is asked for before the start */
    for (uint32_t i = 0; failed && i < g->n; i++) g->sequences[i].state->spoilt = true;
    if (picks->done > 0) {
        for (uint32_t row = 0; row < running->rows; row++) g->model->row_position[row] += picks->done - 1;
        error = rt_step_end(running, g->segments, error);
    }
    return error;
}

/* At most RT_DEVICE_STEPS of the steps that are left; *out_count grows by those taken. */
static MossError generate_some(Generating *g, uint32_t *rows, uint32_t *out_count) {
    MossModel *m = g->model;
    uint32_t left = g->count - *out_count;
    RtRunning running;
    uint64_t logits_step = m->logits_step;
    uint32_t n_out_rows = m->n_out_rows;
    const uint32_t *from;
    if (!find_logits(g, rows, &from))
        return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for the logits of %u sequences", g->n);
    MossError error = rt_step_begin(m, g->segments, g->n, &running);
    if (error.code == MOSS_OK) {
        if (!from) gather_logits(g);
        RtDeviceStep step = rt_step_of_device(&running);
        RtDevicePicks picks = {
            .vocabulary = g->vocabulary, .sequences = g->sequences, .from = from, .first = *out_count, .no_number = -1};
        picks.count = left < RT_DEVICE_STEPS ? left : RT_DEVICE_STEPS;
        error = m->device->kind->generate(m->device, &step, &picks);
        error = note_steps(g, &running, &picks, error);
        *out_count += picks.done;
        if (picks.done == 0 && (error.code == MOSS_OK || error.code == MOSS_NO_MEMORY)) { /* nothing was fed: logits stay */
            m->logits_step = from ? logits_step : 0;
            m->n_out_rows = from ? n_out_rows : 0;
        }
        if (error.code == MOSS_OK && picks.no_number >= 0) error = no_number(g, (uint32_t)picks.no_number);
    }
    return error;
}

static bool all_go_on(const Generating *g) {
    for (uint32_t i = 0; i < g->n; i++)
        if (g->sequences[i].ended) return false;
    return true;
}

static MossError generate_there(Generating *g, uint32_t *rows, uint32_t *out_count) {
    MossError error = {.code = MOSS_OK};
    while (error.code == MOSS_OK && *out_count < g->count && all_go_on(g)) error = generate_some(g, rows, out_count);
    return error;
}

/* ---- the call */

static MossError check(const Generating *g) {
    const PgProgram *program = g->model->program;
    if (g->vocabulary->n_more_eos >= MOSS_MAX_ENDS)
        return rt_error(MOSS_BAD_INPUT, "more than %d ids end a sequence", MOSS_MAX_ENDS);
    if (g->n < 1 || g->n > (uint64_t)program->max_rows)
        return rt_error(MOSS_BAD_INPUT, "sequence count must be between 1 and %lld, got %u", (long long)program->max_rows, g->n);
    if (g->vocabulary->limit < 1 || g->vocabulary->limit > program->vocab_size) {
        return rt_error(MOSS_BAD_INPUT, "vocabulary limit must be between 1 and %lld, got %lld", (long long)program->vocab_size,
                        (long long)g->vocabulary->limit);
    }
    for (uint32_t i = 0; i < g->n; i++) {
        const MossState *state = g->sequences[i].state;
        if (!state || state->model != g->model) return rt_error(MOSS_BAD_INPUT, "sequence %u: state belongs to another model", i);
        if (!moss_state_logits(state))
            return rt_error(MOSS_BAD_INPUT, "sequence %u: state has no logits to sample from, feed it a token first", i);
        if (program->max_positions && g->count > (uint64_t)(program->max_positions - state->position)) {
            return rt_error(MOSS_BAD_INPUT, "sequence %u: %u tokens after position %lld exceed max_positions %lld", i, g->count,
                            (long long)state->position, (long long)program->max_positions);
        }
    }
    return (MossError){.code = MOSS_OK};
}

static bool has_picker(const Generating *g) {
    for (uint32_t i = 0; i < g->n; i++)
        if (picker_of(g, i)) return true;
    return false;
}

static MossError generate_unguarded(Generating call, uint32_t *out_count) {
    Generating g = call;
    MossModel *model = g.model;
    const MossVocabulary *vocabulary = g.vocabulary;
    MossSequence *sequences = g.sequences;
    uint32_t n = g.n, count = g.count;
    *out_count = 0;
    MossError error = check(&g);
    if (error.code != MOSS_OK || count == 0) return error;
    SuArena arena = {0};
    g.segments = SU_NEW_ARRAY(&arena, MossSegment, n);
    g.next = SU_NEW_ARRAY(&arena, int32_t, n);
    g.random = SU_NEW_ARRAY(&arena, uint64_t, n);
    bool there = model->device && !has_picker(&g) && n <= model->device->kind->most_picks(model->device);
    if (vocabulary->gaps && !there) g.room = SU_NEW_ARRAY(&arena, float, (size_t)vocabulary->limit);
    for (uint32_t i = 0; i < n; i++) {
        sequences[i].ended = false;
        g.segments[i] = (MossSegment){.state = sequences[i].state, .tokens = &g.next[i], .count = 1, .logits = MOSS_LAST_LOGITS};
    }
    error = there ? generate_there(&g, SU_NEW_ARRAY(&arena, uint32_t, n), out_count) : generate_here(&g, out_count);
    su_arena_free(&arena);
    return error;
}

MossError moss_generate_picked(MossModel *model, const MossVocabulary *vocabulary, MossSequence *sequences,
                               MossPicker *const *pickers, uint32_t n, uint32_t count, uint32_t *out_count) {
    *out_count = 0;
    for (uint32_t i = 0; pickers && i < n; i++) /* here, since a guard that is ended frees what was allocated in it */
        if (pickers[i] && !rt_picker_reserve(pickers[i], count < RESERVED ? count : RESERVED))
            return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for a picker");
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "generating tokens")) return rt_failure(&guard.failure);
    Generating call = {
        .model = model, .vocabulary = vocabulary, .sequences = sequences, .pickers = pickers, .n = n, .count = count};
    MossError result = generate_unguarded(call, out_count);
    su_guard_end(&guard);
    return result;
}

MossError moss_generate(MossModel *model, const MossVocabulary *vocabulary, MossSequence *sequences, uint32_t n, uint32_t count,
                        uint32_t *out_count) {
    return moss_generate_picked(model, vocabulary, sequences, NULL, n, count, out_count);
}
