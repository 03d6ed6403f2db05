/* A tokenizer.json as tokenizer.ggml.* of a GGUF file: import/gguf_tokenizer.c the other way round. What GGUF has no words for is a warning,
 * and so is what import makes another tokenizer of: both are opened, and must give the same ids. */
#include <inttypes.h>
#include <string.h>

#include "driver/text.h"
#include "frontend/keys.h"
#include "import/export/export.h"
#include "import/export/pairs.h"
#include "import/gguf_tokenizer.h"
#include "ir/half.h"
#include "support/utf8.h"
#include "tokenizer/bpe.h"
#include "tokenizer/model.h"

#define KEY "tokenizer.ggml."

enum { DEPTH = 64, MOST_PROBES = 1 << 16, PADDING = 24 };

typedef struct Writer {
    XpJob *job;
    XpPairs pairs;
    const char *file; /* of the tokenizer, or the spec */
    SuText text; /* of tokenizer.json */
    const cJSON *json;
    TkBpe *bpe;
    const XpTexts *texts;
    ImToken *tokens; /* [vocab_size] */
    size_t count;
    bool llama;
    const char *wrong; /* in the arena or constant: why there is no tokenizer */
} Writer;

static bool fail(Writer *w, const char *wrong) {
    w->wrong = wrong;
    return false;
}

/* ---- reading JSON */

static const cJSON *at(const cJSON *map, const char *key) { return cJSON_GetObjectItemCaseSensitive(map, key); }

static bool is(const cJSON *item, const char *word) { return cJSON_IsString(item) && strcmp(item->valuestring, word) == 0; }

static bool is_type(const cJSON *step, const char *word) { return is(at(step, "type"), word); }

/* The next step of a section, of which a Sequence is several: *place is 0 before the first. NULL: there are no more. */
static const cJSON *next_step(const cJSON *section, const char *list, int *place) {
    const cJSON *steps = is_type(section, "Sequence") ? at(section, list) : NULL;
    const int index = (*place)++;
    return steps ? cJSON_GetArrayItem(steps, index) : index == 0 && cJSON_IsObject(section) ? section : NULL;
}

/* ---- tokens */

static void set_token(Writer *w, size_t id, TkText text, ImTokenKind kind) {
    w->tokens[id] = (ImToken){.text = text.text, .size = text.size, .kind = kind};
}

static bool add_added(Writer *w) {
    for (const cJSON *t = at(w->json, "added_tokens") ? at(w->json, "added_tokens")->child : NULL; t; t = t->next) {
        const size_t id = (size_t)at(t, "id")->valuedouble; /* known to be one: tokenizer/ has read it */
        const char *text = at(t, "content")->valuestring;
        if (cJSON_IsTrue(at(t, "lstrip")) || cJSON_IsTrue(at(t, "rstrip")) || cJSON_IsTrue(at(t, "single_word")))
            return fail(w, su_printf(&w->job->arena, "the added token %zu has lstrip, rstrip or single_word", id));
        const bool unknown = w->llama && (int64_t)id == w->bpe->unk, special = cJSON_IsTrue(at(t, "special"));
        set_token(w, id, (TkText){text, strlen(text)}, unknown ? IM_TOKEN_UNKNOWN : special ? IM_TOKEN_CONTROL : IM_TOKEN_USER);
    }
    return true;
}

/* Every id that the model has a row for. */
static bool make_tokens(Writer *w) {
    const TkVocab *vocab = &w->bpe->vocab;
    w->count = (size_t)w->job->spec.vocab_size;
    if (vocab->n_ids > w->count || w->bpe->added.n_ids > w->count) return fail(w, "it has more tokens than the model");
    w->tokens = SU_NEW_ARRAY(&w->job->arena, ImToken, w->count);
    for (size_t id = 0; id < w->count; id++) {
        const char *padding = su_printf(&w->job->arena, "[PAD%zu]", id);
        if (id < vocab->n_ids && vocab->texts[id].text)
            set_token(w, id, vocab->texts[id], IM_TOKEN_NORMAL);
        else
            set_token(w, id, (TkText){padding, strlen(padding)}, IM_TOKEN_UNUSED);
    }
    for (int byte = 0; w->llama && w->bpe->byte_fallback && byte < 256; byte++)
        if (w->bpe->fallback_ids[byte] >= 0) w->tokens[w->bpe->fallback_ids[byte]].kind = IM_TOKEN_BYTE;
    if (w->llama && w->bpe->unk >= 0) w->tokens[w->bpe->unk].kind = IM_TOKEN_UNKNOWN;
    return add_added(w);
}

