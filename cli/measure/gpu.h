/* What bench and limits print of a GPU. */
#ifndef MOSSC_CLI_MEASURE_GPU_H
#define MOSSC_CLI_MEASURE_GPU_H

#include <cjson/cJSON.h>

#include "driver/device.h"
#include "measure/gpu_speed.h"

/* What `mossc limits --device …` prints after measuring `repeat` times. */
bool cli_gpu_print_limits(DrBuild *build, int64_t repeat, bool json);
/* What is known of the build's device. */
void cli_json_add_facts(cJSON *object, const DrBuild *build);
/* The device's part of what `mossc bench` prints. */
void cli_bench_gpu_json(cJSON *root, const DrBuild *build, const MsPlan *plan, const MsGpuSpeed *gpu);
void cli_bench_gpu_table(const MsPlan *plan, const MsGpuSpeed *gpu);

#endif
