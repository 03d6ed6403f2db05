/* mossc bench: how fast, and how much memory. */
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/measure/meter.h"
#include "cli/measure/series.h"
#include "cli/build.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "driver/device.h"
#include "driver/random_weights.h"
#include "support/clock.h"

typedef struct BenchOptions {
    CliModelOptions model;
    int64_t prefill, decode, batch, repeat, chunk;
    bool json, limits;
    CliSeries series;
    int form; /* a CliSeriesForm; -1: not given */
} BenchOptions;

enum { MAX_REPEAT = 1000 };

/* One value of each for every repetition. */
typedef struct Samples {
    double *compile_ms, *cached_ms, *load_ms;
} Samples;

typedef struct Results {
    MsStats compile_ms, cached_ms, load_ms;
    bool has_cached;
    CliSpeed speed;
} Results;

/* ---------------------------------------------------------------------------------------------- measuring */

/* Compiles from the YAML on. Whether the checkpoints fit is seen to on the way, before the slow part, off the clock. */
static bool compile_once(DrBuild *build, const DrBuildOptions *options, bool check_files, double *out_ms) {
    double start = su_seconds();
    if (!dr_build_spec(build, options) || !dr_build_graph(build) || !dr_build_program(build, options)) return false;
    double before_files = su_seconds();
    if (check_files && !dr_build_files(build, options)) return false;
    double after_files = su_seconds();
    bool ok = dr_build_code(build, options);
    *out_ms = 1e3 * (su_seconds() - after_files + before_files - start);
    return ok;
}

/* Compiles `repeat` times; the last result stays in `build`. */
static bool measure_compile(DrBuild *build, const DrBuildOptions *options, const BenchOptions *o, double *out_ms) {
    for (int64_t i = 0;; i++) {
        DrBuild next = dr_build_again(build);
        bool ok = compile_once(&next, options, i == 0 && options->weights->count, &out_ms[i]);
        if (!ok || i + 1 == o->repeat) {
            *build = next;
            return ok;
        }
        dr_build_forget(&next); /* and its messages: the last one has the same to say */
    }
}

/* The same with the kernel cache, after a first time that fills it. false: not every kernel came from there. */
static bool measure_cached(DrBuild *build, const DrBuildOptions *options, const BenchOptions *o, double *out_ms) {
    DrBuildOptions cached = *options;
    cached.cache = DR_CACHE;
    bool all = true;
    for (int64_t i = -1; i < o->repeat && all; i++) {
        DrBuild next = dr_build_again(build);
        double ms = 0;
        all = compile_once(&next, &cached, false, &ms) && (i < 0 || next.kernels_found == next.program->n_kernels);
        if (i >= 0) out_ms[i] = ms;
        dr_build_forget(&next); /* and its messages: the last one has the same to say */
    }
    if (!all)
        su_warning(&build->diags, (SuSpan){0}, "see `mossc warm`", "no cached_ms: the kernel cache does not store all kernels");
    return all;
}

static bool measure_load(DrBuild *build, const DrBuildOptions *options, const BenchOptions *o, double *out_ms) {
    for (int64_t i = 0; i < o->repeat; i++) {
        moss_model_free(build->model); /* before the next: two copies may not fit */
        build->model = NULL;
        if (!dr_build_weights_or_random(build, options, &out_ms[i])) return false;
        out_ms[i] *= 1e3;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------- reporting */

static double peak_rss_bytes(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1024.0 * (double)usage.ru_maxrss;
}

static void print_json(const DrBuild *build, const MsPlan *plan, const Results *results) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "name", build->program->name);
    cJSON_AddNumberToObject(root, "prefill", (double)plan->prefill);
    cJSON_AddNumberToObject(root, "decode", (double)plan->decode);
    cJSON_AddNumberToObject(root, "batch", (double)plan->batch);
    cJSON_AddNumberToObject(root, "repeat", (double)plan->repeat);
    cli_json_add_stats(root, "compile_ms", results->compile_ms);
    if (results->has_cached) cli_json_add_stats(root, "cached_ms", results->cached_ms);
    cli_json_add_stats(root, "load_ms", results->load_ms);
    cli_meter(build)->add_speed(root, build, plan, &results->speed);
    cJSON_AddNumberToObject(root, "weight_bytes", (double)build->program->weight_bytes);
    cJSON_AddNumberToObject(root, "active_weight_bytes", (double)build->program->active_weight_bytes);
    cJSON_AddNumberToObject(root, "state_bytes", (double)build->program->state_bytes);
    cJSON_AddNumberToObject(root, "peak_rss_bytes", peak_rss_bytes());
    cli_json_print(root);
}

