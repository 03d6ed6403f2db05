/* What a GPU can do at most, measured: the yardsticks of `mossc limits --device cuda` and `mossc bench --device cuda --limits`. */
#ifndef MOSSC_MEASURE_GPU_LIMITS_H
#define MOSSC_MEASURE_GPU_LIMITS_H

#include "driver/build.h"

/* The best of a few repetitions; 10^9 or 10^12 a second. */
typedef struct MsGpuLimits {
    double copy_gb_s;   /* a large copy within the GPU's memory, bytes read and written */
    double mma_tflop_s; /* mma.sync of bf16 from registers; 0: the target's linear layers use no tensor cores */
    double fma_tflop_s; /* float32 multiply-adds from registers */
    double exp_g_s;     /* ex2.approx */
} MsGpuLimits;

typedef struct MsGpuLimiter {
    MossDevice *device;
    const CgCudaTarget *target;
    uint64_t copy_bytes;
    SuText image; /* of the kernels */
} MsGpuLimiter;

/* Of the GPU of dr_build_device; build must live as long. false: the reason is in build->diags. */
bool ms_gpu_limiter_create(DrBuild *build, MsGpuLimiter *out_limiter);
void ms_gpu_limiter_free(MsGpuLimiter *limiter);
/* Takes a quarter of a second. */
MossError ms_gpu_measure_limits(const MsGpuLimiter *limiter, MsGpuLimits *out_limits);
/* The larger of each: of what was measured before something and after it. */
MsGpuLimits ms_gpu_limits_best(MsGpuLimits a, MsGpuLimits b);

#endif
