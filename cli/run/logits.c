/* mossc logits: the model's numbers for given tokens, for other programs; by the compiled code or by an evaluator. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/npy.h"
#include "cli/build.h"
#include "cli/progress.h"
#include "driver/sequence.h"
#include "driver/token_file.h"
#include "ir/eval.h"
#include "runtime/weights.h"
#include "support/file.h"
#include "support/clock.h"

typedef enum Mode { MODE_PREFILL, MODE_DECODE } Mode;
static const char *const mode_words[] = {"prefill", "decode", NULL};
typedef enum Reference { REFERENCE_32, REFERENCE_64, NO_REFERENCE } Reference;
static const char *const reference_words[] = {"32", "64", NULL};

typedef struct LogitsOptions {
    CliModelOptions model;
    const char *tokens, *output, *state_in, *state_out;
    int mode, reference;
    int64_t chunk;
    bool json, allow_non_finite;
} LogitsOptions;

/* The work, and what it found. */
typedef struct Job {
    const LogitsOptions *options;
    int32_t *tokens;
    size_t count;
    FILE *out;
    size_t spoilt;  /* tokens up to the first whose logits are not finite; 0: none */
    double min_gap; /* of the reference */
    double seconds;
} Job;

/* ---------------------------------------------------------------------------------------------- the compiled code */

/* Feeds all tokens in steps of `chunk` and writes every row as it comes. Stops early when the disk is full. */
static MossError feed(MossModel *model, MossState *state, Job *job, uint32_t chunk, CliProgress *progress) {
    const PgProgram *program = moss_model_program(model);
    MossError error = {0};
    for (size_t at = 0; at < job->count && error.code == MOSS_OK && !ferror(job->out) && !job->spoilt;) {
        size_t left = job->count - at;
        MossSegment segment = {
            .state = state, .tokens = job->tokens + at, .count = left < chunk ? (uint32_t)left : chunk, .logits = MOSS_ALL_LOGITS};
        error = moss_step(model, &segment, 1);
        for (uint32_t i = 0; i < segment.count && error.code == MOSS_OK && !job->spoilt; i++)
            if (!job->options->allow_non_finite && !moss_all_finite(moss_logits(model, i), program->vocab_size))
                job->spoilt = at + i + 1;
        for (uint32_t i = 0; i < segment.count && error.code == MOSS_OK; i++)
            fwrite(moss_logits(model, i), sizeof(float), (size_t)program->vocab_size, job->out);
        at += segment.count;
        cli_progress_update(progress, at, job->count);
    }
    return error;
}

