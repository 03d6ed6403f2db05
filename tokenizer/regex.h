/* Patterns by PCRE2: any that a tokenizer.json holds. */
#ifndef MOSSC_TOKENIZER_REGEX_H
#define MOSSC_TOKENIZER_REGEX_H

#include "tokenizer/split.h"

/* A regular expression, or with `literal` a text. NULL with the reason, in words (the arena's): what is no pattern, and what
 * Hugging Face's engine would read in another sense. Free it with tk_pattern_free. */
TkPattern *tk_pattern_compile(SuArena *arena, const char *text, size_t size, bool literal, const char **out_error);

TkMatcher *tk_matcher_create(void); /* NULL: out of memory */
void tk_matcher_free(TkMatcher *matcher);

#endif