static void put_tokens(Writer *w) {
    xp_put_array(&w->pairs, KEY "tokens", IM_GGUF_STRING, w->count);
    for (size_t i = 0; i < w->count; i++) xp_put_text(&w->pairs.bytes, w->tokens[i].text, w->tokens[i].size);
    xp_put_array(&w->pairs, KEY "token_type", IM_GGUF_I32, w->count);
    for (size_t i = 0; i < w->count; i++) xp_put(&w->pairs.bytes, (uint64_t)w->tokens[i].kind, 4);
}

/* ---- merges */

/* Both texts of a merge, from either spelling. false: it is the first line of a merges.txt. */
static bool merge_of(const cJSON *item, TkText *left, TkText *right) {
    if (cJSON_IsArray(item)) {
        const char *a = item->child->valuestring, *b = item->child->next->valuestring;
        *left = (TkText){a, strlen(a)};
        *right = (TkText){b, strlen(b)};
        return true;
    }
    const char *text = item->valuestring, *space = strchr(text, ' ');
    if (!space || strncmp(text, "#version", 8) == 0) return false;
    *left = (TkText){text, (size_t)(space - text)};
    *right = (TkText){space + 1, strlen(space + 1)};
    return true;
}

static bool put_merges(Writer *w) {
    SuText all = {0};
    TkText left, right;
    uint64_t count = 0;
    const cJSON *list = at(at(w->json, "model"), "merges");
    bool ok = true;
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!merge_of(item, &left, &right)) continue;
        if (memchr(left.text, ' ', left.size) || memchr(right.text, ' ', right.size)) ok = fail(w, "a merge has a blank in it");
        xp_put(&all, left.size + 1 + right.size, 8);
        su_text_append(&all, left.text, left.size);
        su_text_append(&all, " ", 1);
        su_text_append(&all, right.text, right.size);
        count++;
    }
    xp_put_array(&w->pairs, KEY "merges", IM_GGUF_STRING, count);
    if (all.size) su_text_append(&w->pairs.bytes, all.text, all.size);
    su_text_free(&all);
    return ok;
}

/* llama: a token's score is the smaller, the later a merge makes it. Others are behind, each with one of its own. */
static void put_scores(Writer *w) {
    uint64_t rank = 0;
    TkText left, right;
    const cJSON *list = at(at(w->json, "model"), "merges");
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!merge_of(item, &left, &right)) continue;
        const int32_t a = tk_vocab_find(&w->bpe->vocab, left.text, left.size),
                      b = tk_vocab_find(&w->bpe->vocab, right.text, right.size);
        const TkMerge *merge = a >= 0 && b >= 0 ? tk_merges_find(&w->bpe->merges, a, b) : NULL;
        if (merge && w->tokens[merge->id].score == 0) w->tokens[merge->id].score = -(double)++rank;
    }
    for (size_t i = 0; i < w->count; i++)
        if (w->tokens[i].score == 0 && w->tokens[i].kind == IM_TOKEN_NORMAL) w->tokens[i].score = -(double)++rank;
    xp_put_array(&w->pairs, KEY "scores", IM_GGUF_F32, w->count);
    for (size_t i = 0; i < w->count; i++) xp_put(&w->pairs.bytes, ir_bits_of((float)w->tokens[i].score), 4);
}

/* ---- gpt2 */

/* How texts are cut: digits one by one, then a pattern ("": ByteLevel's own), then bytes as characters. */
static bool read_cuts(Writer *w, bool *digits, const char **pattern) {
    const cJSON *section = at(w->json, "pre_tokenizer"), *step;
    bool bytes = false;
    *digits = false;
    *pattern = "";
    for (int i = 0; (step = next_step(section, "pretokenizers", &i));) {
        const cJSON *regex = at(at(step, "pattern"), "Regex");
        if (is_type(step, "Digits") && cJSON_IsTrue(at(step, "individual_digits")) && !*digits && !**pattern && !bytes)
            *digits = true;
        else if (is_type(step, "Split") && regex && is(at(step, "behavior"), "Isolated") && !cJSON_IsTrue(at(step, "invert")) &&
                 !**pattern && !bytes)
            *pattern = regex->valuestring;
        else if (is_type(step, "ByteLevel") && !cJSON_IsTrue(at(step, "add_prefix_space")) && !bytes &&
                 (**pattern != 0) == cJSON_IsFalse(at(step, "use_regex")))
            bytes = true;
        else
            return fail(w, "pre_tokenizer: GGUF has no name for texts that are cut so");
    }
    return bytes || fail(w, "pre_tokenizer: GGUF has no name for texts that are cut so");
}

