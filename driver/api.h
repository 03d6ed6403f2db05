/* What is behind the types of mossc/mossc.h. */
#ifndef MOSSC_DRIVER_API_H
#define MOSSC_DRIVER_API_H

#include "driver/build.h"
#include "driver/cost.h"
#include "mossc/mossc.h"
#include "runtime/model.h"

struct MosscDiags {
    SuDiags found; /* sources and texts lie in its arena */
};

struct MosscSpec {
    SuArena arena; /* owns what follows */
    const char *path;
    char *text; /* as it was read: each compilation reads it again, and depends on nothing else of the spec */
    size_t size;
    DrTexts sets;
    DrBuild build; /* its spec; graph and program once the cost was asked for */
    DrCosts costs; /* for `position` */
    int64_t position;
    bool has_costs;
};

struct MosscCompiled {
    DrBuild build; /* without weights: models are the caller's */
};

/* The build options of a spec's text and sets. */
DrBuildOptions api_options(const MosscSpec *spec);
/* Moves all messages of a build to `diags`, if there is one. The error that they make, of build->code or else `code`; none if ok. */
MossError api_result(DrBuild *build, bool ok, MossCode code, MosscDiags *diags);

#endif
