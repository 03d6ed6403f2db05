/* The CUDA C that is printed for random specs, run by simt.h on the CPU, against eval64.
 *
 * All specs of a run are printed into one text, each in a namespace, and compiled as C++. The CPU's runtime then feeds tokens as it
 * always does, but its kernels are launches: the first phase of a step does all of them. Steps of a few rows go through the persistent
 * entry and through the launches for many rows in turn. (tests/cuda has the runtime that a GPU has.) Logits must be near eval64's, and
 * the same to the bit for any number of blocks and any order of threads: where they are not, a barrier is missing. A launch sees copies of weights, arena and state that end at pages which cannot be touched; weights cannot be
 * written, and what a step finds in its arena is garbage. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "guarded.h"
#include "library.h"
#include "tests/cuda/case.h"
#include "tests/random/rng.h"

enum {
    MAX_CASES = 256,
    FEW = 8 /* tokens of further runs */,
    MANY = 9 /* sequences of a batch */,
    SCAN_CHUNK = 4 /* rows */,
    SKIPPED = 77
};

/* How the launches of a run are made, and where they find memory. The runtime hands a kernel no context. */
typedef struct Rig {
    Case *c;
    const SimtLibrary *simt;
    const SimtProgram *code;
    unsigned blocks, order;
    bool few; /* steps of few rows are persistent launches */
    RtCudaControl control;
    Guarded weights, arena, scratch;
    uint64_t arena_bytes, scratch_bytes;
    char finding[512];
} Rig;

static Rig *rig;
static uint64_t kinds_seen[PG_MODES]; /* a bit for each PgKind that ran */

/* ---------------------------------------------------------------------------------------------- programs to code */

/* Every other spec has its scans split over time, at a length that no GPU would. */
static void print_case(const CgCudaTarget *target, Case *c, int index, bool drawn, SuText *out) {
    CgCudaTarget own = *target;
    own.scan_chunk = !drawn || c->seed % 2 == 0 ? SCAN_CHUNK : 0;
    su_text_add(out, "\nnamespace program_%d {\n", index);
    c->code.plan = cg_cuda_print_program(&own, c->program, &c->arena, out);
    su_text_add(out, "static void many(const SimtLaunch *launch) {\n"
                     "    const Step *step = (const Step *)launch->step;\n    switch (launch->number) {\n");
    for (uint32_t i = 0; i < c->code.plan.image.n_launches; i++)
        su_text_add(out, "    case %u: %s(step, %u); break;\n", i, c->code.plan.launches[i].entry, c->code.plan.launches[i].phase);
    if (c->program->n_ropes > 0) su_text_add(out, "    case %u: fill_ropes(step); break;\n", c->code.plan.image.n_launches);
    if (c->code.plan.image.n_arranged > 0)
        su_text_add(out, "    case %u: arrange_weights((u8 *)step->weights); break;\n", c->code.plan.image.n_launches + 1);
    su_text_add(out, "    }\n}\n"
                     "static void row(const SimtLaunch *l) { row_step((Step *)l->step, (Control *)l->control); }\n"
                     "static void rows(const SimtLaunch *l) { rows_step((Step *)l->step, (Control *)l->control); }\n}\n");
}

static void print_text(const CgCudaTarget *target, Case *cases, int n, bool drawn, SuText *out) {
    su_text_add(out, "#include \"simt.h\"\n#define _Static_assert static_assert\n#include \"ir/program.h\"\n#include "
                     "\"ir/cuda_image.h\"\n");
    cg_cuda_print_library(target, out);
    su_text_add(out,
                "static_assert(sizeof(Step) == sizeof(RtArgs) && offsetof(Step, out_stride) == offsetof(RtArgs, out_stride) &&\n"
                "              offsetof(Step, nonfinite) == offsetof(RtArgs, nonfinite) && offsetof(Step, n_out_rows) == "
                "offsetof(RtArgs, n_out_rows) &&\n"
                "              sizeof(Segment) == sizeof(RtSegment) && offsetof(Segment, count) == offsetof(RtSegment, count) &&\n"
                "              sizeof(Pick) == sizeof(RtCudaPick) && offsetof(Pick, ended) == offsetof(RtCudaPick, ended) &&\n"
                "              sizeof(Control) == sizeof(RtCudaControl) && offsetof(Control, random) == "
                "offsetof(RtCudaControl, random));\n");
    for (int i = 0; i < n; i++) print_case(target, &cases[i], i, drawn, out);
    su_text_add(out, "\nextern \"C\" const SimtProgram simt_programs[] = {\n");
    for (int i = 0; i < n; i++) su_text_add(out, "    {program_%d::many, program_%d::row, program_%d::rows},\n", i, i, i);
    su_text_add(out, "};\n");
}

