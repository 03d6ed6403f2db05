/* What Unicode says of characters and texts: normal forms, white space, letters of words. */
#ifndef MOSSC_TOKENIZER_UNICODE_H
#define MOSSC_TOKENIZER_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

#include "support/str.h"

/* White_Space: few, and fixed by Unicode's promise of stability. */
static inline bool tk_is_space(uint32_t code) {
    return (code >= 0x09 && code <= 0x0D) || code == 0x20 || code == 0x85 || code == 0xA0 || code == 0x1680 ||
           (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F || code == 0x205F ||
           code == 0x3000;
}

typedef enum TkForm { TK_NFC, TK_NFD, TK_NFKC, TK_NFKD, TK_FORMS } TkForm;

static inline bool tk_form_composes(TkForm form) { return form == TK_NFC || form == TK_NFKC; }
static inline bool tk_form_is_compatible(TkForm form) { return form == TK_NFKC || form == TK_NFKD; }

/* Where the rest is known from: utf8proc (tk_utf8proc), or tables of a file (tables.h). */
typedef struct TkUnicode TkUnicode;
struct TkUnicode {
    /* \w of Unicode TS 18: what Hugging Face's single_word goes by. */
    bool (*is_word)(const TkUnicode *unicode, uint32_t code);
    /* Appends a normal form of a piece. */
    void (*normalize)(const TkUnicode *unicode, TkForm form, const char *text, size_t size, SuText *out);
};

/* Appends a normal form of text[0..size), which is UTF-8. Time is linear, however many marks a letter carries. */
void tk_normal_form(const TkUnicode *unicode, TkForm form, const char *text, size_t size, SuText *out);

extern const TkUnicode tk_utf8proc;

#endif
