#include "import/folder_texts.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "import/folder.h"
#include "support/file.h"
#include "tokenizer/bpe.h"

enum { MOST_TEXT = 16 << 20, TOKENIZER_DEPTH = 64, MOST_STOPS = 1024 };

/* A file of the folder; *out_text NULL where it is missing. */
static bool read_if_there(SuArena *arena, const char *folder, const char *name, size_t most, char **out_text, size_t *out_size,
                          const char **out_path, SuDiags *diags) {
    *out_path = su_printf(arena, "%s/%s", folder, name);
    *out_text = NULL;
    *out_size = 0;
    return access(*out_path, F_OK) != 0 || su_read_file(arena, *out_path, most, out_text, out_size, diags);
}

/* ---- tokens */

/* One id, or a list of them; marks nothing. */
static void add_stops(const cJSON *item, SuArena *arena, ImTexts *texts) {
    size_t count = cJSON_IsArray(item) ? (size_t)cJSON_GetArraySize(item) : 1;
    int64_t *ids = SU_NEW_ARRAY(arena, int64_t, texts->n_stops + count);
    size_t n = texts->n_stops;
    if (n) memcpy(ids, texts->stops, n * sizeof *ids);
    for (const cJSON *at = cJSON_IsArray(item) ? item->child : item; at; at = cJSON_IsArray(item) ? at->next : NULL) {
        bool known = !cJSON_IsNumber(at) || !(at->valuedouble >= 0 && at->valuedouble <= INT32_MAX);
        for (size_t i = 0; i < n && !known; i++) known = ids[i] == (int64_t)at->valuedouble;
        if (!known && n < MOST_STOPS) ids[n++] = (int64_t)at->valuedouble;
    }
    texts->stops = ids;
    texts->n_stops = n;
}

/* The token that a template of the tokenizer's puts in front, or -1. */
static int64_t first_of(const cJSON *processor) {
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(processor, "type");
    const char *word = cJSON_IsString(type) ? type->valuestring : "";
    const cJSON *inner = cJSON_GetObjectItemCaseSensitive(processor, "processors");
    if (strcmp(word, "Sequence") == 0 && cJSON_IsArray(inner)) {
        int64_t found = -1;
        for (const cJSON *at = inner->child; at && found < 0; at = at->next) found = first_of(at);
        return found;
    }
    if (strcmp(word, "TemplateProcessing") != 0) return -1;
    const cJSON *single = cJSON_GetObjectItemCaseSensitive(processor, "single"), *first = single ? single->child : NULL;
    const cJSON *special = cJSON_GetObjectItemCaseSensitive(first, "SpecialToken"),
                *id = cJSON_GetObjectItemCaseSensitive(special, "id");
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(processor, "special_tokens");
    const cJSON *token = cJSON_IsString(id) ? cJSON_GetObjectItemCaseSensitive(tokens, id->valuestring) : NULL;
    const cJSON *ids = cJSON_GetObjectItemCaseSensitive(token, "ids"), *number = ids ? ids->child : NULL;
    return cJSON_IsNumber(number) && number->valuedouble >= 0 && number->valuedouble <= INT32_MAX ? (int64_t)number->valuedouble
                                                                                                  : -1;
}

/* What is wrong with the file is said by im_texts_settle. */
static bool read_tokenizer(const char *folder, ImCheckpoint *out, SuDiags *diags) {
    static const SuJsonRules rules = {.depth = TOKENIZER_DEPTH, .values = TK_MAX_VALUES};
    struct stat st;
    char *text;
    const char *path = su_printf(&out->arena, "%s/tokenizer.json", folder);
    if (stat(path, &st) == 0 && st.st_size > TK_MAX_FILE) {
        su_warning(diags, su_file_span(diags, path), NULL, "there will be no tokenizer: the file is larger than %d bytes",
                   TK_MAX_FILE);
        return true;
    }
    if (!read_if_there(&out->arena, folder, "tokenizer.json", TK_MAX_FILE, &text, &out->texts.tokenizer_size, &path, diags))
        return false;
    out->texts.tokenizer = text;
    if (!text) return true;
    SuDiags unsaid = {0};
    SuJson json;
    if (su_json_parse(text, out->texts.tokenizer_size, &rules, su_file_span(&unsaid, path), &json, &unsaid)) {
        out->texts.bos = first_of(cJSON_GetObjectItemCaseSensitive(json.root, "post_processor"));
        su_json_free(&json);
    }
    su_diags_free(&unsaid);
    return true;
}

/* ---- templates */

