/* mossc limits: what this machine can do at most. */
#include "cli/commands.h"
#include "driver/device.h"
#include "cli/measure/meter.h"
#include "cli/build.h"

typedef struct LimitsOptions {
    int64_t threads, repeat;
    int isa;
    const char *device;
    bool json;
} LimitsOptions;

enum { MAX_REPEAT = 100 };

static const CliOption table[] = {
    CLI_ROW_TEXT(LimitsOptions, device, "device", 0, "DEVICE", false,
                 "what is measured: cpu (the default), cuda or cuda:N, the N-th NVIDIA GPU"),
    CLI_ROW_INT(LimitsOptions, repeat, "repeat", 0, "R", 1, MAX_REPEAT, "how often each is measured (default 5)"),
    CLI_ROW_INT(LimitsOptions, threads, "threads", 0, "N", 1, SU_MOST_THREADS,
                "threads that measure together (default: as many as there are CPUs for this process)"),
    CLI_OPTION_ISA(LimitsOptions),
    CLI_OPTION_JSON(LimitsOptions, "print one JSON object: median, min and max of each limit, and what is known of the machine"),
};

static int run(const CliCommand *command, CliArgs *args) {
    LimitsOptions o = {.repeat = 5};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    DrBuild build = {0};
    CliLimits what = {.threads = o.threads, .repeat = o.repeat, .isa = o.isa ? cli_isa_words[o.isa] : NULL, .json = o.json};
    DrBuildOptions options = {.device = o.device, .isa = what.isa};
    bool ok = dr_build_device(&build, &options);
    if (ok && o.threads && !(dr_kind(&build)->takes & DR_THREADS))
        ok = su_error(&build.diags, (SuSpan){0}, NULL, "--threads is for CPUs");
    return cli_build_finish(&build, ok && cli_meter(&build)->limits(&build, &what));
}

const CliCommand cli_limits = {
    .name = "limits",
    .summary = "measure what this machine can do at most",
    .synopsis = "[OPTION]...",
    .about = "Measures the four rates that models are compared with, all threads together, by kernels of the same code "
             "generator: reading memory beyond every cache (the best of eight patterns), the microkernel of a linear layer "
             "with its operands in the first cache, multiply-adds in registers, and exp. Decoding is compared with the first, "
             "prompts with the second, scans with the last. Other processes lower them, and a shared host drifts: compare with "
             "limits measured next to a result, as `mossc explain --measure` and `mossc bench --limits` do.\n\n"
             "With --device cuda they are the GPU's: copying within its memory, products on tensor cores (where the linear "
             "layers use them), multiply-adds and exp, each of the three in registers.",
    .examples = "mossc limits\n"
                "mossc limits --threads 1 --json\n"
                "mossc limits --isa avx2\n"
                "mossc limits --device cuda\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 0,
    .most_positionals = 0,
    .run = run,
};
