/* What Unicode says of characters and texts: normal form C, white space, letters of words. */
#ifndef MOSSC_TOKENIZER_UNICODE_H
#define MOSSC_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

#include "support/str.h"

/* White_Space, and \w of Unicode TS 18: what Hugging Face's lstrip, rstrip and single_word go by. */
bool tk_is_space(uint32_t code);
bool tk_is_word(uint32_t code);

/* Appends the normal form C of text[0..size), which is UTF-8. Time is linear, however many marks a letter carries. */
void tk_nfc(const char *text, size_t size, SuText *out);

#endif
