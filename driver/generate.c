#include "driver/generate.h"

#include <inttypes.h>
#include <string.h>

#include "driver/sequence.h"
#include "driver/text.h"
#include "runtime/complete.h"
#include "support/clock.h"

/* ---- the prompt */

/* A sequence that goes on had its bos at its start. */
static void drop_bos(RtTokens *tokens, const RtTokenizer *tokenizer) {
    if (rt_tokenizer_bos(tokenizer) >= 0 && tokens->count) {
        tokens->count--;
        memmove(tokens->ids, tokens->ids + 1, tokens->count * sizeof tokens->ids[0]);
    }
}

bool dr_picks(const MossPicking *p) {
    bool penalties = (p->repeat_penalty != 0 && p->repeat_penalty != 1) || p->presence_penalty != 0 || p->frequency_penalty != 0;
    return p->size && (p->min_p > 0 || penalties || p->n_biases || p->logprobs || p->allow);
}

static bool add_end(RtTokenizer *tokenizer, int32_t id, int64_t vocab_size, SuDiags *diags) {
    if (id < 0 || id >= vocab_size) {
        return su_error(diags, (SuSpan){0}, NULL, "token %d cannot end a text: it is outside the vocabulary (0 to %" PRId64 ")", id,
                        vocab_size - 1);
    }
    return rt_tokenizer_add_end(tokenizer, id) ||
           su_error(diags, (SuSpan){0}, NULL, "more than %d tokens end a text", MOSS_MAX_ENDS);
}

/* Among the options' texts, or behind them. */
static void add_end_text(DrEnds *ends, const char *text) {
    for (ends->of_template = 0; ends->of_template < ends->count; ends->of_template++)
        if (strcmp(ends->texts[ends->of_template], text) == 0) return;
    ends->texts[ends->count++] = text;
}

bool dr_ends(DrBuild *build, RtTokenizer *tokenizer, const DrTextOptions *options, const DrTemplate *template, DrEnds *out) {
    int64_t vocab_size = build->spec.vocab_size;
    *out = (DrEnds){.texts = SU_NEW_ARRAY(&build->arena, const char *, options->n_stops + 1), .of_template = SIZE_MAX};
    for (; out->count < options->n_stops; out->count++) out->texts[out->count] = options->stops[out->count];
    for (size_t i = 0; i < options->n_stop_ids; i++)
        if (!add_end(tokenizer, options->stop_ids[i], vocab_size, &build->diags)) return false;
    if (!template) return true;
    int32_t end = dr_template_end(template, tokenizer);
    if (end >= 0) return add_end(tokenizer, end, vocab_size, &build->diags);
    if (template->end[0] != '{') add_end_text(out, template->end); /* a model without eos ends nowhere */
    return true;
}

void dr_warn_of_system(const char *system, const char *state_in, SuDiags *diags) {
    if (system && state_in)
        su_warning(diags, (SuSpan){0}, NULL,
                   "--system has no effect here: the state of --state-in has the conversation's beginning");
}

/* As text, or as a user's message. */
static bool encode_prompt(DrText *t, const char *prompt, size_t size) {
    SuDiags *diags = &t->build->diags;
    const DrTemplate *template = t->options->template;
    if (!template) return dr_encode(t->tokenizer, prompt, size, &t->prompt, diags);
    SuText text = {0};
    bool behind = t->options->state_in != NULL;
    dr_warn_of_system(t->options->system, t->options->state_in, diags);
    if (!behind) dr_template_begin(template, t->options->system, &text);
    if (behind) dr_template_behind(template, false, &text);
    dr_template_user(template, su_strndup(&t->build->arena, prompt, size), behind ? "" : t->options->system, &text);
    bool ok = dr_template_encode(t->tokenizer, &text, behind, &t->prompt, diags);
    su_text_free(&text);
    return ok;
}

