/* Random weights for measuring: of the size and kind of fresh ones, in little memory. */
#ifndef MOSSC_DRIVER_RANDOM_WEIGHTS_H
#define MOSSC_DRIVER_RANDOM_WEIGHTS_H

#include "driver/build.h"

/* build->model (after dr_build_code) from the checkpoints of the options or, where there are none, from random weights. *out_seconds,
 * unless NULL: how long it took, without making random ones. false: the reason is in build->diags. */
bool dr_build_weights_or_random(DrBuild *build, const DrBuildOptions *options, double *out_seconds);

#endif
