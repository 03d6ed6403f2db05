/* Strings: a growing text buffer, and the nearest word for "did you mean". */
#ifndef MOSSC_SUPPORT_STR_H
#define MOSSC_SUPPORT_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* A growing text; `SuText t = {0};` is valid and empty. text is always NUL-terminated once anything was added. */
typedef struct SuText {
    char *text; /* su_malloc's; without memory the guard around the work is ended (support/alloc.h) */
    size_t size, capacity;
} SuText;

void su_text_add(SuText *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void su_text_append(SuText *text, const char *bytes, size_t size);
void su_text_free(SuText *text);

enum { SU_REAL = 32 }; /* bytes of a double as text, with its NUL */
/* The shortest decimal of at least six digits, trailing zeros left out, that reads back as the same double. */
const char *su_real_text(double value, char out[SU_REAL]);

/* The word of words[count] nearest to `word` by edit distance (adjacent swaps count one), or NULL if none is near. */
const char *su_nearest(const char *word, const char *const *words, size_t count);

#endif