/* ---------------------------------------------------------------------------------------------- launches */

/* What a step writes, for races.h; returns how many. */
enum { WATCHED = 4 + MANY };
static size_t watch(const RtArgs *args, SimtMemory watched[WATCHED]) {
    const PgProgram *program = rig->c->program;
    bool step = args->segments != NULL;
    uint64_t states = step ? args->n_segments : 0;
    watched[0] = (SimtMemory){"the arena", rig->arena.data, step ? rig->arena_bytes : 0};
    watched[1] = (SimtMemory){"scratch memory", rig->scratch.data, step ? rig->scratch_bytes : 0};
    watched[2] = (SimtMemory){"logits", args->logits, args->n_out_rows * args->out_stride * sizeof(float)};
    watched[3] = (SimtMemory){"marks of rows", args->nonfinite, args->rows * sizeof(int32_t)};
    for (uint64_t i = 0; i < states; i++) watched[4 + i] = (SimtMemory){"the state", args->segments[i].state, program->state_bytes};
    return 4 + states;
}

static void launch(SimtLaunch *l, RtArgs *args, const char *what) {
    unsigned first_block = 0;
    SimtMemory watched[WATCHED];
    l->n_watched = watch(args, watched);
    l->watched = watched;
    l->step = args;
    l->blocks = rig->blocks;
    if (l->threads == 0) l->threads = rig->c->code.plan.image.threads;
    l->order = rig->order;
    l->finding = rig->finding;
    l->finding_bytes = sizeof rig->finding;
    l->first_block = &first_block;
    guarded_say("%s, seed %llu", what, (unsigned long long)rig->c->seed);
    if (rig->finding[0] == '\0') rig->simt->run(l);
}

/* As the runtime of a GPU does after an upload. */
static void upload_weights(const uint8_t *weights) {
    const RtCudaImage *image = &rig->c->code.plan.image;
    rig->weights = guarded_alloc("weights", rig->c->program->weight_bytes);
    memcpy(rig->weights.data, weights, rig->c->program->weight_bytes);
    if (image->n_arranged > 0) {
        launch(&(SimtLaunch){.run = rig->code->many, .number = image->n_launches + 1}, &(RtArgs){.weights = rig->weights.data},
               "arrange_weights");
    }
    guarded_read_only(&rig->weights);
}

/* The step as the launch sees it: other weights, another arena with nothing in it, as large as that launch takes. */
static RtArgs guarded_args(const RtArgs *args, const PgStep *step, bool few) {
    const RtCudaImage *image = &rig->c->code.plan.image;
    RtArgs guarded = *args;
    if (rig->weights.data == NULL) upload_weights(args->weights);
    guarded_free(&rig->arena);
    guarded_free(&rig->scratch);
    rig->arena_bytes = step->arena_per_row * args->ld + step->arena_fixed;
    if (step == &rig->c->program->steps[PG_BLOCK]) rig->arena_bytes += image->arena_per_row * args->ld + image->arena_fixed;
    if (few) rig->arena_bytes = rig->c->code.plan.few_per_row * args->ld + rig->c->code.plan.few_fixed;
    rig->scratch_bytes =
        image->scratch_per_row * args->ld + (uint64_t)image->scratch_per_segment * args->n_segments + image->scratch_fixed;
    rig->arena = guarded_alloc("arena", rig->arena_bytes);
    rig->scratch = guarded_alloc("scratch", rig->scratch_bytes);
    guarded.weights = rig->weights.data;
    guarded.arena = rig->arena.data;
    guarded.scratch = rig->scratch.data;
    return guarded;
}

static void launch_together(void (*entry)(const SimtLaunch *), uint32_t shared, RtArgs *args, const char *what) {
    rig->control = (RtCudaControl){.steps = 1};
    launch(&(SimtLaunch){.run = entry, .control = &rig->control, .cooperative = true, .shared = shared}, args, what);
    if (rig->finding[0] != '\0') return;
    if (rig->control.arrived != 0 || rig->control.done != 1) {
        snprintf(rig->finding, sizeof rig->finding, "%s left its counter at %u and took %u steps", what, rig->control.arrived,
                 rig->control.done);
    }
}

