/* Splitting text by patterns. */
#ifndef MOSSC_TOKENIZER_SPLIT_H
#define MOSSC_TOKENIZER_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#include "support/diag.h"

/* What becomes of the stretches that match (Hugging Face's words). */
typedef enum TkBehavior { TK_REMOVED, TK_ISOLATED, TK_MERGED_WITH_PREVIOUS, TK_MERGED_WITH_NEXT, TK_CONTIGUOUS } TkBehavior;

typedef struct TkPattern TkPattern;

/* What the ByteLevel pre-tokenizer splits by: GPT-2's pattern. */
extern const char tk_gpt2_pattern[];

/* A regular expression, or with `literal` a text. NULL with the reason, in words (the arena's): what is no pattern, and what
 * Hugging Face's engine would read in another sense. Free it with tk_pattern_free. */
TkPattern *tk_pattern_compile(SuArena *arena, const char *text, size_t size, bool literal, const char **out_error);
void tk_pattern_free(TkPattern *pattern);

typedef struct TkMatcher TkMatcher; /* what a thread needs for matching with any pattern */

TkMatcher *tk_matcher_create(void); /* NULL: out of memory */
void tk_matcher_free(TkMatcher *matcher);

/* Calls `piece` for every non-empty piece of text[0..size), UTF-8, in order. false if `piece` returned that, or with an error
 * when the pattern takes too long. `invert`: what matches counts as not matching, and the other way round. */
typedef bool TkSplitPiece(void *context, const char *text, size_t size);
bool tk_split(const TkPattern *pattern, TkMatcher *matcher, TkBehavior behavior, bool invert, const char *text, size_t size,
              TkSplitPiece *piece, void *context, SuDiags *diags);

#endif
