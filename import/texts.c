#include "import/texts.h"

#include <string.h>

#include "frontend/yaml.h"
#include "import/generation.h"
#include "support/utf8.h"
#include "tokenizer/bpe.h"

/* ---- the tokenizer */

static bool settle_tokenizer(ImTexts *t, const char *path, SuDiags *diags) {
    static const TkBpeOptions any = {.vocab_size = INT32_MAX, .bos = -1, .eos = -1};
    SuDiags why = {0};
    RtTokenizer *tokenizer = t->tokenizer ? tk_bpe_parse(t->tokenizer, t->tokenizer_size, path, &any, &why) : NULL;
    const bool ok = !why.failure.code;
    if (!ok) su_failed(diags, &why.failure);
    if (ok && t->tokenizer && !tokenizer) {
        su_warning(diags, su_file_span(diags, path), NULL, "there will be no tokenizer: tokenizer.json: %s",
                   why.count ? why.items[0].message : "");
        t->tokenizer = NULL;
        t->tokenizer_size = 0;
    }
    if (tokenizer) rt_tokenizer_free(tokenizer);
    su_diags_free(&why);
    return ok;
}

/* ---- the chat template */

static const char *wrong_with(const char *text, size_t size) {
    for (size_t i = 0; i < size;) {
        const SuUtf8 c = su_utf8_at(text + i, size - i);
        if (!c.whole) return "it is no UTF-8";
        if (c.code == 0) return "it has the character NUL";
        i += c.size;
    }
    return NULL;
}

static const char *too_large_for(const ImTexts *t) {
    SuText text = {0};
    im_print_generation(t, &text);
    const bool fits = text.size <= FE_MAX_INPUT;
    su_text_free(&text);
    return fits ? NULL : "it is larger than a YAML file may be here";
}

static void settle_template(ImTexts *t, const char *path, SuDiags *diags) {
    if (!t->chat_template) return;
    const char *wrong = wrong_with(t->chat_template, t->chat_template_size);
    if (!wrong) wrong = too_large_for(t);
    if (!wrong) return;
    su_warning(diags, su_file_span(diags, path), NULL, "the chat template is left out: %s", wrong);
    t->chat_template = NULL;
}

bool im_texts_settle(ImTexts *texts, const char *path, SuDiags *diags) {
    if (!settle_tokenizer(texts, path, diags)) return false;
    settle_template(texts, path, diags);
    return true;
}
