/* Random specs against the evaluators: the whole line, from YAML to logits.
 *
 * For every spec drawn: the naive graph's eval64 is the meaning, its eval32 the bits. The fused graph must keep both; compiled
 * code must give eval32's bits token by token, as one prompt, in uneven chunks, in batches, from a cloned, a saved and a cached
 * state, after tokens were taken back, with 1, 2 and 8 threads; with a pass off it must stay within tolerance of eval64. Where inputs
 * are rounded to 8 bits, eval64 takes the integers of eval32, since an error of float may move one by a step. With --fast single tokens
 * give the bits too, and prompts are near eval64. Code is made
 * for the best instruction set of the host, or (--isa) for a lower one, whose bits must be the same.
 * Specs (rather: their weights) whose routing is closer than MIN_GAP are redrawn: there rounding may pick another expert. */
#include <getopt.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codegen/cache.h"
#include "codegen/target.h"
#include "coverage.h"
#include "draw.h"
#include "frontend/lower.h"
#include "ir/eval.h"
#include "schedule/schedule.h"
#include "rng.h"
#include "ir/program.h"
#include "mossc/moss.h"
#include "runtime/prompt_cache.h"
#include "support/entries.h"
#include "weights.h"

#define MIN_GAP 1e-4
#define TOLERANCE 2e-4 /* largest |float32 - float64| over the root mean square: float32 through a few blocks gives about 1e-6 */
#define ROUNDED_TOLERANCE 1e-3 /* the same where inputs are rounded to 8 bits */
#define STEP_TOLERANCE 0.05 /* so far beyond 1/2 may eval64's input be from eval32's integer, in steps */
#define STEPS_TOLERANCE 0.1 /* where integers may be others, as with a pass off: of most logits */
#define STEPS_ROWS 8        /* so many may be off besides */
/* Row blocks of --fast: inputs rounded to bf16 are off by 2^-9 / sqrt(3), which a dozen linear layers add up to 1 % of the rms, and the
 * worst of some thousand logits is several times that. */
#define FAST_TOLERANCE 6e-2
#define FAST_GAP 4e-3
#define FUSED64_TOLERANCE 1e-9 /* fusion does not reorder sums; double leaves this much room even if it did */

enum { MAX_TRIES = 40, SEQUENCES = 2 };

typedef struct Options {
    uint64_t seed;
    int64_t count;
    bool wide, verbose, blocks, no_code, fast;
    const char *isa, *spec_file, *spec_out; /* isa: a lower instruction set, or NULL */
} Options;

/* One sequence and the bits that every row of it must have. */
typedef struct Truth {
    int32_t *tokens; /* [T] */
    float *logits; /* [T][V], eval32 */
    float *hidden; /* [T][blocks + 1][width], eval32, of the first sequence */
} Truth;

typedef struct Case {
    uint64_t seed;
    int64_t T, V;
    SuText yaml;
    FeSpec spec;
    SuArena arena;
    SuDiags diags;
    IrGraph *naive;
    Weights weights;
    Truth truth[SEQUENCES];
    double *logits64; /* [T][V] of truth[0] */
    double rms64;
    bool rounds; /* some input is rounded to 8 bits */
    bool fast; /* prompts round inputs to bf16 */
    double worst; /* distance from eval64 of what must be near, of the rms */
    int64_t seen, far; /* of logits that are compared with eval64, and where inputs are rounded, those off by much */
    CgCache *kernels; /* what programs of the spec share is compiled once; NULL: none */
    bool failed;
} Case;

static uint64_t running_seed; /* for the message of a crash */

static void say_seed(const char *what) {
    char text[128];
    int size = snprintf(text, sizeof text, "\ntest_random: %s at seed %llu\n", what, (unsigned long long)running_seed);
    if (write(2, text, (size_t)size) < 0) _exit(2);
}

