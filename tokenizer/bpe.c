/* Text to ids: added tokens, normal form, added tokens again, pre-tokenizers, and the merging of every word. */
#include <stdlib.h>
#include <string.h>

#include "support/alloc.h"
#include "support/utf8.h"
#include "tokenizer/model.h"
#include "tokenizer/word.h"

/* One text in work: what is handed from stage to stage, and memory that serves all its words. */
typedef struct Run {
    const TkBpe *bpe;
    RtTokens *out;
    const char *text, *begin; /* all of it; its beginning, as it was normalised, if that is in work, or NULL */
    TkWork work;
    TkWord word;
    SuText mapped[TK_MAX_STEPS];  /* the piece of a ByteLevel step, in its characters */
    SuText changed[TK_MAX_STEPS]; /* the piece of a step, with what it puts in front and in place of blanks */
} Run;

/* ---- words */

static bool no_token(Run *run, SuUtf8 c, const char *text) {
    return su_error(run->work.diags, (SuSpan){0}, NULL, "tokenizer has no token for the character '%.*s' (U+%04X) and no unk_token",
                    c.code < 0x20 ? 0 : c.size, text, c.code);
}

/* The bytes of a character that has no token, if byte_fallback gives each of them one. */
static bool fall_back(Run *run, const char *text, size_t size) {
    if (!run->bpe->byte_fallback) return false;
    for (size_t i = 0; i < size; i++)
        if (run->bpe->fallback_ids[(unsigned char)text[i]] < 0) return false;
    for (size_t i = 0; i < size; i++) tk_word_add(&run->word, run->bpe->fallback_ids[(unsigned char)text[i]]);
    return true;
}

/* Puts the word's characters in as symbols. */
static bool add_symbols(Run *run, const char *text, size_t size) {
    const TkBpe *bpe = run->bpe;
    bool unknown_before = false;
    for (size_t at = 0; at < size;) {
        SuUtf8 c = su_utf8_at(text + at, size - at);
        int32_t id = c.code < TK_LOW_CODES ? bpe->low_ids[c.code] : tk_vocab_find(&bpe->vocab, text + at, c.size);
        bool unknown = id < 0 && !fall_back(run, text + at, c.size);
        if (unknown && bpe->unk < 0) return no_token(run, c, text + at);
        if (id >= 0)
            tk_word_add(&run->word, id);
        else if (unknown && !(unknown_before && bpe->fuse_unk))
            tk_word_add(&run->word, bpe->unk);
        unknown_before = unknown;
        at += c.size;
    }
    return true;
}

/* An id that the model lacks is reported once for a text, when the word is done. */
static bool check_ids(Run *run, size_t first) {
    const TkBpe *bpe = run->bpe;
    for (size_t i = first; i < run->out->count; i++) {
        int32_t id = run->out->ids[i];
        if (id >= bpe->vocab_size) {
            return su_error(run->work.diags, (SuSpan){0}, NULL, "text contains token %d, outside the vocabulary (0 to %lld)", id,
                            (long long)bpe->vocab_size - 1);
        }
    }
    return true;
}

static bool encode_word(Run *run, const char *text, size_t size) {
    const TkBpe *bpe = run->bpe;
    size_t first = run->out->count;
    int32_t whole = bpe->ignore_merges ? tk_vocab_find(&bpe->vocab, text, size) : -1;
    run->word.count = 0;
    if (whole >= 0) {
        rt_tokens_add(run->out, whole);
    } else {
        if (!add_symbols(run, text, size)) return false;
        tk_word_merge(&run->word, &bpe->merges, run->out);
    }
    return check_ids(run, first);
}

/* ---- pre-tokenizers */

/* A piece on its way to step `next`; behind the last, it is a word. */
typedef struct Piece {
    Run *run;
    int next;
    const char
        *begin; /* where pieces lie that begin the text, as far as they lie at the begin of what they were split from; or NULL */
} Piece;

static bool next_step(void *context, const char *text, size_t size);

