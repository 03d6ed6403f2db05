#include "cli/measure/gpu.h"

#include <inttypes.h>

#include "cli/format.h"

/* ---------------------------------------------------------------------------------------------- JSON */

static void add_phases(cJSON *root, const MsPlan *plan, const MsGpuPhases *p) {
    if (!p->known) return;
    cJSON_AddNumberToObject(root, "linear_ms", p->linear_ms);
    cJSON_AddNumberToObject(root, "scan_ms", p->scan_ms);
    cJSON_AddNumberToObject(root, "other_ms", p->other_ms);
    if (plan->limits && p->linear_of_peak > 0) cJSON_AddNumberToObject(root, "linear_of_peak", p->linear_of_peak);
    if (plan->limits && p->scan_of_bound > 0) cJSON_AddNumberToObject(root, "scan_of_bound", p->scan_of_bound);
}

void cli_json_add_facts(cJSON *object, const DrBuild *build) {
    DrFacts facts;
    dr_kind(build)->describe(build, &facts);
    for (int i = 0; i < facts.count; i++)
        if (facts.items[i].text[0])
            cJSON_AddStringToObject(object, facts.items[i].key, facts.items[i].text);
        else
            cJSON_AddNumberToObject(object, facts.items[i].key, facts.items[i].number);
}

void cli_bench_gpu_json(cJSON *root, const DrBuild *build, const MsPlan *plan, const MsGpuSpeed *gpu) {
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

/* ---------------------------------------------------------------------------------------------- table */

static void print_row(const char *name, MsStats stats) {
    printf("  %-22s %12.2f %12.2f %12.2f\n", name, stats.median, stats.min, stats.max);
}

static void print_limits(const MsGpuSpeed *gpu) {
    printf("\n");
    print_row("copying limit, GB/s", gpu->copy_gb_s);
    if (gpu->tensor_cores) print_row("mma limit, TFLOP/s", gpu->mma_tflop_s);
    print_row("fma limit, TFLOP/s", gpu->fma_tflop_s);
    print_row("exp limit, G/s", gpu->exp_g_s);
    print_row("prefill / linear peak", gpu->prefill_of_peak);
    print_row("decode / its bound", gpu->decode_of_bound);
    print_row("decode / bandwidth", gpu->decode_of_bandwidth);
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

void cli_bench_gpu_table(const MsPlan *plan, const MsGpuSpeed *gpu) {
    print_row("prefill, tokens/s", gpu->prefill_tok_s);
    print_row("decode, tokens/s", gpu->decode_tok_s);
    if (plan->limits) print_limits(gpu);
    printf("\n");
    print_phases(&gpu->of_prompts);
    printf("  %-22s %" PRIu32 " phases in %" PRIu32 " stages\n", "a decoded token", gpu->phases, gpu->stages);
}
