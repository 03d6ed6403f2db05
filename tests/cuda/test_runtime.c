/* The runtime on the emulated GPU: states, steps of many sizes, non-finite values, models one after the other. */
#include "tests/runtime/files.h"

#include "case.h"
#include "runtime/cuda/gpu.h"

enum { SKIPPED = 77, T = 300 };

/* Every kind of block, with experts. */
static const char every_kind[] =
    "mossc: 1\nname: every-kind\nvocab_size: 64\nd_model: 32\n"
    "defaults: {ssm: {d_state: 4}, router: {top_k: 2}}\n"
    "stack:\n  - ssm: {experts: {count: 4, per_expert: [x_proj, dt_proj, A, D]}}\n"
    "  - mlp: {d_ff: 48, experts: {count: 4}}\n  - attention: {n_heads: 2, window: 8, rope: {theta: 1000}}\n";
static const char small[] = "mossc: 1\nname: small\nvocab_size: 64\nd_model: 16\ndefaults: {ssm: {d_state: 4}}\n"
                            "stack:\n  - ssm: {}\n  - mlp: {d_ff: 16}\n";

static MossDevice *device;
static Case every, little, narrow; /* of `every_kind`, `small`, and that in bf16 */

static MossModel *load(Case *c) {
    MossModel *model;
    assert_true(case_load(c, device, &model));
    return model;
}

static MossState *new_state(MossModel *model) {
    MossState *state;
    assert_int_equal(moss_state_create(model, &state).code, MOSS_OK);
    return state;
}

/* Feeds tokens up to `end` in steps of at most `chunk`, and looks at all logits. */
static void feed(Case *c, MossModel *model, MossState *state, int64_t end, int64_t chunk) {
    for (int64_t at = moss_state_position(state); at < end;) {
        int64_t n = end - at < chunk ? end - at : chunk;
        MossError error = moss_step(model, &(MossSegment){state, c->tokens[0] + at, (uint32_t)n, MOSS_ALL_LOGITS}, 1);
        if (error.code != MOSS_OK) fail_msg("%s", error.text);
        for (int64_t i = 0; i < n; i++) assert_true(case_near(c, "a step", 0, at + i, moss_logits(model, (uint32_t)i)));
        at += n;
    }
}

static size_t free_memory(void) {
    size_t available, whole;
    RtCuda *gpu = rt_cuda_of(device);
    assert_int_equal(gpu->driver.memory_info(&available, &whole), CU_OK);
    return available;
}

/* ---------------------------------------------------------------------------------------------- states */

static void test_a_clone_goes_on_alone(void **unused) {
    (void)unused;
    MossModel *model = load(&every);
    MossState *state = new_state(model), *copy;
    feed(&every, model, state, 30, 30);
    assert_int_equal(moss_state_clone(state, &copy).code, MOSS_OK);
    assert_memory_equal(moss_state_logits(copy), moss_state_logits(state), (size_t)every.V * sizeof(float));
    feed(&every, model, state, 60, 1);
    feed(&every, model, copy, 60, 7);
    moss_state_free(state);
    feed(&every, model, copy, 61, 1);
    moss_state_free(copy);
    moss_model_free(model);
}

static void test_a_file_holds_all_of_a_state(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "s.state");
    MossModel *model = load(&every);
    MossState *state = new_state(model), *loaded;
    feed(&every, model, state, 41, 41);
    assert_int_equal(moss_state_save(state, path).code, MOSS_OK);
    feed(&every, model, state, 50, 9);
    moss_state_free(state);
    assert_int_equal(moss_state_load(model, path, &loaded).code, MOSS_OK);
    assert_int_equal(moss_state_position(loaded), 41);
    assert_true(case_near(&every, "loaded", 0, 40, moss_state_logits(loaded)));
    feed(&every, model, loaded, 80, 1);
    moss_state_free(loaded);
    moss_model_free(model);
    directory_remove(&directory);
}

static void test_a_reset_state_begins_anew(void **unused) {
    (void)unused;
    MossModel *model = load(&every);
    MossState *state = new_state(model);
    feed(&every, model, state, 20, 20);
    moss_state_reset(state);
    assert_int_equal(moss_state_position(state), 0);
    feed(&every, model, state, 20, 3);
    moss_state_free(state);
    moss_model_free(model);
}

