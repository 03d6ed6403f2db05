/* The spaces of docs/explore.md: a block with the info string `yaml space` is a good space, and `yaml space-error TEXT` is one that is
 * refused with a message that holds TEXT. */
#include <stdio.h>
#include <stdlib.h>

#include "support/file.h"
#include "tests/explore/helpers.h"

static const char *page = "docs/explore.md"; /* or the first argument */

/* The first line of a block, behind the fence: "", or the text that its error must hold. */
static void check_block(const char *wanted, const char *text, size_t size) {
    ExSpace space;
    SuDiags diags = {0};
    bool ok = ex_space_parse(page, text, size, &space, &diags), found = false;
    for (size_t i = 0; i < diags.count; i++) found = found || strstr(diags.items[i].message, wanted);
    if (ok == (*wanted != '\0') || (*wanted && !found)) {
        su_diags_print(&diags, stderr);
        fail_msg("expected %s%s of\n%.*s", *wanted ? "an error with " : "no error", wanted, (int)size, text);
    }
    ex_space_free(&space);
    su_diags_free(&diags);
}

static void the_spaces_of_the_page(void **state) {
    (void)state;
    static const char good[] = "\n```yaml space\n", bad[] = "\n```yaml space-error ";
    SuArena arena = {0};
    SuDiags diags = {0};
    char *text, wanted[200];
    size_t size;
    int blocks = 0;
    assert_true(su_read_file(&arena, page, 1 << 20, &text, &size, &diags));
    for (const char *at = text; (at = strstr(at, "\n```yaml space")) != NULL; blocks++) {
        size_t skip = strncmp(at, good, strlen(good)) == 0 ? strlen(good) - 1 : strlen(bad);
        assert_true(skip == strlen(good) - 1 || strncmp(at, bad, strlen(bad)) == 0);
        const char *start = strchr(at + skip, '\n') + 1, *end = strstr(start, "\n```");
        assert_non_null(end);
        snprintf(wanted, sizeof wanted, "%.*s", (int)(start - 1 - at - (ptrdiff_t)skip), at + skip);
        check_block(wanted, start, (size_t)(end - start) + 1);
        at = end;
    }
    assert_true(blocks >= 5);
    su_arena_free(&arena);
    su_diags_free(&diags);
}

int main(int argc, char **argv) {
    if (argc > 1) page = argv[1];
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_spaces_of_the_page)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
