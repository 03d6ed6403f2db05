/* mossc run: text. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/build.h"
#include "cli/progress.h"
#include "driver/device.h"
#include "driver/sequence.h"
#include "driver/text.h"
#include "support/file.h"
#include "support/clock.h"

enum { MAX_PROMPT = 256 << 20, CACHE_EVERY = 256, CACHE_MIB = 1024 };

typedef struct RunOptions {
    CliModelOptions model;
    const char *prompt, *prompt_file, *state_in, *state_out, *prompt_cache;
    int64_t cache_every, cache_mib;
    int64_t max_tokens, top_k, chunk;
    double temperature, top_p;
    CliSeed seed;
    bool json, no_echo, keep_bom, allow_non_finite;
} RunOptions;

typedef enum Stop { STOP_LENGTH, STOP_EOS, STOP_POSITIONS, STOP_NO_OUTPUT, STOP_INTERRUPT } Stop;
static const char *const stop_words[] = {[STOP_LENGTH] = "length",
                                         [STOP_EOS] = "eos",
                                         [STOP_POSITIONS] = "positions",
                                         [STOP_NO_OUTPUT] = "no output",
                                         [STOP_INTERRUPT] = "interrupt"};

/* A text in progress. */
typedef struct Session {
    const RunOptions *options;
    DrBuild build;
    RtTokenizer *tokenizer;
    char *prompt;
    size_t prompt_size;
    RtTokens prompt_tokens, tokens; /* tokens: generated */
    RtTextStream stream;
    SuText text;   /* of `tokens` */
    float *room;   /* [limit], for sampling */
    MossState *state;
    RtPromptCacheStats cached;
    MossSampler sampler;
    uint64_t seed; /* of the sampler */
    Stop stop;
    double prefill_seconds, first_token_seconds, decode_seconds;
} Session;

/* ---------------------------------------------------------------------------------------------- getting ready */

/* A sequence that goes on had its bos at its start. */
static void drop_bos(RtTokens *tokens, const RtTokenizer *tokenizer) {
    if (rt_tokenizer_bos(tokenizer) >= 0 && tokens->count) {
        tokens->count--;
        memmove(tokens->ids, tokens->ids + 1, tokens->count * sizeof tokens->ids[0]);
    }
}

static bool read_prompt(Session *s) {
    const RunOptions *o = s->options;
    SuDiags *diags = &s->build.diags;
    if (o->prompt_file) {
        if (!su_read_file(&s->build.arena, o->prompt_file, MAX_PROMPT, &s->prompt, &s->prompt_size, diags)) return false;
    } else {
        s->prompt = su_strdup(&s->build.arena, o->prompt ? o->prompt : "");
        s->prompt_size = strlen(s->prompt);
    }
    if (!o->keep_bom) dr_skip_bom(o->prompt_file, &s->prompt, &s->prompt_size, diags);
    s->tokenizer = dr_tokenizer(&s->build.spec, diags);
    if (!s->tokenizer || !dr_encode(s->tokenizer, s->prompt, s->prompt_size, &s->prompt_tokens, diags)) return false;
    if (o->state_in) drop_bos(&s->prompt_tokens, s->tokenizer);
    if (s->prompt_tokens.count || o->state_in) return true;
    return su_error(diags, (SuSpan){0}, NULL, "the prompt is empty, and the spec has no bos to begin with");
}

/* Before the work, like all that is written. */
static bool make_prompt_cache(Session *s) {
    const char *path = s->options->prompt_cache;
    return !path || rt_prompt_cache_make(path, &s->build.diags);
}

/* A state knows where its sampler stands: there the text goes on, unless another seed is asked for. */
static void go_on_sampling(Session *s) {
    uint64_t seed, stands;
    if (!moss_state_random(s->state, &seed, &stands) || (s->options->seed.given && s->seed != seed)) return;
    s->seed = seed;
    s->sampler.state = stands;
}

