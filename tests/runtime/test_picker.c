/* Pickers: each step alone, their order, what is taken back; texts that end a text; moss_generate with pickers. */
#include "tests/runtime/toy.h"

#include <math.h>

#include "runtime/stops.h"

enum { V = 8 };

static MossPicker *make(MossPicking picking) {
    MossPicker *picker;
    picking.size = sizeof picking;
    MossError error = moss_picker_create(&picking, V, &picker);
    if (error.code != MOSS_OK) fail_msg("%s", error.text);
    return picker;
}

static int32_t greedy(MossPicker *picker, const float *logits) {
    MossSampler sampler = {.top_p = 1};
    return moss_pick(picker, &sampler, logits, V, V);
}

static const float rising[V] = {-3, -2, -1, 0, 1, 2, 3, 4};

static void test_nothing_asked_is_moss_sample(void **unused) {
    (void)unused;
    MossPicker *picker = make((MossPicking){0});
    MossSampler a = {.temperature = 2, .top_k = 5, .top_p = 0.9f, .state = 7}, b = a;
    for (int i = 0; i < 100; i++) assert_int_equal(moss_pick(picker, &a, rising, V, V), moss_sample(&b, rising, V, V));
    moss_picker_free(picker);
}

static void test_biases_are_added_and_forbid(void **unused) {
    (void)unused;
    const MossBias biases[] = {{7, -INFINITY}, {2, 5}};
    MossPicker *picker = make((MossPicking){.biases = biases, .n_biases = 2});
    assert_int_equal(greedy(picker, rising), 2);
    const float low[V] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, 0};
    assert_int_equal(greedy(picker, low), 0); /* not the forbidden one, though it alone is possible */
    moss_picker_free(picker);
}

static void test_min_p_leaves_out_the_improbable(void **unused) {
    (void)unused;
    MossSampler sampler = {.temperature = 1, .top_p = 1, .state = 3};
    bool seen[V] = {0};
    MossPicker *picker = make((MossPicking){.min_p = 0.1f}); /* e^-2 = 0.135, e^-3 = 0.0498 */
    for (int i = 0; i < 2000; i++) seen[moss_pick(picker, &sampler, rising, V, V)] = true;
    for (int id = 0; id < V; id++) assert_int_equal(seen[id], id >= 5);
    moss_picker_free(picker);
}

static void test_penalties_are_llama_cpp_s(void **unused) {
    (void)unused;
    const float near[V] = {-1, -1.5f, 0, 0, 0, 0, 3.9f, 4};
    MossPicker *picker = make((MossPicking){.repeat_penalty = 1.1f});
    assert_int_equal(greedy(picker, near), 7);
    moss_picker_feed(picker, (const int32_t[]){7}, 1);
    assert_int_equal(greedy(picker, near), 6); /* 4 / 1.1 = 3.64 */
    const float negative[V] = {-4, -4.1f, -9, -9, -9, -9, -9, -3.9f};
    assert_int_equal(greedy(picker, negative), 0); /* -3.9 · 1.1 = -4.29 */
    moss_picker_free(picker);
    picker = make((MossPicking){.frequency_penalty = 0.3f, .presence_penalty = 0.5f});
    moss_picker_feed(picker, (const int32_t[]){7, 7}, 2); /* 4 - 2 · 0.3 - 0.5 = 2.9 */
    const float steps[V] = {0, 0, 0, 0, 0, 2.8f, 2.95f, 4};
    assert_int_equal(greedy(picker, steps), 6);
    moss_picker_feed(picker, (const int32_t[]){6}, 1); /* 2.95 - 0.8 = 2.15 */
    assert_int_equal(greedy(picker, steps), 7);
    moss_picker_free(picker);
}

static void test_penalties_see_a_window_and_forget_what_is_taken_back(void **unused) {
    (void)unused;
    MossPicker *picker = make((MossPicking){.presence_penalty = 10, .penalty_window = 2});
    moss_picker_feed(picker, (const int32_t[]){7, 6, 5}, 3); /* the window: 6, 5 */
    assert_int_equal(greedy(picker, rising), 7);
    moss_picker_rewind(picker, 1); /* 7, 6 */
    assert_int_equal(greedy(picker, rising), 5);
    moss_picker_rewind(picker, 2);
    assert_int_equal(greedy(picker, rising), 7);
    moss_picker_rewind(picker, 9); /* more than there are */
    assert_int_equal(greedy(picker, rising), 7);
    moss_picker_free(picker);
    picker = make((MossPicking){.presence_penalty = 10, .penalty_window = -1});
    moss_picker_feed(picker, (const int32_t[]){7}, 1);
    for (int i = 0; i < 500; i++) moss_picker_feed(picker, (const int32_t[]){6}, 1);
    assert_int_equal(greedy(picker, rising), 5);
    moss_picker_free(picker);
}

