/* mossc explore spec: the spec of a point. */
#include "cli/explore/explore.h"
#include "cli/show.h"
#include "explore/study.h"

typedef struct SpecOptions {
    int64_t point;
} SpecOptions;

static int run(const CliCommand *command, CliArgs *args) {
    SpecOptions o = {.point = -1};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    SuDiags diags = {0};
    ExStudy study;
    FeSpec spec = {0};
    SuText text = {0};
    bool ok = ex_study_open(args->positionals[0], &study, &diags) && ex_study_spec(&study, (uint64_t)o.point, &spec, &diags);
    if (ok) {
        fe_print_spec(&spec, &text);
        fwrite(text.text, 1, text.size, stdout);
    }
    su_text_free(&text);
    status = cli_finish(&diags, ok);
    fe_spec_free(&spec);
    ex_study_close(&study);
    return status;
}

static const CliOption table[] = {
    {CLI_ROW_VALUE(SpecOptions, point, "point", 0, "K", CLI_INT, "index of the point"), .least = 0, .most = 4611686018427387904.0,
     .needed = true},
};

const CliCommand cli_explore_spec = {
    .name = "explore spec",
    .summary = "print the spec of a point",
    .synopsis = "DIR --point K",
    .about = "Prints the spec of a point of a study, with every value written out, for any other command.",
    .examples = "mossc explore spec out --point 17 > variant.yaml\n"
                "mossc explore spec out --point 17 | mossc check -\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
