/* How long the phases of a step take. */
#include <math.h>
#include <string.h>

#include "driver/random_weights.h"
#include "measure/explain.h"
#include "measure/others.h"
#include "support/clock.h"

enum { MOST_STEPS = 512, MOST_AGAIN = 3 };
static const double ROUND_SECONDS = 0.1; /* of decoding, at least as long as a step takes */
static const double OTHERS = 0.04; /* of the processor: a round in which others took more is done again */

typedef struct Meter {
    DrBuild *build;
    int64_t repeat;
    const DrProgress *progress;
    MsLimiter *limiter;
    MossState *base;  /* where every repetition starts */
    int32_t *tokens; /* a decoded one is that of its step */
    MossPhaseTime *times, *best; /* [threads][n_phases]: of a round, of the fastest one */
    size_t n_times;
} Meter;

/* Feeds `steps` times the rows of a step from a copy of the base, the clock looked at in every phase or not. Seconds a step. */
static MossError run_steps(Meter *m, const MsExplained *x, int64_t steps, bool profiled, double *out_seconds) {
    MossState *state = NULL;
    MossError error = moss_state_clone(m->base, &state);
    if (error.code != MOSS_OK) return error;
    MossPhaseTime *times[PG_MODES] = {NULL};
    times[pg_mode_of(x->list)] = m->times;
    memset(m->times, 0, m->n_times * sizeof *m->times);
    moss_profile(m->build->model, profiled ? times : NULL);
    double start = su_seconds();
    for (int64_t i = 0; i < steps && error.code == MOSS_OK; i++) {
        MossSegment segment = {
            .state = state, .tokens = m->tokens + i, .count = (uint32_t)x->work.rows, .logits = MOSS_LAST_LOGITS};
        error = moss_step(m->build->model, &segment, 1);
    }
    *out_seconds = (su_seconds() - start) / (double)steps;
    moss_profile(m->build->model, NULL);
    moss_state_free(state);
    return error;
}

/* Steps of a round: a prompt is one, tokens are as many as fit into its time and into max_positions. */
static int64_t steps_of_round(const Meter *m, const MsExplained *x, double step_seconds) {
    if (x->list == PG_BLOCK) return 1;
    double steps = ceil(ROUND_SECONDS / step_seconds);
    int64_t n = steps > MOST_STEPS ? MOST_STEPS : (int64_t)steps, room = m->build->program->max_positions - x->work.position;
    return m->build->program->max_positions && n > room ? room : n;
}

/* A run without the clock and one with it, in an order that changes: the second finds warmer caches. The fastest of each stays. */
static MossError run_round(Meter *m, MsExplained *x, int64_t steps, int64_t round) {
    MossError error = {.code = MOSS_OK};
    for (int half = 0; half < 2 && error.code == MOSS_OK; half++) {
        bool profiled = (round + half) % 2 == 1;
        double seconds, *fastest = profiled ? &x->profiled_seconds : &x->step_seconds;
        error = run_steps(m, x, steps, profiled, &seconds);
        if (error.code != MOSS_OK || seconds >= *fastest) continue;
        *fastest = seconds;
        if (profiled) memcpy(m->best, m->times, m->n_times * sizeof *m->times);
    }
    return error;
}

/* Rounds of limits and steps, after steps that warm up. A round that others disturbed is one more, not one of those asked for, up to
 * MOST_AGAIN times as many: the fastest stays, and each adds a chance. */
