/* mossc chat: a conversation. */
#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef MOSSC_LINE_EDITING
#include <editline/readline.h>
#endif

#include "cli/build.h"
#include "cli/given.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/run/sampling.h"
#include "driver/chat.h"
#include "driver/generation.h"

typedef struct ChatOptions {
    CliModelOptions model;
    const char *system, *template, *state_in, *state_out;
    int64_t chunk;
    CliSampling sampling;
    bool stats, allow_non_finite;
} ChatOptions;

typedef struct Session {
    const ChatOptions *options;
    DrBuild *build;
    DrChat chat;
    bool terminal; /* a person types */
    bool broken;   /* an answer's line is open */
} Session;

/* ---------------------------------------------------------------------------------------------- lines */

/* A line without its end; NULL at the end of input. Free it. */
static char *read_line(const Session *s, const char *prompt) {
#ifdef MOSSC_LINE_EDITING
    if (s->terminal) {
        char *typed = readline(prompt);
        if (typed && *typed) add_history(typed);
        return typed;
    }
#endif
    char *line = NULL;
    size_t room = 0;
    if (s->terminal) {
        fputs(prompt, stdout);
        fflush(stdout);
    }
    ssize_t size = getline(&line, &room, stdin);
    if (size < 0) {
        free(line);
        return NULL;
    }
    if (size > 0 && line[size - 1] == '\n') line[size - 1] = '\0';
    return line;
}

/* A message: lines that end in a backslash go on in the next one. false at the end of input. */
static bool read_message(const Session *s, SuText *out) {
    bool more = true;
    out->size = 0;
    for (const char *prompt = "> "; more; prompt = "| ") {
        char *line = read_line(s, prompt);
        if (!line) return out->size > 0;
        size_t size = strlen(line);
        more = size && line[size - 1] == '\\';
        su_text_append(out, line, more ? size - 1 : size);
        if (more) su_text_append(out, "\n", 1);
        free(line);
    }
    return true;
}

/* ---------------------------------------------------------------------------------------------- answers */

static void told(void *context, int32_t token, const char *text, size_t size) {
    Session *s = context;
    (void)token;
    if (!size) return;
    fwrite(text, 1, size, stdout);
    fflush(stdout);
    s->broken = text[size - 1] != '\n';
}

static bool stop(void *context) {
    (void)context;
    return cli_interrupted() || ferror(stdout);
}

static double rate(size_t tokens, double seconds) { return seconds > 0 ? (double)tokens / seconds : 0; }

static bool take_turn(Session *s, const char *text) {
    DrTextHooks hooks = {.context = s, .told = told, .stop = stop};
    DrTurnReport report;
    cli_catch_interrupts();
    s->broken = false;
    bool ok = dr_chat_turn(&s->chat, text, &hooks, &report);
    cli_release_interrupts();
    if (ok || s->broken) putchar('\n');
    fflush(stdout);
    if (s->options->stats && ok) {
        fprintf(stderr, "mossc: read %zu tokens, %.1f tokens/s; made %zu tokens, %.1f tokens/s; position %" PRId64 "\n",
                report.read, rate(report.read, report.read_seconds), report.made, rate(report.made, report.made_seconds),
                moss_state_position(s->chat.state));
    }
    if (ok && report.taken_back) fputs("mossc: the message was not read to its end, and is taken back\n", stderr);
    if (ok && report.stop == MOSS_STOP_POSITIONS) fputs("mossc: the conversation has reached the model's max_positions\n", stderr);
    return ok;
}

/* ---------------------------------------------------------------------------------------------- commands */

static bool say_help(Session *s, const char *argument);

static bool undo(Session *s, const char *argument) {
    (void)argument;
    return dr_chat_undo(&s->chat);
}

static bool clear(Session *s, const char *argument) {
    (void)argument;
    return dr_chat_clear(&s->chat, s->chat.system);
}

static bool set_system(Session *s, const char *argument) { return dr_chat_clear(&s->chat, su_strdup(&s->build->arena, argument)); }

static bool needs_file(Session *s, const char *argument) {
    return *argument || su_error(&s->build->diags, (SuSpan){0}, NULL, "name a file");
}

static bool save(Session *s, const char *argument) { return needs_file(s, argument) && dr_chat_save(&s->chat, argument); }

static bool load(Session *s, const char *argument) { return needs_file(s, argument) && dr_chat_load(&s->chat, argument); }

static const struct {
    const char *name, *argument, *about;
    bool (*run)(Session *s, const char *argument);
} commands[] = {
    {"help", "", "these commands", say_help},
    {"undo", "", "take the last message and its answer back", undo},
    {"clear", "", "begin anew", clear},
    {"system", "TEXT", "begin anew with this text of the system", set_system},
    {"save", "FILE", "write the state to FILE, which --state-in and /load continue", save},
    {"load", "FILE", "continue from a state", load},
    {"exit", "", "end, as the end of input does", NULL},
};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static bool say_help(Session *s, const char *argument) {
    (void)s, (void)argument;
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(stderr, "/%-6s %-5s %s\n", commands[i].name, commands[i].argument, commands[i].about);
    fputs("A line that ends in a backslash goes on in the next one; Ctrl-C ends an answer. //TEXT is the message /TEXT.\n", stderr);
    return true;
}

/* false: end. What fails is said, and the conversation goes on. */
static bool run_command(Session *s, char *line) {
    size_t size = strcspn(line + 1, " \t");
    char *argument = line + 1 + size;
    while (isspace((unsigned char)*argument)) argument++;
    for (int i = 0; i < N_COMMANDS; i++) {
        if (strlen(commands[i].name) != size || strncmp(line + 1, commands[i].name, size) != 0) continue;
        return commands[i].run ? (commands[i].run(s, argument), true) : false;
    }
    return su_error(&s->build->diags, (SuSpan){0}, "a message that begins with / is written with //",
                    "unknown command '%s'; /help lists them", line),
           true;
}

