/* mossc check: is the spec right, and what does the model cost? */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/build.h"
#include "driver/cost.h"
#include "support/str.h"

typedef struct CheckOptions {
    CliTexts sets;
    bool json;
    int64_t position;
} CheckOptions;

/* The model in parts. */
typedef struct Report {
    FeSpec *spec;
    DrCosts costs;
    double peak_bytes; /* of a sequence, with steps of as many rows as the program takes */
} Report;

/* ---------------------------------------------------------------------------------------------- for people */

/* "ssm, 8 experts, top 2, outputs" */
static void describe(const FeBlock *block, SuText *out) {
    SuText more = {0};
    fe_describe_block(block, &more);
    const char *between = block->n_branches ? ": " : ", ";
    su_text_add(out, "%s%s%s", fe_block_word(block), more.size ? between : "", more.size ? more.text : "");
    su_text_free(&more);
}

static void print_row(int width, const char *what, int64_t blocks, const DrCost *cost) {
    char text[6][CLI_NUMBER], count[CLI_NUMBER] = "";
    if (blocks) snprintf(count, sizeof count, "%" PRId64, blocks);
    printf("  %-*s %6s %10s %10s %11s %11s %10s %11s\n", width, what, count, cli_count(cost->parameters, text[0]),
           cli_count(cost->active, text[1]), cli_bytes(cost->weight_bytes, text[2]), cli_bytes(cost->state_bytes, text[3]),
           cli_count(cost->flops, text[4]), cli_bytes(cost->token_bytes, text[5]));
}

/* Two blocks share a row of the table if they are described alike and cost the same. */
static bool same_row(const Report *report, int64_t i, int64_t j) {
    if (memcmp(&report->costs.parts[i + 1], &report->costs.parts[j + 1], sizeof(DrCost)) != 0) return false;
    SuText a = {0}, b = {0};
    describe(&report->spec->blocks[i], &a);
    describe(&report->spec->blocks[j], &b);
    bool same = strcmp(a.text, b.text) == 0;
    su_text_free(&a);
    su_text_free(&b);
    return same;
}

/* Of the table's first column. */
static int description_width(const FeSpec *spec) {
    size_t width = 36;
    for (int64_t i = 0; i < spec->n_blocks; i++) {
        SuText text = {0};
        describe(&spec->blocks[i], &text);
        if (text.size > width) width = text.size;
        su_text_free(&text);
    }
    return (int)width;
}

static void print_blocks(const Report *report, int width, SuArena *arena) {
    int64_t n = report->spec->n_blocks;
    bool *done = SU_NEW_ARRAY(arena, bool, (size_t)n);
    for (int64_t i = 0; i < n; i++) {
        if (done[i]) continue;
        DrCost sum = {0};
        int64_t count = 0;
        for (int64_t j = i; j < n; j++) {
            if (done[j] || !same_row(report, i, j)) continue;
            done[j] = true;
            count++;
            dr_add_cost(&sum, &report->costs.parts[j + 1]);
        }
        SuText what = {0};
        describe(&report->spec->blocks[i], &what);
        print_row(width, what.text, count, &sum);
        su_text_free(&what);
    }
}

/* How each kind of weight is stored that some tensor is. */
typedef struct Stored {
    const char *what[FE_N_WEIGHTS + 1]; /* "embed", "in_proj", "adapters" */
    IrDtype dtype[FE_N_WEIGHTS + 1];
    size_t count;
    bool blocks; /* some map is q8 or q4 */
} Stored;

static void store(Stored *s, const char *what, IrDtype dtype) {
    for (size_t i = 0; i < s->count; i++)
        if (strcmp(s->what[i], what) == 0) return;
    s->what[s->count] = what;
    s->dtype[s->count++] = dtype;
}

static Stored find_stored(FeSpec *spec) {
    Stored stored = {0};
    size_t count;
    const FeTensor *tensors = fe_tensors(spec, &count);
    for (size_t i = 0; i < count; i++) {
        if (!tensors[i].map) continue;
        store(&stored, tensors[i].map, tensors[i].dtype);
        stored.blocks |= ir_is_blocks(tensors[i].dtype);
    }
    for (int64_t i = 0; i < spec->n_blocks; i++)
        if (spec->blocks[i].share && spec->blocks[i].share->rank) store(&stored, "adapters", spec->weights.adapters);
    return stored;
}

