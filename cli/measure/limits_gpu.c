/* mossc limits, of a GPU. */
#include <stdio.h>

#include "cli/format.h"
#include "cli/measure/gpu.h"
#include "measure/gpu_limits.h"

/* The limits of every repetition, [repeat] each. */
typedef struct Samples {
    double *copy, *mma, *fma, *exp;
} Samples;

static bool measure(DrBuild *build, const MsGpuLimiter *limiter, int64_t repeat, Samples *samples) {
    MossError error = {.code = MOSS_OK};
    for (int64_t i = 0; i < repeat && error.code == MOSS_OK; i++) {
        MsGpuLimits limits;
        error = ms_gpu_measure_limits(limiter, &limits);
        samples->copy[i] = limits.copy_gb_s;
        samples->mma[i] = limits.mma_tflop_s;
        samples->fma[i] = limits.fma_tflop_s;
        samples->exp[i] = limits.exp_g_s;
    }
    return dr_moss_ok(&build->diags, error);
}

static void print_json(const DrBuild *build, const MsGpuLimiter *limiter, const Samples *samples, size_t n) {
    cJSON *root = cJSON_CreateObject();
    cli_json_add_facts(root, build);
    cJSON_AddNumberToObject(root, "buffer_bytes", (double)limiter->copy_bytes);
    cli_json_add_stats(root, "copy_gb_s", ms_stats(samples->copy, n));
    if (limiter->target->tensor_cores) cli_json_add_stats(root, "mma_tflop_s", ms_stats(samples->mma, n));
    cli_json_add_stats(root, "fma_tflop_s", ms_stats(samples->fma, n));
    cli_json_add_stats(root, "exp_g_s", ms_stats(samples->exp, n));
    cli_json_print(root);
}

static void print_row(const char *what, const char *unit, MsStats stats, const char *how) {
    printf("  %-16s %9.1f %9.1f %9.1f  %-8s  %s\n", what, stats.median, stats.min, stats.max, unit, how);
}

static void print_table(const DrBuild *build, const MsGpuLimiter *limiter, const Samples *samples, size_t n) {
    DrFacts facts;
    dr_kind(build)->describe(build, &facts);
    char bytes[CLI_NUMBER], how[64];
    snprintf(how, sizeof how, "%s within its memory, read and written", cli_bytes((double)limiter->copy_bytes, bytes));
    printf("%s, %s\n\n", facts.title, cli_bytes((double)facts.memory, bytes));
    printf("  %-16s %9s %9s %9s\n", "", "median", "min", "max");
    print_row("copying memory", "GB/s", ms_stats(samples->copy, n), how);
    if (limiter->target->tensor_cores)
        print_row("tensor cores", "TFLOP/s", ms_stats(samples->mma, n), "mma.sync, bf16 with float32 sums, in registers");
    else
        printf("  %-16s %9s %9s %9s  %-8s  linear layers use them from sm_80 on\n", "tensor cores", "-", "-", "-", "");
    print_row("multiply-adds", "TFLOP/s", ms_stats(samples->fma, n), "float32, in registers");
    print_row("exp", "G/s", ms_stats(samples->exp, n), "ex2.approx, the special-function units");
}

bool cli_gpu_print_limits(DrBuild *build, int64_t repeat, bool json) {
    size_t n = (size_t)repeat;
    Samples samples = {.copy = SU_NEW_ARRAY(&build->arena, double, n),
                       .mma = SU_NEW_ARRAY(&build->arena, double, n),
                       .fma = SU_NEW_ARRAY(&build->arena, double, n),
                       .exp = SU_NEW_ARRAY(&build->arena, double, n)};
    MsGpuLimiter limiter = {0};
    bool ok = ms_gpu_limiter_create(build, &limiter) && measure(build, &limiter, repeat, &samples);
    if (ok) (json ? print_json : print_table)(build, &limiter, &samples, n);
    ms_gpu_limiter_free(&limiter);
    return ok;
}