/* A mask of one token at a time, in turn. */
typedef struct Grammar {
    int32_t next, most;
    int committed, rolled_back;
} Grammar;

static bool allow(void *context, uint32_t *bits, int64_t limit) {
    Grammar *g = context;
    if (g->next == g->most) return false;
    assert_true(limit > g->next);
    bits[g->next / 32] |= 1u << (g->next % 32);
    return true;
}

static void commit(void *context, int32_t token) {
    Grammar *g = context;
    assert_int_equal(token, g->next);
    g->next++;
    g->committed++;
}

static void rollback(void *context, uint32_t count) {
    Grammar *g = context;
    g->next -= (int32_t)count;
    g->rolled_back += (int)count;
}

static void test_a_mask_allows_and_ends(void **unused) {
    (void)unused;
    Grammar g = {.most = 2};
    MossPicker *picker = make((MossPicking){.allow = allow, .commit = commit, .rollback = rollback, .context = &g});
    moss_picker_feed(picker, (const int32_t[]){5, 6}, 2); /* a prompt: not the grammar's */
    assert_int_equal(g.committed, 0);
    assert_int_equal(greedy(picker, rising), 0);
    moss_picker_commit(picker, 0);
    assert_int_equal(greedy(picker, rising), 1);
    moss_picker_commit(picker, 1);
    assert_int_equal(greedy(picker, rising), MOSS_NO_MORE);
    moss_picker_rewind(picker, 3); /* two of them were committed */
    assert_int_equal(g.rolled_back, 2);
    assert_int_equal(greedy(picker, rising), 0);
    const float none[V] = {NAN, 1, 1, 1, 1, 1, 1, 1};
    assert_int_equal(greedy(picker, none), MOSS_NO_TOKEN);
    moss_picker_free(picker);
}

static void test_logprobs_are_the_model_s(void **unused) {
    (void)unused;
    const MossBias biases[] = {{0, 100}};
    MossPicker *picker = make((MossPicking){.biases = biases, .n_biases = 1, .logprobs = 3});
    float logits[V];
    double sum = 0;
    memcpy(logits, rising, sizeof logits);
    logits[6] = NAN; /* a gap */
    assert_int_equal(greedy(picker, logits), 0);
    uint32_t count;
    const MossLogprob *list = moss_picker_logprobs(picker, &count);
    for (int i = 0; i < V; i++) sum += i == 6 ? 0 : exp((double)logits[i]);
    static const int32_t wanted[] = {0, 7, 5, 4};
    assert_int_equal(count, 4);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(list[i].token, wanted[i]);
        assert_true(fabs((double)list[i].logprob - ((double)logits[wanted[i]] - log(sum))) < 1e-5);
    }
    moss_picker_free(picker);
}

