/* mossc explain: what a step costs, phase by phase, and its bottleneck. */
#include "cli/inspect/compare.h"
#include "cli/inspect/explain_print.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/build.h"
#include "driver/device.h"
#include "driver/target.h"
#include "driver/tuning.h"
#include "support/table.h"

typedef struct ExplainOptions {
    CliModelOptions model;
    int64_t rows, position, repeat; /* rows, position -1: not given */
    bool measure, json;
    const char *described; /* a device that is described, in place of model.device */
    const DrDeviceKind *kind; /* whose program is explained without opening one of its devices; NULL: model.device is opened */
    CliTexts points;       /* of a study, which are compared */
} ExplainOptions;

enum { MOST_STEPS = 3, DEFAULT_ROWS = 512, DEFAULT_POSITION = 1023, MAX_REPEAT = 1000 };

/* ---------------------------------------------------------------------------------------------- the command */

static bool too_far(DrBuild *build, const char *what, int64_t given, const char *limit, int64_t most) {
    return su_error(&build->diags, (SuSpan){0}, NULL, "%s %" PRId64 " is past %s of this model, %" PRId64, what, given, limit,
                    most);
}

/* The steps that are explained: a token, a prompt, and where the device takes a list of phases for few rows a token of as many sequences.
 * Defaults give way to what the model allows. */
static bool choose_steps(DrBuild *build, const ExplainOptions *o, PgWork *token, PgWork *prompt, PgWork *few) {
    int64_t positions = build->program->max_positions, rows = build->program->max_rows;
    if (positions && positions < rows) rows = positions;
    if (o->rows > rows) return too_far(build, "--rows", o->rows, "the most tokens of a step", rows);
    if (positions && o->position >= positions) return too_far(build, "--position", o->position, "max_positions - 1", positions - 1);
    int64_t position = o->position >= 0 ? o->position : DEFAULT_POSITION;
    *token = (PgWork){
        .rows = 1, .segments = 1, .n_out_rows = 1, .position = positions && position >= positions ? positions - 1 : position};
    *prompt = (PgWork){.rows = o->rows > 0 ? o->rows : rows < DEFAULT_ROWS ? rows : DEFAULT_ROWS, .segments = 1, .n_out_rows = 1};
    int64_t most = build->passes.few != NULL ? build->passes.few->rows : 0;
    *few = (PgWork){.rows = most, .segments = most, .n_out_rows = most, .position = token->position};
    return true;
}

static void print_json(const DrBuild *build, const ExplainOptions *o, const MsExplained *x, size_t n) {
    static const char *const keys[] = {[PG_ROW] = "token", [PG_BLOCK] = "prompt", [PG_FEW] = "few"};
    SU_TABLE_FULL(keys, PG_LISTS);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "name", build->program->name);
    if (o->measure) cJSON_AddNumberToObject(root, "threads", x[0].threads);
    if (o->measure) cJSON_AddNumberToObject(root, "vector_lanes", build->target.vector_lanes);
    for (size_t i = 0; i < n; i++) cJSON_AddItemToObject(root, keys[x[i].list], cli_explain_json(&x[i]));
    cli_json_print(root);
}

/* The model of the device that is described, and what the program is made for there. */
static bool find_model(DrBuild *build, const ExplainOptions *o, MsTimeModel *out) {
    FeDevice device;
    CgTarget target;
    if (!dr_find_device(o->described, &build->arena, &device, &build->diags) ||
        !ms_time_model(&device, o->model.threads, out, &build->diags))
        return false;
    build->kind = dr_kind_of_target(device.target);
    if (!o->model.fast || !build->kind->check_fast) return true;
    if (!dr_find_target(device.target, &build->arena, &target, &build->diags)) return false;
    bool has = build->kind->check_fast(build, NULL, &target);
    cg_target_free(&target);
    return has;
}

/* What kernels are compiled with here; nothing where no code can be made for this machine. */
static void find_schedules(DrBuild *build, const DrBuildOptions *options, MsExplained *x, size_t n) {
    SuDiags unheard = {0};
    build->has_target = cg_target_host(options->isa, &build->target, &unheard);
    su_diags_free(&unheard);
    if (!build->has_target || !dr_build_schedules(build, options)) return;
    for (size_t i = 0; i < n; i++) x[i].schedules = build->schedules, x[i].target = &build->target;
}

/* A CliWork. */
static bool explain(DrBuild *build, const DrBuildOptions *options, void *context) {
    const ExplainOptions *o = context;
    PgWork token, prompt, few;
    MsTimeModel model;
    build->kind = o->kind;
    bool found = o->kind != NULL || (o->described ? find_model(build, o, &model) : dr_build_device(build, options));
    if (!found || !dr_build_spec(build, options) || !dr_build_graph(build) || !dr_build_program(build, options) ||
        !choose_steps(build, o, &token, &prompt, &few))
        return false;
    MsExplained x[MOST_STEPS] = {ms_explain_step(&build->spec, build->program, PG_ROW, token, &build->arena)};
    size_t n = 1;
    if (build->program->steps[PG_FEW].n_phases > 0)
        x[n++] = ms_explain_step(&build->spec, build->program, PG_FEW, few, &build->arena);
    if (prompt.rows > 1) /* where max_positions is 1 there are no prompts */
        x[n++] = ms_explain_step(&build->spec, build->program, PG_BLOCK, prompt, &build->arena);
    if (!o->described && o->kind == NULL) find_schedules(build, options, x, n);
    for (size_t i = 0; i < n && o->described; i++) ms_explain_model(&x[i], &model);
    if (o->measure && !ms_measure_steps(build, options, o->repeat, x, n)) return false;
    if (o->json) {
        print_json(build, o, x, n);
    } else {
        printf("%s: %s\n\n", options->spec, build->program->name);
        for (size_t i = 0; i < n; i++) cli_explain_print(&x[i]);
    }
    return true;
}