/* "  q8: embed, x_proj; bf16: dt_proj": what is not stored in weights.dtype. */
static void print_stored(FeSpec *spec) {
    const Stored stored = find_stored(spec);
    const char *before = "  ";
    for (int dtype = 0; dtype < IR_STORED_DTYPES; dtype++) {
        bool any = false;
        for (size_t i = 0; i < stored.count; i++) {
            if (stored.dtype[i] != (IrDtype)dtype || stored.dtype[i] == spec->weights.dtype) continue;
            printf("%s%s%s", any ? ", " : before, any ? "" : ir_dtype_word((IrDtype)dtype), any ? "" : ": ");
            printf("%s", stored.what[i]);
            any = true;
        }
        before = any ? "; " : before;
    }
    if (before[0] == ';') putchar('\n');
    if (stored.blocks && !spec->weights.rounds) printf("  inputs of q8 and q4 maps are not rounded\n");
}

static void print_table(const Report *report, const char *path, int64_t position, SuArena *arena) {
    FeSpec *spec = report->spec;
    const int width = description_width(spec);
    bool attention = false;
    for (int64_t i = 0; i < spec->n_blocks; i++) attention |= spec->blocks[i].looks_back;
    printf("%s: %s\n", path, spec->name);
    printf("  vocab_size %" PRId64 ", d_model %" PRId64 ", %s weights, %s embeddings\n", spec->vocab_size, spec->d_model,
           ir_dtype_word(spec->weights.dtype), spec->tie_embeddings ? "tied" : "untied");
    print_stored(spec);
    putchar('\n');
    printf("  %-*s %6s %21s %23s %22s\n", width, "", "", "--- parameters ---", "------ bytes -------", "----- per token -----");
    printf("  %-*s %6s %10s %10s %11s %11s %10s %11s\n", width, "", "blocks", "total", "active", "weights", "state", "FLOPs",
           "bytes");
    print_row(width, "embedding, final norm, head", 0, &report->costs.parts[0]);
    print_blocks(report, width, arena);
    print_row(width, "total", spec->n_blocks, &report->costs.total);
    if (attention) printf("\n  Attention is counted with %" PRId64 " positions behind it (--position).\n", position);
    putchar('\n');
}

/* ---------------------------------------------------------------------------------------------- for programs */

static void add_json_cost(cJSON *object, const DrCost *cost) {
    cJSON_AddNumberToObject(object, "parameters", cost->parameters);
    cJSON_AddNumberToObject(object, "active_parameters", cost->active);
    cJSON_AddNumberToObject(object, "weight_bytes", cost->weight_bytes);
    cJSON_AddNumberToObject(object, "state_bytes", cost->state_bytes);
    cJSON_AddNumberToObject(object, "flops_per_token", cost->flops);
    cJSON_AddNumberToObject(object, "bytes_per_token", cost->token_bytes);
}

/* A new object of `list` that says what a block is. */
static cJSON *add_json_block(cJSON *list, const FeBlock *block) {
    cJSON *item = cJSON_CreateObject();
    cJSON_AddItemToArray(list, item);
    cJSON_AddStringToObject(item, "kind", fe_block_word(block));
    if (block->name) cJSON_AddStringToObject(item, "name", block->name);
    cJSON_AddStringToObject(item, "path", block->path);
    cJSON_AddNumberToObject(item, "line", block->span.line);
    if (block->experts.count) {
        cJSON_AddNumberToObject(item, "experts", (double)block->experts.count);
        cJSON_AddNumberToObject(item, "top_k", (double)block->router.top_k);
    }
    if (block->share) {
        cJSON *share = cJSON_AddObjectToObject(item, "share");
        cJSON_AddStringToObject(share, "block", block->share->name);
        cJSON_AddNumberToObject(share, "index", (double)block->share->of);
        cJSON_AddNumberToObject(share, "rank", (double)block->share->rank);
    }
    cJSON *branches = block->n_branches ? cJSON_AddArrayToObject(item, "branches") : NULL;
    for (int64_t i = 0; i < block->n_branches; i++) add_json_block(branches, &block->branches[i]);
    return item;
}

static void add_json_blocks(cJSON *root, const Report *report) {
    cJSON *blocks = cJSON_AddArrayToObject(root, "blocks");
    for (int64_t i = 0; i < report->spec->n_blocks; i++)
        add_json_cost(add_json_block(blocks, &report->spec->blocks[i]), &report->costs.parts[i + 1]);
}

