/* Every file in tests/errors (with SPACES: of spaces, in tests/explore/wrong) says what it expects, at the line where it expects it:
 *
 *   key: value   # error: text            an error at this line whose message contains the text
 *   # error@+1: text, # warning: text      … one line further down; a warning
 *   # set: PATH=VALUE                      a --set for this file;  # set-error: text   an error in a --set
 *
 * Nothing more and nothing less may be reported; a file without errors must be a good spec. codes.txt of the directory has the
 * codes of each file's messages: a line is "FILE CODE CODE…"; without --codes they are compared, with it printed.
 * Usage: test_errors DIRECTORY [FILE] [--codes] */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef SPACES
#include "explore/space.h"
#endif
#include "frontend/spec.h"
#include "support/file.h"
#include "support/str.h"

enum { MOST = 64 };

typedef struct Expectation {
    SuSeverity severity;
    bool in_set;
    uint32_t line;
    const char *text;
    bool met;
} Expectation;

typedef struct Case {
    SuArena arena;
    Expectation items[MOST];
    size_t count;
    const char *sets[MOST];
    size_t n_sets;
} Case;

/* Text from `at` to the next comment of ours or the end of the line, without blanks around it. */
static char *rest(Case *c, const char *at) {
    size_t size = strcspn(at, "\n");
    const char *next = memmem(at, size, " # ", 3);
    size = next ? (size_t)(next - at) : size;
    while (size && *at == ' ') {
        at++;
        size--;
    }
    while (size && at[size - 1] == ' ') size--;
    return su_strndup(&c->arena, at, size);
}

static void read_comment(Case *c, const char *at, uint32_t line) {
    static const struct {
        const char *word;
        SuSeverity severity;
        bool in_set;
    } kinds[] = {{"# error", SU_ERROR, false}, {"# warning", SU_WARNING, false}, {"# set-error", SU_ERROR, true}};
    if (strncmp(at, "# set: ", 7) == 0 && c->n_sets < MOST) c->sets[c->n_sets++] = rest(c, at + 7);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t size = strlen(kinds[i].word);
        if (strncmp(at, kinds[i].word, size) != 0 || (at[size] != ':' && at[size] != '@') || c->count == MOST) continue;
        char *end = (char *)(uintptr_t)at + size;
        long offset = *end == '@' ? strtol(end + 1, &end, 10) : 0;
        Expectation e = {kinds[i].severity, kinds[i].in_set, (uint32_t)((long)line + offset), rest(c, end + 1), false};
        c->items[c->count++] = e;
    }
}

static void read_expectations(Case *c, const char *text) {
    uint32_t line = 1;
    for (const char *at = text; *at; at++) {
        if (*at == '#' && at[1] == ' ' && (at == text || at[-1] == ' ' || at[-1] == '\n')) read_comment(c, at, line);
        line += *at == '\n';
    }
}

static bool matches(const Expectation *e, const SuDiag *d, const char *path) {
    bool in_file = d->span.source && strcmp(d->span.source->path, path) == 0;
    return !e->met && e->severity == d->severity && e->in_set == !in_file && (e->in_set || e->line == d->span.line) &&
           strstr(d->message, e->text);
}

/* Number of differences between what was expected and what was reported. */
static int compare(Case *c, const SuDiags *diags, const char *path) {
    int failures = 0;
    for (size_t i = 0; i < diags->count; i++) {
        const SuDiag *d = &diags->items[i];
        Expectation *found = NULL;
        for (size_t j = 0; j < c->count && !found; j++) found = matches(&c->items[j], d, path) ? &c->items[j] : NULL;
        if (found) {
            found->met = true;
        } else {
            printf("%s:%u: not expected: %s\n", path, (unsigned)d->span.line, d->message);
            failures++;
        }
        if (d->span.line == 0 || d->span.column == 0) {
            printf("%s: no place: %s\n", path, d->message);
            failures++;
        }
    }
    for (size_t j = 0; j < c->count; j++) {
        if (!c->items[j].met) {
            printf("%s:%u: not reported: %s\n", path, (unsigned)c->items[j].line, c->items[j].text);
            failures++;
        }
    }
    return failures;
}

/* "FILE CODE CODE…\n" is a line of the list; a file without messages has none. */
static int compare_codes(Case *c, const SuDiags *diags, const char *path, const char *codes) {
    const char *slash = strrchr(path, '/'), *line = slash ? slash + 1 : path;
    for (size_t i = 0; i < diags->count; i++) line = su_printf(&c->arena, "%s %s", line, su_code_id(diags->items[i].code));
    line = su_printf(&c->arena, "\n%s\n", line);
    if (diags->count == 0) return 0;
    if (!codes) printf("%s", line + 1);
    if (!codes || strstr(codes, line)) return 0;
    printf("%s: not in codes.txt: %s", path, line + 1);
    return 1;
}

/* What is read: a spec, or a space. */
#ifdef SPACES
typedef ExSpace Read;

static bool load(const Case *c, const char *path, Read *out, SuDiags *diags) {
    (void)c;
    return ex_space_load(path, out, diags);
}

static void unload(Read *read) { ex_space_free(read); }
#else
typedef FeSpec Read;

static bool load(const Case *c, const char *path, Read *out, SuDiags *diags) {
    return fe_spec_load(path, c->sets, c->n_sets, out, diags);
}

static void unload(Read *read) { fe_spec_free(read); }
#endif

static int run_case(const char *path, const char *codes) {
    Case c = {0};
    Read read;
    SuDiags diags = {0};
    char *text;
    size_t size;
    if (!su_read_file(&c.arena, path, 1 << 20, &text, &size, &diags)) {
        su_diags_print(&diags, stdout);
        su_diags_free(&diags);
        return 1;
    }
    read_expectations(&c, text);
    bool ok = load(&c, path, &read, &diags);
    int failures = compare(&c, &diags, path) + compare_codes(&c, &diags, path, codes);
    if (ok != (diags.errors == 0)) {
        printf("%s: result %d with %zu errors\n", path, ok, diags.errors);
        failures++;
    }
    FILE *sink = fopen("/dev/null", "w"); /* printing must hold for every message and place */
    if (sink) {
        su_diags_print(&diags, sink);
        fclose(sink);
    }
    unload(&read);
    su_diags_free(&diags);
    su_arena_free(&c.arena);
    return failures;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: test_errors DIRECTORY [FILE]\n");
        return 2;
    }
    bool print_codes = strcmp(argv[argc - 1], "--codes") == 0;
    SuArena arena = {0};
    SuDiags diags = {0};
    char *codes = NULL;
    size_t codes_size;
    argc -= print_codes;
    if (!print_codes && !su_read_file(&arena, su_printf(&arena, "%s/codes.txt", argv[1]), 1 << 20, &codes, &codes_size, &diags)) {
        su_diags_print(&diags, stdout);
        return 1;
    }
    if (codes) codes = su_printf(&arena, "\n%s", codes);
    DIR *directory = opendir(argv[1]);
    int files = 0, failures = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        size_t size = strlen(entry->d_name);
        if (size < 5 || strcmp(entry->d_name + size - 5, ".yaml") != 0 || (argc > 2 && strcmp(argv[2], entry->d_name) != 0))
            continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        failures += run_case(path, codes);
        files++;
    }
    if (directory) closedir(directory);
    if (!print_codes) printf("%d files, %d differences\n", files, failures);
    su_arena_free(&arena);
    return files == 0 || failures != 0;
}
