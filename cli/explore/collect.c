/* mossc explore collect: what was measured elsewhere becomes part of a study. */
#include "cli/explore/explore.h"
#include "cli/format.h"
#include "cli/show.h"
#include "explore/collect.h"
#include "explore/measured.h"
#include "explore/report.h"

typedef struct CollectOptions {
    bool json;
} CollectOptions;

static void print(const CollectOptions *o, size_t measured, size_t failed) {
    if (!o->json) {
        printf("collected: %zu points, %zu failed (measurements.jsonl, measured.csv, measured_front.csv, report.html)\n", measured,
               failed);
        return;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "measured", (double)measured);
    cJSON_AddNumberToObject(root, "failed", (double)failed);
    cli_json_print(root);
}

static int run(const CliCommand *command, CliArgs *args) {
    CollectOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    const char *directory = args->positionals[0];
    SuDiags diags = {0};
    ExStudy study;
    size_t measured, failed;
    bool ok = ex_study_open(directory, &study, &diags) &&
              ex_collect(&study, args->positionals + 1, args->n_positionals - 1, &measured, &failed, &diags);
    size_t host = ok ? ex_study_host(&study) : 0;
    ok = ok && ex_measured_csv(&study, host < study.n_devices ? host : 0, &diags) && ex_report_write(directory, &diags);
    if (ok) print(&o, measured, failed);
    status = cli_finish(&diags, ok);
    ex_study_close(&study);
    return status;
}

static const CliOption table[] = {
    CLI_OPTION_JSON(CollectOptions, "print one JSON object: how many points were measured, and how many failed"),
};

const CliCommand cli_explore_collect = {
    .name = "explore collect",
    .summary = "take in what was measured elsewhere",
    .synopsis = "DIR FILE... [--json]",
    .about =
        "Adds the lines of each FILE, as `mossc explore point --measure` and --quality print them and other studies of the same "
        "space have them in measurements.jsonl, to the study DIR, and writes measured.csv, measured_front.csv and report.html "
        "anew. The study then has one line a point: the first that was measured, or where none was, the first that failed. A "
        "line of another space is refused.",
    .examples = "mossc explore collect out node1.jsonl node2.jsonl\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 2,
    .most_positionals = 1000000,
    .run = run,
};
