/* Parsing a command's arguments by its table. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/given.h"
#include "support/str.h"

const char *const cli_isa_words[] = {"best", "avx512", "avx2", "neon", "bf16-in-ir", NULL};
const char *const cli_debugger_words[] = {"none", "gdb", "perf", NULL};

/* Behind the rows of every command that runs a model. */
static const CliOption model_options[] = {
    CLI_OPTION_DEVICE(CliModelOptions),    CLI_OPTION_FAST(CliModelOptions),     CLI_OPTION_THREADS(CliModelOptions),
    CLI_OPTION_NO_PASSES(CliModelOptions), CLI_OPTION_ISA(CliModelOptions),      CLI_OPTION_NO_CACHE(CliModelOptions),
    CLI_OPTION_NO_TUNE(CliModelOptions),   CLI_OPTION_DEBUGGER(CliModelOptions), CLI_OPTION_SET(CliModelOptions),
    CLI_OPTION_PROGRESS(CliModelOptions),
};

enum { N_MODEL_OPTIONS = sizeof model_options / sizeof model_options[0] };

static bool has_own(const CliCommand *command, const char *name) {
    for (size_t i = 0; i < command->n_options; i++)
        if (strcmp(command->options[i].name, name) == 0) return true;
    return false;
}

const CliOption *cli_option(const CliCommand *command, size_t i) {
    if (i < command->n_options) return &command->options[i];
    size_t left = i - command->n_options;
    for (size_t j = 0; command->runs_model && j < N_MODEL_OPTIONS; j++)
        if (!has_own(command, model_options[j].name) && left-- == 0) return &model_options[j];
    return NULL;
}

static size_t count_options(const CliCommand *command) {
    size_t count = 0;
    while (cli_option(command, count)) count++;
    return count;
}

int cli_usage_error(const CliCommand *command, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "mossc %s: ", command->name);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nTry 'mossc %s --help'.\n", command->name);
    va_end(args);
    return CLI_USAGE;
}

/* The arguments being read. */
typedef struct Parser {
    const CliCommand *command;
    CliArgs *args;
    char *base;     /* the command's struct */
    bool *seen;     /* [count_options] */
    int next;       /* of argv */
    size_t text_capacity; /* of each CliTexts and of the positionals: no list is longer than argv */
} Parser;

/* ---------------------------------------------------------------------------------------------- values */

static const char *shown(const Parser *p, const CliOption *option) { return su_printf(&p->args->arena, "--%s", option->name); }

static int bad_value(const Parser *p, const CliOption *option, const char *value, const char *expected) {
    return cli_usage_error(p->command, "%s: expected %s, got '%s'", shown(p, option), expected, value);
}

static int set_int(const Parser *p, const CliOption *option, const char *value) {
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    bool is_number = end != value && !*end && errno == 0;
    if (!is_number || (double)number < option->least || (double)number > option->most)
        return bad_value(p, option, value, su_printf(&p->args->arena, "an integer from %.0f to %.0f", option->least, option->most));
    *(int64_t *)(void *)(p->base + option->offset) = number;
    return CLI_GO;
}

static int set_list(const Parser *p, const CliOption *option, const char *value) {
    CliList *list = (CliList *)(void *)(p->base + option->offset);
    for (const char *at = value;; at++) {
        char *end;
        errno = 0;
        long long number = strtoll(at, &end, 10);
        bool is_number = end != at && (!*end || *end == ',') && errno == 0;
        if (!is_number || (double)number < option->least || (double)number > option->most)
            return bad_value(
                p, option, value,
                su_printf(&p->args->arena, "integers from %.0f to %.0f with commas between", option->least, option->most));
        list->items = su_grow(&p->args->arena, list->items, &list->capacity, list->count + 1, sizeof *list->items);
        list->items[list->count++] = number;
        at = end;
        if (!*at) return CLI_GO;
    }
}