static bool prepare(Session *s, const DrBuildOptions *options) {
    DrBuild *build = &s->build;
    if (!dr_build_spec(build, options) || !read_prompt(s) || !cli_check_output(build, s->options->state_out) ||
        !make_prompt_cache(s) || !cli_build_model(build, options))
        return false;
    int64_t bound = build->program->max_positions;
    if (bound && (int64_t)s->prompt_tokens.count > bound) {
        return su_error(&build->diags, (SuSpan){0}, NULL, "the prompt has %zu tokens, and the spec's max_positions is %" PRId64,
                        s->prompt_tokens.count, bound);
    }
    const RunOptions *o = s->options;
    s->sampler = (MossSampler){
        .temperature = (float)o->temperature, .top_k = (int32_t)o->top_k, .top_p = (float)o->top_p, .state = o->seed.value};
    s->seed = o->seed.value;
    if (o->prompt_cache) return true;
    if (!dr_state_begin(build, o->state_in, &s->state)) return false;
    go_on_sampling(s);
    return true;
}

/* ---------------------------------------------------------------------------------------------- text */

/* Prints what the text has gained. */
static void show(const Session *s, size_t before) {
    if (s->options->json || s->text.size == before) return;
    fwrite(s->text.text + before, 1, s->text.size - before, stdout);
    fflush(stdout);
}

/* Keeps the token; streams what it says. */
static void emit(Session *s, int32_t token) {
    size_t before = s->text.size;
    rt_tokens_add(&s->tokens, token);
    rt_text_stream_add(&s->stream, token, &s->text);
    show(s, before);
}

/* Prints what waited for the rest of a character. */
static void end_text(Session *s) {
    size_t before = s->text.size;
    rt_text_stream_end(&s->stream, &s->text);
    show(s, before);
}

/* Feeds the prompt to the state, in pieces between which progress is shown; no bits depend on them. */
static bool feed_pieces(Session *s, CliProgress *progress) {
    const RtTokens *tokens = &s->prompt_tokens;
    size_t piece = (size_t)s->build.program->max_rows * 4;
    MossError error = {0};
    for (size_t at = 0; at < tokens->count && error.code == MOSS_OK; at += piece) {
        size_t count = tokens->count - at < piece ? tokens->count - at : piece;
        error = moss_feed(s->build.model, s->state, tokens->ids + at, count, (uint32_t)s->options->chunk);
        cli_progress_update(progress, at + count, tokens->count);
    }
    return dr_moss_ok(&s->build.diags, error);
}

static bool feed_from_cache(Session *s, CliProgress *shown) {
    const RunOptions *o = s->options;
    RtPromptCacheOptions options = {
        .directory = o->prompt_cache, .every = (uint32_t)o->cache_every, .most_bytes = (uint64_t)o->cache_mib << 20};
    DrPrompt prompt = {.tokens = s->prompt_tokens.ids, .count = s->prompt_tokens.count, .chunk = (uint32_t)o->chunk};
    DrProgress progress = {.context = shown, .update = cli_progress_callback};
    return dr_feed_cached(&s->build, &options, &prompt, &progress, &s->state, &s->cached);
}

static bool feed_prompt(Session *s) {
    double start = su_seconds();
    CliProgress progress = cli_progress_start(s->options->model.progress, "reading the prompt", "tokens");
    bool ok = s->options->prompt_cache ? feed_from_cache(s, &progress) : feed_pieces(s, &progress);
    cli_progress_end(&progress);
    s->prefill_seconds = su_seconds() - start;
    return ok;
}

/* Picks a token from the logits of the last step; nothing is fed. false: none can be picked. */
static bool pick(Session *s, MossSampler *sampler, int32_t *out_token) {
    if (!s->room) s->room = SU_NEW_ARRAY(&s->build.arena, float, (size_t)rt_tokenizer_limit(s->tokenizer));
    *out_token = rt_tokenizer_sample(s->tokenizer, sampler, moss_state_logits(s->state), s->room);
    if (*out_token >= 0) return true;
    return su_error(&s->build.diags, (SuSpan){0}, NULL, "no logit is a number after %" PRId64 " tokens",
                    moss_state_position(s->state));
}

/* Whether the logits after the last token fed are fit to pick from; else where it went wrong is found by feeding all again. */
static bool check_logits(Session *s) {
    const float *logits = moss_state_logits(s->state);
    int64_t n = moss_program_vocab_size(s->build.program);
    if (s->options->allow_non_finite || !logits || moss_all_finite(logits, n)) return true;
    RtTokens all = {0};
    for (size_t i = 0; i < s->prompt_tokens.count; i++) rt_tokens_add(&all, s->prompt_tokens.ids[i]);
    for (size_t i = 0; i < s->tokens.count; i++) rt_tokens_add(&all, s->tokens.ids[i]);
    dr_non_finite(&s->build, s->options->state_in, all.ids, all.count);
    rt_tokens_free(&all);
    return false;
}

