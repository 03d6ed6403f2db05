/* Models and steps, with kernels written in C: what kernels are told, in which order they run, what is refused, what is kept.
 *
 * The toy model: each sequence keeps sum ← 3·sum + weight[token] (mod 2^20, exact in a float); a row's logit i is sum + i. */
#include "tests/runtime/files.h"

#include <math.h>
#include <stdatomic.h>

#include "ir/program.h"
#include "mossc/moss.h"
#include "support/clock.h"

enum { VOCAB = 10, STRIDE = 16, MAX_ROWS = 64, MAX_TILES = 4096, STAGES = 5, NONFINITE_TOKEN = 9, WHOLE = 1 << 20 };

/* ---- what kernels saw; written by kernels, so atomic or one writer a tile */

static _Atomic int seen[2 * STAGES][MAX_TILES];
static _Atomic int finished[STAGES]; /* tiles of a stage that are done */
static _Atomic int too_early;

static void forget(void) {
    memset(seen, 0, sizeof seen);
    memset(finished, 0, sizeof finished);
    too_early = 0;
}

/* ---- kernels */

/* Counts its tiles, and those that run before the stage below is done. `block` numbers the phase, `line` holds the tiles of
 * the stage below. */
static void count_tiles(const RtArgs *args, const PgPhase *phase, uint32_t tile0, uint32_t tile1) {
    too_early += phase->stage > 0 && finished[phase->stage - 1] != (int)phase->line;
    too_early += ((uintptr_t)args->arena | (uintptr_t)args->scratch) % 64 != 0;
    args->scratch[0]++;
    for (uint32_t tile = tile0; tile < tile1; tile++) seen[phase->block][tile]++;
    finished[phase->stage] += (int)(tile1 - tile0);
}

static float *row_of(const RtArgs *args, const PgPhase *phase, uint32_t operand) {
    const PgRef *ref = &phase->operands[operand];
    return (float *)(args->arena + ref->per_row * args->ld + ref->fixed);
}

/* One tile a segment: the recurrence, row after row, sums into operand 0 ([LD] floats). */
static void toy_recur(const RtArgs *args, const PgPhase *phase, uint32_t tile0, uint32_t tile1) {
    const float *weight = (const float *)(args->weights + phase->operands[1].fixed);
    for (uint32_t s = tile0; s < tile1; s++) {
        const RtSegment *segment = &args->segments[s];
        int64_t *sum = (int64_t *)(segment->state + phase->operands[2].fixed);
        for (uint32_t row = segment->first_row; row < segment->first_row + segment->count; row++) {
            if (args->row_segment[row] != (int32_t)s || args->row_position[row] != segment->position + (row - segment->first_row))
                args->nonfinite[row] = 100;
            if (args->tokens[row] == NONFINITE_TOKEN) args->nonfinite[row] = 1 + 3;
            *sum = (3 * *sum + (int64_t)weight[args->tokens[row]]) % WHOLE;
            row_of(args, phase, 0)[row] = (float)*sum;
        }
    }
}

/* One tile for eight output rows. */
static void toy_logits(const RtArgs *args, const PgPhase *phase, uint32_t tile0, uint32_t tile1) {
    for (uint32_t w = tile0 * 8; w < tile1 * 8 && w < args->n_out_rows; w++) {
        float sum = row_of(args, phase, 0)[args->out_rows[w]];
        for (int i = 0; i < VOCAB; i++) args->logits[w * args->out_stride + (uint64_t)i] = sum + (float)i;
    }
}

/* ---- the toy program */

static const PgKernel toy_kernels[] = {{.kind = PG_RECUR}, {.kind = PG_LINEAR}};
static const PgCode toy_codes[] = {{.run = toy_recur, .groups = 1, .claim = 1},
                                   {.run = toy_logits, .groups = 1, .claim = 4, .scratch = 100}};