static void test_tokens_are_taken_back(void **unused) {
    (void)unused;
    MossModel *model = load(&every);
    MossState *state = new_state(model);
    const int32_t wrong[] = {1, 2, 3, 4};
    feed(&every, model, state, 25, 25);
    assert_int_equal(moss_state_checkpoint(state).code, MOSS_OK);
    feed(&every, model, state, 30, 1);
    assert_int_equal(moss_feed(model, state, wrong, 4, 0).code, MOSS_OK);
    assert_int_equal(moss_state_rewind(state, 4).code, MOSS_OK);
    assert_int_equal(moss_state_position(state), 30);
    assert_true(case_near(&every, "taken back", 0, 29, moss_state_logits(state)));
    feed(&every, model, state, 40, 10);
    assert_int_equal(moss_state_rewind(state, 15).code, MOSS_OK);
    feed(&every, model, state, 40, 4);
    moss_state_free(state);
    moss_model_free(model);
}

static void test_a_thousand_cycles_lose_no_memory(void **unused) {
    (void)unused;
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "s.state");
    MossModel *model = load(&little);
    MossState *state = new_state(model), *copy;
    feed(&little, model, state, 10, 10);
    size_t before = free_memory();
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(moss_state_clone(state, &copy).code, MOSS_OK);
        assert_int_equal(moss_state_checkpoint(copy).code, MOSS_OK);
        if (i % 10 == 0) assert_int_equal(moss_state_save(copy, path).code, MOSS_OK);
        moss_state_free(state);
        assert_int_equal(moss_state_load(model, path, &state).code, MOSS_OK);
        moss_state_free(copy);
    }
    assert_int_equal(free_memory(), before);
    feed(&little, model, state, 12, 1);
    moss_state_free(state);
    moss_model_free(model);
    directory_remove(&directory);
}

/* ---------------------------------------------------------------------------------------------- steps */

static void test_steps_of_many_sizes_follow_each_other(void **unused) {
    (void)unused;
    static const int64_t sizes[] = {1, 70, 2, 250, 70, 100, 64, 65, 300, 90, 1};
    MossModel *model = load(&every);
    MossState *state = new_state(model);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        moss_state_reset(state);
        feed(&every, model, state, sizes[i], sizes[i]);
    }
    moss_state_free(state);
    moss_model_free(model);
}

static void test_a_batch_gives_each_sequence_its_own(void **unused) {
    (void)unused;
    enum { N = 70 };
    MossModel *model = load(&every);
    MossSegment segments[N];
    for (uint32_t n = 3; n <= N; n += N - 3) { /* one launch, and several */
        for (uint32_t i = 0; i < n; i++) segments[i] = (MossSegment){new_state(model), NULL, 0, MOSS_LAST_LOGITS};
        for (int64_t at = 0; at < 3; at++) {
            for (uint32_t i = 0; i < n; i++) {
                int64_t from = moss_state_position(segments[i].state);
                segments[i].tokens = every.tokens[i % 2] + from;
                segments[i].count = at == 0 ? 1 + i % 3 : 1;
            }
            assert_int_equal(moss_step(model, segments, n).code, MOSS_OK);
            for (uint32_t i = 0; i < n; i++) {
                int64_t last = moss_state_position(segments[i].state) - 1;
                assert_true(case_near(&every, "a batch", (int)(i % 2), last, moss_logits(model, i)));
            }
        }
        for (uint32_t i = 0; i < n; i++) moss_state_free(segments[i].state);
    }
    moss_model_free(model);
}