/* How many tokens to pick and feed before any is shown; 0: one is left, after which nothing is fed. */
static uint32_t burst(const Session *s) {
    int64_t bound = s->build.program->max_positions, n = dr_kind(&s->build)->burst;
    int64_t left = s->options->max_tokens - (int64_t)s->tokens.count - 1;
    if (left < n) n = left;
    if (bound && bound - moss_state_position(s->state) < n) n = bound - moss_state_position(s->state);
    return (uint32_t)n;
}

/* The last token: not fed. */
static bool pick_last(Session *s) {
    int32_t token;
    if (!pick(s, &s->sampler, &token)) return false;
    s->stop = token == rt_tokenizer_eos(s->tokenizer)                  ? STOP_EOS
              : (int64_t)s->tokens.count + 1 >= s->options->max_tokens ? STOP_LENGTH
                                                                       : STOP_POSITIONS;
    if (s->stop != STOP_EOS) emit(s, token);
    return true;
}

/* All tokens but the last are picked and fed in bursts. */
static bool generate_tokens(Session *s) {
    int32_t tokens[DR_MOST_BURST];
    size_t words = (size_t)rt_tokenizer_limit(s->tokenizer) / 32 + 1;
    MossVocabulary vocabulary = rt_tokenizer_vocabulary(s->tokenizer, SU_NEW_ARRAY(&s->build.arena, uint32_t, words));
    MossSequence sequence = {.state = s->state, .sampler = &s->sampler, .tokens = tokens};
    for (uint32_t n, done; (n = burst(s)) > 0;) {
        if (!dr_moss_ok(&s->build.diags, moss_generate(s->build.model, &vocabulary, &sequence, 1, n, &done))) return false;
        for (uint32_t i = 0; i < done; i++) emit(s, tokens[i]);
        if (!check_logits(s)) return false;
        if (sequence.ended || ferror(stdout) || cli_interrupted()) {
            s->stop = sequence.ended ? STOP_EOS : ferror(stdout) ? STOP_NO_OUTPUT : STOP_INTERRUPT;
            return true;
        }
    }
    return pick_last(s);
}

static bool generate(Session *s) {
    if (s->options->max_tokens == 0) return true;
    if (!moss_state_logits(s->state)) {
        return su_error(&s->build.diags, (SuSpan){0}, "give a prompt to go on with", "the state in '%s' holds no logits",
                        s->options->state_in);
    }
    cli_catch_interrupts();
    MossSampler sampler = s->sampler; /* of a look at the first token, for the clock */
    int32_t token;
    double start = su_seconds();
    if (!pick(s, &sampler, &token)) return false;
    double first = su_seconds();
    s->first_token_seconds = s->prefill_seconds + (first - start);
    bool ok = generate_tokens(s);
    s->decode_seconds = su_seconds() - first;
    return ok;
}

/* Feeds the last token, which was sampled but needed no successor, so that the state is the one after all of the text. */
static bool save_state(Session *s) {
    int64_t bound = s->build.program->max_positions;
    if (!s->options->state_out) return true;
    if (s->stop == STOP_LENGTH && s->tokens.count && !(bound && moss_state_position(s->state) >= bound)) {
        MossSegment last = {
            .state = s->state, .tokens = &s->tokens.ids[s->tokens.count - 1], .count = 1, .logits = MOSS_LAST_LOGITS};
        if (!dr_moss_ok(&s->build.diags, moss_step(s->build.model, &last, 1))) return false;
    }
    moss_state_set_random(s->state, s->seed, s->sampler.state);
    return dr_state_end(&s->build, s->state, s->options->state_out);
}

/* ---------------------------------------------------------------------------------------------- what it took */

static double rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

/* Steps of one token: each made the logits of one sampled token; the first token's came from the prompt. */
static double decode_steps(const Session *s) {
    size_t sampled = s->tokens.count + (s->stop == STOP_EOS);
    return sampled ? (double)(sampled - 1) : 0;
}

