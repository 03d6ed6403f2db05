/* What becomes of matches, and of what lies between them. */
#include "tokenizer/split.h"

#include "support/utf8.h"

void tk_pattern_free(TkPattern *pattern) {
    if (pattern) pattern->free(pattern);
}

/* Where matches are looked for. */
typedef struct Matches {
    const TkPattern *pattern;
    TkMatcher *matcher;
    const char *text;
    size_t size;
} Matches;

/* The state of a split: one piece waits, since the next stretch may join it. */
typedef struct Splitter {
    TkBehavior behavior;
    bool invert;
    const char *text;
    size_t begin, end;            /* the piece that waits */
    bool waiting, previous_match; /* a piece waits; the last stretch was a match */
    TkSplitPiece *piece;
    void *context;
} Splitter;

static bool flush(Splitter *s) {
    bool waiting = s->waiting;
    s->waiting = false;
    return !waiting || s->begin == s->end || s->piece(s->context, s->text + s->begin, s->end - s->begin);
}

/* Whether this stretch joins the piece that waits. */
static bool joins(const Splitter *s, bool is_match) {
    switch (s->behavior) {
    case TK_REMOVED:
    case TK_ISOLATED: return false;
    case TK_MERGED_WITH_PREVIOUS: return is_match && !s->previous_match;
    case TK_MERGED_WITH_NEXT: return !is_match && s->previous_match;
    case TK_CONTIGUOUS: return is_match == s->previous_match;
    }
    return false;
}

static bool stretch(Splitter *s, size_t begin, size_t end, bool matches) {
    bool is_match = matches != s->invert;
    if (s->waiting && joins(s, is_match)) {
        s->end = end;
    } else {
        if (!flush(s)) return false;
        s->begin = begin;
        s->end = end;
        s->waiting = !(is_match && s->behavior == TK_REMOVED);
    }
    s->previous_match = is_match;
    return true;
}

/* Finds the next match from *at on; like Oniguruma's callers, takes no empty one right behind the last. */
static int next_match(const Matches *s, size_t *at, size_t last_end, bool any, size_t *out_begin, size_t *out_end,
                      const char **out_why) {
    for (;;) {
        if (*at > s->size) return 0;
        int found = s->pattern->find(s->pattern, s->matcher, s->text, s->size, *at, out_begin, out_end, out_why);
        if (found <= 0) return found;
        if (*out_begin != *out_end || !any || *out_end != last_end) {
            *at = *out_end;
            return 1;
        }
        *at += *at < s->size ? su_utf8_at(s->text + *at, s->size - *at).size : 1;
    }
}

static bool gave_up(SuDiags *diags, const char *why) {
    return su_error(diags, (SuSpan){0}, NULL, "tokenizer's pattern failed on the text: %s", why);
}

bool tk_replace(const TkPattern *pattern, TkMatcher *matcher, TkText content, const char *text, size_t size, SuText *out,
                SuDiags *diags) {
    Matches matches = {.pattern = pattern, .matcher = matcher, .text = text, .size = size};
    size_t at = 0, done = 0, begin, end;
    const char *why = NULL;
    int found;
    for (bool any = false; (found = next_match(&matches, &at, done, any, &begin, &end, &why)) > 0; any = true) {
        su_text_append(out, text + done, begin - done);
        su_text_append(out, content.text, content.size);
        done = end;
    }
    if (found < 0) return gave_up(diags, why);
    su_text_append(out, text + done, size - done);
    return true;
}

bool tk_split(const TkPattern *pattern, TkMatcher *matcher, TkBehavior behavior, bool invert, const char *text, size_t size,
              TkSplitPiece *piece, void *context, SuDiags *diags) {
    Splitter s = {.behavior = behavior, .invert = invert, .text = text, .piece = piece, .context = context};
    Matches matches = {.pattern = pattern, .matcher = matcher, .text = text, .size = size};
    size_t at = 0, done = 0, begin, end;
    bool any = false;
    int found;
    const char *why = NULL;
    while ((found = next_match(&matches, &at, done, any, &begin, &end, &why)) > 0) {
        if (done != begin && !stretch(&s, done, begin, false)) return false;
        if (!stretch(&s, begin, end, true)) return false;
        done = end;
        any = true;
    }
    if (found < 0) return gave_up(diags, why);
    if (done != size && !stretch(&s, done, size, false)) return false;
    return flush(&s);
}
