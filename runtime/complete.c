#include "runtime/complete.h"

#include <string.h>

#include "runtime/device.h"
#include "runtime/picker.h"
#include "runtime/stops.h"
#include "runtime/tokenizer.h"
#include "support/alloc.h"

static const MossError fine = {.code = MOSS_OK};

enum { BURST = 32 }; /* tokens that a device picks and feeds before they are told */

/* A text in progress. */
typedef struct Completion {
    const RtCompletion *of;
    MossVocabulary vocabulary;
    MossSequence sequence;
    MossStream *stream;
    RtStops stops;
    bool stopped;  /* by one of them */
    uint64_t left; /* tokens that may still be told */
    int32_t tokens[BURST];
} Completion;

static MossError no_text_memory(void) { return rt_error(MOSS_NO_MEMORY, "out of memory decoding a token"); }

/* *out_go is false: the caller has enough. `told` may make objects of its own, so no guard is around it. */
static MossError tell(Completion *c, int32_t token, bool *out_go) {
    size_t size;
    const char *text = moss_stream_add(c->stream, token, &size);
    if (!text) return no_text_memory();
    c->left--;
    if (c->of->n_stops && !rt_stops_add(&c->stops, &text, &size, &c->stopped)) return no_text_memory();
    if (c->stopped && c->of->stop_text) *c->of->stop_text = c->stops.found;
    *out_go = c->of->told(c->of->context, token, text, size) && !c->stopped;
    return fine;
}

/* One more token, which is not fed: the last one, or one for which there is no position. */
static MossError tell_last(Completion *c, MossStop *out_stop) {
    const MossState *state = c->sequence.state;
    float *room = su_malloc((size_t)c->vocabulary.limit * sizeof *room);
    if (!room) return rt_error(MOSS_NO_MEMORY, "cannot allocate memory to pick a token");
    int32_t token = rt_pick(&c->vocabulary, state, c->sequence.sampler, c->of->picker, room);
    su_free(room);
    if (token == MOSS_NO_TOKEN)
        return rt_error(MOSS_BAD_INPUT, "all logits are NaN after %lld tokens", (long long)moss_state_position(state));
    *out_stop = MOSS_STOP_EOS;
    if (token == MOSS_NO_MORE || rt_ends(&c->vocabulary, token)) return fine;
    bool go = true;
    MossError error = tell(c, token, &go);
    bool at_count = c->left == 0 && !c->of->feed_last;
    *out_stop = c->stopped ? MOSS_STOP_TEXT : !go ? MOSS_STOP_CALLER : at_count ? MOSS_STOP_COUNT : MOSS_STOP_POSITIONS;
    return error;
}

/* How many tokens to pick and feed before they are told; 0: the next one is not fed. */
static uint32_t burst(const Completion *c) {
    bool many = c->of->model->device && !c->of->n_stops && !c->of->picker;
    uint64_t n = many ? BURST : 1, left = c->left - !c->of->feed_last;
    int64_t bound = c->of->model->program->max_positions, room = bound - c->sequence.state->position;
    if (left < n) n = left;
    return (uint32_t)(bound && room < (int64_t)n ? room : (int64_t)n);
}

/* *out_go is false when told says so. */
static MossError tell_burst(Completion *c, uint32_t count, bool *out_go) {
    MossError error = fine;
    *out_go = true;
    for (uint32_t i = 0; i < count && *out_go && error.code == MOSS_OK; i++) error = tell(c, c->tokens[i], out_go);
    return error;
}

/* A burst of n tokens, which are fed; *out_stop is why it is the last one, if it is. */
static MossError add_burst(Completion *c, uint32_t n, bool *out_go, MossStop *out_stop) {
    uint32_t done;
    MossPicker *picker = c->of->picker;
    MossError error = moss_generate_picked(c->of->model, &c->vocabulary, &c->sequence, picker ? &picker : NULL, 1, n, &done);
    MossError lost = tell_burst(c, done, out_go);
    *out_stop = c->stopped ? MOSS_STOP_TEXT : MOSS_STOP_CALLER;
    if (lost.code != MOSS_OK) return lost;
    if (!*out_go) return error;
    if (error.code == MOSS_OK && c->of->fed) *out_go = c->of->fed(c->of->context);
    if (c->left == 0) *out_stop = MOSS_STOP_COUNT;
    if (c->sequence.ended) *out_stop = MOSS_STOP_EOS;
    *out_go = *out_go && c->left && !c->sequence.ended;
    return error;
}

