#include "measure/gpu_speed.h"

#include <math.h>
#include <string.h>

#include "measure/gpu_limits.h"
#include "driver/device.h"
#include "support/clock.h"

enum { BURST = 32 /* tokens that are picked and fed before the host looks */ };
/* The decode target of docs/cuda.md. */
static const double BYTES_ALLOWED = 1.1, PHASE_SECONDS = 1.5e-6;

/* One value of each for every round. */
typedef struct Rounds {
    double *prefill_tok_s, *decode_tok_s, *copy_gb_s, *mma_tflop_s, *fma_tflop_s, *exp_g_s;
    double *decode_of_bound, *decode_of_bandwidth, *prefill_of_peak;
} Rounds;

typedef struct Bench {
    DrBuild *build;
    MsSteps steps;
    MsGpuLimiter limiter;
    MossSequence *sequences; /* [batch] */
    MossSampler *samplers;   /* [batch] */
    int32_t *picked;         /* [batch][BURST] */
    MossPhaseTime *times;    /* [phases of PG_BLOCK] */
    Rounds rounds;
} Bench;

/* ---------------------------------------------------------------------------------------------- bounds */

static const PgStep *step_of(const Bench *b, const PgWork *work) {
    return &b->steps.program->steps[work->rows == 1 ? PG_ROW : PG_BLOCK];
}

/* FLOPs a second of what multiplies a kernel's weights. */
static double linear_rate(const PgKernel *k, const MsGpuLimits *limits) {
    return 1e12 * (ir_dtype(k->dtype)->mma == IR_MMA_16 && limits->mma_tflop_s > 0 ? limits->mma_tflop_s : limits->fma_tflop_s);
}

/* What a step cannot do without: bytes of weights and states, its linear layers' FLOPs; and their seconds at the limits. */
typedef struct Least {
    double bytes, flops;
    double moving, multiplying;
} Least;

static Least least_of_step(const Bench *b, const PgWork *work, const MsGpuLimits *limits) {
    const PgProgram *program = b->steps.program;
    const PgStep *step = step_of(b, work);
    Least least = {0};
    for (uint32_t i = 0; i < step->n_phases; i++) {
        const PgKernel *k = &program->kernels[step->phases[i].kernel];
        PgCost cost = pg_phase_cost(program, &step->phases[i], work);
        double flops = ms_linear_flops(k, &cost, work->rows);
        least.bytes += cost.weight_bytes + cost.state_bytes;
        least.flops += flops;
        least.multiplying += flops / linear_rate(k, limits);
    }
    least.moving = least.bytes / (1e9 * limits->copy_gb_s);
    return least;
}

/* Of all the steps that decode; *out_moving: what of it is memory's. */
static double bound_of_decoding(const Bench *b, const MsGpuLimits *limits, double *out_moving) {
    const MsPlan *plan = b->steps.plan;
    double bound = 0;
    *out_moving = 0;
    for (int64_t i = 0; i < plan->decode; i++) {
        PgWork work = ms_decode_work(plan->batch, plan->prefill + i);
        Least least = least_of_step(b, &work, limits);
        bound += plan->batch == 1 ? BYTES_ALLOWED * least.moving + PHASE_SECONDS * step_of(b, &work)->n_phases
                                  : fmax(least.moving, least.multiplying);
        *out_moving += least.moving;
    }
    return bound;
}

/* Of all the steps of the prompts. */
static Least least_of_prompts(const Bench *b, const MsGpuLimits *limits) {
    Least sum = {0};
    for (int64_t done = 0; done < b->steps.plan->prefill;) {
        PgWork work = ms_prompt_step(&b->steps, done);
        Least least = least_of_step(b, &work, limits);
        sum.flops += least.flops;
        sum.multiplying += least.multiplying;
        done += work.rows / work.segments;
    }
    return sum;
}

/* ---------------------------------------------------------------------------------------------- decoding */

/* Tokens are picked on the GPU, greedily, by as many sequences as it takes together; more are fed tokens by the host. */
static MossError decode(const Bench *b) {
    const MsPlan *plan = b->steps.plan;
    if (plan->batch > CG_CUDA_FEW_ROWS) return ms_decode(&b->steps);
    MossVocabulary vocabulary = {.limit = b->steps.program->vocab_size, .eos = -1};
    MossError error = {.code = MOSS_OK};
    uint32_t done = 0;
    for (int64_t left = plan->decode; left > 0 && error.code == MOSS_OK; left -= done) {
        uint32_t count = left < BURST ? (uint32_t)left : BURST;
        error = moss_generate(b->steps.model, &vocabulary, b->sequences, (uint32_t)plan->batch, count, &done);
    }
    return error;
}

static void make_sequences(Bench *b, SuArena *arena) {
    size_t batch = (size_t)b->steps.plan->batch;
    b->sequences = SU_NEW_ARRAY(arena, MossSequence, batch);
    b->samplers = SU_NEW_ARRAY(arena, MossSampler, batch);
    b->picked = SU_NEW_ARRAY(arena, int32_t, batch *BURST);
    for (size_t s = 0; s < batch; s++) {
        b->samplers[s] = (MossSampler){.temperature = 0, .top_p = 1, .state = s};
        b->sequences[s] = (MossSequence){.state = b->steps.states[s], .sampler = &b->samplers[s], .tokens = b->picked + s * BURST};
    }
}

