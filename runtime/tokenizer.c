#include "runtime/tokenizer.h"

#include <math.h>
#include <string.h>

#include "support/alloc.h"
#include "support/utf8.h"

struct RtTokenizer {
    const RtTokenizerKind *kind;
    void *self; /* the kind's own */
    int64_t limit, gaps;
    int32_t bos;
    int32_t ends[MOSS_MAX_ENDS]; /* eos first */
    uint32_t n_ends;
};

/* ---- bytes */

enum { BYTES = 256 };

/* `self` is the vocabulary's size. */
static bool encode_bytes(const void *self, const char *text, size_t size, bool behind, RtTokens *out, SuDiags *diags) {
    (void)behind;
    int64_t vocab_size = *(const int64_t *)self;
    for (size_t i = 0; i < size; i++) {
        int32_t id = (unsigned char)text[i];
        if (id >= vocab_size) {
            return su_error(diags, (SuSpan){0}, NULL, "byte %zu of the text is %d, outside the vocabulary (0 to %lld)", i, id,
                            (long long)vocab_size - 1);
        }
        rt_tokens_add(out, id);
    }
    return true;
}

static void decode_bytes(const void *self, int32_t id, SuText *out) {
    (void)self;
    if (id >= 0 && id < BYTES) {
        char byte = (char)id;
        su_text_append(out, &byte, 1);
    }
}

static const RtTokenizerKind bytes = {.encode = encode_bytes, .decode = decode_bytes, .free = su_free};

RtTokenizer *rt_tokenizer_bytes(int64_t vocab_size, int32_t bos, int32_t eos) {
    int64_t *self = su_malloc(sizeof *self);
    if (!self) return NULL;
    *self = vocab_size;
    int64_t limit = BYTES;
    limit = bos >= limit ? bos + INT64_C(1) : limit;
    limit = eos >= limit ? eos + INT64_C(1) : limit;
    limit = limit < vocab_size ? limit : vocab_size;
    return rt_tokenizer_make(&bytes, self, limit, 0, bos, eos);
}

/* ---- any kind */

RtTokenizer *rt_tokenizer_make(const RtTokenizerKind *kind, void *self, int64_t limit, int64_t gaps, int32_t bos, int32_t eos) {
    RtTokenizer *tokenizer = su_malloc(sizeof *tokenizer);
    if (!tokenizer) {
        kind->free(self);
        return NULL;
    }
    *tokenizer =
        (RtTokenizer){.kind = kind, .self = self, .limit = limit, .gaps = gaps, .bos = bos, .ends = {eos}, .n_ends = eos >= 0};
    return tokenizer;
}

void rt_tokenizer_free(RtTokenizer *tokenizer) {
    if (tokenizer) tokenizer->kind->free(tokenizer->self);
    su_free(tokenizer);
}

int32_t rt_tokenizer_bos(const RtTokenizer *tokenizer) { return tokenizer->bos; }

int32_t rt_tokenizer_eos(const RtTokenizer *tokenizer) { return tokenizer->n_ends ? tokenizer->ends[0] : -1; }

bool rt_tokenizer_is_end(const RtTokenizer *tokenizer, int32_t id) {
    for (uint32_t i = 0; i < tokenizer->n_ends; i++)
        if (tokenizer->ends[i] == id) return true;
    return false;
}

bool rt_tokenizer_add_end(RtTokenizer *tokenizer, int32_t id) {
    if (rt_tokenizer_is_end(tokenizer, id)) return true;
    if (tokenizer->n_ends == MOSS_MAX_ENDS) return false;
    if (!tokenizer->kind->is_gap && id >= tokenizer->limit) tokenizer->limit = id + INT64_C(1);
    tokenizer->ends[tokenizer->n_ends++] = id;
    return true;
}

void rt_tokenizer_set_ends(RtTokenizer *tokenizer, const int32_t *ids, uint32_t count) {
    tokenizer->n_ends = 0;
    for (uint32_t i = 0; i < count; i++) rt_tokenizer_add_end(tokenizer, ids[i]);
}

uint32_t moss_tokenizer_ends(const MossTokenizer *tokenizer, const int32_t **out_ids) {
    if (out_ids) *out_ids = tokenizer->ends;
    return tokenizer->n_ends;
}

int64_t rt_tokenizer_limit(const RtTokenizer *tokenizer) { return tokenizer->limit; }

int64_t rt_tokenizer_gaps(const RtTokenizer *tokenizer) { return tokenizer->gaps; }

bool rt_tokenizer_is_gap(const RtTokenizer *tokenizer, int32_t id) {
    return tokenizer->gaps && tokenizer->kind->is_gap(tokenizer->self, id);
}

static bool tokenizer_encode_unguarded(const RtTokenizer *tokenizer, const char *text, size_t size, bool behind, RtTokens *out,
                                       SuDiags *diags) {
    return tokenizer->kind->encode(tokenizer->self, text, size, behind, out, diags);
}

bool rt_tokenizer_encode(const RtTokenizer *tokenizer, const char *text, size_t size, RtTokens *out, SuDiags *diags) {
    return rt_tokenizer_encode_behind(tokenizer, text, size, false, out, diags);
}

