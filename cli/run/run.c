/* mossc run: text. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/format.h"
#include "cli/interrupt.h"
#include "cli/build.h"
#include "cli/given.h"
#include "cli/run/sampling.h"
#include "driver/generate.h"
#include "driver/text.h"
#include "support/file.h"

enum { MAX_PROMPT = 256 << 20, CACHE_EVERY = 256, CACHE_MIB = 1024 };

typedef struct RunOptions {
    CliModelOptions model;
    const char *system, *template;
    const char *prompt, *prompt_file, *state_in, *state_out, *prompt_cache;
    int64_t cache_every, cache_mib;
    int64_t chunk;
    CliSampling sampling;
    bool chat, json, no_echo, keep_bom, allow_non_finite;
} RunOptions;

/* A text in progress. */
typedef struct Session {
    const RunOptions *options;
    DrBuild *build;
    DrText made;
    char *prompt;
    size_t prompt_size;
    SuText text; /* what follows it */
    cJSON *logprobs; /* one of each token */
} Session;

/* ---------------------------------------------------------------------------------------------- getting ready */

static bool read_prompt(Session *s, const DrTextOptions *options) {
    const RunOptions *o = s->options;
    DrBuild *build = s->build;
    if (o->prompt_file) {
        if (!su_read_file(&build->arena, o->prompt_file, MAX_PROMPT, &s->prompt, &s->prompt_size, &build->diags)) return false;
    } else {
        s->prompt = su_strdup(&build->arena, o->prompt ? o->prompt : "");
        s->prompt_size = strlen(s->prompt);
    }
    if (!o->keep_bom) dr_skip_bom(o->prompt_file, &s->prompt, &s->prompt_size, &build->diags);
    return dr_text_prompt(&s->made, build, options, s->prompt, s->prompt_size);
}

static bool prepare(Session *s, const DrBuildOptions *options, const DrTextOptions *text) {
    const char *cache = s->options->prompt_cache; /* made before the work, like all that is written */
    return dr_build_spec(s->build, options) && read_prompt(s, text) && cli_check_output(s->build, text->state_out) &&
           (!cache || rt_prompt_cache_make(cache, &s->build->diags)) && cli_build_model(s->build, options) &&
           dr_text_begin(&s->made);
}

/* ---------------------------------------------------------------------------------------------- text */

static void print_text(const char *text, size_t size) {
    fwrite(text, 1, size, stdout);
    fflush(stdout);
}

static cJSON *logprob_json(const Session *s, const MossLogprob *logprob) {
    SuText text = {0};
    su_text_append(&text, "", 0);
    rt_tokenizer_decode(s->made.tokenizer, logprob->token, &text);
    SuText clean = dr_clean_utf8(text.text, text.size);
    cJSON *item = cJSON_CreateObject();
    cJSON_AddNumberToObject(item, "token", logprob->token);
    cJSON_AddStringToObject(item, "text", clean.text);
    cJSON_AddNumberToObject(item, "logprob", (double)logprob->logprob);
    su_text_free(&clean);
    su_text_free(&text);
    return item;
}

static void note_logprobs(Session *s) {
    uint32_t count;
    const MossLogprob *list = moss_picker_logprobs(s->made.picker, &count);
    if (!count) return;
    cJSON *item = logprob_json(s, &list[0]), *top = cJSON_AddArrayToObject(item, "top");
    for (uint32_t i = 1; i < count; i++) cJSON_AddItemToArray(top, logprob_json(s, &list[i]));
    cJSON_AddItemToArray(s->logprobs, item);
}

static void told(void *context, int32_t token, const char *text, size_t size) {
    Session *s = context;
    if (token >= 0 && s->options->sampling.logprobs) note_logprobs(s);
    su_text_append(&s->text, text, size);
    if (!s->options->json && size) print_text(text, size);
}

/* A prompt is read even if nobody hears of it: its state may be what is wanted. */
static bool stop(void *context) {
    const Session *s = context;
    return cli_interrupted() || (s->made.tokens.count && ferror(stdout));
}

