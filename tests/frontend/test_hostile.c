/* Files that are made to hurt: each must end in an error, at once, without much memory. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "support/str.h"
#include "tests/frontend/helpers.h"

enum { SECONDS = 5 }; /* bound of one file, wide enough for sanitizers on a loaded machine; each takes well under one without */

static void repeat(SuText *text, const char *piece, size_t count) {
    for (size_t i = 0; i < count; i++) su_text_append(text, piece, strlen(piece));
}

/* Loads `text` (freed), which must fail with `message` as its first error. */
static void must_fail(SuText *text, const char *message) {
    FeSpec spec;
    SuDiags diags = {0};
    clock_t start = clock();
    assert_false(fe_spec_parse("hostile.yaml", text->text, text->size, NULL, 0, &spec, &diags));
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    assert_true(diags.errors > 0);
    if (!strstr(diags.items[0].message, message)) fail_msg("'%s' is not in '%s'", message, diags.items[0].message);
    if (seconds > SECONDS) fail_msg("took %.1f s", seconds);
    fe_spec_free(&spec);
    su_diags_free(&diags);
    su_text_free(text);
}

static void deep_lists(void **state) {
    (void)state;
    SuText text = {0};
    repeat(&text, "[", 1 << 18);
    must_fail(&text, "nested deeper than 64 levels");
}

static void deep_maps(void **state) {
    (void)state;
    SuText text = {0};
    repeat(&text, "{a: ", 1 << 18);
    must_fail(&text, "nested deeper than 64 levels");
}

static void deep_blocks(void **state) {
    (void)state;
    SuText text = {0};
    repeat(&text, "- ", 1 << 18);
    must_fail(&text, "nested deeper than 64 levels");
}

static void deep_keys(void **state) {
    (void)state;
    SuText text = {0};
    repeat(&text, "? ", 1 << 18);
    must_fail(&text, "nested deeper than 64 levels");
}

static void sixty_four_levels_are_allowed(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, HEAD "x-deep: ");
    repeat(&text, "[", 63);
    repeat(&text, "]", 63);
    su_text_add(&text, "\nstack: [ssm]\n");
    Loaded l = load_good(text.text);
    unload(&l);
    text.size = 0;
    su_text_add(&text, HEAD "x-deep: ");
    repeat(&text, "[", 64);
    repeat(&text, "]", 64);
    su_text_add(&text, "\nstack: [ssm]\n");
    must_fail(&text, "nested deeper than 64 levels");
}

static void alias_bomb(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, "x-0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for (int i = 1; i < 20; i++) {
        su_text_add(&text, "x-%d: &a%d [*a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d, *a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1,
                    i - 1, i - 1, i - 1, i - 1, i - 1);
    }
    must_fail(&text, "aliases expand the file beyond");
}

static void merge_bomb(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, "x-0: &a0 {k: {v: 1}}\n");
    for (int i = 1; i < 31; i++)
        su_text_add(&text, "x-%d: &a%d {<<: *a%d, k%d: *a%d, l%d: *a%d}\n", i, i, i - 1, i, i - 1, i, i - 1);
    must_fail(&text, "aliases expand the file beyond");
}

static void aliases_nest_thirty_two_deep(void **state) {
    (void)state;
    for (int deepest = 32; deepest <= 33; deepest++) {
        SuText text = {0};
        su_text_add(&text, HEAD "x-0: &a0 1\n");
        for (int i = 1; i <= deepest; i++) su_text_add(&text, "x-%d: &a%d [*a%d]\n", i, i, i - 1);
        su_text_add(&text, "stack: [ssm]\n");
        if (deepest == 32) {
            Loaded l = load_good(text.text);
            unload(&l);
            su_text_free(&text);
        } else {
            must_fail(&text, "aliases are nested deeper than 32 levels");
        }
    }
}

