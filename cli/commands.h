/* The commands, one file each; main.c lists them. */
#ifndef MOSSC_CLI_COMMANDS_H
#define MOSSC_CLI_COMMANDS_H

#include "cli/options.h"

extern const CliCommand cli_compile, cli_cache, cli_explain, cli_explore, cli_limits, cli_tune, cli_targets, cli_warm;
extern const CliCommand cli_check, cli_run, cli_eval, cli_logits, cli_bench, cli_init, cli_pack, cli_quantize, cli_import, cli_info,
    cli_ir, cli_asm, cli_schema;

#endif
