/* Patterns as Hugging Face's engine reads them (Oniguruma, Ruby's syntax), put in PCRE2's words. */
#ifndef MOSSC_TOKENIZER_ONIGURUMA_H
#define MOSSC_TOKENIZER_ONIGURUMA_H

#include <stddef.h>

#include "support/str.h"

/* Appends the pattern for PCRE2 with UTF, UCP and MULTILINE. NULL, or what in it the two engines read differently; *out_at is
 * its byte. */
const char *tk_translate(const char *text, size_t size, SuText *out, size_t *out_at);

#endif
