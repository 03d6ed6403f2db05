/* Diagnostics, to standard error. */
#ifndef MOSSC_CLI_SHOW_H
#define MOSSC_CLI_SHOW_H

#include <stdbool.h>

#include "support/diag.h"

void cli_show(const SuDiags *diags);
/* The end of a command: shows what was found, behind what stands on standard output, and frees it. The exit status. */
int cli_finish(SuDiags *diags, bool ok);
/* Whether a mistake of ours was among what was shown: then the exit status is CLI_BUG. */
bool cli_saw_bug(void);

#endif
