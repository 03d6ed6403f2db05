#include "cli/bench_speed.h"

#include <inttypes.h>

#include "cli/limiter.h"
#include "cli/progress.h"
#include "ir/phase_cost.h"
#include "support/clock.h"

/* One value of each for every round. */
typedef struct Rounds {
    double *prefill_tok_s, *decode_tok_s, *read_gb_s, *panel_gflop_s, *prefill_of_bound, *decode_of_bound;
} Rounds;

typedef struct Bench {
    CliBuild *build;
    const BenchPlan *plan;
    const PgProgram *program;
    CliLimiter *limiter; /* NULL without limits */
    MossState **states;  /* [batch] */
    MossSegment *segments; /* [batch] */
    int32_t *tokens;     /* [batch][prefill + decode] */
    int64_t share;       /* tokens of each sequence that a step of the prompt takes at most */
} Bench;

/* Token ids that no model expects, the same ones each time. */
static int32_t *make_tokens(SuArena *arena, int64_t count, int64_t vocab_size) {
    int32_t *tokens = SU_NEW_ARRAY(arena, int32_t, (size_t)count);
    uint64_t x = 0x9E3779B97F4A7C15u;
    for (int64_t i = 0; i < count; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        tokens[i] = (int32_t)((x >> 11) % (uint64_t)vocab_size);
    }
    return tokens;
}

/* ---------------------------------------------------------------------------------------------- steps */

/* Feeds every sequence its tokens [first, first + count). */
static MossError feed(const Bench *b, int64_t first, int64_t count, MossWanted wanted) {
    int64_t length = b->plan->prefill + b->plan->decode;
    for (int64_t s = 0; s < b->plan->batch; s++) {
        b->segments[s] = (MossSegment){
            .state = b->states[s], .tokens = b->tokens + s * length + first, .count = (uint32_t)count, .wanted = wanted};
    }
    return moss_step(b->build->model, b->segments, (uint32_t)b->plan->batch);
}

static MossError feed_prompts(const Bench *b) {
    MossError error = {.code = MOSS_OK};
    for (int64_t done = 0, n; done < b->plan->prefill && error.code == MOSS_OK; done += n) {
        n = b->plan->prefill - done < b->share ? b->plan->prefill - done : b->share;
        error = feed(b, done, n, done + n == b->plan->prefill ? MOSS_LAST_LOGITS : MOSS_NO_LOGITS);
    }
    return error;
}

static MossError decode(const Bench *b) {
    MossError error = {.code = MOSS_OK};
    for (int64_t i = 0; i < b->plan->decode && error.code == MOSS_OK; i++) {
        error = feed(b, b->plan->prefill + i, 1, MOSS_LAST_LOGITS);
    }
    return error;
}

/* ---------------------------------------------------------------------------------------------- bounds */

/* FLOPs of the linear maps of a phase; a scan multiplies by dt_proj itself. */
static double map_flops(const PgKernel *k, const PgCost *cost, int64_t rows) {
    if (k->kind == PG_MAP) return cost->flops;
    if (k->kind != PG_SCAN) return 0;
    double times = !k->own_dt ? 1 : k->scan == PG_SCAN_UPDATE ? (double)k->E : (double)k->k;
    return 2 * times * (double)rows * (double)k->R * (double)k->O;
}

/* Seconds of a step of `count` tokens of every sequence, were it as fast as the limits. */
static double bound_of_step(const Bench *b, int64_t position, int64_t count, bool wanted, CliLimits limits) {
    PgWork work = {.rows = b->plan->batch * count, .segments = b->plan->batch, .position = position};
    work.wanted = wanted ? b->plan->batch : 0;
    const PgStep *step = &b->program->steps[work.rows == 1 ? PG_ROW : PG_BLOCK];
    double bytes = 0, flops = 0;
    for (uint32_t i = 0; i < step->n_phases; i++) {
        PgCost cost = pg_phase_cost(b->program, &step->phases[i], &work);
        bytes += cost.weight_bytes;
        flops += map_flops(&b->program->kernels[step->phases[i].kernel], &cost, work.rows);
    }
    double reading = bytes / (1e9 * limits.read_gb_s), computing = flops / (1e9 * limits.panel_gflop_s);
    return reading > computing ? reading : computing;
}

static double bound_of_prompts(const Bench *b, CliLimits limits) {
    double seconds = 0;
    for (int64_t done = 0, n; done < b->plan->prefill; done += n) {
        n = b->plan->prefill - done < b->share ? b->plan->prefill - done : b->share;
        seconds += bound_of_step(b, done, n, done + n == b->plan->prefill, limits);
    }
    return seconds;
}

static double bound_of_decoding(const Bench *b, CliLimits limits) {
    return (double)b->plan->decode * bound_of_step(b, b->plan->prefill, 1, true, limits);
}

/* The two limits that bound a step. */
static CliLimits measure_limits(const Bench *b) {
    if (!b->limiter) return (CliLimits){0};
    return (CliLimits){.read_gb_s = cli_limit_read(b->limiter), .panel_gflop_s = cli_limit_panel(b->limiter)};
}

/* ---------------------------------------------------------------------------------------------- rounds */

