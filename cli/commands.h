/* The commands, one file each; main.c lists them. */
#ifndef MOSSC_CLI_COMMANDS_H
#define MOSSC_CLI_COMMANDS_H

#include "cli/options.h"

extern const CliCommand cli_compile, cli_cache, cli_explain, cli_explore, cli_limits, cli_tune, cli_targets, cli_warm;
extern const CliCommand cli_check, cli_chat, cli_run, cli_eval, cli_logits, cli_bench, cli_init, cli_pack, cli_quantize, cli_import,
    cli_info, cli_ir, cli_asm, cli_schema;

extern const CliCommand cli_completion, cli_export, cli_man;

/* The commands from 0 on, and behind each one its parts; NULL after the last one. (main.c) */
const CliCommand *cli_command(size_t i);
/* What completes `mossc help`; no command. */
extern const CliCommand cli_help_words;

#define CLI_ABOUT_MOSSC                                                                                                            \
    "Compiles state-space language models with experts, described in YAML, to code for this machine or an\n"                       \
    "ARM device, and runs them.\n"

#endif