__attribute__((unused)) static void on_crash(int signal_number) {
    say_seed(strsignal(signal_number));
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void on_exit_within_a_spec(void) {
    if (running_seed != 0) say_seed("the process ended");
}

/* Reports once per case, with everything that is needed to see it again. */
static bool fail(Case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(Case *c, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (!c->failed) printf("FAILED: --seed %llu --count 1\n%s", (unsigned long long)c->seed, c->yaml.text);
    c->failed = true;
    printf("  -> ");
    vprintf(format, args);
    printf("\n");
    if (c->diags.count > 0) su_diags_print(&c->diags, stdout);
    va_end(args);
    fflush(stdout);
    return false;
}

/* ------------------------------------------------------------------------------------------ what the graph means */

static int64_t hidden_size(const Case *c) { return (c->spec.n_blocks + 1) * c->spec.d_model; }

/* The residual stream of the last token: [blocks + 1][width]. */
static bool take_hidden(Case *c, const IrGraph *graph, const IrEval *eval, float *out) {
    SuArena arena = {0};
    int32_t blocks;
    const IrValueId *values = ir_residuals(graph, &arena, &blocks);
    bool good = values != NULL && blocks == c->spec.n_blocks;
    for (int64_t i = 0; good && i <= blocks; i++)
        for (int64_t d = 0; d < c->spec.d_model; d++) *out++ = (float)ir_eval_value(eval, values[i])[d];
    su_arena_free(&arena);
    return good || fail(c, "no residual stream of %lld blocks is found", (long long)c->spec.n_blocks);
}

/* eval32 of a graph over a sequence, with eval64 beside it where logits64 is given: same expert indices at every token. Where *gap, the
 * closest routing decision, is wanted, it ends with one that is too close. */
static bool evaluate(Case *c, const IrGraph *graph, const int32_t *tokens, int64_t T, float *logits32, float *hidden,
                     double *logits64, double *gap) {
    IrEval *eval32 = ir_eval32_new(graph, weights_stored, &c->weights);
    IrEval *eval64 = logits64 != NULL ? ir_eval64_new(graph, weights_stored, &c->weights) : NULL;
    double *row = malloc((size_t)c->V * sizeof(double));
    bool good = true, experts_differ = false;
    if (eval64 != NULL) ir_eval_replay(eval64, eval32);
    for (int64_t t = 0; t < T && good; t++) {
        good = ir_eval_token(eval32, tokens[t], row, &c->diags);
        for (int64_t v = 0; v < c->V; v++) logits32[t * c->V + v] = (float)row[v];
        if (good && hidden != NULL) good = take_hidden(c, graph, eval32, hidden + t * hidden_size(c));
        if (good && eval64 != NULL) {
            int32_t experts32[512], experts64[512];
            good = ir_eval_token(eval64, tokens[t], logits64 + t * c->V, &c->diags);
            size_t n32 = ir_eval_experts(eval32, experts32, 512), n64 = ir_eval_experts(eval64, experts64, 512);
            if (n32 != n64 || memcmp(experts32, experts64, n32 * sizeof(int32_t)) != 0) experts_differ = true;
            if (gap != NULL && ir_eval_min_gap(eval64) < MIN_GAP) break;
        }
    }
    if (gap != NULL) *gap = eval64 != NULL ? ir_eval_min_gap(eval64) : INFINITY;
    double closest = gap != NULL ? *gap : INFINITY, step = eval64 != NULL ? ir_eval_most_step(eval64) : 0;
    ir_eval_free(eval32);
    if (eval64 != NULL) ir_eval_free(eval64);
    free(row);
    if (!good) return fail(c, "the evaluator failed");
    if (experts_differ && closest >= MIN_GAP) return fail(c, "eval32 and eval64 choose different experts (gap %g)", closest);
    if (closest >= MIN_GAP && step > 0.5 + STEP_TOLERANCE)
        return fail(c, "an input of eval64 is %g steps from the integer of eval32", step);
    return true;
}

static double root_mean_square(const double *x, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i] * x[i];
    return sqrt(sum / (double)count);
}

static double off_by(const Case *c, const float *logits, int64_t from, int64_t i) {
    return fabs((double)logits[i] - c->logits64[from * c->V + i]) / c->rms64;
}

/* A last bit may make another integer of an input, and that another choice of experts, which later tokens remember: most logits must be
 * near. Rows are compared from the first on. */
static bool mostly_near(Case *c, const char *mode, const float *logits, int64_t from, int64_t count) {
    if (from == 0) c->seen = c->far = 0;
    for (int64_t i = 0; i < count * c->V; i++) c->far += !(off_by(c, logits, from, i) <= STEPS_TOLERANCE);
    c->seen += count * c->V;
    if (c->far <= STEPS_ROWS * c->V + c->seen / 4) return true;
    return fail(c, "%s: up to token %lld, %lld of %lld logits are far from eval64's", mode, (long long)(from + count - 1),
                (long long)c->far, (long long)c->seen);
}

/* Largest difference of rows from..from+count of truth[0] from eval64, relative to eval64's rms. */
static bool near_enough(Case *c, const char *mode, const float *logits, int64_t from, int64_t count) {
    double worst = 0;
    int64_t at = 0;
    for (int64_t i = 0; i < count * c->V; i++)
        if (!(off_by(c, logits, from, i) <= worst)) worst = off_by(c, logits, from, i), at = i;
    if (worst > c->worst) c->worst = worst;
    if (worst <= (c->fast ? FAST_TOLERANCE : c->rounds ? ROUNDED_TOLERANCE : TOLERANCE)) return true;
    return fail(c, "%s: token %lld, vocab index %lld is off by %g of the rms (got %.9g, eval64 %.9g)", mode,
                (long long)(from + at / c->V), (long long)(at % c->V), worst, (double)logits[at], c->logits64[from * c->V + at]);
}

/* Rows from..from+count of a sequence, bit by bit. */
static bool same_bits(Case *c, const char *mode, const Truth *truth, const float *logits, int64_t from, int64_t count) {
    const float *want = truth->logits + from * c->V;
    if (memcmp(logits, want, (size_t)(count * c->V) * sizeof(float)) == 0) return true;
    int64_t first = 0, wrong = 0;
    double worst = 0;
    for (int64_t i = count * c->V - 1; i >= 0; i--) {
        if (memcmp(&logits[i], &want[i], sizeof(float)) == 0) continue;
        double difference = fabs((double)logits[i] - (double)want[i]) / c->rms64;
        if (!(difference <= worst)) worst = difference;
        first = i, wrong++;
    }
    return fail(c,
                "%s: token %lld, vocab index %lld: got %.9g (%a), eval32 %.9g (%a); %lld of %lld differ, at most by %g of the rms",
                mode, (long long)(from + first / c->V), (long long)(first % c->V), (double)logits[first], (double)logits[first],
                (double)want[first], (double)want[first], (long long)wrong, (long long)(count * c->V), worst);
}

static void free_truth(Case *c) {
    for (int i = 0; i < SEQUENCES; i++) {
        free(c->truth[i].tokens);
        free(c->truth[i].logits);
        free(c->truth[i].hidden);
        c->truth[i] = (Truth){0};
    }
    free(c->logits64);
    c->logits64 = NULL;
}

static bool rounds_inputs(const IrGraph *g) {
    for (size_t i = 0; i < g->n_nodes; i++) {
        IrOp op = g->nodes[i].op;
        bool linear = op == IR_OP_linear || op == IR_OP_linear_all || op == IR_OP_linear_routed;
        if (linear && g->nodes[i].attrs[IR_LINEAR_rounds].i != 0) return true;
    }
    return false;
}

/* Weights and tokens such that no routing decision is close, and what they give. */
static bool draw_truth(Case *c) {
    for (int attempt = 0; attempt < MAX_TRIES; attempt++) {
        Rng rng = {c->seed * 1000 + (uint64_t)attempt};
        weights_free(&c->weights);
        free_truth(c);
        weights_draw(&c->spec, rng_next(&rng), &c->weights);
        double gap = INFINITY;
        for (int i = 0; i < SEQUENCES; i++) {
            Truth *truth = &c->truth[i];
            truth->tokens = malloc((size_t)c->T * sizeof(int32_t));
            truth->logits = malloc((size_t)(c->T * c->V) * sizeof(float));
            if (i == 0) c->logits64 = malloc((size_t)(c->T * c->V) * sizeof(double));
            if (i == 0) truth->hidden = malloc((size_t)(c->T * hidden_size(c)) * sizeof(float));
            for (int64_t t = 0; t < c->T; t++) truth->tokens[t] = (int32_t)rng_between(&rng, 0, c->V - 1);
        }
        if (!evaluate(c, c->naive, c->truth[0].tokens, c->T, c->truth[0].logits, c->truth[0].hidden, c->logits64, &gap))
            return false;
        if (gap < (c->fast ? FAST_GAP : MIN_GAP)) continue;
        for (int i = 1; i < SEQUENCES; i++)
            if (!evaluate(c, c->naive, c->truth[i].tokens, c->T, c->truth[i].logits, NULL, NULL, NULL)) return false;
        c->rms64 = root_mean_square(c->logits64, c->T * c->V);
        if (!(c->rms64 > 1e-3 && c->rms64 < 1e6))
            return fail(c, "logits have no useful size (rms %g): mend the weights' scales", c->rms64);
        return near_enough(c, "eval32", c->truth[0].logits, 0, c->T);
    }
    return fail(c, "no weights without a close routing decision in %d tries", MAX_TRIES);
}

/* A fused graph means what the naive one does: eval32 to the bit, eval64 to rounding. */
static bool check_fused(Case *c, const IrGraph *fused) {
    int64_t T = c->T < 48 ? c->T : 48;
    float *logits32 = malloc((size_t)(T * c->V) * sizeof(float));
    double *logits64 = malloc((size_t)(T * c->V) * sizeof(double));
    bool good = evaluate(c, fused, c->truth[0].tokens, T, logits32, NULL, logits64, NULL) &&
                same_bits(c, "eval32 of the fused graph", &c->truth[0], logits32, 0, T);
    for (int64_t i = 0; i < T * c->V && good; i++) {
        double difference = fabs(logits64[i] - c->logits64[i]) / c->rms64;
        if (!(difference <= FUSED64_TOLERANCE))
            good = fail(c, "eval64 of the fused graph: token %lld, vocab index %lld is off by %g of the rms", (long long)(i / c->V),
                        (long long)(i % c->V), difference);
    }
    free(logits32);
    free(logits64);
    return good;
}

/* ------------------------------------------------------------------------------------------ compiled code */

static bool moss_failed(Case *c, const char *mode, MossError error) { return fail(c, "%s: %s", mode, error.text); }

/* A state of the model in a batch: feeds one sequence, some rows a step. */
typedef struct Lane {
    MossState *state;
    const Truth *truth;
    int64_t at; /* rows fed */
} Lane;

/* Feeds all lanes to their ends in steps that `rng` cuts: 1..longest rows of some lanes, in turning order. */
static bool run_lanes(Case *c, const char *mode, MossModel *model, Lane *lanes, int n_lanes, int64_t longest, Rng *rng) {
    for (int turn = 0;; turn++) {
        MossSegment segments[4];
        Lane *of[4];
        uint32_t n = 0;
        int64_t room = moss_program_max_rows(moss_model_program(model));
        bool rest = false;
        for (int i = 0; i < n_lanes; i++) {
            Lane *lane = &lanes[(i + turn) % n_lanes];
            int64_t left = c->T - lane->at, count = rng_chance(rng, 30) ? 1 : rng_between(rng, 1, longest);
            rest = rest || left > 0;
            if (left == 0 || (n_lanes > 1 && rng_chance(rng, 25))) continue;
            if (count > left) count = left;
            if (count > room) count = room;
            if (count == 0) continue;
            room -= count;
            of[n] = lane;
            segments[n++] = (MossSegment){.state = lane->state,
                                          .tokens = lane->truth->tokens + lane->at,
                                          .count = (uint32_t)count,
                                          .logits = (MossLogits)rng_between(rng, MOSS_NO_LOGITS, MOSS_ALL_LOGITS)};
        }
        if (!rest) return true;
        if (n == 0) continue;
        MossError error = moss_step(model, segments, n);
        if (error.code != MOSS_OK) return moss_failed(c, mode, error);
        uint32_t row = 0;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t first = segments[i].count, n_out_rows = 0;
            if (segments[i].logits == MOSS_LAST_LOGITS) n_out_rows = 1;
            if (segments[i].logits == MOSS_ALL_LOGITS) n_out_rows = segments[i].count;
            for (first -= n_out_rows; first < segments[i].count; first++, row++)
                if (!same_bits(c, mode, of[i]->truth, moss_logits(model, row), of[i]->at + first, 1)) return false;
            of[i]->at += segments[i].count;
        }
        if (row != moss_logits_count(model))
            return fail(c, "%s: %u rows of logits, %u wanted", mode, moss_logits_count(model), row);
    }
}

