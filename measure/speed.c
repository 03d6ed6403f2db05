#include "measure/speed.h"

#include "measure/limiter.h"
#include "support/clock.h"

/* One value of each for every round. */
typedef struct Rounds {
    double *prefill_tok_s, *decode_tok_s, *read_gb_s, *panel_gflop_s, *prefill_of_bound, *decode_of_bound;
} Rounds;

typedef struct Bench {
    MsSteps steps;
    MsLimiter *limiter; /* NULL without limits */
} Bench;

/* ---------------------------------------------------------------------------------------------- bounds */

/* Seconds of a step, were it as fast as the limits. */
static double bound_of_step(const Bench *b, PgWork work, MsLimits limits) {
    const PgProgram *program = b->steps.program;
    const PgStep *step = &program->steps[work.rows == 1 ? PG_ROW : PG_BLOCK];
    double bytes = 0, flops = 0;
    for (uint32_t i = 0; i < step->n_phases; i++) {
        PgCost cost = pg_phase_cost(program, &step->phases[i], &work);
        bytes += cost.weight_bytes;
        flops += ms_linear_flops(&program->kernels[step->phases[i].kernel], &cost, work.rows);
    }
    double reading = bytes / (1e9 * limits.read_gb_s), computing = flops / (1e9 * limits.panel_gflop_s);
    return reading > computing ? reading : computing;
}

static double bound_of_prompts(const Bench *b, MsLimits limits) {
    double seconds = 0;
    for (int64_t done = 0; done < b->steps.plan->prefill;) {
        PgWork work = ms_prompt_step(&b->steps, done);
        seconds += bound_of_step(b, work, limits);
        done += work.rows / work.segments;
    }
    return seconds;
}

static double bound_of_decoding(const Bench *b, MsLimits limits) {
    const MsPlan *plan = b->steps.plan;
    return (double)plan->decode * bound_of_step(b, ms_decode_work(plan->batch, plan->prefill), limits);
}

/* The two limits that bound a step. */
static MsLimits measure_limits(const Bench *b) {
    if (!b->limiter) return (MsLimits){0};
    return (MsLimits){.read_gb_s = ms_limit_read(b->limiter), .panel_gflop_s = ms_limit_panel(b->limiter)};
}

/* ---------------------------------------------------------------------------------------------- rounds */

static MossError one_round(const Bench *b, const Rounds *out, int64_t round) {
    const MsPlan *plan = b->steps.plan;
    ms_reset(&b->steps);
    MsLimits before = measure_limits(b);
    double start = su_seconds();
    MossError error = ms_prompts(&b->steps);
    double prefill = su_seconds() - start;
    MsLimits between = measure_limits(b);
    if (error.code != MOSS_OK) return error;
    start = su_seconds();
    error = ms_decode(&b->steps);
    double decoding = su_seconds() - start;
    MsLimits after = measure_limits(b);
    if (round < 0) return error; /* to warm caches and pages up */
    out->prefill_tok_s[round] = (double)(plan->batch * plan->prefill) / prefill;
    out->decode_tok_s[round] = (double)(plan->batch * plan->decode) / decoding;
    if (!b->limiter) return error;
    MsLimits of_prompts = ms_limits_best(before, between), of_decoding = ms_limits_best(between, after);
    out->prefill_of_bound[round] = bound_of_prompts(b, of_prompts) / prefill;
    out->decode_of_bound[round] = bound_of_decoding(b, of_decoding) / decoding;
    out->read_gb_s[round] = of_decoding.read_gb_s;
    out->panel_gflop_s[round] = of_prompts.panel_gflop_s;
    return error;
}

static MossError all_rounds(const Bench *b, const Rounds *rounds) {
    MossError error = {.code = MOSS_OK};
    const DrProgress *progress = &b->steps.plan->progress;
    dr_progress_begin(progress, "measuring", "rounds", true);
    for (int64_t i = -1; i < b->steps.plan->repeat && error.code == MOSS_OK; i++) {
        error = one_round(b, rounds, i);
        dr_progress_update(progress, (uint64_t)(i + 2), (uint64_t)b->steps.plan->repeat + 1);
    }
    dr_progress_end(progress);
    return error;
}

static MsSpeed speed_of(const MsPlan *plan, const Rounds *rounds) {
    size_t n = (size_t)plan->repeat;
    MsSpeed speed = {.prefill_tok_s = ms_stats(rounds->prefill_tok_s, n), .decode_tok_s = ms_stats(rounds->decode_tok_s, n)};
    if (!plan->limits) return speed;
    speed.read_gb_s = ms_stats(rounds->read_gb_s, n);
    speed.panel_gflop_s = ms_stats(rounds->panel_gflop_s, n);
    speed.prefill_of_bound = ms_stats(rounds->prefill_of_bound, n);
    speed.decode_of_bound = ms_stats(rounds->decode_of_bound, n);
    return speed;
}

bool ms_measure_speed(DrBuild *build, const MsPlan *plan, MsSpeed *out_speed) {
    SuArena *arena = &build->arena;
    Bench b = {0};
    if (plan->limits && !ms_limiter_create(&build->target, moss_model_threads(build->model), &b.limiter, &build->diags))
        return false;
    Rounds rounds;
    double **values[] = {&rounds.prefill_tok_s, &rounds.decode_tok_s,     &rounds.read_gb_s,
                         &rounds.panel_gflop_s, &rounds.prefill_of_bound, &rounds.decode_of_bound};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) *values[i] = SU_NEW_ARRAY(arena, double, (size_t)plan->repeat);
    MossError error = ms_steps_create(build, plan, &b.steps);
    if (error.code == MOSS_OK) error = all_rounds(&b, &rounds);
    ms_steps_free(&b.steps);
    ms_limiter_free(b.limiter);
    if (error.code == MOSS_OK) *out_speed = speed_of(plan, &rounds);
    return dr_moss_ok(&build->diags, error);
}