/* ---------------------------------------------------------------------------------------------- what it took */

static double rate(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

static double prefill_rate(const DrText *made) { return rate((double)made->read, made->prefill_seconds); }

static double decode_rate(const DrText *made) { return rate((double)made->steps, made->decode_seconds); }

static bool interrupted(const DrText *made) { return made->stop == MOSS_STOP_CALLER && !ferror(stdout); }

static const char *stop_word(const DrText *made) {
    switch (made->stop) {
    case MOSS_STOP_COUNT: return "length";
    case MOSS_STOP_EOS: return "eos";
    case MOSS_STOP_POSITIONS: return "positions";
    case MOSS_STOP_TEXT: return "stop";
    case MOSS_STOP_CALLER: return interrupted(made) ? "interrupt" : "no output";
    }
    return "";
}

static void print_stats(const Session *s) {
    const DrBuild *build = s->build;
    const DrText *made = &s->made;
    char all[CLI_NUMBER + 8] = "";
    if (made->read < made->prompt.count) snprintf(all, sizeof all, " of %zu", made->prompt.count);
    fprintf(stderr,
            "mossc: compiled in %.0f ms (%u of %u kernels from the cache), loaded in %.0f ms, time to first token %.1f ms\n",
            1e3 * build->compile_seconds, build->kernels_found, build->program->n_kernels, 1e3 * build->load_seconds,
            1e3 * made->first_token_seconds);
    fprintf(stderr, "mossc: prefill %zu%s tokens, %.1f tokens/s; decode %zu tokens, %.1f tokens/s%s\n", made->read, all,
            prefill_rate(made), made->tokens.count, decode_rate(made),
            made->stop == MOSS_STOP_POSITIONS ? "; stopped at the spec's max_positions"
            : interrupted(made)               ? "; interrupted"
                                              : "");
    if (!s->options->prompt_cache) return;
    fprintf(stderr, "mossc: prompt cache: %zu of %zu tokens reused (%s), %zu states stored, %zu evicted, %zu damaged\n",
            made->cached.reused, made->prompt.count, made->cached.reused ? "hit" : "miss", made->cached.stored,
            made->cached.evicted, made->cached.damaged);
}

static void print_json(const Session *s) {
    const DrText *made = &s->made;
    const RtTokens *tokens = &made->tokens;
    SuText prompt = dr_clean_utf8(s->prompt, s->prompt_size), text = dr_clean_utf8(s->text.text ? s->text.text : "", s->text.size);
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "prompt", prompt.text);
    cJSON_AddStringToObject(root, "text", text.text);
    cJSON_AddItemToObject(root, "tokens", /* cJSON makes no array of no numbers */
                          tokens->count ? cJSON_CreateIntArray(tokens->ids, (int)tokens->count) : cJSON_CreateArray());
    if (s->options->sampling.logprobs) cJSON_AddItemToObject(root, "logprobs", cJSON_Duplicate(s->logprobs, true));
    cJSON_AddNumberToObject(root, "prompt_tokens", (double)made->prompt.count);
    cJSON_AddNumberToObject(root, "read_tokens", (double)made->read);
    if (s->options->prompt_cache) cJSON_AddNumberToObject(root, "reused_tokens", (double)made->cached.reused);
    cJSON_AddNumberToObject(root, "generated_tokens", (double)tokens->count);
    cJSON_AddStringToObject(root, "stopped_by", stop_word(made));
    cJSON_AddNumberToObject(root, "compile_ms", 1e3 * s->build->compile_seconds);
    cJSON_AddNumberToObject(root, "kernels", s->build->program->n_kernels);
    cJSON_AddNumberToObject(root, "cached_kernels", s->build->kernels_found);
    cJSON_AddNumberToObject(root, "load_ms", 1e3 * s->build->load_seconds);
    cJSON_AddNumberToObject(root, "time_to_first_token_ms", 1e3 * made->first_token_seconds);
    cJSON_AddNumberToObject(root, "prefill_tok_s", prefill_rate(made));
    cJSON_AddNumberToObject(root, "decode_tok_s", decode_rate(made));
    cli_json_print(root);
    su_text_free(&prompt);
    su_text_free(&text);
}