static void add_json_messages(cJSON *root, const SuDiags *diags) {
    static const char *const words[] = {[SU_ERROR] = "error", [SU_WARNING] = "warning", [SU_NOTE] = "note"};
    cJSON *messages = cJSON_AddArrayToObject(root, "messages");
    for (size_t i = 0; i < diags->count; i++) {
        const SuDiag *diag = &diags->items[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "severity", words[diag->severity]);
        cJSON_AddStringToObject(item, "code", su_code_id(diag->code));
        cJSON_AddNumberToObject(item, "line", diag->span.line);
        cJSON_AddNumberToObject(item, "column", diag->span.column);
        cJSON_AddStringToObject(item, "message", diag->message);
        if (diag->hint) cJSON_AddStringToObject(item, "hint", diag->hint);
        cJSON_AddItemToArray(messages, item);
    }
}

static void add_json_stored(cJSON *root, FeSpec *spec) {
    const Stored stored = find_stored(spec);
    cJSON_AddStringToObject(root, "dtype", ir_dtype_word(spec->weights.dtype));
    cJSON *dtypes = cJSON_AddObjectToObject(root, "dtypes");
    for (size_t i = 0; i < stored.count; i++) cJSON_AddStringToObject(dtypes, stored.what[i], ir_dtype_word(stored.dtype[i]));
    if (stored.blocks) cJSON_AddStringToObject(root, "activations", spec->weights.rounds ? "q8" : "f32");
}

static void print_json(const Report *report, const char *path, int64_t position, const SuDiags *diags, bool ok) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "path", path);
    cJSON_AddBoolToObject(root, "ok", ok);
    if (ok) {
        FeSpec *spec = report->spec;
        cJSON_AddStringToObject(root, "name", spec->name);
        cJSON_AddNumberToObject(root, "vocab_size", (double)spec->vocab_size);
        cJSON_AddNumberToObject(root, "d_model", (double)spec->d_model);
        add_json_stored(root, spec);
        cJSON_AddNumberToObject(root, "n_blocks", (double)spec->n_blocks);
        cJSON_AddNumberToObject(root, "position", (double)position);
        add_json_cost(root, &report->costs.total);
        cJSON_AddNumberToObject(root, "peak_bytes", report->peak_bytes);
        add_json_blocks(root, report);
    }
    add_json_messages(root, diags);
    cli_json_print(root);
}

/* ---------------------------------------------------------------------------------------------- the command */

static bool make_report(DrBuild *build, const DrBuildOptions *options, int64_t position, Report *out) {
    if (!dr_build_spec(build, options) || !dr_build_graph(build) || !dr_build_program(build, options)) return false;
    *out = (Report){.spec = &build->spec};
    out->peak_bytes = dr_peak_bytes(build, build->program->max_rows, 1);
    return dr_costs(build, position, &out->costs);
}

static int check_one(const char *path, const CheckOptions *o) {
    DrBuild build = {0};
    DrBuildOptions options = {.spec = path, .sets = &o->sets};
    Report report = {0};
    bool ok = make_report(&build, &options, o->position, &report);
    if (o->json)
        print_json(&report, path, o->position, &build.diags, ok);
    else if (ok)
        print_table(&report, path, o->position, &build.arena);
    return cli_build_finish(&build, ok);
}

static const CliOption table[] = {
    CLI_OPTION_JSON(CheckOptions,
                    "one JSON object a line, one for each spec: the table's numbers block by block, and the messages"),
    CLI_ROW_INT(CheckOptions, position, "position", 0, "P", 0, 2147483647,
                "positions that attention looks back on when a token's work is counted (default 1023)"),
    CLI_OPTION_SET(CheckOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    CheckOptions o = {.position = 1023};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    status = CLI_OK;
    for (size_t i = 0; i < args->n_positionals; i++)
        if (check_one(args->positionals[i], &o) != CLI_OK) status = CLI_FAILED;
    return status;
}

const CliCommand cli_check = {
    .name = "check",
    .summary = "check specs and show what the models cost",
    .synopsis = "SPEC... [OPTION]...",
    .about = "Reads each SPEC (a YAML file, - for standard input), reports every mistake with its place, and prints what the model "
             "costs.\n\n"
             "parameters: elements of the checkpoint; active are those that one token uses (idle experts are not, and of an untied "
             "embedding only a row is). weights: bytes of a checkpoint in the spec's weights.dtype and its overrides, where norms, "
             "convolutions, A_log, D, biases and routers are float32. state: bytes of one sequence. per token: FLOPs of decoding "
             "one token (a "
             "multiply-add is 2), and the bytes of weights and states that it reads and writes.",
    .examples = "mossc check specs/moss-tiny.yaml\n"
                "mossc check specs/*.yaml --json\n"
                "mossc check specs/mamba-130m.yaml --set weights.dtype=bf16\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 4096,
    .run = run,
};