bool dr_text_prompt(DrText *t, DrBuild *build, const DrTextOptions *options, const char *prompt, size_t size) {
    *t = (DrText){.build = build, .options = options, .sampler = options->sampler, .seed = options->sampler.state};
    t->tokenizer = dr_tokenizer(&build->spec, &build->diags);
    if (!t->tokenizer || !dr_ends(build, t->tokenizer, options, options->template, &t->ends) || !encode_prompt(t, prompt, size))
        return false;
    if (options->state_in && !options->template) drop_bos(&t->prompt, t->tokenizer);
    if (t->prompt.count || options->state_in) return true;
    return su_error(&build->diags, (SuSpan){0}, NULL, "prompt is empty and the spec has no bos");
}

/* A state knows where its sampler stands: there the text goes on, unless another seed is asked for. */
static void go_on_sampling(DrText *t) {
    uint64_t seed, stands;
    if (!moss_state_random(t->state, &seed, &stands) || (t->options->seed_given && t->seed != seed)) return;
    t->seed = seed;
    t->sampler.state = stands;
}

static bool make_picker(DrText *t) {
    if (!dr_picks(&t->options->picking)) return true;
    MossError error = moss_picker_create(&t->options->picking, t->build->spec.vocab_size, &t->picker);
    if (error.code == MOSS_OK) error = moss_picker_feed(t->picker, t->prompt.ids, t->prompt.count);
    return dr_moss_ok(&t->build->diags, error);
}

bool dr_text_begin(DrText *t) {
    int64_t bound = t->build->program->max_positions;
    if (bound && (int64_t)t->prompt.count > bound) {
        return su_error(&t->build->diags, (SuSpan){0}, NULL, "prompt has %zu tokens, more than the spec's max_positions %" PRId64,
                        t->prompt.count, bound);
    }
    if (!make_picker(t)) return false;
    if (t->options->cache) return true;
    if (!dr_state_begin(t->build, t->options->state_in, &t->state)) return false;
    go_on_sampling(t);
    return true;
}

/* A text being made. */
typedef struct Making {
    DrText *text;
    const DrProgress *progress;
    const DrTextHooks *hooks;
    bool failed; /* why is among the messages */
} Making;

static bool stopped(const Making *m) { return m->hooks->stop && m->hooks->stop(m->hooks->context); }

/* Of the prompt `done` tokens are read. false: no more of it. */
static bool piece_read(void *context, size_t done, size_t total) {
    Making *m = context;
    m->text->read = done;
    dr_progress_update(m->progress, done, total);
    return !stopped(m);
}

/* In pieces, of which no bits depend. */
static bool feed_pieces(Making *m) {
    DrText *t = m->text;
    size_t piece = (size_t)t->build->program->max_rows, count = t->prompt.count;
    MossError error = {.code = MOSS_OK};
    for (bool go = true; go && t->read < count && error.code == MOSS_OK;) {
        size_t n = count - t->read < piece ? count - t->read : piece;
        error = moss_feed(t->build->model, t->state, t->prompt.ids + t->read, n, t->options->chunk);
        go = error.code == MOSS_OK && piece_read(m, t->read + n, count);
    }
    return dr_moss_ok(&t->build->diags, error);
}

static bool feed_cached(Making *m) {
    DrText *t = m->text;
    DrPrompt prompt = {.tokens = t->prompt.ids, .count = t->prompt.count, .chunk = t->options->chunk};
    return dr_feed_cached(t->build, t->options->cache, &prompt, piece_read, m, &t->state, &t->cached);
}

static bool feed_prompt(Making *m) {
    double start = su_seconds();
    dr_progress_begin(m->progress, "reading the prompt", "tokens", true);
    bool ok = m->text->options->cache ? feed_cached(m) : feed_pieces(m);
    dr_progress_end(m->progress);
    m->text->prefill_seconds = su_seconds() - start;
    return ok;
}

/* ---- what follows */