/* Feeds truth[0] from position `at` to its end, `chunk` rows a step (0: as many as a step takes); compares every row with
 * eval32, or with eval64 when only the meaning must hold. */
static bool run_chunks(Case *c, const char *mode, MossModel *model, MossState *state, int64_t at, int64_t chunk, bool bits) {
    int64_t most = moss_program_max_rows(moss_model_program(model));
    if (chunk == 0 || chunk > most) chunk = most;
    for (; at < c->T; at += chunk) {
        int64_t count = c->T - at < chunk ? c->T - at : chunk;
        MossSegment segment = {state, c->truth[0].tokens + at, (uint32_t)count, MOSS_ALL_LOGITS};
        MossError error = moss_step(model, &segment, 1);
        if (error.code != MOSS_OK) return moss_failed(c, mode, error);
        for (int64_t i = 0; i < count; i++) {
            const float *row = moss_logits(model, (uint32_t)i);
            bool good = bits        ? same_bits(c, mode, &c->truth[0], row, at + i, 1)
                        : c->rounds ? mostly_near(c, mode, row, at + i, 1)
                                    : near_enough(c, mode, row, at + i, 1);
            if (!good) return false;
        }
    }
    return true;
}

/* The residual stream of the last step's rows, of which truth[0]'s first is `at`. */
static bool same_hidden(Case *c, const char *mode, const MossModel *model, int64_t at, int64_t count) {
    const int64_t width = c->spec.d_model;
    if (moss_hidden_rows(model) != (uint32_t)count || moss_hidden(model, (uint32_t)c->spec.n_blocks + 1) != NULL)
        return fail(c, "%s: hidden states of %u rows, %lld fed", mode, moss_hidden_rows(model), (long long)count);
    for (int64_t i = 0; i <= c->spec.n_blocks; i++)
        for (int64_t row = 0; row < count; row++) {
            const float *got = moss_hidden(model, (uint32_t)i) + row * width;
            const float *want = c->truth[0].hidden + (at + row) * hidden_size(c) + i * width;
            if (memcmp(got, want, (size_t)width * sizeof(float)) != 0)
                return fail(c, "%s: token %lld: the hidden state at block %lld is not eval32's", mode, (long long)(at + row),
                            (long long)i);
        }
    return true;
}

