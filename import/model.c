#include "import/model.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "import/families/families.h"
#include "import/write.h"

const char *const im_a_words[] = {"unknown", "softplus", "heavy_tail", NULL};

/* ---- the plan */

/* The last part of a path as a name of the language: [a-z0-9._-]+. */
static const char *name_of(SuArena *arena, const char *path) {
    char *real = realpath(path, NULL);
    const char *slash = strrchr(real ? real : path, '/');
    char *name = su_strdup(arena, slash ? slash + 1 : path), *end = strstr(name, ".gguf");
    free(real);
    if (end && !end[5]) *end = '\0';
    for (char *at = name; *at; at++)
        *at = isalnum((unsigned char)*at) || *at == '.' || *at == '_' ? (char)tolower((unsigned char)*at) : '-';
    return *name ? name : "model";
}

enum { MOST_STOPS = 16 }; /* of the language's tokenizer.eos */

/* ", eos: [2, 7]" of the tokens that end a text, without those that the vocabulary has not. */
static const char *stops_of(const ImTexts *t, ImPlan *plan) {
    SuArena *arena = &plan->arena;
    const char *list = "";
    size_t n = 0, alien = 0;
    int64_t first = 0;
    for (size_t i = 0; i < t->n_stops; i++)
        if (t->stops[i] < plan->vocab_size && n < MOST_STOPS)
            list = su_printf(arena, "%s%s%" PRId64, list, n++ ? ", " : "", t->stops[i]);
        else if (t->stops[i] >= plan->vocab_size && alien++ == 0)
            first = t->stops[i];
    if (alien == 1) im_note(plan, "Token %" PRId64 " is said to end a text, but is not in the vocabulary.", first);
    if (alien > 1)
        im_note(plan, "%zu tokens are said to end a text, but are not in the vocabulary; the first is %" PRId64 ".", alien, first);
    return n == 0 ? "" : n == 1 ? su_printf(arena, ", eos: %s", list) : su_printf(arena, ", eos: [%s]", list);
}

static void say_tokenizer(const ImTexts *t, ImPlan *plan) {
    if (!t->tokenizer) {
        im_note(plan, "There is no " IM_TOKENIZER_FILE ": put one beside this file to run on text, and name it in tokenizer.");
        return;
    }
    const char *bos = t->bos < 0 || t->bos >= plan->vocab_size ? "" : su_printf(&plan->arena, ", bos: %" PRId64, t->bos);
    im_top(plan, "tokenizer", "{kind: bpe, file: " IM_TOKENIZER_FILE "%s%s}", bos, stops_of(t, plan));
}

static bool make_plan(ImCheckpoint *checkpoint, const ImOptions *options, ImModel *m, SuDiags *diags) {
    ImConfig *config = checkpoint->config;
    m->plan.source = &checkpoint->source;
    m->plan.diags = diags;
    m->plan.a_activation = options->a_activation;
    const ImFamily *family = im_family_of(config);
    if (!family) return false;
    m->family = family->name;
    const char *name = name_of(&m->plan.arena, options->input);
    im_top(&m->plan, "name", "\"%s\"", name); /* null and true are names too */
    family->plan(config, &m->plan);
    im_config_all_used(config);
    if (im_config_failed(config) || m->plan.failed || !im_source_all_taken(&checkpoint->source, diags)) return false;
    if (!m->plan.vocab_size) SU_BUG("the family '%s' has no embedding", family->name);
    say_tokenizer(&checkpoint->texts, &m->plan);
    im_plan_settle(&m->plan);
    return true;
}

/* ---- the spec */

/* The spec without weights says which tensors there are; what is wrong or doubtful in it is reported of it, once. */
static bool make_text(const ImCheckpoint *checkpoint, const ImOptions *o, ImModel *m, SuDiags *diags) {
    const char *head = su_printf(&m->plan.arena, "Made by mossc import from a %s of the family %s.", checkpoint->what, m->family);
    SuText without = {0};
    FeSpec spec = {0};
    im_plan_print(&m->plan, head, NULL, &without);
    bool ok = fe_spec_parse(IM_SPEC_FILE, without.text, without.size, NULL, 0, &spec, diags);
    const char *weights = ok ? im_weights_of(&m->plan, &spec, &without, o->dtype, o->exact, &m->plan.arena) : NULL;
    if (ok) im_plan_print(&m->plan, head, weights, &m->text);
    su_diags_keep(diags);
    fe_spec_free(&spec);
    su_text_free(&without);
    return ok;
}

static bool make_spec(ImModel *m, SuDiags *diags) {
    SuDiags again = {0};
    if (!fe_spec_parse(IM_SPEC_FILE, m->text.text, m->text.size, NULL, 0, &m->spec, &again))
        SU_BUG("the spec is wrong with weights: %s", again.count ? again.items[0].message : "");
    su_diags_free(&again);
    return im_check_shapes(&m->plan, &m->spec, diags);
}

bool im_model_make(ImCheckpoint *checkpoint, const ImOptions *options, ImModel *out, SuDiags *diags) {
    *out = (ImModel){0};
    return make_plan(checkpoint, options, out, diags) && make_text(checkpoint, options, out, diags) && make_spec(out, diags);
}

void im_model_free(ImModel *model) {
    fe_spec_free(&model->spec);
    su_text_free(&model->text);
    im_plan_free(&model->plan);
}
