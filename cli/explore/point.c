/* mossc explore point: what is known of points, for programs; and measuring single ones. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/explore/explore.h"
#include "cli/show.h"
#include "explore/about.h"
#include "explore/measure.h"

enum { MOST_CANDIDATES = 1000000, ROUNDS = 5 };

typedef struct PointOptions {
    CliTexts points;
    int64_t candidates, rounds;
    bool spread, measure, quality, progress;
} PointOptions;

typedef struct Asked {
    ExStudy study;
    ExScratch *scratch;
    const PointOptions *options;
    DrProgress progress;
    SuArena arena;
    uint64_t *points;
    size_t n, device;
    SuDiags diags;
} Asked;

static bool read_point(const char *text, uint64_t *out) {
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

/* One line; it is whole before the next point begins. */
static void print_line(cJSON *root) {
    char *text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    if (text) puts(text);
    fflush(stdout);
    cJSON_free(text);
}

static ExMeasureOptions measure_options(const Asked *a) {
    const PointOptions *o = a->options;
    return (ExMeasureOptions){.points = (uint64_t)o->candidates,
                              .rounds = o->rounds ? o->rounds : ROUNDS,
                              .spread = o->spread,
                              .near = cli_explore_near(&a->study.devices[a->device]),
                              .progress = a->progress};
}

/* Adds "measured", the line of the point. */
static bool measure(Asked *a, uint64_t index, cJSON *about) {
    const PointOptions *o = a->options;
    ExMeasureOptions options = measure_options(a);
    cJSON *line;
    bool point = strcmp(cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(about, "state")), "point") == 0;
    if (!point || !(o->measure || o->quality)) return true;
    if (!ex_measure_point(&a->study, a->device, index, o->measure, o->quality, &options, &line, &a->diags)) return false;
    cJSON_AddItemToObject(about, "measured", line);
    return true;
}

static bool tell(Asked *a, uint64_t index) {
    SuGuard guard;
    cJSON *about = NULL;
    if (SU_CAUGHT(&guard, &a->diags, "a point")) return false;
    about = ex_about_point(&a->study, a->scratch, index, &a->diags);
    su_guard_end(&guard);
    if (!about) return false;
    bool ok = measure(a, index, about);
    print_line(about);
    return ok;
}

/* The points that were named, or candidates. */
static bool choose(Asked *a) {
    const PointOptions *o = a->options;
    if (!o->candidates) {
        a->n = o->points.count;
        a->points = SU_NEW_ARRAY(&a->arena, uint64_t, a->n);
        for (size_t i = 0; i < a->n; i++) read_point(o->points.items[i], &a->points[i]);
        return true;
    }
    ExMeasureOptions options = measure_options(a);
    if (!ex_candidates(&a->study, a->device, &options, &a->arena, &a->points, &a->n, &a->diags)) return false;
    if (a->n > (size_t)o->candidates) a->n = (size_t)o->candidates;
    return true;
}

static bool find_device(Asked *a) {
    if (a->options->measure) return cli_explore_host(&a->study, NULL, &a->device, &a->diags);
    const size_t host = ex_study_host(&a->study);
    a->device = host < a->study.n_devices ? host : 0;
    return true;
}

static bool answer(Asked *a, const char *directory) {
    if (!ex_study_open(directory, &a->study, &a->diags) || !find_device(a)) return false;
    ExCoster *coster = ex_study_coster(&a->study, &a->diags);
    a->scratch = coster ? ex_scratch_create(coster) : NULL;
    SuGuard guard;
    volatile bool ok = false;
    if (a->scratch && !SU_CAUGHT(&guard, &a->diags, "choosing points")) {
        ok = choose(a);
        su_guard_end(&guard);
    }
    for (size_t i = 0; ok && i < a->n; i++) ok = tell(a, a->points[i]);
    ex_scratch_free(a->scratch);
    ex_coster_free(coster);
    return ok;
}

static int run(const CliCommand *command, CliArgs *args) {
    PointOptions o = {0};
    uint64_t index;
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (!o.candidates == !o.points.count) return cli_usage_error(command, "give either --point K or --candidates N");
    if (!o.candidates && o.spread) return cli_usage_error(command, "--spread needs --candidates N");
    if (!o.measure && o.rounds) return cli_usage_error(command, "--rounds needs --measure");
    for (size_t i = 0; i < o.points.count; i++)
        if (!read_point(o.points.items[i], &index))
            return cli_usage_error(command, "--point: expected the index of a point, got '%s'", o.points.items[i]);
    CliReporter reporter = {.asked = o.progress};
    Asked asked = {.options = &o, .progress = cli_reporter_hooks(&reporter), .arena = SU_ARENA_FREE};
    bool ok = answer(&asked, args->positionals[0]);
    status = cli_finish(&asked.diags, ok);
    su_arena_free(&asked.arena);
    ex_study_close(&asked.study);
    return status;
}

static const CliOption table[] = {
    CLI_ROW_TEXTS(PointOptions, points, "point", 0, "K", false, "index of a point; may be given several times"),
    CLI_ROW_INT(PointOptions, candidates, "candidates", 0, "N", 1, MOST_CANDIDATES,
                "the N points that `mossc explore --measure N` would measure, in its order"),
    CLI_ROW_FLAG(PointOptions, spread, "spread", "with --candidates: points all over the space"),
    CLI_ROW_FLAG(PointOptions, measure, "measure", "compile and run each point on this machine, one process at a time"),
    CLI_ROW_FLAG(PointOptions, quality, "quality", "judge each point by the space's command"),
    CLI_ROW_INT(PointOptions, rounds, "rounds", 0, "R", 1, 1000, "with --measure: rounds of which the fastest counts (default 5)"),
    CLI_OPTION_PROGRESS(PointOptions),
};

const CliCommand cli_explore_point = {
    .name = "explore point",
    .summary = "what is known of points, as JSON; measure single ones",
    .synopsis = "DIR (--point K... | --candidates N) [OPTION]...",
    .about =
        "Prints a line of JSON for each point: `index`, `state` (`point`, `twin`, `excluded`, `invalid`), of a twin the index "
        "`twin_of`, of an invalid one `why`, `values` of the axes; and of a point `spec_hash` and for each of `devices` the "
        "`fidelity` of its times, whether it is `within` the budgets, and its `metrics`.\n\n"
        "With --measure or --quality a point has `measured`, too: the line of measurements.jsonl. Nothing is written into DIR: "
        "`mossc explore collect` takes such lines in. This is what a program needs that drives an exploration on many machines; "
        "`python -m mossc.explore` is one.",
    .examples = "mossc explore point out --point 17\n"
                "mossc explore point out --point 17 --measure --rounds 20\n"
                "mossc explore point out --candidates 8\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