static void test_many_sequences_are_continued_together(void **unused) {
    (void)unused;
    enum { N = 5, COUNT = 6 };
    MossModel *model = load(&every);
    MossVocabulary vocabulary = {.limit = every.V, .eos = -1};
    MossSampler samplers[N];
    MossSequence sequences[N];
    MossSegment segments[N];
    int32_t tokens[N][COUNT];
    uint32_t done;
    for (int i = 0; i < N; i++) {
        samplers[i] = (MossSampler){.temperature = i == 0 ? 0 : 0.8f, .top_k = 10 * i, .top_p = 0.95f, .state = (uint64_t)i};
        segments[i] = (MossSegment){new_state(model), every.tokens[0], (uint32_t)i + 1, MOSS_LAST_LOGITS};
        sequences[i] = (MossSequence){.state = segments[i].state, .sampler = &samplers[i], .tokens = tokens[i]};
    }
    assert_int_equal(moss_step(model, segments, N).code, MOSS_OK);
    assert_int_equal(moss_generate(model, &vocabulary, sequences, N, COUNT, &done).code, MOSS_OK);
    assert_int_equal(done, COUNT);
    for (int i = 0; i < N; i++) { /* the same one by one, on logits that are near: not on the border between two tokens */
        MossSampler sampler = {samplers[i].temperature, samplers[i].top_k, samplers[i].top_p, (uint64_t)i};
        MossState *alone = new_state(model);
        assert_int_equal(moss_feed(model, alone, every.tokens[0], (size_t)i + 1, 0).code, MOSS_OK);
        for (int t = 0; t < COUNT; t++) {
            int32_t token = moss_sample(&sampler, moss_state_logits(alone), every.V, every.V);
            assert_int_equal(token, tokens[i][t]);
            assert_int_equal(moss_feed(model, alone, &token, 1, 0).code, MOSS_OK);
        }
        assert_int_equal(sampler.state, samplers[i].state);
        moss_state_free(alone);
        moss_state_free(sequences[i].state);
    }
    moss_model_free(model);
}

static void test_logits_stay_where_nothing_was_fed(void **unused) {
    (void)unused;
    MossModel *model = load(&little);
    MossState *first = new_state(model), *copy, *other = new_state(model);
    MossSampler best[2] = {{.top_p = 1}, {.top_p = 1}};
    int32_t tokens[2][3];
    uint32_t done;
    feed(&little, model, first, 5, 5);
    assert_int_equal(moss_state_clone(first, &copy).code, MOSS_OK); /* has logits of its own */
    assert_int_equal(moss_feed(model, other, little.tokens[1], 7, 0).code, MOSS_OK); /* has the step's */
    MossVocabulary vocabulary = {.limit = little.V, .eos = moss_sample(&best[0], moss_state_logits(copy), little.V, little.V)};
    MossSequence both[] = {{.state = copy, .sampler = &best[0], .tokens = tokens[0]},
                           {.state = other, .sampler = &best[1], .tokens = tokens[1]}};
    assert_int_equal(moss_generate(model, &vocabulary, both, 2, 3, &done).code, MOSS_OK);
    assert_true(done == 0 && both[0].ended);
    assert_true(case_near(&little, "kept", 0, 4, moss_state_logits(copy)));
    assert_non_null(moss_state_logits(other));
    assert_true(case_near(&little, "kept", 1, 6, moss_state_logits(other)));
    vocabulary.eos = -1;
    assert_int_equal(moss_generate(model, &vocabulary, both + 1, 1, 3, &done).code, MOSS_OK);
    assert_int_equal(done, 3);
    moss_state_free(first);
    moss_state_free(copy);
    moss_state_free(other);
    moss_model_free(model);
}

/* ---------------------------------------------------------------------------------------------- non-finite values */

static const char routed_first[] =
    "mossc: 1\nname: routed-first\nvocab_size: 64\nd_model: 16\ndefaults: {ssm: {d_state: 4}}\n"
    "stack:\n  - ssm: {}\n  - mlp: {d_ff: 16, experts: {count: 4}, router: {top_k: 2}}\n  - ssm: {}\n";

static float *tensor_of(Case *c, const char *name) {
    for (size_t i = 0; i < c->weights.count; i++)
        if (strcmp(c->weights.tensors[i].name, name) == 0) return c->weights.drawn[i];
    fail_msg("there is no %s", name);
    return NULL;
}

/* Only one token has anything in the first component of its embedding, and nothing adds to it before the router, whose linear layer of it
 * overflows. */
