/* The n-th allocation fails, for every n: each time an error is found, nothing stays allocated, and no file is half written.
 * test_no_memory RUNS: at most RUNS values of n a scenario, evenly spread; 0: all. */
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

#include "explore/space.h"
#include "mossc/mossc.h"
#include "runtime/tokenizer.h"
#include "tests/failures/each_allocation.h"
#include "tokenizer/bpe.h"

/* ---- scenarios: each leaves nothing behind, whether it succeeds or not */

static const char spec_path[] = "specs/moss-tiny.yaml", weights[] = "models/moss-tiny.safetensors";
static char state_path[] = "/tmp/mossc-test-no-memory-XXXXXX/state";
static MosscSpec *spec;
static MosscCompiled *compiled;
static MossModel *model;
static const int32_t tokens[] = {72, 101, 108, 108, 111};

static MossError check(void) {
    MosscSpec *opened;
    MossError error = mossc_spec_open(spec_path, NULL, 0, NULL, &opened);
    mossc_spec_free(opened);
    return error;
}

static MossError compile(void) {
    MosscCompileOptions options = {.size = sizeof options, .no_cache = true};
    MosscCompiled *made;
    MossError error = mossc_compile(spec, &options, NULL, &made);
    mossc_compiled_free(made);
    return error;
}

static MossError load(void) {
    const char *path = weights;
    MossModel *loaded;
    MossError error =
        mossc_model_open(compiled, &path, 1, &(MossOptions){.size = sizeof(MossOptions), .threads = 2}, NULL, &loaded);
    moss_model_free(loaded);
    return error;
}

static char index_path[sizeof state_path];

static MossError load_by_index(void) {
    const char *path = index_path;
    MossModel *loaded;
    MossError error =
        mossc_model_open(compiled, &path, 1, &(MossOptions){.size = sizeof(MossOptions), .threads = 2}, NULL, &loaded);
    moss_model_free(loaded);
    return error;
}

/* Whether the checkpoint is still mapped. */
static bool is_mapped(void) {
    char line[1024];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    while (fgets(line, sizeof line, maps)) found = found || strstr(line, weights);
    fclose(maps);
    return found;
}

static MossError step(void) {
    MossState *state, *copy = NULL;
    MossError error = moss_state_create(model, &state);
    if (error.code == MOSS_OK) error = moss_feed(model, state, tokens, 5, 0);
    if (error.code == MOSS_OK) error = moss_state_clone(state, &copy);
    moss_state_free(copy);
    moss_state_free(state);
    return error;
}

static MossState *fed;

static MossError save(void) {
    struct stat st;
    MossError error = moss_state_save(fed, state_path);
    assert_int_equal(stat(state_path, &st) == 0, error.code == MOSS_OK);
    if (error.code == MOSS_OK) unlink(state_path);
    return error;
}

static MossError load_state(void) {
    MossState *state;
    MossError error = moss_state_load(model, state_path, &state);
    moss_state_free(state);
    return error;
}

static MossError generate(void) {
    MossState *state = NULL;
    MossTokenizer *tokenizer = NULL;
    MossTokens ids = {0};
    MossSampler sampler = {.temperature = 1, .top_k = 0, .top_p = 1, .state = 1};
    int32_t out[4];
    uint32_t count;
    MossError error = moss_tokenizer_bytes(256, -1, -1, &tokenizer);
    if (error.code == MOSS_OK) error = moss_encode(tokenizer, "It was a dark evening", 21, &ids);
    if (error.code == MOSS_OK) error = moss_state_create(model, &state);
    if (error.code == MOSS_OK) error = moss_feed(model, state, ids.ids, ids.count, 0);
    MossSequence sequence = {.state = state, .sampler = &sampler, .tokens = out};
    MossVocabulary vocabulary = {.limit = 256, .eos = -1};
    if (error.code == MOSS_OK) error = moss_generate(model, &vocabulary, &sequence, 1, 4, &count);
    moss_tokens_free(&ids);
    moss_state_free(state);
    moss_tokenizer_free(tokenizer);
    return error;
}

/* A tokenizer.json is read and used. */
static MossError tokenize(void) {
    static const char json[] =
        "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
        "\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":null,\"decoder\":{\"type\":"
        "\"ByteLevel\","
        "\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
        "\"unk_token\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":"
        "false,"
        "\"vocab\":{\"a\":0,\"b\":1,\"\\u0120\":2,\"ab\":3},\"merges\":[\"a b\"]}}";
    SuDiags diags = {0};
    RtTokens ids = {0};
    TkBpeOptions options = {.vocab_size = 4, .bos = -1, .eos = -1};
    RtTokenizer *tokenizer = tk_bpe_parse(json, sizeof json - 1, "t.json", &options, &diags);
    bool ok = tokenizer && rt_tokenizer_encode(tokenizer, "abba ab", 7, &ids, &diags);
    if (ok) assert_int_equal(ids.ids[ids.count - 1], 3);
    MossError error = {.code = ok ? MOSS_OK : diags.failure.code == SU_OUT_OF_MEMORY ? MOSS_NO_MEMORY : MOSS_BAD_INPUT};
    if (!ok && error.code == MOSS_BAD_INPUT && diags.count && strstr(diags.items[0].message, "out of memory"))
        error.code = MOSS_NO_MEMORY;
    rt_tokens_free(&ids);
    rt_tokenizer_free(tokenizer);
    su_diags_free(&diags);
    return error;
}