static void aliases_cannot_hide_depth(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, "x-0: &a0 ");
    repeat(&text, "[", 40);
    repeat(&text, "]", 40);
    su_text_add(&text, "\nx-1: [[[[[[[[[[[[[[[[[[[[[[[[[*a0]]]]]]]]]]]]]]]]]]]]]]]]]\n");
    must_fail(&text, "nested deeper than 64 levels once alias *a0 is expanded");
}

static void expansion_up_to_a_mebibyte_works(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, HEAD "x-0: &a '");
    repeat(&text, "a", 100000);
    su_text_add(&text, "'\nx-1: [*a, *a, *a, *a, *a, *a, *a, *a]\nstack: [ssm]\n");
    Loaded l = load_good(text.text);
    unload(&l);
    text.size = 0;
    su_text_add(&text, HEAD "x-0: &a '");
    repeat(&text, "a", 100000);
    su_text_add(&text, "'\nx-1: [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\nstack: [ssm]\n");
    must_fail(&text, "aliases expand the file beyond 1048576 bytes");
}

static void cyclic_aliases(void **state) {
    (void)state;
    static const char *const files[] = {"&a [*a]\n", "&a {b: *a}\n", "x: &a [1, [2, *a]]\n", "x: &a {<<: *a}\n", "&a {*a : 1}\n"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        SuText text = {0};
        su_text_add(&text, "%s", files[i]);
        must_fail(&text, "inside its own anchor");
    }
}

static void many_anchors_and_aliases(void **state) {
    (void)state;
    SuText text = {0};
    for (int i = 0; i < 100000; i++) su_text_add(&text, "- &a%d x\n", i);
    must_fail(&text, "more than 1024 anchors");
    su_text_add(&text, "- &a x\n");
    for (int i = 1; i < 1024; i++) su_text_add(&text, "- &b%d x\n", i);
    repeat(&text, "- *a\n", 500000);
    must_fail(&text, "aliases expand the file beyond 1048576 bytes");
}

static void many_values(void **state) {
    (void)state;
    SuText text = {0};
    repeat(&text, "-\n", 1 << 18);
    must_fail(&text, "more than 262144 values");
}

static void many_duplicate_keys(void **state) {
    (void)state;
    SuText text = {0};
    repeat(&text, "k: 1\n", 120000);
    must_fail(&text, "duplicate key 'k'");
}

static void many_unknown_keys(void **state) {
    (void)state;
    SuText text = {0};
    for (int i = 0; i < 120000; i++) su_text_add(&text, "d_modl%d: 1\n", i);
    must_fail(&text, "unknown key 'd_modl0'");
}

static void many_wrong_blocks(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, HEAD "stack:\n");
    repeat(&text, "- ssm: {d_state: 0, d_conv: 0, dt_rank: 0, experts: 0}\n", 20000);
    must_fail(&text, "'ssm.d_state'");
}

static void many_defines_and_words(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, HEAD "define:\n");
    for (int i = 0; i < 5000; i++) su_text_add(&text, "  a%d: {mlp: {d_ff: 8}}\n", i);
    su_text_add(&text, "stack:\n");
    repeat(&text, "- a4000\n", 4000);
    must_fail(&text, "more than 4096 named blocks");
}

static void many_tag_directives(void **state) {
    (void)state;
    SuText text = {0};
    for (int i = 0; i < 100000; i++) su_text_add(&text, "%%TAG !a%d! tag:a,2000:\n", i);
    must_fail(&text, "YAML tags have no meaning in a spec");
}

static void nul_bytes(void **state) {
    (void)state;
    static const char file[] = HEAD "stack: [s\0sm]\n";
    SuText text = {0};
    su_text_append(&text, file, sizeof file - 1);
    must_fail(&text, "file contains a NUL byte");
    su_text_append(&text, "\0\0\0\0", 4);
    must_fail(&text, "file contains a NUL byte");
}

