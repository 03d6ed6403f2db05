/* mossc init: fresh weights. */
#include <string.h>

#include "cli/commands.h"
#include "cli/pipeline.h"
#include "cli/progress.h"
#include "runtime/fresh.h"

typedef struct InitOptions {
    CliTexts sets;
    uint64_t seed;
    const char *output;
    bool progress;
} InitOptions;

static RtFreshTensor fresh_tensor(const FeTensor *tensor) {
    static const RtFreshKind kinds[] = {
        [FE_INIT_UNIFORM_FAN] = RT_FRESH_UNIFORM_FAN,
        [FE_INIT_NORMAL] = RT_FRESH_NORMAL,
        [FE_INIT_ONES] = RT_FRESH_ONES,
        [FE_INIT_ZEROS] = RT_FRESH_ZEROS,
        [FE_INIT_DT_BIAS] = RT_FRESH_DT_BIAS,
        [FE_INIT_A_LOG] = RT_FRESH_A_LOG,
    };
    RtFreshTensor fresh = {.tensor = {.name = tensor->name, .rank = tensor->rank},
                           .kind = kinds[tensor->init],
                           .fan = tensor->fan,
                           .scale = tensor->init_scale};
    memcpy(fresh.tensor.shape, tensor->shape, sizeof fresh.tensor.shape);
    return fresh;
}

static bool write_weights(CliBuild *build, const InitOptions *o) {
    size_t count;
    const FeTensor *tensors = fe_tensors(&build->spec, &count);
    RtFreshTensor *fresh = SU_NEW_ARRAY(&build->arena, RtFreshTensor, count);
    for (size_t i = 0; i < count; i++) fresh[i] = fresh_tensor(&tensors[i]);
    CliProgress progress = cli_progress_start(o->progress, "drawing weights", "bytes");
    bool ok = rt_fresh_write(o->output, fresh, count, o->seed, cli_progress_callback, &progress, &build->diags);
    cli_progress_end(&progress);
    return ok;
}

static const CliOption table[] = {
    CLI_ROW_TEXT(InitOptions, output, "output", 'o', "W.safetensors", true,
                 "where the weights go; the file appears only when it is whole"),
    CLI_ROW_SEED(InitOptions, seed, "seed", "N", "0 to 2^64 - 1 (default 0); the same seed gives the same bytes on every machine"),
    CLI_OPTION_SET(InitOptions),
    CLI_OPTION_PROGRESS(InitOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    InitOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    CliBuild build = {0};
    CliBuildOptions options = {.spec = args->positionals[0], .sets = &o.sets};
    return cli_build_finish(&build,
                            cli_build_spec(&build, &options) && cli_check_output(&build, NULL) && write_weights(&build, &o));
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
