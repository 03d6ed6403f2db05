#include "driver/chat_template.h"

#include <string.h>

#include "support/alloc.h"

static const DrTemplate templates[] = {
#define DR_TEMPLATE(id, marks, begin, system_before, system_behind, user_before, user_behind, answer_before, lead, behind, end,    \
                    flags, standard)                                                                                               \
    {#id, marks, begin, system_before, system_behind, user_before, user_behind, answer_before, lead, behind, end, flags, standard},
#include "driver/chat_templates.def"
};

enum { N_TEMPLATES = sizeof templates / sizeof *templates };

/* ---- which one */

const DrTemplate *dr_template_find(const char *name) {
    for (int i = 0; i < N_TEMPLATES; i++)
        if (strcmp(templates[i].name, name) == 0) return &templates[i];
    return NULL;
}

/* Whether the Jinja has all of the marks. */
static bool has_marks(const char *jinja, const char *marks) {
    bool all = true;
    SuArena arena = {0};
    while (*marks && all) {
        bool without = *marks == '!';
        marks += without;
        size_t size = strcspn(marks, "\n");
        all = (strstr(jinja, su_strndup(&arena, marks, size)) == NULL) == without;
        marks += size + (marks[size] == '\n');
    }
    su_arena_free(&arena);
    return all;
}

const DrTemplate *dr_template_recognise(const char *jinja) {
    for (int i = 0; i < N_TEMPLATES; i++)
        if (has_marks(jinja, templates[i].marks)) return &templates[i];
    return NULL;
}

const char *dr_template_names(SuArena *arena) {
    const char *names = "";
    for (int i = 0; i < N_TEMPLATES; i++) names = su_printf(arena, "%s%s%s", names, i ? ", " : "", templates[i].name);
    return names;
}

const DrTemplate *dr_template_choose(const char *name, const char *jinja, SuDiags *diags) {
    SuArena arena = {0};
    const char *names = dr_template_names(&arena);
    const DrTemplate *found = name ? dr_template_find(name) : jinja ? dr_template_recognise(jinja) : NULL;
    if (!found && name)
        su_error(diags, (SuSpan){0}, NULL, "unknown chat template '%s'; known: %s", name, names);
    else if (!found)
        su_error(diags, (SuSpan){0}, NULL, "%s; name one with --template: %s",
                 jinja ? "the model's chat template (generation.yaml) is none of those that are known here"
                       : "no chat template is known for this model: there is no generation.yaml beside the spec that has one",
                 names);
    su_arena_free(&arena);
    return found;
}

/* ---- text */

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void add(const DrTemplate *t, const char *text, SuText *out) {
    size_t size = strlen(text);
    if (t->flags & DR_TRIM) {
        while (size && is_blank(*text)) text++, size--;
        while (size && is_blank(text[size - 1])) size--;
    }
    su_text_append(out, text, size);
}

static void add_system(const DrTemplate *t, const char *system, SuText *out) {
    if (!system) system = t->standard ? t->standard : "";
    if (!*system) return;
    su_text_add(out, "%s", t->system_before);
    add(t, system, out);
    su_text_add(out, "%s", t->system_behind);
}

void dr_template_begin(const DrTemplate *t, const char *system, SuText *out) {
    su_text_add(out, "%s", t->begin);
    if (!(t->flags & DR_SYSTEM_IN_USER)) add_system(t, system, out);
}

void dr_template_user(const DrTemplate *t, const char *text, const char *system, SuText *out) {
    su_text_add(out, "%s", t->user_before);
    if (t->flags & DR_SYSTEM_IN_USER) add_system(t, system, out);
    add(t, text, out);
    su_text_add(out, "%s%s", t->user_behind, t->answer_before);
}

void dr_template_answer(const DrTemplate *t, const char *text, SuText *out) {
    su_text_add(out, "%s", t->lead);
    add(t, text, out);
}

void dr_template_behind(const DrTemplate *t, SuText *out) { su_text_add(out, "%s", t->behind); }

/* ---- tokens */

/* The next {bos} or {eos} in the text; NULL: none. */
static const char *next_token(const char *text, const RtTokenizer *tokenizer, int32_t *out_id) {
    const char *bos = strstr(text, "{bos}"), *eos = strstr(text, "{eos}");
    bool first = bos && (!eos || bos < eos);
    *out_id = first ? rt_tokenizer_bos(tokenizer) : rt_tokenizer_eos(tokenizer);
    return first ? bos : eos;
}

bool dr_template_encode(const RtTokenizer *tokenizer, const char *text, bool behind, RtTokens *out, SuDiags *diags) {
    int32_t id;
    size_t begin = out->count;
    for (const char *token; (token = next_token(text, tokenizer, &id)); text = token + strlen("{bos}")) {
        if (token > text &&
            !rt_tokenizer_encode_behind(tokenizer, text, (size_t)(token - text), behind || out->count > begin, out, diags))
            return false;
        if (id >= 0) rt_tokens_add(out, id);
    }
    return !*text || rt_tokenizer_encode_behind(tokenizer, text, strlen(text), behind || out->count > begin, out, diags);
}

int32_t dr_template_end(const DrTemplate *t, const RtTokenizer *tokenizer) {
    RtTokens ids = {0};
    SuDiags diags = {0};
    bool one = dr_template_encode(tokenizer, t->end, true, &ids, &diags) && ids.count == 1;
    int32_t id = one ? ids.ids[0] : -1;
    rt_tokens_free(&ids);
    su_diags_free(&diags);
    return id;
}
