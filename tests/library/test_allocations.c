/* No public function of moss.h and mossc.h traps or leaks when memory runs out, for one allocation or from one on: each returns
 * MOSS_NO_MEMORY, and the files that it writes are whole or not there.
 * test_allocations RUNS: at most RUNS values of n a scenario, evenly spread; 0: all. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "mossc/mossc.h"
#include "tests/failures/each_allocation.h"

static const char tiny[] = "mossc: 1\n"
                           "name: tiny\n"
                           "vocab_size: 256\n"
                           "d_model: 32\n"
                           "defaults: {ssm: {d_state: 4}, router: {top_k: 2}}\n"
                           "stack:\n"
                           "  - ssm: {experts: {count: 4, per_expert: [x_proj, dt_proj, A, D]}}\n"
                           "  - mlp: {d_ff: 48, experts: {count: 4}}\n"
                           "  - attention: {n_heads: 2, window: 8}\n";
static char directory[] = "/tmp/mossc-test-allocations-XXXXXX";
static char weights_path[64], written_path[64], state_path[64], generation_path[64];
static const char prompt[] = "It was a dark evening";

static const MosscCompileOptions options = {.size = sizeof options, .no_cache = true};
static const MossOptions one_thread = {.size = sizeof one_thread, .threads = 1};
static MosscSpec *spec;
static MosscCompiled *compiled;
static MossModel *model;
static MossTokenizer *tokenizer;
static MossState *fed;

static const char *path_in(char *room, const char *name) {
    snprintf(room, sizeof weights_path, "%s/%s", directory, name);
    return room;
}

/* A whole file of `size` bytes when it was written, and none otherwise. */
static void check_written(MossError error, const char *path, off_t size) {
    struct stat st;
    bool is = stat(path, &st) == 0;
    assert_int_equal(is, error.code == MOSS_OK);
    if (is) assert_int_equal(st.st_size, size);
    if (is) unlink(path);
}

static off_t size_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

/* ---- scenarios: each leaves nothing behind */

static MossError parse(void) {
    static const char *const sets[] = {"d_model=48"};
    MosscSpec *parsed;
    MosscDiags *diags = mossc_diags_create();
    if (!diags) return (MossError){.code = MOSS_NO_MEMORY};
    MossError error = mossc_spec_parse("tiny.yaml", tiny, sizeof tiny - 1, sets, 1, diags, &parsed);
    mossc_spec_free(parsed);
    mossc_diags_free(diags);
    return error;
}

/* The spec is wrong, and with memory is told so. */
static MossError parse_wrong(void) {
    static const char wrong[] = "mossc: 1\nname: tiny\nvocab_size: 256\nd_model: 32\nstak: []\n";
    MosscSpec *parsed;
    MosscDiags *diags = mossc_diags_create();
    if (!diags) return (MossError){.code = MOSS_NO_MEMORY};
    MossError error = mossc_spec_parse("wrong.yaml", wrong, sizeof wrong - 1, NULL, 0, diags, &parsed);
    assert_null(parsed);
    if (error.code == MOSS_BAD_SPEC) {
        assert_string_equal(mossc_diags_at(diags, 0).path, "wrong.yaml");
        error.code = MOSS_OK;
    }
    mossc_diags_free(diags);
    return error;
}

static MossError print(MosscForm form) {
    char *text;
    size_t size;
    MossError error = mossc_spec_print(spec, form, &text, &size);
    assert_int_equal(text != NULL, error.code == MOSS_OK);
    if (text) assert_int_equal(strlen(text), size);
    mossc_text_free(text);
    return error;
}

static MossError print_yaml(void) { return print(MOSSC_YAML); }

static MossError print_json(void) { return print(MOSSC_JSON); }

static MossError cost(void) {
    MosscSpec *parsed;
    MosscCost whole, block;
    MossError error = mossc_spec_parse("tiny.yaml", tiny, sizeof tiny - 1, NULL, 0, NULL, &parsed);
    if (error.code == MOSS_OK) error = mossc_spec_cost(parsed, 100, &whole, sizeof whole);
    if (error.code == MOSS_OK) error = mossc_spec_block_cost(parsed, 1, 50, &block, sizeof block);
    if (error.code == MOSS_OK) assert_true(block.flops > 0 && block.flops < whole.flops);
    mossc_spec_free(parsed);
    return error;
}

static MossError tensors(void) {
    MosscSpec *parsed;
    MosscTensor last;
    int64_t count = 0;
    MossError error = mossc_spec_parse("tiny.yaml", tiny, sizeof tiny - 1, NULL, 0, NULL, &parsed);
    if (error.code == MOSS_OK) error = mossc_spec_n_tensors(parsed, &count);
    assert_int_equal(count > 0, error.code == MOSS_OK);
    if (error.code == MOSS_OK) error = mossc_spec_tensor(parsed, count - 1, &last, sizeof last);
    mossc_spec_free(parsed);
    return error;
}