static int set_real(const Parser *p, const CliOption *option, const char *value) {
    char *end;
    double number = strtod(value, &end);
    if (end == value || *end || !isfinite(number) || number < option->least || number > option->most)
        return bad_value(p, option, value, su_printf(&p->args->arena, "a number from %g to %g", option->least, option->most));
    *(double *)(void *)(p->base + option->offset) = number;
    return CLI_GO;
}

static int set_seed(const Parser *p, const CliOption *option, const char *value) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || errno) return bad_value(p, option, value, "an integer from 0 to 2^64 - 1");
    *(uint64_t *)(void *)(p->base + option->offset) = number;
    return CLI_GO;
}

static int set_word(const Parser *p, const CliOption *option, const char *value) {
    SuText all = {0};
    int found = -1;
    for (int i = 0; option->words[i]; i++) {
        if (strcmp(value, option->words[i]) == 0) found = i;
        su_text_add(&all, "%s%s", i ? (option->words[i + 1] ? ", " : " or ") : "", option->words[i]);
    }
    int status = CLI_GO;
    if (found < 0)
        status = bad_value(p, option, value, all.text);
    else
        *(int *)(void *)(p->base + option->offset) = found;
    su_text_free(&all);
    return status;
}

/* The pass called `name`; -1 after a usage error. */
static int pass_index(const Parser *p, const CliOption *option, const char *name) {
    const char *names[PS_PASS_COUNT];
    int count = (int)option->most + 1;
    for (int i = 0; i < count; i++) {
        names[i] = ps_pass_name((PsPass)i);
        if (strcmp(name, names[i]) == 0) return i;
    }
    const char *near = su_nearest(name, names, (size_t)count);
    cli_usage_error(p->command, "--%s: unknown pass '%s'%s%s%s", option->name, name, near ? "; did you mean '" : "",
                    near ? near : "", near ? "'?" : "");
    return -1;
}

static void add_text(const Parser *p, CliTexts *texts, const char *value) {
    if (!texts->items) texts->items = SU_NEW_ARRAY(&p->args->arena, const char *, p->text_capacity);
    texts->items[texts->count++] = value;
}

/* Stores `value` (NULL for a flag) for an option. */
static int set_value(const Parser *p, const CliOption *option, const char *value) {
    void *at = p->base + option->offset;
    switch (option->kind) {
    case CLI_FLAG: *(bool *)at = true; return CLI_GO;
    case CLI_TEXT: *(const char **)at = value; return CLI_GO;
    case CLI_TEXTS: add_text(p, at, value); return CLI_GO;
    case CLI_LIST: return set_list(p, option, value);
    case CLI_INT: return set_int(p, option, value);
    case CLI_REAL: return set_real(p, option, value);
    case CLI_SEED: return set_seed(p, option, value);
    case CLI_OWN_SEED: ((CliSeed *)at)->given = true; return set_seed(p, option, value);
    case CLI_WORD: return set_word(p, option, value);
    case CLI_PASS: {
        int pass = pass_index(p, option, value);
        if (pass < 0) return CLI_USAGE;
        *(int *)at = pass;
        return CLI_GO;
    }
    case CLI_NO_PASSES: return CLI_GO; /* handled by long_option: the name says which */
    }
    return CLI_GO;
}

/* ---------------------------------------------------------------------------------------------- options */

/* Takes the value that follows (in the same argument after `inline_value`, or the next argument). */
static int take_value(Parser *p, const CliOption *option, const char *as_written, const char *inline_value) {
    if (!option->argument) {
        if (inline_value) return cli_usage_error(p->command, "%s takes no value", as_written);
        return set_value(p, option, NULL);
    }
    if (inline_value) return set_value(p, option, inline_value);
    if (p->next >= p->args->argc)
        return cli_usage_error(p->command, "%s needs a value: %s %s", as_written, as_written, option->argument);
    return set_value(p, option, p->args->argv[p->next++]);
}

