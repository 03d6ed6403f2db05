#include "cli/measure/gpu_limits.h"

#include <math.h>
#include <stdio.h>

#include "cli/format.h"
#include "codegen/cuda/limits.h"
#include "runtime/cuda/moss_cuda.h"

/* Many times the largest second-level cache, if a quarter of the memory holds source and target. */
static const uint64_t MOST_COPIED = (uint64_t)1 << 30;

bool cli_gpu_limiter_create(DrBuild *build, CliGpuLimiter *out_limiter) {
    uint64_t eighth = moss_cuda_facts(build->device)->memory_free / 8;
    *out_limiter =
        (CliGpuLimiter){.device = build->device, .target = &build->gpu, .copy_bytes = eighth < MOST_COPIED ? eighth : MOST_COPIED};
    return cg_cuda_compile_limits(&build->gpu, &out_limiter->image, &build->diags);
}

void cli_gpu_limiter_free(CliGpuLimiter *limiter) { su_text_free(&limiter->image); }

MossError cli_gpu_measure_limits(const CliGpuLimiter *limiter, CliGpuLimits *out_limits) {
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
    *out_limits = (CliGpuLimits){.copy_gb_s = copied / 1e9,
                                 .mma_tflop_s = rates[CG_CUDA_LIMIT_MMA].rate / 1e12,
                                 .fma_tflop_s = rates[CG_CUDA_LIMIT_FMA].rate / 1e12,
                                 .exp_g_s = rates[CG_CUDA_LIMIT_EXP].rate / 1e9};
    return error;
}

CliGpuLimits cli_gpu_limits_best(CliGpuLimits a, CliGpuLimits b) {
    return (CliGpuLimits){.copy_gb_s = fmax(a.copy_gb_s, b.copy_gb_s),
                          .mma_tflop_s = fmax(a.mma_tflop_s, b.mma_tflop_s),
                          .fma_tflop_s = fmax(a.fma_tflop_s, b.fma_tflop_s),
                          .exp_g_s = fmax(a.exp_g_s, b.exp_g_s)};
}

/* ---------------------------------------------------------------------------------------------- what is told of a GPU */

static const char *driver_text(const MossCudaFacts *facts, char out[CLI_NUMBER]) {
    snprintf(out, CLI_NUMBER, "%d.%d", facts->driver / 1000, facts->driver % 1000 / 10);
    return out;
}

const char *cli_gpu_text(const MossDevice *device, char out[CLI_GPU_TEXT]) {
    const MossCudaFacts *facts = moss_cuda_facts(device);
    char driver[CLI_NUMBER];
    snprintf(out, CLI_GPU_TEXT, "%s (sm_%d, %d multiprocessors, driver of CUDA %s)", facts->name, facts->architecture,
             facts->multiprocessors, driver_text(facts, driver));
    return out;
}

void cli_json_add_gpu(cJSON *object, const MossDevice *device) {
    const MossCudaFacts *facts = moss_cuda_facts(device);
    char text[CLI_NUMBER];
    cJSON_AddStringToObject(object, "device", facts->name);
    snprintf(text, sizeof text, "sm_%d", facts->architecture);
    cJSON_AddStringToObject(object, "architecture", text);
    cJSON_AddNumberToObject(object, "multiprocessors", facts->multiprocessors);
    cJSON_AddStringToObject(object, "driver", driver_text(facts, text));
    cJSON_AddNumberToObject(object, "memory_bytes", (double)facts->memory);
}

/* ---------------------------------------------------------------------------------------------- mossc limits */

/* The limits of every repetition, [repeat] each. */
typedef struct Samples {
    double *copy, *mma, *fma, *exp;
} Samples;

static bool measure(DrBuild *build, const CliGpuLimiter *limiter, int64_t repeat, Samples *samples) {
    MossError error = {.code = MOSS_OK};
    for (int64_t i = 0; i < repeat && error.code == MOSS_OK; i++) {
        CliGpuLimits limits;
        error = cli_gpu_measure_limits(limiter, &limits);
        samples->copy[i] = limits.copy_gb_s;
        samples->mma[i] = limits.mma_tflop_s;
        samples->fma[i] = limits.fma_tflop_s;
        samples->exp[i] = limits.exp_g_s;
    }
    return dr_moss_ok(&build->diags, error);
}

static void print_json(const CliGpuLimiter *limiter, const Samples *samples, size_t n) {
    cJSON *root = cJSON_CreateObject();
    cli_json_add_gpu(root, limiter->device);
    cJSON_AddNumberToObject(root, "buffer_bytes", (double)limiter->copy_bytes);
    cli_json_add_stats(root, "copy_gb_s", cli_stats(samples->copy, n));
    if (limiter->target->tensor_cores) cli_json_add_stats(root, "mma_tflop_s", cli_stats(samples->mma, n));
    cli_json_add_stats(root, "fma_tflop_s", cli_stats(samples->fma, n));
    cli_json_add_stats(root, "exp_g_s", cli_stats(samples->exp, n));
    cli_json_print(root);
}

static void print_row(const char *what, const char *unit, CliStats stats, const char *how) {
    printf("  %-16s %9.1f %9.1f %9.1f  %-8s  %s\n", what, stats.median, stats.min, stats.max, unit, how);
}

static void print_table(const CliGpuLimiter *limiter, const Samples *samples, size_t n) {
    char text[CLI_GPU_TEXT], bytes[CLI_NUMBER], how[64];
    snprintf(how, sizeof how, "%s within its memory, read and written", cli_bytes((double)limiter->copy_bytes, bytes));
    printf("%s, %s\n\n", cli_gpu_text(limiter->device, text), cli_bytes((double)moss_cuda_facts(limiter->device)->memory, bytes));
    printf("  %-16s %9s %9s %9s\n", "", "median", "min", "max");
    print_row("copying memory", "GB/s", cli_stats(samples->copy, n), how);
    if (limiter->target->tensor_cores)
        print_row("tensor cores", "TFLOP/s", cli_stats(samples->mma, n), "mma.sync, bf16 with float32 sums, in registers");
    else
        printf("  %-16s %9s %9s %9s  %-8s  maps use them from sm_80 on\n", "tensor cores", "-", "-", "-", "");
    print_row("multiply-adds", "TFLOP/s", cli_stats(samples->fma, n), "float32, in registers");
    print_row("exp", "G/s", cli_stats(samples->exp, n), "ex2.approx, the special-function units");
}

bool cli_gpu_print_limits(DrBuild *build, int64_t repeat, bool json) {
    size_t n = (size_t)repeat;
    Samples samples = {.copy = SU_NEW_ARRAY(&build->arena, double, n),
                       .mma = SU_NEW_ARRAY(&build->arena, double, n),
                       .fma = SU_NEW_ARRAY(&build->arena, double, n),
                       .exp = SU_NEW_ARRAY(&build->arena, double, n)};
    CliGpuLimiter limiter = {0};
    bool ok = cli_gpu_limiter_create(build, &limiter) && measure(build, &limiter, repeat, &samples);
    if (ok) (json ? print_json : print_table)(&limiter, &samples, n);
    cli_gpu_limiter_free(&limiter);
    return ok;
}