static const CliOption table[] = {
    CLI_ROW_FLAG(ExplainOptions, measure, "measure", "run it, and report each phase's time and bottleneck"),
    CLI_OPTION_WEIGHTS(CliModelOptions, false, CLI_ABOUT_WEIGHTS " (with --measure; default: random weights)"),
    CLI_ROW_INT(ExplainOptions, rows, "rows", 0, "R", 2, PG_MAX_ROWS,
                "tokens of the prompt (default 512, or what the model allows)"),
    CLI_ROW_INT(ExplainOptions, position, "position", 0, "P", 0, INT32_MAX,
                "tokens before the one that is decoded, for attention (default 1023)"),
    CLI_ROW_INT(ExplainOptions, repeat, "repeat", 0, "R", 1, MAX_REPEAT, "rounds of which the fastest counts (default 5)"),
    CLI_ROW_TEXTS(ExplainOptions, points, "point", 0, "K", false,
                  "twice, with a study of `mossc explore` in place of SPEC: compare two of its points"),
    CLI_OPTION_VERIFY(CliModelOptions),
    CLI_OPTION_JSON(ExplainOptions, "print one JSON object"),
};

/* Whether the index of a point. */
static bool read_point(const char *text, uint64_t *out) {
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static int compare(const CliCommand *command, const char *directory, const ExplainOptions *o) {
    uint64_t points[2];
    if (o->points.count != 2)
        return cli_usage_error(command, "--point compares two points: give it twice (got %zu)", o->points.count);
    if (o->measure || o->model.weights.count || o->rows >= 0 || o->position >= 0 || o->model.sets.count || o->model.threads)
        return cli_usage_error(command,
                               "--point compares points of a study by its workload: it goes with --device and --json only");
    for (int i = 0; i < 2; i++)
        if (!read_point(o->points.items[i], &points[i]))
            return cli_usage_error(command, "--point: expected the index of a point, got '%s'", o->points.items[i]);
    return cli_compare(directory, points, o->model.device, o->json);
}

static int run(const CliCommand *command, CliArgs *args) {
    ExplainOptions o = {.rows = -1, .position = -1, .repeat = 5};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (o.points.count) return compare(command, args->positionals[0], &o);
    if (o.model.weights.count && !o.measure) return cli_usage_error(command, "-w requires --measure");
    const DrDeviceKind *kind = dr_kind_of_device(o.model.device);
    if (!kind && o.model.device) {
        o.described = o.model.device;
        o.model.device = NULL;
    }
    if (o.described && o.measure) return cli_usage_error(command, "--measure runs the model: it takes --device cpu");
    if (kind && !(kind->takes & DR_EXPLAIN)) {
        if (o.measure)
            return cli_usage_error(command,
                                   "--measure runs the model on a CPU; `mossc bench --device %s --limits` holds a GPU's "
                                   "phases against its limits",
                                   kind->name);
        o.kind = kind;
    }
    return cli_model_command(args->positionals[0], &o.model, explain, &o);
}

const CliCommand cli_explain = {
    .name = "explain",
    .summary = "show what each phase of a step costs, and its bottleneck",
    .synopsis = "SPEC [--measure [-w WEIGHTS]...] [OPTION]... | DIR --point A --point B",
    .about =
        "A step of a model is a list of phases, each a kernel that all workers run together. For a decoded token and for "
        "a prompt this command prints the phases, equal blocks as one: the spec's line, how often the phase occurs, FLOPs "
        "and exps, the bytes of weights, states and activations, and the kernel (by the name that `mossc asm` and "
        "profilers show), then the schedules of linear layers, and whether `mossc tune` found them. Experts are counted by how "
        "many are expected to be chosen: of E, if each of R tokens picks k, E "
        "(1 - (1 - k/E)^R).\n\n"
        "--measure runs both steps, after a warm-up, R times in turn without and with reading the clock in every phase, "
        "and prints for the fastest round: milliseconds and their share, how long workers waited for each other, what the "
        "limits of this machine allow (see `mossc limits`; measured in every round), and the bottleneck: reading, "
        "multiply-adds, exp, waiting, or too little work.\n\n"
        "With --point twice and a study of `mossc explore`, the two points stand side by side: phases by name, FLOPs, bytes and "
        "the model's time on the study's first device (or --device, one of its devices), the largest difference first, and "
        "what makes it.\n\n"
        "With --device cuda it prints the phases that a GPU runs, without one: also those of a step of a few rows, a token of "
        "64 sequences each, which has fewer stages (docs/cuda.md).\n\n"
        "--device takes here also a device that is described (`mossc targets`, or a device file): each phase then has the "
        "time that "
        "the device's rates give, or its calibration (docs/explore.md). docs/explain.md has examples and the keys of the JSON "
        "object.",
    .examples = "mossc explain specs/mamba-130m.yaml\n"
                "mossc explain specs/moss-tiny.yaml --measure -w models/moss-tiny.safetensors\n"
                "mossc explain specs/mamba-130m.yaml --device galaxy-s24-ultra\n"
                "mossc explain specs/jamba-like.yaml --position 4000 --rows 64 --json\n"
                "mossc explain out --point 17 --point 42\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
