/* mossc import: checkpoints of others made into a spec and weights. */
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/progress.h"
#include "cli/show.h"
#include "import/import.h"

typedef struct ImportOptions {
    ImOptions import;
    int dtype, a_activation;
    int64_t threads;
    bool progress, json, exact, verify;
} ImportOptions;

static void print_report(const ImReport *report, const char *output) {
    char size[CLI_NUMBER];
    if (!report->classes.count) {
        printf("%s: %s, verified: every number and text is what the checkpoint makes\n", output, report->family);
        return;
    }
    printf("%s: %s, %s\n\n", output, report->family, cli_bytes((double)report->classes.bytes, size));
    printf("%-18s %-6s %-5s %8s %12s %10s %10s\n", "tensors", "from", "dtype", "count", "weights", "size", "error");
    for (size_t i = 0; i < report->classes.count; i++) {
        const ImClass *c = &report->classes.items[i];
        printf("%-18s %-6s %-5s %8llu %12llu %10s %9.4f%%\n", c->map, c->from, ir_dtype_word(c->dtype),
               (unsigned long long)c->tensors, (unsigned long long)c->weights, cli_bytes((double)c->bytes, size), 100 * c->error);
    }
    if (report->verified) printf("\nverified: every number and text that was written is what the checkpoint makes\n");
}

static void print_json(const ImReport *report) {
    cJSON *root = cJSON_CreateObject(), *classes = cJSON_AddArrayToObject(root, "classes");
    cJSON_AddStringToObject(root, "family", report->family);
    cJSON_AddNumberToObject(root, "bytes", (double)report->classes.bytes);
    cJSON_AddBoolToObject(root, "verified", report->verified);
    for (size_t i = 0; i < report->classes.count; i++) {
        const ImClass *c = &report->classes.items[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "tensors", c->map);
        cJSON_AddStringToObject(item, "from", c->from);
        cJSON_AddStringToObject(item, "dtype", ir_dtype_word(c->dtype));
        cJSON_AddNumberToObject(item, "count", (double)c->tensors);
        cJSON_AddNumberToObject(item, "weights", (double)c->weights);
        cJSON_AddNumberToObject(item, "bytes", (double)c->bytes);
        cJSON_AddNumberToObject(item, "error", c->error);
        cJSON_AddItemToArray(classes, item);
    }
    cli_json_print(root);
}

static const CliOption table[] = {
    CLI_ROW_TEXT(ImportOptions, import.output, "output", 'o', "OUT", true, "directory to make; it appears only when complete"),
    CLI_ROW_WORD(ImportOptions, dtype, "dtype", "q8|q4|bf16|f32", im_dtype_words,
                 "how weights are stored; default: as they are in the checkpoint, or what holds them nearly"),
    CLI_ROW_FLAG(ImportOptions, exact, "exact", "f32 for all weights that no other dtype holds exactly"),
    CLI_ROW_FLAG(
        ImportOptions, verify, "verify",
        "read back every number and text that was written, and hold it against the checkpoint, before OUT appears; where OUT is "
        "there, from an import with the same options, only that"),
    CLI_ROW_WORD(ImportOptions, a_activation, "mamba3-a", "softplus|heavy_tail", im_a_words,
                 "what A of Mamba-3 passes, which its config does not say: heavy_tail since 2026-06-02"),
    CLI_ROW_INT(ImportOptions, threads, "threads", 0, "N", 0, SU_MOST_THREADS,
                "threads to use (default: as many as there are CPUs)"),
    CLI_ROW_FLAG(ImportOptions, progress, "progress", "show progress even where standard error is no terminal"),
    CLI_OPTION_JSON(ImportOptions, "print one JSON object"),
};

static int run(const CliCommand *command, CliArgs *args) {
    ImportOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (o.exact && o.dtype) return cli_usage_error(command, "--exact: --dtype says another thing");
    CliReporter reporter = {.asked = o.progress};
    o.import.input = args->positionals[0];
    o.import.dtype = (ImDtype)o.dtype;
    o.import.a_activation = o.a_activation ? im_a_words[o.a_activation] : NULL;
    o.import.exact = o.exact;
    o.import.verify = o.verify;
    o.import.threads = (int)o.threads;
    o.import.progress = cli_reporter_hooks(&reporter);
    SuDiags diags = {0};
    ImReport report;
    bool ok = im_import(&o.import, &report, &diags);
    if (ok && o.json)
        print_json(&report);
    else if (ok)
        print_report(&report, o.import.output);
    status = cli_finish(&diags, ok);
    im_report_free(&report);
    return status;
}

const CliCommand cli_import = {
    .name = "import",
    .summary = "make a spec and weights of a checkpoint of others",
    .synopsis = "FOLDER|FILE.gguf -o OUT [OPTION]...",
    .about =
        "Reads a folder as Hugging Face transformers or mamba_ssm write it (config.json, safetensors files, tokenizer.json), or a "
        "GGUF file "
        "of llama.cpp, and makes the directory OUT with spec.yaml, model.safetensors, and where the source has them tokenizer.json "
        "and "
        "generation.yaml (how text is sampled, where it ends, the chat template). Then: mossc run OUT/spec.yaml -w "
        "OUT/model.safetensors "
        "--prompt TEXT.\n\n"
        "The import is strict: a key of the config that is not known for this kind of model is an error that names it, and so is a "
        "tensor that the model has no place for. docs/import.md lists the families.\n\n"
        "error is the root mean square of what rounding changed, over that of the weights. With --dtype q8 or q4 weights are "
        "quantised as mossc quantize does it without a text.",
    .examples = "mossc import models/granite-4.0-h-1b -o granite\n"
                "mossc run granite/spec.yaml -w granite/model.safetensors --prompt 'It was a dark evening'\n"
                "mossc import models/granite-4.0-h-1b -o granite --verify\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
