#include "cli/measure/series.h"

#include "driver/device.h"
#include "driver/random_weights.h"

const char *const cli_series_words[] = {[CLI_MD] = "md", [CLI_CSV] = "csv", [CLI_JSON] = "json", [CLI_JSONL] = "jsonl", NULL};

typedef struct Tests {
    MsTest *items;
    size_t count, capacity;
} Tests;

static void add(Tests *tests, SuArena *arena, MsTest test) {
    if (test.prompt + test.tokens == 0) return;
    tests->items = su_grow(arena, tests->items, &tests->capacity, tests->count + 1, sizeof *tests->items);
    tests->items[tests->count++] = test;
}

static Tests tests_of(const CliSeries *s, SuArena *arena) {
    static int64_t prompt = 512, tokens = 128, depth = 0;
    const CliList prompts = s->prompts.count ? s->prompts : (CliList){.items = &prompt, .count = 1};
    const CliList many = s->tokens.count ? s->tokens : (CliList){.items = &tokens, .count = 1};
    const CliList depths = s->depths.count ? s->depths : (CliList){.items = &depth, .count = 1};
    Tests tests = {0};
    for (size_t d = 0; d < depths.count; d++) {
        for (size_t i = 0; i < prompts.count; i++)
            add(&tests, arena, (MsTest){.prompt = prompts.items[i], .depth = depths.items[d]});
        for (size_t i = 0; i < many.count; i++) add(&tests, arena, (MsTest){.tokens = many.items[i], .depth = depths.items[d]});
        for (size_t i = 0; i + 1 < s->pairs.count; i += 2)
            add(&tests, arena, (MsTest){s->pairs.items[i], s->pairs.items[i + 1], depths.items[d]});
    }
    return tests;
}

/* All tests with one number of threads; 0: the default. */
static bool measure(DrBuild *build, const DrBuildOptions *options, const CliSeries *s, const Tests *tests, int64_t *rows) {
    double *seconds = SU_NEW_ARRAY(&build->arena, double, (size_t)s->repeat);
    moss_model_free(build->model); /* before the next: two copies may not fit */
    build->model = NULL;
    if (!dr_build_weights_or_random(build, options, NULL)) return false;
    for (size_t i = 0; i < tests->count; i++) {
        if (!ms_measure_test(build, &tests->items[i], s->chunk, s->repeat, seconds)) return false;
        const int64_t most = build->program->max_rows;
        const CliSeriesRow row = {.build = build,
                                  .spec = options->spec,
                                  .test = tests->items[i],
                                  .threads = moss_model_threads(build->model),
                                  .chunk = s->chunk > 0 && s->chunk < most ? s->chunk : most,
                                  .repeat = s->repeat,
                                  .seconds = seconds};
        cli_series_row(s->form, &row, (*rows)++);
        fflush(stdout);
    }
    return true;
}

bool cli_series(DrBuild *build, const DrBuildOptions *options, const CliSeries *s) {
    SuArena *arena = &build->arena;
    const Tests tests = tests_of(s, arena);
    if (tests.count == 0) return su_error(&build->diags, (SuSpan){0}, NULL, "-p 0 and -n 0 leave no test");
    if (!dr_build_spec(build, options) || !dr_build_device(build, options) || !dr_build_graph(build) ||
        !dr_build_program(build, options))
        return false;
    for (size_t i = 0; i < tests.count; i++)
        if (!ms_test_fits(build, &tests.items[i])) return false;
    if ((options->weights->count && !dr_build_files(build, options)) || !dr_build_code(build, options)) return false;
    cli_series_begin(s->form);
    int64_t rows = 0;
    bool ok = true;
    DrBuildOptions with = *options;
    for (size_t i = 0; ok && i < (s->threads.count ? s->threads.count : 1); i++) {
        with.threads = s->threads.count ? s->threads.items[i] : 0;
        ok = measure(build, &with, s, &tests, &rows);
    }
    cli_series_end(s->form);
    return ok;
}