static void make_nonfinite(Case *c, int32_t bad) {
    float *embedding = tensor_of(c, "embed.weight"), *added = tensor_of(c, "blocks.0.out_proj.weight");
    int64_t d = c->spec.d_model;
    for (int32_t token = 0; token < c->V; token++) embedding[token * d] = token == bad ? 3 : 0;
    for (int64_t i = 0; i < 2 * d; i++) added[i] = 0;
    tensor_of(c, "blocks.1.router.weight")[0] = 3e38f;
}

static void test_nonfinite_names_block_and_position(void **unused) {
    (void)unused;
    Case c;
    assert_true(case_make(&c, &(CaseWants){.seed = 5, .yaml = routed_first, .T = 80}));
    int32_t bad = (c.tokens[0][0] + 1) % (int32_t)c.V;
    while (bad == c.tokens[0][1] || bad == c.tokens[0][2]) bad = (bad + 1) % (int32_t)c.V;
    make_nonfinite(&c, bad);
    MossModel *model = load(&c);
    MossState *state = new_state(model);
    int32_t tokens[70] = {c.tokens[0][0], c.tokens[0][1], bad};
    for (uint32_t n = 3; n <= 70; n += 67) { /* one launch, and several */
        MossError error = moss_step(model, &(MossSegment){state, tokens, n, MOSS_LAST_LOGITS}, 1);
        assert_int_equal(error.code, MOSS_NON_FINITE);
        assert_non_null(strstr(error.text, "router of block 1"));
        assert_non_null(strstr(error.text, "position 2"));
        assert_int_equal(moss_step(model, &(MossSegment){state, tokens, 1, MOSS_LAST_LOGITS}, 1).code, MOSS_BAD_INPUT);
        moss_state_reset(state);
    }
    assert_int_equal(moss_feed(model, state, tokens, 2, 0).code, MOSS_OK); /* without that token all is well */
    moss_state_free(state);
    moss_model_free(model);
    case_free(&c);
}

/* ---------------------------------------------------------------------------------------------- models */

static void test_models_take_turns_on_one_gpu(void **unused) {
    (void)unused;
    size_t before = free_memory();
    for (int i = 0; i < 4; i++) {
        Case *c = i % 2 == 0 ? &every : &little;
        MossModel *model = load(c);
        MossState *state = new_state(model);
        feed(c, model, state, 80, 73);
        moss_state_free(state);
        moss_model_free(model);
        assert_int_equal(free_memory(), before);
    }
}

static void test_a_gpu_serves_one_model_at_a_time(void **unused) {
    (void)unused;
    MossModel *model = load(&every), *other = NULL;
    MossOptions options = {.size = sizeof options, .device = device};
    MossError error = moss_model_from_memory(every.program, NULL, weights_drawn, &every.weights, &options, &other);
    assert_int_equal(error.code, MOSS_DEVICE);
    assert_int_equal(moss_cuda_code(device, every.program, "none", 4).code, MOSS_DEVICE);
    MossState *state = new_state(model);
    feed(&every, model, state, 5, 5);
    moss_state_free(state);
    moss_model_free(model);
}

static void test_code_of_another_spec_is_refused(void **unused) {
    (void)unused;
    MossModel *model = load(&every), *other;
    moss_model_free(model);
    MossOptions options = {.size = sizeof options, .device = device};
    MossError error = moss_model_from_memory(little.program, NULL, weights_drawn, &little.weights, &options, &other);
    assert_int_equal(error.code, MOSS_DEVICE);
    assert_non_null(strstr(error.text, "no GPU module is loaded for 'small'"));
    assert_int_equal(moss_cuda_code(device, every.program, "this is no image for any GPU", 28).code, MOSS_DEVICE);
}

static void test_hidden_states_are_refused(void **unused) {
    (void)unused;
    MossModel *model = load(&little);
    MossState *state = new_state(model);
    MossError error = moss_model_keep_hidden(model, true);
    assert_int_equal(error.code, MOSS_DEVICE);
    assert_non_null(strstr(error.text, "not on device 'cuda'"));
    feed(&little, model, state, 9, 9);
    assert_null(moss_hidden(model, 0));
    moss_state_free(state);
    moss_model_free(model);
}

/* ---------------------------------------------------------------------------------------------- weights */

