/* Pickers: biases, masks and penalties before the sampler's own steps. */
#include "runtime/picker.h"

#include <math.h>
#include <string.h>

#include "ir/vmath32.h"
#include "runtime/model.h"
#include "support/alloc.h"
#include "support/dmath.h"

enum { WINDOW = 64, MOST_LOGPROBS = 1000 };

struct MossPicker {
    MossPicking picking;
    MossBias *biases;
    int64_t vocab_size;
    float *room;      /* [vocab_size] logits after the steps */
    uint32_t *counts; /* [vocab_size] of the tokens in the window */
    uint32_t *mask;   /* [ceil(vocab_size / 32)] */
    int32_t *tokens;  /* [count] all that came, those that were committed with MINE set */
    size_t count, capacity;
    MossLogprob *logprobs; /* [1 + picking.logprobs] */
    uint32_t n_logprobs;
};

enum { MINE = 1 << 30 };

/* ---- creation */

static MossError no_memory(void) { return rt_error(MOSS_NO_MEMORY, "cannot allocate memory for a picker"); }

/* The caller's struct, or what it has of it. */
static MossError read_picking(const MossPicking *picking, MossPicking *out) {
    size_t known = sizeof *out;
    *out = (MossPicking){0};
    bool good = picking->size != 0;
    for (size_t i = known; good && i < picking->size; i++) good = ((const uint8_t *)picking)[i] == 0;
    if (!good) return rt_error(MOSS_BAD_INPUT, "MossPicking.size must be sizeof(MossPicking)");
    memcpy(out, picking, picking->size < known ? picking->size : known);
    return (MossError){.code = MOSS_OK};
}

static MossError check(const MossPicking *p, int64_t vocab_size) {
    bool finite =
        isfinite(p->min_p) && isfinite(p->repeat_penalty) && isfinite(p->presence_penalty) && isfinite(p->frequency_penalty);
    if (!finite || p->min_p < 0 || p->repeat_penalty < 0 || p->penalty_window < -1)
        return rt_error(MOSS_BAD_INPUT, "picking: expected finite values, none of min_p and repeat_penalty negative");
    if (p->logprobs > MOST_LOGPROBS) return rt_error(MOSS_BAD_INPUT, "picking: at most %d logprobs can be told", MOST_LOGPROBS);
    for (size_t i = 0; i < p->n_biases; i++) {
        const MossBias *bias = &p->biases[i];
        if (bias->token < 0 || bias->token >= vocab_size || isnan(bias->add) || bias->add == INFINITY)
            return rt_error(MOSS_BAD_INPUT, "bias of token %d: expected an id below %lld and a number", bias->token,
                            (long long)vocab_size);
    }
    return (MossError){.code = MOSS_OK};
}

MossError moss_picker_create(const MossPicking *picking, int64_t vocab_size, MossPicker **out_picker) {
    MossPicking read;
    *out_picker = NULL;
    MossError error = read_picking(picking, &read);
    if (error.code == MOSS_OK) error = check(&read, vocab_size);
    if (error.code != MOSS_OK) return error;
    MossPicker *p = su_calloc(1, sizeof *p);
    if (!p) return no_memory();
    *p = (MossPicker){.picking = read, .vocab_size = vocab_size};
    p->room = su_malloc((size_t)vocab_size * sizeof *p->room);
    p->counts = su_calloc((size_t)vocab_size, sizeof *p->counts);
    p->mask = su_calloc((size_t)vocab_size / 32 + 1, sizeof *p->mask);
    p->biases = su_malloc((read.n_biases + 1) * sizeof *p->biases);
    p->logprobs = su_malloc((read.logprobs + 1) * sizeof *p->logprobs);
    if (!p->room || !p->counts || !p->mask || !p->biases || !p->logprobs) {
        moss_picker_free(p);
        return no_memory();
    }
    if (read.n_biases) memcpy(p->biases, read.biases, read.n_biases * sizeof *p->biases);
    *out_picker = p;
    return error;
}

void moss_picker_free(MossPicker *p) {
    if (!p) return;
    su_free(p->room);
    su_free(p->counts);
    su_free(p->mask);
    su_free(p->biases);
    su_free(p->tokens);
    su_free(p->logprobs);
    su_free(p);
}

/* ---- what came before */

static size_t window(const MossPicker *p) {
    int32_t asked = p->picking.penalty_window;
    return asked < 0 ? SIZE_MAX : asked ? (size_t)asked : WINDOW;
}

/* The token that leaves the window when there are `count`, or comes back into it when there are that many again; NULL: none. */
static const int32_t *at_edge(const MossPicker *p, size_t count) {
    return count > window(p) ? &p->tokens[count - 1 - window(p)] : NULL;
}

bool rt_picker_reserve(MossPicker *p, size_t more) {
    if (p->capacity - p->count >= more) return true;
    size_t capacity = p->count + more > 2 * p->capacity ? p->count + more : 2 * p->capacity;
    int32_t *grown = su_realloc(p->tokens, capacity * sizeof *grown);
    if (!grown) return false;
    p->tokens = grown;
    p->capacity = capacity;
    return true;
}

static MossError add(MossPicker *p, int32_t token, int32_t mark) {
    if (token < 0 || token >= p->vocab_size) return (MossError){.code = MOSS_OK};
    if (!rt_picker_reserve(p, 1)) return no_memory();
    p->tokens[p->count++] = token | mark;
    p->counts[token]++;
    const int32_t *leaves = at_edge(p, p->count);
    if (leaves) p->counts[*leaves & ~MINE]--;
    return (MossError){.code = MOSS_OK};
}