static bool is_composed(Writer *w, bool *nfc) {
    const cJSON *section = at(w->json, "normalizer"), *step;
    *nfc = false;
    for (int i = 0; (step = next_step(section, "normalizers", &i));) {
        if (!is_type(step, "NFC")) return fail(w, "normalizer: beside merges of bytes GGUF means NFC or nothing");
        *nfc = true;
    }
    return true;
}

static bool put_gpt2(Writer *w) {
    bool digits, nfc;
    const char *pattern;
    if (!read_cuts(w, &digits, &pattern) || !is_composed(w, &nfc)) return false;
    const char *pre = im_gguf_pre(pattern, digits, nfc, w->bpe->ignore_merges);
    if (!pre) return fail(w, "pre_tokenizer: GGUF has no name for texts that are cut so");
    xp_put_word(&w->pairs, KEY "model", "gpt2");
    xp_put_word(&w->pairs, KEY "pre", pre);
    if (!make_tokens(w)) return false;
    put_tokens(w);
    return put_merges(w);
}

/* ---- llama */

#define SPACE "\xE2\x96\x81" /* U+2581, which stands for a blank */

/* Whether a blank is put in front of a text. */
static bool read_spaces(Writer *w, bool *prefix) {
    const cJSON *step;
    bool replaced = false;
    *prefix = false;
    for (int i = 0; (step = next_step(at(w->json, "normalizer"), "normalizers", &i));)
        if (is_type(step, "Prepend") && is(at(step, "prepend"), SPACE) && !*prefix && !replaced)
            *prefix = true;
        else if (is_type(step, "Replace") && is(at(at(step, "pattern"), "String"), " ") && is(at(step, "content"), SPACE) &&
                 !replaced)
            replaced = true;
        else
            return fail(w, "normalizer: beside scores GGUF means a sign for each blank, and one in front or not");
    for (int i = 0; (step = next_step(at(w->json, "pre_tokenizer"), "pretokenizers", &i));) {
        const bool always = is(at(step, "prepend_scheme"), "always") ||
                            (!at(step, "prepend_scheme") && !cJSON_IsFalse(at(step, "add_prefix_space")));
        const bool blanks = is_type(step, "Split") && is(at(at(step, "pattern"), "String"), " "); /* there are none left */
        if (is_type(step, "Metaspace") && is(at(step, "replacement"), SPACE) && cJSON_IsFalse(at(step, "split")) && !replaced &&
            (always || is(at(step, "prepend_scheme"), "never"))) {
            replaced = true;
            *prefix = always;
        } else if (!blanks || !replaced) {
            return fail(
                w, "pre_tokenizer: beside scores GGUF means Metaspace that is not split, with a sign in front always or never");
        }
    }
    return replaced || fail(w, "normalizer: beside scores GGUF means a sign for each blank");
}

static bool put_llama(Writer *w) {
    bool prefix;
    if (!read_spaces(w, &prefix)) return false;
    xp_put_word(&w->pairs, KEY "model", "llama");
    xp_put_word(&w->pairs, KEY "pre", "default");
    if (!make_tokens(w)) return false;
    put_tokens(w);
    put_scores(w);
    xp_put_flag(&w->pairs, KEY "add_space_prefix", prefix);
    if (w->bpe->unk >= 0) xp_put_number(&w->pairs, KEY "unknown_token_id", (uint64_t)w->bpe->unk);
    return true;
}

/* ---- what begins and ends a text */

/* Of the tokens that end one GGUF names three, and means some by their texts. */
static void put_specials(Writer *w) {
    static const char *const names[] = {KEY "eos_token_id", KEY "eot_token_id", KEY "eom_token_id"};
    const TkSpecials *s = &w->texts->specials;
    xp_put_flag(&w->pairs, KEY "add_bos_token", s->bos >= 0);
    xp_put_flag(&w->pairs, KEY "add_eos_token", false);
    if (s->bos >= 0) xp_put_number(&w->pairs, KEY "bos_token_id", (uint64_t)s->bos);
    for (uint32_t i = 0; i < s->n_ends && i < sizeof names / sizeof *names; i++)
        xp_put_number(&w->pairs, names[i], (uint64_t)s->ends[i]);
    if (w->llama && !s->n_ends) xp_put_number(&w->pairs, names[0], UINT32_MAX); /* none: without the key it is token 2 */
}

