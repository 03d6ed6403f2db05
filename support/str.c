/* Growing text and the nearest word. */
#include "support/str.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/alloc.h"
#include "support/limits.h"

enum { FIRST = SU_LIMIT(64, 1) }; /* bytes that a text has room for at first */

static void reserve(SuText *text, size_t more) {
    size_t need = text->size + more + 1;
    if (need <= more) need = SIZE_MAX; /* no allocator gives that: the error below follows */
    if (need <= text->capacity) return;
    size_t capacity = text->capacity < SIZE_MAX / 2 ? text->capacity * 2 : need;
    if (capacity < need) capacity = need < FIRST ? FIRST : need;
    char *grown = su_realloc(text->text, capacity);
    if (!grown) su_no_memory(capacity);
    text->text = grown;
    text->capacity = capacity;
}

void su_text_append(SuText *text, const char *bytes, size_t size) {
    reserve(text, size);
    if (size) memcpy(text->text + text->size, bytes, size);
    text->size += size;
    text->text[text->size] = '\0';
}

void su_text_add(SuText *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (size >= 0) {
        reserve(text, (size_t)size);
        vsnprintf(text->text + text->size, (size_t)size + 1, format, again);
        text->size += (size_t)size;
    }
    va_end(again);
}

void su_text_free(SuText *text) {
    su_free(text->text);
    *text = (SuText){0};
}

const char *su_real_text(double value, char out[SU_REAL]) {
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out, SU_REAL, "%.*g", digits, value);
        if (strtod(out, NULL) == value) break;
    }
    return out;
}

enum { MAX_WORD = 63 }; /* longer words are never near anything */

static unsigned min3(unsigned a, unsigned b, unsigned c) {
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

/* Optimal string alignment distance: insertion, deletion, substitution and swap of neighbours cost one each, case nothing. */
static unsigned distance(const char *a, size_t na, const char *b, size_t nb) {
    unsigned rows[3][MAX_WORD + 1];
    for (size_t j = 0; j <= nb; j++) rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= na; i++) {
        unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *above2 = rows[(i + 1) % 3];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= nb; j++) {
            char ca = lower(a[i - 1]), cb = lower(b[j - 1]);
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (ca != cb));
            if (i > 1 && j > 1 && ca == lower(b[j - 2]) && lower(a[i - 2]) == cb && above2[j - 2] + 1 < row[j])
                row[j] = above2[j - 2] + 1;
        }
    }
    return rows[na % 3][nb];
}

const char *su_nearest(const char *word, const char *const *words, size_t count) {
    const char *best = NULL;
    size_t n = strlen(word);
    if (n == 0 || n > MAX_WORD) return NULL;
    unsigned bound = n <= 2 ? 1 : n <= 5 ? 2 : 3; /* at most about half of a short word may differ */
    for (size_t i = 0; i < count; i++) {
        size_t m = strlen(words[i]);
        if (m == 0 || m > MAX_WORD) continue;
        unsigned d = distance(word, n, words[i], m);
        if (d <= bound && d < (n > m ? n : m)) {
            best = words[i];
            bound = d ? d - 1 : 0; /* only a nearer one replaces it */
            if (d == 0) break;
        }
    }
    return best;
}
