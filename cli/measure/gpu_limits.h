/* What a GPU can do at most, measured: the yardsticks of `mossc limits --device cuda` and `mossc bench --device cuda --limits`. */
#ifndef MOSSC_CLI_GPU_LIMITS_H
#define MOSSC_CLI_GPU_LIMITS_H

#include <cjson/cJSON.h>

#include "driver/build.h"

/* The best of a few repetitions; 10^9 or 10^12 a second. */
typedef struct CliGpuLimits {
    double copy_gb_s;   /* a large copy within the GPU's memory, bytes read and written */
    double mma_tflop_s; /* mma.sync of bf16 from registers; 0: the target's maps use no tensor cores */
    double fma_tflop_s; /* float32 multiply-adds from registers */
    double exp_g_s;     /* ex2.approx */
} CliGpuLimits;

typedef struct CliGpuLimiter {
    MossDevice *device;
    const CgCudaTarget *target;
    uint64_t copy_bytes;
    SuText image; /* of the kernels */
} CliGpuLimiter;

/* Of the GPU of dr_build_device; build must live as long. false: the reason is in build->diags. */
bool cli_gpu_limiter_create(DrBuild *build, CliGpuLimiter *out_limiter);
void cli_gpu_limiter_free(CliGpuLimiter *limiter);
/* Takes a quarter of a second. */
MossError cli_gpu_measure_limits(const CliGpuLimiter *limiter, CliGpuLimits *out_limits);
/* The larger of each: of what was measured before something and after it. */
CliGpuLimits cli_gpu_limits_best(CliGpuLimits a, CliGpuLimits b);

/* What `mossc limits --device …` prints after measuring `repeat` times. */
bool cli_gpu_print_limits(DrBuild *build, int64_t repeat, bool json);

/* "device", "architecture", "multiprocessors", "driver", "memory_bytes". */
void cli_json_add_gpu(cJSON *object, const MossDevice *device);
/* "NVIDIA H200 (sm_90, 132 multiprocessors, driver of CUDA 13.0)", of at most CLI_GPU_TEXT bytes; returns `out`. */
enum { CLI_GPU_TEXT = 160 };
const char *cli_gpu_text(const MossDevice *device, char out[CLI_GPU_TEXT]);

#endif