static int unknown_option(const Parser *p, const char *name) {
    const CliCommand *command = p->command;
    const char *names[64 + PS_PASS_COUNT];
    size_t count = 0;
    for (size_t i = 0; i < count_options(command) && count < 60; i++) {
        const CliOption *option = cli_option(command, i);
        if (option->kind != CLI_NO_PASSES) {
            names[count++] = option->name;
            continue;
        }
        for (int pass = 0; pass < PS_PASS_COUNT; pass++)
            names[count++] = su_printf(&p->args->arena, "no-%s", ps_pass_name((PsPass)pass));
    }
    names[count++] = "help";
    const char *near = su_nearest(name, names, count);
    if (near) return cli_usage_error(command, "unknown option '--%s'; did you mean '--%s'?", name, near);
    return cli_usage_error(command, "unknown option '--%s'", name);
}

/* "--name", "--name=value". */
static int long_option(Parser *p, const char *argument) {
    const char *equals = strchr(argument, '=');
    size_t size = equals ? (size_t)(equals - argument) : strlen(argument);
    const char *name = su_strndup(&p->args->arena, argument + 2, size - 2);
    const char *as_written = su_strndup(&p->args->arena, argument, size);
    for (size_t i = 0; i < count_options(p->command); i++) {
        const CliOption *option = cli_option(p->command, i);
        if (option->kind == CLI_NO_PASSES) {
            if (strncmp(name, "no-", 3) != 0) continue;
            PsPass pass = ps_pass_by_name(name + 3);
            if (pass == PS_PASS_COUNT) continue;
            if (equals) return cli_usage_error(p->command, "%s takes no value", as_written);
            ((bool *)(void *)(p->base + option->offset))[pass] = true;
            return CLI_GO;
        }
        if (strcmp(name, option->name) != 0) continue;
        p->seen[i] = true;
        return take_value(p, option, as_written, equals ? equals + 1 : NULL);
    }
    return unknown_option(p, name);
}

/* "-n value", "-nvalue", "-pg value". */
static int short_option(Parser *p, const char *argument) {
    const char *as_written = su_strndup(&p->args->arena, argument, 2);
    for (size_t i = 0; i < count_options(p->command); i++) {
        const CliOption *option = cli_option(p->command, i);
        if (strlen(option->name) == 2 && strcmp(option->name, argument + 1) == 0) {
            p->seen[i] = true;
            return take_value(p, option, argument, NULL);
        }
    }
    for (size_t i = 0; i < count_options(p->command); i++) {
        const CliOption *option = cli_option(p->command, i);
        if (option->letter != argument[1]) continue;
        p->seen[i] = true;
        return take_value(p, option, as_written, argument[2] ? argument + 2 : NULL);
    }
    return cli_usage_error(p->command, "unknown option '%s'", as_written);
}

/* ---------------------------------------------------------------------------------------------- all of them */

static bool is_help(const char *argument) { return strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0; }

/* True when --help stands among the arguments before "--". It wins over every mistake beside it. */
static bool wants_help(const CliArgs *args) {
    for (int i = 0; i < args->argc && strcmp(args->argv[i], "--") != 0; i++)
        if (is_help(args->argv[i])) return true;
    return false;
}

/* What the weights belong to may bring them. */
static bool is_brought(const Parser *p, const CliOption *option) {
    return p->command->takes_given && strcmp(option->name, "weights") == 0 && p->args->n_positionals &&
           cli_brings_weights(p->args->positionals[0]);
}

static int check_counts(const Parser *p) {
    const CliCommand *command = p->command;
    for (size_t i = 0; i < count_options(command); i++) {
        const CliOption *option = cli_option(command, i);
        if (!option->needed || p->seen[i] || is_brought(p, option)) continue;
        if (option->letter)
            return cli_usage_error(command, "-%c %s (--%s) is needed", option->letter, option->argument, option->name);
        return cli_usage_error(command, "--%s %s is needed", option->name, option->argument);
    }
    if (p->args->n_positionals < command->least_positionals)
        return cli_usage_error(command, "missing argument: mossc %s %s", command->name, command->synopsis);
    if (p->args->n_positionals > command->most_positionals)
        return cli_usage_error(command, "unexpected argument '%s'", p->args->positionals[command->most_positionals]);
    return CLI_GO;
}

