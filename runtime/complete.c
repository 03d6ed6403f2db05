#include "runtime/complete.h"

#include <math.h>
#include <string.h>

#include "runtime/device.h"
#include "runtime/picker.h"
#include "runtime/stops.h"
#include "runtime/tokenizer.h"
#include "support/alloc.h"

static const MossError fine = {.code = MOSS_OK};

enum { BURST = 32 }; /* tokens that a device picks and feeds before they are told */

typedef enum Rest { HELD_TEXT, HELD_CHARACTER, NOTHING } Rest;

/* A text in progress: tokens are picked and fed some at a time, and told one by one. */
typedef struct Completion {
    const RtCompletion *of;
    MossVocabulary vocabulary;
    uint32_t *bits; /* the vocabulary's, malloced */
    MossSequence sequence;
    MossStream *stream;
    RtStops stops;
    bool stopped; /* by one of them */
    uint64_t left; /* tokens that may still be told */
    int32_t tokens[BURST]; /* [n] that were picked; those from `at` on are still to be told */
    uint32_t n, at;
    bool over; /* no more are picked, since: */
    MossStop stop;
    MossError error;
    bool unfed; /* the last token */
    bool keeps; /* the state keeps its logits: steps of others may come before its next one */
    int rest; /* Rest: of what is held at the end, what is told next */
} Completion;

/* How many tokens to pick and feed before they are told; 0: the next one is not fed. */
static uint32_t burst(const Completion *c) {
    bool many = c->of->model->device && !c->of->n_stops && !c->of->picker;
    uint64_t n = many ? BURST : 1, left = c->left - !c->of->feed_last;
    int64_t bound = c->of->model->program->max_positions, room = bound - c->sequence.state->position;
    if (left < n) n = left;
    return (uint32_t)(bound && room < (int64_t)n ? room : (int64_t)n);
}

/* One more token, which is not fed: the last one, or one for which there is no position. */
static MossError pick_last(Completion *c) {
    const MossState *state = c->sequence.state;
    float *room = su_malloc((size_t)c->vocabulary.limit * sizeof *room);
    if (!room) return rt_error(MOSS_NO_MEMORY, "cannot allocate memory to pick a token");
    int32_t token = rt_pick(&c->vocabulary, state, c->sequence.sampler, c->of->picker, room);
    su_free(room);
    if (token == MOSS_NO_TOKEN)
        return rt_error(MOSS_BAD_INPUT, "all logits are NaN after %lld tokens", (long long)moss_state_position(state));
    c->stop = MOSS_STOP_EOS;
    if (token == MOSS_NO_MORE || rt_ends(&c->vocabulary, token)) return fine;
    c->stop = c->left == 1 && !c->of->feed_last ? MOSS_STOP_COUNT : MOSS_STOP_POSITIONS;
    c->tokens[c->n++] = token;
    c->unfed = true;
    return fine;
}

/* Where others may step in between, the logits of a step become the state's own. */
static MossError keep_logits(const Completion *c, MossError error) {
    MossState *state = c->sequence.state;
    if (error.code != MOSS_OK || !c->keeps || state->has_logits || rt_state_keep_logits(state, moss_state_logits(state)))
        return error;
    return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for the logits of a state");
}

/* The next tokens; none, and `over`, where there are none or an error is. */
static void pick(Completion *c) {
    MossPicker *picker = c->of->picker;
    uint32_t n = burst(c);
    c->n = c->at = 0;
    if (n == 0) {
        c->over = true;
        c->error = pick_last(c);
        return;
    }
    c->error = moss_generate_picked(c->of->model, &c->vocabulary, &c->sequence, picker ? &picker : NULL, 1, n, &c->n);
    c->error = keep_logits(c, c->error);
    c->over = c->error.code != MOSS_OK || c->sequence.ended || c->n == c->left;
    c->stop = c->sequence.ended ? MOSS_STOP_EOS : MOSS_STOP_COUNT;
}

/* false: there is no next token. */
static bool next_token(Completion *c, int32_t *out_token) {
    while (c->at == c->n && !c->over) pick(c);
    if (c->at == c->n) return false;
    *out_token = c->tokens[c->at++];
    return true;
}

