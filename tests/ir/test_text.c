/* The text form and the verifier, on every .mir file of a directory:
 *
 *   test_text DIRECTORY
 *
 * A file whose lines carry `# error: TEXT` must be refused by parser or verifier with exactly these errors, each at its line and
 * holding TEXT (`# error-of-graph: TEXT`: one that has no place). Any other file must verify, and what is printed from it must
 * parse to an equal graph that prints the same; when its first line is `# exact`, the rest is what is printed. Each file is then
 * damaged in many ways, and reading it must end in a graph or in errors. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ir/graph.h"
#include "support/file.h"

typedef struct Expected {
    uint32_t line; /* 0: no place */
    const char *text;
    bool seen;
} Expected;

enum { MAX_EXPECTED = 16, MUTATIONS = 400 };

typedef struct Case {
    const char *path;
    SuArena arena;
    SuSource source;
    Expected expected[MAX_EXPECTED];
    int n_expected;
    bool failed;
} Case;

static void complain(Case *c, const char *what, const char *detail) {
    fprintf(stderr, "%s: %s%s\n", c->path, what, detail);
    c->failed = true;
}

/* ---------------------------------------------------------------------------------------------- what a file expects */

static void find_expected(Case *c) {
    uint32_t line = 1;
    char *rest = su_strdup(&c->arena, c->source.text);
    for (char *text; (text = strsep(&rest, "\n")) != NULL; line++) {
        char *at = strstr(text, "# error: "), *of_graph = strstr(text, "# error-of-graph: ");
        if ((at || of_graph) && c->n_expected == MAX_EXPECTED) complain(c, "expects too many errors", "");
        if ((!at && !of_graph) || c->n_expected == MAX_EXPECTED) continue;
        const char *message = at ? at + strlen("# error: ") : of_graph + strlen("# error-of-graph: ");
        c->expected[c->n_expected++] = (Expected){at ? line : 0, message, false};
    }
}

static void match_error(Case *c, const SuDiag *diag) {
    for (int i = 0; i < c->n_expected; i++) {
        Expected *e = &c->expected[i];
        if (e->seen || e->line != diag->span.line || !strstr(diag->message, e->text)) continue;
        e->seen = true;
        return;
    }
    complain(c, "unexpected error: ", su_printf(&c->arena, "line %u: %s", diag->span.line, diag->message));
}

/* ---------------------------------------------------------------------------------------------- good files */

static char *print(Case *c, const IrGraph *g) {
    char *text, *kept;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out) abort();
    ir_print(g, out);
    fclose(out);
    kept = su_strdup(&c->arena, text);
    free(text);
    return kept;
}

static void check_round_trip(Case *c, const IrGraph *g, SuDiags *diags) {
    SuSource printed = {.path = "printed", .text = print(c, g)};
    printed.size = strlen(printed.text);
    const IrGraph *again = ir_parse(&c->arena, &printed, diags);
    const char *difference = "";
    if (!again || !ir_verify(again, diags)) {
        complain(c, "what it prints is refused", "");
        su_diags_print(diags, stderr);
    } else if (!ir_graph_equal(g, again, &difference)) {
        complain(c, "what it prints differs in ", difference);
    } else if (strcmp(print(c, again), printed.text) != 0) {
        complain(c, "printed twice, it differs", "");
    }
    const char *exact = "# exact\n";
    if (strncmp(c->source.text, exact, strlen(exact)) == 0 && strcmp(c->source.text + strlen(exact), printed.text) != 0)
        complain(c, "prints as:\n", printed.text);
}

static void check_file(Case *c) {
    SuDiags diags = {0};
    const IrGraph *g = ir_parse(&c->arena, &c->source, &diags);
    bool ok = g && ir_verify(g, &diags);
    if (ok != (diags.errors == 0)) complain(c, "errors and result disagree", "");
    for (size_t i = 0; i < diags.count; i++) match_error(c, &diags.items[i]);
    for (int i = 0; i < c->n_expected; i++)
        if (!c->expected[i].seen) complain(c, "missing error: ", c->expected[i].text);
    if (ok) check_round_trip(c, g, &diags);
    su_diags_free(&diags);
}

/* ---------------------------------------------------------------------------------------------- damaged files */

/* The text is copied to memory of its exact size, so that a sanitizer sees a read past its end. */
static void read_damaged(Case *c, const char *text, size_t size) {
    SuArena arena = {0};
    SuDiags diags = {0};
    char *exact = malloc(size > 0 ? size : 1);
    if (!exact) abort();
    memcpy(exact, text, size);
    SuSource source = {.path = "damaged", .text = exact, .size = size};
    const IrGraph *g = ir_parse(&arena, &source, &diags);
    bool ok = g && ir_verify(g, &diags);
    if (ok != (diags.errors == 0)) complain(c, "damaged, errors and result disagree", "");
    if (ok) print(c, g);
    su_diags_free(&diags);
    su_arena_free(&arena);
    free(exact);
}

static void damage(Case *c) {
    for (size_t size = 0; size < c->source.size; size += 1 + size / 97) read_damaged(c, c->source.text, size);
    char *text = su_strdup(&c->arena, c->source.text);
    uint32_t random = 1;
    for (int i = 0; i < MUTATIONS && c->source.size > 0; i++) {
        random = random * 1664525u + 1013904223u;
        size_t at = (random >> 8) % c->source.size, from = (random >> 4) % c->source.size;
        char old = text[at];
        text[at] = i % 2 ? text[from] : (char)(random >> 24);
        read_damaged(c, text, c->source.size);
        if (i % 8) text[at] = old; /* some damage stays */
    }
}

/* ---------------------------------------------------------------------------------------------- the directory */

static bool check_path(const char *path) {
    Case c = {.path = path};
    SuDiags diags = {0};
    char *text;
    size_t size;
    if (!su_read_file(&c.arena, path, 1 << 20, &text, &size, &diags)) {
        su_diags_print(&diags, stderr);
        return false;
    }
    c.source = (SuSource){path, text, size};
    find_expected(&c);
    check_file(&c);
    damage(&c);
    su_diags_free(&diags);
    su_arena_free(&c.arena);
    return !c.failed;
}

int main(int argc, char **argv) {
    DIR *directory = argc == 2 ? opendir(argv[1]) : NULL;
    if (!directory) {
        fprintf(stderr, "usage: test_text DIRECTORY\n");
        return 2;
    }
    int files = 0, bad = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        size_t size = strlen(entry->d_name);
        if (size < 4 || strcmp(entry->d_name + size - 4, ".mir") != 0) continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        files++;
        bad += !check_path(path);
    }
    closedir(directory);
    printf("%d files, %d failed\n", files, bad);
    return files == 0 || bad > 0;
}
