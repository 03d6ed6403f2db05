/* mossc explore merge: the parts of a space as one study. */
#include "cli/explore/explore.h"
#include "cli/show.h"
#include "explore/merge.h"
#include "explore/report.h"

typedef struct MergeOptions {
    const char *output;
    bool json;
} MergeOptions;

static int run(const CliCommand *command, CliArgs *args) {
    MergeOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    SuDiags diags = {0};
    ExStudy study;
    ExResult result;
    bool ok =
        ex_merge(args->positionals, args->n_positionals, o.output, &study, &result, &diags) && ex_report_write(o.output, &diags);
    if (ok && o.json) cli_explore_json(&study, &result);
    if (ok && !o.json) cli_explore_print(&study, &result, true);
    status = cli_finish(&diags, ok);
    ex_result_free(&result);
    ex_study_close(&study);
    return status;
}

static const CliOption table[] = {
    CLI_ROW_TEXT(MergeOptions, output, "output", 'o', "DIR", true, "directory of the joined study; made if it is not there"),
    CLI_OPTION_JSON(MergeOptions, "print one JSON object: counts and the fronts"),
};

const CliCommand cli_explore_merge = {
    .name = "explore merge",
    .summary = "join the parts of a space",
    .synopsis = "PART... -o DIR [--json]",
    .about =
        "Joins the studies that `mossc explore SPACE --shard I/N` made, all N of them in any order. The files are those that one "
        "run "
        "would have made, byte for byte, but for the seconds in summary.json.\n\n"
        "Parts must have the same space, spec and devices: copy devices/host.yaml of one part into the directories of the others "
        "before they run, or give it as --device.",
    .examples = "mossc explore merge part1 part2 part3 -o out\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1000000,
    .run = run,
};
