/* mossc explore calibrate: a device file from measurements, and how well it predicts. */
#include "cli/explore/explore.h"
#include "cli/show.h"
#include "cli/format.h"
#include "explore/calibrate.h"
#include "explore/report.h"
#include "support/file.h"

typedef struct CalibrateOptions {
    const char *output;
    bool json;
} CalibrateOptions;

static void print_text(const ExCalibration *c) {
    printf("fitted to %zu of %zu measured points; errors of the other %zu:\n\n", c->n_fitted, c->n_points,
           c->n_points - c->n_fitted);
    if (c->n_disturbed)
        printf("  %zu more are left out: other processes, or the host of this machine, took too much of the processor\n\n",
               c->n_disturbed);
    printf("  %-12s %-12s %4s %8s %8s %12s %9s %8s\n", "", "", "n", "MAPE", "median", "within 10 %", "Spearman", "Kendall");
    for (int what = 0; what < EX_PREDICTED_COUNT; what++) {
        for (int fidelity = 0; fidelity < EX_FIDELITY_COUNT; fidelity++) {
            const ExErrors *e = &c->errors[what][fidelity];
            if (e->n == 0) continue;
            printf("  %-12s %-12s %4zu %6.1f %% %6.1f %% %10.0f %% %9.3f %8.3f\n", ex_predicted_word((ExPredicted)what),
                   ex_fidelity_word((ExFidelity)fidelity), e->n, 100 * e->mape, 100 * e->median, 100 * e->within_10, e->spearman,
                   e->kendall);
        }
    }
}

static void print_json(const ExCalibration *c) {
    cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "metrics");
    cJSON_AddNumberToObject(root, "points", (double)c->n_points);
    cJSON_AddNumberToObject(root, "fitted", (double)c->n_fitted);
    cJSON_AddNumberToObject(root, "disturbed", (double)c->n_disturbed);
    ex_errors_json(c, list);
    cli_json_print(root);
}

static bool write_device(const FeDevice *device, const char *path, SuDiags *diags) {
    SuText text = {0};
    fe_print_device(device, &text);
    bool ok = su_out_write(path, text.text, text.size, diags);
    su_text_free(&text);
    return ok;
}

static bool calibrate(const CliArgs *args, ExStudy *studies, const CalibrateOptions *o, ExCalibration *out, SuDiags *diags) {
    size_t n = args->n_positionals;
    for (size_t i = 0; i < n; i++)
        if (!ex_study_open(args->positionals[i], &studies[i], diags)) return false;
    if (!su_out_check(o->output, diags) || !ex_calibrate(studies, n, out, diags) || !write_device(&out->device, o->output, diags))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!ex_report_write(args->positionals[i], diags)) return false;
    return true;
}

static int run(const CliCommand *command, CliArgs *args) {
    CalibrateOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    SuDiags diags = {0};
    ExCalibration calibration;
    ExStudy *studies = SU_NEW_ARRAY(&args->arena, ExStudy, args->n_positionals);
    bool ok = calibrate(args, studies, &o, &calibration, &diags);
    if (ok && !cli_is_standard(o.output)) (o.json ? print_json : print_text)(&calibration);
    status = cli_finish(&diags, ok);
    for (size_t i = 0; i < args->n_positionals; i++) ex_study_close(&studies[i]);
    return status;
}

static const CliOption table[] = {
    CLI_ROW_TEXT(CalibrateOptions, output, "output", 'o', "DEVICE.yaml", true, "the device file; - is standard output"),
    CLI_OPTION_JSON(CalibrateOptions, "print the errors as one JSON object"),
};

const CliCommand cli_explore_calibrate = {
    .name = "explore calibrate",
    .summary = "fit a device file to measurements",
    .synopsis = "DIR... -o DEVICE.yaml [--json]",
    .about =
        "Fits the time of each class of kernels to half of the points that `mossc explore --measure` measured in the studies DIR, "
        "and "
        "prints how far the predictions for the other half are off: modelled, from the limits of the machine alone, and "
        "calibrated. "
        "DEVICE.yaml is a device file: `mossc explore` and `mossc explain` take it as --device.\n\n"
        "MAPE: mean of the absolute errors, as part of what was measured; Spearman, Kendall: whether the order is right, 1 if it "
        "is. "
        "The limits that were measured in turns with each point are divided out, so that a machine that others use, too, can be "
        "calibrated.",
    .examples = "mossc explore examples/explore/experts-or-state.yaml -o out --measure 60 --spread\n"
                "mossc explore calibrate out -o this-machine.yaml\n"
                "mossc explore examples/explore/experts-or-state.yaml -o out2 --device this-machine.yaml\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .least_positionals = 1,
    .most_positionals = 64,
    .run = run,
};