/* With hidden states kept: they, and the logits, have eval32's bits. */
static bool run_hidden(Case *c, const char *mode, MossModel *model, MossState *state, int64_t chunk) {
    int64_t most = moss_program_max_rows(moss_model_program(model));
    if (chunk > most) chunk = most;
    MossError error = moss_model_keep_hidden(model, true);
    if (error.code != MOSS_OK) return moss_failed(c, mode, error);
    bool good = true;
    for (int64_t at = 0; at < c->T && good; at += chunk) {
        int64_t count = c->T - at < chunk ? c->T - at : chunk;
        MossSegment segment = {state, c->truth[0].tokens + at, (uint32_t)count, MOSS_LAST_LOGITS};
        error = moss_step(model, &segment, 1);
        if (error.code != MOSS_OK) return moss_failed(c, mode, error);
        good = same_bits(c, mode, &c->truth[0], moss_logits(model, 0), at + count - 1, 1) && same_hidden(c, mode, model, at, count);
    }
    MossSegment nothing = {state, c->truth[0].tokens, 0, MOSS_LAST_LOGITS};
    if (good && (moss_step(model, &nothing, 1).code != MOSS_BAD_INPUT || moss_hidden_rows(model) != 0))
        good = fail(c, "%s: hidden states after a step that was to be refused", mode);
    moss_model_keep_hidden(model, false);
    return good;
}

