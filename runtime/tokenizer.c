#include "runtime/tokenizer.h"

#include <stdlib.h>

/* What a kind of tokenizer does. */
typedef struct Kind {
    bool (*encode)(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out, SuDiags *diags);
    void (*decode)(const RtTokenizer *tokenizer, int32_t id, SuText *out);
} Kind;

struct RtTokenizer {
    const Kind *kind;
    int64_t vocab_size, limit;
    int32_t bos, eos;
};

/* ---- bytes */

enum { BYTES = 256 };

static bool encode_bytes(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out, SuDiags *diags) {
    for (size_t i = 0; i < size; i++) {
        int32_t id = (unsigned char)text[i];
        if (id >= tokenizer->vocab_size) {
            return su_error(diags, (SuSpan){0}, NULL, "byte %zu of the text is %d, but the vocabulary ends at %lld", i, id,
                            (long long)tokenizer->vocab_size - 1);
        }
        rt_tokens_add(out, id);
    }
    return true;
}

static void decode_bytes(const RtTokenizer *tokenizer, int32_t id, SuText *out) {
    (void)tokenizer;
    if (id >= 0 && id < BYTES) {
        char byte = (char)id;
        su_text_append(out, &byte, 1);
    }
}

static const Kind bytes = {.encode = encode_bytes, .decode = decode_bytes};

RtTokenizer *rt_tokenizer_bytes(int64_t vocab_size, int32_t bos, int32_t eos) {
    RtTokenizer *tokenizer = calloc(1, sizeof *tokenizer);
    if (!tokenizer) {
        return NULL;
    }
    int64_t limit = BYTES;
    limit = bos >= limit ? bos + INT64_C(1) : limit;
    limit = eos >= limit ? eos + INT64_C(1) : limit;
    limit = limit < vocab_size ? limit : vocab_size;
    *tokenizer = (RtTokenizer){.kind = &bytes, .vocab_size = vocab_size, .limit = limit, .bos = bos, .eos = eos};
    return tokenizer;
}

/* ---- any kind */

void rt_tokenizer_free(RtTokenizer *tokenizer) { free(tokenizer); }

int32_t rt_tokenizer_bos(const RtTokenizer *tokenizer) { return tokenizer->bos; }

int32_t rt_tokenizer_eos(const RtTokenizer *tokenizer) { return tokenizer->eos; }

int64_t rt_tokenizer_limit(const RtTokenizer *tokenizer) { return tokenizer->limit; }

bool rt_tokenizer_encode(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out, SuDiags *diags) {
    return tokenizer->kind->encode(tokenizer, text, size, out, diags);
}

void rt_tokenizer_decode(const RtTokenizer *tokenizer, int32_t id, SuText *out) {
    if (id != tokenizer->bos && id != tokenizer->eos) {
        tokenizer->kind->decode(tokenizer, id, out);
    }
}

void rt_tokens_add(RtTokens *tokens, int32_t id) {
    if (tokens->count == tokens->capacity) {
        tokens->capacity = tokens->capacity ? 2 * tokens->capacity : 64;
        tokens->ids = realloc(tokens->ids, tokens->capacity * sizeof *tokens->ids);
        if (!tokens->ids) {
            fputs("mossc: out of memory\n", stderr);
            exit(71);
        }
    }
    tokens->ids[tokens->count++] = id;
}

void rt_tokens_free(RtTokens *tokens) {
    free(tokens->ids);
    *tokens = (RtTokens){0};
}
