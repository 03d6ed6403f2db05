/* mossc pack: weights as kernels read them, which load in milliseconds. */
#include <string.h>

#include "cli/commands.h"
#include "cli/build.h"
#include "cli/given.h"
#include "cli/progress.h"

typedef struct PackOptions {
    CliTexts sets, weights;
    const char *output;
    int64_t threads;
    bool progress, verify;
} PackOptions;

static bool pack(DrBuild *build, const PackOptions *o) {
    CliProgress progress = cli_progress_start(o->progress, "packing weights", "bytes");
    MossOptions moss = cli_moss_options(o->threads, &progress);
    moss.note = dr_note;
    moss.note_context = &build->diags;
    MossError error = moss_weights_pack(build->program, o->weights.items, o->weights.count, &moss, o->output);
    cli_progress_end(&progress);
    return dr_moss_ok(&build->diags, error);
}

/* Checks what was written, or the packed file that was given. */
static bool verify(DrBuild *build, const PackOptions *o) {
    const char *path = o->output ? o->output : o->weights.items[0];
    CliProgress progress = cli_progress_start(o->progress, "checking", "bytes");
    cli_progress_say(&progress);
    MossOptions moss = {.size = sizeof moss, .threads = (int)o->threads};
    MossError error = moss_weights_verify(build->program, path, &moss);
    cli_progress_end(&progress);
    return dr_moss_ok(&build->diags, error);
}

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(PackOptions, true,
                       "safetensors checkpoint, which may be given several times; with --verify alone the packed file"),
    CLI_ROW_TEXT(PackOptions, output, "output", 'o', "F.weights", false,
                 "file for the packed weights; it appears only when complete"),
    CLI_ROW_FLAG(PackOptions, verify, "verify", "check every byte of the packed file against its digest; without -o only that"),
    CLI_OPTION_THREADS(PackOptions),
    CLI_OPTION_SET(PackOptions),
    CLI_OPTION_PROGRESS(PackOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    PackOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (!o.output && !o.verify) return cli_usage_error(command, "-o F.weights (--output) or --verify is needed");
    if (!o.output && !o.weights.count) return cli_usage_error(command, "-w FILE (--weights) is needed: the packed file to check");
    if (!o.output && o.weights.count > 1) return cli_usage_error(command, "--verify without -o takes one packed file");
    if (o.verify && o.output && cli_is_standard(o.output))
        return cli_usage_error(command, "--verify reads the output file again and cannot be combined with -o -");
    DrBuild build = {0};
    CliReporter reporter = {.asked = o.progress};
    DrBuildOptions options = {
        .spec = args->positionals[0], .sets = &o.sets, .threads = o.threads, .progress = cli_reporter_hooks(&reporter)};
    bool ok = cli_take_given(&build, &options, &o.weights) && dr_build_spec(&build, &options) &&
              cli_check_output(&build, o.output) && dr_build_graph(&build) && dr_build_program(&build, &options) &&
              (!o.output || pack(&build, &o)) && (!o.verify || verify(&build, &o));
    return cli_build_finish(&build, ok);
}

const CliCommand cli_pack = {
    .name = "pack",
    .summary = "write weights in the form that loads in milliseconds",
    .synopsis = "SPEC -w WEIGHTS... -o F.weights [OPTION]...",
    .about = "Narrows the weights and writes them in the layout that compiled code reads. Give the file to other commands with "
             "-w in place of the checkpoints: it is mapped and used in place, so loading takes milliseconds and several "
             "processes share its memory. The file is valid for this spec with these --set values, for every CPU, and for the "
             "version of mossc's numerics that wrote it; with anything else it is refused.\n\n" CLI_ABOUT_GIVEN "\n\n"
             "The descriptions of the tensors are checked by a digest each time; the tensors themselves only with --verify, "
             "here or on the command that loads them.",
    .examples = "mossc pack specs/moss-tiny.yaml -w models/moss-tiny.safetensors -o moss-tiny.weights\n"
                "mossc pack SmolLM2-135M-Instruct.Q4_1.gguf -o smollm2.weights\n"
                "mossc run specs/moss-tiny.yaml -w moss-tiny.weights --prompt 'It was a dark evening'\n"
                "mossc pack specs/moss-tiny.yaml -w moss-tiny.weights --verify\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
