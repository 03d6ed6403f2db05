/* chat TOKENIZER.json V BOS EOS JINJA: a conversation as JSON on standard input ({"messages": [...], "add_generation_prompt": …}), a line each;
 * for each its ids by the template that the Jinja is, or an error. BOS and EOS: a token's text, or empty. JINJA may be a template's name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "driver/chat_template.h"
#include "tokenizer/bpe.h"

static const char *of(const cJSON *message, const char *name) { return cJSON_GetObjectItem(message, name)->valuestring; }

/* What was shown, as a piece of its own. */
static bool encode(const RtTokenizer *tokenizer, SuText *text, RtTokens *out, SuDiags *diags) {
    bool ok = dr_template_encode(tokenizer, text, out->count > 0, out, diags);
    text->size = 0;
    return ok;
}

/* Turn by turn, as dr_chat does: what stands behind an answer is encoded with the next message. What a model makes goes on from the message. */
static bool render(const DrTemplate *t, const RtTokenizer *tokenizer, const cJSON *chat, RtTokens *out, SuDiags *diags) {
    SuText text = {0};
    bool ok = true, first = true;
    const cJSON *message, *messages = cJSON_GetObjectItem(chat, "messages");
    const char *system = strcmp(of(messages->child, "role"), "system") == 0 ? of(messages->child, "content") : NULL;
    dr_template_begin(t, system, &text);
    cJSON_ArrayForEach(message, messages) {
        if (strcmp(of(message, "role"), "system") == 0) continue;
        if (strcmp(of(message, "role"), "assistant") == 0) {
            dr_template_answer(t, of(message, "content"), &text);
            ok = ok && encode(tokenizer, &text, out, diags);
            dr_template_behind(t, false, &text);
            continue;
        }
        dr_template_user(t, of(message, "content"), first ? system : "", &text);
        first = false;
    }
    if (!cJSON_IsTrue(cJSON_GetObjectItem(chat, "add_generation_prompt"))) text.size -= strlen(t->answer_before);
    ok = ok && encode(tokenizer, &text, out, diags);
    su_text_free(&text);
    return ok;
}

/* Chats of standard input, a JSON object a line, as ids. */
static bool answer(const DrTemplate *t, RtTokenizer *tokenizer, SuDiags *diags) {
    char *line = NULL;
    size_t room = 0;
    bool ok = true;
    while (ok && getline(&line, &room, stdin) > 0) {
        cJSON *chat = cJSON_Parse(line), *root = cJSON_CreateObject();
        RtTokens ids = {0};
        ok = render(t, tokenizer, chat, &ids, diags);
        cJSON_AddStringToObject(root, "template", t->name);
        cJSON_AddItemToObject(root, "ids", cJSON_CreateIntArray(ids.ids, (int)ids.count));
        char *shown = cJSON_PrintUnformatted(root);
        if (ok) puts(shown);
        cJSON_free(shown);
        cJSON_Delete(root);
        cJSON_Delete(chat);
        rt_tokens_free(&ids);
    }
    free(line);
    return ok;
}

int main(int argc, char **argv) {
    if (argc != 6) return fputs("usage: chat TOKENIZER.json V BOS EOS JINJA\n", stderr), 2;
    SuDiags diags = {0};
    TkBpeOptions options = {.vocab_size = atoll(argv[2]),
                            .bos = -1,
                            .eos = -1,
                            .bos_text = *argv[3] ? argv[3] : NULL,
                            .eos_text = *argv[4] ? argv[4] : NULL};
    RtTokenizer *tokenizer = tk_bpe_open(argv[1], &options, &diags);
    const DrTemplate *t = dr_template_find(argv[5]) ? dr_template_find(argv[5]) : dr_template_choose(NULL, argv[5], &diags);
    bool ok = tokenizer && t && answer(t, tokenizer, &diags);
    su_diags_print(&diags, stderr);
    su_diags_free(&diags);
    rt_tokenizer_free(tokenizer);
    return ok ? 0 : 1;
}
