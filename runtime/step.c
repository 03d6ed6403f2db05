/* One step: check what is fed, describe it to the kernels, run the phases, look for non-finite values.
 *
 * Every worker walks the same list of phases. Within a stage it claims tiles of one phase after the other and goes on when
 * there are none left; at the end of a stage all wait at a barrier. */
#include <string.h>

#include "runtime/device.h"
#include "runtime/model.h"
#include "support/dmath.h"
#include "support/clock.h"

/* ---- the workers' part */

/* Phases first .. end - 1, which are a stage, or end a step. */
typedef struct StageEnd {
    const RtRunning *running;
    uint32_t first, end;
} StageEnd;

/* When all workers have come to the end of a stage: what its phases read and wrote is still there. */
static void end_stage(void *context) {
    const StageEnd *end = context;
    MossModel *m = end->running->model;
    for (uint32_t i = end->first; m->after_phase && i < end->end; i++)
        m->after_phase(m->after_phase_context, end->running, &end->running->step->phases[i]);
}

/* Phase i of a stage that begins with phase `first_of_stage`. */
static void run_phase(const RtRunning *r, uint32_t i, uint32_t first_of_stage, uint32_t worker, RtArgs *args) {
    const PgPhase *phase = &r->step->phases[i];
    const PgCode *code = &r->model->codes[phase->kernel];
    uint64_t tiles = pg_tiles(phase, code, r->rows, r->n_segments, r->n_out_rows);
    uint32_t workers = (uint32_t)rt_workers_count(r->model->workers), first, end;
    if (tiles > INT32_MAX) SU_BUG("phase '%s' has %llu tiles", phase->name, (unsigned long long)tiles);
    if (workers == 1) {
        if (tiles) code->run(args, phase, 0, (uint32_t)tiles);
        return;
    }
    RtTiles all = {.shares = &r->model->shares[(i - first_of_stage) * workers],
                   .use = r->model->uses + first_of_stage,
                   .total = (uint32_t)tiles,
                   .most = code->claim,
                   .workers = workers};
    for (; rt_claim_tiles(&all, worker, &first, &end); args->prepared = 1) code->run(args, phase, first, end);
    args->prepared = 0;
}

/* cos and sin of this worker's share of the rows. */
static void fill_ropes(const RtRunning *r, int worker) {
    const PgProgram *program = r->model->program;
    uint32_t workers = (uint32_t)rt_workers_count(r->model->workers);
    for (uint32_t n = 0; n < program->n_ropes; n++) {
        const PgRope *rope = &program->ropes[n];
        const PgRef *ref = &rope->table[r->mode];
        float *table = (float *)(r->model->arena.data + ref->per_row * r->ld + ref->fixed); /* [LD][dim/2][2] */
        for (uint32_t row = (uint32_t)worker; ref->space == PG_ARENA && row < r->rows; row += workers) {
            double position = (double)r->model->row_position[row];
            for (int64_t i = 0; i < rope->dim / 2; i++) {
                double angle = position * r->model->rope_rates[n][i];
                float *pair = table + (row * (rope->dim / 2) + i) * 2;
                pair[0] = (float)su_dcos(angle);
                pair[1] = (float)su_dsin(angle);
            }
        }
    }
}

/* Adds the time since *since to *sum; *since becomes now. */
static void lap(double *since, double *sum) {
    double now = su_seconds();
    *sum += now - *since;
    *since = now;
}

static void work(void *context, int worker) {
    const RtRunning *r = context;
    MossModel *m = r->model;
    RtArgs *args = &m->args[worker].args;
    if (m->program->n_ropes) {
        fill_ropes(r, worker);
        rt_workers_barrier(m->workers, NULL, NULL);
    }
    uint32_t n_phases = r->step->n_phases, first_of_stage = 0;
    MossPhaseTime *times = r->times ? r->times + (size_t)worker * n_phases : NULL;
    double since = times ? su_seconds() : 0;
    for (uint32_t i = 0; i < n_phases; i++) {
        const PgPhase *phase = &r->step->phases[i];
        run_phase(r, i, first_of_stage, (uint32_t)worker, args);
        if (times) lap(&since, &times[i].working);
        bool last = i + 1 == n_phases;
        /* After the last one rt_workers_run meets, off the clock. */
        if (last ? times != NULL || m->after_phase != NULL : phase[1].stage != phase->stage) {
            rt_workers_barrier(m->workers, end_stage, &(StageEnd){r, first_of_stage, i + 1});
            first_of_stage = i + 1;
            if (times) lap(&since, &times[i].waiting);
        }
    }
}

