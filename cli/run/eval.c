/* mossc eval: how well a model predicts a text. */
#include <math.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/build.h"
#include "cli/progress.h"
#include "driver/score.h"
#include "driver/sequence.h"
#include "driver/text.h"
#include "support/file.h"

enum {
    MAX_TEXT = 1 << 30,
    COMPARED_TOKENS = 512, /* of --fast, which are fed again one by one */
    COMPARED_CHUNK = 64
};

typedef struct EvalOptions {
    CliModelOptions model;
    const char *text;
    int64_t chunk, window, stride;
    bool json, keep_bom, allow_non_finite;
} EvalOptions;

/* What was found. tokens and bytes are the text's; scored those that were predicted from something. */
typedef struct Score {
    size_t tokens, bytes, scored_tokens, scored_bytes;
    double nats; /* of all scored tokens */
    /* With --fast: of the logits of the first `compared` tokens, those of chunks beside those of single tokens, which round nothing; `off`
     * is a root mean square, `worst` the largest, both as parts of the logits' root mean square; and KL in nats per token. */
    size_t compared;
    double off, worst, kl;
} Score;

/* Tokens [first, end) of a text as a sequence; of those that it predicts, the ones before `from` were scored already. */
typedef struct Window {
    size_t first, end, from;
    bool allow; /* logits that are not finite */
    size_t spoilt; /* tokens up to the first whose logits are not; 0: none */
} Window;

/* Feeds all tokens of a window but the last; the logits after token t score token t + 1. */
static MossError score_tokens(MossModel *model, MossState *state, const RtTokens *tokens, Window *w, uint32_t chunk,
                              CliProgress *progress, double *out_nats) {
    int64_t vocab_size = moss_program_vocab_size(moss_model_program(model));
    MossError error = {0};
    size_t last = w->end - 1;
    for (size_t at = w->first; at < last && error.code == MOSS_OK && !w->spoilt;) {
        MossSegment segment = {.state = state,
                               .tokens = tokens->ids + at,
                               .count = last - at < chunk ? (uint32_t)(last - at) : chunk,
                               .logits = MOSS_ALL_LOGITS};
        error = moss_step(model, &segment, 1);
        for (uint32_t i = 0; i < segment.count && error.code == MOSS_OK && !w->allow && !w->spoilt; i++)
            if (!moss_all_finite(moss_logits(model, i), vocab_size)) w->spoilt = at + i + 1 - w->first;
        for (uint32_t i = 0; i < segment.count && error.code == MOSS_OK; i++)
            if (at + i + 1 >= w->from) *out_nats += dr_token_nats(moss_logits(model, i), vocab_size, tokens->ids[at + i + 1]);
        at += segment.count;
        cli_progress_update(progress, at, tokens->count - 1);
    }
    return error;
}

/* The whole text, or windows until one reaches its end. */
static MossError score_windows(MossModel *model, MossState *state, const RtTokens *tokens, const EvalOptions *o, uint32_t chunk,
                               CliProgress *progress, Window *w, double *out_nats) {
    size_t size = o->window ? (size_t)o->window : tokens->count, stride = o->stride ? (size_t)o->stride : size - 1;
    MossError error = {0};
    *w = (Window){.from = 1, .allow = o->allow_non_finite};
    for (; w->from < tokens->count && error.code == MOSS_OK; w->first += stride) {
        w->end = tokens->count - w->first < size ? tokens->count : w->first + size;
        if (w->first) moss_state_reset(state);
        error = score_tokens(model, state, tokens, w, chunk, progress, out_nats);
        if (w->spoilt) break;
        w->from = w->end;
    }
    return error;
}

/* Adds the distances of n logits. squares: of all logits so far. */
static void compare_row(const float *fast, const float *exact, int64_t n, Score *score, double *squares) {
    score->kl += dr_kl_nats(exact, fast, n);
    for (int64_t v = 0; v < n; v++) {
        double off = fabs((double)fast[v] - (double)exact[v]);
        score->off += off * off;
        score->worst = fmax(score->worst, off);
        *squares += (double)exact[v] * (double)exact[v];
    }
}

/* Feeds the first tokens to both states, to `one` one by one. rows: room for the logits of a chunk. */
static MossError compare_tokens(MossModel *model, MossState *many, MossState *one, const RtTokens *tokens, size_t end,
                                uint32_t chunk, float *rows, Score *score) {
    int64_t V = moss_program_vocab_size(moss_model_program(model));
    double squares = 0;
    MossError error = {0};
    for (size_t at = 0; at < end && error.code == MOSS_OK; at += chunk) {
        uint32_t count = end - at < chunk ? (uint32_t)(end - at) : chunk;
        MossSegment segment = {.state = many, .tokens = tokens->ids + at, .count = count, .logits = MOSS_ALL_LOGITS};
        error = moss_step(model, &segment, 1);
        for (uint32_t i = 0; i < count && error.code == MOSS_OK; i++)
            memcpy(rows + (int64_t)i * V, moss_logits(model, i), (size_t)V * sizeof *rows);
        for (uint32_t i = 0; i < count && error.code == MOSS_OK; i++) {
            segment = (MossSegment){.state = one, .tokens = tokens->ids + at + i, .count = 1, .logits = MOSS_ALL_LOGITS};
            error = moss_step(model, &segment, 1);
            if (error.code == MOSS_OK) compare_row(rows + (int64_t)i * V, moss_logits(model, 0), V, score, &squares);
        }
        score->compared += count;
    }
    double n = (double)score->compared, rms = sqrt(squares / (n * (double)V));
    score->off = sqrt(score->off / (n * (double)V)) / rms;
    score->worst /= rms;
    score->kl /= n;
    return error;
}