/* A text, or a list of named ones of which that for chats is taken. */
static const char *template_of(const cJSON *item, SuArena *arena) {
    const cJSON *found = cJSON_IsString(item) ? item : NULL;
    for (const cJSON *at = cJSON_IsArray(item) ? item->child : NULL; at; at = at->next) {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(at, "name"), *text = cJSON_GetObjectItemCaseSensitive(at, "template");
        if (cJSON_IsString(text) && cJSON_IsString(name) && (!found || strcmp(name->valuestring, "default") == 0)) found = text;
    }
    return found ? su_strdup(arena, found->valuestring) : NULL;
}

/* add_bos_token false, though the tokenizer.json puts a token in front: of Llama's tokenizers the flag counts, which make that anew. */
static void drop_bos(const cJSON *config, ImTexts *texts, const char *path, SuDiags *diags) {
    static const char *const makers[] = {"LlamaTokenizer",         "LlamaTokenizerFast", "CodeLlamaTokenizer",
                                         "CodeLlamaTokenizerFast", "GemmaTokenizer",     "GemmaTokenizerFast"};
    const char *class = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(config, "tokenizer_class"));
    for (size_t i = 0; class && i < sizeof makers / sizeof *makers; i++)
        if (strcmp(class, makers[i]) == 0) texts->bos = -1;
    if (texts->bos >= 0)
        su_warning(diags, su_file_span(diags, path), "remove tokenizer.bos from the spec if the model was trained without",
                   "add_bos_token is false, but tokenizer.json puts token %d in front of texts, which is what counts here",
                   (int)texts->bos);
}

static bool read_tokenizer_config(const char *folder, ImCheckpoint *out, SuDiags *diags) {
    char *text, *separate;
    size_t size, separate_size;
    const char *path, *separate_path;
    if (!read_if_there(&out->arena, folder, "tokenizer_config.json", MOST_TEXT, &text, &size, &path, diags) ||
        !read_if_there(&out->arena, folder, "chat_template.jinja", MOST_TEXT, &separate, &separate_size, &separate_path, diags))
        return false;
    if (text) {
        SuJson json;
        if (!im_json_parse(text, size, path, &json, diags)) return false;
        out->texts.chat_template = template_of(cJSON_GetObjectItemCaseSensitive(json.root, "chat_template"), &out->arena);
        const cJSON *bos = cJSON_GetObjectItemCaseSensitive(out->config->map, "bos_token_id");
        if (out->texts.bos < 0 && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json.root, "add_bos_token")) &&
            cJSON_IsNumber(bos) && bos->valueint >= 0)
            out->texts.bos = bos->valueint;
        else if (out->texts.bos >= 0 && cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(json.root, "add_bos_token")))
            drop_bos(json.root, &out->texts, path, diags);
        su_json_free(&json);
    }
    if (out->texts.chat_template) out->texts.chat_template_size = strlen(out->texts.chat_template);
    if (separate) {
        out->texts.chat_template = separate;
        out->texts.chat_template_size = separate_size;
    }
    return true;
}

/* ---- sampling */

/* -1: it is missing, or no number from 0 to `most`. */
static double number(const cJSON *map, const char *key, double most) {
    double value;
    return im_json_real(cJSON_GetObjectItemCaseSensitive(map, key), &value) && value >= 0 && value <= most ? value : -1;
}

static bool read_generation(const char *folder, ImCheckpoint *out, SuDiags *diags) {
    char *text;
    size_t size;
    const char *path;
    if (!read_if_there(&out->arena, folder, "generation_config.json", MOST_TEXT, &text, &size, &path, diags)) return false;
    if (text) {
        SuJson json;
        if (!im_json_parse(text, size, path, &json, diags)) return false;
        const cJSON *stops = cJSON_GetObjectItemCaseSensitive(json.root, "eos_token_id");
        if (stops) add_stops(stops, &out->arena, &out->texts);
        bool samples = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json.root, "do_sample"));
        out->texts.temperature = samples ? number(json.root, "temperature", 1000) : -1;
        out->texts.top_p = samples ? number(json.root, "top_p", 1) : -1;
        out->texts.top_k = samples ? number(json.root, "top_k", INT32_MAX) : -1;
        out->texts.min_p = samples ? number(json.root, "min_p", 1) : -1;
        out->texts.repeat_penalty = number(json.root, "repetition_penalty", 1000);
        su_json_free(&json);
    }
    const cJSON *stops = cJSON_GetObjectItemCaseSensitive(out->config->map, "eos_token_id");
    if (stops) add_stops(stops, &out->arena, &out->texts);
    return true;
}

bool im_folder_texts(const char *folder, ImCheckpoint *out, SuDiags *diags) {
    return read_tokenizer(folder, out, diags) && read_tokenizer_config(folder, out, diags) && read_generation(folder, out, diags);
}