/* A space is read, and points of it become edits. */
static MossError explore(void) {
    static const char text[] =
        "mossc_space: 1\nname: t\nspec: s.yaml\nobjectives: [-flops]\nquality: {file: q}\ndevices: [host, a.yaml]\n"
        "axes: [{name: a, path: p, values: [none, 4, q8], set: {b: [$]}}, {name: d, path: q, from: 1, to: 9, step: 2, when: a != "
        "none}]\n"
        "derive: [{path: r, value: ceil(d / 2)}]\nrequire: [a == none or d < 9]\nbudgets: {state_bytes: [1, 5 MiB]}\n";
    SuDiags diags = {0};
    SuGuard guard;
    ExSpace space = {0};
    ExValue derived[1] = {{.type = EX_NUMBER, .number = 2}};
    size_t count;
    bool ok = ex_space_parse("s.yaml", text, sizeof text - 1, &space, &diags);
    if (ok && !SU_CAUGHT(&guard, &diags, "making a point")) {
        SuArena arena = {0};
        ex_edits(&space, (const uint32_t[]){1, 2}, derived, true, &arena, &count);
        su_arena_free(&arena);
        su_guard_end(&guard);
    }
    MossError error = {.code = diags.failure.code == SU_OUT_OF_MEMORY ? MOSS_NO_MEMORY : diags.errors ? MOSS_BAD_INPUT : MOSS_OK};
    if (error.code == MOSS_BAD_INPUT && strstr(diags.items[0].message, "out of memory")) error.code = MOSS_NO_MEMORY;
    ex_space_free(&space);
    su_diags_free(&diags);
    return error;
}

#define SCENARIO(name)                                                                                                             \
    static void test_##name(void **state) { (void)state, fail_each(name); }
SCENARIO(check)
SCENARIO(compile)
SCENARIO(load)
SCENARIO(step)
SCENARIO(save)
SCENARIO(generate)
SCENARIO(tokenize)
SCENARIO(explore)

/* An index beside a link to the weights. */
static void test_load_by_index(void **state) {
    (void)state;
    char *target = realpath(weights, NULL), link[sizeof state_path];
    memcpy(index_path, state_path, sizeof state_path);
    memcpy(link, state_path, sizeof state_path);
    strcpy(strrchr(index_path, '/'), "/i");
    strcpy(strrchr(link, '/'), "/w");
    FILE *index = fopen(index_path, "w");
    assert_non_null(index);
    fputs("{\"weight_map\":{\"a\":\"w\"}}", index);
    fclose(index);
    assert_int_equal(symlink(target, link), 0);
    fail_each(load_by_index);
    assert_false(is_mapped());
    unlink(link);
    unlink(index_path);
    free(target);
}

static void test_load_state(void **state) {
    (void)state;
    assert_int_equal(moss_state_save(fed, state_path).code, MOSS_OK);
    fail_each(load_state);
    unlink(state_path);
}

/* A mistake of ours is an error too. */
static void test_bug_is_an_error(void **state) {
    (void)state;
    SuDiags diags = {0};
    SuGuard guard;
    if (!SU_CAUGHT(&guard, &diags, "testing")) SU_BUG("no %s", "matter");
    assert_int_equal(diags.failure.code, SU_OUR_BUG);
    assert_non_null(strstr(diags.failure.text, "test_no_memory.c"));
    assert_non_null(strstr(diags.failure.text, "no matter"));
    assert_int_equal(diags.errors, 1);
    su_diags_free(&diags);
}

static int prepare(void **state) {
    (void)state;
    char *slash = strrchr(state_path, '/');
    *slash = '\0';
    bool made = mkdtemp(state_path) != NULL;
    *slash = '/';
    const char *path = weights;
    MosscCompileOptions options = {.size = sizeof options, .no_cache = true};
    return made && mossc_spec_open(spec_path, NULL, 0, NULL, &spec).code == MOSS_OK &&
                   mossc_compile(spec, &options, NULL, &compiled).code == MOSS_OK &&
                   mossc_model_open(compiled, &path, 1, &(MossOptions){.size = sizeof(MossOptions), .threads = 2}, NULL, &model)
                           .code == MOSS_OK &&
                   moss_state_create(model, &fed).code == MOSS_OK && moss_feed(model, fed, tokens, 5, 0).code == MOSS_OK
               ? 0
               : -1;
}

static int finish(void **state) {
    (void)state;
    moss_state_free(fed);
    moss_model_free(model);
    mossc_compiled_free(compiled);
    mossc_spec_free(spec);
    *strrchr(state_path, '/') = '\0';
    rmdir(state_path);
    mossc_shutdown();
    return live != 0;
}

int main(int argc, char **argv) {
    runs = argc > 1 ? atol(argv[1]) : 16;
    su_set_allocator(&hook);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bug_is_an_error),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_compile),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_load_by_index),
        cmocka_unit_test(test_step),
        cmocka_unit_test(test_save),
        cmocka_unit_test(test_load_state),
        cmocka_unit_test(test_generate),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_explore),
    };
    return cmocka_run_group_tests_name("no memory", tests, prepare, finish);
}
