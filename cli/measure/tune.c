/* mossc tune: schedules of kernels, measured on this machine. */
#include <string.h>

#include "cli/build.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "driver/device.h"
#include "measure/tune.h"

typedef struct TuneOptions {
    CliModelOptions model;
    double seconds;
    bool again, amx, json;
} TuneOptions;

static const char *const modes[PG_MODES] = {"token", "prompt"};

static unsigned schedules_measured(const MsTunedKernel *kernel) {
    unsigned count = 0;
    for (unsigned i = 0; i < kernel->count; i++) count += kernel->tuned.measured >> i & 1;
    return count;
}

static void words_of(const DrBuild *build, const MsTunedKernel *kernel, char name[160], char words[96]) {
    cg_kernel_name(&build->program->kernels[kernel->index], kernel->index, name, 160);
    cg_schedule_words(&build->program->kernels[kernel->index], &kernel->tuned.best, words, 96);
}

static cJSON *kernel_json(const DrBuild *build, const MsTunedKernel *kernel) {
    char name[160], words[96];
    const CgSchedule *s = &kernel->tuned.best;
    words_of(build, kernel, name, words);
    cJSON *item = cJSON_CreateObject(), *schedule = cJSON_CreateObject();
    cJSON_AddStringToObject(item, "kernel", name);
    cJSON_AddStringToObject(item, "step", modes[build->program->kernels[kernel->index].mode]);
    cJSON_AddNumberToObject(item, "schedules", kernel->count);
    cJSON_AddNumberToObject(item, "measured", schedules_measured(kernel));
    cJSON_AddBoolToObject(item, "tuned", kernel->tuned.accepted == 1);
    cJSON_AddNumberToObject(item, "ratio", kernel->tuned.ratio);
    if (kernel->seconds > 0) cJSON_AddNumberToObject(item, "default_seconds", kernel->seconds);
    cJSON_AddStringToObject(item, "words", words);
    cJSON_AddNumberToObject(schedule, "panels", s->panels);
    cJSON_AddNumberToObject(schedule, "rows", s->rows);
    cJSON_AddNumberToObject(schedule, "ahead", s->ahead);
    cJSON_AddNumberToObject(schedule, "claim", s->claim);
    cJSON_AddNumberToObject(schedule, "blocks", s->blocks);
    cJSON_AddNumberToObject(schedule, "run", s->run);
    cJSON_AddBoolToObject(schedule, "amx", s->tiles);
    cJSON_AddItemToObject(item, "schedule", schedule);
    return item;
}

static void print_json(const DrBuild *build, const MsTuning *tuning) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "name", build->program->name);
    cJSON_AddStringToObject(root, "cpu", build->target.cpu);
    cJSON_AddNumberToObject(root, "threads", moss_model_threads(build->model));
    cJSON_AddNumberToObject(root, "seconds", tuning->seconds);
    cJSON_AddNumberToObject(root, "measured", tuning->measured);
    cJSON_AddNumberToObject(root, "left", tuning->left);
    for (int mode = 0; mode < PG_MODES; mode++) {
        const MsTunedStep *step = &tuning->steps[mode];
        if (step->seconds == 0) continue;
        cJSON *item = cJSON_AddObjectToObject(root, modes[mode]);
        cJSON_AddNumberToObject(item, "rows", (double)step->rows);
        cJSON_AddNumberToObject(item, "default_seconds", step->seconds);
        cJSON_AddNumberToObject(item, "ratio", step->ratio);
    }
    cJSON *kernels = cJSON_AddArrayToObject(root, "kernels");
    for (size_t i = 0; i < tuning->n_kernels; i++) cJSON_AddItemToArray(kernels, kernel_json(build, &tuning->kernels[i]));
    cli_json_print(root);
}