/* ---- held against what an import makes of it */

/* Ids of a text by both; where one of them has none, both must. */
static bool same_ids(const RtTokenizer *a, const RtTokenizer *b, const char *text, size_t size) {
    RtTokens x = {0}, y = {0};
    SuDiags unsaid = {0};
    const bool one = rt_tokenizer_encode(a, text, size, &x, &unsaid), two = rt_tokenizer_encode(b, text, size, &y, &unsaid);
    const bool same = one == two && (!one || (x.count == y.count && (!x.count || !memcmp(x.ids, y.ids, x.count * sizeof *x.ids))));
    rt_tokens_free(&x);
    rt_tokens_free(&y);
    su_diags_free(&unsaid);
    return same;
}

/* The texts of ids, two at a time: up to MOST_PROBES of them, all over the vocabulary. */
static bool same_everywhere(const Writer *w, const RtTokenizer *a, const RtTokenizer *b) {
    const size_t step = w->count / MOST_PROBES + 1;
    SuText text = {0};
    bool same = true;
    for (size_t id = 0; same && id < w->count; id += step) {
        text.size = 0;
        su_text_append(&text, "x ", 2);
        rt_tokenizer_decode(a, (int32_t)id, &text);
        rt_tokenizer_decode(a, (int32_t)((id * 7919 + 13) % w->count), &text);
        const SuText clean = dr_clean_utf8(text.text, text.size);
        same = same_ids(a, b, clean.text, clean.size);
        su_text_free(&(SuText){.text = clean.text});
    }
    su_text_free(&text);
    return same;
}

/* Whether both have the same merges in the same order. */
static bool same_merges(const Writer *w, const TkBpe *b) {
    const cJSON *list = at(at(w->json, "model"), "merges");
    TkText left, right;
    size_t count = 0, others = 0;
    uint32_t last = 0;
    for (const cJSON *item = list->child; item; item = item->next) {
        if (!merge_of(item, &left, &right)) continue;
        const int32_t x = tk_vocab_find(&b->vocab, left.text, left.size), y = tk_vocab_find(&b->vocab, right.text, right.size);
        const TkMerge *merge = x >= 0 && y >= 0 ? tk_merges_find(&b->merges, x, y) : NULL;
        if (!merge || (count && merge->rank < last)) return false;
        last = merge->rank;
        count++;
    }
    for (size_t i = 0; b->merges.slots && i <= b->merges.mask; i++) others += b->merges.slots[i].pair != UINT64_MAX;
    return others <= count;
}

static bool same_tokenizer(Writer *w, const char *json, size_t size) {
    SuDiags unsaid = {0};
    SuArena arena = {0};
    const int64_t V = w->job->spec.vocab_size;
    const TkBpeOptions options = dr_bpe_options(&w->job->spec, &arena);
    TkBpe *read = tk_bpe_read(json, size, "tokenizer.json", V, &unsaid);
    bool same = read && same_merges(w, read);
    tk_bpe_free(read);
    RtTokenizer *a = tk_bpe_parse(w->texts->tokenizer, w->texts->size, w->file, &options, &unsaid);
    RtTokenizer *b = tk_bpe_parse(json, size, "tokenizer.json", &options, &unsaid);
    if (same) same = a && b && same_everywhere(w, a, b);
    if (a) rt_tokenizer_free(a);
    if (b) rt_tokenizer_free(b);
    su_diags_free(&unsaid);
    su_arena_free(&arena);
    return same || fail(w, w->llama ? "its merges are not those that scores mean" : "an import would make another one of it");
}

/* Readers of GGUF end a text at some more tokens, by their names; those of the spec must be among them. */
static bool check_specials(Writer *w, const ImGgufTokenizer *t) {
    const TkSpecials *s = &w->texts->specials;
    bool same = t->bos == s->bos;
    for (uint32_t i = 0; same && i < s->n_ends; i++) {
        bool found = false;
        for (size_t k = 0; k < t->n_ends; k++) found = found || t->ends[k] == s->ends[i];
        same = found;
    }
    if (!same)
        su_warning(w->job->diags, su_file_span(w->job->diags, w->file), NULL,
                   "the tokens that begin and end a text: GGUF names one and three, which are others than the spec's");
    return true;
}