/* ---------------------------------------------------------------------------------------------- the command */

static void end_line(const Session *s) {
    bool line_open = s->text.size ? s->text.text[s->text.size - 1] != '\n' : s->prompt_size > 0;
    if (line_open && isatty(STDOUT_FILENO)) putchar('\n'); /* files and pipes get the text alone */
    fflush(stdout);
}

static bool make_text(Session *s, const DrBuildOptions *options, const DrTextOptions *text) {
    const RunOptions *o = s->options;
    DrTextHooks hooks = {.context = s, .told = told, .stop = stop};
    if (!prepare(s, options, text)) return false;
    cli_catch_interrupts();
    if (!o->json && !o->no_echo && !o->chat) print_text(s->prompt, s->prompt_size);
    bool ok = dr_text_make(&s->made, &options->progress, &hooks);
    if (!o->json) end_line(s);
    if (ok) (o->json ? print_json : print_stats)(s);
    return ok;
}

/* A CliWork. */
static bool continue_text(DrBuild *build, const DrBuildOptions *options, void *context) {
    const RunOptions *o = context;
    RtPromptCacheOptions cache = {
        .directory = o->prompt_cache, .every = (uint32_t)o->cache_every, .most_bytes = (uint64_t)o->cache_mib << 20};
    DrTextOptions text = {.state_in = o->state_in,
                          .state_out = o->state_out,
                          .cache = o->prompt_cache ? &cache : NULL,
                          .chunk = (uint32_t)o->chunk,
                          .allow_non_finite = o->allow_non_finite};
    Session s = {.options = o, .build = build, .logprobs = cJSON_CreateArray()};
    DrGeneration model;
    bool ok = dr_generation_read(options->spec, &model, &build->diags) &&
              cli_sampling(&o->sampling, &model, &build->arena, &text, &build->diags);
    if (ok && o->chat) {
        text.template = dr_template_choose(o->template, model.chat_template, &build->diags);
        text.system = o->system;
        ok = text.template != NULL;
    }
    ok = ok && make_text(&s, options, &text);
    cJSON_Delete(s.logprobs);
    cli_build_print(build);
    dr_generation_free(&model);
    dr_text_free(&s.made);
    su_text_free(&s.text);
    return ok;
}

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(CliModelOptions, false, CLI_ABOUT_WEIGHTS " (default: model.safetensors beside the spec)"),
    CLI_OPTION_VERIFY(CliModelOptions),
    CLI_ROW_TEXT(RunOptions, prompt, "prompt", 'p', "TEXT", false, "the text to continue"),
    CLI_ROW_TEXT(RunOptions, prompt_file, "prompt-file", 0, "FILE", false, "read the prompt from FILE; - for standard input"),
    CLI_ROW_FLAG(RunOptions, chat, "chat",
                 "the prompt is a user's message: put it into the model's chat template, print the answer"),
    CLI_ROW_TEXT(RunOptions, system, "system", 0, "TEXT", false, "with --chat: the system's text"),
    CLI_ROW_TEXT(RunOptions, template, "template", 0, "NAME", false, "with --chat: the template's name (`mossc chat --help`)"),
    CLI_OPTION_KEEP_BOM(RunOptions),
    CLI_OPTION_NON_FINITE(RunOptions),
    CLI_ROW_INT(
        RunOptions, sampling.max_tokens, "max-tokens", 'n', "N", -1, 2147483647,
        "stop after N tokens (default 256; 0: only read the prompt; -1: go on to the model's max_positions), or earlier at the "
        "spec's eos"),
    CLI_SAMPLING_ROWS(RunOptions),
    CLI_ROW_INT(RunOptions, sampling.logprobs, "logprobs", 0, "N", 0, 1000,
                "with --json: tell the log-probability of each token, and the N most probable ones"),
    CLI_OPTION_STATE_IN(RunOptions),
    CLI_OPTION_STATE_OUT(RunOptions),
    CLI_ROW_TEXT(RunOptions, prompt_cache, "prompt-cache", 0, "DIR", false,
                 "store states of prompts in DIR, and start from the longest beginning of the prompt that is stored there"),
    CLI_ROW_INT(RunOptions, cache_every, "cache-every", 0, "C", 1, INT32_MAX,
                "store a state after every C tokens of the prompt (default 256), and after all of it"),
    CLI_ROW_INT(RunOptions, cache_mib, "cache-size", 0, "MIB", 1, INT32_MAX,
                "let DIR grow to MIB MiB (default 1024); the least recently used states are removed first"),
    CLI_ROW_FLAG(RunOptions, no_echo, "no-echo", "print only what follows the prompt"),
    CLI_OPTION_JSON(RunOptions, "print one JSON object when all is done: text, tokens, speed"),
    CLI_OPTION_CHUNK(RunOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    RunOptions o = {.cache_every = CACHE_EVERY, .cache_mib = CACHE_MIB, .sampling = CLI_SAMPLING_DEFAULTS(256)};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    const char *spec = cli_find_model(command, args, &o.model);
    if (!spec) return CLI_USAGE;
    if ((o.system || o.template) && !o.chat) return cli_usage_error(command, "--system and --template need --chat");
    if (o.chat && !o.prompt && !o.prompt_file) return cli_usage_error(command, "--chat needs --prompt TEXT or --prompt-file FILE");
    if (o.prompt ? o.prompt_file != NULL : !o.prompt_file && !o.state_in)
        return cli_usage_error(command, "one of --prompt TEXT and --prompt-file FILE is needed");
    if (o.prompt_cache && o.state_in)
        return cli_usage_error(command, "--prompt-cache stores prompts from their start and cannot be combined with --state-in");
    if (o.prompt_file && strcmp(args->positionals[0], "-") == 0 && strcmp(o.prompt_file, "-") == 0)
        return cli_usage_error(command, "the spec and the prompt cannot both be standard input");
    if (o.sampling.logprobs && !o.json) return cli_usage_error(command, "--logprobs needs --json");
    if (cli_is_standard(o.state_out)) return cli_usage_error(command, "standard output has the text: --state-out needs a file");
    return cli_model_command(spec, &o.model, continue_text, &o);
}

