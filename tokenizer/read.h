/* The sections of a tokenizer.json, one function each. false after adding to the reader's diagnostics. A section that the file
 * lacks or says to be null is NULL. */
#ifndef MOSSC_TOKENIZER_READ_H
#define MOSSC_TOKENIZER_READ_H

#include "tokenizer/json.h"
#include "tokenizer/model.h"

bool tk_read_model(TkReader *r, TkBpe *bpe, const cJSON *item);          /* read_model.c */
bool tk_read_added_tokens(TkReader *r, TkBpe *bpe, const cJSON *item);   /* read_model.c; after the model and the normalizer */
bool tk_read_normalizer(TkReader *r, TkBpe *bpe, const cJSON *item);     /* read_stages.c, like the others */
bool tk_read_pre_tokenizer(TkReader *r, TkBpe *bpe, const cJSON *item);
bool tk_read_post_processor(TkReader *r, const cJSON *item);
bool tk_read_decoder(TkReader *r, TkBpe *bpe, const cJSON *item);

#endif