static void test_wrong_values_are_refused(void **unused) {
    (void)unused;
    const MossBias outside = {V, 1}, certain = {1, INFINITY};
    const MossPicking wrong[] = {{.size = 0},
                                 {.size = sizeof(MossPicking), .min_p = -1},
                                 {.size = sizeof(MossPicking), .repeat_penalty = NAN},
                                 {.size = sizeof(MossPicking), .penalty_window = -2},
                                 {.size = sizeof(MossPicking), .biases = &outside, .n_biases = 1},
                                 {.size = sizeof(MossPicking), .biases = &certain, .n_biases = 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        MossPicker *picker;
        assert_int_equal(moss_picker_create(&wrong[i], V, &picker).code, MOSS_BAD_INPUT);
        assert_null(picker);
    }
}

/* ---- with a model */

static void test_generating_commits_what_was_fed(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    toy_feed(model, state, 4, 0);
    Grammar g = {.most = 5};
    MossPicking picking = {.size = sizeof picking, .allow = allow, .commit = commit, .context = &g};
    MossPicker *picker;
    assert_int_equal(moss_picker_create(&picking, TOY_VOCAB, &picker).code, MOSS_OK);
    MossSampler sampler = {.top_p = 1};
    int32_t tokens[9];
    const MossVocabulary vocabulary = {.limit = TOY_VOCAB - 1, .eos = -1};
    MossSequence sequence = {.state = state, .sampler = &sampler, .tokens = tokens};
    uint32_t done;
    assert_int_equal(moss_generate_picked(model, &vocabulary, &sequence, &picker, 1, 9, &done).code, MOSS_OK);
    assert_int_equal(done, 5);
    assert_int_equal(g.committed, 5);
    assert_true(sequence.ended);
    assert_int_equal(moss_state_position(state), 9);
    for (int i = 0; i < 5; i++) assert_int_equal(tokens[i], i);
    moss_picker_free(picker);
    moss_state_free(state);
    moss_model_free(model);
}

static void test_logprobs_see_what_is_never_picked(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    toy_feed(model, state, 4, 0);
    MossPicking picking = {.size = sizeof picking, .logprobs = 2};
    MossPicker *picker;
    assert_int_equal(moss_picker_create(&picking, TOY_VOCAB, &picker).code, MOSS_OK);
    const float *logits = moss_state_logits(state);
    double sum = 0;
    for (int i = 0; i < TOY_VOCAB; i++) sum += exp((double)(logits[i] - logits[TOY_VOCAB - 1]));
    MossSampler sampler = {.top_p = 1};
    int32_t token;
    const uint32_t gaps = 1u << (TOY_VOCAB - 1);
    const MossVocabulary vocabulary = {.limit = TOY_VOCAB, .eos = -1, .gaps = &gaps};
    MossSequence sequence = {.state = state, .sampler = &sampler, .tokens = &token};
    uint32_t done, count;
    assert_int_equal(moss_generate_picked(model, &vocabulary, &sequence, &picker, 1, 1, &done).code, MOSS_OK);
    assert_int_equal(token, TOY_VOCAB - 2);
    const MossLogprob *list = moss_picker_logprobs(picker, &count);
    assert_int_equal(count, 3);
    assert_int_equal(list[0].token, TOY_VOCAB - 2);
    assert_int_equal(list[1].token, TOY_VOCAB - 1);
    assert_true(fabs((double)list[0].logprob - (-1 - log(sum))) < 1e-5); /* logits rise by 1 */
    assert_true(fabs((double)list[1].logprob - -log(sum)) < 1e-5);
    moss_picker_free(picker);
    moss_state_free(state);
    moss_model_free(model);
}

/* ---- texts that end */

static void expect_stopped(const char *const *stops, size_t n, const char *const *pieces, const char *wanted, bool found) {
    RtStops s = {.texts = stops, .count = n};
    char out[256] = "";
    bool stopped = false;
    for (size_t i = 0; pieces[i] && !stopped; i++) {
        const char *text = pieces[i];
        size_t size = strlen(text);
        assert_true(rt_stops_add(&s, &text, &size, &stopped));
        assert_int_equal(text[size], '\0');
        strcat(out, text);
    }
    size_t rest;
    const char *held = rt_stops_rest(&s, &rest);
    if (!stopped) strncat(out, held, rest);
    assert_string_equal(out, wanted);
    assert_int_equal(stopped, found);
    rt_stops_free(&s);
}

static void test_stops_are_found_across_pieces(void **unused) {
    (void)unused;
    const char *const stops[] = {"END", "\n\n", "aab"};
    expect_stopped(stops, 3, (const char *const[]){"one ", "E", "N", "D", " two", NULL}, "one ", true);
    expect_stopped(stops, 3, (const char *const[]){"E", "N", "EN", "X", NULL}, "ENENX", false);
    expect_stopped(stops, 3, (const char *const[]){"x\n", "\ny", NULL}, "x", true);
    expect_stopped(stops, 3, (const char *const[]){"a", "a", "a", "b", NULL}, "a", true);
    expect_stopped(stops, 3, (const char *const[]){"text EN", NULL}, "text EN", false);
    expect_stopped(stops, 3, (const char *const[]){"", "END", NULL}, "", true);
}

static void test_the_stop_that_is_whole_first_counts(void **unused) {
    (void)unused;
    const char *const stops[] = {"abcd", "bc"};
    expect_stopped(stops, 2, (const char *const[]){"xabc", NULL}, "xa", true);
    expect_stopped(stops, 2, (const char *const[]){"xabcd", NULL}, "xa", true); /* whatever the pieces */
    expect_stopped(stops, 2, (const char *const[]){"ab", "cd", NULL}, "a", true);
    expect_stopped(stops, 2, (const char *const[]){"ab", "d", "ab", NULL}, "abdab", false);
    const char *const nested[] = {"c", "abc", "bc", "abc"}; /* of those that end together the longest, of equal ones the first */
    expect_stopped(nested, 4, (const char *const[]){"xabc", NULL}, "x", true);
    RtStops s = {.texts = nested, .count = 4};
    const char *text = "xabc";
    size_t size = 4;
    bool found;
    assert_true(rt_stops_add(&s, &text, &size, &found) && found);
    assert_int_equal(s.found, 1);
    rt_stops_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_asked_is_moss_sample),
        cmocka_unit_test(test_biases_are_added_and_forbid),
        cmocka_unit_test(test_min_p_leaves_out_the_improbable),
        cmocka_unit_test(test_penalties_are_llama_cpp_s),
        cmocka_unit_test(test_penalties_see_a_window_and_forget_what_is_taken_back),
        cmocka_unit_test(test_a_mask_allows_and_ends),
        cmocka_unit_test(test_logprobs_are_the_model_s),
        cmocka_unit_test(test_wrong_values_are_refused),
        cmocka_unit_test(test_generating_commits_what_was_fed),
        cmocka_unit_test(test_logprobs_see_what_is_never_picked),
        cmocka_unit_test(test_stops_are_found_across_pieces),
        cmocka_unit_test(test_the_stop_that_is_whole_first_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