static MossError one_round(const Bench *b, const Rounds *out, int64_t round) {
    for (int64_t s = 0; s < b->plan->batch; s++) moss_state_reset(b->states[s]);
    CliLimits before = measure_limits(b);
    double start = su_seconds();
    MossError error = feed_prompts(b);
    double prefill = su_seconds() - start;
    CliLimits between = measure_limits(b);
    if (error.code != MOSS_OK) return error;
    start = su_seconds();
    error = decode(b);
    double decoding = su_seconds() - start;
    CliLimits after = measure_limits(b);
    if (round < 0) return error; /* to warm caches and pages up */
    out->prefill_tok_s[round] = (double)(b->plan->batch * b->plan->prefill) / prefill;
    out->decode_tok_s[round] = (double)(b->plan->batch * b->plan->decode) / decoding;
    if (!b->limiter) return error;
    CliLimits of_prompts = cli_limits_best(before, between), of_decoding = cli_limits_best(between, after);
    out->prefill_of_bound[round] = bound_of_prompts(b, of_prompts) / prefill;
    out->decode_of_bound[round] = bound_of_decoding(b, of_decoding) / decoding;
    out->read_gb_s[round] = of_decoding.read_gb_s;
    out->panel_gflop_s[round] = of_prompts.panel_gflop_s;
    return error;
}

static MossError all_rounds(const Bench *b, const Rounds *rounds) {
    MossError error = {.code = MOSS_OK};
    CliProgress progress = cli_progress_start(b->plan->progress, "measuring", "rounds");
    for (int64_t i = -1; i < b->plan->repeat && error.code == MOSS_OK; i++) {
        error = one_round(b, rounds, i);
        cli_progress_update(&progress, (uint64_t)(i + 2), (uint64_t)b->plan->repeat + 1);
    }
    cli_progress_end(&progress);
    return error;
}

static MossError make_states(const Bench *b) {
    MossError error = {.code = MOSS_OK};
    for (int64_t s = 0; s < b->plan->batch && error.code == MOSS_OK; s++) {
        error = moss_state_create(b->build->model, &b->states[s]);
    }
    return error;
}

static BenchSpeed speed_of(const BenchPlan *plan, const Rounds *rounds) {
    size_t n = (size_t)plan->repeat;
    BenchSpeed speed = {.prefill_tok_s = cli_stats(rounds->prefill_tok_s, n), .decode_tok_s = cli_stats(rounds->decode_tok_s, n)};
    if (!plan->limits) return speed;
    speed.read_gb_s = cli_stats(rounds->read_gb_s, n);
    speed.panel_gflop_s = cli_stats(rounds->panel_gflop_s, n);
    speed.prefill_of_bound = cli_stats(rounds->prefill_of_bound, n);
    speed.decode_of_bound = cli_stats(rounds->decode_of_bound, n);
    return speed;
}

/* Tokens of each sequence in a step of the prompt. */
static int64_t share_of_step(const BenchPlan *plan, const PgProgram *program) {
    int64_t rows = plan->chunk > 0 && plan->chunk < program->max_rows ? plan->chunk : program->max_rows;
    return rows < plan->batch ? 1 : rows / plan->batch;
}

bool cli_bench_fits(CliBuild *build, const BenchPlan *plan) {
    int64_t most = build->program->max_rows, positions = build->program->max_positions, tokens = plan->prefill + plan->decode;
    if (plan->batch > most) {
        return su_error(&build->diags, (SuSpan){0}, NULL, "a step of this model takes at most %" PRId64 " sequences", most);
    }
    return positions == 0 || tokens <= positions ||
           su_error(&build->diags, (SuSpan){0}, NULL,
                    "--prefill and --decode make %" PRId64 " tokens; max_positions of this model is %" PRId64, tokens, positions);
}

bool cli_bench_speed(CliBuild *build, const BenchPlan *plan, BenchSpeed *out_speed) {
    SuArena *arena = &build->arena;
    Bench b = {.build = build, .plan = plan, .program = build->program, .share = share_of_step(plan, build->program)};
    if (plan->limits && !cli_limiter_create(&build->target, moss_model_threads(build->model), &b.limiter, &build->diags))
        return false;
    b.states = SU_NEW_ARRAY(arena, MossState *, (size_t)plan->batch);
    b.segments = SU_NEW_ARRAY(arena, MossSegment, (size_t)plan->batch);
    b.tokens = make_tokens(arena, plan->batch * (plan->prefill + plan->decode), b.program->vocab_size);
    Rounds rounds;
    double **values[] = {&rounds.prefill_tok_s, &rounds.decode_tok_s,     &rounds.read_gb_s,
                         &rounds.panel_gflop_s, &rounds.prefill_of_bound, &rounds.decode_of_bound};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) *values[i] = SU_NEW_ARRAY(arena, double, (size_t)plan->repeat);
    MossError error = make_states(&b);
    if (error.code == MOSS_OK) error = all_rounds(&b, &rounds);
    for (int64_t s = 0; s < plan->batch; s++) moss_state_free(b.states[s]);
    cli_limiter_free(b.limiter);
    if (error.code == MOSS_OK) *out_speed = speed_of(plan, &rounds);
    return cli_moss_ok(&build->diags, error);
}