static void bad_utf8(void **state) {
    (void)state;
    static const char *const pieces[] = {
        "\xFF", "\xC3(", "\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\x80", "\xE2\x82", "\xF8\x88\x80\x80\x80"};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        SuText text = {0};
        su_text_add(&text, HEAD "x-a: %s", pieces[i]);
        must_fail(&text, "is not valid UTF-8");
    }
}

static void other_encodings_and_controls(void **state) {
    (void)state;
    SuText text = {0};
    su_text_append(&text, "\xFF\xFEm\0:\0", 6);
    must_fail(&text, "byte 0xFF is not valid UTF-8");
    su_text_add(&text, HEAD "x-a: \x1B[2J\n");
    must_fail(&text, "the character U+001B is not allowed in YAML");
}

static void two_documents(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, HEAD "stack: [ssm]\n--- {}\n");
    must_fail(&text, "a second YAML document begins here");
    su_text_add(&text, HEAD "stack: [ssm]\n...\n---\nmossc: 1\n");
    must_fail(&text, "a second YAML document begins here");
}

static void long_scalars(void **state) {
    (void)state;
    SuText text = {0};
    su_text_add(&text, HEAD "stack: [ssm]\nlogit_scale: ");
    repeat(&text, "1", 3 << 20);
    must_fail(&text, "'logit_scale': expected a finite number above 0, got '1111");
    su_text_add(&text, HEAD "stack: [{ssm: {expand: 1.");
    repeat(&text, "0", 3 << 20);
    su_text_add(&text, "1}}]\n");
    must_fail(&text, "is not an integer");
}

/* 100 MB of anything. */
static void large_files(void **state) {
    (void)state;
    enum { SIZE = 100000000 };
    static const char bytes[] = {'[', 'a', '\n', ' ', '#', '\0', '-'};
    char path[] = "/tmp/mossc-hostile-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    char *content = malloc(SIZE);
    assert_non_null(content);
    for (size_t i = 0; i < sizeof bytes; i++) {
        FeSpec spec;
        SuDiags diags = {0};
        memset(content, bytes[i], SIZE);
        assert_false(fe_spec_parse("big", content, SIZE, NULL, 0, &spec, &diags));
        assert_non_null(strstr(diags.items[0].message, "spec exceeds the limit of 4194304 bytes"));
        fe_spec_free(&spec);
        su_diags_free(&diags);
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, SIZE, file), SIZE);
    fclose(file);
    free(content);
    FeSpec spec;
    SuDiags diags = {0};
    clock_t start = clock();
    assert_false(fe_spec_load(path, NULL, 0, &spec, &diags));
    assert_true(clock() - start < CLOCKS_PER_SEC);
    assert_non_null(strstr(diags.items[0].message, "file exceeds the limit of 4194304 bytes"));
    fe_spec_free(&spec);
    su_diags_free(&diags);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deep_lists),
        cmocka_unit_test(deep_maps),
        cmocka_unit_test(deep_blocks),
        cmocka_unit_test(deep_keys),
        cmocka_unit_test(sixty_four_levels_are_allowed),
        cmocka_unit_test(alias_bomb),
        cmocka_unit_test(merge_bomb),
        cmocka_unit_test(aliases_nest_thirty_two_deep),
        cmocka_unit_test(aliases_cannot_hide_depth),
        cmocka_unit_test(expansion_up_to_a_mebibyte_works),
        cmocka_unit_test(cyclic_aliases),
        cmocka_unit_test(many_anchors_and_aliases),
        cmocka_unit_test(many_values),
        cmocka_unit_test(many_duplicate_keys),
        cmocka_unit_test(many_unknown_keys),
        cmocka_unit_test(many_wrong_blocks),
        cmocka_unit_test(many_defines_and_words),
        cmocka_unit_test(many_tag_directives),
        cmocka_unit_test(nul_bytes),
        cmocka_unit_test(bad_utf8),
        cmocka_unit_test(other_encodings_and_controls),
        cmocka_unit_test(two_documents),
        cmocka_unit_test(long_scalars),
        cmocka_unit_test(large_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
