/* States that last: saved, loaded and continued they are as if nothing had happened; what is damaged or of another model is
 * refused. */
#include "tests/runtime/damage.h"
#include "tests/runtime/toy.h"

#include <sys/stat.h>

#include "runtime/model.h"
#include "runtime/state_file.h"

static void test_a_saved_state_continues_as_if_it_had_not_been(void **unused) {
    (void)unused;
    static const uint32_t caps[] = {40, 1000, 1 << 20}; /* malloced, some blocks, in pages */
    static const int64_t ends[] = {0, 1, 63, 64, 700};
    for (size_t c = 0; c < 3; c++) {
        for (size_t e = 0; e < 5; e++) {
            Toy toy;
            toy_make(&toy, caps[c]);
            Directory directory = directory_make();
            const char *path = directory_file(&directory, "s.state");
            MossModel *model = toy_model(&toy, NULL), *later = toy_model(&toy, NULL);
            MossState *state = toy_state(model), *loaded;
            if (ends[e]) toy_feed(model, state, ends[e], 0);
            assert_int_equal(moss_state_save(state, path).code, MOSS_OK);
            assert_int_equal(moss_state_load(later, path, &loaded).code, MOSS_OK);
            assert_int_equal(moss_state_position(loaded), ends[e]);
            assert_memory_equal(loaded->memory.data, state->memory.data, toy.program.state_bytes);
            if (ends[e])
                toy_expect(loaded, ends[e]);
            else
                assert_null(moss_state_logits(loaded));
            toy_feed(later, loaded, ends[e] + 100, 7);
            toy_expect(loaded, ends[e] + 100);
            toy_feed(model, state, ends[e] + 100, 1);
            toy_expect(state, ends[e] + 100);
            assert_memory_equal(loaded->memory.data, state->memory.data, toy.program.state_bytes);
            moss_state_free(state);
            moss_state_free(loaded);
            moss_model_free(model);
            moss_model_free(later);
            directory_remove(&directory);
        }
    }
}

static void test_unused_parts_of_a_cache_take_no_room(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 1 << 20);
    Directory directory = directory_make();
    const char *path = directory_file(&directory, "s.state");
    MossModel *model = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    struct stat st;
    toy_feed(model, state, 500, 0);
    assert_int_equal(moss_state_save(state, path).code, MOSS_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size < 10000);
    moss_state_free(state);
    moss_model_free(model);
    directory_remove(&directory);
}

static void test_logits_belong_to_the_last_token(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 40);
    MossModel *model = toy_model(&toy, NULL);
    MossState *a = toy_state(model), *b = toy_state(model), *copy;
    assert_null(moss_state_logits(a));
    toy_feed(model, a, 30, 0);
    toy_expect(a, 30);
    assert_int_equal(moss_state_clone(a, &copy).code, MOSS_OK);
    const int32_t two[] = {toy_token(0), toy_token(1)}, one = toy_token(30), bad = TOY_VOCAB;
    MossSegment segments[] = {{.state = b, .tokens = two, .count = 2, .logits = MOSS_ALL_LOGITS},
                              {.state = a, .tokens = &one, .count = 1, .logits = MOSS_LAST_LOGITS}};
    assert_int_equal(moss_step(model, segments, 2).code, MOSS_OK);
    toy_expect(a, 31);
    toy_expect(b, 2);
    toy_expect(copy, 30); /* its own */
    assert_int_equal(moss_step(model, &(MossSegment){.state = b, .tokens = &bad, .count = 1}, 1).code, MOSS_BAD_INPUT);
    toy_expect(b, 2); /* a step that is refused changes nothing */
    assert_int_equal(moss_step(model, &(MossSegment){.state = copy, .tokens = &one, .count = 1}, 1).code, MOSS_OK);
    assert_null(moss_state_logits(copy)); /* not wanted */
    assert_null(moss_state_logits(a));    /* another step came */
    moss_state_reset(copy);
    assert_null(moss_state_logits(copy));
    moss_state_free(a);
    moss_state_free(b);
    moss_state_free(copy);
    moss_model_free(model);
}

/* ---- taking tokens back */

