/* Folders of checkpoints as Hugging Face and mamba_ssm write them: config.json, safetensors files, and texts. */
#ifndef MOSSC_IMPORT_FOLDER_H
#define MOSSC_IMPORT_FOLDER_H

#include "import/checkpoint.h"
#include "support/json.h"

/* Opens a folder; everything stays mapped until the checkpoint is closed. false after an error. */
bool im_folder_open(const char *path, ImCheckpoint *out, SuDiags *diags);

/* Parses JSON as Python writes it, with Infinity (a text of its own, which is changed). NULL after an error; out->root else. */
bool im_json_parse(char *text, size_t size, const char *path, SuJson *out, SuDiags *diags);

#endif
