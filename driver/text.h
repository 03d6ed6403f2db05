/* Text of the user's and of the model's. */
#ifndef MOSSC_DRIVER_TEXT_H
#define MOSSC_DRIVER_TEXT_H

#include <stddef.h>

#include "frontend/spec.h"
#include "runtime/tokenizer.h"
#include "support/str.h"
#include "tokenizer/bpe.h"

/* What a spec of kind bpe says of its tokenizer; lists are the arena's. */
TkBpeOptions dr_bpe_options(const FeSpec *spec, SuArena *arena);
/* The tokenizer that the spec asks for; NULL after adding to diags. The caller frees it. */
RtTokenizer *dr_tokenizer(const FeSpec *spec, SuDiags *diags);
/* Passes over a byte-order mark at the start of a text, with a note; `path` (NULL: none) is where it came from. */
void dr_skip_bom(const char *path, char **text, size_t *size, SuDiags *diags);
/* bos, if there is one, and the ids of a text. */
bool dr_encode(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out, SuDiags *diags);
/* The text as JSON can hold it: what is not UTF-8, and NUL, becomes U+FFFD. Free it with su_text_free. */
SuText dr_clean_utf8(const char *text, size_t size);

#endif
