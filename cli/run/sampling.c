#include "cli/run/sampling.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/alloc.h"

/* A whole number at the start of `text`; *out_rest is what stands behind it. */
static bool read_id(const char *text, int32_t *out, char **out_rest) {
    errno = 0;
    long long id = strtoll(text, out_rest, 10);
    *out = (int32_t)id;
    return *out_rest != text && errno == 0 && id >= 0 && id <= INT32_MAX;
}

static bool read_bias(const char *text, MossBias *out) {
    char *rest, *end;
    if (!read_id(text, &out->token, &rest)) return false;
    if (*rest == '=') rest++; /* llama.cpp writes 5+1.5 and 5-inf */
    double add = strtod(rest, &end);
    out->add = (float)add;
    return end != rest && !*end && !isnan(out->add) && out->add != INFINITY;
}

static bool read_biases(const CliSampling *o, SuArena *arena, DrTextOptions *out, SuDiags *diags) {
    MossBias *biases = SU_NEW_ARRAY(arena, MossBias, o->biases.count + 1);
    for (size_t i = 0; i < o->biases.count; i++)
        if (!read_bias(o->biases.items[i], &biases[i]))
            return su_error(diags, (SuSpan){0}, NULL, "--logit-bias: expected ID=NUMBER, got '%s'", o->biases.items[i]);
    out->picking.biases = biases;
    out->picking.n_biases = o->biases.count;
    return true;
}

static bool read_stop_ids(const CliSampling *o, const DrGeneration *model, SuArena *arena, DrTextOptions *out, SuDiags *diags) {
    int32_t *ids = SU_NEW_ARRAY(arena, int32_t, o->stop_ids.count + MOSS_MAX_ENDS);
    char *rest;
    out->stop_ids = ids;
    for (uint32_t i = 0; i < model->n_stops; i++) ids[out->n_stop_ids++] = model->stops[i];
    for (size_t i = 0; i < o->stop_ids.count; i++)
        if (!read_id(o->stop_ids.items[i], &ids[out->n_stop_ids++], &rest) || *rest)
            return su_error(diags, (SuSpan){0}, NULL, "--stop-id: expected the id of a token, got '%s'", o->stop_ids.items[i]);
    return true;
}

static double first_of(double given, double model) { return isnan(given) ? model : given; }

bool cli_sampling(const CliSampling *o, const DrGeneration *model, SuArena *arena, DrTextOptions *out, SuDiags *diags) {
    DrGeneration m = *model;
    dr_generation_fill(&m);
    out->count = o->max_tokens < 0 ? UINT64_MAX : (uint64_t)o->max_tokens;
    out->sampler = (MossSampler){.temperature = (float)first_of(o->temperature, m.temperature),
                                 .top_k = (int32_t)(o->top_k >= 0 ? o->top_k : m.top_k),
                                 .top_p = (float)first_of(o->top_p, m.top_p),
                                 .state = o->seed.value};
    out->seed_given = o->seed.given;
    bool none_before = o->repeat_last == 0;
    out->picking = (MossPicking){.size = sizeof out->picking,
                                 .min_p = (float)first_of(o->min_p, m.min_p),
                                 .repeat_penalty = none_before ? 1 : (float)first_of(o->repeat_penalty, m.repeat_penalty),
                                 .presence_penalty = none_before ? 0 : (float)o->presence_penalty,
                                 .frequency_penalty = none_before ? 0 : (float)o->frequency_penalty,
                                 .penalty_window = (int32_t)o->repeat_last,
                                 .logprobs = (uint32_t)o->logprobs};
    out->ignore_eos = o->ignore_eos;
    out->stops = o->stops.items;
    out->n_stops = o->stops.count;
    for (size_t i = 0; i < o->stops.count; i++)
        if (!o->stops.items[i][0]) return su_error(diags, (SuSpan){0}, NULL, "--stop: expected a text that is not empty");
    return read_biases(o, arena, out, diags) && read_stop_ids(o, model, arena, out, diags);
}
