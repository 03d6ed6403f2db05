/* Blocks in a few words. */
#ifndef MOSSC_CLI_DESCRIBE_H
#define MOSSC_CLI_DESCRIBE_H

#include "frontend/spec.h"
#include "support/str.h"

/* What is special about a block: "8 experts, top 2, outputs", "window 512"; adds nothing where nothing is. */
void cli_describe_block(const FeBlock *block, SuText *out);

#endif