static void print_stats(const Session *s) {
    fprintf(stderr,
            "mossc: compiled in %.0f ms (%u of %u kernels from the cache), loaded in %.0f ms, time to first token %.1f ms\n",
            1e3 * s->build.compile_seconds, s->build.kernels_found, s->build.program->n_kernels, 1e3 * s->build.load_seconds,
            1e3 * s->first_token_seconds);
    fprintf(stderr, "mossc: prefill %zu tokens, %.1f tokens/s; decode %zu tokens, %.1f tokens/s%s\n", s->prompt_tokens.count,
            rate((double)s->prompt_tokens.count, s->prefill_seconds), s->tokens.count, rate(decode_steps(s), s->decode_seconds),
            s->stop == STOP_POSITIONS   ? "; stopped at the spec's max_positions"
            : s->stop == STOP_INTERRUPT ? "; interrupted"
                                        : "");
    if (!s->options->prompt_cache) return;
    fprintf(stderr, "mossc: prompt cache: %zu of %zu tokens reused (%s), %zu states stored, %zu evicted, %zu damaged\n",
            s->cached.reused, s->prompt_tokens.count, s->cached.reused ? "hit" : "miss", s->cached.stored, s->cached.evicted,
            s->cached.damaged);
}

static void print_json(const Session *s) {
    SuText prompt = dr_clean_utf8(s->prompt, s->prompt_size), text = dr_clean_utf8(s->text.text ? s->text.text : "", s->text.size);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "prompt", prompt.text);
    cJSON_AddStringToObject(root, "text", text.text);
    cJSON_AddItemToObject(root, "tokens", /* cJSON makes no array of no numbers */
                          s->tokens.count ? cJSON_CreateIntArray(s->tokens.ids, (int)s->tokens.count) : cJSON_CreateArray());
    cJSON_AddNumberToObject(root, "prompt_tokens", (double)s->prompt_tokens.count);
    if (s->options->prompt_cache) cJSON_AddNumberToObject(root, "reused_tokens", (double)s->cached.reused);
    cJSON_AddNumberToObject(root, "generated_tokens", (double)s->tokens.count);
    cJSON_AddStringToObject(root, "stopped_by", stop_words[s->stop]);
    cJSON_AddNumberToObject(root, "compile_ms", 1e3 * s->build.compile_seconds);
    cJSON_AddNumberToObject(root, "kernels", s->build.program->n_kernels);
    cJSON_AddNumberToObject(root, "cached_kernels", s->build.kernels_found);
    cJSON_AddNumberToObject(root, "load_ms", 1e3 * s->build.load_seconds);
    cJSON_AddNumberToObject(root, "time_to_first_token_ms", 1e3 * s->first_token_seconds);
    cJSON_AddNumberToObject(root, "prefill_tok_s", rate((double)s->prompt_tokens.count, s->prefill_seconds));
    cJSON_AddNumberToObject(root, "decode_tok_s", rate(decode_steps(s), s->decode_seconds));
    cli_json_print(root);
    su_text_free(&prompt);
    su_text_free(&text);
}

/* ---------------------------------------------------------------------------------------------- the command */

