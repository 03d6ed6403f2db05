/* The sections of a tokenizer.json, one function each. false after adding to the reader's diagnostics. A section that the file
 * lacks or says to be null is NULL. */
#ifndef MOSSC_TOKENIZER_READ_H
#define MOSSC_TOKENIZER_READ_H

#include "tokenizer/json.h"
#include "tokenizer/model.h"

bool tk_read_model(TkReader *r, TkBpe *bpe, const cJSON *item);          /* read_model.c */
bool tk_read_added_tokens(TkReader *r, TkBpe *bpe, const cJSON *item);   /* read_model.c; after the model and the normalizer */
bool tk_read_normalizer(TkReader *r, TkBpe *bpe, const cJSON *item);     /* read_normal.c */
bool tk_read_decoder(TkReader *r, TkBpe *bpe, const cJSON *item);        /* read_normal.c */
bool tk_read_pre_tokenizer(TkReader *r, TkBpe *bpe, const cJSON *item);  /* read_stages.c */
bool tk_read_post_processor(TkReader *r, const cJSON *item);             /* read_stages.c */

/* ---- read_stages.c: what these sections share */

/* Reads one step that is no Sequence. */
typedef bool TkReadStep(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *type);
/* `list` is the name of a Sequence's list. JSON's own bound on depth bounds the recursion. */
bool tk_read_chain(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, const char *list, TkReadStep *read);
/* The error of a type that is none of `known`. */
bool tk_unknown_step(TkReader *r, const char *path, const char *type, const char *known);
/* One more step of a section; NULL after an error. */
TkStep *tk_new_step(TkReader *r, TkSteps *steps, const char *path, TkStepKind kind);
/* In the model's memory. */
TkText tk_copied(TkBpe *bpe, const char *text);
/* The step's pattern: {"Regex": …} or {"String": …}; or a text. */
bool tk_read_pattern(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const cJSON *item);
bool tk_compile_step(TkReader *r, TkBpe *bpe, TkStep *step, const char *path, const char *text, bool literal);
bool tk_read_character(TkReader *r, TkBpe *bpe, const char *path, const cJSON *item, TkText *out);

/* Metaspace, as pre-tokenizer and as decoder: type, replacement, prepend_scheme, add_prefix_space, split, str_rep. */
enum { TK_METASPACE_FIELDS = 6 };
extern const TkField tk_metaspace_fields[TK_METASPACE_FIELDS];
bool tk_read_scheme(TkReader *r, const char *path, const cJSON *scheme, const cJSON *prefix, TkScheme *out);

#endif
