/* support/: arena, strings, diagnostics, files. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/file.h"
#include "support/json.h"
#include "support/str.h"
#include "support/utf8.h"
#include "tests/frontend/helpers.h"

static void arena_gives_zeroed_aligned_blocks(void **state) {
    (void)state;
    SuArena arena = {0};
    for (size_t size = 0; size < 100000; size = size * 2 + 1) {
        unsigned char *block = su_alloc(&arena, size);
        assert_int_equal((uintptr_t)block % 16, 0);
        for (size_t i = 0; i < size; i++) assert_int_equal(block[i], 0);
        memset(block, 0xFF, size);
    }
    su_arena_free(&arena);
    assert_null(arena.head);
}

static void arena_grows_arrays_and_keeps_their_items(void **state) {
    (void)state;
    SuArena arena = {0};
    int *items = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        items = su_grow(&arena, items, &capacity, (size_t)i + 1, sizeof *items);
        items[i] = i;
    }
    for (int i = 0; i < 1000; i++) assert_int_equal(items[i], i);
    assert_true(capacity >= 1000);
    su_arena_free(&arena);
}

static void arena_prints_texts_of_any_length(void **state) {
    (void)state;
    SuArena arena = {0};
    assert_string_equal(su_printf(&arena, "%s-%d", "a", 7), "a-7");
    assert_int_equal(strlen(su_printf(&arena, "%100000d", 1)), 100000);
    assert_string_equal(su_strndup(&arena, "abcdef", 3), "abc");
    su_arena_free(&arena);
}

static void text_grows(void **state) {
    (void)state;
    SuText text = {0};
    for (int i = 0; i < 1000; i++) {
        su_text_add(&text, "%d,", i % 10);
        su_text_append(&text, "x", 1);
    }
    assert_int_equal(text.size, 3000);
    assert_int_equal(strlen(text.text), 3000);
    su_text_free(&text);
}

static void nearest_finds_typos_only(void **state) {
    (void)state;
    static const char *const words[] = {"d_state", "d_conv", "dt_rank", "activation", "experts"};
    assert_string_equal(su_nearest("d_sate", words, 5), "d_state");
    assert_string_equal(su_nearest("d_ocnv", words, 5), "d_conv"); /* a swap is one step */
    assert_string_equal(su_nearest("Experts", words, 5), "experts");
    assert_string_equal(su_nearest("D_STATE", words, 5), "d_state");
    assert_null(su_nearest("colour", words, 5));
    assert_null(su_nearest("", words, 5));
    assert_null(su_nearest("x", words, 0));
}

static void reals_are_printed_short_and_whole(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {-0.5, "-0.5"},
                 {0.1, "0.1"},
                 {1e-5, "1e-05"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {1234567, "1234567"},
                 {-0.0, "-0"},
                 {1e300, "1e+300"},
                 {-0x1.fffffffffffffp-1022, "-4.4501477170144023e-308"},
                 {0x1p-1074, "4.94066e-324"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[SU_REAL];
        assert_string_equal(su_real_text(cases[i].value, text), cases[i].text);
    }
}

static void utf8_is_decoded_as_it_was_encoded(void **state) {
    (void)state;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    for (uint32_t code = 0; code < 0x110000; code++) {
        char bytes[4];
        size_t size = su_utf8_encode(code, bytes);
        SuUtf8 c = su_utf8_at(bytes, size);
        bool surrogate = code >= 0xD800 && code < 0xE000;
        if (code < least[size] || c.whole == surrogate || (c.whole && (c.code != code || c.size != size)))
            fail_msg("U+%04X", (unsigned)code);
        for (size_t cut = 1; c.whole && cut < size; cut++) {
            SuUtf8 part = su_utf8_at(bytes, cut);
            if (part.whole || !part.open || part.size != cut) fail_msg("%zu bytes of U+%04X", cut, (unsigned)code);
        }
    }
}

/* What su_diags_print writes. */
static char *printed(const SuDiags *diags) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    su_diags_print(diags, out);
    fclose(out);
    return text;
}

static void caret_stands_below_its_character(void **state) {
    (void)state;
    static const char content[] = "one: 1\n\tcaf\xC3\xA9: zwei\n";
    SuSource source = {"a.yaml", content, sizeof content - 1};
    SuDiags diags = {0};
    assert_false(su_error(&diags, (SuSpan){&source, 2, 8, 4}, "a hint", "bad %s", "value"));
    char *text = printed(&diags);
    assert_string_equal(text, "a.yaml:2:8: error: bad value\n"
                              "    \tcaf\xC3\xA9: zwei\n"
                              "    \t      ^~~~\n"
                              "    note: a hint\n");
    free(text);
    su_diags_free(&diags);
}