/* A file without tensors is made and read as an import reads it. */
static bool check(Writer *w) {
    SuText image = {0};
    SuDiags unsaid = {0};
    ImGguf gguf;
    xp_put_head(&image, 0, &w->pairs);
    for (int i = 0; i < PADDING; i++) xp_put(&image, 0, 1);
    bool ok = im_gguf_parse((const uint8_t *)image.text, image.size, "the export", &gguf, &unsaid);
    if (ok) {
        ImGgufTokenizer made;
        im_gguf_tokenizer(&gguf, &made, &unsaid);
        ok = made.json.size ? same_tokenizer(w, made.json.text, made.json.size) && check_specials(w, &made) : false;
        im_gguf_tokenizer_free(&made);
        im_gguf_close(&gguf);
    }
    if (!ok && !w->wrong) fail(w, unsaid.count ? su_strdup(&w->job->arena, unsaid.items[0].message) : "it does not read back");
    su_diags_free(&unsaid);
    su_text_free(&image);
    return ok;
}

/* ---- all of it */

static bool make_bpe(Writer *w) {
    const TkSteps *steps = &w->bpe->pre_tokenizer;
    w->llama = !steps->count || steps->items[steps->count - 1].kind != TK_STEP_BYTE_LEVEL;
    if (!(w->llama ? put_llama(w) : put_gpt2(w))) return false;
    put_specials(w);
    return check(w);
}

/* false without memory. */
static bool with_bpe(Writer *w) {
    static const SuJsonRules rules = {.depth = DEPTH, .values = TK_MAX_VALUES};
    XpJob *job = w->job;
    const XpTexts *texts = w->texts;
    SuJson json;
    w->bpe = tk_bpe_read(texts->tokenizer, texts->size, w->file, job->spec.vocab_size, job->diags);
    const bool ok =
        w->bpe && su_json_parse(texts->tokenizer, texts->size, &rules, su_file_span(job->diags, w->file), &json, job->diags);
    if (ok) {
        w->json = json.root;
        if (!make_bpe(w))
            su_warning(job->diags, su_file_span(job->diags, w->file), NULL, "the GGUF file has no tokenizer: %s", w->wrong);
        su_json_free(&json);
    }
    tk_bpe_free(w->bpe);
    return ok;
}

/* Ids that are bytes: tokens of one each, and no merges. */
static void with_bytes(Writer *w) {
    const FeTokenizer *t = &w->job->spec.tokenizer;
    w->count = (size_t)w->job->spec.vocab_size;
    w->tokens = SU_NEW_ARRAY(&w->job->arena, ImToken, w->count);
    for (size_t id = 0; id < w->count; id++) {
        char character[4];
        const size_t size = id < 256 ? su_utf8_encode(tk_char_of_byte((uint8_t)id), character) : 0;
        const char *text = id < 256 ? su_strndup(&w->job->arena, character, size) : su_printf(&w->job->arena, "[PAD%zu]", id);
        bool special = (int64_t)id == t->bos.id;
        for (int64_t i = 0; i < t->n_eos; i++) special = special || (int64_t)id == t->eos[i].id;
        set_token(w, id, (TkText){text, strlen(text)}, id < 256 ? IM_TOKEN_NORMAL : special ? IM_TOKEN_CONTROL : IM_TOKEN_UNUSED);
    }
    xp_put_word(&w->pairs, KEY "model", "gpt2");
    xp_put_word(&w->pairs, KEY "pre", "gpt-2");
    put_tokens(w);
    xp_put_array(&w->pairs, KEY "merges", IM_GGUF_STRING, 0);
    put_specials(w);
}

bool xp_gguf_texts(XpJob *job, XpPairs *out) {
    const FeTokenizer *t = &job->spec.tokenizer;
    Writer w = {.job = job, .texts = &job->texts, .file = t->file ? t->file : job->options->spec};
    bool ok = true;
    if (t->kind == FE_TOKENIZER_BPE)
        ok = with_bpe(&w);
    else if (fe_given(job->spec.map, FE_KEY_file_tokenizer) && job->spec.vocab_size >= 256)
        with_bytes(&w);
    if (ok && w.pairs.count && !w.wrong)
        xp_put_all(out, &w.pairs);
    else if (ok)
        xp_put_word(out, KEY "model", "no_vocab");
    su_text_free(&w.pairs.bytes);
    const char *template = job->texts.generation.chat_template;
    if (ok && template) xp_put_word(out, "tokenizer.chat_template", template);
    return ok;
}
