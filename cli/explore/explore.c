/* mossc explore: which of many specs fits a device, a budget and a latency. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/explore/explore.h"
#include "cli/show.h"
#include "explore/measure.h"
#include "explore/measured.h"
#include "explore/report.h"
#include "support/cpus.h"

/* Errors of decode_ms and prefill_ms that are published (bench/NOTES.md, section 16), rounded up. */
static const double CALIBRATED_ERROR = 0.11, MODELLED_ERROR = 0.40;

enum { MOST_SAMPLE = 10000000, MOST_SHARDS = 1000000, ROUNDS = 5 };

typedef struct ExploreOptions {
    const char *output, *points, *shard;
    CliTexts devices;
    int method;
    int64_t threads, measure, rounds;
    bool all_points, spread, json, progress;
} ExploreOptions;

/* ---------------------------------------------------------------------------------------------- options */

static const char *const method_words[] = {"all", "random", "sobol", NULL};

/* --points: "all", or a number of them. */
static bool read_points(const ExploreOptions *o, ExRunOptions *out) {
    char *end;
    if (!o->points || strcmp(o->points, "all") == 0) return out->method == EX_ALL;
    errno = 0;
    unsigned long long count = strtoull(o->points, &end, 10);
    if (end == o->points || *end || errno || o->points[0] == '-' || count == 0 || count > MOST_SAMPLE) return false;
    if (out->method == EX_ALL) out->method = EX_RANDOM;
    out->points = count;
    return true;
}

/* --shard: "I/N". */
static bool read_shard(const char *text, ExRunOptions *out) {
    int used = 0;
    if (!text) return true;
    if (text[0] == '-' || sscanf(text, "%" SCNu64 "/%" SCNu64 "%n", &out->shard, &out->n_shards, &used) != 2 || text[used])
        return false;
    return out->shard >= 1 && out->shard <= out->n_shards && out->n_shards <= MOST_SHARDS;
}

/* ---------------------------------------------------------------------------------------------- the command */

bool cli_explore_host(const ExStudy *study, const char *hint, size_t *out_device, SuDiags *diags) {
    *out_device = ex_study_host(study);
    return *out_device < study->n_devices ||
           su_error(diags, (SuSpan){0}, hint, "--measure runs on this machine, which is no device of the study");
}

/* Twice the model's error. */
double cli_explore_near(const ExDevice *device) { return 2 * (device->model.calibrated ? CALIBRATED_ERROR : MODELLED_ERROR); }

static bool measure(ExStudy *study, size_t device, const ExploreOptions *o, DrProgress progress, SuDiags *diags) {
    size_t measured, failed;
    ExMeasureOptions options = {.points = (uint64_t)o->measure,
                                .rounds = o->rounds ? o->rounds : ROUNDS,
                                .spread = o->spread,
                                .near = cli_explore_near(&study->devices[device]),
                                .progress = progress};
    bool ok = ex_measure(study, device, &options, &measured, &failed, diags);
    if (ok && !o->json) printf("\nmeasured: %zu points, %zu failed (measurements.jsonl, measured.csv)\n", measured, failed);
    return ok && ex_measured_csv(study, device, diags) && ex_report_write(o->output, diags);
}

/* Messages may point into the study: it is closed after they were printed. */
static bool explore(const char *space, const ExploreOptions *o, ExRunOptions *run, ExStudy *study, SuDiags *diags) {
    ExResult result = {0};
    bool ok = ex_study_begin(space, o->output, o->devices.items, o->devices.count, study, diags);
    size_t host = 0;
    if (ok && o->measure) /* before a search that may take long */
        ok = cli_explore_host(study, "add host to 'devices', or give --device host", &host, diags);
    ExCoster *coster = ok ? ex_study_coster(study, diags) : NULL;
    ok = coster && ex_run(&study->space, coster, study->devices, study->n_devices, run, o->output, &result, diags) &&
         ex_study_summary(study, run, &result, diags) && (run->n_shards > 1 || ex_report_write(o->output, diags));
    if (ok && o->json) cli_explore_json(study, &result);
    if (ok && !o->json) cli_explore_print(study, &result, run->n_shards == 1);
    if (ok && o->measure) ok = measure(study, host, o, run->progress, diags);
    ex_result_free(&result);
    ex_coster_free(coster);
    return ok;
}

static int run_explore(const CliCommand *command, CliArgs *args) {
    ExploreOptions o = {.method = EX_ALL};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    CliReporter reporter = {.asked = o.progress};
    ExRunOptions run = {.method = (ExMethod)o.method,
                        .shard = 1,
                        .n_shards = 1,
                        .threads = o.threads ? (int)o.threads : su_default_threads(),
                        .all_points = o.all_points,
                        .progress = cli_reporter_hooks(&reporter)};
    if (run.method != EX_ALL && !o.points)
        return cli_usage_error(command, "--method %s needs --points N", method_words[run.method]);
    if (!o.measure && (o.spread || o.rounds))
        return cli_usage_error(command, "--%s needs --measure M", o.spread ? "spread" : "rounds");
    if (!read_points(&o, &run))
        return cli_usage_error(command,
                               "--points: expected all, or a number from 1 to %d (with --method random or sobol), got '%s'",
                               MOST_SAMPLE, o.points ? o.points : "all");
    if (o.measure && o.shard) return cli_usage_error(command, "--measure needs the whole space: merge the shards, then measure");
    if (!read_shard(o.shard, &run))
        return cli_usage_error(command, "--shard: expected I/N with 1 <= I <= N <= %d, got '%s'", MOST_SHARDS, o.shard);
    SuDiags diags = {0};
    ExStudy study;
    bool ok = explore(args->positionals[0], &o, &run, &study, &diags);
    status = cli_finish(&diags, ok);
    ex_study_close(&study);
    return status;
}