/* No more tokens, and those that were picked are not told. */
static void end_with(Completion *c, MossStop stop) {
    c->over = true;
    c->n = c->at;
    c->stop = stop;
}

static void lose_text(Completion *c) {
    end_with(c, c->stop);
    c->error = rt_error(MOSS_NO_MEMORY, "out of memory decoding a token");
}

/* The text of a token. false: there is no memory for it. */
static bool read_piece(Completion *c, MossPiece *piece) {
    piece->text = moss_stream_add(c->stream, piece->token, &piece->size);
    c->left--;
    if (!piece->text || (c->of->n_stops && !rt_stops_add(&c->stops, &piece->text, &piece->size, &c->stopped))) return false;
    if (!c->stopped) return true;
    end_with(c, MOSS_STOP_TEXT);
    if (c->of->stop_text) *c->of->stop_text = c->stops.found;
    return true;
}

/* What is held of a text that no stop became, then of a character that no token finishes. false: nothing. */
static bool next_rest(Completion *c, MossPiece *piece) {
    piece->token = -1;
    if (c->stopped) return false;
    while (c->rest != NOTHING) {
        bool held = c->rest++ == HELD_TEXT;
        piece->text = held ? rt_stops_rest(&c->stops, &piece->size) : moss_stream_end(c->stream, &piece->size);
        if (!piece->text && !held) lose_text(c);
        if (piece->text && piece->size) return true;
    }
    return false;
}

/* The next token with its text, and at the end what was held. false: it is over. */
static bool next_piece(Completion *c, MossPiece *piece) {
    *piece = (MossPiece){.token = -1};
    if (!next_token(c, &piece->token)) return next_rest(c, piece);
    if (read_piece(c, piece)) return true;
    lose_text(c);
    return next_rest(c, piece);
}

/* No id ends the text, and those that would are not picked. */
static void ignore_ends(MossVocabulary *v, uint32_t *bits) {
    if (!v->gaps) memset(bits, 0, ((size_t)v->limit + 31) / 32 * sizeof *bits);
    for (int64_t id = 0; id < v->limit; id++)
        if (rt_ends(v, (int32_t)id)) bits[id / 32] |= 1u << (id % 32);
    *v = (MossVocabulary){.limit = v->limit, .eos = -1, .gaps = bits};
}

static MossError check_sampler(const MossSampler *s) {
    if (!(s->temperature >= 0 && isfinite(s->temperature)))
        return rt_error(MOSS_BAD_INPUT, "sampling: expected a temperature from 0, got %g", (double)s->temperature);
    if (s->top_k < 0) return rt_error(MOSS_BAD_INPUT, "sampling: expected top_k from 0, got %d", (int)s->top_k);
    if (!(s->top_p >= 0 && s->top_p <= 1))
        return rt_error(MOSS_BAD_INPUT, "sampling: expected top_p from 0 to 1, got %g", (double)s->top_p);
    return fine;
}

/* All but the state. */
static MossError check_request(const MossModel *model, const MossTokenizer *tokenizer, const MossSampler *sampler,
                               const char *const *stops, size_t n_stops) {
    int64_t limit = rt_tokenizer_limit(tokenizer), vocab_size = model->program->vocab_size;
    if (limit > vocab_size) {
        return rt_error(MOSS_BAD_INPUT, "tokenizer has ids up to %lld, but the program's vocab_size is %lld", (long long)limit - 1,
                        (long long)vocab_size);
    }
    for (size_t i = 0; i < n_stops; i++)
        if (!stops[i][0]) return rt_error(MOSS_BAD_INPUT, "a text that ends the text is empty");
    return check_sampler(sampler);
}

static MossError check(const RtCompletion *of) {
    if (!moss_state_logits(of->state))
        return rt_error(MOSS_BAD_INPUT, "state has no logits to continue from: feed it a token first");
    return check_request(of->model, of->tokenizer, of->sampler, of->stops, of->n_stops);
}