/* What --fast is off by. */
static bool compare_fast(DrBuild *build, const EvalOptions *o, const RtTokens *tokens, Score *score) {
    int64_t chunk = dr_chunk_of_logits(build->program, o->chunk), V = build->program->vocab_size;
    if (chunk > COMPARED_CHUNK) chunk = COMPARED_CHUNK;
    if (chunk < 2) return true;
    size_t end = o->window ? (size_t)o->window - 1 : tokens->count - 1; /* as many as are fed without it */
    if (end > COMPARED_TOKENS) end = COMPARED_TOKENS;
    if (end > tokens->count) end = tokens->count;
    MossState *many = NULL, *one = NULL;
    float *rows = SU_NEW_ARRAY(&build->arena, float, (size_t)(chunk * V));
    MossError error = moss_state_create(build->model, &many);
    if (error.code == MOSS_OK) error = moss_state_create(build->model, &one);
    if (error.code == MOSS_OK) error = compare_tokens(build->model, many, one, tokens, end, (uint32_t)chunk, rows, score);
    moss_state_free(many);
    moss_state_free(one);
    return dr_moss_ok(&build->diags, error);
}

static bool score_text(DrBuild *build, const EvalOptions *o, const RtTokens *tokens, Score *score) {
    int64_t chunk = dr_chunk_of_logits(build->program, o->chunk);
    MossState *state = NULL;
    Window w = {0};
    CliProgress progress = cli_progress_start(o->model.progress, "scoring", "tokens");
    MossError error = moss_state_create(build->model, &state);
    if (error.code == MOSS_OK) error = score_windows(build->model, state, tokens, o, (uint32_t)chunk, &progress, &w, &score->nats);
    cli_progress_end(&progress);
    moss_state_free(state);
    if (!dr_moss_ok(&build->diags, error)) return false;
    return !w.spoilt || dr_non_finite(build, NULL, tokens->ids + w.first, w.spoilt);
}

/* Reads and encodes the text. Without bos nothing predicts its first token, which then is not scored. */
static bool read_text(DrBuild *build, const EvalOptions *o, RtTokens *tokens, Score *score) {
    char *text;
    size_t size;
    if (!su_read_file(&build->arena, o->text, MAX_TEXT, &text, &size, &build->diags)) return false;
    if (!o->keep_bom) dr_skip_bom(o->text, &text, &size, &build->diags);
    RtTokenizer *tokenizer = dr_tokenizer(&build->spec, &build->diags);
    if (!tokenizer) return false;
    bool ok = dr_encode(tokenizer, text, size, tokens, &build->diags);
    bool bos = rt_tokenizer_bos(tokenizer) >= 0;
    if (ok && tokens->count < 2) {
        ok = su_error(&build->diags, su_file_span(&build->diags, o->text),
                      bos ? NULL : "spec has no bos, so the first token is not scored", "file has nothing to score");
    }
    if (ok) {
        SuText first = {0};
        if (!bos) rt_tokenizer_decode(tokenizer, tokens->ids[0], &first);
        /* A blank that the tokenizer put in front is no byte of the text. */
        size_t unscored = first.size < size ? first.size : size;
        *score = (Score){
            .tokens = tokens->count - bos, .bytes = size, .scored_tokens = tokens->count - 1, .scored_bytes = size - unscored};
        su_text_free(&first);
    }
    rt_tokenizer_free(tokenizer);
    return ok;
}

static void report(const Score *score, bool json) {
    double per_token = score->nats / (double)score->scored_tokens;
    double bits_per_byte = score->nats / log(2) / (double)score->scored_bytes;
    if (!json) {
        printf("tokens          %zu (%zu scored)\n", score->tokens, score->scored_tokens);
        printf("bytes           %zu (%zu scored)\n", score->bytes, score->scored_bytes);
        printf("nats per token  %.6f\n", per_token);
        printf("bits per byte   %.6f\n", bits_per_byte);
        printf("perplexity      %.4f\n", exp(per_token));
        if (score->compared)
            printf("--fast, first %zu tokens: logits off by %.2g of their rms (at most %.2g), KL %.2g nats per token\n",
                   score->compared, score->off, score->worst, score->kl);
        return;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "tokens", (double)score->tokens);
    cJSON_AddNumberToObject(root, "bytes", (double)score->bytes);
    cJSON_AddNumberToObject(root, "scored_tokens", (double)score->scored_tokens);
    cJSON_AddNumberToObject(root, "scored_bytes", (double)score->scored_bytes);
    cJSON_AddNumberToObject(root, "nats_per_token", per_token);
    cJSON_AddNumberToObject(root, "bits_per_byte", bits_per_byte);
    cJSON_AddNumberToObject(root, "perplexity", exp(per_token));
    if (score->compared) {
        cJSON_AddNumberToObject(root, "fast_compared_tokens", (double)score->compared);
        cJSON_AddNumberToObject(root, "fast_off", score->off);
        cJSON_AddNumberToObject(root, "fast_worst", score->worst);
        cJSON_AddNumberToObject(root, "fast_kl", score->kl);
    }
    cli_json_print(root);
}

