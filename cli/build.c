#include "cli/build.h"

#include "cli/given.h"
#include "cli/show.h"
#include "support/file.h"

DrBuildOptions cli_build_options(const char *spec, CliModelOptions *model) {
    model->reporter.asked = model->progress;
    return (DrBuildOptions){.spec = spec,
                            .sets = &model->sets,
                            .off = model->off,
                            .isa = model->isa ? cli_isa_words[model->isa] : NULL,
                            .cache = model->no_cache ? DR_NO_CACHE : DR_CACHE,
                            .no_tune = model->no_tune || model->no_cache,
                            .debugger = (CgDebugger)model->debugger,
                            .device = model->device,
                            .fast = model->fast,
                            .weights = &model->weights,
                            .threads = model->threads,
                            .progress = cli_reporter_hooks(&model->reporter),
                            .verify = model->verify};
}

void cli_build_print(DrBuild *build) {
    cli_show(&build->diags);
    build->diags.count = 0;
}

bool cli_check_output(DrBuild *build, const char *path) {
    if (!su_out_check(path, &build->diags)) return false;
    cli_build_print(build);
    return true;
}

bool cli_build_model(DrBuild *build, const DrBuildOptions *options) {
    cli_build_print(build);
    return dr_build_model(build, options);
}

int cli_build_finish(DrBuild *build, bool ok) {
    fflush(stdout);
    cli_show(&build->diags);
    dr_build_free(build);
    return ok ? CLI_OK : CLI_FAILED;
}

int cli_model_command(const char *spec, CliModelOptions *model, CliWork work, void *context) {
    DrBuild build = {0};
    DrBuildOptions options = cli_build_options(spec, model);
    return cli_build_finish(&build, cli_take_given(&build, &options, &model->weights) && work(&build, &options, context));
}

MossOptions cli_moss_options(int64_t threads, CliProgress *progress) {
    return (MossOptions){
        .size = sizeof(MossOptions), .threads = (int)threads, .progress = cli_progress_callback, .progress_context = progress};
}
