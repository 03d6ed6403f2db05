/* The files of an artefact that are texts: a header, a program, how to build it; and the runtime in C. */
#ifndef MOSSC_CLI_ARTEFACT_FILES_H
#define MOSSC_CLI_ARTEFACT_FILES_H

#include "codegen/cuda/cuda.h"
#include "codegen/target.h"
#include "frontend/spec.h"
#include "ir/program.h"
#include "support/directory.h"

typedef struct CliArtefact {
    const FeSpec *spec;
    const PgProgram *program;
    const CgTarget *target;  /* NULL: a GPU */
    const CgCudaTarget *gpu; /* NULL: a CPU */
    const char *name;   /* of the spec: "moss-tiny" */
    const char *symbol; /* as C takes it: "moss_tiny" */
    int32_t bos, eos;
    const char *cpus; /* "7,6,5": those that run it unless the caller says otherwise; NULL: all */
    bool shared; /* NAME.so is there */
} CliArtefact;

/* A model's name as C takes it. */
const char *cli_artefact_symbol(SuArena *arena, const char *name);
/* The line that builds the program in its directory, for the target's own system or a cross compiler on Debian. */
const char *cli_artefact_build_line(SuArena *arena, const CliArtefact *artefact);
/* Writes all of them. */
bool cli_artefact_files(const CliArtefact *artefact, SuDirectory *directory, SuDiags *diags);

#endif
