/* moss_generate gives the tokens that picking and feeding one by one gives, leaves states and samplers as that does, and stops
 * where a sequence ends. */
#include "tests/runtime/toy.h"

#include <math.h>
#include <string.h>

static const MossVocabulary vocabulary = {.limit = TOY_VOCAB - 1, .eos = -1}; /* TOY_NONFINITE is never picked */

static MossSampler sampler_of(uint64_t seed) { return (MossSampler){.temperature = 3, .top_k = 6, .top_p = 1, .state = seed}; }

/* The same, one by one. */
static void pick_and_feed(MossModel *model, MossState *state, MossSampler *sampler, int32_t *tokens, int count) {
    for (int i = 0; i < count; i++) {
        tokens[i] = moss_sample(sampler, moss_state_logits(state), TOY_VOCAB, vocabulary.limit);
        assert_int_equal(moss_feed(model, state, &tokens[i], 1, 0).code, MOSS_OK);
    }
}

static void test_tokens_are_those_of_picking_and_feeding(void **unused) {
    (void)unused;
    enum { N = 3, COUNT = 40 };
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL);
    int32_t tokens[N][COUNT], expected[COUNT];
    MossSampler samplers[N];
    MossSequence sequences[N];
    for (int i = 0; i < N; i++) {
        samplers[i] = sampler_of((uint64_t)i);
        sequences[i] = (MossSequence){.state = toy_state(model), .sampler = &samplers[i], .tokens = tokens[i]};
        toy_feed(model, sequences[i].state, 5 + i, 0);
        MossState *with_logits; /* those of the model's last step are the next one's */
        assert_int_equal(moss_state_clone(sequences[i].state, &with_logits).code, MOSS_OK);
        moss_state_free(sequences[i].state);
        sequences[i].state = with_logits;
    }
    uint32_t done;
    assert_int_equal(moss_generate(model, &vocabulary, sequences, N, COUNT, &done).code, MOSS_OK);
    assert_int_equal(done, COUNT);
    for (int i = 0; i < N; i++) {
        MossState *alone = toy_state(model);
        MossSampler sampler = sampler_of((uint64_t)i);
        toy_feed(model, alone, 5 + i, 0);
        pick_and_feed(model, alone, &sampler, expected, COUNT);
        assert_memory_equal(tokens[i], expected, sizeof expected);
        assert_int_equal(sampler.state, samplers[i].state);
        assert_int_equal(moss_state_position(sequences[i].state), 5 + i + COUNT);
        assert_false(sequences[i].ended);
        moss_state_free(alone);
        moss_state_free(sequences[i].state);
    }
    moss_model_free(model);
}

static void expect_nothing(MossModel *model, const MossVocabulary *v, MossSequence *sequence, const char *words) {
    uint32_t done = 9;
    expect_refused(moss_generate(model, v, sequence, 1, 3, &done), MOSS_BAD_INPUT, words);
    assert_int_equal(done, 0);
}

static void test_eos_ends_all_before_it_is_fed(void **unused) {
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    int32_t plain[30], tokens[30];
    MossSampler sampler = sampler_of(3), again = sampler;
    toy_feed(model, state, 4, 0);
    pick_and_feed(model, state, &sampler, plain, 30);
    int eos_at = 0; /* where the eighth token comes first */
    while (plain[eos_at] != plain[7]) eos_at++;
    moss_state_reset(state);
    toy_feed(model, state, 4, 0);
    const int32_t others[] = {TOY_VOCAB - 1, plain[eos_at]}; /* the first is never picked */
    MossVocabulary with_eos = {.limit = vocabulary.limit, .eos = plain[eos_at]}, too_many = with_eos;
    MossSequence sequence = {.state = state, .sampler = &again, .tokens = tokens};
    uint32_t done;
    if (*unused) with_eos = (MossVocabulary){.limit = vocabulary.limit, .eos = -1, .more_eos = others, .n_more_eos = 2};
    too_many.n_more_eos = MOSS_MAX_ENDS;
    expect_nothing(model, &too_many, &sequence, "end a sequence");
    assert_int_equal(moss_generate(model, &with_eos, &sequence, 1, 30, &done).code, MOSS_OK);
    assert_true(sequence.ended);
    assert_int_equal(done, eos_at);
    assert_int_equal(moss_state_position(state), 4 + eos_at);
    assert_memory_equal(tokens, plain, (size_t)eos_at * sizeof plain[0]);
    assert_int_equal(moss_sample(&again, moss_state_logits(state), TOY_VOCAB, vocabulary.limit), plain[eos_at]); /* picked anew */
    moss_state_free(state);
    moss_model_free(model);
}

