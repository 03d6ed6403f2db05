#include "measure/tune.h"

#include <math.h>
#include <string.h>

#include "driver/random_weights.h"
#include "driver/tuning.h"
#include "measure/stats.h"
#include "runtime/model.h"
#include "support/alloc.h"
#include "support/clock.h"

enum { ROUNDS = 5, LAST_ROUNDS = 9, MOST_STEPS = 256, BLOCK_ROWS = 256 };
static const double ROUND_SECONDS = 0.08; /* of decoding, at least as long as a step takes */
static const double GAIN = 0.98;          /* a schedule is worth its while below this ratio */
static const double NEAR = 2e-2;          /* of the logits' root mean square, where the order of sums is another (--fast) */
static const double ROW_SHARE = 0.6;      /* of the time that schedules of one row may take while there are others */

typedef struct Tuner {
    DrBuild *build;
    const DrBuildOptions *options;
    MsTuning *out;
    CgCache *tuning;
    double start, deadline;
    PgCode *codes; /* [n_kernels]: those of the defaults, and what is tried in their place */
    /* of the mode at hand: */
    PgMode mode;
    int64_t rows, steps; /* tokens of a step; steps of a round */
    int32_t *tokens;     /* [max(rows, MOST_STEPS)] */
    MossState *base;
    MossPhaseTime *times; /* [threads][n_phases] */
    size_t n_times;
    float *logits; /* [vocab_size] after a round with the defaults */
    bool has_logits;
    bool other_order; /* what is tried has another order of sums: tiles of bf16 */
    bool differs;     /* what was tried last changed the logits */
} Tuner;

/* ---------------------------------------------------------------------------------------------- rounds */

/* Seconds of a step in the phases of each kernel, of the average worker; and of all phases. */
static double add_up(const Tuner *t, double *of_kernel) {
    const PgStep *step = &t->build->program->steps[t->mode];
    int threads = moss_model_threads(t->build->model);
    double sum = 0, scale = 1.0 / ((double)threads * (double)t->steps);
    memset(of_kernel, 0, t->build->program->n_kernels * sizeof *of_kernel);
    for (size_t i = 0; i < t->n_times; i++) {
        double seconds = scale * (t->times[i].working + t->times[i].waiting);
        of_kernel[step->phases[i % step->n_phases].kernel] += seconds;
        sum += seconds;
    }
    return sum;
}

static bool are_near(const float *one, const float *other, int64_t n) {
    double squares = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        double off = (double)one[i] - (double)other[i];
        squares += off * off;
        all += (double)other[i] * (double)other[i];
    }
    return squares <= NEAR * NEAR * all;
}

/* The logits must be those of the defaults, to the bit unless what was tried is only near. */
static bool check_logits(Tuner *t, const float *logits, bool defaults) {
    size_t bytes = (size_t)t->build->program->vocab_size * sizeof *logits;
    if (!t->has_logits) memcpy(t->logits, logits, bytes);
    t->has_logits = true;
    if (t->other_order && !defaults && are_near(logits, t->logits, t->build->program->vocab_size)) return true;
    if (memcmp(t->logits, logits, bytes) == 0) return true;
    t->differs = !defaults;
    return !defaults || su_error(&t->build->diags, (SuSpan){0}, "this is a bug of mossc, please report it",
                                 "the same kernels gave other logits than before");
}

/* What was tried changed the logits: the search goes on without it. */
static void tell_difference(Tuner *t, const CgSchedule *schedule, const PgKernel *kernel) {
    char words[96];
    cg_schedule_words(kernel, schedule, words, sizeof words);
    su_warning(&t->build->diags, (SuSpan){0}, "this is a bug of mossc, please report it",
               "a schedule changed the logits and is not used: %s", words);
}

/* Feeds the steps of a round to a copy of the base. */
static MossError feed(const Tuner *t, MossState *state) {
    MossError error = {.code = MOSS_OK};
    for (int64_t i = 0; i < t->steps && error.code == MOSS_OK; i++) {
        MossSegment segment = {
            .state = state, .tokens = t->tokens + (t->rows == 1 ? i : 0), .count = (uint32_t)t->rows, .logits = MOSS_LAST_LOGITS};
        error = moss_step(t->build->model, &segment, 1);
    }
    return error;
}