static MossError compile(void) {
    MosscCompiled *made;
    MossError error = mossc_compile(spec, &options, NULL, &made);
    mossc_compiled_free(made);
    return error;
}

static MossError open_tokenizer(void) {
    MossTokenizer *opened;
    MossError error = mossc_tokenizer_open(spec, NULL, &opened);
    moss_tokenizer_free(opened);
    return error;
}

static MossError write_fresh(void) {
    MosscSpec *parsed;
    MossError error = mossc_spec_parse("tiny.yaml", tiny, sizeof tiny - 1, NULL, 0, NULL, &parsed);
    if (error.code == MOSS_OK) {
        error = mossc_fresh_write(parsed, 7, written_path, NULL, NULL, NULL);
        check_written(error, written_path, size_of(weights_path));
    }
    mossc_spec_free(parsed);
    return error;
}

static MossError model_fresh(void) {
    MossModel *made;
    MosscDiags *diags = mossc_diags_create();
    if (!diags) return (MossError){.code = MOSS_NO_MEMORY};
    MossError error = mossc_model_fresh(compiled, 7, &one_thread, diags, &made);
    moss_model_free(made);
    mossc_diags_free(diags);
    return error;
}

static MossError model_open(void) {
    const char *path = weights_path;
    MossModel *made;
    MosscDiags *diags = mossc_diags_create();
    if (!diags) return (MossError){.code = MOSS_NO_MEMORY};
    MossError error = mossc_model_open(compiled, &path, 1, &one_thread, diags, &made);
    moss_model_free(made);
    mossc_diags_free(diags);
    return error;
}

/* Packs, checks, and opens the packed file by its directory, as an artefact's is. */
static MossError pack(void) {
    const char *path = weights_path;
    char packed[64];
    const MossProgram *program = mossc_compiled_program(compiled);
    MossModel *opened = NULL;
    path_in(packed, "tiny.weights");
    MossError error = moss_weights_pack(program, &path, 1, &one_thread, packed);
    assert_int_equal(access(packed, F_OK) == 0, error.code == MOSS_OK);
    if (error.code == MOSS_OK) error = moss_weights_verify(program, packed, &one_thread);
    if (error.code == MOSS_OK) {
        MossOptions device = one_thread;
        error = moss_model_load(program, NULL, (const char *const[]){packed}, 1, &device, &opened);
        assert_true(error.code == MOSS_BAD_INPUT || error.code == MOSS_NO_MEMORY); /* the kernels are not given */
        if (error.code == MOSS_BAD_INPUT) error = moss_artefact_open(program, NULL, directory, &device, &opened);
        if (error.code == MOSS_BAD_INPUT) error.code = MOSS_OK;
    }
    moss_model_free(opened);
    unlink(packed);
    return error;
}

static bool count_text(void *context, int32_t token, const char *text, size_t size) {
    (void)token, (void)text;
    *(size_t *)context += size;
    return true;
}

static MossError text(void) {
    MossState *state = NULL;
    MossTokens ids = {0};
    MossSampler sampler = {.temperature = 1, .top_p = 1, .state = 1};
    size_t told = 0;
    MossError error = moss_encode(tokenizer, prompt, sizeof prompt - 1, &ids);
    if (error.code == MOSS_OK) error = moss_state_create(model, &state);
    if (error.code == MOSS_OK) error = moss_feed(model, state, ids.ids, ids.count, 4);
    if (error.code == MOSS_OK) error = moss_state_checkpoint(state);
    if (error.code == MOSS_OK) error = moss_complete(model, state, tokenizer, &sampler, 6, count_text, &told, NULL);
    if (error.code == MOSS_OK) error = moss_state_rewind(state, 2);
    moss_tokens_free(&ids);
    moss_state_free(state);
    return error;
}

/* The same token by token, with a text that ends it, and the logits in memory of this test's. */
static MossError writing(void) {
    static _Alignas(64) float rows[sizeof prompt][256];
    static int32_t ids[sizeof prompt];
    MossState *state = NULL;
    MossWriting *made = NULL;
    MossPiece piece;
    MossSampler sampler = {.temperature = 1, .top_p = 1, .state = 1};
    const char *stops[] = {"no such text"};
    MossCompletion completion = {.size = sizeof completion, .count = 6, .stops = stops, .n_stops = 1};
    bool more = true;
    for (size_t i = 0; i < sizeof prompt - 1; i++) ids[i] = prompt[i];
    MossError error = moss_state_create(model, &state);
    MossSegment segment = {.state = state, .tokens = ids, .count = sizeof prompt - 1, .logits = MOSS_ALL_LOGITS};
    if (error.code == MOSS_OK) error = moss_step_into(model, &segment, 1, rows[0]);
    if (error.code == MOSS_OK) error = moss_writing_begin(model, state, tokenizer, &sampler, &completion, &made);
    while (error.code == MOSS_OK && more) error = moss_writing_next(made, &piece, &more);
    moss_writing_free(made);
    moss_state_free(state);
    return error;
}