static void launch_all(RtArgs *args) {
    const CgCudaPlan *plan = &rig->c->code.plan;
    if (rig->c->program->n_ropes > 0)
        launch(&(SimtLaunch){.run = rig->code->many, .number = plan->image.n_launches}, args, "fill_ropes");
    for (uint32_t i = 0; i < plan->image.n_launches; i++) {
        const PgPhase *phase = &rig->c->program->steps[PG_BLOCK].phases[plan->launches[i].phase];
        char what[160];
        snprintf(what, sizeof what, "phase '%s', %s", phase->name, plan->launches[i].entry);
        launch(
            &(SimtLaunch){
                .run = rig->code->many, .number = i, .threads = plan->launches[i].threads, .shared = plan->launches[i].shared},
            args, what);
    }
}

/* The first phase of a step is all of it. */
static void run_phase(const RtArgs *args, const PgPhase *phase, uint32_t tile0, uint32_t tile1) {
    const PgProgram *program = rig->c->program;
    const RtCudaImage *image = &rig->c->code.plan.image;
    PgMode mode = program->kernels[phase->kernel].mode;
    const PgStep *step = &program->steps[mode];
    (void)tile0, (void)tile1;
    kinds_seen[mode] |= 1ull << program->kernels[phase->kernel].kind;
    if (rig->finding[0] != '\0' || phase != step->phases) return;
    bool few = mode == PG_BLOCK && rig->few && args->rows <= image->few_rows;
    RtArgs guarded = guarded_args(args, step, few);
    if (mode == PG_ROW)
        launch_together(rig->code->row, image->row_shared, &guarded, "row_step");
    else if (few)
        launch_together(rig->code->rows, image->few_shared, &guarded, "rows_step");
    else
        launch_all(&guarded);
}

/* ---------------------------------------------------------------------------------------------- feeding tokens */

/* A sequence that is being fed. */
typedef struct Lane {
    Guarded memory;
    MossState *state;
    int sequence;
    int64_t at;
} Lane;

static MossError open_lane(Case *c, MossModel *model, Lane *lane) {
    lane->memory = guarded_alloc("state", c->program->state_bytes);
    return moss_state_place(model, lane->memory.data, &lane->state);
}

static void close_lane(Lane *lane) {
    moss_state_free(lane->state);
    guarded_free(&lane->memory);
}

/* One step of some lanes, count[i] rows each; out (or NULL) gets the logits of lane 0's rows, [T][V]. */
static bool step_lanes(Case *c, const char *mode, MossModel *model, Lane *const *lanes, const int64_t *count, uint32_t n,
                       float *out) {
    MossSegment segments[MANY];
    for (uint32_t i = 0; i < n; i++) {
        segments[i] =
            (MossSegment){lanes[i]->state, c->tokens[lanes[i]->sequence] + lanes[i]->at, (uint32_t)count[i], MOSS_ALL_LOGITS};
    }
    MossError error = moss_step(model, segments, n);
    if (rig->finding[0] != '\0') return case_fail(c, "%s: %s", mode, rig->finding);
    if (error.code != MOSS_OK) return case_fail(c, "%s: %s", mode, error.text);
    uint32_t row = 0;
    for (uint32_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < count[i]; j++, row++) {
            const float *logits = moss_logits(model, row);
            if (!case_near(c, mode, lanes[i]->sequence, lanes[i]->at + j, logits)) return false;
            if (i == 0 && out != NULL) memcpy(out + (lanes[i]->at + j) * c->V, logits, (size_t)c->V * sizeof(float));
        }
        lanes[i]->at += count[i];
    }
    return true;
}

/* Feeds sequence 0 up to token `end` in chunks. */
static bool run_chunks(Case *c, const char *mode, MossModel *model, int64_t chunk, int64_t end, float *out) {
    Lane lane = {0}, *lanes[] = {&lane};
    MossError error = open_lane(c, model, &lane);
    bool good = error.code == MOSS_OK || case_fail(c, "%s: %s", mode, error.text);
    while (good && lane.at < end) {
        int64_t count = end - lane.at < chunk ? end - lane.at : chunk;
        good = step_lanes(c, mode, model, lanes, &count, 1, out);
    }
    close_lane(&lane);
    return good;
}