static void test_a_rewound_state_is_what_it_was(void **unused) {
    (void)unused;
    static const uint32_t caps[] = {40, 1 << 20}, chunks[] = {1, 5, 64};
    for (size_t c = 0; c < 6; c++) {
        Toy toy;
        toy_make(&toy, caps[c % 2]);
        MossModel *model = toy_model(&toy, NULL);
        for (int64_t since = 0; since <= MOSS_REWIND; since += since < 4 ? 1 : 15) {
            for (int64_t back = 0; back <= since; back += back < 2 ? 1 : 9) {
                MossState *state = toy_state(model), *plain = toy_state(model);
                toy_feed(model, state, 100, 0);
                assert_int_equal(moss_state_checkpoint(state).code, MOSS_OK);
                if (since) toy_feed(model, state, 100 + since, chunks[c / 2]);
                assert_int_equal(moss_state_rewind(state, (uint32_t)back).code, MOSS_OK);
                toy_expect(state, 100 + since - back);
                toy_feed(model, plain, 100 + since - back, 0);
                assert_memory_equal(state->memory.data, plain->memory.data, toy.program.state_bytes);
                toy_feed(model, state, 300, 0);
                toy_expect(state, 300);
                moss_state_free(state);
                moss_state_free(plain);
            }
        }
        moss_model_free(model);
    }
}

static void test_a_checkpoint_stays_until_the_next(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 1000);
    MossModel *model = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    assert_int_equal(moss_state_checkpoint(state).code, MOSS_OK); /* at the very start, without logits */
    toy_feed(model, state, 10, 0);
    assert_int_equal(moss_state_rewind(state, 3).code, MOSS_OK);
    toy_feed(model, state, 30, 0);
    assert_int_equal(moss_state_rewind(state, 25).code, MOSS_OK);
    toy_expect(state, 5);
    assert_int_equal(moss_state_rewind(state, 5).code, MOSS_OK);
    assert_int_equal(moss_state_position(state), 0);
    assert_null(moss_state_logits(state));
    toy_feed(model, state, 40, 0);
    assert_int_equal(moss_state_checkpoint(state).code, MOSS_OK);
    toy_feed(model, state, 50, 0);
    expect_refused(moss_state_rewind(state, 11), MOSS_BAD_INPUT, "cannot go back 11 tokens: only 10 were fed since the checkpoint");
    toy_expect(state, 50);
    toy_feed(model, state, 105, 0);
    expect_refused(moss_state_rewind(state, 1), MOSS_BAD_INPUT,
                   "cannot return to the checkpoint: expected at most 64 tokens fed since, got 65");
    toy_expect(state, 105);
    moss_state_reset(state);
    expect_refused(moss_state_rewind(state, 0), MOSS_BAD_INPUT, "has no checkpoint");
    moss_state_free(state);
    moss_model_free(model);
}

static void test_a_failed_step_is_taken_back(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 1000);
    MossModel *model = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    toy_feed(model, state, 20, 0);
    assert_int_equal(moss_state_checkpoint(state).code, MOSS_OK);
    toy_feed(model, state, 25, 0);
    const int32_t bad[] = {1, TOY_NONFINITE};
    assert_int_equal(moss_feed(model, state, bad, 2, 0).code, MOSS_NON_FINITE);
    expect_refused(moss_state_checkpoint(state), MOSS_BAD_INPUT, "reset it before taking a checkpoint");
    assert_int_equal(moss_state_rewind(state, 2).code, MOSS_OK);
    toy_expect(state, 25);
    toy_feed(model, state, 60, 0);
    toy_expect(state, 60);
    moss_state_free(state);
    moss_model_free(model);
}

/* ---- refusals */

/* A model and a file of one of its states. */
typedef struct Saved {
    Toy toy;
    Directory directory;
    const char *path;
    MossModel *model;
} Saved;

static void save(Saved *s) {
    toy_make(&s->toy, 3000);
    s->directory = directory_make();
    s->path = directory_file(&s->directory, "s.state");
    s->model = toy_model(&s->toy, NULL);
    MossState *state = toy_state(s->model);
    toy_feed(s->model, state, 50, 0);
    assert_int_equal(moss_state_save(state, s->path).code, MOSS_OK);
    moss_state_free(state);
}

static void end(Saved *s) {
    moss_model_free(s->model);
    directory_remove(&s->directory);
}

static void must_not_load(void *context, const char *path, const char *what) {
    MossState *state;
    MossError error = moss_state_load(context, path, &state);
    if (error.code != MOSS_BAD_STATE || !strstr(error.text, path)) fail_msg("%s: %d %s", what, error.code, error.text);
    assert_null(state);
}

static void test_damage_anywhere_is_refused(void **unused) {
    (void)unused;
    Saved s;
    save(&s);
    try_flips(s.path, 500, 3, must_not_load, s.model);
    try_cuts(s.path, 61, must_not_load, s.model);
    MossState *state;
    assert_int_equal(moss_state_load(s.model, s.path, &state).code, MOSS_OK);
    moss_state_free(state);
    end(&s);
}

