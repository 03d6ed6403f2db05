/* mossc completion: scripts that complete commands, options and their values, for three shells. */
#include <string.h>

#include "cli/shell/shell.h"

/* ---- what all shells are told */

bool cli_option_name(const CliOption *option, int part, char out[CLI_OPTION_NAME]) {
    if (option->kind != CLI_NO_PASSES) {
        snprintf(out, CLI_OPTION_NAME, "%s", option->name);
        return part == 0;
    }
    if (part >= PS_PASS_COUNT) return false;
    snprintf(out, CLI_OPTION_NAME, "no-%s", ps_pass_name((PsPass)part));
    return true;
}

static void add_word(SuText *out, const char *word) { su_text_add(out, "%s%s", out->size ? " " : "", word); }

void cli_option_values(const CliOption *option, SuText *out) {
    for (int i = 0; option->kind == CLI_WORD && option->words[i]; i++) add_word(out, option->words[i]);
    for (int i = 0; option->kind == CLI_PASS && i <= (int)option->most; i++) add_word(out, ps_pass_name((PsPass)i));
}

void cli_positionals(const CliCommand *command, SuText *out) {
    for (size_t i = 0; command->words && command->words[i]; i++) add_word(out, command->words[i]);
    for (size_t i = 0; command->takes_command && cli_command(i); i++)
        if (!strchr(cli_command(i)->name, ' ')) add_word(out, cli_command(i)->name);
}

enum { LONGEST = 90 };

void cli_short_help(const char *help, SuText *out) {
    size_t size = 0;
    while (help[size] && !strchr(";\n", help[size]) && !(size > 12 && help[size] == '(')) size++;
    if (size > LONGEST) {
        size = LONGEST;
        while (size > 0 && help[size] != ' ') size--;
    }
    while (size > 0 && strchr(" ,:", help[size - 1])) size--;
    for (size_t i = 0; i < size; i++)
        if (!strchr("'`\"", help[i])) su_text_append(out, &help[i], 1);
}

/* Whether the value is a file or may be one. */
static bool is_file(const CliOption *option) { return option->kind == CLI_TEXT || option->kind == CLI_TEXTS; }

/* ---- bash */

/* All options of a command: "--help -h --weights -w". */
static void add_options(const CliCommand *command, SuText *out) {
    char name[CLI_OPTION_NAME];
    su_text_add(out, "--help -h");
    for (size_t i = 0; cli_option(command, i); i++) {
        const CliOption *option = cli_option(command, i);
        for (int part = 0; cli_option_name(option, part, name); part++) su_text_add(out, " --%s", name);
        if (option->letter) su_text_add(out, " -%c", option->letter);
        if (strlen(option->name) == 2) su_text_add(out, " -%s", option->name);
    }
}

/* The cases of options with a value. */
static void bash_values(const CliCommand *command, SuText *out) {
    for (size_t i = 0; cli_option(command, i); i++) {
        const CliOption *option = cli_option(command, i);
        if (!option->argument) continue;
        SuText values = {0};
        cli_option_values(option, &values);
        su_text_add(out, "        '%s --%s'", command->name, option->name);
        if (option->letter) su_text_add(out, "|'%s -%c'", command->name, option->letter);
        if (strlen(option->name) == 2) su_text_add(out, "|'%s -%s'", command->name, option->name);
        if (values.size)
            su_text_add(out, ") COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", values.text);
        else
            su_text_add(out, ") %sreturn ;;\n", is_file(option) ? "compopt -o default; " : "");
        su_text_free(&values);
    }
}

static void bash_command(const CliCommand *command, SuText *out) {
    SuText options = {0}, words = {0};
    add_options(command, &options);
    cli_positionals(command, &words);
    su_text_add(out, "        '%s') options='%s'; words='%s'; files=%d ;;\n", command->name, options.text,
                words.size ? words.text : "", command->most_positionals > 0 && !words.size);
    su_text_free(&options);
    su_text_free(&words);
}