int cli_parse(const CliCommand *command, CliArgs *args, void *options) {
    if (wants_help(args)) {
        cli_print_help(command, stdout);
        return CLI_OK;
    }
    Parser p = {.command = command, .args = args, .base = options, .text_capacity = (size_t)args->argc + 1};
    p.seen = SU_NEW_ARRAY(&args->arena, bool, count_options(command) + 1);
    args->positionals = SU_NEW_ARRAY(&args->arena, const char *, p.text_capacity);
    bool only_positionals = false;
    while (p.next < args->argc) {
        const char *argument = args->argv[p.next++];
        int status = CLI_GO;
        if (only_positionals || argument[0] != '-' || !argument[1])
            args->positionals[args->n_positionals++] = argument;
        else if (strcmp(argument, "--") == 0)
            only_positionals = true;
        else if (argument[1] == '-')
            status = long_option(&p, argument);
        else
            status = short_option(&p, argument);
        if (status != CLI_GO) return status;
    }
    return check_counts(&p);
}

/* ---------------------------------------------------------------------------------------------- help */

enum { HELP_WIDTH = 100, HELP_INDENT = 28 };

/* Prints `text` broken at blanks; the first line goes on at `column`, further ones start at `indent`. */
static void print_wrapped(const char *text, int column, int indent, FILE *out) {
    bool line_empty = true;
    while (*text) {
        int size = (int)strcspn(text, " \n");
        bool breaks = !line_empty && column + 1 + size > HELP_WIDTH;
        if (breaks) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (!line_empty) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, (size_t)size, out);
        column += size;
        text += size;
        line_empty = false;
        for (; *text == '\n'; text++) {
            fputc('\n', out);
            column = indent;
            line_empty = true;
        }
        if (line_empty) fprintf(out, "%*s", indent, "");
        if (*text == ' ') text++;
    }
    fputc('\n', out);
}

static void print_row(const char *left, const char *help, FILE *out) {
    int width = (int)strlen(left);
    fprintf(out, "%s", left);
    if (width > HELP_INDENT - 2)
        fprintf(out, "\n%*s", HELP_INDENT, "");
    else
        fprintf(out, "%*s", HELP_INDENT - width, "");
    print_wrapped(help, HELP_INDENT, HELP_INDENT, out);
}

static void print_option(const CliOption *option, FILE *out) {
    char left[96];
    if (option->kind == CLI_NO_PASSES) {
        for (int i = 0; i < PS_PASS_COUNT; i++) {
            snprintf(left, sizeof left, "      --no-%s", ps_pass_name((PsPass)i));
            char help[256];
            snprintf(help, sizeof help, "skip this pass: %s", ps_pass_help((PsPass)i));
            print_row(left, help, out);
        }
        return;
    }
    char letter[8] = "    ";
    if (option->letter) snprintf(letter, sizeof letter, "-%c, ", option->letter);
    if (strlen(option->name) == 2) snprintf(letter, sizeof letter, "-%s, ", option->name);
    snprintf(left, sizeof left, "  %s--%s%s%s", letter, option->name, option->argument ? " " : "",
             option->argument ? option->argument : "");
    char help[512];
    snprintf(help, sizeof help, "%s%s", option->help, option->needed ? " (needed)" : "");
    print_row(left, help, out);
}

void cli_print_help(const CliCommand *command, FILE *out) {
    fprintf(out, "usage: mossc %s %s\n\n", command->name, command->synopsis);
    print_wrapped(command->about, 0, 0, out);
    fputs("\noptions:\n", out);
    for (size_t i = 0; i < count_options(command); i++) print_option(cli_option(command, i), out);
    print_row("  -h, --help", "print this text", out);
    fputs("\nexamples:\n", out);
    const char *line = command->examples;
    while (*line) {
        int size = (int)strcspn(line, "\n");
        fprintf(out, "  %.*s\n", size, line);
        line += size + (line[size] == '\n');
    }
}

bool cli_is_standard(const char *output) { return output && strcmp(output, "-") == 0; }