#define TOY_PHASES(per_row_)                                                                                                       \
    {                                                                                                                              \
        {.kernel = 0,                                                                                                              \
         .stage = 0,                                                                                                               \
         .count = PG_PER_SEGMENT,                                                                                                  \
         .fixed = 1,                                                                                                               \
         .block = 3,                                                                                                               \
         .line = 12,                                                                                                               \
         .name = "recur",                                                                                                          \
         .operands = {{PG_ARENA, per_row_, 64}, {PG_WEIGHTS, 0, 0}, {PG_STATE, 0, 64}}},                                           \
        {.kernel = 1,                                                                                                              \
         .stage = 1,                                                                                                               \
         .count = PG_PER_OUT_ROW_BLOCK,                                                                                            \
         .fixed = 1,                                                                                                               \
         .block = -1,                                                                                                              \
         .name = "head",                                                                                                           \
         .operands = {{PG_ARENA, per_row_, 64}}},                                                                                  \
    }
static const PgPhase toy_row[] = TOY_PHASES(0), toy_block[] = TOY_PHASES(64);
static const PgTensor toy_tensor = {.name = "w", .rank = 1, .shape = {VOCAB}};
static const PgWeight toy_weight = {.pack = PG_VECTOR, .planes = 1, .O = VOCAB, .K = 1, .bytes = 64};

static PgProgram toy_program(void) {
    return (PgProgram){
        .name = "toy",
        .vocab_size = VOCAB,
        .max_rows = MAX_ROWS,
        .out_stride = STRIDE,
        .kernels = toy_kernels,
        .n_kernels = 2,
        .steps = {[PG_ROW] = {.phases = toy_row, .n_phases = 2, .n_stages = 2, .arena_fixed = 256},
                  [PG_BLOCK] = {.phases = toy_block, .n_phases = 2, .n_stages = 2, .arena_per_row = 128, .arena_fixed = 256}},
        .tensors = &toy_tensor,
        .n_tensors = 1,
        .weights = &toy_weight,
        .n_weights = 1,
        .weight_bytes = 64,
        .state_bytes = 128,
    };
}

static const float *toy_lookup(void *context, const char *name) {
    static const float weights[VOCAB] = {5, 1, 2, 3, 40, 500, 6000, 7, 8, 9};
    (void)context;
    return strcmp(name, "w") ? NULL : weights;
}

static MossModel *toy_model(const PgProgram *program, int threads) {
    MossModel *model;
    MossError error = moss_model_from_memory(program, toy_codes, toy_lookup, NULL,
                                             &(MossOptions){.size = sizeof(MossOptions), .threads = threads}, &model);
    assert_int_equal(error.code, MOSS_OK);
    assert_int_equal(moss_model_threads(model), threads);
    assert_ptr_equal(moss_model_program(model), program);
    return model;
}

static int64_t toy_sum(const int32_t *tokens, int64_t count) {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; i++) sum = (3 * sum + (int64_t)toy_lookup(NULL, "w")[tokens[i]]) % WHOLE;
    return sum;
}

static void expect_logits(const MossModel *model, uint32_t i, int64_t sum) {
    const float *logits = moss_logits(model, i);
    assert_non_null(logits);
    assert_true(logits[0] == (float)sum && logits[VOCAB - 1] == (float)(sum + VOCAB - 1));
}

static MossState *new_state(MossModel *model) {
    MossState *state;
    assert_int_equal(moss_state_create(model, &state).code, MOSS_OK);
    return state;
}

static void expect_refused(MossError error, MossCode code, const char *words) {
    assert_int_equal(error.code, code);
    if (!strstr(error.text, words)) fail_msg("instead of '%s': %s", words, error.text);
}

static const int32_t text[] = {1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 3, 5, 7, 2, 4, 6, 8, 0, 1, 1, 2, 3, 5,
                               8, 4, 4, 4, 0, 6, 5, 3, 2, 1, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0, 1, 5,
                               2, 6, 3, 7, 4, 8, 5, 0, 6, 1, 7, 2, 8, 3, 0, 4, 1, 5, 2, 6, 1, 2, 3};