/* Half a prompt, then on from a copy; the original must not have moved, and starts over after a reset. */
static bool run_clone(Case *c, const char *mode, MossModel *model, MossState *state) {
    MossState *copy = NULL;
    int64_t half = c->T / 2;
    moss_state_reset(state);
    MossError error = moss_feed(model, state, c->truth[0].tokens, (size_t)half, 7);
    if (error.code == MOSS_OK) error = moss_state_clone(state, &copy);
    if (error.code != MOSS_OK) return moss_failed(c, mode, error);
    bool good = run_chunks(c, mode, model, copy, half, 0, true) && run_chunks(c, mode, model, state, half, 1, true);
    if (good && moss_state_position(state) != c->T)
        good = fail(c, "%s: position %lld", mode, (long long)moss_state_position(state));
    moss_state_free(copy);
    return good;
}

static void temporary_path(char path[PATH_MAX], const char *suffix) {
    const char *directory = getenv("TMPDIR");
    snprintf(path, PATH_MAX, "%s/mossc-random-%ld.%s", directory ? directory : "/tmp", (long)getpid(), suffix);
}

/* Half a prompt, saved and loaded; on from the loaded state. */
static bool run_saved(Case *c, const char *mode, MossModel *model, MossState *state) {
    char path[PATH_MAX];
    MossState *loaded = NULL;
    int64_t half = c->T / 2;
    temporary_path(path, "state");
    moss_state_reset(state);
    MossError error = moss_feed(model, state, c->truth[0].tokens, (size_t)half, 0);
    if (error.code == MOSS_OK) error = moss_state_save(state, path);
    if (error.code == MOSS_OK) error = moss_state_load(model, path, &loaded);
    unlink(path);
    if (error.code != MOSS_OK) return moss_failed(c, mode, error);
    bool good = moss_state_position(loaded) == half && moss_state_logits(loaded);
    good = good ? same_bits(c, mode, &c->truth[0], moss_state_logits(loaded), half - 1, 1)
                : fail(c, "%s: position or logits are lost", mode);
    good = good && run_chunks(c, mode, model, loaded, half, 5, true);
    moss_state_free(loaded);
    return good;
}

/* A prompt cache that knows a third and two thirds of the sequence, then is asked for `prompt` tokens of it: on from what it gives. */
static bool run_cache(Case *c, const char *mode, MossModel *model, RtPromptCache *cache, int64_t prompt) {
    MossState *state = NULL;
    MossError error = {.code = MOSS_OK};
    for (int third = 1; third <= 2 && error.code == MOSS_OK; third++) {
        error = rt_prompt_cache_feed(cache, c->truth[0].tokens, (size_t)(c->T * third / 3), 0, NULL, NULL, &state);
        moss_state_free(state);
    }
    size_t before = rt_prompt_cache_stats(cache).reused;
    if (error.code == MOSS_OK) error = rt_prompt_cache_feed(cache, c->truth[0].tokens, (size_t)prompt, 0, NULL, NULL, &state);
    if (error.code != MOSS_OK) return moss_failed(c, mode, error);
    bool good = same_bits(c, mode, &c->truth[0], moss_state_logits(state), prompt - 1, 1) &&
                run_chunks(c, mode, model, state, prompt, 0, true);
    if (good && rt_prompt_cache_stats(cache).reused - before < (size_t)(c->T / 3)) good = fail(c, "%s: a miss", mode);
    moss_state_free(state);
    return good;
}

static bool run_cached(Case *c, const char *mode, MossModel *model, Rng *rng) {
    char directory[PATH_MAX];
    temporary_path(directory, "cache");
    RtPromptCacheOptions options = {
        .directory = directory, .every = (uint32_t)rng_between(rng, c->T / 3 + 1, c->T), .most_bytes = UINT64_MAX};
    RtPromptCache *cache = rt_prompt_cache_open(model, &options, &c->diags);
    bool good = cache != NULL || fail(c, "%s: no cache", mode);
    good = good && run_cache(c, mode, model, cache, rng_between(rng, c->T / 3 + 1, c->T));
    rt_prompt_cache_close(cache);
    su_entries_make_room(directory, ".state", 0);
    rmdir(directory);
    return good;
}

