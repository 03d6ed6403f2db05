/* mossc ir: what the compiler sees, at any stage. */
#include <string.h>

#include "cli/commands.h"
#include "cli/build.h"
#include "cli/progress.h"
#include "support/file.h"
#include "support/clock.h"

/* In the order of stage_words. STAGE_UNSAID: fused for a spec, as it is for a graph in text. */
typedef enum Stage { STAGE_NAIVE, STAGE_FUSED, STAGE_PROGRAM, STAGE_UNSAID } Stage;
static const char *const stage_words[] = {"naive", "fused", "program", NULL};

enum { MAX_GRAPH_TEXT = 256 << 20 };

typedef struct IrOptions {
    CliTexts sets;
    int stage; /* Stage */
    bool off[PS_PASS_COUNT];
    int stop_after; /* PsPass, or -1 */
    const char *dump_dir;
    bool time_passes, checked;
    int isa;
} IrOptions;

static bool is_graph_text(const char *path) {
    size_t size = strlen(path);
    return size > 4 && strcmp(path + size - 4, ".mir") == 0;
}

/* Reads and verifies a graph in text form. */
static bool read_graph(DrBuild *build, const char *path) {
    char *text;
    size_t size;
    if (!su_read_file(&build->arena, path, MAX_GRAPH_TEXT, &text, &size, &build->diags)) return false;
    SuSource *source = SU_NEW(&build->arena, SuSource);
    *source = (SuSource){.path = path, .text = text, .size = size};
    build->graph = ir_parse(&build->arena, source, &build->diags);
    return build->graph && ir_verify(build->graph, &build->diags);
}

static void print_times(const double *seconds, double lowering) {
    double total = lowering;
    fprintf(stderr, "%-20s %10s\n", "pass", "ms");
    fprintf(stderr, "%-20s %10.3f\n", "lower", 1e3 * lowering);
    for (int i = 0; i < PS_PASS_COUNT; i++) {
        fprintf(stderr, "%-20s %10.3f\n", ps_pass_name((PsPass)i), 1e3 * seconds[i]);
        total += seconds[i];
    }
    fprintf(stderr, "%-20s %10.3f\n", "all", 1e3 * total);
}

/* The naive graph of a spec or of a text. */
static bool make_graph(DrBuild *build, const DrBuildOptions *options, double *out_seconds) {
    if (is_graph_text(options->spec)) return read_graph(build, options->spec);
    if (!dr_build_spec(build, options)) return false;
    double start = su_seconds();
    bool ok = dr_build_graph(build);
    *out_seconds = su_seconds() - start;
    return ok;
}

/* Everything up to the program; with a dump directory the generated code too. */
static bool make_program(DrBuild *build, const DrBuildOptions *options) {
    if (!dr_build_program(build, options)) return false;
    if (options->dump_dir && !dr_build_code(build, options)) return false;
    sc_print_program(build->program, stdout);
    return true;
}

static bool print_stage(DrBuild *build, const DrBuildOptions *options, const IrOptions *o) {
    double seconds[PS_PASS_COUNT] = {0}, lowering = 0;
    build->passes.seconds = seconds;
    build->passes.check = o->checked || DR_DEBUG_BUILD;
    if (!make_graph(build, options, &lowering)) return false;
    if (o->stage == STAGE_PROGRAM) {
        if (!make_program(build, options)) return false;
    } else {
        if (o->stage == STAGE_FUSED) {
            memcpy(build->passes.off, o->off, sizeof build->passes.off);
            build->passes.dump_dir = o->dump_dir;
            build->passes.stop_after = o->stop_after + 1; /* a number of passes; 0: all */
            if (!ps_fuse(build->graph, &build->passes, &build->diags)) return false;
        }
        ir_print(build->graph, stdout);
    }
    if (o->time_passes) print_times(seconds, lowering);
    return true;
}

static const CliOption table[] = {
    CLI_ROW_WORD(
        IrOptions, stage, "stage", "STAGE", stage_words,
        "naive: one operation per operator of the language's equations; fused: after the graph passes (default for a spec); "
        "program: phases, kernels, weights and states"),
    CLI_ROW_PASS(IrOptions, stop_after, "stop-after", "PASS", PS_ELEMENTWISE_FUSION, "print the graph as it is after this pass"),
    CLI_ROW_TEXT(IrOptions, dump_dir, "dump-dir", 0, "DIR", false,
                 "write a numbered file for every step into DIR; with --stage program the generated code too"),
    CLI_ROW_FLAG(IrOptions, time_passes, "time-passes", "print how long each pass took to standard error"),
    CLI_ROW_FLAG(IrOptions, checked, "check",
                 "print, parse and compare the graph after every pass, and check the program (debug builds always do)"),
    CLI_OPTION_NO_PASSES(IrOptions),
    CLI_OPTION_ISA(IrOptions),
    CLI_OPTION_SET(IrOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    IrOptions o = {.stage = STAGE_UNSAID, .stop_after = -1};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    const char *path = args->positionals[0];
    bool text = is_graph_text(path);
    if (o.stop_after >= 0 && o.stage == STAGE_UNSAID) o.stage = STAGE_FUSED;
    if (o.stop_after >= 0 && o.stage != STAGE_FUSED)
        return cli_usage_error(command, "--stop-after goes with --stage fused, not %s", stage_words[o.stage]);
    if (o.stage == STAGE_UNSAID) o.stage = text ? STAGE_NAIVE : STAGE_FUSED;
    if (text && o.sets.count) return cli_usage_error(command, "--set overrides values of a spec, not of a .mir file");
    DrBuild build = {0};
    DrBuildOptions options = {
        .spec = path, .sets = &o.sets, .off = o.off, .isa = o.isa ? cli_isa_words[o.isa] : NULL, .dump_dir = o.dump_dir};
    bool ok = (!o.dump_dir || dr_make_directory(&build.diags, o.dump_dir)) && print_stage(&build, &options, &o);
    return cli_build_finish(&build, ok);
}

const CliCommand cli_ir = {
    .name = "ir",
    .summary = "print the intermediate representation of a spec, at any stage",
    .synopsis = "SPEC [OPTION]...",
    .about =
        "Prints the graph or the program of a spec as text. SPEC may also be a file that ends in .mir, with a graph in text form: "
        "it is parsed, verified and printed, after the passes with --stage fused, or as a program with --stage program. A graph "
        "that is already fused is not changed.",
    .examples = "mossc ir specs/moss-tiny.yaml --stage naive\n"
                "mossc ir specs/moss-tiny.yaml --stop-after route-fusion\n"
                "mossc ir specs/moss-tiny.yaml --stage program --dump-dir steps\n"
                "mossc ir graph.mir --stage fused --no-scan-fusion\n"
                "mossc ir graph.mir --stage program\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