/* One round with these codes. */
static bool run_round(Tuner *t, const PgCode *codes, double *of_kernel, double *out_step) {
    MossModel *model = t->build->model;
    MossState *state = NULL;
    if (!rt_model_use_codes(model, codes)) return su_error(&t->build->diags, (SuSpan){0}, NULL, "out of memory");
    MossError error = moss_state_clone(t->base, &state);
    MossPhaseTime *times[PG_MODES] = {NULL};
    times[t->mode] = t->times;
    memset(t->times, 0, t->n_times * sizeof *t->times);
    moss_profile(model, times);
    if (error.code == MOSS_OK) error = feed(t, state);
    moss_profile(model, NULL);
    bool ok = dr_moss_ok(&t->build->diags, error) && check_logits(t, moss_logits(model, 0), codes == cg_codes(t->build->compiled));
    *out_step = add_up(t, of_kernel);
    moss_state_free(state);
    return ok;
}

/* What rounds in turns say: medians, and whether three quarters of the rounds are below 1. */
typedef struct Turns {
    int rounds;
    double *ratios;  /* [n_kernels + 1][LAST_ROUNDS]: of each kernel, and of the step */
    double *seconds; /* the same, of the defaults */
} Turns;

static double *of_turns(double *values, uint32_t kernel) { return values + (size_t)kernel * LAST_ROUNDS; }

/* Rounds with the defaults and with `codes`, whose order changes from turn to turn. Where `codes` change the logits, t->differs
 * becomes true and `turns` has nothing to say. */
static bool take_turns(Tuner *t, const PgCode *codes, int rounds, Turns *turns) {
    uint32_t n = t->build->program->n_kernels;
    double *of_kernel[2], step[2];
    for (int i = 0; i < 2; i++) of_kernel[i] = SU_NEW_ARRAY(&t->build->arena, double, n);
    *turns = (Turns){.rounds = rounds,
                     .ratios = SU_NEW_ARRAY(&t->build->arena, double, (n + 1) * (size_t)LAST_ROUNDS),
                     .seconds = SU_NEW_ARRAY(&t->build->arena, double, (n + 1) * (size_t)LAST_ROUNDS)};
    for (int round = 0; round < rounds; round++) {
        for (int half = 0; half < 2; half++) {
            int which = (round + half) % 2;
            if (!run_round(t, which ? codes : cg_codes(t->build->compiled), of_kernel[which], &step[which])) return false;
            if (t->differs) return true;
        }
        for (uint32_t k = 0; k <= n; k++) {
            double without = k < n ? of_kernel[0][k] : step[0], with = k < n ? of_kernel[1][k] : step[1];
            of_turns(turns->ratios, k)[round] = without > 0 ? with / without : 1;
            of_turns(turns->seconds, k)[round] = without;
        }
    }
    return true;
}

static double median(const Turns *turns, double *values, uint32_t kernel) {
    return ms_stats(of_turns(values, kernel), (size_t)turns->rounds).median;
}

/* Whether the ratio is below `most`, and all but a quarter of the rounds are below 1; sorts the ratios. */
static bool is_faster(const Turns *turns, uint32_t kernel, double most, double *out_ratio) {
    *out_ratio = median(turns, turns->ratios, kernel);
    return *out_ratio < most && of_turns(turns->ratios, kernel)[turns->rounds * 3 / 4] < 1;
}

/* ---------------------------------------------------------------------------------------------- in place of the defaults */

/* Compiled kernels of some indices, and t->codes with them. */
typedef struct Tried {
    CgCompiled *compiled;
    uint32_t *indices;
    CgSchedule *schedules;
    PgKernel *kernels;
    uint32_t count;
} Tried;

static Tried no_kernels(Tuner *t) {
    size_t n = t->out->n_kernels;
    return (Tried){.indices = SU_NEW_ARRAY(&t->build->arena, uint32_t, n + 1),
                   .schedules = SU_NEW_ARRAY(&t->build->arena, CgSchedule, n + 1),
                   .kernels = SU_NEW_ARRAY(&t->build->arena, PgKernel, n + 1)};
}

static void try_kernel(const Tuner *t, Tried *tried, const MsTunedKernel *kernel, const CgSchedule *schedule) {
    tried->indices[tried->count] = kernel->index;
    tried->schedules[tried->count] = *schedule;
    tried->kernels[tried->count++] = t->build->program->kernels[kernel->index];
}