static bool run_compiled(DrBuild *build, const DrBuildOptions *options, Job *job) {
    if (!cli_build_model(build, options)) return false;
    const LogitsOptions *o = job->options;
    int64_t chunk = o->mode == MODE_DECODE ? 1 : dr_chunk_of_logits(build->program, o->chunk);
    MossState *state = NULL;
    CliProgress progress = cli_progress_start(o->model.progress, "feeding", "tokens");
    bool ok = dr_state_begin(build, o->state_in, &state);
    double start = su_seconds();
    ok = ok && dr_moss_ok(&build->diags, feed(build->model, state, job, (uint32_t)chunk, &progress));
    job->seconds = su_seconds() - start;
    cli_progress_end(&progress);
    ok = ok && (!job->spoilt || dr_non_finite(build, o->state_in, job->tokens, job->spoilt));
    ok = ok && (ferror(job->out) || dr_state_end(build, state, o->state_out)); /* no state of the tokens before the error */
    moss_state_free(state);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- an evaluator */

/* The tensors that a checkpoint of the spec must hold, as the runtime wants to know them. */
static PgTensor *wanted_tensors(DrBuild *build, size_t *out_count) {
    const FeTensor *tensors = fe_tensors(&build->spec, out_count);
    PgTensor *wanted = SU_NEW_ARRAY(&build->arena, PgTensor, *out_count);
    for (size_t i = 0; i < *out_count; i++) {
        wanted[i] = (PgTensor){.name = tensors[i].name, .rank = tensors[i].rank, .dtype = tensors[i].dtype};
        memcpy(wanted[i].shape, tensors[i].shape, sizeof wanted[i].shape);
    }
    return wanted;
}

static bool evaluate(IrEval *eval, Job *job, int64_t vocab_size, SuArena *arena, SuDiags *diags) {
    double *logits = SU_NEW_ARRAY(arena, double, (size_t)vocab_size);
    float *row = SU_NEW_ARRAY(arena, float, (size_t)vocab_size);
    CliProgress progress = cli_progress_start(job->options->model.progress, "evaluating", "tokens");
    bool ok = true;
    double start = su_seconds();
    for (size_t t = 0; t < job->count && !ferror(job->out); t++) {
        ok = ir_eval_token(eval, job->tokens[t], logits, diags);
        if (!ok) break;
        for (int64_t v = 0; v < vocab_size; v++) row[v] = (float)logits[v]; /* exact for the reference of 32 bits */
        fwrite(row, sizeof row[0], (size_t)vocab_size, job->out);
        if (!job->options->allow_non_finite && !moss_all_finite(row, vocab_size)) {
            ok = su_error(diags, (SuSpan){0}, "--allow-non-finite continues anyway", "logits at position %zu are non-finite", t);
            break;
        }
        cli_progress_update(&progress, t + 1, job->count);
    }
    job->seconds = su_seconds() - start;
    job->min_gap = ir_eval_min_gap(eval);
    cli_progress_end(&progress);
    return ok;
}

static bool run_reference(DrBuild *build, const DrBuildOptions *options, Job *job) {
    int64_t bound = fe_position_bound(&build->spec);
    if (bound && job->count > (uint64_t)bound) {
        return su_error(&build->diags, (SuSpan){0}, NULL, "sequence of %zu tokens exceeds max_positions %" PRId64, job->count,
                        bound);
    }
    if (!dr_build_graph(build)) return false;
    size_t n_tensors;
    const PgTensor *tensors = wanted_tensors(build, &n_tensors);
    RtSource *source = rt_source_open(options->weights->items, options->weights->count, tensors, n_tensors, &build->diags);
    if (!source) return false;
    IrEval *eval =
        (job->options->reference == REFERENCE_32 ? ir_eval32_new : ir_eval64_new)(build->graph, rt_source_lookup, source);
    bool ok = evaluate(eval, job, build->spec.vocab_size, &build->arena, &build->diags);
    ir_eval_free(eval);
    rt_source_close(source);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- the command */

static void report(const DrBuild *build, const Job *job) {
    const LogitsOptions *o = job->options;
    bool reference = o->reference != NO_REFERENCE;
    if (!o->json) {
        if (!reference) return;
        if (isinf(job->min_gap))
            fputs("mossc: every expert is always chosen, so no routing gap exists\n", stderr);
        else
            fprintf(stderr, "mossc: the smallest gap between a chosen and an unchosen expert is %g\n", job->min_gap);
        return;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "tokens", (double)job->count);
    cJSON_AddNumberToObject(root, "vocab_size", (double)build->spec.vocab_size);
    cJSON_AddStringToObject(root, "output", o->output);
    cJSON_AddNumberToObject(root, "seconds", job->seconds);
    if (reference) {
        cJSON_AddNumberToObject(root, "reference", o->reference == REFERENCE_32 ? 32 : 64);
        cJSON_AddNumberToObject(root, "min_gap", job->min_gap); /* null: every expert is always chosen */
    } else {
        cJSON_AddStringToObject(root, "mode", mode_words[o->mode]);
        cJSON_AddNumberToObject(root, "threads", moss_model_threads(build->model));
    }
    cli_json_print(root);
}

/* A CliWork. */
static bool write_logits(DrBuild *build, const DrBuildOptions *options, void *context) {
    const LogitsOptions *o = context;
    Job job = {.options = o};
    if (!dr_build_spec(build, options) ||
        !dr_read_tokens(&build->arena, o->tokens, build->spec.vocab_size, &job.tokens, &job.count, &build->diags)) {
        return false;
    }
    SuOut out;
    if (!cli_check_output(build, o->state_out) || !su_out_open(o->output, &out, &build->diags)) return false;
    job.out = out.file;
    cli_npy_header(out.file, job.count, (uint64_t)build->spec.vocab_size);
    bool ok = o->reference == NO_REFERENCE ? run_compiled(build, options, &job) : run_reference(build, options, &job);
    if (!ok) {
        su_out_abort(&out);
        return false;
    }
    if (!su_out_commit(&out, &build->diags)) return false;
    report(build, &job);
    return true;
}

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(CliModelOptions, true, CLI_ABOUT_WEIGHTS),
    CLI_OPTION_VERIFY(CliModelOptions),
    CLI_ROW_TEXT(LogitsOptions, tokens, "tokens", 0, "FILE", true,
                 "token ids as text, separated by blanks, commas or line breaks; - for standard input"),
    CLI_ROW_TEXT(LogitsOptions, output, "output", 'o', "OUT.npy", true,
                 "float32 [tokens, vocab_size]; row t holds the logits after token t"),
    CLI_ROW_WORD(LogitsOptions, mode, "mode", "MODE", mode_words,
                 "prefill: tokens in chunks (default); decode: one by one. The result is the same, bit for bit"),
    CLI_OPTION_NON_FINITE(LogitsOptions),
    CLI_OPTION_STATE_IN(LogitsOptions),
    CLI_OPTION_STATE_OUT(LogitsOptions),
    CLI_OPTION_CHUNK(LogitsOptions),
    CLI_ROW_WORD(
        LogitsOptions, reference, "reference", "BITS", reference_words,
        "use an evaluator instead of compiled code: 32 defines the bits, 64 is computed in double; prints the smallest gap "
        "between the scores of a chosen and an unchosen expert. Slow"),
    CLI_OPTION_JSON(LogitsOptions, "print one JSON object: tokens, seconds, and min_gap of a reference"),
};

static int run(const CliCommand *command, CliArgs *args) {
    LogitsOptions o = {.mode = MODE_PREFILL, .reference = NO_REFERENCE};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (strcmp(args->positionals[0], "-") == 0 && strcmp(o.tokens, "-") == 0)
        return cli_usage_error(command, "the spec and the tokens cannot both be standard input");
    if (o.mode == MODE_DECODE && o.chunk > 1)
        return cli_usage_error(command, "--mode decode feeds tokens one by one and cannot be combined with --chunk");
    if (o.reference != NO_REFERENCE && (o.state_in || o.state_out))
        return cli_usage_error(command, "--reference uses no compiled state and cannot be combined with --state-in or --state-out");
    if (o.json && (cli_is_standard(o.output) || cli_is_standard(o.state_out)))
        return cli_usage_error(command, "--json prints on standard output: -o and --state-out need files");
    if (cli_is_standard(o.output) && cli_is_standard(o.state_out))
        return cli_usage_error(command, "-o and --state-out cannot both be standard output");
    return cli_model_command(args->positionals[0], &o.model, write_logits, &o);
}

const CliCommand cli_logits = {
    .name = "logits",
    .summary = "write a model's logits for given tokens to a .npy file",
    .synopsis = "SPEC -w WEIGHTS... --tokens FILE -o OUT.npy [OPTION]...",
    .about =
        "Feeds the tokens to the model as one sequence and writes the logits after each of them. The file appears under its name "
        "only when it is complete.",
    .examples =
        "mossc logits specs/moss-tiny.yaml -w models/moss-tiny.safetensors --tokens ids.txt -o logits.npy\n"
        "echo 73 116 32 | mossc logits specs/moss-tiny.yaml -w models/moss-tiny.safetensors --tokens - -o out.npy --mode decode\n"
        "mossc logits specs/moss-tiny.yaml -w models/moss-tiny.safetensors --tokens ids.txt -o exact.npy --reference 64 --json\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
