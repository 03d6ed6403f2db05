/* Tokens picked by codegen/cuda/pick.cuh, run by simt.h, are those that moss_sample picks from the same logits: for any temperature, top_k
 * and top_p, with ties, infinities, NaN and ids that stand for nothing, and the generators move on alike. One sequence is also picked
 * for by all blocks together. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codegen/cuda/emit.h"
#include "codegen/cuda/library.h"
#include "guarded.h"
#include "library.h"
#include "ir/program.h"
#include "mossc/moss.h"
#include "tests/random/rng.h"

enum { SKIPPED = 77, SEQUENCES = 24, ROUNDS = 12, MOST = 2500, SLICES = CG_CUDA_MOST_SLICES, KEPT = CG_CUDA_MOST_KEPT };

/* What one launch picks from. */
typedef struct Round {
    int64_t limit;
    float *logits; /* [SEQUENCES][MOST] */
    uint32_t gaps[(MOST + 31) / 32];
    MossSampler samplers[SEQUENCES];
    RtCudaPick picks[SEQUENCES];
    RtSegment segments[SEQUENCES];
    int32_t tokens[SEQUENCES], picked[SEQUENCES];
    uint64_t random[SEQUENCES];
} Round;

static void print_text(const CgCudaTarget *target, SuText *out) {
    su_text_add(out, "#include \"simt.h\"\n");
    cg_cuda_print_library(target, out);
    su_text_add(out, "static void pick(const SimtLaunch *l) {\n"
                     "    pick_tokens((Step *)l->step, (Control *)l->control, 0);\n"
                     "}\n"
                     "static void together(const SimtLaunch *l) {\n"
                     "    Control *control = (Control *)l->control;\n"
                     "    u32 barriers = 0;\n"
                     "    pick_together((Step *)l->step, control, 0, &barriers);\n"
                     "    leave(&control->barrier, barriers);\n"
                     "}\n"
                     "extern \"C\" const SimtProgram simt_programs[] = {{pick, together}};\n");
}

/* ---------------------------------------------------------------------------------------------- what is drawn */

static float draw_logit(Rng *rng, int flavour) {
    float x = (float)rng_between(rng, -4000, 4000) / 500;
    switch (flavour) {
    case 0: return x;
    case 1: return roundf(x); /* ties */
    case 2: return rng_chance(rng, 20) ? NAN : rng_chance(rng, 20) ? -INFINITY : x;
    case 3: return 40 * x; /* nearly all of the probability lies on one */
    default: return rng_chance(rng, 2) ? INFINITY : x;
    }
}

static MossSampler draw_sampler(Rng *rng, int64_t limit) {
    return (MossSampler){.temperature = rng_chance(rng, 15) ? 0 : (float)rng_between(rng, 1, 300) / 100,
                         .top_k = rng_chance(rng, 40) ? 0 : (int32_t)rng_between(rng, 1, limit + 3),
                         .top_p = rng_chance(rng, 40) ? 1 : (float)rng_between(rng, 1, 99) / 100,
                         .state = rng_next(rng)};
}

static void draw_round(Rng *rng, Round *r) {
    r->limit = rng_between(rng, 1, MOST);
    memset(r->gaps, 0, sizeof r->gaps);
    for (int64_t id = 1; id < r->limit; id++) r->gaps[id / 32] |= (uint32_t)rng_chance(rng, 5) << (id % 32);
    for (int i = 0; i < SEQUENCES; i++) {
        int flavour = (int)rng_between(rng, 0, 4);
        for (int64_t id = 0; id < MOST; id++) r->logits[i * MOST + id] = draw_logit(rng, flavour);
        r->samplers[i] = draw_sampler(rng, r->limit);
        r->picks[i] = (RtCudaPick){.random = r->samplers[i].state,
                                   .temperature = r->samplers[i].temperature,
                                   .top_p = r->samplers[i].top_p,
                                   .top_k = r->samplers[i].top_k,
                                   .from = (uint32_t)i};
        r->segments[i] = (RtSegment){.first_row = (uint32_t)i, .count = 1};
    }
}

/* ---------------------------------------------------------------------------------------------- both sides */

