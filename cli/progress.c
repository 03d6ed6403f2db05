/* Progress lines. */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/format.h"
#include "support/clock.h"

CliProgress cli_progress_start(bool asked, const char *what, const char *unit) {
    bool terminal = isatty(STDERR_FILENO) == 1;
    return (CliProgress){.terminal = terminal, .on = terminal || asked, .what = what, .unit = unit, .start = su_seconds()};
}

static void print_amount(const CliProgress *progress, uint64_t amount) {
    if (strcmp(progress->unit, "bytes") == 0) {
        char text[CLI_NUMBER];
        fputs(cli_bytes((double)amount, text), stderr);
    } else {
        fprintf(stderr, "%llu", (unsigned long long)amount);
    }
}

void cli_progress_update(CliProgress *progress, uint64_t done, uint64_t total) {
    if (!progress->on) return;
    double now = su_seconds();
    double pause = progress->terminal ? 0.2 : 2.0;
    if (now - progress->start < 2.0 || now - progress->last < pause) return;
    progress->last = now;
    progress->shown = true;
    fprintf(stderr, "%s%s: ", progress->terminal ? "\r\033[K" : "mossc: ", progress->what);
    print_amount(progress, done);
    if (total) {
        fputs(" of ", stderr);
        print_amount(progress, total);
    }
    if (strcmp(progress->unit, "bytes") != 0) fprintf(stderr, " %s", progress->unit);
    double rate = (double)done / (now - progress->start);
    if (total > done && rate > 0) fprintf(stderr, ", %.0f s left", (double)(total - done) / rate);
    if (!progress->terminal) fputc('\n', stderr);
    fflush(stderr);
}

void cli_progress_say(CliProgress *progress) {
    if (!progress->terminal) return;
    fprintf(stderr, "\r\033[K%s ...", progress->what);
    fflush(stderr);
    progress->shown = true;
}

void cli_progress_callback(void *context, uint64_t done, uint64_t total) { cli_progress_update(context, done, total); }

void cli_progress_end(CliProgress *progress) {
    if (!progress->on) return;
    if (progress->terminal) {
        if (progress->shown) fputs("\r\033[K", stderr);
    } else {
        fprintf(stderr, "mossc: %s: done in %.1f s\n", progress->what, su_seconds() - progress->start);
    }
    fflush(stderr);
    progress->on = false;
}

/* ---------------------------------------------------------------------------------------------- the driver's */

static void begin(void *context, const char *what, const char *unit, bool counts) {
    CliReporter *reporter = context;
    reporter->progress = cli_progress_start(reporter->asked, what, unit);
    if (!counts) cli_progress_say(&reporter->progress);
}

static void update(void *context, uint64_t done, uint64_t total) {
    CliReporter *reporter = context;
    cli_progress_update(&reporter->progress, done, total);
}

static void end(void *context) {
    CliReporter *reporter = context;
    cli_progress_end(&reporter->progress);
}

DrProgress cli_reporter_hooks(CliReporter *reporter) {
    return (DrProgress){.context = reporter, .begin = begin, .update = update, .end = end};
}
