/* The command line's side of a build: options, progress and messages. */
#ifndef MOSSC_CLI_BUILD_H
#define MOSSC_CLI_BUILD_H

#include "cli/options.h"
#include "driver/build.h"

/* Those of a command that runs a model; `model` must live as long. */
DrBuildOptions cli_build_options(const char *spec, CliModelOptions *model);
/* dr_build_model, after printing the spec's warnings. */
bool cli_build_model(DrBuild *build, const DrBuildOptions *options);
/* Before long work whose end is a file: whether `path` (NULL: none) can be written. Prints all that was found so far: messages
 * come before an output opens. */
bool cli_check_output(DrBuild *build, const char *path);
/* Prints what was found, frees everything; the exit status. */
int cli_build_finish(DrBuild *build, bool ok);
/* Loading options that show progress through `progress`. */
MossOptions cli_moss_options(int64_t threads, CliProgress *progress);

#endif
