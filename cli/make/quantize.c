/* mossc quantize: checkpoints of floats made into q8 and q4 weights. */
#include <string.h>

#include "cli/build.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "driver/quantize.h"

static const char *const dtype_words[] = {"spec", "q8", "q4", NULL};

typedef struct QuantizeOptions {
    CliModelOptions model;
    DrQuantizeOptions quantize;
    int dtype; /* of dtype_words */
    int64_t text_bytes;
    bool json;
} QuantizeOptions;

static void print_classes(const DrQuantizeReport *report) {
    printf("%-18s %-5s %8s %12s %10s %9s%s\n", "tensors", "dtype", "count", "weights", "size", "error",
           report->calibrated ? "  weighted" : "");
    for (size_t i = 0; i < report->n_classes; i++) {
        const DrQuantizeClass *c = &report->classes[i];
        char size[CLI_NUMBER];
        printf("%-18s %-5s %8llu %12llu %10s %8.4f%%", c->map, ir_dtype_word(c->dtype), (unsigned long long)c->tensors,
               (unsigned long long)c->weights, cli_bytes((double)c->bytes, size), 100 * c->error);
        if (report->calibrated) printf(" %8.4f%%", 100 * c->weighted);
        putchar('\n');
    }
}

static void print_report(const DrQuantizeReport *report) {
    char before[CLI_NUMBER], after[CLI_NUMBER];
    print_classes(report);
    printf("\nall tensors       %s, before %s\n", cli_bytes((double)report->bytes_after, after),
           cli_bytes((double)report->bytes_before, before));
    if (!report->scored_tokens) return;
    printf("calibrated with   %zu tokens\n", report->calibrated);
    printf("scored            %zu tokens, %zu bytes\n", report->scored_tokens, report->scored_bytes);
    printf("bits per byte     %.6f, before %.6f (%+.6f)\n", report->bits_after, report->bits_before,
           report->bits_after - report->bits_before);
    printf("KL per token      %.6f nats\n", report->kl);
}

static void print_json(const DrQuantizeReport *report) {
    cJSON *root = cJSON_CreateObject(), *classes = cJSON_AddArrayToObject(root, "classes");
    for (size_t i = 0; i < report->n_classes; i++) {
        const DrQuantizeClass *c = &report->classes[i];
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "tensors", c->map);
        cJSON_AddStringToObject(item, "dtype", ir_dtype_word(c->dtype));
        cJSON_AddNumberToObject(item, "count", (double)c->tensors);
        cJSON_AddNumberToObject(item, "weights", (double)c->weights);
        cJSON_AddNumberToObject(item, "bytes", (double)c->bytes);
        cJSON_AddNumberToObject(item, "error", c->error);
        if (report->calibrated) cJSON_AddNumberToObject(item, "weighted_error", c->weighted);
        cJSON_AddItemToArray(classes, item);
    }
    cJSON_AddNumberToObject(root, "bytes_before", (double)report->bytes_before);
    cJSON_AddNumberToObject(root, "bytes_after", (double)report->bytes_after);
    if (report->scored_tokens) {
        cJSON_AddNumberToObject(root, "calibrated_tokens", (double)report->calibrated);
        cJSON_AddNumberToObject(root, "scored_tokens", (double)report->scored_tokens);
        cJSON_AddNumberToObject(root, "scored_bytes", (double)report->scored_bytes);
        cJSON_AddNumberToObject(root, "bits_per_byte_before", report->bits_before);
        cJSON_AddNumberToObject(root, "bits_per_byte_after", report->bits_after);
        cJSON_AddNumberToObject(root, "kl_nats_per_token", report->kl);
    }
    cli_json_print(root);
}

