#include "import/gguf_tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/utf8.h"

typedef struct Pre {
    const char *word, *pattern;
    bool digits, nfc, whole, bos;
} Pre;

#define IM_PATTERN(NAME, pattern) static const char pattern_##NAME[] = pattern;
#include "import/gguf_pre.def"

static const Pre pres[] = {
#define IM_PRE(word, NAME, digits, nfc, whole, bos) {word, pattern_##NAME, digits, nfc, whole, bos},
#include "import/gguf_pre.def"
};

const char *im_gguf_pre(const char *pattern, bool digits, bool nfc, bool whole) {
    for (size_t i = 0; i < sizeof pres / sizeof *pres; i++) {
        const Pre *p = &pres[i];
        if (strcmp(p->pattern, pattern) == 0 && p->digits == digits && p->nfc == nfc && p->whole == whole) return p->word;
    }
    return NULL;
}

/* Control tokens that end a text, besides those that the file names. */
static const char *const ends[] = {"<|eot_id|>",    "<|im_end|>",      "<|end|>",      "<|eom_id|>",
                                   "<end_of_turn>", "<|end_of_text|>", "<|endoftext|>"};

typedef struct Maker {
    const ImGguf *gguf;
    ImGgufTokenizer *out;
    SuText *json;
    ImToken *tokens;
    size_t count;
    SuArena arena;
    const char *wrong; /* in the arena or constant: why there is no tokenizer */
} Maker;

/* ---- values */

static const ImGgufValue *find(Maker *m, const char *key) {
    return im_gguf_find(m->gguf, su_printf(&m->arena, "tokenizer.ggml.%s", key));
}

static const char *text_of(Maker *m, const char *key) {
    const ImGgufValue *value = find(m, key);
    return value != NULL && value->type == IM_GGUF_STRING ? su_strndup(&m->arena, value->as.string.text, value->as.string.size)
                                                          : NULL;
}

static bool flag(Maker *m, const char *key, bool otherwise) {
    const ImGgufValue *value = find(m, key);
    return value != NULL && value->type == IM_GGUF_BOOL ? value->as.natural != 0 : otherwise;
}

/* The token that a key names; -1: none. */
static int32_t id_of(Maker *m, const char *key, int32_t otherwise) {
    const ImGgufValue *value = find(m, key);
    int64_t id;
    if (value == NULL) return otherwise < (int64_t)m->count ? otherwise : -1;
    return im_gguf_whole(value, &id) && id >= 0 && (uint64_t)id < m->count ? (int32_t)id : -1;
}

/* An array with an item for each token, or as many as there are with count 0; false: it is missing or of another kind. */
static bool items_of(Maker *m, const char *key, ImGgufType type, ImGgufItems *out) {
    const ImGgufValue *value = find(m, key);
    if (value == NULL || value->type != IM_GGUF_ARRAY || value->as.items.type != type) return false;
    *out = value->as.items;
    return m->count == 0 || out->count == m->count;
}

static bool fail(Maker *m, const char *wrong) {
    m->wrong = wrong;
    return false;
}

/* ---- tokens */

static bool read_tokens(Maker *m) {
    ImGgufItems items, kinds, scores;
    ImGgufValue value;
    if (!items_of(m, "tokens", IM_GGUF_STRING, &items) || items.count == 0 || items.count > INT32_MAX)
        return fail(m, "expected tokens, an array of strings");
    m->tokens = SU_NEW_ARRAY(&m->arena, ImToken, items.count);
    for (; im_gguf_next(&items, &value); m->count++)
        m->tokens[m->count] = (ImToken){.text = value.as.string.text, .size = value.as.string.size, .kind = IM_TOKEN_NORMAL};
    if (items_of(m, "token_type", IM_GGUF_I32, &kinds)) {
        for (size_t i = 0; im_gguf_next(&kinds, &value); i++) {
            if (value.as.integer < IM_TOKEN_NORMAL || value.as.integer > IM_TOKEN_BYTE)
                return fail(
                    m, su_printf(&m->arena, "token_type: expected 1 to 6 for token %zu, got %lld", i, (long long)value.as.integer));
            m->tokens[i].kind = (ImTokenKind)value.as.integer;
        }
    } else if (find(m, "token_type") != NULL) {
        return fail(m, "token_type: expected an array with an int32 for each token");
    }
    if (!items_of(m, "scores", IM_GGUF_F32, &scores))
        return find(m, "scores") == NULL || fail(m, "scores: expected a float32 for each token");
    for (size_t i = 0; im_gguf_next(&scores, &value); i++) {
        if (isnan(value.as.real)) return fail(m, su_printf(&m->arena, "scores: that of token %zu is not a number", i));
        m->tokens[i].score = value.as.real;
    }
    return true;
}

/* ---- JSON */

