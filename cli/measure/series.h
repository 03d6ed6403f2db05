/* `mossc bench -p … -n … -o …`: the tests of llama-bench, and its table. */
#ifndef MOSSC_CLI_MEASURE_SERIES_H
#define MOSSC_CLI_MEASURE_SERIES_H

#include "cli/options.h"
#include "measure/series.h"

typedef enum CliSeriesForm { CLI_MD, CLI_CSV, CLI_JSON, CLI_JSONL } CliSeriesForm;
extern const char *const cli_series_words[]; /* by CliSeriesForm; NULL-terminated */

/* What is measured: with each number of threads at each depth all prompts, all numbers of tokens fed one by one, all pairs of both. */
typedef struct CliSeries {
    CliList prompts, tokens, pairs, depths,
        threads; /* empty: the default. 0 in prompts and tokens: none. pairs: two numbers each */
    int64_t repeat, chunk;
    CliSeriesForm form;
} CliSeries;

/* A row of the table. */
typedef struct CliSeriesRow {
    const DrBuild *build;
    const char *spec; /* the path */
    MsTest test;
    int64_t threads, chunk, repeat;
    const double *seconds; /* [repeat] */
} CliSeriesRow;

/* Compiles, loads for each number of threads, measures and prints; `build` is empty. false: the reason is in build->diags. */
bool cli_series(DrBuild *build, const DrBuildOptions *options, const CliSeries *series);

/* What stands before the first row, a row (number `index`), and what stands behind the last one, to standard output. */
void cli_series_begin(CliSeriesForm form);
void cli_series_row(CliSeriesForm form, const CliSeriesRow *row, int64_t index);
void cli_series_end(CliSeriesForm form);

#endif
