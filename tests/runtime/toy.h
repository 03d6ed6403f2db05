/* A toy model for tests of states: each sequence keeps sum ← 3·sum + token + 1 (mod 2^20, exact in a float) and, in a ring of
 * `cap` places, its last tokens; logit i is sum + i + the token fed 20 positions before. */
#ifndef TESTS_RUNTIME_TOY_H
#define TESTS_RUNTIME_TOY_H

#include "tests/runtime/files.h"

#include "ir/program.h"
#include "mossc/moss.h"

enum { TOY_VOCAB = 10, TOY_NONFINITE = 9, TOY_WHOLE = 1 << 20, TOY_ROWS = 64, TOY_BACK = 20 };

/* The ring's places lie behind the sum; phase->E is how many there are. */
static void toy_kernel(const RtArgs *args, const PgPhase *phase, uint32_t tile0, uint32_t tile1) {
    (void)tile0;
    (void)tile1;
    for (uint32_t row = 0, n_out_rows = 0; row < args->rows; row++) {
        uint8_t *state = args->segments[args->row_segment[row]].state;
        int64_t *sum = (int64_t *)(void *)state, position = args->row_position[row];
        int32_t *ring = (int32_t *)(void *)(state + 64);
        args->nonfinite[row] = args->tokens[row] == TOY_NONFINITE;
        *sum = (3 * *sum + args->tokens[row] + 1) % TOY_WHOLE;
        ring[position % phase->E] = args->tokens[row] + 1;
        int32_t before = position >= TOY_BACK ? ring[(position - TOY_BACK) % phase->E] : 0;
        if (n_out_rows < args->n_out_rows && args->out_rows[n_out_rows] == (int32_t)row) {
            for (int i = 0; i < TOY_VOCAB; i++)
                args->logits[n_out_rows * args->out_stride + (uint64_t)i] = (float)(*sum + i + before);
            n_out_rows++;
        }
    }
}

/* A program and what it points to. */
typedef struct Toy {
    PgKernel kernel;
    PgCode code;
    PgPhase phase;
    PgTensor tensor;
    PgWeight weight;
    PgState states[2];
    PgProgram program;
} Toy;

static inline void toy_make(Toy *t, uint32_t cap) {
    *t = (Toy){.kernel = {.kind = PG_RECUR},
               .code = {.run = toy_kernel, .groups = 1, .claim = 1},
               .phase = {.count = PG_ONCE, .fixed = 1, .E = cap, .block = -1, .name = "toy"},
               .tensor = {.name = "w", .rank = 1, .shape = {TOY_VOCAB}},
               .weight = {.pack = PG_VECTOR, .planes = 1, .O = TOY_VOCAB, .K = 1, .bytes = 64},
               .states = {{"sum", 0, 64}, {"ring", 64, cap * 4}}};
    PgStep step = {.phases = &t->phase, .n_phases = 1, .n_stages = 1, .arena_fixed = 64};
    t->program = (PgProgram){.name = "toy",
                             .spec_hash = {7},
                             .vocab_size = TOY_VOCAB,
                             .max_rows = TOY_ROWS,
                             .out_stride = 16,
                             .kernels = &t->kernel,
                             .n_kernels = 1,
                             .steps = {step, step},
                             .tensors = &t->tensor,
                             .n_tensors = 1,
                             .weights = &t->weight,
                             .n_weights = 1,
                             .weight_bytes = 64,
                             .states = t->states,
                             .n_states = 2,
                             .state_bytes = 64 + cap * 4};
}

/* `context`: the first weight, or NULL for 1. */
static const float *toy_lookup(void *context, const char *name) {
    static float weights[TOY_VOCAB];
    (void)name;
    weights[0] = context ? *(float *)context : 1;
    return weights;
}

static inline MossModel *toy_model(const Toy *t, float *first_weight) {
    MossModel *model;
    assert_int_equal(moss_model_from_memory(&t->program, &t->code, toy_lookup, first_weight,
                                            &(MossOptions){.size = sizeof(MossOptions), .threads = 1}, &model)
                         .code,
                     MOSS_OK);
    return model;
}

static inline MossState *toy_state(MossModel *model) {
    MossState *state;
    assert_int_equal(moss_state_create(model, &state).code, MOSS_OK);
    return state;
}

/* Token number i of the text that all tests feed; never TOY_NONFINITE. */
static inline int32_t toy_token(int64_t i) { return (int32_t)((i * i + 3 * i / 2 + i / 7) % 9); }

/* Feeds tokens [position, end) of the text; chunk as of moss_feed. */
static inline void toy_feed(MossModel *model, MossState *state, int64_t end, uint32_t chunk) {
    int32_t tokens[1024];
    int64_t first = moss_state_position(state);
    assert_true(end - first <= 1024);
    for (int64_t i = first; i < end; i++) tokens[i - first] = toy_token(i);
    assert_int_equal(moss_feed(model, state, tokens, (size_t)(end - first), chunk).code, MOSS_OK);
}

/* The logits after `end` tokens of the text in logits[0]; the others follow from it. */
static inline float toy_logit(int64_t end) {
    int64_t sum = 0;
    for (int64_t i = 0; i < end; i++) sum = (3 * sum + toy_token(i) + 1) % TOY_WHOLE;
    return (float)(sum + (end > TOY_BACK ? toy_token(end - 1 - TOY_BACK) + 1 : 0));
}

static inline void toy_expect(const MossState *state, int64_t end) {
    assert_int_equal(moss_state_position(state), end);
    const float *logits = moss_state_logits(state);
    assert_non_null(logits);
    assert_true(logits[0] == toy_logit(end) && logits[TOY_VOCAB - 1] == toy_logit(end) + TOY_VOCAB - 1);
}

static inline void expect_refused(MossError error, MossCode code, const char *words) {
    assert_int_equal(error.code, code);
    if (!strstr(error.text, words)) fail_msg("instead of '%s': %s", words, error.text);
}

#endif