/* One worker does all of it, phase by phase. */
static void work_watched(void *context, int worker) {
    const RtRunning *r = context;
    MossModel *m = r->model;
    if (worker == 0) memset(m->arena.data, 0, rt_arena_bytes(m->program, r->mode, r->rows));
    for (int i = 0; worker == 0 && i < rt_workers_count(m->workers); i++) fill_ropes(r, i);
    for (uint32_t i = 0; worker == 0 && i < r->step->n_phases; i++) {
        const PgPhase *phase = &r->step->phases[i];
        const PgCode *code = &m->codes[phase->kernel];
        uint64_t tiles = pg_tiles(phase, code, r->rows, r->n_segments, r->n_out_rows);
        if (tiles) code->run(&m->args[0].args, phase, 0, (uint32_t)tiles);
        if (!m->watch->found) rt_watch_phase(m, phase, m->row_position[0]);
    }
}

/* ---- checks before */

static MossError too_long(const PgProgram *program, int64_t position, uint64_t count) {
    return rt_error(MOSS_BAD_INPUT, "sequence of %llu tokens exceeds max_positions %lld",
                    (unsigned long long)position + (unsigned long long)count, (long long)program->max_positions);
}

static MossError check_segment(MossModel *m, const MossSegment *s, uint32_t index) {
    const PgProgram *program = m->program;
    if (!s->state || s->state->model != m) return rt_error(MOSS_BAD_INPUT, "segment %u: state belongs to another model", index);
    if (s->state->spoilt)
        return rt_error(MOSS_BAD_INPUT, "segment %u: state is unusable after a failed step, reset it first", index);
    if (s->state->in_step == m->step_number)
        return rt_error(MOSS_BAD_INPUT, "segment %u: state is already used by another segment of this step", index);
    if (!s->count) return rt_error(MOSS_BAD_INPUT, "segment %u has no tokens", index);
    if (program->max_positions && s->count > program->max_positions - s->state->position)
        return too_long(program, s->state->position, s->count);
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->tokens[i] < 0 || s->tokens[i] >= program->vocab_size) {
            return rt_error(MOSS_BAD_INPUT, "segment %u: token %d at position %lld is outside the vocabulary (0 to %lld)", index,
                            s->tokens[i], (long long)(s->state->position + i), (long long)program->vocab_size - 1);
        }
    }
    s->state->in_step = m->step_number;
    return (MossError){.code = MOSS_OK};
}

static MossError check_segments(MossModel *m, const MossSegment *segments, uint32_t n_segments) {
    uint64_t rows = 0;
    m->step_number++;
    for (uint32_t i = 0; i < n_segments; i++) {
        MossError error = check_segment(m, &segments[i], i);
        if (error.code != MOSS_OK) return error;
        rows += segments[i].count;
    }
    if (!n_segments || rows > (uint64_t)m->program->max_rows) {
        return rt_error(MOSS_BAD_INPUT, "token count of a step must be between 1 and %lld, got %llu",
                        (long long)m->program->max_rows, (unsigned long long)rows);
    }
    return (MossError){.code = MOSS_OK};
}

/* ---- the step as kernels see it */

static void describe(RtRunning *r, const MossSegment *segments, uint32_t n_segments) {
    MossModel *m = r->model;
    r->n_segments = n_segments;
    for (uint32_t s = 0; s < n_segments; s++) {
        const MossSegment *in = &segments[s];
        const RtStateMemory *memory = &in->state->memory;
        m->segments[s] = (RtSegment){.state = memory->address ? (uint8_t *)(uintptr_t)memory->address : memory->data,
                                     .position = in->state->position,
                                     .first_row = r->rows,
                                     .count = in->count};
        for (uint32_t i = 0; i < in->count; i++, r->rows++) {
            m->tokens[r->rows] = in->tokens[i];
            m->row_segment[r->rows] = (int32_t)s;
            m->row_position[r->rows] = in->state->position + i;
            m->nonfinite[r->rows] = 0;
            if (in->logits == MOSS_ALL_LOGITS || (in->logits == MOSS_LAST_LOGITS && i + 1 == in->count))
                m->out_rows[r->n_out_rows++] = (int32_t)r->rows;
        }
    }
    r->mode = r->rows == 1 ? PG_ROW : PG_BLOCK;
    r->ld = r->mode == PG_ROW ? 1 : pg_ld(r->rows);
    r->step = &m->program->steps[r->mode];
    r->times = m->profile[r->mode];
}

static bool grow(RtPages *pages, uint64_t bytes) {
    if (pages->size >= bytes) return true;
    RtPages grown = rt_pages_alloc(bytes);
    if (!grown.data) return false;
    rt_pages_free(pages);
    *pages = grown;
    return true;
}

