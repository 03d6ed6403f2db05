/* Text to token ids and back. One struct of functions a kind: `bytes` now; others join with a constructor and a table. */
#ifndef MOSSC_RUNTIME_TOKENIZER_H
#define MOSSC_RUNTIME_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "support/diag.h"
#include "support/str.h"

typedef struct RtTokenizer RtTokenizer;

/* Ids of a text; `RtTokens t = {0};` is valid and empty. */
typedef struct RtTokens {
    int32_t *ids; /* malloced */
    size_t count, capacity;
} RtTokens;

void rt_tokens_add(RtTokens *tokens, int32_t id);
void rt_tokens_free(RtTokens *tokens);

/* The tokenizer `bytes`: an id is a byte. bos and eos are ids, or -1 for none; from 256 on they stand for no byte.
 * vocab_size bounds what may come out. The caller frees it. */
RtTokenizer *rt_tokenizer_bytes(int64_t vocab_size, int32_t bos, int32_t eos);
void rt_tokenizer_free(RtTokenizer *tokenizer);

int32_t rt_tokenizer_bos(const RtTokenizer *tokenizer); /* -1: none */
int32_t rt_tokenizer_eos(const RtTokenizer *tokenizer); /* -1: none */
/* Ids from here on stand for nothing (padding of the vocabulary): the `limit` of moss_sample. */
int64_t rt_tokenizer_limit(const RtTokenizer *tokenizer);

/* Appends the ids of text[0..size), without bos and eos. An id that the vocabulary lacks is an error. */
bool rt_tokenizer_encode(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out, SuDiags *diags);
/* Appends the text of an id: bytes, which need not be whole characters. Nothing for bos, eos and ids that stand for nothing. */
void rt_tokenizer_decode(const RtTokenizer *tokenizer, int32_t id, SuText *out);

#endif
