#include "driver/chat.h"

#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "driver/sequence.h"
#include "driver/text.h"
#include "runtime/complete.h"
#include "runtime/picker.h"
#include "support/alloc.h"
#include "support/clock.h"

/* ---- beginning and end */

static bool make_picker(DrChat *c) {
    moss_picker_free(c->picker);
    c->picker = NULL;
    if (!dr_picks(&c->options->picking)) return true;
    return dr_moss_ok(&c->build->diags, moss_picker_create(&c->options->picking, c->build->spec.vocab_size, &c->picker));
}

bool dr_chat_begin(DrChat *c, DrBuild *build, const DrTextOptions *options, const DrTemplate *template, const char *system) {
    *c = (DrChat){.build = build, .options = options, .template = template, .system = system, .checkpoint = SIZE_MAX};
    c->sampler = options->sampler;
    c->seed = options->sampler.state;
    c->tokenizer = dr_tokenizer(&build->spec, &build->diags);
    dr_warn_of_system(system, options->state_in, &build->diags);
    return c->tokenizer && dr_ends(build, c->tokenizer, options, template, &c->ends) && make_picker(c) &&
           (options->state_in ? dr_chat_load(c, options->state_in) : dr_state_begin(build, NULL, &c->state));
}

void dr_chat_free(DrChat *c) {
    moss_state_free(c->state);
    moss_picker_free(c->picker);
    rt_tokenizer_free(c->tokenizer);
    rt_tokens_free(&c->fed);
    su_free(c->turns);
    *c = (DrChat){0};
}

/* ---- feeding */

static bool feed(DrChat *c, const int32_t *ids, size_t count) {
    SuDiags *diags = &c->build->diags;
    if (c->picker && !rt_picker_reserve(c->picker, count)) return su_out_of_memory(diags, "keeping a conversation");
    MossError error = moss_feed(c->build->model, c->state, ids, count, c->options->chunk);
    if (error.code == MOSS_OK && c->picker) error = moss_picker_feed(c->picker, ids, count);
    return dr_moss_ok(diags, error);
}

/* A message's text, with what stands between it and what came before. */
static void print_turn(const DrChat *c, const char *text, SuText *out) {
    bool first = moss_state_position(c->state) == 0;
    if (first) dr_template_begin(c->template, c->system, out);
    if (!first) dr_template_behind(c->template, c->end_fed, out);
    dr_template_user(c->template, text, first ? c->system : "", out);
}

/* Ids of the message; there must be room for them, and for a token behind. */
static bool encode_turn(const DrChat *c, const char *text, RtTokens *out) {
    SuText shown = {0};
    SuDiags *diags = &c->build->diags;
    int64_t position = moss_state_position(c->state), most = c->build->program->max_positions;
    print_turn(c, text, &shown);
    bool ok = dr_template_encode(c->tokenizer, &shown, position > 0, out, diags);
    su_text_free(&shown);
    if (ok && out->count == 0) ok = su_error(diags, (SuSpan){0}, NULL, "message is empty");
    if (ok && most && (int64_t)out->count >= most - position) {
        ok = su_error(diags, (SuSpan){0}, "begin anew, or take messages back",
                      "message has %zu tokens, but the conversation has room for %" PRId64 " more (max_positions %" PRId64 ")",
                      out->count, most - position, most);
    }
    return ok;
}

static bool note_turn(DrChat *c) {
    if (c->n_turns == c->turns_capacity) {
        size_t capacity = c->turns_capacity ? 2 * c->turns_capacity : 16;
        DrTurn *grown = su_realloc(c->turns, capacity * sizeof *grown);
        if (!grown) return su_out_of_memory(&c->build->diags, "keeping a conversation");
        c->turns = grown;
        c->turns_capacity = capacity;
    }
    MossError error = moss_state_checkpoint(c->state);
    if (!dr_moss_ok(&c->build->diags, error)) return false;
    c->checkpoint = c->n_turns;
    c->turns[c->n_turns++] = (DrTurn){.begin = c->fed.count, .sampler = c->sampler, .end_fed = c->end_fed};
    return true;
}

/* What goes with a state that stands before the last turn again. */
static void forget_turn(DrChat *c) {
    const DrTurn *turn = &c->turns[c->n_turns - 1];
    c->fed.count = turn->begin;
    c->sampler = turn->sampler;
    c->end_fed = turn->end_fed;
    c->n_turns--;
    c->checkpoint = SIZE_MAX;
}

/* To before the last turn, where the checkpoint stands. `fed` need not have all that the state has: a step that fails counts too. */
static bool rewind_turn(DrChat *c) {
    size_t begin = c->turns[c->n_turns - 1].begin;
    int64_t count = moss_state_position(c->state) - c->loaded - (int64_t)begin;
    if (!dr_moss_ok(&c->build->diags, moss_state_rewind(c->state, (uint32_t)count))) return false;
    if (c->picker) moss_picker_rewind(c->picker, (uint32_t)(c->fed.count - begin));
    forget_turn(c);
    return true;
}

/* ---- a turn */

typedef struct Answering {
    DrChat *chat;
    const DrTextHooks *hooks;
    DrTurnReport *report;
    bool failed; /* why is among the messages */
} Answering;

static bool stopped(const DrTextHooks *hooks) { return hooks->stop && hooks->stop(hooks->context); }

