/* mossc explain: what a step does, phase by phase, and what binds its speed. */
#include "cli/inspect/explain.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/build.h"
#include "cli/progress.h"
#include "driver/device.h"
#include "driver/random_weights.h"
#include "support/clock.h"

typedef struct ExplainOptions {
    CliModelOptions model;
    int64_t rows, position, repeat; /* rows, position -1: not given */
    bool measure, json;
} ExplainOptions;

enum { DEFAULT_ROWS = 512, DEFAULT_POSITION = 1023, MAX_REPEAT = 1000, MOST_STEPS = 512 };
static const double ROUND_SECONDS = 0.1; /* of decoding, at least as long as a step takes */

/* ---------------------------------------------------------------------------------------------- measuring */

typedef struct Meter {
    DrBuild *build;
    const ExplainOptions *o;
    CliLimiter *limiter;
    MossState *base;  /* where every repetition starts */
    int32_t *tokens; /* a decoded one is that of its step */
    MossPhaseTime *times, *best; /* [threads][n_phases]: of a round, of the fastest one */
    size_t n_times;
} Meter;

/* Feeds `steps` times the rows of a step from a copy of the base, the clock looked at in every phase or not. Seconds a step. */
static MossError run_steps(Meter *m, const CliExplained *x, int64_t steps, bool profiled, double *out_seconds) {
    MossState *state = NULL;
    MossError error = moss_state_clone(m->base, &state);
    if (error.code != MOSS_OK) return error;
    MossPhaseTime *times[PG_MODES] = {NULL};
    times[x->mode] = m->times;
    memset(m->times, 0, m->n_times * sizeof *m->times);
    moss_profile(m->build->model, profiled ? times : NULL);
    double start = su_seconds();
    for (int64_t i = 0; i < steps && error.code == MOSS_OK; i++) {
        MossSegment segment = {
            .state = state, .tokens = m->tokens + i, .count = (uint32_t)x->work.rows, .wanted = MOSS_LAST_LOGITS};
        error = moss_step(m->build->model, &segment, 1);
    }
    *out_seconds = (su_seconds() - start) / (double)steps;
    moss_profile(m->build->model, NULL);
    moss_state_free(state);
    return error;
}

/* Steps of a round: a prompt is one, tokens are as many as fit into its time and into max_positions. */
static int64_t steps_of_round(const Meter *m, const CliExplained *x, double step_seconds) {
    if (x->mode == PG_BLOCK) return 1;
    double steps = ceil(ROUND_SECONDS / step_seconds);
    int64_t n = steps > MOST_STEPS ? MOST_STEPS : (int64_t)steps, room = m->build->program->max_positions - x->work.position;
    return m->build->program->max_positions && n > room ? room : n;
}

