/* Fresh weights of a spec (docs/language.md, "Fresh weights"). */
#ifndef MOSSC_DRIVER_FRESH_H
#define MOSSC_DRIVER_FRESH_H

#include "driver/build.h"

/* Writes a checkpoint of fresh weights: float32 safetensors, which appear under `path` only when they are whole. The same seed gives the
 * same bytes on every machine. Needs dr_build_spec. */
bool dr_write_fresh(DrBuild *build, uint64_t seed, const DrProgress *progress, const char *path);
/* A model (after dr_build_code) with the weights that such a file would hold; the caller's. */
bool dr_fresh_model(DrBuild *build, uint64_t seed, const MossOptions *options, MossModel **out_model);

#endif
