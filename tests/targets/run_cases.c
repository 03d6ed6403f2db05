/* Runs the models of make_cases where they are meant to run, and compares every logit bit for bit; those with a tolerance so where a
 * step has one row.
 *
 *     run_cases DIRECTORY
 *
 * Each is fed its tokens as one prompt, in uneven chunks, token by token, and in two sequences side by side. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cases.h"
#include "ir/program.h"
#include "mossc/moss.h"

typedef struct Run {
    const Case *c;
    const char *how;
    MossModel *model;
    int32_t *tokens; /* [T] */
    float *logits; /* [T][V], as they must be */
    double rms, worst; /* of them; the largest distance from them so far, of it */
} Run;

static void *read_file(const char *directory, const Case *c, const char *suffix, size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.%s", directory, c->name, suffix);
    FILE *file = fopen(path, "rb");
    void *bytes = malloc(size);
    if (file == NULL || bytes == NULL || fread(bytes, 1, size, file) != size) {
        fprintf(stderr, "%s cannot be read\n", path);
        exit(2);
    }
    fclose(file);
    return bytes;
}

static bool fail(const Run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(const Run *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("FAILED: %s (%s), %s: ", r->c->what, r->c->name, r->how);
    vprintf(format, args);
    puts("");
    va_end(args);
    return false;
}

static bool moss_ok(const Run *r, MossError error) { return error.code == MOSS_OK || fail(r, "%s", error.text); }

static bool same_bits(const Run *r, const float *got, int64_t token) {
    const float *want = r->logits + token * r->c->V;
    for (int64_t v = 0; v < r->c->V; v++)
        if (memcmp(&got[v], &want[v], sizeof *got) != 0)
            return fail(r, "token %lld, logit %lld is %a, not %a", (long long)token, (long long)v, (double)got[v], (double)want[v]);
    return true;
}

/* The logits of a token in a step of `rows` rows. */
static bool good_logits(Run *r, const float *got, int64_t token, uint32_t rows) {
    if (r->c->tolerance == 0 || rows == 1) return same_bits(r, got, token);
    const float *want = r->logits + token * r->c->V;
    for (int64_t v = 0; v < r->c->V; v++) {
        double off = fabs((double)got[v] - (double)want[v]) / r->rms;
        if (!(off <= r->c->tolerance))
            return fail(r, "token %lld, logit %lld is %g, not about %g", (long long)token, (long long)v, (double)got[v],
                        (double)want[v]);
        if (off > r->worst) r->worst = off;
    }
    return true;
}

/* All tokens from `at` on, at most `chunk` a step; `other` (or NULL) is fed the same, in the same steps. */
static bool feed(Run *r, MossState *state, MossState *other, int64_t chunk) {
    int64_t most = r->c->program->max_rows / (other ? 2 : 1);
    chunk = chunk < most ? chunk : most;
    for (int64_t at = 0; at < r->c->T; at += chunk) {
        uint32_t count = (uint32_t)(r->c->T - at < chunk ? r->c->T - at : chunk), rows = other ? 2 * count : count;
        MossSegment segments[2] = {{state, r->tokens + at, count, MOSS_ALL_LOGITS},
                                   {other, r->tokens + at, count, MOSS_LAST_LOGITS}};
        if (!moss_ok(r, moss_step(r->model, segments, other ? 2 : 1))) return false;
        for (uint32_t i = 0; i < count; i++)
            if (!good_logits(r, moss_logits(r->model, i), at + i, rows)) return false;
        if (other && !good_logits(r, moss_logits(r->model, count), at + count - 1, rows)) return false;
    }
    return true;
}

static bool run_ways(Run *r) {
    static const struct {
        const char *how;
        int64_t chunk;
        bool two;
    } ways[] = {{"as one prompt", INT64_MAX, false},
                {"in chunks of 13", 13, false},
                {"token by token", 1, false},
                {"two sequences in chunks of 5", 5, true}};
    MossState *states[2] = {NULL, NULL};
    bool ok = moss_ok(r, moss_state_create(r->model, &states[0])) && moss_ok(r, moss_state_create(r->model, &states[1]));
    for (size_t i = 0; i < sizeof ways / sizeof ways[0] && ok; i++) {
        r->how = ways[i].how;
        moss_state_reset(states[0]);
        moss_state_reset(states[1]);
        ok = feed(r, states[0], ways[i].two ? states[1] : NULL, ways[i].chunk);
    }
    moss_state_free(states[0]);
    moss_state_free(states[1]);
    return ok;
}

static bool run_case(const Case *c, const char *directory, int threads) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s.weights", directory, c->name);
    Run r = {.c = c, .how = "loading"};
    MossOptions options = {.size = sizeof options, .threads = threads};
    if (!moss_ok(&r, moss_model_open(c->program, c->codes, path, &options, &r.model))) return false;
    r.tokens = read_file(directory, c, "tokens", (size_t)c->T * sizeof *r.tokens);
    r.logits = read_file(directory, c, "logits", (size_t)(c->T * c->V) * sizeof *r.logits);
    double squares = 0;
    for (int64_t i = 0; i < c->T * c->V; i++) squares += (double)r.logits[i] * (double)r.logits[i];
    r.rms = sqrt(squares / (double)(c->T * c->V));
    bool ok = run_ways(&r);
    if (ok && c->tolerance > 0 && r.worst == 0) ok = fail(&r, "nothing was rounded");
    if (c->tolerance > 0) printf("%s, %s: off by %.2g of the rms\n", c->name, c->what, r.worst);
    free(r.tokens);
    free(r.logits);
    moss_model_free(r.model);
    return ok;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fputs("usage: run_cases DIRECTORY\n", stderr);
        return 2;
    }
    int failed = 0;
    for (int i = 0; i < n_cases; i++) failed += !run_case(&cases[i], argv[1], i % 8 == 7 ? 2 : 1);
    printf("%d models, %d failed\n", n_cases, failed);
    return failed == 0 ? 0 : 1;
}