static void test_gaps_are_not_picked(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    uint32_t gaps[1] = {1u << 8 | 1u << 7 | 1u << 3}, done;
    MossVocabulary with_gaps = {.limit = vocabulary.limit, .eos = -1, .gaps = gaps};
    MossSampler greedy = {.temperature = 0, .top_p = 1};
    int32_t tokens[5];
    MossSequence sequence = {.state = state, .sampler = &greedy, .tokens = tokens};
    toy_feed(model, state, 4, 0);
    assert_int_equal(moss_generate(model, &with_gaps, &sequence, 1, 5, &done).code, MOSS_OK);
    for (int i = 0; i < 5; i++) { assert_int_equal(tokens[i], 6); } /* the toy's logits rise with the id */
    moss_state_free(state);
    moss_model_free(model);
}

static void test_what_cannot_go_on_is_refused(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 64);
    toy.program.max_positions = 6;
    MossModel *model = toy_model(&toy, NULL), *other = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    MossSampler sampler = sampler_of(1);
    int32_t tokens[3];
    MossSequence sequence = {.state = state, .sampler = &sampler, .tokens = tokens};
    expect_nothing(model, &vocabulary, &sequence, "has no logits");
    toy_feed(model, state, 4, 0);
    expect_nothing(model, &vocabulary, &sequence, "max_positions");
    expect_nothing(other, &vocabulary, &sequence, "another model");
    expect_nothing(model, &(MossVocabulary){.limit = TOY_VOCAB + 1, .eos = -1}, &sequence, "limit");
    assert_int_equal(moss_state_position(state), 4);
    moss_state_free(state);
    moss_model_free(model);
    moss_model_free(other);
}

static bool no_more(void *context, int32_t token, const char *text, size_t size) {
    (void)token, (void)text, (void)size;
    ++*(int *)context;
    return false;
}

static void test_a_text_s_error_is_told_whoever_ends_it(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    MossTokenizer *tokenizer;
    MossSampler greedy = {.top_p = 1};
    MossStop stop = MOSS_STOP_CALLER;
    int told = 0;
    toy_feed(model, state, 4, 0);
    assert_int_equal(moss_tokenizer_bytes(TOY_VOCAB, -1, -1, &tokenizer).code, MOSS_OK);
    MossCompletion wrong = {.size = 0};
    assert_int_equal(moss_complete_with(model, state, tokenizer, &greedy, &wrong, &stop).code, MOSS_BAD_INPUT);
    assert_int_equal(stop, MOSS_STOP_COUNT);
    MossSampler out_of_range[] = {{.temperature = -1, .top_p = 1},
                                  {.temperature = NAN, .top_p = 1},
                                  {.temperature = INFINITY, .top_p = 1},
                                  {.top_k = -1, .top_p = 1},
                                  {.top_p = -0.5f},
                                  {.top_p = 1.5f},
                                  {.top_p = NAN}};
    MossCompletion plain = {.size = sizeof plain};
    for (size_t i = 0; i < sizeof out_of_range / sizeof *out_of_range; i++) {
        expect_refused(moss_completion_check(model, tokenizer, &out_of_range[i], &plain), MOSS_BAD_INPUT, "sampling: expected");
        expect_refused(moss_complete(model, state, tokenizer, &out_of_range[i], 5, no_more, &told, NULL), MOSS_BAD_INPUT,
                       "sampling: expected");
    }
    assert_int_equal(moss_completion_check(model, tokenizer, &greedy, &plain).code, MOSS_OK);
    assert_int_equal(moss_completion_check(model, tokenizer, &greedy, &wrong).code, MOSS_BAD_INPUT);
    MossError error = moss_complete(model, state, tokenizer, &greedy, 5, no_more, &told, NULL); /* the last logit is the largest */
    assert_int_equal(error.code, MOSS_NON_FINITE);
    assert_int_equal(told, 1);
    moss_state_reset(state);
    toy_feed(model, state, 4, 0);
    assert_int_equal(moss_tokenizer_set_ends(tokenizer, (const int32_t[]){TOY_VOCAB}, 1).code, MOSS_OK);
    expect_refused(moss_complete(model, state, tokenizer, &greedy, 5, no_more, &told, NULL), MOSS_BAD_INPUT,
                   "tokenizer has ids up to 10");
    moss_tokenizer_free(tokenizer);
    moss_state_free(state);
    moss_model_free(model);
}

typedef struct Told {
    char text[256];
    int32_t tokens[64];
    size_t size, count;
} Told;

