/* Importing: a checkpoint of Hugging Face, mamba_ssm or llama.cpp becomes a directory with a spec, its weights and its texts. */
#ifndef MOSSC_IMPORT_IMPORT_H
#define MOSSC_IMPORT_IMPORT_H

#include "import/model.h"
#include "import/write.h"

typedef struct ImReport {
    const char *family; /* of the input */
    ImClasses classes; /* none where nothing was written */
    bool verified;     /* all of the output is what the checkpoint makes; false without options->verify */
    SuArena arena; /* the caller's, and that of classes */
} ImReport;

/* Makes OUT/spec.yaml, OUT/model.safetensors, and where the source has them OUT/tokenizer.json and OUT/generation.yaml. With options->verify
 * all of it is read back before it appears. With options->verify and an OUT that is there (im_is_imported) nothing is written: OUT is held
 * against the checkpoint and these options, texts and weights, report->verified says so, and there are no classes; a text that the checkpoint
 * does not make must not be there. false after errors: then there is no output, or the one that was there is as it was. */
bool im_import(const ImOptions *options, ImReport *report, SuDiags *diags);
void im_report_free(ImReport *report);

#endif
