/* CPUs: what bench and limits measure and print. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/format.h"
#include "cli/measure/meter.h"
#include "measure/limiter.h"

enum { LINE = CLI_PROCESSOR };

/* ---------------------------------------------------------------------------------------------- bench */

static void add_speed(cJSON *root, const DrBuild *build, const MsPlan *plan, const CliSpeed *of) {
    const MsSpeed *speed = &of->cpu;
    cli_json_add_facts(root, build);
    cli_json_add_stats(root, "prefill_tok_s", speed->prefill_tok_s);
    cli_json_add_stats(root, "decode_tok_s", speed->decode_tok_s);
    if (!plan->limits) return;
    cli_json_add_stats(root, "read_gb_s", speed->read_gb_s);
    cli_json_add_stats(root, "panel_gflop_s", speed->panel_gflop_s);
    cli_json_add_stats(root, "prefill_of_bound", speed->prefill_of_bound);
    cli_json_add_stats(root, "decode_of_bound", speed->decode_of_bound);
}

static void print_speed(const MsPlan *plan, const CliSpeed *of) {
    const MsSpeed *speed = &of->cpu;
    cli_print_speed_row("prefill, tokens/s", speed->prefill_tok_s);
    cli_print_speed_row("decode, tokens/s", speed->decode_tok_s);
    if (!plan->limits) return;
    printf("\n");
    cli_print_speed_row("reading limit, GB/s", speed->read_gb_s);
    cli_print_speed_row("panel limit, GFLOP/s", speed->panel_gflop_s);
    cli_print_speed_row("prefill / its bound", speed->prefill_of_bound);
    cli_print_speed_row("decode / its bound", speed->decode_of_bound);
}

static bool speed(DrBuild *build, const MsPlan *plan, CliSpeed *out) { return ms_measure_speed(build, plan, &out->cpu); }

static double decode_tok_s(const CliSpeed *speed) { return speed->cpu.decode_tok_s.median; }

/* ---------------------------------------------------------------------------------------------- limits */

/* The limits of every repetition, [repeat] each. */
typedef struct Samples {
    double *read, *panel, *fma, *exp;
} Samples;

void cli_processor_name(char out[LINE]) {
    char line[LINE];
    out[0] = '\0';
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && !out[0] && fgets(line, sizeof line, file)) {
        const char *colon = strncmp(line, "model name", 10) == 0 ? strchr(line, ':') : NULL;
        if (colon) snprintf(out, LINE, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
    }
    if (file) fclose(file);
}

/* Bytes of a cache of the first CPU; 0: not known. */
static double cache_bytes(int name) {
    long bytes = sysconf(name);
    return bytes > 0 ? (double)bytes : 0;
}

static void print_limits_json(const CgTarget *target, const MsLimiter *limiter, const MsStats *stats) {
    char name[LINE];
    cli_processor_name(name);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "cpu", target->cpu);
    cJSON_AddStringToObject(root, "processor", name);
    cJSON_AddNumberToObject(root, "vector_lanes", target->vector_lanes);
    cJSON_AddNumberToObject(root, "threads", ms_limiter_threads(limiter));
    cJSON_AddNumberToObject(root, "l1d_bytes", cache_bytes(_SC_LEVEL1_DCACHE_SIZE));
    cJSON_AddNumberToObject(root, "l2_bytes", cache_bytes(_SC_LEVEL2_CACHE_SIZE));
    cJSON_AddNumberToObject(root, "l3_bytes", cache_bytes(_SC_LEVEL3_CACHE_SIZE));
    cJSON_AddNumberToObject(root, "buffer_bytes", (double)ms_limit_buffer(limiter));
    cJSON_AddStringToObject(root, "read_pattern", ms_limit_pattern(limiter));
    cJSON_AddNumberToObject(root, "block_panels", target->block_panels);
    cJSON_AddNumberToObject(root, "block_rows", target->block_rows);
    cli_json_add_stats(root, "read_gb_s", stats[0]);
    cli_json_add_stats(root, "panel_gflop_s", stats[1]);
    cli_json_add_stats(root, "fma_gflop_s", stats[2]);
    cli_json_add_stats(root, "exp_g_s", stats[3]);
    cli_json_print(root);
}

static void print_limits_table(const CgTarget *target, const MsLimiter *limiter, const MsStats *stats) {
    char name[LINE], text[3][CLI_NUMBER], read[LINE], panel[LINE];
    cli_processor_name(name);
    int threads = ms_limiter_threads(limiter);
    printf("%s%s%s%s, %d float lanes, %d thread%s; caches %s, %s, %s\n\n", target->cpu, name[0] ? " (" : "", name,
           name[0] ? ")" : "", target->vector_lanes, threads, threads > 1 ? "s" : "",
           cli_bytes(cache_bytes(_SC_LEVEL1_DCACHE_SIZE), text[0]), cli_bytes(cache_bytes(_SC_LEVEL2_CACHE_SIZE), text[1]),
           cli_bytes(cache_bytes(_SC_LEVEL3_CACHE_SIZE), text[2]));
    snprintf(read, sizeof read, "each thread %s; through %s", ms_limit_pattern(limiter),
             cli_bytes((double)ms_limit_buffer(limiter), text[0]));
    snprintf(panel, sizeof panel, "%d panels x %d rows of a linear layer, operands in the first cache", target->block_panels,
             target->block_rows);
    printf("  %-16s %9s %9s %9s\n", "", "median", "min", "max");
    cli_print_limit_row("reading memory", "GB/s", stats[0], read);
    cli_print_limit_row("panel kernel", "GFLOP/s", stats[1], panel);
    cli_print_limit_row("multiply-adds", "GFLOP/s", stats[2], "float32, in registers");
    cli_print_limit_row("exp", "G/s", stats[3], "as the scan computes it");
}

/* All limits in turn, `repeat` times. */
static void measure_limits(MsLimiter *limiter, int64_t repeat, Samples *samples) {
    for (int64_t i = 0; i < repeat; i++) {
        MsLimits limits = ms_measure_limits(limiter);
        samples->read[i] = limits.read_gb_s;
        samples->panel[i] = limits.panel_gflop_s;
        samples->fma[i] = limits.fma_gflop_s;
        samples->exp[i] = limits.exp_g_s;
    }
}

static bool limits(DrBuild *build, const CliLimits *what) {
    MsLimiter *limiter = NULL;
    bool ok = build->has_target = cg_target_host(what->isa, &build->target, &build->diags);
    ok = ok && ms_limiter_create(&build->target, (int)what->threads, &limiter, &build->diags);
    if (ok) {
        size_t n = (size_t)what->repeat;
        Samples samples = {.read = SU_NEW_ARRAY(&build->arena, double, n),
                           .panel = SU_NEW_ARRAY(&build->arena, double, n),
                           .fma = SU_NEW_ARRAY(&build->arena, double, n),
                           .exp = SU_NEW_ARRAY(&build->arena, double, n)};
        measure_limits(limiter, what->repeat, &samples);
        MsStats stats[4] = {ms_stats(samples.read, n), ms_stats(samples.panel, n), ms_stats(samples.fma, n),
                            ms_stats(samples.exp, n)};
        (what->json ? print_limits_json : print_limits_table)(&build->target, limiter, stats);
    }
    ms_limiter_free(limiter);
    return ok;
}

const CliMeter cli_meter_cpu = {
    .kind = &dr_cpu,
    .speed = speed,
    .decode_tok_s = decode_tok_s,
    .add_speed = add_speed,
    .print_speed = print_speed,
    .limits = limits,
};