MossError moss_picker_feed(MossPicker *p, const int32_t *tokens, size_t count) {
    MossError error = {.code = MOSS_OK};
    for (size_t i = 0; i < count && error.code == MOSS_OK; i++) error = add(p, tokens[i], 0);
    return error;
}

MossError moss_picker_commit(MossPicker *p, int32_t token) {
    MossError error = add(p, token, MINE);
    if (error.code == MOSS_OK && p->picking.commit) p->picking.commit(p->picking.context, token);
    return error;
}

void moss_picker_rewind(MossPicker *p, uint32_t count) {
    uint32_t mine = 0;
    for (; count > 0 && p->count > 0; count--) {
        const int32_t *comes_back = at_edge(p, p->count);
        if (comes_back) p->counts[*comes_back & ~MINE]++;
        int32_t token = p->tokens[--p->count];
        p->counts[token & ~MINE]--;
        mine += (token & MINE) != 0;
    }
    if (mine && p->picking.rollback) p->picking.rollback(p->picking.context, mine);
}

/* ---- steps */

static void add_biases(const MossPicker *p, int64_t limit) {
    for (size_t i = 0; i < p->picking.n_biases; i++)
        if (p->biases[i].token < limit) p->room[p->biases[i].token] += p->biases[i].add;
    for (size_t i = 0; i < p->picking.n_biases; i++) /* never, not the last resort */
        if (p->biases[i].token < limit && p->biases[i].add == -INFINITY) p->room[p->biases[i].token] = (float)__builtin_nan("");
}

/* false: nothing may come next. */
static bool take_mask(const MossPicker *p, int64_t limit) {
    if (!p->picking.allow) return true;
    memset(p->mask, 0, ((size_t)p->vocab_size / 32 + 1) * sizeof *p->mask);
    if (!p->picking.allow(p->picking.context, p->mask, limit)) return false;
    for (int64_t id = 0; id < limit; id++)
        if (!(p->mask[id / 32] >> (id % 32) & 1)) p->room[id] = (float)__builtin_nan("");
    return true;
}

static bool penalises(const MossPicking *k) {
    return (k->repeat_penalty != 0 && k->repeat_penalty != 1) || k->presence_penalty != 0 || k->frequency_penalty != 0;
}

static void penalise(const MossPicker *p, int64_t limit) {
    const MossPicking *k = &p->picking;
    float repeat = k->repeat_penalty != 0 ? k->repeat_penalty : 1;
    for (int64_t id = 0; id < limit; id++) {
        if (!p->counts[id]) continue;
        float logit = p->room[id];
        logit = logit > 0 ? logit / repeat : logit * repeat;
        p->room[id] = logit - (float)p->counts[id] * k->frequency_penalty - k->presence_penalty;
    }
}

/* ---- log-probabilities */

/* ln Σ e^(logit − largest), over what is a number, in the order of ids. */
static double log_sum(const float *logits, int64_t n, float largest) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (logits[i] == logits[i]) sum += (double)vm_exp(logits[i] - largest);
    return su_dlog(sum);
}

/* Keeps list[0..count) in falling order, equal ones by rising id, at most `most` of them. */
static uint32_t keep_best(MossLogprob *list, uint32_t count, uint32_t most, int32_t id, float logit) {
    uint32_t at = count;
    while (at > 0 && list[at - 1].logprob < logit) at--;
    if (at == most) return count;
    uint32_t kept = count < most ? count : most - 1;
    memmove(list + at + 1, list + at, (kept - at) * sizeof *list);
    list[at] = (MossLogprob){id, logit};
    return kept + 1;
}

static void note_logprobs(MossPicker *p, const float *logits, int64_t limit, int32_t picked) {
    MossLogprob *best = p->logprobs + 1;
    uint32_t count = 0;
    for (int64_t i = 0; i < limit; i++)
        if (logits[i] == logits[i]) count = keep_best(best, count, p->picking.logprobs, (int32_t)i, logits[i]);
    p->n_logprobs = count ? count + 1 : 0;
    if (!count) return;
    float largest = best[0].logprob;
    double sum = log_sum(logits, limit, largest);
    p->logprobs[0] = (MossLogprob){picked, logits[picked]};
    for (uint32_t i = 0; i <= count; i++) p->logprobs[i].logprob = (float)((double)(p->logprobs[i].logprob - largest) - sum);
}

const MossLogprob *moss_picker_logprobs(const MossPicker *p, uint32_t *out_count) {
    *out_count = p->n_logprobs;
    return p->logprobs;
}

/* ---- picking */

int32_t rt_picker_pick(MossPicker *p, MossSampler *sampler, const float *logits, const float *own, int64_t n) {
    n = p->vocab_size < n ? p->vocab_size : n;
    memcpy(p->room, logits, (size_t)n * sizeof *logits);
    add_biases(p, n);
    if (!take_mask(p, n)) return MOSS_NO_MORE;
    if (penalises(&p->picking)) penalise(p, n);
    int32_t id = rt_sample(sampler, p->picking.min_p, p->room, n, n);
    p->n_logprobs = 0;
    if (id >= 0 && p->picking.logprobs) note_logprobs(p, own, n, id);
    return id;
}

int32_t moss_pick(MossPicker *p, MossSampler *sampler, const float *logits, int64_t n, int64_t limit) {
    return rt_picker_pick(p, sampler, logits, logits, limit < n ? limit : n);
}
