/* mossc limits: what this machine can do at most. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "driver/device.h"
#include "cli/measure/gpu.h"
#include "measure/limiter.h"
#include "cli/build.h"

typedef struct LimitsOptions {
    int64_t threads, repeat;
    int isa;
    const char *device;
    bool json;
} LimitsOptions;

enum { MAX_REPEAT = 100, LINE = 256 };

/* The limits of every repetition. */
typedef struct Samples {
    double read[MAX_REPEAT], panel[MAX_REPEAT], fma[MAX_REPEAT], exp[MAX_REPEAT];
} Samples;

/* The kernel's name for the processor; empty where it has none. */
static void processor_name(char out[LINE]) {
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

static void print_json(const CgTarget *target, const MsLimiter *limiter, const MsStats *stats) {
    char name[LINE];
    processor_name(name);
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

static void print_row(const char *what, const char *unit, MsStats stats, const char *how) {
    printf("  %-16s %9.1f %9.1f %9.1f  %-8s  %s\n", what, stats.median, stats.min, stats.max, unit, how);
}

static void print_table(const CgTarget *target, const MsLimiter *limiter, const MsStats *stats) {
    char name[LINE], text[3][CLI_NUMBER], read[LINE], panel[LINE];
    processor_name(name);
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
    print_row("reading memory", "GB/s", stats[0], read);
    print_row("panel kernel", "GFLOP/s", stats[1], panel);
    print_row("multiply-adds", "GFLOP/s", stats[2], "float32, in registers");
    print_row("exp", "G/s", stats[3], "as the scan computes it");
}

/* All limits in turn, `repeat` times. */
static void measure(MsLimiter *limiter, int64_t repeat, Samples *samples) {
    for (int64_t i = 0; i < repeat; i++) {
        MsLimits limits = ms_measure_limits(limiter);
        samples->read[i] = limits.read_gb_s;
        samples->panel[i] = limits.panel_gflop_s;
        samples->fma[i] = limits.fma_gflop_s;
        samples->exp[i] = limits.exp_g_s;
    }
}

static bool measure_host(DrBuild *build, const LimitsOptions *o) {
    MsLimiter *limiter = NULL;
    const char *isa = o->isa ? cli_isa_words[o->isa] : NULL;
    bool ok = build->has_target = cg_target_host(isa, &build->target, &build->diags);
    ok = ok && ms_limiter_create(&build->target, (int)o->threads, &limiter, &build->diags);
    if (ok) {
        Samples samples;
        size_t n = (size_t)o->repeat;
        measure(limiter, o->repeat, &samples);
        MsStats stats[4] = {ms_stats(samples.read, n), ms_stats(samples.panel, n), ms_stats(samples.fma, n),
                            ms_stats(samples.exp, n)};
        (o->json ? print_json : print_table)(&build->target, limiter, stats);
    }
    ms_limiter_free(limiter);
    return ok;
}

static const CliOption table[] = {
    CLI_ROW_TEXT(LimitsOptions, device, "device", 0, "DEVICE", false,
                 "what is measured: cpu (the default), cuda or cuda:N, the N-th NVIDIA GPU"),
    CLI_ROW_INT(LimitsOptions, repeat, "repeat", 0, "R", 1, MAX_REPEAT, "how often each is measured (default 5)"),
    CLI_ROW_INT(LimitsOptions, threads, "threads", 0, "N", 1, 1024,
                "threads that measure together (default: as many as there are CPUs for this process)"),
    CLI_OPTION_ISA(LimitsOptions),
    CLI_OPTION_JSON(LimitsOptions, "print one JSON object: median, min and max of each limit, and what is known of the machine"),
};

static int run(const CliCommand *command, CliArgs *args) {
    LimitsOptions o = {.repeat = 5};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    DrBuild build = {0};
    DrBuildOptions options = {.device = o.device, .isa = o.isa ? cli_isa_words[o.isa] : NULL};
    bool ok = dr_build_device(&build, &options);
    if (ok && build.device && o.threads) ok = su_error(&build.diags, (SuSpan){0}, NULL, "--threads is for CPUs");
    if (ok) ok = build.device ? cli_gpu_print_limits(&build, o.repeat, o.json) : measure_host(&build, &o);
    return cli_build_finish(&build, ok);
}

const CliCommand cli_limits = {
    .name = "limits",
    .summary = "measure what this machine can do at most",
    .synopsis = "[OPTION]...",
    .about =
        "Measures the four rates that models are held against, all threads together, by kernels that the same back end made: "
        "reading memory past every cache (the best of eight patterns), the microkernel of a linear layer with its operands in the "
        "first "
        "cache, multiply-adds in registers, and exp. Decoding is compared with the first, prompts with the second, scans with the "
        "last. What else runs on the machine takes away from them, and a shared host drifts: compare with limits measured next "
        "to a result, as `mossc explain --measure` and `mossc bench --limits` do.\n\n"
        "With --device cuda they are the GPU's: copying within its memory, products on tensor cores (where the linear layers use "
        "them), "
        "multiply-adds and exp, each of the three in registers.",
    .examples = "mossc limits\n"
                "mossc limits --threads 1 --json\n"
                "mossc limits --isa avx2\n"
                "mossc limits --device cuda\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 0,
    .most_positionals = 0,
    .run = run,
};