bool im_json_add_text(SuText *json, const char *text, size_t size) {
    su_text_append(json, "\"", 1);
    for (size_t i = 0; i < size;) {
        const SuUtf8 c = su_utf8_at(text + i, size - i);
        if (!c.whole) return false;
        if (c.code < 0x20)
            su_text_add(json, "\\u%04x", (unsigned)c.code);
        else if (c.code == '"' || c.code == '\\')
            su_text_add(json, "\\%c", (char)c.code);
        else
            su_text_append(json, text + i, c.size);
        i += c.size;
    }
    su_text_append(json, "\"", 1);
    return true;
}

static bool add_token_text(Maker *m, size_t id) {
    const ImToken *token = &m->tokens[id];
    if (token->size == 0) return fail(m, su_printf(&m->arena, "token %zu is empty", id));
    if (memchr(token->text, 0, token->size) != NULL) return fail(m, su_printf(&m->arena, "token %zu has the character NUL", id));
    return im_json_add_text(m->json, token->text, token->size) || fail(m, su_printf(&m->arena, "token %zu is no UTF-8", id));
}

/* What is found in a text before anything else. */
static bool is_added(const ImToken *token) {
    return token->kind == IM_TOKEN_CONTROL || token->kind == IM_TOKEN_UNKNOWN || token->kind == IM_TOKEN_USER;
}

static bool add_added_tokens(Maker *m) {
    const char *comma = "";
    su_text_add(m->json, "\"added_tokens\":[");
    for (size_t id = 0; id < m->count; id++) {
        if (!is_added(&m->tokens[id])) continue;
        su_text_add(m->json, "%s\n{\"id\":%zu,\"content\":", comma, id);
        if (!add_token_text(m, id)) return false;
        su_text_add(m->json, ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":%s}",
                    m->tokens[id].kind == IM_TOKEN_USER ? "false" : "true");
        comma = ",";
    }
    su_text_add(m->json, "],\n");
    return true;
}

/* All tokens but those that fill up the numbers. */
static bool add_vocab(Maker *m) {
    const char *comma = "";
    su_text_add(m->json, "\"vocab\":{");
    for (size_t id = 0; id < m->count; id++) {
        if (m->tokens[id].kind == IM_TOKEN_UNUSED) continue;
        su_text_add(m->json, "%s", comma);
        if (!add_token_text(m, id)) return false;
        su_text_add(m->json, ":%zu", id);
        comma = ",\n";
    }
    su_text_add(m->json, "},\n");
    return true;
}

static bool begin_model(Maker *m, const char *head, bool whole) {
    su_text_add(m->json,
                "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,%s,"
                "\"ignore_merges\":%s,\n",
                head, whole ? "true" : "false");
    return add_vocab(m);
}

/* ---- gpt2 */

static const Pre *find_pre(Maker *m) {
    const char *word = text_of(m, "pre");
    for (size_t i = 0; word != NULL && i < sizeof pres / sizeof *pres; i++)
        if (strcmp(pres[i].word, word) == 0) return &pres[i];
    fail(m, word != NULL ? su_printf(&m->arena, "pre: '%.100s' is not known here", word)
                         : "pre, which says how texts are cut, is missing");
    return NULL;
}

static void add_stages(Maker *m, const Pre *pre) {
    const bool own = pre->pattern[0] != 0;
    su_text_add(m->json, "\"normalizer\":%s,\n\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[",
                pre->nfc ? "{\"type\":\"NFC\"}" : "null");
    if (pre->digits) su_text_add(m->json, "{\"type\":\"Digits\",\"individual_digits\":true},");
    if (own) {
        su_text_add(m->json, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        im_json_add_text(m->json, pre->pattern, strlen(pre->pattern));
        su_text_add(m->json, "},\"behavior\":\"Isolated\",\"invert\":false},");
    }
    su_text_add(m->json, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":%s}]},\n",
                own ? "false" : "true");
    su_text_add(m->json, "\"post_processor\":null,\n\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,"
                         "\"trim_offsets\":true,\"use_regex\":true},\n");
}

static bool add_merges(Maker *m) {
    const ImGgufValue *value = find(m, "merges");
    ImGgufItems items;
    ImGgufValue merge;
    const char *comma = "";
    if (value == NULL || value->type != IM_GGUF_ARRAY || value->as.items.type != IM_GGUF_STRING)
        return fail(m, "expected merges, an array of strings");
    su_text_add(m->json, "\"merges\":[");
    for (items = value->as.items; im_gguf_next(&items, &merge); comma = ",\n") {
        su_text_add(m->json, "%s", comma);
        if (memchr(merge.as.string.text, 0, merge.as.string.size) != NULL ||
            !im_json_add_text(m->json, merge.as.string.text, merge.as.string.size))
            return fail(m, "merges: one is no UTF-8");
    }
    su_text_add(m->json, "]}}\n");
    return true;
}

static bool make_gpt2(Maker *m) {
    const Pre *pre = find_pre(m);
    if (pre == NULL || !add_added_tokens(m)) return false;
    if (flag(m, "add_space_prefix", false)) return fail(m, "add_space_prefix is not understood beside gpt2");
    m->out->bos = flag(m, "add_bos_token", pre->bos) ? id_of(m, "bos_token_id", -1) : -1;
    add_stages(m, pre);
    return begin_model(m, "\"unk_token\":null,\"fuse_unk\":false,\"byte_fallback\":false", pre->whole) && add_merges(m);
}

/* ---- llama */

#define SPACE "\xE2\x96\x81" /* U+2581, which stands for a space */

static void add_space_stages(Maker *m, bool prefix) {
    static const char replace[] = "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" SPACE "\"}";
    su_text_add(
        m->json,
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s%s]},\n\"pre_tokenizer\":null,\n\"post_processor\":null,\n",
        prefix ? "{\"type\":\"Prepend\",\"prepend\":\"" SPACE "\"}," : "", replace);
    su_text_add(m->json,
                "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" SPACE
                "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}%s]},\n",
                prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}" : "");
}