/* From a checkpoint some tokens on, some of them back, and on to the end; several times along the sequence. */
static bool run_rewound(Case *c, const char *mode, MossModel *model, MossState *state, Rng *rng) {
    const Truth *truth = &c->truth[0];
    moss_state_reset(state);
    for (int64_t at = 0; at < c->T;) {
        int64_t left = c->T - at, on = rng_between(rng, 1, left < MOSS_REWIND ? left : MOSS_REWIND), back = rng_between(rng, 0, on);
        MossError error = moss_state_checkpoint(state);
        if (error.code == MOSS_OK)
            error = moss_feed(model, state, truth->tokens + at, (size_t)on, (uint32_t)rng_between(rng, 1, 9));
        if (error.code == MOSS_OK) error = moss_state_rewind(state, (uint32_t)back);
        if (error.code != MOSS_OK) return moss_failed(c, mode, error);
        at += on - back;
        if (moss_state_position(state) != at) return fail(c, "%s: position %lld", mode, (long long)moss_state_position(state));
        if (at && !same_bits(c, mode, truth, moss_state_logits(state), at - 1, 1)) return false;
        if (left < c->T / 3) break;
    }
    return run_chunks(c, mode, model, state, moss_state_position(state), 0, true);
}

/* Three sequences, two of them alike, in steps that mix pieces of prompts and single tokens: each gets the bits it has alone. */
static bool run_batch(Case *c, const char *mode, MossModel *model, Rng *rng) {
    Lane lanes[3] = {{.truth = &c->truth[0]}, {.truth = &c->truth[1]}, {.truth = &c->truth[0]}};
    bool good = true;
    for (int i = 0; i < 3 && good; i++) {
        MossError error = moss_state_create(model, &lanes[i].state);
        if (error.code != MOSS_OK) good = moss_failed(c, mode, error);
    }
    good = good && run_lanes(c, mode, model, lanes, 3, c->T > 100 ? 90 : 13, rng);
    for (int i = 0; i < 3; i++) moss_state_free(lanes[i].state);
    cover("batches", true);
    return good;
}

/* A token at a time the bits, in chunks nearly so, and not quite: else nothing was rounded. */
static bool run_fast(Case *c, const PgProgram *program, const CgCompiled *compiled, int threads) {
    MossModel *model = NULL;
    MossState *state = NULL;
    MossOptions options = {.size = sizeof options, .threads = threads};
    MossError error = moss_model_from_memory(program, cg_codes(compiled), weights_drawn, &c->weights, &options, &model);
    if (error.code == MOSS_OK) error = moss_state_create(model, &state);
    bool good = error.code == MOSS_OK || moss_failed(c, "--fast", error);
    c->worst = 0;
    good = good && run_chunks(c, "--fast, token by token", model, state, 0, 1, true);
    for (int64_t chunk = 0; good && chunk <= 13; chunk += 13) {
        moss_state_reset(state);
        good = run_chunks(c, chunk == 0 ? "--fast, prefill whole" : "--fast, chunks of 13", model, state, 0, chunk, false);
    }
    if (good && c->worst < TOLERANCE) good = fail(c, "--fast: logits are off by %g of the rms alone", c->worst);
    moss_state_free(state);
    moss_model_free(model);
    return good;
}

/* Every way of feeding the same tokens. bits: equal to eval32; else only near eval64, and fewer ways. */
static bool run_modes(Case *c, const char *label, const PgProgram *program, const CgCompiled *compiled, int threads, bool bits) {
    char mode[160];
    MossModel *model = NULL;
    MossState *state = NULL;
    MossOptions options = {.size = sizeof options, .threads = threads};
    Rng rng = {c->seed + (uint64_t)threads};
    MossError error = moss_model_from_memory(program, cg_codes(compiled), weights_drawn, &c->weights, &options, &model);
    if (error.code == MOSS_OK) error = moss_state_create(model, &state);
    bool good = error.code == MOSS_OK || moss_failed(c, label, error);
#define MODE(name) (moss_state_reset(state), snprintf(mode, sizeof mode, "%s, %d threads, %s", label, threads, name), mode)
    good = good && run_chunks(c, MODE("token by token"), model, state, 0, 1, bits);
    good = good && run_chunks(c, MODE("prefill whole"), model, state, 0, 0, bits);
    if (good && bits) {
        Lane lane = {state, &c->truth[0], 0};
        good = run_lanes(c, MODE("uneven chunks"), model, &lane, 1, c->T > 100 ? 120 : 23, &rng);
        good = good && run_batch(c, MODE("batch of three sequences"), model, &rng);
        if (threads == 1) good = good && run_hidden(c, MODE("hidden states, token by token"), model, state, 1);
        if (threads == 2) good = good && run_hidden(c, MODE("hidden states, in chunks"), model, state, c->T < 29 ? c->T : 29);
        if (threads == 1) good = good && run_clone(c, MODE("from a cloned state"), model, state);
        if (threads == 1 && c->T > 1) good = good && run_saved(c, MODE("from a saved state"), model, state);
        if (threads == 1 && c->T > 2) good = good && run_cached(c, MODE("from a prompt cache"), model, &rng);
        if (threads == 1) good = good && run_rewound(c, MODE("tokens taken back"), model, state, &rng);
    }
#undef MODE
    moss_state_free(state);
    moss_model_free(model);
    return good;
}

