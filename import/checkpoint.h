/* A checkpoint that is open: its tensors, its config, and what it says of texts. folder.h opens the folders of Hugging Face and
 * mamba_ssm. */
#ifndef MOSSC_IMPORT_CHECKPOINT_H
#define MOSSC_IMPORT_CHECKPOINT_H

#include "import/config.h"
#include "import/source.h"

/* How text is made; what the checkpoint does not say is -1 or NULL. */
typedef struct ImTexts {
    const char *tokenizer; /* a tokenizer.json, or NULL */
    size_t tokenizer_size;
    int64_t bos;           /* that a text begins with */
    const int64_t *stops;  /* [n_stops] tokens that end an answer */
    size_t n_stops;
    const char *chat_template; /* any bytes, until im_texts_settle */
    size_t chat_template_size;
    double temperature, top_p, min_p, repeat_penalty, top_k; /* negative: not said */
} ImTexts;

typedef struct ImCheckpoint {
    const char *what; /* "Hugging Face folder" */
    ImSource source;
    ImConfig *config;
    ImTexts texts;
    SuArena arena; /* of all but the source */
    void (*close)(struct ImCheckpoint *checkpoint);
    void *files; /* whoever opened it */
    SuCleanup cleanup; /* closes it when a guard is ended (support/alloc.h): it stays where it is while it is open */
} ImCheckpoint;

/* A folder or a file, by what it is. false after errors: then nothing is open. */
bool im_checkpoint_open(const char *path, ImCheckpoint *out, SuDiags *diags);
void im_checkpoint_close(ImCheckpoint *checkpoint);

#endif