/* ---------------------------------------------------------------------------------------------- rounds */

static MossError measure_limits(const Bench *b, MsGpuLimits *limits) {
    if (!b->steps.plan->limits) return (MossError){.code = MOSS_OK};
    return ms_gpu_measure_limits(&b->limiter, limits);
}

/* What is timed together. */
typedef struct Round {
    double prefill, decoding; /* seconds */
    MsGpuLimits before, between, after;
} Round;

static MossError time_round(const Bench *b, Round *r) {
    ms_reset(&b->steps);
    MossError error = measure_limits(b, &r->before);
    if (error.code != MOSS_OK) return error;
    double start = su_seconds();
    error = ms_prompts(&b->steps);
    r->prefill = su_seconds() - start;
    if (error.code == MOSS_OK) error = measure_limits(b, &r->between);
    if (error.code != MOSS_OK) return error;
    start = su_seconds();
    error = decode(b);
    r->decoding = su_seconds() - start;
    if (error.code == MOSS_OK) error = measure_limits(b, &r->after);
    return error;
}

static void note_round(const Bench *b, const Round *r, int64_t i) {
    const MsPlan *plan = b->steps.plan;
    b->rounds.prefill_tok_s[i] = (double)(plan->batch * plan->prefill) / r->prefill;
    b->rounds.decode_tok_s[i] = (double)(plan->batch * plan->decode) / r->decoding;
    if (!plan->limits) return;
    MsGpuLimits of_prompts = ms_gpu_limits_best(r->before, r->between), of_decoding = ms_gpu_limits_best(r->between, r->after);
    double moving;
    b->rounds.decode_of_bound[i] = bound_of_decoding(b, &of_decoding, &moving) / r->decoding;
    b->rounds.decode_of_bandwidth[i] = moving / r->decoding;
    b->rounds.prefill_of_peak[i] = least_of_prompts(b, &of_prompts).multiplying / r->prefill;
    b->rounds.copy_gb_s[i] = of_decoding.copy_gb_s;
    b->rounds.mma_tflop_s[i] = of_prompts.mma_tflop_s;
    b->rounds.fma_tflop_s[i] = of_prompts.fma_tflop_s;
    b->rounds.exp_g_s[i] = of_prompts.exp_g_s;
}

static MossError all_rounds(const Bench *b) {
    int64_t repeat = b->steps.plan->repeat;
    MossError error = {.code = MOSS_OK};
    const DrProgress *progress = &b->steps.plan->progress;
    dr_progress_begin(progress, "measuring", "rounds", true);
    for (int64_t i = -1; i < repeat && error.code == MOSS_OK; i++) {
        Round round = {0};
        error = time_round(b, &round);
        if (error.code == MOSS_OK && i >= 0) note_round(b, &round, i); /* the first one makes graphs and takes memory */
        dr_progress_update(progress, (uint64_t)(i + 2), (uint64_t)repeat + 1);
    }
    dr_progress_end(progress);
    return error;
}

/* ---------------------------------------------------------------------------------------------- phases */

/* The prompts once more, with every launch on the GPU's clock. */
static MossError time_phases(const Bench *b, MsGpuPhases *out) {
    const PgProgram *program = b->steps.program;
    const PgStep *step = &program->steps[PG_BLOCK];
    MossPhaseTime *times[PG_MODES] = {[PG_BLOCK] = b->times};
    memset(b->times, 0, step->n_phases * sizeof *b->times);
    ms_reset(&b->steps);
    moss_profile(b->steps.model, times);
    MossError error = ms_prompts(&b->steps);
    moss_profile(b->steps.model, NULL);
    *out = (MsGpuPhases){.known = true};
    for (uint32_t i = 0; i < step->n_phases; i++) {
        PgKind kind = program->kernels[step->phases[i].kernel].kind;
        double *ms = kind == PG_LINEAR                                             ? &out->linear_ms
                     : kind == PG_SCAN || kind == PG_HEADS || kind == PG_TRAPEZOID ? &out->scan_ms
                                                                                   : &out->other_ms;
        *ms += 1e3 * b->times[i].working;
    }
    return error;
}

static double sum_ms(const MsGpuPhases *p) { return p->linear_ms + p->scan_ms + p->other_ms; }

/* What the prompts' linear layers and scans cannot do without, in milliseconds. */
static void bound_phases(const Bench *b, const MsGpuLimits *limits, double *out_linear, double *out_scan) {
    const PgProgram *program = b->steps.program;
    const PgStep *step = &program->steps[PG_BLOCK];
    *out_linear = *out_scan = 0;
    for (int64_t done = 0; done < b->steps.plan->prefill;) {
        PgWork work = ms_prompt_step(&b->steps, done);
        done += work.rows / work.segments;
        for (uint32_t i = 0; i < step->n_phases; i++) {
            const PgKernel *k = &program->kernels[step->phases[i].kernel];
            PgCost cost = pg_phase_cost(program, &step->phases[i], &work);
            double bytes = cost.weight_bytes + cost.state_bytes + cost.activation_bytes;
            if (k->kind == PG_LINEAR) *out_linear += 1e3 * cost.flops / linear_rate(k, limits);
            if (k->kind == PG_SCAN || k->kind == PG_HEADS || k->kind == PG_TRAPEZOID)
                *out_scan += 1e3 * fmax(bytes / (1e9 * limits->copy_gb_s), cost.exps / (1e9 * limits->exp_g_s));
        }
    }
}