/* A header with another field and a right digest. */
static void expect_after_rewrite(size_t at, uint64_t value, const char *words) {
    Saved s;
    save(&s);
    Bytes bytes = read_bytes(s.path);
    RtStateHeader *header = (RtStateHeader *)(void *)bytes.data;
    memcpy(bytes.data + at, &value, at < 16 ? 4 : 8);
    header->digest = rt_state_header_digest(header);
    write_bytes(s.path, bytes.data, bytes.size);
    MossState *state;
    expect_refused(moss_state_load(s.model, s.path, &state), MOSS_BAD_STATE, words);
    assert_null(state);
    free(bytes.data);
    end(&s);
}

static void test_what_is_of_another_model_is_refused_with_the_reason(void **unused) {
    (void)unused;
    expect_after_rewrite(offsetof(RtStateHeader, magic), 0, "file is not a complete state file");
    expect_after_rewrite(offsetof(RtStateHeader, format), 8, "unsupported format: expected version 2, got 8");
    expect_after_rewrite(offsetof(RtStateHeader, numerics), 8, "version of the numerics: expected 2, got 8");
    expect_after_rewrite(offsetof(RtStateHeader, spec_hash), 8,
                         "file is a state of another spec: 'toy', not this configuration of 'toy'");
    expect_after_rewrite(offsetof(RtStateHeader, weights), 8, "with other weights");
    expect_after_rewrite(offsetof(RtStateHeader, layout), 8, "another state layout");
    expect_after_rewrite(offsetof(RtStateHeader, state_bytes), UINT64_MAX, "another state layout");
    expect_after_rewrite(offsetof(RtStateHeader, logits), UINT64_MAX, "another state layout");
    expect_after_rewrite(offsetof(RtStateHeader, position), UINT64_MAX, "its position -1 is out of range");
    expect_after_rewrite(offsetof(RtStateHeader, blocks), 2, "is corrupt or truncated");
    expect_after_rewrite(sizeof(RtStateHeader), 1u << 30, "blocks beyond the end of the state");
    Saved s;
    save(&s);
    float other_weight = 2;
    MossModel *other = toy_model(&s.toy, &other_weight);
    MossState *state;
    expect_refused(moss_state_load(other, s.path, &state), MOSS_BAD_STATE, "file is a state of this spec with other weights");
    expect_refused(moss_state_load(s.model, "/nowhere/s.state", &state), MOSS_NO_FILE, "cannot open");
    moss_model_free(other);
    end(&s);
}

static void test_what_cannot_be_saved_leaves_the_old_file(void **unused) {
    (void)unused;
    Saved s;
    save(&s);
    Bytes before = read_bytes(s.path);
    MossState *state = toy_state(s.model);
    const int32_t bad = TOY_NONFINITE;
    expect_refused(moss_state_save(state, "/nowhere/s.state"), MOSS_NO_FILE, "/nowhere/s.state: cannot create");
    assert_int_equal(moss_feed(s.model, state, &bad, 1, 0).code, MOSS_NON_FINITE);
    expect_refused(moss_state_save(state, s.path), MOSS_BAD_INPUT, "was not saved");
    Bytes after = read_bytes(s.path);
    assert_int_equal(before.size, after.size);
    assert_memory_equal(before.data, after.data, before.size);
    free(before.data);
    free(after.data);
    moss_state_free(state);
    end(&s);
}

static void test_all_that_was_fed_is_taken_back_however_much(void **unused) {
    (void)unused;
    Toy toy;
    toy_make(&toy, 64);
    MossModel *model = toy_model(&toy, NULL);
    MossState *state = toy_state(model);
    toy_feed(model, state, 100, 0);
    assert_int_equal(moss_state_checkpoint(state).code, MOSS_OK);
    toy_feed(model, state, 100 + 3 * MOSS_REWIND, 0);
    expect_refused(moss_state_rewind(state, 3 * MOSS_REWIND - 1), MOSS_BAD_INPUT, "at most");
    assert_int_equal(moss_state_position(state), 100 + 3 * MOSS_REWIND);
    assert_int_equal(moss_state_rewind(state, 3 * MOSS_REWIND).code, MOSS_OK);
    toy_expect(state, 100);
    toy_feed(model, state, 300, 0);
    toy_expect(state, 300);
    moss_state_free(state);
    moss_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_that_was_fed_is_taken_back_however_much),
        cmocka_unit_test(test_a_saved_state_continues_as_if_it_had_not_been),
        cmocka_unit_test(test_unused_parts_of_a_cache_take_no_room),
        cmocka_unit_test(test_logits_belong_to_the_last_token),
        cmocka_unit_test(test_a_rewound_state_is_what_it_was),
        cmocka_unit_test(test_a_checkpoint_stays_until_the_next),
        cmocka_unit_test(test_a_failed_step_is_taken_back),
        cmocka_unit_test(test_damage_anywhere_is_refused),
        cmocka_unit_test(test_what_is_of_another_model_is_refused_with_the_reason),
        cmocka_unit_test(test_what_cannot_be_saved_leaves_the_old_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
