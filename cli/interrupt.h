/* Interruptions: Ctrl-C and SIGTERM while a prompt is read and a text is made. */
#ifndef MOSSC_CLI_INTERRUPT_H
#define MOSSC_CLI_INTERRUPT_H

#include <stdbool.h>

/* From now on the first SIGINT or SIGTERM, unless it is ignored, only makes cli_interrupted true; the second ends the process as before. */
void cli_catch_interrupts(void);
/* From now on the first one ends the process. */
void cli_release_interrupts(void);
bool cli_interrupted(void); /* since the last cli_catch_interrupts */
bool cli_terminated(void); /* one that was caught was SIGTERM */

#endif
