/* What shells are told of the commands: completion and manual pages, from the same tables as parsing and help. */
#ifndef MOSSC_CLI_SHELL_SHELL_H
#define MOSSC_CLI_SHELL_SHELL_H

#include "cli/commands.h"
#include "support/str.h"

/* A long option as it is written: of a row for all passes there are several. Returns false after the last one (`part` counts them). */
bool cli_option_name(const CliOption *option, int part, char out[CLI_OPTION_NAME]);
/* What an option's value may be, with spaces between; "": anything, or nothing that can be listed. */
void cli_option_values(const CliOption *option, SuText *out);
/* What positional arguments may be, with spaces between; "": files. */
void cli_positionals(const CliCommand *command, SuText *out);
/* The first clause of an option's help: one line, without quotes. */
void cli_short_help(const char *help, SuText *out);

/* The scripts. */
void cli_print_bash(SuText *out);
void cli_print_zsh(SuText *out);
void cli_print_fish(SuText *out);

/* A page in roff (man(7)): of a command, or of mossc. */
void cli_print_man(const CliCommand *command, SuText *out);
void cli_print_man_overview(SuText *out);

#endif