/* Sequences first … first + n: each by a block, or (n = 1) one by all blocks. */
static bool launch(const SimtLibrary *library, Round *r, uint32_t first, uint32_t n, bool together, unsigned order) {
    static uint32_t scratch[SEQUENCES * 4 * KEPT > 2 * SLICES + 4 * MOST ? SEQUENCES * 4 * KEPT : 2 * SLICES + 4 * MOST];
    char finding[512] = "";
    unsigned first_block = 0;
    RtArgs step = {.segments = r->segments + first,
                   .tokens = r->tokens,
                   .scratch = (uint8_t *)scratch,
                   .logits = r->logits,
                   .out_stride = MOST,
                   .rows = n,
                   .n_segments = n};
    RtCudaControl control = {.steps = 1,
                             .picking = 1,
                             .limit = (int32_t)r->limit,
                             .gaps = (uintptr_t)r->gaps,
                             .picks = (uintptr_t)(r->picks + first),
                             .picked = (uintptr_t)r->picked,
                             .random = (uintptr_t)(r->random + first)};
    for (size_t e = 0; e < sizeof control.eos / sizeof control.eos[0]; e++) control.eos[e] = -1;
    SimtLaunch l = {.run = together ? library->programs[0].row : library->programs[0].many,
                    .cooperative = together,
                    .step = &step,
                    .control = &control,
                    .blocks = together ? 7 : 5,
                    .threads = 256,
                    .shared = CG_CUDA_HELD + CG_CUDA_PICK_BYTES,
                    .order = order,
                    .finding = finding,
                    .finding_bytes = sizeof finding,
                    .first_block = &first_block};
    library->run(&l);
    if (finding[0] != '\0') printf("FAILED: %s\n", finding);
    return finding[0] == '\0' && control.arrived == 0;
}

/* All sequences, in one of the two ways. */
static bool pick_all(const SimtLibrary *library, Round *r, bool together, unsigned order) {
    bool good = true;
    memset(r->tokens, 0xff, sizeof r->tokens);
    memset(r->random, 0, sizeof r->random);
    if (!together) return launch(library, r, 0, SEQUENCES, false, order);
    for (uint32_t i = 0; i < SEQUENCES && good; i++) good = launch(library, r, i, 1, true, order);
    return good;
}

/* What the CPU picks; -1: no logit is a number. */
static int32_t expected(const Round *r, int i, MossSampler *sampler) {
    float logits[MOST];
    for (int64_t id = 0; id < r->limit; id++) logits[id] = r->gaps[id / 32] >> (id % 32) & 1 ? NAN : r->logits[i * MOST + id];
    return moss_sample(sampler, logits, r->limit, r->limit);
}

static int compare(const Round *r) {
    int failures = 0;
    for (int i = 0; i < SEQUENCES; i++) {
        MossSampler sampler = r->samplers[i];
        int32_t wanted = expected(r, i, &sampler);
        bool same = wanted < 0 ? r->picks[i].no_number == 1
                               : !r->picks[i].no_number && r->tokens[i] == wanted && r->random[i] == sampler.state;
        if (same) continue;
        printf("FAILED: limit %lld, temperature %g, top_k %d, top_p %g: picked %d, moss_sample %d\n", (long long)r->limit,
               (double)r->samplers[i].temperature, r->samplers[i].top_k, (double)r->samplers[i].top_p, r->tokens[i], wanted);
        failures++;
    }
    return failures;
}

int main(int argc, char **argv) {
    if (argc < 2 || argv[1][0] == '\0') {
        printf("skipped: there is no C++ compiler\n");
        return SKIPPED;
    }
    CgCudaTarget target = cg_cuda_target_of(90, 132, 227 * 1024);
    SuText text = {0};
    Round r = {.logits = malloc(SEQUENCES * MOST * sizeof(float))};
    Rng rng = {7};
    int failures = 0;
    guarded_report();
    guarded_say("picking");
    print_text(&target, &text);
    SimtLibrary library = simt_library(argv[1], &text);
    for (unsigned i = 0; i < ROUNDS && library.handle != NULL; i++) {
        draw_round(&rng, &r);
        failures += pick_all(&library, &r, false, i % 3) ? compare(&r) : 1;
        failures += pick_all(&library, &r, true, i % 3) ? compare(&r) : 1;
    }
    if (library.handle == NULL) failures = 1;
    printf("%d picks, %d failed\n", 2 * ROUNDS * SEQUENCES, failures);
    simt_library_free(&library, false);
    su_text_free(&text);
    free(r.logits);
    return failures == 0 ? 0 : 1;
}