static bool map_and_go_on(void *context, const char *text, size_t size) {
    const Piece *piece = context;
    SuText *mapped = &piece->run->mapped[piece->next - 1];
    mapped->size = 0;
    for (size_t i = 0; i < size; i++) {
        char bytes[4];
        su_text_append(mapped, bytes, su_utf8_encode(tk_char_of_byte((unsigned char)text[i]), bytes));
    }
    Piece behind = {.run = piece->run, .next = piece->next, .begin = piece->begin == text ? mapped->text : NULL};
    return next_step(&behind, mapped->text, mapped->size);
}

/* The piece with `sign` before it, in the step's memory. */
static TkText prefixed(Piece *behind, TkText sign, TkText piece) {
    SuText *out = &behind->run->changed[behind->next - 1];
    out->size = 0;
    su_text_append(out, sign.text, sign.size);
    su_text_append(out, piece.text, piece.size);
    if (behind->begin == piece.text) behind->begin = out->text;
    return (TkText){.text = out->text, .size = out->size};
}

static bool byte_level(Piece *behind, const TkStep *step, TkText piece) {
    Run *run = behind->run;
    if (step->prefix && piece.text[0] != ' ') piece = prefixed(behind, (TkText){" ", 1}, piece);
    if (!step->pattern) return map_and_go_on(behind, piece.text, piece.size);
    return tk_split(step->pattern, run->work.matcher, TK_ISOLATED, false, piece.text, piece.size, map_and_go_on, behind,
                    run->work.diags);
}

static bool begins_with(TkText text, TkText sign) { return text.size >= sign.size && memcmp(text.text, sign.text, sign.size) == 0; }

/* The sign for every blank, and one in front where the scheme puts it and none is there. */
static bool metaspace(Piece *behind, const TkStep *step, TkText piece) {
    Run *run = behind->run;
    SuText *out = &run->changed[behind->next - 1];
    bool at_begin = behind->begin == piece.text;
    bool there = piece.text[0] == ' ' || begins_with(piece, step->text);
    out->size = 0;
    if (!there && (step->scheme == TK_ALWAYS || (step->scheme == TK_FIRST && at_begin)))
        su_text_append(out, step->text.text, step->text.size);
    for (size_t at = 0, end; at < piece.size; at = end) {
        for (end = at; end < piece.size && piece.text[end] != ' ';) end++;
        su_text_append(out, piece.text + at, end - at);
        if (end == piece.size) break;
        su_text_append(out, step->text.text, step->text.size);
        end++;
    }
    behind->begin = at_begin ? out->text : NULL;
    if (!step->pattern) return next_step(behind, out->text, out->size);
    return tk_split(step->pattern, run->work.matcher, TK_MERGED_WITH_NEXT, false, out->text, out->size, next_step, behind,
                    run->work.diags);
}

/* Hands text[0..size), never empty, to the next step. Depth first: at most TK_MAX_STEPS calls deep, and no list of pieces. */
static bool next_step(void *context, const char *text, size_t size) {
    const Piece *piece = context;
    Run *run = piece->run;
    const TkSteps *steps = &run->bpe->pre_tokenizer;
    if (piece->next == steps->count) return encode_word(run, text, size);
    const TkStep *step = &steps->items[piece->next];
    Piece behind = {.run = run, .next = piece->next + 1, .begin = piece->begin == text ? text : NULL};
    if (step->kind == TK_STEP_BYTE_LEVEL) return byte_level(&behind, step, (TkText){text, size});
    if (step->kind == TK_STEP_METASPACE) return metaspace(&behind, step, (TkText){text, size});
    return tk_split(step->pattern, run->work.matcher, step->behavior, step->invert, text, size, next_step, &behind,
                    run->work.diags);
}

/* ---- texts */

static bool emit_added(Run *run, int32_t id) {
    rt_tokens_add(run->out, id);
    return check_ids(run, run->out->count - 1);
}

