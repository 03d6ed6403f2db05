/* Tokenizers and texts as the public header has them. */
#include <string.h>

#include "runtime/device.h"
#include "runtime/tokenizer.h"
#include "support/alloc.h"

static const MossError fine = {.code = MOSS_OK};

MossError moss_tokenizer_bytes(int64_t vocab_size, int32_t bos, int32_t eos, MossTokenizer **out_tokenizer) {
    *out_tokenizer = rt_tokenizer_bytes(vocab_size, bos, eos);
    return *out_tokenizer ? fine : rt_error(MOSS_NO_MEMORY, "cannot allocate memory for a tokenizer");
}

void moss_tokenizer_free(MossTokenizer *tokenizer) { rt_tokenizer_free(tokenizer); }

int32_t moss_tokenizer_bos(const MossTokenizer *tokenizer) { return rt_tokenizer_bos(tokenizer); }

int32_t moss_tokenizer_eos(const MossTokenizer *tokenizer) { return rt_tokenizer_eos(tokenizer); }

MossError moss_tokenizer_set_ends(MossTokenizer *tokenizer, const int32_t *ids, uint32_t count) {
    bool good = count <= MOSS_MAX_ENDS;
    for (uint32_t i = 0; good && i < count; i++) good = ids[i] >= 0;
    if (!good) return rt_error(MOSS_BAD_INPUT, "expected at most %d ids of tokens that end a text, none negative", MOSS_MAX_ENDS);
    rt_tokenizer_set_ends(tokenizer, ids, count);
    return fine;
}

static MossError encode_unguarded(const MossTokenizer *tokenizer, const char *text, size_t size, bool bos, bool behind,
                                  MossTokens *out) {
    SuDiags diags = {0};
    if (bos && rt_tokenizer_bos(tokenizer) >= 0) rt_tokens_add(out, rt_tokenizer_bos(tokenizer));
    bool ok = rt_tokenizer_encode_behind(tokenizer, text, size, behind, out, &diags);
    MossError error = ok ? fine : rt_error_from(MOSS_BAD_INPUT, &diags);
    su_diags_free(&diags);
    return error;
}

static MossError encode(const MossTokenizer *tokenizer, const char *text, size_t size, bool bos, bool behind, MossTokens *out) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "encoding a text")) return rt_failure(&guard.failure);
    MossError result = encode_unguarded(tokenizer, text, size, bos, behind, out);
    su_guard_end(&guard);
    return result;
}

MossError moss_encode(const MossTokenizer *tokenizer, const char *text, size_t size, MossTokens *out) {
    return encode(tokenizer, text, size, true, false, out);
}

MossError moss_encode_part(const MossTokenizer *tokenizer, const char *text, size_t size, bool behind, MossTokens *out) {
    return encode(tokenizer, text, size, false, behind, out);
}

MossError moss_token_bytes(const MossTokenizer *tokenizer, int32_t token, char *room, size_t room_size, size_t *out_size) {
    *out_size = 0;
    SuGuard guard;
    SuText text = {0};
    if (SU_CAUGHT(&guard, NULL, "reading a token")) return rt_failure(&guard.failure);
    rt_tokenizer_decode(tokenizer, token, &text);
    su_guard_end(&guard);
    memcpy(room, text.size ? text.text : "", text.size < room_size ? text.size : room_size);
    *out_size = text.size;
    su_text_free(&text);
    return (MossError){.code = MOSS_OK};
}

void moss_tokens_free(MossTokens *tokens) { rt_tokens_free(tokens); }

MossVocabulary moss_tokenizer_vocabulary(const MossTokenizer *tokenizer, uint32_t *bits) {
    return rt_tokenizer_vocabulary(tokenizer, bits);
}

/* ---- streams */

struct MossStream {
    RtTextStream text;
    SuText gained;
};

static MossError stream_create_unguarded(const MossTokenizer *tokenizer, MossStream **out_stream) {
    MossStream *stream = su_malloc(sizeof *stream);
    if (!stream) return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for a text stream");
    *stream = (MossStream){.text.tokenizer = tokenizer};
    su_text_append(&stream->gained, "", 0);
    *out_stream = stream;
    return fine;
}

MossError moss_stream_create(const MossTokenizer *tokenizer, MossStream **out_stream) {
    *out_stream = NULL;
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "beginning a stream of text")) return rt_failure(&guard.failure);
    MossError result = stream_create_unguarded(tokenizer, out_stream);
    su_guard_end(&guard);
    return result;
}

static const char *gained(const MossStream *stream, size_t *out_size) {
    *out_size = stream->gained.size;
    return stream->gained.text;
}

static void forget_gained(MossStream *stream) {
    stream->gained.size = 0;
    stream->gained.text[0] = '\0';
}

static const char *add_token(MossStream *stream, int32_t token, size_t *out_size) {
    forget_gained(stream);
    rt_text_stream_add(&stream->text, token, &stream->gained);
    return gained(stream, out_size);
}

static const char *end_text(MossStream *stream, size_t *out_size) {
    forget_gained(stream);
    rt_text_stream_end(&stream->text, &stream->gained);
    return gained(stream, out_size);
}

/* What the guard has freed. */
static const char *no_text(MossStream *stream, bool none_held, size_t *out_size) {
    if (none_held) stream->text.held = (SuText){0};
    *out_size = 0;
    return NULL;
}

const char *moss_stream_add(MossStream *stream, int32_t token, size_t *out_size) {
    SuGuard guard;
    bool none_held = stream->text.held.text == NULL;
    if (SU_CAUGHT(&guard, NULL, "decoding a token")) return no_text(stream, none_held, out_size);
    const char *text = add_token(stream, token, out_size);
    su_guard_end(&guard);
    return text;
}

const char *moss_stream_end(MossStream *stream, size_t *out_size) {
    SuGuard guard;
    bool none_held = stream->text.held.text == NULL;
    if (SU_CAUGHT(&guard, NULL, "decoding a token")) return no_text(stream, none_held, out_size);
    const char *text = end_text(stream, out_size);
    su_guard_end(&guard);
    return text;
}

void moss_stream_whole(MossStream *stream) { stream->text.whole = true; }

void moss_stream_free(MossStream *stream) {
    if (!stream) return;
    su_text_free(&stream->text.held);
    su_text_free(&stream->gained);
    su_free(stream);
}
