/* Artefacts: a model as a directory that needs no compiler of ours, and no LLVM, where it runs. All of `mossc compile` but options and
 * printing. Functions that can fail give false after adding the reason to build->diags. */
#ifndef MOSSC_DRIVER_ARTEFACT_ARTEFACT_H
#define MOSSC_DRIVER_ARTEFACT_ARTEFACT_H

#include "codegen/artefact.h"
#include "driver/build.h"

/* What is being made; its texts are the build's. */
typedef struct DrArtefact {
    DrBuild *build;
    const DrBuildOptions *options;
    const char *name; /* of the spec: "moss-tiny" */
    const char *symbol; /* as C takes it: "moss_tiny" */
    const char *cpus; /* "7,6,5": those that run it unless the caller says otherwise; NULL: all */
    bool shared; /* NAME.so is there */
} DrArtefact;

/* Spec, target and program, the cheap part: what is wrong with them is known before anything is written. cpus NULL: what the target's
 * device file says. build and options must live as long as the artefact. */
bool dr_artefact_plan(DrBuild *build, const DrBuildOptions *options, const char *target, const char *cpus, DrArtefact *out);
/* Only the code of a CPU, for those who look. */
bool dr_artefact_emit(const DrArtefact *artefact, CgEmission emission, FILE *out);
bool dr_artefact_emit_file(const DrArtefact *artefact, CgEmission emission, const char *path);
/* Makes the directory, with the weights of the options; it appears under its name only when it is whole. A note says so when no linker was
 * there to make NAME.so. */
bool dr_artefact_write(DrArtefact *artefact, const char *directory);
/* The line that builds the program in its directory, for the target's own system or a cross compiler on Debian. */
const char *dr_artefact_build_line(SuArena *arena, const DrArtefact *artefact);
/* Bytes of the code in a directory that was written. */
uint64_t dr_artefact_code_bytes(const DrArtefact *artefact, const char *directory);

#endif