static MossError begin(Completion *c, const RtCompletion *of) {
    *c = (Completion){.of = of,
                      .stops = {.texts = of->stops, .count = of->n_stops},
                      .sequence = {.state = of->state, .sampler = of->sampler, .tokens = c->tokens},
                      .left = of->count,
                      .over = of->count == 0,
                      .stop = MOSS_STOP_COUNT};
    MossError error = check(of);
    if (error.code != MOSS_OK) return error;
    c->bits = su_malloc(((size_t)of->model->program->vocab_size / 32 + 1) * sizeof *c->bits);
    if (!c->bits) return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for a text");
    error = moss_stream_create(of->tokenizer, &c->stream);
    if (error.code != MOSS_OK) return error;
    c->vocabulary = rt_tokenizer_vocabulary(of->tokenizer, c->bits);
    if (of->ignore_eos) ignore_ends(&c->vocabulary, c->bits);
    if (of->whole) moss_stream_whole(c->stream);
    return fine;
}

static void end(Completion *c) {
    moss_stream_free(c->stream);
    rt_stops_free(&c->stops);
    su_free(c->bits);
}

/* Whether the state stands after all that was told. */
static bool is_fed(const Completion *c) { return c->at == c->n && !c->unfed && c->error.code == MOSS_OK; }

MossError rt_complete(const RtCompletion *of, MossStop *out_stop) {
    Completion c;
    MossPiece piece;
    *out_stop = MOSS_STOP_COUNT;
    MossError error = begin(&c, of);
    while (error.code == MOSS_OK && next_piece(&c, &piece)) {
        bool go = of->told(of->context, piece.token, piece.text, piece.size);
        if (piece.token < 0 || c.stopped) continue; /* what `told` gives at the end is passed over */
        if (!go) end_with(&c, MOSS_STOP_CALLER);
        if (go && of->fed && is_fed(&c) && !of->fed(of->context) && !c.over) end_with(&c, MOSS_STOP_CALLER);
    }
    *out_stop = c.stop;
    if (error.code == MOSS_OK) error = c.error;
    end(&c);
    return error;
}

MossError moss_complete(MossModel *model, MossState *state, const MossTokenizer *tokenizer, MossSampler *sampler, uint64_t count,
                        MossText told, void *context, MossStop *out_stop) {
    RtCompletion completion = {.model = model,
                               .state = state,
                               .tokenizer = tokenizer,
                               .sampler = sampler,
                               .count = count,
                               .feed_last = true,
                               .told = told,
                               .context = context};
    MossStop unasked;
    return rt_complete(&completion, out_stop ? out_stop : &unasked);
}

static MossError read_completion(const MossCompletion *completion, MossCompletion *out) {
    size_t known = sizeof *out;
    *out = (MossCompletion){0};
    bool good = completion->size != 0;
    for (size_t i = known; good && i < completion->size; i++) good = ((const uint8_t *)completion)[i] == 0;
    memcpy(out, completion, completion->size < known ? completion->size : known);
    return good ? fine : rt_error(MOSS_BAD_INPUT, "MossCompletion.size must be sizeof(MossCompletion)");
}

static MossError take_completion(MossModel *model, MossState *state, const MossTokenizer *tokenizer, MossSampler *sampler,
                                 const MossCompletion *completion, RtCompletion *out) {
    MossCompletion c;
    MossError error = read_completion(completion, &c);
    *out = (RtCompletion){.model = model,
                          .state = state,
                          .tokenizer = tokenizer,
                          .sampler = sampler,
                          .count = c.count,
                          .feed_last = true,
                          .stops = c.stops,
                          .n_stops = c.n_stops,
                          .ignore_eos = c.ignore_eos,
                          .whole = c.whole,
                          .picker = c.picker,
                          .told = c.told,
                          .context = c.context};
    return error;
}

MossError moss_complete_with(MossModel *model, MossState *state, const MossTokenizer *tokenizer, MossSampler *sampler,
                             const MossCompletion *completion, MossStop *out_stop) {
    RtCompletion of;
    MossStop unasked;
    if (out_stop) *out_stop = MOSS_STOP_COUNT;
    MossError error = take_completion(model, state, tokenizer, sampler, completion, &of);
    return error.code == MOSS_OK ? rt_complete(&of, out_stop ? out_stop : &unasked) : error;
}

MossError moss_completion_check(const MossModel *model, const MossTokenizer *tokenizer, const MossSampler *sampler,
                                const MossCompletion *completion) {
    MossCompletion c;
    MossError error = read_completion(completion, &c);
    return error.code == MOSS_OK ? check_request(model, tokenizer, sampler, c.stops, c.n_stops) : error;
}

