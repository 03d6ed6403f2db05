/* The files of an artefact that are texts: a header, a program, how to build it; and the runtime in C. */
#ifndef MOSSC_DRIVER_ARTEFACT_FILES_H
#define MOSSC_DRIVER_ARTEFACT_FILES_H

#include "driver/artefact/artefact.h"
#include "support/directory.h"

/* A model's name as C takes it. */
const char *dr_artefact_symbol(SuArena *arena, const char *name);
/* Writes all of them. */
bool dr_artefact_files(const DrArtefact *artefact, SuDirectory *directory);

#endif