/* Two sequences in steps that mix pieces of prompts, single tokens and a sequence that pauses. */
static bool run_batch(Case *c, MossModel *model, Rng *rng) {
    Lane lane[CASE_SEQUENCES] = {{.sequence = 0}, {.sequence = 1}};
    int64_t end = c->T < 16 ? c->T : 16;
    bool good = true;
    for (int i = 0; i < CASE_SEQUENCES && good; i++)
        good = open_lane(c, model, &lane[i]).code == MOSS_OK || case_fail(c, "no state");
    while (good && (lane[0].at < end || lane[1].at < end)) {
        Lane *some[CASE_SEQUENCES];
        int64_t count[CASE_SEQUENCES];
        uint32_t n = 0;
        for (int i = 0; i < CASE_SEQUENCES; i++) {
            int64_t left = end - lane[i].at, rows = rng_chance(rng, 40) ? 1 : rng_between(rng, 1, 19);
            if (left == 0 || rng_chance(rng, 15)) continue;
            some[n] = &lane[i];
            count[n++] = rows < left ? rows : left;
        }
        if (n > 0) good = step_lanes(c, "batch", model, some, count, n, NULL);
    }
    for (int i = 0; i < CASE_SEQUENCES; i++) close_lane(&lane[i]);
    return good;
}

/* Many sequences: pieces of several rows, of another number each, then a row of each as long as there are tokens. Sequences i and i + 2
 * have the same tokens, and states of their own. */
static bool run_many(Case *c, MossModel *model) {
    Lane lane[MANY] = {0};
    int64_t end = c->T < FEW ? c->T : FEW;
    bool good = true;
    for (int i = 0; i < MANY && good; i++) {
        lane[i].sequence = i % CASE_SEQUENCES;
        good = open_lane(c, model, &lane[i]).code == MOSS_OK || case_fail(c, "no state");
    }
    for (bool begun = false; good; begun = true) {
        Lane *some[MANY];
        int64_t count[MANY];
        uint32_t n = 0;
        for (int i = 0; i < MANY; i++) {
            int64_t left = end - lane[i].at, rows = begun ? 1 : 1 + i % 4;
            if (left == 0) continue;
            some[n] = &lane[i];
            count[n++] = rows < left ? rows : left;
        }
        if (n == 0) break;
        good = step_lanes(c, begun ? "a row of many" : "rows of many", model, some, count, n, NULL);
    }
    for (int i = 0; i < MANY; i++) close_lane(&lane[i]);
    return good;
}

/* A prompt, and its last tokens one by one, with other numbers of blocks and orders: the same bits. */
static bool run_tail(Case *c, MossModel *model) {
    enum { TAIL = 3, WAYS = 3 };
    static const unsigned blocks[WAYS] = {2, 5, 140}, orders[WAYS] = {0, 1, 77};
    float *logits[WAYS] = {NULL};
    bool good = true;
    for (int i = 0; i < WAYS && good; i++) {
        Lane lane = {0}, *lanes[] = {&lane};
        int64_t prompt = c->T - TAIL;
        rig->blocks = blocks[i];
        rig->order = orders[i];
        logits[i] = calloc((size_t)(c->T * c->V), sizeof(float));
        good = open_lane(c, model, &lane).code == MOSS_OK || case_fail(c, "no state");
        while (good && lane.at < c->T) {
            int64_t left = prompt - lane.at, count = left > c->program->max_rows ? c->program->max_rows : left > 0 ? left : 1;
            good = step_lanes(c, left > 0 ? "a prompt" : "a token behind it", model, lanes, &count, 1, logits[i]);
        }
        if (good && memcmp(logits[0], logits[i], (size_t)(c->T * c->V) * sizeof(float)) != 0)
            good = case_fail(c, "a prompt and single tokens: other bits with %u blocks in order %u", blocks[i], orders[i]);
        close_lane(&lane);
    }
    for (int i = 0; i < WAYS; i++) free(logits[i]);
    return good;
}

