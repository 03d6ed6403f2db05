/* What a checkpoint says of texts, looked at once: what mossc cannot use is left out, with a warning, since the model can be used without. */
#ifndef MOSSC_IMPORT_TEXTS_H
#define MOSSC_IMPORT_TEXTS_H

#include "import/checkpoint.h"

/* Leaves out a tokenizer that tokenizer/ does not read, and a chat template that generation.yaml cannot hold. `path` is for messages.
 * false: no memory. */
bool im_texts_settle(ImTexts *texts, const char *path, SuDiags *diags);

#endif
