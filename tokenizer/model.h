/* A tokenizer once it is read, from a tokenizer.json or a packed file, as the encoder (bpe.c) has it. */
#ifndef MOSSC_TOKENIZER_MODEL_H
#define MOSSC_TOKENIZER_MODEL_H

#include "support/arena.h"
#include "support/diag.h"
#include "support/file.h"
#include "support/limits.h"
#include "runtime/tokenizer.h"
#include "tokenizer/added.h"
#include "tokenizer/bytes.h"
#include "tokenizer/step.h"
#include "tokenizer/vocab.h"

enum { TK_MAX_TEXT = SU_LIMIT(1 << 30, 4096) /* bytes to encode */ };

typedef struct TkBpe {
    SuArena arena;
    int64_t vocab_size;

    TkVocab vocab;
    TkMerges merges;
    int32_t unk; /* -1: none */
    bool fuse_unk, byte_fallback, ignore_merges;
    int32_t fallback_ids[256];         /* of <0x00> to <0xFF>, -1: none */
    int32_t low_ids[TK_LOW_CODES];     /* of single characters below, -1: none */

    const TkUnicode *unicode;
    TkMatcher *(*make_matcher)(void); /* NULL: its patterns need none */
    void (*free_matcher)(TkMatcher *matcher);

    TkSteps normalizer, pre_tokenizer, decoder;
    bool fused; /* while the decoder is read: Fuse came */
    TkVocab added;                   /* the added tokens; ids below n_ids, which is that of all tokens */
    TkAdded added_raw, added_normal; /* their texts, looked for before and after normalising */

    TkText *outputs; /* [added.n_ids], what an id says behind others; text NULL: the id stands for nothing */

    SuMap map; /* of a packed file, whose texts are used in place */
} TkBpe;

/* open.c: a malloced model from a tokenizer.json's text, with the model's V. NULL after adding to diags.
 * tk_bpe_free frees it. */
TkBpe *tk_bpe_read(const char *text, size_t size, const char *path, int64_t vocab_size, SuDiags *diags);
void tk_bpe_free(TkBpe *bpe); /* NULL is fine */
/* What a text begins with, and what it ends with, by ids. */
typedef struct TkSpecials {
    int32_t bos; /* -1: none */
    int32_t ends[MOSS_MAX_ENDS];
    uint32_t n_ends;
} TkSpecials;

struct TkBpeOptions; /* bpe.h */
/* open.c: finds what the options name. */
bool tk_bpe_resolve(const TkBpe *bpe, const char *path, const struct TkBpeOptions *options, TkSpecials *out, SuDiags *diags);
/* packed_read.c: the same from a packed file's bytes, which must outlive it. */
TkBpe *tk_packed_read(const uint8_t *data, size_t size, const char *path, int64_t vocab_size, SuDiags *diags);
/* read.c: reads a tokenizer.json's text. false after adding to diags; tk_model_free then frees what is there. */
bool tk_model_read(TkBpe *bpe, const char *text, size_t size, const char *path, SuDiags *diags);

/* model.c, for both kinds of files: single characters and the bytes of byte_fallback, once the vocab is there; what ids say, at
 * the end: false after adding to diags. */
void tk_model_index_characters(TkBpe *bpe);
bool tk_model_make_outputs(TkBpe *bpe, SuDiags *diags);
/* Appends what an id of the vocab says as the first of a text. */
void tk_model_first_output(const TkBpe *bpe, int32_t id, SuText *out);
/* The step that takes characters away from the front of a whole text, or NULL. */
const TkStep *tk_model_leading(const TkBpe *bpe);
/* A matcher for this model's patterns in *out, NULL where they need none. false: no memory. */
bool tk_model_matcher(const TkBpe *bpe, TkMatcher **out);
void tk_model_free(TkBpe *bpe); /* all but *bpe itself */

/* The id of a token by its text, -1 if there is none; whether an id stands for nothing. */
int32_t tk_model_find(const TkBpe *bpe, const char *text);
bool tk_model_is_gap(const TkBpe *bpe, int32_t id);

/* bpe.c: the tokenizer of a malloced model, which it takes. NULL: no memory. */
RtTokenizer *tk_model_tokenizer(TkBpe *bpe, const TkSpecials *specials);

#endif