static void print_text(const DrBuild *build, const MsTuning *tuning) {
    char name[160], words[96];
    printf("%s on %s, %d threads\n\n  %-44s %8s %9s  %s\n", build->program->name, build->target.cpu,
           moss_model_threads(build->model), "kernel", "measured", "time", "schedule");
    for (size_t i = 0; i < tuning->n_kernels; i++) {
        const MsTunedKernel *kernel = &tuning->kernels[i];
        words_of(build, kernel, name, words);
        printf("  %-44.44s %3u of %-2u", name, schedules_measured(kernel), kernel->count);
        if (kernel->tuned.accepted == 1)
            printf(" %8.1f%%  %s\n", 100 * (kernel->tuned.ratio - 1), words);
        else
            printf(" %9s  %s (the default)\n", "", words);
    }
    putchar('\n');
    for (int mode = 0; mode < PG_MODES; mode++) {
        const MsTunedStep *step = &tuning->steps[mode];
        if (step->seconds > 0)
            printf("  a step of %d token%s: %.4g ms by default, %.4g ms with them\n", (int)step->rows, step->rows > 1 ? "s" : "",
                   1e3 * step->seconds, 1e3 * step->seconds * step->ratio);
    }
    printf("  %.0f s: %u schedules measured, %u left%s\n", tuning->seconds, tuning->measured, tuning->left,
           tuning->left ? "; run it again to go on" : "");
}

/* A CliWork. */
static bool tune(DrBuild *build, const DrBuildOptions *options, void *context) {
    const TuneOptions *o = context;
    MsTunePlan plan = {.seconds = o->seconds, .again = o->again, .amx = o->amx};
    MsTuning tuning;
    if (!dr_build_device(build, options) || !dr_build_spec(build, options) || !dr_build_graph(build) ||
        !dr_build_program(build, options) || !ms_tune(build, options, &plan, &tuning))
        return false;
    (o->json ? print_json : print_text)(build, &tuning);
    return true;
}

static const CliOption table[] = {
    CLI_ROW_REAL(TuneOptions, seconds, "seconds", "S", 0, 86400,
                 "begin no further schedule after so many seconds (default 60); loading comes before"),
    CLI_ROW_FLAG(TuneOptions, again, "again", "measure anew what was measured before"),
    CLI_ROW_FLAG(TuneOptions, amx, "amx", "try AMX tiles too, after all else: no machine has run them yet"),
    CLI_OPTION_WEIGHTS(CliModelOptions, false, CLI_ABOUT_WEIGHTS " (default: random weights)"),
    CLI_OPTION_JSON(TuneOptions, "print one JSON object"),
};

static int run(const CliCommand *command, CliArgs *args) {
    TuneOptions o = {.seconds = 60};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (o.model.device && strcmp(o.model.device, "host") == 0) o.model.device = NULL;
    const DrDeviceKind *kind = dr_kind_of_device(o.model.device);
    if (o.model.no_tune) return cli_usage_error(command, "it measures schedules: --no-tune is for the commands that use them");
    if (o.model.device && kind != &dr_cpu)
        return cli_usage_error(command, "it tunes kernels of this machine's CPU: --device takes cpu or host");
    return cli_model_command(args->positionals[0], &o.model, tune, &o);
}

const CliCommand cli_tune = {
    .name = "tune",
    .summary = "find faster schedules of a spec's kernels on this machine",
    .synopsis = "SPEC [-w WEIGHTS]... [--seconds S] [OPTION]...",
    .about =
        "A linear layer may walk more or fewer panels of weights side by side, fetch them ahead, take larger or smaller blocks and "
        "claims. None of that changes a bit of the result, save tiles of bf16 (--amx with --fast), which add in another order. "
        "This command compiles the spec's kernels in each of these schedules, "
        "runs steps of one token and of a prompt in turns with the default schedules, and judges every kernel by the times of its "
        "own phases. What is at least 2 % faster, in three rounds of four, runs in turns with the defaults once more; what stays "
        "faster is stored beside the compiled kernels. From then on every command that compiles such a kernel on such a processor "
        "uses it; --no-tune ignores it, and `mossc explain` shows it.\n\n"
        "Every measurement is stored when it is made: a run that ended early, by --seconds or otherwise, is continued by "
        "the next one. A new build of mossc or of LLVM begins anew. Let nothing else run meanwhile. "
        "The logits of every schedule are compared with those of the defaults: one that changes them (with tiles of bf16: by more "
        "than 2 % of their root mean square) is told of and left out. What --amx tries is noted before it runs, so that a run "
        "that it ended is continued without it.\n\n"
        "`mossc cache --clear` removes the schedules too.",
    .examples = "mossc tune specs/mamba-130m.yaml\n"
                "mossc tune specs/mamba-130m.yaml --set weights.dtype=bf16 --seconds 300 --json\n"
                "mossc explain specs/mamba-130m.yaml\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