static bool normal_piece(void *context, int32_t id, const char *text, size_t size) {
    Run *run = context;
    Piece first = {.run = run, .next = 0, .begin = run->begin};
    return id >= 0 ? emit_added(run, id) : next_step(&first, text, size);
}

static bool raw_piece(void *context, int32_t id, const char *text, size_t size) {
    Run *run = context;
    if (id >= 0) return emit_added(run, id);
    TkText piece = {.text = text, .size = size};
    if (!tk_normalize(&run->bpe->normalizer, &run->work, &piece)) return false;
    run->begin = text == run->text ? piece.text : NULL;
    return tk_added_split(&run->bpe->added_normal, piece.text, piece.size, normal_piece, run);
}

static bool check_text(const char *text, size_t size, SuDiags *diags) {
    if (size > TK_MAX_TEXT) return su_error(diags, (SuSpan){0}, NULL, "text exceeds the limit of %d bytes", TK_MAX_TEXT);
    for (size_t at = 0; at < size;) {
        SuUtf8 c = su_utf8_at(text + at, size - at);
        if (!c.whole) return su_error(diags, (SuSpan){0}, NULL, "text: invalid UTF-8 at byte %zu", at);
        at += c.size;
    }
    return true;
}

static void free_matcher(void *run) {
    Run *r = run;
    if (r->work.matcher) r->bpe->free_matcher(r->work.matcher);
}

static bool encode(const void *self, const char *text, size_t size, bool behind, RtTokens *out, SuDiags *diags) {
    const TkBpe *bpe = self;
    if (!check_text(text, size, diags)) return false;
    Run run = {.bpe = bpe, .out = out, .text = behind ? NULL : text, .work = {.unicode = bpe->unicode, .diags = diags}};
    if (!tk_model_matcher(bpe, &run.work.matcher)) return su_out_of_memory(diags, "encoding a text");
    SuCleanup cleanup;
    su_cleanup_add(&cleanup, free_matcher, &run);
    bool ok = tk_added_split(&bpe->added_raw, text, size, raw_piece, &run);
    su_cleanup_done(&cleanup);
    free_matcher(&run);
    tk_word_free(&run.word);
    tk_work_free(&run.work);
    for (int i = 0; i < TK_MAX_STEPS; i++) {
        su_text_free(&run.mapped[i]);
        su_text_free(&run.changed[i]);
    }
    return ok;
}

/* ---- the kind */

static bool is_gap(const void *self, int32_t id) { return tk_model_is_gap(self, id); }

static void decode(const void *self, int32_t id, SuText *out) {
    const TkBpe *bpe = self;
    if (!tk_model_is_gap(bpe, id)) su_text_append(out, bpe->outputs[id].text, bpe->outputs[id].size);
}

static void decode_first(const void *self, int32_t id, SuText *out) {
    if (!tk_model_is_gap(self, id)) tk_model_first_output(self, id, out);
}

static uint32_t leading(const void *self, const char **out_text, size_t *out_size) {
    const TkStep *step = tk_model_leading(self);
    if (!step) return 0;
    *out_text = step->text.text;
    *out_size = step->text.size;
    return step->start;
}

static void free_self(void *self) {
    tk_model_free(self);
    su_free(self);
}

static const RtTokenizerKind kind = {.text = true,
                                     .encode = encode,
                                     .decode = decode,
                                     .decode_first = decode_first,
                                     .leading = leading,
                                     .is_gap = is_gap,
                                     .free = free_self};

RtTokenizer *tk_model_tokenizer(TkBpe *bpe, const TkSpecials *specials) {
    int64_t limit = (int64_t)bpe->added.n_ids, gaps = 0;
    limit = limit < bpe->vocab_size ? limit : bpe->vocab_size;
    for (int32_t id = 0; id < limit; id++) gaps += tk_model_is_gap(bpe, id);
    RtTokenizer *tokenizer = rt_tokenizer_make(&kind, bpe, limit, gaps, specials->bos, -1);
    if (tokenizer) rt_tokenizer_set_ends(tokenizer, specials->ends, specials->n_ends);
    return tokenizer;
}
