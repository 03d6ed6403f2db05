/* The command line's side of a build: options, progress and messages. */
#ifndef MOSSC_CLI_BUILD_H
#define MOSSC_CLI_BUILD_H

#include "cli/options.h"
#include "driver/build.h"

/* Those of a command that runs a model; `model` must live as long. */
DrBuildOptions cli_build_options(const char *spec, CliModelOptions *model);
/* Prints what was found so far, and forgets it. */
void cli_build_print(DrBuild *build);
/* dr_build_model, after printing the spec's warnings. */
bool cli_build_model(DrBuild *build, const DrBuildOptions *options);
/* Before long work whose end is a file: whether `path` (NULL: none) can be written. Prints all that was found so far: messages
 * come before an output opens. */
bool cli_check_output(DrBuild *build, const char *path);
/* The end of a build: lets out what stands in standard output, so that it comes before messages where both go to one place; prints what
 * was found; frees everything. The exit status. */
int cli_build_finish(DrBuild *build, bool ok);

/* What a command does with a build that is empty. false: the reason is in build->diags. */
typedef bool (*CliWork)(DrBuild *build, const DrBuildOptions *options, void *context);
/* The frame of the commands that run a model: makes the build and its options, does the work, finishes. The exit status. */
int cli_model_command(const char *spec, CliModelOptions *model, CliWork work, void *context);
/* Loading options that show progress through `progress`. */
MossOptions cli_moss_options(int64_t threads, CliProgress *progress);

#endif