/* Compiles them as a program of their own. */
static bool compile_tried(Tuner *t, Tried *tried) {
    PgProgram program = {.name = t->build->program->name, .kernels = tried->kernels, .n_kernels = tried->count};
    CgOptions options = {.schedules = tried->schedules};
    if (!cg_llvm_compile(&t->build->target, &program, &options, &tried->compiled, &t->build->diags)) return false;
    memcpy(t->codes, cg_codes(t->build->compiled), t->build->program->n_kernels * sizeof *t->codes);
    t->other_order = t->differs = false;
    for (uint32_t i = 0; i < tried->count; i++)
        t->other_order = t->other_order || (tried->schedules[i].tiles && tried->kernels[i].bf16_x);
    for (uint32_t i = 0; i < tried->count; i++) t->codes[tried->indices[i]] = cg_codes(tried->compiled)[i];
    return true;
}

/* Afterwards the model runs the defaults. */
static bool forget_tried(Tuner *t, Tried *tried, bool ok) {
    ok = rt_model_use_codes(t->build->model, cg_codes(t->build->compiled)) && ok;
    cg_compiled_free(tried->compiled);
    return ok;
}

static bool is_of_mode(const Tuner *t, const MsTunedKernel *kernel) {
    return t->build->program->kernels[kernel->index].mode == t->mode;
}

static bool waits(const MsTunedKernel *kernel, unsigned which) {
    return which < kernel->count && !(kernel->tuned.measured >> which & 1);
}

/* Tiles are measured apart from all else. */
static bool is_next(const Tuner *t, const MsTunedKernel *kernel, unsigned which, bool tiles) {
    return is_of_mode(t, kernel) && waits(kernel, which) && (kernel->space[which].tiles != 0) == tiles;
}

/* The schedule's bit of CgTuned.measured. */
static uint32_t bit_of(const MsTunedKernel *kernel, const CgSchedule *schedule) {
    for (unsigned i = 1; i < kernel->count; i++)
        if (cg_schedule_equal(&kernel->space[i], schedule)) return 1u << i;
    return 0;
}

/* Until a faster one is accepted, what was accepted before stays stored, and the faster one counts as not measured: nothing is lost
 * when the search ends early. */
static void store(Tuner *t, const MsTunedKernel *kernel) {
    CgTuned known = kernel->tuned;
    if (kernel->kept.accepted && !known.accepted) {
        known = kernel->kept;
        known.measured = kernel->tuned.measured & ~bit_of(kernel, &kernel->tuned.best);
    }
    cg_tuned_store(t->tuning, &t->build->target, &t->build->program->kernels[kernel->index], &known);
}

static bool can_store(Tuner *t) {
    const char *problem = cg_cache_stats(t->tuning).problem;
    return !problem || su_error(&t->build->diags, (SuSpan){0}, NULL, "schedules cannot be kept: %s", problem);
}

/* ---------------------------------------------------------------------------------------------- the search */

static void note(Tuner *t, const Turns *turns, MsTunedKernel *kernel, unsigned which) {
    double ratio;
    bool faster = is_faster(turns, kernel->index, fmin(GAIN, kernel->tuned.ratio), &ratio);
    kernel->seconds = median(turns, turns->seconds, kernel->index);
    if (faster) {
        kernel->tuned.best = kernel->space[which];
        kernel->tuned.ratio = ratio;
        kernel->tuned.accepted = 0;
    }
    store(t, kernel);
}

/* Measures schedule `which` of all kernels of the mode for which it is new, where it has tiles or where it has none. */
static bool measure_schedule(Tuner *t, unsigned which, bool tiles, bool *out_done) {
    Tried tried = no_kernels(t);
    MsTunedKernel **kernels = SU_NEW_ARRAY(&t->build->arena, MsTunedKernel *, t->out->n_kernels + 1);
    Turns turns;
    *out_done = false;
    for (size_t i = 0; i < t->out->n_kernels; i++) {
        MsTunedKernel *kernel = &t->out->kernels[i];
        if (!is_next(t, kernel, which, tiles)) continue;
        kernels[tried.count] = kernel;
        try_kernel(t, &tried, kernel, &kernel->space[which]);
    }
    if (tried.count == 0) return true;
    bool ok = compile_tried(t, &tried);
    for (uint32_t i = 0; ok && i < tried.count; i++) {
        kernels[i]->tuned.measured |= 1u << which;
        if (tiles) store(t, kernels[i]); /* before they run: should they end the process, they are not tried again */
    }
    ok = ok && take_turns(t, t->codes, ROUNDS, &turns);
    if (ok && t->differs) tell_difference(t, &tried.schedules[0], &tried.kernels[0]);
    for (uint32_t i = 0; ok && i < tried.count; i++) {
        t->out->measured++;
        if (t->differs)
            store(t, kernels[i]);
        else
            note(t, &turns, kernels[i], which);
    }
    *out_done = ok;
    return forget_tried(t, &tried, ok);
}