/* Before the work: whether a sequence may be that long. The last token is not fed. */
static bool check_length(DrBuild *build, const EvalOptions *o, const RtTokens *tokens) {
    int64_t bound = fe_position_bound(&build->spec);
    if (bound && o->window > bound + 1) {
        return su_error(&build->diags, (SuSpan){0}, NULL,
                        "--window: expected at most %lld tokens, one more than max_positions, got %lld", (long long)bound + 1,
                        (long long)o->window);
    }
    if (!bound || o->window || tokens->count - 1 <= (size_t)bound) return true;
    return su_error(&build->diags, su_file_span(&build->diags, o->text), "--window N --stride M scores it in windows",
                    "expected a text of at most %lld tokens, as max_positions allows, got %zu tokens", (long long)bound + 1,
                    tokens->count);
}

/* A CliWork. */
static bool evaluate(DrBuild *build, const DrBuildOptions *options, void *context) {
    const EvalOptions *o = context;
    RtTokens tokens = {0};
    Score score;
    bool ok = dr_build_spec(build, options) && read_text(build, o, &tokens, &score) && check_length(build, o, &tokens) &&
              cli_build_model(build, options) && score_text(build, o, &tokens, &score) &&
              (!options->fast || compare_fast(build, o, &tokens, &score));
    if (ok) report(&score, o->json);
    rt_tokens_free(&tokens);
    return ok;
}

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(CliModelOptions, true, CLI_ABOUT_WEIGHTS),
    CLI_OPTION_VERIFY(CliModelOptions),
    CLI_ROW_TEXT(EvalOptions, text, "text", 0, "FILE", true, "the text; - for standard input"),
    CLI_OPTION_KEEP_BOM(EvalOptions),
    CLI_OPTION_NON_FINITE(EvalOptions),
    CLI_ROW_INT(EvalOptions, window, "window", 0, "N", 2, INT32_MAX,
                "score the text in windows of N tokens, each a sequence of its own; for texts longer than max_positions"),
    CLI_ROW_INT(EvalOptions, stride, "stride", 0, "M", 1, INT32_MAX,
                "begin a window every M tokens (default N - 1); a token is scored in the first window that predicts it"),
    CLI_OPTION_JSON(EvalOptions, "print one JSON object"),
    CLI_OPTION_CHUNK(EvalOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    EvalOptions o = {0};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (strcmp(args->positionals[0], "-") == 0 && strcmp(o.text, "-") == 0)
        return cli_usage_error(command, "the spec and the text cannot both be standard input");
    if (o.stride && !o.window) return cli_usage_error(command, "--stride needs --window");
    if (o.window && o.stride >= o.window)
        return cli_usage_error(command, "--stride: expected less than the window, so that every token is scored, got %lld",
                               (long long)o.stride);
    return cli_model_command(args->positionals[0], &o.model, evaluate, &o);
}

const CliCommand cli_eval = {
    .name = "eval",
    .summary = "measure how well a model predicts a text",
    .synopsis = "SPEC -w WEIGHTS... --text FILE [OPTION]...",
    .about =
        "Feeds the text to the model as one sequence. The score of a token is the negative logarithm of the probability that the "
        "model gave it before it was fed, in double. If the spec has a bos, it is fed first and the first token is scored too; "
        "without a bos the first token and its bytes are left out.\n\n"
        "nats per token is the mean score; perplexity is its exponential; bits per byte is the sum of the scores divided by "
        "log 2 and by the scored bytes, and does not depend on the tokenizer.\n\n"
        "With --window the text is cut into overlapping windows, each fed from position 0. Tokens that an earlier window scored "
        "are only context. A smaller stride gives every token more context and takes longer.\n\n"
        "With --fast the first 512 tokens are then fed again one by one, which rounds nothing, and what --fast is off by is "
        "printed: "
        "the root mean square of the difference of all logits, and the largest, as parts of the logits' root mean square, and the "
        "mean "
        "KL divergence of a token's distribution.",
    .examples = "mossc eval specs/moss-tiny.yaml -w models/moss-tiny.safetensors --text book.txt\n"
                "head -c 100000 book.txt | mossc eval specs/moss-tiny.yaml -w models/moss-tiny.safetensors --text - --json\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
