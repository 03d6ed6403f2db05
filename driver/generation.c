#include "driver/generation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/file.h"
#include "support/str.h"

typedef struct Reader {
    SuDiags *diags;
    DrGeneration *out;
} Reader;

static bool wrong(const Reader *r, const FePair *pair, const char *wanted) {
    return su_error(r->diags, pair->value->span, NULL, "'%s': expected %s, got %s", pair->key, wanted,
                    fe_node_what(&r->out->base.arena, pair->value));
}

static bool read_number(const FeNode *node, double least, double most, double *out) {
    char *end;
    if (node->kind != FE_SCALAR || !node->text[0]) return false;
    *out = strtod(node->text, &end);
    return !*end && isfinite(*out) && *out >= least && *out <= most;
}

static bool read_real(const Reader *r, const FePair *pair, double most, double *out) {
    return read_number(pair->value, 0, most, out) || wrong(r, pair, su_printf(&r->out->base.arena, "a number from 0 to %g", most));
}

static bool read_stops(const Reader *r, const FePair *pair) {
    const FeNode *node = pair->value;
    bool list = node->kind == FE_SEQUENCE;
    size_t count = list ? node->count : 1;
    double id;
    if (count > MOSS_MAX_ENDS) return wrong(r, pair, su_printf(&r->out->base.arena, "at most %d ids", MOSS_MAX_ENDS));
    for (size_t i = 0; i < count; i++) {
        const FeNode *item = list ? node->items[i] : node;
        if (!read_number(item, 0, INT32_MAX, &id) || id != floor(id)) return wrong(r, pair, "ids of tokens");
        r->out->stops[r->out->n_stops++] = (int32_t)id;
    }
    return true;
}

static bool read_template(const Reader *r, const FePair *pair) {
    if (pair->value->kind != FE_SCALAR) return wrong(r, pair, "a text");
    r->out->chat_template = su_strdup(&r->out->base.arena, pair->value->text);
    return true;
}

static bool read_pair(const Reader *r, const FePair *pair) {
    DrGeneration *out = r->out;
    double top_k;
    if (strcmp(pair->key, "temperature") == 0) return read_real(r, pair, 1000, &out->temperature);
    if (strcmp(pair->key, "top_p") == 0) return read_real(r, pair, 1, &out->top_p);
    if (strcmp(pair->key, "min_p") == 0) return read_real(r, pair, 1, &out->min_p);
    if (strcmp(pair->key, "repeat_penalty") == 0) return read_real(r, pair, 1000, &out->repeat_penalty);
    if (strcmp(pair->key, "stop") == 0) return read_stops(r, pair);
    if (strcmp(pair->key, "chat_template") == 0) return read_template(r, pair);
    if (strcmp(pair->key, "top_k") == 0) {
        if (!read_real(r, pair, INT32_MAX, &top_k)) return false;
        out->top_k = (int64_t)top_k;
        return true;
    }
    su_warning(r->diags, pair->key_span, NULL, "unknown key '%s' has no effect", pair->key);
    return true;
}

bool dr_generation_read(const char *spec, DrGeneration *out, SuDiags *diags) {
    *out = (DrGeneration){.temperature = NAN, .top_p = NAN, .min_p = NAN, .repeat_penalty = NAN, .top_k = -1};
    SuArena arena = {0};
    const char *path = su_beside(&arena, spec, "generation.yaml");
    Reader r = {.diags = diags, .out = out};
    bool there = access(path, F_OK) == 0, ok = !there || fe_base_load(path, &out->base, diags);
    for (size_t i = 0; there && ok && i < out->base.root->count; i++) ok = read_pair(&r, &out->base.root->pairs[i]);
    su_arena_free(&arena);
    return ok;
}

static void fill(double *value, double otherwise) {
    if (isnan(*value)) *value = otherwise;
}

void dr_generation_fill(DrGeneration *g) {
    fill(&g->temperature, 0.8);
    fill(&g->top_p, 1);
    fill(&g->min_p, 0);
    fill(&g->repeat_penalty, 1);
    if (g->top_k < 0) g->top_k = 40;
}

void dr_generation_free(DrGeneration *generation) { fe_base_free(&generation->base); }