enum { TEXT = sizeof text / sizeof *text };

/* ---- tests */

/* Phases that only count tiles: stage s of STAGES has two phases of different counts. */
static void make_counting(PgPhase phases[2 * STAGES], uint32_t rows, uint32_t segments, uint32_t n_out_rows, const PgCode *code) {
    static const PgCount counts[2 * STAGES] = {
        PG_ONCE,    PG_PER_ROW, PG_PER_ROW_BLOCK, PG_PER_SEGMENT,        PG_PER_OUT_ROW_BLOCK,
        PG_PER_ROW, PG_PER_ROW, PG_ONCE,          PG_PER_POSITION_BLOCK, PG_PER_ROW};
    uint32_t below = 0, here = 0;
    for (uint32_t i = 0; i < 2 * STAGES; i++) {
        if (i % 2 == 0) {
            below = here;
            here = 0;
        }
        phases[i] =
            (PgPhase){.stage = i / 2, .count = counts[i], .fixed = 1 + i % 3, .E = 5, .k = 2, .block = (int32_t)i, .line = below};
        here += (uint32_t)pg_tiles(&phases[i], code, rows, segments, n_out_rows);
    }
}

static void count_step(int threads, uint32_t rows, uint32_t segments, uint32_t claim) {
    static const PgKernel kernel = {.kind = PG_LINEAR};
    PgCode code = {.run = count_tiles, .groups = 3, .claim = claim, .scratch = 5000};
    PgPhase phases[2 * STAGES];
    make_counting(phases, rows, segments, rows, &code);
    PgStep step = {.phases = phases, .n_phases = 2 * STAGES, .n_stages = STAGES, .arena_fixed = 64};
    PgProgram program = {.name = "count",
                         .vocab_size = VOCAB,
                         .max_rows = MAX_ROWS,
                         .out_stride = STRIDE,
                         .kernels = &kernel,
                         .n_kernels = 1,
                         .steps = {step, step}};
    MossModel *model;
    assert_int_equal(moss_model_from_memory(&program, &code, toy_lookup, NULL,
                                            &(MossOptions){.size = sizeof(MossOptions), .threads = threads}, &model)
                         .code,
                     MOSS_OK);
    MossSegment list[MAX_ROWS];
    for (uint32_t s = 0; s < segments; s++) { /* the first has what the others, of one row each, leave; all rows are wanted */
        list[s] = (MossSegment){
            .state = new_state(model), .tokens = text, .count = s ? 1 : rows - (segments - 1), .logits = MOSS_ALL_LOGITS};
    }
    for (int run = 1; run <= 3; run++) {
        forget();
        assert_int_equal(moss_step(model, list, segments).code, MOSS_OK);
        assert_int_equal(too_early, 0);
        for (uint32_t i = 0; i < 2 * STAGES; i++) {
            uint64_t tiles = pg_tiles(&phases[i], &code, rows, segments, rows);
            assert_true(tiles > 0 && tiles < MAX_TILES);
            for (uint64_t tile = 0; tile < MAX_TILES; tile++) assert_int_equal(seen[i][tile], tile < tiles);
        }
    }
    for (uint32_t s = 0; s < segments; s++) moss_state_free(list[s].state);
    moss_model_free(model);
}

static void test_every_tile_runs_once_and_stages_in_order(void **unused) {
    (void)unused;
    static const int threads[] = {1, 2, 8};
    for (size_t t = 0; t < 3; t++) {
        count_step(threads[t], 1, 1, 1);
        count_step(threads[t], 1, 1, 16);
        count_step(threads[t], 2, 2, 4);
        count_step(threads[t], 37, 1, 1);
        count_step(threads[t], MAX_ROWS, 20, 8);
    }
}

