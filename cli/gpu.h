/* --device cuda: the GPU that a command runs its model on. */
#ifndef MOSSC_CLI_GPU_H
#define MOSSC_CLI_GPU_H

#include "cli/pipeline.h"

/* The code of build->program on build->device; looked for in the cache first (NULL: none). false: the reason is in build->diags. */
bool cli_build_gpu_code(CliBuild *build, CgCache *cache);

#endif
