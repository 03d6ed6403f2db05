#include "driver/chat_template.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/alloc.h"

static const DrTemplate templates[] = {
#define DR_TEMPLATE(id, marks, begin, system_before, system_behind, user_before, user_behind, answer_before, lead, behind, end,    \
                    flags, standard)                                                                                               \
    {#id, marks, begin, system_before, system_behind, user_before, user_behind, answer_before, lead, behind, end, flags, standard},
#include "driver/chat_templates.def"
};

enum { N_TEMPLATES = sizeof templates / sizeof *templates };
enum { MARK = 2 }; /* bytes of a bos or eos in a text, where it is a NUL and its letter */

static const char *const months[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};

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
    static const char now[] = "strftime_now";
    const bool dated = strstr(jinja, now) != NULL;
    for (int i = 0; i < N_TEMPLATES; i++)
        if ((!dated || strstr(templates[i].marks, now)) && has_marks(jinja, templates[i].marks)) return &templates[i];
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

/* Today, or the day that $SOURCE_DATE_EPOCH is in. */
static struct tm today(void) {
    const char *given = getenv("SOURCE_DATE_EPOCH");
    const time_t now = given && *given ? (time_t)strtoll(given, NULL, 10) : time(NULL);
    struct tm day = {0};
    if (given && *given)
        gmtime_r(&now, &day);
    else
        localtime_r(&now, &day);
    return day;
}

static void add_day(SuText *out) {
    const struct tm day = today();
    su_text_add(out, "%02d %.3s %d", day.tm_mday, months[day.tm_mon], day.tm_year + 1900);
}

static void add_date(SuText *out) {
    const struct tm day = today();
    su_text_add(out, "%s %02d, %d", months[day.tm_mon], day.tm_mday, day.tm_year + 1900);
}

static void add_bos(SuText *out) { su_text_append(out, (const char[MARK]){'\0', 'b'}, MARK); }

static void add_eos(SuText *out) { su_text_append(out, (const char[MARK]){'\0', 'e'}, MARK); }

/* What stands in the table in place of something else. */
static const struct {
    const char *name;
    void (*add)(SuText *out);
} names[] = {{"{bos}", add_bos}, {"{eos}", add_eos}, {"{day}", add_day}, {"{date}", add_date}};

/* A text of the table. */
static void add_part(const char *part, size_t size, SuText *out) {
    for (size_t i = 0; i < size;) {
        size_t named = 0;
        for (size_t k = 0; k < sizeof names / sizeof *names && !named; k++) {
            const size_t length = strlen(names[k].name);
            if (size - i < length || memcmp(part + i, names[k].name, length) != 0) continue;
            names[k].add(out);
            named = length;
        }
        if (!named) su_text_append(out, part + i, 1);
        i += named ? named : 1;
    }
}

static void add_whole(const char *part, SuText *out) { add_part(part, strlen(part), out); }

static void add_system(const DrTemplate *t, const char *system, SuText *out) {
    const char *own = !system && t->standard ? t->standard : "";
    if (!system) system = "";
    if (!*system && !*own && !(t->flags & DR_ALWAYS_SYSTEM)) return;
    add_whole(t->system_before, out);
    add(t, system, out);
    add_whole(own, out);
    add_whole(t->system_behind, out);
}

void dr_template_begin(const DrTemplate *t, const char *system, SuText *out) {
    add_whole(t->begin, out);
    if (!(t->flags & DR_SYSTEM_IN_USER)) add_system(t, system, out);
}

void dr_template_user(const DrTemplate *t, const char *text, const char *system, SuText *out) {
    add_whole(t->user_before, out);
    if (t->flags & DR_SYSTEM_IN_USER) add_system(t, system, out);
    add(t, text, out);
    add_whole(t->user_behind, out);
    add_whole(t->answer_before, out);
}

void dr_template_answer(const DrTemplate *t, const char *text, SuText *out) {
    add_whole(t->lead, out);
    add(t, text, out);
    add_part(t->behind, (size_t)(strstr(t->behind, t->end) - t->behind), out);
}

void dr_template_behind(const DrTemplate *t, bool end_fed, SuText *out) {
    const char *end = strstr(t->behind, t->end);
    add_whole(end_fed ? end + strlen(t->end) : end, out);
}

/* ---- tokens */

bool dr_template_encode(const RtTokenizer *tokenizer, const SuText *text, bool behind, RtTokens *out, SuDiags *diags) {
    size_t begin = out->count;
    for (size_t at = 0, size; at < text->size; at += size) {
        const char *here = text->text + at, *mark = memchr(here, '\0', text->size - at);
        if (mark == here) {
            int32_t id = here[1] == 'b' ? rt_tokenizer_bos(tokenizer) : rt_tokenizer_eos(tokenizer);
            if (id >= 0) rt_tokens_add(out, id);
            size = MARK;
            continue;
        }
        size = mark ? (size_t)(mark - here) : text->size - at;
        if (!rt_tokenizer_encode_behind(tokenizer, here, size, behind || out->count > begin, out, diags)) return false;
    }
    return true;
}

int32_t dr_template_end(const DrTemplate *t, const RtTokenizer *tokenizer) {
    RtTokens ids = {0};
    SuDiags diags = {0};
    SuText end = {0};
    add_whole(t->end, &end);
    bool one = dr_template_encode(tokenizer, &end, true, &ids, &diags) && ids.count == 1;
    int32_t id = one ? ids.ids[0] : -1;
    su_text_free(&end);
    rt_tokens_free(&ids);
    su_diags_free(&diags);
    return id;
}
