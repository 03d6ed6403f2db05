/* mossc export: models for other programs. */
#include "cli/build.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/given.h"
#include "cli/progress.h"
#include "cli/show.h"
#include "import/export/export.h"

static const char *const formats[] = {"hf", "gguf", NULL};

typedef struct ExportOptions {
    CliTexts sets, weights;
    const char *output;
    int format;
    bool progress, json;
} ExportOptions;

static void print(const XpReport *report, const char *output) {
    char size[CLI_NUMBER];
    printf("%s: %s, %zu tensors, %s\n", output, report->family, report->tensors, cli_bytes((double)report->bytes, size));
}

static void print_json(const XpReport *report) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "family", report->family);
    cJSON_AddNumberToObject(root, "tensors", (double)report->tensors);
    cJSON_AddNumberToObject(root, "bytes", (double)report->bytes);
    cli_json_print(root);
}

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(ExportOptions, true, "safetensors checkpoint, which may be given several times"),
    CLI_ROW_TEXT(ExportOptions, output, "output", 'o', "OUT", true, "directory or file to make; it appears only when complete"),
    CLI_ROW_WORD(ExportOptions, format, "format", "hf", formats,
                 "what to make: hf, a folder as Hugging Face transformers reads it, or gguf, a file of llama.cpp's"),
    CLI_OPTION_SET(ExportOptions),
    CLI_OPTION_PROGRESS(ExportOptions),
    CLI_OPTION_JSON(ExportOptions, "print one JSON object"),
};

static int run(const CliCommand *command, CliArgs *args) {
    ExportOptions o = {0};
    const int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    CliReporter reporter = {.asked = o.progress};
    DrBuild build = {0};
    DrBuildOptions options = {.spec = args->positionals[0], .progress = cli_reporter_hooks(&reporter)};
    XpReport report = {0};
    bool ok = cli_take_given(&build, &options, &o.weights);
    const XpExport export = {
        .spec = options.spec, .sets = &o.sets, .weights = &o.weights, .output = o.output, .progress = options.progress};
    ok = ok && (o.format ? xp_export_gguf : xp_export_folder)(&export, &report, &build.diags);
    if (ok && o.json)
        print_json(&report);
    else if (ok)
        print(&report, o.output);
    return cli_build_finish(&build, ok);
}

const CliCommand cli_export = {
    .name = "export",
    .summary = "make a checkpoint for other programs",
    .synopsis = "SPEC -w WEIGHTS... -o OUT [OPTION]...",
    .about =
        "Makes the directory OUT with config.json, model.safetensors and, where the spec has one, tokenizer.json, as Hugging Face "
        "transformers reads them: for specs that one of its families can say (docs/import.md lists them). Another one is refused, "
        "with "
        "the first key that stands in the way.\n\n"
        "What is written is what mossc import makes the same spec and the same weights of. Floats are copied bit for bit; q8 and "
        "q4 become "
        "float32, exactly.\n\n"
        "With --format gguf OUT is a GGUF file for llama.cpp, with the tokenizer and the chat template; a tokenizer that GGUF "
        "cannot "
        "say is left out, with a warning. Limits of delta are refused, since there is no key for them. q8 and q4 stay as Q8_0 and "
        "Q4_K where rows are long enough.\n\n" CLI_ABOUT_GIVEN,
    .examples = "mossc export my/spec.yaml -w my/model.safetensors -o my-hf\n"
                "mossc export Llama-3.2-1B-Instruct --format gguf -o llama-3.2-1b.gguf\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
