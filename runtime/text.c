/* Tokenizers and texts as the public header has them. */
#include "runtime/device.h"
#include "runtime/tokenizer.h"
#include "support/alloc.h"

static const MossError fine = {.code = MOSS_OK};

MossError moss_tokenizer_bytes(int64_t vocab_size, int32_t bos, int32_t eos, MossTokenizer **out_tokenizer) {
    *out_tokenizer = rt_tokenizer_bytes(vocab_size, bos, eos);
    return *out_tokenizer ? fine : rt_error(MOSS_NO_MEMORY, "no memory for a tokenizer");
}

void moss_tokenizer_free(MossTokenizer *tokenizer) { rt_tokenizer_free(tokenizer); }

int32_t moss_tokenizer_bos(const MossTokenizer *tokenizer) { return rt_tokenizer_bos(tokenizer); }

int32_t moss_tokenizer_eos(const MossTokenizer *tokenizer) { return rt_tokenizer_eos(tokenizer); }

static MossError encode_unguarded(const MossTokenizer *tokenizer, const char *text, size_t size, MossTokens *out) {
    SuDiags diags = {0};
    if (rt_tokenizer_bos(tokenizer) >= 0) rt_tokens_add(out, rt_tokenizer_bos(tokenizer));
    bool ok = rt_tokenizer_encode(tokenizer, text, size, out, &diags);
    MossError error = ok ? fine : rt_error_from(MOSS_BAD_INPUT, &diags);
    su_diags_free(&diags);
    return error;
}

MossError moss_encode(const MossTokenizer *tokenizer, const char *text, size_t size, MossTokens *out) {
    SuGuard guard;
    if (SU_CAUGHT(&guard, NULL, "encoding a text")) return rt_failure(&guard.failure);
    MossError result = encode_unguarded(tokenizer, text, size, out);
    su_guard_end(&guard);
    return result;
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
    if (!stream) return rt_error(MOSS_NO_MEMORY, "no memory for a stream of text");
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

void moss_stream_free(MossStream *stream) {
    if (!stream) return;
    su_text_free(&stream->text.held);
    su_text_free(&stream->gained);
    su_free(stream);
}

/* ---- one text */

enum { BURST = 32 }; /* tokens that a device picks and feeds before they are told */

typedef struct Completion {
    MossModel *model;
    const MossTokenizer *tokenizer;
    MossVocabulary vocabulary;
    MossSequence sequence;
    MossStream *stream;
    MossText told;
    void *context;
    uint64_t left; /* tokens that may still be told */
    int32_t tokens[BURST];
} Completion;

static MossError no_text_memory(void) { return rt_error(MOSS_NO_MEMORY, "out of memory decoding a token"); }

/* *out_go is false: the caller has enough. No guard is around the call of `told`, which may make objects of its own. */
static MossError tell(Completion *c, int32_t token, bool *out_go) {
    size_t size;
    const char *text = moss_stream_add(c->stream, token, &size);
    if (!text) return no_text_memory();
    c->left--;
    *out_go = c->told(c->context, token, text, size);
    return fine;
}

/* Where no position is left: one more token, which cannot be fed. */
static MossError tell_last(Completion *c, MossStop *out_stop) {
    float *room = su_malloc((size_t)c->vocabulary.limit * sizeof *room);
    if (!room) return rt_error(MOSS_NO_MEMORY, "no memory for picking a token");
    int32_t token = rt_tokenizer_sample(c->tokenizer, c->sequence.sampler, moss_state_logits(c->sequence.state), room);
    su_free(room);
    if (token < 0) return rt_error(MOSS_BAD_INPUT, "no logit is a number after the last token");
    bool go = true;
    MossError error = token == c->vocabulary.eos ? fine : tell(c, token, &go);
    *out_stop = token == c->vocabulary.eos ? MOSS_STOP_EOS : go ? MOSS_STOP_POSITIONS : MOSS_STOP_CALLER;
    return error;
}

/* How many tokens to pick and feed before they are told; 0: no position is left. */
static uint32_t burst(const Completion *c) {
    uint64_t n = c->model->device ? BURST : 1;
    int64_t bound = c->model->program->max_positions, room = bound - c->sequence.state->position;
    if (c->left < n) n = c->left;
    return (uint32_t)(bound && room < (int64_t)n ? room : (int64_t)n);
}

static MossError complete(Completion *c, MossStop *out_stop) {
    c->sequence.tokens = c->tokens;
    *out_stop = MOSS_STOP_COUNT;
    while (c->left) {
        uint32_t n = burst(c), done;
        if (n == 0) return tell_last(c, out_stop);
        MossError error = moss_generate(c->model, &c->vocabulary, &c->sequence, 1, n, &done);
        for (uint32_t i = 0; i < done; i++) {
            bool go = true;
            MossError lost = tell(c, c->tokens[i], &go);
            if (go && lost.code == MOSS_OK) continue;
            *out_stop = MOSS_STOP_CALLER;
            return lost;
        }
        if (error.code != MOSS_OK) return error;
        if (!c->sequence.ended) continue;
        *out_stop = MOSS_STOP_EOS;
        break;
    }
    return fine;
}

/* What is held of a character that no token finishes. */
static MossError tell_rest(Completion *c) {
    size_t size;
    const char *text = moss_stream_end(c->stream, &size);
    if (!text) return no_text_memory();
    if (size) c->told(c->context, -1, text, size);
    return fine;
}

MossError moss_complete(MossModel *model, MossState *state, const MossTokenizer *tokenizer, MossSampler *sampler, uint64_t count,
                        MossText told, void *context, MossStop *out_stop) {
    MossStop unasked;
    if (!out_stop) out_stop = &unasked;
    *out_stop = MOSS_STOP_COUNT;
    if (!moss_state_logits(state)) return rt_error(MOSS_BAD_INPUT, "the state has no logits to go on with: feed it a token first");
    Completion c = {.model = model,
                    .tokenizer = tokenizer,
                    .sequence = {.state = state, .sampler = sampler},
                    .told = told,
                    .context = context,
                    .left = count};
    uint32_t *bits = su_malloc(((size_t)model->program->vocab_size / 32 + 1) * sizeof *bits);
    MossError error = bits ? moss_stream_create(tokenizer, &c.stream) : rt_error(MOSS_NO_MEMORY, "no memory for a text");
    if (error.code == MOSS_OK) {
        c.vocabulary = rt_tokenizer_vocabulary(tokenizer, bits);
        error = complete(&c, out_stop);
        MossError rest = tell_rest(&c);
        if (error.code == MOSS_OK) error = rest;
    }
    moss_stream_free(c.stream);
    su_free(bits);
    return error;
}