static void test_any_split_and_any_threads_give_the_same(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    int64_t want = toy_sum(text, TEXT);
    static const int threads[] = {1, 2, 8};
    static const uint32_t chunks[] = {0, 1, 7, 64};
    for (size_t t = 0; t < 3; t++) {
        MossModel *model = toy_model(&program, threads[t]);
        for (size_t c = 0; c < 4; c++) {
            MossState *state = new_state(model);
            assert_int_equal(moss_feed(model, state, text, TEXT, chunks[c]).code, MOSS_OK);
            assert_int_equal(moss_state_position(state), TEXT);
            assert_int_equal(moss_logits_count(model), 1);
            expect_logits(model, 0, want);
            moss_state_free(state);
        }
        moss_model_free(model);
    }
}

static void test_segments_keep_apart_and_logits_come_in_order(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    MossModel *model = toy_model(&program, 2);
    MossState *a = new_state(model), *b = new_state(model), *c = new_state(model);
    MossSegment segments[] = {{.state = a, .tokens = text, .count = 3, .logits = MOSS_ALL_LOGITS},
                              {.state = b, .tokens = text + 10, .count = 5, .logits = MOSS_NO_LOGITS},
                              {.state = c, .tokens = text + 20, .count = 1, .logits = MOSS_LAST_LOGITS}};
    assert_int_equal(moss_step(model, segments, 3).code, MOSS_OK);
    assert_int_equal(moss_logits_count(model), 4);
    for (uint32_t i = 0; i < 3; i++) expect_logits(model, i, toy_sum(text, i + 1));
    expect_logits(model, 3, toy_sum(text + 20, 1));
    assert_null(moss_logits(model, 4));
    MossSegment more = {.state = b, .tokens = text + 15, .count = 1, .logits = MOSS_LAST_LOGITS}; /* one row: the other mode */
    assert_int_equal(moss_step(model, &more, 1).code, MOSS_OK);
    expect_logits(model, 0, toy_sum(text + 10, 6));
    more.logits = MOSS_NO_LOGITS;
    assert_int_equal(moss_step(model, &more, 1).code, MOSS_OK);
    assert_int_equal(moss_logits_count(model), 0);
    moss_state_free(a);
    moss_state_free(b);
    moss_state_free(c);
    moss_model_free(model);
}

static void test_states_are_cloned_and_reset(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    static const uint64_t sizes[] = {128, 3 << 20}; /* malloced, and in pages */
    for (int i = 0; i < 2; i++) {
        program.state_bytes = sizes[i];
        MossModel *model = toy_model(&program, 1);
        MossState *a = new_state(model), *b;
        assert_int_equal(moss_feed(model, a, text, 10, 0).code, MOSS_OK);
        assert_int_equal(moss_state_clone(a, &b).code, MOSS_OK);
        assert_int_equal(moss_state_position(b), 10);
        moss_state_reset(a);
        assert_int_equal(moss_state_position(a), 0);
        assert_int_equal(moss_feed(model, a, text, 20, 0).code, MOSS_OK);
        expect_logits(model, 0, toy_sum(text, 20));
        assert_int_equal(moss_feed(model, b, text + 10, 10, 3).code, MOSS_OK);
        expect_logits(model, 0, toy_sum(text, 20));
        moss_state_free(a);
        moss_state_free(b);
        moss_model_free(model);
    }
}

