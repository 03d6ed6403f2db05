/* What `mossc compile` writes into artefacts. */
#ifndef MOSSC_DRIVER_ARTEFACT_EMBEDDED_H
#define MOSSC_DRIVER_ARTEFACT_EMBEDDED_H

#include "driver/embedded.h"

/* The device's runtime, and templates: "runtime/step.c", "main.c.in", "cuda/main.c.in". The last one's name is NULL. */
extern const DrEmbedded dr_artefact_embedded[];

#endif