/* The line from the graph on, with the given passes, for one instruction set. */
static bool run_compiled(Case *c, const char *label, const PsOptions *passes, const char *isa, const int *threads, bool bits) {
    SuArena arena = {0};
    CgTarget target = {0};
    CgCompiled *compiled = NULL;
    const PgProgram *program = NULL;
    IrGraph *graph = fe_lower(&c->spec, &arena);
    bool good = ps_fuse(graph, passes, &c->diags) || fail(c, "%s: fusion failed", label);
    good = good && (ir_verify(graph, &c->diags) || fail(c, "%s: the fused graph breaks a rule", label));
    if (good && bits && isa == NULL) good = check_fused(c, graph);
    good = good && (sc_program(graph, passes, &arena, &program, &c->diags) || fail(c, "%s: no program", label));
    if (good && moss_program_blocks(program) != (uint32_t)c->spec.n_blocks)
        good = fail(c, "%s: the program tells of %u blocks", label, moss_program_blocks(program));
    good = good && (cg_target_host(isa, &target, &c->diags) || fail(c, "%s: no target", label));
    good = good && (cg_llvm_compile(&target, program, &(CgOptions){.cache = c->kernels}, &compiled, &c->diags) ||
                    fail(c, "%s: no code", label));
    for (; good && *threads != 0; threads++)
        good = c->fast ? run_fast(c, program, compiled, *threads) : run_modes(c, label, program, compiled, *threads, bits);
    cg_compiled_free(compiled);
    cg_target_free(&target);
    su_arena_free(&arena);
    return good;
}

/* Each pass off in turn, then all of them. */
static bool run_without(Case *c, int which) {
    PsOptions passes = {.check = true};
    char label[64] = "without any pass";
    for (int i = 0; i < PS_PASS_COUNT; i++) passes.off[i] = which == i || which == PS_PASS_COUNT;
    if (which < PS_PASS_COUNT) snprintf(label, sizeof label, "--no-%s", ps_pass_name((PsPass)which));
    return run_compiled(c, label, &passes, NULL, (int[]){2, 0}, false);
}

/* Whether the best instruction set of the host is above this one. Asked of the processor and not of cg_target_host, so that a fault
 * there is a failure and nothing is skipped for it. */
static bool has_above(const char *isa) {
    if (strstr(isa, "-in-ir") != NULL) return true; /* kernels of their own */
#if defined(__x86_64__)
    return strcmp(isa, "avx2") == 0 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
    (void)isa;
    return false;
#endif
}

/* ------------------------------------------------------------------------------------------ one spec, many specs */

static bool check_case(Case *c, const Options *o) {
    const char *set = "weights.dtype=bf16";
    c->fast = o->fast;
    if (!fe_spec_parse("random.yaml", c->yaml.text, c->yaml.size, &set, o->fast, &c->spec, &c->diags))
        return fail(c, "the spec is refused");
    su_diags_free(&c->diags); /* warnings are fine */
    c->diags = (SuDiags){0};
    c->V = c->spec.vocab_size;
    cover_spec(&c->spec);
    cover("more than 256 tokens", c->T > PG_KEY_BLOCK);
    c->naive = fe_lower(&c->spec, &c->arena);
    if (!ir_verify(c->naive, &c->diags)) return fail(c, "the naive graph breaks a rule");
    c->rounds = rounds_inputs(c->naive);
    if (!draw_truth(c)) return false;
    if (o->no_code) return true;
    PsOptions passes = {.check = true, .bf16_inputs = o->fast};
    if (o->isa != NULL) return run_compiled(c, o->isa, &passes, o->isa, o->wide ? (int[]){1, 2, 0} : (int[]){2, 0}, true);
    bool others = o->wide || c->seed % 2 == 0; /* programs with a pass off: one for every other spec */
    char directory[PATH_MAX];
    temporary_path(directory, "kernels");
    if (others) c->kernels = cg_cache_open(directory, UINT64_MAX);
    bool good = run_compiled(c, "all passes", &passes, NULL, (int[]){1, 2, 8, 0}, true);
    for (int i = 0; i <= PS_PASS_COUNT && others; i++)
        if (o->wide || c->seed % (2 * (PS_PASS_COUNT + 1)) == (uint64_t)(2 * i)) good = run_without(c, i) && good;
    if (others) {
        cg_cache_close(c->kernels);
        cg_cache_clear(directory);
        rmdir(directory);
    }
    return good;
}