static void print_heading(const DrBuild *build, const MsPlan *plan) {
    DrFacts facts;
    dr_kind(build)->describe(build, &facts);
    printf("%s: %s, ", build->program->name, facts.title);
    if (plan->batch > 1) printf("%" PRId64 " sequences, each ", plan->batch);
    printf("prompt of %" PRId64 " tokens, then %" PRId64 " tokens, %" PRId64 " times\n\n", plan->prefill, plan->decode,
           plan->repeat);
    printf("  %-22s %12s %12s %12s\n", "", "median", "min", "max");
}

static void print_table(const DrBuild *build, const MsPlan *plan, const Results *results) {
    char text[CLI_NUMBER];
    double active = (double)build->program->active_weight_bytes;
    double decode_tok_s = cli_meter(build)->decode_tok_s(&results->speed);
    print_heading(build, plan);
    cli_print_speed_row("compile, ms", results->compile_ms);
    if (results->has_cached) cli_print_speed_row("the same, cached, ms", results->cached_ms);
    cli_print_speed_row("load, ms", results->load_ms);
    cli_meter(build)->print_speed(plan, &results->speed);
    printf("\n  %-22s %s\n", "weights", cli_bytes((double)build->program->weight_bytes, text));
    printf("  %-22s %s", "weights a token reads", cli_bytes(active, text));
    if (plan->batch == 1) printf("; decoding reads %s of them a second", cli_bytes(active * decode_tok_s, text));
    printf("\n  %-22s %s\n", "state of a sequence", cli_bytes((double)build->program->state_bytes, text));
    printf("  %-22s %s\n", "most memory in use", cli_bytes(peak_rss_bytes(), text));
}

/* ---------------------------------------------------------------------------------------------- the command */

static bool measure(DrBuild *build, const DrBuildOptions *options, const BenchOptions *o, SuArena *arena) {
    size_t n = (size_t)o->repeat;
    Samples samples = {.compile_ms = SU_NEW_ARRAY(arena, double, n),
                       .cached_ms = SU_NEW_ARRAY(arena, double, n),
                       .load_ms = SU_NEW_ARRAY(arena, double, n)};
    MsPlan plan = {.prefill = o->prefill,
                   .decode = o->decode,
                   .batch = o->batch,
                   .chunk = o->chunk,
                   .repeat = o->repeat,
                   .limits = o->limits,
                   .progress = options->progress};
    Results results = {0};
    if (!dr_build_device(build, options) || !measure_compile(build, options, o, samples.compile_ms) || !ms_fits(build, &plan))
        return false;
    results.has_cached = !o->model.no_cache && measure_cached(build, options, o, samples.cached_ms);
    if (!measure_load(build, options, o, samples.load_ms)) return false;
    if (!cli_meter(build)->speed(build, &plan, &results.speed)) return false;
    results.compile_ms = ms_stats(samples.compile_ms, n);
    results.cached_ms = ms_stats(samples.cached_ms, n);
    results.load_ms = ms_stats(samples.load_ms, n);
    (o->json ? print_json : print_table)(build, &plan, &results);
    return true;
}

