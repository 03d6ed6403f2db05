/* mossc init: fresh weights. */
#include <string.h>

#include "cli/commands.h"
#include "cli/build.h"
#include "cli/progress.h"
#include "driver/fresh.h"

typedef struct InitOptions {
    CliTexts sets;
    uint64_t seed;
    const char *output;
    bool progress;
} InitOptions;

static bool write_weights(DrBuild *build, const InitOptions *o) {
    CliReporter reporter = {.asked = o->progress};
    DrProgress progress = cli_reporter_hooks(&reporter);
    return dr_write_fresh(build, o->seed, &progress, o->output);
}

static const CliOption table[] = {
    CLI_ROW_TEXT(InitOptions, output, "output", 'o', "W.safetensors", true, "file for the weights; it appears only when complete"),
    CLI_ROW_SEED(InitOptions, seed, "seed", "N", "0 to 2^64 - 1 (default 0); the same seed gives the same bytes on every machine"),
    CLI_OPTION_SET(InitOptions),
    CLI_OPTION_PROGRESS(InitOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    InitOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    DrBuild build = {0};
    DrBuildOptions options = {.spec = args->positionals[0], .sets = &o.sets};
    return cli_build_finish(&build, dr_build_spec(&build, &options) && cli_check_output(&build, NULL) && write_weights(&build, &o));
}

const CliCommand cli_init = {
    .name = "init",
    .summary = "write fresh weights for a spec",
    .synopsis = "SPEC --seed N -o W.safetensors",
    .about = "Draws fresh weights as the language page says and writes them as float32 safetensors under the language's names. "
             "Every tensor has a stream of its own, made of the seed and its name.",
    .examples = "mossc init specs/moss-tiny.yaml --seed 1 -o fresh.safetensors\n"
                "mossc init specs/mamba-130m.yaml --seed 1 -o small.safetensors --set stack[0].repeat=4\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