static bool make_text(Session *s, const DrBuildOptions *options) {
    const RunOptions *o = s->options;
    if (!prepare(s, options)) return false;
    if (!o->json && !o->no_echo) {
        fwrite(s->prompt, 1, s->prompt_size, stdout);
        fflush(stdout);
    }
    s->stream.tokenizer = s->tokenizer;
    bool ok = feed_prompt(s) && check_logits(s) && generate(s) && save_state(s);
    end_text(s);
    if (o->json) {
        if (ok) print_json(s);
        return ok;
    }
    bool line_open = s->text.size ? s->text.text[s->text.size - 1] != '\n' : s->prompt_size > 0;
    if (line_open && isatty(STDOUT_FILENO)) putchar('\n'); /* files and pipes get the text alone */
    fflush(stdout);
    if (ok) print_stats(s);
    return ok;
}

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(CliModelOptions, true, CLI_ABOUT_WEIGHTS),
    CLI_OPTION_VERIFY(CliModelOptions),
    CLI_ROW_TEXT(RunOptions, prompt, "prompt", 'p', "TEXT", false, "the text to go on from"),
    CLI_ROW_TEXT(RunOptions, prompt_file, "prompt-file", 0, "FILE", false, "read the prompt from FILE; - for standard input"),
    CLI_OPTION_KEEP_BOM(RunOptions),
    CLI_OPTION_NON_FINITE(RunOptions),
    CLI_ROW_INT(RunOptions, max_tokens, "max-tokens", 'n', "N", 0, 2147483647,
                "stop after N tokens (default 256; 0: only the prompt), or before at the spec's eos"),
    CLI_ROW_REAL(RunOptions, temperature, "temp", "T", 0, 1000,
                 "temperature (default 0.8); 0 always takes the most probable token"),
    CLI_ROW_INT(RunOptions, top_k, "top-k", 0, "K", 0, 2147483647, "sample among the K most probable tokens (default 40); 0: all"),
    CLI_ROW_REAL(RunOptions, top_p, "top-p", "P", 0, 1,
                 "and among the fewest that have the probability P together (default 1: all)"),
    CLI_ROW_OWN_SEED(
        RunOptions, seed, "seed", "N",
        "of the sampler, 0 to 2^64 - 1 (default 0, or with --state-in where the state's sampler stands; another seed than "
        "that one's begins anew); the same seed gives the same text on every machine"),
    CLI_OPTION_STATE_IN(RunOptions),
    CLI_OPTION_STATE_OUT(RunOptions),
    CLI_ROW_TEXT(RunOptions, prompt_cache, "prompt-cache", 0, "DIR", false,
                 "keep states of prompts in DIR, and start from the longest beginning of the prompt that is there"),
    CLI_ROW_INT(RunOptions, cache_every, "cache-every", 0, "C", 1, INT32_MAX,
                "store a state after every C tokens of the prompt (default 256), and after all of it"),
    CLI_ROW_INT(RunOptions, cache_mib, "cache-size", 0, "MIB", 1, INT32_MAX,
                "let DIR grow to MIB MiB (default 1024); what was used least recently goes first"),
    CLI_ROW_FLAG(RunOptions, no_echo, "no-echo", "print what follows the prompt only"),
    CLI_OPTION_JSON(RunOptions, "print one JSON object when all is done: text, tokens, speed"),
    CLI_OPTION_CHUNK(RunOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    RunOptions o = {
        .cache_every = CACHE_EVERY, .cache_mib = CACHE_MIB, .max_tokens = 256, .temperature = 0.8, .top_k = 40, .top_p = 1};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (o.prompt ? o.prompt_file != NULL : !o.prompt_file && !o.state_in)
        return cli_usage_error(command, "one of --prompt TEXT and --prompt-file FILE is needed");
    if (o.prompt_cache && o.state_in)
        return cli_usage_error(command,
                               "a prompt cache holds prompts from their start: --prompt-cache does not go with --state-in");
    if (o.prompt_file && strcmp(args->positionals[0], "-") == 0 && strcmp(o.prompt_file, "-") == 0)
        return cli_usage_error(command, "the spec and the prompt cannot both be standard input");
    if (cli_is_standard(o.state_out)) return cli_usage_error(command, "standard output has the text: --state-out needs a file");
    DrBuildOptions options = cli_build_options(args->positionals[0], &o.model);
    Session s = {.options = &o};
    bool ok = make_text(&s, &options);
    moss_state_free(s.state);
    rt_tokenizer_free(s.tokenizer);
    rt_tokens_free(&s.prompt_tokens);
    rt_tokens_free(&s.tokens);
    su_text_free(&s.text);
    return cli_build_finish(&s.build, ok);
}

const CliCommand cli_run = {
    .name = "run",
    .summary = "continue a text",
    .synopsis = "SPEC -w WEIGHTS... --prompt TEXT [OPTION]...",
    .about =
        "Compiles SPEC, loads the weights, feeds the prompt (after the spec's bos, if it has one) and prints it and what the model "
        "makes of it, token by token as they come. Speed goes to standard error: the time to the first token counts from when the "
        "model stands ready. The text does not depend on --threads, --chunk or the machine.\n\n"
        "A state file holds all of a sequence so far, without its text: --state-in goes on behind it, with a prompt (no bos is put "
        "before it) or without one. A prompt cache does the same for prompts that begin alike; several processes may share one. "
        "Neither changes what is written: -n 60 gives the text of -n 30 with --state-out and -n 30 with --state-in. Ctrl-C (or "
        "SIGTERM) "
        "ends the text early, with the state and the summary; a second one ends at once. Both belong to the spec, its --set values "
        "and its weights.",
    .examples = "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt 'It was a dark evening'\n"
                "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt 'The' --temp 0 -n 100\n"
                "fortune | mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt-file - --seed 7 --json\n"
                "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt 'The' -n 50 --state-out story.state\n"
                "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors -n 50 --state-in story.state\n"
                "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt-file book.txt --prompt-cache cache\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
