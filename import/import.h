/* Importing: a checkpoint of Hugging Face, mamba_ssm or llama.cpp becomes a directory with a spec, its weights and its texts. */
#ifndef MOSSC_IMPORT_IMPORT_H
#define MOSSC_IMPORT_IMPORT_H

#include "driver/progress.h"
#include "import/dtypes.h"
#include "import/write.h"

typedef struct ImOptions {
    const char *input;  /* a folder or file */
    const char *output; /* the directory to be made; it appears only when it is complete */
    ImDtype dtype;
    bool exact;  /* nothing is rounded to what the source does not hold */
    bool verify; /* the output is read back */
    const char *a_activation; /* of mamba3: softplus or heavy_tail; NULL: not said */
    int threads; /* 0: as many as the process may use CPUs */
    DrProgress progress;
} ImOptions;

typedef struct ImReport {
    const char *what, *family; /* of the input */
    ImClasses classes;
    SuArena arena; /* the caller's, and that of classes */
} ImReport;

/* Makes OUT/spec.yaml, OUT/model.safetensors, and where the source has them OUT/tokenizer.json and OUT/generation.yaml. false after
 * errors: then there is no output. */
bool im_import(const ImOptions *options, ImReport *report, SuDiags *diags);
void im_report_free(ImReport *report);

#endif
