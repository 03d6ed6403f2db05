/* Random weights for measuring: of the size and kind of fresh ones, in little memory. */
#ifndef MOSSC_CLI_RANDOM_WEIGHTS_H
#define MOSSC_CLI_RANDOM_WEIGHTS_H

#include "cli/pipeline.h"

/* build->model (after cli_build_code) from the checkpoints of the options or, where there are none, from random weights. *out_seconds,
 * unless NULL: how long it took, without making random ones. false: the reason is in build->diags. */
bool cli_build_weights_or_random(CliBuild *build, const CliBuildOptions *options, double *out_seconds);

#endif
