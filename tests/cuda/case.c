#include "case.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/lower.h"
#include "ir/eval.h"
#include "schedule/schedule.h"
#include "tests/random/draw.h"
#include "tests/random/rng.h"

const CaseBounds case_exact = {2e-4, 1e-4}, case_fast = {6e-2, 4e-3};

enum { MAX_TRIES = 40, FAR_ROWS = 4 /* of whichever logits */ };
#define FAR 0.1 /* of the rms */

bool case_fail(Case *c, const char *format, ...) {
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

bool case_ok(Case *c, const char *what, MossError error) {
    return error.code == MOSS_OK || case_fail(c, "%s: %s", what, error.text);
}

/* ---------------------------------------------------------------------------------------------- what it means */

/* Ends early where *gap, the closest routing decision, is too close. */
static bool evaluate(Case *c, const IrGraph *graph, int sequence, double *gap) {
    IrEval *eval = ir_eval64_new(graph, weights_stored, &c->weights);
    bool good = true;
    for (int64_t t = 0; t < c->T && good && *gap >= c->bounds.min_gap; t++) {
        good = ir_eval_token(eval, c->tokens[sequence][t], c->truth[sequence] + t * c->V, &c->diags);
        *gap = fmin(*gap, ir_eval_min_gap(eval));
    }
    ir_eval_free(eval);
    return good || case_fail(c, "the evaluator failed");
}

static double root_mean_square(const double *x, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += x[i] * x[i];
    return sqrt(sum / (double)count);
}

/* Weights and tokens such that no routing decision is close. */
static bool draw_truth(Case *c, const IrGraph *graph) {
    for (int i = 0; i < CASE_SEQUENCES; i++) {
        c->tokens[i] = malloc((size_t)c->T * sizeof(int32_t));
        c->truth[i] = malloc((size_t)(c->T * c->V) * sizeof(double));
    }
    for (int attempt = 0; attempt < MAX_TRIES; attempt++) {
        Rng rng = {c->seed * 1000 + (uint64_t)attempt};
        double gap = INFINITY;
        weights_free(&c->weights);
        weights_draw(&c->spec, rng_next(&rng), &c->weights);
        for (int i = 0; i < CASE_SEQUENCES; i++) {
            for (int64_t t = 0; t < c->T; t++) c->tokens[i][t] = (int32_t)rng_between(&rng, 0, c->V - 1);
            if (!evaluate(c, graph, i, &gap)) return false;
        }
        c->rms = root_mean_square(c->truth[0], c->T * c->V);
        if (gap >= c->bounds.min_gap) return true;
    }
    return case_fail(c, "no weights without a close routing decision in %d tries", MAX_TRIES);
}

bool case_near(Case *c, const char *how, int sequence, int64_t row, const float *logits) {
    const double *truth = c->truth[sequence] + row * c->V;
    double worst = 0;
    int64_t at = 0;
    for (int64_t v = 0; v < c->V; v++) {
        double difference = fabs((double)logits[v] - truth[v]) / c->rms;
        if (!(difference <= worst)) worst = difference, at = v;
        c->near += difference <= c->bounds.tolerance;
        c->far += !(difference <= FAR);
    }
    c->seen += c->V;
    c->worst = fmax(c->worst, worst);
    if (worst <= c->bounds.tolerance || (c->rounds && c->far <= FAR_ROWS * c->V + c->seen / 4)) return true;
    return case_fail(c, "%s: token %lld, vocab index %lld is off by %g of the rms (got %.9g, eval64 %.9g)", how, (long long)row,
                     (long long)at, worst, (double)logits[at], truth[at]);
}

bool case_mostly_near(Case *c) {
    if (2 * c->near >= c->seen) return true;
    return case_fail(c, "%lld of %lld logits are within %g of the rms", (long long)c->near, (long long)c->seen,
                     c->bounds.tolerance);
}

/* ---------------------------------------------------------------------------------------------- spec to program */

static PsOptions passes_of(const Case *c) {
    PsOptions passes = {.check = true, .few = &cg_cuda_few};
    uint64_t turn = c->seed / 4 % (PS_PASS_COUNT + 1);
    for (int i = 0; c->seed % 4 == 0 && i < PS_PASS_COUNT; i++) passes.off[i] = turn == (uint64_t)i || turn == PS_PASS_COUNT;
    return passes;
}

static DrawWeights drawn_weights(const CaseWants *wants) {
    if (wants->weights == CASE_ANY) return draw_weights_of(wants->seed);
    return wants->weights == CASE_BLOCKS ? DRAW_BLOCKS : DRAW_FLOATS;
}

/* The text of the spec, read. */
static bool take_spec(Case *c, const CaseWants *wants) {
    *c = (Case){.seed = wants->seed, .T = wants->T, .bounds = wants->bounds.tolerance > 0 ? wants->bounds : case_exact};
    if (wants->yaml != NULL) {
        su_text_add(&c->yaml, "%s", wants->yaml);
    } else {
        c->T = draw_spec(c->seed, drawn_weights(wants), &c->yaml);
        if (c->T > CASE_MAX_TOKENS) c->T = CASE_MAX_TOKENS;
    }
    if (!fe_spec_parse("case.yaml", c->yaml.text, c->yaml.size, &wants->set, wants->set != NULL, &c->spec, &c->diags))
        return case_fail(c, "the spec is refused");
    su_diags_free(&c->diags); /* warnings are fine */
    c->diags = (SuDiags){0};
    c->V = c->spec.vocab_size;
    return true;
}

static bool make_program(Case *c, IrGraph *graph) {
    PsOptions passes = passes_of(c);
    if (!ps_fuse(graph, &passes, &c->diags) || !sc_program(graph, &passes, &c->arena, &c->program, &c->diags))
        return case_fail(c, "no program");
    for (uint32_t i = 0; i < c->program->n_kernels; i++) c->rounds = c->rounds || c->program->kernels[i].rounds;
    return true;
}

bool case_make(Case *c, const CaseWants *wants) {
    if (!take_spec(c, wants)) return false;
    IrGraph *graph = fe_lower(&c->spec, &c->arena);
    return draw_truth(c, graph) && make_program(c, graph);
}

bool case_make_program(Case *c, const CaseWants *wants) {
    return take_spec(c, wants) && make_program(c, fe_lower(&c->spec, &c->arena));
}

void case_free(Case *c) {
    weights_free(&c->weights);
    cg_cuda_code_free(&c->code);
    for (int i = 0; i < CASE_SEQUENCES; i++) {
        free(c->tokens[i]);
        free(c->truth[i]);
    }
    su_arena_free(&c->arena);
    fe_spec_free(&c->spec);
    su_diags_free(&c->diags);
    su_text_free(&c->yaml);
    *c = (Case){0};
}

/* ---------------------------------------------------------------------------------------------- program to model */

static bool compile(Case *c, MossDevice *device) {
    const MossCudaFacts *facts = moss_cuda_facts(device);
    CgCudaTarget target = cg_cuda_target_of(facts->architecture, facts->multiprocessors, facts->shared);
    CgCudaOptions options = {.output = CG_CUDA_RUNS};
    return c->code.image != NULL || cg_cuda_compile(&target, c->program, &options, &c->code, &c->diags) || case_fail(c, "no code");
}

bool case_load(Case *c, MossDevice *device, MossModel **out_model) {
    MossOptions options = {.size = sizeof options, .device = device};
    return compile(c, device) && case_ok(c, "the code", moss_cuda_code(device, c->program, c->code.image, c->code.size)) &&
           case_ok(c, "the model", moss_model_from_memory(c->program, NULL, weights_drawn, &c->weights, &options, out_model));
}