/* Whether the logits are fit to pick from; else where it went wrong is found by feeding all again. */
static bool check_logits(const DrChat *c) {
    const float *logits = moss_state_logits(c->state);
    return c->options->allow_non_finite || !logits || moss_all_finite(logits, moss_program_vocab_size(c->build->program)) ||
           dr_non_finite(c->build, c->loaded_from, c->fed.ids, c->fed.count);
}

static bool told(void *context, int32_t token, const char *text, size_t size) {
    Answering *a = context;
    if (token >= 0) rt_tokens_add(&a->chat->fed, token);
    a->report->made += token >= 0;
    if (a->hooks->told) a->hooks->told(a->hooks->context, token, text, size);
    return true;
}

static bool fed(void *context) {
    Answering *a = context;
    a->failed = !check_logits(a->chat);
    return !a->failed && !stopped(a->hooks);
}

static bool answer(Answering *a) {
    DrChat *c = a->chat;
    size_t text = SIZE_MAX;
    RtCompletion completion = {.model = c->build->model,
                               .state = c->state,
                               .tokenizer = c->tokenizer,
                               .sampler = &c->sampler,
                               .count = c->options->count,
                               .feed_last = true,
                               .stops = c->ends.texts,
                               .n_stops = c->ends.count,
                               .stop_text = &text,
                               .ignore_eos = c->options->ignore_eos,
                               .whole = true,
                               .picker = c->picker,
                               .told = told,
                               .fed = fed,
                               .context = a};
    double start = su_seconds();
    MossError error = rt_complete(&completion, &a->report->stop);
    size_t in_state = (size_t)(moss_state_position(c->state) - c->loaded);
    a->report->made_seconds = su_seconds() - start;
    if (c->fed.count > in_state) c->fed.count = in_state; /* the last token had no position */
    c->end_fed = a->report->stop == MOSS_STOP_TEXT && text == c->ends.of_template;
    return dr_moss_ok(&c->build->diags, error) && !a->failed;
}

/* In pieces, of which no bits depend, until all is read or the hooks stop it. */
static bool read_turn(Answering *a, const RtTokens *ids) {
    DrChat *c = a->chat;
    size_t most = (size_t)c->build->program->max_rows, *read = &a->report->read;
    double start = su_seconds();
    for (bool go = true; go && *read < ids->count; go = !stopped(a->hooks)) {
        size_t n = ids->count - *read < most ? ids->count - *read : most;
        if (!feed(c, ids->ids + *read, n)) return false;
        for (size_t i = 0; i < n; i++) rt_tokens_add(&c->fed, ids->ids[*read + i]);
        *read += n;
    }
    a->report->read_seconds = su_seconds() - start;
    a->report->taken_back = *read < ids->count;
    return true;
}

bool dr_chat_turn(DrChat *c, const char *text, const DrTextHooks *hooks, DrTurnReport *out) {
    RtTokens ids = {0};
    Answering a = {.chat = c, .hooks = hooks, .report = out};
    *out = (DrTurnReport){0};
    bool begun = encode_turn(c, text, &ids) && note_turn(c);
    bool ok = begun && read_turn(&a, &ids) && (out->taken_back || (check_logits(c) && answer(&a)));
    rt_tokens_free(&ids);
    if (begun && (!ok || out->taken_back)) ok = rewind_turn(c) && ok;
    return ok;
}

/* ---- back, and anew */

/* A new state, fed with what remains. */
static bool make_again(DrChat *c, size_t count) {
    moss_state_reset(c->state);
    if (c->picker) moss_picker_rewind(c->picker, (uint32_t)c->fed.count);
    return count == 0 || feed(c, c->fed.ids, count);
}

bool dr_chat_undo(DrChat *c) {
    SuDiags *diags = &c->build->diags;
    if (c->n_turns == 0) return su_error(diags, (SuSpan){0}, NULL, "no message to take back");
    if (c->checkpoint == c->n_turns - 1) return rewind_turn(c);
    if (c->loaded)
        return su_error(diags, (SuSpan){0}, NULL, "only the last message can be taken back of a conversation that was loaded");
    if (!make_again(c, c->turns[c->n_turns - 1].begin)) return false;
    forget_turn(c);
    return true;
}

static void forget(DrChat *c) {
    c->fed.count = c->n_turns = 0;
    c->loaded = 0;
    c->loaded_from = NULL;
    c->checkpoint = SIZE_MAX;
    c->end_fed = false;
}

bool dr_chat_clear(DrChat *c, const char *system) {
    forget(c);
    c->system = system;
    moss_state_reset(c->state);
    return make_picker(c);
}

bool dr_chat_save(DrChat *c, const char *path) {
    moss_state_set_random(c->state, c->seed, c->sampler.state);
    return dr_state_end(c->build, c->state, path);
}

bool dr_chat_load(DrChat *c, const char *path) {
    MossState *state = NULL;
    uint64_t seed, stands;
    if (!dr_state_begin(c->build, path, &state)) return false;
    moss_state_free(c->state);
    forget(c);
    c->state = state;
    c->loaded = moss_state_position(state);
    c->loaded_from = su_strdup(&c->build->arena, path);
    if (moss_state_random(state, &seed, &stands) && !(c->options->seed_given && c->seed != seed)) {
        c->seed = seed;
        c->sampler.state = stands;
    }
    return make_picker(c);
}