/* The fastest of some rounds, and of those only what is launched by phases: steps of more than one row. */
static MossError measure_phases(const Bench *b, MsGpuPhases *out) {
    *out = (MsGpuPhases){0};
    for (int64_t done = 0; done < b->steps.plan->prefill;) {
        PgWork work = ms_prompt_step(&b->steps, done);
        if (work.rows == 1) return (MossError){.code = MOSS_OK};
        done += work.rows / work.segments;
    }
    MossError error = {.code = MOSS_OK};
    MsGpuLimits before = {0}, after = {0};
    error = measure_limits(b, &before);
    for (int64_t i = 0; i < b->steps.plan->repeat && error.code == MOSS_OK; i++) {
        MsGpuPhases phases;
        error = time_phases(b, &phases);
        if (!out->known || sum_ms(&phases) < sum_ms(out)) *out = phases;
    }
    if (error.code == MOSS_OK) error = measure_limits(b, &after);
    if (error.code != MOSS_OK || !b->steps.plan->limits) return error;
    MsGpuLimits limits = ms_gpu_limits_best(before, after);
    double linear, scan;
    bound_phases(b, &limits, &linear, &scan);
    if (out->linear_ms > 0) out->linear_of_peak = linear / out->linear_ms;
    if (out->scan_ms > 0) out->scan_of_bound = scan / out->scan_ms;
    return error;
}

/* ---------------------------------------------------------------------------------------------- all of it */

static void note_speed(const Bench *b, MsGpuSpeed *out) {
    const Rounds *r = &b->rounds;
    const MsGpuLimits any = {.copy_gb_s = 1, .fma_tflop_s = 1}; /* bytes and FLOPs do not depend on them */
    size_t n = (size_t)b->steps.plan->repeat;
    PgWork work = ms_decode_work(b->steps.plan->batch, b->steps.plan->prefill + b->steps.plan->decode / 2);
    Least decode_step = least_of_step(b, &work, &any);
    out->decode_bytes = decode_step.bytes;
    out->decode_linear_flops = decode_step.flops;
    out->prefill_linear_flops = least_of_prompts(b, &any).flops;
    out->phases = step_of(b, &work)->n_phases;
    out->stages = step_of(b, &work)->n_stages;
    out->tensor_cores = b->build->gpu.tensor_cores;
    out->prefill_tok_s = ms_stats(r->prefill_tok_s, n);
    out->decode_tok_s = ms_stats(r->decode_tok_s, n);
    if (!b->steps.plan->limits) return;
    out->copy_gb_s = ms_stats(r->copy_gb_s, n);
    out->mma_tflop_s = ms_stats(r->mma_tflop_s, n);
    out->fma_tflop_s = ms_stats(r->fma_tflop_s, n);
    out->exp_g_s = ms_stats(r->exp_g_s, n);
    out->decode_of_bound = ms_stats(r->decode_of_bound, n);
    out->decode_of_bandwidth = ms_stats(r->decode_of_bandwidth, n);
    out->prefill_of_peak = ms_stats(r->prefill_of_peak, n);
}

static void make_rounds(Rounds *r, SuArena *arena, size_t n) {
    double **values[] = {&r->prefill_tok_s, &r->decode_tok_s,    &r->copy_gb_s,           &r->mma_tflop_s,    &r->fma_tflop_s,
                         &r->exp_g_s,       &r->decode_of_bound, &r->decode_of_bandwidth, &r->prefill_of_peak};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) *values[i] = SU_NEW_ARRAY(arena, double, n);
}

bool ms_measure_gpu(DrBuild *build, const MsPlan *plan, MsGpuSpeed *out) {
    Bench b = {.build = build};
    *out = (MsGpuSpeed){0};
    if (plan->limits && !ms_gpu_limiter_create(build, &b.limiter)) return false;
    make_rounds(&b.rounds, &build->arena, (size_t)plan->repeat);
    b.times = SU_NEW_ARRAY(&build->arena, MossPhaseTime, build->program->steps[PG_BLOCK].n_phases);
    MossError error = ms_steps_create(build, plan, &b.steps);
    if (error.code == MOSS_OK) {
        make_sequences(&b, &build->arena);
        error = all_rounds(&b);
    }
    if (error.code == MOSS_OK) error = measure_phases(&b, &out->of_prompts);
    if (error.code == MOSS_OK) note_speed(&b, out);
    ms_steps_free(&b.steps);
    ms_gpu_limiter_free(&b.limiter);
    return dr_moss_ok(&build->diags, error);
}
