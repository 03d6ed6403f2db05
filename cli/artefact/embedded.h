/* Files that `mossc compile` writes into artefacts, carried in mossc itself: the device's runtime, and templates. */
#ifndef MOSSC_CLI_ARTEFACT_EMBEDDED_H
#define MOSSC_CLI_ARTEFACT_EMBEDDED_H

#include <stddef.h>

typedef struct CliEmbedded {
    const char *name; /* "runtime/step.c", "main.c.in" */
    const char *begin, *end;
} CliEmbedded;

extern const CliEmbedded cli_embedded[]; /* the last one's name is NULL */

#endif
