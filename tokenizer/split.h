/* Splitting text by patterns. */
#ifndef MOSSC_TOKENIZER_SPLIT_H
#define MOSSC_TOKENIZER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#include "support/diag.h"
#include "support/str.h"
#include "tokenizer/vocab.h"

/* What becomes of the stretches that match (Hugging Face's words). */
typedef enum TkBehavior { TK_REMOVED, TK_ISOLATED, TK_MERGED_WITH_PREVIOUS, TK_MERGED_WITH_NEXT, TK_CONTIGUOUS } TkBehavior;

typedef struct TkMatcher TkMatcher; /* what a thread needs for PCRE2's patterns (regex.h); NULL for known ones (known.h) */

/* What finds matches. Whoever makes one has a struct of his own that begins with this. */
typedef struct TkPattern TkPattern;
struct TkPattern {
    /* The first match in text[0..size) that begins at `at` or later. 1: found; 0: none; -1: it gave up, and why. */
    int (*find)(const TkPattern *pattern, TkMatcher *matcher, const char *text, size_t size, size_t at, size_t *out_begin,
                size_t *out_end, const char **out_why);
    void (*free)(TkPattern *pattern);
};

void tk_pattern_free(TkPattern *pattern);

/* Calls `piece` for every non-empty piece of text[0..size), UTF-8, in order. false if `piece` returned that, or with an error
 * when the pattern gives up. `invert`: what matches counts as not matching, and the other way round. */
typedef bool TkSplitPiece(void *context, const char *text, size_t size);
bool tk_split(const TkPattern *pattern, TkMatcher *matcher, TkBehavior behavior, bool invert, const char *text, size_t size,
              TkSplitPiece *piece, void *context, SuDiags *diags);

/* Appends text[0..size) with `content` in place of every match; false like tk_split. */
bool tk_replace(const TkPattern *pattern, TkMatcher *matcher, TkText content, const char *text, size_t size, SuText *out,
                SuDiags *diags);

#endif