static bool is_tried(const Tuner *t, const MsTunedKernel *kernel) {
    return is_of_mode(t, kernel) && !cg_schedule_equal(&kernel->tuned.best, &kernel->space[0]);
}

/* What was accepted before, or the default. */
static void fall_back(MsTunedKernel *kernel) {
    uint32_t measured = kernel->tuned.measured;
    kernel->tuned = kernel->kept.accepted ? kernel->kept : (CgTuned){.best = kernel->space[0], .ratio = 1};
    kernel->tuned.measured = measured;
}

/* Back to what was accepted before, or to the default. What was accepted once, or failed with the whole step alone, is
 * measured again by the next run. */
static void give_up(MsTunedKernel *kernel, bool faster_by_itself) {
    bool was_kept = kernel->kept.accepted && cg_schedule_equal(&kernel->tuned.best, &kernel->kept.best);
    if (was_kept || faster_by_itself) kernel->tuned.measured &= ~bit_of(kernel, &kernel->tuned.best);
    if (was_kept) kernel->kept.accepted = 0;
    fall_back(kernel);
}

/* Accepts a kernel's schedule or gives it up; 1: the latter. */
static unsigned judge(Tuner *t, const Turns *turns, MsTunedKernel *kernel, bool step_is_faster) {
    double ratio;
    bool faster = is_faster(turns, kernel->index, kernel->tuned.accepted ? 1 : GAIN, &ratio);
    kernel->seconds = median(turns, turns->seconds, kernel->index);
    if (faster && step_is_faster) {
        kernel->tuned.accepted = 1;
        kernel->tuned.ratio = ratio;
    } else {
        give_up(kernel, faster);
    }
    store(t, kernel);
    return !(faster && step_is_faster);
}

/* What ran together changed the logits, and nobody knows which of it: the defaults for all. */
static unsigned drop(Tuner *t, MsTunedKernel *kernel) {
    kernel->kept.accepted = 0;
    fall_back(kernel);
    store(t, kernel);
    return 1;
}

/* What was fastest, in turns with the defaults: it is accepted where it stays faster, and if the step does. *out_rejected: how many
 * kernels are left with what they had before. */
static bool accept_best(Tuner *t, unsigned *out_rejected) {
    Tried tried = no_kernels(t);
    Turns turns;
    uint32_t all = t->build->program->n_kernels;
    *out_rejected = 0;
    for (size_t i = 0; i < t->out->n_kernels; i++)
        if (is_tried(t, &t->out->kernels[i])) try_kernel(t, &tried, &t->out->kernels[i], &t->out->kernels[i].tuned.best);
    if (tried.count == 0) return true;
    bool ok = compile_tried(t, &tried) && take_turns(t, t->codes, LAST_ROUNDS, &turns);
    if (ok && !t->differs && median(&turns, turns.ratios, all) >= 1)
        ok = take_turns(t, t->codes, LAST_ROUNDS, &turns); /* others may have run */
    if (ok && t->differs) tell_difference(t, &tried.schedules[0], &tried.kernels[0]);
    double ratio = ok && !t->differs ? median(&turns, turns.ratios, all) : 1;
    for (size_t i = 0; ok && i < t->out->n_kernels; i++) {
        MsTunedKernel *kernel = &t->out->kernels[i];
        if (is_tried(t, kernel)) *out_rejected += t->differs ? drop(t, kernel) : judge(t, &turns, kernel, ratio < 1);
    }
    if (ok && *out_rejected == 0)
        t->out->steps[t->mode] = (MsTunedStep){.rows = t->rows, .seconds = median(&turns, turns.seconds, all), .ratio = ratio};
    return forget_tried(t, &tried, ok);
}

