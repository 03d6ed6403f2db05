/* The prompt cache: what it returns is what feeding everything gives, from the longest prefix that is there; it stays within
 * its bound and outlives damage. */
#include "tests/runtime/damage.h"
#include "tests/runtime/toy.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "runtime/model.h"
#include "runtime/prompt_cache.h"
#include "runtime/state_file.h"

/* A model and a directory that is emptied at the end. */
typedef struct Fixture {
    Toy toy;
    MossModel *model;
    char *directory;
} Fixture;

static Fixture *make_fixture(uint32_t cap) {
    Fixture *f = calloc(1, sizeof *f);
    Directory directory = directory_make();
    f->directory = directory.path;
    toy_make(&f->toy, cap);
    f->model = toy_model(&f->toy, NULL);
    return f;
}

/* Calls visit on the path of every file; returns how many there are. */
static int visit(const Fixture *f, void (*act)(const char *path)) {
    int count = 0;
    DIR *directory = opendir(f->directory);
    assert_non_null(directory);
    for (struct dirent *d; (d = readdir(directory));) {
        char path[512];
        if (d->d_name[0] != '.') {
            snprintf(path, sizeof path, "%s/%s", f->directory, d->d_name);
            count++;
            if (act) act(path);
        }
    }
    closedir(directory);
    return count;
}

static void remove_file(const char *path) { assert_int_equal(unlink(path), 0); }

static void end(Fixture *f) {
    moss_model_free(f->model);
    visit(f, remove_file);
    assert_int_equal(rmdir(f->directory), 0);
    free(f->directory);
    free(f);
}

static RtPromptCacheStats feed_bounded(Fixture *f, const int32_t *tokens, size_t count, uint32_t every, uint64_t most_bytes,
                                       float *out_logit) {
    SuDiags diags = {0};
    RtPromptCacheOptions options = {.directory = f->directory, .every = every, .most_bytes = most_bytes};
    RtPromptCache *cache = rt_prompt_cache_open(f->model, &options, &diags);
    assert_non_null(cache);
    MossState *state, *plain = toy_state(f->model);
    assert_int_equal(rt_prompt_cache_feed(cache, tokens, count, 0, NULL, NULL, &state).code, MOSS_OK);
    assert_non_null(moss_state_logits(state));
    *out_logit = moss_state_logits(state)[0];
    assert_int_equal(moss_feed(f->model, plain, tokens, count, 0).code, MOSS_OK);
    assert_int_equal(moss_state_position(state), count);
    assert_memory_equal(state->memory.data, plain->memory.data, f->toy.program.state_bytes);
    assert_true(*out_logit == moss_state_logits(plain)[0]);
    RtPromptCacheStats stats = rt_prompt_cache_stats(cache);
    moss_state_free(state);
    moss_state_free(plain);
    rt_prompt_cache_close(cache);
    su_diags_free(&diags);
    return stats;
}

/* Tokens [0, count) of the text, the last one changed when `other`. */
static RtPromptCacheStats feed(Fixture *f, size_t count, bool other, uint32_t every) {
    int32_t tokens[1000];
    float logit;
    for (size_t i = 0; i < count; i++) tokens[i] = (toy_token((int64_t)i) + (other && i + 1 == count)) % TOY_NONFINITE;
    return feed_bounded(f, tokens, count, every, UINT64_MAX, &logit);
}

static void test_the_longest_prefix_is_used(void **unused) {
    (void)unused;
    Fixture *f = make_fixture(40);
    RtPromptCacheStats stats = feed(f, 250, false, 100);
    assert_true(stats.reused == 0 && stats.stored == 3 && visit(f, NULL) == 3);
    stats = feed(f, 250, false, 100); /* all of it, with its logits */
    assert_true(stats.reused == 250 && stats.stored == 0);
    stats = feed(f, 250, true, 100); /* ends differently */
    assert_true(stats.reused == 200 && stats.stored == 1);
    stats = feed(f, 400, false, 100); /* goes on from an entry at an odd place */
    assert_true(stats.reused == 250 && stats.stored == 2);
    stats = feed(f, 199, false, 64); /* with other distances, what is there is found still */
    assert_true(stats.reused == 100 && stats.stored == 3);
    stats = feed(f, 1, false, 100);
    assert_true(stats.reused == 0 && stats.stored == 1);
    assert_int_equal(stats.damaged + stats.evicted, 0);
    end(f);
}

static void test_entries_of_other_models_are_not_used(void **unused) {
    (void)unused;
    Fixture *f = make_fixture(40);
    float weight = 3;
    assert_int_equal(feed(f, 200, false, 100).stored, 2);
    moss_model_free(f->model);
    f->model = toy_model(&f->toy, &weight); /* other weights */
    RtPromptCacheStats stats = feed(f, 200, false, 100);
    assert_true(stats.reused == 0 && stats.stored == 2 && stats.damaged == 0);
    f->toy.program.spec_hash[3]++; /* another spec */
    moss_model_free(f->model);
    f->model = toy_model(&f->toy, &weight);
    stats = feed(f, 200, false, 100);
    assert_true(stats.reused == 0 && stats.stored == 2 && visit(f, NULL) == 6);
    end(f);
}

static void damage(const char *path) {
    Bytes bytes = read_bytes(path);
    bytes.data[bytes.size / 2] ^= 4;
    write_bytes(path, bytes.data, bytes.size);
    free(bytes.data);
}

static void cut(const char *path) { assert_int_equal(truncate(path, 100), 0); }