/* Its arena serves one row only: a step of more allocates. */
static void test_memory_of_the_callers_serves_states_and_steps(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    _Alignas(64) static uint8_t memory[1 << 16], arena[256];
    assert_in_range(program.state_bytes, 1, sizeof memory - 1);
    MossOptions options = {.size = sizeof options, .threads = 2, .arena = arena, .arena_bytes = sizeof arena};
    MossModel *model;
    MossState *state;
    assert_int_equal(moss_model_from_memory(&program, toy_codes, toy_lookup, NULL, &options, &model).code, MOSS_OK);
    expect_refused(moss_state_place(model, memory + 1, &state), MOSS_BAD_INPUT, "not aligned");
    for (int round = 0; round < 2; round++) {
        memset(memory, 255, sizeof memory);
        assert_int_equal(moss_state_place(model, memory, &state).code, MOSS_OK);
        assert_int_equal(moss_feed(model, state, text, 20, round ? 20 : 1).code, MOSS_OK);
        expect_logits(model, 0, toy_sum(text, 20));
        assert_int_equal(memory[program.state_bytes], 255);
        moss_state_reset(state);
        assert_int_equal(moss_feed(model, state, text, 3, 0).code, MOSS_OK);
        expect_logits(model, 0, toy_sum(text, 3));
        moss_state_free(state);
    }
    moss_model_free(model);
}

static void test_memory_that_is_not_aligned_is_left_alone(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    _Alignas(64) static uint8_t arena[1 << 12], zeros[sizeof arena];
    MossOptions options = {.size = sizeof options, .threads = 1, .arena = arena + 4, .arena_bytes = sizeof arena - 4};
    MossModel *model;
    assert_int_equal(moss_model_from_memory(&program, toy_codes, toy_lookup, NULL, &options, &model).code, MOSS_OK);
    MossState *state = new_state(model);
    assert_int_equal(moss_feed(model, state, text, 20, 1).code, MOSS_OK);
    expect_logits(model, 0, toy_sum(text, 20));
    assert_memory_equal(arena, zeros, sizeof arena);
    moss_state_free(state);
    moss_model_free(model);
}

static void test_wrong_input_is_refused_before_anything_changes(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    program.max_positions = 20;
    MossModel *model = toy_model(&program, 2), *other = toy_model(&program, 1);
    MossState *a = new_state(model), *foreign = new_state(other);
    assert_int_equal(moss_feed(model, a, text, 5, 0).code, MOSS_OK);
    const int32_t low[] = {1, -1}, high[] = {1, 2, VOCAB};
    MossSegment good = {.state = a, .tokens = text, .count = 2};
    MossSegment twice[] = {good, good}, mixed[] = {good, {.state = foreign, .tokens = text, .count = 1}};
    expect_refused(moss_step(model, twice, 2), MOSS_BAD_INPUT, "segment 1: state is already used by another segment");
    expect_refused(moss_step(model, mixed, 2), MOSS_BAD_INPUT, "segment 1: state belongs to another model");
    expect_refused(moss_step(model, &good, 0), MOSS_BAD_INPUT, "token count of a step must be between 1 and 64, got 0");
    expect_refused(moss_step(model, &(MossSegment){.state = a, .tokens = text}, 1), MOSS_BAD_INPUT, "segment 0 has no tokens");
    expect_refused(moss_step(model, &(MossSegment){.state = a, .tokens = low, .count = 2}, 1), MOSS_BAD_INPUT,
                   "token -1 at position 6");
    expect_refused(moss_feed(model, a, high, 3, 1), MOSS_BAD_INPUT, "token 10 at position 7 is outside the vocabulary (0 to 9)");
    expect_refused(moss_step(model, &(MossSegment){.state = a, .tokens = text, .count = 16}, 1), MOSS_BAD_INPUT,
                   "sequence of 21 tokens exceeds max_positions 20");
    expect_refused(moss_feed(model, a, text, 16, 4), MOSS_BAD_INPUT, "exceeds max_positions");
    expect_refused(moss_feed(model, a, text, 0, 4), MOSS_BAD_INPUT, "no tokens");
    assert_int_equal(moss_state_position(a), 5);
    assert_int_equal(moss_feed(model, a, text + 5, 15, 4).code, MOSS_OK); /* up to the bound */
    expect_logits(model, 0, toy_sum(text, 20));
    moss_state_free(a);
    moss_state_free(foreign);
    moss_model_free(model);
    moss_model_free(other);
    program.max_positions = 0;
    model = toy_model(&program, 1);
    a = new_state(model);
    expect_refused(moss_step(model, &(MossSegment){.state = a, .tokens = text, .count = 65}, 1), MOSS_BAD_INPUT,
                   "token count of a step must be between 1 and 64, got 65");
    moss_state_free(a);
    moss_model_free(model);
}