/* A CliWork. */
static bool quantize(DrBuild *build, const DrBuildOptions *options, void *context) {
    const QuantizeOptions *o = context;
    DrQuantizeReport report;
    bool ok = dr_build_spec(build, options) && cli_check_output(build, o->quantize.output) &&
              dr_quantize(build, options, &o->quantize, &report);
    if (ok) (o->json ? print_json : print_report)(&report);
    return ok;
}

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(CliModelOptions, true, "safetensors checkpoint of floats, which may be given several times"),
    CLI_ROW_TEXT(QuantizeOptions, quantize.output, "output", 'o', "OUT.safetensors", true,
                 "file for the weights; it appears only when complete"),
    CLI_ROW_WORD(QuantizeOptions, dtype, "dtype", "q8|q4", dtype_words,
                 "the same as --set weights.dtype=q8 or q4; default: what the spec says"),
    CLI_ROW_TEXT(QuantizeOptions, quantize.text, "text", 0, "FILE", false,
                 "text to calibrate with; its last fifth is kept apart and scored before and after"),
    CLI_ROW_TEXT(QuantizeOptions, quantize.eval, "eval", 0, "FILE", false, "score all of this text in place of the end of --text"),
    CLI_ROW_INT(QuantizeOptions, text_bytes, "text-bytes", 0, "N", 64, INT32_MAX,
                "bytes of the text to calibrate with, at most (default 262144); a quarter as many are scored"),
    CLI_OPTION_JSON(QuantizeOptions, "print one JSON object"),
};

static int run(const CliCommand *command, CliArgs *args) {
    QuantizeOptions o = {.text_bytes = 1 << 18};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    const DrQuantizeOptions *q = &o.quantize;
    const char *inputs[] = {args->positionals[0], q->text, q->eval};
    int standard = 0;
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) standard += inputs[i] && strcmp(inputs[i], "-") == 0;
    if (standard)
        return cli_usage_error(command, "standard input: expected a file, since the spec and the texts are read more than once");
    if (cli_is_standard(q->output)) return cli_usage_error(command, "-o: expected a file, which is read again to be scored");
    if (o.model.device && strcmp(o.model.device, "cpu") != 0)
        return cli_usage_error(command, "--device: quantising runs on the CPU, got '%s'", o.model.device);
    if (o.model.fast) return cli_usage_error(command, "--fast: what is calibrated and scored is not rounded");
    if (q->eval && !q->text) return cli_usage_error(command, "--eval needs --text");
    o.quantize.text_bytes = (uint64_t)o.text_bytes;
    if (o.dtype) {
        const char **sets = SU_NEW_ARRAY(&args->arena, const char *, o.model.sets.count + 1);
        sets[0] = o.dtype == 1 ? "weights.dtype=q8" : "weights.dtype=q4";
        for (size_t i = 0; i < o.model.sets.count; i++) sets[i + 1] = o.model.sets.items[i];
        o.model.sets = (CliTexts){.items = sets, .count = o.model.sets.count + 1};
    }
    return cli_model_command(args->positionals[0], &o.model, quantize, &o);
}

const CliCommand cli_quantize = {
    .name = "quantize",
    .summary = "make weights of 8 or 4 bits",
    .synopsis = "SPEC -w WEIGHTS... -o OUT.safetensors [--text FILE] [OPTION]...",
    .about =
        "Quantises the weights that the spec has as q8 or q4 (weights.dtype, weights.overrides) and writes a checkpoint of them, "
        "with all other tensors in the dtype of the spec. Other commands load it with the same spec as they load any checkpoint. "
        "A checkpoint of floats is quantised when it is loaded, too; this command does it once, and better where there is a "
        "text.\n\n"
        "With --text the numbers of q4 weights are chosen for the inputs that they meet: the first part of the text is fed to the "
        "model, and an error of a weight counts as much as the mean square of its input, each expert's own. The last fifth of the "
        "text, or --eval, calibrates nothing: it is scored with the floats and with the file that was written. KL is that of the "
        "predictions after from those before, the mean over tokens.\n\n"
        "error is the root mean square error of the weights over their root mean square; weighted counts each weight as its input "
        "does. The same weights and text give the same file on every machine.",
    .examples =
        "mossc quantize specs/moss-tiny.yaml --dtype q4 -w models/moss-tiny.safetensors --text book.txt -o tiny-q4.safetensors\n"
        "mossc run specs/moss-tiny.yaml --set weights.dtype=q4 -w tiny-q4.safetensors --prompt 'It was a dark evening'\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