const CliCommand cli_run = {
    .name = "run",
    .summary = "continue a text",
    .synopsis = "MODEL [-w WEIGHTS...] --prompt TEXT [OPTION]...",
    .about = "MODEL is a spec, or what stands for one (below). Compiles it, loads the weights, feeds the prompt (after "
             "the spec's bos, if it has one), prints it, and prints "
             "the tokens that the model generates as they are generated. Speeds go to standard error; the time to the first "
             "token is counted from the moment the model is loaded. The text does not depend on --threads, --chunk or the "
             "machine.\n\n" CLI_ABOUT_GIVEN "\n\n" CLI_ABOUT_SAMPLING "\n\n"
             "A state file holds everything that the rest of a sequence depends on, but not its text. --state-in continues it, "
             "with a prompt (no bos is put before it) or without one. A prompt cache stores states of prompts and reuses the "
             "longest common beginning; several processes may share one. Neither changes the text: -n 60 gives the text of -n "
             "30 with --state-out and -n 30 with --state-in. Both are valid only for the same spec, --set values and weights.\n\n"
             "Ctrl-C (or SIGTERM) ends the text, or the reading of the prompt, early: the summary says how many tokens were "
             "read, and --state-out gets the state after them. A second one ends the process at once.",
    .examples = "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt 'It was a dark evening'\n"
                "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt 'The' --temp 0 -n 100\n"
                "fortune | mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt-file - --seed 7 --json\n"
                "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt 'The' -n 50 --state-out story.state\n"
                "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors -n 50 --state-in story.state\n"
                "mossc run specs/moss-tiny.yaml -w models/moss-tiny.safetensors --prompt-file book.txt --prompt-cache cache\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