static void test_nonfinite_names_block_and_position(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    MossModel *model = toy_model(&program, 2);
    MossState *state = new_state(model);
    const int32_t bad[] = {1, 2, NONFINITE_TOKEN, 1};
    assert_int_equal(moss_feed(model, state, text, 10, 0).code, MOSS_OK);
    expect_refused(moss_feed(model, state, bad, 4, 0), MOSS_NON_FINITE,
                   "router of block 3 (line 12 of the spec) gave a non-finite value at position 12");
    assert_int_equal(moss_logits_count(model), 0);
    expect_refused(moss_feed(model, state, text, 1, 0), MOSS_BAD_INPUT, "reset it first");
    moss_state_reset(state);
    assert_int_equal(moss_feed(model, state, text, 4, 0).code, MOSS_OK);
    expect_logits(model, 0, toy_sum(text, 4));
    moss_state_free(state);
    moss_model_free(model);
}

/* Three sequences in a step: the one whose router is not finite fails, the others have what they would have had without it. */
static void test_nonfinite_spoils_its_own_sequence_only(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    MossModel *model = toy_model(&program, 2);
    const int32_t bad[] = {1, NONFINITE_TOKEN, 1};
    MossState *states[3];
    MossSegment segments[3];
    for (int i = 0; i < 3; i++) {
        states[i] = new_state(model);
        segments[i] = (MossSegment){
            .state = states[i], .tokens = i == 1 ? bad : text, .count = i == 1 ? 3 : 4 + (uint32_t)i, .logits = MOSS_LAST_LOGITS};
    }
    expect_refused(moss_step(model, segments, 3), MOSS_NON_FINITE, "at position 1 of one of the sequences");
    for (int i = 0; i < 3; i++) {
        assert_int_equal(moss_state_failed(states[i]), i == 1);
        assert_int_equal(moss_state_logits(states[i]) == NULL, i == 1);
    }
    expect_logits(model, 0, toy_sum(text, 4));
    expect_logits(model, 2, toy_sum(text, 6));
    MossSegment go_on[] = {{.state = states[0], .tokens = text + 4, .count = 3, .logits = MOSS_LAST_LOGITS},
                           {.state = states[2], .tokens = text + 6, .count = 1, .logits = MOSS_LAST_LOGITS}};
    assert_int_equal(moss_step(model, go_on, 2).code, MOSS_OK);
    expect_logits(model, 0, toy_sum(text, 7));
    expect_logits(model, 1, toy_sum(text, 7));
    expect_refused(moss_feed(model, states[1], text, 1, 0), MOSS_BAD_INPUT, "reset it first");
    for (int i = 0; i < 3; i++) moss_state_free(states[i]);
    moss_model_free(model);
}

/* Keeps what the rope tables of a step hold. */
static float rope_seen[MAX_ROWS * 8];
static void see_ropes(const RtArgs *args, const PgPhase *phase, uint32_t tile0, uint32_t tile1) {
    (void)tile0;
    (void)tile1;
    memcpy(rope_seen, row_of(args, phase, 0), args->rows * 8 * sizeof(float));
}

