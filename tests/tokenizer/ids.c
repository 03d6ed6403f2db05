/* ids TOKENIZER.json V [BOS]: for every line of standard input, a text as JSON, a line of JSON: its ids (behind bos, a token's text,
 * if there is one) and what they say; or an error. For tests that compare with another library. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "tokenizer/bpe.h"

static SuText said(const RtTokenizer *t, const RtTokens *tokens, size_t from) {
    SuText text = {0};
    RtTextStream stream = {.tokenizer = t, .whole = true};
    su_text_append(&text, "", 0);
    for (size_t i = from; i < tokens->count; i++) rt_text_stream_add(&stream, tokens->ids[i], &text);
    rt_text_stream_end(&stream, &text);
    return text;
}

static void answer(const RtTokenizer *t, const char *text) {
    RtTokens tokens = {0};
    SuDiags diags = {0};
    cJSON *root = cJSON_CreateObject();
    if (rt_tokenizer_bos(t) >= 0) rt_tokens_add(&tokens, rt_tokenizer_bos(t));
    if (rt_tokenizer_encode(t, text, strlen(text), &tokens, &diags)) {
        SuText back = said(t, &tokens, 0);
        cJSON_AddItemToObject(root, "ids",
                              tokens.count ? cJSON_CreateIntArray(tokens.ids, (int)tokens.count) : cJSON_CreateArray());
        cJSON_AddStringToObject(root, "said", back.text);
        su_text_free(&back);
    } else {
        cJSON_AddStringToObject(root, "error", diags.items[0].message);
    }
    char *line = cJSON_PrintUnformatted(root);
    puts(line);
    cJSON_free(line);
    cJSON_Delete(root);
    rt_tokens_free(&tokens);
    su_diags_free(&diags);
}

int main(int argc, char **argv) {
    if (argc < 3) return fputs("usage: ids TOKENIZER.json V [BOS]\n", stderr), 2;
    SuDiags diags = {0};
    TkBpeOptions options = {.vocab_size = atoll(argv[2]), .bos = -1, .eos = -1, .bos_text = argc > 3 ? argv[3] : NULL};
    RtTokenizer *t = tk_bpe_open(argv[1], &options, &diags);
    su_diags_print(&diags, stderr);
    if (!t) return 1;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        cJSON *text = cJSON_Parse(line);
        if (!cJSON_IsString(text)) return fputs("a line is no JSON text\n", stderr), 1;
        answer(t, text->valuestring);
        cJSON_Delete(text);
    }
    free(line);
    rt_tokenizer_free(t);
    su_diags_free(&diags);
    return 0;
}