static MossError run_rounds(Meter *m, MsExplained *x, int64_t *out_steps) {
    double seconds = 0;
    MossError error = run_steps(m, x, 1, false, &seconds);
    if (error.code == MOSS_OK) error = run_steps(m, x, 1, false, &seconds);
    int64_t steps = *out_steps = steps_of_round(m, x, seconds), again = MOST_AGAIN * m->repeat;
    x->step_seconds = x->profiled_seconds = INFINITY;
    x->limits = ms_measure_limits(m->limiter);
    x->others = 1;
    dr_progress_begin(m->progress, "measuring", "rounds", true);
    for (int64_t i = 0; i < m->repeat && error.code == MOSS_OK;) {
        MsMoment before = ms_moment(""), after;
        error = run_round(m, x, steps, i + again);
        x->limits = ms_limits_best(x->limits, ms_measure_limits(m->limiter));
        after = ms_moment("");
        double others = ms_others(&before, &after);
        if (others < x->others) x->others = others;
        if (others > OTHERS && again > 0) {
            again--;
            continue;
        }
        dr_progress_update(m->progress, (uint64_t)++i, (uint64_t)m->repeat);
    }
    dr_progress_end(m->progress);
    return error;
}

/* The base stands where the step begins; attention then looks back on what a token there sees. What has states alone is fed one token:
 * they are not zero then, and their copies not memory that the system first gives to the step which is timed. */
static MossError make_base(Meter *m, const MsExplained *x) {
    MossError error = moss_state_create(m->build->model, &m->base);
    bool looks_back = false;
    for (int64_t i = 0; i < m->build->spec.n_blocks; i++) looks_back |= m->build->spec.blocks[i].looks_back;
    if (error.code != MOSS_OK || x->work.position == 0) return error;
    return moss_feed(m->build->model, m->base, m->tokens, looks_back ? (size_t)x->work.position : 1, 0);
}

static bool measure_step(Meter *m, MsExplained *x) {
    int threads = moss_model_threads(m->build->model);
    m->n_times = (size_t)threads * m->build->program->steps[x->list].n_phases;
    m->times = SU_NEW_ARRAY(&m->build->arena, MossPhaseTime, m->n_times);
    m->best = SU_NEW_ARRAY(&m->build->arena, MossPhaseTime, m->n_times);
    int64_t steps = 1;
    MossError error = make_base(m, x);
    ms_limiter_read_bytes(m->limiter, m->build->program->weight_bytes + m->build->program->state_bytes);
    x->read_bytes = ms_limit_buffer(m->limiter);
    if (error.code == MOSS_OK) error = run_rounds(m, x, &steps);
    moss_state_free(m->base);
    m->base = NULL;
    if (!dr_moss_ok(&m->build->diags, error)) return false;
    ms_explain_times(x, m->best, threads, (double)steps);
    return true;
}

/* Ids that no model expects, the same ones each time: enough for every step and for what comes before. */
static int32_t *make_tokens(DrBuild *build, const MsExplained *x, size_t n) {
    int64_t count = MOST_STEPS;
    for (size_t i = 0; i < n; i++) {
        count = x[i].work.rows > count ? x[i].work.rows : count;
        count = x[i].work.position > count ? x[i].work.position : count;
    }
    int32_t *tokens = SU_NEW_ARRAY(&build->arena, int32_t, (size_t)count);
    for (int64_t i = 0; i < count; i++)
        tokens[i] = (int32_t)((uint64_t)(i + 1) * 0x9E3779B97F4A7C15u % (uint64_t)build->program->vocab_size);
    return tokens;
}

bool ms_measure_steps(DrBuild *build, const DrBuildOptions *options, int64_t repeat, MsExplained *x, size_t n) {
    if (options->weights->count && !dr_build_files(build, options)) return false;
    Meter meter = {.build = build, .repeat = repeat, .progress = &options->progress};
    bool ok = (build->compiled || dr_build_code(build, options)) && dr_build_weights_or_random(build, options, NULL) &&
              ms_limiter_create(&build->target, moss_model_threads(build->model), &meter.limiter, &build->diags);
    if (ok) meter.tokens = make_tokens(build, x, n);
    for (size_t i = 0; i < n && ok; i++) ok = measure_step(&meter, &x[i]);
    ms_limiter_free(meter.limiter);
    return ok;
}