static void test_rope_tables_are_filled_for_every_row(void **unused) {
    (void)unused;
    static const PgKernel kernel = {.kind = PG_KV_STORE};
    PgCode code = {.run = see_ropes, .groups = 1, .claim = 1};
    PgPhase row = {.count = PG_ONCE, .fixed = 1, .operands = {{PG_ARENA, 0, 64}}},
            block = {.count = PG_ONCE, .fixed = 1, .operands = {{PG_ARENA, 64, 128}}};
    PgRope rope = {.theta = 500, .dim = 8, .factor = 2, .table = {{PG_ARENA, 0, 64}, {PG_ARENA, 64, 128}}};
    PgProgram program = {.name = "rope",
                         .vocab_size = VOCAB,
                         .max_rows = MAX_ROWS,
                         .out_stride = STRIDE,
                         .kernels = &kernel,
                         .n_kernels = 1,
                         .steps = {{&row, 1, 1, 0, 128}, {&block, 1, 1, 128, 128}},
                         .ropes = &rope,
                         .n_ropes = 1};
    MossModel *model;
    assert_int_equal(
        moss_model_from_memory(&program, &code, toy_lookup, NULL, &(MossOptions){.size = sizeof(MossOptions), .threads = 2}, &model)
            .code,
        MOSS_OK);
    MossState *state = new_state(model);
    for (int64_t position = 0, n; position < TEXT; position += n) {
        n = position % 3 ? 1 : 13 < TEXT - position ? 13 : TEXT - position;
        assert_int_equal(moss_feed(model, state, text, (size_t)n, 0).code, MOSS_OK);
        for (int64_t i = 0; i < n * 4; i++) {
            double angle = (double)(position + i / 4) * pow(500, -2.0 * (double)(i % 4) / 8) / 2; /* factor */
            assert_true(fabs((double)rope_seen[2 * i] - cos(angle)) < 1e-7 &&
                        fabs((double)rope_seen[2 * i + 1] - sin(angle)) < 1e-7);
        }
    }
    moss_state_free(state);
    moss_model_free(model);
}

static void test_profile_adds_up_the_phases_of_its_mode(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    MossModel *model = toy_model(&program, 2);
    MossState *state = new_state(model);
    enum { PHASES = 2, TIMES = 2 * PHASES }; /* of two workers */
    MossPhaseTime row[TIMES] = {{0}}, block[TIMES] = {{0}};
    moss_profile(model, (MossPhaseTime *[PG_MODES]){[PG_ROW] = row, [PG_BLOCK] = block});
    double start = su_seconds();
    assert_int_equal(moss_feed(model, state, text, 1, 0).code, MOSS_OK);
    double step = su_seconds() - start;
    for (int i = 0; i < TIMES; i++) {
        assert_true(row[i].working > 0 && row[i].waiting >= 0);
        assert_true(block[i].working == 0 && block[i].waiting == 0);
    }
    for (int worker = 0; worker < 2; worker++) {
        double sum = 0;
        for (int i = 0; i < PHASES; i++) sum += row[worker * PHASES + i].working + row[worker * PHASES + i].waiting;
        assert_true(sum <= step);
    }
    assert_int_equal(moss_feed(model, state, text, 9, 0).code, MOSS_OK);
    assert_true(block[0].working > 0 && block[1].working > 0);
    double before = block[0].working;
    moss_profile(model, NULL);
    assert_int_equal(moss_feed(model, state, text, 9, 0).code, MOSS_OK);
    assert_true(block[0].working == before);
    moss_state_free(state);
    moss_model_free(model);
}