/* The same tokens, the same way, with other blocks and orders: the same bits. */
static bool run_orders(Case *c, const char *way, MossModel *model, int64_t chunk, int64_t end, bool wide, bool few) {
    static const struct {
        unsigned blocks, order;
    } settings[] = {{2, 0}, {3, 1}, {1, 5}, {4, 77}, {140, 6} /* more than tiles, as a GPU has */};
    int n = wide ? 5 : 2;
    float *first = calloc((size_t)(end * c->V), sizeof(float)), *other = calloc((size_t)(end * c->V), sizeof(float));
    bool good = true;
    rig->few = few;
    for (int i = 0; i < n && good; i++) {
        char mode[96];
        unsigned turn = i == 0 ? 0 : wide ? (unsigned)i : 1 + (unsigned)(c->seed % 3);
        rig->blocks = settings[turn].blocks;
        rig->order = settings[turn].order;
        snprintf(mode, sizeof mode, "%s, %u blocks, order %u", way, rig->blocks, rig->order);
        int64_t until = i == 0 || end < FEW ? end : FEW;
        good = run_chunks(c, mode, model, chunk, until, i == 0 ? first : other);
        if (good && i > 0 && memcmp(first, other, (size_t)(until * c->V) * sizeof(float)) != 0)
            good = case_fail(c, "%s: other bits than in rising order: a barrier is missing", mode);
    }
    free(first);
    free(other);
    return good;
}

static bool run_case(Case *c, const SimtLibrary *library, const SimtProgram *code, bool wide, bool drawn) {
    MossModel *model = NULL;
    MossOptions options = {.size = sizeof options, .threads = 1};
    Rng rng = {c->seed + 99};
    PgCode *codes = calloc(c->program->n_kernels, sizeof *codes);
    for (uint32_t i = 0; i < c->program->n_kernels; i++) codes[i] = (PgCode){.run = run_phase, .groups = 1, .claim = 1};
    rig = &(Rig){.c = c, .simt = library, .code = code};
    MossError error = moss_model_from_memory(c->program, codes, weights_drawn, &c->weights, &options, &model);
    bool good = error.code == MOSS_OK || case_fail(c, "%s", error.text);
    int64_t most = c->program->max_rows;
    good = good && run_orders(c, "token by token", model, 1, wide || c->T < 16 ? c->T : 16, wide, true);
    good = good && run_orders(c, "chunks of 11", model, 11, wide || c->T < 22 ? c->T : 22, wide, true);
    good = good && run_orders(c, "chunks of 13, in launches", model, 13, wide || c->T < 26 ? c->T : 26, wide, false);
    good = good && run_chunks(c, "one prompt", model, most, c->T, NULL);
    rig->few = true;
    good = good && (drawn || run_chunks(c, "chunks of 64", model, 64, c->T, NULL));
    good = good && (c->T <= PG_KEY_BLOCK || drawn || run_tail(c, model));
    rig->few = c->seed % 2 == 0;
    good = good && run_batch(c, model, &rng);
    rig->few = true;
    good = good && run_many(c, model) && case_mostly_near(c);
    moss_model_free(model);
    guarded_free(&rig->weights);
    guarded_free(&rig->arena);
    guarded_free(&rig->scratch);
    free(codes);
    return good;
}

/* ---------------------------------------------------------------------------------------------- many specs */

/* Whether every kind of kernel ran; one row needs no group table and rounds its inputs in the linear layer. */
static bool all_kinds_seen(void) {
    uint64_t all = (1ull << PG_KIND_COUNT) - 1, of_row = all & ~(1ull << PG_GROUP | 1ull << PG_ROUND);
    printf("kinds of kernels that ran: %d for one row, %d for rows\n", __builtin_popcountll(kinds_seen[PG_ROW]),
           __builtin_popcountll(kinds_seen[PG_BLOCK]));
    return kinds_seen[PG_ROW] == of_row && kinds_seen[PG_BLOCK] == all;
}

typedef struct Options {
    uint64_t seed;
    int64_t count;
    const char *spec, *set, *compiler, *target;
    int64_t tokens; /* of a spec that is given */
    int multiprocessors; /* 0: the target's; few make tiles large */
    bool fast, wide, verbose, keep, every_kind;
    bool races; /* accesses that nothing orders are found */
    int plant; /* which of `plants` to put into the text; -1: none */
    CaseWeights weights;
} Options;

/* The caller frees it. */
static SuText read_spec(const char *path) {
    char buffer[65536];
    SuText text = {0};
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    su_text_append(&text, buffer, fread(buffer, 1, sizeof buffer, file));
    fclose(file);
    return text;
}

