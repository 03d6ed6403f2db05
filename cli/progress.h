/* Progress of long work, on standard error: nothing for the first two seconds, nothing at all where standard error is not a
 * terminal, unless --progress asks for it. */
#ifndef MOSSC_CLI_PROGRESS_H
#define MOSSC_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "driver/progress.h"

typedef struct CliProgress {
    bool terminal; /* one line, rewritten; else a line each time */
    bool on;
    bool shown;       /* something stands on the terminal's line */
    const char *what; /* "loading weights" */
    const char *unit; /* "tokens", or "bytes": shown as MiB, GiB */
    double start, last;
} CliProgress;

/* asked: --progress was given. */
CliProgress cli_progress_start(bool asked, const char *what, const char *unit);
void cli_progress_update(CliProgress *progress, uint64_t done, uint64_t total);
/* Shows on a terminal what is being done: for work that cannot tell how far it is. */
void cli_progress_say(CliProgress *progress);
/* Clears the terminal's line; with --progress elsewhere, says how long it took. */
void cli_progress_end(CliProgress *progress);
/* The same as cli_progress_update, in the shape of MossProgress; context is the CliProgress. */
void cli_progress_callback(void *context, uint64_t done, uint64_t total);

/* What the driver is given to tell its progress, one piece of work after another. */
typedef struct CliReporter {
    bool asked;
    CliProgress progress;
} CliReporter;

/* `reporter` must live as long. */
DrProgress cli_reporter_hooks(CliReporter *reporter);

#endif