/* ---------------------------------------------------------------------------------------------- the command */

static bool converse(Session *s) {
    SuText line = {0};
    bool good = true;
    for (bool go = true; go && !ferror(stdout) && !cli_terminated();) {
        if (!read_message(s, &line)) break;
        if (line.size == 0) continue;
        bool slash = line.text[0] == '/', escaped = slash && line.text[1] == '/';
        if (slash && !escaped)
            go = run_command(s, line.text);
        else
            good = take_turn(s, line.text + escaped);
        cli_build_print(s->build); /* mistakes are said at once */
        if (!good && moss_state_failed(s->chat.state)) break;
    }
    su_text_free(&line);
    return good || !moss_state_failed(s->chat.state);
}

static bool talk(Session *s, const DrBuildOptions *options, const DrTextOptions *text, const DrGeneration *model) {
    DrBuild *build = s->build;
    const ChatOptions *o = s->options;
    if (!dr_build_spec(build, options) || !cli_check_output(build, o->state_out)) return false;
    const DrTemplate *template = dr_template_choose(o->template, model->chat_template, &build->diags);
    if (!template || !cli_build_model(build, options)) return false;
    if (!dr_chat_begin(&s->chat, build, text, template, o->system)) return false;
    cli_build_print(build);
    if (s->terminal) fprintf(stderr, "mossc: %s, template %s; /help lists the commands\n", build->spec.name, template->name);
    return converse(s) && (!o->state_out || dr_chat_save(&s->chat, o->state_out));
}

/* A CliWork. */
static bool chat(DrBuild *build, const DrBuildOptions *options, void *context) {
    const ChatOptions *o = context;
    DrGeneration model;
    DrTextOptions text = {
        .state_in = o->state_in, .state_out = o->state_out, .chunk = (uint32_t)o->chunk, .allow_non_finite = o->allow_non_finite};
    Session s = {.options = o, .build = build, .terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
    bool ok = dr_generation_read(options->spec, &model, &build->diags) &&
              cli_sampling(&o->sampling, &model, &build->arena, &text, &build->diags) && talk(&s, options, &text, &model);
    dr_chat_free(&s.chat);
    cli_build_print(build);
    dr_generation_free(&model);
    return ok;
}

static const char template_help[] =
    "the chat template (default: what the model's generation.yaml has, as far as it is one of these):"
#define DR_TEMPLATE(name, ...) " " #name
#include "driver/chat_templates.def"
#undef DR_TEMPLATE
    ;

static const CliOption table[] = {
    CLI_OPTION_WEIGHTS(CliModelOptions, false, CLI_ABOUT_WEIGHTS " (default: model.safetensors beside the spec)"),
    CLI_OPTION_VERIFY(CliModelOptions),
    CLI_ROW_TEXT(ChatOptions, system, "system", 0, "TEXT", false, "the system's text (default: the template's own, if it has one)"),
    CLI_ROW_TEXT(ChatOptions, template, "template", 0, "NAME", false, template_help),
    CLI_ROW_INT(ChatOptions, sampling.max_tokens, "max-tokens", 'n', "N", -1, 2147483647,
                "end an answer after N tokens (default -1: at its end, or the model's max_positions)"),
    CLI_SAMPLING_ROWS(ChatOptions),
    CLI_OPTION_STATE_IN(ChatOptions),
    CLI_OPTION_STATE_OUT(ChatOptions),
    CLI_OPTION_NON_FINITE(ChatOptions),
    CLI_ROW_FLAG(ChatOptions, stats, "stats", "say after each answer how many tokens were read and made, and how fast"),
    CLI_OPTION_CHUNK(ChatOptions),
};

static int run(const CliCommand *command, CliArgs *args) {
    ChatOptions o = {.sampling = CLI_SAMPLING_DEFAULTS(-1)};
    int status = cli_parse(command, args, &o);
    if (status != CLI_GO) return status;
    if (strcmp(args->positionals[0], "-") == 0)
        return cli_usage_error(command, "standard input has the messages: the spec must be a file");
    const char *spec = cli_find_model(command, args, &o.model);
    if (!spec) return CLI_USAGE;
    if (cli_is_standard(o.state_out)) return cli_usage_error(command, "standard output has the text: --state-out needs a file");
    return cli_model_command(spec, &o.model, chat, &o);
}

const CliCommand cli_chat = {
    .name = "chat",
    .summary = "talk with a model",
    .synopsis = "MODEL [-w WEIGHTS...] [OPTION]...",
    .about = "Reads messages, one a line, from standard input and prints the model's answers. MODEL is a spec, or what "
             "stands for one (below). Messages are put into the model's chat template; its state has all that came before, so that "
             "a turn "
             "costs its own tokens only. Ctrl-C ends an answer, or the reading of a message, which is then taken back; the end of "
             "input, /exit, or SIGTERM during an answer ends the conversation. /help lists the "
             "commands: /undo, /clear, /system, /save, /load. A message that begins with / is written with //.\n\n" CLI_ABOUT_GIVEN
             "\n\n" CLI_ABOUT_SAMPLING "\n\n"
             "Special tokens that a message spells, such as <|im_end|>, are those tokens.",
    .examples = "mossc chat smollm2\n"
                "mossc chat granite --system 'Answer in one sentence.' --temp 0\n"
                "echo 'Name three rivers.' | mossc chat smollm2 -n 100\n",
    .options = table,
    .n_options = sizeof table / sizeof table[0],
    .takes_given = true,
    .runs_model = true,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