static CaseWants wants_of(uint64_t seed, const char *yaml, const Options *o) {
    return (CaseWants){.seed = seed,
                       .yaml = yaml,
                       .set = o->set,
                       .weights = o->weights,
                       .T = o->tokens,
                       .bounds = o->fast ? case_fast : case_exact};
}

static bool make_case(Case *c, uint64_t seed, const char *yaml, const Options *o) {
    CaseWants wants = wants_of(seed, yaml, o);
    return case_make(c, &wants);
}

static bool make_cases(Case *cases, int n, const Options *o) {
    SuText yaml = o->spec != NULL ? read_spec(o->spec) : (SuText){0};
    bool good = true;
    for (int i = 0; i < n && good; i++) good = make_case(&cases[i], o->seed + (uint64_t)i, yaml.text, o);
    su_text_free(&yaml);
    return good;
}

/* Kernels of a program by kind and mode; returns whether there are some that `seen` has not. */
static bool see_kinds(const Case *c, uint64_t seen[PG_MODES]) {
    bool fresh = false;
    for (int mode = 0; mode < PG_MODES; mode++) {
        for (uint32_t i = 0; i < c->program->steps[mode].n_phases; i++) {
            uint64_t kind = 1ull << c->program->kernels[c->program->steps[mode].phases[i].kernel].kind;
            fresh = fresh || !(seen[mode] & kind);
            seen[mode] |= kind;
        }
    }
    return fresh;
}

/* More cases behind the *n that are there: of the next seeds, those that bring a kind of kernel which none before had. */
static bool add_kinds(Case *cases, int *n, const Options *o) {
    enum { SEEDS = 200 };
    uint64_t seen[PG_MODES] = {0}, seed = o->seed + (uint64_t)*n;
    for (int i = 0; i < *n; i++) see_kinds(&cases[i], seen);
    for (; seed < o->seed + SEEDS && *n < MAX_CASES; seed++) {
        CaseWants wants = wants_of(seed, NULL, o);
        Case drawn;
        bool good = case_make_program(&drawn, &wants), fresh = good && see_kinds(&drawn, seen);
        case_free(&drawn);
        if (!good || (fresh && !make_case(&cases[(*n)++], seed, NULL, o))) return false;
    }
    return true;
}

/* Mistakes in the use of memory that change no result here, whatever the order of threads; --races must find each. That of the counter
 * changes results. */
static const struct {
    const char *right, *wrong;
} plants[] = {{"        ADD_RELEASE(&barrier->arrived, 1u);", "        atomicAdd(&barrier->arrived, 1u);"},
              {"        LOAD_ACQUIRE(&barrier->arrived); ", "        "},
              {"INLINE void arrive(GridBarrier *barrier) {\n    __syncthreads();", "INLINE void arrive(GridBarrier *barrier) {"},
              {"ADD_ACQUIRE_RELEASE(counter, 1u)", "atomicAdd(counter, 1u)"},
              {"if (threadIdx.x == 0) *counter = 0;", ""},
              {"step->n_segments != step->rows) {\n            __syncthreads();", "step->n_segments != step->rows) {"},
              {"ADD_ACQUIRE_RELEASE(done, 1u)", "atomicAdd(done, 1u)"},
              {"h < KV_HEADS; h += THREADS) ints", "h < 0; h += THREADS) ints"}};

static bool plant(int which, SuText *text) {
    enum { COUNT = sizeof plants / sizeof plants[0] };
    char *at = which < COUNT ? strstr(text->text, plants[which].right) : NULL;
    SuText changed = {0};
    if (at == NULL) {
        printf("FAILED: the text has no place for mistake %d of %d\n", which, COUNT);
        return false;
    }
    su_text_append(&changed, text->text, (size_t)(at - text->text));
    su_text_add(&changed, "%s%s", plants[which].wrong, at + strlen(plants[which].right));
    su_text_free(text);
    *text = changed;
    return true;
}