static bool add_llama_model(Maker *m) {
    const int32_t unk = id_of(m, "unknown_token_id", 0);
    bool bytes = false;
    for (size_t i = 0; i < m->count; i++) bytes = bytes || m->tokens[i].kind == IM_TOKEN_BYTE;
    SuText head = {0};
    su_text_add(&head, "\"fuse_unk\":true,\"byte_fallback\":%s,\"unk_token\":", bytes ? "true" : "false");
    bool ok = true;
    if (unk >= 0)
        ok = im_json_add_text(&head, m->tokens[unk].text, m->tokens[unk].size) || fail(m, "the unknown token is no UTF-8");
    else
        su_text_add(&head, "null");
    ok = ok && begin_model(m, head.text, false);
    su_text_free(&head);
    return ok;
}

static bool make_llama(Maker *m) {
    if (find(m, "merges") == NULL && find(m, "scores") == NULL) return fail(m, "expected scores, a float32 for each token");
    if (!add_added_tokens(m)) return false;
    m->out->bos = flag(m, "add_bos_token", true) ? id_of(m, "bos_token_id", 1) : -1;
    add_space_stages(m, flag(m, "add_space_prefix", true));
    if (!add_llama_model(m)) return false;
    if (find(m, "merges") != NULL) return add_merges(m);
    su_text_add(m->json, "\"merges\":[");
    const char *wrong = im_gguf_merges(m->tokens, m->count, m->json);
    if (wrong != NULL) return fail(m, wrong);
    su_text_add(m->json, "]}}\n");
    return true;
}

/* ---- what ends a text */

static void add_end(ImGgufTokenizer *out, int32_t id) {
    for (size_t i = 0; i < out->n_ends; i++)
        if (out->ends[i] == id) return;
    if (id >= 0 && id != out->bos && out->n_ends < IM_MOST_ENDS) out->ends[out->n_ends++] = id;
}

static void add_ends(Maker *m, int32_t eos) {
    add_end(m->out, id_of(m, "eos_token_id", eos));
    add_end(m->out, id_of(m, "eot_token_id", -1));
    add_end(m->out, id_of(m, "eom_token_id", -1));
    for (size_t id = 0; id < m->count; id++) {
        const ImToken *token = &m->tokens[id];
        for (size_t i = 0; token->kind == IM_TOKEN_CONTROL && i < sizeof ends / sizeof *ends; i++)
            if (token->size == strlen(ends[i]) && memcmp(token->text, ends[i], token->size) == 0) add_end(m->out, (int32_t)id);
    }
}

/* ---- all of it */

static bool make(Maker *m) {
    const ImGgufValue *model = find(m, "model");
    const bool llama = im_gguf_is_word(model, "llama");
    if (!llama && !im_gguf_is_word(model, "gpt2"))
        return fail(m, su_printf(&m->arena, "model: '%.100s' is not known here; known: gpt2, llama",
                                 text_of(m, "model") ? text_of(m, "model") : "?"));
    if (flag(m, "add_eos_token", false)) return fail(m, "add_eos_token, an end behind every text, is not understood");
    if (flag(m, "remove_extra_whitespaces", false)) return fail(m, "remove_extra_whitespaces is not understood");
    su_text_add(m->json, "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n");
    if (!read_tokens(m) || !(llama ? make_llama(m) : make_gpt2(m))) return false;
    add_ends(m, llama ? 2 : -1);
    return true;
}

void im_gguf_tokenizer(const ImGguf *gguf, ImGgufTokenizer *out, SuDiags *diags) {
    *out = (ImGgufTokenizer){.bos = -1};
    Maker maker = {.gguf = gguf, .out = out, .json = &out->json};
    const ImGgufValue *model = find(&maker, "model");
    if (model != NULL && !im_gguf_is_word(model, "no_vocab") && !im_gguf_is_word(model, "none") && !make(&maker)) {
        su_warning(diags, su_file_span(diags, gguf->path), NULL, "there will be no tokenizer: tokenizer.ggml: %s", maker.wrong);
        im_gguf_tokenizer_free(out);
        *out = (ImGgufTokenizer){.bos = -1};
    }
    su_arena_free(&maker.arena);
}

void im_gguf_tokenizer_free(ImGgufTokenizer *tokenizer) { su_text_free(&tokenizer->json); }
