/* What may stand for a spec on the command line: a directory that mossc import made, or a checkpoint of others, which is imported into the cache. */
#ifndef MOSSC_CLI_GIVEN_H
#define MOSSC_CLI_GIVEN_H

#include "cli/build.h"

/* Whether it brings its weights: -w is not needed then. */
bool cli_brings_weights(const char *path);
/* For commands that take weights beside the spec: what args->positionals[0] names, or spec.yaml of a directory. Without -w the weights are those that
 * it brings, or model.safetensors beside the spec. NULL after printing that there are none: the status is CLI_USAGE. */
const char *cli_find_model(const CliCommand *command, CliArgs *args, CliModelOptions *model);
/* Puts spec and weights in place of such a path, in *options and *weights, which stay where some are there already; leaves other paths alone.
 * false after an error, which is in build->diags. */
bool cli_take_given(DrBuild *build, DrBuildOptions *options, CliTexts *weights);

#endif
