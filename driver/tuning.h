/* Stored schedules of kernels (codegen/tuning.h), as a build uses them. */
#ifndef MOSSC_DRIVER_TUNING_H
#define MOSSC_DRIVER_TUNING_H

#include "codegen/tuning.h"
#include "driver/build.h"

/* Where they are kept, in build->arena. NULL: nowhere, and an error says so. */
const char *dr_tuning_directory(DrBuild *build, const DrBuildOptions *options);
/* build->schedules, kernels_tuned: what the kernels of this program are compiled with on this CPU; needs dr_build_program, and
 * finds the target. Nothing when they are there already. */
bool dr_build_schedules(DrBuild *build, const DrBuildOptions *options);
/* A warning if entries were not believed. */
void dr_tell_damaged(DrBuild *build, const CgCache *tuning);

#endif