static CuResult (*true_launch)(CuFunctionRef, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CuStreamRef,
                               void **, void **);
static int launches_left;

static CuResult launch_some(CuFunctionRef function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz,
                            unsigned shared, CuStreamRef stream, void **params, void **extra) {
    if (launches_left-- <= 0) return (CuResult)999; /* CUDA_ERROR_UNKNOWN */
    return true_launch(function, x, y, z, bx, by, bz, shared, stream, params, extra);
}

/* The code's form of weights is changed to the host's and back where a file needs their identity: each of these launches fails. */
static void test_weights_that_do_not_come_back_are_lost(void **unused) {
    (void)unused;
    RtCuda *gpu = rt_cuda_of(device);
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "s.state");
    MossModel *model = load(&narrow);
    assert_non_null(gpu->code.arrange);
    MossState *state = new_state(model);
    feed(&narrow, model, state, 20, 20);
    true_launch = gpu->driver.launch;
    gpu->driver.launch = launch_some;
    launches_left = 0;
    assert_int_equal(moss_state_save(state, path).code, MOSS_DEVICE);
    gpu->driver.launch = true_launch;
    feed(&narrow, model, state, 40, 20); /* nothing had changed */
    gpu->driver.launch = launch_some;
    launches_left = 1;
    assert_int_equal(moss_state_save(state, path).code, MOSS_DEVICE);
    gpu->driver.launch = true_launch;
    const MossSegment next = {state, narrow.tokens[0] + 40, 1, MOSS_ALL_LOGITS};
    MossError error = moss_step(model, &next, 1);
    assert_int_equal(error.code, MOSS_DEVICE);
    assert_non_null(strstr(error.text, "weights on the GPU are lost"));
    moss_state_free(state);
    state = new_state(model);
    assert_int_equal(moss_state_save(state, path).code, MOSS_DEVICE);
    moss_state_free(state);
    moss_model_free(model);
    model = load(&narrow); /* the next one has its own */
    state = new_state(model);
    feed(&narrow, model, state, 40, 20);
    assert_int_equal(moss_state_save(state, path).code, MOSS_OK);
    feed(&narrow, model, state, 60, 20);
    moss_state_free(state);
    moss_model_free(model);
    directory_remove(&directory);
}

int main(void) {
    const char *compiler = getenv("MOSSC_CXX");
    if (compiler != NULL && compiler[0] == '\0') {
        printf("skipped: there is no C++ compiler for the emulated GPU\n");
        return SKIPPED;
    }
    MossError error = moss_cuda_open(0, &device);
    if (error.code != MOSS_OK || !case_make(&every, &(CaseWants){.seed = 3, .yaml = every_kind, .T = T}) ||
        !case_make(&little, &(CaseWants){.seed = 5, .yaml = small, .T = 90}) ||
        !case_make(&narrow, &(CaseWants){.seed = 7, .yaml = small, .set = "weights.dtype=bf16", .T = 90})) {
        printf("FAILED: %s\n", error.text);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_clone_goes_on_alone),
        cmocka_unit_test(test_a_file_holds_all_of_a_state),
        cmocka_unit_test(test_a_reset_state_begins_anew),
        cmocka_unit_test(test_tokens_are_taken_back),
        cmocka_unit_test(test_a_thousand_cycles_lose_no_memory),
        cmocka_unit_test(test_steps_of_many_sizes_follow_each_other),
        cmocka_unit_test(test_a_batch_gives_each_sequence_its_own),
        cmocka_unit_test(test_many_sequences_are_continued_together),
        cmocka_unit_test(test_logits_stay_where_nothing_was_fed),
        cmocka_unit_test(test_nonfinite_names_block_and_position),
        cmocka_unit_test(test_models_take_turns_on_one_gpu),
        cmocka_unit_test(test_a_gpu_serves_one_model_at_a_time),
        cmocka_unit_test(test_code_of_another_spec_is_refused),
        cmocka_unit_test(test_hidden_states_are_refused),
        cmocka_unit_test(test_weights_that_do_not_come_back_are_lost),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    case_free(&every);
    case_free(&little);
    case_free(&narrow);
    moss_device_free(device);
    return failed;
}
