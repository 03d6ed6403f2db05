/* generation.yaml: what a checkpoint says of making text, beside the spec. */
#ifndef MOSSC_IMPORT_GENERATION_H
#define MOSSC_IMPORT_GENERATION_H

#include "import/checkpoint.h"
#include "support/str.h"

/* One key a line; nothing at all where the checkpoint says nothing. */
void im_print_generation(const ImTexts *texts, SuText *out);

#endif
