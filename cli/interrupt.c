#include "cli/interrupt.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>

#include "support/file.h"

static atomic_bool interrupted, terminated;

static void note(int signal_number) {
    interrupted = true;
    if (signal_number == SIGTERM) terminated = true;
    su_out_clean_on_signals(); /* sigaction alone, which a handler may call */
}

void cli_catch_interrupts(void) {
    interrupted = false;
    static const int signals[] = {SIGINT, SIGTERM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
        struct sigaction old, first = {.sa_handler = note, .sa_flags = SA_RESTART}; /* what is being written is written */
        sigemptyset(&first.sa_mask);
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(signals[i], &first, NULL);
    }
}

void cli_release_interrupts(void) { su_out_clean_on_signals(); }

bool cli_interrupted(void) { return interrupted; }

bool cli_terminated(void) { return terminated; }