/* Again without those that were given up, as they may have slowed others: what is stored has run together. */
static bool accept(Tuner *t) {
    unsigned rejected = 1;
    bool ok = true;
    t->out->steps[t->mode] = (MsTunedStep){.rows = 0};
    for (size_t i = 0; i < t->out->n_kernels; i++)
        if (is_of_mode(t, &t->out->kernels[i]) && !is_tried(t, &t->out->kernels[i])) fall_back(&t->out->kernels[i]);
    while (ok && rejected > 0) ok = accept_best(t, &rejected);
    for (size_t i = 0; ok && i < t->out->n_kernels; i++)
        if (is_of_mode(t, &t->out->kernels[i])) t->out->kernels[i].kept = t->out->kernels[i].tuned;
    return ok;
}

static unsigned most_schedules(const Tuner *t) {
    unsigned most = 1;
    for (size_t i = 0; i < t->out->n_kernels; i++)
        if (is_of_mode(t, &t->out->kernels[i]) && t->out->kernels[i].count > most) most = t->out->kernels[i].count;
    return most;
}

/* ---------------------------------------------------------------------------------------------- a mode */

static bool begin_mode(Tuner *t, PgMode mode) {
    const PgProgram *program = t->build->program;
    int64_t positions = program->max_positions, most = program->max_rows;
    if (positions > 0 && positions - 1 < most) most = positions - 1;
    t->mode = mode;
    t->rows = mode == PG_ROW ? 1 : most < BLOCK_ROWS ? most : BLOCK_ROWS;
    t->steps = 1;
    t->has_logits = false;
    t->n_times = (size_t)moss_model_threads(t->build->model) * program->steps[mode].n_phases;
    t->times = SU_NEW_ARRAY(&t->build->arena, MossPhaseTime, t->n_times + 1);
    MossError error = moss_state_create(t->build->model, &t->base);
    if (error.code == MOSS_OK) error = moss_feed(t->build->model, t->base, t->tokens, 1, 0);
    return dr_moss_ok(&t->build->diags, error);
}

/* How many steps a round has, from one that warms up and one more; the logits of such a round come next. */
static bool warm_up(Tuner *t) {
    double step = 0, *of_kernel = SU_NEW_ARRAY(&t->build->arena, double, t->build->program->n_kernels);
    for (int i = 0; i < 2; i++)
        if (!run_round(t, cg_codes(t->build->compiled), of_kernel, &step)) return false;
    t->has_logits = false;
    if (t->mode == PG_BLOCK) return true;
    double steps = ceil(ROUND_SECONDS / fmax(step, 1e-9));
    int64_t room = t->build->program->max_positions - 1;
    t->steps = steps > MOST_STEPS ? MOST_STEPS : (int64_t)steps;
    if (t->build->program->max_positions > 0 && t->steps > room) t->steps = room;
    return true;
}

/* Those of the mode with tiles, or those without, until the deadline. *begun: how many were, which grows. */
static bool measure_schedules(Tuner *t, bool tiles, double deadline, unsigned *begun) {
    unsigned count = most_schedules(t);
    bool ok = true;
    for (unsigned which = 1; ok && which < count; which++) {
        bool done;
        if (*begun > 0 && su_seconds() >= deadline) break;
        ok = measure_schedule(t, which, tiles, &done) && can_store(t);
        *begun += done;
        double past = su_seconds() - t->start, whole = t->deadline - t->start;
        dr_progress_update(&t->options->progress, (uint64_t)fmin(past, whole), (uint64_t)whole);
    }
    return ok;
}

static bool tune_mode(Tuner *t, PgMode mode, double deadline) {
    bool ok = begin_mode(t, mode);
    if (ok && t->rows >= 1 && (mode == PG_ROW || t->rows > 1) && (ok = warm_up(t))) {
        unsigned begun = 0;
        ok = measure_schedules(t, false, deadline, &begun) && measure_schedules(t, true, deadline, &begun) && accept(t);
    }
    moss_state_free(t->base);
    t->base = NULL;
    return ok;
}

/* ---------------------------------------------------------------------------------------------- all of it */

/* Without tiles, those that were not accepted are no candidates; what was measured beside them is measured anew. */
static void leave_tiles_out(MsTunedKernel *kernel) {
    if (!kernel->tuned.best.tiles || kernel->space[0].tiles || kernel->tuned.accepted) return;
    uint32_t others = kernel->count < 32 ? (1u << kernel->count) - 1 : UINT32_MAX;
    kernel->tuned = (CgTuned){.best = kernel->space[0], .measured = (kernel->tuned.measured & ~others) | 1, .ratio = 1};
}