/* Room for the logits, and on the CPU for the step's values. */
static MossError make_room(const RtRunning *r) {
    MossModel *m = r->model;
    uint64_t arena = m->device ? 0 : rt_arena_bytes(m->program, r->mode, r->rows);
    uint64_t logits = m->into ? 0 : r->n_out_rows * m->program->out_stride * sizeof(float);
    uint64_t hidden = rt_hidden_bytes(m, r->rows);
    if (grow(&m->arena, arena) && grow(&m->logits, logits) && grow(&m->hidden, hidden)) return (MossError){.code = MOSS_OK};
    return rt_error(MOSS_NO_MEMORY,
                    "cannot allocate memory for a step of %u tokens: arena %llu bytes, logits %llu bytes, hidden states %llu bytes",
                    r->rows, (unsigned long long)arena, (unsigned long long)logits, (unsigned long long)hidden);
}

MossError rt_step_begin(MossModel *model, const MossSegment *segments, uint32_t n_segments, RtRunning *out_running) {
    *out_running = (RtRunning){.model = model};
    model->hidden_rows = 0;
    MossError error = rt_model_after_fork(model);
    if (error.code == MOSS_OK) error = check_segments(model, segments, n_segments);
    if (error.code != MOSS_OK) return error;
    describe(out_running, segments, n_segments);
    model->n_out_rows = 0;
    model->logits_step = 0;
    return make_room(out_running);
}

/* ---- the step itself */

static float *rows_of_logits(const MossModel *m) { return m->into ? m->into : (float *)m->logits.data; }

static MossError run_here(RtRunning *r) {
    MossModel *m = r->model;
    for (int i = 0; i < rt_workers_count(m->workers); i++) {
        RtArgs *args = &m->args[i].args;
        args->arena = m->arena.data;
        args->logits = rows_of_logits(m);
        args->ld = r->ld;
        args->rows = r->rows;
        args->n_segments = r->n_segments;
        args->n_out_rows = r->n_out_rows;
    }
    rt_workers_run(m->workers, m->watch ? work_watched : work, r);
    m->uses += r->step->n_phases;
    m->hidden_rows = m->keeps_hidden && !m->watch ? r->rows : 0;
    return (MossError){.code = MOSS_OK};
}

RtDeviceStep rt_step_of_device(const RtRunning *r) {
    MossModel *m = r->model;
    return (RtDeviceStep){.mode = r->mode,
                          .rows = r->rows,
                          .n_segments = r->n_segments,
                          .n_out_rows = r->n_out_rows,
                          .ld = r->ld,
                          .segments = m->segments,
                          .tokens = m->tokens,
                          .row_segment = m->row_segment,
                          .out_rows = m->out_rows,
                          .row_position = m->row_position,
                          .nonfinite = m->nonfinite,
                          .logits = rows_of_logits(m),
                          .times = r->times};
}

static MossError run_there(const RtRunning *r) {
    RtDeviceStep step = rt_step_of_device(r);
    return r->model->device->kind->step(r->model->device, &step);
}

/* ---- after */

static uint32_t line_of_block(const PgStep *step, int32_t block) {
    for (uint32_t i = 0; i < step->n_phases; i++)
        if (step->phases[i].block == block) return step->phases[i].line;
    return 0;
}

/* 1 + the first row of the segment whose router was not finite; 0: all were. */
static uint32_t bad_row(const MossModel *m, uint32_t segment) {
    const RtSegment *s = &m->segments[segment];
    for (uint32_t i = 0; i < s->count; i++)
        if (m->nonfinite[s->first_row + i]) return 1 + (uint32_t)s->first_row + i;
    return 0;
}

static MossError non_finite(const RtRunning *r, uint32_t row) {
    const MossModel *m = r->model;
    int32_t block = m->nonfinite[row] - 1;
    return rt_error(MOSS_NON_FINITE, "router of block %d (line %u of the spec) gave a non-finite value at position %lld%s", block,
                    line_of_block(r->step, block), (long long)m->row_position[row],
                    r->n_segments > 1 ? " of one of the sequences" : "");
}

/* The state after a step; `row`: of the logits of its last token. */
static void advance(MossModel *m, const MossSegment *segment, uint32_t row, bool ok) {
    MossState *state = segment->state;
    rt_state_forget_logits(state);
    rt_state_checkpoint_note(state, segment->tokens, segment->count);
    state->position += segment->count;
    state->spoilt = !ok;
    if (ok && segment->logits != MOSS_NO_LOGITS) {
        state->logits_step = m->step_number;
        state->logits_row = row;
    }
}