static void long_lines_are_cut_around_the_caret(void **state) {
    (void)state;
    char content[2000];
    memset(content, 'a', sizeof content);
    SuSource source = {"a.yaml", content, sizeof content};
    SuDiags diags = {0};
    su_error(&diags, (SuSpan){&source, 1, 1000, 5000}, NULL, "here");
    char *text = printed(&diags);
    assert_true(strlen(text) < 500);
    const char *caret = strchr(text, '^'), *line = strstr(text, "...");
    assert_non_null(caret);
    assert_non_null(line);
    free(text);
    su_diags_free(&diags);
}

static void control_characters_never_reach_the_terminal(void **state) {
    (void)state;
    static const char content[] = "a\x1B[2Jb\x80\n";
    SuSource source = {"a.yaml", content, sizeof content - 1};
    SuDiags diags = {0};
    su_error(&diags, (SuSpan){&source, 1, 2, 1}, NULL, "odd \x1B[31m");
    char *text = printed(&diags);
    assert_null(strchr(text, 0x1B));
    assert_null(strchr(text, (char)0x80));
    free(text);
    su_diags_free(&diags);
}

/* A terminal that decodes leniently would read them as control characters. */
static void overlong_forms_and_surrogates_never_reach_the_terminal(void **state) {
    (void)state;
    static const char content[] = "a\xC0\x9B"
                                  "b\xE0\x82\x9B"
                                  "c\xED\xA0\x80"
                                  "d\xF5\x80\x80\x80\n";
    SuSource source = {"a.yaml", content, sizeof content - 1};
    SuDiags diags = {0};
    su_error(&diags, (SuSpan){&source, 1, 1, 1}, NULL, "odd");
    char *text = printed(&diags);
    assert_non_null(strstr(text, "    a??b???c???d????\n"));
    free(text);
    su_diags_free(&diags);
}

static void errors_past_the_limit_are_counted(void **state) {
    (void)state;
    SuDiags diags = {0};
    for (int i = 0; i < 25; i++) su_error(&diags, (SuSpan){0}, NULL, "error %d", i);
    assert_int_equal(diags.errors, 25);
    assert_int_equal(diags.count, SU_MAX_ERRORS);
    char *text = printed(&diags);
    assert_non_null(strstr(text, "5 more errors not shown"));
    free(text);
    su_diags_free(&diags);
}

/* What a guard within a guard reports is still there when the outer one is ended. */
static void errors_outlive_the_guards_around_them(void **state) {
    (void)state;
    SuDiags diags = {0};
    SuGuard outer, inner;
    if (!SU_CAUGHT(&outer, &diags, "testing")) {
        if (!SU_CAUGHT(&inner, &diags, "checking")) {
            su_error(&diags, (SuSpan){0}, NULL, "rule %d", 7);
            su_guard_end(&inner);
        }
        SU_BUG("broken");
    }
    SuArena other = {0};
    memset(su_alloc(&other, 60000), 'x', 60000); /* would take the place of what was freed */
    assert_string_equal(diags.items[0].message, "rule 7");
    assert_int_equal(diags.failure.code, SU_OUR_BUG);
    su_arena_free(&other);
    su_diags_free(&diags);
}

static int json_blocks;

static void *take_block(size_t size) {
    json_blocks++;
    return malloc(size);
}

static void free_block(void *block) {
    json_blocks -= block != NULL;
    free(block);
}

/* cJSON has its own memory, which no guard knows. */
static void json_is_freed_when_a_guard_is_ended(void **state) {
    (void)state;
    static const char text[] = "{\"a\": [1, 2, {\"b\": \"c\"}]}";
    SuJsonRules rules = {.depth = 3, .values = 100};
    SuDiags diags = {0};
    SuGuard guard;
    SuJson json;
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = take_block, .free_fn = free_block});
    if (!SU_CAUGHT(&guard, &diags, "testing")) {
        assert_true(su_json_parse(text, sizeof text - 1, &rules, (SuSpan){0}, &json, &diags));
        assert_true(json_blocks > 0);
        SU_BUG("broken");
    }
    assert_int_equal(json_blocks, 0);
    cJSON_InitHooks(NULL);
    su_diags_free(&diags);
}

static char directory[] = "/tmp/mossc-test-XXXXXX";

static int make_directory(void **state) {
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    return rmdir(directory);
}