static bool remember(void *context, int32_t token, const char *text, size_t size) {
    Told *told = context;
    memcpy(told->text + told->size, text, size + 1);
    told->size += size;
    told->tokens[told->count++] = token;
    return true;
}

/* A text of `count` tokens by one of the two ways. */
static MossStop write_text(MossModel *model, const MossTokenizer *tokenizer, const char *const *stops, uint64_t count,
                           bool by_token, Told *told) {
    MossState *state = toy_state(model);
    MossSampler sampler = sampler_of(3);
    MossCompletion completion = {
        .size = sizeof completion, .count = count, .stops = stops, .n_stops = stops ? 1 : 0, .told = remember, .context = told};
    MossStop stop;
    toy_feed(model, state, 4, 0);
    *told = (Told){.count = 0};
    if (by_token) {
        MossWriting *writing;
        MossPiece piece;
        bool more = true;
        assert_int_equal(moss_writing_begin(model, state, tokenizer, &sampler, &completion, &writing).code, MOSS_OK);
        while (moss_writing_next(writing, &piece, &more).code == MOSS_OK && more)
            remember(told, piece.token, piece.text, piece.size);
        stop = moss_writing_stop(writing);
        assert_int_equal(moss_writing_next(writing, &piece, &more).code, MOSS_OK); /* the end stays the end */
        assert_false(more);
        moss_writing_free(writing);
    } else {
        assert_int_equal(moss_complete_with(model, state, tokenizer, &sampler, &completion, &stop).code, MOSS_OK);
    }
    moss_state_free(state);
    return stop;
}

static void test_a_text_token_by_token_is_the_same(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL);
    MossTokenizer *tokenizer;
    assert_int_equal(moss_tokenizer_bytes(TOY_VOCAB, -1, -1, &tokenizer).code, MOSS_OK);
    static const int32_t never[] = {TOY_NONFINITE};
    assert_int_equal(moss_tokenizer_set_ends(tokenizer, never, 1).code, MOSS_OK);
    Told whole, pieces;
    for (uint64_t count = 0; count < 20; count += 5) {
        MossStop stop = write_text(model, tokenizer, NULL, count, false, &whole);
        assert_int_equal(write_text(model, tokenizer, NULL, count, true, &pieces), stop);
        assert_int_equal(pieces.count, whole.count);
        assert_memory_equal(pieces.tokens, whole.tokens, sizeof whole.tokens);
    }
    char last[3] = {(char)whole.tokens[1], (char)whole.tokens[2]};
    const char *stops[] = {last};
    if (!last[0] || !last[1]) stops[0] = "\1"; /* a text has no NUL */
    MossStop stop = write_text(model, tokenizer, stops, 15, false, &whole);
    assert_int_equal(write_text(model, tokenizer, stops, 15, true, &pieces), stop);
    assert_int_equal(pieces.size, whole.size);
    assert_memory_equal(&pieces, &whole, sizeof whole);
    MossWriting *writing;
    MossState *empty = toy_state(model);
    MossSampler greedy = {.top_p = 1};
    expect_refused(
        moss_writing_begin(model, empty, tokenizer, &greedy, &(MossCompletion){.size = sizeof(MossCompletion)}, &writing),
        MOSS_BAD_INPUT, "no logits");
    assert_null(writing);
    moss_state_free(empty);
    moss_tokenizer_free(tokenizer);
    moss_model_free(model);
}

/* Logits in memory of the caller's are those of moss_step, and the states keep theirs. */
static void test_logits_go_where_the_caller_says(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL);
    MossState *states[] = {toy_state(model), toy_state(model), toy_state(model)};
    static const int32_t tokens[] = {1, 2, 3};
    uint64_t stride = moss_program_logits_stride(moss_model_program(model));
    _Alignas(64) float rows[4 * 16];
    assert_int_equal(stride, 16);
    MossSegment segments[] = {{.state = states[0], .tokens = tokens, .count = 3, .logits = MOSS_ALL_LOGITS},
                              {.state = states[1], .tokens = tokens, .count = 2, .logits = MOSS_LAST_LOGITS}};
    assert_int_equal(moss_step_into(model, segments, 2, rows + 1).code, MOSS_BAD_INPUT);
    assert_int_equal(moss_step_into(model, segments, 2, NULL).code, MOSS_BAD_INPUT);
    assert_int_equal(moss_state_position(states[0]), 0);
    assert_int_equal(moss_step_into(model, segments, 2, rows).code, MOSS_OK);
    assert_int_equal(moss_logits_count(model), 0);
    MossSegment again = {.state = states[2], .tokens = tokens, .count = 3, .logits = MOSS_ALL_LOGITS};
    assert_int_equal(moss_step(model, &again, 1).code, MOSS_OK);
    for (uint32_t i = 0; i < 3; i++) assert_memory_equal(rows + i * stride, moss_logits(model, i), TOY_VOCAB * sizeof *rows);
    assert_memory_equal(rows + 3 * stride, moss_logits(model, 1), TOY_VOCAB * sizeof *rows);
    assert_memory_equal(moss_state_logits(states[0]), rows + 2 * stride, TOY_VOCAB * sizeof *rows);
    assert_memory_equal(moss_state_logits(states[1]), rows + 3 * stride, TOY_VOCAB * sizeof *rows);
    again.logits = MOSS_NO_LOGITS;
    assert_int_equal(moss_step_into(model, &again, 1, NULL).code, MOSS_OK);
    for (int i = 0; i < 3; i++) moss_state_free(states[i]);
    moss_model_free(model);
}

