#include "cli/given.h"

#include <sys/stat.h>
#include <unistd.h>

#include "driver/cache_directory.h"
#include "import/cached.h"
#include "support/directory.h"
#include "support/file.h"

bool cli_brings_weights(const char *path) { return im_is_imported(path) || im_is_checkpoint(path); }

const char *cli_find_model(const CliCommand *command, CliArgs *args, CliModelOptions *model) {
    const char *spec = args->positionals[0];
    struct stat about;
    if (cli_brings_weights(spec)) return spec;
    if (stat(spec, &about) == 0 && S_ISDIR(about.st_mode)) spec = su_printf(&args->arena, "%s/%s", spec, IM_SPEC_FILE);
    const char **weights = SU_NEW(&args->arena, const char *);
    *weights = su_beside(&args->arena, spec, IM_WEIGHTS_FILE);
    if (!model->weights.count && access(*weights, R_OK) == 0) model->weights = (CliTexts){.items = weights, .count = 1};
    if (model->weights.count) return spec;
    cli_usage_error(command, "-w FILE (--weights) is needed: there is no model.safetensors beside the spec");
    return NULL;
}

/* It is used until the process ends: nobody removes it from the cache meanwhile. */
static const char *directory_of(DrBuild *build, const DrBuildOptions *options) {
    if (im_is_imported(options->spec)) {
        su_directory_use(options->spec);
        return options->spec;
    }
    const ImOptions import = {.input = options->spec, .threads = (int)options->threads, .progress = options->progress};
    bool made;
    const uint64_t most_bytes = dr_models_most_bytes(&build->diags);
    const char *directory = im_cached(&import, most_bytes, &build->arena, &made, &build->diags);
    if (!directory)
        su_note(&build->diags, su_file_span(&build->diags, options->spec), NULL,
                "to import it with other options: mossc import %s -o DIR [options], then mossc run DIR", options->spec);
    if (directory && made)
        su_note(&build->diags, su_file_span(&build->diags, options->spec), NULL, "was imported to %s, where later runs find it",
                directory);
    return directory;
}

bool cli_take_given(DrBuild *build, DrBuildOptions *options, CliTexts *weights) {
    if (options->spec_text || !cli_brings_weights(options->spec)) return true;
    su_arena_settle(&build->arena);
    const char *directory = directory_of(build, options);
    cli_build_print(build);
    if (!directory) return false;
    options->spec = su_printf(&build->arena, "%s/%s", directory, IM_SPEC_FILE);
    if (weights->count) return true;
    const char **items = SU_NEW(&build->arena, const char *);
    *items = su_printf(&build->arena, "%s/%s", directory, IM_WEIGHTS_FILE);
    *weights = (CliTexts){.items = items, .count = 1};
    return true;
}
