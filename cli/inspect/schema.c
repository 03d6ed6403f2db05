/* mossc schema: the spec language, and that of spaces, for editors. */
#include "cli/commands.h"
#include "explore/space.h"
#include "frontend/spec.h"

typedef struct Options {
    bool space;
} Options;

static const CliOption options[] = {
    CLI_ROW_FLAG(Options, space, "space", "of spaces of specs (docs/explore.md) instead"),
};

static int run(const CliCommand *command, CliArgs *args) {
    Options o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    SuText text = {0};
    bool ok = o.space ? ex_print_schema(&text) : fe_print_schema(&text);
    if (ok)
        fputs(text.text, stdout);
    else
        fputs("mossc schema: out of memory\n", stderr);
    su_text_free(&text);
    if (!ok) return CLI_FAILED;
    return CLI_OK;
}

const CliCommand cli_schema = {
    .name = "schema",
    .summary = "print a JSON Schema of the spec language, for editors",
    .synopsis = "> FILE",
    .about = "Prints a JSON Schema (draft 2020-12) of the spec language, or of spaces of specs. An editor with a YAML language "
             "server then completes keys, "
             "shows what they mean and marks mistakes while you type.",
    .examples = "mossc schema > mossc.schema.json\n"
                "mossc schema --space > mossc-space.schema.json\n"
                "# then, as the first line of a spec:\n"
                "# yaml-language-server: $schema=mossc.schema.json\n",
    .options = options,
    .n_options = sizeof options / sizeof options[0],
    .run = run,
};
