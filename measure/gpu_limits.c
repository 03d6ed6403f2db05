#include "measure/gpu_limits.h"

#include <math.h>

#include "codegen/cuda/limits.h"
#include "runtime/cuda/moss_cuda.h"

/* Many times the largest second-level cache, if a quarter of the memory holds source and target. */
static const uint64_t MOST_COPIED = (uint64_t)1 << 30;

bool ms_gpu_limiter_create(DrBuild *build, MsGpuLimiter *out_limiter) {
    uint64_t eighth = moss_cuda_facts(build->device)->memory_free / 8;
    *out_limiter =
        (MsGpuLimiter){.device = build->device, .target = &build->gpu, .copy_bytes = eighth < MOST_COPIED ? eighth : MOST_COPIED};
    return cg_cuda_compile_limits(&build->gpu, &out_limiter->image, &build->diags);
}

void ms_gpu_limiter_free(MsGpuLimiter *limiter) { su_text_free(&limiter->image); }

MossError ms_gpu_measure_limits(const MsGpuLimiter *limiter, MsGpuLimits *out_limits) {
    double copied = 0;
    MossCudaRate rates[CG_CUDA_LIMIT_KINDS];
    for (int i = 0; i < CG_CUDA_LIMIT_KINDS; i++) {
        CgCudaLimit limit = cg_cuda_limit(limiter->target, (CgCudaLimitKind)i);
        rates[i] = (MossCudaRate){.entry = limit.entry, .work = limit.work};
    }
    MossError error = moss_cuda_copy_rate(limiter->device, limiter->copy_bytes, &copied);
    if (error.code == MOSS_OK) {
        error =
            moss_cuda_rates(limiter->device, limiter->image.text, (uint32_t)limiter->target->threads, rates, CG_CUDA_LIMIT_KINDS);
    }
    *out_limits = (MsGpuLimits){.copy_gb_s = copied / 1e9,
                                .mma_tflop_s = rates[CG_CUDA_LIMIT_MMA].rate / 1e12,
                                .fma_tflop_s = rates[CG_CUDA_LIMIT_FMA].rate / 1e12,
                                .exp_g_s = rates[CG_CUDA_LIMIT_EXP].rate / 1e9};
    return error;
}

MsGpuLimits ms_gpu_limits_best(MsGpuLimits a, MsGpuLimits b) {
    return (MsGpuLimits){.copy_gb_s = fmax(a.copy_gb_s, b.copy_gb_s),
                         .mma_tflop_s = fmax(a.mma_tflop_s, b.mma_tflop_s),
                         .fma_tflop_s = fmax(a.fma_tflop_s, b.fma_tflop_s),
                         .exp_g_s = fmax(a.exp_g_s, b.exp_g_s)};
}
