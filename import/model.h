/* A checkpoint that is open as a model of ours: its plan, and its spec with the dtypes of its weights. Nothing is written, and of tensors
 * nothing is read but what decides that. */
#ifndef MOSSC_IMPORT_MODEL_H
#define MOSSC_IMPORT_MODEL_H

#include "driver/progress.h"
#include "import/checkpoint.h"
#include "import/dtypes.h"

/* Names in the directory that an import makes. */
#define IM_SPEC_FILE "spec.yaml"
#define IM_WEIGHTS_FILE "model.safetensors"
#define IM_TOKENIZER_FILE "tokenizer.json"

/* Words for ImOptions.a_activation, the first for one that was not said, NULL behind the last. */
extern const char *const im_a_words[];

typedef struct ImOptions {
    const char *input; /* a folder or file */
    const char *output; /* the directory to be made; it appears only when it is complete */
    ImDtype dtype;
    bool exact; /* nothing is rounded to what the source does not hold */
    bool verify; /* the output is read back and held against the input; one that is there already is only read */
    const char *a_activation; /* of mamba3: softplus or heavy_tail; NULL: not said */
    int threads; /* 0: as many as the process may use CPUs */
    DrProgress progress;
} ImOptions;

typedef struct ImModel {
    const char *family; /* of families.def */
    ImPlan plan;
    SuText text; /* the spec */
    FeSpec spec;
} ImModel;

/* Of a checkpoint, whose tensors it takes. false after errors. It must be freed either way, before the checkpoint is closed; messages may
 * point into it (su_diags_keep). */
bool im_model_make(ImCheckpoint *checkpoint, const ImOptions *options, ImModel *out, SuDiags *diags);
void im_model_free(ImModel *model);

#endif