bool rt_tokenizer_encode_behind(const RtTokenizer *tokenizer, const char *text, size_t size, bool behind, RtTokens *out,
                                SuDiags *diags) {
    SuGuard guard;
    bool none = out->ids == NULL;
    if (SU_CAUGHT(&guard, diags, "encoding a text")) {
        if (none) *out = (RtTokens){0}; /* what it had is freed */
        return false;
    }
    bool result = tokenizer_encode_unguarded(tokenizer, text, size, behind, out, diags);
    su_guard_end(&guard);
    return result;
}

void rt_tokenizer_decode(const RtTokenizer *tokenizer, int32_t id, SuText *out) {
    if (id != tokenizer->bos && !rt_tokenizer_is_end(tokenizer, id)) tokenizer->kind->decode(tokenizer->self, id, out);
}

MossVocabulary rt_tokenizer_vocabulary(const RtTokenizer *tokenizer, uint32_t *bits) {
    MossVocabulary vocabulary = {.limit = tokenizer->limit, .eos = rt_tokenizer_eos(tokenizer)};
    if (tokenizer->n_ends > 1) {
        vocabulary.more_eos = tokenizer->ends + 1;
        vocabulary.n_more_eos = tokenizer->n_ends - 1;
    }
    if (!tokenizer->gaps) return vocabulary;
    for (int64_t i = 0; i < (tokenizer->limit + 31) / 32; i++) bits[i] = 0;
    for (int64_t id = 0; id < tokenizer->limit; id++)
        if (rt_tokenizer_is_gap(tokenizer, (int32_t)id)) bits[id / 32] |= 1u << (id % 32);
    vocabulary.gaps = bits;
    return vocabulary;
}

int32_t rt_tokenizer_sample(const RtTokenizer *tokenizer, MossSampler *sampler, const float *logits, float *room) {
    if (tokenizer->gaps) { /* moss_sample never picks what is no number */
        for (int64_t id = 0; id < tokenizer->limit; id++) room[id] = rt_tokenizer_is_gap(tokenizer, (int32_t)id) ? NAN : logits[id];
        logits = room;
    }
    return moss_sample(sampler, logits, tokenizer->limit, tokenizer->limit);
}

/* Moves what is decided from the front of `held` to `out`. At the end nothing stays open. */
static void release(SuText *held, bool at_end, SuText *out) {
    size_t at = 0;
    while (at < held->size) {
        SuUtf8 c = su_utf8_at(held->text + at, held->size - at);
        if (c.open && !at_end) break;
        if (c.whole)
            su_text_append(out, held->text + at, c.size);
        else
            su_text_append(out, SU_UTF8_REPLACEMENT, strlen(SU_UTF8_REPLACEMENT));
        at += c.size;
    }
    if (at) {
        memmove(held->text, held->text + at, held->size - at);
        held->size -= at;
    }
}

/* Takes away from out[from..) what a whole text does not begin with. */
static void take_leading(RtTextStream *stream, size_t from, SuText *out) {
    const RtTokenizer *t = stream->tokenizer;
    const char *text = NULL;
    size_t size = 0, passed = from;
    uint32_t most = t->kind->leading ? t->kind->leading(t->self, &text, &size) : 0;
    while (stream->taken < most && out->size - passed >= size && memcmp(out->text + passed, text, size) == 0) {
        passed += size;
        stream->taken++;
    }
    stream->behind = stream->taken == most || passed < out->size;
    if (passed == from) return;
    memmove(out->text + from, out->text + passed, out->size - passed + 1);
    out->size -= passed - from;
}

void rt_text_stream_add(RtTextStream *stream, int32_t id, SuText *out) {
    const RtTokenizer *t = stream->tokenizer;
    SuText *to = t->kind->text ? &stream->held : out;
    size_t from = out->size;
    bool silent = id == t->bos || rt_tokenizer_is_end(t, id);
    if (stream->whole && !stream->begun && !silent && t->kind->decode_first)
        t->kind->decode_first(t->self, id, to);
    else
        rt_tokenizer_decode(t, id, to);
    stream->begun = stream->begun || !silent;
    release(&stream->held, false, out);
    if (stream->whole && !stream->behind && out->size > from) take_leading(stream, from, out);
}

void rt_text_stream_end(RtTextStream *stream, SuText *out) {
    release(&stream->held, true, out);
    su_text_free(&stream->held);
    stream->begun = stream->behind = false;
    stream->taken = 0;
}

void rt_tokens_add(RtTokens *tokens, int32_t id) {
    if (tokens->count == tokens->capacity) {
        size_t capacity = tokens->capacity ? 2 * tokens->capacity : 64;
        int32_t *grown = su_realloc(tokens->ids, capacity * sizeof *grown);
        if (!grown) su_no_memory(capacity * sizeof *grown);
        tokens->ids = grown;
        tokens->capacity = capacity;
    }
    tokens->ids[tokens->count++] = id;
}

void rt_tokens_free(RtTokens *tokens) {
    su_free(tokens->ids);
    *tokens = (RtTokens){0};
}