static void write_spec(const Case *c, const char *directory) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%llu.yaml", directory, (unsigned long long)c->seed);
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(c->yaml.text, file) == EOF || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static void read_spec(Case *c, const char *path) {
    char buffer[65536];
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    su_text_append(&c->yaml, buffer, fread(buffer, 1, sizeof buffer, file));
    fclose(file);
}

static bool run_seed(uint64_t seed, const Options *o) {
    Case c = {.seed = seed};
    bool good = true;
    running_seed = seed;
    c.T = draw_spec(seed, o->fast ? DRAW_FLOATS : o->blocks ? DRAW_BLOCKS : draw_weights_of(seed), &c.yaml);
    if (o->spec_file != NULL) {
        su_text_free(&c.yaml);
        c.yaml = (SuText){0};
        read_spec(&c, o->spec_file);
    }
    if (o->spec_out != NULL)
        write_spec(&c, o->spec_out);
    else
        good = check_case(&c, o);
    if (o->verbose && o->fast) printf("%llu: off by %.2g of the rms\n", (unsigned long long)seed, c.worst);
    if (o->verbose) printf("%llu: %s\n", (unsigned long long)seed, good ? "ok" : "FAILED");
    weights_free(&c.weights);
    free_truth(&c);
    su_arena_free(&c.arena);
    fe_spec_free(&c.spec);
    su_diags_free(&c.diags);
    su_text_free(&c.yaml);
    running_seed = 0;
    return good;
}

static _Noreturn void usage(void) {
    fprintf(stderr,
            "usage: test_random [--seed S] [--count N] [--all] [--isa ISA] [--blocks] [--fast] [--no-code] [--verbose] [--spec "
            "FILE] [--spec-out DIR]\n"
            "  --seed S       first seed (from 1), --count N specs from there on\n"
            "  --all          every pass off, for every spec\n"
            "  --isa ISA      only code for avx2, where the host has a better one; else it exits with 77\n"
            "  --blocks       specs with q8 and q4 weights alone, which otherwise every other seed has\n"
            "  --fast         specs of bf16 weights, whose prompts round inputs to bf16; with --isa bf16-in-ir anywhere\n"
            "  --no-code      only the evaluators of the naive graph, beside each other\n"
            "  --spec FILE    this spec instead of drawn ones; seeds still choose weights and tokens\n"
            "  --spec-out DIR only writes the specs\n");
    exit(2);
}

int main(int argc, char **argv) {
    static const struct option names[] = {{"seed", required_argument, 0, 's'},
                                          {"count", required_argument, 0, 'n'},
                                          {"all", no_argument, 0, 'a'},
                                          {"isa", required_argument, 0, 'i'},
                                          {"blocks", no_argument, 0, 'b'},
                                          {"fast", no_argument, 0, 'F'},
                                          {"no-code", no_argument, 0, 'c'},
                                          {"verbose", no_argument, 0, 'v'},
                                          {"spec", required_argument, 0, 'f'},
                                          {"spec-out", required_argument, 0, 'o'},
                                          {0, 0, 0, 0}};
    Options o = {.seed = 1, .count = 20};
    for (int letter; (letter = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (letter) {
        case 's': o.seed = strtoull(optarg, NULL, 10); break;
        case 'n': o.count = strtoll(optarg, NULL, 10); break;
        case 'a': o.wide = true; break;
        case 'i': o.isa = optarg; break;
        case 'b': o.blocks = true; break;
        case 'F': o.fast = true; break;
        case 'c': o.no_code = true; break;
        case 'v': o.verbose = true; break;
        case 'f': o.spec_file = optarg; break;
        case 'o': o.spec_out = optarg; break;
        default: usage();
        }
    }
    if (optind != argc || o.count < 1 || o.seed < 1) usage();
    if (o.isa != NULL && !has_above(o.isa)) {
        printf("skipped: this machine has no instruction set above %s, whose code all other specs run\n", o.isa);
        return 77;
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    o.verbose = true; /* a sanitizer's report ends the process: the last seed printed is the one before */
#else
    const int crashes[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) signal(crashes[i], on_crash);
#endif
    atexit(on_exit_within_a_spec);
    int64_t failures = 0;
    for (int64_t i = 0; i < o.count; i++) failures += !run_seed(o.seed + (uint64_t)i, &o);
    bool complete = covered(), judged = o.count >= 50 && !o.blocks && !o.fast && !o.no_code && o.isa == NULL &&
                                        o.spec_file == NULL && o.spec_out == NULL; /* few draw not everything */
    if (judged && !complete) printf("FAILED: something of the language, or of what is done with it, came up too seldom\n");
    cg_llvm_shutdown();
    printf("%lld specs, %lld failed\n", (long long)o.count, (long long)failures);
    return failures == 0 && (complete || !judged) ? 0 : 1;
}