/* A CliWork. */
static bool bench(DrBuild *build, const DrBuildOptions *options, void *context) {
    SuArena arena = {0}; /* of what is measured: builds come and go */
    DrBuildOptions uncached = *options;
    uncached.cache = DR_NO_CACHE; /* measure_cached uses it */
    bool ok = measure(build, &uncached, context, &arena);
    su_arena_free(&arena);
    return ok;
}

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(CliModelOptions, false, CLI_ABOUT_WEIGHTS " (default: random weights)"),
    CLI_ROW_INT(BenchOptions, prefill, "prefill", 0, "N", 1, 1 << 24, "tokens of the prompt (default 512)"),
    CLI_ROW_INT(BenchOptions, decode, "decode", 0, "N", 1, 1 << 24, "tokens fed one by one after it (default 128)"),
    CLI_ROW_INT(BenchOptions, batch, "batch", 0, "B", 1, PG_MAX_ROWS,
                "sequences that share every step; speeds count the tokens of all (default 1)"),
    CLI_ROW_FLAG(BenchOptions, limits, "limits",
                 "time the machine's limits before and after each prompt and decoding; speeds as parts of their bound"),
    CLI_ROW_INT(BenchOptions, repeat, "repeat", 'r', "R", 1, MAX_REPEAT,
                "how often everything is measured (default 3; of a table 5)"),
    CLI_ROW_LIST(BenchOptions, series.threads, "threads", 't', "N[,N...]", 1, SU_MOST_THREADS,
                 "threads (default: $MOSSC_THREADS, else the CPUs that this process may use, within its CPU quota); a table has "
                 "all numbers given"),
    CLI_OPTION_CHUNK(BenchOptions),
    CLI_ROW_LIST(BenchOptions, series.prompts, "n-prompt", 'p', "N[,N...]", 0, 1 << 24,
                 "of a table: tokens of prompts (default 512; 0: none)"),
    CLI_ROW_LIST(BenchOptions, series.tokens, "n-gen", 'n', "N[,N...]", 0, 1 << 24,
                 "of a table: tokens fed one by one (default 128; 0: none)"),
    CLI_ROW_LIST(BenchOptions, series.pairs, "pg", 0, "P,N", 1, 1 << 24,
                 "of a table: a prompt and tokens after it in one time; may be given several times"),
    CLI_ROW_LIST(BenchOptions, series.depths, "n-depth", 'd', "N[,N...]", 0, 1 << 24,
                 "of a table: tokens that the sequence has before each test (default 0)"),
    {CLI_ROW_VALUE(BenchOptions, form, "output", 'o', "md|csv|json|jsonl", CLI_WORD, "print a table, in this form (default md)"),
     .words = cli_series_words},
    CLI_OPTION_JSON(BenchOptions, "print one JSON object: median, min and max of each time and speed, and sizes in bytes"),
};

/* A CliWork. */
static bool bench_series(DrBuild *build, const DrBuildOptions *options, void *context) {
    const BenchOptions *o = context;
    return cli_series(build, options, &o->series);
}

static bool wants_table(const BenchOptions *o) {
    const CliSeries *s = &o->series;
    return o->form >= 0 || s->prompts.count || s->tokens.count || s->pairs.count || s->depths.count || s->threads.count > 1;
}

/* Options that the table and the report do not share. CLI_GO: none of them is there. */
static int check_table(const CliCommand *command, const BenchOptions *o) {
    const char *alien = o->prefill     ? "--prefill"
                        : o->decode    ? "--decode"
                        : o->batch > 1 ? "--batch"
                        : o->limits    ? "--limits"
                        : o->json      ? "--json"
                                       : NULL;
    if (alien) return cli_usage_error(command, "%s: not with -p, -n, -pg, -d, -o or several numbers of threads", alien);
    if (o->series.pairs.count % 2) return cli_usage_error(command, "--pg: expected two numbers, P,N");
    return CLI_GO;
}

