/* Files that are carried in mossc itself. */
#ifndef MOSSC_CLI_ARTEFACT_EMBEDDED_H
#define MOSSC_CLI_ARTEFACT_EMBEDDED_H

#include <stddef.h>

typedef struct CliEmbedded {
    const char *name; /* "runtime/step.c", "main.c.in", "cuda/main.c.in" */
    const char *begin, *end;
} CliEmbedded;

/* The last one's name is NULL. What `mossc compile` writes into artefacts: the device's runtime, and templates. */
extern const CliEmbedded cli_embedded[];
/* Device files: "specs/devices/graviton3.yaml". */
extern const CliEmbedded cli_devices[];

#endif