static void a_file_appears_only_when_complete(void **state) {
    (void)state;
    SuDiags diags = {0};
    SuArena arena = {0};
    SuOut out;
    char *path = su_printf(&arena, "%s/out", directory);
    assert_true(su_out_open(path, &out, &diags));
    fputs("half", out.file);
    assert_int_equal(access(path, F_OK), -1);
    su_out_abort(&out);
    assert_int_equal(access(path, F_OK), -1);
    assert_true(su_out_open(path, &out, &diags));
    fputs("whole", out.file);
    assert_true(su_out_commit(&out, &diags));

    char *text;
    size_t size;
    assert_true(su_read_file(&arena, path, 5, &text, &size, &diags));
    assert_string_equal(text, "whole");
    SuMap map;
    assert_true(su_map_open(path, &map, &diags));
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.data, "whole", 5);
    su_map_close(&map);
    assert_int_equal(diags.errors, 0);
    unlink(path);
    su_arena_free(&arena);
    su_diags_free(&diags);
}

/* In place of the C library's: counts what is synced, and fails for directories with directory_error. */
static int files_synced, directories_synced, directory_error;

int fsync(int fd) {
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISDIR(st.st_mode)) {
        files_synced++;
        return (int)syscall(SYS_fsync, fd);
    }
    assert_int_equal(files_synced > 0, 1); /* what the name leads to comes first */
    directories_synced++;
    errno = directory_error;
    return directory_error ? -1 : 0;
}

/* Writes a file anew; whether that succeeded. */
static bool commit_one(const char *path, bool sync, SuDiags *diags) {
    SuOut out;
    files_synced = directories_synced = 0;
    assert_true(su_out_open(path, &out, diags));
    fputs("text", out.file);
    return (sync ? su_out_commit : su_out_commit_unsynced)(&out, diags);
}

static void a_committed_file_outlives_a_crash(void **state) {
    (void)state;
    SuDiags diags = {0};
    SuArena arena = {0};
    const char *path = su_printf(&arena, "%s/out", directory);
    assert_true(commit_one(path, true, &diags));
    assert_true(files_synced == 1 && directories_synced == 1);
    assert_true(commit_one(path, false, &diags));
    assert_true(files_synced == 0 && directories_synced == 0);
    directory_error = EINVAL; /* a file system that does not do that */
    assert_true(commit_one(path, true, &diags));
    assert_int_equal(diags.errors, 0);
    directory_error = EIO;
    assert_false(commit_one(path, true, &diags));
    directory_error = 0;
    assert_non_null(strstr(diags.items[0].message, "cannot write: Input/output error"));
    unlink(path);
    su_arena_free(&arena);
    su_diags_free(&diags);
}

static void a_directory_that_may_not_be_read_can_be_written_to(void **state) {
    (void)state;
    SuDiags diags = {0};
    SuArena arena = {0};
    const char *path = su_printf(&arena, "%s/out", directory);
    uid_t user = geteuid();
    assert_int_equal(chmod(directory, 0333), 0);
    if (user == 0) assert_int_equal(seteuid(65534), 0); /* root may read it all the same */
    bool ok = commit_one(path, true, &diags);
    assert_int_equal(directories_synced, 0);
    assert_int_equal(seteuid(user), 0);
    assert_true(ok && diags.errors == 0);
    chmod(directory, 0700);
    unlink(path);
    su_arena_free(&arena);
    su_diags_free(&diags);
}

static const char *make_file(SuArena *arena, const char *name) {
    const char *path = su_printf(arena, "%s/%s", directory, name);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
    return path;
}

static void temporaries_of_killed_writers_are_removed(void **state) {
    (void)state;
    SuDiags diags = {0};
    SuArena arena = {0};
    SuOut out, other;
    const char *path = su_printf(&arena, "%s/out", directory);
    assert_true(su_out_open(path, &other, &diags)); /* another writer, who lives */
    const char *stale = make_file(&arena, "out.mossc-tmp-abcdef"), *longer = make_file(&arena, "out.mossc-tmp-backups");
    const char *of_another = make_file(&arena, "out2.mossc-tmp-abcdef");
    assert_true(su_out_open(path, &out, &diags));
    assert_int_equal(access(stale, F_OK), -1);
    assert_int_equal(access(longer, F_OK), 0);
    assert_int_equal(access(of_another, F_OK), 0);
    assert_true(su_out_commit(&out, &diags));
    assert_true(su_out_commit(&other, &diags));
    assert_int_equal(diags.errors, 0);
    unlink(path);
    unlink(longer);
    unlink(of_another);
    su_arena_free(&arena);
    su_diags_free(&diags);
}