/* ---- token by token */

struct MossWriting {
    RtCompletion of;
    Completion completion;
};

MossError moss_writing_begin(MossModel *model, MossState *state, const MossTokenizer *tokenizer, MossSampler *sampler,
                             const MossCompletion *completion, MossWriting **out_writing) {
    *out_writing = NULL;
    MossWriting *w = su_calloc(1, sizeof *w);
    if (!w) return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for a text");
    MossError error = take_completion(model, state, tokenizer, sampler, completion, &w->of);
    if (error.code == MOSS_OK) error = begin(&w->completion, &w->of);
    w->completion.keeps = true;
    if (error.code == MOSS_OK) error = keep_logits(&w->completion, error);
    if (error.code == MOSS_OK)
        *out_writing = w;
    else
        moss_writing_free(w);
    return error;
}

MossError moss_writing_next(MossWriting *writing, MossPiece *out_piece, bool *out_more) {
    *out_more = next_piece(&writing->completion, out_piece);
    return *out_more ? fine : writing->completion.error;
}

/* ---- several at once */

/* Whether they pick from the same tokens. */
static bool pick_alike(const Completion *a, const Completion *b) {
    return a->of->model == b->of->model && a->of->tokenizer == b->of->tokenizer && a->of->ignore_eos == b->of->ignore_eos;
}

static bool wants_token(const Completion *c) { return c->at == c->n && !c->over && burst(c) > 0; }

/* Those that want a token and pick alike; how many. */
static uint32_t gather(MossWriting *const *writings, uint32_t n, Completion **out, MossSequence *sequences, MossPicker **pickers) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++) {
        Completion *c = &writings[i]->completion;
        if (!wants_token(c) || (count && !pick_alike(c, out[0]))) continue;
        sequences[count] = c->sequence;
        pickers[count] = c->of->picker;
        out[count++] = c;
    }
    return count;
}

/* What a common step of one token left to one of them. */
static void take_token(Completion *c, bool ended, uint32_t done, MossError error) {
    bool failed = error.code != MOSS_OK && (error.code != MOSS_NON_FINITE || moss_state_failed(c->sequence.state));
    c->at = 0;
    c->n = done;
    c->over = ended || failed || done == c->left;
    c->stop = ended ? MOSS_STOP_EOS : MOSS_STOP_COUNT;
    c->error = failed ? error : keep_logits(c, fine);
    c->over = c->over || c->error.code != MOSS_OK;
}

/* Steps until all that want a token have one, but for a last one, which has no company. An error before a step is left to each alone. */
static void pick_together(MossWriting *const *writings, uint32_t n, Completion **them, MossSequence *sequences,
                          MossPicker **pickers) {
    for (uint32_t count; (count = gather(writings, n, them, sequences, pickers)) > 1;) {
        uint32_t done;
        MossError error = moss_generate_picked(them[0]->of->model, &them[0]->vocabulary, sequences, pickers, count, 1, &done);
        if (!done && error.code != MOSS_OK) return;
        for (uint32_t i = 0; i < count; i++)
            if (done || sequences[i].ended) take_token(them[i], sequences[i].ended, done, error);
    }
}

MossError moss_writings_next(MossWriting *const *writings, uint32_t n, MossPiece *out_pieces, bool *out_more) {
    size_t each = sizeof(Completion *) + sizeof(MossSequence) + sizeof(MossPicker *);
    MossSequence *sequences = su_malloc((size_t)n * each + 1);
    if (!sequences) return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for %u texts", n);
    Completion **them = (Completion **)(void *)(sequences + n);
    pick_together(writings, n, them, sequences, (MossPicker **)(void *)(them + n));
    su_free(sequences);
    for (uint32_t i = 0; i < n; i++) out_more[i] = next_piece(&writings[i]->completion, &out_pieces[i]);
    return fine;
}

MossStop moss_writing_stop(const MossWriting *writing) { return writing->completion.stop; }

void moss_writing_free(MossWriting *writing) {
    if (!writing) return;
    end(&writing->completion);
    su_free(writing);
}