/* Kernels with a choice, and what is known of them. */
static void find_kernels(Tuner *t, const MsTunePlan *plan) {
    const PgProgram *program = t->build->program;
    t->out->kernels = SU_NEW_ARRAY(&t->build->arena, MsTunedKernel, program->n_kernels + 1);
    for (uint32_t i = 0; i < program->n_kernels; i++) {
        MsTunedKernel *kernel = &t->out->kernels[t->out->n_kernels];
        *kernel = (MsTunedKernel){.index = i};
        kernel->count = cg_schedule_space(&t->build->target, &program->kernels[i], plan->amx, kernel->space);
        if (kernel->count == 1) continue;
        bool known = cg_tuned_find(t->tuning, &t->build->target, &program->kernels[i], &kernel->tuned);
        if (known && kernel->tuned.accepted) kernel->kept = kernel->tuned;
        if (plan->again || !known) kernel->tuned = (CgTuned){.best = kernel->space[0], .measured = 1, .ratio = 1};
        if (!plan->amx) leave_tiles_out(kernel);
        t->out->n_kernels++;
    }
}

static void make_tokens(Tuner *t) {
    size_t count = MOST_STEPS > BLOCK_ROWS ? MOST_STEPS : BLOCK_ROWS;
    t->tokens = SU_NEW_ARRAY(&t->build->arena, int32_t, count);
    for (size_t i = 0; i < count; i++)
        t->tokens[i] = (int32_t)((uint64_t)(i + 1) * 0x9E3779B97F4A7C15u % (uint64_t)t->build->program->vocab_size);
}

static bool tune_modes(Tuner *t) {
    const PgProgram *program = t->build->program;
    t->codes = SU_NEW_ARRAY(&t->build->arena, PgCode, program->n_kernels + 1);
    t->logits = SU_NEW_ARRAY(&t->build->arena, float, (size_t)program->vocab_size);
    make_tokens(t);
    dr_progress_begin(&t->options->progress, "tuning", "seconds", true);
    bool ok = tune_mode(t, PG_ROW, t->start + ROW_SHARE * (t->deadline - t->start)) && tune_mode(t, PG_BLOCK, t->deadline) &&
              (su_seconds() >= t->deadline || tune_mode(t, PG_ROW, t->deadline)); /* what the others left */
    dr_progress_end(&t->options->progress);
    for (size_t i = 0; i < t->out->n_kernels; i++)
        for (unsigned which = 0; which < t->out->kernels[i].count; which++) t->out->left += waits(&t->out->kernels[i], which);
    return ok;
}

static bool tune_unguarded(Tuner *t, const MsTunePlan *plan) {
    find_kernels(t, plan);
    if (t->out->n_kernels > 0) store(t, &t->out->kernels[0]); /* tells before the search whether it can be kept */
    return can_store(t) && tune_modes(t) && can_store(t);
}

static bool check_tiles(DrBuild *build) {
    const CgTarget *target = &build->target;
    if (cg_may_use_tiles(target)) return true;
    return su_error(&build->diags, (SuSpan){0}, "leave --amx out", "%s",
                    target->amx_bytes || target->amx_bf16 ? "the system does not let this process use AMX"
                                                          : "this processor has no AMX, or not with AVX-512 VNNI");
}

bool ms_tune(DrBuild *build, const DrBuildOptions *options, const MsTunePlan *plan, MsTuning *out) {
    DrBuildOptions untuned = *options;
    untuned.no_tune = true;
    *out = (MsTuning){.n_kernels = 0};
    const char *directory = dr_tuning_directory(build, options);
    if (!directory) return false;
    if (plan->amx && (!dr_build_schedules(build, &untuned) || !check_tiles(build))) return false;
    if (!dr_build_code(build, &untuned) || !dr_build_weights_or_random(build, &untuned, NULL)) return false;
    Tuner t = {.build = build, .options = options, .out = out, .start = su_seconds()};
    t.deadline = t.start + plan->seconds;
    t.tuning = cg_tuning_open(directory);
    SuGuard guard;
    bool ok = false;
    if (!SU_CAUGHT(&guard, &build->diags, "tuning")) {
        ok = tune_unguarded(&t, plan);
        su_guard_end(&guard);
    }
    moss_state_free(t.base);
    dr_tell_damaged(build, t.tuning);
    cg_cache_trim(t.tuning);
    cg_cache_close(t.tuning);
    out->seconds = su_seconds() - t.start;
    return ok;
}