static void test_models_are_loaded_from_files(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "w.safetensors"), *missing = "/nowhere/w.safetensors";
    uint16_t halves[VOCAB] = {0x3F80, 0x4000, 0x4040, 0x4080}; /* bf16: 1 2 3 4 0 … */
    MossModel *model;
    write_safetensors(path, "{\"w\":{\"dtype\":\"BF16\",\"shape\":[10],\"data_offsets\":[0,20]}}", halves, sizeof halves);
    assert_int_equal(moss_model_load(&program, toy_codes, &path, 1, NULL, &model).code, MOSS_OK);
    MossState *state = new_state(model);
    assert_int_equal(moss_feed(model, state, (const int32_t[]){0, 3}, 2, 0).code, MOSS_OK);
    expect_logits(model, 0, 3 + 4);
    moss_state_free(state);
    moss_model_free(model);
    expect_refused(moss_model_load(&program, toy_codes, &missing, 1, NULL, &model), MOSS_NO_FILE,
                   "/nowhere/w.safetensors: cannot open");
    assert_null(model);
    expect_refused(moss_model_load(&program, toy_codes, NULL, 0, NULL, &model), MOSS_BAD_WEIGHTS,
                   "tensor 'w' is missing; expected shape [10]");
    halves[7] = 0x7FC0;
    write_safetensors(path, "{\"w\":{\"dtype\":\"BF16\",\"shape\":[10],\"data_offsets\":[0,20]}}", halves, sizeof halves);
    expect_refused(moss_model_load(&program, toy_codes, &path, 1, NULL, &model), MOSS_BAD_WEIGHTS,
                   "tensor 'w': element [7] is NaN");
    write_safetensors(path, "{", NULL, 0);
    expect_refused(moss_model_load(&program, toy_codes, &path, 1, NULL, &model), MOSS_BAD_WEIGHTS, "header is not valid JSON");
    directory_remove(&directory);
}

static const float *no_lookup(void *context, const char *name) {
    (void)context;
    (void)name;
    return NULL;
}

static void test_long_errors_are_cut_at_a_line(void **unused) {
    (void)unused;
    enum { MANY = 30 };
    PgProgram program = toy_program();
    PgTensor tensors[MANY];
    for (int i = 0; i < MANY; i++)
        tensors[i] = (PgTensor){.name = "blocks.1000.a_tensor_with_quite_a_long_name.weight", .rank = 1, .shape = {VOCAB}};
    program.tensors = tensors;
    program.n_tensors = MANY;
    MossModel *model;
    MossError error = moss_model_from_memory(&program, toy_codes, no_lookup, NULL, NULL, &model);
    assert_int_equal(error.code, MOSS_BAD_WEIGHTS);
    size_t size = strlen(error.text);
    assert_true(size < MOSS_ERROR_TEXT && !strcmp(error.text + size - 5, "]\n..."));
}

static void test_hidden_states_of_unknown_blocks_are_refused(void **unused) {
    (void)unused;
    PgProgram program = toy_program();
    MossModel *model = toy_model(&program, 2);
    MossState *state;
    assert_int_equal(moss_state_create(model, &state).code, MOSS_OK);
    assert_int_equal(moss_program_blocks(&program), 0);
    MossError error = moss_model_keep_hidden(model, true);
    assert_int_equal(error.code, MOSS_BAD_INPUT);
    assert_non_null(strstr(error.text, "program 'toy' does not tell"));
    assert_int_equal(moss_model_keep_hidden(model, false).code, MOSS_OK);
    assert_int_equal(moss_feed(model, state, (int32_t[]){1, 2, 3}, 3, 0).code, MOSS_OK);
    assert_int_equal(moss_hidden_rows(model), 0);
    assert_null(moss_hidden(model, 0));
    moss_state_free(state);
    moss_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tile_runs_once_and_stages_in_order),
        cmocka_unit_test(test_any_split_and_any_threads_give_the_same),
        cmocka_unit_test(test_segments_keep_apart_and_logits_come_in_order),
        cmocka_unit_test(test_states_are_cloned_and_reset),
        cmocka_unit_test(test_memory_of_the_callers_serves_states_and_steps),
        cmocka_unit_test(test_memory_that_is_not_aligned_is_left_alone),
        cmocka_unit_test(test_wrong_input_is_refused_before_anything_changes),
        cmocka_unit_test(test_nonfinite_names_block_and_position),
        cmocka_unit_test(test_nonfinite_spoils_its_own_sequence_only),
        cmocka_unit_test(test_rope_tables_are_filled_for_every_row),
        cmocka_unit_test(test_profile_adds_up_the_phases_of_its_mode),
        cmocka_unit_test(test_models_are_loaded_from_files),
        cmocka_unit_test(test_long_errors_are_cut_at_a_line),
        cmocka_unit_test(test_hidden_states_of_unknown_blocks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
