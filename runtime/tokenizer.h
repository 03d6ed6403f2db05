/* Text to token ids and back. One struct of functions a kind: `bytes` stands here; others (tokenizer/bpe.h) are libraries beside
 * the runtime, which bring a constructor and a table. */
#ifndef MOSSC_RUNTIME_TOKENIZER_H
#define MOSSC_RUNTIME_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "mossc/moss.h"
#include "support/diag.h"
#include "support/str.h"

typedef MossTokenizer RtTokenizer;
typedef MossTokens RtTokens;

void rt_tokens_add(RtTokens *tokens, int32_t id); /* without memory ends the guard (support/alloc.h) */
void rt_tokens_free(RtTokens *tokens);

/* The tokenizer `bytes`: an id is a byte. bos and eos are ids, or -1 for none; from 256 on they stand for no byte.
 * vocab_size bounds what may come out. The caller frees it. */
RtTokenizer *rt_tokenizer_bytes(int64_t vocab_size, int32_t bos, int32_t eos);
void rt_tokenizer_free(RtTokenizer *tokenizer);

int32_t rt_tokenizer_bos(const RtTokenizer *tokenizer); /* -1: none */
int32_t rt_tokenizer_eos(const RtTokenizer *tokenizer); /* -1: none; of several the first */
/* Whether an id ends a text; more ids that do, behind eos: false where there are MOSS_MAX_ENDS already. The limit of a
 * kind that knows no gaps rises to them, as it does to bos and eos. */
bool rt_tokenizer_is_end(const RtTokenizer *tokenizer, int32_t id);
bool rt_tokenizer_add_end(RtTokenizer *tokenizer, int32_t id);
void rt_tokenizer_set_ends(RtTokenizer *tokenizer, const int32_t *ids,
                           uint32_t count); /* in place of them; count ≤ MOSS_MAX_ENDS */
/* Ids from here on stand for nothing (padding of the vocabulary): the `limit` of moss_sample. */
int64_t rt_tokenizer_limit(const RtTokenizer *tokenizer);
/* How many ids below the limit stand for nothing all the same, and whether `id`, below the limit, is one of them. */
int64_t rt_tokenizer_gaps(const RtTokenizer *tokenizer);
bool rt_tokenizer_is_gap(const RtTokenizer *tokenizer, int32_t id);

/* Appends the ids of text[0..size), without bos and eos. An id that the vocabulary lacks is an error. */
bool rt_tokenizer_encode(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out, SuDiags *diags);
/* The same for a text that follows another, which some tokenizers put no blank before. */
bool rt_tokenizer_encode_behind(const RtTokenizer *tokenizer, const char *text, size_t size, bool behind, RtTokens *out,
                                SuDiags *diags);
/* Appends the text of an id: bytes, which need not be whole characters. Nothing for bos, what ends a
 * text, and ids that stand for nothing. */
void rt_tokenizer_decode(const RtTokenizer *tokenizer, int32_t id, SuText *out);

/* Picks a token from logits[vocab_size], never one that stands for nothing. room[limit] is used where there are gaps below the
 * limit, else it may be NULL. -1 if no logit is a number. */
int32_t rt_tokenizer_sample(const RtTokenizer *tokenizer, MossSampler *sampler, const float *logits, float *room);

/* What moss_generate may pick. bits[ceil(limit / 32)] are used where there are gaps, and must live as long. */
MossVocabulary rt_tokenizer_vocabulary(const RtTokenizer *tokenizer, uint32_t *bits);

/* Whether an id is among those that end a sequence. */
static inline bool rt_ends(const MossVocabulary *vocabulary, int32_t id) {
    for (uint32_t i = 0; i < vocabulary->n_more_eos; i++)
        if (vocabulary->more_eos[i] == id) return true;
    return id >= 0 && id == vocabulary->eos;
}

/* The text of ids as they come. Where tokens are pieces of text (not with `bytes`, whose tokens are any bytes), it comes in
 * whole UTF-8 characters: a piece of one is held until the rest is there, and what can become none is U+FFFD. */
typedef struct RtTextStream {
    const RtTokenizer *tokenizer;
    SuText held;
    bool
        whole; /* the ids are those of a text from its beginning, where some decoders take a blank away; else what they say goes on */
    bool begun, behind; /* an id has said something; what is in front of a whole text is passed */
    uint32_t taken; /* of what is taken away in front */
} RtTextStream; /* `RtTextStream s = {.tokenizer = t};`, or with .whole too, stands before the first id */

void rt_text_stream_add(RtTextStream *stream, int32_t id, SuText *out);
/* A piece that is still held becomes U+FFFD. Frees what the stream holds; it may begin anew. */
void rt_text_stream_end(RtTextStream *stream, SuText *out);

/* ---- for those who make kinds */

/* What a kind does. `self` is what its constructor gave to rt_tokenizer_make. */
typedef struct RtTokenizerKind {
    bool text; /* tokens are pieces of UTF-8 text */
    bool (*encode)(const void *self, const char *text, size_t size, bool behind, RtTokens *out, SuDiags *diags);
    void (*decode)(const void *self, int32_t id, SuText *out);
    void (*decode_first)(const void *self, int32_t id, SuText *out); /* of the first id of a whole text; NULL: as decode */
    /* How often *out_text is taken away from the front of a whole text, at most; NULL: never. */
    uint32_t (*leading)(const void *self, const char **out_text, size_t *out_size);
    bool (*is_gap)(const void *self, int32_t id); /* NULL: no gaps */
    void (*free)(void *self);
} RtTokenizerKind;

/* Takes `self` over; frees it and returns NULL when memory is out. limit and gaps as above. */
RtTokenizer *rt_tokenizer_make(const RtTokenizerKind *kind, void *self, int64_t limit, int64_t gaps, int32_t bos, int32_t eos);

#endif
