/* Completion of zsh and fish. */
#include <string.h>

#include "cli/shell/shell.h"

/* ---- zsh: _arguments */

/* Within '[…]' of a specification in single quotes. */
static void zsh_quoted(const char *text, SuText *out) {
    for (; *text; text++) {
        if (strchr("[]:\\", *text)) su_text_add(out, "\\");
        if (*text == '\'')
            su_text_add(out, "'\\''");
        else
            su_text_append(out, text, 1);
    }
}

static void zsh_option(const CliOption *option, SuText *out) {
    char name[CLI_OPTION_NAME];
    for (int part = 0; cli_option_name(option, part, name); part++) {
        SuText help = {0}, values = {0};
        cli_short_help(option->kind == CLI_NO_PASSES ? ps_pass_help((PsPass)part) : option->help, &help);
        cli_option_values(option, &values);
        su_text_add(out, " \\\n        ");
        if (option->kind == CLI_TEXTS || option->kind == CLI_LIST)
            su_text_add(out, "'*'");
        else if (option->letter)
            su_text_add(out, "'(-%c --%s)'", option->letter, name);
        if (option->letter)
            su_text_add(out, "{-%c,--%s}'[", option->letter, name);
        else if (strlen(name) == 2)
            su_text_add(out, "{-%s,--%s}'[", name, name);
        else
            su_text_add(out, "'--%s[", name);
        zsh_quoted(help.text, out);
        su_text_add(out, "]");
        if (option->argument) {
            su_text_add(out, ":");
            zsh_quoted(option->argument, out);
            if (values.size)
                su_text_add(out, ":(%s)", values.text);
            else
                su_text_add(out, option->kind == CLI_TEXT || option->kind == CLI_TEXTS ? ":_files" : ": ");
        }
        su_text_add(out, "'");
        su_text_free(&help);
        su_text_free(&values);
    }
}

static void zsh_command(const CliCommand *command, SuText *out) {
    SuText words = {0};
    cli_positionals(command, &words);
    su_text_add(out, "    '%s')\n        _arguments -s '(-h --help)'{-h,--help}'[print help]'", command->name);
    for (size_t i = 0; cli_option(command, i); i++) zsh_option(cli_option(command, i), out);
    if (words.size)
        su_text_add(out, " \\\n        '*:argument:(%s)'", words.text);
    else if (command->most_positionals)
        su_text_add(out, " \\\n        '*:file:_files'");
    su_text_add(out, " ;;\n");
    su_text_free(&words);
}

void cli_print_zsh(SuText *out) {
    su_text_add(out, "#compdef mossc\n"
                     "# zsh completion of mossc, made by `mossc completion zsh`\n"
                     "_mossc() {\n"
                     "    local -a commands\n"
                     "    commands=(\n");
    for (size_t i = 0; cli_command(i); i++) {
        const CliCommand *command = cli_command(i);
        if (strchr(command->name, ' ')) continue;
        su_text_add(out, "        '%s:", command->name);
        zsh_quoted(command->summary, out);
        su_text_add(out, "'\n");
    }
    su_text_add(out, "        'help:tell about a command or a topic'\n"
                     "    )\n"
                     "    if (( CURRENT == 2 )); then\n"
                     "        _describe -t commands command commands\n"
                     "        return\n"
                     "    fi\n"
                     "    local command=$words[2]\n"
                     "    shift words\n"
                     "    (( CURRENT-- ))\n");
    for (size_t i = 0; cli_command(i); i++) {
        const char *name = cli_command(i)->name, *space = strchr(name, ' ');
        if (!space) continue;
        su_text_add(out,
                    "    if [[ $command == '%.*s' && $words[2] == '%s' ]] && (( CURRENT > 2 )); then\n"
                    "        command='%s'\n        shift words\n        (( CURRENT-- ))\n    fi\n",
                    (int)(space - name), name, space + 1, name);
    }
    su_text_add(out, "    case $command in\n");
    for (size_t i = 0; cli_command(i); i++) zsh_command(cli_command(i), out);
    zsh_command(&cli_help_words, out);
    su_text_add(out, "    esac\n}\nif [[ $funcstack[1] == _mossc ]]; then _mossc \"$@\"; else compdef _mossc mossc; fi\n");
}

/* ---- fish */

static void fish_quoted(const char *text, SuText *out) {
    su_text_add(out, "'");
    for (; *text; text++) su_text_add(out, *text == '\'' || *text == '\\' ? "\\%c" : "%c", *text);
    su_text_add(out, "'");
}

/* The condition under which a command's lines count. */
static void fish_line(const CliCommand *command, SuText *out) {
    const char *space = strchr(command->name, ' ');
    if (space)
        su_text_add(out, "complete -c mossc -n '__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %s'",
                    (int)(space - command->name), command->name, space + 1);
    else
        su_text_add(out, "complete -c mossc -n '__fish_seen_subcommand_from %s'", command->name);
}

static void fish_option(const CliCommand *command, const CliOption *option, SuText *out) {
    char name[CLI_OPTION_NAME];
    for (int part = 0; cli_option_name(option, part, name); part++) {
        SuText help = {0}, values = {0};
        cli_short_help(option->kind == CLI_NO_PASSES ? ps_pass_help((PsPass)part) : option->help, &help);
        cli_option_values(option, &values);
        fish_line(command, out);
        if (option->letter) su_text_add(out, " -s %c", option->letter);
        if (strlen(name) == 2) su_text_add(out, " -o %s", name);
        su_text_add(out, " -l %s", name);
        if (values.size)
            su_text_add(out, " -x -a '%s'", values.text);
        else if (option->argument)
            su_text_add(out, option->kind == CLI_TEXT || option->kind == CLI_TEXTS ? " -r -F" : " -x");
        su_text_add(out, " -d ");
        fish_quoted(help.text, out);
        su_text_add(out, "\n");
        su_text_free(&help);
        su_text_free(&values);
    }
}

static void fish_command(const CliCommand *command, SuText *out) {
    const char *space = strchr(command->name, ' ');
    SuText words = {0};
    cli_positionals(command, &words);
    if (space)
        su_text_add(out, "complete -c mossc -n '__fish_seen_subcommand_from %.*s' -a %s -d ", (int)(space - command->name),
                    command->name, space + 1);
    else
        su_text_add(out, "complete -c mossc -f -n __fish_use_subcommand -a %s -d ", command->name);
    fish_quoted(command->summary, out);
    su_text_add(out, "\n");
    if (words.size) {
        fish_line(command, out);
        su_text_add(out, " -f -a '%s'\n", words.text);
    }
    fish_line(command, out);
    su_text_add(out, " -s h -l help -d 'print help'\n");
    for (size_t i = 0; cli_option(command, i); i++) fish_option(command, cli_option(command, i), out);
    su_text_free(&words);
}

void cli_print_fish(SuText *out) {
    su_text_add(out, "# fish completion of mossc, made by `mossc completion fish`\n"
                     "complete -c mossc -f -n __fish_use_subcommand -l help -d 'print help'\n"
                     "complete -c mossc -f -n __fish_use_subcommand -l version -d 'print the version'\n");
    for (size_t i = 0; cli_command(i); i++) fish_command(cli_command(i), out);
    fish_command(&cli_help_words, out);
}