static MossError score(void) {
    static const int32_t tokens[] = {72, 101, 108, 108, 111};
    double logprobs[5];
    int32_t best[5];
    MossState *state;
    MossError error = moss_state_create(model, &state);
    if (error.code == MOSS_OK) error = mossc_score(model, state, tokens, 5, logprobs, best);
    if (error.code == MOSS_OK) assert_true(isnan(logprobs[0]) && best[0] == -1 && logprobs[4] < 0 && best[4] >= 0);
    moss_state_free(state);
    return error;
}

static MossError token_texts(void) {
    MossTokens ids = {0};
    char room[2];
    size_t size;
    MossError error = moss_encode_part(tokenizer, prompt, sizeof prompt - 1, true, &ids);
    if (error.code == MOSS_OK) error = moss_token_bytes(tokenizer, 'x', room, sizeof room, &size);
    if (error.code == MOSS_OK) assert_true(size == 1 && room[0] == 'x' && ids.count == sizeof prompt - 1);
    moss_tokens_free(&ids);
    return error;
}

static const float *look_up(void *context, const char *name) {
    (void)name;
    return context;
}

static MossError model_from_memory(void) {
    static float elements[256 * 64]; /* all zero; more than any tensor has */
    MossModel *made;
    const MossProgram *program = mossc_compiled_program(compiled);
    for (uint32_t i = 0; i < moss_program_tensors(program); i++) {
        MossTensor t = moss_program_tensor(program, i);
        int64_t size = 1;
        for (int32_t d = 0; d < t.rank; d++) size *= t.shape[d];
        assert_true(size <= 256 * 64);
    }
    MossError error = mossc_model_from_memory(compiled, look_up, elements, &one_thread, NULL, &made);
    moss_model_free(made);
    return error;
}

static MossError generation(void) {
    const MosscGeneration *made;
    char spec_path[64];
    MosscDiags *diags = mossc_diags_create();
    if (!diags) return (MossError){.code = MOSS_NO_MEMORY};
    MossError error = mossc_generation_open(path_in(spec_path, "spec.yaml"), diags, &made);
    if (error.code == MOSS_OK)
        assert_true(made->top_k == 7 && made->temperature == 0.8 && made->n_stops == 2 && made->stops[1] == 6 &&
                    made->chat_template);
    mossc_generation_free(made);
    mossc_diags_free(diags);
    return error;
}

static MossError stream(void) {
    MossStream *made;
    MossError error = moss_stream_create(tokenizer, &made);
    size_t size;
    for (size_t i = 0; i < sizeof prompt - 1 && error.code == MOSS_OK; i++)
        if (!moss_stream_add(made, prompt[i], &size)) error.code = MOSS_NO_MEMORY;
    if (error.code == MOSS_OK && !moss_stream_end(made, &size)) error.code = MOSS_NO_MEMORY;
    moss_stream_free(made);
    return error;
}

static MossError save_state(void) {
    MossError error = moss_state_save(fed, written_path);
    static off_t size; /* of the first one, which no failure touched */
    if (error.code == MOSS_OK && size == 0) size = size_of(written_path);
    check_written(error, written_path, size);
    return error;
}

static MossError load_state(void) {
    MossState *state;
    MossError error = moss_state_load(model, state_path, &state);
    moss_state_free(state);
    return error;
}

#define EACH(name)                                                                                                                 \
    static void test_##name(void **state) {                                                                                        \
        (void)state;                                                                                                               \
        for_ever = false;                                                                                                          \
        fail_each(name);                                                                                                           \
        for_ever = true;                                                                                                           \
        fail_each(name);                                                                                                           \
    }
EACH(parse)
EACH(parse_wrong)
EACH(print_yaml)
EACH(print_json)
EACH(tensors)
EACH(cost)
EACH(compile)
EACH(open_tokenizer)
EACH(write_fresh)
EACH(model_fresh)
EACH(model_open)
EACH(pack)
EACH(text)
EACH(writing)
EACH(score)
EACH(token_texts)
EACH(model_from_memory)
EACH(generation)
EACH(stream)
EACH(save_state)
EACH(load_state)

/* ---- versions of the options */

static MossCode code_with(const void *given) {
    MossModel *made;
    MossCode code = mossc_model_fresh(compiled, 7, given, NULL, &made).code;
    const char *path = weights_path;
    moss_model_free(made);
    assert_int_equal(mossc_model_open(compiled, &path, 1, given, NULL, &made).code, code);
    moss_model_free(made);
    assert_int_equal(moss_weights_pack(mossc_compiled_program(compiled), &path, 1, given, written_path).code, code);
    unlink(written_path);
    return code;
}

