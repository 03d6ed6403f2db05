/* mossc warm: kernels compiled before they are needed. */
#include <string.h>

#include "driver/device.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/build.h"
#include "cli/given.h"
#include "support/clock.h"

typedef struct WarmOptions {
    CliModelOptions model; /* what its kernels depend on */
    const char *target;
    bool json;
} WarmOptions;

static void report(const DrBuild *build, const char *spec, double ms, bool json) {
    uint32_t kernels = build->program->n_kernels, found = build->kernels_found;
    if (!json) {
        printf("%s: %u kernels, %u made, %u found, %.0f ms\n", spec, kernels, kernels - found, found, ms);
        return;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "spec", spec);
    cJSON_AddNumberToObject(root, "kernels", kernels);
    cJSON_AddNumberToObject(root, "made", kernels - found);
    cJSON_AddNumberToObject(root, "found", found);
    cJSON_AddNumberToObject(root, "ms", ms);
    cli_json_print(root);
}

/* Of the host all that --isa leaves open is found later. */
static bool find_target(DrBuild *build, WarmOptions *o) {
    if (strcmp(o->target, "host") != 0) return dr_build_target(build, o->target, o->model.fast, NULL);
    DrBuildOptions options = cli_build_options(NULL, &o->model);
    return !o->model.fast || dr_cpu.check_fast(build, &options, NULL);
}

/* Before any spec is read. */
static bool target_is_there(WarmOptions *o) {
    DrBuild build = {0};
    return cli_build_finish(&build, find_target(&build, o)) == CLI_OK;
}

static int warm(const char *spec, WarmOptions *o) {
    DrBuild build = {0};
    DrBuildOptions options = cli_build_options(spec, &o->model);
    CliTexts unused = {0}; /* its weights */
    options.cache = DR_CACHE_NEEDED;
    bool ok = find_target(&build, o) && cli_take_given(&build, &options, &unused);
    double start = su_seconds();
    ok = ok && dr_build_spec(&build, &options) && dr_build_graph(&build) && dr_build_program(&build, &options) &&
         dr_build_code(&build, &options);
    if (ok) report(&build, spec, 1e3 * (su_seconds() - start), o->json);
    return cli_build_finish(&build, ok);
}

static const CliOption table[] = {
    CLI_ROW_TEXT(WarmOptions, target, "target", 0, "TARGET", false,
                 "host (the default), or a GPU such as cuda:sm_90 (`mossc targets` lists them)"),
    CLI_OPTION_JSON(WarmOptions, "one JSON object a line, one for each spec"),
    CLI_OPTION_NO_PASSES(CliModelOptions),
    CLI_OPTION_ISA(CliModelOptions),
    CLI_OPTION_FAST(CliModelOptions),
    CLI_OPTION_NO_TUNE(CliModelOptions),
    CLI_OPTION_SET(CliModelOptions),
    CLI_OPTION_PROGRESS(CliModelOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    WarmOptions o = {.target = "host"};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    const DrDeviceKind *kind = dr_kind_of_target(o.target);
    if (kind == &dr_cpu && strcmp(o.target, "host") != 0)
        return cli_usage_error(command, "--target: expected host or a GPU such as cuda:sm_90, got '%s'", o.target);
    if (!(kind->takes & DR_ISA) && o.model.isa)
        return cli_usage_error(command, "--isa is for the host and cannot be combined with --target");
    if (!target_is_there(&o)) return CLI_FAILED;
    status = CLI_OK;
    for (size_t i = 0; i < args->n_positionals; i++)
        if (warm(args->positionals[i], &o) != CLI_OK) status = CLI_FAILED;
    return status;
}

const CliCommand cli_warm = {
    .name = "warm",
    .summary = "compile into the kernel cache, so that later runs start at once",
    .synopsis = "SPEC... [OPTION]...",
    .about =
        "Compiles each SPEC and stores its kernels in the cache; no weights are needed. Other commands store what they compile "
        "too: use this one to prepare an image or a machine, so that later commands need not compile. Specs share kernels that are "
        "equal. Prints how many kernels were compiled and how many were found in the cache. Give the options that the later "
        "command will be given.\n\nA GPU's kernels are stored together, for one spec and the usual number of multiprocessors of "
        "its architecture: a GPU with another number compiles them when it is used.\n\n" CLI_ABOUT_CACHE "\n\n" CLI_ABOUT_GIVEN,
    .examples = "mossc warm specs/moss-tiny.yaml\n"
                "mossc warm specs/*.yaml --isa avx2 --json\n"
                "mossc warm specs/moss-tiny.yaml --target cuda:sm_90\n"
                "MOSSC_CACHE_DIR=/opt/model/kernels mossc warm model.yaml --set weights.dtype=bf16\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .least_positionals = 1,
    .most_positionals = 4096,
    .run = run,
};
