/* GPUs: what bench and limits measure and print. */
#include <inttypes.h>
#include <stdio.h>

#include "cli/format.h"
#include "cli/measure/meter.h"
#include "measure/gpu_limits.h"

/* ---------------------------------------------------------------------------------------------- bench, as JSON */

static void add_phases(cJSON *root, const MsPlan *plan, const MsGpuPhases *p) {
    if (!p->known) return;
    cJSON_AddNumberToObject(root, "linear_ms", p->linear_ms);
    cJSON_AddNumberToObject(root, "scan_ms", p->scan_ms);
    cJSON_AddNumberToObject(root, "other_ms", p->other_ms);
    if (plan->limits && p->linear_of_peak > 0) cJSON_AddNumberToObject(root, "linear_of_peak", p->linear_of_peak);
    if (plan->limits && p->scan_of_bound > 0) cJSON_AddNumberToObject(root, "scan_of_bound", p->scan_of_bound);
}

static void add_speed(cJSON *root, const DrBuild *build, const MsPlan *plan, const CliSpeed *speed) {
    const MsGpuSpeed *gpu = &speed->gpu;
    cli_json_add_facts(root, build);
    cJSON_AddBoolToObject(root, "fast", build->gpu.fast);
    cJSON_AddNumberToObject(root, "phases", gpu->phases);
    cJSON_AddNumberToObject(root, "stages", gpu->stages);
    cli_json_add_stats(root, "prefill_tok_s", gpu->prefill_tok_s);
    cli_json_add_stats(root, "decode_tok_s", gpu->decode_tok_s);
    cJSON_AddNumberToObject(root, "prefill_linear_flops", gpu->prefill_linear_flops);
    cJSON_AddNumberToObject(root, "decode_linear_flops", gpu->decode_linear_flops);
    cJSON_AddNumberToObject(root, "decode_bytes", gpu->decode_bytes);
    add_phases(root, plan, &gpu->of_prompts);
    if (!plan->limits) return;
    cli_json_add_stats(root, "copy_gb_s", gpu->copy_gb_s);
    if (gpu->tensor_cores) cli_json_add_stats(root, "mma_tflop_s", gpu->mma_tflop_s);
    cli_json_add_stats(root, "fma_tflop_s", gpu->fma_tflop_s);
    cli_json_add_stats(root, "exp_g_s", gpu->exp_g_s);
    cli_json_add_stats(root, "decode_of_bound", gpu->decode_of_bound);
    cli_json_add_stats(root, "decode_of_bandwidth", gpu->decode_of_bandwidth);
    cli_json_add_stats(root, "prefill_of_peak", gpu->prefill_of_peak);
}

/* ---------------------------------------------------------------------------------------------- bench, for people */

static void print_speed_limits(const MsGpuSpeed *gpu) {
    printf("\n");
    cli_print_speed_row("copying limit, GB/s", gpu->copy_gb_s);
    if (gpu->tensor_cores) cli_print_speed_row("mma limit, TFLOP/s", gpu->mma_tflop_s);
    cli_print_speed_row("fma limit, TFLOP/s", gpu->fma_tflop_s);
    cli_print_speed_row("exp limit, G/s", gpu->exp_g_s);
    cli_print_speed_row("prefill / linear peak", gpu->prefill_of_peak);
    cli_print_speed_row("decode / its bound", gpu->decode_of_bound);
    cli_print_speed_row("decode / bandwidth", gpu->decode_of_bandwidth);
}

static void print_ratio(double ratio, const char *what) {
    if (ratio > 0) printf(" (%.2f of %s)", ratio, what);
}

static void print_phases(const MsGpuPhases *p) {
    if (!p->known) return;
    printf("  %-22s linear %.2f", "prompts' phases, ms", p->linear_ms);
    print_ratio(p->linear_of_peak, "their peak");
    printf(", scans %.2f", p->scan_ms);
    print_ratio(p->scan_of_bound, "their bound");
    printf(", all others %.2f\n", p->other_ms);
}