/* Rows do not touch each other: those of a sequence whose router was not finite spoil that sequence only. */
MossError rt_step_end(const RtRunning *r, const MossSegment *segments, MossError error) {
    MossModel *m = r->model;
    bool ran = error.code == MOSS_OK, any = false;
    uint32_t rows = 0; /* of logits */
    for (uint32_t i = 0; i < r->n_segments; i++) {
        uint32_t bad = ran ? bad_row(m, i) : 0;
        rows += segments[i].logits == MOSS_ALL_LOGITS ? segments[i].count : segments[i].logits == MOSS_LAST_LOGITS;
        if (bad && error.code == MOSS_OK) error = non_finite(r, bad - 1);
        advance(m, &segments[i], rows - 1, ran && !bad);
        any = any || (ran && !bad);
    }
    if (any) {
        m->n_out_rows = r->n_out_rows;
        m->logits_step = m->step_number;
    }
    return error;
}

bool moss_state_failed(const MossState *state) { return state->spoilt; }

/* out_ran: whether segments were fed; else states and their logits are as before, but where memory for the step was lacking. */
static MossError step(MossModel *model, const MossSegment *segments, uint32_t n_segments, bool *out_ran) {
    RtRunning r;
    *out_ran = false;
    MossError error = rt_step_begin(model, segments, n_segments, &r);
    if (error.code != MOSS_OK) return error;
    error = model->device ? run_there(&r) : run_here(&r);
    if (error.code == MOSS_NO_MEMORY) { return error; } /* a device asks for memory before it starts */
    *out_ran = true;
    return rt_step_end(&r, segments, error);
}

MossError moss_step(MossModel *model, const MossSegment *segments, uint32_t n_segments) {
    bool ran;
    return step(model, segments, n_segments, &ran);
}

/* States keep their rows; the model knows of none. */
static MossError let_go(MossModel *m, const MossSegment *segments, uint32_t n_segments, const float *rows) {
    bool kept = true;
    for (uint32_t i = 0; i < n_segments; i++) {
        MossState *state = segments[i].state;
        if (state->logits_step && state->logits_step == m->logits_step)
            kept = rt_state_keep_logits(state, rows + state->logits_row * m->program->out_stride) && kept;
    }
    m->n_out_rows = 0;
    m->logits_step = 0;
    return kept ? (MossError){.code = MOSS_OK} : rt_error(MOSS_NO_MEMORY, "cannot allocate memory for the logits of a state");
}

MossError moss_step_into(MossModel *model, const MossSegment *segments, uint32_t n_segments, float *rows) {
    bool wanted = false, ran;
    model->hidden_rows = 0;
    for (uint32_t i = 0; i < n_segments; i++) wanted = wanted || segments[i].logits != MOSS_NO_LOGITS;
    if ((wanted && !rows) || (uintptr_t)rows % RT_CACHE_LINE)
        return rt_error(MOSS_BAD_INPUT, "memory for logits must be there, and be aligned to %d bytes", RT_CACHE_LINE);
    model->into = rows;
    MossError error = step(model, segments, n_segments, &ran);
    model->into = NULL;
    if (!ran || model->n_out_rows == 0) return error; /* a refused step leaves the logits of earlier ones; or all failed */
    MossError lost = let_go(model, segments, n_segments, rows);
    return error.code == MOSS_OK ? lost : error;
}

const float *moss_logits(const MossModel *model, uint32_t i) {
    return i < model->n_out_rows ? (const float *)model->logits.data + i * model->program->out_stride : NULL;
}

uint32_t moss_logits_count(const MossModel *model) { return model->n_out_rows; }

MossError moss_feed(MossModel *model, MossState *state, const int32_t *tokens, size_t count, uint32_t chunk) {
    const PgProgram *program = model->program;
    uint32_t most = chunk && chunk < program->max_rows ? chunk : (uint32_t)program->max_rows;
    int64_t position = state->position;
    model->hidden_rows = 0;
    if (!count) return rt_error(MOSS_BAD_INPUT, "no tokens to feed");
    if (program->max_positions && count > (uint64_t)(program->max_positions - position)) return too_long(program, position, count);
    for (size_t i = 0; i < count; i++) { /* all of them before the first chunk changes the state */
        if (tokens[i] < 0 || tokens[i] >= program->vocab_size) {
            return rt_error(MOSS_BAD_INPUT, "token %d at position %lld is outside the vocabulary (0 to %lld)", tokens[i],
                            (long long)(position + (int64_t)i), (long long)program->vocab_size - 1);
        }
    }
    for (size_t done = 0, n; done < count; done += n) {
        n = count - done < most ? count - done : most;
        MossSegment segment = {.state = state,
                               .tokens = tokens + done,
                               .count = (uint32_t)n,
                               .logits = done + n == count ? MOSS_LAST_LOGITS : MOSS_NO_LOGITS};
        MossError error = moss_step(model, &segment, 1);
        if (error.code != MOSS_OK) return error;
    }
    return (MossError){.code = MOSS_OK};
}

void moss_profile(MossModel *model, MossPhaseTime *times[PG_MODES]) {
    for (int mode = 0; mode < PG_MODES; mode++) model->profile[mode] = times ? times[mode] : NULL;
}
