#include "driver/chat.h"

#include <inttypes.h>
#include <stdint.h>
#include <string.h>

#include "driver/sequence.h"
#include "driver/text.h"
#include "runtime/complete.h"
#include "support/alloc.h"
#include "support/clock.h"

/* ---- beginning and end */

static bool make_picker(DrChat *c) {
    moss_picker_free(c->picker);
    c->picker = NULL;
    if (!dr_picks(&c->options->picking)) return true;
    return dr_moss_ok(&c->build->diags, moss_picker_create(&c->options->picking, c->build->spec.vocab_size, &c->picker));
}

/* The template's end ends answers, as a token or as a text. */
static bool add_end(DrChat *c) {
    int32_t end = dr_template_end(c->template, c->tokenizer);
    c->stops = SU_NEW_ARRAY(&c->build->arena, const char *, c->options->n_stops + 1);
    for (; c->n_stops < c->options->n_stops; c->n_stops++) c->stops[c->n_stops] = c->options->stops[c->n_stops];
    if (end >= 0) return dr_add_ends(c->tokenizer, &end, 1, c->build->spec.vocab_size, &c->build->diags);
    if (c->template->end[0] != '{') c->stops[c->n_stops++] = c->template->end; /* a model without eos ends nowhere */
    return true;
}

bool dr_chat_begin(DrChat *c, DrBuild *build, const DrTextOptions *options, const DrTemplate *template, const char *system) {
    *c = (DrChat){.build = build, .options = options, .template = template, .system = system, .checkpoint = SIZE_MAX};
    c->sampler = options->sampler;
    c->seed = options->sampler.state;
    c->tokenizer = dr_tokenizer(&build->spec, &build->diags);
    return c->tokenizer &&
           dr_add_ends(c->tokenizer, options->stop_ids, options->n_stop_ids, build->spec.vocab_size, &build->diags) && add_end(c) &&
           make_picker(c) && (options->state_in ? dr_chat_load(c, options->state_in) : dr_state_begin(build, NULL, &c->state));
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
    MossError error = moss_feed(c->build->model, c->state, ids, count, c->options->chunk);
    if (error.code == MOSS_OK && c->picker) error = moss_picker_feed(c->picker, ids, count);
    return dr_moss_ok(&c->build->diags, error);
}

/* A message's text, with what stands between it and what came before. */
static void print_turn(const DrChat *c, const char *text, SuText *out) {
    bool first = moss_state_position(c->state) == 0;
    if (first) dr_template_begin(c->template, c->system, out);
    if (!first) dr_template_behind(c->template, out);
    const char *end = c->template->end;
    if (!first && c->end_fed && out->size >= strlen(end) && memcmp(out->text, end, strlen(end)) == 0) {
        memmove(out->text, out->text + strlen(end), out->size - strlen(end) + 1);
        out->size -= strlen(end);
    }
    dr_template_user(c->template, text, first ? c->system : "", out);
}

/* Ids of the message; there must be room for them, and for a token behind. */
static bool encode_turn(const DrChat *c, const char *text, RtTokens *out) {
    SuText shown = {0};
    SuDiags *diags = &c->build->diags;
    int64_t position = moss_state_position(c->state), most = c->build->program->max_positions;
    print_turn(c, text, &shown);
    bool ok = dr_template_encode(c->tokenizer, shown.text, position > 0, out, diags);
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

/* ---- a turn */

typedef struct Answering {
    DrChat *chat;
    const DrTextHooks *hooks;
    DrTurnReport *report;
} Answering;

static bool told(void *context, int32_t token, const char *text, size_t size) {
    Answering *a = context;
    if (token >= 0) rt_tokens_add(&a->chat->fed, token);
    a->report->made += token >= 0;
    if (a->hooks->told) a->hooks->told(a->hooks->context, token, text, size);
    return true;
}

static bool fed(void *context) {
    const Answering *a = context;
    return !(a->hooks->stop && a->hooks->stop(a->hooks->context));
}

static bool answer(DrChat *c, Answering *a) {
    RtCompletion completion = {.model = c->build->model,
                               .state = c->state,
                               .tokenizer = c->tokenizer,
                               .sampler = &c->sampler,
                               .count = c->options->count,
                               .feed_last = true,
                               .stops = c->stops,
                               .n_stops = c->n_stops,
                               .ignore_eos = c->options->ignore_eos,
                               .whole = true,
                               .picker = c->picker,
                               .told = told,
                               .fed = fed,
                               .context = a};
    double start = su_seconds();
    MossError error = rt_complete(&completion, &a->report->stop);
    a->report->made_seconds = su_seconds() - start;
    c->end_fed = a->report->stop == MOSS_STOP_TEXT;
    return dr_moss_ok(&c->build->diags, error);
}

bool dr_chat_turn(DrChat *c, const char *text, const DrTextHooks *hooks, DrTurnReport *out) {
    RtTokens ids = {0};
    *out = (DrTurnReport){0};
    if (!encode_turn(c, text, &ids) || !note_turn(c)) {
        rt_tokens_free(&ids);
        return false;
    }
    double start = su_seconds();
    bool ok = feed(c, ids.ids, ids.count);
    out->read_seconds = su_seconds() - start;
    out->read = ids.count;
    for (size_t i = 0; ok && i < ids.count; i++) rt_tokens_add(&c->fed, ids.ids[i]);
    rt_tokens_free(&ids);
    if (!ok) {
        c->n_turns--;
        return false;
    }
    Answering a = {.chat = c, .hooks = hooks, .report = out};
    return answer(c, &a);
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
    const DrTurn *turn = &c->turns[c->n_turns - 1];
    uint32_t count = (uint32_t)(c->fed.count - turn->begin);
    bool kept = c->checkpoint == c->n_turns - 1;
    if (!kept && c->loaded)
        return su_error(diags, (SuSpan){0}, NULL, "only the last message can be taken back of a conversation that was loaded");
    if (kept && c->picker) moss_picker_rewind(c->picker, count);
    bool ok =
        kept ? dr_moss_ok(diags,
                          moss_state_rewind(c->state, (uint32_t)(moss_state_position(c->state) - c->loaded - (int64_t)turn->begin)))
             : make_again(c, turn->begin);
    if (!ok) return false;
    c->fed.count = turn->begin;
    c->sampler = turn->sampler;
    c->end_fed = turn->end_fed;
    c->n_turns--;
    c->checkpoint = SIZE_MAX;
    return true;
}

static void forget(DrChat *c) {
    c->fed.count = c->n_turns = 0;
    c->loaded = 0;
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
    if (moss_state_random(state, &seed, &stands) && !(c->options->seed_given && c->seed != seed)) {
        c->seed = seed;
        c->sampler.state = stands;
    }
    return make_picker(c);
}