static const CliOption table[] = {
    CLI_ROW_TEXT(ExploreOptions, output, "output", 'o', "DIR", true, "directory of the study; made if it is not there"),
    CLI_ROW_TEXT(ExploreOptions, points, "points", 0, "all|N", false, "how many points (default all)"),
    CLI_ROW_WORD(ExploreOptions, method, "method", "METHOD", method_words,
                 "how N points are chosen: random (the default), or sobol, which fills the space evenly"),
    CLI_ROW_TEXTS(ExploreOptions, devices, "device", 0, "DEVICE", false,
                  "in place of the space's devices: host, one of `mossc targets`, or a device file (.yaml); may be given several "
                  "times"),
    CLI_ROW_TEXT(ExploreOptions, shard, "shard", 0, "I/N", false,
                 "only the I-th of N parts of the points; `mossc explore merge` joins them"),
    CLI_ROW_INT(ExploreOptions, measure, "measure", 0, "M", 1, 1000000,
                "then compile and run M points on this machine, those of the front and near it first; run again, it goes on"),
    CLI_ROW_INT(ExploreOptions, rounds, "rounds", 0, "R", 1, 1000,
                "with --measure: rounds of which the fastest counts (default 5)"),
    CLI_ROW_FLAG(ExploreOptions, spread, "spread", "with --measure: points all over the space, as calibration wants them"),
    CLI_ROW_FLAG(ExploreOptions, all_points, "all-points", "write also points that are excluded, invalid or over budget"),
    CLI_OPTION_THREADS(ExploreOptions),
    CLI_OPTION_JSON(ExploreOptions, "print one JSON object: counts and the fronts"),
    CLI_OPTION_PROGRESS(ExploreOptions),
};

/* ---------------------------------------------------------------------------------------------- the parts */

static const CliCommand *const parts[] = {&cli_explore_calibrate, &cli_explore_collect, &cli_explore_merge,
                                          &cli_explore_point,     &cli_explore_spec,    NULL};
enum { N_PARTS = sizeof parts / sizeof parts[0] - 1 };

static const char *part_name(size_t i) { return parts[i]->name + strlen("explore "); }

/* The part that the first argument, which is no file, was probably meant to be; NULL: none. */
static const char *meant_part(const CliArgs *args) {
    const char *names[N_PARTS];
    for (size_t i = 0; i < N_PARTS; i++) names[i] = part_name(i);
    bool word = args->argc > 0 && args->argv[0][0] != '-' && access(args->argv[0], F_OK) != 0;
    return word ? su_nearest(args->argv[0], names, N_PARTS) : NULL;
}

/* "mossc explore spec …" is a command of its own. */
static int run(const CliCommand *command, CliArgs *args) {
    for (size_t i = 0; i < N_PARTS && args->argc > 0; i++) {
        if (strcmp(part_name(i), args->argv[0]) != 0) continue;
        args->argc--;
        args->argv++;
        return parts[i]->run(parts[i], args);
    }
    const char *meant = meant_part(args);
    if (!meant) return run_explore(command, args);
    return cli_usage_error(command, "no file or command is '%s'; did you mean `mossc explore %s`?", args->argv[0], meant);
}

const CliCommand cli_explore = {
    .name = "explore",
    .summary = "find which of many specs fits a device, a budget and a latency",
    .synopsis = "SPACE -o DIR [OPTION]...",
    .about =
        "Reads a space of specs (docs/explore.md), models the cost of every point on each of its devices, and keeps the points "
        "within the budgets and of those the front: points that no other one beats in every objective. Costs are those of "
        "`mossc check` and `mossc explain`, added up from blocks that points share.\n\n"
        "DIR becomes a study: points.csv (the points that are kept), front.csv, summary.json, report.html, and copies of the "
        "space, its base spec and its devices. The limits of `host` are measured when a study begins and kept in DIR, so that "
        "running it again gives the same bytes.\n\n"
        "Further commands: `mossc explore merge` joins the parts of a space, `mossc explore calibrate` fits a device to "
        "measurements, `mossc explore spec` prints a point's spec, `mossc explore point` what is known of it, `mossc explore "
        "collect` takes in "
        "what was measured elsewhere, and `mossc explain DIR --point A --point B` compares two "
        "points.",
    .examples = "mossc explore examples/explore/s24.yaml -o out\n"
                "mossc explore examples/explore/s24.yaml -o out --points 10000 --method sobol\n"
                "mossc explore examples/explore/s24.yaml -o part1 --shard 1/4\n"
                "mossc explore examples/explore/experts-or-state.yaml -o out --measure 8 --rounds 20\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .parts = parts,
    .run = run,
};