static void a_file_that_finds_no_room_is_named_with_the_reason(void **state) {
    (void)state;
    SuDiags diags = {0};
    SuArena arena = {0};
    SuOut out;
    char block[512] = {0};
    const char *path = make_file(&arena, "out");
    struct rlimit usual, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &usual), 0);
    small = (struct rlimit){1000, usual.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_true(su_out_open(path, &out, &diags));
    for (int i = 0; i < 100; i++) fwrite(block, 1, sizeof block, out.file);
    errno = 0; /* whoever wrote did not keep the reason */
    assert_false(su_out_commit(&out, &diags));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &usual), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_non_null(strstr(diags.items[0].message, "file size limit exceeded"));
    assert_string_equal(diags.items[0].span.source->path, path);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 0); /* the old one */
    unlink(path);
    su_arena_free(&arena);
    su_diags_free(&diags);
}

static void reading_refuses_what_it_cannot_read(void **state) {
    (void)state;
    SuDiags diags = {0};
    SuArena arena = {0};
    SuOut out;
    SuMap map;
    char *text, *path = su_printf(&arena, "%s/big", directory);
    size_t size;
    assert_true(su_out_open(path, &out, &diags));
    fputs("123456", out.file);
    assert_true(su_out_commit(&out, &diags));
    assert_false(su_read_file(&arena, path, 5, &text, &size, &diags));
    assert_non_null(strstr(diags.items[0].message, "limit of 5 bytes"));
    assert_false(su_read_file(&arena, directory, 5, &text, &size, &diags));
    assert_non_null(strstr(diags.items[1].message, "directory"));
    assert_false(su_map_open(directory, &map, &diags));
    assert_false(su_read_file(&arena, "/nonexistent/file", 5, &text, &size, &diags));
    assert_non_null(strstr(diags.items[3].message, "No such file"));
    assert_false(su_out_open("/nonexistent/file", &out, &diags));
    assert_int_equal(diags.errors, 5);
    unlink(path);
    su_arena_free(&arena);
    su_diags_free(&diags);
}

static void codes_are_words_of_their_own(void **state) {
    (void)state;
    static const char *const ids[] = {
#define SU_CODE(name, id, severity, what) id,
#include "support/diag.def"
    };
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        assert_string_equal(su_code_id((SuCode)i), ids[i]);
        assert_int_equal(strspn(ids[i], "abcdefghijklmnopqrstuvwxyz0123456789-"), strlen(ids[i]));
        for (size_t j = 0; j < i; j++) assert_string_not_equal(ids[i], ids[j]);
    }
}

static void a_code_says_how_bad_it_is(void **state) {
    (void)state;
    SuDiags diags = {0};
    assert_false(su_report(&diags, SU_CODE_unknown_key, (SuSpan){0}, NULL, "a"));
    su_report(&diags, SU_CODE_no_positions, (SuSpan){0}, NULL, "b");
    su_error(&diags, (SuSpan){0}, NULL, "c");
    assert_true(diags.errors == 2 && diags.warnings == 1);
    assert_true(diags.items[0].severity == SU_ERROR && diags.items[1].severity == SU_WARNING);
    assert_int_equal(diags.items[2].code, SU_CODE_failed);
    su_diags_free(&diags);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_gives_zeroed_aligned_blocks),
        cmocka_unit_test(arena_grows_arrays_and_keeps_their_items),
        cmocka_unit_test(arena_prints_texts_of_any_length),
        cmocka_unit_test(text_grows),
        cmocka_unit_test(nearest_finds_typos_only),
        cmocka_unit_test(reals_are_printed_short_and_whole),
        cmocka_unit_test(utf8_is_decoded_as_it_was_encoded),
        cmocka_unit_test(caret_stands_below_its_character),
        cmocka_unit_test(long_lines_are_cut_around_the_caret),
        cmocka_unit_test(control_characters_never_reach_the_terminal),
        cmocka_unit_test(overlong_forms_and_surrogates_never_reach_the_terminal),
        cmocka_unit_test(errors_past_the_limit_are_counted),
        cmocka_unit_test(errors_outlive_the_guards_around_them),
        cmocka_unit_test(json_is_freed_when_a_guard_is_ended),
        cmocka_unit_test(codes_are_words_of_their_own),
        cmocka_unit_test(a_code_says_how_bad_it_is),
        cmocka_unit_test(a_file_appears_only_when_complete),
        cmocka_unit_test(a_committed_file_outlives_a_crash),
        cmocka_unit_test(a_directory_that_may_not_be_read_can_be_written_to),
        cmocka_unit_test(temporaries_of_killed_writers_are_removed),
        cmocka_unit_test(a_file_that_finds_no_room_is_named_with_the_reason),
        cmocka_unit_test(reading_refuses_what_it_cannot_read),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
