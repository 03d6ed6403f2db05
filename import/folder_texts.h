/* What a folder says of texts: tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json. */
#ifndef MOSSC_IMPORT_FOLDER_TEXTS_H
#define MOSSC_IMPORT_FOLDER_TEXTS_H

#include "import/checkpoint.h"

/* Fills out->texts, of a checkpoint whose config is open. false after an error; a file that is missing is none. */
bool im_folder_texts(const char *folder, ImCheckpoint *out, SuDiags *diags);

#endif