/* Commands of one word and of a command's parts: "check run", of "explore": "merge spec". */
static void add_names(const char *of, SuText *out) {
    const size_t size = strlen(of);
    for (size_t i = 0; cli_command(i); i++) {
        const char *name = cli_command(i)->name;
        if (size ? strncmp(name, of, size) == 0 && name[size] == ' ' : !strchr(name, ' '))
            add_word(out, size ? name + size + 1 : name);
    }
}

void cli_print_bash(SuText *out) {
    SuText names = {0};
    add_names("", &names);
    su_text_add(
        out,
        "# bash completion of mossc, made by `mossc completion bash`\n"
        "_mossc() {\n"
        "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} options words files\n"
        "    COMPREPLY=()\n"
        "    if [[ $COMP_CWORD -eq 1 ]]; then\n"
        "        COMPREPLY=($(compgen -W '%s help --help --version' -- \"$cur\"))\n"
        "        return\n"
        "    fi\n"
        "    if [[ $prev == '=' ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
        "    if [[ $cur == '=' ]]; then cur=''; fi\n",
        names.text);
    su_text_free(&names);
    for (size_t i = 0; cli_command(i); i++)
        if (strchr(cli_command(i)->name, ' '))
            su_text_add(out, "    if [[ $COMP_CWORD -gt 2 && \"$command ${COMP_WORDS[2]}\" == '%s' ]]; then command='%s'; fi\n",
                        cli_command(i)->name, cli_command(i)->name);
    su_text_add(out, "    case \"$command $prev\" in\n");
    for (size_t i = 0; cli_command(i); i++) bash_values(cli_command(i), out);
    su_text_add(out, "    esac\n    case $command in\n");
    for (size_t i = 0; cli_command(i); i++) bash_command(cli_command(i), out);
    SuText topics = {0};
    cli_positionals(&cli_help_words, &topics);
    su_text_add(out, "        help) options=''; words='%s'; files=0 ;;\n    esac\n", topics.text);
    su_text_free(&topics);
    for (size_t i = 0; cli_command(i); i++) {
        SuText parts = {0};
        add_names(cli_command(i)->name, &parts);
        if (parts.size)
            su_text_add(out, "    if [[ $COMP_CWORD -eq 2 && $command == '%s' ]]; then words='%s'; fi\n", cli_command(i)->name,
                        parts.text);
        su_text_free(&parts);
    }
    su_text_add(out, "    if [[ $cur == -* ]]; then\n"
                     "        COMPREPLY=($(compgen -W \"$options\" -- \"$cur\"))\n"
                     "    else\n"
                     "        COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
                     "        if [[ $files == 1 ]]; then compopt -o default; fi\n"
                     "    fi\n"
                     "}\n"
                     "complete -F _mossc mossc\n");
}

/* ---- the command */

static const char *const shells[] = {"bash", "zsh", "fish", NULL};

static int run(const CliCommand *command, CliArgs *args) {
    static void (*const prints[])(SuText *) = {cli_print_bash, cli_print_zsh, cli_print_fish};
    int nothing; /* there are no options */
    const int status = cli_parse(command, args, &nothing);
    if (status != CLI_GO) return status;
    for (int i = 0; shells[i]; i++) {
        if (strcmp(shells[i], args->positionals[0]) != 0) continue;
        SuText text = {0};
        prints[i](&text);
        fputs(text.text, stdout);
        su_text_free(&text);
        return CLI_OK;
    }
    return cli_usage_error(command, "expected bash, zsh or fish, got '%s'", args->positionals[0]);
}

const CliCommand cli_completion = {
    .name = "completion",
    .summary = "print a script that completes command lines",
    .synopsis = "bash|zsh|fish",
    .about =
        "Prints a script with which a shell completes mossc's commands, options and their values. Installing mossc installs the "
        "scripts too.",
    .examples = "eval \"$(mossc completion bash)\"\n"
                "mossc completion zsh > \"${fpath[1]}/_mossc\"\n"
                "mossc completion fish > ~/.config/fish/completions/mossc.fish\n",
    .words = shells,
    .least_positionals = 1,
    .most_positionals = 1,
    .run = run,
};
