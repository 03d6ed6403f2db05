/* Chat templates by name (chat_templates.def): how messages of a conversation become tokens. */
#ifndef MOSSC_DRIVER_CHAT_TEMPLATE_H
#define MOSSC_DRIVER_CHAT_TEMPLATE_H

#include "runtime/tokenizer.h"

enum { DR_SYSTEM_IN_USER = 1, DR_TRIM = 2, DR_ALWAYS_SYSTEM = 4 };

typedef struct DrTemplate {
    const char *name, *marks, *begin;
    const char *system_before, *system_behind;
    const char *user_before, *user_behind, *answer_before;
    const char *lead, *behind, *end;
    unsigned flags;
    const char *standard;
} DrTemplate;

/* NULL: none of this name. */
const DrTemplate *dr_template_find(const char *name);
/* The one that a model's Jinja is; NULL: none. */
const DrTemplate *dr_template_recognise(const char *jinja);
/* All names, with commas between; the arena's. */
const char *dr_template_names(SuArena *arena);
/* The template of this name; without one (NULL) that of the Jinja, which may be NULL. NULL after adding the reason to diags. */
const DrTemplate *dr_template_choose(const char *name, const char *jinja, SuDiags *diags);

/* What these append is for dr_template_encode: the model's bos and eos are a NUL and a letter in it, which no message can spell. */

/* The conversation's beginning: up to the system's text (NULL: the template's own, if it has one; empty: none). */
void dr_template_begin(const DrTemplate *t, const char *system, SuText *out);
/* A user's message, and the beginning of an answer. `system`: as above, where it is the first one. */
void dr_template_user(const DrTemplate *t, const char *text, const char *system, SuText *out);
/* The text of an answer, if it is not the model's own, up to its end. */
void dr_template_answer(const DrTemplate *t, const char *text, SuText *out);
/* The end of an answer and what stands behind it; end_fed: without the end. */
void dr_template_behind(const DrTemplate *t, bool end_fed, SuText *out);

/* Appends the ids of such a text. `behind`: it follows others. false after adding to diags. */
bool dr_template_encode(const RtTokenizer *tokenizer, const SuText *text, bool behind, RtTokens *out, SuDiags *diags);
/* The id of the token that ends an answer, -1 where it is not one token. */
int32_t dr_template_end(const DrTemplate *t, const RtTokenizer *tokenizer);

#endif
