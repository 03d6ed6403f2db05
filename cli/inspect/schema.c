/* mossc schema: the spec language for editors. */
#include "cli/commands.h"
#include "frontend/spec.h"

static int run(const CliCommand *command, CliArgs *args) {
    char nothing;
    int status = cli_parse(command, args, &nothing);
    if (status != CLI_GO) return status;
    SuText text = {0};
    bool ok = fe_print_schema(&text);
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
    .about =
        "Prints a JSON Schema (draft 2020-12) of the spec language. An editor with a YAML language server then completes keys, "
        "shows what they mean and marks mistakes while you type.",
    .examples = "mossc schema > mossc.schema.json\n"
                "# then, as the first line of a spec:\n"
                "# yaml-language-server: $schema=mossc.schema.json\n",
    .run = run,
};
