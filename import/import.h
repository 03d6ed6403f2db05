/* Importing: a checkpoint of Hugging Face, mamba_ssm or llama.cpp becomes a directory with a spec, its weights and its texts. */
#ifndef MOSSC_IMPORT_IMPORT_H
#define MOSSC_IMPORT_IMPORT_H

#include "import/model.h"
#include "import/write.h"

typedef struct ImReport {
    const char *family; /* of the input */
    ImClasses classes; /* none where nothing was written */
    bool verified;
    SuArena arena; /* the caller's, and that of classes */
} ImReport;

/* Makes OUT/spec.yaml, OUT/model.safetensors, and where the source has them OUT/tokenizer.json and OUT/generation.yaml. With options->verify
 * all of it is read back before it appears; a directory that is there is read in its place, and not changed. false after errors: then there is
 * no output. */
bool im_import(const ImOptions *options, ImReport *report, SuDiags *diags);
void im_report_free(ImReport *report);

#endif