/* Number of specs that failed, or -1 if the text cannot be compiled. *n: how many there are, and were. */
static int run_all(Case *cases, int *n, const Options *o) {
    CgCudaTarget target;
    SuDiags diags = {0};
    SuText text = {0};
    int failures = 0;
    if (!cg_cuda_target_by_name(o->target, &target, &diags)) {
        su_diags_print(&diags, stdout);
        return -1;
    }
    target.fast = o->fast;
    if (o->multiprocessors > 0) target.multiprocessors = o->multiprocessors;
    if (!make_cases(cases, *n, o)) return -1;
    if (o->every_kind && !add_kinds(cases, n, o)) return -1;
    print_text(&target, cases, *n, o->spec == NULL, &text);
    if (o->plant >= 0 && !plant(o->plant, &text)) return -1;
    SimtLibrary library = (o->races ? simt_library_that_watches : simt_library)(o->compiler, &text);
    su_text_free(&text);
    for (int i = 0; i < *n && library.handle != NULL; i++) {
        bool good = run_case(&cases[i], &library, &library.programs[i], o->wide, o->spec == NULL);
        failures += !good;
        if (o->verbose)
            printf("%llu: %s, off by %.2g of the rms; %.3g of the logits are near\n", (unsigned long long)cases[i].seed,
                   good ? "ok" : "FAILED", cases[i].worst, (double)cases[i].near / (double)cases[i].seen);
    }
    if (library.handle == NULL) failures = -1;
    simt_library_free(&library, o->keep);
    return failures;
}

static Options parse(int argc, char **argv) {
    static const struct option names[] = {{"seed", required_argument, 0, 's'},   {"count", required_argument, 0, 'n'},
                                          {"spec", required_argument, 0, 'f'},   {"cxx", required_argument, 0, 'c'},
                                          {"all", no_argument, 0, 'a'},          {"verbose", no_argument, 0, 'v'},
                                          {"keep", no_argument, 0, 'k'},         {"every-kind", no_argument, 0, 'e'},
                                          {"target", required_argument, 0, 't'}, {"multiprocessors", required_argument, 0, 'm'},
                                          {"fast", no_argument, 0, 'F'},         {"set", required_argument, 0, 'S'},
                                          {"tokens", required_argument, 0, 'T'}, {"blocks", no_argument, 0, 'b'},
                                          {"floats", no_argument, 0, 'l'},       {"races", no_argument, 0, 'r'},
                                          {"plant", required_argument, 0, 'p'},  {0, 0, 0, 0}};
    Options o = {.seed = 1, .count = 4, .compiler = "c++", .target = "cuda:sm_90", .tokens = 12, .plant = -1};
    for (int letter; (letter = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (letter) {
        case 's': o.seed = strtoull(optarg, NULL, 10); break;
        case 'n': o.count = strtoll(optarg, NULL, 10); break;
        case 'f': o.spec = optarg; break;
        case 'c': o.compiler = optarg; break;
        case 'a': o.wide = true; break;
        case 'v': o.verbose = true; break;
        case 'k': o.keep = true; break;
        case 'e': o.every_kind = true; break;
        case 't': o.target = optarg; break;
        case 'm': o.multiprocessors = atoi(optarg); break;
        case 'S': o.set = optarg; break;
        case 'T': o.tokens = strtoll(optarg, NULL, 10); break;
        case 'F': o.fast = true; break;
        case 'b': o.weights = CASE_BLOCKS; break;
        case 'l': o.weights = CASE_FLOATS; break;
        case 'r': o.races = true; break;
        case 'p': o.plant = atoi(optarg); break;
        default:
            fprintf(stderr,
                    "usage: test_simt [--seed S] [--count N] [--spec FILE [--set PATH=VALUE] [--tokens N]] [--cxx COMPILER]\n"
                    "                 [--all] [--verbose] [--keep] [--every-kind] [--target CUDA_TARGET] [--multiprocessors N] "
                    "[--fast] [--floats | --blocks] [--races [--plant I]]\n");
            exit(2);
        }
    }
    if (o.spec != NULL) o.count = 1;
    if (o.count < 1 || o.count > MAX_CASES) o.count = MAX_CASES;
    return o;
}

int main(int argc, char **argv) {
    static Case cases[MAX_CASES];
    Options o = parse(argc, argv);
    if (o.compiler[0] == '\0') {
        printf("skipped: there is no C++ compiler\n");
        return SKIPPED;
    }
    guarded_report();
    int n = (int)o.count, failures = run_all(cases, &n, &o);
    for (int i = 0; i < n; i++) case_free(&cases[i]);
    if (!all_kinds_seen() && o.every_kind) {
        printf("FAILED: a kind of kernel did not come up\n");
        failures++;
    }
    printf("%d specs, %d failed\n", n, failures);
    if (o.plant >= 0) return failures == n ? 0 : 1;
    return failures == 0 ? 0 : 1;
}