/* Whether the logits after the last token fed are fit to pick from; else where it went wrong is found by feeding all again. */
static bool check_logits(const DrText *t) {
    const float *logits = moss_state_logits(t->state);
    if (t->options->allow_non_finite || !logits || moss_all_finite(logits, moss_program_vocab_size(t->build->program))) return true;
    RtTokens all = {0};
    for (size_t i = 0; i < t->read; i++) rt_tokens_add(&all, t->prompt.ids[i]);
    for (size_t i = 0; i < t->tokens.count; i++) rt_tokens_add(&all, t->tokens.ids[i]);
    dr_non_finite(t->build, t->options->state_in, all.ids, all.count);
    rt_tokens_free(&all);
    return false;
}

/* A MossText. */
static bool told(void *context, int32_t token, const char *text, size_t size) {
    Making *m = context;
    if (token >= 0) rt_tokens_add(&m->text->tokens, token);
    if (m->hooks->told) m->hooks->told(m->hooks->context, token, text, size);
    return true;
}

/* RtCompletion.fed */
static bool fed(void *context) {
    Making *m = context;
    m->failed = !check_logits(m->text);
    return !m->failed && !stopped(m);
}

/* When the first token is known: picked by a sampler that is thrown away, since the text's moves on with the token that is fed. */
static bool time_first_token(DrText *t) {
    MossSampler sampler = t->sampler;
    float *room = SU_NEW_ARRAY(&t->build->arena, float, (size_t)rt_tokenizer_limit(t->tokenizer));
    double start = su_seconds();
    if (rt_tokenizer_sample(t->tokenizer, &sampler, moss_state_logits(t->state), room) < 0) {
        return su_error(&t->build->diags, (SuSpan){0}, NULL, "all logits are NaN after %" PRId64 " tokens",
                        moss_state_position(t->state));
    }
    t->first_token_seconds = t->prefill_seconds + (su_seconds() - start);
    return true;
}

static bool complete(Making *m) {
    DrText *t = m->text;
    RtCompletion completion = {.model = t->build->model,
                               .state = t->state,
                               .tokenizer = t->tokenizer,
                               .sampler = &t->sampler,
                               .count = t->options->count,
                               .feed_last = t->options->state_out != NULL,
                               .stops = t->ends.texts,
                               .n_stops = t->ends.count,
                               .ignore_eos = t->options->ignore_eos,
                               .whole = t->options->template != NULL,
                               .picker = t->picker,
                               .told = told,
                               .fed = fed,
                               .context = m};
    int64_t position = moss_state_position(t->state);
    double start = su_seconds();
    MossError error = rt_complete(&completion, &t->stop);
    t->decode_seconds = su_seconds() - start;
    t->steps = (size_t)(moss_state_position(t->state) - position);
    if (t->tokens.count == t->options->count && t->stop == MOSS_STOP_POSITIONS)
        t->stop = MOSS_STOP_COUNT; /* as without state_out */
    return dr_moss_ok(&t->build->diags, error) && !m->failed;
}

static bool generate(Making *m) {
    DrText *t = m->text;
    if (t->read < t->prompt.count) t->stop = MOSS_STOP_CALLER;
    if (t->options->count == 0 || t->stop == MOSS_STOP_CALLER) return true;
    if (!moss_state_logits(t->state)) {
        return su_error(&t->build->diags, (SuSpan){0}, "give a prompt to continue with", "state in '%s' has no logits",
                        t->options->state_in);
    }
    return time_first_token(t) && complete(m);
}

static bool save_state(DrText *t) {
    if (!t->options->state_out) return true;
    moss_state_set_random(t->state, t->seed, t->sampler.state);
    return dr_state_end(t->build, t->state, t->options->state_out);
}

bool dr_text_make(DrText *t, const DrProgress *progress, const DrTextHooks *hooks) {
    Making m = {.text = t, .progress = progress, .hooks = hooks};
    return feed_prompt(&m) && check_logits(t) && generate(&m) && save_state(t);
}

void dr_text_free(DrText *t) {
    moss_state_free(t->state);
    moss_picker_free(t->picker);
    rt_tokenizer_free(t->tokenizer);
    rt_tokens_free(&t->prompt);
    rt_tokens_free(&t->tokens);
    *t = (DrText){0};
}