static int run(const CliCommand *command, CliArgs *args) {
    BenchOptions o = {.batch = 1, .form = -1};
    int status = cli_parse(command, args, &o);
    const bool table_asked = status == CLI_GO && wants_table(&o);
    if (table_asked) status = check_table(command, &o);
    if (status != CLI_GO) return status;
    if (!o.prefill) o.prefill = 512;
    if (!o.decode) o.decode = 128;
    if (!o.repeat) o.repeat = table_asked ? 5 : 3;
    if (o.series.threads.count) o.model.threads = o.series.threads.items[0];
    o.series.repeat = o.repeat;
    o.series.chunk = o.chunk;
    o.series.form = o.form < 0 ? CLI_MD : (CliSeriesForm)o.form;
    if (strcmp(args->positionals[0], "-") == 0)
        return cli_usage_error(command, "the spec is compiled several times and cannot be read from standard input");
    return cli_model_command(args->positionals[0], &o.model, table_asked ? bench_series : bench, &o);
}

const CliCommand cli_bench = {
    .name = "bench",
    .summary = "measure compiling, loading, prompts and decoding",
    .synopsis = "SPEC [-w WEIGHTS]... [OPTION]...",
    .about =
        "Compiles SPEC, loads the weights (random ones unless given, made without a second copy of the model), feeds a prompt and "
        "then single tokens, each several times after one round that is not counted, and prints median, smallest and largest "
        "values.\n\n"
        "compile_ms: from YAML to machine code; cached_ms: the same when the kernel cache holds every kernel. load_ms: reading and "
        "packing the weights; making random ones is not counted. "
        "weight_bytes: packed weights in memory; active_weight_bytes: of those, read by one decoded token. state_bytes: of one "
        "sequence. peak_rss_bytes: most memory that the whole run used, the "
        "buffer of --limits included.\n\n"
        "With -p, -n, -pg, -d or -o it prints the table of llama-bench instead: a row a test, with mean and deviation of tokens a "
        "second over -r rounds, after one that is not counted. pp512 is a prompt of 512 tokens, tg128 128 tokens fed one by one, "
        "pp512+tg128 "
        "both, @ d4096 that the sequence has 4096 tokens before. Logits are computed, none are sampled.\n\n"
        "With --limits: the bound of a step is the larger of its weights' bytes over the reading limit (each weight once, and of "
        "experts those that its tokens are expected to choose) and its linear layers' FLOPs over the rate of a panel kernel whose "
        "operands "
        "are in the first cache (see mossc limits). prefill_of_bound, decode_of_bound: the bound over the time.\n\n"
        "With --device cuda up to 64 sequences pick their tokens on the GPU, greedily, 32 before the host reads them. linear_ms, "
        "scan_ms, other_ms: times of the prompts' phases, launched one by one, by the GPU's clock. With --limits also: "
        "prefill_of_peak, linear_of_peak: the linear layers' FLOPs over the rate of tensor cores (of multiply-adds where they are "
        "not "
        "used) over the time; scan_of_bound: the larger of bytes over the copy rate and exps over the rate of ex2, over the time; "
        "decode_of_bandwidth: bytes of weights and states over the copy rate over the time; decode_of_bound: for one sequence 1.1 "
        "times those bytes over the copy rate, plus 1.5 us a phase, over the time; for several sequences the larger of the bytes' "
        "and the FLOPs' time, over the time.",
    .examples = "mossc bench specs/moss-tiny.yaml -w models/moss-tiny.safetensors\n"
                "mossc bench specs/mamba-370m.yaml --prefill 256 --decode 32 --json\n"
                "mossc bench specs/mamba-130m.yaml --batch 16 --prefill 32 --limits\n"
                "mossc bench specs/mamba-370m.yaml -p 128,512 -n 32 -t 1,2 -d 0,4096 -o md\n"
                "mossc bench specs/moss-tiny.yaml --no-scan-fusion --threads 1\n"
                "mossc bench specs/mamba-370m.yaml --set weights.dtype=bf16 --device cuda --limits\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