static void test_options_of_other_versions(void **state) {
    (void)state;
    struct {
        MossOptions known;
        uint64_t later;
    } o = {.known = {.size = sizeof o, .threads = 1}};
    assert_int_equal(code_with(&o), MOSS_OK);
    o.later = 1;
    assert_int_equal(code_with(&o), MOSS_BAD_INPUT);
    o.known.size = 0;
    assert_int_equal(code_with(&o), MOSS_BAD_INPUT);
    o.known.size = offsetof(MossOptions, no_pin); /* an earlier version: what follows is not read */
    o.known.arena = (void *)8, o.known.arena_bytes = 1 << 30;
    assert_int_equal(code_with(&o), MOSS_OK);
}

static MossCode code_of_compiling(const void *given) {
    MosscCompiled *made;
    MossCode code = mossc_compile(spec, given, NULL, &made).code;
    assert_int_equal(made != NULL, code == MOSS_OK);
    mossc_compiled_free(made);
    return code;
}

static void test_options_of_compiling_of_other_versions(void **state) {
    (void)state;
    struct {
        MosscCompileOptions known;
        uint64_t later;
    } o = {.known = {.size = sizeof o, .no_cache = true}};
    assert_int_equal(code_of_compiling(&o), MOSS_OK);
    o.later = 1;
    assert_int_equal(code_of_compiling(&o), MOSS_BAD_INPUT);
    o.known.size = 0;
    assert_int_equal(code_of_compiling(&o), MOSS_BAD_INPUT);
    o.known.size = offsetof(MosscCompileOptions, cache_directory); /* an earlier version: what follows is not read */
    o.known.cache_directory = (const char *)8;
    assert_int_equal(code_of_compiling(&o), MOSS_OK);
}

static int prepare(void **state) {
    (void)state;
    if (!mkdtemp(directory)) return -1;
    path_in(weights_path, "w");
    path_in(written_path, "written");
    path_in(state_path, "state");
    path_in(generation_path, "generation.yaml");
    FILE *file = fopen(generation_path, "w");
    if (!file || fputs("top_k: 7\nstop: [5, 6]\nchat_template: \"{{ messages }}\"\n", file) < 0 || fclose(file) != 0) return -1;
    const char *path = weights_path;
    static const int32_t tokens[] = {72, 101, 108, 108, 111};
    return mossc_spec_parse("tiny.yaml", tiny, sizeof tiny - 1, NULL, 0, NULL, &spec).code == MOSS_OK &&
                   mossc_fresh_write(spec, 7, weights_path, NULL, NULL, NULL).code == MOSS_OK &&
                   mossc_compile(spec, &options, NULL, &compiled).code == MOSS_OK &&
                   mossc_tokenizer_open(spec, NULL, &tokenizer).code == MOSS_OK &&
                   mossc_model_open(compiled, &path, 1, &one_thread, NULL, &model).code == MOSS_OK &&
                   moss_state_create(model, &fed).code == MOSS_OK && moss_feed(model, fed, tokens, 5, 0).code == MOSS_OK &&
                   moss_state_save(fed, state_path).code == MOSS_OK
               ? 0
               : -1;
}

static int finish(void **state) {
    (void)state;
    moss_state_free(fed);
    moss_model_free(model);
    moss_tokenizer_free(tokenizer);
    mossc_compiled_free(compiled);
    mossc_spec_free(spec);
    unlink(weights_path);
    unlink(state_path);
    unlink(generation_path);
    mossc_shutdown();
    return rmdir(directory) != 0 || live != 0; /* no file of a failed write is left */
}

int main(int argc, char **argv) {
    runs = argc > 1 ? atol(argv[1]) : 16;
    su_set_allocator(&hook);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_parse_wrong),
        cmocka_unit_test(test_print_yaml),
        cmocka_unit_test(test_print_json),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_open_tokenizer),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_writing),
        cmocka_unit_test(test_score),
        cmocka_unit_test(test_token_texts),
        cmocka_unit_test(test_model_from_memory),
        cmocka_unit_test(test_generation),
        cmocka_unit_test(test_save_state),
        cmocka_unit_test(test_load_state),
        cmocka_unit_test(test_write_fresh),
        cmocka_unit_test(test_model_fresh),
        cmocka_unit_test(test_model_open),
        cmocka_unit_test(test_pack),
        cmocka_unit_test(test_compile),
        cmocka_unit_test(test_options_of_other_versions),
        cmocka_unit_test(test_options_of_compiling_of_other_versions),
    };
    return cmocka_run_group_tests_name("allocations", tests, prepare, finish);
}