static void test_damaged_entries_are_dropped_and_made_again(void **unused) {
    (void)unused;
    void (*harms[])(const char *path) = {damage, cut};
    for (int i = 0; i < 2; i++) {
        Fixture *f = make_fixture(40);
        feed(f, 250, false, 100);
        visit(f, harms[i]);
        RtPromptCacheStats stats = feed(f, 250, false, 100);
        assert_true(stats.reused == 0 && stats.damaged == 3 && stats.stored == 3);
        stats = feed(f, 250, false, 100);
        assert_true(stats.reused == 250 && stats.damaged == 0);
        end(f);
    }
}

static void test_the_least_recently_used_go_first(void **unused) {
    (void)unused;
    Fixture *f = make_fixture(40);
    int32_t tokens[3][20];
    float logit;
    for (int t = 0; t < 3; t++)
        for (int i = 0; i < 20; i++) tokens[t][i] = (toy_token(i) + t) % TOY_NONFINITE;
    feed_bounded(f, tokens[0], 20, 20, UINT64_MAX, &logit);
    uint64_t one = sizeof(RtStateHeader) + 8 + f->toy.program.state_bytes + TOY_VOCAB * sizeof(float);
    struct timespec pause = {.tv_nsec = 20000000};
    nanosleep(&pause, NULL);
    feed_bounded(f, tokens[1], 20, 20, 2 * one, &logit);
    nanosleep(&pause, NULL);
    assert_int_equal(feed_bounded(f, tokens[0], 20, 20, 2 * one, &logit).reused, 20); /* used again */
    nanosleep(&pause, NULL);
    assert_int_equal(feed_bounded(f, tokens[2], 20, 20, 2 * one, &logit).evicted, 1);
    assert_int_equal(visit(f, NULL), 2);
    assert_int_equal(feed_bounded(f, tokens[0], 20, 20, 2 * one, &logit).reused, 20);
    assert_int_equal(feed_bounded(f, tokens[1], 20, 20, 2 * one, &logit).reused, 0);
    feed_bounded(f, tokens[1], 20, 20, one - 1, &logit); /* not even one fits */
    feed_bounded(f, tokens[0], 19, 20, one - 1, &logit);
    assert_int_equal(visit(f, NULL), 0);
    end(f);
}

static void test_what_is_not_ours_stays(void **unused) {
    (void)unused;
    Fixture *f = make_fixture(40);
    char path[512], stale[512], live[512];
    snprintf(path, sizeof path, "%s/notes.txt", f->directory);
    snprintf(stale, sizeof stale, "%s/0123456789abcdef0123456789abcdef.state.mossc-tmp-aaaaaa", f->directory);
    snprintf(live, sizeof live, "%s/0123456789abcdef0123456789abcdef.state.mossc-tmp-bbbbbb", f->directory);
    write_bytes(path, (const uint8_t *)"x", 1);
    write_bytes(stale, (const uint8_t *)"x", 1);
    write_bytes(live, (const uint8_t *)"x", 1);
    int writer = open(live, O_RDWR); /* a process that writes it holds a lock (support/file.c) */
    assert_int_equal(flock(writer, LOCK_EX), 0);
    float logit;
    const int32_t tokens[] = {1, 2, 3};
    feed_bounded(f, tokens, 3, 1, 1, &logit);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(access(live, F_OK), 0);
    assert_int_not_equal(access(stale, F_OK), 0);
    close(writer);
    end(f);
}

static void test_processes_share_a_directory(void **unused) {
    (void)unused;
    enum { PROCESSES = 6 };
    Fixture *f = make_fixture(1000);
    pid_t children[PROCESSES];
    for (int p = 0; p < PROCESSES; p++) {
        if ((children[p] = fork()) == 0) {
            int32_t tokens[120];
            float logit;
            for (int round = 0; round < 40; round++) {
                for (int i = 0; i < 120; i++) tokens[i] = (toy_token(i) + (i > 40 ? (round + p) % 5 : 0)) % TOY_NONFINITE;
                /* a bound of a few entries, so that they vanish under the others' eyes */
                if (feed_bounded(f, tokens, 120, 16, 12000, &logit).damaged) _exit(1);
            }
            _exit(0);
        }
    }
    for (int p = 0; p < PROCESSES; p++) {
        int status;
        assert_int_equal(waitpid(children[p], &status, 0), children[p]);
        assert_int_equal(status, 0);
    }
    end(f);
}

static void test_a_directory_that_cannot_be_is_refused(void **unused) {
    (void)unused;
    Fixture *f = make_fixture(40);
    SuDiags diags = {0};
    assert_null(rt_prompt_cache_open(f->model, &(RtPromptCacheOptions){.directory = "/nowhere/at/all", .every = 1}, &diags));
    assert_true(says(&diags, "cannot make this directory"));
    assert_null(rt_prompt_cache_open(f->model, &(RtPromptCacheOptions){.directory = "/dev/null", .every = 1}, &diags));
    assert_true(says(&diags, "is not a directory"));
    su_diags_free(&diags);
    end(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_longest_prefix_is_used),
        cmocka_unit_test(test_entries_of_other_models_are_not_used),
        cmocka_unit_test(test_damaged_entries_are_dropped_and_made_again),
        cmocka_unit_test(test_the_least_recently_used_go_first),
        cmocka_unit_test(test_what_is_not_ours_stays),
        cmocka_unit_test(test_processes_share_a_directory),
        cmocka_unit_test(test_a_directory_that_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