/* A refused step writes nothing, reads nothing of the memory it was given, and leaves the logits that were there. */
static void test_a_refused_step_leaves_earlier_logits(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL), *other = toy_model(&toy, NULL);
    MossState *states[] = {toy_state(model), toy_state(model)}, *foreign = toy_state(other);
    static const int32_t good[64] = {1, 2, 3}, bad[] = {1, TOY_VOCAB};
    const MossSegment refused[] = {{.state = states[0], .tokens = bad, .count = 2, .logits = MOSS_LAST_LOGITS},
                                   {.state = states[0], .tokens = good, .count = 0, .logits = MOSS_LAST_LOGITS},
                                   {.state = foreign, .tokens = good, .count = 1, .logits = MOSS_LAST_LOGITS},
                                   {.state = NULL, .tokens = good, .count = 1, .logits = MOSS_LAST_LOGITS}};
    _Alignas(64) float rows[16];
    for (int generates = 0; generates < 2; generates++) {
        MossSegment segments[] = {{.state = states[0], .tokens = good, .count = 3, .logits = MOSS_LAST_LOGITS},
                                  {.state = states[1], .tokens = good, .count = 2, .logits = MOSS_LAST_LOGITS}};
        assert_int_equal(moss_step(model, segments, 2).code, MOSS_OK);
        if (generates) {
            MossSampler samplers[] = {sampler_of(1), sampler_of(2)};
            int32_t tokens[2][3];
            uint32_t done;
            MossSequence sequences[] = {{.state = states[0], .sampler = &samplers[0], .tokens = tokens[0]},
                                        {.state = states[1], .sampler = &samplers[1], .tokens = tokens[1]}};
            assert_int_equal(moss_generate(model, &vocabulary, sequences, 2, 3, &done).code, MOSS_OK);
        }
        float earlier[2][TOY_VOCAB];
        for (int s = 0; s < 2; s++) memcpy(earlier[s], moss_state_logits(states[s]), sizeof earlier[s]);
        uint32_t count = moss_logits_count(model);
        assert_int_equal(count, 2);
        for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
            const MossSegment with_other[] = {{.state = states[1], .tokens = good, .count = 1, .logits = MOSS_LAST_LOGITS},
                                              refused[i]};
            for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) rows[k] = -7;
            assert_int_equal(moss_step_into(model, &refused[i], 1, rows).code, MOSS_BAD_INPUT);
            assert_int_equal(moss_step_into(model, with_other, 2, rows).code, MOSS_BAD_INPUT);
            for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) assert_true(rows[k] == -7);
            assert_int_equal(moss_logits_count(model), count);
            for (int s = 0; s < 2; s++) assert_memory_equal(moss_state_logits(states[s]), earlier[s], sizeof earlier[s]);
        }
    }
    moss_state_free(foreign);
    for (int s = 0; s < 2; s++) moss_state_free(states[s]);
    moss_model_free(other);
    moss_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_are_those_of_picking_and_feeding),
        cmocka_unit_test(test_eos_ends_all_before_it_is_fed),
        cmocka_unit_test_prestate(test_eos_ends_all_before_it_is_fed, "several"),
        cmocka_unit_test(test_gaps_are_not_picked),
        cmocka_unit_test(test_what_cannot_go_on_is_refused),
        cmocka_unit_test(test_a_text_s_error_is_told_whoever_ends_it),
        cmocka_unit_test(test_a_text_token_by_token_is_the_same),
        cmocka_unit_test(test_logits_go_where_the_caller_says),
        cmocka_unit_test(test_a_refused_step_leaves_earlier_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