static MossError complete(Completion *c, MossStop *out_stop) {
    c->sequence.tokens = c->tokens;
    *out_stop = MOSS_STOP_COUNT;
    bool go = c->left > 0;
    MossError error = fine;
    while (go && error.code == MOSS_OK) {
        uint32_t n = burst(c);
        if (n == 0) return tell_last(c, out_stop);
        error = add_burst(c, n, &go, out_stop);
    }
    return error;
}

/* What is held of a character that no token finishes, and of a text that no stop became. */
static MossError tell_rest(Completion *c) {
    size_t size, held_size;
    const char *text = moss_stream_end(c->stream, &size);
    if (!text) return no_text_memory();
    const char *held = rt_stops_rest(&c->stops, &held_size);
    if (held_size && !c->stopped) c->of->told(c->of->context, -1, held, held_size);
    if (size && !c->stopped) c->of->told(c->of->context, -1, text, size);
    return fine;
}

/* No id ends the text, and those that would are not picked. */
static void ignore_ends(Completion *c, uint32_t *bits) {
    MossVocabulary *v = &c->vocabulary;
    if (!v->gaps) memset(bits, 0, ((size_t)v->limit + 31) / 32 * sizeof *bits);
    for (int64_t id = 0; id < v->limit; id++)
        if (rt_ends(v, (int32_t)id)) bits[id / 32] |= 1u << (id % 32);
    *v = (MossVocabulary){.limit = v->limit, .eos = -1, .gaps = bits};
}

static MossError check(const RtCompletion *of) {
    int64_t limit = rt_tokenizer_limit(of->tokenizer), vocab_size = of->model->program->vocab_size;
    if (!moss_state_logits(of->state))
        return rt_error(MOSS_BAD_INPUT, "state has no logits to continue from: feed it a token first");
    if (limit > vocab_size) {
        return rt_error(MOSS_BAD_INPUT, "tokenizer has ids up to %lld, but the program's vocab_size is %lld", (long long)limit - 1,
                        (long long)vocab_size);
    }
    for (size_t i = 0; i < of->n_stops; i++)
        if (!of->stops[i][0]) return rt_error(MOSS_BAD_INPUT, "a text that ends the text is empty");
    return fine;
}

MossError rt_complete(const RtCompletion *of, MossStop *out_stop) {
    *out_stop = MOSS_STOP_COUNT;
    MossError wrong = check(of);
    if (wrong.code != MOSS_OK) return wrong;
    Completion c = {.of = of,
                    .stops = {.texts = of->stops, .count = of->n_stops},
                    .sequence = {.state = of->state, .sampler = of->sampler},
                    .left = of->count};
    uint32_t *bits = su_malloc(((size_t)of->model->program->vocab_size / 32 + 1) * sizeof *bits);
    MossError error =
        bits ? moss_stream_create(of->tokenizer, &c.stream) : rt_error(MOSS_NO_MEMORY, "cannot allocate memory for a text");
    if (error.code == MOSS_OK) {
        c.vocabulary = rt_tokenizer_vocabulary(of->tokenizer, bits);
        if (of->ignore_eos) ignore_ends(&c, bits);
        if (of->whole) moss_stream_whole(c.stream);
        error = complete(&c, out_stop);
        MossError rest = tell_rest(&c);
        if (error.code == MOSS_OK) error = rest;
    }
    moss_stream_free(c.stream);
    rt_stops_free(&c.stops);
    su_free(bits);
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

MossError moss_complete_with(MossModel *model, MossState *state, const MossTokenizer *tokenizer, MossSampler *sampler,
                             const MossCompletion *completion, MossStop *out_stop) {
    MossCompletion c;
    MossStop unasked;
    if (out_stop) *out_stop = MOSS_STOP_COUNT;
    MossError error = read_completion(completion, &c);
    if (error.code != MOSS_OK) return error;
    RtCompletion of = {.model = model,
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
    return rt_complete(&of, out_stop ? out_stop : &unasked);
}