static void print_speed(const MsPlan *plan, const CliSpeed *speed) {
    const MsGpuSpeed *gpu = &speed->gpu;
    cli_print_speed_row("prefill, tokens/s", gpu->prefill_tok_s);
    cli_print_speed_row("decode, tokens/s", gpu->decode_tok_s);
    if (plan->limits) print_speed_limits(gpu);
    printf("\n");
    print_phases(&gpu->of_prompts);
    printf("  %-22s %" PRIu32 " phases in %" PRIu32 " stages\n", "a decoded token", gpu->phases, gpu->stages);
}

static bool speed(DrBuild *build, const MsPlan *plan, CliSpeed *out) { return ms_measure_gpu(build, plan, &out->gpu); }

static double decode_tok_s(const CliSpeed *speed) { return speed->gpu.decode_tok_s.median; }

/* ---------------------------------------------------------------------------------------------- limits */

/* The limits of every repetition, [repeat] each. */
typedef struct Samples {
    double *copy, *mma, *fma, *exp;
} Samples;

static bool measure_limits(DrBuild *build, const MsGpuLimiter *limiter, int64_t repeat, Samples *samples) {
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

static void print_limits_json(const DrBuild *build, const MsGpuLimiter *limiter, const Samples *samples, size_t n) {
    cJSON *root = cJSON_CreateObject();
    cli_json_add_facts(root, build);
    cJSON_AddNumberToObject(root, "buffer_bytes", (double)limiter->copy_bytes);
    cli_json_add_stats(root, "copy_gb_s", ms_stats(samples->copy, n));
    if (limiter->target->tensor_cores) cli_json_add_stats(root, "mma_tflop_s", ms_stats(samples->mma, n));
    cli_json_add_stats(root, "fma_tflop_s", ms_stats(samples->fma, n));
    cli_json_add_stats(root, "exp_g_s", ms_stats(samples->exp, n));
    cli_json_print(root);
}

static void print_limits_table(const DrBuild *build, const MsGpuLimiter *limiter, const Samples *samples, size_t n) {
    DrFacts facts;
    dr_kind(build)->describe(build, &facts);
    char bytes[CLI_NUMBER], how[64];
    snprintf(how, sizeof how, "%s within its memory, read and written", cli_bytes((double)limiter->copy_bytes, bytes));
    printf("%s, %s\n\n", facts.title, cli_bytes((double)facts.memory, bytes));
    printf("  %-16s %9s %9s %9s\n", "", "median", "min", "max");
    cli_print_limit_row("copying memory", "GB/s", ms_stats(samples->copy, n), how);
    if (limiter->target->tensor_cores)
        cli_print_limit_row("tensor cores", "TFLOP/s", ms_stats(samples->mma, n), "mma.sync, bf16 with float32 sums, in registers");
    else
        printf("  %-16s %9s %9s %9s  %-8s  linear layers use them from sm_80 on\n", "tensor cores", "-", "-", "-", "");
    cli_print_limit_row("multiply-adds", "TFLOP/s", ms_stats(samples->fma, n), "float32, in registers");
    cli_print_limit_row("exp", "G/s", ms_stats(samples->exp, n), "ex2.approx, the special-function units");
}

static bool limits(DrBuild *build, const CliLimits *what) {
    size_t n = (size_t)what->repeat;
    Samples samples = {.copy = SU_NEW_ARRAY(&build->arena, double, n),
                       .mma = SU_NEW_ARRAY(&build->arena, double, n),
                       .fma = SU_NEW_ARRAY(&build->arena, double, n),
                       .exp = SU_NEW_ARRAY(&build->arena, double, n)};
    MsGpuLimiter limiter = {0};
    bool ok = ms_gpu_limiter_create(build, &limiter) && measure_limits(build, &limiter, what->repeat, &samples);
    if (ok) (what->json ? print_limits_json : print_limits_table)(build, &limiter, &samples, n);
    ms_gpu_limiter_free(&limiter);
    return ok;
}

const CliMeter cli_meter_gpu = {
    .kind = &dr_cuda,
    .speed = speed,
    .decode_tok_s = decode_tok_s,
    .add_speed = add_speed,
    .print_speed = print_speed,
    .limits = limits,
};
