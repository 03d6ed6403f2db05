#include "measure/steps.h"

#include <inttypes.h>

static int32_t *make_tokens(SuArena *arena, int64_t count, int64_t vocab_size) {
    int32_t *tokens = SU_NEW_ARRAY(arena, int32_t, (size_t)count);
    uint64_t x = 0x9E3779B97F4A7C15u;
    for (int64_t i = 0; i < count; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        tokens[i] = (int32_t)((x >> 11) % (uint64_t)vocab_size);
    }
    return tokens;
}

bool ms_fits(DrBuild *build, const MsPlan *plan) {
    int64_t most = build->program->max_rows, positions = build->program->max_positions, tokens = plan->prefill + plan->decode;
    if (plan->batch > most)
        return su_error(&build->diags, (SuSpan){0}, NULL, "a step of this model takes at most %" PRId64 " sequences", most);
    return positions == 0 || tokens <= positions ||
           su_error(&build->diags, (SuSpan){0}, NULL,
                    "--prefill and --decode make %" PRId64 " tokens; max_positions of this model is %" PRId64, tokens, positions);
}

MossError ms_steps_create(DrBuild *build, const MsPlan *plan, MsSteps *out_steps) {
    const PgProgram *program = build->program;
    int64_t rows = plan->chunk > 0 && plan->chunk < program->max_rows ? plan->chunk : program->max_rows;
    *out_steps = (MsSteps){.plan = plan, .program = program, .model = build->model, .rows = rows};
    out_steps->states = SU_NEW_ARRAY(&build->arena, MossState *, (size_t)plan->batch);
    out_steps->segments = SU_NEW_ARRAY(&build->arena, MossSegment, (size_t)plan->batch);
    out_steps->tokens = make_tokens(&build->arena, plan->batch * (plan->prefill + plan->decode), program->vocab_size);
    MossError error = {.code = MOSS_OK};
    for (int64_t s = 0; s < plan->batch && error.code == MOSS_OK; s++)
        error = moss_state_create(build->model, &out_steps->states[s]);
    return error;
}

void ms_steps_free(MsSteps *steps) {
    for (int64_t s = 0; steps->states && s < steps->plan->batch; s++) moss_state_free(steps->states[s]);
    *steps = (MsSteps){0};
}

void ms_reset(const MsSteps *steps) {
    for (int64_t s = 0; s < steps->plan->batch; s++) moss_state_reset(steps->states[s]);
}

/* ---------------------------------------------------------------------------------------------- steps */

/* Feeds every sequence its tokens [first, first + count). */
static MossError feed(const MsSteps *b, int64_t first, int64_t count, MossLogits logits) {
    int64_t length = b->plan->prefill + b->plan->decode;
    for (int64_t s = 0; s < b->plan->batch; s++) {
        b->segments[s] = (MossSegment){
            .state = b->states[s], .tokens = b->tokens + s * length + first, .count = (uint32_t)count, .logits = logits};
    }
    return moss_step(b->model, b->segments, (uint32_t)b->plan->batch);
}

PgWork ms_prompt_work(int64_t prefill, int64_t batch, int64_t max_rows, int64_t done) {
    int64_t share = max_rows < batch ? 1 : max_rows / batch, left = prefill - done, count = left < share ? left : share;
    return (PgWork){.rows = batch * count, .segments = batch, .n_out_rows = count == left ? batch : 0, .position = done};
}

PgWork ms_prompt_step(const MsSteps *b, int64_t done) { return ms_prompt_work(b->plan->prefill, b->plan->batch, b->rows, done); }

PgWork ms_decode_work(int64_t batch, int64_t position) {
    return (PgWork){.rows = batch, .segments = batch, .n_out_rows = batch, .position = position};
}

MossError ms_prompts(const MsSteps *b) {
    MossError error = {.code = MOSS_OK};
    for (int64_t done = 0, count; done < b->plan->prefill && error.code == MOSS_OK; done += count) {
        PgWork work = ms_prompt_step(b, done);
        count = work.rows / work.segments;
        error = feed(b, done, count, work.n_out_rows ? MOSS_LAST_LOGITS : MOSS_NO_LOGITS);
    }
    return error;
}

MossError ms_decode(const MsSteps *b) {
    MossError error = {.code = MOSS_OK};
    for (int64_t i = 0; i < b->plan->decode && error.code == MOSS_OK; i++)
        error = feed(b, b->plan->prefill + i, 1, MOSS_LAST_LOGITS);
    return error;
}

double ms_linear_flops(const PgKernel *k, const PgCost *cost, int64_t rows) {
    if (k->kind == PG_LINEAR) return cost->flops;
    if (k->kind != PG_SCAN) return 0;
    double times = !k->own_dt ? 1 : k->scan == PG_SCAN_UPDATE ? (double)k->E : (double)k->k;
    return 2 * times * (double)rows * (double)k->R * (double)k->O;
}