/* A run without the clock and one with it, in an order that changes: the second finds warmer caches. The fastest of each stays. */
static MossError run_round(Meter *m, CliExplained *x, int64_t steps, int64_t round) {
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

/* Rounds of limits and steps, after steps that warm up. */
static MossError run_rounds(Meter *m, CliExplained *x, int64_t *out_steps) {
    double seconds = 0;
    MossError error = run_steps(m, x, 1, false, &seconds);
    if (error.code == MOSS_OK) error = run_steps(m, x, 1, false, &seconds);
    int64_t steps = *out_steps = steps_of_round(m, x, seconds);
    x->step_seconds = x->profiled_seconds = INFINITY;
    x->limits = cli_measure_limits(m->limiter);
    CliProgress progress = cli_progress_start(m->o->model.progress, "measuring", "rounds");
    for (int64_t i = 0; i < m->o->repeat && error.code == MOSS_OK; i++) {
        error = run_round(m, x, steps, i);
        x->limits = cli_limits_best(x->limits, cli_measure_limits(m->limiter));
        cli_progress_update(&progress, (uint64_t)(i + 1), (uint64_t)m->o->repeat);
    }
    cli_progress_end(&progress);
    return error;
}

/* The base stands where the step begins; attention then looks back on what a token there sees. */
static MossError make_base(Meter *m, const CliExplained *x) {
    MossError error = moss_state_create(m->build->model, &m->base);
    bool looks_back = false;
    for (int64_t i = 0; i < m->build->spec.n_blocks; i++) looks_back |= m->build->spec.blocks[i].looks_back;
    if (error.code != MOSS_OK || !looks_back || x->work.position == 0) return error;
    return moss_feed(m->build->model, m->base, m->tokens, (size_t)x->work.position, 0);
}

static bool measure_step(Meter *m, CliExplained *x) {
    int threads = moss_model_threads(m->build->model);
    m->n_times = (size_t)threads * m->build->program->steps[x->mode].n_phases;
    m->times = SU_NEW_ARRAY(&m->build->arena, MossPhaseTime, m->n_times);
    m->best = SU_NEW_ARRAY(&m->build->arena, MossPhaseTime, m->n_times);
    int64_t steps = 1;
    MossError error = make_base(m, x);
    cli_limiter_read_bytes(m->limiter, m->build->program->weight_bytes + m->build->program->state_bytes);
    x->read_bytes = cli_limit_buffer(m->limiter);
    if (error.code == MOSS_OK) error = run_rounds(m, x, &steps);
    moss_state_free(m->base);
    m->base = NULL;
    if (!dr_moss_ok(&m->build->diags, error)) return false;
    cli_explain_times(x, m->best, threads, (double)steps);
    return true;
}

/* Ids that no model expects, the same ones each time: enough for every step and for what comes before. */
static int32_t *make_tokens(DrBuild *build, const CliExplained *x, size_t n) {
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

static bool measure(DrBuild *build, const DrBuildOptions *options, const ExplainOptions *o, CliExplained *x, size_t n) {
    if (options->weights->count && !dr_build_files(build, options)) return false;
    Meter meter = {.build = build, .o = o};
    bool ok = dr_build_code(build, options) && dr_build_weights_or_random(build, options, NULL) &&
              cli_limiter_create(&build->target, moss_model_threads(build->model), &meter.limiter, &build->diags);
    if (ok) meter.tokens = make_tokens(build, x, n);
    for (size_t i = 0; i < n && ok; i++) ok = measure_step(&meter, &x[i]);
    cli_limiter_free(meter.limiter);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- the command */

static bool too_far(DrBuild *build, const char *what, int64_t given, const char *limit, int64_t most) {
    return su_error(&build->diags, (SuSpan){0}, NULL, "%s %" PRId64 " is past %s of this model, %" PRId64, what, given, limit,
                    most);
}

/* The two steps that are explained: a token, and a prompt. Defaults give way to what the model allows. */
static bool choose_steps(DrBuild *build, const ExplainOptions *o, PgWork *token, PgWork *prompt) {
    int64_t positions = build->program->max_positions, rows = build->program->max_rows;
    if (positions && positions < rows) rows = positions;
    if (o->rows > rows) return too_far(build, "--rows", o->rows, "the most tokens of a step", rows);
    if (positions && o->position >= positions) return too_far(build, "--position", o->position, "max_positions - 1", positions - 1);
    int64_t position = o->position >= 0 ? o->position : DEFAULT_POSITION;
    *token =
        (PgWork){.rows = 1, .segments = 1, .wanted = 1, .position = positions && position >= positions ? positions - 1 : position};
    *prompt = (PgWork){.rows = o->rows > 0 ? o->rows : rows < DEFAULT_ROWS ? rows : DEFAULT_ROWS, .segments = 1, .wanted = 1};
    return true;
}

static void print_json(const DrBuild *build, const ExplainOptions *o, const CliExplained *x, size_t n) {
    static const char *const keys[] = {"token", "prompt"};
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "name", build->program->name);
    if (o->measure) cJSON_AddNumberToObject(root, "threads", x[0].threads);
    if (o->measure) cJSON_AddNumberToObject(root, "vector_lanes", build->target.vector_lanes);
    for (size_t i = 0; i < n; i++) cJSON_AddItemToObject(root, keys[i], cli_explain_json(&x[i]));
    cli_json_print(root);
}

static bool explain(DrBuild *build, const DrBuildOptions *options, const ExplainOptions *o) {
    PgWork token, prompt;
    if (!dr_build_device(build, options) || !dr_build_spec(build, options) || !dr_build_graph(build) ||
        !dr_build_program(build, options) || !choose_steps(build, o, &token, &prompt)) {
        return false;
    }
    CliExplained x[2] = {cli_explain_step(&build->spec, build->program, PG_ROW, token, &build->arena),
                         cli_explain_step(&build->spec, build->program, PG_BLOCK, prompt, &build->arena)};
    size_t n = prompt.rows > 1 ? 2 : 1; /* where max_positions is 1 there are no prompts */
    if (o->measure && !measure(build, options, o, x, n)) return false;
    if (o->json) {
        print_json(build, o, x, n);
    } else {
        printf("%s: %s\n\n", options->spec, build->program->name);
        for (size_t i = 0; i < n; i++) cli_explain_print(&x[i]);
    }
    return true;
}

static const CliOption table[] = {
    CLI_ROW_FLAG(ExplainOptions, measure, "measure", "run it, and say how long each phase takes and what binds it"),
    CLI_OPTION_WEIGHTS(CliModelOptions, false, CLI_ABOUT_WEIGHTS " (with --measure; default: random weights)"),
    CLI_ROW_INT(ExplainOptions, rows, "rows", 0, "R", 2, PG_MAX_ROWS,
                "tokens of the prompt (default 512, or what the model allows)"),
    CLI_ROW_INT(ExplainOptions, position, "position", 0, "P", 0, INT32_MAX,
                "tokens before the one that is decoded, for attention (default 1023)"),
    CLI_ROW_INT(ExplainOptions, repeat, "repeat", 0, "R", 1, MAX_REPEAT, "rounds of which the fastest counts (default 5)"),
    CLI_OPTION_VERIFY(CliModelOptions),
    CLI_OPTION_JSON(ExplainOptions, "print one JSON object"),
};

static int run(const CliCommand *command, CliArgs *args) {
    ExplainOptions o = {.rows = -1, .position = -1, .repeat = 5};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (o.model.weights.count && !o.measure) return cli_usage_error(command, "weights are only read with --measure");
    const DrDeviceKind *kind = dr_kind_of_device(o.model.device);
    if (kind && !(kind->takes & DR_EXPLAIN)) {
        return cli_usage_error(
            command, "it explains steps of a CPU; `mossc bench --device %s --limits` holds a GPU's against its limits", kind->name);
    }
    DrBuild build = {0};
    DrBuildOptions options = cli_build_options(args->positionals[0], &o.model);
    bool ok = explain(&build, &options, &o);
    fflush(stdout);
    return cli_build_finish(&build, ok);
}

const CliCommand cli_explain = {
    .name = "explain",
    .summary = "show what each phase of a step costs, and what binds it",
    .synopsis = "SPEC [--measure [-w WEIGHTS]...] [OPTION]...",
    .about =
        "A step of a model is a list of phases, each a kernel that all workers run together. For a decoded token and for a prompt "
        "this prints them, blocks that are alike as one: the spec's line, how often they occur, FLOPs and exps, the bytes of "
        "weights, states and activations, the kernel (as `mossc asm` and profilers name it). Of experts those count that are "
        "expected to be chosen: of E, if each of R tokens picks k, E (1 - (1 - k/E)^R).\n\n"
        "--measure runs both steps, after a warm-up, R times in turn without and with looking at the clock in every phase, and "
        "prints for the fastest round: milliseconds and their share, how long workers waited for each other, what the limits of "
        "this machine (see `mossc limits`; measured in every round) allow, and what binds: reading, multiply-adds, exp, waiting, "
        "or that there is too little to do. docs/explain.md has examples and the keys of the JSON object.",
    .examples = "mossc explain specs/mamba-130m.yaml\n"
                "mossc explain specs/moss-tiny.yaml --measure -w models/moss-tiny.safetensors\n"
                "mossc explain specs/jamba-like.yaml --position 4000 --rows 64 --json\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
